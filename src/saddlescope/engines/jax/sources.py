"""Sources of the gradient of the map in JAX, trajectories last: the twins of those of the reference engine.

``E = ΔR`` (dy, r, n), K of the same shape, ``Ḡ = K Rᵀ`` (dy, dx, n); a batch of a data set is in ``samples.py``.
Source: Corlouer et al. 2026, arXiv 2604.06366; batches after Bartlett 1933, Proc. R. Soc. Edinb. 53.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from saddlescope.engines.jax import samples, streams
from saddlescope.engines.jax.deep_linear import product
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.streams import Draws


def gradient(form: Form, numbers: Numbers, error: Any, step: Any, order: Any, draws: Draws) -> tuple[Any, Any]:
    """Ḡ (dy, dx, n) of a step from E, and the order (samples, n) of the samples afterwards."""
    if form.batch and form.finite:
        k, order = samples.batch(form, numbers, error, step, samples.order_at(form, step, order, draws), draws)
        return _coloured(form, numbers, k), order
    return SOURCES[form.source](form, numbers, error, draws), order


def _mean(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    return _coloured(form, numbers, error)


def _sampled(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """The gradient on all samples, or on a batch of fresh ones."""
    batch = samples.whole if form.finite else _batch
    return _coloured(form, numbers, batch(form, numbers, error, draws))


def _noisy(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    return _coloured(form, numbers, error + _noise(form, numbers, error, draws))


def _aligned(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    return _coloured(form, numbers, error) + noise(form, numbers, error, draws)


SOURCES: dict[str, Callable[[Form, Numbers, Any, Draws], Any]] = {
    "gd": _mean,
    "sgd": _sampled,
    "gradient": _noisy,
    "aligned": _aligned,
    "isotropic": _mean,
}
"""Ḡ of every discrete method."""


def _coloured(form: Form, numbers: Numbers, k: Any) -> Any:
    """``K Rᵀ``."""
    return k if form.white else jnp.einsum("irn,jr->ijn", k, numbers.root)


def _batch(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """K of an exact batch: ``(E C − σZ) Cᵀ / B``, C of B samples, or for B ≥ r the triangle of Bartlett."""
    rank, size = error.shape[1], form.batch
    factor = draws.normals(rank * size).reshape(rank, size, -1) if size < rank else _triangle(rank, size, draws)
    mixed = product(error, factor)
    if form.labels:
        mixed = mixed - numbers.label_noise * draws.normals(mixed[..., 0].size).reshape(mixed.shape)
    return jnp.einsum("icn,rcn->irn", mixed, factor) / size


def _triangle(rank: int, size: int, draws: Draws) -> Any:
    """C lower triangular (r, r, n): normals below the diagonal, chi of B − i degrees of freedom on it."""
    below = draws.normals(rank * (rank - 1) // 2)
    drawn = draws.each(streams.chi, size - np.arange(rank - (size == rank)))
    if size == rank:
        drawn = jnp.concatenate([drawn, draws.take(streams.half_normal)[None]])
    factor = jnp.zeros((rank, rank, drawn.shape[-1]), drawn.dtype)
    return factor.at[np.tril_indices(rank, -1)].set(below).at[np.diag_indices(rank)].set(drawn)


def noise(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """Diffusive noise of Ḡ (dy, dx, n), linear in its normals; of aligned noise what falls on the modes alone."""
    found = _coloured(form, numbers, _noise(form, numbers, error, draws))
    return found * np.eye(*found.shape[:2], dtype=found.dtype)[..., None] if form.source == "aligned" else found


def _noise(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """Diffusive noise of K (dy, r, n): √(T/dt) times that of one sample."""
    if form.noise_from == "scalar":
        deviation = jnp.sqrt(numbers.gradient_noise(error / numbers.root[..., None]))
        one = deviation / numbers.root[..., None] * draws.normals(1)
    else:
        one = (samples.noise if form.finite else _gaussian)(form, numbers, error, draws)
        if form.labels:
            one = one - numbers.label_noise * draws.normals(error[..., 0].size).reshape(error.shape)
    return numbers.scale * one


def _gaussian(form: Form, numbers: Numbers, error: Any, draws: Draws) -> Any:
    """``E H``, H symmetric with variance 1 off and 2 on the diagonal."""
    rank = error.shape[1]
    weight = np.where(np.eye(rank, dtype=bool), np.sqrt(2.0), 1.0).astype(error.dtype)
    return product(error, weight[..., None] * samples.symmetric(rank, draws.normals(rank * (rank + 1) // 2)))
