"""Mean and variance of the time of first passage of a scalar SDE, for noise of any size.

With R the mean time per distance that x spends at a place on its way up, and R₂ the same of the variance,

    mean = ∫ R dy,  R' = 2/b² − (2a/b²)R;    var = ∫ R₂ dy,  R₂' = 2R² − (2a/b²)R₂

from far behind the start to the target. Weak noise makes these stiff, R ≈ 1/a, and a method of collocation at Radau's
points follows that without steps of the size of the noise; panels are halved where a polynomial does not resolve R.
Source: Karlin & Taylor 1981, section 15.3; Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.optimize import brentq

from saddlescope.theory.sde.laws import FLAT, Floats, falling_rate

if TYPE_CHECKING:
    from saddlescope.theory.sde.diffusion1d import Diffusion1D

_FORGOTTEN = 40.0
"""Nats of speed density beyond which what lies behind contributes nothing (e^−40 = 4e-18)."""
_CLIMB = 3.0
"""Nats against the drift in one panel."""
_MOST_PANELS = 100_000
_RTOL = 1e-11

_POINTS = 12
_NODES = np.sort(legendre.legroots([0.0] * (_POINTS - 1) + [-1.0, 1.0]).real)  # the last is 1: Radau IIA
_TO_COEFFICIENTS = np.linalg.inv(legendre.legvander(_NODES, _POINTS - 1))
_TO_INTEGRAL = np.array([legendre.legint(unit, lbnd=-1) for unit in np.eye(_POINTS)]).T @ _TO_COEFFICIENTS
_TO_RUNNING = legendre.legvander(_NODES, _POINTS) @ _TO_INTEGRAL
_WEIGHTS = _TO_INTEGRAL.sum(axis=0)
_WITH_START = np.linalg.inv(legendre.legvander(np.append(-1.0, _NODES), _POINTS))


def moments(sde: Diffusion1D, y: Floats, end: float, side: float) -> tuple[Floats, Floats]:
    """Mean and variance of the passage from each ``y`` up (side 1) or down (−1) to ``end``, all of y before it."""
    place = behind(sde, side * float((side * y).min()), side)
    if place is None:
        return np.full(y.shape, np.inf), np.full(y.shape, np.inf)
    start, falling = place
    inner = sde._potential.edges
    inner = inner[(side * inner > side * start) & (side * inner < side * end)]
    edges = np.unique(side * np.concatenate([[start, end], inner, y]))
    with np.errstate(all="ignore"):
        edges, first, second = _resolved(sde, edges, side, falling)
        width = np.diff(edges) / 2
        at = np.searchsorted(edges, side * y)
        mean, var = (
            np.nan_to_num(_from_here((values @ _WEIGHTS) * width)[at], nan=np.inf, posinf=np.inf)
            for values in (first, second)
        )
    return mean, var


def behind(sde: Diffusion1D, y: float, side: float) -> tuple[float, float] | None:
    """A place behind y before which hardly any speed measure lies, and how fast its logarithm falls there.

    None when infinite measure lies behind.
    """
    edges = sde._potential.edges[::-1] if side > 0 else sde._potential.edges
    beyond = np.concatenate([[y], edges[side * edges < side * y]])
    log_m = sde._log_speed(beyond)
    enough = np.maximum.accumulate(log_m) - _FORGOTTEN
    low = np.flatnonzero(log_m < enough)
    if not low.size:
        falling = falling_rate(sde._log_speed, beyond[-1], -side)
        return (float(beyond[-1]), falling) if falling > FLAT else None
    at = int(low[0])

    def excess(v: float) -> float:
        return float(sde._log_speed(np.array(v))) - float(enough[at])

    inner, outer = float(beyond[at - 1]), float(beyond[at])
    place = float(brentq(excess, outer, inner, rtol=1e-6)) if excess(inner) > 0 else outer
    return place, falling_rate(sde._log_speed, place, -side)


@dataclass(frozen=True)
class Panels:
    """R' = source − ρR on panels: what ``kept`` (panels, points) of R at the left edge, and what is ``gained``."""

    inverse: Floats
    width: Floats

    @property
    def kept(self) -> Floats:
        return self.inverse.sum(axis=2)

    def gained(self, source: Floats) -> Floats:
        return np.asarray((self.inverse @ (source @ _TO_RUNNING.T * self.width[:, None])[..., None])[..., 0])

    def solved(self, source: Floats, start: float) -> Floats:
        """R at the left edge and at the nodes of every panel, from R at the first edge."""
        kept, gained = self.kept, self.gained(source)
        left = np.empty(len(gained))
        for panel, (share, more) in enumerate(zip(kept[:, -1], gained[:, -1], strict=True)):
            left[panel] = start
            start = share * start + more
        return np.column_stack([left, kept * left[:, None] + gained])


def _resolved(sde: Diffusion1D, edges: Floats, side: float, falling: float) -> tuple[Floats, Floats, Floats]:
    """Edges of panels on which R and R₂ are resolved, and both at the nodes."""
    while True:
        width = np.diff(edges) / 2
        at = side * (edges[:-1, None] + width[:, None] * (_NODES + 1))
        rho, b2 = side * sde._slope(at), sde._noise2(at)
        climb = -2 * width * rho.min(axis=1)
        if (climb > _CLIMB).any():
            parts = np.nan_to_num(np.ceil(climb / _CLIMB), nan=_MOST_PANELS + 1)
            edges = _cut(edges, parts.clip(1, _MOST_PANELS + 1).astype(int))
            continue
        panels = Panels(np.linalg.inv(np.eye(_POINTS) + _TO_RUNNING * (width[:, None] * rho)[:, None, :]), width)
        first = panels.solved(2 / b2, 2 / float(b2[0, 0]) / falling)
        second = panels.solved(2 * first[:, 1:] ** 2, 2 * float(first[0, 0]) ** 2 / falling)
        coarse = np.zeros(len(width), bool)
        for values in (first, second):
            tail, top = np.abs(values @ _WITH_START[-2:].T).max(axis=1), np.abs(values).max(axis=1)
            share = _from_here(top * width)
            coarse |= np.isfinite(top) & (tail * width > _RTOL * share) & (tail > 1e-13 * top)
        if not coarse.any():
            return edges, first[:, 1:], second[:, 1:]
        edges = _cut(edges, 1 + coarse.astype(int))


def _from_here(parts: Floats) -> Floats:
    """Sums of each part and all after it."""
    return np.asarray(np.cumsum(parts[::-1])[::-1])


def _cut(edges: Floats, parts: NDArray[np.int64]) -> Floats:
    """Every panel in so many."""
    if parts.sum() > _MOST_PANELS:
        raise ValueError(
            f"the passage climbs against the drift too far: more than {_MOST_PANELS:,} panels of {_CLIMB:g} nats; "
            "choose a target that x reaches"
        )
    inside = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(edges[:-1], parts) + inside * np.repeat(np.diff(edges) / parts, parts), edges[-1])
