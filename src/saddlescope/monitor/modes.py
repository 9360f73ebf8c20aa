"""Signal and noise of the gradient along the leading singular pairs of every weight, with a random control.

For the singular pair (u_α, v_α) of a weight W with singular value s_α, and the gradient G_i of one sample,

    signal   u_αᵀ ḡ v_α              how fast the strength s_α changes: ds_α = −η u_αᵀ ḡ v_α to first order,
    variance Var_i[u_αᵀ G_i v_α]     its noise: one step has the variance η²/B times that.

The control takes fixed random pairs of unit vectors in place of (u_α, v_α). A peak that the control shows too is no
property of the mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.capture import Frame
from saddlescope.monitor.directions import Directions
from saddlescope.monitor.moments import Moments
from saddlescope.monitor.record import Values
from saddlescope.monitor.sample import Sample


def frame(directions: Directions, control: tuple[Tensor, Tensor]) -> Frame:
    """The directions to project on, with those of the control."""
    return Frame(directions.U, directions.V, *control)


def random_pairs(shape: tuple[int, int], count: int, like: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Random unit vectors, columns of (m, count) and (n, count); no global generator is used."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(side, count, generator=generator, dtype=torch.float64) for side in shape)
    left, right = ((x / x.norm(dim=0)).to(device=like.device, dtype=like.dtype) for x in drawn)
    return left, right


def along(W: Tensor, directions: Directions) -> Directions:
    """Given directions on another weight: ``s_α = u_αᵀWv_α``, residual ``‖Wv_α − s_αu_α‖/|s_α|``."""
    U, V = directions.U, directions.V
    image = W.to(U.dtype) @ V
    s = (U * image).sum(0)
    return replace(directions, s=s, residual=(image - s * U).norm(dim=0) / s.abs())


def strengths(directions: Mapping[str, Directions]) -> Values:
    """Singular values, their residuals and degenerate blocks; they need no data."""
    return {
        "mode_strength": {name: one.s for name, one in directions.items()},
        "mode_residual": {name: one.residual for name, one in directions.items()},
        "mode_block": {name: one.block for name, one in directions.items()},
    }


def measure(sample: Sample) -> Values:
    """Signals and variances of all weights, with standard errors, and the self-check.

    ``check`` is the relative difference of ``Σ_i u_αᵀG_iv_α`` from ``u_αᵀ(Σ_i G_i)v_α``, two ways to the same number.
    """
    seen = {name: one for name, one in sample.seen.items() if one.directions is not None}
    found: Values = {
        "check": {name: one.check for name, one in seen.items()},
        "status": {name: torch.tensor(one.status) for name, one in seen.items()},
        "mode_signal": {name: one.signal for name, one in seen.items() if one.signal is not None},
    }
    along = {name: one.projections for name, one in seen.items() if one.projections is not None}
    control = {name: one.control for name, one in seen.items() if one.control is not None}
    if not along:
        return found
    return found | _spread("mode", along) | _spread("control", control) | {"control_signal": _split(control, "mean")}


def _spread(prefix: str, moments: Mapping[str, Moments]) -> Values:
    """Variances, and the standard errors of means and variances."""
    return {
        f"{prefix}_signal_stderr": _split(moments, "mean_stderr"),
        f"{prefix}_variance": _split(moments, "variance"),
        f"{prefix}_variance_stderr": _split(moments, "variance_stderr"),
    }


def _split(moments: Mapping[str, Moments], estimate: str) -> dict[str, Tensor]:
    """An estimate of all weights, computed together."""
    values = getattr(Moments.joined(list(moments.values())), estimate)
    return dict(zip(moments, values.split([len(one) for one in moments.values()]), strict=True))
