"""What a run is: its variables with dims and units, its statistics over the ensemble, its attributes.

A run is one ``xarray.Dataset``. Observables have the dim ``time`` and, by ``Plan(keep=…)``, ``statistic`` or
``trajectory``; what happens once in a trajectory (divergence, learning, noise peak) has no ``time``.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope import observables
from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.data import is_finite
from saddlescope.engines import correlator
from saddlescope.engines.protocol import Engine
from saddlescope.engines.state import PEAK_FALL, State, out_of_modes
from saddlescope.engines.step import Step
from saddlescope.methods import Method
from saddlescope.observables import OBSERVABLES, THRESHOLDS, Variable
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import large_arrays, run_from_toml, run_to_toml

Record = dict[str, Floats]
"""One save: every variable without its time axis."""

HUGE = 1e30
"""No loss overflows while all weights are smaller."""

STATISTICS = ("mean", "var", "q05", "q50", "q95", "stderr", "n")
QUANTILES = (0.05, 0.5, 0.95)


EVENTS = {
    "status": Variable(("trajectory",), "step", "0: all is well, else the step of divergence"),
    "learning_time": Variable(("trajectory", "threshold", "mode"), "step", "first step at θ s*_α or beyond"),
    "noise_peak_step": Variable(("trajectory", "mode"), "step", "step of the largest noise before learning"),
    "noise_peak_strength": Variable(("trajectory", "mode"), "y/x", "mode strength at the noise peak"),
    "histogram": Variable(("mode", "bin"), "1", "samples of all trajectories with their strength in the bin"),
    "autocorrelation": Variable(("mode", "lag"), "1", "autocorrelation of the mode strength"),
    "correlation_time": Variable(("mode",), "step", "integrated autocorrelation time"),
    "samples": Variable(("mode",), "1", "samples of the mode strength"),
    "effective_samples": Variable(("mode",), "1", "independent samples that the samples are worth"),
}

COORDINATES = {
    "time": Variable(("time",), "time", "time: the sum of lr, or dt of Langevin, over all earlier steps"),
    "step": Variable(("time",), "step", "step"),
    "target": Variable(("mode",), "y/x", "strength s* of the mode in the teacher"),
    "trajectory": Variable(("trajectory",), "1", "index of the member in its ensemble"),
    "mode": Variable(("mode",), "1", "mode of the teacher, strongest first"),
    "rank": Variable(("rank",), "1", "singular value of P, largest first"),
    "layer": Variable(("layer",), "1", "layer, from the input"),
    "interface": Variable(("interface",), "1", "layer below the interface"),
    "threshold": Variable(("threshold",), "s*", "fraction θ of s*"),
    "bin_low": Variable(("bin",), "y/x", "lower edge of the bin"),
    "bin_high": Variable(("bin",), "y/x", "upper edge of the bin"),
    "lag": Variable(("lag",), "step", "lag of the autocorrelation"),
    "statistic": Variable(("statistic",), "1", "statistic over trajectories that have not diverged"),
}

CONVENTIONS = {
    "convention_loss": "½‖Px − y‖² per sample, its mean over the population",
    "convention_temperature": "T = lr / batch_size",
    "convention_noise": "Itô",
}

CHECKPOINT = Variable(("byte",), "1", "state of the ensemble at its last step (npz)")
"""Signed bytes: netCDF 3 has no others."""

_THEN = "\n# continued by\n"

Parts = tuple[Problem, Method, Plan]

_PARSED: dict[str, Parts] = {}
"""The last few runs whose TOML was read; the arrays it names have their digests in it."""


def variables(problem: Problem, plan: Plan) -> dict[str, Variable]:
    """The variables with a time axis that this run keeps; one layer has no interfaces."""
    ensemble = "statistic" if plan.keep == "statistics" else "trajectory"
    kept: dict[str, Variable] = dict(OBSERVABLES)
    if plan.keep == "weights":
        for l in range(1, problem.network.depth + 1):
            kept[f"W{l}"] = Variable(problem.network.layer_dims(l), "weight", f"weights of layer {l}")
    return {
        name: Variable((ensemble, "time", *variable.dims), variable.units, variable.long_name, variable.definition)
        for name, variable in kept.items()
        if problem.network.depth > 1 or "interface" not in variable.dims
    }


def sizes(problem: Problem, plan: Plan) -> dict[str, int]:
    """Length of every dim."""
    depth, modes = problem.network.depth, min(problem.data.dim_in, problem.data.dim_out)
    return {
        "time": len(plan.save_steps),
        "trajectory": plan.count,
        "statistic": len(STATISTICS),
        "mode": modes,
        "rank": modes,
        "layer": depth,
        "interface": depth - 1,
    } | {
        name: size
        for l, shape in enumerate(problem.network.shapes, start=1)
        for name, size in zip(problem.network.layer_dims(l), shape, strict=True)
    }


def coordinates(problem: Problem, plan: Plan) -> dict[str, NDArray[Any]]:
    """Values of every coordinate but time."""
    depth, strengths = problem.network.depth, problem.data.modes.strengths
    return {
        "step": plan.save_steps,
        "target": strengths,
        "trajectory": plan.member_indices,
        "mode": np.arange(len(strengths)),
        "rank": np.arange(len(strengths)),
        "layer": np.arange(1, depth + 1),
        "interface": np.arange(1, depth),
        "threshold": np.array(THRESHOLDS),
        "statistic": np.array(STATISTICS, object),
    } | _accumulated_coordinates(plan)


def _accumulated_coordinates(plan: Plan) -> dict[str, NDArray[Any]]:
    wanted = plan.accumulate
    if wanted is None:
        return {}
    return {"bin_low": wanted.edges[:-1], "bin_high": wanted.edges[1:], "lag": wanted.lags}


def frame(problem: Problem, method: Method, plan: Plan, attrs: Mapping[str, Any]) -> xr.Dataset:
    """A run without variables: its coordinates, its attributes, and what its TOML names."""
    unused = {"interface"} if problem.network.depth == 1 else set()
    if plan.keep != "statistics":
        unused.add("statistic")
    axes = coordinates(problem, plan) | {"time": method.time(plan.save_steps)}
    return xr.Dataset(
        coords={
            name: (variable.dims, axes[name], variable.attrs)
            for name, variable in COORDINATES.items()
            if name not in unused and name in axes
        },
        data_vars={
            name: (tuple(f"{name}_{axis}" for axis in range(values.ndim)), values, _described(name))
            for name, values in large_arrays(problem).items()
        },
        attrs=dict(attrs),
    )


def _described(name: str) -> dict[str, str]:
    return {"long_name": f"{name}, which the TOML names"}


def attributes(problem: Problem, method: Method, plan: Plan, engine: Engine) -> dict[str, Any]:
    """What a run says of itself: its TOML, where it was made, and the conventions its numbers stand on."""
    return {
        "toml": run_to_toml(problem, method, plan, beside=True),
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "inference_library": "saddlescope",
        "inference_library_version": importlib.metadata.version("saddlescope"),
        "engine": engine.name,
        "instruction_set": getattr(engine, "instruction_set", ""),
        "temperature": method.temperature,
        "time_step": method.time_step,
        "teacher_basis": "singular vectors of the teacher, inputs " + ("white" if problem.data.white else "not white"),
        **_langevin_noise(engine.step),
        **CONVENTIONS,
    }


def _langevin_noise(step: Step) -> dict[str, str]:
    """How Langevin noise of a data set is made, where there is any."""
    if step.noise_from != "samples" or not is_finite(step.data):
        return {}
    factor = step.data.noise_factor
    if factor is None:
        return {"langevin_noise": f"sample by sample, {step.data.samples} a step: the factor would be larger"}
    return {"langevin_noise": f"factor of the fourth moments, {factor.shape[0]} × {factor.shape[1]}"}


def record(engine: Engine, problem: Problem, plan: Plan, state: State) -> Record:
    """One save of the ensemble."""
    observed = engine.observe(state)
    if plan.keep == "weights":
        observed = observed | {f"W{l}": layer for l, layer in enumerate(engine.weights(state), start=1)}
    values = {name: observed[name] for name in variables(problem, plan)}
    alive = (state.status == 0) & np.isfinite(observed["loss"])
    return statistics(values, alive) if plan.keep == "statistics" else values


def statistics(values: Mapping[str, Floats], alive: NDArray[np.bool_]) -> Record:
    """Mean, variance, quantiles, standard error and number of trajectories in place of the leading axis.

    The variance is the unbiased one (NaN for one trajectory), the quantiles are linear in between.

    >>> loss, alive = np.array([1.0, 2.0, 6.0, np.nan]), np.array([True, True, True, False])
    >>> dict(zip(STATISTICS, statistics({"loss": loss}, alive)["loss"].tolist()))
    {'mean': 3.0, 'var': 7.0, 'q05': 1.1, 'q50': 2.0, 'q95': 5.6, 'stderr': 1.5275, 'n': 3.0}
    """
    return {name: _summary(np.moveaxis(value[alive], 0, -1).copy()) for name, value in values.items()}


def _summary(samples: Floats) -> Floats:
    """Statistics (7, …) over the last axis of samples (…, n), which are sorted in place."""
    n = samples.shape[-1]
    table = np.full((len(STATISTICS), *samples.shape[:-1]), np.nan)
    table[-1] = n
    if n == 0:
        return table
    with np.errstate(all="ignore"):
        table[0] = samples.mean(axis=-1)
        if n > 1:
            centred = samples - table[0][..., None]
            table[1] = np.einsum("...n,...n->...", centred, centred) / (n - 1)
        samples.sort(axis=-1)
        for row, quantile in enumerate(QUANTILES, start=2):
            table[row] = _quantile(samples, quantile)
        table[5] = np.sqrt(table[1] / n)
    return table


def _quantile(ascending: Floats, quantile: float) -> Floats:
    position = quantile * (ascending.shape[-1] - 1)
    low, high = ascending[..., math.floor(position)], ascending[..., math.ceil(position)]
    value = np.where(low == high, low, low + position % 1 * (high - low))
    return np.where(np.isnan(ascending[..., -1]), np.nan, value)  # NaN is sorted to the end


def status(problem: Problem, state: State) -> NDArray[np.int64]:
    """0, or the step of divergence, of every trajectory; that of the state too, where the loss has overflowed."""
    largest = np.max([np.abs(layer).max(axis=(1, 2)) for layer in state.weights], axis=0)
    near = np.flatnonzero((state.status == 0) & ~(largest < HUGE))
    found = state.status.copy()
    if near.size:
        with np.errstate(over="ignore", invalid="ignore"):
            layers = out_of_modes(problem.data, state.take(near).weights)
            lost = ~np.isfinite(observables.loss(problem.data, [problem.network.end_to_end(layers)]))
        found[near[lost]] = max(state.step, 1)
    return found


def events(problem: Problem, plan: Plan, state: State) -> dict[str, NDArray[Any]]:
    """What happened once in each trajectory, and what was accumulated over all of them.

    A noise peak counts if the noise had fallen to 0.9 of it by the time the mode was learned; NaN otherwise.
    """
    found: dict[str, NDArray[Any]] = {"status": status(problem, state)}
    if "learning_time" in plan.events:
        found["learning_time"] = state.learned
    if "noise_peak" in plan.events:
        noise, step, strength, at_learning = state.peak.transpose(1, 0, 2)
        counted = (noise > 0) & (at_learning <= PEAK_FALL * noise)
        found["noise_peak_step"] = np.where(counted, step, np.nan)
        found["noise_peak_strength"] = np.where(counted, strength, np.nan)
    if plan.accumulate is not None:
        found |= correlator.summary(plan.accumulate, state.correlator, state.histogram, found["status"] == 0)
    return found


def divergence(status: NDArray[np.int64]) -> str:
    """How many trajectories have diverged, and when the first did; nothing when none has.

    >>> divergence(np.array([0, 40, 0, 7]))
    '2 of 4 trajectories, the first at step 7'
    """
    lost = status[status != 0]
    return f"{lost.size:,} of {status.size:,} trajectories, the first at step {lost.min():,}" if lost.size else ""


def saved(plan: Plan, state: State) -> int:
    """Number of saves an ensemble at this state has behind it."""
    return int(np.searchsorted(plan.save_steps, state.step, side="right"))


def fill(run: xr.Dataset, arrays: Mapping[str, Any], problem: Problem, plan: Plan, state: State) -> xr.Dataset:
    """The run up to this state: the saves done, in ``arrays``, and all that the state knows."""
    kept = variables(problem, plan)
    time_step = run.attrs["time_step"]
    happened = {
        name: (EVENTS[name].dims, values, EVENTS[name].attrs | {"time_step": time_step})
        for name, values in events(problem, plan, state).items()
    }
    checkpoint = np.frombuffer(state.to_bytes(), np.int8)
    run = run.isel(time=slice(saved(plan, state)))
    filled = run.assign({name: (kept[name].dims, values, kept[name].attrs) for name, values in arrays.items()}).assign(
        happened
    )
    filled["checkpoint"] = (CHECKPOINT.dims, checkpoint, CHECKPOINT.attrs)
    if said := divergence(happened["status"][1]):
        filled = filled.assign_attrs(diverged=said)
        for name in arrays:
            filled[name].attrs["diverged"] = said
    return filled.assign_attrs(complete=int(state.step >= plan.steps))


def final_state(run: xr.Dataset) -> State:
    """The ensemble at the end of a run.

    Raises ValueError when its checkpoint holds something else.
    """
    try:
        return State.from_bytes(run["checkpoint"].values.tobytes())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError("run has a damaged checkpoint; load it again, or simulate it anew") from None


def parts(run: xr.Dataset) -> Parts:
    """Problem, method and plan of a run; read from its TOML once.

    Raises ValueError for a Dataset that is not a run.
    """
    if not isinstance(run, xr.Dataset):
        raise TypeError(f"run must be a Dataset from simulate or load, got {shown(run)}")
    if not isinstance(run.attrs.get("toml"), str) or "checkpoint" not in run:
        raise ValueError(
            "run must be a Dataset from simulate or load, got one without the text 'toml' or "
            "the variable 'checkpoint'; keep both when you transform a run"
        )
    return parsed(run.attrs["toml"], run)


def parsed(toml: str, arrays: Mapping[Any, Any]) -> Parts:
    """Problem, method and plan from the TOML of a run and the arrays that it names."""
    found = _PARSED.get(toml)
    if found is None:
        found = run_from_toml(toml, arrays=arrays)
        for old in list(_PARSED)[: len(_PARSED) - 7]:
            _PARSED.pop(old, None)
        _PARSED[toml] = found
    return found


def earlier(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """TOML of the runs, first to last, that came before this one with other methods."""
    found = attrs.get("continues", ())
    return tuple(found.split(_THEN) if isinstance(found, str) else found)  # a list in earlier versions


def joined(tomls: Sequence[str]) -> str:
    """The attribute that ``earlier`` reads; netCDF has no lists of texts."""
    return _THEN.join(tomls)


def whole_toml(run: xr.Dataset) -> str:
    """A run as one TOML that needs no arrays beside it."""
    return run_to_toml(*parts(run))


def stack(records: Sequence[Record], name: str) -> Floats:
    """One variable of several saves, with its time axis."""
    return np.stack([one[name] for one in records], axis=1)
