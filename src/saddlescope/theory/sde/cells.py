"""Cells of a scalar SDE as a birth–death chain: where it has to be followed, how it is cut, how the chain is stepped.

With scale density s and speed density m the density p obeys ``∂p/∂t = ∂_y[(1/s) ∂_y(p/m)]``. Cells are equal steps of
noise, ``dz = dy/b``. With M_i = ∫ m over cell i and S_i = ∫ s between the centres on both sides of edge i, cell masses
P_i cross the edge at the net rate

    J_i = P_{i−1}/(M_{i−1}S_i) − P_i/(M_iS_i),

the Scharfetter–Gummel (Chang–Cooper) fit with exact integrals, whose stationary law is exact. The unknown is the
cumulated mass at the edges, stepped by implicit Euler: its total is kept to the last bit and it stays monotone, however
long the step.
Source: Scharfetter & Gummel 1969, IEEE Trans. Electron Devices 16(1); Chang & Cooper 1970, J. Comput. Phys. 6(1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh_tridiagonal, lapack

from saddlescope._arrays import Floats
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde._piecewise import Antiderivative, Function, antiderivative, log_integrals, nodes, running
from saddlescope.theory.sde.mass import falling_rate
from saddlescope.theory.sde.scale_speed import ScaleSpeed
from saddlescope.theory.sde.start import Start

COARSE = 99
"""The fewest cells."""
_MOST_PIECES = 30_000
_HASTES, _REACH = (8.0, 32.0, 128.0, 512.0), 24.0
"""Rates λt at which nats of improbability are counted, and how many more than λt there are to the last cell."""


@dataclass(frozen=True)
class Stage:
    """The part of the line that x can reach, in a coordinate ξ from 0 to 1: ``z = z₀ + (z₁ − z₀)(ξ + cξ(1 − ξ))``.

    ``bend`` c puts the start in the middle of a cell. ``absorbs`` says at which end mass is lost, ``far`` which end of
    the stage is an end of the domain.
    """

    sde: ScaleSpeed
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


def stage_of(sde: ScaleSpeed, start: float | Start, last: float, levels: tuple[float | None, float | None]) -> Stage:
    """The stage of what starts at a point or from a law and is followed up to a time; ``levels`` in y."""
    point = isinstance(start, float)
    between = np.array([start, start]) if isinstance(start, float) else start.ppf(np.array([1e-12, 1 - 1e-12]))
    low, high = (float(v) for v in sde.coordinate.to_y(between))
    limits = [(haste / last, haste + _REACH) for haste in _HASTES]
    return staged(sde, (low, high), limits, levels, point)


def staged(
    sde: ScaleSpeed,
    first: tuple[float, float],
    limits: Sequence[tuple[float, float]],
    levels: tuple[float | None, float | None],
    aim: bool,
) -> Stage:
    """The stage of what starts between two y, absorbing at ``levels`` (y) where given.

    Reaching y costs ``−log E e^{−λτ} ≈ ∫ρ dy`` nats, with ``½b²ρ² + aρ = λ`` upwards. This neglects ρ' and so depends
    on the coordinate: the least of y and of that in which noise is 1 (``a − ¼(b²)'`` for a) is taken at each place. The
    probability to reach y by t is at most e^{λt − nats}. The stage ends where for one of the ``limits`` (λ, nats) it
    would cost more.
    """
    ends, far, absorbs = [], [], []
    for side, start, level, boundary in zip((-1, 1), first, levels, sde.boundaries, strict=True):
        end = sde.potential.edges[0 if side < 0 else -1] if level is None else level
        ended = [_ending(*_costs(sde, start, end, side, rate), nats) for rate, nats in limits]
        nearest = min((place for place in ended if place is not None), key=lambda y: side * y, default=None)
        ends.append(float(end) if nearest is None else nearest)
        far.append(nearest is None and level is None)
        absorbs.append(nearest is None and (level is not None or boundary.there == "absorbing"))
    low, high = ends
    inner = sde.potential.edges[(sde.potential.edges > low) & (sde.potential.edges < high)]
    z = antiderivative(
        lambda y: 1 / np.sqrt(sde.noise2(y)), np.concatenate([[low], inner, [high]]), first[0], rtol=1e-10
    )
    bend = 0.0
    if aim:
        share = float((0.0 - z.at_edges[0]) / (z.at_edges[-1] - z.at_edges[0]))
        # The next centre away from the nearer end: cells are then smaller near the start, not larger.
        cell = np.floor(share * COARSE + (0.5 if share < 0.5 else -0.5))
        xi = (np.clip(cell, 1, COARSE - 2) + 0.5) / COARSE
        bend = float((share - xi) / (xi * (1 - xi)))
    return Stage(sde, z, bend, (absorbs[0], absorbs[1]), (far[0], far[1]))


def _ending(places: Floats, costs: Floats, nats: float) -> float | None:
    """The first place that costs more than ``nats``; None if there is none."""
    beyond = np.flatnonzero(costs > nats)
    return float(places[beyond[0]]) if beyond.size else None


def _costs(sde: ScaleSpeed, start: float, end: float, side: int, rate: float) -> tuple[Floats, Floats]:
    """Places between start and end, outwards, and the cost to reach each, in nats."""
    edges = sde.potential.edges
    between = edges[(side * edges > side * start) & (side * edges < side * end)]
    path = np.unique(side * np.concatenate([[start], between, [end]]))
    path = np.unique(np.concatenate([path[:-1] + k / 4 * np.diff(path) for k in range(4)] + [path[-1:]]))
    at = nodes(path)
    with np.errstate(over="ignore", invalid="ignore"):
        y, step = side * at, 1e-5 * (1 + np.abs(at))
        noise2, before, after = (sde.noise2(place) for place in (y, y - step, y + step))
        here, bend = side * sde.slope(y) / 2, side * np.log(after / before) / (8 * step)
        costs = np.minimum(*(_uphill(half, 2 * rate / noise2) for half in (here, here - bend)))
        inside = running(np.nan_to_num(costs, nan=np.inf), path)
        total = np.concatenate([[0.0], np.cumsum(inside[:-1, -1])])[:, None] + inside
    return side * at.ravel(), total.ravel()


def _uphill(half: Floats, fast: Floats) -> Floats:
    """The positive ρ with ``ρ² + 2 half ρ = fast``."""
    root = np.sqrt(half**2 + fast)
    return np.where(half > 0, fast / (root + np.abs(half)), root - half)


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
        for (before, time), fewest in zip(pairwise([0.0, *times]), fewest_steps(np.append(0.0, times)), strict=True):
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


def fewest_steps(times: Floats) -> Floats:
    """The fewest steps between times: none longer than an eighth of the time at its end."""
    return np.ceil(8 * np.diff(times) / times[1:])


def chain(stage: Stage, cells: int) -> Chain:
    """Cut a stage into this many cells."""
    sde, points = stage.sde, stage.y(np.linspace(0, 1, 2 * cells + 1))

    def nats(y: Floats, width: Floats) -> Floats:
        return np.asarray(width * np.abs(sde.slope(y)).max(axis=1) + np.ptp(np.log(sde.noise2(y)), axis=1))

    def log_s(y: Floats) -> Floats:
        return -sde.potential(y)

    pieces = float(nats(nodes(points), np.diff(points)).sum()) / 3
    if not pieces <= _MOST_PIECES:
        raise Unresolved(f"fixed cells would have to be integrated in {pieces:.1g} pieces")
    log_m = log_integrals(sde.log_speed, points, nats)
    log_scale = log_integrals(log_s, points, nats)
    for side, end in ((-1, 0), (1, -1)):
        if stage.far[end]:
            log_scale[end] = np.logaddexp(log_scale[end], _log_tail(log_s, points[end], side))
            log_m[end] = np.logaddexp(log_m[end], _log_tail(sde.log_speed, points[end], side))
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
    sde, panel = stage.sde, points[:2] if side < 0 else points[-2:]

    def log_time(y: Floats) -> Floats:
        return np.asarray(np.log(2 / (sde.noise2(y) * side * sde.slope(y))))

    inside = float(log_integrals(log_time, panel, nats)[0])
    return float(np.logaddexp(inside, _log_tail(log_time, points[0 if side < 0 else -1], side)))


def _log_tail(log_density: Function, end: float, side: float) -> float:
    """Logarithm of the mass beyond an end of a density that falls exponentially; ∞ where it does not fall."""
    rate = falling_rate(log_density, end, side)
    return float(log_density(np.array(end))) - float(np.log(rate)) if rate > 0 else np.inf
