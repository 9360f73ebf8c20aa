"""Laws of a scalar with the names of ``scipy.stats``: the protocol, what all laws share, atoms and mixtures."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._memory import require
from saddlescope._numbers import as_number, as_numbers, as_vector, as_whole, shown
from saddlescope.theory._checks import finite, probabilities, quiet, steady
from saddlescope.theory.sde._piecewise import Function, weighted_integral
from saddlescope.theory.sde.distance import largest_difference, number, rank

_PERCENT = (5, 50, 95)
"""Quantiles that a law shows."""

Seed = int | np.random.Generator | None


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
    def point_masses(self) -> list[tuple[float, float]]: ...
    def distance(self, other: Any) -> float: ...


@steady
class BaseLaw(_show.Shown):
    """What every law here derives from its ``cdf`` and ``ppf``."""

    _title = ""
    """What it is the law of."""

    def _summary(self) -> tuple[str, _show.Rows]:
        """Mean, standard deviation, quantiles and point masses."""

        with quiet():
            variance, mean, (low, *quantiles, high) = (
                _show.computed(self.var),
                _show.computed(self.mean),
                [_show.computed(self.ppf, q / 100) for q in (0, *_PERCENT, 100)],
            )
        deviation = math.sqrt(variance) if variance >= 0 else math.nan

        def shown(x: float) -> str:
            return _show.number(0.0 if abs(x) < 1e-12 * deviation < np.inf else x)

        rows = [
            ("mean", shown(mean)),
            ("standard deviation", _show.number(deviation)),
            ("quantiles", ", ".join(f"{shown(x)} ({q} %)" for x, q in zip(quantiles, _PERCENT, strict=True))),
            ("range", f"{shown(low)} to {shown(high)}"),
            *self._parameters(),
        ]
        masses = sorted(self.point_masses(), key=lambda mass: -mass[1])
        listed = [f"{_show.number(p)} at {_show.number(x)}" for x, p in masses[:4]]
        if listed:
            rows.append(("point masses", ", ".join([*listed, "…"] if len(masses) > 4 else listed)))
        name = type(self).__name__
        return (f"{name}: {self._title}" if self._title else name), rows

    def _parameters(self) -> _show.Rows:
        """Rows that this kind of law adds."""
        return ()

    def point_masses(self) -> list[tuple[float, float]]:
        """Values of positive probability and their probabilities, as pairs; empty for a law with a density alone."""
        return []

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
                    raise ValueError("function grows too fast: its mean beyond quantiles of 1e-90 is not small")
                return float(np.sign(last) * np.inf)
        return total

    def rvs(self, size: int | tuple[int, ...] | None = None, random_state: Seed = None) -> Floats:
        """Independent draws, of the shape ``size``; ``random_state`` is a seed or a generator of NumPy.

        Raises TypeError for a size or a seed that is not a whole number, ValueError for negative ones and for more
        draws than fit into memory.
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
        return self._smooth(lambda x: x**order)

    def mean(self) -> float:
        """``E[x]``."""
        return self.moment(1)

    def var(self) -> float:
        """``E[(x − E[x])²]``."""
        mean = self.mean()
        return self._smooth(lambda x: (x - mean) ** 2) if np.isfinite(mean) else np.inf

    def _smooth(self, function: Function) -> float:
        """``E[function(x)]`` of a smooth function, for laws that have it at less cost than ``expect``."""
        return self.expect(function)

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
        """The smallest and the largest possible x."""
        return float(self.ppf(0.0)), float(self.ppf(1.0))

    def distance(self, other: Any) -> float:
        """Kolmogorov distance ``sup |F − G|`` to another law, to 1e-5; ``other`` is anything with ``cdf``.

        Jumps of both distribution functions are found. Raises TypeError where ``other`` has no ``cdf``, ValueError
        where this does not return increasing probabilities.

        >>> from scipy.stats import norm
        >>> Known(norm(0, 1)).distance(norm(1, 1))           # 2Φ(½) − 1
        0.3829249
        >>> Atoms([0.0, 1.0], [0.25, 0.75]).distance(norm(0, 1))
        0.5913447
        """
        if not hasattr(other, "cdf"):
            raise TypeError(
                f"other must have cdf, as a law or a frozen scipy.stats distribution, got {shown(other)}; "
                "to compare a run with a law use compare(run, law)"
            )
        levels = np.arange(1, 256) / 256
        return largest_difference(self.cdf, probabilities(other.cdf, "other.cdf"), self.ppf(levels))


L = TypeVar("L")


def titled(law: L, title: str) -> L:
    """The same law with a title, which is shown on one line."""
    law = copy(law)
    object.__setattr__(law, "_title", " ".join(title.split()))
    return law


@steady
@dataclass(frozen=True, repr=False)
class Atoms(BaseLaw):
    """A law of finitely many values (sorted), each with its probability.

    Raises ValueError for values that are not finite and increasing, or probabilities that are negative or do not sum
    to 1.

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
                f"probabilities must be one for each value, not negative, and sum to 1, got {shown(p.tolist())}"
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

    def point_masses(self) -> list[tuple[float, float]]:
        """The values with their probabilities."""
        return [(float(x), float(p)) for x, p in zip(self.values, self.probabilities, strict=True) if p > 0]

    @property
    def _held(self) -> Floats:
        return self.values[self.probabilities > 0]


@steady
@dataclass(frozen=True, repr=False)
class Mixture(BaseLaw):
    """Laws mixed with ``shares`` that sum to 1, atoms before densities; x of a quantile may be an atom.

    >>> from scipy import stats
    >>> law = Mixture((Atoms([0.0], [1.0]), Known(stats.norm())), (0.25, 0.75))
    >>> float(law.cdf(0.0)), float(law.ppf(0.5)), law.var()
    (0.625, 0.0, 0.75)
    """

    laws: tuple[Law, ...]
    shares: tuple[float, ...]

    def _parameters(self) -> _show.Rows:
        pairs = zip(self.laws, self.shares, strict=True)
        parts = [f"{_show.number(share)} {type(law).__name__}" for law, share in pairs]
        return [("shares", ", ".join([*parts[:4], "…"] if len(parts) > 4 else parts))]

    def point_masses(self) -> list[tuple[float, float]]:
        """The point masses of all laws, times their shares."""
        held = [(law, share) for law, share in zip(self.laws, self.shares, strict=True) if isinstance(law, BaseLaw)]
        return [(x, share * p) for law, share in held if share > 0 for x, p in law.point_masses()]

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
        """By bisection over ranks of floating-point numbers, between the least and the largest quantile of the laws."""
        own = np.array([getattr(law, name)(q) for p, law in zip(self.shares, self.laws, strict=True) if p > 0])
        known = ~np.isnan(own).any(axis=0)
        low, high = (rank(np.where(known, end, 0.0)) for end in (own.min(axis=0), own.max(axis=0)))
        low, inside = low - 1, np.where(known, q, 0.5)
        for _ in range(65):
            middle = low // 2 + high // 2 + (low % 2 + high % 2) // 2
            up = reached(number(middle), inside)
            low, high = np.where(up, low, middle), np.where(up, middle, high)
        return np.where(known, number(high), np.nan)

    def expect(self, function: Function) -> float:
        """``E[function(x)]``; raises ValueError as the laws do."""
        return float(sum(p * law.expect(function) for p, law in zip(self.shares, self.laws, strict=True) if p > 0))


@steady
@dataclass(frozen=True, repr=False)
class Known(BaseLaw):
    """A frozen law of ``scipy.stats``, with the names and the checks of the other laws.

    >>> from scipy import stats
    >>> law = Known(stats.norm(1e3, 1e-3))
    >>> law.expect(lambda x: x > 1e3), float(law.sf(1000.01))
    (0.5, 7.6...e-24)
    """

    law: Any

    def _parameters(self) -> _show.Rows:
        name = getattr(getattr(self.law, "dist", self.law), "name", type(self.law).__name__)
        arguments = [("", _show.value(a)) for a in getattr(self.law, "args", ())]
        named = [(key, _show.value(a)) for key, a in getattr(self.law, "kwds", {}).items()]
        parts = [text if not key else f"{key}={text}" for key, text in [*arguments, *named]]
        return [("scipy.stats", f"{name}({', '.join(parts)})")]

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
