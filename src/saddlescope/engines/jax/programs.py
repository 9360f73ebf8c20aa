"""What is compiled for an ensemble of a Model: its start, its loop of steps, and what a save shows.

What is done to one member is in ``member.py``. First and last step are arguments of the loop, so that any plan of saves
compiles it once; ensembles that differ in seed, steps and the numbers of ``numbers_of_models.py`` share their programs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from saddlescope.engines.jax import convolution
from saddlescope.engines.jax.flow import Flow
from saddlescope.engines.jax.kept import Memory, kept
from saddlescope.engines.jax.layout import Layout
from saddlescope.engines.jax.member import Member
from saddlescope.engines.jax.numbers_of_models import Numbers, form_of, key_of
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import Step
from saddlescope.networks.model import Model
from saddlescope.observe.base import Observation

INIT, NOISE = 0, 1
"""Purposes of the keys of a member."""

_KEPT: Memory[Programs] = []


class Programs:
    """The compiled functions of ensembles of a model; each takes and returns arrays of a ``Layout``."""

    def __init__(self, model: Model, form: Step, observations: tuple[Observation, ...], layout: Layout) -> None:
        self.model, self.form, self.observations, self._layout = model, form, observations, layout
        self.compilations = 0

    # --- the start

    @cached_property
    def start(self) -> Callable[..., Any]:
        """Leaves, state of the optimizer, sums and key words of members, from the halves of indices and seed."""

        def member(indices: Any, seed: Any, table: Table, numbers: Numbers) -> Any:
            params = self.model.init(member_key(seed, indices, INIT))
            leaves = tuple(jnp.asarray(leaf, self.form.dtype) for leaf in self.model.flatten(params))
            words = jax.random.key_data(member_key(seed, indices, NOISE))
            return leaves, *self.member(table, numbers).begun(leaves), words

        return self._compiled(member)

    @cached_property
    def restart(self) -> Callable[..., Any]:
        """State of the optimizer and sums of members with these leaves."""
        return self._compiled(lambda leaves, table, numbers: self.member(table, numbers).begun(leaves))

    def member(self, table: Table, numbers: Numbers) -> Member:
        """One member on these samples, with these numbers."""
        return Member(self.model, table, self.form, numbers, self.observations)

    def _compiled(self, member: Callable[..., Any]) -> Callable[..., Any]:
        """A function of one member, and of what all share, for all members."""

        def chunk(members: Any, *shared: Any) -> Any:
            return jax.vmap(lambda one: member(one, *shared))(members)

        return jax.jit(self._layout.each(chunk))

    # --- steps

    @cached_property
    def walk(self) -> Callable[..., Any]:
        """Members (leaves, velocity, sums, status, words) after the steps from ``first`` to ``last``."""
        walked = self._layout.each(self._walked)

        def block(carried: Any, table: Table, numbers: Numbers, first: Any, last: Any, factors: Any) -> Any:
            self.compilations += 1
            return walked(carried, table, numbers, first, last, factors)

        return jax.jit(block)

    def _walked(self, chunk: Any, table: Table, numbers: Numbers, first: Any, last: Any, factors: Any) -> Any:
        """A chunk of members."""
        *carried, words = chunk
        scheduled, member = self.form.schedule is not None, self.member(table, numbers)

        def step(number: Any, carried: Any) -> Any:
            factor = factors[number - first] if scheduled else factors[0]
            return jax.vmap(member.moved, in_axes=(0, 0, None, None))(carried, words, number, factor)

        return lax.fori_loop(first, last, step, tuple(carried))

    # --- saves

    @cached_property
    def see(self) -> Callable[..., Any]:
        """The variables of members (leaves, sums)."""

        def member(carried: Any, factor: Any, table: Table, numbers: Numbers) -> dict[str, Any]:
            leaves, sums = carried
            return self.member(table, numbers).seen(leaves, sums, factor)

        return self._compiled(member)

    # --- gradient flow

    @cached_property
    def flow(self) -> Flow:
        """The integrator of gradient flow."""
        return Flow(self.model, self._layout)


def programs(model: Model, step: Step, observations: tuple[Observation, ...], layout: Layout) -> Programs:
    """The programs of an ensemble, those of an earlier one where it differs in seed, steps and numbers alone.

    They hold what observations compute from the data in advance, such as the directions of modes.
    """
    form = form_of(step)

    def made() -> Programs:
        on_processors = layout.mesh.devices[0].platform == "cpu"
        return Programs(convolution.of_model(model) if on_processors else model, form, observations, layout)

    return kept(_KEPT, (*key_of(form), observations, *layout.key), made)


def member_key(seed: Any, index: Any, purpose: int) -> Any:
    """The key of a member, from the lower and upper 32 bits of seed and index, and the purpose, alone.

    >>> seed, index = halves(0), halves(np.array([1, 3]))
    >>> bool(member_key(seed, index[1], INIT) == member_key(seed, halves(3), INIT))
    True
    """
    numbers = jnp.stack([seed[0], seed[1], jnp.uint32(purpose), index[0], index[1]])
    folded = lax.scan(lambda key, number: (jax.random.fold_in(key, number), None), jax.random.key(0), numbers)
    return folded[0]


def halves(numbers: Any) -> Any:
    """Lower and upper 32 bits of whole numbers (…, 2).

    >>> halves(2**32 + 5)
    array([5, 1], dtype=uint32)
    """
    wide = np.asarray(numbers, np.uint64)
    return np.stack([wide & np.uint64(0xFFFFFFFF), wide >> np.uint64(32)], axis=-1).astype(np.uint32)
