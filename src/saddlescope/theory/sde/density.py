"""Laws with a density, tabulated in a coordinate on the whole line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import given, steady
from saddlescope.theory.sde._piecewise import Function
from saddlescope.theory.sde.coordinate import LINE, Coordinate
from saddlescope.theory.sde.laws import BaseLaw
from saddlescope.theory.sde.mass import Mass, falling_rate, tabulate


@steady
@dataclass(frozen=True, repr=False)
class Density(BaseLaw):
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
        if abs(falling) < 0.1:  # whether it is 0 is tested more exactly, and not where x − end is rounded
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
