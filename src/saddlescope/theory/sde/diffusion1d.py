"""Any scalar Itô SDE ``dx = a(x) dt + b(x) dW`` by quadrature: stationary law, passage times, laws in time, spectrum.

All are integrals of the scale and the speed density (``scale_speed``); the stationary density is ∝ m.
Source: Karlin & Taylor 1981, A Second Course in Stochastic Processes, chapter 15, sections 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_choice, as_number, as_numbers
from saddlescope.theory._checks import given, steady
from saddlescope.theory.sde import in_time, passage
from saddlescope.theory.sde._piecewise import Function
from saddlescope.theory.sde.boundaries import Boundaries, Condition
from saddlescope.theory.sde.coordinate import Coordinate, Tails, on_domain
from saddlescope.theory.sde.density import Density
from saddlescope.theory.sde.evolution import MOST_RATES, spectrum
from saddlescope.theory.sde.in_time import LawInTime
from saddlescope.theory.sde.laws import titled
from saddlescope.theory.sde.mass import tabulate
from saddlescope.theory.sde.scale_speed import ScaleSpeed
from saddlescope.theory.sde.start import Start, check_law

_MOST_TIMES = 10_000
"""The most laws at once; all of them are held in memory."""


@steady
@dataclass(frozen=True, repr=False)
class Diffusion1D(_show.Shown):
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
    tails: Tails = "power"
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

    def _summary(self) -> tuple[str, _show.Rows]:
        rows = []
        for name in ("drift", "diffusion"):
            function = getattr(self, name)
            there = _show.number(_show.computed(function, self._origin))
            rows.append((name, f"{_show.value(function.function)}, {there} at x = {_show.number(self._origin)}"))

        def ends() -> str:
            return (
                f"lower {self.boundaries.lower.kind}, upper {self.boundaries.upper.kind}; {self.boundaries.recurrence}"
            )

        rows.append(("ends", _show.tried(ends, _show.MISSING)))
        return f"{self._name}: dx = drift(x) dt + diffusion(x) dW", rows

    @property
    def _name(self) -> str:
        return f"Diffusion1D on ({_show.number(self.lower)}, {_show.number(self.upper)})"

    @cached_property
    def scale_speed(self) -> ScaleSpeed:
        """Scale and speed density, on which all other answers rest."""
        coordinate = on_domain(self.lower, self.upper, self.center, self.scale, self.tails)
        at_ends = (self.at_lower, self.at_upper)
        return ScaleSpeed(self.drift, self.diffusion, coordinate, self._origin, self.scale, at_ends)

    @property
    def coordinate(self) -> Coordinate:
        """The coordinate y on the whole line in which everything is integrated."""
        return self.scale_speed.coordinate

    @property
    def boundaries(self) -> Boundaries:
        """What happens at both ends of the domain, by Feller's tests.

        Source: Karlin & Taylor 1981, section 15.6.

        >>> bessel = Diffusion1D(lambda x: 1 / x, np.ones_like, lower=0.0)          # dimension 3
        >>> bessel.boundaries.lower.kind, bessel.boundaries.upper.attracting, bessel.boundaries.recurrence
        ('entrance', True, 'transient')
        """
        return self.scale_speed.boundaries

    def log_scale_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the scale density ``s'(x) = exp(−∫ 2a/b² dx)``, up to a constant; shape of ``x``.

        Source: Karlin & Taylor 1981, section 15.3.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_scale_density([0.0, 1.0, 2.0]))        # x²
        array([1., 3.])
        """
        y = self._inside(x, "x")
        return -self.scale_speed.potential(y) - self.coordinate.log_slope(y)

    def log_speed_density(self, x: ArrayLike) -> Floats:
        """Logarithm of the speed density ``m(x) = 2/(b² s')``, up to the same constant; shape of ``x``.

        Source: Karlin & Taylor 1981, section 15.3.

        >>> ou = Diffusion1D(lambda x: -x, np.ones_like)
        >>> np.diff(ou.log_speed_density([0.0, 1.0, 2.0]))        # −x²
        array([-1., -3.])
        """
        y = self._inside(x, "x")
        return self.scale_speed.log_speed(y) - self.coordinate.log_slope(y)

    def stationary(self) -> Density:
        """The stationary law, with density ∝ ``m(x)``.

        Raises ValueError with the reason when there is none: x ends somewhere, or m has infinite mass.
        Source: Karlin & Taylor 1981, section 15.5.

        >>> bessel = Diffusion1D(lambda x: 1.5 - x, lambda x: np.sqrt(2 * x), lower=0.0)   # Gamma(1.5)
        >>> bessel.stationary().mean(), float(bessel.stationary().cdf(1.0))
        (1.5000000, 0.4275932)
        """
        if self.boundaries.no_law is not None:
            raise ValueError(self.boundaries.no_law)
        mass = tabulate(self.scale_speed.log_speed, self.scale_speed.potential.edges)
        return titled(Density(mass, self.coordinate), f"stationary distribution of {self._name}")

    def exit_probability(self, start: ArrayLike, lower: float | None = None, upper: float | None = None) -> Floats:
        """Probability to reach ``upper`` before ``lower`` (None: an end of the domain); shape of ``start``.

        With None an end counts as reached when x converges to it or is absorbed. Raises ValueError when that happens at
        neither.
        Source: Karlin & Taylor 1981, section 15.3.

        >>> brownian = Diffusion1D(np.zeros_like, np.ones_like)
        >>> brownian.exit_probability([0.25, 0.5], lower=0.0, upper=1.0)
        array([0.25, 0.5 ])
        """
        low, high = (
            None if level is None or level == end else float(self._inside(as_number(level, name), name))
            for name, level, end in (("lower", lower, self.lower), ("upper", upper, self.upper))
        )
        possible = [level is not None or end.keeps for level, end in zip((low, high), self.boundaries, strict=True)]
        if not any(possible):
            raise ValueError("neither end of the domain is ever reached; give lower or upper")
        if lower is not None and upper is not None and not lower < upper:
            raise ValueError(f"lower must be below upper, got {lower} and {upper}; swap them")
        y = self._inside(start, "start")
        if not all(possible):
            return np.where(np.isnan(y), np.nan, float(possible[1]))
        closed = (lower is not None, upper is not None)
        return passage.exit_probability(self.scale_speed, y, (low, high), closed)

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
        return passage.moments(self.scale_speed, y, float(self.coordinate.to_y(as_numbers(target, "target"))))

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
        return in_time.passage_cdf(self.scale_speed, first, float(target), when, self._levels(lower, upper), tol)

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
        its quantiles. Both are refined until two results agree to ``tol`` in the cdf; ``error`` of each law is what was
        reached. Takes seconds, also to refuse, and some 100 MB.
        Raises ValueError where that does not reach ``tol``, for a start outside the domain, or times that are not
        positive and increasing.
        Source: Scharfetter & Gummel 1969, IEEE Trans. Electron Devices 16(1); Chang & Cooper 1970.

        >>> (law,) = Diffusion1D(lambda x: -x, np.ones_like).evolve(1.0, [0.5])
        >>> law.mean(), law.var()                      # e^(−½), (1 − e^(−1))/2
        (0.6065..., 0.3160...)
        """
        first, when = self._asked(start, times, lower, upper, tol)
        laws = in_time.evolve(self.scale_speed, first, when, self._levels(lower, upper), tol)
        return [titled(law, f"{self._name} at time {_show.number(time)}") for law, time in zip(laws, when, strict=True)]

    def spectrum(
        self, count: int = 2, lower: float | None = None, upper: float | None = None, tol: float = 1e-6
    ) -> Floats:
        """The ``count`` smallest decay rates of the law, 0 first where there is a stationary one; (count,).

        Eigenvalues of −generator with mass absorbed at ``lower`` and ``upper`` where given, from the symmetrised
        tridiagonal matrix of the cells of ``evolve``, to a relative ``tol``. Above ``essential_rate`` the spectrum is
        continuous, and what is returned is that of a large but finite part of the domain.
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
        return spectrum(self.scale_speed, count, self._levels(lower, upper), tol)

    @cached_property
    def essential_rate(self) -> float:
        """The rate above which the spectrum is continuous; infinite where all of it is discrete.

        In the coordinate of unit noise, with drift μ, the limit of ``½(μ² + μ')`` at a natural end.
        Source: Weyl's theorem on the symmetrised generator; Karlin & Taylor 1981, section 15.13.

        >>> linear = Diffusion1D(lambda x: -x, lambda x: np.sqrt(1 + x * x))      # tails like geometric Brownian motion
        >>> linear.essential_rate
        1.12500...
        """
        ends = zip(self.boundaries, self.scale_speed.potential.edges[[0, -1]], strict=True)
        natural = (float(y) for end, y in ends if end.kind == "natural")
        return min(map(self.scale_speed.essential_rate, natural), default=np.inf)

    @property
    def relaxation_time(self) -> float:
        """Time in which the slowest deviation from the stationary law decays by a factor e: one over the spectral gap.

        Raises ValueError with the reason when there is no stationary law.

        >>> Diffusion1D(lambda x: -0.25 * x, np.ones_like).relaxation_time
        4.0000...
        """
        if self.boundaries.no_law is not None:
            raise ValueError(self.boundaries.no_law)
        return 1 / min(float(self.spectrum()[1]), self.essential_rate)

    @property
    def _origin(self) -> float:
        """An x inside the domain, ``center`` if it is."""
        if self.lower < self.center < self.upper:
            return self.center
        if np.isfinite(self.lower) and np.isfinite(self.upper):
            return (self.lower + self.upper) / 2
        return self.lower + self.scale if np.isfinite(self.lower) else self.upper - self.scale

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
        """y of two levels, None at the ends of the domain."""
        low, high = (
            None if level is None or level == end else float(self.coordinate.to_y(np.asarray(level, float)))
            for level, end in ((lower, self.lower), (upper, self.upper))
        )
        return low, high
