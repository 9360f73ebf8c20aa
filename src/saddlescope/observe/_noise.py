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

import jax.numpy as jnp

import jax
from jax import lax
from saddlescope.observe.base import Sight

BLOCK = 256
"""Samples at once, so that memory does not grow with their number."""

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

    slopes, *fresh = _each(block, (table.x, table.mean_y), BLOCK)
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

        return rate(sight, _total(block, (table.x, inputs), BLOCK))

    return strengths, lax.map(noise, (left.T, along.T), batch_size=TANGENTS)


# --- gradients of single samples


def layer(
    sight: Sight, leaf: str, left: jax.Array, right: jax.Array, trace: bool
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Noise rate along ``p_α q_αᵀ`` of a leaf (k,), and the traces of its block and of the whole model."""
    if not trace and left.shape[1] <= FEW * (1 + fresh_entries(sight.table)):
        zero, shape = tree.map(jnp.zeros_like, sight.params), sight.model.leaf(sight.params, leaf).shape

        def along(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            return rate(sight, sight.model.with_leaf(zero, leaf, jnp.outer(*pair).reshape(shape)))

        return lax.map(along, (left.T, right.T), batch_size=TANGENTS), None, None
    squares = mean_squares(sight, lambda g: _squares(sight.model, g, leaf, left, right))
    return tuple(sight.temperature * one for one in squares)


FEW = 10
"""Directions up to which forward derivatives cost less than the gradients of single samples."""


def _squares(model: Any, gradient: Params, leaf: str, left: jax.Array, right: jax.Array) -> tuple[jax.Array, ...]:
    """Squares of one gradient: along each pair of directions of a leaf, over the leaf, over the model."""
    block = as_matrix(model.leaf(gradient, leaf))
    along = ((left.T @ block) * right.T).sum(axis=1)
    return along**2, (block**2).sum(), sum((g**2).sum() for g in tree.leaves(gradient))


def mean_squares(sight: Sight, squares: Callable[[Params], tuple[jax.Array, ...]]) -> tuple[jax.Array, ...]:
    """``share · mean_i squares(g_i − ḡ)``, and the squares of fresh labels: ``mean_i Σ_c squares(∂(c·∂ℓ_i/∂y_i)/∂θ)``.

    c are the columns of a root of the covariance of the label.
    """
    model, table, params = sight.model, sight.table, sight.params
    n, rows = len(table.x), max(1, min(ROWS, LARGEST // model.parameters))
    entries = fresh_entries(table)

    def sample(i: jax.Array) -> tuple[jax.Array, ...]:
        x, y = table.x[i][None], table.mean_y[i][None]
        gradient = jax.grad(lambda p: model.losses(p, x, y)[0])(params)
        return squares(tree.map(jnp.subtract, gradient, sight.gradient))

    def label(number: jax.Array) -> tuple[jax.Array, ...]:
        i, column = number // entries, number % entries
        x, y = table.x[i][None], table.mean_y[i][None]
        root = label_root(table, y[0], column)
        return squares(jax.grad(lambda p: jnp.vdot(root, _with_labels(model, p, x, y)[1]))(params))

    def mean(function: Callable[[jax.Array], tuple[jax.Array, ...]], count: int) -> tuple[jax.Array, ...]:
        summed = _total(lambda i: tree.map(lambda s: s.sum(axis=0), jax.vmap(function)(i)), (jnp.arange(count),), rows)
        return tree.map(lambda s: s / n, summed)

    sampled = tree.map(lambda s: sight.share * s, mean(sample, n))
    if not entries:
        return sampled
    return tree.map(jnp.add, sampled, mean(label, n * entries))


def as_matrix(leaf: jax.Array) -> jax.Array:
    """A leaf as a matrix: its first axis, and all others together."""
    return leaf.reshape(leaf.shape[0] if leaf.ndim else 1, -1)


def singular_directions(leaf: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The first ``count`` left and right singular vectors of a leaf as a matrix (rows, count), (columns, count)."""
    left, _, right = jnp.linalg.svd(as_matrix(leaf), full_matrices=False)
    return left[:, :count], right[:count].T


# --- fresh labels


def _with_labels(model: Any, params: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """``ℓ_i`` (c,) and ``∂ℓ_i/∂y_i``, of the shape of y."""
    losses, pull = jax.vjp(lambda labels: model.losses(params, x, labels), y)
    return losses, pull(jnp.ones_like(losses))[0]


def label_variance(table: Any) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """``(a, y) → aᵀKa`` of every sample (c,), K the covariance of a fresh label with mean y; None for fixed labels."""
    if table.label_noise:
        return lambda slopes, y: table.label_noise**2 * (slopes**2).reshape(len(slopes), -1).sum(axis=1)
    if not random_class(table):
        return None

    def drawn(slopes: jax.Array, y: jax.Array) -> jax.Array:
        mean = (y * slopes).sum(axis=1, keepdims=True)
        return (y * (slopes - mean) ** 2).sum(axis=1)

    return drawn


def fresh_entries(table: Any) -> int:
    """Columns of a root of K; 0 for fixed labels."""
    return math.prod(table.mean_y.shape[1:]) if table.label_noise or random_class(table) else 0


def label_root(table: Any, y: jax.Array, column: jax.Array) -> jax.Array:
    """A column of a root of K, of the shape of y: ``δ e_c``, or ``√q_c (e_c − q)`` for the mean y = q."""
    unit = (jnp.arange(y.size) == column).astype(y.dtype).reshape(y.shape)
    return table.label_noise * unit if table.label_noise else jnp.sqrt(y[column]) * (unit - y)


def random_class(table: Any) -> bool:
    """Whether the class of a sample is drawn afresh at every use."""
    return table.labels is not None and table.labels.random


# --- blocks of samples


def _split(arrays: tuple[jax.Array, ...], size: int) -> tuple[list[jax.Array], list[jax.Array] | None]:
    """The first, shorter or equal, block of samples, and all others (count, size, …); None without any."""
    count = (len(arrays[0]) - 1) // size
    first = len(arrays[0]) - count * size
    rest = [a[first:].reshape(count, size, *a.shape[1:]) for a in arrays]
    return [a[:first] for a in arrays], rest if count else None


def _each(function: Callable[..., Any], arrays: tuple[jax.Array, ...], size: int) -> Any:
    """``function`` of blocks of samples, whose results are joined along the samples."""
    first, rest = _split(arrays, size)
    if rest is None:
        return function(*first)
    others = lax.map(lambda block: function(*block), rest)
    return tree.map(lambda a, b: jnp.concatenate([a, b.reshape(-1, *b.shape[2:])]), function(*first), others)


def _total(function: Callable[..., Any], arrays: tuple[jax.Array, ...], size: int) -> Any:
    """The sum of ``function`` over blocks of samples."""
    first, rest = _split(arrays, size)
    if rest is None:
        return function(*first)

    def add(total: Any, block: Any) -> tuple[Any, None]:
        return tree.map(jnp.add, total, function(*block)), None

    return lax.scan(add, function(*first), rest)[0]
