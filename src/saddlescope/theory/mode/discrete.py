"""Discrete SGD where a step multiplies: collapse and its temperature at depth 2, exact exponents of stationary laws.

Balanced SGD near 0 at depth 2 multiplies the weights, and collapses iff the mean logarithm of the factor is negative.
A recursion ``X ← A X + …`` with independent factors A has a stationary law with ``P(|X| > x) ~ x^{−k}``,
``E|A|^k = 1``, and one that is bounded from above but multiplies near 0 has ``P(|X| < x) ~ x^k``, ``E|A|^{−k} = 1``.
Gaussian data of one input of variance 1: ``mean(x²) = r²`` with ``Br² ~ χ²_B``, ``mean(xy) = s*r² + σrz/√B``.
Source: Kesten 1973, Acta Math. 131; Goldie 1991, Ann. Appl. Probab. 1(1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.optimize import brentq, minimize_scalar

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_numbers
from saddlescope.data.base import LARGEST
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady
from saddlescope.theory.mode.sde import ModeSDE
from saddlescope.theory.sde._piecewise import integrals, nodes
from saddlescope.theory.sde.mass import graded

_MANY, _MOST = 1e6, 1e15
"""Samples of a batch from which the mean of x² counts as normal, and at most."""


@steady
def collapse_rate(lr: float, batch_size: float, target: float, label_noise: float, weight_decay: float = 0.0) -> float:
    """Growth of ``log a`` per step of balanced SGD near 0 at depth 2: ``E log|1 − ηγ + η·mean(xy)|``.

    All weights collapse iff it is negative. Exact for Gaussian data, one-dimensional inputs of variance 1 and any B:
    ``mean(xy) = s*r² + σrz/√B`` with ``Br² ~ χ²_B`` and z normal, whose logarithm is known in closed form.
    It gives the critical temperature of discrete SGD: near ``η → 0`` it is ``ηβ₂ − ½η²(β₂² + α₃/B)``, negative above
    T_c when ``s*T_cB ≪ 1``.
    Raises ValueError for lr ≤ 0 and batch_size < 1.
    Source: the exact step of a balanced pair, ``u ± w ← (1 ∓ ηḠ)(u ± w)``.

    >>> collapse_rate(0.02, 1, target=1.0, label_noise=10.0) < 0 < collapse_rate(0.018, 1, 1.0, 10.0)
    True
    """
    from scipy import stats  # heavy: imported where it is used

    if not 0 < as_number(lr, "lr") <= LARGEST:
        raise ValueError(f"lr must be positive and at most {LARGEST:g}, got {lr:g}; use a learning rate such as 1e-3")
    _check_batches(batch_size)
    _check_sizes(target, label_noise, weight_decay)
    if batch_size <= _MANY:
        radius = stats.chi(batch_size, scale=1 / np.sqrt(batch_size))
        low, high, density = radius.ppf(1e-17), radius.isf(1e-17), radius.pdf
    else:  # r² is normal but for its skewness, which counts as B⁻²
        square = stats.norm(1, np.sqrt(2 / batch_size))
        low, high = np.sqrt(square.ppf([1e-17, 1 - 1e-16]))
        density = lambda r: 2 * r * square.pdf(r * r)  # noqa: E731
    edges = np.linspace(float(low), float(high), 17)
    # r² at which a step without noise lands on 0
    cancels = (lr * weight_decay - 1) / (lr * target) if lr * target else -1.0
    if edges[0] ** 2 < cancels < edges[-1] ** 2:
        edges = graded(edges, np.array([cancels**0.5]))
    r = nodes(edges)
    size = _log_size(lr * (target * r * r - weight_decay), lr * label_noise * r / np.sqrt(batch_size))
    return float(integrals(size * density(r), edges).sum())


@steady
def collapse_window(
    batch_size: float, target: float, label_noise: float, weight_decay: float = 0.0
) -> tuple[float, float] | None:
    """The learning rates between which balanced SGD of depth 2 collapses to 0 (Gaussian data); None if there are none.

    Where ``collapse_rate`` is negative. The lower end over B is T_c for ``s* ≪ σ``. Above the upper end steps are so
    large that they move weights away from 0.

    >>> window = collapse_window(1, target=1.0, label_noise=10.0)
    >>> window[0] / ModeSDE(depth=2, target=1.0, label_noise=10.0, temperature=1.0).critical_temperature
    0.93...
    >>> collapse_window(1, target=1.0, label_noise=0.5**0.5) is None
    True
    """

    def rate(log_lr: float) -> float:
        return collapse_rate(float(np.exp(log_lr)), batch_size, target, label_noise, weight_decay)

    _check_batches(batch_size)
    _check_sizes(target, label_noise, weight_decay)
    size = np.hypot(target, label_noise) + weight_decay
    if not size > 1 / LARGEST:
        raise ValueError(
            f"target must be more than {1 / LARGEST:g} in size where there is no noise, got {target:g}; "
            "no weight would move"
        )
    pull = max(target - weight_decay, 0.0)
    first = 2 * pull / (pull**2 + (2 * target**2 + label_noise**2) / batch_size) * size  # to second order
    grid = np.log(1 / size) + np.linspace(np.log(min(1e-6, first / 8 or 1.0)), np.log(1e3), 80)
    rates = np.array([rate(x) for x in grid])
    dips = 1 + np.flatnonzero((rates[1:-1] < rates[:-2]) & (rates[1:-1] <= rates[2:]))
    least = [minimize_scalar(rate, bounds=(grid[i - 1], grid[i + 1]), method="bounded") for i in dips]
    places = np.searchsorted(grid, [dip.x for dip in least])
    grid = np.insert(grid, places, [dip.x for dip in least])  # a narrow window may lie between two points
    rates = np.insert(rates, places, [dip.fun for dip in least])
    below = np.flatnonzero(rates < 0)
    if not below.size:
        return None
    first, last = int(below[0]), int(below[-1])
    low = 0.0 if first == 0 else float(np.exp(brentq(rate, grid[first - 1], grid[first], rtol=1e-12)))
    high = float(np.exp(brentq(rate, grid[last], grid[last + 1], rtol=1e-12)))
    return low, high


@steady
def discrete_critical_temperature(
    batch_size: float, target: float, label_noise: float, weight_decay: float = 0.0
) -> float:
    """T = η/B from which balanced discrete SGD of depth 2 collapses, for Gaussian data; infinite where it never does.

    The smallest zero of ``collapse_rate``, to 1e-9, for any B ≥ 1, s* and σ. It never collapses where noise is weak:
    at s* > 0 without decay, B = 1, for ``σ < 4.496 s*``. For s* ≪ σ it is ``T_c (1 − (3B + 4)s*²/σ²)``, from
    ``E log(1 + ηX)`` to the fourth moment of ``X = mean(xy)``.

    >>> discrete_critical_temperature(4, target=1.0, label_noise=10.0) * 102 / 2     # of T_c = 2s*/(2s*² + σ²)
    0.908...
    >>> discrete_critical_temperature(16, target=1.0, label_noise=10.0)
    inf
    """
    window = collapse_window(batch_size, target, label_noise, weight_decay)
    return np.inf if window is None else window[0] / batch_size


@steady
def second_order_temperature(mode: ModeSDE, batch_size: float = 1.0) -> float:
    """T_c at depth 2 with the second moment of a discrete step: ``2(β₂−γ)/(α₃ + B(β₂−γ)²)``; any data.

    ``E log|1 + ηX| ≈ ηE X − ½η²E X²`` with ``X = mean(xy) − γ``, ``E X = β₂ − γ``, ``Var X = α₃/B``, is 0 there. The
    Langevin T_c leaves out B(β₂−γ)². The terms left out, ``⅓η³E X³ − ¼η⁴E X⁴``, are of the same order in s*/σ for
    Gaussian data: of ``T_c(1 − (3B + 4)s*²/σ² + …)`` it has −B only, so use ``discrete_critical_temperature`` for
    numbers. Raises ValueError at other depths.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671: ``T'_c = β₂/(α₃ + β₂²)`` for B = 1 and the loss without ½, T = 2T'.

    >>> mode = ModeSDE(depth=2, target=1.0, label_noise=10.0, temperature=0.01)
    >>> second_order_temperature(mode) / 2 - mode.beta2 / (mode.alpha3 + mode.beta2**2)      # T'_c
    0.0
    """
    if mode.depth != 2:
        raise ValueError(f"T_c to second order: only depth 2 has a critical temperature, got depth {mode.depth}")
    _check_batches(batch_size)
    pull = mode.pull[1]
    noise = mode.alpha3 + batch_size * pull**2
    return float(max(2 * pull / noise, 0.0)) if noise else np.inf


@steady
def log_normal_size(mean: ArrayLike, deviation: ArrayLike) -> Floats:
    """``E log|m + σz|`` for standard normal z: ``log σ + ½(log 2 + E ψ(½ + N))``, N Poisson of mean ``m²/(2σ²)``.

    For m ≫ σ ≥ 0, where that cancels, by ``log|m| − Σ_k (2k−1)!! (σ/m)^{2k}/(2k)``. They broadcast.
    Source: the logarithm of a noncentral χ² with one degree of freedom is a Poisson mixture of central ones.

    >>> log_normal_size(0.0, 1.0)              # −(log 2 + Euler's constant)/2
    array(-0.63518142)
    """
    return _log_size(as_numbers(mean, "mean") - 1, as_numbers(deviation, "deviation"))


def _log_size(excess: Floats, deviation: Floats) -> Floats:
    """``E log|1 + excess + σz|``, exact for small excess too."""
    from scipy import stats  # heavy: imported where it is used

    excess, deviation = np.broadcast_arrays(excess, deviation)
    mean = np.abs(1 + excess)
    if not (deviation >= 0).all():
        raise ValueError(
            f"deviation must not be negative, got {deviation.min():g}; z is symmetric, give the absolute value"
        )
    far = (mean > 15 * deviation) | (deviation == 0)
    k, n = np.arange(1, 12), np.arange(300)
    with np.errstate(divide="ignore"):
        series = np.cumprod(2.0 * k - 1) / (2 * k)
        out = np.array(
            np.where(excess > -0.5, np.log1p(np.maximum(excess, -0.5)), np.log(mean))
            - (deviation / np.where(far & (mean > 0), mean, np.inf))[..., None] ** (2.0 * k) @ series
        )
        rates = (mean[~far] / deviation[~far]) ** 2 / 2
        mixed = stats.poisson.pmf(n, rates[..., None]) @ special.digamma(n + 0.5)
        out[~far] = np.log(deviation[~far]) + (np.log(2) + mixed) / 2
    return out


def sgd_tail(lr: float, batch_size: int) -> float:
    """The k of ``P(|v − s*| > x) ~ x^{−k}`` of SGD at depth 1: ``E|1 − η·mean(x²)|^k = 1``.

    Langevin dynamics has ``1 + 2β₁/(Tα₁)``, here ``1 + B/η``. 0 where SGD has no stationary law. It
    does not depend on s* and σ if σ > 0. Raises ValueError for lr, batch_size ≤ 0.

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
    rate: the density of discrete SGD is always infinite at 0, though with tiny mass where Langevin dynamics is
    "learned". NaN where SGD collapses. Raises ValueError for lr, batch_size, label_noise ≤ 0.

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


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def _check_batches(batch_size: float) -> None:
    if not 1 <= as_number(batch_size, "batch_size") <= _MOST:
        raise ValueError(f"batch_size must be from 1 to {_MOST:g}, got {batch_size:g}; it counts samples")


def _check_sizes(target: float, label_noise: float, weight_decay: float) -> None:
    _checks.not_negative(label_noise=label_noise, weight_decay=weight_decay)
    for name, value in (("target", target), ("label_noise", label_noise), ("weight_decay", weight_decay)):
        if not abs(as_number(value, name)) <= LARGEST:
            raise ValueError(f"{name} must be finite and at most {LARGEST:g} in size, got {value:g}; change its unit")
