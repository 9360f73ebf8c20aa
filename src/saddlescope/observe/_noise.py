"""Exact noise rates of one member, from derivatives along a direction and from the gradients of single samples.

A step changes an observable m(θ) by ``−η ∇m·g``, g the mean gradient of a batch. Its variance per unit of time is

    T (share · Var_i[∇m·g_i] + mean_i Var[∇m·g_i | i])

The first term comes from the sampling of i, the second from fresh labels. g_i is linear in the label, so that the
second is ``aᵀ K a`` with ``a = ∂(∇m·g_i)/∂y_i`` and K the covariance of the label: ``δ²I``, or ``diag(q) − qqᵀ`` of a
class that is drawn with probabilities q. One derivative of ``(ℓ_i, ∂ℓ_i/∂y_i)`` along ∇m gives both terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from saddlescope import _jax
from saddlescope.networks.rescaling import entries
from saddlescope.observe._blocks import each, total
from saddlescope.observe.base import CHUNK, Sight

TANGENTS = 4
"""Directions at once."""

ROWS = 16
"""Gradients of single samples at once."""

LARGEST = 1 << 22
"""Numbers in the gradients that are held at once, unless a single one has more."""

Params = Any
tree = jax.tree


# --- along a direction


def rate(sight: Sight, direction: Params) -> jax.Array:
    """``T (share · Var_i[d·g_i] + mean_i aᵀKa)`` along a direction d of parameter space: one forward derivative."""
    model, table, params = sight.model, sight.table, sight.params
    drawn = label_variance(table)

    def block(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
        if drawn is None:
            return (jax.jvp(lambda p: model.losses(p, x, y), (params,), (direction,))[1],)
        _, (slopes, label_slopes) = jax.jvp(lambda p: _with_labels(model, p, x, y), (params,), (direction,))
        return slopes, drawn(label_slopes, y)

    slopes, *fresh = each(block, (table.x, table.mean_y), CHUNK)
    labels = fresh[0].mean() if fresh else 0.0
    return sight.temperature * (sight.share * slopes.var() + labels)


def observed(sight: Sight, function: Callable[[Params], jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The value of a scalar or vector m(θ) and its noise rate, entry by entry: one gradient and one derivative each."""
    value, pull = jax.vjp(function, sight.params)
    if value.ndim == 0:
        return value, rate(sight, pull(jnp.ones_like(value))[0])
    entries = jnp.eye(len(value), dtype=value.dtype)
    return value, lax.map(lambda entry: rate(sight, pull(entry)[0]), entries, batch_size=TANGENTS)


def products(sight: Sight, left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``m_α = mean_i (u_αᵀf_i)(v_αᵀx_i)`` and its noise rate, for the columns of ``left`` and ``right`` (k,), (k,)."""
    model, table, params = sight.model, sight.table, sight.params
    n = len(table.x)
    left, right = jnp.asarray(left, sight.outputs.dtype), jnp.asarray(right, sight.outputs.dtype)
    along = table.x.reshape(n, -1).astype(right.dtype) @ right / n
    strengths = ((sight.outputs.reshape(n, -1) @ left) * along).sum(axis=0)

    def noise(mode: tuple[jax.Array, jax.Array]) -> jax.Array:
        u, inputs = mode

        def block(x: jax.Array, weight: jax.Array) -> Params:
            outputs, pull = jax.vjp(lambda p: model.apply(p, x), params)
            return pull((weight[:, None] * u).reshape(outputs.shape))[0]

        return rate(sight, total(block, (table.x, inputs), CHUNK))

    return strengths, lax.map(noise, (left.T, along.T), batch_size=TANGENTS)


# --- gradients of single samples


def layers(
    sight: Sight, directions: dict[str, tuple[jax.Array, jax.Array]], axis: int, trace: bool
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], Any]:
    """Noise rates along ``p_α q_αᵀ`` of each leaf (k,), and the traces over each leaf and over the model.

    ``directions`` are p (rows, k) and q (columns, k) of the leaves, whose rows are on ``axis``.
    """
    count = sum(left.shape[1] for left, _ in directions.values())
    if not trace and count <= FEW * (1 + fresh_entries(sight.table)):
        return {leaf: _along(sight, leaf, axis, *pair) for leaf, pair in directions.items()}, {}, None

    def squares(gradient: Params) -> Any:
        along, of_leaf = {}, {}
        for leaf, (left, right) in directions.items():
            matrix = entries((leaf, (axis,)), sight.model.leaf(gradient, leaf))
            along[leaf] = ((left.T @ matrix) * right.T).sum(axis=1) ** 2
            of_leaf[leaf] = (matrix**2).sum()
        return along, of_leaf, sum((g**2).sum() for g in tree.leaves(gradient))

    return tree.map(lambda square: sight.temperature * square, mean_squares(sight, squares))


def _along(sight: Sight, leaf: str, axis: int, left: jax.Array, right: jax.Array) -> jax.Array:
    """Noise rates along ``p_α q_αᵀ`` of a leaf, by forward derivatives."""
    zero = tree.map(jnp.zeros_like, sight.params)
    place = jax.linear_transpose(lambda array: entries((leaf, (axis,)), array), sight.model.leaf(zero, leaf))

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return rate(sight, sight.model.with_leaf(zero, leaf, place(jnp.outer(*pair))[0]))

    return lax.map(one, (left.T, right.T), batch_size=TANGENTS)


FEW = 10
"""Directions up to which forward derivatives cost less than the gradients of single samples."""


def mean_squares(sight: Sight, squares: Callable[[Params], Any]) -> Any:
    """``share · mean_i squares(g_i − ḡ)``, and the squares of fresh labels: ``mean_i Σ_c squares(∂(c·∂ℓ_i/∂y_i)/∂θ)``.

    c are the columns of a root of the covariance of the label.
    """
    model, table, params = sight.model, sight.table, sight.params
    n, rows = len(table.x), max(1, min(ROWS, LARGEST // model.parameters))
    labels = fresh_entries(table)

    def sample(i: jax.Array) -> Any:
        x, y = table.x[i][None], table.mean_y[i][None]
        gradient = jax.grad(lambda p: model.losses(p, x, y)[0])(params)
        return squares(tree.map(jnp.subtract, gradient, sight.gradient))

    def label(number: jax.Array) -> Any:
        i, column = number // labels, number % labels
        x, y = table.x[i][None], table.mean_y[i][None]
        root = label_root(table, y[0], column)
        return squares(jax.grad(lambda p: jnp.vdot(root, _with_labels(model, p, x, y)[1]))(params))

    def mean(function: Callable[[jax.Array], Any], count: int) -> Any:
        summed = total(lambda i: tree.map(lambda s: s.sum(axis=0), jax.vmap(function)(i)), (jnp.arange(count),), rows)
        return tree.map(lambda s: s / n, summed)

    sampled = tree.map(lambda s: sight.share * s, mean(sample, n))
    if not labels:
        return sampled
    return tree.map(jnp.add, sampled, mean(label, n * labels))


def singular_directions(leaf: jax.Array, axis: int, count: int) -> tuple[jax.Array, jax.Array]:
    """The first ``count`` left and right singular vectors of a leaf as a matrix (rows, k), (columns, k)."""
    matrix = entries(("", (axis,)), leaf)
    left, _, right = _jax.one_by_one(lambda matrix: jnp.linalg.svd(matrix, full_matrices=False))(matrix)
    return left[:, :count], right[:count].T


# --- fresh labels


def _with_labels(model: Any, params: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``ℓ_i`` (c,) and ``∂ℓ_i/∂y_i``, of the shape of y."""
    losses, pull = jax.vjp(lambda labels: model.losses(params, x, labels), y)
    return losses, pull(jnp.ones_like(losses))[0]


def label_variance(table: Any) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """``(a, y) → aᵀKa`` of every sample (c,), K the covariance of a fresh label with mean y; None for fixed labels."""
    if table.label_noise is not None:
        return lambda slopes, y: table.label_noise**2 * (slopes**2).reshape(len(slopes), -1).sum(axis=1)
    if not random_class(table):
        return None

    def drawn(slopes: jax.Array, y: jax.Array) -> jax.Array:
        mean = (y * slopes).sum(axis=1, keepdims=True)
        return (y * (slopes - mean) ** 2).sum(axis=1)

    return drawn


def fresh_entries(table: Any) -> int:
    """Columns of a root of K; 0 for fixed labels."""
    return math.prod(table.mean_y.shape[1:]) if table.label_noise is not None or random_class(table) else 0


def label_root(table: Any, y: jax.Array, column: jax.Array) -> jax.Array:
    """A column of a root of K, of the shape of y: ``δ e_c``, or ``√q_c (e_c − q)`` for the mean y = q."""
    unit = (jnp.arange(y.size) == column).astype(y.dtype).reshape(y.shape)
    return table.label_noise * unit if table.label_noise is not None else jnp.sqrt(y[column]) * (unit - y)


def random_class(table: Any) -> bool:
    """Whether the class of a sample is drawn afresh at every use."""
    return table.labels is not None and table.labels.random
