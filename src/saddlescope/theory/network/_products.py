"""Products of layers, first to last, each (n, n_l, n_{l−1}) for n networks."""

from __future__ import annotations

import itertools
from functools import reduce

import numpy as np

from saddlescope._arrays import Floats, Weights
from saddlescope._numbers import as_numbers
from saddlescope.data import Data


def checked_layers(weights: Weights) -> Weights:
    """The layers in float64. Raises ValueError for anything but arrays of layers that meet."""
    layers = [as_numbers(layer, f"weights[{l}]") for l, layer in enumerate(weights)]
    shapes = [layer.shape for layer in layers]
    if not shapes or not all(layer.ndim == 3 for layer in layers):
        raise ValueError(
            f"weights must be arrays (n, n_l, n_{{l−1}}) for n networks, first layer to last, got shapes {shapes}; "
            "for one network write W[None]"
        )
    for lower, upper in itertools.pairwise(shapes):
        if (lower[0], lower[1]) != (upper[0], upper[2]):
            raise ValueError(
                f"layers must meet, (n, n_l, n_{{l−1}}) and then (n, n_{{l+1}}, n_l), got {lower} and then {upper}; "
                "give the weights first layer to last, of the same networks"
            )
    return layers


def product(layers: Weights, count: int, size: int) -> Floats:
    """``W_b … W_a``, the identity of this size when there are none."""
    if not layers:
        return np.broadcast_to(np.eye(size), (count, size, size))
    return np.asarray(reduce(lambda product, layer: layer @ product, layers))


def surroundings(weights: Weights) -> tuple[list[Floats], list[Floats]]:
    """``W_{>l}`` (n, dy, n_l) and ``W_{<l}`` (n, n_{l−1}, dx) of every layer."""
    weights = checked_layers(weights)
    count, dim_out, dim_in = len(weights[0]), weights[-1].shape[1], weights[0].shape[2]
    above = [product(weights[l + 1 :], count, dim_out) for l in range(len(weights))]
    below = [product(weights[:l], count, dim_in) for l in range(len(weights))]
    return above, below


def map_error(data: Data, weights: Weights) -> Floats:
    """``Δ = P − M`` (n, dy, dx). Raises TypeError for ``Moments``, ValueError for sizes not the data's."""
    if type(data).gradient_covariance is Data.gradient_covariance:
        raise TypeError(f"data must be GaussianData or a Dataset, whose gradients are known, got {type(data).__name__}")
    weights = checked_layers(weights)
    ends = weights[0].shape[2], weights[-1].shape[1]
    if ends != (data.dim_in, data.dim_out):
        raise ValueError(
            f"weights must have the {data.dim_in} inputs and {data.dim_out} outputs of the data, got {ends[0]} and "
            f"{ends[1]}; check the first and the last layer"
        )
    return product(weights, len(weights[0]), data.dim_in) - data.teacher


def entry_variance(data: Data, error: Floats, left: Floats, right: Floats, share: float) -> Floats:
    """Variance over samples of every ``left_iᵀ G right_j``; left (n, a, dy), right (n, b, dx) → (n, a, b)."""
    rows, columns = left[:, :, None, None], right[:, None, :, None]
    return data.gradient_covariance(error[:, None, None], rows, columns, share)[..., 0, 0]
