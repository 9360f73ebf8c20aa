"""The whole network, without assuming alignment: how noise drives the end-to-end map and couples its modes.

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n networks, in the basis of the data.
``Δ = P − M``, ``N = ΔΣΔᵀ + σ²I``, and ``W_{>l}``, ``W_{<l}`` are what stands left and right of layer l.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from saddlescope.data import Data, GaussianData, _t
from saddlescope.theory._layers import Floats, Weights, product, surroundings


def map_drift(data: Data, temperature: float, weights: Weights) -> Floats:
    """Itô drift of P under gradient noise (n, dy, dx), strength per time.

    ``−Σ_l W_{>l}W_{>l}ᵀ ΔΣ W_{<l}ᵀW_{<l} + T Σ_{l<m} W_{>m}W_{>m}ᵀ [N Xᵀ Σ + Tr(ΔΣX) ΔΣ] W_{<l}ᵀW_{<l}``,
    ``X = W_{<m}ᵀ W_{m−1}…W_{l+1} W_{>l}ᵀ``.
    Raises TypeError for other data than Gaussian.
    Source: Itô's formula for a product of layers; Corlouer et al. 2026, arXiv 2604.06366, give the gradient noise.

    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> float(map_drift(scalar, 0.1, [np.ones((1, 1, 1)), np.ones((1, 1, 1))])[0, 0, 0])   # 2s(s* − s) + T s g(s)
    2.3
    """
    (above, below), pull, spread = _noise(data, weights)
    sigma, depth = data.sigma, len(weights)
    left, right = [a @ _t(a) for a in above], [_t(b) @ b for b in below]
    drift = -sum(left[l] @ pull @ right[l] for l in range(depth))
    for m in range(depth):
        for l in range(m):
            between = product(weights[l + 1 : m], len(weights[0]), weights[l].shape[1])
            x = _t(below[m]) @ between @ _t(above[l])
            trace = np.einsum("nij,nji->n", pull, x)[:, None, None]
            drift = drift + temperature * left[m] @ (spread @ _t(x) @ sigma + trace * pull) @ right[l]
    return np.asarray(drift)


def layer_noise(data: Data, temperature: float, weights: Weights) -> Floats:
    """Variance rate ``T Tr Cov[∂ℓ/∂W_l]`` of every layer (n, L), weight² per time.

    ``T {Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖²}``.
    Raises TypeError for other data than Gaussian.
    Source: the gradient noise of Corlouer et al. 2026, arXiv 2604.06366, through the layers.

    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> layer_noise(scalar, 0.1, [np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 3.0)])     # T g(s) of the other's square
    array([[2.7, 0.3]])
    """
    (above, below), pull, spread = _noise(data, weights)
    pieces = [
        _trace(_t(a) @ spread @ a) * _trace(b @ data.sigma @ _t(b)) + _trace(_t(a) @ pull @ _t(b) @ b @ _t(pull) @ a)
        for a, b in zip(above, below, strict=True)
    ]
    return np.asarray(temperature * np.concatenate(pieces, axis=1)[:, :, 0])


def balance_drift(data: Data, temperature: float, weights: Weights) -> list[Floats]:
    """Rate of ``Q_l = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ`` of every interface, each (n, n_l, n_l), weight² per time.

    ``dQ_l/dt = T {W_l⟨J̃ᵀJ̃⟩W_lᵀ − W_{l+1}ᵀ⟨J̃J̃ᵀ⟩W_{l+1}}``, path by path, J̃ the noise of the neighbours' product;
    ``A = W_{>l+1}``, ``D = W_{<l}``: ``⟨J̃ᵀJ̃⟩ = D[Tr(NAAᵀ)Σ + ΣΔᵀAAᵀΔΣ]Dᵀ``, ``⟨J̃J̃ᵀ⟩ = Aᵀ[Tr(ΣDᵀD)N + ΔΣDᵀDΣΔᵀ]A``.
    It is the noise that balances: two layers on white inputs end at ``dy W_1W_1ᵀ = dx W_2ᵀW_2``. Gradient flow (T = 0)
    conserves Q. Raises TypeError for other data than Gaussian.
    Source: Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, law of balance, here for matrices.

    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> rate = balance_drift(scalar, 0.1, [np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 3.0)])   # −T g(s)(w² − u²)
    >>> float(rate[0][0, 0, 0])
    -2.4
    """
    (above, below), pull, spread = _noise(data, weights)
    rates = []
    for l, (lower, upper) in enumerate(itertools.pairwise(weights)):
        a, d = above[l + 1], below[l]
        into, out = a @ _t(a), _t(d) @ d
        right = _trace(spread @ into) * data.sigma + _t(pull) @ into @ pull
        left = _trace(data.sigma @ out) * spread + pull @ out @ _t(pull)
        seen, given = lower @ d, _t(upper) @ _t(a)
        rates.append(temperature * (seen @ right @ _t(seen) - given @ left @ _t(given)))
    return rates


def strength_drift(
    strengths: ArrayLike, targets: ArrayLike, depth: int, temperature: float, label_noise: float
) -> Floats:
    """Itô drift of every ``u_αᵀPv_α`` at an aligned, balanced state with white inputs (m,), strength per time.

    The mode SDE's own, ``L s^{2κ}(s* − s) + ½L(L−1) T s^{3−4/L} g``, and with ``δ = s − s*`` the coupling
    ``T δ_α Σ_{r=1}^{L−1} (L−r) a_α^{2(L−1−r)} Σ_{β≠α} δ_β a_β^{L−2+2r}``: label noise of other modes does not enter.
    Source: Itô's formula on Corlouer et al. 2026, arXiv 2604.06366.

    >>> strength_drift([1.0, 0.5], [2.0, 1.0], depth=2, temperature=0.1, label_noise=0.0).round(3)
    array([2.225, 0.575])
    """
    s, target = np.asarray(strengths, np.float64), np.asarray(targets, np.float64)
    a, delta, L = s ** (1 / depth), s - target, depth
    g = 2 * delta**2 + label_noise**2
    own = -L * a ** (2 * L - 2) * delta + L * (L - 1) / 2 * temperature * a ** (3 * L - 4) * g
    coupling = np.zeros_like(s)
    for r in range(1, L):
        terms = delta * a ** (L - 2 + 2 * r)
        coupling += (L - r) * a ** (2 * (L - 1 - r)) * (terms.sum() - terms)
    return np.asarray(own + temperature * delta * coupling)


def singular_value_drift(
    strengths: ArrayLike,
    targets: ArrayLike,
    depth: int,
    temperature: float,
    label_noise: float,
    dim_in: int | None = None,
    dim_out: int | None = None,
) -> Floats:
    """What singular values of P drift beyond ``u_αᵀPv_α`` at an aligned, balanced, white state (m,): they repel.

    ``T Σ_{β≠α} h² [s_α(δ_α² + δ_β² + 2σ²) + 2 s_β δ_α δ_β] / (2(s_α² − s_β²))``, ``h = Σ_l a_α^{2(L−l)} a_β^{2(l−1)}``,
    and for m < dx or m < dy modes ``½ T s_α^{3−4/L} [(dx−m)(δ_α² + σ²) + (dy−m)σ²]``. Strengths must differ.
    Source: second-order perturbation of singular values, with the noise of Corlouer et al. 2026, arXiv 2604.06366.

    >>> singular_value_drift([1.0, 0.5], [1.0, 0.5], depth=2, temperature=0.1, label_noise=1.0).round(3)
    array([ 0.3 , -0.15])
    """
    s, target = np.asarray(strengths, np.float64), np.asarray(targets, np.float64)
    a, delta, noise, m = s ** (1 / depth), s - target, label_noise**2, len(s)
    h = sum(a[:, None] ** (2 * (depth - l)) * a ** (2 * (l - 1)) for l in range(1, depth + 1))
    square = delta**2
    top = s[:, None] * (square[:, None] + square + 2 * noise) + 2 * s * delta[:, None] * delta
    gap = s[:, None] ** 2 - s**2
    if m > 1 and (gap[~np.eye(m, dtype=bool)] == 0).any():
        raise ValueError(f"strengths must differ from each other, got {s.tolist()}; equal ones repel without bound")
    np.fill_diagonal(gap, np.inf)
    repulsion = (h**2 * top / (2 * gap)).sum(axis=1)
    outside = ((dim_in or m) - m) * (square + noise) + ((dim_out or m) - m) * noise
    return np.asarray(temperature * (repulsion + 0.5 * a ** (3 * depth - 4) * outside))


def label_noise_shift(
    targets: ArrayLike,
    depth: int,
    temperature: float,
    label_noise: float,
    dim_in: int | None = None,
    dim_out: int | None = None,
) -> Floats:
    """How far below s* label noise holds the mean strengths of learned modes, to first order in T; white inputs (m,).

    At rest ``E ∂𝓛/∂W_l = 0`` while weights fluctuate by ``½Tσ²`` in every direction that the map feels, so that
    ``W_{>l}ᵀ (M − E P) W_{<l}ᵀ = ¼Tσ² ∂/∂W_l Σ_m ‖W_{>m}‖²‖W_{<m}‖²``, the trace of the Hessian. For aligned, balanced
    layers, a_α = s*_α^{1/L}, the shift is ``(Tσ²/L) Σ_{k=1}^{L−1} k a_α^{2k−L} A_{L−1−k}`` with ``A_k = Σ_β a_β^{2k}``,
    ``A_0 = ½(dx + dy)``. A mode with noise of its own alone keeps ``½(L−1)Tσ² s*^{1−2/L}``. For L ≥ 3 layers leave
    their balance after times of order 1/(Tσ²), which is not in this.
    Source: label noise as a regulariser, Blanc et al. 2020, arXiv 1904.09080; for P and its modes by expansion.

    >>> label_noise_shift([1.0], depth=3, temperature=0.01, label_noise=1.0)      # ½(L−1)Tσ²
    array([0.01])
    >>> label_noise_shift([1.0, 0.5], depth=2, temperature=0.01, label_noise=1.0)
    array([0.01, 0.01])
    """
    s = np.asarray(targets, np.float64)
    a, size = s ** (1 / depth), len(s)
    sums = [0.5 * ((dim_in or size) + (dim_out or size)), *((a ** (2 * k)).sum() for k in range(1, depth - 1))]
    terms = sum(k * a ** (2 * k - depth) * sums[depth - 1 - k] for k in range(1, depth))
    return np.asarray(temperature * label_noise**2 / depth * terms)


def growth_rate(
    targets: ArrayLike, temperature: float, label_noise: float, lr: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Growth ``d log s_α / dt`` on the first plateau to first order in T, L = 2, white inputs, in three parts (m,).

    Without noise ``2s*_α − η s*_α²`` (the second term for discrete steps of size ``lr``); what a mode's own noise
    takes, ``T(2s*_α² + σ²)``; what that of stronger modes takes, ``T Σ_{s*_β > s*_α} (½(s*_α + s*_β)² + σ²)``. The rate
    is the first less the other two. It is that of the pivots ``det P_{1…α} / det P_{1…α−1}`` in the teacher's basis,
    which what stronger modes leave on the diagonal does not touch.
    Source: first-order perturbation about zero weights of Corlouer et al. 2026, arXiv 2604.06366.

    >>> free, own, others = growth_rate([2.0, 1.0], temperature=0.1, label_noise=0.0)
    >>> free - own - others
    array([3.2 , 1.35])
    """
    s = np.asarray(targets, np.float64)
    pairs = 0.5 * (s[:, None] + s) ** 2 + label_noise**2
    stronger = np.where(s > s[:, None], pairs, 0.0).sum(axis=1)
    return 2 * s - lr * s**2, temperature * (2 * s**2 + label_noise**2), temperature * stronger


def half_times(targets: ArrayLike, start: float, temperature: float, label_noise: float, lr: float = 0.0) -> Floats:
    """Times at which modes that all start at strength ``start`` reach ½s*, to first order in T; L = 2, white (m,).

    ``log s_α`` grows at ``growth_rate``'s rate while stronger modes wait, and faster with every one that is learned: it
    then takes ``T(½s*_α² + σ²)`` in place of ``T(½(s*_α + s*_β)² + σ²)``. Infinite where the noise outweighs the
    growth. Corrections are of order T without the large factor ``log(s*/start)``.
    Source: first-order perturbation about zero and about learned weights of Corlouer et al. 2026, arXiv 2604.06366.

    >>> half_times([2.0, 1.0], start=1e-4, temperature=0.01, label_noise=0.5)
    array([2.52799937, 4.72657885])
    """
    s = np.asarray(targets, np.float64)
    free, own, _ = growth_rate(s, temperature, label_noise, lr)
    waiting = temperature * (0.5 * (s[:, None] + s) ** 2 + label_noise**2)
    learned = temperature * (0.5 * s**2 + label_noise**2)
    times = np.full(s.shape, np.inf)
    for mode in np.argsort(-s):
        left, now = np.log(s[mode] / start - 1), 0.0
        stronger = sorted(np.flatnonzero(s > s[mode]), key=lambda other: times[other])
        for stage in range(len(stronger) + 1):
            rate = free[mode] - own[mode] - stage * learned[mode] - waiting[mode, stronger[stage:]].sum()
            end = times[stronger[stage]] if stage < len(stronger) else np.inf
            if rate * (end - now) >= left:
                times[mode] = now + left / rate
                break
            left, now = left - rate * (end - now), end
    return times


def _noise(data: Data, weights: Weights) -> tuple[tuple[list[Floats], list[Floats]], Floats, Floats]:
    """``(W_{>l}, W_{<l})`` of every layer, ``ΔΣ`` and ``N = ΔΣΔᵀ + σ²I``."""
    if not isinstance(data, GaussianData):
        raise TypeError(f"data must be GaussianData, whose noise is in closed form, got a {type(data).__name__}")
    around = surroundings(weights)
    error = weights[-1] @ around[1][-1] - data.teacher
    pull = error @ data.sigma
    return around, pull, pull @ _t(error) + data.label_noise**2 * np.eye(data.dim_out)


def _trace(matrices: Floats) -> Floats:
    """Traces as 1 × 1 matrices."""
    return np.asarray(np.trace(matrices, axis1=1, axis2=2)[:, None, None])
