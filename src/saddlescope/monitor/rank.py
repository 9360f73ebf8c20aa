"""Ranks of weights from their leading singular values, and the determinant of neighbouring linear layers.

Effective rank. With the k largest singular values s, ``‖W‖_F`` and the number of all, ``min(m, n)``, the remaining
``N = min(m, n) − k`` values x are known by ``Σx² = Q = ‖W‖_F² − Σs²`` and ``0 ≤ x ≤ s_k``. Let p be all values over
their sum S, ``H = −Σp log p`` and μ the multiplier of the constraint: ``∂H/∂x = −(log p + H)/S``, and inside the bounds
``log p + H + μp = 0``.

*Largest H*: all x are ``√(Q/N)``. No x is 0, where the slope is infinite. At μ < 0 all remaining p, and the known ones
above them, exceed ``e^{−H}``, which is their geometric mean weighted by p: a contradiction. At μ ≥ 0 there is one root,
and no x at its bound s_k satisfies the sign of its multiplier unless all do.

*Smallest H*: as many x as fit are s_k, one is what is left of Q, and the others are 0. For two x inside the bounds
with others fixed, H would have a minimum on the arc ``x_i² + x_j² = const``. If they are equal, the second derivative
asks for ``log p ≥ 1 − H``; at most one p that is not 0, call it a, is then below ``e^{1−H}``, and
``−H = Σp log p ≥ a log a + (1 − a)(1 − H)`` means ``H ≤ log(1/a) − 1/a + 1 ≤ 0``: a contradiction. If they are
``a < b = za``, the second derivative is, up to a positive factor,
``(1 + z²) log z/(z − 1) − (z³ + 1)/z + a(z − 1)²``, negative for all z > 1, since ``a ≤ 1/(1 + 2z)`` (a known value
is b or more) and ``log z ≤ (z − 1)/√z``.

Determinant. Two linear layers with nothing in between see the gradient J of their product W_2W_1, and a step of SGD is
``Θ ← Θ(I − ηS)`` with ``Θ = [W_1, W_2ᵀ]``, ``S = [[0, Jᵀ], [J, 0]]``. ``J_i = Σ_t δ_it a_itᵀ`` of sample i is an
``uses.Outer`` of the input a of the lower layer and the output gradient δ of the upper one.
Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133; the rest is derived here and in ``theory``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from saddlescope._arrays import Floats
from saddlescope.monitor._torch import Tensor, double, nn, torch, wide
from saddlescope.monitor.directions import Directions
from saddlescope.monitor.moments import Moments, trace
from saddlescope.monitor.record import Values
from saddlescope.monitor.sites import Site

ROUNDING = 4
"""Units of rounding of ``‖W‖_F²`` by which ``‖W‖_F² − Σs²`` may be off."""


def measure(
    sites: Mapping[str, Site], directions: Mapping[str, Directions], interfaces: Mapping[str, tuple[str, str]] = {}
) -> Values:
    """Norm, stable rank and bounds of the effective rank of matrices, ``log_det`` of interfaces; no data needed.

    ``interfaces``: name → names of the lower and the upper weight.
    """
    found: Values = {"frobenius": {}, "stable_rank": {}, "effective_rank_low": {}, "effective_rank_high": {}}
    alike: dict[tuple[object, ...], list[str]] = {}
    for name in (name for name in directions if name in sites):
        s = directions[name].s
        found["frobenius"][name] = frobenius(sites[name].parameter)
        alike.setdefault((len(s), s.dtype, s.device), []).append(name)
    for names in alike.values():
        parts = [(directions[name].s, directions[name].residual, found["frobenius"][name][None]) for name in names]
        numbers = torch.stack([torch.cat(part) for part in parts]).cpu().numpy()
        k = numbers.shape[1] // 2
        s, residual, norm = numbers[:, :k], numbers[:, k:-1], numbers[:, -1]
        size = np.array([min(sites[name].shape or (0, 0)) for name in names])
        low, high = effective_rank_bounds(s, norm, size, residual)
        for variable, values in zip(list(found)[1:], (stable_rank(s, norm), low, high), strict=True):
            found[variable] |= zip(names, torch.from_numpy(values).unbind(), strict=True)
    dets = {
        name: log_det(sites[lower].parameter.flatten(1), sites[upper].parameter.flatten(1))
        for name, (lower, upper) in interfaces.items()
        if lower in sites and upper in sites
    }
    return found | ({"log_det": dets} if dets else {})


def frobenius(W: Tensor) -> Tensor:
    """``‖W‖_F``.

    >>> frobenius(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(5.)
    """
    return torch.linalg.vector_norm(W.detach(), dtype=wide(W.dtype))


def stable_rank(s: Any, norm: Any) -> Floats:
    """``‖W‖_F²/s_1²`` from singular values (…, k), largest first, and the norms (…); 0 for W = 0.

    >>> stable_rank([4.0], 5.0)
    array(1.5625)
    """
    largest = np.asarray(s, np.float64)[..., 0]
    return np.asarray((norm / np.where(largest == 0, 1.0, largest)) ** 2)


def effective_rank(s: Any) -> Floats:
    """``exp(−Σ p log p)``, p all singular values (…, k) over their sum; 0 for W = 0.

    Source: Roy & Vetterli 2007, EUSIPCO, definition 2.

    >>> effective_rank([2.0, 2.0, 0.0])
    array(2.)
    """
    values = np.asarray(s, np.float64)
    return _exp_entropy(values, np.ones_like(values))


def effective_rank_bounds(s: Any, norm: Any, size: Any, residual: Any = 0.0) -> tuple[Floats, Floats]:
    """The least and the largest effective rank of matrices (…) with these k largest singular values and norms.

    s (…, k), largest first; norm ``‖W‖_F`` (…); size ``min(m, n)`` (…). Both bounds are attained, and equal if k is
    size. The bounds allow for rounding, and for values that are too small by ``residual`` (…, k) relative to s.

    >>> low, high = effective_rank_bounds([2.0], 8**0.5, 5)   # the spectra (2, 2, 0, 0, 0) and (2, 1, 1, 1, 1)
    >>> round(float(low), 6), round(float(high), 6)
    (2.0, 4.762203)
    """
    s = np.asarray(s) * 1.0
    slack, norm2 = ROUNDING * np.finfo(s.dtype).eps, np.asarray(norm, np.float64) ** 2
    s = s.astype(np.float64)
    top = s * (1 + np.asarray(residual, np.float64))
    cap, count = top[..., -1], np.asarray(size) - s.shape[-1]
    least = np.clip(norm2 * (1 - slack) - (top**2).sum(-1), 0, count * cap**2)
    most = np.clip(norm2 * (1 + slack) - (s**2).sum(-1), 0, count * cap**2)
    full = np.floor(least / np.where(cap > 0, cap, 1.0) ** 2)
    left = np.sqrt(np.maximum(least - full * cap**2, 0))
    equal = np.sqrt(most / np.maximum(count, 1))
    once = np.ones_like(s)
    low = _exp_entropy(_with(s, cap, left), _with(once, full, np.ones_like(cap)))
    return low, _exp_entropy(_with(s, equal), _with(once, count))


def _with(values: Floats, *more: Floats) -> Floats:
    """Further columns (…) beside values (…, k)."""
    return np.concatenate([values, *(np.broadcast_to(one, values.shape[:-1])[..., None] for one in more)], axis=-1)


def _exp_entropy(values: Floats, times: Floats) -> Floats:
    """``exp(−Σ p log p)`` of values (…, j) that are there ``times`` (…, j); 0 if all are 0."""
    total = (times * values).sum(-1, keepdims=True)
    p = values / np.where(total == 0, 1.0, total)
    entropy = -(times * p * np.log(np.where(p == 0, 1.0, p))).sum(-1)
    return np.asarray(np.where(total[..., 0] == 0, 0.0, np.exp(entropy)))


# --- the determinant of neighbouring linear layers


def interfaces(model: nn.Module) -> dict[str, tuple[str, str]]:
    """Neighbouring linear layers in ``nn.Sequential``, the lower without bias: name → names of the two weights.

    >>> interfaces(nn.Sequential(nn.Linear(2, 8, bias=False), nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 1)))
    {'0~1': ('0.weight', '1.weight')}
    """
    found = {}
    for prefix, module in model.named_modules():
        if type(module) is nn.Sequential:
            for (below, lower), (above, upper) in itertools.pairwise(module.named_children()):
                if type(lower) is type(upper) is nn.Linear and lower.bias is None:
                    start = f"{prefix}." if prefix else ""
                    found[f"{start}{below}~{start}{above}"] = (f"{start}{below}.weight", f"{start}{above}.weight")
    return found


def neighbours(lower: Tensor, upper: Tensor) -> Tensor:
    """``Θ = [W_1, W_2ᵀ]`` (h, n_0 + n_2) in float64, from W_1 (h, n_0) and W_2 (n_2, h). ValueError if they do not fit.

    >>> neighbours(torch.ones(3, 1), torch.ones(1, 3)).shape
    torch.Size([3, 2])
    """
    if lower.dim() != 2 or upper.dim() != 2 or lower.shape[0] != upper.shape[1]:
        raise ValueError(
            f"lower and upper must be (h, n_0) and (n_2, h), got {tuple(lower.shape)} and {tuple(upper.shape)}"
        )
    return torch.cat([double(lower), double(upper).mT], 1)


def log_det(lower: Tensor, upper: Tensor) -> Tensor:
    """``log det ΘᵀΘ`` by QR; NaN where h < n_0 + n_2, −∞ where Θ has lost rank.

    >>> log_det(torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 2.0]])).exp().round(decimals=6)
    tensor(4., dtype=torch.float64)
    """
    theta = neighbours(lower, upper)
    if theta.shape[0] < theta.shape[1]:
        return theta.new_tensor(torch.nan)
    return 2 * torch.linalg.qr(theta, mode="r").R.diagonal().abs().log().sum()


def log_det_step(gradient: Tensor, lr: float, weight_decay: float = 0.0) -> Tensor:
    """Change of ``log_det`` by one step of SGD, exactly, from the batch's gradient J (n_2, n_0) of the product.

    ``2 Σ_i log|(1−ηγ)² − η²s_i(J)²| + 2|n_0 − n_2| log|1−ηγ|``; NaN if J is not finite.

    >>> log_det_step(torch.tensor([[0.5]]), lr=1.0).exp().round(decimals=6)
    tensor(0.5625, dtype=torch.float64)
    """
    J = double(gradient)
    if not torch.isfinite(J).all():
        return J.new_tensor(torch.nan)
    keep = 1 - lr * weight_decay
    values = lr * torch.linalg.svdvals(J)
    beside = 2 * abs(J.shape[0] - J.shape[1]) * J.new_tensor(keep).abs().log() if weight_decay else 0.0
    return 2 * (keep**2 - values.square()).abs().log().sum() + beside


@dataclass(frozen=True, eq=False)
class Change:
    """Expected change of ``log_det`` by one step, split, with standard errors; float64."""

    noise: Tensor
    noise_stderr: Tensor
    gradient: Tensor
    gradient_stderr: Tensor

    @property
    def total(self) -> Tensor:
        """Noise and gradient part together, ``−2η²‖J̄‖²``: its standard error is ``gradient_stderr``."""
        return self.noise + self.gradient


def log_det_change(squares: Tensor, mean_norm2: Tensor, lr: float, batch_size: int) -> Change:
    """Expected change of ``log_det`` by a step on B fresh samples: ``−2η²(Tr Cov[J_i]/B + ‖E J‖²)``, to order (ηJ)².

    ``squares``: ‖J_i‖² (b,) of some of the B samples, ``J_i`` being B times the contribution of sample i to the
    gradient of the product; ``mean_norm2``: ‖J̄‖² of the mean over all B. Both parts are unbiased.

    >>> J = torch.tensor([[1.0], [3.0]]).double()
    >>> log_det_change(J.square().sum(1), J.mean(0).square().sum(), lr=0.1, batch_size=2).noise
    tensor(-0.0200, dtype=torch.float64)
    """
    found = trace(Moments.from_samples(squares), mean_norm2, batch_size)
    rate = 2 * lr**2
    return Change(
        noise=-rate / batch_size * found.value.squeeze(-1),
        noise_stderr=rate / batch_size * found.stderr.squeeze(-1),
        gradient=-rate * found.gradient_norm2.squeeze(-1),
        gradient_stderr=rate * found.gradient_norm2_stderr.squeeze(-1),
    )
