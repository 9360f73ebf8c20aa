"""Ensembles of one mode's SDE, integrated by the compiled kernel with a step that follows the local rate.

Noise grows like a power of the strength and the law has a power-law tail, so a fixed step is sooner or later too long
and throws a trajectory to s = 0, where it stays. Here the step is ``tol`` in units of the local rate, at depth L ≥ 2

    (L−1) a^{L−2} (|β₂| + β₁ s) + T a^{2L−4} [(1 + (L−2)²) g(s) + (2L−2)² α₁ s²] + γ,  β₁ + T α₁ at depth 1,

chosen from where the trajectory is and cut to meet the next of ``times``; the scheme is of weak order 2, and of order 5
in the pull alone, so that laws of weak noise, which are narrow, are accurate as well.
``walk`` is the fixed-step alternative, faster and a negative control.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope import _kernel, _threads
from saddlescope._arrays import Floats
from saddlescope._memory import require
from saddlescope._numbers import as_choice, as_number, as_numbers, as_whole
from saddlescope.kernel import streams

_MOST_THREADS = 4096
_MOST_STEPS = 1e10
_LARGEST = 1e30
"""The largest strength: steps hold its eighth power."""


@dataclass(frozen=True)
class Mode:
    """The numbers of a mode in the compiled kernel: noise T(α(s − center)² + floor), pull β₂ − β₁s, decay −γa.

    β₁ holds the weight decay at depth 1, β₂ at depth 2; ``decay`` is that of greater depths.
    """

    depth: int
    alpha: float
    center: float
    floor: float
    beta1: float
    beta2: float
    temperature: float
    decay: float

    @property
    def numbers(self) -> tuple[int, float, float, float, float, float, float, float]:
        """All of them, in the order of the kernel."""
        noise, pull = (self.alpha, self.center, self.floor), (self.beta1, self.beta2)
        return (self.depth, *noise, *pull, self.temperature, self.decay)


def integrate(
    mode: Mode,
    start: ArrayLike,
    times: ArrayLike,
    targets: ArrayLike,
    trajectories: int,
    seed: int,
    tol: float,
    threads: int | None,
    instruction_set: str = "auto",
) -> tuple[Floats, Floats]:
    """Strengths (trajectories, times) and first-passage times (trajectories, targets), infinite if not reached."""
    trajectories, seed, workers = _counts(trajectories, seed, threads, np.size(times))
    first, when, levels = _checked(mode, start, times, targets, trajectories)
    if not 0 < as_number(tol, "tol") < np.inf:
        raise ValueError(f"tol must be positive and finite, got {tol}; use 0.05")
    _bounded(float(when[-1]) * _rate(mode) / tol, "lower times")
    L = mode.depth
    begin, levels = (first, levels) if L == 1 else (np.log(first) / L, np.log(levels) / L)
    words = streams.seed_words(seed, np.arange(trajectories), streams.NOISE)
    states, passages = np.empty((trajectories, len(when))), np.empty((trajectories, len(levels)))
    for some in _chunks(trajectories):
        states[some], passages[some] = _kernel.mode_ensemble(
            *mode.numbers,
            tol,
            np.ascontiguousarray(begin[some]),
            when,
            levels,
            words[some],
            workers,
            instruction_set,
        )
    return (states if L == 1 else np.exp(L * states)), passages


def walk(
    mode: Mode,
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
    trajectories, seed, workers = _counts(trajectories, seed, threads, np.size(times))
    first, when, _ = _checked(mode, start, times, (), trajectories)
    steps = _whole_steps(when, dt)
    as_choice(dtype, "dtype", "float32", "float64")
    words = streams.seed_words(seed, np.arange(trajectories), streams.NOISE, dtype)
    begin, states = first ** (1 / mode.depth) if mode.depth > 1 else first, np.empty((trajectories, len(when)), dtype)
    for some in _chunks(trajectories):
        states[some] = _kernel.mode_euler(
            *mode.numbers,
            dt,
            np.ascontiguousarray(begin[some]),
            steps,
            words[some],
            workers,
            instruction_set,
        )
    with np.errstate(over="ignore"):
        strengths = states**mode.depth
    strengths[~np.isfinite(strengths)] = np.nan
    return strengths


def _rate(mode: Mode) -> float:
    """The rate that steps follow where the mode settles without weight decay."""
    L, T, s = mode.depth, mode.temperature, np.float64(max(mode.beta2 / mode.beta1, 0.0))
    if L == 1:
        return mode.beta1 + T * mode.alpha
    with np.errstate(over="ignore"):
        a = s ** (1 / L)
        pull = (L - 1) * a ** (L - 2) * (abs(mode.beta2) + mode.beta1 * s)
        noise = (1 + (L - 2) ** 2) * (mode.alpha * (s - mode.center) ** 2 + mode.floor)
        return float(pull + T * a ** (2 * L - 4) * (noise + (2 * L - 2) ** 2 * mode.alpha * s**2) + mode.decay)


def _bounded(steps: float, fix: str) -> None:
    """Refuse runs of too many steps."""
    if not steps <= _MOST_STEPS:
        raise ValueError(f"times must take at most {_MOST_STEPS:g} steps, got {steps:.3g}; {fix}")


def _counts(trajectories: int, seed: int, threads: int | None, times: int) -> tuple[int, int, int]:
    """Trajectories, seed and threads, checked."""
    number = as_whole(trajectories, "trajectories")
    if number < 1:
        raise ValueError(f"trajectories must be at least 1, got {number}; use 1000 or so")
    require((8 * times + 200) * number, f"trajectories = {number:.3g}", "lower trajectories, or times")
    if not 0 <= as_whole(seed, "seed") < 2**64:
        raise ValueError(f"seed must be from 0 to 2**64 - 1, got {seed}; use 0")
    workers = _threads.available() if threads is None else as_whole(threads, "threads")
    if not 1 <= workers <= _MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {_MOST_THREADS}, got {workers}; leave it out for all processors")
    return number, int(seed), workers


def _whole_steps(times: Floats, dt: float) -> NDArray[np.int64]:
    if not 0 < as_number(dt, "dt") < np.inf:
        raise ValueError(f"dt must be a positive number, got {dt}; use 1e-3 or so")
    _bounded(float(times[-1]) / dt, "lower times, or a larger dt")
    steps = np.rint(times / dt)
    if (np.abs(times / dt - steps) > 1e-6).any():
        raise ValueError(f"times must be whole steps of dt = {dt:g}, got {times.tolist()!r:.80}; use dt * np.arange(…)")
    return steps.astype(np.int64)


def _checked(
    mode: Mode, start: ArrayLike, times: ArrayLike, targets: ArrayLike, trajectories: int
) -> tuple[Floats, Floats, Floats]:
    """Starts (trajectories), times and targets, checked."""
    first, when, levels = as_numbers(start, "start"), as_numbers(times, "times"), as_numbers(targets, "targets")
    when, levels = np.atleast_1d(when), np.atleast_1d(levels)
    if first.shape not in ((), (1,), (trajectories,)):
        raise ValueError(f"start must be one number or one for each of {trajectories} trajectories, got {first.shape}")
    for name, values in (("start", first), ("targets", levels)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"{name} must be finite, got {values[~np.isfinite(values)][0]:g}; use strengths such as 0.1"
            )
        if (np.abs(values) > _LARGEST).any():
            raise ValueError(f"{name} must be at most {_LARGEST:g}, got {np.abs(values).max():g}; change its unit")
        if mode.depth >= 2 and not (values > 0).all():
            raise ValueError(
                f"start and targets must be positive at depth {mode.depth}: 0 is neither left nor reached; "
                f"got {name} {values.min():g}"
            )
    if when.ndim != 1 or not len(when) or not (np.diff(when, prepend=0.0) >= 0).all() or when[-1] == np.inf:
        raise ValueError(f"times must be increasing finite numbers, none negative, got {when.tolist()!r:.80}")
    if levels.ndim != 1 or len(levels) > 16:
        raise ValueError(f"at most 16 targets can be followed at once, got {levels.size}; split them")
    return np.broadcast_to(first, (trajectories,)), when, levels


def _chunks(count: int) -> Iterator[slice]:
    """Slices of about a third of a second of work each, between which Ctrl-C is handled."""
    first, size = 0, 2048
    while first < count:
        began = time.monotonic()
        yield slice(first, first + size)
        first += size
        size = 1024 * max(1, int(size / 1024 * min(4.0, 0.3 / max(time.monotonic() - began, 1e-9))))
