"""Signal and noise of the gradient along the leading singular pairs of every weight, with a random control.

For the singular pair (u_α, v_α) of a weight W with singular value s_α, and the gradient G_i of one sample,

    signal   u_αᵀ ḡ v_α              how fast the strength s_α changes: ds_α = −η u_αᵀ ḡ v_α to first order,
    variance Var_i[u_αᵀ G_i v_α]     its noise: one step has the variance η²/B times that.

The control takes fixed random pairs of unit vectors in place of (u_α, v_α). A peak that the control shows too is no
property of the mode.
"""

from __future__ import annotations

from collections.abc import Mapping

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.capture import Frame
from saddlescope.monitor.directions import Directions
from saddlescope.monitor.record import Values, merged
from saddlescope.monitor.sample import Sample, Seen


def frame(directions: Directions, control: tuple[Tensor, Tensor]) -> Frame:
    """The directions to project on, with those of the control."""
    return Frame(directions.U, directions.V, *control)


def random_pairs(shape: tuple[int, int], count: int, like: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Random unit vectors, columns of (m, count) and (n, count); no global generator is used."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(side, count, generator=generator, dtype=torch.float64) for side in shape)
    left, right = ((x / x.norm(dim=0)).to(device=like.device, dtype=like.dtype) for x in drawn)
    return left, right


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
    return merged(*(_one(name, seen) for name, seen in sample.seen.items() if seen.directions is not None))


def _one(name: str, seen: Seen) -> Values:
    found: dict[str, Tensor] = {"check": seen.check, "status": torch.tensor(seen.status)}
    if seen.signal is not None:
        found["mode_signal"] = seen.signal
    if seen.projections is not None:
        found |= {
            "mode_signal_stderr": seen.projections.mean_stderr,
            "mode_variance": seen.projections.variance,
            "mode_variance_stderr": seen.projections.variance_stderr,
        }
    if seen.control is not None:
        found |= {
            "control_signal": seen.control.mean,
            "control_signal_stderr": seen.control.mean_stderr,
            "control_variance": seen.control.variance,
            "control_variance_stderr": seen.control.variance_stderr,
        }
    return {variable: {name: value} for variable, value in found.items()}
