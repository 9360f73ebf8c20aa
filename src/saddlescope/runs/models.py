"""The variables of a run of a Model: its loss, what the plan observes, and with ``keep="weights"`` its leaves.

They have the dims of the observations, and in front of these ``statistic`` or ``trajectory`` and ``time``.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from saddlescope.networks.model import Model
from saddlescope.observe.base import Coordinate, Observation, Variable
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.statistics import STATISTICS

LOSS = Variable((), "loss", "loss", "mean loss over the training samples, that of fresh label noise included")


def check(problem: Problem, plan: Plan) -> None:
    """Raise TypeError for a name to observe, ValueError for what the model or the data lack for an observation."""
    model: Model = problem.network  # type: ignore[assignment]
    for one in plan.observe:
        if not isinstance(one, Observation):
            raise TypeError(
                f'observe must list parts such as observe.Accuracy() for a Model, got "{one}"; see saddlescope.observe'
            )
        if not model.stored:
            one.check(model, problem.data)


def observations(plan: Plan) -> tuple[Observation, ...]:
    """What the plan observes of a Model."""
    return tuple(one for one in plan.observe if isinstance(one, Observation))


def variables(problem: Problem, plan: Plan) -> dict[str, Variable]:
    """The variables with a time axis that this run keeps."""
    model: Model = problem.network  # type: ignore[assignment]
    found = {"loss": LOSS}
    for one in observations(plan):
        for name, variable in one.variables(model, problem.data).items():
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"observe must give variables whose names are words, got {name!r}; rename it")
            if name in found:
                raise ValueError(f"observe must give variables of different names, got {name!r} twice; leave one out")
            found[name] = variable
    for leaf in model.leaves if plan.keep == "weights" else ():
        if leaf.name in found:
            raise ValueError(f"the leaf {leaf.name!r} has the name of a variable; rename the leaf")
        dims = tuple(f"{leaf.name}_{axis}" for axis in range(len(leaf.shape)))
        found[leaf.name] = Variable(dims, "weight", f"weights {leaf.name}", f"the leaf {leaf.name} of the parameters")
    ensemble = "statistic" if plan.keep == "statistics" else "trajectory"
    return {
        name: Variable((ensemble, "time", *one.dims), one.units, one.long_name, one.definition, one.note)
        for name, one in found.items()
    }


def sizes(problem: Problem, plan: Plan) -> dict[str, int]:
    """Length of every dim except time."""
    model: Model = problem.network  # type: ignore[assignment]
    found = {"trajectory": plan.count, "statistic": len(STATISTICS)}
    for one in observations(plan):
        found |= one.sizes(model, problem.data)
    for leaf in model.leaves if plan.keep == "weights" else ():
        found |= {f"{leaf.name}_{axis}": size for axis, size in enumerate(leaf.shape)}
    return found


def coordinates(problem: Problem, plan: Plan) -> dict[str, Coordinate]:
    """Coordinates along the dims of what is observed."""
    model: Model = problem.network  # type: ignore[assignment]
    found: dict[str, Coordinate] = {}
    for one in observations(plan):
        for dim, size in one.sizes(model, problem.data).items():
            found.setdefault(dim, ((dim,), np.arange(size), {}))
        found |= one.coordinates(model, problem.data)
    return found


def along(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Values of every coordinate that labels a dim of its own name, and of ``step``."""
    found = {name: values for name, (dims, values, _) in coordinates(problem, plan).items() if dims == (name,)}
    return found | {
        "step": plan.save_steps,
        "trajectory": plan.member_indices,
        "statistic": np.array(STATISTICS, object),
    }
