"""The law of a scalar SDE in time: which scheme brings it, and what is refused.

Cells that do not move (``evolution``) are exact in the long run, know absorbing ends, and are the faster where noise
spreads the law over many of them. Where they do not reach ``tol``, the quantiles are followed (``quantiles``), whatever
the noise; they know no ends where mass is lost. An error above ``tol`` is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from saddlescope.theory import evolution, quantiles
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.evolution import Stage, Transient
from saddlescope.theory.laws import Floats, Function
from saddlescope.theory.quantiles import QuantileLaw, Start

if TYPE_CHECKING:
    from saddlescope.theory.diffusion1d import Diffusion1D

_FEW, _MANY = 3, 5
"""Levels of cells that do not move: 891 and 8,019 cells."""

LawInTime = Transient | QuantileLaw
Levels = tuple[float | None, float | None]


def evolve(sde: Diffusion1D, start: float | Start, times: Floats, levels: Levels, tol: float) -> list[LawInTime]:
    """The laws at increasing ``times``, absorbed at ``levels`` (y) where given, each within ``tol`` in its cdf."""
    with np.errstate(all="ignore"):
        stage = evolution.stage_of(sde, start, float(times[-1]), levels)
        reasons: list[Unresolved] = []
        for scheme in (_few_cells, _many_cells) if any(stage.absorbs) else (_few_cells, _quantiles, _many_cells):
            try:
                return [*scheme(sde, stage, start, times, tol)]
            except Unresolved as reason:
                reasons.append(reason)
    raise ValueError(
        f"the law is not found to tol = {tol:g} in bounded work: {'; '.join(map(str, reasons[:2]))}; use a larger tol, "
        "other times, or an ensemble"
    )


def _few_cells(sde: Diffusion1D, stage: Stage, start: float | Start, times: Floats, tol: float) -> Sequence[Transient]:
    return evolution.evolve(sde, stage, start, times, tol, _FEW)


def _many_cells(sde: Diffusion1D, stage: Stage, start: float | Start, times: Floats, tol: float) -> Sequence[Transient]:
    return evolution.evolve(sde, stage, start, times, tol, _MANY)


def _quantiles(
    sde: Diffusion1D, stage: Stage, start: float | Start, times: Floats, tol: float
) -> Sequence[QuantileLaw]:
    return quantiles.evolve(sde, start, times, tol)


@dataclass(frozen=True)
class Mapped:
    """The law of ``to(x)``, as a start: for an increasing function with an inverse ``back``."""

    law: Start
    to: Function
    back: Function

    def cdf(self, x: ArrayLike) -> Floats:
        return self.law.cdf(self.back(np.asarray(x)))

    def ppf(self, q: ArrayLike) -> Floats:
        return self.to(self.law.ppf(q))

    @property
    def isf(self) -> Function:
        """Quantiles from above, if the law has them."""
        isf: Any = self.law.isf  # type: ignore[attr-defined]
        return lambda q: self.to(isf(q))
