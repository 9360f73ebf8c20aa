"""Leading singular directions of a weight, refreshed from those of the sample before.

One step of block power iteration with Rayleigh–Ritz, on a basis V of k + EXTRA columns:

    Q = orth(WV),  WᵀQ = P R,  Rᵀ = A s Bᵀ,  u = QA,  v = PB,

so that ``Wᵀu = sv`` holds to rounding and ``‖Wv − su‖`` says how far the pair is from a singular one. Steps are
repeated until that is small beside s. A weight that has moved a little since the last sample needs one.
Source: Halko, Martinsson & Tropp 2011, SIAM Review 53:217; Stewart & Sun 1990, Matrix Perturbation Theory.
"""

from __future__ import annotations

from dataclasses import dataclass

from saddlescope.monitor._torch import Tensor, torch, wide

EXTRA = 4
"""Columns beyond k. The error of pair α falls by ``(s_{k+EXTRA+1}/s_α)²`` a step."""
TOLERANCE = 1e-2
"""Residual, relative to s, at which steps end: s is then known to about its square, 1e-4."""
WARM_STEPS, COLD_STEPS = 4, 40
SMALL = 64
"""Up to this smaller side, a first full SVD is as fast as steps from a random basis."""


@dataclass(frozen=True, eq=False)
class Directions:
    """Leading singular triplets ``W ≈ U diag(s) Vᵀ``, s descending.

    ``residual`` is ``‖Wv_α − s_αu_α‖/s_α``. Pairs with one label in ``block`` have singular values too close to tell
    their directions apart: only sums over the block have a meaning. ``basis`` starts the next call.
    """

    U: Tensor
    s: Tensor
    V: Tensor
    residual: Tensor
    block: Tensor
    basis: Tensor


def leading(W: Tensor, k: int, warm: Tensor | None = None) -> Directions:
    """The ``min(k, m, n)`` leading singular triplets of W (m, n); signs and blocks follow ``warm``, an earlier basis.

    All NaN where W is not finite. Half precision is computed in float32; no global generator is used.

    >>> found = leading(torch.diag(torch.tensor([3.0, 1.0, 2.0])), k=2)
    >>> found.s, found.block
    (tensor([3., 2.]), tensor([0, 1]))
    """
    with torch.no_grad():
        return _leading(W.detach().to(wide(W.dtype)), k, warm)


def _leading(W: Tensor, k: int, warm: Tensor | None) -> Directions:
    m, n = W.shape
    columns, k = min(k + EXTRA, m, n), min(k, m, n)
    known = warm is not None and warm.shape == (n, columns) and bool(torch.isfinite(warm).all())
    if not torch.isfinite(W).all():
        return _nothing(W, k, warm if known and warm is not None else W.new_full((n, columns), torch.nan))
    if known and warm is not None:
        basis, steps = warm.to(W), WARM_STEPS
    else:
        basis, steps = _start(W, columns), COLD_STEPS
    U, s, V, residual = _iterate(W, basis, k, steps)
    block = _blocks(s[:k], residual[:k])
    if known:
        U, V = _continued(U, V, basis, block)
    return Directions(U[:, :k].contiguous(), s[:k], V[:, :k].contiguous(), residual[:k], block, V)


def _start(W: Tensor, columns: int) -> Tensor:
    """The first basis (n, columns): exact for small matrices, otherwise random from a fixed seed."""
    if min(W.shape) <= SMALL:
        return torch.linalg.svd(W, full_matrices=False).Vh[:columns].mT
    generator = torch.Generator(W.device).manual_seed(0)
    return torch.randn(W.shape[1], columns, generator=generator, dtype=W.dtype, device=W.device)


def _iterate(W: Tensor, V: Tensor, k: int, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps until the first k residuals are below TOLERANCE: U, s, V, residual."""
    Y = W @ V
    for _ in range(steps):
        Q = torch.linalg.qr(Y).Q
        P, R = torch.linalg.qr((Q.mT @ W).mT)
        A, s, Bh = torch.linalg.svd(R.mT)
        U, V = Q @ A, P @ Bh.mT
        Y = W @ V
        zero = max(W.shape) * torch.finfo(W.dtype).eps * s[:1]
        residual = torch.linalg.vector_norm(Y - U * s, dim=0) / torch.maximum(s, zero)
        residual = residual.nan_to_num(0.0)
        if bool((residual[:k] <= TOLERANCE).all()):
            break
    return U, s, V, residual


def _blocks(s: Tensor, residual: Tensor) -> Tensor:
    """Labels 0, 1, … of groups of singular values whose gaps are no larger than twice the larger residual."""
    error = residual * s
    together = s[:-1] - s[1:] <= 2 * torch.maximum(error[:-1], error[1:])
    first = torch.zeros(1, dtype=torch.long, device=s.device)
    return torch.cat([first, (~together).long().cumsum(0)])


def _continued(U: Tensor, V: Tensor, before: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of every block rotated onto those before by ``O = ABᵀ``, ``VᵀV_before = AsBᵀ``; of single pairs, the sign."""
    overlap = torch.zeros(V.shape[1], V.shape[1], dtype=V.dtype, device=V.device)
    overlap.diagonal().copy_((V * before).sum(0))
    turn = torch.diag(torch.where(overlap.diagonal() < 0, -1.0, 1.0).to(V.dtype))
    _, sizes = torch.unique_consecutive(block, return_counts=True)
    start = 0
    for size in sizes.tolist():
        here = slice(start, start + size)
        if size > 1:
            A, _, Bh = torch.linalg.svd(V[:, here].mT @ before[:, here])
            turn[here, here] = A @ Bh
        start += size
    return U @ turn, V @ turn


def _nothing(W: Tensor, k: int, basis: Tensor) -> Directions:
    """Directions of a weight that is not finite."""
    nan = W.new_full((k,), torch.nan)
    U, V = W.new_full((W.shape[0], k), torch.nan), W.new_full((W.shape[1], k), torch.nan)
    return Directions(U, nan, V, nan, torch.arange(k, device=W.device), basis)
