"""A run as one function that JAX can differentiate: the steps of the engine, in static blocks.

A run is cut into blocks of a fixed number of steps, a save at the end of some of them. Reverse mode keeps the state at
the start of every block and repeats the steps of one block at a time, so that about 2√steps states are held; forward
mode keeps none. Random numbers depend on nothing that is differentiated.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from saddlescope.data.base import into_modes
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.member import Member
from saddlescope.engines.jax.sde import Settings, numbers_of, out_of_modes
from saddlescope.engines.jax.table import Table
from saddlescope.engines.jax.walk import NETWORKS, Chunk, Span, mode_strengths, moved
from saddlescope.engines.step import Step

WASTE = 1.1
"""Most steps that are taken, in those of the run: a block that a save cuts short still takes all its steps."""


class Blocks(NamedTuple):
    """``size`` steps in every block, the ``first`` of each, how many of them count, and which blocks end in a save."""

    size: int
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    saved: NDArray[np.int64]


def blocks(saves: NDArray[np.int64]) -> Blocks:
    """Blocks from step 0 to the last save, of the size for which reverse mode holds the fewest states.

    >>> cut = blocks(np.array([0, 10, 20]))
    >>> cut.size, cut.first.tolist(), cut.length.tolist(), cut.saved.tolist()
    (5, [0, 5, 10, 15], [5, 5, 5, 5], [1, 3])
    """
    ends = saves[saves > 0]
    gaps = np.diff(ends, prepend=0)
    sizes = np.arange(1, 2 * math.isqrt(int(gaps.sum())) + 2)
    counts = (-(-gaps[:, None] // sizes)).sum(axis=0)
    held = np.where(counts * sizes <= WASTE * gaps.sum(), counts + sizes, np.inf)
    size = int(sizes[held.argmin()])
    starts = [np.arange(end - gap, end, size) for end, gap in zip(ends, gaps, strict=True)]
    first = np.concatenate([np.empty(0, np.int64), *starts])
    length = np.diff(first, append=ends[-1:])
    return Blocks(size, first, length, np.flatnonzero(np.isin(first + length, ends)))


def run(step: Step, saves: NDArray[np.int64], keep: bool, weights: Any, words: Any, settings: Settings) -> Any:
    """Observables at these steps, each (members, saves, …); of ``keep`` also the weights.

    ``weights`` are stacks (members, n_l, n_{l−1}) in the original basis, ``words`` (members, 4) states of the streams.
    """
    form, numbers = Form.of(step), numbers_of(step, settings)

    def moved(chunk: Chunk, number: Any, factor: Any) -> Chunk:
        return _step(form, numbers, chunk, number, factor)

    def seen(chunk: Chunk, factor: Any) -> dict[str, Any]:
        return _observed(step, form, numbers, chunk, keep)

    found = through(step, saves, _start(step, weights, words), moved, seen)
    return jax.tree.map(lambda values: jnp.moveaxis(values, -1, 0), found)


def through(step: Step, saves: NDArray[np.int64], state: Any, moved: Any, seen: Any) -> Any:
    """What is seen at these steps, saves first: ``moved(state, number, factor)``, ``seen(state, factor)``."""
    cut = blocks(saves)
    factors = jnp.asarray(np.ones(1) if step.schedule is None else step.factors(0, int(saves[-1])), step.dtype)

    def factor(number: Any) -> Any:
        return factors[jnp.minimum(number, len(factors) - 1)]

    def block(state: Any, span: Any) -> tuple[Any, Any]:
        first, length, saved = span

        def one(state: Any, k: Any) -> tuple[Any, None]:
            after = moved(state, first + k, factor(first + k))
            return jax.tree.map(lambda new, old: jnp.where(k < length, new, old), after, state), None

        state, _ = lax.scan(one, state, jnp.arange(cut.size))
        return state, lax.cond(saved, lambda: seen(state, factor(first + length)), lambda: nothing)

    start = seen(state, factor(0))
    nothing = jax.tree.map(jnp.zeros_like, start)
    saved = np.isin(np.arange(len(cut.first)), cut.saved)
    _, later = lax.scan(jax.checkpoint(block), state, tuple(map(jnp.asarray, (cut.first, cut.length, saved))))

    def joined(first: Any, then: Any) -> Any:
        return jnp.concatenate([first[None]] * int(saves[0] == 0) + [then[cut.saved]])

    return jax.tree.map(joined, start, later)


def run_of_model(
    member: Member, saves: NDArray[np.int64], keep: bool, leaves: Any, words: Any, settings: Settings, table: Table
) -> Any:
    """The loss and all that is observed of a Model, each (members, saves, …); of ``keep`` also the leaves.

    ``leaves`` are (members, …), ``words`` those of the members' keys. Reverse mode repeats every step once more, so
    that what is computed inside a step is held for one step at a time.
    """
    member = traced(member, table, settings)
    leaves = tuple(jnp.asarray(leaf, member.step.dtype) for leaf in leaves)

    def moved(state: Any, number: Any, factor: Any) -> Any:
        step = jax.checkpoint(member.moved, prevent_cse=False)
        return jax.vmap(step, in_axes=(0, 0, None, None))(state, words, number.astype(jnp.int32), factor)

    def seen(state: Any, factor: Any) -> dict[str, Any]:
        leaves, _, sums, status = state
        found = jax.vmap(member.seen, in_axes=(0, 0, None))(leaves, sums, factor)

        def known(values: Any) -> Any:
            return jnp.where(status.reshape(-1, *[1] * (values.ndim - 1)) > 0, jnp.nan, values)

        return {name: known(values) for name, values in found.items()} | ({"weights": leaves} if keep else {})

    status = jnp.zeros(len(words), jnp.int32)
    found = through(member.step, saves, (leaves, *jax.vmap(member.begun)(leaves), status), moved, seen)
    return jax.tree.map(lambda values: jnp.moveaxis(values, 1, 0), found)


def traced(member: Member, table: Table, settings: Settings) -> Member:
    """The member with these samples, and the settings in place of the numbers of method and data."""
    lr, temperature, noise, decay = (jnp.asarray(value, member.form.dtype) for value in settings)
    dt = lr if member.form.dt == member.form.lr else member.numbers.dt
    numbers = member.numbers._replace(lr=lr, dt=dt, temperature=temperature, decay=decay)
    noisy = table if table.label_noise is None else replace(table, label_noise=noise)
    return replace(member, table=noisy, numbers=numbers)


def _start(step: Step, weights: Any, words: Any) -> Chunk:
    layers = tuple(jnp.moveaxis(jnp.asarray(w, step.dtype), 0, -1) for w in into_modes(step.data, weights))
    velocity = tuple(map(jnp.zeros_like, layers)) if step.momentum else ()
    samples = jnp.arange(step.data.samples if step.ordered else 0, dtype=jnp.int32)
    order = jnp.tile(samples[:, None], (1, layers[0].shape[-1]))
    return Chunk(layers, velocity, tuple(jnp.asarray(words).T), order, *[None] * 6)


def _step(form: Form, numbers: Numbers, chunk: Chunk, number: Any, factor: Any) -> Chunk:
    end_to_end, pull_back = jax.vjp(NETWORKS[form.kernel].end_to_end, chunk.weights)
    span, error = Span(None, None, 0, None), end_to_end - numbers.teacher[..., None]
    return moved(form, numbers, span, chunk, number, factor, error, lambda g: pull_back(g)[0])


def _observed(step: Step, form: Form, numbers: Numbers, chunk: Chunk, keep: bool) -> dict[str, Any]:
    """Observables of the trajectories, which stay last."""
    end_to_end = NETWORKS[form.kernel].end_to_end(chunk.weights)
    error = jnp.einsum("ijn,jr->irn", end_to_end - numbers.teacher[..., None], numbers.root)
    excess, dim_out, data = 0.5 * (error**2).sum(axis=(0, 1)), step.data.dim_out, step.data
    least = data.least_loss + 0.5 * dim_out * (numbers.label_noise**2 - data.label_noise**2)
    seen = {"loss": excess + least, "excess_loss": excess, "mode_strength": mode_strengths(form, end_to_end)}
    if keep:
        layers = out_of_modes(step, tuple(jnp.moveaxis(w, -1, 0) for w in chunk.weights))
        seen["weights"] = tuple(jnp.moveaxis(w, 0, -1) for w in layers)
    return seen
