"""The distribution of a first-passage time from laws without absorption, by renewal: for weak noise.

A path that is beyond a level ℓ at t has passed it for the first time at some s ≤ t and started anew from there:

    H(t) = P(x_t beyond ℓ) = ∫ Q(t − s) dF(s),    Q(u) = P(x_u beyond ℓ | x_0 = ℓ),  Q(0) = ½

H and Q are laws in time (``quantiles``), F is the distribution of the passage: a stable Volterra equation of the first
kind. On cells of s in which F grows evenly the integral of Q is exact, and the error is of order 2. Probits of H and Q,
which are smooth in t and in √u, are interpolated.
Source: Fortet 1943, J. Math. Pures Appl. 22; Linz 1985, Analytical and Numerical Methods for Volterra Equations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.linalg import solve_triangular
from scipy.special import ndtr

from saddlescope._arrays import Floats
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde import passage
from saddlescope.theory.sde.quantile_law import QuantileLaw
from saddlescope.theory.sde.quantiles import evolve
from saddlescope.theory.sde.scale_speed import ScaleSpeed

_SURE = 8.0
"""Probit beyond which a probability counts as 0 or 1."""
_TIMES, _LAGS, _CELLS = 80, 40, 1000
"""The fewest times at which the laws of H and of Q are computed, and the fewest cells of s."""


def passage_cdf(sde: ScaleSpeed, start: float, target: float, times: Floats, tol: float) -> Floats:
    """Probability to have passed from ``start`` to ``target`` by ``times``; raises Unresolved beyond ``tol``."""
    for finer in (1, 2):
        try:
            found, error = _passage_cdf(sde, start, target, times, tol, finer)
        except Unresolved as reason:  # of a law that must be four times as accurate
            raise Unresolved(str(reason), 4 * reason.reached) from None
        if error <= tol:
            return found
    raise Unresolved(f"renewal gives the passage to {error:.1e}", error)


def _passage_cdf(
    sde: ScaleSpeed, start: float, target: float, times: Floats, tol: float, finer: int
) -> tuple[Floats, float]:
    """F at ``times`` and its error, with ``finer`` times as many points as the fewest."""
    last, side = float(times[-1]), 1.0 if target > start else -1.0
    first, end = sde.coordinate.to_y(np.array(start)), float(sde.coordinate.to_y(np.array(target)))
    mean, var = (float(v) for v in passage.moments(sde, first, end))
    asked = _asked(mean, var, last, _TIMES * finer)
    lags = np.geomspace(min(0.03 * _turn(sde, target), 0.01 * last), last, _LAGS * finer + 1)
    free, back = evolve(sde, start, asked, tol / 4), evolve(sde, target, lags, tol / 4)
    beyond, again = _beyond(free, target, side), _beyond(back, target, side)
    if beyond[0] > -5.5:
        raise Unresolved("renewal would have to look at times before those of the passage")
    every, cells = np.unique(np.append(np.arange(0, len(asked), 2), len(asked) - 1)), _CELLS * finer
    fine = _renewed(asked, beyond, lags, again, cells, times)
    gain = (fine - _renewed(asked, beyond, lags, again, cells // 2, times)) / 3
    fewer_times = fine - _renewed(asked[every], beyond[every], lags, again, cells, times)
    fewer_lags = fine - _renewed(asked, beyond, lags[::2], again[::2], cells, times)
    parts = [float(np.abs(part).max()) for part in (gain, fewer_times / 4, fewer_lags / 4)]
    return np.clip(fine + gain, 0.0, 1.0), sum(parts) + 2 * (free[-1].error + back[-1].error)


def _asked(mean: float, var: float, last: float, count: int) -> Floats:
    """Times at which the passage takes place: quantiles of a log-normal law with these moments, up to the last."""
    found, early = [np.array([last])], last
    if np.isfinite(mean + var) and mean**2 > 0:
        width = np.sqrt(np.log1p(var / mean**2))
        at = mean * np.exp(width * np.linspace(-_SURE, _SURE, count + 1) - width**2 / 2)
        found.append(at[at < last])
        early = min(float(at[0]), last)
    if not var < 0.1 * mean**2:
        found.append(np.geomspace(1e-4 * early, early, count // 2, endpoint=False))
    return np.unique(np.concatenate(found))


def _turn(sde: ScaleSpeed, x: float) -> float:
    """Time in which noise and drift at x move equally far."""
    y = sde.coordinate.to_y(np.array(x))
    noise2, slope = float(sde.noise2(y)), float(sde.slope(y))
    speed2 = slope**2 * noise2
    return 4 / speed2 if speed2 else np.inf


def _beyond(laws: list[QuantileLaw], target: float, side: float) -> Floats:
    """Probits of being beyond the target."""
    z = [-side * float(law.probit(np.array(target))) for law in laws]
    return np.clip(z, -_SURE - 1, _SURE + 1)


def _renewed(asked: Floats, beyond: Floats, lags: Floats, again: Floats, cells: int, times: Floats) -> Floats:
    """F at ``times``."""
    s = np.interp(np.linspace(0, len(asked) - 1, cells + 1), np.arange(len(asked)), asked)
    held = _integral_of(lags, again)
    after = s[1:, None] - s
    kernel = np.tril((held(after[:, :-1]) - held(after[:, 1:])) / np.diff(s))
    passed = np.cumsum(solve_triangular(kernel, ndtr(CubicSpline(asked, beyond)(s[1:])), lower=True))
    inside = CubicSpline(s, np.append(0.0, passed))(np.clip(times, s[0], s[-1]))
    return np.where(times < s[0], 0.0, inside)


def _integral_of(lags: Floats, again: Floats) -> Callable[[Floats], Floats]:
    """``∫₀^u Q``, as a spline over √u; 0 for negative u."""
    roots, probits = np.append(0.0, np.sqrt(lags)), np.append(0.0, again)
    between = np.unique(np.concatenate([roots[:-1] + k / 8 * np.diff(roots) for k in range(8)] + [roots[-1:]]))
    total = CubicSpline(between, 2 * between * ndtr(CubicSpline(roots, probits)(between))).antiderivative()
    return lambda u: np.asarray(total(np.sqrt(np.maximum(u, 0.0))))
