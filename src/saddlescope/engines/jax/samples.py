"""Batches and noise of a data set in JAX, trajectories last: the twin of ``engines/finite.py``.

In the teacher's basis a sample is ``x_i = R c_i``, its residual r_i; with ``E = ΔR`` (dy, r, n)

    batch      K = (E C − R_b − δΞ) Cᵀ / B        C (r, B, n) and R_b (dy, B, n) its samples, Ξ fresh normals
    full       K = E − (δ/√n) Z
    Langevin   K = E + √(T/dt) (E H − Y − δZ)     (H, Y) Gaussian with the covariance of (ccᵀ, r cᵀ) over the samples
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from saddlescope.engines.finite import PANEL
from saddlescope.engines.jax import streams
from saddlescope.engines.jax.deep_linear import product
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.streams import Draws, Words


def order_at(form: Form, step: Any, order: Any, draws: Draws) -> Any:
    """The order (samples, n) from which the batch of this step is taken: a fresh permutation at every epoch."""
    if form.sampling != "shuffle":
        return order
    count = len(order)

    def shuffled(carry: Any) -> Any:
        return lax.fori_loop(0, count - 1, lambda k, carry: swap(carry[0], carry[1], k), carry)

    first = step % (count // form.batch) == 0
    draws.words, order = lax.cond(first, shuffled, lambda carry: carry, (draws.words, order))
    return order


def swap(words: Words, order: Any, k: Any) -> tuple[Words, Any]:
    """Swap a random later sample into position k of every trajectory's order (Fisher–Yates shuffle)."""
    words, other = streams.below(words, len(order) - k)
    lanes, other = np.arange(order.shape[1]), k + other
    here, there = order[k], order[other, lanes]
    return words, order.at[other, lanes].set(here).at[k].set(there)


def batch(form: Form, numbers: Numbers, error: Any, step: Any, order: Any, draws: Draws) -> tuple[Any, Any]:
    """K of a batch of samples, and the order afterwards; samples are drawn in panels, then their label noise."""
    place = step % (len(order) // form.batch) * form.batch if form.sampling == "shuffle" else 0

    def panel(carry: Any, first: Any, count: int) -> Any:
        words, order, total = carry
        part = Draws(words)
        order, indices = _indices(form, numbers, first, count, order, part)
        inputs, residuals = numbers.inputs[:, indices], numbers.residuals[:, indices]
        if form.labels:
            noise = part.normals(count * len(residuals)).reshape(count, len(residuals), -1)
            residuals = residuals + numbers.label_noise * noise.swapaxes(0, 1)
        pulled = product(error, inputs) - residuals
        return part.words, order, total + jnp.einsum("icn,rcn->irn", pulled, inputs)

    carry = draws.words, order, jnp.zeros_like(error)
    whole, rest = divmod(form.batch, PANEL)
    if whole:
        carry = lax.fori_loop(0, whole, lambda k, carry: panel(carry, place + PANEL * k, PANEL), carry)
    if rest:
        carry = panel(carry, place + PANEL * whole, rest)
    draws.words, order, total = carry
    return total / form.batch, order


def _indices(form: Form, numbers: Numbers, first: Any, count: int, order: Any, draws: Draws) -> tuple[Any, Any]:
    """The order afterwards and the next samples of every trajectory (count, n), from this place of the order on."""
    samples = numbers.inputs.shape[1]

    def pick(carry: tuple[Words, Any], place: Any) -> tuple[tuple[Words, Any], Any]:
        words, order = carry
        if form.sampling == "replacement":
            words, index = streams.below(words, samples)
            return (words, order), index
        if form.sampling == "without":
            words, order = swap(words, order, place)
        return (words, order), order[place]

    (draws.words, order), indices = lax.scan(pick, (draws.words, order), first + jnp.arange(count))
    return order, indices


def whole(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """K of all samples."""
    if not form.labels:
        return error
    scale = numbers.label_noise / np.sqrt(numbers.inputs.shape[1]).astype(error.dtype)
    return error - scale * draws.normals(error[..., 0].size).reshape(error.shape)


def noise(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """Noise of one sample's K without that of fresh labels (dy, r, n): ``E H − Y``."""
    return (_by_factor if form.factored else _by_sample)(numbers, error, draws)


def _by_factor(numbers: Numbers, error: Any, draws: Draws) -> Any:
    """(H, Y) by the factor F of their covariance; without Y where F has no rows for it."""
    rank = error.shape[1]
    moments = jnp.einsum("qk,kn->qn", numbers.factor, draws.normals(numbers.factor.shape[1]))
    triangle = rank * (rank + 1) // 2
    noise = product(error, symmetric(rank, moments[:triangle]))
    return noise if len(moments) == triangle else noise - moments[triangle:].reshape(error.shape)


def _by_sample(numbers: Numbers, error: Any, draws: Draws) -> Any:
    """``Σ_i ζ_i (z_i − z̄)/√n`` through each sample's gradient."""
    count = numbers.inputs.shape[1]
    weights = draws.normals(count) / np.sqrt(count).astype(error.dtype)
    pulled = jnp.einsum("irn,rs->isn", error, numbers.inputs) - numbers.residuals[..., None]
    return jnp.einsum("isn,rs->irn", pulled * weights, numbers.inputs) - error * weights.sum(axis=0)


def symmetric(size: int, triangle: Any) -> Any:
    """The symmetric matrices (size, size, n) of which these are the lower triangles, row by row."""
    rows, columns = np.tril_indices(size)
    place = np.zeros((size, size), int)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return triangle[place]
