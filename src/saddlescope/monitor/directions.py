"""Leading singular directions of a weight, refreshed from those of the sample before.

A block Krylov iteration with Rayleigh–Ritz. Q (m, c) is an orthonormal basis of left directions, at first of WV, where
V is the basis of the sample before, k + EXTRA columns. One step:

    WᵀQ = P R,  Rᵀ = A s Bᵀ,  u = QA,  v = PB,  Q ← orth[Q, Wv],

so that ``Wᵀu = sv`` holds to rounding and ``‖Wv − su‖`` says how far the pair is from a singular one. Steps end when
that is small beside s. A weight that has moved by one percent since the last sample needs one.
Source: Musco & Musco 2015, NeurIPS 28; Stewart & Sun 1990, Matrix Perturbation Theory, chapter V.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from saddlescope.monitor._torch import Tensor, torch, wide

EXTRA = 4
"""Columns beyond k: the error of pair α falls by about ``(s_{k+EXTRA+1}/s_α)²`` in the first step, then faster."""
TOLERANCE = 1e-2
"""Residual, relative to s, at which steps end. The error of s is about its square over the relative gap to the rest."""
WARM_STEPS, COLD_STEPS = 6, 60
"""Largest number of steps."""
CLOSE = 1e-3
"""Gap, relative to s, up to which directions are one block even if exact: changes of W of that size turn them."""
ROUNDING = 16
"""Units of rounding of s_1 at which steps end, where s is 0 or as small."""
EXACT = 32
"""Smaller side of W up to which all of its singular values are computed, which is then faster than steps."""
WIDEST = 96
"""Columns of Q at which it is restarted from the leading pairs."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Leading singular triplets ``W ≈ U diag(s) Vᵀ``, s descending.

    ``residual`` is ``‖Wv_α − s_αu_α‖/s_α``. Singular values of one ``block`` (0, 1, …) are too close to tell their
    directions apart: only sums over the block have a meaning, and its directions are turned as close to the earlier
    ones as the block allows (s and residual are those before the turn). The last block may go on beyond k.
    ``basis`` (n, k + EXTRA) starts the next call.
    """

    U: Tensor
    s: Tensor
    V: Tensor
    residual: Tensor
    block: Tensor
    basis: Tensor


def leading(W: Tensor, k: int, warm: Tensor | None = None, tolerance: float = TOLERANCE) -> Directions:
    """The ``min(k, m, n)`` leading singular triplets of W (m, n); signs and blocks follow ``warm``, an earlier basis.

    All NaN where W is not finite. Half precision is computed in float32. No global generator is used. Raises ValueError
    where W is no matrix or k < 1.

    >>> found = leading(torch.diag(torch.tensor([3.0, 1.0, 2.0])), k=2)
    >>> found.s, found.block
    (tensor([3., 2.]), tensor([0, 1]))
    """
    if W.dim() != 2:
        raise ValueError(f"W must be a matrix, got shape {tuple(W.shape)}; write W.reshape(W.shape[0], -1)")
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}; it is the number of directions")
    with torch.no_grad(), torch.autocast(W.device.type, enabled=False):
        W = W.detach().to(wide(W.dtype))
        k, columns = min(k, *W.shape), min(k + EXTRA, *W.shape)
        if warm is not None and warm.shape != (W.shape[1], columns):
            warm = None
        Y = W @ (start := _start(W, columns, warm))
        if k == 0 or not math.isfinite(Y.sum()):
            if warm is not None and not torch.isfinite(warm).all():
                return leading(W, k, None, tolerance)
            return _nothing(W, k, torch.full_like(start, torch.nan) if warm is None else warm)
        try:
            if min(W.shape) <= EXACT:
                U, s, V, residual = _exact(W, k, columns)
            else:
                U, s, V, residual = _iterate(W, Y, k, COLD_STEPS if warm is None else WARM_STEPS, tolerance)
        except torch.linalg.LinAlgError:  # an overflow on the way
            return _nothing(W, k, torch.full_like(start, torch.nan))
        block = _blocks(s[:k].tolist(), residual)
        if warm is not None:
            _turn(U[:, :k], V[:, :k], warm[:, :k].to(V), block)
        return Directions(U[:, :k], s[:k], V[:, :k], s.new_tensor(residual), torch.tensor(block, device=W.device), V)


def _start(W: Tensor, columns: int, warm: Tensor | None) -> Tensor:
    """The columns (n, c) of a fixed seed, or the earlier basis and one of them."""
    if warm is None:
        return _random(W.shape[1], columns, W.dtype, W.device)
    basis = warm.to(W, copy=True)
    basis[:, -1:] += _remembered(W.shape[1], 1, W.dtype, W.device)  # lest a direction orthogonal to it grows unseen
    return basis


def _random(n: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return torch.randn(n, columns, generator=generator, dtype=dtype, device=device) / max(n, 1) ** 0.5


_remembered = functools.lru_cache(maxsize=128)(_random)


def _exact(W: Tensor, k: int, columns: int) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """U (m, c), s, V (n, c), and residuals that are rounding."""
    tall = W.shape[0] >= W.shape[1]
    left, s, right = torch.linalg.svd(W if tall else W.mT, full_matrices=False)
    U, V = (left, right.mT) if tall else (right.mT, left)
    values, rounding = s[:k].tolist(), torch.finfo(W.dtype)
    floor = rounding.eps * values[0]
    residual = [floor / max(one, floor, rounding.tiny) for one in values]
    return U[:, :columns].contiguous(), s[:columns], V[:, :columns].contiguous(), residual


def _iterate(W: Tensor, Y: Tensor, k: int, steps: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """At most so many steps, from Y = WV (m, c): U (m, c), s, V (n, c), and the residuals of the first k."""
    columns, rounding = Y.shape[1], torch.finfo(W.dtype)
    Q = torch.linalg.qr(Y).Q
    Z = (Q.mT @ W).mT
    while True:
        P, R = torch.linalg.qr(Z)
        A, s, Bh = torch.linalg.svd(R.mT)
        U, s, V = Q @ A[:, :columns], s[:columns], P @ Bh[:columns].mT
        Y = W @ V[:, :k]
        values, away = torch.stack([s[:k], torch.linalg.vector_norm(Y - U[:, :k] * s[:k], dim=0)]).tolist()
        steps, floor = steps - 1, rounding.eps * values[0]
        if steps == 0 or all(r <= max(tolerance * one, ROUNDING * floor) for r, one in zip(away, values, strict=True)):
            return U, s, V, [r / max(one, floor, rounding.tiny) for r, one in zip(away, values, strict=True)]
        if Q.shape[1] + k > WIDEST:
            Q, Z = U, V * s
        new = torch.linalg.qr(torch.cat([Q, Y], 1)).Q[:, Q.shape[1] :]
        Q, Z = torch.cat([Q, new], 1), torch.cat([Z, (new.mT @ W).mT], 1)


def _blocks(s: list[float], residual: list[float]) -> list[int]:
    """Labels 0, 1, … of groups of singular values with gaps up to twice the larger residual, or up to CLOSE."""
    reach, labels = [one * max(2 * by, CLOSE) for one, by in zip(s, residual, strict=True)], [0]
    for i in range(1, len(s)):
        labels.append(labels[-1] + (s[i - 1] - s[i] > max(reach[i - 1], reach[i])))
    return labels


def _turn(U: Tensor, V: Tensor, before: Tensor, labels: list[int]) -> None:
    """Turn the pairs of a block towards those before by the orthogonal factor of ``V_bᵀV_before``: of one, its sign."""
    signs = torch.copysign(V.new_ones(()), torch.linalg.vecdot(V, before, dim=0))
    for pairs in (U, V):
        pairs *= signs
    for label in {one for one in labels if labels.count(one) > 1}:
        here = slice(labels.index(label), labels.index(label) + labels.count(label))
        A, _, Bh = torch.linalg.svd(V[:, here].mT @ before[:, here])
        for pairs in (U, V):
            pairs[:, here] = pairs[:, here] @ (A @ Bh)


def _nothing(W: Tensor, k: int, basis: Tensor) -> Directions:
    """Directions of a weight that is not finite."""
    U, s, V = (W.new_full(shape, torch.nan) for shape in ((W.shape[0], k), (k,), (W.shape[1], k)))
    return Directions(U, s, V, s, torch.arange(k, device=W.device), basis)
