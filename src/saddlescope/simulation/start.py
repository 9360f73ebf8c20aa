"""Where a run starts: at step 0 of a problem, or at the end of another run, to extend it or to change the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.engines import make_engine
from saddlescope.engines import state as states
from saddlescope.engines.state import State
from saddlescope.engines.step import decode
from saddlescope.methods import Method, Rule
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import run_to_toml
from saddlescope.runs import models
from saddlescope.runs.run import earlier
from saddlescope.runs.selection import selected
from saddlescope.runs.statistics import Record


@dataclass(frozen=True)
class Start:
    """A run before it is advanced.

    ``state`` (None: step 0 of the problem) and ``records`` come from the run that it extends or continues;
    ``continues`` holds the TOML of the earlier runs, first to last, where the method has changed; ``extends`` is the
    plan of the run that it extends, None for a selection of it.
    """

    problem: Problem
    method: Method
    plan: Plan
    state: State | None = None
    records: Sequence[Record] = ()
    continues: tuple[str, ...] = ()
    extends: Plan | None = None


def begin(problem: Any, method: Any, plan: Any) -> Start:
    """The start that the arguments of ``simulate`` describe.

    Raises TypeError or ValueError naming the argument at fault.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> begin(problem, GD(lr=0.1), Plan(steps=10)).state is None
    True
    """
    return _continued(problem, method, plan) if isinstance(problem, xr.Dataset) else _new(problem, method, plan)


def lengthened(old: Plan, new: Plan) -> Plan:
    """The plan that extends ``old`` to the steps of ``new``: all saves of the old one, then those of the new one.

    Where the new plan lists its saves and none is later, its ``saves`` equal intervals are used instead.

    >>> plan = Plan(steps=100, saves=4)
    >>> lengthened(plan, Plan(steps=300, saves=4)).save_steps
    array([  0,  25,  50,  75, 100, 150, 225, 300])
    """
    later = new.save_steps[new.save_steps > old.steps]
    if not later.size:
        grid = replace(new, save_at=None).save_steps
        later = grid[grid > old.steps]
    saves = np.concatenate([old.save_steps, later])
    return new if np.array_equal(saves, new.save_steps) else replace(new, save_at=tuple(saves.tolist()))


def _new(problem: Any, method: Any, plan: Any) -> Start:
    for name, value, kinds, example in (
        ("problem", problem, Problem, "Problem(network, data, init), or a finished run"),
        ("method", method, Rule, "SGD(lr=1e-3, batch_size=16)"),
        ("plan", plan, Plan, "Plan(steps=10_000)"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{name} must be such as {example}, got {shown(value)}")
    if is_model(problem.network):
        models.check(problem, plan)
    return Start(problem, method, plan)


def _continued(run: xr.Dataset, method: Any, plan: Any) -> Start:
    """The start of a run that extends ``run`` by the same method, or continues it by another."""
    given = selected(run)
    problem, old_method, old_plan, state = given.problem, given.method, given.plan, given.state
    new = _new(problem, old_method if method is None else method, old_plan if plan is None else plan)
    before = earlier(run.attrs)
    extends = new.method == old_method
    _check_ensemble(old_plan, new.plan, extends)
    if extends:
        steps = given.run["step"].values
        whole = given.complete and np.array_equal(steps, old_plan.save_steps[old_plan.save_steps <= state.step])
        return replace(
            new,
            plan=_extended(steps, new.plan, state),
            state=state,
            records=[given.saves()],
            continues=before,
            extends=old_plan if whole else None,
        )
    if state.step < old_plan.steps:
        raise ValueError(
            f"the run stopped at step {state.step:,} of {old_plan.steps:,}; "
            "finish it before you continue it with another method"
        )
    weights = states.weights(decode(problem, old_method, old_plan), state)
    fresh = restarted(problem, new.method, new.plan, weights, state)
    toml = run_to_toml(problem, old_method, old_plan, beside=True)
    return replace(new, state=replace(fresh, words=state.words), continues=(*before, toml))


def restarted(problem: Problem, method: Method, plan: Plan, weights: tuple[Floats, ...], state: State) -> State:
    """Step 0 of a run by a method, from these weights."""
    if is_model(problem.network):
        engine: Any = make_engine("jax", problem, method, plan)
        begun: State = engine.start(weights, state.words)
        return begun
    return states.start(problem, decode(problem, method, plan), plan, weights)


def _check_ensemble(old: Plan, new: Plan, extends: bool) -> None:
    """Raise ValueError unless the new plan has the ensemble of the old one, and to extend it also its variables."""
    names = ("seed", "dtype", "keep", "events", "observe", "accumulate") if extends else ("seed", "dtype")
    pairs: dict[str, tuple[Any, Any]] = {name: (getattr(old, name), getattr(new, name)) for name in names}
    if not np.array_equal(old.member_indices, new.member_indices):
        name = "trajectories" if old.members is new.members is None else "members"
        pairs[name] = (old.count, new.count) if name == "trajectories" else (old.members, new.members)
    for name, (was, got) in pairs.items():
        if was != got:
            raise ValueError(
                f"plan.{name} must be that of the run to extend or continue it, {was!r:.60}, got {got!r:.60}; "
                f"give the {name} of that run"
            )


def _extended(steps: NDArray[np.int64], plan: Plan, state: State) -> Plan:
    """The plan with the saves of the run, followed by the new ones."""
    if plan.steps <= state.step:
        raise ValueError(
            f"plan.steps must be more than the {state.step} steps of the run to extend it, got {plan.steps}; "
            "give a plan of more steps, or another method"
        )
    saves = np.concatenate([steps, plan.save_steps[plan.save_steps > state.step]])
    return plan if np.array_equal(saves, plan.save_steps) else replace(plan, save_at=tuple(saves.tolist()))
