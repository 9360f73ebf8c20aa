"""What a run measures, as arrays: the numbers of ``simulate`` without its Dataset, for thousands of short runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope.engines import make_engine
from saddlescope.engines.protocol import Engine
from saddlescope.engines.state import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import Save, events, joined_saves, kept, record, with_times
from saddlescope.runs.statistics import Record
from saddlescope.runs.variables import COORDINATES, EVENTS, variables
from saddlescope.simulation import advice
from saddlescope.simulation.loop import Pace, most_together
from saddlescope.simulation.start import begin


@dataclass(frozen=True, eq=False)
class Measured:
    """The variables of a run, by name: ``values`` and their ``dims``; ``status`` (n,) as in the run.

    Beside the variables there are ``step`` and ``time`` of the saves; there is no checkpoint.
    """

    values: dict[str, NDArray[Any]]
    dims: dict[str, tuple[str, ...]]

    @property
    def status(self) -> NDArray[np.int64]:
        """0, or the step of divergence, of every trajectory."""
        return self.values["status"]


def measured(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> Measured:
    """The variables of ``simulate(problem, method, plan)``, bit for bit, with its warnings.

    Memory is not checked, and signals are left alone: Ctrl-C raises KeyboardInterrupt within 0.2 s.
    Raises TypeError or ValueError as ``simulate`` does.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Balanced(scale=0.5))
    >>> found = measured(problem, GD(lr=0.05), Plan(steps=200, saves=4))
    >>> found.dims["mode_strength"], found.values["mode_strength"][0, -1]
    (('statistic', 'time', 'mode'), array([2., 1.]))
    """
    begin(problem, method, plan)
    made = make_engine(engine, problem, method, plan)
    state = made.init()
    advice.before(problem, method, plan, made, state)
    state, records = _advanced(made, problem, plan, state)
    advice.after(problem, method, plan, state)
    names = variables(problem, plan)
    values: dict[str, NDArray[Any]] = {name: joined_saves(records, name) for name in names}
    happened = with_times(events(problem, plan, state), method)
    values |= happened | {"step": plan.save_steps, "time": method.time(plan.save_steps)}
    described = names | EVENTS | COORDINATES
    return Measured(values, {name: described[name].dims for name in values})


def _advanced(engine: Engine, problem: Problem, plan: Plan, state: State) -> tuple[State, list[Record]]:
    """The state at the end of the plan, and what it keeps of all saves."""
    together, saves = most_together(problem, plan), set(plan.save_steps.tolist())
    pace, fresh, records = Pace(), list[Save](), list[Record]()
    for goal in sorted(saves | {plan.steps}):
        while state.step < goal:
            state = pace.advance(engine, state, goal)
        if goal in saves:
            fresh.append(record(engine, plan, state))
        if fresh and (len(fresh) == together or goal == plan.steps):
            records.append(kept(engine, fresh, problem, plan))
            fresh = []
    return state, records
