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

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax import numpy as jnp

from saddlescope import _jax
from saddlescope.engines.step import Step
from saddlescope.methods import Adam, AdamW


@dataclass(frozen=True, eq=False)
class Rule:
    """Plain steps, which keep nothing between steps."""

    step: Step

    def start(self, params: Any) -> tuple[Any, ...]:
        """State of the optimizer before the first step: leaves like those of the params, none for plain steps."""
        return ()

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """Params and state after step ``number`` (from 0) with this gradient and the schedule's factor."""
        size = self.step.dt * factor
        return _map(lambda w, g: w - size * g, params, self.pull(params, gradient)), state

    def pull(self, params: Any, gradient: Any) -> Any:
        """``g + γθ``."""
        return (
            _map(lambda w, g: g + self.step.decay * w, params, gradient) if _jax.positive(self.step.decay) else gradient
        )


class HeavyBall(Rule):
    """The heavy ball; its state is the velocity p."""

    def start(self, params: Any) -> tuple[Any, ...]:
        """p = 0."""
        return _zeros(params)

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """``p ← μp − h(g + γθ)``, ``θ ← θ + p``."""
        size, pulls = self.step.dt * factor, jax.tree.leaves(self.pull(params, gradient))
        velocity = tuple(self.step.momentum * p - size * g for p, g in zip(state, pulls, strict=True))
        return _map(jnp.add, params, jax.tree.unflatten(jax.tree.structure(params), velocity)), velocity


class Adaptive(Rule):
    """Adam, or AdamW; its state is m and then v."""

    def start(self, params: Any) -> tuple[Any, ...]:
        """m = v = 0."""
        return _zeros(params) + _zeros(params)

    def update(
        self, params: Any, gradient: Any, state: tuple[Any, ...], number: Any, factor: Any
    ) -> tuple[Any, tuple[Any, ...]]:
        """``θ ← θ − h m̂/(√v̂ + ε)``, and ``− hγθ`` for AdamW."""
        method, size = self.step.method, self.step.dt * factor
        assert isinstance(method, (Adam, AdamW))
        apart = isinstance(method, AdamW)
        leaves, tree = jax.tree.flatten(params)
        pulls = jax.tree.leaves(gradient if apart else self.pull(params, gradient))
        (first, second), half = method.betas, len(leaves)
        m = tuple(first * m + (1 - first) * g for m, g in zip(state[:half], pulls, strict=True))
        v = tuple(second * v + (1 - second) * g * g for v, g in zip(state[half:], pulls, strict=True))
        of_m, of_v = (_warmed(beta, number, leaves[0].dtype) for beta in method.betas)
        steps = [(a / of_m) / (_root(b / of_v) + method.eps) for a, b in zip(m, v, strict=True)]
        if apart:
            steps = [move + self.step.decay * w for move, w in zip(steps, leaves, strict=True)]
        moved = [w - size * move for w, move in zip(leaves, steps, strict=True)]
        return jax.tree.unflatten(tree, moved), m + v


def rule(step: Step) -> Rule:
    """The rule of a step."""
    if isinstance(step.method, (Adam, AdamW)):
        return Adaptive(step)
    return HeavyBall(step) if step.momentum else Rule(step)


def _slope_of_root(at: tuple[Any], along: tuple[Any]) -> tuple[Any, Any]:
    root = _root(*at)
    return root, jnp.where(root > 0, 0.5 * along[0] / jnp.where(root > 0, root, 1), 0)


_root = jax.custom_jvp(jnp.sqrt)
"""√, with the slope 0 at 0: there ``m̂/(√v̂ + ε)`` has the slope 1/ε in g, that of √v̂ cancels."""
_root.defjvp(_slope_of_root)


def _warmed(beta: float, number: Any, dtype: Any) -> Any:
    """``1 − β^k`` in step k = number + 1, without the cancellation for β near 1."""
    return -jnp.expm1((jnp.asarray(number, dtype) + 1) * (math.log(beta) if beta else -math.inf))


def _zeros(params: Any) -> tuple[Any, ...]:
    return tuple(map(jnp.zeros_like, jax.tree.leaves(params)))


def _map(function: Any, *trees: Any) -> Any:
    return jax.tree.map(function, *trees)
