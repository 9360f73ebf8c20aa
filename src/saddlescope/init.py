"""Initial weights, drawn for each trajectory from a separate random stream."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field, ValidationInfo

from saddlescope import _show
from saddlescope._arrays import Layers
from saddlescope._numbers import as_matrices, shown
from saddlescope._parts import Array, Real, frozen
from saddlescope.data import Data
from saddlescope.data.base import LARGEST
from saddlescope.kernel import streams
from saddlescope.networks import Network

Scale = Annotated[Real, Field(gt=0, le=LARGEST)]


def _scales(value: object) -> object:
    """One number, or a tuple of numbers from any list of them."""
    return tuple(value.tolist()) if isinstance(value, np.ndarray) and value.ndim == 1 else value


@frozen
class Gaussian:
    """Independent entries ``N(0, scale²)``, or variance ``max(hidden widths)^(−gamma)``: give exactly one.

    ``scale`` is one number for all layers, or one for each, first to last.
    Raises ValueError when both or neither are given, for scales of another number of layers, and for ``gamma`` on a
    network without hidden layers.
    Source: Corlouer et al. 2026, arXiv 2604.06366 (their experiments use gamma = 2).

    >>> from saddlescope import DeepLinear
    >>> Gaussian(scale=1e-2).deviations(DeepLinear((4, 10, 4)))
    (0.01, 0.01)
    >>> Gaussian(scale=(0.25, 0.1)).deviations(DeepLinear((4, 10, 4)))
    (0.25, 0.1)
    """

    scale: Annotated[Scale | tuple[Scale, ...] | None, BeforeValidator(_scales)] = Field(
        default=None, description="a standard deviation such as 1e-2, or one for each layer such as (0.25, 0.1)"
    )
    gamma: Annotated[Real | None, Field(ge=-60, le=60)] = Field(default=None, description="an exponent such as 2")

    def __post_init__(self) -> None:
        if (self.scale is None) == (self.gamma is None):
            raise ValueError(
                f"Gaussian needs exactly one of scale and gamma, got scale={self.scale} and gamma={self.gamma}; "
                "use Gaussian(scale=1e-2) or Gaussian(gamma=2)"
            )

    def deviations(self, network: Network) -> tuple[float, ...]:
        """Standard deviation of the weights of every layer."""
        if isinstance(self.scale, tuple):
            if len(self.scale) != network.depth:
                raise ValueError(
                    f"scale must be one number, or one for each of the {network.depth} layers, got "
                    f"{len(self.scale)} numbers; give {network.depth}"
                )
            return self.scale
        if self.scale is not None:
            return (self.scale,) * network.depth
        if not network.hidden or self.gamma is None:
            raise ValueError(
                f"gamma sets the variance from the hidden widths, but widths {network.widths} have none; use scale"
            )
        return (float(max(network.hidden) ** (-self.gamma / 2)),) * network.depth


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
    return tuple(as_matrices(layer, f"weights[{index}]") for index, layer in enumerate(value))


@frozen
class Given:
    """These weights, first layer first: matrices shared by all trajectories, or a stack with a matrix for each.

    Stacks have the members of the ensemble along their first axis, as many as the plan has trajectories.
    Raises ValueError for stacks of different length.

    >>> Given([[[0.1, 0.0]], [[0.2]]]).weights[0].shape
    (1, 2)
    >>> Given([np.ones((5, 1, 2)), np.ones((5, 1, 1))]).members
    5
    """

    weights: Annotated[tuple[Array, ...], BeforeValidator(_matrices)]

    def __post_init__(self) -> None:
        lengths = {layer.shape[0] if layer.ndim == 3 else None for layer in self.weights}
        if len(lengths) > 1:
            got = [layer.shape for layer in self.weights]
            raise ValueError(
                f"weights must all be matrices, or all be stacks of the same length, got the shapes {got}; "
                "give every layer the same first axis"
            )

    def _facts(self) -> _show.Rows:
        layers = [_show.shape(layer.shape[-2:]) for layer in self.weights]
        runs = [(shape, len(list(same))) for shape, same in itertools.groupby(layers)]
        texts = [f"{shape} ({count} times)" if count > 1 else shape for shape, count in runs]
        listed = ", ".join(texts if len(texts) <= 4 else [*texts[:2], "…", texts[-1]])
        members = [] if self.members is None else [("trajectories", f"{self.members:,}")]
        return [("layers", str(len(layers))), ("weights", f"[{listed}]"), *members]

    @property
    def members(self) -> int | None:
        """Number of trajectories with separate weights; None if all share one set."""
        return len(self.weights[0]) if self.weights[0].ndim == 3 else None


Init = Gaussian | Balanced | Given


def check(init: Init, network: Network) -> None:
    """Raise ValueError when these initial weights cannot be those of the network."""
    if isinstance(init, Gaussian):
        init.deviations(network)
    if isinstance(init, Balanced) and not init.aligned and not network.directions:
        raise ValueError(
            f"aligned must be true for a {type(network).__name__} network, which has no directions to draw; "
            "leave it out"
        )
    if isinstance(init, Given):
        got = tuple(layer.shape[-2:] for layer in init.weights)
        if got != network.shapes:
            raise ValueError(
                f"weights must have the shapes {network.shapes} of {network!r:.80}, got {got}; "
                "layers are (rows out, columns in), first layer first"
            )


def check_members(init: Init, trajectories: int, members: tuple[int, ...] | None) -> None:
    """Raise ValueError unless given weights have a set for every trajectory of a plan."""
    given = init.members if isinstance(init, Given) else None
    if given is None:
        return
    if members is None and trajectories != given:
        raise ValueError(
            f"trajectories must be {given}, the number of sets of weights that are given, got {trajectories}; "
            f"use trajectories = {given}, or one set of weights for all"
        )
    if members is not None and max(members) >= given:
        raise ValueError(
            f"members must be from 0 to {given - 1}, as {given} sets of weights are given, got {max(members)}; "
            "leave it out, or give more sets"
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
        if init.members is not None:
            return tuple(layer[np.asarray(members)] for layer in init.weights)
        return tuple(np.broadcast_to(layer, (count, *layer.shape)).copy() for layer in init.weights)
    source = streams.Streams(streams.seed_words(seed, members, streams.INIT))
    if isinstance(init, Gaussian):
        return tuple(
            deviation * np.asarray(source.normals(rows * columns), np.float64).reshape(count, rows, columns)
            for deviation, (rows, columns) in zip(init.deviations(network), network.shapes, strict=True)
        )
    return network.balanced(init.scale, init.aligned, data, source, count)
