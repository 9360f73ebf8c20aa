"""What is measured on an ensemble: pure functions of the data and the weights.

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n trajectories, which lead every result.
All is built from the end-to-end map ``P = W_L … W_1``, its error ``Δ = P − M``, and what stands left and right
of a layer, ``W_{>l} = W_L … W_{l+1}`` and ``W_{<l} = W_{l−1} … W_1``. Weights that are not finite measure NaN.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._numbers import as_numbers
from saddlescope.data import Data
from saddlescope.networks import Diagonal, diagonal
from saddlescope.problem import Problem

Floats = NDArray[np.float64]
Weights = Sequence[NDArray[np.floating]]

THRESHOLDS = (0.5, 0.9)
"""Fractions θ of s* whose first passage is a learning time; a mode counts as learned at the last."""


def observe(problem: Problem, temperature: float, weights: Weights, share: float = 1.0) -> dict[str, Floats]:
    """Every observable of every trajectory at temperature T, keyed by its name; leading axis n.

    ``share`` of the sampling noise is there (less than 1 where a data set is drawn without replacement).
    Imbalance, its trace and noise of a diagonal network are those of ``diagonal.py``; log_det is NaN there.
    Source: the definitions are those of the functions below.

    >>> from saddlescope import DeepLinear, GaussianData, init
    >>> data = GaussianData([[2.0, 0.0], [0.0, 1.0]])
    >>> problem = Problem(DeepLinear((2, 2, 2)), data, init.Balanced(scale=0.1))
    >>> observe(problem, 0.1, init.draw(problem.init, problem.network, data, 0, [0]))["mode_strength"]
    array([[0.01, 0.01]])
    """
    data = problem.data
    layers = [as_numbers(layer, f"weights[{index}]") for index, layer in enumerate(weights)]
    chains = isinstance(problem.network, Diagonal)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        product = [diagonal.end_to_end(layers) if chains else end_to_end(layers)]
        return {
            "loss": loss(data, product),
            "excess_loss": excess_loss(data, product),
            "mode_strength": mode_strength(data, product),
            "singular_values": singular_values(product),
            "alignment": alignment(data, product),
            "imbalance": diagonal.imbalance(layers) if chains else imbalance(layers),
            "imbalance_trace": diagonal.imbalance_trace(layers) if chains else imbalance_trace(layers),
            "log_det": np.full((len(layers[0]), len(layers) - 1), np.nan) if chains else log_det(layers),
            "mode_noise": (diagonal.mode_noise if chains else mode_noise)(data, temperature, layers, share),
            "layer_noise": (diagonal.layer_noise if chains else layer_noise)(data, temperature, layers, share),
            "effective_rank": effective_rank(product),
            "learned_modes": learned_modes(data, product),
        }


# --- the map and its error


def end_to_end(weights: Weights) -> NDArray[np.floating]:
    """``P = W_L … W_1`` (n, dy, dx).

    >>> float(end_to_end([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])[0, 0, 0])
    6.0
    """
    product = weights[0]
    for layer in weights[1:]:
        product = layer @ product
    return product


def surroundings(weights: Weights) -> tuple[list[NDArray[np.floating]], list[NDArray[np.floating]]]:
    """``W_{>l}`` (n, dy, n_l) and ``W_{<l}`` (n, n_{l−1}, dx) of every layer l, first to last.

    >>> above, below = surroundings([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])
    >>> [float(m[0, 0, 0]) for m in above], [float(m[0, 0, 0]) for m in below]
    ([3.0, 1.0], [1.0, 2.0])
    """
    count, dim_out, dim_in = len(weights[0]), weights[-1].shape[1], weights[0].shape[2]
    above, below = _identity(count, dim_out, weights[0].dtype), _identity(count, dim_in, weights[0].dtype)
    aboves, belows = [above], [below]
    for layer in reversed(weights[1:]):
        aboves.insert(0, aboves[0] @ layer)
    for layer in weights[:-1]:
        belows.append(layer @ belows[-1])
    return aboves, belows


def loss(data: Data, weights: Weights) -> Floats:
    """Population loss ``𝓛 = ½ Tr(ΔΣΔᵀ) + ½ dy σ²`` (n,), with the ½; of a data set ``½ mean‖Px_i − y_i‖² + ½ dy δ²``.

    >>> from saddlescope import GaussianData
    >>> float(loss(GaussianData([[2.0]], label_noise=1.0), [np.ones((1, 1, 1))])[0])
    1.0
    """
    return excess_loss(data, weights) + data.least_loss


def excess_loss(data: Data, weights: Weights) -> Floats:
    """Population loss above that of the teacher, ``½ Tr(ΔΣΔᵀ)`` (n,).

    >>> from saddlescope import GaussianData
    >>> float(excess_loss(GaussianData([[2.0]], label_noise=1.0), [np.ones((1, 1, 1))])[0])
    0.5
    """
    maps = end_to_end(weights)
    return data.excess_loss(maps.astype(np.result_type(maps, np.float64)))


# --- modes and spectrum


def mode_strength(data: Data, weights: Weights) -> Floats:
    """``u_αᵀ P v_α`` (n, m); where singular values repeat, their block's ``‖U_bᵀ P V_b‖_F / √m_b``.

    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120, section 1.2.

    >>> from saddlescope import GaussianData
    >>> mode_strength(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[0.5, 0.3], [0.1, 0.2]]])])
    array([[0.5, 0.2]])
    """
    modes = data.modes
    return block_strength(modes.left.T @ end_to_end(weights) @ modes.right, modes.blocks)


def block_strength(core: NDArray[Any], blocks: Sequence[tuple[int, ...]]) -> NDArray[Any]:
    """Mode strengths (n, m) from the map in the teacher's basis (n, ≥ m, ≥ m).

    >>> block_strength(np.array([[[0.0, 1.0], [1.0, 0.0]]]), [(0, 1)])
    array([[1., 1.]])
    """
    count = sum(len(block) for block in blocks)
    strengths = np.diagonal(core, axis1=1, axis2=2)[:, :count].copy()
    for block in blocks:
        if len(block) > 1:
            first, last = block[0], block[-1] + 1
            square = (core[:, first:last, first:last] ** 2).sum(axis=(1, 2))
            strengths[:, first:last] = np.sqrt(square / len(block))[:, None]
    return strengths


def alignment(data: Data, weights: Weights) -> Floats:
    """``u_αᵀPv_α / √(‖Pv_α‖ ‖Pᵀu_α‖)`` (n, m) in [−1, 1]: 1 when u_α, v_α are singular vectors of P.

    >>> from saddlescope import GaussianData
    >>> alignment(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[0.5, 0.0], [0.0, -0.2]]])])
    array([[ 1., -1.]])
    """
    modes, product = data.modes, end_to_end(weights)
    right, left = product @ modes.right, modes.left.T @ product
    strength = np.einsum("ia,nia->na", modes.left, right)
    return np.asarray(strength / np.sqrt(np.linalg.norm(right, axis=1) * np.linalg.norm(left, axis=2)))


def singular_values(weights: Weights) -> Floats:
    """Singular values of P (n, min(dx, dy)), largest first.

    >>> singular_values([np.array([[[0.0, 3.0], [1.0, 0.0]]])])
    array([[3., 1.]])
    """
    product = end_to_end(weights)
    finite = np.isfinite(product).all(axis=(1, 2))
    values = np.full((len(product), min(product.shape[1:])), np.nan)
    values[finite] = np.linalg.svd(product[finite], compute_uv=False)
    return values


def effective_rank(weights: Weights) -> Floats:
    """``exp(−Σ p_i log p_i)``, p the singular values of P over their sum (n,); 0 for P = 0.

    Source: Roy & Vetterli 2007, EUSIPCO, definition 2.

    >>> effective_rank([np.eye(3)[None]])
    array([3.])
    """
    return rank_of(singular_values(weights))


def rank_of(values: Floats) -> Floats:
    """Effective rank (n,) of matrices with these singular values (n, m).

    >>> rank_of(np.array([[2.0, 2.0, 0.0]]))
    array([2.])
    """
    total = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, total, out=np.zeros_like(values), where=total != 0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return np.where(total[:, 0] == 0, 0.0, np.exp(entropy))


def learned_modes(data: Data, weights: Weights) -> Floats:
    """Number of modes with ``u_αᵀPv_α ≥ 0.9 s*_α``, among those with s* > 0 (n,).

    >>> from saddlescope import GaussianData
    >>> learned_modes(GaussianData([[2.0, 0.0], [0.0, 1.0]]), [np.array([[[1.9, 0.0], [0.0, 0.5]]])])
    array([1.])
    """
    strengths, target = mode_strength(data, weights), data.modes.strengths
    learned = ((strengths >= THRESHOLDS[-1] * target) & (target > 0)).sum(axis=1)
    return np.where(np.isfinite(strengths).all(axis=1), learned, np.nan)


# --- what gradient flow conserves


def balance(weights: Weights) -> list[NDArray[np.floating]]:
    """``Q_l = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ`` (n, n_l, n_l) of every interface l = 1 … L−1.

    Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120; conserved by gradient flow.

    >>> [float(q[0, 0, 0]) for q in balance([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])]
    [5.0]
    """
    return [_transpose(upper) @ upper - lower @ _transpose(lower) for lower, upper in itertools.pairwise(weights)]


def imbalance(weights: Weights) -> Floats:
    """``‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F`` (n, L−1).

    >>> imbalance([np.full((1, 1, 1), 2.0), np.full((1, 1, 1), 3.0)])
    array([[5.]])
    """
    return _columns(len(weights[0]), [np.linalg.norm(q, axis=(1, 2)) for q in balance(weights)])


def imbalance_trace(weights: Weights) -> Floats:
    """``‖W_{l+1}‖_F² − ‖W_l‖_F²``, with its sign (n, L−1).

    >>> imbalance_trace([np.full((1, 1, 1), 3.0), np.full((1, 1, 1), 2.0)])
    array([[-5.]])
    """
    return _columns(len(weights[0]), [np.trace(q, axis1=1, axis2=2) for q in balance(weights)])


def log_det(weights: Weights) -> Floats:
    """``log det ΘᵀΘ``, ``Θ = [W_l, W_{l+1}ᵀ]`` (n, L−1); NaN where n_l is below n_{l−1} + n_{l+1}.

    Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133.

    >>> log_det([np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]) / np.log(4)
    array([[1.]])
    """
    values = []
    for lower, upper in itertools.pairwise(weights):
        theta = np.concatenate([lower, _transpose(upper)], axis=2)
        if theta.shape[1] < theta.shape[2]:
            values.append(np.full(len(theta), np.nan))
        else:
            triangle = np.linalg.qr(theta, mode="r")
            values.append(2 * np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2))).sum(axis=1))
    return _columns(len(weights[0]), values)


# --- gradient noise, from the closed form of Cov[G]


def mode_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Noise on a mode, end to end: ``T Var[u_αᵀ(Σ_l W_{>l}W_{>l}ᵀ G W_{<l}ᵀW_{<l})v_α]`` (n, m).

    The variance rate of ``u_αᵀPv_α`` under minibatch noise at T = η/B, whatever noise the method itself has; in
    units of strength² per time. ``share`` is the part of the sampling noise that is there, beside all label noise.
    Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.

    >>> from saddlescope import GaussianData
    >>> mode_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])  # T (2(s − s*)² + σ²)
    array([[0.3]])
    """
    return temperature * _layer_covariance(data, weights, share)[0].sum(axis=(2, 3))


def layer_noise(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """``T Var[pᵀ ∂W_l q]``, p and q the directions of ``W_{>l}ᵀu_α`` and ``W_{<l}v_α`` (n, L, m).

    In units of weight² per time. NaN where a direction vanishes.
    Source: Corlouer et al. 2026, arXiv 2604.06366, covariance of the per-sample gradient.

    >>> from saddlescope import GaussianData
    >>> layer_noise(GaussianData([[2.0]], label_noise=1.0), 0.1, [np.ones((1, 1, 1))])
    array([[[0.3]]])
    """
    covariance, squares = _layer_covariance(data, weights, share)
    variance = np.diagonal(covariance, axis1=2, axis2=3)
    return temperature * np.swapaxes(variance / squares, 1, 2)


def _layer_covariance(data: Data, weights: Weights, share: float) -> tuple[Floats, Floats]:
    """Cov over layers l, k of ``p_lᵀGq_l`` (n, m, L, L), and ``‖W_{>l}ᵀu‖² ‖W_{<l}v‖²`` (n, m, L).

    ``p_l = W_{>l}W_{>l}ᵀu``, ``q_l = W_{<l}ᵀW_{<l}v``.
    """
    modes, error = data.modes, end_to_end(weights) - data.teacher
    above, below = surroundings(weights)
    p = _per_mode([a @ (_transpose(a) @ modes.left) for a in above])
    q = _per_mode([_transpose(b) @ (b @ modes.right) for b in below])
    covariance = data.gradient_covariance(error[:, None], p, q, share)
    squares = np.einsum("nali,ia->nal", p, modes.left) * np.einsum("nalj,ja->nal", q, modes.right)
    return covariance, squares


def _per_mode(vectors: list[NDArray[np.floating]]) -> Floats:
    """L arrays (n, d, m) as one (n, m, L, d)."""
    return np.stack(vectors, axis=1).transpose(0, 3, 1, 2)


def _transpose(matrices: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.swapaxes(matrices, -1, -2)


def _identity(count: int, size: int, dtype: np.dtype) -> NDArray[np.floating]:
    return np.broadcast_to(np.eye(size, dtype=dtype), (count, size, size))


def _columns(count: int, values: list[NDArray[np.floating]]) -> Floats:
    return np.stack(values, axis=1) if values else np.empty((count, 0))
