"""Corlouer, Semler, Strang & Gietelink Oldenziel 2026, arXiv 2604.06366: SGD keeps the saddle-to-saddle picture.

Each claim is a function from "quick or full" to evidence. Modes are those of the teacher; s is a mode strength in the
product coordinate ``u_αᵀPv_α``, s* its target, κ = 1 − 1/L, T = η/B.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import invgauss

from saddlescope.claims import intervals, saddle_to_saddle_figures as figures
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Run
from saddlescope.claims.intervals import Interval
from saddlescope.data import GaussianData
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.methods import GD, SGD, GradientFlow, Langevin, Method
from saddlescope.network import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulate import make_engine, simulate
from saddlescope.theory import ModeSDE

Floats = NDArray[np.float64]

SOURCE = "Corlouer, Semler, Strang, Gietelink Oldenziel 2026, arXiv 2604.06366"

# The smallest effects worth catching.
SAME_LAW: Region = (0.0, 0.05)  # largest difference of two distribution functions
OTHER_LAW: Region = (0.1, 1.0)
ALWAYS: Region = (0.95, 1.0)  # share of trajectories
NEVER: Region = (0.0, 0.05)


def around(prediction: float, margin: float) -> Region:
    """The region of a number predicted up to ``margin``."""
    return prediction - margin, prediction + margin


def problem(
    depth: int, targets: Sequence[float], start: Gaussian | Balanced | Given, label_noise: float, width: int
) -> Problem:
    """A square teacher with these singular values and a network of one hidden width."""
    size = len(targets)
    data = GaussianData.from_spectrum(targets, size, size, label_noise=label_noise)
    return Problem(DeepLinear((size, *[width] * (depth - 1), size)), data, start)


def balanced(depth: int, strength: float) -> Balanced:
    """Aligned, balanced weights with every mode at this strength."""
    return Balanced(scale=strength ** (1 / depth))


def run(problem: Problem, method: Method, plan: Plan) -> xr.Dataset:
    """The run, without a progress bar of its own."""
    return simulate(problem, method, plan, progress=False)


def largest(intervals: Iterable[Interval]) -> Interval:
    """The interval around the largest value."""
    return max(intervals, key=lambda interval: interval.value)


def farthest(intervals: Iterable[Interval], prediction: float) -> Interval:
    """The interval whose value lies farthest from the prediction."""
    return max(intervals, key=lambda interval: abs(interval.value - prediction))


def times(dataset: xr.Dataset, threshold: float = 0.5) -> Floats:
    """Learning times (trajectory, mode); NaN where a mode was not learned."""
    steps = dataset["learning_time"].sel(threshold=threshold).values
    return np.where(np.isfinite(steps), steps, np.nan) * float(dataset.attrs["time_step"])


def peaked(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Whether the noise of a mode peaked before the mode was learned (trajectory, mode)."""
    return np.asarray(np.isfinite(dataset["noise_peak_strength"].values))
