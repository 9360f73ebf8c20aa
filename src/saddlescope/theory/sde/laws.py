"""Laws of a scalar with the names of ``scipy.stats``: densities known by their logarithm, and atoms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from saddlescope._memory import require
from saddlescope._numbers import as_number, as_numbers, as_vector, as_whole, shown
from saddlescope.theory._checks import given, steady
from saddlescope.theory.sde._piecewise import Antiderivative, antiderivative, nodes, weighted_integral

Floats = NDArray[np.float64]
Function = Callable[[Floats], Floats]
Seed = int | np.random.Generator | None

FLAT = 1e-9
"""A tail whose logarithm falls more slowly than this holds infinite mass."""


class Law(Protocol):
    """The law of a scalar, with the names of ``scipy.stats``; NaN in, NaN out."""

    def pdf(self, x: ArrayLike) -> Floats: ...
    def logpdf(self, x: ArrayLike) -> Floats: ...
    def cdf(self, x: ArrayLike) -> Floats: ...
    def logcdf(self, x: ArrayLike) -> Floats: ...
    def sf(self, x: ArrayLike) -> Floats: ...
    def logsf(self, x: ArrayLike) -> Floats: ...
    def ppf(self, q: ArrayLike) -> Floats: ...
    def isf(self, q: ArrayLike) -> Floats: ...
    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats: ...
    def mean(self) -> float: ...
    def var(self) -> float: ...
    def std(self) -> float: ...
    def median(self) -> float: ...
    def interval(self, confidence: float) -> tuple[float, float]: ...
    def support(self) -> tuple[float, float]: ...
    def moment(self, order: int) -> float: ...
    def expect(self, function: Function) -> float: ...


@steady
class Moments:
    """What every law here has from its ``cdf`` and ``ppf``."""

    def __repr__(self) -> str:
        (low, high), (inner, outer) = self.support(), self.interval(0.9)
        return (
            f"{type(self).__name__}: median {self.median():.6g}, 90 % from {inner:.6g} to {outer:.6g}, "
            f"all from {low:.6g} to {high:.6g}"
        )

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        raise NotImplementedError

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the smallest x with ``cdf(x) ≥ q``."""
        raise NotImplementedError

    def logcdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``cdf``; −∞ where that underflows."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.cdf(x)))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values beyond x."""
        return np.asarray(1 - self.cdf(x))

    def logsf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``sf``; −∞ where that underflows."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.sf(x)))

    def isf(self, q: ArrayLike) -> Floats:
        """Upper quantile: the smallest x with ``sf(x) ≤ q``."""
        return self.ppf(1 - as_numbers(q, "q"))

    def expect(self, function: Function) -> float:
        """``E[function(x)]`` to 1e-8 of ``E|function(x)|``, jumps allowed; infinite when the tails diverge.

        What a function does only on less than 1e-4 of the probability may be missed: take differences of ``cdf``.
        Raises ValueError where the function is not finite, has too many jumps, or grows too fast.
        """
        edges = np.concatenate([2.0 ** np.arange(-300.0, -9), np.arange(2, 257) / 512])
        total = size = 0.0
        for quantile in (self.ppf, self.isf):

            def value(q: Floats, quantile: Function = quantile) -> Floats:
                return finite(function, quantile(q))

            last, before, rest = (
                weighted_integral(value, np.ones_like, at) for at in (edges[:2], edges[1:3], edges[2:])
            )
            total, size = total + last + before + rest, max(size, abs(rest))
            if abs(last) > 1e-9 * size:
                if abs(last) < abs(before):
                    raise ValueError("function grows too fast: what is left beyond quantiles of 1e-90 is not small")
                return float(np.sign(last) * np.inf)
        return total

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats:
        """Independent draws, of the shape ``size``; ``random_state`` is a seed or a generator of NumPy.

        Raises TypeError for a size or a seed that is no whole number, ValueError for negative ones and for more draws
        than there is memory for.
        """
        lengths = () if size is None else size if isinstance(size, (tuple, list)) else (size,)
        shape = tuple(as_whole(length, "size") for length in lengths)
        seeds = [random_state] if isinstance(random_state, (bool, float, str, bytes, int, np.generic)) else []
        for name, numbers in (("size", shape), ("random_state", [as_whole(seed, "random_state") for seed in seeds])):
            if min(numbers, default=0) < 0:
                raise ValueError(f"{name} must not be negative, got {shown(numbers)}; give whole numbers of at least 0")
        require(64 * math.prod(shape), f"size = {shown(size)}", "draw fewer at a time")
        try:
            rng = np.random.default_rng(random_state)
        except (TypeError, ValueError):
            raise TypeError(
                f"random_state must be a seed such as 0, or a generator, got {shown(random_state)}"
            ) from None
        return self.ppf(rng.random(shape))

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

    def median(self) -> float:
        """The x with ``cdf(x) = ½``."""
        return float(self.ppf(0.5))

    def interval(self, confidence: float) -> tuple[float, float]:
        """The central interval of this probability; raises ValueError for one outside [0, 1]."""
        if not 0 <= as_number(confidence, "confidence") <= 1:
            raise ValueError(f"confidence must be from 0 to 1, got {confidence:g}; use 0.95")
        outside = (1 - confidence) / 2
        return float(self.ppf(outside)), float(self.isf(outside))

    def support(self) -> tuple[float, float]:
        """The smallest and the largest x there can be."""
        return float(self.ppf(0.0)), float(self.ppf(1.0))


@steady
@dataclass(frozen=True, repr=False)
class Atoms(Moments):
    """A law of finitely many values (sorted), each with its probability.

    Raises ValueError for values that are not finite and increasing, or probabilities that are negative or do not have
    the sum 1.

    >>> Atoms(np.array([0.0, 2.0]), np.array([0.25, 0.75])).mean()
    1.5
    """

    values: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        values, p = as_vector(self.values, "values"), as_vector(self.probabilities, "probabilities")
        if not len(values) or not (np.diff(values) > 0).all():
            raise ValueError(f"values must be increasing numbers, got {shown(values.tolist())}; sort them")
        if p.shape != values.shape or (p < 0).any() or abs(p.sum() - 1) > 1e-9:
            raise ValueError(
                f"probabilities must be one for each value, not negative, with the sum 1, got {shown(p.tolist())}"
            )
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "probabilities", p)

    def pdf(self, x: ArrayLike) -> Floats:
        """Infinite at the values, zero elsewhere."""
        x = as_numbers(x, "x")
        return np.where(np.isnan(x), np.nan, np.where(np.isin(x, self._held), np.inf, 0.0))

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``pdf``."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.pdf(x)))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        x = as_numbers(x, "x")
        return np.where(np.isnan(x), np.nan, np.minimum((x[..., None] >= self.values) @ self.probabilities, 1.0))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values beyond x."""
        x = as_numbers(x, "x")
        return np.where(np.isnan(x), np.nan, np.minimum((x[..., None] < self.values) @ self.probabilities, 1.0))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the smallest value whose cdf is at least q (at 0 the smallest of all); nan outside 0 ≤ q ≤ 1."""
        q, shares = as_numbers(q, "q"), self.probabilities[self.probabilities > 0]
        below = np.searchsorted(np.cumsum(shares), q * (1 - 1e-15))
        return np.where((q >= 0) & (q <= 1), self._held[np.minimum(below, len(shares) - 1)], np.nan)

    def isf(self, q: ArrayLike) -> Floats:
        """Upper quantile: the smallest value whose sf is at most q; nan outside 0 ≤ q ≤ 1."""
        q, shares = as_numbers(q, "q"), self.probabilities[self.probabilities > 0]
        above = np.append(np.cumsum(shares[:0:-1])[::-1], 0.0)  # falling
        first = len(above) - np.searchsorted(above[::-1], q * (1 + 1e-15), side="right")
        return np.where((q >= 0) & (q <= 1), self._held[np.minimum(first, len(shares) - 1)], np.nan)

    def expect(self, function: Function) -> float:
        """``E[function(x)]``; raises ValueError where the function is not finite at a value."""
        return float(finite(function, self._held) @ self.probabilities[self.probabilities > 0])

    @property
    def _held(self) -> Floats:
        return self.values[self.probabilities > 0]


@steady
@dataclass(frozen=True, repr=False)
class Mixture(Moments):
    """Laws mixed with ``shares`` that sum to 1, atoms before densities; x of a quantile may be an atom.

    >>> from scipy import stats
    >>> law = Mixture((Atoms([0.0], [1.0]), Known(stats.norm())), (0.25, 0.75))
    >>> float(law.cdf(0.0)), float(law.ppf(0.5)), law.var()
    (0.625, 0.0, 0.75)
    """

    laws: tuple[Law, ...]
    shares: tuple[float, ...]

    def _mixed(self, name: str, x: ArrayLike) -> Floats:
        x = as_numbers(x, "x")
        return np.asarray(
            sum(p * getattr(law, name)(x) for p, law in zip(self.shares, self.laws, strict=True) if p > 0)
        )

    def pdf(self, x: ArrayLike) -> Floats:
        """Density, infinite at atoms."""
        return self._mixed("pdf", x)

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of the density."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.pdf(x)))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return self._mixed("cdf", x)

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values beyond x."""
        return self._mixed("sf", x)

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the smallest x with ``cdf(x) ≥ q``; nan outside 0 ≤ q ≤ 1."""
        return self._quantile(as_numbers(q, "q"), "ppf", lambda x, q: self.cdf(x) >= q)

    def isf(self, q: ArrayLike) -> Floats:
        """Upper quantile: the smallest x with ``sf(x) ≤ q``; nan outside 0 ≤ q ≤ 1."""
        return self._quantile(as_numbers(q, "q"), "isf", lambda x, q: self.sf(x) <= q)

    def _quantile(self, q: Floats, name: str, reached: Callable[[Floats, Floats], NDArray[np.bool_]]) -> Floats:
        """Between the least and the greatest of the laws' own, by halving the ranks of floating-point numbers."""
        own = np.array([getattr(law, name)(q) for p, law in zip(self.shares, self.laws, strict=True) if p > 0])
        known = ~np.isnan(own).any(axis=0)
        low, high = (_rank(np.where(known, end, 0.0)) for end in (own.min(axis=0), own.max(axis=0)))
        low, inside = low - 1, np.where(known, q, 0.5)
        for _ in range(65):
            middle = low // 2 + high // 2 + (low % 2 + high % 2) // 2
            up = reached(_number(middle), inside)
            low, high = np.where(up, low, middle), np.where(up, middle, high)
        return np.where(known, _number(high), np.nan)

    def expect(self, function: Function) -> float:
        """``E[function(x)]``; raises ValueError as the laws do."""
        return float(sum(p * law.expect(function) for p, law in zip(self.shares, self.laws, strict=True) if p > 0))


def _rank(x: Floats) -> NDArray[np.int64]:
    """Order of floating-point numbers: the next number has the next rank."""
    bits = np.asarray(x + 0.0, np.float64).view(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFF_FFFF_FFFF_FFFF), bits)


def _number(rank: NDArray[np.int64]) -> Floats:
    """The number of a rank."""
    size = np.abs(rank).view(np.float64)
    return np.where(rank < 0, -size, size)


@steady
@dataclass(frozen=True, repr=False)
class Known(Moments):
    """A frozen law of ``scipy.stats``, with the names and the checks of the other laws.

    >>> from scipy import stats
    >>> law = Known(stats.norm(1e3, 1e-3))
    >>> law.expect(lambda x: x > 1e3), float(law.sf(1000.01))
    (0.5, 7.6...e-24)
    """

    law: Any

    def pdf(self, x: ArrayLike) -> Floats:
        """Density."""
        return np.asarray(self.law.pdf(as_numbers(x, "x")))

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of the density."""
        return np.asarray(self.law.logpdf(as_numbers(x, "x")))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return np.asarray(self.law.cdf(as_numbers(x, "x")))

    def logcdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``cdf``."""
        return np.asarray(self.law.logcdf(as_numbers(x, "x")))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values beyond x."""
        return np.asarray(self.law.sf(as_numbers(x, "x")))

    def logsf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``sf``."""
        return np.asarray(self.law.logsf(as_numbers(x, "x")))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the x with ``cdf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return np.asarray(self.law.ppf(as_numbers(q, "q")))

    def isf(self, q: ArrayLike) -> Floats:
        """Upper quantile: the x with ``sf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return np.asarray(self.law.isf(as_numbers(q, "q")))

    def mean(self) -> float:
        """``E[x]``."""
        return float(self.law.mean())

    def var(self) -> float:
        """``E[(x − E[x])²]``."""
        return float(self.law.var())


@dataclass(frozen=True)
class Coordinate:
    """An increasing map x = φ(y) of the whole line onto a domain: φ, its inverse, log φ' and φ''/φ'."""

    to_x: Function
    to_y: Function
    log_slope: Function
    bend: Function
    domain: tuple[float, float] = (-np.inf, np.inf)

    def inverse(self, x: ArrayLike) -> Floats:
        """``to_y``, and ∓∞ at the ends of the domain and outside."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.to_y(np.clip(as_numbers(x, "x"), *self.domain)))

    def then(self, to_x: Function, to_y: Function, log_slope: Function) -> Coordinate:
        """Followed by an increasing function of x, given with its inverse and the log of its derivative.

        Raises ValueError where it does not increase, or its inverse is another.
        """
        to_x, to_y, log_slope = (
            given(f, name) for f, name in ((to_x, "to_x"), (to_y, "to_y"), (log_slope, "log_slope"))
        )
        x = self.to_x(np.array([-1.0, 0.0, 1.0]))
        back = to_y(to_x(x))
        if not ((np.diff(to_x(x)) > 0).all() and (np.abs(back - x) <= 1e-6 * np.maximum(np.abs(x), np.ptp(x))).all()):
            raise ValueError(f"to_x must increase and to_y be its inverse, but they take {x} to {to_x(x)} and {back}")
        low, high = (float(to_x(end)) for end in self.domain)
        return Coordinate(
            lambda y: to_x(self.to_x(y)),
            lambda x: self.to_y(to_y(x)),
            lambda y: self.log_slope(y) + log_slope(self.to_x(y)),
            self.bend,
            (low, high),
        )


LINE = Coordinate(lambda y: 1.0 * y, lambda x: 1.0 * x, np.zeros_like, np.zeros_like)
"""x = y."""


@steady
@dataclass(frozen=True, repr=False)
class Density(Moments):
    """A law with a density, tabulated in a coordinate on the whole line; made by ``Diffusion1D.stationary``.

    Probabilities and quantiles of both tails keep their digits down to 1e-250.
    """

    mass: Mass
    coordinate: Coordinate

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of the density: −∞ outside the domain, the limit from inside at its ends."""
        x, (low, high) = as_numbers(x, "x"), self.coordinate.domain
        y = self.coordinate.inverse(x)
        inside = self._logpdf_at(np.where(np.isinf(y), 0.0, y))
        held = np.select([y == -np.inf, y == np.inf], [self._limit(-1), self._limit(1)], inside)
        return np.where((x < low) | (x > high), -np.inf, held)

    def pdf(self, x: ArrayLike) -> Floats:
        """Density: 0 outside the domain, the limit from inside (0, finite or infinite) at its ends."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.logpdf(x)))

    def _logpdf_at(self, y: Floats) -> Floats:
        return np.asarray(self.mass.logpdf(y) - self.coordinate.log_slope(y))

    def _limit(self, outwards: Literal[-1, 1]) -> float:
        """Limit of the log density of x at an end of the domain."""
        if not np.isfinite(self.coordinate.domain[max(outwards, 0)]):
            return -np.inf
        edges = self.mass.share.edges
        heights = self.mass.logpdf(edges)
        place = edges[heights > heights.max() - 300][min(-outwards, 0)]  # further out, differences are rounded
        near, falling = self._logpdf_at(place), falling_rate(self._logpdf_at, place, outwards)
        if abs(falling) < 0.1:  # to be told from 0, more exactly and not where x − end is rounded
            near, inner = self._logpdf_at(place - outwards * np.array([3.0, 6.0]))
            falling = float(inner - near) / 3
        return float(near) if abs(falling) < 1e-6 else float(-np.sign(falling) * np.inf)

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return self.mass.cdf(self.coordinate.inverse(x))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values beyond x."""
        return self.mass.mirrored.cdf(-self.coordinate.inverse(x))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the x with ``cdf(x) = q``, at 0 and 1 the ends of the domain; nan outside 0 ≤ q ≤ 1."""
        return self._at(self.mass.ppf(as_numbers(q, "q")))

    def isf(self, q: ArrayLike) -> Floats:
        """Upper quantile: the x with ``sf(x) = q``, at 1 and 0 the ends of the domain; nan outside 0 ≤ q ≤ 1."""
        return self._at(-self.mass.mirrored.ppf(as_numbers(q, "q")))

    def _at(self, y: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(self.coordinate.to_x(y))

    def expect(self, function: Function) -> float:
        """``E[function(x)]`` to 1e-8 of ``E|function(x)|``, jumps allowed; infinite when the integral diverges.

        What a function does only on less than 1e-4 of the probability may be missed: take differences of ``cdf``.
        Raises ValueError where the function is NaN, or has too many jumps.

        >>> from saddlescope.theory import Diffusion1D
        >>> ornstein_uhlenbeck = Diffusion1D(lambda x: -x, np.ones_like)
        >>> ornstein_uhlenbeck.stationary().expect(lambda x: x**4)      # 3 Var²
        0.7500000
        """
        function = given(function, "function")
        return self.mass.expect(lambda y: function(self.coordinate.to_x(y)))

    def transformed(self, to_x: Function, to_y: Function, log_slope: Function) -> Density:
        """The law of ``to_x(x)`` for an increasing function, given with its inverse and the log of its derivative.

        >>> from saddlescope.theory import Diffusion1D
        >>> normal = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, 2**0.5), tails="exponential").stationary()
        >>> normal.transformed(np.exp, np.log, lambda x: x).mean()          # log-normal: e^½
        1.6487213
        """
        return Density(self.mass, self.coordinate.then(to_x, to_y, log_slope))


@dataclass(frozen=True)
class Mass:
    """A density on the line by its logarithm, integrated; beyond the edges it goes on as an exponential.

    ``share`` integrates the density divided by its largest value, e^``log_top``; ``below`` and ``above`` is its mass
    beyond the edges, ``falling`` the rates at which it falls there.
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

    def logpdf(self, y: Floats) -> Floats:
        inside = np.clip(y, self.share.edges[0], self.share.edges[-1])
        fallen = self.falling[0] * np.maximum(inside - y, 0) + self.falling[1] * np.maximum(y - inside, 0)
        return np.asarray(self.log_density(inside) - self.log_total - fallen)

    def cdf(self, y: Floats) -> Floats:
        low, high = self.share.edges[0], self.share.edges[-1]
        with np.errstate(invalid="ignore", over="ignore"):
            tails = self.below * np.where(y < low, np.exp(self.falling[0] * (y - low)), 1.0)
            tails = tails + self.above * np.where(y > high, -np.expm1(-self.falling[1] * (y - high)), 0.0)
        inside = np.clip((self.share(y) + tails) / self._total, 0.0, 1.0)
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
            beyond = self.share.edges[0] + np.log(q * self._total / self.below) / self.falling[0]
            above = self.share.edges[-1] - np.log((1 - q) * self._total / self.above) / self.falling[1]
        y = np.where(q * self._total < self.below, beyond, self.share.inverse(q * self._total - self.below))
        return np.where((1 - q) * self._total < self.above, above, y)

    @cached_property
    def mirrored(self) -> Mass:
        """The law of −y, in which the upper tail is not what is left of 1."""
        ends = self.above, self.below, self.falling[::-1]
        return Mass(lambda y: self.log_density(-y), self.log_top, self.share.mirrored, *ends)

    @cached_property
    def _panels(self) -> Floats:
        """The edges and, so that a jump of a function is seen, quantiles between them."""
        shares = np.concatenate([np.arange(1, 512) / 512, 2.0 ** -np.arange(10, 60)])
        between = self.share.inverse(np.append(shares, 1 - shares) * self._total - self.below)
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


def finite(function: Function, at: Floats) -> Floats:
    """A user's ``function`` where the law has its mass: it must be finite."""
    values = given(function, "function")(at)
    if not np.isfinite(values).all():
        raise ValueError(f"function must be finite where the law has its mass, got {values[~np.isfinite(values)][0]}")
    return values


def inverse_gaussian(mean: float, shape: float) -> Density:
    """The law of t with density ``∝ t^{−3/2} exp(−shape (t − mean)²/(2 mean² t))``: variance ``mean³/shape``.

    The first passage of a Brownian motion with drift. Source: Karlin & Taylor 1975, A First Course in Stochastic
    Processes, section 7.5.

    >>> law = inverse_gaussian(2.0, 4.0)
    >>> law.mean(), law.var()
    (2.0000000, 2.0000000)
    """
    ratio = shape / mean

    def log_density(y: Floats) -> Floats:  # of y = log(t/mean)
        return np.asarray(-2 * ratio * np.sinh(y / 2) ** 2 - y / 2)

    reach = 2 * np.arcsinh(np.sqrt(350 / ratio))
    mass = tabulate(log_density, np.linspace(-reach, reach, 65))
    return Density(mass, LINE).transformed(
        lambda y: np.asarray(mean * np.exp(y)), lambda t: np.asarray(np.log(t / mean)), lambda y: np.log(mean) + y
    )


def power_of_gamma(shape: float, rate: float, power: float) -> Density:
    """The law of ``x^power`` for Gamma distributed x, power < 0: ``∝ s^{shape/power − 1} exp(−rate s^{1/power})``.

    >>> power_of_gamma(3.0, 4.0, -1.0).mean()          # inverse gamma
    2.0000000
    """

    def log_density(y: Floats) -> Floats:  # of y = log x + log(rate/shape)
        return np.asarray(shape * (y - np.expm1(y)))

    low, high = -700 / shape - 1, np.log1p(700 / shape) + 1
    mass = tabulate(lambda y: log_density(-y), np.linspace(-high, -low, 65))
    unit = (shape / rate) ** power
    return Density(mass, LINE).transformed(
        lambda y: np.asarray(unit * np.exp(-power * y)),
        lambda s: np.asarray(np.log(s / unit) / -power),
        lambda y: np.log(-power * unit) - power * y,
    )


class InfiniteMass(ValueError):
    """A density has infinite mass towards ``side``: "lower", "upper" or "both"."""

    def __init__(self, side: str) -> None:
        super().__init__(f"there is no such law: the density has infinite mass towards the {side} end of the domain")
        self.side = side


def tabulate(log_density: Function, edges: Floats, closed: tuple[bool, bool] = (False, False)) -> Mass:
    """Integrate a density over ``edges`` and, at the sides not ``closed``, beyond them.

    Raises InfiniteMass when there is no end to it.
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
    if not mass._total > 0:
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
