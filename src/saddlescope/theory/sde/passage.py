"""Where a scalar SDE exits, and mean and variance of its first-passage times, for noise of any size.

With R the mean time per distance that x spends at a place on its way up, and R₂ the same of the variance,

    mean = ∫ R dy,  R' = 2/b² − (2a/b²)R;    var = ∫ R₂ dy,  R₂' = 2R² − (2a/b²)R₂

from far behind the start to the target. Weak noise makes these stiff, R ≈ 1/a; collocation at Radau's points solves
them without steps of the size of the noise, and panels are halved where a polynomial does not resolve R.
Source: Karlin & Taylor 1981, section 15.3; Hairer & Wanner 1996, Solving Ordinary Differential Equations II, IV.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.optimize import brentq

from saddlescope._arrays import Floats
from saddlescope.theory.sde.mass import FLAT, falling_rate, tabulate
from saddlescope.theory.sde.scale_speed import ScaleSpeed

_FORGOTTEN = 40.0
"""Nats of speed density beyond which contributions from behind are neglected (e^−40 = 4e-18)."""
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


def exit_probability(
    sde: ScaleSpeed, y: Floats, ends: tuple[float | None, float | None], closed: tuple[bool, bool]
) -> Floats:
    """Probability to reach the upper of two ``ends`` before the lower, from y; NaN for NaN.

    None is an end of the domain; mass beyond ends that are not ``closed`` counts.
    """
    edges = sde.potential.edges
    low, high = edges[0] if ends[0] is None else ends[0], edges[-1] if ends[1] is None else ends[1]
    edges = np.concatenate([[low], edges[(edges > low) & (edges < high)], [high]])
    known = y[~np.isnan(y)]
    inside = float(np.clip(np.median(known) if known.size else 0.0, edges[0], edges[-1]))
    potential = sde.counted_from_top(sde.potential_between(edges, inside), lambda u, y: -u)
    return tabulate(lambda y: -potential(y), edges, closed=closed).cdf(y)


def moments(sde: ScaleSpeed, y: Floats, end: float) -> tuple[Floats, Floats]:
    """Mean and variance of the passage from each ``y`` to ``end``; NaN for NaN, infinite where it is not certain."""
    mean, var = (np.where(np.isnan(y - end), np.nan, 0.0) for _ in range(2))
    for side in (1.0, -1.0):
        here = side * y < side * end
        if here.any():
            behind = sde.boundaries.lower if side > 0 else sde.boundaries.upper
            mean[here], var[here] = (np.inf, np.inf) if behind.keeps else _one_way(sde, y[here], end, side)
    return mean, var


def _one_way(sde: ScaleSpeed, y: Floats, end: float, side: float) -> tuple[Floats, Floats]:
    """Mean and variance of the passage from each ``y`` up (side 1) or down (−1) to ``end``, all of y before it."""
    place = _behind(sde, side * float((side * y).min()), side)
    if place is None:
        return np.full(y.shape, np.inf), np.full(y.shape, np.inf)
    start, falling = place
    inner = sde.potential.edges
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


def _behind(sde: ScaleSpeed, y: float, side: float) -> tuple[float, float] | None:
    """A place behind y before which hardly any speed measure lies, and how fast its logarithm falls there.

    None when infinite measure lies behind.
    """
    edges = sde.potential.edges[::-1] if side > 0 else sde.potential.edges
    beyond = np.concatenate([[y], edges[side * edges < side * y]])
    log_m = sde.log_speed(beyond)
    enough = np.maximum.accumulate(log_m) - _FORGOTTEN
    low = np.flatnonzero(log_m < enough)
    if not low.size:
        falling = falling_rate(sde.log_speed, beyond[-1], -side)
        return (float(beyond[-1]), falling) if falling > FLAT else None
    at = int(low[0])

    def excess(v: float) -> float:
        return float(sde.log_speed(np.array(v))) - float(enough[at])

    inner, outer = float(beyond[at - 1]), float(beyond[at])
    place = float(brentq(excess, outer, inner, rtol=1e-6)) if excess(inner) > 0 else outer
    return place, falling_rate(sde.log_speed, place, -side)


@dataclass(frozen=True)
class Panels:
    """R' = source − ρR on panels: the share of R at the left edge that is ``kept`` (panels, points), and the gain."""

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


def _resolved(sde: ScaleSpeed, edges: Floats, side: float, falling: float) -> tuple[Floats, Floats, Floats]:
    """Edges of panels on which R and R₂ are resolved, and both at the nodes."""
    while True:
        width = np.diff(edges) / 2
        at = side * (edges[:-1, None] + width[:, None] * (_NODES + 1))
        rho, b2 = side * sde.slope(at), sde.noise2(at)
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
    """Edges after every panel is cut into this many parts."""
    if parts.sum() > _MOST_PANELS:
        raise ValueError(
            f"the passage climbs against the drift too far: more than {_MOST_PANELS:,} panels of {_CLIMB:g} nats; "
            "choose a target that x reaches"
        )
    inside = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(edges[:-1], parts) + inside * np.repeat(np.diff(edges) / parts, parts), edges[-1])
