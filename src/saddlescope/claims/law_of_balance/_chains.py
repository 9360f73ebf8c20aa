"""Shared by the claims on diagonal networks: balanced chains, final strengths, tails, histograms with errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import alive, run
from saddlescope.data import GaussianData
from saddlescope.init import Given
from saddlescope.methods import Method
from saddlescope.networks import Diagonal
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE


def chain(depth: int, start: float, label_noise: float, target: float = 1.0, width: int = 1) -> Problem:
    """A teacher ``y = s* x + ξ`` with x ~ N(0, 1), and ``width`` equal balanced chains that start at v = ``start``.

    A negative ``start`` has the wrong sign, in the last layer.

    >>> chain(2, -0.25, label_noise=1.0).init.weights[1]
    array([[-0.5]])
    """
    sizes = np.full(width, abs(start) / width)
    return chains(depth, sizes * np.sign(start), label_noise, target)


def chains(depth: int, starts: Sequence[float] | Floats, label_noise: float, target: float = 1.0) -> Problem:
    """As ``chain``, with one initial strength for each balanced chain."""
    each = np.asarray(starts, float)[:, None]
    sizes = np.abs(each) ** (1 / depth)
    layers = [sizes] * (depth - 1) + [sizes * np.sign(each)]
    data = GaussianData(np.array([[target]]), label_noise=label_noise)
    return Problem(Diagonal(depth, len(each)), data, Given(tuple(layers)))


def end(problem: Problem, method: Method, time: float, trajectories: int, seed: int = 1) -> tuple[Floats, xr.Dataset]:
    """Strengths v of an ensemble at ``time``, without diverged trajectories, and its run."""
    steps = round(time / method.time_step)
    plan = Plan(steps, trajectories, save_at=(steps,), keep="trajectories", events=(), seed=seed)
    dataset = run(problem, method, plan)
    return np.asarray(alive(dataset)["mode_strength"].values[:, -1, 0]), dataset


def hill(ratios: Floats) -> Interval:
    """Exponent k of ``P(ratio > x) ~ x^{−k}``, x ≥ 1: ``#/Σ log ratio`` of the ratios above 1 (trajectory, time).

    Both sums are averaged over independent trajectories, so samples of one need not be independent. NaN if none is
    above 1.
    Source: Hill 1975, Ann. Statist. 3(5).

    >>> round(hill(np.linspace(1e-5, 1, 100_000)[:, None] ** (-1 / 2.5)).value, 2)
    2.5
    """
    logs = np.log(np.maximum(ratios, 1.0))
    count, total = (logs > 0).sum(axis=1), logs.sum(axis=1)
    if not total.any():
        return Interval(np.nan, -np.inf, np.inf)
    rate = float(count.sum() / total.sum())
    rest = intervals.mean(count - rate * total)  # about 0
    half = (rest.high - rest.value) / float(total.mean())
    return Interval(rate, rate - half, rate + half)


def memory(mode: ModeSDE) -> float:
    """Relaxation time to a few per cent, enough for final strengths and ten times as fast as full accuracy.

    >>> memory(ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1))
    1.00...
    """
    diffusion = mode.log_diffusion
    return 1 / min(float(diffusion.spectrum(tol=0.05)[1]), diffusion.essential_rate)


def dots(panel: Axes, sample: ArrayLike, edges: Floats, **style: Any) -> None:
    """Plot the density of a sample in bins, with standard errors."""
    values = np.asarray(sample)
    counts, width = np.histogram(values, edges)[0], np.diff(edges)
    middle = np.sqrt(edges[1:] * edges[:-1]) if edges[0] > 0 else (edges[1:] + edges[:-1]) / 2
    density, error = (number / (values.size * width) for number in (counts, np.sqrt(counts)))
    seen = counts > 0
    look: dict[str, Any] = {"fmt": "o", "ms": 3, "lw": 1, "capsize": 0}
    panel.errorbar(middle[seen], density[seen], error[seen], **(look | style))
