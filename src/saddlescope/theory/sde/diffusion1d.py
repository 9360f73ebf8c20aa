"""Any scalar Itô SDE ``dx = a(x) dt + b(x) dW`` by quadrature: scale and speed, stationary law, passage times.

Itô's formula moves the SDE to a coordinate y on the whole line in which power laws of x are exponentials. There

    U(y) = ∫ 2a/b² dy,   scale density e^(−U),   speed density m = 2 e^U / b²,   stationary density ∝ m,

and all else are integrals of these. Only their logarithms are ever formed, so that neither heavy tails nor essential
singularities overflow or underflow.
Source: Karlin & Taylor 1981, A Second Course in Stochastic Processes, chapter 15, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit

from saddlescope._numbers import as_choice, as_number, as_numbers
from saddlescope.theory._checks import given, steady
from saddlescope.theory.sde._piecewise import Antiderivative, antiderivative
from saddlescope.theory.sde.boundaries import Boundaries, Condition, feller
from saddlescope.theory.sde.evolution import MOST_RATES, spectrum
from saddlescope.theory.sde.in_time import LawInTime, check_law, evolve, passage_cdf
from saddlescope.theory.sde.laws import FLAT, Coordinate, Density, Floats, Function, graded, peaks, tabulate
from saddlescope.theory.sde.passage import moments
from saddlescope.theory.sde.quantiles import Start

_NEGLIGIBLE = 40.0
"""Nats below its top at which a density no longer counts (e^−40 = 4e-18)."""

_MOST_TIMES = 10_000
"""Laws at once, which are all held."""


@steady
@dataclass(frozen=True)
class Diffusion1D:
    """``dx = drift(x) dt + diffusion(x) dW`` (Itô) on ``lower < x < upper``, where the diffusion is positive.

    ``drift`` and ``diffusion`` map arrays to arrays, or to one number, and may jump. ``center`` and ``scale`` say where
    on the whole line x lives; ``tails`` whether densities there fall like a "power" of x (x = center + scale sinh y) or
    "exponential" (x = scale y).
    ``at_lower`` and ``at_upper`` say what happens at an end that x can reach and leave (a regular one, ``boundaries``).

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
    at_lower: Condition = "reflecting"
    at_upper: Condition = "reflecting"

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "center", "scale"):
            object.__setattr__(self, name, as_number(getattr(self, name), name))
        if not self.lower < self.upper:
            raise ValueError(f"lower must be below upper, got {self.lower} and {self.upper}; swap them")
        if not 0 < self.scale < np.inf:
            raise ValueError(f"scale must be positive and finite, got {self.scale}; use a typical width of x")
        if not np.isfinite(self.center):
            raise ValueError(f"center must be finite, got {self.center}; use a typical x")
        as_choice(self.tails, "tails", "power", "exponential")
        for name in ("drift", "diffusion"):
            object.__setattr__(self, name, given(getattr(self, name), name))
        for name in ("at_lower", "at_upper"):
            as_choice(getattr(self, name), name, "reflecting", "absorbing")

    @cached_property
    def coordinate(self) -> Coordinate:
        """The coordinate y on the whole line in which everything is integrated."""
        return _coordinate(self.lower, self.upper, self.center, self.scale, self.tails)

    @cached_property
    def boundaries(self) -> Boundaries:
        """What happens at both ends of the domain, by Feller's tests.

        Source: Karlin & Taylor 1981, section 15.6.

        >>> bessel = Diffusion1D(lambda x: 1 / x, np.ones_like, lower=0.0)          # dimension 3
        >>> bessel.boundaries.lower.kind, bessel.boundaries.upper.attracting, bessel.boundaries.recurrence
        ('entrance', True, 'transient')
        """
        edges, middle = self._potential.edges, float(self.coordinate.to_y(np.asarray(self._origin)))
        ends = []
        for y, end, condition in ((edges[0], self.lower, self.at_lower), (edges[-1], self.upper, self.at_upper)):
            flat = FLAT if end == 0 or np.isinf(end) else 1e-5  # near others x is rounded
            log_noise2 = lambda v: np.asarray(np.log(self._noise2(v)))  # noqa: E731
            ends.append(feller(self._slope, log_noise2, middle, y, flat, condition))
        return Boundaries(*ends)

    def log_scale_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the scale density ``s'(x) = exp(−∫ 2a/b² dx)``, up to a constant; shape of ``x``.

        Source: Karlin & Taylor 1981, section 15.3.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_scale_density([0.0, 1.0, 2.0]))        # x²
        array([1., 3.])
        """
        y = self._inside(x, "x")
        return -self._potential(y) - self.coordinate.log_slope(y)

    def log_speed_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the speed density ``m(x) = 2/(b² s')``, up to the same constant; shape of ``x``.

        Source: Karlin & Taylor 1981, section 15.3.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_speed_density([0.0, 1.0, 2.0]))        # −x²
        array([-1., -3.])
        """
        y = self._inside(x, "x")
        return self._log_speed(y) - self.coordinate.log_slope(y)

    def stationary(self) -> Density:
        """The stationary law, with density ∝ ``m(x)``.

        Raises ValueError, and says why, when there is none: x ends somewhere, or m has infinite mass.
        Source: Karlin & Taylor 1981, section 15.5.

        >>> bessel = Diffusion1D(lambda x: 1.5 - x, lambda x: np.sqrt(2 * x), lower=0.0)   # Gamma(1.5)
        >>> bessel.stationary().mean(), float(bessel.stationary().cdf(1.0))
        (1.5000000, 0.4275932)
        """
        if self.boundaries.no_law is not None:
            raise ValueError(self.boundaries.no_law)
        return Density(tabulate(self._log_speed, self._potential.edges), self.coordinate)

    def exit_probability(self, start: ArrayLike, lower: float | None = None, upper: float | None = None) -> Floats:
        """Probability to reach ``upper`` before ``lower`` (None: an end of the domain); shape of ``start``.

        With None an end counts as reached when x converges to it or is absorbed. Raises ValueError when that happens at
        neither.
        Source: Karlin & Taylor 1981, section 15.3.

        >>> brownian = Diffusion1D(np.zeros_like, np.ones_like)
        >>> brownian.exit_probability([0.25, 0.5], lower=0.0, upper=1.0)
        array([0.25, 0.5 ])
        """
        ends = [
            None if level is None or level == end else float(self._inside(as_number(level, name), name))
            for name, level, end in (("lower", lower, self.lower), ("upper", upper, self.upper))
        ]
        possible = [level is not None or end.keeps for level, end in zip(ends, self.boundaries, strict=True)]
        if not any(possible):
            raise ValueError("neither end of the domain is ever reached; give lower or upper")
        if lower is not None and upper is not None and not lower < upper:
            raise ValueError(f"lower must be below upper, got {lower} and {upper}; swap them")
        y = self._inside(start, "start")
        if not all(possible):
            return np.where(np.isnan(y), np.nan, float(possible[1]))
        edges = _between(self._potential.edges, *ends)
        known = y[~np.isnan(y)]
        inside = float(np.clip(np.median(known) if known.size else 0.0, edges[0], edges[-1]))
        potential = self._integral(edges, inside)
        potential = self._counted_from_top(potential, lambda u, y: -u)
        return tabulate(lambda y: -potential(y), edges, closed=(lower is not None, upper is not None)).cdf(y)

    def passage(self, start: ArrayLike, target: float) -> tuple[Floats, Floats]:
        """Mean and variance of the time of first passage from ``start`` to ``target``; each of the shape of ``start``.

        ``mean = ∫ R dx`` with ``R = s'(x) ∫ m`` over all that lies behind x, which solves ``R' = 2/b² − (2a/b²)R``;
        ``var = ∫ R₂ dx`` with ``R₂' = 2R² − (2a/b²)R₂``, to about 1e-10, for noise of any size. Infinite where the
        target is not certain to be reached, or not in finite mean time, or in more than 1e300.
        Source: Karlin & Taylor 1981, section 15.3.

        >>> drifted = Diffusion1D(lambda x: np.full_like(x, 2.0), np.ones_like, tails="exponential")
        >>> mean, variance = drifted.passage(0.0, 3.0)      # inverse Gaussian: 3/2 and 3/2³
        >>> float(mean), float(variance)
        (1.5000000, 0.3750000)
        """
        y = self._inside(start, "start")
        end = float(self.coordinate.to_y(as_numbers(target, "target")))
        mean, var = (np.where(np.isnan(y - end), np.nan, 0.0) for _ in range(2))
        for side in (1.0, -1.0):
            here = side * y < side * end
            if here.any():
                behind = self.boundaries.lower if side > 0 else self.boundaries.upper
                certain = not behind.keeps
                mean[here], var[here] = moments(self, y[here], end, side) if certain else (np.inf, np.inf)
        return mean, var

    def passage_cdf(self, times: ArrayLike, start: float, target: float, tol: float = 1e-5) -> Floats:
        """Probability to have passed from ``start`` to ``target`` by ``times`` (increasing); shape of ``times``.

        Within ``tol``: from the law of x absorbed at the target where noise spreads it over the cells of ``evolve``,
        else by renewal from laws that are not absorbed. Raises ValueError as ``evolve``.

        >>> brownian = Diffusion1D(np.zeros_like, np.ones_like)
        >>> brownian.passage_cdf([1.0, 4.0], start=0.0, target=1.0)       # erfc(1/√(2t))
        array([0.31731..., 0.61707...])
        """
        lower, upper = (None, target) if target > start else (target, None)
        first, when = self._asked(as_number(start, "start"), times, lower, upper, tol)
        assert isinstance(first, float)
        return passage_cdf(self, first, float(target), when, self._levels(lower, upper), tol)

    def evolve(
        self,
        start: float | Start,
        times: ArrayLike,
        lower: float | None = None,
        upper: float | None = None,
        tol: float = 1e-5,
    ) -> list[LawInTime]:
        """The laws of x at ``times`` (positive, increasing), all from ``start``: a point or a law such as ``Density``.

        ``∂p/∂t = −∂(a p)/∂x + ½ ∂²(b² p)/∂x²``, absorbed at ``lower`` and ``upper`` where given and at the ends of the
        domain as ``boundaries`` say: by finite volumes where noise spreads the law over their cells, else by following
        its quantiles. Both are refined until two results agree to ``tol`` in the cdf; ``error`` of each law says to
        what. A law takes a second or less, three at most, a refusal up to five, and some 100 MB.
        Raises ValueError where that does not reach ``tol``, for a start outside, or times that are not positive and
        increasing.
        Source: Scharfetter & Gummel 1969, IEEE Trans. Electron Devices 16(1); Chang & Cooper 1970.

        >>> (law,) = Diffusion1D(lambda x: -x, np.ones_like).evolve(1.0, [0.5])
        >>> law.mean(), law.var()                      # e^(−½), (1 − e^(−1))/2
        (0.6065..., 0.3160...)
        """
        first, when = self._asked(start, times, lower, upper, tol)
        return evolve(self, first, when, self._levels(lower, upper), tol)

    def _asked(
        self, start: float | Start, times: ArrayLike, lower: float | None, upper: float | None, tol: float
    ) -> tuple[float | Start, Floats]:
        """Start and times, checked."""
        when = np.atleast_1d(as_numbers(times, "times"))
        if when.ndim != 1 or not len(when) or not (np.diff(when, prepend=0.0) > 0).all() or when[-1] == np.inf:
            raise ValueError(f"times must be positive, increasing and finite, got {when.tolist()!r:.80}")
        if len(when) > _MOST_TIMES:
            raise ValueError(f"times must be at most {_MOST_TIMES:,} numbers, got {len(when):,}; ask for fewer at once")
        if when[0] < 1e-300 or when[-1] > 1e300:
            raise ValueError(f"times must be from 1e-300 to 1e300, got {when[0]:g} to {when[-1]:g}; change their unit")
        if not as_number(tol, "tol") > 0:
            raise ValueError(f"tol must be positive, got {tol}; use 1e-5")
        low, high = self._between(lower, upper)
        if hasattr(start, "ppf"):
            check_law(start, low)
            return start, when
        start = as_number(start, "start")
        if not low < start < high:
            raise ValueError(f"start must lie between {low:g} and {high:g}, got {start:g}")
        return start, when

    def spectrum(
        self, count: int = 2, lower: float | None = None, upper: float | None = None, tol: float = 1e-6
    ) -> Floats:
        """The ``count`` smallest decay rates of the law, 0 first where there is a stationary one; (count,).

        Eigenvalues of −generator with mass absorbed at ``lower`` and ``upper`` where given, from the symmetrised
        tridiagonal matrix of the cells of ``evolve``, to a relative ``tol``. From ``essential_rate`` on the spectrum is
        continuous, and what is returned is that of a large but finite stage.
        Raises ValueError where x drifts off without end, or a rate is so small that rounding hides it.

        >>> Diffusion1D(lambda x: -x, np.ones_like).spectrum(4).round(5)
        array([0., 1., 2., 3.])
        """
        if not 1 <= count <= MOST_RATES:
            raise ValueError(f"count must be from 1 to {MOST_RATES}, got {count}; it counts rates")
        if not 0 < tol < 1:
            raise ValueError(f"tol must be above 0 and below 1, got {tol:g}; use 1e-6")
        self._between(lower, upper)
        sides = zip((lower, upper), self.boundaries, ("lower", "upper"), strict=True)
        for level, end, side in sides:
            if level is None and not (end.integrable or end.there == "absorbing"):
                raise ValueError(f"there is no lowest rate: x can drift off to the {side} end; give {side}")
        return spectrum(self, count, self._levels(lower, upper), tol)

    @cached_property
    def essential_rate(self) -> float:
        """The rate from which on the spectrum is continuous; infinite where all of it is discrete.

        In the coordinate of unit noise, with drift μ, the limit of ``½(μ² + μ')`` at a natural end.
        Source: Weyl's theorem on the symmetrised generator; Karlin & Taylor 1981, section 15.13.

        >>> linear = Diffusion1D(lambda x: -x, lambda x: np.sqrt(1 + x * x))      # tails like geometric Brownian motion
        >>> linear.essential_rate
        1.12500...
        """
        ends = zip(self.boundaries, self._potential.edges[[0, -1]], strict=True)
        return min((self._barrier(float(y)) for end, y in ends if end.kind == "natural"), default=np.inf)

    @property
    def relaxation_time(self) -> float:
        """Time in which the slowest deviation from the stationary law decays by a factor e: one over the spectral gap.

        Raises ValueError, and says why, when there is no stationary law.

        >>> Diffusion1D(lambda x: -0.25 * x, np.ones_like).relaxation_time
        4.0000...
        """
        if self.boundaries.no_law is not None:
            raise ValueError(self.boundaries.no_law)
        return 1 / min(float(self.spectrum()[1]), self.essential_rate)

    def _inside(self, x: ArrayLike, name: str) -> Floats:
        """y of x, NaN for NaN; raises ValueError for an x outside the domain."""
        x = as_numbers(x, name)
        out = (x <= self.lower) | (x >= self.upper)
        if out.any():
            raise ValueError(f"{name} must lie between {self.lower:g} and {self.upper:g}, got {x[out][0]:g}")
        return self.coordinate.to_y(x)

    def _between(self, lower: float | None, upper: float | None) -> tuple[float, float]:
        """Two levels, or the ends of the domain where they are None."""
        low, high = (end if level is None else level for level, end in ((lower, self.lower), (upper, self.upper)))
        if not self.lower <= low < high <= self.upper:
            raise ValueError(f"lower and upper must lie in the domain, lower below upper, got {lower} and {upper}")
        return low, high

    def _levels(self, lower: float | None, upper: float | None) -> tuple[float | None, float | None]:
        low, high = (
            None if level is None or level == end else float(self.coordinate.to_y(np.asarray(level, float)))
            for level, end in ((lower, self.lower), (upper, self.upper))
        )
        return low, high

    def _barrier(self, end: float) -> float:
        """Limit of ½(μ² + μ') towards an end of the line."""

        def unit_drift(y: Floats) -> Floats:  # μ = b(U' − ½(log b²)')/2
            step = 1e-4 * np.abs(y)
            rate = np.log(self._noise2(y + step) / self._noise2(y - step)) / (2 * step)
            return np.asarray(np.sqrt(self._noise2(y)) * (self._slope(y) - rate / 2) / 2)

        middle = float(self.coordinate.to_y(np.asarray(self._origin)))
        y = middle + (end - middle) * np.array([0.25, 0.5])
        step = 1e-3 * np.abs(y)
        slope = (unit_drift(y + step) - unit_drift(y - step)) / (2 * step) * np.sqrt(self._noise2(y))
        near, far = (unit_drift(y) ** 2 + slope) / 2
        return np.inf if far > 1.5 * near and far > 0 else max(float(far), 0.0)

    @cached_property
    def _potential(self) -> Antiderivative:
        """U(y), on as much of the line as can be represented."""
        origin = float(self.coordinate.to_y(np.asarray(self._origin)))
        grid = origin + np.sinh(np.linspace(-32, 32, 4097))
        low, high = self._representable(grid)
        edges = np.concatenate([[grid[low]], grid[low + 1 : high : 32], [grid[high]]])
        rough = self._integral(edges, origin)
        heights = rough.at_edges - np.log(self._noise2(rough.edges))
        least = min(heights.max(), float(np.interp(origin, rough.edges, heights))) - _NEGLIGIBLE
        for end, beyond in ((0, low - 1), (-1, high + 1)):
            if heights[end] > least and 0 <= beyond < len(grid):  # x goes there
                self._check_coefficients(self.coordinate.to_x(grid[[beyond]]))
        return self._counted_from_top(rough, lambda u, y: u - np.log(self._noise2(y)))

    def _representable(self, grid: Floats) -> tuple[int, int]:
        """First and last point of the grid, around its middle, between which nothing over- or underflows."""
        with np.errstate(all="ignore"):
            x = self.coordinate.to_x(grid)
            sizes = np.log([self._noise2(grid), self.diffusion(x) ** 2])
            fine = np.isfinite(self._slope(grid)) & (np.abs(sizes) < 650).all(axis=0)
            for end in (self.lower, self.upper):  # nearer to an end than this, x no longer tells how near
                fine &= np.isinf(end) | (np.abs(x - end) > 1e-10 * np.abs(end))
        middle, bad = len(grid) // 2, np.flatnonzero(~fine)
        low, high = int(bad[bad < middle].max(initial=-1)), int(bad[bad > middle].min(initial=len(grid)))
        inside = np.append(np.arange(middle, high), np.arange(low + 1, middle)[::-1])
        self._check_coefficients(x[inside] if fine[middle] else x[[middle]])
        if not fine[middle]:
            raise ValueError(
                f"drift and diffusion must be finite and diffusion positive at x = {self._origin:g}; move center"
            )
        if high - low < 4:
            raise ValueError(
                f"drift or diffusion over- or underflows next to x = {self._origin:g}; change the units of x"
            )
        return low + 1, high - 1

    def _check_coefficients(self, x: Floats) -> None:
        """Raise ValueError at the first x where the drift is NaN, or the diffusion NaN or not positive."""
        drift, diffusion = self.drift(x), self.diffusion(x)
        for name, values, wrong in (
            ("drift must be a number", drift, np.isnan(drift)),
            ("diffusion must be positive", diffusion, ~(diffusion > 0)),
        ):
            wrong &= (x > self.lower) & (x < self.upper) & np.isfinite(x)
            if wrong.any():
                raise ValueError(
                    f"{name} inside the domain, got {values[wrong][0]:g} at x = {x[wrong][0]:.4g}; "
                    "set lower and upper to where it is, or move center"
                )

    def _counted_from_top(
        self, rough: Antiderivative, log_density: Callable[[Floats, Floats], Floats]
    ) -> Antiderivative:
        """U once more, counted from where a density made of it is largest: there it must be most accurate."""
        places, heights = peaks(lambda y: log_density(rough(y), y), rough.edges)
        top = float(places[heights.argmax()])
        if top in (rough.edges[0], rough.edges[-1]):
            return rough
        return self._integral(graded(rough.edges, np.array([top])), top)

    def _integral(self, edges: Floats, origin: float) -> Antiderivative:
        """U(y) with ``U(origin) = 0``."""

        def slope(y: Floats) -> Floats:
            values = self._slope(y)
            if not np.isfinite(values).all():
                x = self.coordinate.to_x(y[~np.isfinite(values)])
                self._check_coefficients(x)
                raise ValueError(
                    f"drift must be finite inside the domain, and is not at x = {x[0]:.4g}; set lower or upper"
                )
            return values

        with np.errstate(divide="ignore", invalid="ignore"):
            return antiderivative(slope, edges, origin, atol=1e-14, rounding=self._rounding)

    def _rounding(self, y: Floats) -> Floats:
        """What U'(y) owes to rounding of x near an end that is not 0."""
        x = self.coordinate.to_x(y)
        size = np.abs(self._slope(y)) + 2 * np.abs(self.coordinate.bend(y)) + 1
        near = np.zeros_like(x)
        for end in (self.lower, self.upper):
            if np.isfinite(end):
                with np.errstate(divide="ignore"):
                    near = np.maximum(near, np.abs(end) / np.abs(x - end))
        return np.asarray(4 * np.finfo(float).eps * size * near)

    @cached_property
    def _peaks(self) -> Floats:
        """Where the speed density in y has its maxima."""
        return peaks(self._log_speed, self._potential.edges)[0]

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

    def _noise2(self, y: Floats) -> Floats:
        """b² in y."""
        return np.asarray((self.diffusion(self.coordinate.to_x(y)) * np.exp(-self.coordinate.log_slope(y))) ** 2)

    def _log_speed(self, y: Floats) -> Floats:
        return np.asarray(self._potential(y) - np.log(self._noise2(y) / 2))


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
            (lower, upper),
        )
    if np.isfinite(lower):
        return Coordinate(
            lambda y: lower + np.exp(y), lambda x: np.log(x - lower), lambda y: 1.0 * y, np.ones_like, (lower, np.inf)
        )
    if np.isfinite(upper):
        return Coordinate(
            lambda y: upper - np.exp(-y),
            lambda x: -np.log(upper - x),
            lambda y: -y,
            lambda y: -np.ones_like(y),
            (-np.inf, upper),
        )
    if tails == "exponential":
        log_scale = np.log(scale)
        return Coordinate(lambda y: scale * y, lambda x: x / scale, lambda y: np.full_like(y, log_scale), np.zeros_like)
    return Coordinate(
        lambda y: center + scale * np.sinh(y),
        lambda x: np.arcsinh((x - center) / scale),
        lambda y: np.log(scale / 2) + np.abs(y) + np.log1p(np.exp(-2 * np.abs(y))),
        np.tanh,
    )
