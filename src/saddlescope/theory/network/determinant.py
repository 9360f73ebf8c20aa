"""Neighbouring layers as one matrix ``Θ = [W_l, W_{l+1}ᵀ]``: the determinant of ``N = ΘᵀΘ``, which gradient flow
conserves and noise lowers, its eigenvalues, which repel, and the singular values of W_1 that label noise shrinks.

Both neighbours see the gradient of their product, ``J = W_{>l+1}ᵀ Ḡ W_{<l}ᵀ``, so that a step of any loss of the map is

    Θ ← Θ(I − ηS),  N ← (I − ηS) N (I − ηS),  S = [[0, Jᵀ], [J, 0]].

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n networks; ``interface`` counts from 0 and needs
``n_l ≥ n_{l−1} + n_{l+1} = m``, or N is singular from the start. Noise is that of ``temperature`` T = η/B with a
``share`` of the sampling noise: 1 for batches drawn with replacement, ``(n−B)/(n−1)`` without, and 0 with T = η/n for
full batches with fresh label noise. ``lr`` η adds the effect of discrete steps beyond the diffusion; 0 leaves it out.
Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133, for two layers and label noise; all else is derived here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saddlescope import _show
from saddlescope._arrays import Floats, Weights
from saddlescope._arrays import transposed as _t
from saddlescope._numbers import as_number, as_numbers, as_whole
from saddlescope.data import Data
from saddlescope.data.base import ROUNDING
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady
from saddlescope.theory.network._products import (
    checked_layers,
    entry_variance,
    map_error,
    surroundings,
)


@steady
def neighbours(weights: Weights, interface: int = 0) -> Floats:
    """``Θ = [W_l, W_{l+1}ᵀ]`` (n, n_l, m). Raises ValueError for an interface that does not exist or is too narrow.

    >>> neighbours([np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])])
    array([[[1., 0.],
            [0., 2.]]])
    """
    weights = checked_layers(weights)
    if len(weights) < 2:
        raise ValueError("weights must have two layers or more, got 1; a single layer has no neighbour")
    if not 0 <= as_whole(interface, "interface") < len(weights) - 1:
        raise ValueError(f"interface must be from 0 to {len(weights) - 2}, got {interface}; it is that of two layers")
    lower, upper = weights[interface], weights[interface + 1]
    if lower.shape[1] < lower.shape[2] + upper.shape[1]:
        raise ValueError(
            f"interface {interface} must be at least {lower.shape[2]} + {upper.shape[1]} wide, got {lower.shape[1]}; "
            "in a narrower one the determinant is 0 at all times"
        )
    return np.concatenate([lower, _t(upper)], axis=2)


@steady
def log_det(weights: Weights, interface: int = 0) -> Floats:
    """``log det ΘᵀΘ`` (n,), −∞ where Θ has lost rank, NaN for weights that are not finite.

    >>> log_det([np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]) / np.log(4)
    array([1.])
    """
    # By singular values; that of networks/deep_linear.py is by QR: two formulas, so that each can refute the other.
    theta = neighbours(weights, interface)
    finite = np.isfinite(theta).all(axis=(1, 2))
    values = np.full(len(theta), np.nan)
    with np.errstate(divide="ignore"):
        values[finite] = 2 * np.log(np.linalg.svd(theta[finite], compute_uv=False)).sum(axis=1)
    return values


@steady
def neighbour_gradient(weights: Weights, gradient: Floats, interface: int = 0) -> Floats:
    """``J = W_{>l+1}ᵀ Ḡ W_{<l}ᵀ`` (n, n_{l+1}, n_{l−1}) from the gradient Ḡ of the map (n, dy, dx).

    >>> neighbour_gradient([np.ones((1, 2, 1)), np.ones((1, 1, 2)), np.full((1, 1, 1), 3.0)], np.ones((1, 1, 1)))
    array([[[3.]]])
    """
    above, below = surroundings(weights)
    return _t(above[interface + 1]) @ as_numbers(gradient, "gradient") @ _t(below[interface])


@steady
def log_det_step(gradient: Floats, lr: float, weight_decay: float = 0.0) -> Floats:
    """Change of log det N by one step, exactly, from J (n, n_{l+1}, n_{l−1}): whatever the loss and the noise (n,).

    ``2 Σ_i log|(1−ηγ)² − η²s_i(J)²| + 2|n_{l−1} − n_{l+1}| log|1−ηγ|``: it falls while ``η s_i < √2``, and is −∞ where
    the step reduces the rank.

    >>> np.exp(log_det_step(np.array([[[0.5]]]), lr=1.0))
    array([0.5625])
    """
    gradient = as_numbers(gradient, "gradient")
    if gradient.ndim != 3:
        raise ValueError(
            f"gradient must be J (n, n_{{l+1}}, n_{{l−1}}), got shape {gradient.shape}; write J[None] for one"
        )
    _checks.not_negative(lr=lr, weight_decay=weight_decay)
    keep, alone = 1 - lr * weight_decay, abs(gradient.shape[1] - gradient.shape[2])
    values = lr * np.linalg.svd(gradient, compute_uv=False)
    with np.errstate(divide="ignore"):
        beside = alone * np.log(abs(keep)) if alone else 0.0
        return np.asarray(2 * np.log(np.abs(keep**2 - values**2)).sum(axis=1) + 2 * beside)


@steady
def log_det_rate(
    data: Data, temperature: float, weights: Weights, interface: int = 0, lr: float = 0.0, share: float = 1.0
) -> Floats:
    """Mean rate ``d log det N/dt = −2T Tr Cov[J₁] − 2η‖⟨J⟩‖²`` per time t = η·step (n,); path by path when η = 0.

    J₁ is J of one sample, ``Cov[J] = Cov[J₁]/B``. The rate is that of a step at given weights, to second order in ηJ.

    For two layers and label noise δ at full batch (T = η/n, share 0) it is ``−2ηδ²dy Tr(S_xx)/n − 2η‖ΔS_xx‖²``: the
    straight line of the source, and a term of the same order in η that plain gradient descent has too. It bends
    the line while the map is learned, and steepens it afterwards: ``settled_rate``.

    >>> from saddlescope import GaussianData
    >>> pair = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]
    >>> log_det_rate(GaussianData([[0.0]], label_noise=3.0), 0.1, pair)   # −2Tσ²
    array([-1.8])
    """
    _checks.check_noise(temperature, lr, share)
    neighbours(weights, interface)
    above, below = surroundings(weights)
    left, right = _t(above[interface + 1]), below[interface]
    error = map_error(data, weights)
    variance = entry_variance(data, error, left, right, share).sum(axis=(1, 2))
    mean = left @ (error @ data.sigma) @ _t(right)
    return np.asarray(-2 * temperature * variance - 2 * lr * (mean**2).sum(axis=(1, 2)))


@steady
def settled_rate(data: Data, temperature: float, weights: Weights, lr: float = 0.0) -> Floats:
    """Mean of ``log_det_rate`` while label noise makes two layers that fit the teacher fluctuate about it (n,).

    ``−2Tσ²dy Tr Σ − ηTσ²(dy Tr(W_1Σ²W_1ᵀ) + ‖W_2‖²Tr Σ²)``: the line, and the remaining gradient term, since
    noise keeps ``⟨‖ΔΣ‖²⟩`` at ``½Tσ²`` times the bracket. To first order in T; η/n for full batches of a data set.
    Source: the stationary covariance of Δ, whose noise is along its own relaxation.

    >>> from saddlescope import GaussianData
    >>> pair = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]
    >>> settled_rate(GaussianData([[0.0]], label_noise=1.0), 0.1, pair, lr=0.2)
    array([-0.3])
    """
    _checks.check_noise(temperature, lr)
    first, second = _two_layers(data, weights)
    dim_out, sigma, rate = data.dim_out, data.sigma, temperature * data.label_noise**2
    pull = dim_out * ((first @ sigma) ** 2).sum(axis=(1, 2)) + (second**2).sum(axis=(1, 2)) * (sigma**2).sum()
    return np.asarray(-rate * (2 * dim_out * np.trace(sigma) + lr * pull))


@dataclass(frozen=True, repr=False)
class EigenvalueSDE(_show.Shown):
    """``dλ_i = (pull_i + repulsion_i) dt + noise``: λ (n, m) descending, and the noise's covariance rate (n, m, m).

    ``squares`` q (n, m, m) is how strongly i and j meet; each repels the other in proportion to q_ij.
    """

    eigenvalues: Floats
    pull: Floats
    repulsion: Floats
    covariance: Floats
    squares: Floats


@steady
def eigenvalue_sde(
    data: Data, temperature: float, weights: Weights, interface: int = 0, lr: float = 0.0, share: float = 1.0
) -> EigenvalueSDE:
    """Itô law of the eigenvalues of N; with ``v_i = (a_i, b_i)`` its eigenvectors and ``S_ij = v_iᵀS v_j``,

        dλ_i = −2λ_i⟨S_ii⟩dt + Σ_j c_ij q_ij dt + noise,  c_ii = λ_i,  c_ij = λ_i(λ_i + 3λ_j)/(λ_i − λ_j),

    ``q_ij = T Var[S_ij] + η⟨S_ij⟩²``, ``S_ij = b_iᵀJa_j + b_jᵀJa_i``, covariance rate ``4λ_iλ_j T Cov[S_ii, S_jj]``.
    Neighbours push each other apart; one far below pushes log λ_i by q_ij, one far above by −3q_ij: small eigenvalues
    shrink. The sum over i of ``c_ij q_ij/λ_i − 2T Var[S_ii]`` is ``log_det_rate``, less the pull.
    Eigenvalues must differ.

    >>> from saddlescope import GaussianData
    >>> pair = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]
    >>> law = eigenvalue_sde(GaussianData([[0.0]], label_noise=1.0), 0.1, pair)
    >>> law.eigenvalues, law.repulsion.round(3)
    (array([[4., 1.]]), array([[ 0.933, -0.433]]))
    """
    _checks.check_noise(temperature, lr, share)
    above, below = surroundings(weights)
    _, values, rows = np.linalg.svd(neighbours(weights, interface), full_matrices=False)
    eigenvalues, size = values**2, weights[interface].shape[2]
    p, q = rows[:, :, size:] @ _t(above[interface + 1]), rows[:, :, :size] @ below[interface]
    error = map_error(data, weights)
    pulled = p @ (error @ data.sigma) @ _t(q)
    mean = pulled + _t(pulled)
    left = np.stack(np.broadcast_arrays(p[:, :, None], p[:, None]), axis=3)
    right = np.stack(np.broadcast_arrays(q[:, None], q[:, :, None]), axis=3)
    both = data.gradient_covariance(error[:, None, None], left, right, share)
    squares = temperature * both.sum(axis=(3, 4)) + lr * mean**2
    own, other = eigenvalues[:, :, None], eigenvalues[:, None]
    gap = own - other
    gap[:, *np.diag_indices(gap.shape[1])] = np.inf
    if (np.abs(gap) <= ROUNDING * eigenvalues[:, :1, None]).any():
        raise ValueError("eigenvalues of N must differ from each other; equal ones repel without bound")
    repulsion = (own * (own + 3 * other) / gap * squares).sum(axis=2)
    repulsion += eigenvalues * np.diagonal(squares, axis1=1, axis2=2)
    covariance = 16 * temperature * own * other * data.gradient_covariance(error, p, q, share)
    pull = -2 * eigenvalues * np.diagonal(mean, axis1=1, axis2=2)
    return EigenvalueSDE(eigenvalues, pull, repulsion, covariance, squares)


@steady
def label_noise_drift(data: Data, temperature: float, weights: Weights) -> tuple[Floats, Floats]:
    """Drift of W_1 and W_2 under label noise, for two layers that fit the teacher, to first order in T.

    ``−½Tσ²dy W_1Σ − W_2ᵀK`` and ``−½Tσ²Tr(Σ) W_2 − KW_1ᵀ``, with K such that the map stays: the gradient flow, among
    weights of the same map, of ``¼Tσ²(dy Tr(W_1ΣW_1ᵀ) + Tr(Σ)‖W_2‖²)``. It ends at rank M. All of log det N's fall of
    ``2Tσ²dy Tr Σ`` per time is in it. (T = η/n for full batches of a data set.)
    Source: averaging over the fast fluctuations of Δ; Li, Wang & Arora 2021, arXiv 2110.06914, for any loss.

    >>> from saddlescope import GaussianData
    >>> pair = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]
    >>> [layer[layer != 0].round(3) for layer in label_noise_drift(GaussianData([[0.0]], label_noise=1.0), 0.1, pair)]
    [array([-0.05]), array([-0.1])]
    """
    _checks.check_noise(temperature)
    first, second = _two_layers(data, weights)
    rate, sigma = 0.5 * temperature * data.label_noise**2, data.sigma
    free = -rate * data.dim_out * first @ sigma, -rate * np.trace(sigma) * second
    inner, outer = _t(first) @ first, second @ _t(second)
    values, vectors = np.linalg.eigh(outer)
    rows, basis = np.linalg.eigh(inner)
    moved = _t(vectors) @ (second @ free[0] + free[1] @ first) @ basis
    stiffness = values[:, :, None] + rows[:, None]
    felt = stiffness > ROUNDING * stiffness.max(axis=(1, 2), keepdims=True)
    kept = vectors @ np.divide(moved, stiffness, out=np.zeros_like(moved), where=felt) @ _t(basis)
    return free[0] - _t(second) @ kept, free[1] - kept @ _t(first)


@steady
def fall_times(data: Data, temperature: float, weights: Weights, threshold: float) -> Floats:
    """Times at which label noise has shrunk singular values of W_1 below ``threshold`` (n, dx − rank M), increasing.

    Along directions V_0 that the teacher does not use, label noise shrinks ``W_1V_0`` by ``exp(−½Tσ²dy λt)``, λ the
    variance of the inputs there: ``t = 2 log(s/threshold)/(Tσ²dy λ)`` for its singular values s, which are at least
    the smallest of W_1 and meet them as they fall. Two layers whose map has been learned; exact to first order in T if
    Σ couples no used direction to an unused one. (T = η/n for full batches of a data set.) Infinite without noise.
    Source: ``label_noise_drift``.

    >>> from saddlescope import GaussianData
    >>> pair = [np.array([[[1.0], [0.0]]]), np.array([[[0.0, 2.0]]])]
    >>> fall_times(GaussianData([[0.0]], label_noise=1.0), 0.1, pair, threshold=np.exp(-1))
    array([[20.]])
    """
    _checks.check_noise(temperature)
    if not as_number(threshold, "threshold") > 0:
        raise ValueError(f"threshold must be positive, got {threshold:g}; no singular value falls to 0 in finite time")
    first, _ = _two_layers(data, weights)
    used = int((data.modes.strengths > 1e-12 * max(1.0, data.modes.strengths.max())).sum())
    unused = np.linalg.svd(data.teacher)[2][used:].T
    _, values, rows = np.linalg.svd(first @ unused, full_matrices=False)
    variance = ((rows @ (unused.T @ data.sigma @ unused)) * rows).sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = 0.5 * temperature * data.label_noise**2 * data.dim_out * variance
        times = np.log(values / threshold) / rate
    return np.sort(np.where(values <= threshold, 0.0, times), axis=1)


@steady
def rank(matrices: Floats, threshold: float = 1e-2) -> Floats:
    """Number of singular values above ``threshold`` times the largest (n,).

    >>> rank(np.diag([1.0, 0.5, 1e-3])[None])
    array([2])
    """
    values = _spectra(matrices)
    return np.asarray((values > threshold * values[:, :1]).sum(axis=1))


@steady
def effective_rank(matrices: Floats) -> Floats:
    """``exp(−Σ p_i log p_i)``, p the singular values over their sum (n,): the number of directions, without a
    threshold.

    Source: Roy & Vetterli 2007, EUSIPCO, definition 2.

    >>> effective_rank(np.diag([2.0, 2.0, 0.0])[None]).round(12)
    array([2.])
    """
    # Apart from observables.rank_of on purpose: theory shares no formula with what it must be able to refute.
    values = _spectra(matrices)
    total = values.sum(axis=1, keepdims=True)
    shares = np.divide(values, total, out=np.zeros_like(values), where=total > 0)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return np.where(total[:, 0] > 0, np.exp(entropy), 0.0)


def _spectra(matrices: Floats) -> Floats:
    matrices = as_numbers(matrices, "matrices")
    if matrices.ndim != 3:
        raise ValueError(f"matrices must have shape (n, rows, columns), got {matrices.shape}; write A[None] for one")
    return np.asarray(np.linalg.svd(matrices, compute_uv=False), np.float64)


def _two_layers(data: Data, weights: Weights) -> tuple[Floats, Floats]:
    map_error(data, weights)
    weights = checked_layers(weights)
    if len(weights) != 2:
        raise ValueError(f"weights must be those of two layers here, got {len(weights)}; deeper ones have log_det_rate")
    return weights[0], weights[1]
