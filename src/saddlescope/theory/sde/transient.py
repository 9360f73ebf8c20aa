"""The law of a scalar SDE at a time, as masses of cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import finite, steady
from saddlescope.theory.sde._piecewise import Function, increasing_root, weighted_integral
from saddlescope.theory.sde.cells import Stage
from saddlescope.theory.sde.coordinate import Coordinate
from saddlescope.theory.sde.laws import BaseLaw
from saddlescope.theory.sde.mass import Mass, tabulate

FEW = 8
"""Cells at a reflecting end in which the mass is seen relative to the speed measure."""


@steady
@dataclass(frozen=True, repr=False)
class Transient(BaseLaw):
    """The law of x at a time: a density, and the mass ``absorbed`` at the ends; within ``error`` in its cdf.

    ``points`` are y at the edges and centres of cells, ``cumulated`` is the mass up to the edges. Absorbed mass sits
    at the lower and the upper end of the stage, as atoms.
    """

    stage: Stage
    points: Floats
    cumulated: Floats
    error: float
    coordinate: Coordinate

    @property
    def absorbed(self) -> tuple[float, float]:
        """Probability to have been absorbed at the lower and at the upper end."""
        return float(self.cumulated[0]), float(1 - self.cumulated[-1])

    def _parameters(self) -> _show.Rows:
        return [("error of its cdf", f"at most {_show.number(self.error, 2)}")]

    def point_masses(self) -> list[tuple[float, float]]:
        """The ends at which x has been absorbed, with the probability of that."""
        return [(float(end), p) for p, end in zip(self.absorbed, self._ends, strict=True) if p > 0]

    @cached_property
    def _spline(self) -> CubicHermiteSpline:
        """Cumulated mass over ξ: of order 4 where smooth, and monotone."""
        c, n = self.cumulated, len(self.cumulated) - 1
        secant = np.diff(c) * n
        slope = np.empty(n + 1)
        slope[2:-2] = (8 * (c[3:-1] - c[1:-3]) - (c[4:] - c[:-4])) * n / 12
        slope[[1, -2]] = (secant[[0, -1]] + secant[[1, -2]]) / 2
        slope[[0, -1]] = (3 * secant[[0, -1]] - secant[[1, -2]]) / 2
        steepest = 3 * np.minimum(np.append(secant[:1], secant), np.append(secant, secant[-1:]))
        return CubicHermiteSpline(np.linspace(0, 1, n + 1), c, np.clip(slope, 0, steepest))

    @cached_property
    def _singular(self) -> list[tuple[Floats, Mass, PchipInterpolator]]:
        """Cells at a reflecting end where the density is not smooth in ξ; there it is p/m that is.

        Their outer and inner ξ, the speed measure, and the cumulated mass over its share.
        """
        pieces, sde, n = [], self.stage.sde, len(self.cumulated) - 1
        for side, (far, lost) in enumerate(zip(self.stage.far, self.stage.absorbs, strict=True)):
            if not far or lost or not sde.boundaries[side].integrable:
                continue
            cells = np.arange(FEW + 1) if side == 0 else np.arange(n - FEW, n + 1)
            edges = self.stage.y(cells / n)
            speed = tabulate(sde.log_speed, edges, closed=(side == 1, side == 0))
            share = np.where(np.isin(cells, (0, n)), float(side), speed.cdf(edges))
            outer = share[1] if side == 0 else 1 - share[-2]
            if outer > FEW**-1.9:  # m is less smooth in ξ than in a plane, where m ∝ ξ
                pieces.append((cells / n, speed, PchipInterpolator(share, self.cumulated[cells])))
        return pieces

    def pdf(self, x: ArrayLike) -> Floats:
        """Density of the mass that has not been absorbed."""
        x, (low, high), sde = as_numbers(x, "x"), self._ends, self.stage.sde
        inside = (x > low) & (x < high)
        y = self.coordinate.to_y(np.where(inside, x, float(self.coordinate.to_x(self.stage.y(0.5)))))
        xi, span = self.stage.xi(y), float(np.ptp(self.stage.z.at_edges[[0, -1]]))
        stretch = span * (1 + self.stage.bend * (1 - 2 * xi)) * np.sqrt(sde.noise2(y))
        density = self._spline(xi, 1) / stretch
        for part, speed, cumulated in self._singular:
            here = (xi >= part[0]) & (xi <= part[-1])
            density = np.where(here, cumulated(speed.cdf(y), 1) * np.exp(speed.logpdf(y)), density)
        density = density * np.exp(-self.coordinate.log_slope(y))
        return np.where(inside, density, np.where(np.isnan(x), np.nan, 0.0))

    def logpdf(self, x: ArrayLike) -> Floats:
        """Logarithm of ``pdf``."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.pdf(x)))

    def cdf(self, x: ArrayLike) -> Floats:
        """Probability of values up to x, those absorbed included."""
        x, (low, high) = as_numbers(x, "x"), self._ends
        y = self.coordinate.inverse(x)
        xi = self.stage.xi(y)
        inside = self._spline(xi)
        for part, speed, cumulated in self._singular:
            inside = np.where((xi >= part[0]) & (xi <= part[-1]), cumulated(speed.cdf(y)), inside)
        return np.select([np.isnan(x), x < low, x >= high], [np.nan, 0.0, 1.0], inside)

    def ppf(self, q: ArrayLike) -> Floats:
        """Quantile: the smallest x with ``cdf(x) ≥ q``; nan outside 0 ≤ q ≤ 1."""
        q, (low, high), c = as_numbers(q, "q"), self._ends, self.cumulated
        held = np.clip(q, c[0], c[-1])
        cell = np.clip(np.searchsorted(c, held, side="left") - 1, 0, len(c) - 2)
        left, right = cell / (len(c) - 1), (cell + 1) / (len(c) - 1)
        y = self.stage.y(_root(self._spline, held, left, right))
        for _, speed, cumulated in self._singular:
            here = (held > cumulated(0.0)) & (held < cumulated(1.0))
            zero, one = np.zeros(held.shape), np.ones(held.shape)
            y = np.where(here, speed.ppf(_root(cumulated, held, zero, one)), y)
        x = self.coordinate.to_x(y)
        return np.select([~((q >= 0) & (q <= 1)), q <= c[0], q > c[-1]], [np.nan, low, high], x)

    def expect(self, function: Function) -> float:
        """``E[function(x)]``, absorbed mass included; jumps are resolved, to 1e-8 of ``E|function(x)|``.

        Raises ValueError where the function is not finite, or has too many jumps.
        """

        def inside(xi: Floats) -> Floats:
            return finite(function, self.coordinate.to_x(self.stage.y(xi)))

        edges = np.linspace(0, 1, len(self.cumulated))
        moving = weighted_integral(inside, lambda xi: np.maximum(self._spline(xi, 1), 0), edges)
        atoms = [(p, end) for p, end in zip(self.absorbed, self._ends, strict=True) if p > 0]
        return moving + sum(p * float(finite(function, np.array(end))) for p, end in atoms)

    def _smooth(self, function: Function) -> float:
        """``E[function(x)]`` of a function that is smooth on cells, by Simpson's rule; absorbed mass included."""
        values = np.asarray(function(self.coordinate.to_x(self.points)))
        n = len(self.cumulated) - 1
        density = self._spline(np.linspace(0, 1, 2 * n + 1), 1)
        density[density < 1e-13 * density.max()] = 0.0  # rounding, which huge values of x would amplify
        parts = values * density / (6 * n)
        inside = float(parts[:-1:2].sum() + 4 * parts[1::2].sum() + parts[2::2].sum())
        return inside + sum(
            p * float(function(np.array(end))) for p, end in zip(self.absorbed, self._ends, strict=True) if p > 0
        )

    def transformed(self, to_x: Function, to_y: Function, log_slope: Function) -> Transient:
        """The law of ``to_x(x)`` for an increasing function, given with its inverse and the log of its derivative."""
        return replace(self, coordinate=self.coordinate.then(to_x, to_y, log_slope))

    @property
    def _ends(self) -> tuple[float, float]:
        """The ends of the stage, or of the domain where the stage reaches it."""
        edges, domain = self.stage.z.edges[[0, -1]], self.coordinate.domain
        low, high = (
            end if far else float(x)
            for x, end, far in zip(self.coordinate.to_x(edges), domain, self.stage.far, strict=True)
        )
        return low, high


def _root(cumulated: CubicHermiteSpline | PchipInterpolator, value: Floats, left: Floats, right: Floats) -> Floats:
    return increasing_root(lambda u: cumulated(u) - value, lambda u: cumulated(u, 1), left, right, 1e-16)
