"""The full network, without assuming alignment: how noise drives the end-to-end map and couples its modes.

``weights`` are the layers, first to last, each (n, n_l, n_{l−1}) for n networks, in the basis of the data.
``Δ = P − M``, ``N = ΔΣΔᵀ + σ²I``, and ``W_{>l}``, ``W_{<l}`` are the products left and right of layer l.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats, Weights
from saddlescope._arrays import transposed as _t
from saddlescope._numbers import as_numbers, as_whole
from saddlescope.data import Data
from saddlescope.data.base import ROUNDING
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady
from saddlescope.theory.network._products import checked_layers, map_error, product, surroundings


@steady
def map_drift(data: Data, temperature: float, weights: Weights, lr: float = 0.0, share: float = 1.0) -> Floats:
    """Itô drift of P under gradient noise (n, dy, dx), strength per time.

    ``−Σ_l W_{>l}W_{>l}ᵀ ΔΣ W_{<l}ᵀW_{<l} + T Σ_{l<m} W_{>m}W_{>m}ᵀ ⟨G̃XG̃⟩ W_{<l}ᵀW_{<l}``,
    ``X = W_{<m}ᵀ W_{m−1}…W_{l+1} W_{>l}ᵀ``, for Gaussian data ``⟨G̃XG̃⟩ = N Xᵀ Σ + Tr(ΔΣX) ΔΣ``.
    ``lr`` η adds ``η ΔΣXΔΣ``, the second order of discrete steps, which for two layers is exact.
    Source: Itô's formula for a product of layers; Corlouer et al. 2026, arXiv 2604.06366, give the gradient noise.

    >>> from saddlescope import GaussianData
    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> float(map_drift(scalar, 0.1, [np.ones((1, 1, 1)), np.ones((1, 1, 1))])[0, 0, 0])   # 2s(s* − s) + T s g(s)
    2.3
    """
    _checks.check_noise(temperature, lr, share)
    weights = checked_layers(weights)
    depth, (above, below) = len(weights), surroundings(weights)
    error = map_error(data, weights)
    pull = error @ data.sigma
    left, right = [a @ _t(a) for a in above], [_t(b) @ b for b in below]
    drift = -sum(left[l] @ pull @ right[l] for l in range(depth))
    for m in range(depth):
        for l in range(m):
            between = product(weights[l + 1 : m], len(weights[0]), weights[l].shape[1])
            x = _t(below[m]) @ between @ _t(above[l])
            noise = temperature * _between(data, error, x, share) + lr * pull @ x @ pull
            drift = drift + left[m] @ noise @ right[l]
    return np.asarray(drift)


@steady
def map_covariance(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> Floats:
    """Covariance rate of the noise of P, ``T Cov[Σ_l W_{>l}W_{>l}ᵀ G W_{<l}ᵀW_{<l}]`` (n, dy, dx, dy, dx).

    With ``map_drift`` the exact Itô law of P. Source: Corlouer et al. 2026, arXiv 2604.06366.

    >>> from saddlescope import GaussianData
    >>> scalar = GaussianData([[2.0]], label_noise=1.0)
    >>> float(map_covariance(scalar, 0.1, [np.ones((1, 1, 1)), np.ones((1, 1, 1))]).squeeze())   # 4 T s² g(s)
    1.2
    """
    _checks.check_noise(temperature, share=share)
    return _covariance_between(data, temperature, weights, np.eye(data.dim_out), np.eye(data.dim_in), share)


@dataclass(frozen=True, repr=False)
class SingularValueSDE(_show.Shown):
    """``dσ_α = drift_α dt + noise``: σ (n, m) descending, drift (n, m) and the covariance rate of the noise (n, m, m).

    ``repulsion`` (n, m) is the drift in excess of that of ``u_αᵀPv_α``.
    """

    values: Floats
    drift: Floats
    repulsion: Floats
    covariance: Floats


@steady
def singular_value_sde(data: Data, temperature: float, weights: Weights, share: float = 1.0) -> SingularValueSDE:
    """Itô law of the singular values of P in any state, aligned or not; with ``E_ij = u_iᵀ dP v_j`` the drift is

        u_αᵀ⟨dP⟩v_α + ½ Σ_{β≠α} ⟨σ_α(E_βα² + E_αβ²) + 2σ_β E_αβE_βα⟩/(σ_α² − σ_β²),  σ_β = 0 beyond the m-th.

    Singular values must be positive and differ. ``strength_drift`` and ``singular_value_drift`` are its form at
    aligned, balanced, white states. Source: second-order perturbation of singular values.

    >>> from saddlescope import GaussianData
    >>> law = singular_value_sde(GaussianData(np.diag([1.0, 0.5]), label_noise=1.0), 0.1, [np.diag([1.0, 0.5])[None]])
    >>> law.repulsion.round(3)
    array([[ 0.133, -0.067]])
    """
    weights = checked_layers(weights)
    whole = product(weights, len(weights[0]), data.dim_in)
    if not np.isfinite(whole).all():
        raise ValueError("weights must be finite, got NaN or infinity; leave out networks that have diverged")
    left, values, rows = np.linalg.svd(whole)
    right, m = _t(rows), values.shape[1]
    ends = data.dim_out, data.dim_in
    noise = _covariance_between(data, temperature, weights, left, right, share)
    sigma = [np.concatenate([values, np.zeros((len(values), size - m))], axis=1) for size in ends]
    own, square = values[:, :, None], np.einsum("nijij->nij", noise)
    gaps = [own**2 - other[:, None] ** 2 for other in sigma]
    for gap in gaps:
        gap[:, *np.diag_indices(m)] = np.inf
        if (np.abs(gap) <= ROUNDING * values[:, :1, None] ** 2).any():
            raise ValueError("singular values of P must be positive and differ; equal ones repel without bound")
    swapped = np.einsum("nijji->nij", noise[:, :m, :m, :m, :m])
    repulsion = (own * square[:, :m] / gaps[1]).sum(axis=2) + (own * _t(square[:, :, :m]) / gaps[0]).sum(axis=2)
    repulsion = (repulsion + (2 * values[:, None] * swapped / gaps[0][:, :, :m]).sum(axis=2)) / 2
    along = np.einsum(
        "nia,nij,nja->na", left[:, :, :m], map_drift(data, temperature, weights, share=share), right[:, :, :m]
    )
    return SingularValueSDE(values, along + repulsion, repulsion, np.einsum("naabb->nab", noise[:, :m, :m, :m, :m]))


@steady
def strength_drift(
    strengths: ArrayLike, targets: ArrayLike, depth: int, temperature: float, label_noise: float
) -> Floats:
    """Itô drift of every ``u_αᵀPv_α`` at an aligned, balanced state with white inputs (m,), strength per time.

    That of the mode SDE, ``L s^{2κ}(s* − s) + ½L(L−1) T s^{3−4/L} g``, and with ``δ = s − s*`` the coupling
    ``T δ_α Σ_{r=1}^{L−1} (L−r) a_α^{2(L−1−r)} Σ_{β≠α} δ_β a_β^{L−2+2r}``: label noise of other modes does not enter.
    Source: Itô's formula on Corlouer et al. 2026, arXiv 2604.06366.

    >>> strength_drift([1.0, 0.5], [2.0, 1.0], depth=2, temperature=0.1, label_noise=0.0).round(3)
    array([2.225, 0.575])
    """
    s, target = _aligned(strengths, targets, depth, temperature, label_noise)
    a, delta, L = s ** (1 / depth), s - target, depth
    g = 2 * delta**2 + label_noise**2
    own = -L * a ** (2 * L - 2) * delta + L * (L - 1) / 2 * temperature * a ** (3 * L - 4) * g
    coupling = np.zeros_like(s)
    for r in range(1, L):
        terms = delta * a ** (L - 2 + 2 * r)
        coupling += (L - r) * a ** (2 * (L - 1 - r)) * (terms.sum() - terms)
    return np.asarray(own + temperature * delta * coupling)


@steady
def singular_value_drift(
    strengths: ArrayLike,
    targets: ArrayLike,
    depth: int,
    temperature: float,
    label_noise: float,
    dim_in: int | None = None,
    dim_out: int | None = None,
) -> Floats:
    """Drift of singular values of P in excess of ``u_αᵀPv_α`` at an aligned, balanced, white state (m,): they repel.

    ``T Σ_{β≠α} h² [s_α(δ_α² + δ_β² + 2σ²) + 2 s_β δ_α δ_β] / (2(s_α² − s_β²))``, ``h = Σ_l a_α^{2(L−l)} a_β^{2(l−1)}``,
    and for m < dx or m < dy modes ``½ T s_α^{3−4/L} [(dx−m)(δ_α² + σ²) + (dy−m)σ²]``. Strengths must differ.
    Source: second-order perturbation of singular values, with the noise of Corlouer et al. 2026, arXiv 2604.06366.

    >>> singular_value_drift([1.0, 0.5], [1.0, 0.5], depth=2, temperature=0.1, label_noise=1.0).round(3)
    array([ 0.3 , -0.15])
    """
    s, target = _aligned(strengths, targets, depth, temperature, label_noise)
    a, delta, noise, m = s ** (1 / depth), s - target, label_noise**2, len(s)
    h = sum(a[:, None] ** (2 * (depth - l)) * a ** (2 * (l - 1)) for l in range(1, depth + 1))
    square = delta**2
    top = s[:, None] * (square[:, None] + square + 2 * noise) + 2 * s * delta[:, None] * delta
    gap = s[:, None] ** 2 - s**2
    if m > 1 and (gap[~np.eye(m, dtype=bool)] == 0).any():
        raise ValueError(f"strengths must differ from each other, got {s.tolist()}; equal ones repel without bound")
    np.fill_diagonal(gap, np.inf)
    repulsion = (h**2 * top / (2 * gap)).sum(axis=1)
    ends = _ends(m, dim_in, dim_out)
    outside = (ends[0] - m) * (square + noise) + (ends[1] - m) * noise
    return np.asarray(temperature * (repulsion + 0.5 * a ** (3 * depth - 4) * outside))


@steady
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
    ``A_0 = ½(dx + dy)``. With the noise of one mode alone the shift is ``½(L−1)Tσ² s*^{1−2/L}``. For L ≥ 3, or
    dx ≠ dy, layers lose their balance after times of order 1/(Tσ²), which this leaves out.
    Source: label noise as a regulariser, Blanc et al. 2020, arXiv 1904.09080; for P and its modes by expansion.

    >>> label_noise_shift([1.0], depth=3, temperature=0.01, label_noise=1.0)      # ½(L−1)Tσ²
    array([0.01])
    >>> label_noise_shift([1.0, 0.5], depth=2, temperature=0.01, label_noise=1.0)
    array([0.01, 0.01])
    """
    s, _ = _aligned(targets, targets, depth, temperature, label_noise)
    if not (s > 0).all():
        raise ValueError(f"targets must be positive, got {s.tolist()}; a mode without strength is not learned")
    a, ends = s ** (1 / depth), _ends(len(s), dim_in, dim_out)
    sums = [0.5 * sum(ends), *((a ** (2 * k)).sum() for k in range(1, depth - 1))]
    terms = sum((k * a ** (2 * k - depth) * sums[depth - 1 - k] for k in range(1, depth)), start=np.zeros_like(s))
    return np.asarray(temperature * label_noise**2 / depth * terms)


def _aligned(
    strengths: ArrayLike, targets: ArrayLike, depth: int, temperature: float, label_noise: float
) -> tuple[Floats, Floats]:
    """Strengths and targets, one of each for a mode."""
    _checks.not_negative(temperature=temperature, label_noise=label_noise)
    s, target, depth = as_numbers(strengths, "strengths"), as_numbers(targets, "targets"), as_whole(depth, "depth")
    if s.ndim != 1 or s.shape != target.shape or depth < 1 or not (s >= 0).all():
        raise ValueError(
            f"strengths and targets must be one number for each mode, strengths not negative, at a depth of at least "
            f"1, got shapes {s.shape} and {target.shape} at depth {depth}, least strength {s.min(initial=0):g}"
        )
    return s, target


def _ends(modes: int, dim_in: int | None, dim_out: int | None) -> tuple[int, int]:
    """Sizes of input and output, those of the modes where not given."""
    ends = modes if dim_in is None else dim_in, modes if dim_out is None else dim_out
    if min(ends) < modes:
        raise ValueError(
            f"dim_in and dim_out must be at least the number of modes, {modes}, got {ends[0]} and {ends[1]}"
        )
    return ends


def _between(data: Data, error: Floats, x: Floats, share: float) -> Floats:
    """``⟨G̃XG̃⟩`` (n, dy, dx) for X (n, dx, dy)."""
    if data.gaussian:
        pull = error @ data.sigma
        spread = pull @ _t(error) + data.label_noise**2 * np.eye(data.dim_out)
        trace = np.einsum("nij,nji->n", pull, x)[:, None, None]
        return np.asarray(spread @ _t(x) @ data.sigma + trace * pull)
    entries = np.indices((data.dim_out, data.dim_in)).reshape(2, -1)
    p, q = (np.eye(size)[index] for size, index in zip((data.dim_out, data.dim_in), entries, strict=True))
    covariance = data.gradient_covariance(error, np.broadcast_to(p, (len(error), *p.shape)), q, share)
    shape = (-1, data.dim_out, data.dim_in, data.dim_out, data.dim_in)
    return np.asarray(np.einsum("niabj,nab->nij", covariance.reshape(shape), x))


def _covariance_between(
    data: Data, temperature: float, weights: Weights, left: Floats, right: Floats, share: float
) -> Floats:
    """``T Cov[u_iᵀ(Σ_l W_{>l}W_{>l}ᵀ G W_{<l}ᵀW_{<l})v_j]`` over all pairs, u and v the columns of two bases."""
    weights = checked_layers(weights)
    (above, below), count, depth = surroundings(weights), len(weights[0]), len(weights)
    p = np.stack([_t(a @ (_t(a) @ left)) for a in above], axis=2)
    q = np.stack([_t(_t(b) @ (b @ right)) for b in below], axis=2)
    rows, columns = p.shape[1], q.shape[1]
    p = np.broadcast_to(p[:, :, None], (count, rows, columns, *p.shape[2:])).reshape(count, -1, data.dim_out)
    q = np.broadcast_to(q[:, None], (count, rows, columns, *q.shape[2:])).reshape(count, -1, data.dim_in)
    covariance = data.gradient_covariance(map_error(data, weights), p, q, share)
    shape = (count, rows, columns, depth, rows, columns, depth)
    return np.asarray(temperature * covariance.reshape(shape).sum(axis=(3, 6)))
