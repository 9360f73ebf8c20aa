"""Networks that the engine does not train, in NumPy: two layers with an activation, and one attention head.

A pair of weight matrices (u, w) with inputs x and labels y, loss ½‖output − y‖². Leading axes are batched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope._arrays import Array, Floats

Pair = Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]
"""Per-sample gradients (samples, …) of u and of w, from u, w, x and y."""


@dataclass(frozen=True, eq=False)
class Activation:
    """φ and its derivative, element-wise; floats keep their precision."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]


LINEAR = Activation(lambda z: z, np.ones_like)
RELU = Activation(lambda z: np.maximum(z, 0), lambda z: z > 0)
TANH = Activation(np.tanh, lambda z: 1 / np.cosh(z) ** 2)


def forward(activation: Activation, u: Array, w: Array, x: Array) -> tuple[Array, Array, Array]:
    """``z = xwᵀ``, ``φ(z)`` and the output ``φ(z)uᵀ``: x (…, samples, dx), w (…, h, dx), u (…, dy, h)."""
    before = x @ w.swapaxes(-1, -2)
    hidden = activation.value(before)
    return before, hidden, hidden @ u.swapaxes(-1, -2)


def backward(activation: Activation, u: Array, error: Array, before: Array) -> Array:
    """Errors at the hidden units, ``(e u) φ'(z)`` (…, samples, h)."""
    return np.asarray((error @ u) * activation.slope(before))


def two_layers(activation: Activation) -> Pair:
    """Per-sample gradients of ``u φ(w x)``: x (samples, dx), y (samples, dy), w (h, dx), u (dy, h).

    >>> g_u, g_w = linear(np.ones((1, 1)), np.ones((1, 1)), np.array([[2.0]]), np.array([[1.0]]))
    >>> g_u.item(), g_w.item()
    (2.0, 2.0)
    """

    def gradients(u: Floats, w: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        before, hidden, output = forward(activation, u, w, x)
        error = output - y
        back = backward(activation, u, error, before)
        return error[:, :, None] * hidden[:, None, :], back[:, :, None] * x[:, None, :]

    return gradients


linear, relu, tanh = map(two_layers, (LINEAR, RELU, TANH))


def attention(query_bias: float = 0.0) -> Pair:
    """One head, ``softmax((x u + b)(x w)ᵀ/√h) x``: u queries, w keys (d, h); x, y (samples, tokens, d).

    The scores depend on u wᵀ alone, unless the queries have a bias b.
    """

    def gradients(u: Floats, w: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        queries, keys = x @ u + query_bias, x @ w
        scores = queries @ keys.transpose(0, 2, 1) / u.shape[1] ** 0.5
        weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weight /= weight.sum(axis=-1, keepdims=True)
        back = (weight @ x - y) @ x.transpose(0, 2, 1)
        back = weight * (back - (back * weight).sum(axis=-1, keepdims=True)) / u.shape[1] ** 0.5
        return x.transpose(0, 2, 1) @ back @ keys, x.transpose(0, 2, 1) @ back.transpose(0, 2, 1) @ queries

    return gradients
