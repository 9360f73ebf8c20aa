"""A density on the whole line by its logarithm, integrated: probabilities, quantiles and means of both tails."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar

from saddlescope._arrays import Floats
from saddlescope.theory._checks import finite
from saddlescope.theory.sde._piecewise import Antiderivative, Function, antiderivative, nodes, weighted_integral

FLAT = 1e-9
"""A tail whose logarithm falls more slowly than this holds infinite mass."""


@dataclass(frozen=True)
class Mass:
    """A density on the line by its logarithm, integrated; beyond the edges it is continued as an exponential.

    ``share`` integrates the density divided by its largest value, e^``log_top``; ``below`` and ``above`` are the masses
    beyond the edges, ``falling`` the rates at which the density falls there.
    """

    log_density: Function
    log_top: float
    share: Antiderivative
    below: float
    above: float
    falling: tuple[float, float]

    @property
    def log_total(self) -> float:
        return self.log_top + float(np.log(self.total))

    @property
    def total(self) -> float:
        """All mass, in units of e^``log_top``."""
        return self.below + float(self.share.at_edges[-1]) + self.above

    def logpdf(self, y: Floats) -> Floats:
        inside = np.clip(y, self.share.edges[0], self.share.edges[-1])
        fallen = self.falling[0] * np.maximum(inside - y, 0) + self.falling[1] * np.maximum(y - inside, 0)
        return np.asarray(self.log_density(inside) - self.log_total - fallen)

    def cdf(self, y: Floats) -> Floats:
        low, high = self.share.edges[0], self.share.edges[-1]
        with np.errstate(invalid="ignore", over="ignore"):
            tails = self.below * np.where(y < low, np.exp(self.falling[0] * (y - low)), 1.0)
            tails = tails + self.above * np.where(y > high, -np.expm1(-self.falling[1] * (y - high)), 0.0)
        inside = np.clip((self.share(y) + tails) / self.total, 0.0, 1.0)
        return np.select([y == -np.inf, y == np.inf], [0.0, 1.0], inside)

    def ppf(self, q: Floats) -> Floats:
        upper = q > 0.5
        y = np.where(
            upper, -self.mirrored._lower_half(np.where(upper, 1 - q, 0.25)), self._lower_half(np.where(upper, 0.25, q))
        )
        return np.select([q == 0, q == 1, (q > 0) & (q < 1)], [-np.inf, np.inf, y], np.nan)

    def _lower_half(self, q: Floats) -> Floats:
        """Quantiles for 0 < q ≤ ½."""
        with np.errstate(all="ignore"):
            beyond = self.share.edges[0] + np.log(q * self.total / self.below) / self.falling[0]
            above = self.share.edges[-1] - np.log((1 - q) * self.total / self.above) / self.falling[1]
        y = np.where(q * self.total < self.below, beyond, self.share.inverse(q * self.total - self.below))
        return np.where((1 - q) * self.total < self.above, above, y)

    @cached_property
    def mirrored(self) -> Mass:
        """The law of −y, whose lower tail is the upper tail of y without the cancellation of 1 − cdf."""
        ends = self.above, self.below, self.falling[::-1]
        return Mass(lambda y: self.log_density(-y), self.log_top, self.share.mirrored, *ends)

    @cached_property
    def _panels(self) -> Floats:
        """The edges and quantiles between them, so that a jump of a function is seen."""
        shares = np.concatenate([np.arange(1, 512) / 512, 2.0 ** -np.arange(10, 60)])
        between = self.share.inverse(np.append(shares, 1 - shares) * self.total - self.below)
        return np.union1d(self.share.edges, between)

    def expect(self, function: Function) -> float:
        """``∫ f p dy``, with the tails of f p beyond the edges; infinite when they diverge."""
        edges = self._panels
        with np.errstate(all="ignore"):
            bad = np.flatnonzero(~np.isfinite(function(edges)))
            middle = int(np.searchsorted(self.cdf(edges), 0.5))
            first, last = bad[bad < middle].max(initial=-1) + 1, bad[bad >= middle].min(initial=len(edges)) - 1
            if first >= last:
                raise ValueError("function must be finite where the law has its mass, and is not near its median")
            held = edges[first : last + 1]
            tails = [self._tail(function, held[0], -1.0), self._tail(function, held[-1], 1.0)]
            sizes = np.abs(function(held[[0, -1]]))
            lost = np.array([self.cdf(held[0]), self.mirrored.cdf(-held[-1])])
        cut = np.array([first > 0, last + 1 < len(edges)]) & (sizes < 1e250)  # else it overflowed
        if (lost[cut] > 1e-12).any():
            raise ValueError(
                f"function must be finite where the law has its mass, and is not on {lost[cut].max():.2g} of it"
            )
        inside = weighted_integral(
            lambda y: finite(function, y), lambda y: np.exp(self.log_density(y) - self.log_total), held
        )
        return float(inside + sum(tails))

    def _tail(self, function: Function, end: float, outwards: float) -> float:
        """``∫ f p dy`` beyond an end."""

        def log_term(y: Floats) -> Floats:
            return np.log(np.abs(function(y))) + self.log_density(y) - self.log_total

        height = float(log_term(np.array(end)))
        if height < -700:
            return 0.0
        sign, falling = float(np.sign(function(np.array(end)))), falling_rate(log_term, end, outwards)
        return sign * float(np.exp(height)) / falling if falling > FLAT else sign * np.inf


class InfiniteMass(ValueError):
    """A density has infinite mass towards ``side``: "lower", "upper" or "both"."""

    def __init__(self, side: str) -> None:
        super().__init__(f"there is no such law: the density has infinite mass towards the {side} end of the domain")
        self.side = side


def tabulate(log_density: Function, edges: Floats, closed: tuple[bool, bool] = (False, False)) -> Mass:
    """Integrate a density over ``edges`` and, at the sides not ``closed``, beyond them.

    Raises InfiniteMass when the integral diverges.
    """
    tops, heights = peaks(log_density, edges)
    log_top = float(heights.max())

    def relative(y: Floats) -> Floats:
        return np.asarray(np.exp(log_density(y) - log_top))

    # Panels are halved on the way down to a peak only if they can see it.
    share = antiderivative(relative, graded(edges, tops), float(edges[0]), atol=1e-260)
    ends = ((edges[0], -1.0, closed[0]), (edges[-1], 1.0, closed[1]))
    height = [0.0 if done else float(relative(np.array(end))) for end, _, done in ends]
    rate = [falling_rate(log_density, end, outwards) for end, outwards, _ in ends]
    infinite = [h > 1e-250 and r < FLAT for h, r in zip(height, rate, strict=True)]
    if any(infinite):
        raise InfiniteMass("both" if all(infinite) else "lower" if infinite[0] else "upper")
    rate = [max(r, FLAT) for r in rate]
    mass = Mass(log_density, log_top, share, height[0] / rate[0], height[1] / rate[1], (rate[0], rate[1]))
    if not mass.total > 0:
        raise ValueError("the density is narrower than rounding resolves; choose nearer ends, lower and upper")
    return mass


def graded(edges: Floats, places: Floats) -> Floats:
    """The edges and, around each place, ever finer ones."""
    steps = 2.0 ** np.arange(-44, 1)
    near = places[:, None] + np.concatenate([-steps, [0.0], steps]) * np.maximum(1.0, np.abs(places[:, None]))
    return np.union1d(edges, near[(near > edges[0]) & (near < edges[-1])])


def peaks(log_density: Function, edges: Floats) -> tuple[Floats, Floats]:
    """Where the density has its local maxima (or ends high), and the logarithms there."""
    y = np.unique(np.concatenate([edges, nodes(edges).ravel()]))
    log_p = log_density(y)
    before, after = np.append(-np.inf, log_p[:-1]), np.append(log_p[1:], -np.inf)
    tops: list[int] = []
    for i in map(int, np.flatnonzero((log_p >= before) & (log_p >= after) & (log_p >= log_p.max() - 745))):
        if tops and log_p[tops[-1] : i].min() > min(log_p[tops[-1]], log_p[i]) - 1e-3:  # no valley between the two
            tops[-1] = i if log_p[i] > log_p[tops[-1]] else tops[-1]
        else:
            tops.append(i)
    places = np.array([_climb(log_density, y[max(i - 1, 0)], y[i], y[min(i + 1, len(y) - 1)]) for i in tops])
    return places, log_density(places)


def _climb(log_density: Function, low: float, middle: float, high: float) -> float:
    """Where the density is largest between low and high, middle if there."""
    width = {"xatol": 1e-9 * (high - low)}
    best = minimize_scalar(
        lambda y: -float(log_density(np.array(y))), bounds=(low, high), method="bounded", options=width
    )
    return float(best.x) if -best.fun > log_density(np.array(middle)) else float(middle)


def falling_rate(log_density: Function, end: float, outwards: float) -> float:
    """Rate at which the logarithm of a density falls outwards at an end."""
    step = 1e-3 * max(1.0, abs(end))
    here, inside = log_density(np.array(end)), log_density(np.array(end - outwards * step))
    return float(inside - here) / step
