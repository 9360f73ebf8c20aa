"""Diagonal networks ``v = Σ_j Π_l u_lj``: the gradient of their layers, and what is measured on them alone.

``weights`` are the layers u_l, first to last, each (n, width, 1) for n trajectories, which lead every result. With
``o_lj = Π_{k≠l} u_kj`` the gradient of a layer is ``∂u_l = Ḡ o_l``, and every sample's G = (vx − y)x has variance

    g(v) = α₁v² − 2α₂v + α₃ = α₁(v − center)² + floor.

Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope.data import Data, GaussianData
from saddlescope.data.base import noise_vertex

Array = NDArray[Any]
Floats = NDArray[np.float64]
Weights = Sequence[Array]


@dataclass(frozen=True)
class GradientNoise:
    """``g(s) = alpha (s − center)² + floor``, the variance of one sample's gradient at strength s.

    >>> GradientNoise(2.0, 1.0, 0.25)(np.array([0.0, 1.0]))
    array([2.25, 0.25])
    """

    alpha: float
    center: float
    floor: float

    @classmethod
    def of(cls, data: Data, share: float = 1.0) -> GradientNoise:
        """That of data with one input and one label; ``share`` of the sampling noise and all fresh label noise.

        >>> GradientNoise.of(GaussianData([[1.0]], label_noise=0.5))
        GradientNoise(alpha=2.0, center=1.0, floor=0.25)
        """
        label = data.label_noise**2 * float(data.sigma[0, 0])
        alpha, *_ = moments = data.mode_moments(0)
        if isinstance(data, GaussianData):
            return cls(alpha, float(data.modes.strengths[0]), label)
        center, floor = noise_vertex(moments)
        return cls(share * alpha, center, share * max(floor - label, 0.0) + label)

    def __call__(self, strength: Array) -> Array:
        """g; shape of ``strength``."""
        return self.alpha * (strength - self.center) ** 2 + self.floor


# --- the network


def end_to_end(weights: Weights) -> Array:
    """``v = Σ_j Π_l u_lj`` (n, 1, 1).

    >>> end_to_end([np.array([[[2.0], [1.0]]]), np.array([[[3.0], [1.0]]])])
    array([[[7.]]])
    """
    product = weights[0]
    for layer in weights[1:]:
        product = layer * product
    return np.asarray(product.sum(axis=1, keepdims=True))


def others(weights: Weights) -> list[Array]:
    """``o_l = Π_{k≠l} u_k`` (n, width, 1) of every layer.

    >>> [o.ravel().tolist() for o in others([np.array([[[2.0], [1.0]]]), np.array([[[3.0], [0.5]]])])]
    [[3.0, 0.5], [2.0, 1.0]]
    """
    below, above = [np.ones_like(weights[0])], [np.ones_like(weights[0])]
    for layer in weights[:-1]:
        below.append(layer * below[-1])
    for layer in reversed(weights[1:]):
        above.insert(0, above[0] * layer)
    return [a * b for a, b in zip(above, below, strict=True)]


def pull_back(weights: Weights, gradient: Array) -> tuple[Array, ...]:
    """``Ḡ o_l`` of every layer, from Ḡ (n, 1, 1)."""
    return tuple(gradient * o for o in others(weights))


# --- observables


def imbalance(weights: Weights) -> Floats:
    """Norm over the chains of ``u_{l+1}² − u_l²`` (n, L−1): what gradient flow conserves is each of these differences.

    >>> imbalance([np.array([[[2.0], [1.0]]]), np.array([[[1.0], [3.0]]])]) ** 2
    array([[73.]])
    """
    return _columns(weights, [np.linalg.norm(q, axis=(1, 2)) for q in _balance(weights)])


def imbalance_trace(weights: Weights) -> Floats:
    """``‖u_{l+1}‖² − ‖u_l‖²``, with its sign (n, L−1).

    >>> imbalance_trace([np.array([[[2.0], [1.0]]]), np.array([[[1.0], [3.0]]])])
    array([[5.]])
    """
    return _columns(weights, [q.sum(axis=(1, 2)) for q in _balance(weights)])


def mode_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Variance rate of v under minibatch noise at T, ``T g(v) (Σ_l ‖o_l‖²)²`` (n, 1).

    >>> mode_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])  # T (2(v − s*)² + σ²)
    array([[0.3]])
    """
    return layer_noise(data, temperature, weights, share).sum(axis=1) * sum(map(_square, others(weights)))


def layer_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Variance rate of every layer along its gradient, ``T g(v) ‖o_l‖²`` (n, L, 1).

    >>> layer_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])
    array([[[0.3]]])
    """
    sign = data.modes.left[0, 0] * data.modes.right[0, 0]
    rate = temperature * GradientNoise.of(data, share)(sign * end_to_end(weights)[:, 0])
    return np.stack([rate * _square(o) for o in others(weights)], axis=1)


def _balance(weights: Weights) -> list[Array]:
    return [upper**2 - lower**2 for lower, upper in itertools.pairwise(weights)]


def _square(layer: Array) -> Array:
    return np.asarray((layer**2).sum(axis=1))


def _columns(weights: Weights, values: list[Array]) -> Floats:
    return np.stack(values, axis=1) if values else np.empty((len(weights[0]), 0))
