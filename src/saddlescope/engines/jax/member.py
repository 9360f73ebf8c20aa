"""One member of an ensemble of a Model: its start, a step, and what a save shows, as functions that JAX can trace.

A step is ``θ ← rule(θ, g)``, with the gradient estimate g of ``draws.py`` and the update of ``rules.py``. The numbers
and the table may be traced.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
from jax import numpy as jnp

from saddlescope.engines.jax import draws, rules
from saddlescope.engines.jax.numbers_of_models import Numbers
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import Step
from saddlescope.networks.model import Model
from saddlescope.observe.base import Now, Observation, Sight


@dataclass(frozen=True, eq=False)
class Member:
    """A member on these samples; its state is (leaves, state of the optimizer, sums, status).

    Of the ``form`` no number is used but those that are 0.
    """

    model: Model
    table: Table
    form: Step
    numbers: Numbers
    observations: tuple[Observation, ...]

    @cached_property
    def step(self) -> Step:
        """The step of the form and the numbers."""
        return self.numbers.within(self.form)

    def begun(self, leaves: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """State of the optimizer and sums before the first step."""
        params = self.model.unflatten(leaves)
        sight = self._sight(params, jnp.ones((), self.step.dtype))
        return tuple(self._rule.start(params)), tuple(value for one in self.observations for value in one.start(sight))

    def moved(self, carried: Any, words: Any, number: Any, factor: Any) -> Any:
        """The state after step ``number``, with the words of its key; ``status`` is when it first was not finite."""
        leaves, velocity, sums, status = carried
        params, key = self.model.unflatten(leaves), jax.random.wrap_key_data(words)
        gradient = draws.gradient(self.model, self.table, self.step, params, key, number, factor)
        after, velocity = self._rule.update(params, gradient, velocity, number, factor)
        now = Now(self.model, self.step, params, after, gradient, self.step.dt * factor)
        sums = tuple(value for one, part in self._parted(sums) for value in one.step(part, now))
        leaves = self.model.flatten(after)
        lost = ~jnp.isfinite(sum(leaf.sum() for leaf in leaves))
        return leaves, velocity, sums, jnp.where((status == 0) & lost, number + 1, status)

    def seen(self, leaves: tuple[Any, ...], sums: tuple[Any, ...], factor: Any) -> dict[str, Any]:
        """The loss and the variables of the observations."""
        sight = self._sight(self.model.unflatten(leaves), factor)
        values: dict[str, Any] = {"loss": loss(sight)}
        for one, part in self._parted(sums):
            values |= one.of(replace(sight, sums=part))
        return values

    @cached_property
    def _rule(self) -> rules.Rule:
        return rules.rule(self.form.method, self.numbers)

    def _sight(self, params: Any, factor: Any) -> Sight:
        step = self.step
        return Sight(self.model, params, self.table, step, step.temperature * factor, step.lr * factor)

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
            sight = self._sight(self.model.unflatten(leaves), jnp.ones((), self.step.dtype))
            return [one.start(sight) for one in self.observations]

        shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, self.step.dtype) for leaf in self.model.leaves)
        return tuple(len(sums) for sums in jax.eval_shape(started, shapes))


def loss(sight: Sight) -> Any:
    """Mean loss of a member over the training samples, that of fresh label noise included: ``½ dy δ²``."""
    mean = sight.losses.mean()
    if sight.model.loss == "squared" and sight.table.label_noise is not None:
        mean = mean + 0.5 * math.prod(sight.table.y.shape[1:]) * sight.table.label_noise**2
    return mean
