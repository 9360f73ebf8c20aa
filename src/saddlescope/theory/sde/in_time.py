"""The law of a scalar SDE in time: which scheme is used, and which requests are refused.

Fixed cells (``evolution``) are exact in the long run, allow absorbing ends, and are faster where noise spreads the law
over many of them. Where they do not reach ``tol``, the quantiles are followed (``quantiles``), at any noise, but not
with ends where mass is lost. An error above ``tol`` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from saddlescope._arrays import Floats
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde import cells, evolution, quantiles, renewal
from saddlescope.theory.sde.quantile_law import QuantileLaw
from saddlescope.theory.sde.scale_speed import ScaleSpeed
from saddlescope.theory.sde.start import Start
from saddlescope.theory.sde.transient import Transient

LawInTime = Transient | QuantileLaw
Levels = tuple[float | None, float | None]
Result = TypeVar("Result")


def evolve(sde: ScaleSpeed, start: float | Start, times: Floats, levels: Levels, tol: float) -> list[LawInTime]:
    """The laws at increasing ``times``, absorbed at ``levels`` (y) where given, each within ``tol`` in its cdf."""

    def fixed(patient: bool) -> Sequence[LawInTime]:
        return evolution.evolve(sde, stage, start, times, tol, patient)

    def followed() -> Sequence[LawInTime]:
        return quantiles.evolve(sde, start, times, tol)

    with np.errstate(all="ignore"):
        stage = cells.stage_of(sde, start, float(times[-1]), levels)
        return [*_first_resolved(tol, fixed, None if any(stage.absorbs) else followed)]


def passage_cdf(sde: ScaleSpeed, start: float, target: float, times: Floats, levels: Levels, tol: float) -> Floats:
    """Probability to have passed from ``start`` to ``target``, one of ``levels`` (y), by increasing ``times``."""
    upwards = int(target > start)

    def fixed(patient: bool) -> Floats:
        return np.array([law.absorbed[upwards] for law in evolution.evolve(sde, stage, start, times, tol, patient)])

    def renewed() -> Floats:
        return renewal.passage_cdf(sde, start, target, times, tol)

    with np.errstate(all="ignore"):
        stage = cells.stage_of(sde, start, float(times[-1]), levels)
        return _first_resolved(tol, fixed, None if stage.absorbs[1 - upwards] else renewed)


def _first_resolved(tol: float, fixed: Callable[[bool], Result], moving: Callable[[], Result] | None) -> Result:
    """The first to reach ``tol``: fixed cells, a scheme that moves with the law, many more cells."""
    reasons: list[str] = []
    reached = np.inf
    for scheme in (lambda: fixed(False), moving, lambda: fixed(True)):
        try:
            if scheme is not None:
                return scheme()
        except Unresolved as reason:
            reasons.append(str(reason))
            reached = min(reached, reason.reached)
    larger = f"tol = {_rounded_up(1.5 * reached):g}" if tol < reached < 0.03 else "a larger tol"
    raise ValueError(
        f"the law at these times cannot be computed to tol = {tol:g} in bounded work; use {larger}, earlier times, or "
        f"paths (mode.simulate, mode.simulate_passages); tried: {'; '.join(dict.fromkeys(reasons))}"
    )


def _rounded_up(x: float) -> float:
    """To one digit."""
    digit = 10.0 ** np.floor(np.log10(x))
    return float(f"{np.ceil(x / digit) * digit:.0e}")
