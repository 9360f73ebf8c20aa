"""The JAX engine of networks that have a kernel: the trajectories of the other engines, to rounding, on any device.

Members are on the last axis, in chunks that fit the cache of a processor, one after the other on every device. Each
owns the stream of the compiled engine, so that results depend neither on chunks nor on devices. A program is compiled
once for a form of step and an ensemble size; steps, learning rates and data are its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from saddlescope import _jax, observables
from saddlescope._arrays import Floats
from saddlescope.engines import state as states
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.walk import Chunk, Span, walk
from saddlescope.engines.protocol import OneByOne, check_advance
from saddlescope.engines.state import State, start
from saddlescope.engines.step import ORDERED, Step, decode
from saddlescope.methods import Rule
from saddlescope.plan import Plan
from saddlescope.problem import Problem

CHUNK, LANES = 128, 16
"""Members that a processor takes at a time; a smaller ensemble is padded to a multiple of LANES for each device."""

MOST, SCHEDULED = 1 << 30, 1 << 12
"""Steps of one call of the program, and under a schedule, whose factors are an argument."""


class Layered(OneByOne):
    """Engine of one run in JAX, on all its devices; on processors at most the plan's threads.

    ``chunk`` is the number of members that are advanced together, chosen by the kind of device.
    Raises ValueError for a network without a kernel, gradient flow, or accumulated strengths.

    >>> from saddlescope import DeepLinear, GaussianData, SGD, init
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Gaussian(scale=0.1))
    >>> engine = Layered(problem, SGD(lr=1e-2, batch_size=4), Plan(steps=10, trajectories=3))
    >>> engine.advance(engine.init(), until=10).step
    10
    """

    name = "jax"

    def __init__(self, problem: Problem, method: Rule, plan: Plan, chunk: int | None = None) -> None:
        self.problem, self.plan, self.step = problem, plan, decode(problem, method, plan)
        _check(self.step)
        self.devices = _devices(plan)
        self._size = _chunk(plan.count, self.devices) if chunk is None else chunk
        self._program = _program(Form.of(self.step), self.devices)
        with _jax.precision(plan.dtype):
            self._numbers = Numbers(*map(jnp.asarray, Numbers.of(self.step)))

    @property
    def normals_per_step(self) -> int:
        """Standard normals of a step when they are given instead of drawn; 0 without diffusive noise."""
        return self.step.normals_per_step

    def init(self) -> State:
        """The ensemble at step 0."""
        return start(self.problem, self.step, self.plan)

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Weights at the state's step in the original basis, float64, each (n, n_l, n_{l−1})."""
        return states.weights(self.step, state)

    def observe(self, state: State) -> dict[str, Floats]:
        """The observables of the step's description for every trajectory, leading axis n."""
        step, temperature = self.step, self.step.temperature_at(state.step)
        layers = self.weights(state)
        return observables.observe(self.problem, temperature, layers, step.share, step.observed, step.decay)

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``; ``normals`` (n, steps, normals_per_step) replace those drawn (Langevin)."""
        check_advance(self.step, state, until, normals)
        start = state.step
        with _jax.precision(self.step.dtype):
            for last in self._ends(start, until, normals is not None):
                given = None if normals is None else normals[:, state.step - start].astype(self.step.dtype)
                state = self._to(state, last, given)
        return state

    def _ends(self, first: int, until: int, given: bool) -> Iterator[int]:
        """Where the calls of the program end; with given normals after every step."""
        most = 1 if given else MOST if self.step.schedule is None else SCHEDULED
        yield from range(first + most, until, most)
        yield until

    def _to(self, state: State, last: int, given: Any) -> State:
        rows = self._rows(state.trajectories)
        span = _span(self.step, state.step, last, None if given is None else given[rows])
        end = jax.device_get(self._program(self._numbers, span, _chunk_of(self.step, state, rows)))
        return _state_of(self.step, state, last, end)

    def _rows(self, count: int) -> NDArray[np.int64]:
        """Members of every chunk (chunks, size), as many chunks on every device; the last member fills the last."""
        chunks = -(-count // self._size)
        chunks += -chunks % len(self.devices)
        return np.minimum(np.arange(chunks * self._size), count - 1).reshape(chunks, self._size)


# --- the program


@lru_cache(maxsize=64)
def _program(form: Form, devices: tuple[Any, ...]) -> Any:
    """``(numbers, span, chunks) -> chunks``, with the chunks first, then the members, spread over the devices."""

    def one(numbers: Numbers, span: Span, given: Any, chunk: Chunk) -> Chunk:
        last = jax.tree.map(lambda a: jnp.moveaxis(a, 0, -1), (chunk, given))
        end = walk(form, numbers, span._replace(given=last[1]), last[0])
        return jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), end)

    def local(numbers: Numbers, span: Span, given: Any, chunks: Chunk) -> Chunk:
        return lax.map(lambda pair: one(numbers, span, *pair), (given, chunks))

    mesh, members, all_of_it = Mesh(np.array(devices), ("members",)), PartitionSpec("members"), PartitionSpec()
    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(all_of_it, all_of_it, members, members), out_specs=members, check_vma=False
    )
    return jax.jit(lambda numbers, span, chunks: spread(numbers, span._replace(given=None), span.given, chunks))


def _devices(plan: Plan) -> tuple[Any, ...]:
    devices = _jax.devices()
    return tuple(devices[: plan.threads] if devices[0].platform == "cpu" else devices)


def _chunk(count: int, devices: tuple[Any, ...]) -> int:
    """Members of a chunk: all that a device has, on a processor at most CHUNK."""
    each = -(-count // len(devices))
    padded = each + -each % LANES
    return min(padded, CHUNK) if devices[0].platform == "cpu" else padded


# --- states into chunks and back


def _chunk_of(step: Step, state: State, rows: NDArray[np.int64]) -> Chunk:
    """The state as chunks: chunks first, then members."""
    modes = len(step.data.modes.strengths)
    return Chunk(
        weights=tuple(layer[rows] for layer in state.weights),
        velocity=tuple(layer[rows] for layer in state.velocity),
        words=tuple(word[rows] for word in state.words.T),
        order=state.order[rows],
        waiting=np.isinf(state.learned)[rows],
        passed=np.full((*rows.shape, 2, modes), -1, np.int32),
        alive=(state.status == 0)[rows],
        lost=np.full(rows.shape, -1, np.int32),
        peak=state.peak[rows][..., (0, 2, 3), :].astype(step.dtype),
        peaked=np.full((*rows.shape, modes), -1, np.int32),
    )


def _state_of(step: Step, state: State, last: int, end: Chunk) -> State:
    """The state at the end of a span that began at ``state``."""
    n = state.trajectories
    end = jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])[:n], end)
    status = np.where(end.lost >= 0, np.maximum(state.step + end.lost.astype(np.int64), 1), state.status)
    dead, nan = (status > 0)[:, None, None], np.asarray(np.nan, step.dtype)
    learned = np.where(end.passed >= 0, state.step + end.passed.astype(np.float64), state.learned)
    peaked = np.where(end.peaked >= 0, state.step + end.peaked.astype(np.float64), state.peak[:, 1])
    noise, strength, at_learning = np.moveaxis(end.peak, 1, 0).astype(np.float64)
    return replace(
        state,
        step=last,
        weights=tuple(np.where(dead, nan, layer) for layer in end.weights),
        velocity=end.velocity,
        words=np.stack(end.words, axis=1),
        status=status,
        learned=learned,
        peak=np.stack([noise, peaked, strength, at_learning], axis=1),
        order=end.order,
    )


def _span(step: Step, first: int, last: int, given: Any) -> Span:
    factors = np.ones(1) if step.schedule is None else np.ones(SCHEDULED + 1)
    if step.schedule is not None:
        factors[: last - first + 1] = step.factors(first, last)
    epoch = step.data.samples // int(step.batch) if step.source == "sgd" and step.sampling in ORDERED else 1
    return Span(np.int32(last - first), factors.astype(step.dtype), np.int32(first % epoch), given)


def _check(step: Step) -> None:
    if not step.network.kernel:
        raise ValueError(
            f'engine "jax" has no program of a {type(step.network).__name__} network; use engine="reference"'
        )
    if step.continuous:
        raise ValueError('engine "jax" takes the steps of GD, SGD and Langevin, got GradientFlow; use engine="native"')
    if step.accumulate is not None:
        raise ValueError('engine "jax" does not accumulate mode strengths; leave accumulate out or use engine="native"')
