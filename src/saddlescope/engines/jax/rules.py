"""How a gradient estimate g moves the parameters θ: plain steps, the heavy ball, Adam and AdamW.

With the schedule's factor f of the step, ``h = ηf`` (``dt f`` for Langevin) and γ the weight decay,

    plain         θ ← θ − h(g + γθ)
    heavy ball    p ← μp − h(g + γθ),  θ ← θ + p
    Adam          m ← β₁m + (1 − β₁)g',  v ← β₂v + (1 − β₂)g'²,  θ ← θ − h m̂/(√v̂ + ε),  g' = g + γθ
    AdamW         the same with g' = g, and θ ← θ − h(m̂/(√v̂ + ε) + γθ)

where ``m̂ = m/(1 − β₁^k)``, ``v̂ = v/(1 − β₂^k)`` in step k = 1, 2, … The numbers are those of optax, to rounding.
Source: Polyak 1964; Kingma & Ba 2015, ICLR, arXiv 1412.6980; Loshchilov & Hutter 2019, ICLR, arXiv 1711.05101.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp

from saddlescope.engines.jax.numbers_of_models import Numbers
from saddlescope.methods import Adam, AdamW
from saddlescope.methods import Rule as Method


@dataclass(frozen=True, eq=False)
class Rule:
    """Plain steps, which keep nothing between steps."""

    numbers: Numbers

    def start(self, params: Any) -> tuple[Any, ...]:
        """State of the optimizer before the first step: leaves like those of the params, none for plain steps."""
        return ()

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """Params and state after step ``number`` (from 0) with this gradient and the schedule's factor."""
        return self.along(params, self.pull(params, gradient), factor), state

    def along(self, params: Any, pull: Any, factor: Any) -> Any:
        """``θ − h`` times a pull."""
        size = self.numbers.dt * factor
        return _map(lambda w, g: w - size * g, params, pull)

    def pull(self, params: Any, gradient: Any) -> Any:
        """``g + γθ``."""
        decay = self.numbers.decay
        return gradient if decay is None else _map(lambda w, g: g + decay * w, params, gradient)


class HeavyBall(Rule):
    """The heavy ball; its state is the velocity p."""

    def start(self, params: Any) -> tuple[Any, ...]:
        """p = 0."""
        return _zeros(params)

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """``p ← μp − h(g + γθ)``, ``θ ← θ + p``."""
        size, pulls = self.numbers.dt * factor, jax.tree.leaves(self.pull(params, gradient))
        velocity = tuple(self.numbers.momentum * p - size * g for p, g in zip(state, pulls, strict=True))
        return _map(jnp.add, params, jax.tree.unflatten(jax.tree.structure(params), velocity)), velocity


class Adaptive(Rule):
    """Adam; its state is m and then v."""

    def start(self, params: Any) -> tuple[Any, ...]:
        """m = v = 0."""
        return _zeros(params) + _zeros(params)

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """``θ ← θ − h m̂/(√v̂ + ε)``."""
        step, state = self.step(params, self.pull(params, gradient), state, number)
        return self.along(params, step, factor), state

    def step(self, params: Any, pull: Any, state: tuple[Any, ...], number: Any) -> tuple[Any, tuple[Any, ...]]:
        """``m̂/(√v̂ + ε)``, like the params, and the state."""
        pulls, tree = jax.tree.flatten(pull)
        (b1, rest1, log1), (b2, rest2, log2) = self.numbers.averages
        half, dtype = len(pulls), pulls[0].dtype
        m = tuple(b1 * m + rest1 * g for m, g in zip(state[:half], pulls, strict=True))
        v = tuple(b2 * v + rest2 * g * g for v, g in zip(state[half:], pulls, strict=True))
        of_m, of_v = _warmed(log1, number, dtype), _warmed(log2, number, dtype)
        steps = [(a / of_m) / (_root(b / of_v) + self.numbers.eps) for a, b in zip(m, v, strict=True)]
        return jax.tree.unflatten(tree, steps), m + v


class AdaptiveApart(Adaptive):
    """AdamW."""

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """``θ ← θ − h(m̂/(√v̂ + ε) + γθ)``."""
        step, state = self.step(params, gradient, state, number)
        return self.along(params, self.pull(params, step), factor), state


def rule(method: Method, numbers: Numbers) -> Rule:
    """The rule of a method."""
    if isinstance(method, AdamW):
        return AdaptiveApart(numbers)
    if isinstance(method, Adam):
        return Adaptive(numbers)
    return Rule(numbers) if numbers.momentum is None else HeavyBall(numbers)


def _slope_of_root(at: tuple[Any], along: tuple[Any]) -> tuple[Any, Any]:
    root = _root(*at)
    return root, jnp.where(root > 0, 0.5 * along[0] / jnp.where(root > 0, root, 1), 0)


_root = jax.custom_jvp(jnp.sqrt)
"""√, with the slope 0 at 0: there ``m̂/(√v̂ + ε)`` has the slope 1/ε in g, that of √v̂ cancels."""
_root.defjvp(_slope_of_root)


def _warmed(log_beta: Any, number: Any, dtype: Any) -> Any:
    """``1 − β^k`` in step k = number + 1, without the cancellation for β near 1."""
    return -jnp.expm1((jnp.asarray(number, dtype) + 1) * log_beta)


def _zeros(params: Any) -> tuple[Any, ...]:
    return tuple(map(jnp.zeros_like, jax.tree.leaves(params)))


def _map(function: Any, *trees: Any) -> Any:
    return jax.tree.map(function, *trees)
