"""Where training starts: initial weights, drawn per trajectory from a stream of their own."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field, ValidationInfo

from saddlescope._arrays import Layers
from saddlescope._numbers import as_matrix, shown
from saddlescope._parts import Array, Real, frozen
from saddlescope.data import Data
from saddlescope.data.base import LARGEST
from saddlescope.kernel import streams
from saddlescope.networks import Network


@frozen
class Gaussian:
    """Independent entries ``N(0, scale²)``, or variance ``max(hidden widths)^(−gamma)``: give exactly one.

    Raises ValueError when both or neither are given, and for ``gamma`` on a network without hidden layers.
    Source: Corlouer et al. 2026, arXiv 2604.06366 (their experiments use gamma = 2).

    >>> from saddlescope import DeepLinear
    >>> Gaussian(scale=1e-2).deviation(DeepLinear((4, 10, 4)))
    0.01
    """

    scale: Annotated[Real | None, Field(gt=0, le=LARGEST)] = Field(
        default=None, description="a standard deviation such as 1e-2"
    )
    gamma: Annotated[Real | None, Field(ge=-60, le=60)] = Field(default=None, description="an exponent such as 2")

    def __post_init__(self) -> None:
        if (self.scale is None) == (self.gamma is None):
            raise ValueError(
                f"Gaussian needs exactly one of scale and gamma, got scale={self.scale} and gamma={self.gamma}; "
                "use Gaussian(scale=1e-2) or Gaussian(gamma=2)"
            )

    def deviation(self, network: Network) -> float:
        """Standard deviation of a weight."""
        if self.scale is not None:
            return self.scale
        if not network.hidden or self.gamma is None:
            raise ValueError(
                f"gamma sets the variance from the hidden widths, but widths {network.widths} have none; use scale"
            )
        return float(max(network.hidden) ** (-self.gamma / 2))


@frozen
class Balanced:
    """``W_l = a R_{l+1} R_lᵀ``: every layer has singular values ``scale`` = a, every mode starts at ``s₀ = a^L``.

    Aligned: ``R_1 = V``, ``R_{L+1} = U`` of the teacher. Otherwise both are random and differ by trajectory.
    In a diagonal network every weight is a, the last layer with the sign of the teacher: ``|v| = width · a^L``.
    Source: Corlouer et al. 2026, arXiv 2604.06366, assumption of aligned and balanced weights.

    >>> Balanced(scale=0.1, aligned=False).aligned
    False
    """

    scale: Annotated[Real, Field(gt=0, le=LARGEST)] = Field(
        description="the singular value of every layer, such as 0.1"
    )
    aligned: Annotated[bool, Field(strict=True)] = Field(default=True, description="use true or false")


def _matrices(value: object, info: ValidationInfo) -> tuple[Array, ...]:
    if not isinstance(value, (tuple, list)) or not value:
        raise TypeError(f"weights must be a list of matrices, first layer first, got {shown(value)}")
    return tuple(as_matrix(layer, f"weights[{index}]") for index, layer in enumerate(value))


@frozen
class Given:
    """These weights, first layer first, shared by all trajectories.

    >>> Given([[[0.1, 0.0]], [[0.2]]]).weights[0].shape
    (1, 2)
    """

    weights: Annotated[tuple[Array, ...], BeforeValidator(_matrices)]


Init = Gaussian | Balanced | Given


def check(init: Init, network: Network) -> None:
    """Raise ValueError when these initial weights cannot be those of the network."""
    if isinstance(init, Gaussian):
        init.deviation(network)
    if isinstance(init, Balanced) and not init.aligned and not network.directions:
        raise ValueError(
            f"aligned must be true for a {type(network).__name__} network, which has no directions to draw; "
            "leave it out"
        )
    if isinstance(init, Given):
        got = tuple(layer.shape for layer in init.weights)
        if got != network.shapes:
            raise ValueError(
                f"weights must have the shapes {network.shapes} of {network!r:.80}, got {got}; "
                "layers are (rows out, columns in), first layer first"
            )


def draw(init: Init, network: Network, data: Data, seed: int, members: ArrayLike) -> Layers:
    """Initial layers, each (n, n_l, n_{l−1}), of the trajectories ``members`` of the ensemble ``seed``.

    >>> from saddlescope import DeepLinear, GaussianData
    >>> data = GaussianData([[1.0, 0.0], [0.0, 1.0]])
    >>> draw(Gaussian(scale=0.1), DeepLinear((2, 3, 2)), data, seed=0, members=[0, 1])[0].shape
    (2, 3, 2)
    """
    count = np.size(members)
    if isinstance(init, Given):
        return tuple(np.broadcast_to(layer, (count, *layer.shape)).copy() for layer in init.weights)
    source = streams.Streams(streams.seed_words(seed, members, streams.INIT))
    if isinstance(init, Gaussian):
        deviation = init.deviation(network)
        return tuple(
            deviation * np.asarray(source.normals(rows * columns), np.float64).reshape(count, rows, columns)
            for rows, columns in network.shapes
        )
    return network.balanced(init.scale, init.aligned, data, source, count)
