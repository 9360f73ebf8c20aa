"""How the law of a scalar SDE moves in time, and its spectrum: a conservative, positive finite-volume scheme.

With scale density s and speed density m the density p obeys ``∂p/∂t = ∂_y[(1/s) ∂_y(p/m)]``. Cells are equal steps of
noise, ``dz = dy/b``. With M_i = ∫ m over cell i and S_i = ∫ s between the centres on both sides of edge i, cell masses
P_i cross the edge at the net rate

    J_i = P_{i−1}/(M_{i−1}S_i) − P_i/(M_iS_i),

a birth–death chain: the Scharfetter–Gummel (Chang–Cooper) fit with exact integrals, whose stationary law is exact. The
unknown is the cumulated mass at the edges, stepped by implicit Euler: its total is kept to the last bit and it stays
monotone, however long the step. Steps are halved (extrapolated in 1/n) and cells cut in three (extrapolated in 1/N²)
until two results agree at every edge; an extrapolated cumulated mass is made monotone, which brings it no further from
the true one. Cells do not move, so this is for noise that spreads the law over many of them; ``quantiles`` is for the
rest, and ``in_time`` chooses.
Source: Scharfetter & Gummel 1969, IEEE Trans. Electron Devices 16(1); Chang & Cooper 1970, J. Comput. Phys. 6(1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicHermiteSpline, CubicSpline, PchipInterpolator
from scipy.linalg import eigh_tridiagonal, lapack

from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import Unresolved, steady
from saddlescope.theory.sde._piecewise import (
    Antiderivative,
    antiderivative,
    increasing_root,
    log_integrals,
    nodes,
    running,
    weighted_integral,
)
from saddlescope.theory.sde.laws import Coordinate, Floats, Function, Mass, Moments, falling_rate, finite, tabulate
from saddlescope.theory.sde.quantiles import Start

if TYPE_CHECKING:
    from saddlescope.theory.sde.diffusion1d import Diffusion1D

_COARSE, _LEVELS = 99, 5
MOST_RATES = 50
"""Rates that the coarsest cells can have."""
_LEVELS_IN_TIME, _MOST_STEPS, _FEW_CELLS, _MOST_PIECES = 9, 4096, 297, 30_000
_MOST_HELD = 0.1
"""Share of the law that no cell of ``_FEW_CELLS`` may hold: extrapolation from larger ones says nothing."""
_FLOOR = 1e-9
"""Added to every estimate of an error."""
_FEW = 8
"""Cells at a reflecting end that are looked at with the speed measure."""
_HASTES, _REACH, _REACH_OF_SPECTRUM = (8.0, 32.0, 128.0, 512.0), 24.0, 100.0
"""Rates λt at which nats of improbability are counted, and how many more than λt there are to the last cell."""


@dataclass(frozen=True)
class Stage:
    """The part of the line where x lives, in a coordinate ξ from 0 to 1: ``z = z₀ + (z₁ − z₀)(ξ + cξ(1 − ξ))``.

    ``bend`` c puts the start in the middle of a cell. ``absorbs`` says at which end mass is lost, ``far`` which end of
    the stage is that of the domain.
    """

    diffusion: Diffusion1D
    z: Antiderivative
    bend: float
    absorbs: tuple[bool, bool]
    far: tuple[bool, bool]

    def y(self, xi: ArrayLike) -> Floats:
        """y at ξ."""
        xi, (low, high) = np.asarray(xi, float), self.z.at_edges[[0, -1]]
        return self.z.inverse(low + (high - low) * (xi + self.bend * xi * (1 - xi)))

    def xi(self, y: ArrayLike) -> Floats:
        """ξ at y."""
        (low, high), c = self.z.at_edges[[0, -1]], self.bend
        share = (self.z(y) - low) / (high - low)
        return np.asarray(2 * share / (1 + c + np.sqrt((1 + c) ** 2 - 4 * c * share)))


@dataclass(frozen=True)
class Chain:
    """Cells between ``edges`` (y, N+1), rates over each edge ``up`` and ``down`` (N+1), log speed measure ``log_m``."""

    edges: Floats
    up: Floats
    down: Floats
    log_m: Floats

    def rates(self, count: int) -> Floats:
        """The ``count`` smallest eigenvalues of −generator, from its symmetrised tridiagonal matrix."""
        diagonal, off = self.up[1:] + self.down[:-1], -np.sqrt(self.up[1:-1] * self.down[1:-1])
        found = eigh_tridiagonal(diagonal, off, eigvals_only=True, select="i", select_range=(0, count - 1))
        return np.asarray(found)

    def march(self, cumulated: Floats, times: Floats, finer: int = 1) -> Floats:
        """Cumulated masses (times, N+1) by implicit steps of an eighth of the time so far, or ``finer`` ones."""
        out = []
        for (before, time), fewest in zip(pairwise([0.0, *times]), _steps(np.append(0.0, times)), strict=True):
            steps = finer * int(fewest)
            h = (time - before) / steps
            size = 1 + h * (self.up + self.down)  # rows are scaled so that none is exchanged for another
            lower, upper = -h * self.up[1:] / size[1:], -h * self.down[:-1] / size[:-1]
            factors = lapack.dgttrf(lower, np.ones(len(size)), upper)[:5]
            for _ in range(steps):
                after = lapack.dgttrs(*factors, cumulated / size)[0]
                cumulated = np.where(size == 1, cumulated, after)
            out.append(cumulated)
        return np.array(out)


def _steps(times: Floats) -> Floats:
    """The fewest steps between times: none longer than an eighth of the time at its end."""
    return np.ceil(8 * np.diff(times) / times[1:])


def chain(stage: Stage, cells: int) -> Chain:
    """Cut a stage into this many cells."""
    sde, points = stage.diffusion, stage.y(np.linspace(0, 1, 2 * cells + 1))

    def nats(y: Floats, width: Floats) -> Floats:
        return np.asarray(width * np.abs(sde._slope(y)).max(axis=1) + np.ptp(np.log(sde._noise2(y)), axis=1))

    def log_s(y: Floats) -> Floats:
        return -sde._potential(y)

    pieces = float(nats(nodes(points), np.diff(points)).sum()) / 3
    if not pieces <= _MOST_PIECES:
        raise Unresolved(f"fixed cells would have to be integrated in {pieces:.1g} pieces")
    log_m = log_integrals(sde._log_speed, points, nats)
    log_scale = log_integrals(log_s, points, nats)
    for side, end in ((-1, 0), (1, -1)):
        if stage.far[end]:
            log_scale[end] = np.logaddexp(log_scale[end], _log_tail(log_s, points[end], side))
            log_m[end] = np.logaddexp(log_m[end], _log_tail(sde._log_speed, points[end], side))
        if stage.far[end] and sde.boundaries[end].kind == "exit":
            log_m[end] = _log_time(stage, points, side, nats) - log_scale[end]
    mass = np.logaddexp(log_m[::2], log_m[1::2])
    scale = np.concatenate([log_scale[:1], np.logaddexp(log_scale[1:-1:2], log_scale[2::2]), log_scale[-1:]])
    up, down = np.zeros(cells + 1), np.zeros(cells + 1)
    up[1:], down[:-1] = np.exp(-mass - scale[1:]), np.exp(-mass - scale[:-1])
    down[0], up[-1] = down[0] * stage.absorbs[0], up[-1] * stage.absorbs[1]
    return Chain(points[::2], up, down, mass)


def _log_time(stage: Stage, points: Floats, side: int, nats: Callable[[Floats, Floats], Floats]) -> float:
    """Logarithm of Σ = ∫ S m over the outer half of the last cell at an exit, where M is infinite.

    Seen from the centre, x spends S(y)/S(centre) m(y) dy near y before it is absorbed; ``S m ≈ 2/(b²ρ)`` there.
    """
    sde, panel = stage.diffusion, points[:2] if side < 0 else points[-2:]

    def log_time(y: Floats) -> Floats:
        return np.asarray(np.log(2 / (sde._noise2(y) * side * sde._slope(y))))

    inside = float(log_integrals(log_time, panel, nats)[0])
    return float(np.logaddexp(inside, _log_tail(log_time, points[0 if side < 0 else -1], side)))


def _log_tail(log_density: Function, end: float, side: float) -> float:
    """Logarithm of what a density that falls exponentially holds beyond an end; ∞ where it does not fall."""
    rate = falling_rate(log_density, end, side)
    return float(log_density(np.array(end))) - float(np.log(rate)) if rate > 0 else np.inf


def staged(
    sde: Diffusion1D,
    first: tuple[float, float],
    limits: Sequence[tuple[float, float]],
    levels: tuple[float | None, float | None],
    aim: bool,
) -> Stage:
    """The stage of what starts between two y, absorbing at ``levels`` (y) where given.

    To reach y costs ``−log E e^{−λτ} ≈ ∫ρ dy`` nats, with ``½b²ρ² + aρ = λ`` upwards. This neglects ρ' and so depends
    on the coordinate: the least of y and of that in which noise is 1 (``a − ¼(b²)'`` for a) is taken at each place. The
    probability to reach y by t is at most e^{λt − nats}. The stage ends where for one of the ``limits`` (λ, nats) it
    would cost more.
    """
    ends, far, absorbs = [], [], []
    for side, start, level, boundary in zip((-1, 1), first, levels, sde.boundaries, strict=True):
        end = sde._potential.edges[0 if side < 0 else -1] if level is None else level
        ended = [_ending(*_costs(sde, start, end, side, rate), nats) for rate, nats in limits]
        nearest = min((place for place in ended if place is not None), key=lambda y: side * y, default=None)
        ends.append(float(end) if nearest is None else nearest)
        far.append(nearest is None and level is None)
        absorbs.append(nearest is None and (level is not None or boundary.there == "absorbing"))
    low, high = ends
    inner = sde._potential.edges[(sde._potential.edges > low) & (sde._potential.edges < high)]
    z = antiderivative(
        lambda y: 1 / np.sqrt(sde._noise2(y)), np.concatenate([[low], inner, [high]]), first[0], rtol=1e-10
    )
    bend = 0.0
    if aim:
        share = float((0.0 - z.at_edges[0]) / (z.at_edges[-1] - z.at_edges[0]))
        # The next centre away from the nearer end: cells are then smaller near the start, not larger.
        cell = np.floor(share * _COARSE + (0.5 if share < 0.5 else -0.5))
        xi = (np.clip(cell, 1, _COARSE - 2) + 0.5) / _COARSE
        bend = float((share - xi) / (xi * (1 - xi)))
    return Stage(sde, z, bend, (absorbs[0], absorbs[1]), (far[0], far[1]))


def _ending(places: Floats, costs: Floats, nats: float) -> float | None:
    """The first place that costs more."""
    beyond = np.flatnonzero(costs > nats)
    return float(places[beyond[0]]) if beyond.size else None


def _costs(sde: Diffusion1D, start: float, end: float, side: int, rate: float) -> tuple[Floats, Floats]:
    """Places between start and end, outwards, and what it costs to reach them."""
    edges = sde._potential.edges
    between = edges[(side * edges > side * start) & (side * edges < side * end)]
    path = np.unique(side * np.concatenate([[start], between, [end]]))
    path = np.unique(np.concatenate([path[:-1] + k / 4 * np.diff(path) for k in range(4)] + [path[-1:]]))
    at = nodes(path)
    with np.errstate(over="ignore", invalid="ignore"):
        y, step = side * at, 1e-5 * (1 + np.abs(at))
        noise2, before, after = (sde._noise2(place) for place in (y, y - step, y + step))
        here, bend = side * sde._slope(y) / 2, side * np.log(after / before) / (8 * step)
        costs = np.minimum(*(_uphill(half, 2 * rate / noise2) for half in (here, here - bend)))
        inside = running(np.nan_to_num(costs, nan=np.inf), path)
        total = np.concatenate([[0.0], np.cumsum(inside[:-1, -1])])[:, None] + inside
    return side * at.ravel(), total.ravel()


def _uphill(half: Floats, fast: Floats) -> Floats:
    """The positive ρ with ``ρ² + 2 half ρ = fast``."""
    root = np.sqrt(half**2 + fast)
    return np.where(half > 0, fast / (root + np.abs(half)), root - half)


@steady
@dataclass(frozen=True, repr=False)
class Transient(Moments):
    """The law of x at a time: a density, and what has been ``absorbed`` at the ends; within ``error`` in its cdf.

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
        pieces, sde, n = [], self.stage.diffusion, len(self.cumulated) - 1
        for side, (far, lost) in enumerate(zip(self.stage.far, self.stage.absorbs, strict=True)):
            if not far or lost or not sde.boundaries[side].integrable:
                continue
            cells = np.arange(_FEW + 1) if side == 0 else np.arange(n - _FEW, n + 1)
            edges = self.stage.y(cells / n)
            speed = tabulate(sde._log_speed, edges, closed=(side == 1, side == 0))
            share = np.where(np.isin(cells, (0, n)), float(side), speed.cdf(edges))
            outer = share[1] if side == 0 else 1 - share[-2]
            if outer > _FEW**-1.9:  # m is less smooth in ξ than in a plane, where m ∝ ξ
                pieces.append((cells / n, speed, PchipInterpolator(share, self.cumulated[cells])))
        return pieces

    def pdf(self, x: ArrayLike) -> Floats:
        """Density of what has not been absorbed."""
        x, (low, high), sde = as_numbers(x, "x"), self._ends, self.stage.diffusion
        inside = (x > low) & (x < high)
        y = self.coordinate.to_y(np.where(inside, x, float(self.coordinate.to_x(self.stage.y(0.5)))))
        xi, span = self.stage.xi(y), float(np.ptp(self.stage.z.at_edges[[0, -1]]))
        stretch = span * (1 + self.stage.bend * (1 - 2 * xi)) * np.sqrt(sde._noise2(y))
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
        """``E[function(x)]``, what has been absorbed included; jumps are resolved, to 1e-8 of ``E|function(x)|``.

        Raises ValueError where the function is not finite, or has too many jumps.
        """

        def inside(xi: Floats) -> Floats:
            return finite(function, self.coordinate.to_x(self.stage.y(xi)))

        edges = np.linspace(0, 1, len(self.cumulated))
        moving = weighted_integral(inside, lambda xi: np.maximum(self._spline(xi, 1), 0), edges)
        atoms = [(p, end) for p, end in zip(self.absorbed, self._ends, strict=True) if p > 0]
        return moving + sum(p * float(finite(function, np.array(end))) for p, end in atoms)

    def moment(self, order: int) -> float:
        """``E[xᵏ]``, what has been absorbed included."""
        return self._smooth(lambda x: x**order)

    def var(self) -> float:
        """``E[(x − E[x])²]``."""
        mean = self.mean()
        return self._smooth(lambda x: (x - mean) ** 2)

    def _smooth(self, function: Function) -> float:
        """``E[function(x)]`` for what is smooth on cells, by Simpson's rule."""
        values = np.asarray(function(self.coordinate.to_x(self.points)))
        n = len(self.cumulated) - 1
        density = self._spline(np.linspace(0, 1, 2 * n + 1), 1)
        density[density < 1e-13 * density.max()] = 0.0  # rounding, which strengths beyond all others would raise
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


def stage_of(sde: Diffusion1D, start: float | Start, last: float, levels: tuple[float | None, float | None]) -> Stage:
    """The stage of what starts at a point or from a law and is followed up to a time; ``levels`` in y."""
    point = isinstance(start, float)
    between = np.array([start, start]) if isinstance(start, float) else start.ppf(np.array([1e-12, 1 - 1e-12]))
    low, high = (float(v) for v in sde.coordinate.to_y(between))
    limits = [(haste / last, haste + _REACH) for haste in _HASTES]
    return staged(sde, (low, high), limits, levels, point)


def evolve(
    sde: Diffusion1D, stage: Stage, start: float | Start, times: Floats, tol: float, patient: bool = True
) -> list[Transient]:
    """The laws at increasing ``times`` from a point or a law; raises Unresolved where its error exceeds ``tol``.

    If not ``patient``, as soon as it is more than nine times as large, which cells of a third would not mend.
    """
    y = float(sde.coordinate.to_y(np.array(start))) if isinstance(start, float) else np.nan

    def marches(cells: int) -> Callable[[int], Floats]:
        cut = chain(stage, cells)
        if isinstance(start, float):
            begin = np.where(cut.edges > y, 1.0, 0.0)
        else:
            begin = np.concatenate([[0.0], start.cdf(sde.coordinate.to_x(cut.edges[1:-1])), [1.0]])
        return lambda finer: cut.march(begin, times, finer)

    few = marches(_FEW_CELLS)(1)
    inner = slice(_FEW, -_FEW)
    held = float(np.diff(few)[:, inner].max())
    if not held <= _MOST_HELD:
        raise Unresolved(f"one of {_FEW_CELLS} fixed cells would hold {held:.2g} of the law")
    steps = _steps(np.append(0.0, times)).sum()
    levels = max(4, min(_LEVELS_IN_TIME, int(np.log2(_MOST_STEPS / steps))))
    cumulated, errors = _in_cells(
        lambda cells: _in_time(marches(cells), levels, tol / 10), _singular_ends(stage), tol, patient
    )
    points = stage.y(np.linspace(0, 1, 2 * cumulated.shape[1] - 1))
    return [
        Transient(stage, points, _monotone(c), float(e), sde.coordinate) for c, e in zip(cumulated, errors, strict=True)
    ]


def spectrum(sde: Diffusion1D, count: int, levels: tuple[float | None, float | None], tol: float) -> Floats:
    """The ``count`` smallest rates of the generator, to a relative ``tol``."""
    peak = sde._peaks
    low, high = (other if level is None else level for level, other in zip(levels, (-np.inf, np.inf), strict=True))
    first, last = (float(np.clip(y, low, high)) for y in (peak[0], peak[-1]))
    stage = staged(sde, (first, last), [(0.0, _REACH_OF_SPECTRUM)], levels, False)
    before = rough = None
    for cells in (_COARSE * 3**k for k in range(_LEVELS)):
        cut = chain(stage, cells)
        rates = cut.rates(count)
        better = rates if rough is None else rates + (rates - rough) / 8
        rounding = 1e-14 * float(cut.up.max())
        if before is not None and np.allclose(better, before, rtol=tol, atol=rounding):
            lasting = int(not any(stage.absorbs))  # then the first rate is 0
            if (better[lasting:] < rounding / tol).any():
                raise ValueError(
                    f"a rate is below {rounding / tol:.1g}, which rounding hides beside the fastest; the mean time of "
                    "the rare passage (passage) is one over it"
                )
            return np.append(np.zeros(lasting), better[lasting:])
        rough, before = rates, None if rough is None else better
    raise ValueError(f"{cells} cells do not give the spectrum to tol = {tol:g}; ask for fewer rates or a larger tol")


def _singular_ends(stage: Stage) -> tuple[bool, bool]:
    """Where mass may pile up in the last cells, whose cumulated mass is then known at their edges only."""
    low, high = (
        far and not lost and end.integrable
        for far, lost, end in zip(stage.far, stage.absorbs, stage.diffusion.boundaries, strict=True)
    )
    return low, high


def _in_cells(
    at: Callable[[int], tuple[Floats, Floats]], singular: tuple[bool, bool], tol: float, patient: bool
) -> tuple[Floats, Floats]:
    """Extrapolate in 1/N² until two results agree at the edges of the finer; also their differences (times)."""
    rough, _ = better, _ = at(_COARSE)
    before_that = np.inf
    for cells in (_COARSE * 3**k for k in range(1, _LEVELS)):
        before, (fine, late) = better, at(cells)
        edges = np.arange(cells + 1) / 3
        inner = (edges >= _FEW * singular[0]) & (edges <= edges[-1] - _FEW * singular[1])
        if not np.isfinite(fine).all():
            raise Unresolved(f"rates between {cells} fixed cells are beyond all numbers")
        gain = (fine[:, ::3] - rough) / 8
        better = fine + np.array([np.interp(edges, edges[::3], row) for row in gain])
        looked_at = inner | (edges % 1 == 0)
        differ = np.abs(better - CubicSpline(edges[::3], before, axis=1)(edges))[:, looked_at].max(axis=1)
        # Where differences fall by nine and more, the finer is off by about a ninth of the last; a quarter is stated.
        converging = patient and cells == _COARSE * 3 ** (_LEVELS - 1) and differ.max() < before_that / 9
        errors = (differ / 4 if converging else differ) + late + _FLOOR
        if cells > 3 * _COARSE:
            if errors.max() <= tol:
                return better, errors
            if errors.max() > 9 * tol and not patient:
                break
        rough, before_that = fine, float(differ.max())
    raise Unresolved(f"{cells // 3} and {cells} fixed cells differ by {differ.max():.1e} in the cdf")


def _in_time(run: Callable[[int], Floats], levels: int, tol: float) -> tuple[Floats, Floats]:
    """Romberg's extrapolation in 1/n, of order 4, until two results agree, and their differences (times)."""
    table: list[Floats] = []
    for level in range(levels):
        row = [run(1 << level)]
        for order, older in enumerate(table[:3], start=1):
            row.append(row[-1] + (row[-1] - older) / (2**order - 1))
        if len(row) == 4:
            differ = np.abs(row[-1] - table[-1]).max(axis=1)
            if differ.max() <= tol:
                break
        table = row
    return row[-1], np.asarray(differ)


def _root(cumulated: CubicHermiteSpline | PchipInterpolator, value: Floats, left: Floats, right: Floats) -> Floats:
    return increasing_root(lambda u: cumulated(u) - value, lambda u: cumulated(u, 1), left, right, 1e-16)


def _monotone(cumulated: Floats) -> Floats:
    return np.asarray(np.clip(np.maximum.accumulate(cumulated), 0.0, 1.0))
