"""A run: one labelled ``xarray.Dataset`` of its variables, its checkpoint, and attributes that say how to repeat it."""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope import observables
from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.data import is_finite
from saddlescope.data.base import out_of_modes
from saddlescope.engines import correlator
from saddlescope.engines.protocol import Engine
from saddlescope.engines.state import PEAK_FALL, State
from saddlescope.engines.step import Step
from saddlescope.methods import Method
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import large_arrays, run_from_toml, run_to_toml
from saddlescope.runs import models
from saddlescope.runs.statistics import Record, statistics
from saddlescope.runs.training import WHAT, is_training
from saddlescope.runs.variables import (
    CHECKPOINT,
    COORDINATES,
    EVENTS,
    Variable,
    coordinates,
    unit_names,
    variables,
    weight_names,
)

HUGE = 1e30
"""While all weights are smaller, no loss overflows."""

CONVENTIONS = {
    "convention_loss": "½‖Px − y‖² per sample, its mean over the population",
    "convention_temperature": "T = lr / batch_size",
    "convention_noise": "Itô",
}

Labelled = tuple[tuple[str, ...], Any, dict[str, Any]]
"""Dims, values and attributes of a variable."""

Parts = tuple[Problem, Method, Plan]

_CONTINUED = "\n# continued by\n"

_PARSED: dict[str, Parts] = {}
"""Runs whose TOML was read last, by its text, which holds the digests of the arrays that it names."""


# --- the dataset


@dataclass(frozen=True, eq=False)
class Frame:
    """A run without results: its method, coordinates at all saves, the arrays that its TOML names, its attributes."""

    method: Method
    coords: dict[str, Labelled]
    arrays: dict[str, Labelled]
    attrs: dict[str, Any]


def frame(problem: Problem, method: Method, plan: Plan, attrs: Mapping[str, Any]) -> Frame:
    """The frame of a run with these attributes."""
    unused = set() if plan.keep == "statistics" else {"statistic"}
    axes = coordinates(problem, plan) | {"time": method.time(plan.save_steps)}
    own: dict[str, Labelled] = {}
    if is_model(problem.network):
        own = models.coordinates(problem, plan)
    elif problem.network.depth == 1:
        unused.add("interface")
    named = {dim: Variable((dim,), "1", "column", "name of the input or output") for dim in unit_names(problem, plan)}
    used = {
        name: one
        for name, one in (COORDINATES | named).items()
        if name in axes and name not in unused and name not in own
    }
    return Frame(
        method=method,
        coords={name: (variable.dims, axes[name], variable.attrs) for name, variable in used.items()} | own,
        arrays={
            name: (tuple(f"{name}_{axis}" for axis in range(values.ndim)), values, _described(name))
            for name, values in large_arrays(problem).items()
        },
        attrs=dict(attrs),
    )


def _described(name: str) -> dict[str, str]:
    return {"long_name": name.replace("_", " "), "definition": f"the array {name} that the TOML names"}


def fill(frame: Frame, arrays: Mapping[str, Any], problem: Problem, plan: Plan, state: State) -> xr.Dataset:
    """The run up to this state: the saves up to there, in ``arrays``, and what the state itself holds."""
    done, kept = saved(plan, state), variables(problem, plan)
    happened = with_times(events(problem, plan, state), frame.method)
    diverged = divergence(happened["status"])
    mark, timed = {"diverged": diverged} if diverged else {}, {"time_step": frame.attrs["time_step"]}
    data: dict[str, Labelled] = dict(frame.arrays)
    data |= {name: (kept[name].dims, values, kept[name].attrs | mark) for name, values in arrays.items()}
    data |= {name: (EVENTS[name].dims, values, EVENTS[name].attrs | timed) for name, values in happened.items()}
    data["checkpoint"] = (CHECKPOINT.dims, np.frombuffer(state.to_bytes(), np.int8), CHECKPOINT.attrs)
    coords = {
        name: (dims, values[:done] if dims == ("time",) else values, attrs)
        for name, (dims, values, attrs) in frame.coords.items()
    }
    return xr.Dataset(data, coords, frame.attrs | mark | {"complete": int(state.step >= plan.steps)})


def attributes(problem: Problem, method: Method, plan: Plan, engine: Engine) -> dict[str, Any]:
    """The attributes of a run: its TOML, where it was made, and the conventions of its numbers."""
    return {
        "toml": run_to_toml(problem, method, plan, beside=True),
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "inference_library": "saddlescope",
        "inference_library_version": version(),
        "engine": engine.name,
        "instruction_set": getattr(engine, "instruction_set", ""),
        "temperature": method.temperature,
        "time_step": method.time_step,
        **_conventions(problem, engine.step),
    }


def _conventions(problem: Problem, step: Step) -> dict[str, str]:
    """The conventions of the numbers of a run."""
    if is_model(problem.network):
        loss = {"squared": "½‖f(x) − y‖²", "cross_entropy": "−log p(y)"}.get(str(problem.network.loss), "the loss")
        return CONVENTIONS | {"convention_loss": f"{loss} per sample, its mean over the training samples"}
    basis = "singular vectors of the teacher, inputs " + ("white" if problem.data.white else "not white")
    return {"teacher_basis": basis, **_langevin_noise(step), **CONVENTIONS}


@cache
def version() -> str:
    """The version of this package."""
    return importlib.metadata.version("saddlescope")


def _langevin_noise(step: Step) -> dict[str, str]:
    """How the Langevin noise of a data set is drawn, where there is any."""
    if step.noise_from != "samples" or not is_finite(step.data):
        return {}
    factor = step.data.noise_factor
    if factor is None:
        return {"langevin_noise": f"sample by sample, {step.data.samples} a step: the factor would be larger"}
    return {"langevin_noise": f"factor of the fourth moments, {factor.shape[0]} × {factor.shape[1]}"}


# --- its results


@dataclass(frozen=True, eq=False)
class Save:
    """One save: what the engine looked at, weights if they are kept, and trajectories that have not diverged (n,)."""

    look: Any
    weights: tuple[Floats, ...]
    alive: NDArray[np.bool_]


def record(engine: Engine, plan: Plan, state: State) -> Save:
    """One save of the ensemble."""
    return Save(engine.look(state), engine.weights(state) if plan.keep == "weights" else (), state.status == 0)


def kept(engine: Engine, saves: Sequence[Save], problem: Problem, plan: Plan) -> Record:
    """What the plan keeps of successive saves; those with the same trajectories alive are summarised together.

    A trajectory counts in statistics if it has not diverged and its loss is finite.
    """
    names, values = variables(problem, plan), engine.observe_looks([save.look for save in saves])
    if plan.keep == "weights":
        layers = zip(*(save.weights for save in saves), strict=True)
        values |= {
            name: np.stack(layer, axis=1) for name, layer in zip(weight_names(problem.network), layers, strict=True)
        }
    if plan.keep != "statistics":
        return {name: values[name] for name in names}
    alive = np.stack([save.alive for save in saves]) & np.isfinite(values["loss"]).T
    changes = np.flatnonzero((alive[1:] != alive[:-1]).any(axis=1)) + 1
    found = [
        statistics({name: values[name][:, start:end] for name in names}, alive[start])
        for start, end in itertools.pairwise([0, *changes.tolist(), len(saves)])
    ]
    return {name: joined_saves(found, name) for name in names}


def joined_saves(records: Sequence[Record], name: str) -> Floats:
    """One variable of records that follow each other."""
    return records[0][name] if len(records) == 1 else np.concatenate([one[name] for one in records], axis=1)


def status(problem: Problem, state: State) -> NDArray[np.int64]:
    """0, or the step of divergence, of every trajectory (n,); the state's step where the loss has just overflowed."""
    if is_model(problem.network):
        return state.status
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
    """The variables of ``EVENTS`` that the plan asks for, but for ``learned_at``, which also needs the method.

    A noise peak counts if the noise had fallen to 0.9 of it by the time the mode was learned; otherwise it is NaN.
    """
    found: dict[str, NDArray[Any]] = {"status": status(problem, state)}
    if is_model(problem.network):
        return found
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


def with_times(happened: Mapping[str, NDArray[Any]], method: Method) -> dict[str, NDArray[Any]]:
    """Events with the times of learning, where there are any."""
    if "learning_time" not in happened:
        return dict(happened)
    return dict(happened) | {"learned_at": method.time(happened["learning_time"])}


def divergence(status: NDArray[np.int64]) -> str:
    """How many trajectories have diverged, and when the first did; empty when none has.

    >>> divergence(np.array([0, 40, 0, 7]))
    '2 of 4 trajectories, the first at step 7'
    """
    lost = status[status != 0]
    return f"{lost.size:,} of {status.size:,} trajectories, the first at step {lost.min():,}" if lost.size else ""


def saved(plan: Plan, state: State) -> int:
    """Number of saves up to this state."""
    return int(np.searchsorted(plan.save_steps, state.step, side="right"))


# --- what a run says of itself


def final_state(run: xr.Dataset) -> State:
    """The state of the ensemble at the last step of a run.

    Raises ValueError when its checkpoint is damaged.
    """
    try:
        return State.from_bytes(run["checkpoint"].values.tobytes())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
        raise ValueError("run has a damaged checkpoint; load it again, or simulate it anew") from None


def parts(run: xr.Dataset) -> Parts:
    """Problem, method and plan of a run, from its TOML.

    Raises TypeError for what is not a Dataset, ValueError for a Dataset that is not a run.
    """
    if not isinstance(run, xr.Dataset):
        raise TypeError(f"run must be a Dataset from simulate or load, got {shown(run)}")
    if is_training(run):
        raise ValueError(f"run must be a simulation, got {WHAT}")
    if not isinstance(run.attrs.get("toml"), str) or "checkpoint" not in run:
        raise ValueError(
            "run must be a Dataset from simulate or load, got one without the attribute 'toml' or "
            "the variable 'checkpoint'; keep both when you transform a run"
        )
    return parsed(run.attrs["toml"], run)


def parsed(toml: str, arrays: Mapping[Any, Any]) -> Parts:
    """Problem, method and plan from the TOML of a run and the arrays that it names; each text is read once.

    Raises ValueError where an array is missing or has been changed, also after the text has been read.
    """
    found = _PARSED.get(toml)
    if found is None or not _holds(arrays, found[0]):
        found = run_from_toml(toml, arrays=arrays)
        remember(toml, found)
    return found


def _holds(arrays: Mapping[Any, Any], problem: Problem) -> bool:
    """Whether all arrays that the TOML of this problem names are there, unchanged."""
    return all(name in arrays and np.array_equal(arrays[name], array) for name, array in large_arrays(problem).items())


def remember(toml: str, run: Parts) -> None:
    """Spare ``parsed`` the reading of this TOML, which describes ``run``."""
    for old in list(_PARSED)[: len(_PARSED) - 7]:
        _PARSED.pop(old, None)
    _PARSED[toml] = run


def earlier(attrs: Mapping[str, Any]) -> tuple[str, ...]:
    """TOML of the runs that this one continues, first to last, each with another method."""
    found = attrs.get("continues", ())
    return tuple(found.split(_CONTINUED) if isinstance(found, str) else found)  # earlier versions wrote a list


def joined(tomls: Sequence[str]) -> str:
    """The attribute that ``earlier`` reads, one string, since netCDF has no lists of strings."""
    return _CONTINUED.join(tomls)


def whole_toml(run: xr.Dataset) -> str:
    """A run as one TOML that contains all of its arrays."""
    return run_to_toml(*parts(run))
