"""Confidence intervals of claims: each misses the truth with probability at most 1e-6."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from saddlescope.compare import FALSE_ALARM, cdf_difference

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    value: float
    low: float
    high: float

    def __sub__(self, by: float) -> Interval:
        """Measured from another origin."""
        return Interval(self.value - by, self.low - by, self.high - by)

    def __mul__(self, by: float) -> Interval:
        """In other units; ``by`` is positive."""
        return Interval(self.value * by, self.low * by, self.high * by)

    def __truediv__(self, by: float) -> Interval:
        """Over a number known exactly; ``by`` is positive."""
        return Interval(self.value / by, self.low / by, self.high / by)


def exact(value: float) -> Interval:
    """A number without sampling error.

    >>> exact(0.5)
    Interval(value=0.5, low=0.5, high=0.5)
    """
    return Interval(float(value), float(value), float(value))


def proportion(hits: ArrayLike) -> Interval:
    """Share of True, with the interval of Clopper & Pearson 1934 (exact).

    >>> proportion(np.ones(1000, bool)).low > 0.98
    True
    """
    sample = np.asarray(hits, bool).ravel()
    found, n = int(sample.sum()), sample.size
    low = stats.beta.ppf(FALSE_ALARM / 2, found, n - found + 1) if found else 0.0
    high = stats.beta.isf(FALSE_ALARM / 2, found + 1, n - found) if found < n else 1.0
    return Interval(found / n, float(low), float(high))


def mean(values: ArrayLike) -> Interval:
    """Mean of independent values with thin tails, by the central limit theorem (Student's t).

    >>> mean(np.arange(101.0)).value
    50.0
    """
    sample = np.asarray(values, np.float64).ravel()
    half = stats.t.isf(FALSE_ALARM / 2, sample.size - 1) * sample.std(ddof=1) / np.sqrt(sample.size)
    centre = float(sample.mean())
    return Interval(centre, centre - float(half), centre + float(half))


def median(values: ArrayLike) -> Interval:
    """Median of independent values, between order statistics of binomial rank (any law).

    >>> median(np.arange(101.0)).value
    50.0
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    below = int(stats.binom.ppf(FALSE_ALARM / 2, ordered.size, 0.5)) - 1
    if below < 0:
        return Interval(float(np.median(ordered)), -np.inf, np.inf)
    return Interval(float(np.median(ordered)), float(ordered[below]), float(ordered[-1 - below]))


def ratio(above: Interval, below: Interval) -> Interval:
    """Ratio of two positive numbers, from the ends of their intervals.

    >>> ratio(Interval(2.0, 1.0, 3.0), Interval(1.0, 0.5, 2.0))
    Interval(value=2.0, low=0.5, high=6.0)
    """
    return Interval(above.value / below.value, above.low / below.high, above.high / below.low)


def distance_to_law(values: ArrayLike, cdf: Callable[[Floats], ArrayLike]) -> Interval:
    """Largest difference between the CDF of a sample and a law (Dvoretzky, Kiefer & Wolfowitz; Massart 1990).

    >>> distance_to_law(np.linspace(0, 1, 1001), lambda x: x).value < 0.001
    True
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    law, steps = np.asarray(cdf(ordered), np.float64), np.arange(ordered.size + 1) / ordered.size
    largest = float(np.maximum(steps[1:] - law, law - steps[:-1]).max())
    return _band(largest, ordered.size)


def distance_between(first: ArrayLike, second: ArrayLike) -> Interval:
    """Largest difference between the CDFs of two independent samples, by the band of each.

    >>> distance_between(np.arange(100.0), np.arange(100.0)).value
    0.0
    """
    a, b = (np.asarray(values, np.float64).ravel() for values in (first, second))
    return _band(cdf_difference(a, b), a.size, b.size)


def _band(distance: float, *sizes: int) -> Interval:
    half = sum(float(np.sqrt(np.log(2 * len(sizes) / FALSE_ALARM) / (2 * size))) for size in sizes)
    return Interval(distance, max(0.0, distance - half), min(1.0, distance + half))
