"""A run given by a user, who may have selected from it, sorted or changed it.

Dims are identified by name, trajectories and saves by their coordinates, which must agree with the checkpoint. A
selection of trajectories or saves is therefore accepted as that part of the run; a run that has been changed otherwise
is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope import observables
from saddlescope._arrays import Floats
from saddlescope.engines.state import State, weights
from saddlescope.engines.step import decode
from saddlescope.methods import Method
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import final_state, parts, saved
from saddlescope.runs.run import status as status_of
from saddlescope.runs.statistics import STATISTICS, Record, statistics
from saddlescope.runs.variables import CHECKPOINT, COORDINATES, EVENTS, coordinates, sizes, variables, weight_names

_FIX = "give the run as simulate or load returned it, or select from it with isel or sel"


@dataclass(frozen=True, eq=False)
class Selection:
    """The selected part of a run, in the order of its ensemble; ``plan`` and ``state`` are those of the selection.

    ``whole`` is the state of the whole ensemble, ``rows`` are the indices of the selected trajectories in it.
    """

    run: xr.Dataset
    problem: Problem
    method: Method
    plan: Plan
    whole: State
    rows: NDArray[np.int64]

    @property
    def state(self) -> State:
        """State of the selected trajectories."""
        return self.whole if self.complete else self.whole.take(self.rows)

    @cached_property
    def strengths(self) -> Floats:
        """Mode strengths (n, m) of the selected trajectories at the step of the state."""
        if is_model(self.problem.network):
            return self._saved_strengths
        layers = tuple(self.last_weights.values())
        return observables.mode_strength(self.problem.data, [self.problem.network.end_to_end(layers)])

    @property
    def compared(self) -> str:
        """The variable that runs are compared by: the mode strengths; of a Model without modes the loss."""
        return "loss" if is_model(self.problem.network) and "mode_strength" not in self.run else "mode_strength"

    @cached_property
    def targets(self) -> Floats:
        """s* of the modes; 0 for the loss."""
        if not is_model(self.problem.network):
            return np.asarray(self.problem.data.modes.strengths)
        return np.atleast_1d(np.asarray(self.run["target"].values if "target" in self.run.coords else [0.0], float))

    @property
    def _saved_strengths(self) -> Floats:
        """Mode strengths or loss (n, m) of a Model at the last save, as they were observed."""
        found = self.variable(self.compared)
        if found is None or self.plan.keep == "statistics":
            raise ValueError(
                f"run must have {self.compared} of every trajectory, got a run of a Model that keeps statistics; "
                'simulate it with Plan(keep="trajectories")'
            )
        return np.asarray(found.values[:, -1].reshape(found.shape[0], -1))

    @property
    def last_weights(self) -> dict[str, Floats]:
        """Weights ``W1``, … (n, n_l, n_{l−1}) of the selected trajectories at the step of the state."""
        layers = weights(decode(self.problem, self.method, self.plan), self.state)
        names = weight_names(self.problem.network)
        return {name: np.asarray(layer, np.float64) for name, layer in zip(names, layers, strict=True)}

    @cached_property
    def status(self) -> NDArray[np.int64]:
        """0, or the step of divergence, of the selected trajectories."""
        return status_of(self.problem, self.state)

    @property
    def complete(self) -> bool:
        """Whether all trajectories are selected."""
        return len(self.rows) == self.whole.trajectories

    def variable(self, name: str) -> xr.DataArray | None:
        """A variable with its dims in the order of ``variables``; None if it was dropped.

        Raises ValueError for other dims.
        """
        if name not in self.run:
            return None
        dims = variables(self.problem, self.plan)[name].dims
        found = self.run[name]
        if set(found.dims) != set(dims):
            raise ValueError(f"{name} of the run must have the dims {dims}, got {found.dims}; {_FIX}")
        if found.dtype.kind not in "fiu":
            raise ValueError(f"{name} of the run must hold numbers as simulated, got {found.dtype}; {_FIX}")
        return found.transpose(*dims)

    def saves(self) -> Record:
        """All saves, for an extension of the run.

        Raises ValueError when some are missing, or when they are statistics of other trajectories too.
        """
        if self.plan.keep == "statistics" and not self.complete:
            raise ValueError(
                f"statistics of the run are those of all {self.whole.trajectories} trajectories, got a selection of "
                f'{len(self.rows)}; extend all of them, or use keep="trajectories"'
            )
        lengths = sizes(self.problem, self.plan) | {"time": self.run.sizes["time"]}
        saves: Record = {}
        for name, kept in variables(self.problem, self.plan).items():
            found = self.variable(name)
            if found is None or found.shape != tuple(lengths[dim] for dim in kept.dims):
                got = "none" if found is None else f"one of shape {found.shape}"
                raise ValueError(f"an extension needs the whole variable {name} of the run, got {got}; {_FIX}")
            saves[name] = found.values
        return saves


def selected(run: xr.Dataset) -> Selection:
    """The selection that a run from a user holds.

    Raises TypeError or ValueError when its parts do not agree with each other.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Gaussian(scale=0.5))
    >>> run = simulate(problem, GD(lr=0.1), Plan(steps=10, trajectories=5), engine="reference")
    >>> selected(run.isel(trajectory=[3, 1])).plan.members
    (1, 3)
    """
    problem, method, plan = parts(run)
    if run["checkpoint"].dims != CHECKPOINT.dims:
        raise ValueError(f"checkpoint of the run must have the dim 'byte' alone, got {run['checkpoint'].dims}; {_FIX}")
    whole = _state(run, problem, plan)
    members = plan.member_indices
    run, rows = _in_order(run, "trajectory", "trajectory", members.tolist())
    run, saves = _in_order(run, "time", "step", plan.save_steps[: saved(plan, whole)].tolist())
    steps, axes = plan.save_steps[saves], coordinates(problem, plan)
    for dim in {dim for kept in variables(problem, plan).values() for dim in kept.dims}:
        if dim in axes and dim != "trajectory" and (dim in run.dims or dim in run.coords):
            run, _ = _in_order(run, dim, dim, axes[dim].tolist())
    if "time" not in run.coords or not np.allclose(run["time"].values, method.time(steps), rtol=1e-9, atol=0):
        raise ValueError(f"time of the run must be that of its steps; {_FIX}")
    if "status" in run and not np.array_equal(run["status"].values, status_of(problem, whole)[rows]):
        raise ValueError(f"status of the run must be that of its checkpoint; {_FIX}")
    if len(rows) < len(members):
        if plan.accumulate is not None:
            raise ValueError(
                f"histogram of the run is that of all {len(members)} trajectories, got a selection of {len(rows)}; "
                "give all of them"
            )
        plan = replace(plan, members=tuple(members[rows].tolist()), trajectories=1)
    selection = Selection(run, problem, method, plan, whole, rows)
    _check_values(selection)
    return selection


def _check_values(given: Selection) -> None:
    """Raise ValueError unless the last save agrees with the checkpoint; earlier saves cannot be checked."""
    if is_model(given.problem.network):
        return
    shown, state = given.variable("mode_strength"), given.state
    saved = given.run["step"].values == state.step
    modes, alive = None if shown is None else shown.coords.get("mode"), given.status == 0
    if shown is None or modes is None or not saved.any() or not alive.any():
        return
    found = shown.values[:, saved][:, 0]
    if given.plan.keep == "statistics":
        if not given.complete or list(shown["statistic"].values) != list(STATISTICS):
            return
        expected = statistics({"mode_strength": given.strengths}, alive)["mode_strength"][:, modes.values]
        found, expected = found[:1], expected[:1]
    else:
        found, expected = found[alive], given.strengths[alive][:, modes.values]
    if not np.allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max(initial=0.0), equal_nan=True):
        raise ValueError(f"mode_strength of the run must be that of its checkpoint at step {state.step:,}; {_FIX}")


def _state(run: xr.Dataset, problem: Problem, plan: Plan) -> State:
    try:
        state = final_state(run)
    except Exception:
        raise ValueError(f"checkpoint of the run must be unchanged, got a changed one; {_FIX}") from None
    if state.trajectories != plan.count:
        raise ValueError(
            f"checkpoint of the run must have its {plan.count} trajectories, got {state.trajectories}; {_FIX}"
        )
    shapes = tuple(layer.shape[1:] for layer in state.weights)
    if shapes != problem.network.shapes:
        raise ValueError(
            f"checkpoint of the run must have the weights {problem.network.shapes} of its TOML, got {shapes}; {_FIX}"
        )
    return state


def _in_order(run: xr.Dataset, dim: str, label: str, labels: Sequence[object]) -> tuple[xr.Dataset, NDArray[np.int64]]:
    """The run sorted along a dim in the order of ``labels``, and the indices of its labels among these."""
    if label not in run.coords or run[label].dims not in ((dim,), ()):
        raise ValueError(f"run must have the coordinate {label} along {dim}; {_FIX}")
    if run[label].dims == ():
        run = _with_dim(run, dim)
    if isinstance(labels[0], int) and run[label].dtype.kind not in "iu":  # as after a mean or an interpolation
        raise ValueError(f"{label} of the run must be whole numbers as simulated, got {run[label].dtype}; {_FIX}")
    places = {value: place for place, value in enumerate(labels)}
    given = run[label].values.tolist()
    strange = [value for value in given if value not in places]
    if strange or len(set(given)) < len(given):
        what = f"got {strange[0]!r}" if strange else "got some of them twice"
        raise ValueError(f"{label} of the run must be distinct values from the simulation, {what}; {_FIX}")
    if not given and labels:
        raise ValueError(f"{label} of the run must not be empty; {_FIX}")
    rows = np.array([places[value] for value in given], np.int64)
    order = np.argsort(rows)
    return run if (order == np.arange(len(order))).all() else run.isel({dim: order}), rows[order]


def _with_dim(run: xr.Dataset, dim: str) -> xr.Dataset:
    """Restore the dim of a run from which one trajectory, or one save, was selected by a scalar index."""
    problem, _, plan = parts(run)
    kept = variables(problem, plan) | EVENTS | COORDINATES
    lost = [name for name in run.variables if name in kept and dim in kept[str(name)].dims]
    return run.assign({name: run[name].variable.expand_dims(dim) for name in lost if dim not in run[name].dims})
