"""What an engine is: it starts an ensemble, advances it, and observes it, one save at a time or many together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.engines.state import State
from saddlescope.engines.step import Step
from saddlescope.methods import Rule
from saddlescope.plan import Plan
from saddlescope.problem import Problem


class Engine(Protocol):
    """Advances one ensemble; made by ``Engine(problem, method, plan)``."""

    name: str
    step: Step

    def __init__(self, problem: Problem, method: Rule, plan: Plan) -> None: ...

    @property
    def normals_per_step(self) -> int:
        """Standard normals of a step when they are given instead of drawn; 0 without diffusive noise."""
        ...

    def init(self) -> State:
        """The ensemble at step 0."""
        ...

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``; the same to the last bit however the way there is cut.

        ``normals`` (n, steps, ``step.normals_per_step``) replace those drawn (diffusive noise only).
        """
        ...

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Weights at the state's step in the original basis; for gradient flow not those the state holds."""
        ...

    def observe(self, state: State) -> dict[str, Floats]:
        """The observables of ``step.observed`` for every trajectory, leading axis n."""
        ...

    def look(self, state: State) -> Any:
        """What ``observe_looks`` needs of a state, less than the state itself."""
        ...

    def observe_looks(self, looks: Sequence[Any]) -> dict[str, Floats]:
        """What ``observe`` finds at each of these looks, bit for bit, with axes trajectory, save, …"""
        ...


class OneByOne:
    """An engine that observes every state as it is looked at."""

    def observe(self, state: State) -> dict[str, Floats]:
        """The observables of a state, leading axis n."""
        raise NotImplementedError

    def look(self, state: State) -> dict[str, Floats]:
        """The observables of a state."""
        return self.observe(state)

    def observe_looks(self, looks: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
        """The same, with axes trajectory, save, …"""
        return {name: np.stack([look[name] for look in looks], axis=1) for name in looks[0]}


def check_advance(step: Step, state: State, until: int, normals: NDArray[Any] | None) -> None:
    """Raise ValueError when the ensemble cannot go to step ``until``, or not with these normals."""
    if until < state.step:
        raise ValueError(f"until must be at least the step reached, {state.step}, got {until}")
    if normals is None:
        return
    if not step.normals_per_step:
        raise ValueError("normals can be given to Langevin only; leave them out")
    shape = (state.trajectories, until - state.step, step.normals_per_step)
    if normals.shape != shape:
        raise ValueError(
            f"normals must have shape {shape} (trajectories, steps, normals_per_step), got {normals.shape}"
        )
