"""Diagonal networks ``x → Σ_j Π_l u_lj x``: their shape, and all that is special to them.

The layers u_l are (n, width, 1) for n trajectories. With ``v = Σ_j Π_l u_lj`` and ``o_lj = Π_{k≠l} u_kj`` the gradient
of a layer is ``∂u_l = Ḡ o_l``, and every sample's G = (vx − y)x has variance

    g(v) = α₁v² − 2α₂v + α₃ = α₁(v − center)² + floor.

Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from saddlescope._arrays import Array, Floats, Layers, Weights
from saddlescope._parts import Count, frozen
from saddlescope.data import Data
from saddlescope.kernel.streams import Streams
from saddlescope.networks.base import Width

# --- the map, and its gradient pulled back through the layers


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


def pull_back(weights: Weights, gradient: Array) -> Layers:
    """``Ḡ o_l`` of every layer, from Ḡ (n, 1, 1)."""
    return tuple(gradient * o for o in others(weights))


# --- what gradient flow conserves


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


def log_det(weights: Weights) -> Floats:
    """NaN (n, L−1): the determinant is that of dense layers."""
    return np.full((len(weights[0]), len(weights) - 1), np.nan)


# --- gradient noise


def mode_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Variance rate of v under minibatch noise at T, ``T g(v) (Σ_l ‖o_l‖²)²`` (n, 1).

    >>> from saddlescope import GaussianData
    >>> mode_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])  # T (2(v − s*)² + σ²)
    array([[0.3]])
    """
    return noises(data, temperature, weights, share)[0]


def layer_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Variance rate of every layer along its gradient, ``T g(v) ‖o_l‖²`` (n, L, 1).

    >>> from saddlescope import GaussianData
    >>> layer_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])
    array([[[0.3]]])
    """
    sign = data.modes.left[0, 0] * data.modes.right[0, 0]
    rate = temperature * data.gradient_noise(share)(sign * end_to_end(weights)[:, 0])
    return np.stack([rate * _square(o) for o in others(weights)], axis=1)


def noises(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> tuple[Floats, Floats]:
    """``mode_noise`` and ``layer_noise``, the first from the second."""
    each = layer_noise(data, temperature, weights, share)
    return each.sum(axis=1) * sum(map(_square, others(weights))), each


def gradient_trace(data: Data, weights: Weights, error: Array, root: Array, share: float = 1.0) -> Array:
    """Trace of the covariance of one sample's gradient, ``g(v) Σ_l ‖o_l‖²`` (n, 1, 1), from ``E = ΔR``."""
    noise = data.gradient_noise(share).about(float(data.modes.strengths[0]))
    return np.asarray(noise(error / root) * sum(_square(o)[:, :, None] for o in others(weights)))


# --- initial weights


def balanced(network: Diagonal, scale: float, aligned: bool, data: Data, source: Streams, count: int) -> Layers:
    """Every weight ``scale``, the last layer with the sign of the teacher."""
    layers = [np.full((count, network.width, 1), scale) for _ in range(network.depth)]
    return (*layers[:-1], layers[-1] * data.modes.left[0, 0] * data.modes.right[0, 0])


def _balance(weights: Weights) -> list[Array]:
    return [upper**2 - lower**2 for lower, upper in itertools.pairwise(weights)]


def _square(layer: Array) -> Array:
    return np.asarray((layer**2).sum(axis=1))


def _columns(weights: Weights, values: list[Array]) -> Floats:
    return np.stack(values, axis=1) if values else np.empty((len(weights[0]), 0))


# --- the network


@frozen
class Diagonal:
    """Diagonal linear network ``x -> Σ_j Π_l u_lj x``, one input and one output: ``width`` chains of ``depth`` weights.

    A deep linear network whose hidden layers stay diagonal. Each layer u_l is an array (width, 1).
    ``depth`` is L, the number of factors of a chain. Raises ValueError for a depth or a width below 1.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671 (their depth is D = L − 1).

    >>> Diagonal(depth=3, width=2).shapes
    ((2, 1), (2, 1), (2, 1))
    """

    depth: Annotated[Count, Field(ge=1, le=2**16)] = Field(description="the number of layers L, such as 2")
    width: Width = Field(default=1, description="the number of chains, such as 1")

    @property
    def dim_in(self) -> int:
        """Input dimension, 1."""
        return 1

    @property
    def dim_out(self) -> int:
        """Output dimension, 1."""
        return 1

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths between input and output."""
        return (self.width,) * (self.depth - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from input to output."""
        return (1, *self.hidden, 1)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer, first to last."""
        return ((self.width, 1),) * self.depth

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Diagonal matrices of the weights of all chains."""
        return ((self.width, self.width),) * self.depth

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.depth * self.width

    @property
    def speed(self) -> float:
        """How many times as fast d equal balanced chains move as a single one of the same strength: ``d^{2/L−1}``.

        >>> Diagonal(depth=2, width=8).speed, Diagonal(depth=4, width=9).speed
        (1.0, 0.3333333333333333)
        """
        return float(self.width ** (2 / self.depth - 1))

    citation = "ziyin2023"
    kernel = "diagonal"
    scalar = True
    directions = False
    mode_sde = True

    @property
    def chains(self) -> int:
        """Its width."""
        return self.width

    def check(self, data: Data) -> None:
        """Raise ValueError for data of more than one input or output."""
        if (data.dim_in, data.dim_out) != (1, 1):
            raise ValueError(
                f"data must have one input and one output for a Diagonal network, got {data.dim_in} and "
                f"{data.dim_out}; use a DeepLinear network"
            )

    def layer_dims(self, layer: int) -> tuple[str, str]:
        """A weight for each chain."""
        return "chain", "input"

    def kernel_arguments(self, data: Data, share: float) -> dict[str, Any]:
        """The variance of one sample's gradient, as a function of Δ."""
        noise = data.gradient_noise(share).about(float(data.modes.strengths[0]))
        return {"gradient_noise": (noise.alpha, -noise.center, noise.floor)}

    end_to_end = staticmethod(end_to_end)
    pull_back = staticmethod(pull_back)
    gradient_trace = staticmethod(gradient_trace)
    imbalance = staticmethod(imbalance)
    imbalance_trace = staticmethod(imbalance_trace)
    log_det = staticmethod(log_det)
    noises = staticmethod(noises)
    balanced = balanced
