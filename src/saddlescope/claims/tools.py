"""Shared by experiments: small problems, runs without warnings, standard regions, and the power of a number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from saddlescope._arrays import Floats
from saddlescope.claims.claim import Number, Region
from saddlescope.claims.intervals import Interval
from saddlescope.data import GaussianData
from saddlescope.init import Balanced, Given, Init
from saddlescope.methods import Method
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import parts
from saddlescope.simulation.simulate import simulate

SAME_LAW: Region = (0.0, 0.015)
"""Kolmogorov distance that counts as the same distribution: full runs resolve it, and near rivals exceed it."""

COARSE_LAW: Region = (0.0, 0.05)
"""The same for quick runs, which have smaller ensembles."""

OTHER_LAW: Region = (0.1, 1.0)
"""Kolmogorov distances at which distributions count as different."""

ALWAYS: Region = (0.95, 1.0)
"""Fraction of trajectories that counts as always."""

NEVER: Region = (0.0, 0.05)
"""Fraction of trajectories that counts as never."""

_STEPS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
"""Relative errors of a parameter that ``power`` tries."""


def same_law(quick: bool) -> Region:
    """Region of a Kolmogorov distance that counts as the same distribution, in full or quick runs.

    >>> same_law(quick=False)
    (0.0, 0.015)
    """
    return COARSE_LAW if quick else SAME_LAW


def power(judged: Callable[[float], Number], symbol: str) -> str:
    """The factors nearest to 1, on either side, at which a number is no longer confirmed, as text.

    ``judged(factor)`` is the number judged on the same samples as if a parameter were ``factor`` times its value.
    Factors from 1 % to 50 % away from 1 are tried.

    >>> power(lambda factor: Number("rate", Interval(1.0, 0.97, 1.03), around(factor, 0.1)), "T")
    'T × 0.92, T × 1.08'
    """
    return ", ".join(f"{symbol} × {_first_not_confirmed(judged, side):.4g}" for side in (-1, 1))


def _first_not_confirmed(judged: Callable[[float], Number], side: int) -> float:
    for step in _STEPS:
        if judged(1 + side * step).verdict != "confirmed":
            return 1 + side * step
    return np.nan


def around(prediction: float, margin: float) -> Region:
    """The region within ``margin`` of a prediction.

    >>> around(1.0, 0.25)
    (0.75, 1.25)
    """
    return prediction - margin, prediction + margin


def largest(candidates: Iterable[Interval], prediction: float = 0.0) -> Interval:
    """The interval that reaches farthest from the prediction, or is NaN: if it is inside a region, all are.

    >>> largest([Interval(0.3, 0.2, 0.4), Interval(0.1, -0.7, 0.9)]).value
    0.1
    """
    return max(candidates, key=lambda interval: _reach(interval, prediction)[1])


def smallest(candidates: Iterable[Interval], prediction: float = 0.0) -> Interval:
    """The interval that comes nearest to the prediction, or is NaN: if it is outside a region, all are.

    >>> smallest([Interval(0.3, 0.2, 0.4), Interval(0.5, 0.1, 0.9)]).value
    0.5
    """
    return min(candidates, key=lambda interval: _reach(interval, prediction)[0])


def _reach(interval: Interval, prediction: float) -> tuple[float, float]:
    """Smallest and largest distance of an interval from the prediction."""
    low, high = interval.low - prediction, interval.high - prediction
    if np.isnan(low) or np.isnan(high):
        return -np.inf, np.inf
    return max(low, -high, 0.0), max(-low, high)


def network(depth: int, width: int, targets: Sequence[float], start: Init, label_noise: float) -> Problem:
    """A square teacher with these singular values, white inputs, and hidden layers of one width.

    >>> network(3, 8, (2.0, 1.0), Balanced(scale=0.1), label_noise=0.5).network.widths
    (2, 8, 8, 2)
    """
    size = len(targets)
    data = GaussianData.from_spectrum(targets, size, size, label_noise=label_noise)
    return Problem(DeepLinear((size, *[width] * (depth - 1), size)), data, start)


def aligned(depth: int, strength: float) -> Balanced:
    """Aligned, balanced weights with every mode at this strength s₀.

    >>> aligned(2, 0.25).scale
    0.5
    """
    return Balanced(scale=strength ** (1 / depth))


def at(problem: Problem, strengths: Sequence[float] | Floats) -> Problem:
    """The problem started from aligned, balanced weights with these mode strengths; hidden widths = number of modes.

    >>> at(network(2, 2, (2.0, 1.0), aligned(2, 1.0), label_noise=0.5), (4.0, 0.25)).init.weights[0].shape
    (2, 2)
    """
    depth, modes = problem.network.depth, problem.data.modes
    scale = np.diag(np.asarray(strengths, np.float64) ** (1 / depth))
    return replace(problem, init=Given((scale @ modes.right.T, *[scale] * (depth - 2), modes.left @ scale)))


def run(problem: Problem, method: Method, plan: Plan) -> xr.Dataset:
    """The run, without a progress bar; warnings are silenced because these regimes are intended.

    Raises KeyboardInterrupt for a run that Ctrl-C has ended early.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = simulate(problem, method, plan, progress=False)
    if not found.attrs["complete"]:
        raise KeyboardInterrupt
    return found


def learning_times(dataset: xr.Dataset, threshold: float = 0.5) -> Floats:
    """Learning times (trajectory, mode); inf where a mode was not learned."""
    return parts(dataset)[1].time(dataset["learning_time"].sel(threshold=threshold))


def alive(dataset: xr.Dataset) -> xr.Dataset:
    """The trajectories that have not diverged; above 0.1 % divergence a claim is inconclusive."""
    return dataset.isel(trajectory=np.flatnonzero(dataset["status"].values == 0))
