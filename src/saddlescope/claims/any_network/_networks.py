"""Networks and data of claims beyond linear networks: layers with an activation, a convnet, a transformer.

``f(x) = W_L φ(W_{L−1} … φ(W_1 x))`` without biases. Data are made here, so that a claim needs no other package: inputs
with labels of a teacher of rank 2, images of digits, and sums modulo a number.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from saddlescope import _jax
from saddlescope._arrays import Array, Floats
from saddlescope.networks.model import Model

STRENGTHS = (2.0, 1.0)
"""Singular values of the teacher."""

SIDE = 8
"""Pixels of an image along each axis."""

GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
"""The digits, seven rows of five pixels each."""


def activation(name: str) -> Any:
    """φ of "relu", "tanh" or "linear"."""
    jax = _jax.load()
    return {"relu": jax.nn.relu, "tanh": jax.numpy.tanh, "linear": jax.numpy.asarray}[name]


def layers(widths: Sequence[int], kind: str = "relu", scale: float = 1.0, loss: Any = "squared") -> Model:
    """Layers ``w1``, …, ``wL`` of these widths; entries of W_l are N(0, scale²/n_{l−1}).

    ``kind`` is that of the activation; the features are the last hidden layer.

    >>> layers((4, 16, 2)).leaves
    (Leaf(name='w1', shape=(16, 4)), Leaf(name='w2', shape=(2, 16)))
    """
    phi = activation(kind)
    shapes = {f"w{l}": (n_out, n_in) for l, (n_in, n_out) in enumerate(itertools.pairwise(widths), start=1)}
    last = f"w{len(shapes)}"

    def hidden(params: Any, x: Any) -> Any:
        for name in list(shapes)[:-1]:
            x = phi(x @ params[name].T)
        return x

    def apply(params: Any, x: Any) -> Any:
        return hidden(params, x) @ params[last].T

    return Model(apply, gaussian(shapes, scale), loss, features=hidden, name=f"{kind} {'-'.join(map(str, widths))}")


def convnet(
    channels: tuple[int, int] = (8, 16), width: int = 48, classes: int = 10, loss: Any = "cross_entropy"
) -> Model:
    """Two 3 × 3 convolutions, the second with stride 2, a hidden layer, logits; features: the hidden layer.

    Images are (B, 8, 8); every layer but the last has a ReLU. Entries are N(0, 2/fan-in).

    >>> [leaf.shape for leaf in convnet((4, 8), 32).leaves]
    [(3, 3, 1, 4), (3, 3, 4, 8), (32, 128), (10, 32)]
    """
    jax = _jax.load()
    first, second = channels
    flat = second * (SIDE // 2) ** 2
    shapes = {"c1": (3, 3, 1, first), "c2": (3, 3, first, second), "w3": (width, flat), "w4": (classes, width)}

    def convolved(x: Any, kernel: Any, stride: int) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.nn.relu(jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=numbers))

    def hidden(params: Any, x: Any) -> Any:
        x = convolved(convolved(x[..., None], params["c1"], 1), params["c2"], 2)
        return jax.nn.relu(x.reshape(len(x), -1) @ params["w3"].T)

    def apply(params: Any, x: Any) -> Any:
        return hidden(params, x) @ params["w4"].T

    return Model(apply, gaussian(shapes, math.sqrt(2)), loss, features=hidden, name="convolutional network")


def transformer(modulus: int, width: int = 16, heads: int = 2, hidden: int = 32) -> Model:
    """One layer on two tokens 0 … modulus − 1: embedding and position, attention, ReLU layer, logits of the last token.

    Attention and ReLU layer are added to their inputs; there are no biases and no normalisation. Entries of a leaf are
    N(0, 1/columns).

    >>> [leaf.name for leaf in transformer(7).leaves]
    ['embed', 'k', 'logits', 'o', 'place', 'q', 'v', 'w1', 'w2']
    """
    jax = _jax.load()
    square = dict.fromkeys("qkvo", (width, width))
    ends = {"embed": (modulus, width), "place": (2, width), "logits": (modulus, width)}
    shapes = ends | square | {"w1": (hidden, width), "w2": (width, hidden)}

    def attended(params: Any, h: Any) -> Any:
        q, k, v = ((h @ params[name].T).reshape(*h.shape[:2], heads, -1) for name in "qkv")
        scores = jax.numpy.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(width / heads)
        mixed = jax.numpy.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores, axis=-1), v)
        return mixed.reshape(h.shape) @ params["o"].T

    def apply(params: Any, x: Any) -> Any:
        h = params["embed"][x] + params["place"]
        last = (h + attended(params, h))[:, -1]
        last = last + jax.nn.relu(last @ params["w1"].T) @ params["w2"].T
        return last @ params["logits"].T

    return Model(apply, gaussian(shapes, 1.0), "cross_entropy", name="transformer")


def gaussian(shapes: Mapping[str, tuple[int, ...]], scale: float) -> Any:
    """The function ``init``: entries N(0, scale²/fan-in). One draw for all leaves, which compiles once."""
    jax = _jax.load()
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()]).tolist()
    fans = {name: math.prod(shape[:-1]) if len(shape) > 2 else shape[1] for name, shape in shapes.items()}

    def init(key: Any) -> Any:
        parts = jax.numpy.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
        return {
            name: scale / math.sqrt(fans[name]) * part.reshape(shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    return init


def teacher(samples: int, inputs: int = 10, outputs: int = 3, seed: int = 0) -> tuple[Floats, Floats]:
    """Inputs x ~ N(0, I) (n, dx) and ``Mx`` (n, dy) for a teacher M of rank 2 with singular values 2 and 1.

    >>> x, y = teacher(50)
    >>> x.shape, y.shape, int(np.linalg.matrix_rank(y))
    ((50, 10), (50, 3), 2)
    """
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, 2)))[0] for size in (outputs, inputs))
    x = rng.standard_normal((samples, inputs))
    return x, x @ (left * STRENGTHS @ right.T).T


def digits(samples: int, noise: float = 0.3, seed: int = 0) -> tuple[Floats, Array]:
    """Images of digits (n, 8, 8), each class equally often: a glyph at a random place, of random brightness, and noise.

    Pixels are those of the glyph, 0 or 1, times a factor from 0.5 to 1, plus noise of this standard deviation.

    >>> images, classes = digits(20)
    >>> images.shape, np.bincount(classes).tolist()
    ((20, 8, 8), [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    """
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.arange(samples) % len(GLYPHS))
    images = noise * rng.standard_normal((samples, SIDE, SIDE))
    for image, digit in zip(images, classes, strict=True):
        glyph = np.array([list(row) for row in GLYPHS[digit].split()], float)
        down, right = (rng.integers(SIDE - size + 1) for size in glyph.shape)
        image[down : down + glyph.shape[0], right : right + glyph.shape[1]] += rng.uniform(0.5, 1.0) * glyph
    return images, classes


def addition(modulus: int) -> tuple[Array, Array]:
    """All pairs (a, b) of residues (n, 2) and their sums modulo this number (n,).

    >>> pairs, sums = addition(3)
    >>> pairs[5].tolist(), int(sums[5])
    ([1, 2], 0)
    """
    pairs = np.stack(np.divmod(np.arange(modulus**2), modulus), axis=1)
    return pairs, pairs.sum(axis=1) % modulus


def effective_rank(matrices: ArrayLike) -> Floats:
    """``exp(−Σ q_i log q_i)``, ``q_i = s_i/Σ s``, of the singular values s of each matrix (…, n, m).

    Source: Roy & Vetterli 2007, EUSIPCO.

    >>> round(float(effective_rank(np.eye(3, 5))), 6)
    3.0
    """
    s = np.linalg.svd(np.asarray(matrices, np.float64), compute_uv=False)
    q = s / s.sum(axis=-1, keepdims=True)
    return np.asarray(np.exp(-(q * np.log(np.maximum(q, 1e-300))).sum(axis=-1)))
