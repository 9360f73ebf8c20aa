"""Any scalar Itô SDE ``dx = a(x) dt + b(x) dW`` by quadrature: scale and speed, stationary law, passage times.

Itô's formula moves the SDE to a coordinate y on the whole line in which power laws of x are exponentials. There

    U(y) = ∫ 2a/b² dy,   scale density e^(−U),   speed density m = 2 e^U / b²,   stationary density ∝ m,

and all else are integrals of these. Only their logarithms are ever formed, so that heavy tails and essential
singularities neither overflow nor underflow.
Source: Karlin & Taylor 1981, A Second Course in Stochastic Processes, chapter 15, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit

from saddlescope.theory._piecewise import Antiderivative, antiderivative, integrals, nodes, running

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]
Seed = int | np.random.Generator | None

_FORGOTTEN = 40.0
"""Nats of speed density after which a passage no longer feels where it came from (e^−40 = 4e-18)."""
_FLAT = 1e-9
"""A tail whose logarithm falls more slowly than this holds infinite mass."""


class Law(Protocol):
    """The law of a scalar, with the names of ``scipy.stats``."""

    def pdf(self, x: ArrayLike) -> Floats: ...
    def logpdf(self, x: ArrayLike) -> Floats: ...
    def cdf(self, x: ArrayLike) -> Floats: ...
    def ppf(self, q: ArrayLike) -> Floats: ...
    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats: ...
    def mean(self) -> float: ...
    def var(self) -> float: ...


@dataclass(frozen=True)
class Coordinate:
    """An increasing map x = φ(y) of the whole line onto the domain: φ, its inverse, log φ' and φ''/φ'."""

    to_x: Function
    to_y: Function
    log_slope: Function
    bend: Function


@dataclass(frozen=True)
class Diffusion1D:
    """``dx = drift(x) dt + diffusion(x) dW`` (Itô) on ``lower < x < upper``, where the diffusion is positive.

    ``drift`` and ``diffusion`` map arrays to arrays. ``center`` and ``scale`` say where on the whole line x lives;
    ``tails`` whether densities there fall like a "power" of x (x = center + scale sinh y) or "exponential" (x = y).

    >>> ornstein_uhlenbeck = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, 2.0))
    >>> ornstein_uhlenbeck.stationary().var()
    2.0000000
    """

    drift: Function
    diffusion: Function
    lower: float = -np.inf
    upper: float = np.inf
    center: float = 0.0
    scale: float = 1.0
    tails: Literal["power", "exponential"] = "power"

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise ValueError(f"lower must be below upper, got {self.lower} and {self.upper}; swap them")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}; use a typical width of x")

    @cached_property
    def coordinate(self) -> Coordinate:
        """The coordinate y on the whole line in which everything is integrated."""
        return _coordinate(self.lower, self.upper, self.center, self.scale, self.tails)

    def log_scale_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the scale density ``s'(x) = exp(−∫ 2a/b² dx)``, up to a constant; shape of ``x``.

        Source: Karlin & Taylor 1981, equation 15.3.5.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_scale_density([0.0, 1.0, 2.0]))        # x²
        array([1., 3.])
        """
        y = self.coordinate.to_y(np.asarray(x, float))
        return -self._potential(y) - self.coordinate.log_slope(y)

    def log_speed_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the speed density ``m(x) = 2/(b² s')``, up to the same constant; shape of ``x``.

        Source: Karlin & Taylor 1981, equation 15.3.10.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_speed_density([0.0, 1.0, 2.0]))        # −x²
        array([-1., -3.])
        """
        y = self.coordinate.to_y(np.asarray(x, float))
        return self._log_speed(y) - self.coordinate.log_slope(y)

    def stationary(self) -> Density:
        """The stationary law, with density ∝ ``m(x)``.

        Raises ValueError when m has infinite mass: then all probability runs to an end of the domain.
        Source: Karlin & Taylor 1981, equation 15.5.34.

        >>> bessel = Diffusion1D(lambda x: 1.5 - x, lambda x: np.sqrt(2 * x), lower=0.0)   # Gamma(1.5)
        >>> bessel.stationary().mean(), float(bessel.stationary().cdf(1.0))
        (1.5000000, 0.4275932)
        """
        return Density(_mass(self._log_speed, self._potential.edges), self.coordinate)

    def exit_probability(self, start: ArrayLike, lower: float | None = None, upper: float | None = None) -> Floats:
        """Probability to reach ``upper`` before ``lower`` (None: an end of the domain); shape of ``start``.

        With None an end counts as reached when x converges to it. Raises ValueError when it converges to neither.
        Source: Karlin & Taylor 1981, equation 15.3.2.

        >>> brownian = Diffusion1D(np.zeros_like, np.ones_like)
        >>> brownian.exit_probability([0.25, 0.5], lower=0.0, upper=1.0)
        array([0.25, 0.5 ])
        """
        ends = [None if end is None else float(self.coordinate.to_y(np.asarray(end, float))) for end in (lower, upper)]
        edges = _between(self._potential.edges, *ends)
        y = self.coordinate.to_y(np.asarray(start, float))
        inside = float(np.clip(np.median(y), edges[0], edges[-1]))
        potential = antiderivative(self._slope, edges, inside, atol=1e-14)
        potential = self._counted_from_top(potential, lambda u, y: -u)
        try:
            return _mass(lambda y: -potential(y), edges, closed=(lower is not None, upper is not None)).cdf(y)
        except _InfiniteMass as infinite:  # an infinite scale towards an end means it is never reached
            if infinite.side not in ("lower", "upper"):
                raise ValueError("neither end of the domain is ever reached; give lower or upper") from None
            return np.full(y.shape, 1.0 if infinite.side == "lower" else 0.0)

    def passage(self, start: ArrayLike, target: float) -> tuple[Floats, Floats]:
        """Mean and variance of the time of first passage from ``start`` to ``target``; each of the shape of ``start``.

        With ``R = s'(x) ∫ m`` (over all that lies behind x): ``mean = ∫ R dx``, ``var = ∫ R₂ dx`` and ``R₂`` is the same
        integral of ``2R²/s'``; both solve ``R' = 2/b² − (2a/b²)R``, ``R₂' = 2R² − (2a/b²)R₂``. Infinite where
        the target is not certain to be reached, or not in finite mean time.
        Source: Karlin & Taylor 1981, section 15.3, problems B and C.

        >>> drifted = Diffusion1D(lambda x: np.full_like(x, 2.0), np.ones_like, tails="exponential")
        >>> mean, variance = drifted.passage(0.0, 3.0)      # inverse Gaussian: 3/2 and 3/2³
        >>> float(mean), float(variance)
        (1.5000000, 0.3750000)
        """
        y = self.coordinate.to_y(np.asarray(start, float))
        end = float(self.coordinate.to_y(np.asarray(target, float)))
        mean, var = np.zeros(y.shape), np.zeros(y.shape)
        for side in (1.0, -1.0):
            here = side * y < side * end
            if here.any():
                mean[here], var[here] = self._one_sided(y[here], end, side)
        return mean, var

    def _one_sided(self, y: Floats, end: float, side: float) -> tuple[Floats, Floats]:
        """Passage moving up (side 1) or down (−1), all of ``y`` before ``end``."""
        behind = self._behind(side * float((side * y).min()), side)
        if behind is None:
            return np.full(y.shape, np.inf), np.full(y.shape, np.inf)
        edges = np.sort(
            side * np.concatenate([[behind[0]], y, _between(self._potential.edges, *sorted((behind[0], end)))])
        )
        edges = self._split(np.unique(edges), side)
        at = side * nodes(edges)
        slope, b2 = side * self._slope(at), self._noise2(at)
        with np.errstate(over="ignore", invalid="ignore"):
            rates = _carried(2 / b2, slope, edges, 2 / b2[0, 0] / behind[1])
            rates2 = _carried(2 * rates**2, slope, edges, 2 * rates[0, 0] ** 2 / behind[1])
            where = np.searchsorted(edges, side * y)
            mean, var = (np.cumsum(integrals(r, edges)[::-1])[::-1][where] for r in (rates, rates2))
        return np.where(np.isnan(mean), np.inf, mean), np.where(np.isnan(var), np.inf, var)

    def _split(self, edges: Floats, side: float) -> Floats:
        """Panels on which neither e^U nor b² changes by more than a few nats."""
        at = side * nodes(edges)
        nats = np.diff(edges) * np.abs(self._slope(at)).max(axis=1) + np.ptp(np.log(self._noise2(at)), axis=1)
        parts = np.ceil(nats / 3).astype(int).clip(1)
        if parts.sum() > 1_000_000:
            raise ValueError(
                f"the noise is too weak for a passage of {nats.sum():.1e} nats; use the noiseless flow instead"
            )
        inside = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
        return np.append(np.repeat(edges[:-1], parts) + inside * np.repeat(np.diff(edges) / parts, parts), edges[-1])

    def _behind(self, y: float, side: float) -> tuple[float, float] | None:
        """A place behind y before which hardly any speed measure lies, and how fast its logarithm falls there.

        None when infinite measure lies behind.
        """
        edges = self._potential.edges[::-1] if side > 0 else self._potential.edges
        beyond = np.concatenate([[y], edges[side * edges < side * y]])
        log_m = self._log_speed(beyond)
        enough = np.maximum.accumulate(log_m) - _FORGOTTEN
        low = np.flatnonzero(log_m < enough)
        if not low.size:
            falling = _falling(self._log_speed, beyond[-1], -side)
            return (float(beyond[-1]), falling) if falling > _FLAT else None
        at = int(low[0])
        place = float(
            brentq(lambda v: float(self._log_speed(np.array(v))) - enough[at], beyond[at], beyond[at - 1], rtol=1e-6)
        )
        return place, _falling(self._log_speed, place, -side)

    @cached_property
    def _potential(self) -> Antiderivative:
        """U(y), on as much of the line as can be represented."""
        origin = float(self.coordinate.to_y(np.asarray(self._origin)))
        grid = origin + np.sinh(np.linspace(-32, 32, 4097))
        with np.errstate(all="ignore"):
            x = self.coordinate.to_x(grid)
            sizes = np.log([self._noise2(grid), self.diffusion(x) ** 2])
            fine = np.isfinite(self._slope(grid)) & (np.abs(sizes) < 650).all(axis=0)
            for end in (self.lower, self.upper):  # nearer to an end than this, x no longer tells how near
                fine &= np.isinf(end) | (np.abs(x - end) > 1e-12 * np.abs(end))
        middle = len(grid) // 2
        if not fine[middle]:
            raise ValueError(
                f"drift and diffusion must be finite and diffusion positive at x = {self._origin:g}; move center"
            )
        bad = np.flatnonzero(~fine)
        low = bad[bad < middle].max(initial=-1) + 1
        high = bad[bad > middle].min(initial=len(grid)) - 1
        edges = np.concatenate([[grid[low]], grid[low + 1 : high : 32], [grid[high]]])
        return self._counted_from_top(
            antiderivative(self._slope, edges, origin, atol=1e-14), lambda u, y: u - np.log(self._noise2(y))
        )

    def _counted_from_top(
        self, rough: Antiderivative, log_density: Callable[[Floats, Floats], Floats]
    ) -> Antiderivative:
        """U once more, counted from where a density made of it is largest: there it must be most accurate."""
        places, heights = _peaks(lambda y: log_density(rough(y), y), rough.edges)
        top = float(places[heights.argmax()])
        if top in (rough.edges[0], rough.edges[-1]):
            return rough
        return antiderivative(self._slope, _graded(rough.edges, np.array([top])), top, atol=1e-14)

    @property
    def _origin(self) -> float:
        if self.lower < self.center < self.upper:
            return self.center
        if np.isfinite(self.lower) and np.isfinite(self.upper):
            return (self.lower + self.upper) / 2
        return self.lower + self.scale if np.isfinite(self.lower) else self.upper - self.scale

    def _slope(self, y: Floats) -> Floats:
        """U'(y) = 2a/b² in y."""
        x, to = self.coordinate.to_x(y), self.coordinate
        return np.asarray(2 * self.drift(x) / self.diffusion(x) ** 2 * np.exp(to.log_slope(y)) - to.bend(y))

    def _drift(self, y: Floats) -> Floats:
        """a in y, by Itô's formula."""
        return self._slope(y) * self._noise2(y) / 2

    def _noise2(self, y: Floats) -> Floats:
        """b² in y."""
        return np.asarray((self.diffusion(self.coordinate.to_x(y)) * np.exp(-self.coordinate.log_slope(y))) ** 2)

    def _log_speed(self, y: Floats) -> Floats:
        return np.asarray(self._potential(y) - np.log(self._noise2(y) / 2))


@dataclass(frozen=True)
class Density:
    """A law with a density, tabulated; made by ``Diffusion1D.stationary``. The names are those of ``scipy.stats``."""

    mass: Mass
    coordinate: Coordinate

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of the density."""
        y = self.coordinate.to_y(np.asarray(x, float))
        return np.asarray(self.mass.log_density(y) - self.mass.log_total - self.coordinate.log_slope(y))

    def pdf(self, x: ArrayLike) -> Floats:
        """Density."""
        return np.exp(self.logpdf(x))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return self.mass.cdf(self.coordinate.to_y(np.asarray(x, float)))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the x with ``cdf(x) = q``."""
        return self.coordinate.to_x(self.mass.ppf(np.asarray(q, float)))

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats:
        """Independent draws."""
        return self.ppf(np.random.default_rng(random_state).random(size))

    def expect(self, function: Function) -> float:
        """``E[function(x)]``; infinite when the integral diverges.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> ou.stationary().expect(lambda x: x**4)      # 3 Var²
        0.7500000
        """
        return self.mass.expect(lambda y: function(self.coordinate.to_x(y)))

    def moment(self, order: int) -> float:
        """``E[xᵏ]``; infinite when it diverges."""
        return self.expect(lambda x: x**order)

    def mean(self) -> float:
        """``E[x]``."""
        return self.moment(1)

    def var(self) -> float:
        """``E[(x − E[x])²]``."""
        mean = self.mean()
        return self.expect(lambda x: (x - mean) ** 2) if np.isfinite(mean) else np.inf

    def std(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.var()))

    def map(self, to_x: Function, to_y: Function, log_slope: Function) -> Density:
        """The law of ``to_x(x)`` for an increasing function, given with its inverse and the log of its derivative.

        >>> normal = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, np.sqrt(2.0)), tails="exponential").stationary()
        >>> normal.map(np.exp, np.log, lambda x: x).mean()          # log-normal: e^½
        1.6487213
        """
        inner = self.coordinate
        return Density(
            self.mass,
            Coordinate(
                lambda y: to_x(inner.to_x(y)),
                lambda x: inner.to_y(to_y(x)),
                lambda y: inner.log_slope(y) + log_slope(inner.to_x(y)),
                inner.bend,
            ),
        )


@dataclass(frozen=True)
class Atoms:
    """A law of finitely many values (sorted), each with its probability.

    >>> Atoms(np.array([0.0, 2.0]), np.array([0.25, 0.75])).mean()
    1.5
    """

    values: Floats
    probabilities: Floats

    def pdf(self, x: ArrayLike) -> Floats:
        """Infinite at the values, zero elsewhere."""
        held = self.values[self.probabilities > 0]
        return np.where(np.isin(np.asarray(x, float), held), np.inf, 0.0)

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``pdf``."""
        return np.where(self.pdf(x) > 0, np.inf, -np.inf)

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return np.asarray((np.asarray(x, float)[..., None] >= self.values) @ self.probabilities)

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the smallest value whose cdf is at least q."""
        upto = np.cumsum(self.probabilities) * (1 - 1e-15)
        return self.values[np.minimum(np.searchsorted(upto, q), len(self.values) - 1)]

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats:
        """Independent draws."""
        return self.ppf(np.random.default_rng(random_state).random(size))

    def expect(self, function: Function) -> float:
        """``E[function(x)]``."""
        return float(function(self.values) @ self.probabilities)

    def moment(self, order: int) -> float:
        """``E[xᵏ]``."""
        return self.expect(lambda x: x**order)

    def mean(self) -> float:
        """``E[x]``."""
        return self.moment(1)

    def var(self) -> float:
        """``E[(x − E[x])²]``."""
        return self.expect(lambda x: (x - self.mean()) ** 2)

    def std(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.var()))


@dataclass(frozen=True)
class Mass:
    """A density on the line by its logarithm, integrated; beyond the edges it goes on as an exponential.

    ``below`` and ``above`` are the shares of the mass there, ``falling`` the rates at which it falls outwards.
    """

    log_density: Function
    log_top: float
    share: Antiderivative
    below: float
    above: float
    falling: tuple[float, float]

    @property
    def log_total(self) -> float:
        return self.log_top + float(np.log(self._total))

    @property
    def _total(self) -> float:
        return self.below + float(self.share.at_edges[-1]) + self.above

    def cdf(self, y: Floats) -> Floats:
        low, high = self.share.edges[0], self.share.edges[-1]
        with np.errstate(invalid="ignore", over="ignore"):
            tails = self.below * np.where(y < low, np.exp(self.falling[0] * (y - low)), 1.0)
            tails = tails + self.above * np.where(y > high, -np.expm1(-self.falling[1] * (y - high)), 0.0)
        return np.asarray((self.share(y) + tails) / self._total)

    def ppf(self, q: Floats) -> Floats:
        with np.errstate(all="ignore"):
            left = self.share.edges[0] + np.log(q * self._total / self.below) / self.falling[0]
            right = self.share.edges[-1] - np.log((1 - q) * self._total / self.above) / self.falling[1]
        y = np.where(q * self._total < self.below, left, self.share.inverse(q * self._total - self.below))
        y = np.where((1 - q) * self._total < self.above, right, y)
        return np.where((q >= 0) & (q <= 1), y, np.nan)

    def expect(self, function: Function) -> float:
        """``∫ f p dy``, with the tails of f p beyond the edges; infinite when they diverge."""
        with np.errstate(all="ignore"):
            held = np.flatnonzero(np.isfinite(function(self.share.edges)))
            edges = self.share.edges[held[0] : held[-1] + 1]
            y = nodes(edges)
            values = function(y)
            inside = np.sign(values) * np.exp(np.log(np.abs(values)) + self.log_density(y) - self.log_total)
            tails = [self._tail(function, edges[0], -1.0), self._tail(function, edges[-1], 1.0)]
        return float(integrals(inside, edges).sum() + sum(tails))

    def _tail(self, function: Function, end: float, outwards: float) -> float:
        """``∫ f p dy`` beyond an end."""

        def log_term(y: Floats) -> Floats:
            return np.log(np.abs(function(y))) + self.log_density(y) - self.log_total

        height = float(log_term(np.array(end)))
        if height < -700:
            return 0.0
        sign, falling = float(np.sign(function(np.array(end)))), _falling(log_term, end, outwards)
        return sign * float(np.exp(height)) / falling if falling > _FLAT else sign * np.inf


def _carried(source: Floats, slope: Floats, edges: Floats, start: float) -> Floats:
    """The solution at all nodes of ``R' = source − slope R`` with R = ``start`` at the first edge."""
    nats = running(slope, edges)
    gained = running(source * np.exp(nats), edges)
    losses, gains = np.exp(-integrals(slope, edges)), integrals(source * np.exp(nats), edges)
    at_edges = np.empty(len(gains))
    for panel, (loss, gain) in enumerate(zip(losses, gains, strict=True)):
        at_edges[panel] = start
        start = loss * (start + gain)
    return np.asarray(np.exp(-nats) * (at_edges[:, None] + gained))


class _InfiniteMass(ValueError):
    def __init__(self, side: str) -> None:
        super().__init__(f"infinite mass lies towards the {side} end of the domain: no such law exists")
        self.side = side


def _mass(log_density: Function, edges: Floats, closed: tuple[bool, bool] = (False, False)) -> Mass:
    """Integrate a density over ``edges`` and, at the sides not ``closed``, beyond them.

    Raises ValueError when the mass beyond is infinite.
    """
    peaks, tops = _peaks(log_density, edges)
    log_top = float(tops.max())

    def relative(y: Floats) -> Floats:
        return np.asarray(np.exp(log_density(y) - log_top))

    # Panels are halved on the way down to a peak only if they can see it.
    share = antiderivative(relative, _graded(edges, peaks), float(edges[0]), atol=1e-260)
    ends = ((edges[0], -1.0, closed[0]), (edges[-1], 1.0, closed[1]))
    heights = [0.0 if done else float(relative(np.array(end))) for end, _, done in ends]
    rates = [_falling(log_density, end, outwards) for end, outwards, _ in ends]
    infinite = [height > 1e-250 and rate < _FLAT for height, rate in zip(heights, rates, strict=True)]
    if any(infinite):
        raise _InfiniteMass("lower" if not infinite[1] else "upper" if not infinite[0] else "lower and the upper")
    rates = [max(rate, _FLAT) for rate in rates]
    outside = [height / rate for height, rate in zip(heights, rates, strict=True)]
    return Mass(log_density, log_top, share, outside[0], outside[1], (rates[0], rates[1]))


def _graded(edges: Floats, places: Floats) -> Floats:
    """The edges and, around each place, ever finer ones."""
    steps = 2.0 ** np.arange(-44, 1)
    near = places[:, None] + np.concatenate([-steps, [0.0], steps]) * np.maximum(1.0, np.abs(places[:, None]))
    return np.union1d(edges, near[(near > edges[0]) & (near < edges[-1])])


def _peaks(log_density: Function, edges: Floats) -> tuple[Floats, Floats]:
    """Where the density has its local maxima (or ends high), and the logarithms there."""
    y = np.unique(np.concatenate([edges, nodes(edges).ravel()]))
    log_p = log_density(y)
    top = np.flatnonzero(
        (log_p >= np.append(-np.inf, log_p[:-1]))
        & (log_p >= np.append(log_p[1:], -np.inf))
        & (log_p >= log_p.max() - 745)
    )
    peaks: list[int] = []
    for i in top:
        if peaks and log_p[peaks[-1] : i].min() > min(log_p[peaks[-1]], log_p[i]) - 1e-3:  # no valley between
            peaks[-1] = max(peaks[-1], i, key=lambda k: log_p[k])
        else:
            peaks.append(i)
    places = [_climb(log_density, y[max(i - 1, 0)], y[i], y[min(i + 1, len(y) - 1)]) for i in peaks]
    return np.array(places), log_density(np.array(places))


def _climb(log_density: Function, low: float, middle: float, high: float) -> float:
    """Where the density is largest between low and high, middle if there."""
    best = minimize_scalar(
        lambda y: -float(log_density(np.array(y))), bounds=(low, high), method="bounded",
        options={"xatol": 1e-9 * (high - low)},
    )  # fmt: skip
    return float(best.x) if -best.fun > log_density(np.array(middle)) else float(middle)


def _falling(log_density: Function, end: float, outwards: float) -> float:
    """Rate at which the logarithm of a density falls outwards at an end."""
    step = 1e-3 * max(1.0, abs(end))
    here, inside = log_density(np.array(end)), log_density(np.array(end - outwards * step))
    return float(inside - here) / step


def _between(edges: Floats, lower: float | None, upper: float | None) -> Floats:
    """The edges between two ends, the ends included (None: as far as the edges go)."""
    low, high = edges[0] if lower is None else lower, edges[-1] if upper is None else upper
    return np.concatenate([[low], edges[(edges > low) & (edges < high)], [high]])


def _coordinate(lower: float, upper: float, center: float, scale: float, tails: str) -> Coordinate:
    if np.isfinite(lower) and np.isfinite(upper):
        width = upper - lower
        return Coordinate(
            lambda y: np.where(y < 0, lower + width * expit(y), upper - width * expit(-y)),
            lambda x: np.log(x - lower) - np.log(upper - x),
            lambda y: np.log(width) + log_expit(y) + log_expit(-y),
            lambda y: -np.tanh(y / 2),
        )
    if np.isfinite(lower):
        return Coordinate(lambda y: lower + np.exp(y), lambda x: np.log(x - lower), lambda y: 1.0 * y, np.ones_like)
    if np.isfinite(upper):
        return Coordinate(
            lambda y: upper - np.exp(-y), lambda x: -np.log(upper - x), lambda y: -y, lambda y: -np.ones_like(y)
        )
    if tails == "exponential":
        return Coordinate(lambda y: 1.0 * y, lambda x: 1.0 * x, np.zeros_like, np.zeros_like)
    return Coordinate(
        lambda y: center + scale * np.sinh(y),
        lambda x: np.arcsinh((x - center) / scale),
        lambda y: np.log(scale) + np.logaddexp(y, -y) - np.log(2),
        np.tanh,
    )
