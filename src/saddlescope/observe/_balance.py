"""Balance of one member, in JAX."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from saddlescope.networks.rescaling import Pair
from saddlescope.observe import _noise
from saddlescope.observe.base import Now, Sight

Pairs = tuple[Pair, ...]

KEPT = {"balance identity", "balance conserved"}
"""What a method keeps if its steps, or its flow, follow the identity."""


def of(pairs: Pairs, units: bool, sight: Sight) -> dict[str, Any]:
    """Imbalance, its identity and the parts of its rate, each (pairs,) or (pairs, units)."""
    model, step = sight.model, sight.step
    imbalance = difference(pairs, units, model, sight.params)
    (covariance,) = _noise.mean_squares(sight, lambda g: (difference(pairs, units, model, g),))
    time_step = 0.0 if step.continuous else sight.lr * (step.dt / step.lr)
    return {
        "imbalance": imbalance,
        "imbalance_identity": sight.sums[0] if sight.sums else jnp.full_like(imbalance, jnp.nan),
        "balance_noise": sight.temperature * covariance,
        "balance_gradient": time_step * difference(pairs, units, model, sight.gradient),
    }


def difference(pairs: Pairs, units: bool, model: Any, params: Any) -> Any:
    """``‖upper‖² − ‖lower‖²`` of params or gradients: (pairs,), or (pairs, units) with NaN where a pair has fewer."""
    names = [leaf.name for leaf in model.leaves]
    squares = {name: leaf**2 for name, leaf in zip(names, model.flatten(params), strict=True)}
    found = [pair.difference(squares) for pair in pairs]
    if not units:
        return jnp.stack([one.sum() for one in found])
    most = max(len(one) for one in found)
    return jnp.stack([jnp.pad(one, (0, most - len(one)), constant_values=jnp.nan) for one in found])


def start(pairs: Pairs, units: bool, sight: Sight) -> tuple[Any, ...]:
    """The sum, and its error by rounding (Kahan); none where a method does not keep the identity."""
    if KEPT.isdisjoint(sight.step.method.keeps):
        return ()
    imbalance = difference(pairs, units, sight.model, sight.params)
    return imbalance, jnp.zeros_like(imbalance)


def step(pairs: Pairs, units: bool, sums: tuple[Any, ...], now: Now) -> tuple[Any, ...]:
    """``Q ← Q + η²G − ηγ(2 − ηγ)Q``, with the gradient of the step."""
    value, lost = sums
    decay = now.lr * now.step.decay
    change = now.lr**2 * difference(pairs, units, now.model, now.gradient) - decay * (2 - decay) * value - lost
    moved = value + change
    return moved, (moved - value) - change
