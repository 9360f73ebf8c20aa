"""Noise of each layer, and its effect on the balance of neighbours: it balances noise, not norms.

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n networks. Gaussian data or a data set, with a
``share`` of the sampling noise: 1 for batches drawn with replacement, 0 with T = η/n for full batches and label noise.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats, Weights
from saddlescope._arrays import transposed as _t
from saddlescope._numbers import as_numbers, as_whole
from saddlescope.data import Data
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady
from saddlescope.theory.network._products import (
    checked_layers,
    entry_variance,
    map_error,
    surroundings,
)


@steady
def layer_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Variance rate ``T Tr Cov[∂ℓ/∂W_l]`` of every layer (n, L), weight² per time.

    For Gaussian data ``T {Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖²}``.
    The observable ``layer_noise`` of a run is the part along each mode: ``layer_variance`` for ``W_{>l}ᵀu_α`` and
    ``W_{<l}v_α``.
    Source: the gradient noise of Corlouer et al. 2026, arXiv 2604.06366, through the layers.

    >>> from saddlescope import GaussianData
    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> layer_noise(scalar, 0.1, [np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 3.0)])     # T g(s) of the other's square
    array([[2.7, 0.3]])
    """
    layers = range(len(weights))
    return np.stack(
        [layer_variance(data, temperature, weights, l, share=share).sum(axis=(1, 2)) for l in layers], axis=1
    )


@steady
def layer_variance(
    data: Data,
    temperature: float,
    weights: Weights,
    layer: int,
    left: ArrayLike | None = None,
    right: ArrayLike | None = None,
    share: float = 1.0,
) -> Floats:
    """Variance rate ``T Var[pᵀ ∂W_l q]`` of a layer's noise for p of ``left`` (a, n_l) and q of ``right`` (b, n_{l−1}).

    For Gaussian data ``T {(W_{>l}p)ᵀN(W_{>l}p) (W_{<l}ᵀq)ᵀΣ(W_{<l}ᵀq) + [(W_{>l}p)ᵀΔΣW_{<l}ᵀq]²}``; of every entry of
    the layer where no directions are given. ``layer`` counts from 0. Shape (n, a, b).
    Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.

    >>> from saddlescope import GaussianData
    >>> pair = [np.ones((1, 1, 1)), np.full((1, 1, 1), 2.0)]
    >>> layer_variance(GaussianData([[2.0]], label_noise=1.0), 0.1, pair, layer=0)
    array([[[0.4]]])
    """
    _checks.check_noise(temperature, share=share)
    above, below = surroundings(weights)
    if not 0 <= as_whole(layer, "layer") < len(weights):
        raise ValueError(f"layer must be from 0 to {len(weights) - 1}, got {layer}; it counts the layers")
    rows, columns = np.shape(weights[layer])[1:]
    p = (np.eye(rows) if left is None else as_numbers(left, "left")) @ _t(above[layer])
    q = (np.eye(columns) if right is None else as_numbers(right, "right")) @ below[layer]
    return temperature * entry_variance(data, map_error(data, weights), p, q, share)


@steady
def balance_drift(
    data: Data, temperature: float, weights: Weights, lr: float = 0.0, share: float = 1.0
) -> list[Floats]:
    """Rate of ``Q_l = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ`` of every interface, each (n, n_l, n_l), weight² per time.

    ``dQ_l/dt = T {W_l⟨J̃ᵀJ̃⟩W_lᵀ − W_{l+1}ᵀ⟨J̃J̃ᵀ⟩W_{l+1}}``, path by path, J̃ the noise of the neighbours' product;
    ``A = W_{>l+1}``, ``D = W_{<l}``, Gaussian data: ``⟨J̃ᵀJ̃⟩ = D[Tr(NAAᵀ)Σ + ΣΔᵀAAᵀΔΣ]Dᵀ``,
    ``⟨J̃J̃ᵀ⟩ = Aᵀ[Tr(ΣDᵀD)N + ΔΣDᵀDΣΔᵀ]A``. ``lr`` η adds the same with the mean of J and η for T, which
    makes it the exact mean of discrete steps. The noise is what balances: ``noise_balance``. Gradient flow conserves Q.
    Source: Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, law of balance, here for matrices.

    >>> from saddlescope import GaussianData
    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> rate = balance_drift(scalar, 0.1, [np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 3.0)])   # −T g(s)(w² − u²)
    >>> float(rate[0][0, 0, 0])
    -2.4
    """
    _checks.check_noise(temperature, lr, share)
    weights = checked_layers(weights)
    (above, below), error = surroundings(weights), map_error(data, weights)
    rates = []
    for l, (lower, upper) in enumerate(itertools.pairwise(weights)):
        a, d = _t(above[l + 1]), below[l]
        mean = a @ (error @ data.sigma) @ _t(d)
        rows, columns = (np.repeat(x[:, :, None], size, axis=2) for x, size in ((a, d.shape[1]), (d, a.shape[1])))
        right = temperature * data.gradient_covariance(error[:, None], rows, d[:, None], share).sum(axis=1)
        left = temperature * data.gradient_covariance(error[:, None], a[:, None], columns, share).sum(axis=1)
        right, left = right + lr * _t(mean) @ mean, left + lr * mean @ _t(mean)
        rates.append(lower @ right @ _t(lower) - _t(upper) @ left @ upper)
    return rates


@steady
def noise_balance(data: Data) -> tuple[Floats, Floats]:
    """Noise balance of two layers that fit the data under label noise: squared singular values of ``W_1R``, ``W_2``;
    (m,).

    ``σ_i²(W_1R) = √(Tr Σ/dy) σ_i(MR)`` and ``σ_i²(W_2) = √(dy/Tr Σ) σ_i(MR)``, ``RRᵀ = Σ``: there ``balance_drift``
    vanishes. With white inputs ``‖W_2‖²/‖W_1‖² = dy/dx``.
    Source: derived here; Ziyin, Li & Ueda 2023, arXiv 2308.06671, call it noise balance.

    >>> from saddlescope import GaussianData
    >>> noise_balance(GaussianData([[2.0, 0.0, 0.0, 0.0]]))
    (array([4.]), array([1.]))
    """
    values, vectors = np.linalg.eigh(data.sigma)
    strengths = np.linalg.svd(data.teacher @ vectors * np.sqrt(np.maximum(values, 0)), compute_uv=False)
    ratio = np.sqrt(np.trace(data.sigma) / data.dim_out)
    return ratio * strengths, strengths / ratio
