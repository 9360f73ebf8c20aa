"""Small networks by hand: the per-sample gradients of a pair (u, w) of weight matrices, loss ½‖output − y‖².

Each takes u, w, inputs x and labels y with the samples in front, and returns (samples, …) gradients of u and of w.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from saddlescope.claims.tools import Floats

Pair = Callable[[Floats, Floats, Floats, Floats], tuple[Floats, Floats]]


def units(activation: Callable[[Floats], Floats], slope: Callable[[Floats], Floats]) -> Pair:
    """Two layers, ``u φ(w x)``: x (samples, dx), y (samples, dy), w (h, dx), u (dy, h).

    >>> g_u, g_w = linear(np.ones((1, 1)), np.ones((1, 1)), np.array([[2.0]]), np.array([[1.0]]))
    >>> g_u.item(), g_w.item()
    (2.0, 2.0)
    """

    def gradients(u: Floats, w: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        before = x @ w.T
        hidden = activation(before)
        error = hidden @ u.T - y
        back = error @ u * slope(before)
        return error[:, :, None] * hidden[:, None, :], back[:, :, None] * x[:, None, :]

    return gradients


linear = units(lambda z: z, np.ones_like)
relu = units(lambda z: np.maximum(z, 0.0), lambda z: (z > 0).astype(float))
tanh = units(np.tanh, lambda z: 1 / np.cosh(z) ** 2)


def attention(query_bias: float = 0.0) -> Pair:
    """One head, ``softmax((x u + b)(x w)ᵀ/√h) x``: u queries, w keys (d, h); x, y (samples, tokens, d).

    Scores see u wᵀ alone, unless the queries have a bias b of their own.
    """

    def gradients(u: Floats, w: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        queries, keys = x @ u + query_bias, x @ w
        scores = queries @ keys.transpose(0, 2, 1) / u.shape[1] ** 0.5
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        share /= share.sum(axis=-1, keepdims=True)
        back = (share @ x - y) @ x.transpose(0, 2, 1)
        back = share * (back - (back * share).sum(axis=-1, keepdims=True)) / u.shape[1] ** 0.5
        return x.transpose(0, 2, 1) @ back @ keys, x.transpose(0, 2, 1) @ back.transpose(0, 2, 1) @ queries

    return gradients
