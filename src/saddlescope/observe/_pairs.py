"""Weights and per-sample gradients of a rescaling pair of a Model, as flat arrays in double precision."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from saddlescope import _jax
from saddlescope._arrays import Floats
from saddlescope._numbers import as_whole
from saddlescope.networks import rescaling

if TYPE_CHECKING:
    from saddlescope.networks import Model
    from saddlescope.networks.rescaling import Pair

ROWS = 16
"""Gradients of single samples at once."""

Side = tuple[Floats, Floats]


def of_pair(model: Model, data: Any, params: Any, pair: Pair, unit: int | None, share: float) -> tuple[Side, Side]:
    """Upper and lower side of a unit, or of all units (None): weights (m,), gradients (rows, m).

    The rows have the mean of the gradients of all samples, and the covariance of one sample's: a ``share`` of that of
    sampling, and all of that of fresh labels, whose gradients ``J_c`` along the columns of a root of their covariance
    make the rows ``g_i ± √K J_ic``. A member with coefficient c counts as ``√c A``.
    """
    shapes = {leaf.name: leaf.shape for leaf in model.leaves}
    units = pair.units(shapes)
    if unit is not None and not 0 <= as_whole(unit, "unit") < units:
        raise ValueError(f"unit must be from 0 to {units - 1} for the pair {pair.name}, got {unit}")

    def sides(leaves: Any) -> list[Any]:
        jnp = _jax.load().numpy
        arrays, found = dict(zip(shapes, leaves, strict=True)), []
        for sign in (1, -1):
            own = [math.sqrt(abs(c)) * rescaling.entries(m, arrays[m[0]]) for m, c in pair.members if c * sign > 0]
            found.append(jnp.concatenate([one.ravel() if unit is None else one[unit] for one in own]))
        return found

    with _jax.precision("float64"):
        weights, gradients, fresh = _gradients(model, data, params, sides)
    found = []
    for a, g, j in zip(weights, gradients, fresh, strict=True):
        g = g.mean(axis=0) + np.sqrt(share) * (g - g.mean(axis=0))
        if j is not None:
            j = np.sqrt(j.shape[1]) * j
            g = np.concatenate([g[:, None] + j, g[:, None] - j], axis=1).reshape(-1, g.shape[1])
        found.append((a, g))
    return found[0], found[1]


def _gradients(model: Model, data: Any, params: Any, sides: Any) -> tuple[Any, Any, Any]:
    """Weights of both sides (m,), gradients of all samples (n, m), and along the roots of fresh labels (n, K, m)."""
    from saddlescope.observe import _noise

    jax, jnp = _jax.load(), _jax.load().numpy
    table = SimpleNamespace(
        x=jnp.asarray(data.X),
        mean_y=jnp.asarray(getattr(data, "targets_mean", data.Y)),
        label_noise=data.label_noise or None,
        labels=getattr(data, "labels", None),
    )
    leaves = tuple(jnp.asarray(leaf, "float64") for leaf in _arrays(model, params))
    columns = _noise.fresh_entries(table)

    def loss(leaves: Any, x: Any, y: Any) -> Any:
        return model.losses(model.unflatten(leaves), x[None], y[None])[0]

    def sample(pair: Any) -> Any:
        x, y = pair
        own = sides(jax.grad(loss)(leaves, x, y))
        if not columns:
            return own, [None, None]

        def along(column: Any) -> Any:
            root = _noise.label_root(table, y, column)
            slope = jax.grad(lambda leaves: jnp.vdot(root, jax.grad(loss, argnums=2)(leaves, x, y)))(leaves)
            return sides(slope)

        return own, jax.vmap(along)(jnp.arange(columns))

    found = jax.jit(lambda rows: jax.lax.map(sample, rows, batch_size=ROWS))((table.x, table.mean_y))
    own, fresh = jax.tree.map(lambda one: np.asarray(one, np.float64), found)
    return [np.asarray(side, np.float64) for side in sides(leaves)], own, fresh


def _arrays(model: Model, params: Any) -> list[Any]:
    """The leaves of params, which may hold lists in place of arrays."""
    structure = _jax.load().tree.structure(model.unflatten([0.0] * len(model.leaves)))
    leaves = structure.flatten_up_to(params)
    for leaf, value in zip(model.leaves, leaves, strict=True):
        if np.shape(value) != tuple(leaf.shape):
            raise ValueError(f"params must hold {leaf.name} with shape {leaf.shape}, got {np.shape(value)}")
    return list(leaves)
