"""The engine of a Model: an ensemble of members in chunks, on all devices, in one compiled loop.

A member's step is ``θ ← rule(θ, g)``, with the gradient estimate g of ``draws.py`` and the update of ``rules.py``.
Members are vectorised in chunks that fit a processor's cache, chunks follow each other on a device, and devices share
the members. First and last step are arguments of the compiled loop, so that any plan of saves compiles it once.
Random numbers depend on seed, member and step alone: results do not depend on chunks, devices or saves. A chunk never
holds a single member, for which XLA may round differently.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

import jax
from jax import lax
from jax import numpy as jnp
from saddlescope import _jax
from saddlescope._arrays import Floats
from saddlescope.engines.jax import convolution, draws, flow, rules
from saddlescope.engines.jax.table import Table
from saddlescope.engines.protocol import check_advance
from saddlescope.engines.state import State
from saddlescope.engines.step import decode
from saddlescope.methods import Rule
from saddlescope.networks.model import Model
from saddlescope.observe.base import Now, Observation, Sight
from saddlescope.plan import Plan
from saddlescope.problem import Problem

CHUNK = 16
"""Most members that are vectorised together: beyond it, small networks leave the cache of a processor."""

WINDOW = 1024
"""Steps whose factors of a schedule are passed at a time."""

INIT, NOISE = 0, 1
"""Purposes of the keys of a member."""

MEMBERS = PartitionSpec("members")


class Ensemble:
    """Advances one ensemble of a Model.

    >>> import saddlescope as sc
    >>> model = sc.Model(lambda p, x: x @ p["w"].T, lambda key: {"w": jnp.ones((1, 2))})
    >>> problem = Problem(model, sc.Examples(np.eye(2), [[1.0], [3.0]]))
    >>> engine = Ensemble(problem, sc.GD(lr=1.0), Plan(steps=1))
    >>> engine.weights(engine.advance(engine.init(), until=1))[0]
    array([[[1., 2.]]])
    """

    name = "jax"

    def __init__(self, problem: Problem, method: Rule, plan: Plan) -> None:
        self.problem, self.plan, self.step = problem, plan, decode(problem, method, plan)
        network: Model = problem.network  # type: ignore[assignment]
        self.observations = tuple(one for one in plan.observe if isinstance(one, Observation))
        devices = _jax.devices(plan.threads)
        self.model = convolution.of_model(network) if devices[0].platform == "cpu" else network
        self.layout = Layout.of(plan.count, devices)
        with _jax.precision(plan.dtype):
            self.table = Table.of(problem.data, plan.dtype)  # type: ignore[arg-type]
        self.compilations = 0
        self._rule = rules.rule(self.step)

    @property
    def normals_per_step(self) -> int:
        """0: normals are drawn by JAX and cannot be given."""
        return 0

    # --- the ensemble at step 0

    def init(self) -> State:
        """The ensemble at step 0."""
        plan = self.plan
        with _jax.precision(plan.dtype):
            keys = member_keys(plan.seed, plan.member_indices, INIT)
            leaves = self._mapped(self._first, keys)
            words = np.asarray(jax.random.key_data(member_keys(plan.seed, plan.member_indices, NOISE)))
            return self.start(leaves, words)

    def start(self, leaves: tuple[Any, ...], words: NDArray[Any]) -> State:
        """The ensemble at step 0 with these leaves (n, …)."""
        n, plan = self.plan.count, self.plan
        with _jax.precision(plan.dtype):
            leaves = tuple(np.asarray(leaf, plan.dtype) for leaf in leaves)
            velocity, sums = self._mapped(self._started, leaves)
        return State(
            step=0,
            weights=leaves,
            velocity=tuple(map(np.asarray, velocity)),
            sums=tuple(map(np.asarray, sums)),
            words=words,
            status=np.zeros(n, np.int64),
            learned=np.empty((n, 2, 0)),
            peak=np.empty((n, 4, 0)),
            clock=np.tile([0.0, self.step.lr], (n, 1)),
            order=np.empty((n, 0), np.int32),
            correlator=np.empty((n, 0, 0, 0)),
            histogram=np.empty((0, 0), np.int64),
        )

    def _first(self, key: Any) -> tuple[Any, ...]:
        return tuple(leaf.astype(self.plan.dtype) for leaf in self.model.flatten(self.model.init(key)))

    def _started(self, leaves: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        params = self.model.unflatten(leaves)
        velocity = tuple(self._rule.start(params))
        sight = self._sight(params, (), jnp.int32(0), jnp.ones((), self.plan.dtype))
        return velocity, tuple(value for one in self.observations for value in one.start(sight))

    # --- steps

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``."""
        check_advance(self.step, state, until, normals)
        with _jax.precision(self.plan.dtype):
            if self.step.continuous:
                return flow.advance(self.model, self.table, self.step, state, until, self.layout)
            for first, last, factors in self._windows(state.step, until):
                carried = (state.weights, state.velocity, state.sums, state.status.astype(np.int32), state.words)
                moved = self._advanced(self.layout.spread(carried), self.table, first, last, factors)
                leaves, velocity, sums, status = jax.tree.map(np.asarray, self.layout.gathered(moved))
                state = replace(
                    state,
                    step=last,
                    weights=leaves,
                    velocity=velocity,
                    sums=sums,
                    status=status.astype(np.int64),
                )
        return state

    def _windows(self, first: int, until: int) -> list[tuple[int, int, Floats]]:
        """Pieces of the way, each with the factors of its steps."""
        if self.step.schedule is None:
            return [(first, until, np.ones(1, self.plan.dtype))]
        found = []
        for start in range(first, until, WINDOW):
            last = min(start + WINDOW, until)
            factors = self.step.schedule.at(np.arange(start, start + WINDOW))
            found.append((start, last, np.asarray(factors, self.plan.dtype)))
        return found

    @cached_property
    def _advanced(self) -> Callable[..., Any]:
        def block(carried: Any, table: Table, first: Any, last: Any, factors: Any) -> Any:
            self.compilations += 1
            return self.layout.each(self._walked)(carried, table, first, last, factors)

        return jax.jit(block)

    def _walked(self, chunk: Any, table: Table, first: Any, last: Any, factors: Any) -> Any:
        """A chunk of members from step ``first`` to step ``last``."""
        leaves, velocity, sums, status, words = chunk

        def member(carried: Any, words: Any, number: Any, factor: Any) -> Any:
            leaves, velocity, sums, status = carried
            params, key = self.model.unflatten(leaves), jax.random.wrap_key_data(words)
            gradient = draws.gradient(self.model, table, self.step, params, key, number, factor)
            after, velocity = self._rule.update(params, gradient, velocity, number, factor)
            sums = self._summed(sums, Now(self.model, self.step, params, after, gradient, self.step.dt * factor))
            leaves = self.model.flatten(after)
            lost = ~jnp.isfinite(sum(leaf.sum() for leaf in leaves))
            status = jnp.where((status == 0) & lost, number + 1, status)
            return leaves, velocity, sums, status

        def step(number: Any, carried: Any) -> Any:
            factor = factors[0] if self.step.schedule is None else factors[number - first]
            return jax.vmap(member, in_axes=(0, 0, None, None))(carried, words, number, factor)

        return lax.fori_loop(first, last, step, (leaves, velocity, sums, status))

    def _summed(self, sums: tuple[Any, ...], now: Now) -> tuple[Any, ...]:
        """The sums of all observations after a step."""
        return tuple(value for one, part in self._parted(sums) for value in one.step(part, now))

    def _parted(self, sums: tuple[Any, ...]) -> list[tuple[Observation, tuple[Any, ...]]]:
        """Every observation with its sums."""
        found, start = [], 0
        for one, count in zip(self.observations, self._counts, strict=True):
            found.append((one, sums[start : start + count]))
            start += count
        return found

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        """Number of sums of every observation."""

        def started(leaves: tuple[Any, ...]) -> list[tuple[Any, ...]]:
            sight = self._sight(self.model.unflatten(leaves), (), jnp.int32(0), jnp.ones((), self.plan.dtype))
            return [one.start(sight) for one in self.observations]

        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, self.plan.dtype) for leaf in self.model.leaves)
        return tuple(len(sums) for sums in jax.eval_shape(started, shapes))

    # --- saves

    def weights(self, state: State) -> tuple[Floats, ...]:
        """The leaves at the state's step, float64, each (n, …)."""
        leaves = state.weights
        if self.step.continuous:
            with _jax.precision(self.plan.dtype):
                leaves = flow.landed(self.model, self.table, self.step, state, self.layout)
        return tuple(np.asarray(leaf, np.float64) for leaf in leaves)

    def observe(self, state: State) -> dict[str, Floats]:
        """The variables of a run for every member, leading axis n; NaN for those that have diverged."""
        with _jax.precision(self.plan.dtype):
            leaves = tuple(np.asarray(leaf, self.plan.dtype) for leaf in self.weights(state))
            factor = np.asarray(self.step.factor(state.step), self.plan.dtype)
            seen = self._seen(self.layout.spread((leaves, state.sums)), self.table, np.int32(state.step), factor)
            found = jax.tree.map(lambda value: np.asarray(value, np.float64), self.layout.gathered(seen))
        lost = state.status > 0
        for values in found.values():
            values[lost] = np.nan
        return dict(found)

    @cached_property
    def _seen(self) -> Callable[..., Any]:
        def block(carried: Any, table: Table, number: Any, factor: Any) -> Any:
            seen = jax.vmap(self._seen_of, in_axes=(0, None, None, None))
            return self.layout.each(seen)(carried, table, number, factor)

        return jax.jit(block)

    def _seen_of(self, carried: Any, table: Table, number: Any, factor: Any) -> Mapping[str, Any]:
        """The variables of one member."""
        leaves, sums = carried
        sight = self._sight(self.model.unflatten(leaves), (), number, factor, table)
        values: dict[str, Any] = {"loss": loss(sight)}
        for one, part in self._parted(sums):
            values |= one.of(replace(sight, sums=part))
        return values

    def _sight(self, params: Any, sums: tuple[Any, ...], number: Any, factor: Any, table: Table | None = None) -> Sight:
        step, table = self.step, self.table if table is None else table
        return Sight(self.model, params, table, step, step.temperature * factor, step.lr * factor, sums)

    def _mapped(self, one: Callable[[Any], Any], arguments: Any) -> Any:
        """A function of a member for all members."""
        mapped = jax.jit(self.layout.each(jax.vmap(one)))
        return jax.tree.map(np.asarray, self.layout.gathered(mapped(self.layout.spread(arguments))))


def loss(sight: Sight) -> Any:
    """Mean loss of a member over the training samples, that of fresh label noise included: ``½ dy δ²``."""
    mean = sight.losses.mean()
    if sight.model.loss == "squared" and sight.table.label_noise > 0:
        mean = mean + 0.5 * math.prod(sight.table.y.shape[1:]) * sight.table.label_noise**2
    return mean


def member_keys(seed: int, members: NDArray[np.int64], purpose: int) -> Any:
    """The key of every member (n,), from seed, member and purpose alone.

    >>> member_keys(0, np.array([3]), INIT)[0] == member_keys(0, np.array([1, 3]), INIT)[1]
    Array(True, dtype=bool)
    """
    root = jax.random.fold_in(jax.random.key(0), np.uint32(seed & 0xFFFFFFFF))
    root = jax.random.fold_in(jax.random.fold_in(root, np.uint32(seed >> 32)), purpose)
    low, high = (members & 0xFFFFFFFF).astype(np.uint32), (members >> 32).astype(np.uint32)
    fold = jax.vmap(jax.random.fold_in, in_axes=(0, 0))
    first = jax.vmap(partial(jax.random.fold_in, root))(low)
    return fold(first, high)


class Layout:
    """Members over devices and chunks: each array (n, …) becomes (devices · chunks, members of a chunk, …)."""

    def __init__(self, members: int, devices: list[Any], chunk: int) -> None:
        """Layout of so many members in chunks of at most this size."""
        used = max(1, min(len(devices), members // 2))
        each = -(-members // used)
        chunks = -(-each // chunk)
        self.members, self.chunks = members, chunks
        self.chunk = max(2, -(-each // chunks))
        self.mesh = Mesh(np.array(devices[:used]), ("members",))

    @classmethod
    def of(cls, members: int, devices: list[Any]) -> Layout:
        """The layout of an ensemble."""
        return cls(members, devices, CHUNK)

    def spread(self, arrays: Any) -> Any:
        """Arrays (n, …) on the devices, in chunks; the last chunks are filled up by the first member."""
        rows = np.zeros(self.mesh.size * self.chunks * self.chunk, np.int64)
        rows[: self.members] = np.arange(self.members)
        sharding = NamedSharding(self.mesh, MEMBERS)

        def put(array: Any) -> Any:
            filled = np.asarray(array)[rows] if not _is_key(array) else array[rows]
            return jax.device_put(filled.reshape(-1, self.chunk, *array.shape[1:]), sharding)

        return jax.tree.map(put, arrays)

    def each(self, chunked: Callable[..., Any]) -> Callable[..., Any]:
        """A function of a chunk of members, and of what all share, for all chunks of all devices."""

        def everywhere(arrays: Any, *shared: Any) -> Any:
            def local(arrays: Any, *shared: Any) -> Any:
                return lax.map(lambda chunk: chunked(chunk, *shared), arrays)

            specs = (MEMBERS, *(PartitionSpec() for _ in shared))
            return jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=MEMBERS, check_vma=False)(
                arrays, *shared
            )

        return everywhere

    def gathered(self, arrays: Any) -> Any:
        """Arrays (n, …) of the members, in NumPy."""
        return jax.tree.map(
            lambda array: np.asarray(array).reshape(-1, *array.shape[2:])[: self.members].copy(), arrays
        )


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
