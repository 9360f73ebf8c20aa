"""Scale and speed of a scalar Itô SDE ``dx = a(x) dt + b(x) dW``: what every other question about it is made of.

Itô's formula moves the SDE to a coordinate y on the whole line in which power laws of x are exponentials. There

    U(y) = ∫ 2a/b² dy,   scale density s = e^(−U),   speed density m = 2 e^U / b².

Only the logarithms of s and m are ever formed, so that neither heavy tails nor essential singularities overflow or
underflow.
Source: Karlin & Taylor 1981, A Second Course in Stochastic Processes, chapter 15, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from saddlescope._arrays import Floats
from saddlescope.theory.sde._piecewise import Antiderivative, Function, antiderivative
from saddlescope.theory.sde.boundaries import Boundaries, Condition, feller
from saddlescope.theory.sde.coordinate import Coordinate, scaled
from saddlescope.theory.sde.mass import FLAT, graded, peaks

_NEGLIGIBLE = 40.0
"""Nats below its top at which a density no longer counts (e^−40 = 4e-18)."""


@dataclass(frozen=True)
class ScaleSpeed:
    """An SDE with these coefficients in x, seen in the ``coordinate`` y, whose domain is that of x.

    ``origin`` is an x inside the domain, ``scale`` a typical width of x, ``at_ends`` what happens at regular ends.
    """

    drift: Function
    diffusion: Function
    coordinate: Coordinate
    origin: float
    scale: float
    at_ends: tuple[Condition, Condition]

    @cached_property
    def boundaries(self) -> Boundaries:
        """What happens at both ends of the domain, by Feller's tests."""
        edges, middle = self.potential.edges, self.middle
        ends = []
        for y, end, condition in zip(edges[[0, -1]], self.coordinate.domain, self.at_ends, strict=True):
            flat = FLAT if end == 0 or np.isinf(end) else 1e-5  # near others x is rounded
            log_noise2 = lambda v: np.asarray(np.log(self.noise2(v)))  # noqa: E731
            ends.append(feller(self.slope, log_noise2, middle, y, flat, condition))
        return Boundaries(*ends)

    @property
    def middle(self) -> float:
        """y of the origin."""
        return float(self.coordinate.to_y(np.asarray(self.origin)))

    def slope(self, y: Floats) -> Floats:
        """``U'(y) = 2a/b²`` in y."""
        x, to = self.coordinate.to_x(y), self.coordinate
        return np.asarray(2 * self.drift(x) / self.diffusion(x) ** 2 * np.exp(to.log_slope(y)) - to.bend(y))

    def noise2(self, y: Floats) -> Floats:
        """b² in y."""
        return np.asarray((self.diffusion(self.coordinate.to_x(y)) * np.exp(-self.coordinate.log_slope(y))) ** 2)

    def log_speed(self, y: Floats) -> Floats:
        """Logarithm of the speed density in y."""
        return np.asarray(self.potential(y) - np.log(self.noise2(y) / 2))

    def drift_and_log_noise2(self, y: Floats) -> tuple[Floats, Floats]:
        """Itô drift and log b² in y, without the potential."""
        x, to = self.coordinate.to_x(y), self.coordinate
        shrink = np.exp(-to.log_slope(y))
        noise = self.diffusion(x) * shrink
        return self.drift(x) * shrink - to.bend(y) * noise**2 / 2, 2 * np.log(noise)

    @cached_property
    def peaks(self) -> Floats:
        """Where the speed density in y has its maxima."""
        return peaks(self.log_speed, self.potential.edges)[0]

    @cached_property
    def potential(self) -> Antiderivative:
        """U(y), on as much of the line as can be represented."""
        origin = self.middle
        grid = origin + np.sinh(np.linspace(-32, 32, 4097))
        low, high = self._representable(grid)
        edges = np.concatenate([[grid[low]], grid[low + 1 : high : 32], [grid[high]]])
        rough = self.potential_between(edges, origin)
        heights = rough.at_edges - np.log(self.noise2(rough.edges))
        least = min(heights.max(), float(np.interp(origin, rough.edges, heights))) - _NEGLIGIBLE
        for end, beyond in ((0, low - 1), (-1, high + 1)):
            if heights[end] > least and 0 <= beyond < len(grid):  # x goes there
                self._check_coefficients(self.coordinate.to_x(grid[[beyond]]))
        return self.counted_from_top(rough, lambda u, y: u - np.log(self.noise2(y)))

    def potential_between(self, edges: Floats, origin: float) -> Antiderivative:
        """U(y) with ``U(origin) = 0``."""

        def slope(y: Floats) -> Floats:
            values = self.slope(y)
            if not np.isfinite(values).all():
                x = self.coordinate.to_x(y[~np.isfinite(values)])
                self._check_coefficients(x)
                raise ValueError(
                    f"drift must be finite inside the domain, and is not at x = {x[0]:.4g}; set lower or upper"
                )
            return values

        with np.errstate(divide="ignore", invalid="ignore"):
            return antiderivative(slope, edges, origin, atol=1e-14, rounding=self._rounding)

    def counted_from_top(
        self, rough: Antiderivative, log_density: Callable[[Floats, Floats], Floats]
    ) -> Antiderivative:
        """U once more, counted from where a density made of it is largest: there it must be most accurate."""
        places, heights = peaks(lambda y: log_density(rough(y), y), rough.edges)
        top = float(places[heights.argmax()])
        if top in (rough.edges[0], rough.edges[-1]):
            return rough
        return self.potential_between(graded(rough.edges, np.array([top])), top)

    def essential_rate(self, end: float) -> float:
        """Limit of ``½(μ² + μ')`` towards an end of the line, μ the drift in the coordinate of unit noise."""

        def unit_drift(y: Floats) -> Floats:  # μ = b(U' − ½(log b²)')/2
            step = 1e-4 * np.abs(y)
            rate = np.log(self.noise2(y + step) / self.noise2(y - step)) / (2 * step)
            return np.asarray(np.sqrt(self.noise2(y)) * (self.slope(y) - rate / 2) / 2)

        middle = self.middle
        y = middle + (end - middle) * np.array([0.25, 0.5])
        step = 1e-3 * np.abs(y)
        slope = (unit_drift(y + step) - unit_drift(y - step)) / (2 * step) * np.sqrt(self.noise2(y))
        near, far = (unit_drift(y) ** 2 + slope) / 2
        return np.inf if far > 1.5 * near and far > 0 else max(float(far), 0.0)

    def with_straight_tails(self) -> ScaleSpeed:
        """The same SDE, where x is the whole line in the coordinate x/scale."""
        unbounded = np.isinf(self.coordinate.domain).all()
        return replace(self, coordinate=scaled(self.scale)) if unbounded else self

    def _representable(self, grid: Floats) -> tuple[int, int]:
        """First and last point of the grid, around its middle, between which nothing overflows or underflows."""
        with np.errstate(all="ignore"):
            x = self.coordinate.to_x(grid)
            sizes = np.log([self.noise2(grid), self.diffusion(x) ** 2])
            fine = np.isfinite(self.slope(grid)) & (np.abs(sizes) < 650).all(axis=0)
            for end in self.coordinate.domain:  # nearer to an end than this, rounding hides the distance to it
                fine &= np.isinf(end) | (np.abs(x - end) > 1e-10 * np.abs(end))
        middle, bad = len(grid) // 2, np.flatnonzero(~fine)
        low, high = int(bad[bad < middle].max(initial=-1)), int(bad[bad > middle].min(initial=len(grid)))
        inside = np.append(np.arange(middle, high), np.arange(low + 1, middle)[::-1])
        self._check_coefficients(x[inside] if fine[middle] else x[[middle]])
        if not fine[middle]:
            raise ValueError(
                f"drift and diffusion must be finite and diffusion positive at x = {self.origin:g}; move center"
            )
        if high - low < 4:
            raise ValueError(
                f"drift or diffusion overflows or underflows next to x = {self.origin:g}; change the units of x"
            )
        return low + 1, high - 1

    def _check_coefficients(self, x: Floats) -> None:
        """Raise ValueError at the first x where the drift is NaN, or the diffusion NaN or not positive."""
        drift, diffusion = self.drift(x), self.diffusion(x)
        lower, upper = self.coordinate.domain
        for name, values, wrong in (
            ("drift must be a number", drift, np.isnan(drift)),
            ("diffusion must be positive", diffusion, ~(diffusion > 0)),
        ):
            wrong &= (x > lower) & (x < upper) & np.isfinite(x)
            if wrong.any():
                raise ValueError(
                    f"{name} inside the domain, got {values[wrong][0]:g} at x = {x[wrong][0]:.4g}; "
                    "set lower and upper to where it is, or move center"
                )

    def _rounding(self, y: Floats) -> Floats:
        """What U'(y) owes to rounding of x near an end that is not 0."""
        x = self.coordinate.to_x(y)
        size = np.abs(self.slope(y)) + 2 * np.abs(self.coordinate.bend(y)) + 1
        near = np.zeros_like(x)
        for end in self.coordinate.domain:
            if np.isfinite(end):
                with np.errstate(divide="ignore"):
                    near = np.maximum(near, np.abs(end) / np.abs(x - end))
        return np.asarray(4 * np.finfo(float).eps * size * near)
