"""The variables of a run: dims, units, display names and definitions, sizes and values of the coordinates.

Observables have the dim ``time`` and, by ``Plan(keep=…)``, ``statistic`` or ``trajectory``; what happens once in a
trajectory (divergence, learning, noise peak) has no ``time``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope.networks.model import is_model
from saddlescope.observables import OBSERVABLES, SIZES, THRESHOLDS, Variable, observed
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs import models
from saddlescope.runs.statistics import STATISTICS

EVENTS = {
    "status": Variable(("trajectory",), "step", "divergence step", "0, or the step at which the trajectory diverged"),
    "learning_time": Variable(
        ("trajectory", "threshold", "mode"),
        "step",
        "learning time",
        "first step with a mode strength of θ s* or more; inf if there is none, NaN where s* = 0",
    ),
    "learned_at": Variable(
        ("trajectory", "threshold", "mode"),
        "",
        "time of learning",
        "time of the step learning_time, method.time(step); inf if there is none, NaN where s* = 0",
    ),
    "noise_peak_step": Variable(
        ("trajectory", "mode"), "step", "step of the noise peak", "step of the largest mode noise before learning"
    ),
    "noise_peak_strength": Variable(
        ("trajectory", "mode"), "y/x", "strength at the noise peak", "mode strength at noise_peak_step"
    ),
    "histogram": Variable(
        ("mode", "bin"), "1", "samples in the bin", "number of samples, of all trajectories, with a strength in the bin"
    ),
    "density": Variable(
        ("mode", "bin_center"),
        "1/(y/x)",
        "probability density",
        "samples in the bin / (all samples · width of the bin); its integral over the bins is 1 − outside",
    ),
    "outside": Variable(
        ("mode",), "1", "fraction outside the bins", "samples below the lowest or above the highest bin / all samples"
    ),
    "autocorrelation": Variable(
        ("mode", "lag"), "1", "autocorrelation", "Cov[s(t), s(t + lag)]/Var[s] of the mode strength s"
    ),
    "correlation_time": Variable(
        ("mode",), "step", "autocorrelation time", "integrated autocorrelation time of the mode strength, ½ + Σρ"
    ),
    "samples": Variable(("mode",), "1", "samples", "number of samples of the mode strength"),
    "effective_samples": Variable(
        ("mode",),
        "1",
        "effective sample size",
        "samples / (2 · autocorrelation time in sampling intervals)",
    ),
}
"""Known once for a run: what happened in each trajectory, and what was accumulated over all of them."""

_OF_EVENTS = {
    "learning_time": ("learning_time", "learned_at"),
    "noise_peak": ("noise_peak_step", "noise_peak_strength"),
}
_ACCUMULATED = (
    "histogram",
    "density",
    "outside",
    "autocorrelation",
    "correlation_time",
    "samples",
    "effective_samples",
)

COORDINATES = {
    "time": Variable(
        ("time",), "", "time", "sum over all earlier steps of lr, for Langevin of dt; lr · step if constant"
    ),
    "step": Variable(("time",), "", "step", "number of steps taken"),
    "target": Variable(("mode",), "y/x", "target strength", "singular value s* of the teacher"),
    "trajectory": Variable(("trajectory",), "1", "trajectory", "index of the member in its ensemble"),
    "mode": Variable(("mode",), "1", "mode", "mode of the teacher, strongest first"),
    "rank": Variable(("rank",), "1", "rank", "index of the singular value of P, largest first"),
    "layer": Variable(("layer",), "1", "layer", "index of the layer, from 1 at the input"),
    "interface": Variable(("interface",), "1", "interface", "index of the layer below the interface"),
    "threshold": Variable(("threshold",), "s*", "threshold", "fraction θ of s*"),
    "bin_low": Variable(("bin",), "y/x", "lower bin edge", "mode strength at the lower edge of the bin"),
    "bin_high": Variable(("bin",), "y/x", "upper bin edge", "mode strength at the upper edge of the bin"),
    "bin_center": Variable(
        ("bin_center",),
        "y/x",
        "strength at the bin center",
        "mode strength in the middle of the bin, without the two infinite bins",
    ),
    "lag": Variable(("lag",), "step", "lag", "lag of the autocorrelation"),
    "statistic": Variable(("statistic",), "1", "statistic", "statistic over trajectories that have not diverged"),
}

CHECKPOINT = Variable(("byte",), "1", "checkpoint", "state of the ensemble at its last step (npz)")
"""Signed bytes, since netCDF 3 has no unsigned ones."""


def variables(problem: Problem, plan: Plan) -> dict[str, Variable]:
    """The variables with a time axis that this run keeps; a network of one layer has no interfaces."""
    if is_model(problem.network):
        return models.variables(problem, plan)
    dims = tuple(problem.network.layer_dims(l) for l in range(1, problem.network.depth + 1))
    names = observed(problem, plan.observe)
    notes = {name: note for name in names if (note := OBSERVABLES[name].why_nan(problem))}
    found = _variables(plan.keep, dims, names)
    return found | {name: replace(found[name], note=note) for name, note in notes.items() if name in found}


def happenings(problem: Problem, plan: Plan) -> dict[str, Variable]:
    """The variables of ``EVENTS`` that this run has."""
    names = ["status"]
    if not is_model(problem.network):
        for event, found in _OF_EVENTS.items():
            names += found if event in plan.events else ()
        names += _ACCUMULATED if plan.accumulate is not None else ()
    return {name: EVENTS[name] for name in names}


@lru_cache(maxsize=64)
def _variables(keep: str, weight_dims: tuple[tuple[str, str], ...], names: tuple[str, ...]) -> dict[str, Variable]:
    ensemble = "statistic" if keep == "statistics" else "trajectory"
    kept: dict[str, Variable] = {name: OBSERVABLES[name] for name in names}
    for l, dims in enumerate(weight_dims if keep == "weights" else (), start=1):
        kept[f"W{l}"] = Variable(dims, "weight", f"weights of layer {l}", f"W_{l} in the basis of inputs and outputs")
    return {
        name: Variable((ensemble, "time", *variable.dims), variable.units, variable.long_name, variable.definition)
        for name, variable in kept.items()
        if len(weight_dims) > 1 or "interface" not in variable.dims
    }


def weight_names(network: object) -> tuple[str, ...]:
    """Names of the weights of a network: W1, …, WL, or of a Model its leaves."""
    if is_model(network):
        return tuple(leaf.name for leaf in network.leaves)
    return tuple(f"W{l}" for l in range(1, network.depth + 1))  # type: ignore[attr-defined]


def sizes(problem: Problem, plan: Plan) -> dict[str, int]:
    """Length of every dim except time and those of ``Accumulate``."""
    if is_model(problem.network):
        return models.sizes(problem, plan)
    layers = {
        name: length
        for l, shape in enumerate(problem.network.shapes, start=1)
        for name, length in zip(problem.network.layer_dims(l), shape, strict=True)
    }
    axes = {dim: size(problem.network, problem.data) for dim, size in SIZES.items()}
    return {"trajectory": plan.count, "statistic": len(STATISTICS)} | axes | layers


def lengths(problem: Problem, plan: Plan) -> dict[str, int]:
    """Length of every dim of the variables of a run at the end of its plan."""
    found = sizes(problem, plan) | {"time": len(plan.save_steps), "threshold": len(THRESHOLDS)}
    if (wanted := plan.accumulate) is not None:
        found |= {"bin": wanted.bins + 2, "bin_center": wanted.bins, "lag": len(wanted.lags)}
    return found


def shapes(problem: Problem, plan: Plan) -> dict[str, tuple[int, ...]]:
    """Shape of every variable with a time axis, at the end of the run."""
    size = sizes(problem, plan) | {"time": len(plan.save_steps)}
    return {name: tuple(size[dim] for dim in one.dims) for name, one in variables(problem, plan).items()}


def coordinates(problem: Problem, plan: Plan) -> dict[str, NDArray[Any]]:
    """Values of every coordinate except time."""
    if is_model(problem.network):
        return models.along(problem, plan)
    depth, strengths = problem.network.depth, problem.data.modes.strengths
    return (
        {
            "step": plan.save_steps,
            "target": strengths,
            "trajectory": plan.member_indices,
            "mode": np.arange(len(strengths)),
            "rank": np.arange(len(strengths)),
            "layer": np.arange(1, depth + 1),
            "interface": np.arange(1, depth),
            "threshold": np.array(THRESHOLDS),
            "statistic": np.array(STATISTICS, object),
        }
        | _accumulated_coordinates(plan)
        | {dim: np.array(names, object) for dim, names in unit_names(problem, plan).items()}
    )


def unit_names(problem: Problem, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Names of the inputs and outputs along the weights that end at them, by dim; only for data with names."""
    network, data = problem.network, problem.data
    if plan.keep != "weights" or network.scalar or is_model(network):
        return {}
    ends = {network.layer_dims(1)[1]: data.inputs, network.layer_dims(network.depth)[0]: data.targets}
    return {dim: names for dim, names in ends.items() if names is not None}


def _accumulated_coordinates(plan: Plan) -> dict[str, NDArray[Any]]:
    wanted = plan.accumulate
    if wanted is None:
        return {}
    edges = wanted.edges
    centers = 0.5 * (edges[1:-2] + edges[2:-1])
    return {"bin_low": edges[:-1], "bin_high": edges[1:], "bin_center": centers, "lag": wanted.lags}
