"""Exact exponents of discrete SGD where a step multiplies: the tail at depth 1, the start at 0 at depth 2.

A recursion ``X ← A X + …`` with independent factors A has a stationary law with ``P(|X| > x) ~ x^{−k}``,
``E|A|^k = 1``, and one that is held from above but multiplies near 0 has ``P(|X| < x) ~ x^k``, ``E|A|^{−k} = 1``.
Gaussian data of one input of variance 1: ``mean(x²) = r²`` with ``Br² ~ χ²_B``, ``mean(xy) = s*r² + σrz/√B``.
Source: Kesten 1973, Acta Math. 131; Goldie 1991, Ann. Appl. Probab. 1(1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.optimize import brentq

from saddlescope.theory.mode.phases import collapse_rate
from saddlescope.theory.sde._piecewise import integrals, nodes
from saddlescope.theory.sde.mass import graded

Floats = NDArray[np.float64]


def sgd_tail(lr: float, batch_size: int) -> float:
    """The k of ``P(|v − s*| > x) ~ x^{−k}`` of SGD at depth 1: ``E|1 − η·mean(x²)|^k = 1``.

    Langevin dynamics has ``1 + 2β₁/(Tα₁)``, here ``1 + B/η``. 0 where SGD has no stationary law. It
    does not depend on s* and σ, as long as σ > 0. Raises ValueError for lr, batch_size ≤ 0.

    >>> sgd_tail(2 / 3, batch_size=1)           # E(1 − ηx²)² = 1 − 2η + 3η²
    2.0
    """
    _check(lr=lr, batch_size=batch_size)

    def log_moment(k: float) -> float:
        top = np.sqrt((2 * k + 150 + batch_size) / batch_size) * 1.5
        return _log_mean(lambda r: k * np.log(np.abs(1 - lr * r * r)), batch_size, top, lr**-0.5)

    if log_moment(1e-4) >= 0:
        return 0.0
    high = 1.0
    while log_moment(high) < 0:
        high *= 2
    return round(float(brentq(log_moment, 1e-4, high, rtol=1e-12)), 10)


def sgd_start(lr: float, batch_size: int, target: float, label_noise: float) -> float:
    """The power of s with which the density of balanced SGD at depth 2 starts at 0: ``k/2 − 1``, k below.

    Near 0 a step multiplies the weights by ``A = 1 + η·mean(xy)``, so ``P(s < x) ~ x^{k/2}`` with ``E|A|^{−k} = 1``.
    Langevin dynamics has ``T_c/(2T) − 3/2``. As A has a density at 0, k < 1 and the power is below −½ at any learning
    rate: the density of discrete SGD is always infinite at 0, if with tiny mass where Langevin dynamics is "learned".
    NaN where SGD collapses. Raises ValueError for lr, batch_size, label_noise ≤ 0.

    >>> mode_power = 0.5 / 0.75 - 1.5                   # Langevin dynamics at 0.75 T_c
    >>> sgd_start(0.75 * 2 / (2 + 100**2), 1, target=1.0, label_noise=100.0) - mode_power
    -0.00...
    """
    _check(lr=lr, batch_size=batch_size, label_noise=label_noise)
    if collapse_rate(lr, batch_size, target, label_noise) <= 0:
        return np.nan
    top, cancels = np.sqrt((150 + batch_size) / batch_size) * 1.5, (-1 / (lr * target) if target else -1.0)

    def log_moment(k: float) -> float:
        def log_size(r: Floats) -> Floats:
            return log_normal_moment(1 + lr * target * r * r, lr * label_noise * r / np.sqrt(batch_size), -k)

        return _log_mean(log_size, batch_size, top, cancels**0.5 if cancels > 0 else None)

    high = 1 - 1e-9
    if log_moment(high) <= 0:
        return -0.5
    low = high
    while log_moment(low) >= 0:
        low /= 2
        if low < 1e-6:
            return -1.0
    return float(brentq(log_moment, low, high, rtol=1e-12)) / 2 - 1


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def log_normal_moment(mean: Floats, deviation: Floats, power: float) -> Floats:
    """``log E|m + σz|^p`` for standard normal z, p > −1: of ``(2σ²)^{p/2} Γ(½+p/2) M(−p/2, ½, −m²/2σ²)/√π``.

    >>> np.exp(log_normal_moment(np.array([3.0]), np.array([2.0]), 2.0))
    array([13.])
    """
    z = (mean / deviation) ** 2 / 2
    far = z > 200
    size = np.where(far, np.abs(mean), 1.0)
    near = special.hyp1f1(-power / 2, 0.5, -np.where(far, 0.0, z))
    value = power * np.log(deviation) + (power / 2) * np.log(2) + special.gammaln((1 + power) / 2) - np.log(np.pi) / 2
    small = np.where(far, (deviation / size) ** 2, 0.0)  # E|1 + εz|^p ≈ 1 + p(p−1)ε²/2 + p(p−1)(p−2)(p−3)ε⁴/8
    falling = power * (power - 1) / 2 * small * (1 + (power - 2) * (power - 3) / 4 * small)
    return np.asarray(np.where(far, power * np.log(size) + np.log1p(falling), value + np.log(near)))


def _log_mean(log_size: Callable[[Floats], Floats], batch_size: int, top: float, kink: float | None) -> float:
    """``log E exp(log_size(r))`` with ``Br² ~ χ²_B``, of a function that may have a corner at ``kink``."""
    from scipy import stats  # heavy: imported where it is used

    radius = stats.chi(batch_size, scale=1 / np.sqrt(batch_size))
    edges = np.linspace(1e-12, top, 65)
    if kink is not None and kink < top:
        edges = graded(edges, np.array([kink]))
    r = nodes(edges)
    logs = log_size(r) + radius.logpdf(r)
    peak = float(logs.max())
    return float(np.log(integrals(np.exp(logs - peak), edges).sum())) + peak
