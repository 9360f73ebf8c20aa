"""Signal and noise of the gradient along the leading singular pairs of every weight, with a random control.

For the singular pair (u_α, v_α) of a weight W with singular value s_α, and the gradient G_i of one sample,

    signal   u_αᵀ ḡ v_α              how fast the strength s_α changes: ds_α = −η u_αᵀ ḡ v_α to first order,
    variance Var_i[u_αᵀ G_i v_α]     its noise: one step has the variance η²/B times that.

The control takes fixed random pairs of unit vectors in place of (u_α, v_α). A peak that the control shows too is no
property of the mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.capture import Frame
from saddlescope.monitor.directions import Directions
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
    split = {name: one for name, one in sample.seen.items() if (g := one.gradient_norm2) is not None and len(g) > 1}
    states = seen | split  # vectors that are split into heads are among the weights too
    found: Values = {
        "check": _each(seen, [one.check for one in seen.values()]),
        "status": _each(states, [one.status for one in states.values()]),
        "mode_signal": {name: one.signal for name, one in seen.items() if one.signal is not None},
    }
    for table in sample.along:
        for estimate, variable in ESTIMATES.items():
            for (name, kind), value in table.split(getattr(table.moments, estimate)).items():
                if (kind, estimate) != ("modes", "mean"):  # the signal is known, of all samples
                    found.setdefault(f"{PREFIX[kind]}_{variable}", {})[name] = value
    return found


PREFIX = {"modes": "mode", "control": "control"}
"""How variables of these numbers of samples begin."""
ESTIMATES = {
    "mean": "signal",
    "mean_stderr": "signal_stderr",
    "variance": "variance",
    "variance_stderr": "variance_stderr",
}
"""Estimates from moments, and the variables that they are."""


def _each(names: Iterable[str], values: list[Any]) -> dict[str, Tensor]:
    """One number each."""
    return dict(zip(names, torch.tensor(values).unbind(), strict=True))
