"""Modes under gradient flow: ``ds/dt = L s^{2κ}(β₂ − β₁ s)`` with κ = 1 − 1/L, in closed form for every depth L.

Time is explicit in the strength. With ρ = (s/s̄)^{1/L}, s̄ = β₂/β₁ and τ = β₁ s̄^{2κ} t,

    dτ/dρ = ρ^{1−L}/(1 − ρ^L),   so   τ = ρ^{2−L}/(2−L) − (1/L) Σ_k ω_k² log(1 − ρ/ω_k) + const,   ω_k^L = 1,

and the curve is its inverse; L = 1, 2 invert by hand.
Source: Saxe, McClelland & Ganguli 2013, arXiv 1312.6120; Corlouer et al. 2026, arXiv 2604.06366.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from saddlescope._arrays import Floats
from saddlescope._memory import require
from saddlescope._numbers import as_number, as_numbers, as_whole
from saddlescope.theory._checks import steady
from saddlescope.theory.sde._piecewise import increasing_root


@steady
def mode_flow(times: ArrayLike, start: ArrayLike, target: ArrayLike, depth: int, rate: float = 1.0) -> Floats:
    """Strength s(t) of a mode under gradient flow.

    ``ds/dt = rate · L s^{2κ}(target − s)``; ``times``, ``start`` and ``target`` broadcast; ``rate`` is β₁ (1 for white
    inputs). Raises ValueError for a negative time, and for a start that is not positive at depth ≥ 2.
    Source: Saxe et al. 2013 (L = 2); every L by partial fractions.

    >>> mode_flow([0.0, 1.0, 4.0], start=0.01, target=2.0, depth=2)
    array([0.01      , 0.43058792, 1.99995521])
    >>> mode_flow(1.0, start=0.5, target=2.0, depth=3)
    array(1.99348549)
    """
    rate, given = as_number(rate, "rate"), {"times": times, "start": start, "target": target}
    t, s, end = np.broadcast_arrays(*(as_numbers(v, name) for name, v in given.items()))
    _check(s, depth)
    if (t < 0).any():
        raise ValueError(f"times must not be negative, got {t.min():g}; gradient flow starts at time 0")
    t = rate * t
    if depth == 1:
        return np.asarray(s * np.exp(-t) - end * np.expm1(-t))
    unknown = np.isnan(t + s + end)
    t, s, end = (np.where(unknown, 1.0, v) for v in (t, s, end))
    curve = np.where(t == 0, s, _logistic(t, s, end) if depth == 2 else _invert(t, s, end, depth))
    return np.where(unknown, np.nan, curve)


@steady
def flow_time(strength: ArrayLike, start: ArrayLike, target: ArrayLike, depth: int, rate: float = 1.0) -> Floats:
    """Time at which gradient flow takes a mode from ``start`` to ``strength``; infinite where it never does.

    Source: Saxe et al. 2013 (L = 2); every L by partial fractions.

    >>> flow_time([0.02, 1.0, 2.0], start=0.01, target=2.0, depth=2)
    array([0.17454..., 1.32332...,        inf])
    """
    rate, given = as_number(rate, "rate"), {"strength": strength, "start": start, "target": target}
    s, first, end = np.broadcast_arrays(*(as_numbers(v, name) for name, v in given.items()))
    _check(first, depth)
    with np.errstate(divide="ignore", invalid="ignore"):
        time = np.log((first - end) / (s - end)) if depth == 1 else _elapsed(s, first, end, depth)
    between = ((s - first) * (end - s) > 0) | (s == first)
    time = np.where(s == first, 0.0, np.where(between, time / rate, np.inf))
    return np.where(np.isnan(s + first + end + rate), np.nan, time)


@steady
def plateau_time(start: ArrayLike, target: ArrayLike, depth: int, rate: float = 1.0) -> Floats:
    """Length of the plateau before a mode is learned, to leading order in a small start.

    ``log(s*/s₀)/(2s*)`` for L = 2, ``s₀^{−(L−2)/L}/((L−2)s*)`` for L ≥ 3; 0 where the start is at or beyond the
    target, as nothing is left to learn. Raises ValueError at depth 1, which has none.
    Source: Saxe et al. 2013; Corlouer et al. 2026, arXiv 2604.06366.

    >>> plateau_time(1e-3, [2.0, 1.0], depth=2)
    array([1.90022561, 3.45387764])
    """
    s, end, rate = as_numbers(start, "start"), as_numbers(target, "target"), as_number(rate, "rate")
    if depth == 1:
        raise ValueError("depth 1 has no plateau: linear regression leaves its start at once; use depth ≥ 2")
    _check(s, depth)
    if not (end > 0).all():
        raise ValueError(f"target must be positive, got {end.min():g}; a mode without strength is never learned")
    scaled = np.log(end / s) / 2 if depth == 2 else s ** -((depth - 2) / depth) / (depth - 2)
    return np.where(s < end, scaled / (end * rate), 0.0 * scaled * rate)


def _check(start: Floats, depth: int) -> None:
    if as_whole(depth, "depth") < 1:
        raise ValueError(f"depth must be at least 1, got {depth}; it counts the layers")
    if depth >= 2 and not ((start > 0) & (start < np.inf)).all():
        wrong = start[~((start > 0) & (start < np.inf))].flat[0]
        raise ValueError(f"start must be positive and finite at depth {depth}, got {wrong:g}; 0 is a fixed point")


def _logistic(t: Floats, s: Floats, end: Floats) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):
        curve = end / (1 + (end / s - 1) * np.exp(-2 * end * t))
    return np.asarray(np.where(end == 0, s / (1 + 2 * s * t), curve))


def _elapsed(s: Floats, first: Floats, end: Floats, depth: int) -> Floats:
    """Time from ``first`` to ``s`` at depth ≥ 2, unit rate."""
    if depth == 2:
        growth = np.log(s / first) - np.log(np.abs((end - s) / (end - first)))
        return np.where(end == 0, (1 / s - 1 / first) / 2, growth / (2 * end))
    power = 2 - 2 / depth  # 2κ; with target 0 the equation is ds/dt = −L s^{1+2κ}
    scale = np.abs(end) ** power
    ends = [_primitive((v / np.abs(end)) ** (1 / depth), np.sign(end), depth) for v in (s, first)]
    return np.where(end == 0, (s**-power - first**-power) / (depth * power), (ends[0] - ends[1]) / scale)


def _primitive(rho: Floats, sign: Floats, depth: int) -> Floats:
    """``∫ ρ^{1−L}/(sign − ρ^L) dρ`` with sign = ±1, by partial fractions over the roots ω^L = sign."""
    require(64 * depth * rho.size, f"a sum over depth = {depth:,} roots", "lower depth, or ask for fewer strengths")
    k = np.arange(depth).reshape(-1, *([1] * rho.ndim))
    roots = np.exp(1j * np.pi * (2 * k + (sign < 0)) / depth)
    factors = 1 - rho * roots.conj()
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(factors)) + 1j * np.angle(factors)
    return np.asarray(sign * rho ** (2.0 - depth) / (2.0 - depth) - (roots**2 * logs).real.sum(axis=0) / depth)


def _invert(t: Floats, first: Floats, end: Floats, depth: int) -> Floats:
    """The curve at depth ≥ 3: the root of ``elapsed(s) = t`` in a variable u that rises with time.

    Below the target s = s* / (1 + e^−u), above it s = s* (1 + e^−u); with a negative target u = s^{1−2κ}.
    """
    power, above, sinks = 2 - 2 / depth, first > end, end < 0
    scale = np.where(end > 0, end, 1.0)

    def strength(u: Floats) -> Floats:
        u, sunk = np.where(sinks, 0.0, u), np.where(sinks, u, 1.0)
        return np.where(sinks, sunk ** (1 / (1 - power)), np.where(above, scale * (1 + np.exp(-u)), scale * expit(u)))

    def slope(u: Floats) -> Floats:  # dt/du = (ds/du) / (ds/dt)
        s = strength(u)
        rises = np.where(above, s**-power, s ** (1 - power) / scale)
        return np.where(sinks, 1 / ((power - 1) * (s - end)), rises) / depth

    def late(u: Floats) -> Floats:
        return np.nan_to_num(_elapsed(strength(u), first, end, depth) - t, nan=np.inf, posinf=1e300)

    with np.errstate(divide="ignore", invalid="ignore"):
        start = np.where(above, -np.log(first / scale - 1), logit(np.where(above, 0.5, first / scale)))
        start = np.where(sinks, first ** (1 - power), start)
        last = np.where(sinks, start + (power - 1) * depth * (first - end) * t, np.maximum(start, 0) + 40.0)
        fixed = (end == 0) | (first == end) | (t == 0)
        u = increasing_root(late, slope, np.where(fixed, 1.0, start), np.where(fixed, 1.0, last))
        curve = np.where(end == 0, (first**-power + depth * power * t) ** (-1 / power), strength(u))
    return np.where(first == end, first, curve)
