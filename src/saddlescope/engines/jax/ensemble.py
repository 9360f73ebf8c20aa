"""The engine of a Model: an ensemble of members in chunks, on all devices, in one compiled loop.

Random numbers depend on seed, member and step alone: results do not depend on chunks, devices or saves. ``programs.py``
has the steps, ``layout.py`` says where members are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import _jax
from saddlescope._arrays import Floats
from saddlescope.engines.jax.cache import members_together
from saddlescope.engines.jax.layout import Layout
from saddlescope.engines.jax.member import Member
from saddlescope.engines.jax.numbers_of_models import Numbers
from saddlescope.engines.jax.programs import halves, programs
from saddlescope.engines.jax.table import Table
from saddlescope.engines.protocol import OneByOne, check_advance
from saddlescope.engines.state import State
from saddlescope.engines.step import decode
from saddlescope.methods import Rule
from saddlescope.networks.model import Model
from saddlescope.observe.base import Observation
from saddlescope.plan import Plan
from saddlescope.problem import Problem

WINDOW = 1024
"""Steps whose factors of a schedule are passed at a time."""


class Ensemble(OneByOne):
    """Advances one ensemble of a Model.

    Raises ValueError for a Model that was read from a store, which holds no functions.

    >>> import jax.numpy as jnp, saddlescope as sc
    >>> model = sc.Model(lambda p, x: x @ p["w"].T, lambda key: {"w": jnp.ones((1, 2))})
    >>> problem = Problem(model, sc.Examples(np.eye(2), [[1.0], [3.0]]))
    >>> engine = Ensemble(problem, sc.GD(lr=1.0), Plan(steps=1))
    >>> engine.weights(engine.advance(engine.init(), until=1))[0]
    array([[[1., 2.]]])
    """

    name = "jax"

    def __init__(self, problem: Problem, method: Rule, plan: Plan) -> None:
        self.problem, self.plan, self.step = problem, plan, decode(problem, method, plan)
        self.model: Model = problem.network  # type: ignore[assignment]
        if self.model.stored:
            self.model.apply()
        self._observations = tuple(one for one in plan.observe if isinstance(one, Observation))
        self._numbers = Numbers.of(self.step)
        devices, chunk = _jax.devices(plan.threads), None
        with _jax.precision(plan.dtype):
            self.table = Table.of(problem.data, plan.dtype)  # type: ignore[arg-type]
            if devices[0].platform == "cpu" and not self.step.continuous:
                chunk = members_together(self.model, self.table, self.step)
        self.arrange(Layout(plan.count, devices, chunk))

    def arrange(self, layout: Layout) -> None:
        """Compute the members in another layout; results are the same."""
        self.layout = layout
        self._programs = programs(self.model, self.step, self._observations, layout)
        with _jax.precision(self.plan.dtype):
            self._shared: tuple[Table, Numbers] = layout.shared((self.table, self._numbers))

    @property
    def member(self) -> Member:
        """One member, as functions that JAX can trace."""
        return replace(self._programs.member(self.table, self._numbers), form=self.step)

    @property
    def compilations(self) -> int:
        """How often the loop of steps was compiled."""
        return self._programs.compilations

    @property
    def normals_per_step(self) -> int:
        """0: normals are drawn by JAX and cannot be given."""
        return 0

    def init(self) -> State:
        """The ensemble at step 0."""
        plan = self.plan
        with _jax.precision(plan.dtype), _in_words():
            members = self.layout.spread(halves(plan.member_indices))
            started = self._programs.start(members, halves(plan.seed), *self._shared)
            return self._state(*self.layout.gathered(started))

    def start(self, leaves: tuple[Any, ...], words: NDArray[Any]) -> State:
        """The ensemble at step 0 with these leaves (n, …) and key words (n, 2)."""
        leaves = tuple(np.asarray(leaf, self.plan.dtype) for leaf in leaves)
        with _jax.precision(self.plan.dtype), _in_words():
            begun = self._programs.restart(self.layout.spread(leaves), *self._shared)
            velocity, sums = self.layout.gathered(begun)
        return self._state(leaves, velocity, sums, words)

    def _state(self, leaves: Any, velocity: Any, sums: Any, words: NDArray[Any]) -> State:
        n = self.plan.count
        return State(
            step=0,
            weights=leaves,
            velocity=velocity,
            sums=sums,
            words=words,
            status=np.zeros(n, np.int64),
            learned=np.empty((n, 2, 0)),
            peak=np.empty((n, 4, 0)),
            clock=np.tile([0.0, self.step.lr], (n, 1)),
            order=np.empty((n, 0), np.int32),
            correlator=np.empty((n, 0, 0, 0)),
            histogram=np.empty((0, 0), np.int64),
        )

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``."""
        check_advance(self.step, state, until, normals)
        with _jax.precision(self.plan.dtype), _in_words():
            if self.step.continuous:
                return self._programs.flow.advance(*self._shared, state, until)
            for first, last, factors in self._windows(state.step, until):
                carried = (state.weights, state.velocity, state.sums, state.status.astype(np.int32), state.words)
                moved = self._programs.walk(self.layout.spread(carried), *self._shared, first, last, factors)
                leaves, velocity, sums, status = self.layout.gathered(moved)
                status = status.astype(np.int64)
                state = replace(state, step=last, weights=leaves, velocity=velocity, sums=sums, status=status)
        return state

    def _windows(self, first: int, until: int) -> list[tuple[int, int, Floats]]:
        """Pieces of the way, each with the factors of its steps."""
        if self.step.schedule is None:
            return [(first, until, np.ones(1, self.plan.dtype))]
        starts = range(first, until, WINDOW)
        factors = [np.asarray(self.step.schedule.at(at + np.arange(WINDOW)), self.plan.dtype) for at in starts]
        return [(at, min(at + WINDOW, until), part) for at, part in zip(starts, factors, strict=True)]

    def weights(self, state: State) -> tuple[Floats, ...]:
        """The leaves at the state's step, float64, each (n, …)."""
        leaves = state.weights
        if self.step.continuous:
            with _jax.precision(self.plan.dtype):
                leaves = self._programs.flow.landed(*self._shared, state)
        return tuple(np.asarray(leaf, np.float64) for leaf in leaves)

    def observe(self, state: State) -> dict[str, Floats]:
        """The variables of a run for every member, leading axis n; NaN for those that have diverged."""
        with _jax.precision(self.plan.dtype), _in_words():
            leaves = tuple(np.asarray(leaf, self.plan.dtype) for leaf in self.weights(state))
            factor = np.asarray(self.step.factor(state.step), self.plan.dtype)
            found = self.layout.gathered(
                self._programs.see(self.layout.spread((leaves, state.sums)), factor, *self._shared)
            )
        shown = {name: np.array(values, np.float64) for name, values in found.items()}
        for values in shown.values():
            values[state.status > 0] = np.nan
        return shown


@contextmanager
def _in_words() -> Iterator[None]:
    """Raise MemoryError where the memory of a device is exhausted, ValueError for constants of another precision."""
    try:
        yield
    except Exception as error:
        if "verifier errors" in str(error):
            raise ValueError(
                "the model closes over an array of another precision than that of the plan; convert it in apply by "
                'jnp.asarray(array, x.dtype), or use dtype = "float64"'
            ) from None
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        raise MemoryError(
            "the device is out of memory; halve trajectories, run them as several ensembles by members, or give the "
            "data in fewer samples"
        ) from None
