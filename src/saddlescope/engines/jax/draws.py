"""What a step sees: the gradient estimate of one member.

With outputs f_i and losses ℓ_i of the samples of a step, every estimate is one backward pass of a weighted loss,

    g = ∇_θ [Σ_i w_i ℓ_i − Σ_i ζ_i·f_i],

so that methods differ in samples, weights and the noise ζ of the labels alone. For all n samples, with normals ξ and
z and ``s = √(T/dt)``, the weights ``w = 1/n + s(ξ − ξ̄)/√n`` and ``ζ = sδz/√n`` give mean ∇𝓛 and covariance ``s² C(θ)``
exactly, C that of one sample's gradient with its label noise. No gradient of a single sample is formed.
Source: derived here; tests/jax/test_draws.py. Permutations: Hoang, Morris & Rogaway 2012, CRYPTO, arXiv 1208.1176.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
from jax import lax
from jax import numpy as jnp

from saddlescope.engines.step import Step

if TYPE_CHECKING:
    from saddlescope.engines.jax.table import Table

SAMPLES, LABELS, WEIGHTS, DIRECTION = range(4)
"""Purposes of the keys of a step."""

EPOCHS = 2**32 - 1
"""Purpose of a member's key that permutes the samples of an epoch; steps are below it."""

ROUNDS = 32
"""Rounds of a permutation. An index is left where it is with probability 2^−ROUNDS, too rarely to be seen."""


def gradient(model: Any, table: Table, step: Step, params: Any, key: Any, number: Any, factor: Any) -> Any:
    """The gradient estimate of one member in step ``number``, without weight decay; like the params.

    ``key`` is that of the member, ``number`` and the schedule's ``factor`` are traced. Langevin noise is in it, times
    √(T/dt), and the drift of order 2.
    """
    if step.source == "gd":
        return _mean(model, table, params)
    if step.source == "sgd":
        index = batch(step, table.samples, key, number)
        x, y = _taken(table, index, jax.random.fold_in(key, number))
        return pulled(model, params, x, y, 1 / len(x))
    key = jax.random.fold_in(key, number)
    if getattr(step.method, "samples", None) is not None:
        return _of_few(model, table, step, params, key)
    if step.source == "gradient" and step.order == 1:
        weights, noise = _noise(table, step, key)
        return pulled(model, params, table.x, table.mean_y, 1 / table.samples + weights, noise)
    noise = pulled(model, params, table.x, table.mean_y, *_noise(table, step, key))
    if step.source == "isotropic":
        noise = turned(noise, jax.random.fold_in(key, DIRECTION))
    return jax.tree.map(jnp.add, drift(model, table, step, params, factor), noise)


def pulled(model: Any, params: Any, x: Any, y: Any, weights: Any, noise: Any = None) -> Any:
    """``∇_θ [Σ_i w_i ℓ_i − Σ_i ζ_i·f_i]``, like the params."""

    def objective(params: Any) -> Any:
        outputs = model.apply(params, x)
        total = (weights * model.loss_of(outputs, y)).sum()
        return total if noise is None else total - (noise * outputs).sum()

    return jax.grad(objective)(params)


def drift(model: Any, table: Table, step: Step, params: Any, factor: Any) -> Any:
    """∇𝓛, with the part of order 2 if the method has it, without weight decay."""
    return _mean(model, table, params) if step.order == 1 else _of_order_2(model, table, step, params, factor)


def _mean(model: Any, table: Table, params: Any) -> Any:
    """∇𝓛, the gradient of the mean loss over all samples and the noise of their labels."""
    return pulled(model, params, table.x, table.mean_y, 1 / table.samples)


# --- batches


def batch(step: Step, samples: int, key: Any, number: Any) -> Any:
    """Indices of the batch of step ``number`` (B,); None for all samples.

    With ``sampling="shuffle"`` an epoch is ⌊n/B⌋ batches of a permutation that depends on member and epoch alone.
    """
    if step.sampling == "full":
        return None
    size = int(step.batch)
    own = jax.random.fold_in(jax.random.fold_in(key, number), SAMPLES)
    if step.sampling == "replacement":
        return jax.random.randint(own, (size,), 0, samples)
    places = jnp.arange(size)
    if step.sampling == "shuffle":
        epoch, place = jnp.divmod(number, samples // size)
        own, places = jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(EPOCHS)), epoch), place * size + places
    return permuted(own, places, samples)


def permuted(key: Any, places: Any, samples: int) -> Any:
    """Where a random permutation of 0 … n − 1 maps these places; the permutation itself is never stored.

    In each of ROUNDS rounds a place x and its partner ``(k − x) mod n``, k drawn for the round, are exchanged or not,
    by a random bit that is the same for both.

    >>> sorted(permuted(jax.random.key(0), jnp.arange(5), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    n = jnp.uint32(samples)

    def exchanged(x: Any, words: Any) -> tuple[Any, None]:
        pivot, salt = words[0] % n, words[1]
        partner = jnp.where(x <= pivot, pivot - x, pivot + n - x)
        return jnp.where(_bit(jnp.maximum(x, partner) ^ salt), partner, x), None

    words = jax.random.bits(key, (ROUNDS, 2), jnp.uint32)
    return lax.scan(exchanged, places.astype(jnp.uint32), words)[0].astype(jnp.int32)


def _bit(word: Any) -> Any:
    """A bit that depends on all bits of a word: two rounds of multiplication and shift."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x7FEB352D)
    word = (word ^ (word >> 15)) * jnp.uint32(0x846CA68B)
    return word >= jnp.uint32(1 << 31)


def _taken(table: Table, index: Any, key: Any) -> tuple[Any, Any]:
    """Inputs and labels of these samples (None: all), with fresh label noise, or classes drawn anew."""
    key = jax.random.fold_in(key, LABELS)
    x, y, mean = (part if index is None else part[index] for part in (table.x, table.y, table.mean_y))
    if table.label_noise is not None:
        return x, y + table.label_noise * jax.random.normal(key, y.shape, y.dtype)
    return x, (mean if table.labels is None or not table.labels.random else classes(key, mean))


def classes(key: Any, probabilities: Any) -> Any:
    """A class drawn from each row of probabilities (n, K), as an indicator (n, K); one of probability 0 never is."""
    sums = jnp.cumsum(probabilities, axis=-1)
    level = sums[..., -1:] * (1 - jax.random.uniform(key, (*sums.shape[:-1], 1), sums.dtype))
    drawn = (sums < level).sum(axis=-1)
    return jax.nn.one_hot(drawn, sums.shape[-1], dtype=sums.dtype)


# --- Langevin


def _noise(table: Table, step: Step, key: Any) -> tuple[Any, Any]:
    """Weights (n,) and label noise (n, …) or None whose pull-back is √(T/dt) times normal noise of covariance C."""
    scale = root(step.temperature / step.dt / table.samples)
    xi = jax.random.normal(jax.random.fold_in(key, WEIGHTS), (table.samples,), step.dtype)
    if not fresh(table):
        return spread(table, scale, xi)
    key = jax.random.fold_in(key, LABELS)
    return spread(table, scale, xi, jax.random.normal(key, table.mean_y.shape, table.mean_y.dtype))


def fresh(table: Table) -> bool:
    """Whether labels are random anew at every use."""
    return table.label_noise is not None or (table.labels is not None and table.labels.random)


def spread(table: Table, scale: Any, xi: Any, z: Any = None) -> tuple[Any, Any]:
    """Weights (n,) and label noise (n, …), linear in normals ξ (n,) of the samples and z (n, …) of fresh labels."""
    weights = scale * (xi - xi.mean())
    if z is None:
        return weights, None
    if table.label_noise is not None:
        return weights, scale * table.label_noise * z
    q = table.mean_y
    roots = jnp.sqrt(q)  # (diag √q − q √qᵀ) z has the covariance diag q − q qᵀ of a class drawn from q
    return weights, scale * (roots * z - q * (roots * z).sum(axis=-1, keepdims=True))


def root(number: Any) -> Any:
    """√ of a number, which may be traced; 0 below 0, with the slope 0."""
    if not isinstance(number, jax.core.Tracer):
        return math.sqrt(max(number, 0.0))
    inside = number > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, number, 1)), 0)


def _of_few(model: Any, table: Table, step: Step, params: Any, key: Any) -> Any:
    """Drift and noise from M fresh samples, with ``w = 1/M + a(ξ − ξ̄)``, ``(M − 1)a² = T/dt − 1/M``.

    The mean over the samples has the covariance C/M, the second part adds ``(M − 1)a² C``.
    """
    count = step.method.samples  # type: ignore[attr-defined]
    a = root((step.temperature / step.dt - 1 / count) / (count - 1))
    index = jax.random.randint(jax.random.fold_in(key, SAMPLES), (count,), 0, table.samples)
    x, y = _taken(table, index, key)
    xi = jax.random.normal(jax.random.fold_in(key, WEIGHTS), (count,), step.dtype)
    return pulled(model, params, x, y, 1 / count + a * (xi - xi.mean()))


def _of_order_2(model: Any, table: Table, step: Step, params: Any, factor: Any) -> Any:
    """``∇𝓛 + (η/2)(∇²𝓛 + γ)(∇𝓛 + γθ)``: the drift of order 2, from which the update still takes its γθ."""
    slope, curved = jax.linearize(lambda params: _mean(model, table, params), params)
    ahead = jax.tree.map(lambda g, w: g + step.decay * w, slope, params)
    half = 0.5 * step.lr * factor
    return jax.tree.map(lambda g, h, a: g + half * (h + step.decay * a), slope, curved(ahead), ahead)


def turned(noise: Any, key: Any) -> Any:
    """A uniform direction with the norm of this noise: isotropic, and of the same covariance trace.

    For noise of covariance C over d weights it is ``(Tr C/d) I``, exactly, without C or its trace being computed.
    """
    leaves, tree = jax.tree.flatten(noise)
    normals = [
        jax.random.normal(jax.random.fold_in(key, place), leaf.shape, leaf.dtype) for place, leaf in enumerate(leaves)
    ]
    squares = (sum((leaf**2).sum() for leaf in arrays) for arrays in (leaves, normals))
    ratio = jnp.sqrt(next(squares) / next(squares))
    return jax.tree.unflatten(tree, [ratio * normal for normal in normals])
