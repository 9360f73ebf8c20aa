"""The law of a scalar SDE in time: which scheme brings it, and what is refused.

Fixed cells (``evolution``) are exact in the long run, know absorbing ends, and are the faster where noise
spreads the law over many of them. Where they do not reach ``tol``, the quantiles are followed (``quantiles``), whatever
the noise; they know no ends where mass is lost. An error above ``tol`` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._numbers import shown
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde import evolution, quantiles, renewal
from saddlescope.theory.sde.evolution import Transient
from saddlescope.theory.sde.laws import Floats, Function
from saddlescope.theory.sde.quantiles import QuantileLaw, Start

if TYPE_CHECKING:
    from saddlescope.theory.sde.diffusion1d import Diffusion1D

LawInTime = Transient | QuantileLaw
Levels = tuple[float | None, float | None]
Result = TypeVar("Result")


def evolve(sde: Diffusion1D, start: float | Start, times: Floats, levels: Levels, tol: float) -> list[LawInTime]:
    """The laws at increasing ``times``, absorbed at ``levels`` (y) where given, each within ``tol`` in its cdf."""

    def cells(patient: bool) -> Sequence[LawInTime]:
        return evolution.evolve(sde, stage, start, times, tol, patient)

    def followed() -> Sequence[LawInTime]:
        return quantiles.evolve(sde, start, times, tol)

    with np.errstate(all="ignore"):
        stage = evolution.stage_of(sde, start, float(times[-1]), levels)
        return [*_first_resolved(tol, cells, None if any(stage.absorbs) else followed)]


def passage_cdf(sde: Diffusion1D, start: float, target: float, times: Floats, levels: Levels, tol: float) -> Floats:
    """Probability to have passed from ``start`` to ``target``, one of ``levels`` (y), by increasing ``times``."""
    upwards = int(target > start)

    def cells(patient: bool) -> Floats:
        return np.array([law.absorbed[upwards] for law in evolution.evolve(sde, stage, start, times, tol, patient)])

    def renewed() -> Floats:
        return renewal.passage_cdf(sde, start, target, times, tol)

    with np.errstate(all="ignore"):
        stage = evolution.stage_of(sde, start, float(times[-1]), levels)
        return _first_resolved(tol, cells, None if stage.absorbs[1 - upwards] else renewed)


def _first_resolved(tol: float, cells: Callable[[bool], Result], moving: Callable[[], Result] | None) -> Result:
    """What reaches ``tol`` first: fixed cells, what moves with the law, many more cells."""
    reasons: list[str] = []
    for scheme in (lambda: cells(False), moving, lambda: cells(True)):
        try:
            if scheme is not None:
                return scheme()
        except Unresolved as reason:
            reasons.append(str(reason))
    raise ValueError(
        f"the law is not found to tol = {tol:g} in bounded work: {'; '.join(dict.fromkeys(reasons))}; use a larger "
        "tol, other times, or an ensemble"
    )


def check_law(start: Any, lower: float = -np.inf) -> None:
    """Refuse as a start what is no law of numbers above ``lower``.

    Raises TypeError where it has no ``cdf`` and ``ppf`` of arrays, ValueError where they do not belong together.
    """
    q = np.array([1e-9, 0.25, 0.5, 0.75])
    try:
        x, share = np.asarray(start.ppf(q)), np.asarray(start.cdf(np.asarray(start.ppf(q))))
    except Exception as error:
        raise TypeError(
            f"start must be a number, or a law with cdf and ppf of arrays as scipy.stats has them: {shown(error)}"
        ) from None
    if not all(values.shape == q.shape and values.dtype.kind in "fiu" for values in (x, share)):
        raise TypeError("start must be a law whose cdf and ppf map an array to an array of its shape")
    if not (np.isfinite(x).all() and (np.diff(x) >= 0).all() and (share >= q - 1e-6).all()):
        raise ValueError(f"start must be a law with increasing finite quantiles, those of its cdf, got {shown(x)}")
    if not x[0] > lower:
        raise ValueError(f"start must be a law of numbers above {lower:g}, got the quantile {x[0]:g}; shift or cut it")


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
