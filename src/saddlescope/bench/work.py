"""The five works and their contestants, each peer in its best arrangements: one process, and one per core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from saddlescope.bench.arms import CORES, OURS, Arm, Race
from saddlescope.bench.settings import network, scalar, table

PROCESSES = f"{CORES} processes"
WITH_EVENTS, EVENTS = "saddlescope, learning times at every step", ("learning_time",)
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
BATCHES = {1: 400, 32: 200, 256: 60, 1024: 20, 4096: 8}
"""Batch sizes of W2, and the steps after which distributions are compared: few where a step is expensive."""


@dataclass(frozen=True)
class Work:
    """A work: its title and the races that measure it."""

    title: str
    races: tuple[Race, ...]


def langevin() -> Work:
    """W1: every peer, and ours in float64, on one thread and with events; then an ensemble of one vector register."""
    setting, n, chunks = network(10, 1), 1024, (32, 64, 128, 256, 512)
    layouts, dense, product = _each("layout", "vmap", "last", "first"), (40, 256), _each("chunk", 64, 256)
    large = (
        _ours("langevin", n),
        _ours("langevin", n, "saddlescope, float64", dtype="float64"),
        _ours("langevin", n, "saddlescope, one thread", threads=1),
        _ours("langevin", n, WITH_EVENTS, events=EVENTS),
        *_both("PyTorch", "torch", "langevin", n, chunks, 10),
        Arm(f"NumPy, {PROCESSES}", "numpy", "langevin", n, _each("chunk", *chunks), CORES, 10),
        Arm("JAX vmap + scan", "jax", "langevin", n, layouts[:1], 1, 20),
        Arm(f"JAX trajectories last, {PROCESSES}", "jax", "langevin", n, layouts[1:2], CORES, 20),
        Arm("diffrax, structured noise", "diffrax", "langevin", n, layouts[:2], 1, 20),
        Arm(f"torchsde, noise as a product, {PROCESSES}", "torchsde", "langevin", n, product, CORES, 10),
        Arm("diffrax, dense covariance", "diffrax", "dense", 64, block=2, check=dense),
        Arm("torchsde, dense covariance", "torchsde", "dense", 64, _each("threads", 1, CORES), block=2, check=dense),
    )
    small = (
        _ours("langevin", 16),
        *_both("PyTorch", "torch", "langevin", 16, (4, 8, 16), 100),
        Arm("JAX, one process", "jax", "langevin", 16, layouts, 1, 200),
        Arm(f"JAX, {PROCESSES}", "jax", "langevin", 16, layouts, CORES, 200),
        Arm("NumPy, one process", "numpy", "langevin", 16, ({"chunk": 16},), 1, 100),
    )
    races = (
        Race("1024 trajectories", setting, large, (400, 1024), quick=True),
        Race("16 trajectories", setting, small, (400, 512)),
    )
    return Work("Langevin, widths (10, 10, 10, 10), float32", races)


def sgd() -> Work:
    """W2: one race for each batch size; with large batches peers run fewer trajectories, to fit their caches."""
    return Work("Online SGD, widths (10, 10, 10, 10), float32", tuple(map(_sgd_race, BATCHES)))


def _sgd_race(batch: int) -> Race:
    n, block = (1024, 10) if batch < 256 else (128, 1)
    chunks = sorted({min(max(1, 2**k // batch), n // CORES) for k in (7, 9, 11, 13)})
    arms = [
        _ours("sgd", 1024),
        *_both("PyTorch", "torch", "sgd_one" if batch == 1 else "sgd", n, chunks, block),
        Arm("JAX vmap(grad) + scan, one process", "jax", "sgd", n, processes=1, block=block),
        Arm(f"JAX vmap(grad) + scan, {PROCESSES}", "jax", "sgd", n, processes=CORES, block=block),
        Arm(f"NumPy, {PROCESSES}", "numpy", "sgd", n, _each("chunk", *chunks), CORES, block),
    ]
    if batch == 1:
        arms.insert(1, _ours("sgd", 1024, WITH_EVENTS, events=EVENTS))
    if batch == 4096:
        other = _ours("sgd", 1024, "saddlescope, B = 16", setting=network(10, 16))
        arms.insert(1, replace(other, check=(0, 0)))
    return Race(f"B = {batch}", network(10, batch), tuple(arms), (BATCHES[batch], 512), quick=batch in (1, 256))


def mode() -> Work:
    """W3: a fixed step in the weight; the curves of error against time are in ``curves``."""
    n, chunks = 100_000, (4_000, 8_000, 16_000, 32_000)
    arms = (
        _ours("mode", n),
        *_both("PyTorch", "torch", "mode", n, chunks, 10),
        Arm("JAX scan, one process", "jax", "mode", n, block=50),
        Arm(f"JAX scan, {PROCESSES}", "jax", "mode", n, processes=CORES, block=50),
        Arm("Numba", "numba", "mode", n, ({"threads": CORES},), block=50),
        Arm(f"NumPy, {PROCESSES}", "numpy", "mode", n, _each("chunk", *chunks), CORES, 10),
        Arm(f"torchsde, {PROCESSES}", "torchsde", "mode", n, _each("chunk", 12_500, 50_000), CORES, 10),
        Arm("diffrax", "diffrax", "mode", n, _each("layout", "vmap", "together"), block=50),
    )
    race = Race("100,000 trajectories", scalar(0.03), arms, (500, n), quick=True)
    return Work("Scalar mode SDE, depth 3, fixed step, float32", (race,))


def label_noise() -> Work:
    """W4: peers sample by sample, as the method is defined, and with the data reduced to their moments."""
    n, chunks = 1024, (32, 128, 512)
    moments, samples = {"every_sample": False}, {"every_sample": True}
    arms = (
        _ours("label_noise", n),
        *_both("PyTorch, moments", "torch", "label_noise", n, chunks, 20, **moments),
        _both("PyTorch, every sample", "torch", "label_noise", n, (4, 16), 1, **samples)[0],
        Arm(f"JAX, moments, {PROCESSES}", "jax", "label_noise", n, (moments,), CORES, 20),
        Arm("JAX vmap(grad), every sample", "jax", "label_noise", n, (samples,), block=1),
        Arm(f"NumPy, moments, {PROCESSES}", "numpy", "label_noise", n, _each("chunk", *chunks), CORES, 20),
    )
    race = Race("1024 trajectories", table(), arms, (40, n), quick=True)
    return Work("Label-noise SGD on 1000 samples, full batch, 5 → 10 → 2, float32", (race,))


def widths() -> Work:
    """W5: a small ensemble from narrow to wide networks; B grows with the width to keep all stable."""
    return Work("Langevin at square widths, three layers, 16 trajectories, float32", tuple(map(_width_race, WIDTHS)))


def _width_race(width: int) -> Race:
    n, large = 16, width >= 64
    block = 1 if large else 20
    layouts = _each("layout", *(("first",) if large else ("last", "first")))
    arms = (
        _ours("langevin", n),
        *_both("PyTorch", "torch", "langevin", n, (1, 4, 8, 16), block),
        Arm("JAX, one process", "jax", "langevin", n, layouts, 1, block),
        Arm(f"JAX, {PROCESSES}", "jax", "langevin", n, layouts, CORES, block),
    )
    check = (100, 512) if not large else (20, 512 if width < 128 else 64)
    return Race(f"width {width}", network(width, width), arms, check, quick=width in (8, 128))


def _each(option: str, *values: Any, **fixed: Any) -> tuple[dict[str, Any], ...]:
    return tuple({option: value, **fixed} for value in values)


def _both(
    name: str, peer: str, function: str, trajectories: int, chunks: Sequence[int], block: int, **fixed: Any
) -> tuple[Arm, Arm]:
    """A peer as one single-threaded process per core, and as one process with its own threads; ensemble in chunks."""
    single = _each("chunk", *sorted({min(chunk, trajectories // CORES) for chunk in chunks}), **fixed)
    shared = _each("chunk", *sorted({*chunks, trajectories}), threads=CORES, **fixed)
    return (
        Arm(f"{name}, {PROCESSES}", peer, function, trajectories, single, CORES, block),
        Arm(f"{name}, one process", peer, function, trajectories, shared, 1, block),
    )


def _ours(function: str, trajectories: int, name: str = OURS, **options: Any) -> Arm:
    return Arm(name, OURS, function, trajectories, (options,), 1, 1)


WORKS = {"W1": langevin(), "W2": sgd(), "W3": mode(), "W4": label_noise(), "W5": widths()}
