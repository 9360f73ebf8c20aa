"""The compiled engine: lanes are trajectories, noise is made in registers, threads share blocks of trajectories."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import _kernel, _threads, observables
from saddlescope._arrays import Floats
from saddlescope.data import is_finite
from saddlescope.data.base import out_of_modes
from saddlescope.data.dataset import CHUNK
from saddlescope.engines import finite
from saddlescope.engines.protocol import check_advance
from saddlescope.engines.state import LAYERED, State, start
from saddlescope.engines.step import Step, decode
from saddlescope.methods import Rule
from saddlescope.plan import Plan
from saddlescope.problem import Problem

CHANGED = tuple(field.name for field in fields(State) if field.name not in ("step", *LAYERED))
"""Arrays of a state that the kernel changes in place."""

THREAD_WORK = 1 << 16
"""Multiply-adds that take about as long as to start a thread."""

SLOW_NUMBERS = 1 << 17
"""Numbers of a temporary array of observables that the kernel does not have: those that a cache holds."""

SCHEDULED_STEPS = 1 << 16
"""Steps under a schedule that go to the kernel at a time."""


class Native:
    """Engine of one run, on the best instruction set of the processor or the one named.

    Small networks run with their trajectories in lanes, wide ones one by one through blocked products; ``route``
    ("lanes", "one by one") forces either. The bits are the same.

    Raises ValueError for a network without a kernel or deeper than 256 layers, gradient flow in float32, or an unknown
    instruction set.

    >>> from saddlescope import DeepLinear, GaussianData, SGD, init
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Gaussian(scale=0.1))
    >>> engine = Native(problem, SGD(lr=1e-2, batch_size=4), Plan(steps=10, trajectories=3))
    >>> engine.advance(engine.init(), until=10).step
    10
    """

    name = "native"

    def __init__(
        self, problem: Problem, method: Rule, plan: Plan, instruction_set: str = "auto", route: str = "auto"
    ) -> None:
        if not problem.network.kernel:
            raise ValueError(
                f'engine "native" has no kernel of a {type(problem.network).__name__} network; use engine="reference"'
            )
        if problem.network.depth > _kernel.max_depth:
            raise ValueError(
                f"widths make {problem.network.depth} layers, the compiled engine takes at most {_kernel.max_depth}; "
                'use engine="reference"'
            )
        self.problem, self.plan, self.step = problem, plan, decode(problem, method, plan)
        self.threads = plan.threads or _threads.available()
        self._kernel = _kernel_of(self.step, instruction_set, route)
        self._work = problem.network.parameters * (max(problem.network.widths) + problem.data.samples)
        length = max(min(problem.data.samples, CHUNK), *problem.network.widths)
        self._rows = max(1, SLOW_NUMBERS // (len(problem.data.modes.strengths) * problem.network.depth * length))
        self._layer_places = _places(problem.network.shapes)
        columns = self._kernel.columns
        self._columns = {name: at for (name, _), at in zip(columns, _places([s for _, s in columns]), strict=True)}

    @property
    def instruction_set(self) -> str:
        """Instruction set of the kernels that run."""
        return str(self._kernel.instruction_set)

    @property
    def normals_per_step(self) -> int:
        """Standard normals of a step when they are given instead of drawn; 0 without diffusive noise."""
        return self.step.normals_per_step

    def init(self) -> State:
        """The ensemble at step 0."""
        return start(self.problem, self.step, self.plan)

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``; ``normals`` (n, steps, normals_per_step) replace those drawn (Langevin)."""
        check_advance(self.step, state, until, normals)
        weights, velocity = self._flat(state.weights), self._flat(state.velocity) if state.velocity else None
        moved: dict[str, Any] = {name: getattr(state, name).copy() for name in CHANGED}
        tables = moved if state.order.size else moved | {"order": None}
        for first, last in self._blocks(state.step, until):
            given = None if normals is None else normals[:, first - state.step : last - state.step]
            self._kernel.advance(
                weights,
                **tables,
                start=first,
                until=last,
                passages=self.step.passages,
                peaks=self.step.peaks,
                threads=self._threads(state.trajectories * (last - first)),
                normals=None if given is None else np.ascontiguousarray(given, self.step.dtype),
                factors=self.step.factors(first, last),
                velocity=velocity,
            )
        return State(
            step=until,
            weights=self._layers(weights),
            velocity=() if velocity is None else self._layers(velocity),
            **moved,
        )

    def _threads(self, steps: int) -> int:
        """The plan's threads, or as many as are worth starting for these steps, counted over all trajectories."""
        if self.plan.threads:
            return self.threads
        return max(1, min(self.threads, self._work * steps // THREAD_WORK))

    def _blocks(self, start: int, until: int) -> list[tuple[int, int]]:
        """The steps from ``start`` to ``until`` in pieces, short enough that a schedule's factors take little room."""
        if self.step.schedule is None:
            return [(start, until)]
        ends = [*range(start + SCHEDULED_STEPS, until, SCHEDULED_STEPS), until]
        return list(zip([start, *ends], ends, strict=False))

    def observe(self, state: State) -> dict[str, Floats]:
        """The observables of the step's description for every trajectory, leading axis n."""
        return self._observe(self.step.temperature_at(state.step), self._shown(state))

    def look(self, state: State) -> Look:
        """Temperature and weights."""
        return self.step.temperature_at(state.step), self._shown(state)

    def observe_looks(self, looks: Sequence[Look]) -> dict[str, Floats]:
        """What ``observe`` finds at each of these looks, with axes trajectory, save, …

        Those of one temperature are observed in one call of the kernel.
        """
        found: list[dict[str, Floats]] = []
        for temperature, same in itertools.groupby(looks, lambda look: look[0]):
            tables = [shown for _, shown in same]
            together = self._observe(temperature, tables[0] if len(tables) == 1 else np.concatenate(tables))
            apart = len(tables), len(tables[0])
            found.append({name: values.reshape(*apart, *values.shape[1:]) for name, values in together.items()})
        joined = (
            found[0] if len(found) == 1 else {name: np.concatenate([one[name] for one in found]) for name in found[0]}
        )
        return {name: values.swapaxes(0, 1) for name, values in joined.items()}

    def _observe(self, temperature: float, shown: Floats) -> dict[str, Floats]:
        """The observables of weights (rows, parameters) in the teacher's basis, each row by itself."""
        step, data = self.step, self.step.data
        table = self._kernel.observe(shown, temperature, self.threads) if self._columns else shown
        found = {name: _part(table, place) for name, place in self._columns.items()}
        if found and len(data.modes.strengths) > _kernel.jacobi_modes:
            found["singular_values"] = observables.singular_values(self._layers(shown))
            found["effective_rank"] = observables.rank_of(found["singular_values"])
        if is_finite(data):
            for name in ("loss", "excess_loss", "mode_noise", "layer_noise"):
                found.pop(name, None)
        if slow := [name for name in step.observed if name not in found]:
            found |= self._slow(slow, temperature, shown)
        return {name: found[name] for name in step.observed}

    def _slow(self, names: list[str], temperature: float, shown: Floats) -> dict[str, Floats]:
        """Observables that the kernel does not have, in pieces of rows, so that temporary arrays stay small."""
        step, data, found = self.step, self.step.data, list[dict[str, Floats]]()
        for first in range(0, len(shown), self._rows):
            layers = out_of_modes(data, self._layers(shown[first : first + self._rows]))
            found.append(observables.observe(self.problem, temperature, layers, step.share, names, step.decay))
        return found[0] if len(found) == 1 else {name: np.concatenate([one[name] for one in found]) for name in names}

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Layers (n, n_l, n_{l−1}) in the original basis, float64."""
        return out_of_modes(self.step.data, self._layers(self._shown(state)))

    def _shown(self, state: State) -> Floats:
        """Weights at the state's own step: gradient flow looks ahead from its last internal point."""
        weights = self._flat(state.weights).astype(np.float64, copy=False)
        if not self.step.continuous:
            return weights
        return np.asarray(self._kernel.peek(weights, state.clock, self.step.lr * state.step, self.threads))

    def _flat(self, layers: tuple[NDArray[Any], ...]) -> NDArray[Any]:
        return np.concatenate([layer.reshape(len(layer), -1) for layer in layers], axis=1)

    def _layers(self, weights: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return tuple(_part(weights, place) for place in self._layer_places)


Look = tuple[float, Floats]
"""Temperature, and weights (n, parameters) at the state's own step."""

Place = tuple[slice | int, tuple[int, ...]]
"""Columns of a table that hold one array of each trajectory, and its shape."""


def _places(shapes: Sequence[Sequence[int]]) -> list[Place]:
    """Places of arrays of these shapes, one after the other."""
    ends = itertools.accumulate((math.prod(shape) for shape in shapes), initial=0)
    return [
        (slice(start, end) if shape else start, tuple(shape))
        for (start, end), shape in zip(itertools.pairwise(ends), shapes, strict=True)
    ]


def _part(table: NDArray[Any], place: Place) -> NDArray[Any]:
    columns, shape = place
    part = table[:, columns]
    return part.reshape(len(table), *shape) if len(shape) > 1 else part


def _kernel_of(step: Step, instruction_set: str, route: str) -> _kernel.Kernel:
    data, modes = step.data, step.data.modes
    kernel = _kernel.Kernel(
        network=step.network.kernel,
        shapes=step.network.shapes,
        strengths=modes.strengths.tolist(),
        block=[block[0] for block in modes.blocks for _ in block],
        rank=data.root.shape[1],
        root=[] if data.white else data.root.ravel().tolist(),
        label_noise=data.label_noise,
        source=step.source,
        lr=step.lr,
        dt=step.dt,
        batch=step.batch,
        weight_decay=step.decay,
        momentum=step.momentum,
        order=step.order,
        instruction_set=instruction_set,
        route=route,
        **step.network.kernel_arguments(data, step.share),
    )
    if wanted := step.accumulate:
        kernel.accumulate(wanted.low, wanted.high, wanted.start, wanted.every)
    if is_finite(data) and not (step.network.scalar and step.diffusive):
        kernel.use_samples(*finite.kernel_tables(data, step), share=step.share)
    return kernel
