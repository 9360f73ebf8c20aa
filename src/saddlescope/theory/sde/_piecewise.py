"""Antiderivatives of smooth functions on an interval, as adaptive piecewise Legendre polynomials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats

Function = Callable[[Floats], Floats]

_ORDER = 16
_MOST_PANELS = 1_000_000
NODES, _WEIGHTS = legendre.leggauss(_ORDER)
# Values at the nodes to Legendre coefficients, and those to the coefficients of the integral from the left end.
_TO_COEFFICIENTS = legendre.legvander(NODES, _ORDER - 1).T * _WEIGHTS * (np.arange(_ORDER)[:, None] + 0.5)
TO_INTEGRAL = np.array([legendre.legint(unit, lbnd=-1) for unit in np.eye(_ORDER)]).T @ _TO_COEFFICIENTS
_TO_ENDS = legendre.legvander(np.array([-1.0, 1.0]), _ORDER - 1) @ _TO_COEFFICIENTS
_TO_RUNNING = legendre.legvander(NODES, _ORDER) @ TO_INTEGRAL


@dataclass(frozen=True)
class Antiderivative:
    """F with F' = f between ``edges``: a polynomial a panel (``coefficients`` (order+1, panels)) from its left edge."""

    edges: Floats
    at_edges: Floats
    coefficients: Floats

    def __call__(self, y: ArrayLike) -> Floats:
        """F(y); outside the edges the value at the nearer one."""
        y = np.clip(y, self.edges[0], self.edges[-1])
        panel = np.clip(np.searchsorted(self.edges, y, side="right") - 1, 0, len(self.edges) - 2)
        left, right = self.edges[panel], self.edges[panel + 1]
        local = 2 * (y - left) / (right - left) - 1
        return np.asarray(self.at_edges[panel] + legendre.legval(local, self.coefficients[:, panel], tensor=False))

    @cached_property
    def mirrored(self) -> Antiderivative:
        """``G(y) = F(last edge) − F(−y)``, summed from the left edge of G, where G is small."""
        signs = -((-1.0) ** np.arange(len(self.coefficients)))[:, None]
        flipped = signs * self.coefficients
        flipped[0] += self.coefficients.sum(axis=0)
        flipped = flipped[:, ::-1]
        at_edges = np.concatenate([[0.0], np.cumsum(flipped.sum(axis=0))])
        return Antiderivative(-self.edges[::-1], at_edges, flipped)

    def inverse(self, values: ArrayLike) -> Floats:
        """The y with F(y) = values, for increasing F; outside its range the nearer end."""
        values = np.asarray(values, float)
        panel = np.clip(np.searchsorted(self.at_edges, values, side="right") - 1, 0, len(self.edges) - 2)
        target, coefficients = values - self.at_edges[panel], self.coefficients[:, panel]
        slopes = legendre.legder(self.coefficients)[:, panel]
        local = increasing_root(
            lambda u: np.asarray(legendre.legval(u, coefficients, tensor=False) - target),
            lambda u: np.asarray(legendre.legval(u, slopes, tensor=False)),
            np.full(values.shape, -1.0),
            np.full(values.shape, 1.0),
            rounding=1e-15 * float(np.abs(self.at_edges).max()),
        )
        left, right = self.edges[panel], self.edges[panel + 1]
        return np.asarray(left + (local + 1) / 2 * (right - left))


def antiderivative(
    f: Function,
    edges: ArrayLike,
    origin: float,
    rtol: float = 1e-11,
    atol: float = 0.0,
    rounding: Function | None = None,
) -> Antiderivative:
    """Integrate f with ``F(origin) = 0``; panels are halved until f is resolved to ``rtol`` of its largest value there,
    to ``atol`` of the integral, or to the known ``rounding`` error of f.

    Raises ValueError where f is not finite.

    >>> F = antiderivative(np.exp, [-1.0, 0.0, 1.0], origin=0.0)
    >>> float(F(0.5))
    0.6487212707
    """
    left, values = _resolve(f, np.union1d(np.asarray(edges, float), origin), rtol, atol, rounding)
    half = np.diff(left) / 2
    coefficients = TO_INTEGRAL @ (values * half[:, None]).T
    at_edges = np.concatenate([[0.0], np.cumsum(coefficients.sum(axis=0))])
    start = int(np.searchsorted(left, origin))
    # Summed outwards from the origin, so that large values at one end cost no accuracy elsewhere.
    at_edges[start:] = np.concatenate([[0.0], np.cumsum(coefficients.sum(axis=0)[start:])])
    at_edges[:start] = -np.cumsum(coefficients.sum(axis=0)[:start][::-1])[::-1]
    return Antiderivative(left, at_edges, coefficients)


def increasing_root(f: Function, slope: Function, low: Floats, high: Floats, rounding: float = 0.0) -> Floats:
    """Roots of an increasing function, one in each bracket: Newton, and bisection where Newton leaves the bracket.

    >>> increasing_root(lambda x: x**3 - 8, lambda x: 3 * x**2, np.array([0.0]), np.array([5.0]))
    array([2.])
    """
    root: Floats = (low + high) / 2
    for _ in range(80):
        value = f(root)
        low, high = np.where(value < 0, root, low), np.where(value < 0, high, root)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = root - value / slope(root)
        before, root = root, np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        if ((np.abs(value) <= rounding) | (np.abs(root - before) <= 1e-14 * np.maximum(1.0, np.abs(root)))).all():
            break
    return root


def weighted_integral(function: Function, weight: Function, edges: Floats, tol: float = 1e-8) -> float:
    """``∫ f w dy`` over ``edges`` to ``tol`` of ``∫ |f| w dy``, w ≥ 0: panels are halved also towards jumps of f.

    A feature of f narrower than a panel may be missed. Raises ValueError where f has too many jumps.

    >>> weighted_integral(lambda y: 1.0 * (y < 0.3), lambda y: 2 * y, np.array([0.0, 1.0]))
    0.0900000
    """
    left, right = edges[:-1], edges[1:]
    before = np.full(len(left), np.inf)
    total = size = doubt = 0.0
    panels = 0
    while left.size:
        width = right - left
        inner = left[:, None] + width[:, None] * (NODES + 1) / 2
        y = np.concatenate([inner, left[:, None], right[:, None]], axis=1)  # a jump may lie beyond the last node
        values, weights = function(y), weight(y)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # f may be as large as w is small
            values = np.sign(values) * np.exp(np.log(np.abs(values)) + np.log(weights))
        values, ends = values[:, :_ORDER], values[:, _ORDER:]
        each, most = values @ _WEIGHTS * width / 2, np.abs(values) @ _WEIGHTS * width / 2
        tail = np.abs(np.hstack([values @ _TO_COEFFICIENTS[-2:].T, values @ _TO_ENDS.T - ends])).max(axis=1)
        top = np.abs(values).max(axis=1)
        rounding = (tail > before / 4) & (tail < 1e-6 * top)  # halving gained nothing
        error = np.where((tail <= 1e-12 * top) | rounding, 0.0, tail * width)
        middle = (left + right) / 2
        error[(middle <= left) | (middle >= right)] = 0.0  # no number lies between
        fine = error <= 1e-4 * tol * (size + most.sum())
        total, size = total + float(each[fine].sum()), size + float(most[fine].sum())
        doubt, panels = doubt + float(error[fine].sum()), panels + len(left)
        left, right = np.concatenate([left[~fine], middle[~fine]]), np.concatenate([middle[~fine], right[~fine]])
        before = np.concatenate([tail[~fine], tail[~fine]])
        if panels > _MOST_PANELS // 2 or doubt > tol * (size + float(most[~fine].sum())):
            raise ValueError(f"the function has too many jumps: {panels} panels do not give its mean to {tol:g} of |f|")
    return total


def nodes(edges: Floats) -> Floats:
    """Gauss–Legendre nodes of every panel, (panels, order)."""
    return np.asarray(edges[:-1, None] + np.diff(edges)[:, None] * (NODES + 1) / 2)


def integrals(values: Floats, edges: Floats) -> Floats:
    """Integral over every panel of a function with these values at its nodes, (panels,)."""
    return np.asarray(values @ _WEIGHTS * np.diff(edges) / 2)


def running(values: Floats, edges: Floats) -> Floats:
    """Integral from the left edge of its panel to every node, (panels, order)."""
    return np.asarray(values @ _TO_RUNNING.T * np.diff(edges)[:, None] / 2)


def log_integrals(log_f: Function, edges: Floats, nats: Callable[[Floats, Floats], Floats]) -> Floats:
    """Logarithms of the integrals of e^log_f over every panel (panels,), however large or small they are.

    Panels are cut so that the integrand changes by a few ``nats(nodes, widths)`` in each piece.
    """
    widths = np.diff(edges)
    pieces = np.ceil(nats(nodes(edges), widths) / 3).astype(int).clip(1, _MOST_PANELS // len(widths) + 1000)
    first = np.cumsum(pieces) - pieces
    inside = np.arange(pieces.sum()) - np.repeat(first, pieces)
    width = np.repeat(widths / pieces, pieces)
    y = (np.repeat(edges[:-1], pieces) + inside * width)[:, None] + width[:, None] * (NODES + 1) / 2
    logs = log_f(y)
    tops = logs.max(axis=1)
    each = tops + np.log(np.exp(logs - tops[:, None]) @ _WEIGHTS) + np.log(width / 2)
    return np.asarray(np.logaddexp.reduceat(each, first))


def _resolve(f: Function, edges: Floats, rtol: float, atol: float, rounding: Function | None) -> tuple[Floats, Floats]:
    """Edges of panels on which f is resolved, and its values at their nodes."""
    done: list[tuple[Floats, Floats]] = []
    left, right, panels = edges[:-1], edges[1:], 0
    before = np.full(len(left), np.inf)
    while left.size:
        y = left[:, None] + (right - left)[:, None] * (NODES + 1) / 2
        values = np.asarray(f(y), float)
        if not np.isfinite(values).all():
            where = y[~np.isfinite(values)][0]
            raise ValueError(f"the function is not finite at {where:.6g}; keep the domain to where it is")
        tail = np.abs(values @ _TO_COEFFICIENTS[-2:].T).max(axis=1)
        size = np.abs(values).max(axis=1)
        noise = (tail > before / 4) & (tail < 1e-4 * size)  # halving gained nothing: what is left is rounding of f
        fine = (tail <= rtol * size) | (tail * (right - left) <= atol) | noise
        fine |= right - left <= 4e-16 * np.maximum(np.abs(left), np.abs(right))  # what is left is a jump
        if rounding is not None:
            fine |= tail <= np.max(rounding(y), axis=1)
        done.append((left[fine], values[fine]))
        panels += len(left)
        if panels > _MOST_PANELS:
            raise ValueError(f"{panels} panels did not resolve the function; it must be smooth inside the domain")
        middle, again = (left[~fine] + right[~fine]) / 2, tail[~fine]
        left, right = np.concatenate([left[~fine], middle]), np.concatenate([middle, right[~fine]])
        before = np.concatenate([again, again])
    starts = np.concatenate([d[0] for d in done])
    order = np.argsort(starts)
    return np.append(starts[order], edges[-1]), np.concatenate([d[1] for d in done])[order]
