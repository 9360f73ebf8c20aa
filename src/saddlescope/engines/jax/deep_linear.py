"""Deep linear networks in JAX, trajectories last: the twin of what ``networks/deep_linear.py`` does at every step.

Layers W_l are (n_l, n_{l−1}, n) in the teacher's basis. Noise is computed from ``E = ΔR`` (dy, r, n), in which
``N = EEᵀ + σ²I`` and ``ΔΣ = ERᵀ``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from saddlescope.engines.jax.form import Form, Numbers

UNROLLED = 32
"""Products of at most this many multiplications an entry are written out on a processor, row by row."""


def product(a: Any, b: Any) -> Any:
    """``A B`` of every trajectory."""
    return _by_rows(a, b, 0) if _written_out(len(b)) else jnp.einsum("ijn,jkn->ikn", a, b)


def transposed_product(a: Any, b: Any) -> Any:
    """``Aᵀ B`` of every trajectory."""
    return _by_rows(a.swapaxes(0, 1), b, 0) if _written_out(len(b)) else jnp.einsum("jin,jkn->ikn", a, b)


def product_transposed(a: Any, b: Any) -> Any:
    """``A Bᵀ`` of every trajectory."""
    return _by_rows(a, b, 1) if _written_out(b.shape[1]) else jnp.einsum("ijn,kjn->ikn", a, b)


def _written_out(inner: int) -> bool:
    return inner <= UNROLLED and jax.default_backend() == "cpu"


def _by_rows(a: Any, b: Any, axis: int) -> Any:
    """``Σ_j A_ij B_j`` in a loop over the rows i of A; j is this axis of B.

    Each row is one loop over the trajectories, and the loop keeps XLA from computing it again wherever it is used.
    """

    def row(_: None, factors: Any) -> tuple[None, Any]:
        return None, sum(factors[j] * lax.index_in_dim(b, j, axis, keepdims=False) for j in range(b.shape[axis]))

    return lax.scan(row, None, a, unroll=2)[1]  # row by row it would not be vectorised


def look(weights: Any) -> tuple[Any, Callable[[Any], Any]]:
    """``P = W_L … W_1`` (dy, dx, n), and the function from Ḡ to ``W_{>l}ᵀ Ḡ W_{<l}ᵀ`` of every layer."""
    below = [weights[0]]
    for layer in weights[1:]:
        below.append(product(layer, below[-1]))

    def pull_back(gradient: Any) -> Any:
        slopes = []
        for layer, seen in zip(reversed(weights[1:]), reversed(below[:-1]), strict=True):
            slopes.append(product_transposed(gradient, seen))
            gradient = transposed_product(layer, gradient)
        return (gradient, *reversed(slopes))

    return below[-1], pull_back


def end_to_end(weights: Any) -> Any:
    """P (dy, dx, n)."""
    return look(weights)[0]


def surroundings(weights: Any) -> tuple[list[Any], list[Any]]:
    """``W_{>l}`` (dy, n_l, n) and ``W_{<l}`` (n_{l−1}, dx, n) of every layer."""
    first, last = weights[0], weights[-1]
    aboves, belows = [_identity(last.shape[0], last)], [_identity(first.shape[1], first)]
    for layer in reversed(weights[1:]):
        aboves.insert(0, product(aboves[0], layer))
    for layer in weights[:-1]:
        belows.append(product(layer, belows[-1]))
    return aboves, belows


def gradient_trace(form: Form, numbers: Numbers, weights: Any, error: Any) -> Any:
    """Trace of the covariance of one sample's gradient of all weights (n,)."""
    total = jnp.zeros(error.shape[-1], error.dtype)
    for above, below in zip(*surroundings(weights), strict=True):
        seen = jnp.einsum("kjn,jr->krn", below, numbers.root)
        pulled = jnp.einsum("ikn,irn->krn", above, error)
        mean = _square(jnp.einsum("krn,jrn->kjn", pulled, seen))
        labels = numbers.label_noise**2 * _square(above)
        if form.finite:
            second = _second_moment(numbers, above, pulled, seen)
            total = total + numbers.share * (second - mean) + labels * _square(seen)
        else:
            total = total + (_square(pulled) + labels) * _square(seen) + mean
    return jnp.maximum(total, 0)


def mode_noise(form: Form, numbers: Numbers, weights: Any, error: Any) -> Any:
    """``Var[u_αᵀ(Σ_l W_{>l}W_{>l}ᵀ G W_{<l}ᵀW_{<l})v_α]`` of one sample's G (m, n): mode noise at temperature 1.

    From ``a_l = Eᵀp_l`` and ``b_l = Rᵀq_l``, ``p_l = W_{>l}W_{>l}ᵀu_α`` and ``q_l = W_{<l}ᵀW_{<l}v_α``.
    """
    aboves, belows = surroundings(weights)
    m = form.modes
    p = jnp.stack([jnp.einsum("ikn,akn->ian", above, above[:m]) for above in aboves])
    q = jnp.stack([jnp.einsum("kjn,kan->jan", below, below[:, :m]) for below in belows])
    a, b = jnp.einsum("irn,lian->lran", error, p), jnp.einsum("jr,ljan->lran", numbers.root, q)
    labels = numbers.label_noise**2 * (_over(p, p) * _over(b, b)).sum(axis=(0, 1))
    if not form.finite:
        cross = _over(a, b)
        return labels + (_over(a, a) * _over(b, b) + cross * cross.swapaxes(0, 1)).sum(axis=(0, 1))
    mean = (a * b).sum(axis=(0, 1))

    def add(total: Any, sample: Any) -> tuple[Any, None]:
        inputs, residuals = sample
        pulled = jnp.einsum("lran,r->lan", a, inputs) - jnp.einsum("lian,i->lan", p, residuals)
        gradient = (pulled * jnp.einsum("lran,r->lan", b, inputs)).sum(axis=0)
        return total + (gradient - mean) ** 2, None

    total, _ = lax.scan(add, jnp.zeros_like(mean), (numbers.inputs.T, numbers.residuals.T))
    return numbers.share * total / numbers.inputs.shape[1] + labels


def _second_moment(numbers: Numbers, above: Any, pulled: Any, seen: Any) -> Any:
    """``mean_i ‖W_{>l}ᵀ(Δx_i − r_i)‖² ‖W_{<l}x_i‖²`` (n,)."""

    def add(total: Any, sample: Any) -> tuple[Any, None]:
        inputs, residuals = sample
        errors = jnp.einsum("krn,r->kn", pulled, inputs) - jnp.einsum("ikn,i->kn", above, residuals)
        return total + (errors**2).sum(axis=0) * (jnp.einsum("krn,r->kn", seen, inputs) ** 2).sum(axis=0), None

    start = jnp.zeros(pulled.shape[-1], pulled.dtype)
    total, _ = lax.scan(add, start, (numbers.inputs.T, numbers.residuals.T))
    return total / numbers.inputs.shape[1]


def _over(x: Any, y: Any) -> Any:
    """``x_l · y_k`` of every pair of layers (L, L, m, n)."""
    return jnp.einsum("lian,kian->lkan", x, y)


def _square(matrices: Any) -> Any:
    """``‖·‖_F²`` (n,)."""
    return (matrices**2).sum(axis=(0, 1))


def _identity(size: int, like: Any) -> Any:
    return jnp.broadcast_to(jnp.eye(size, dtype=like.dtype)[..., None], (size, size, like.shape[-1]))
