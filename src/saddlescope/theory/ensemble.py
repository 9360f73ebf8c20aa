"""Ensembles of one mode's SDE, integrated by the compiled kernel with a step that follows the local rate.

Noise grows like a power of the strength and the law has a power-law tail, so a fixed step is sooner or later too long
and throws a trajectory to where it stays: s = 0. Here the step is ``tol`` in units of the local rate, at depth L ≥ 2

    (L−1) a^{L−2} (|β₂| + β₁ s) + T a^{2L−4} [(1 + (L−2)²) g(s) + (2L−2)² α₁ s²] + γ,  β₁ + T α₁ at depth 1,

chosen from where the trajectory is and cut to meet the next of ``times``; the scheme is of weak order 2.
A fixed step all the same, for its speed or to see what it does, is ``walk``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope import _kernel, _threads, streams
from saddlescope._numbers import as_numbers

if TYPE_CHECKING:
    from saddlescope.theory.mode import ModeSDE

Floats = NDArray[np.float64]


def integrate(
    mode: ModeSDE,
    start: ArrayLike,
    times: ArrayLike,
    targets: ArrayLike,
    trajectories: int,
    seed: int,
    tol: float,
    threads: int | None,
    instruction_set: str = "auto",
) -> tuple[Floats, Floats]:
    """Strengths (trajectories, times) and first-passage times (trajectories, targets), infinite when never."""
    first = np.broadcast_to(as_numbers(start, "start"), (trajectories,))
    when, levels = np.atleast_1d(as_numbers(times, "times")), np.atleast_1d(as_numbers(targets, "targets"))
    _check(mode, first, when, levels)
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}; use 0.1")
    L = mode.depth
    begin, levels = (first, levels) if L == 1 else (np.log(first) / L, np.log(levels) / L)
    words = streams.seed_words(seed, np.arange(trajectories), streams.NOISE)
    states, passages = np.empty((trajectories, len(when))), np.empty((trajectories, len(levels)))
    for some in _chunks(trajectories):
        states[some], passages[some] = _kernel.mode_ensemble(
            *_numbers(mode),
            tol,
            np.ascontiguousarray(begin[some]),
            when,
            levels,
            words[some],
            _workers(threads),
            instruction_set,
        )
    return (states if L == 1 else np.exp(L * states)), passages


def walk(
    mode: ModeSDE,
    start: ArrayLike,
    times: ArrayLike,
    dt: float,
    trajectories: int,
    seed: int,
    threads: int | None,
    dtype: str,
    instruction_set: str = "auto",
) -> NDArray[np.floating]:
    """Strengths (trajectories, times) by Euler–Maruyama in the weight coordinate a, NaN where a overflowed:

    ``a ← (1 − γ dt) a + a^{L−1} [(β₂ − β₁ s) dt + √(T g(s) dt) z]``, s = a^L.
    """
    first = np.broadcast_to(as_numbers(start, "start"), (trajectories,))
    when = np.atleast_1d(as_numbers(times, "times"))
    _check(mode, first, when, np.empty(0))
    steps = _whole_steps(when, dt)
    if dtype not in ("float32", "float64"):
        raise ValueError(f'dtype must be "float32" or "float64", got {dtype!r}')
    words = streams.seed_words(seed, np.arange(trajectories), streams.NOISE, dtype)
    begin, states = first ** (1 / mode.depth) if mode.depth > 1 else first, np.empty((trajectories, len(when)), dtype)
    for some in _chunks(trajectories):
        states[some] = _kernel.mode_euler(
            *_numbers(mode),
            dt,
            np.ascontiguousarray(begin[some]),
            steps,
            words[some],
            _workers(threads),
            instruction_set,
        )
    with np.errstate(over="ignore"):
        strengths = states**mode.depth
    strengths[~np.isfinite(strengths)] = np.nan
    return strengths


def _numbers(mode: ModeSDE) -> tuple[int, float, float, float, float, float, float, float]:
    decay = mode.weight_decay if mode.depth >= 3 else 0.0
    return (mode.depth, mode.alpha1, *mode.vertex, *mode.pull, mode.temperature, decay)


def _workers(threads: int | None) -> int:
    return threads or _threads.available()


def _whole_steps(times: Floats, dt: float) -> NDArray[np.int64]:
    if not 0 < dt < np.inf:
        raise ValueError(f"dt must be a positive number, got {dt}; use 1e-3 or so")
    steps = np.rint(times / dt)
    if (np.abs(times / dt - steps) > 1e-6).any():
        raise ValueError(f"times must be whole steps of dt = {dt:g}, got {times.tolist()!r:.80}; use dt * np.arange(…)")
    return steps.astype(np.int64)


def _check(mode: ModeSDE, start: Floats, times: Floats, targets: Floats) -> None:
    if mode.depth >= 2 and not ((start > 0).all() and (targets > 0).all()):
        raise ValueError(f"start and targets must be positive at depth {mode.depth}: 0 is neither left nor reached")
    if times.ndim != 1 or not len(times) or not (np.diff(times, prepend=0.0) >= 0).all():
        raise ValueError(f"times must be increasing numbers, none negative, got {times.tolist()!r:.80}")
    if len(targets) > 16:
        raise ValueError(f"at most 16 targets can be followed at once, got {len(targets)}; split them")


def _chunks(count: int) -> Iterator[slice]:
    """Slices of about a third of a second of work each, between which Ctrl-C is heard."""
    first, size = 0, 2048
    while first < count:
        began = time.monotonic()
        yield slice(first, first + size)
        first += size
        size = 1024 * max(1, int(size / 1024 * min(4.0, 0.3 / max(time.monotonic() - began, 1e-9))))
