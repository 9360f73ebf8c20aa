"""The law of a scalar at a time, as quantiles at probits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline
from scipy.special import ndtr, ndtri

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import finite, steady
from saddlescope.theory.sde._piecewise import Function, increasing_root, integrals, nodes, weighted_integral
from saddlescope.theory.sde.coordinate import Coordinate
from saddlescope.theory.sde.laws import BaseLaw


@steady
@dataclass(frozen=True, repr=False)
class QuantileLaw(BaseLaw):
    """The law of x at a time, by its quantiles y = ``middle`` + ``d`` at probits z; within ``error`` in its cdf.

    ``slopes`` are the derivatives of d by z. Nothing has been ``absorbed`` at the ends.
    """

    z: Floats
    middle: float
    d: Floats
    slopes: Floats
    error: float
    coordinate: Coordinate

    absorbed = (0.0, 0.0)

    def _parameters(self) -> _show.Rows:
        return [("error of its cdf", f"at most {_show.number(self.error, 2)}")]

    @cached_property
    def _quantile(self) -> CubicHermiteSpline:
        """d as a monotone function of z, continued beyond its ends as a straight line."""
        secant = np.diff(self.d) / np.diff(self.z)
        steepest = 3 * np.minimum(np.append(secant[:1], secant), np.append(secant, secant[-1:]))
        return CubicHermiteSpline(self.z, self.d, np.clip(self.slopes, 0, steepest))

    def at_probit(self, z: Floats) -> Floats:
        """The distance from the middle at z."""
        inside = np.clip(z, self.z[0], self.z[-1])
        return np.asarray(self._quantile(inside) + (z - inside) * self._quantile(inside, 1))

    def probit_at(self, away: Floats) -> Floats:
        """The z at a distance from the middle."""
        cell = np.clip(np.searchsorted(self.d, away) - 1, 0, len(self.d) - 2)
        inside = np.clip(away, self.d[0], self.d[-1])
        z = increasing_root(
            lambda v: self._quantile(v) - inside, lambda v: self._quantile(v, 1), self.z[cell], self.z[cell + 1]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(away == inside, z, z + (away - inside) / self._quantile(z, 1)))

    def probit(self, x: ArrayLike) -> Floats:
        """The z with ``cdf(x) = Φ(z)``, which resolves probabilities however close to 0 or 1."""
        x = as_numbers(x, "x")
        return np.where(np.isnan(x), np.nan, self.probit_at(self.coordinate.inverse(x) - self.middle))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x."""
        return np.asarray(ndtr(self.probit(x)))

    def sf(self, x: ArrayLike) -> Floats:
        """Probability of values above x."""
        return np.asarray(ndtr(-self.probit(x)))

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the x with ``cdf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return self._of_probit(ndtri(as_numbers(q, "q")))

    def isf(self, q: ArrayLike) -> Floats:
        """The x with ``sf(x) = q``; nan outside 0 ≤ q ≤ 1."""
        return self._of_probit(-ndtri(as_numbers(q, "q")))

    def _of_probit(self, z: Floats) -> Floats:
        low, high = self.coordinate.domain
        x = self.coordinate.to_x(self.middle + self.at_probit(np.where(np.isfinite(z), z, 0.0)))
        return np.select([np.isnan(z), z == -np.inf, z == np.inf], [np.nan, low, high], x)

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``pdf``."""
        x, (low, high) = as_numbers(x, "x"), self.coordinate.domain
        inside = (x > low) & (x < high)
        y = self.coordinate.to_y(np.where(inside, x, float(self.coordinate.to_x(np.array(self.middle)))))
        z = self.probit_at(y - self.middle)
        slope = self._quantile(np.clip(z, self.z[0], self.z[-1]), 1)
        log_p = -(z**2) / 2 - np.log(np.sqrt(2 * np.pi) * slope) - self.coordinate.log_slope(y)
        return np.where(inside, log_p, np.where(np.isnan(x), np.nan, -np.inf))

    def pdf(self, x: ArrayLike) -> Floats:
        """Density."""
        return np.asarray(np.exp(self.logpdf(x)))

    def expect(self, function: Function) -> float:
        """``E[function(x)]`` to 1e-8 of ``E|function(x)|``, jumps allowed; the probability of 1e-13 beyond the
        last quantiles is left out.

        Raises ValueError where the function is not finite, or has too many jumps.
        """
        return weighted_integral(lambda z: finite(function, self._x(z)), _normal_density, self.z) / self._held

    def _smooth(self, function: Function) -> float:
        """``E[function(x)]`` of a smooth function, without the probability of 1e-13 beyond the last quantiles."""
        z = nodes(self.z)
        return float(integrals(function(self._x(z)) * _normal_density(z), self.z).sum()) / self._held

    @property
    def _held(self) -> float:
        """Probability between the last nodes."""
        return float(ndtr(self.z[-1]) - ndtr(self.z[0]))

    def _x(self, z: Floats) -> Floats:
        """x at a z between the last nodes."""
        return self.coordinate.to_x(self.middle + self._quantile(z))

    def transformed(self, to_x: Function, to_y: Function, log_slope: Function) -> QuantileLaw:
        """The law of ``to_x(x)`` for an increasing function, given with its inverse and the log of its derivative."""
        return replace(self, coordinate=self.coordinate.then(to_x, to_y, log_slope))


def _normal_density(z: Floats) -> Floats:
    return np.asarray(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))
