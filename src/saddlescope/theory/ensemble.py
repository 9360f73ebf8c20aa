"""Ensembles of one mode's SDE, integrated by the compiled kernel with a step that follows the local rate.

Noise grows like a power of the strength and the law has a power-law tail, so a fixed step is sooner or later too long
and throws a trajectory to where it stays: s = 0. Here the step is ``tol`` in units of the local rate, at depth L ≥ 2

    (L−1) a^{L−2} (|β₂| + β₁ s) + T a^{2L−4} [(1 + (L−2)²) g(s) + (2L−2)² α₁ s²] + γ,  β₁ + T α₁ at depth 1,

chosen from where the trajectory is and cut to meet the next of ``times``; the scheme is of weak order 2.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope import _kernel, streams

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
    fixed_step: float = 0.0,
    instruction_set: str = "auto",
) -> tuple[Floats, Floats]:
    """Strengths (trajectories, times) and first-passage times (trajectories, targets), infinite when never.

    ``fixed_step`` > 0 is plain Euler–Maruyama in log a instead: the negative control.
    """
    first = np.broadcast_to(np.asarray(start, float), (trajectories,))
    when, levels = np.array(times, float, ndmin=1), np.array(targets, float, ndmin=1)
    _check(mode, first, when, levels, tol)
    L, (center, floor) = mode.depth, mode.vertex
    begin, levels = (first, levels) if L == 1 else (np.log(first) / L, np.log(levels) / L)
    words = streams.seed_words(seed, np.arange(trajectories), streams.NOISE)
    states, passages = np.empty((trajectories, len(when))), np.empty((trajectories, len(levels)))
    for some in _chunks(trajectories):
        states[some], passages[some] = _kernel.mode_ensemble(
            L,
            mode.alpha1,
            center,
            floor,
            *mode.pull,
            mode.temperature,
            mode.weight_decay if L >= 3 else 0.0,
            tol,
            fixed_step,
            np.ascontiguousarray(begin[some]),
            when,
            levels,
            words[some],
            threads or len(os.sched_getaffinity(0)),
            instruction_set,
        )
    return (states if L == 1 else np.exp(L * states)), passages


def _check(mode: ModeSDE, start: Floats, times: Floats, targets: Floats, tol: float) -> None:
    if mode.depth >= 2 and not ((start > 0).all() and (targets > 0).all()):
        raise ValueError(f"start and targets must be positive at depth {mode.depth}: 0 is neither left nor reached")
    if times.ndim != 1 or not len(times) or not (np.diff(times, prepend=0.0) >= 0).all():
        raise ValueError(f"times must be increasing numbers, none negative, got {times.tolist()!r:.80}")
    if not tol > 0:
        raise ValueError(f"tol must be positive, got {tol}; use 0.1")
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
