"""How temperature shapes one mode: most likely strengths, regimes, tails and limits.

All follow from the stationary law of ``ModeSDE``, ``p(s) ∝ s^{−3κ} g⁻¹ exp(−(2/(TL)) ∫ (β₁s − β₂)/(s^{2κ}g) ds)``.
At depth 2 ``p ~ s^{β₂/(Tα₃) − 3/2}`` near 0 and ``d log p/ds = −q(s)/(2T s g)`` with the parabola

    q(s) = 7Tα₁ s² + (2β₁ − 10Tα₂) s − (2β₂ − 3Tα₃),

whose positive roots are the extrema. Weight decay γ puts β₂ − γ for β₂ there.
Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671, whose temperature and decay count the loss without ½ (T = 2T′) and
whose D is L − 1; all formulas here are derived from the SDE in the convention of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope._numbers import as_number
from saddlescope.theory._checks import steady
from saddlescope.theory.mode.discrete import (
    collapse_rate,
    collapse_window,
    discrete_critical_temperature,
    log_normal_size,
    second_order_temperature,
)
from saddlescope.theory.mode.sde import ModeSDE
from saddlescope.theory.sde.density import power_of_gamma
from saddlescope.theory.sde.diffusion1d import Diffusion1D
from saddlescope.theory.sde.laws import Known, Law

__all__ = [
    "REGIMES",
    "Extrema",
    "Regime",
    "collapse_rate",
    "collapse_window",
    "crossover_maximum",
    "discrete_critical_temperature",
    "divergence_temperature",
    "exponent_at_zero",
    "extrema",
    "gamma_law",
    "heat",
    "hot_law",
    "infinite_depth",
    "log_normal_size",
    "moments_below",
    "most_likely_shift",
    "no_law",
    "regime",
    "regime_temperatures",
    "roots_of_powers",
    "second_order_temperature",
    "tail_exponent",
]

Regime = Literal["learned", "bimodal", "at zero", "collapsing", "collapsed"]

REGIMES: dict[Regime, str] = {
    "learned": "T < T_c/3: the density vanishes at 0 and has one maximum",
    "bimodal": "T_c/3 ≤ T < T_c: the density is infinite at 0 and has a second maximum at s > 0",
    "at zero": "T_c/3 ≤ T < T_c: the density is infinite at 0 and decreases; 0 is the most likely strength",
    "collapsing": "T ≥ T_c: all mass ends at 0, but the speed density, not integrable, has a maximum where it lingers",
    "collapsed": "T ≥ T_c: all mass ends at 0, and the speed density has no other maximum",
}
"""What each of the five regimes of depth 2 means."""


@dataclass(frozen=True, repr=False)
class Extrema(_show.Shown):
    """Strengths at which a stationary density is largest and smallest, each sorted; ``at_zero`` when infinite at 0."""

    maxima: Floats
    minima: Floats
    at_zero: bool


@steady
def extrema(mode: ModeSDE) -> Extrema:
    """Most and least likely strengths: the roots (positive for L ≥ 2) of ``d log p/ds``.

    ``3κ(α₁s − 2α₂ + α₃/s) + 2(α₁s − α₂) + (2/(TL))(β₁s − β₂)s^{−2κ} = 0``, at depth 2 the parabola q.
    At T ≥ T_c they are those of the mass that has not collapsed yet. Depth ≥ 3 can have two maxima too, for white
    Gaussian data and ``σ² < 2s*²/(3κ(3κ+2))`` at all large T. Raises ValueError where mass ends in points (T =
    0, or σ = 0 without weight decay), or for weight decay at depth ≥ 3.

    >>> extrema(ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)).maxima
    array([0.9728...])
    """
    L, T, (b1, b2) = mode.depth, mode.temperature, mode.pull
    _refuse_decay(mode, "extrema are those of a law")
    if mode.frozen:
        raise ValueError(f"a density needs noise where the drift vanishes, got none, at T = {T:g}")
    kappa, heat, a1, a2, a3 = 1 - 1 / L, 2 / (T * L), mode.alpha1, mode.alpha2, mode.alpha3
    terms = {1.0: 0.0, 0.0: 0.0, -1.0: 0.0}
    for power, factor in (
        *((1.0, (3 * kappa + 2) * a1), (0.0, -(6 * kappa + 2) * a2), (-1.0, 3 * kappa * a3)),
        *((2 / L - 1, heat * b1), (2 / L - 2, -heat * b2)),
    ):
        terms[power] = terms.get(power, 0.0) + factor
    if L == 1:
        return Extrema(np.array([-terms[0.0] / terms[1.0]]), np.array([]), False)
    places, rising = roots_of_powers(np.array(list(terms)), np.array(list(terms.values())))
    if mode.crossing is not None:  # paths live on one side of it
        k, side = mode.crossing
        rising, places = rising[side * places > side * k], places[side * places > side * k]
    return Extrema(places[rising], places[~rising], exponent_at_zero(mode) < 0)


@steady
def roots_of_powers(powers: Floats, factors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Where ``Σ c_i s^{p_i}`` changes its sign at s > 0, increasing, and whether it rises there.

    Between the zeros of the derivative of ``s^{−p_0} Σ c_i s^{p_i}``, which has a term less, it is monotone.

    >>> roots_of_powers(np.array([0.0, 1.0, 2.0]), np.array([2.0, -3.0, 1.0]))
    (array([1., 2.]), array([False,  True]))
    """
    order = np.argsort(powers)
    p, c = powers[order][factors[order] != 0], factors[order][factors[order] != 0]
    logs, rises = _log_roots(p, c)
    return np.exp(logs), rises


def _log_roots(p: Floats, c: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    if len(c) < 2:
        return np.array([]), np.array([], bool)
    size, number = np.log(np.abs(c)), np.log(len(c))

    def value(v: float) -> float:  # in units of the largest term
        terms = p * v + size
        return float(np.sign(c) @ np.exp(terms - terms.max()))

    high = ((number + size[:-1] - size[-1]) / (p[-1] - p[:-1])).max()  # beyond, the last term is all
    low = ((number + size[1:] - size[0]) / (p[0] - p[1:])).min()
    turns, _ = _log_roots(p[1:] - p[0], c[1:] * (p[1:] - p[0]))
    edges = np.array([low - 1.0, *turns[(turns > low - 1) & (turns < high + 1)], high + 1.0])
    signs = np.sign([value(v) for v in edges])
    at = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    roots = [brentq(value, edges[i], edges[i + 1], xtol=1e-14, rtol=1e-15) for i in at]
    return np.array(roots), signs[at] < 0


@steady
def most_likely_shift(mode: ModeSDE) -> float:
    """How far the most likely strength lies from β₂/β₁, to first order in T.

    ``−(TL/(2β₁)) e^{2κ} (3κ g(e)/e + g'(e))`` at e = β₂/β₁, from ``d log p/ds = 0``; white Gaussian data
    ``−(3/2)(L−1)Tσ² s*^{1−2/L}``, three times the shift of the mean. Good where ``TLe^{2κ}α₁/β₁ ≪ 1``, the fraction by
    which it is about too large, and ``½TLe^{2κ−2}g(e)/β₁ ≪ 1``. Raises ValueError where there is no maximum near e:
    for β₂ ≤ 0 at depth ≥ 2, weight decay at depth ≥ 3, or where noise vanishes.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671, for depth 2; any depth here.

    >>> most_likely_shift(ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.01))
    -0.0075
    """
    L, (b1, _), end = mode.depth, mode.pull, mode.fixed_point
    _refuse_decay(mode, "the most likely strength is that of a law")
    if (L >= 2 and end <= 0) or (mode.frozen and mode.temperature > 0):
        raise ValueError(f"no strength near β₂/β₁ = {end:g} is the most likely: mass ends in points")
    if mode.crossing is not None and mode.temperature > 0:
        raise ValueError("the noise vanishes at another strength, where the expansion in T ends; use extrema")
    kappa, slope = 1 - 1 / L, 2 * (mode.alpha1 * end - mode.alpha2)
    pushed = slope if L == 1 else end ** (2 * kappa) * (3 * kappa * float(mode.g(end)) / end + slope)
    return float(-mode.temperature * L / (2 * b1) * pushed)


@steady
def exponent_at_zero(mode: ModeSDE) -> float:
    """The power of s with which the stationary density starts at 0: ``(β₂−γ)/(Tα₃) − 3/2`` at depth 2.

    It changes sign at T_c/3 and is −1 at T_c. At depth ≥ 3 the density is ``s^{−3κ} exp(−c s^{−(L−2)/L})``,
    ``c = 2β₂/((L−2)Tα₃)``, less than any power: infinite for β₂ > 0, minus infinite (no law) for β₂ < 0.
    Raises ValueError at depth 1.

    >>> exponent_at_zero(ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=1 / 9))       # T = T_c/3
    0.0
    """
    if mode.depth == 1:
        raise ValueError("at depth 1 the strength 0 is not special; use depth ≥ 2")
    pull, noise = mode.pull[1], mode.temperature * mode.alpha3
    if mode.depth == 2:
        return float(np.inf * np.sign(pull) if noise == 0 else round(pull / noise - 1.5, 15))
    pull = -1.0 if mode.weight_decay > 0 else pull
    return float(np.inf * np.sign(pull)) if pull else -3 * (1 - 1 / mode.depth)


@steady
def regime(mode: ModeSDE) -> Regime:
    """The regime of a mode at depth 2, one of ``REGIMES``: by T_c/3, T_c and the extrema.

    Of the five, a second maximum (bimodal, collapsing) needs ``β₁ < 5Tα₂`` and a positive discriminant of q, for
    white Gaussian data ``T > 1/(10s*)`` and ``(1 + 4Ts*)² > 42T²σ²``. Raises ValueError at other depths, which have no
    transition.

    >>> [regime(ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=T)) for T in (0.1, 0.3, 0.5, 0.8)]
    ['learned', 'bimodal', 'at zero', 'collapsed']
    """
    _at_depth_two(mode, "regimes")
    _refuse_above(mode)
    T, critical = mode.temperature, mode.critical_temperature
    if critical / 3 > T:
        return "learned"
    bump = len(extrema(mode).maxima) > 0
    if critical > T:
        return "bimodal" if bump else "at zero"
    return "collapsing" if bump else "collapsed"


@steady
def regime_temperatures(mode: ModeSDE) -> dict[str, float]:
    """Temperatures at which a mode of depth 2 changes its regime; ``mode.temperature`` does not matter.

    ``zero`` T_c/3 (the density becomes infinite at 0), ``critical`` T_c, and ``bump``, above which there is no maximum
    at s > 0: the positive root of the discriminant
    ``(25α₂² − 21α₁α₃)T² + (14α₁(β₂−γ) − 10β₁α₂)T + β₁² = 0`` of q, at least T_c/3; infinite if the maximum persists.
    White Gaussian data: ``1/(√42 σ − 4s*)``, infinite for ``√42 σ ≤ 4s*``. Raises ValueError at other depths.

    >>> regime_temperatures(ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=0.1))
    {'zero': 0.2222222..., 'critical': 0.6666666..., 'bump': 0.4031054...}
    """
    _at_depth_two(mode, "regimes")
    _refuse_above(mode)
    (b1, b2), a1, a2, a3 = mode.pull, mode.alpha1, mode.alpha2, mode.alpha3
    critical = mode.critical_temperature
    found = np.roots([25 * a2**2 - 21 * a1 * a3, 14 * a1 * b2 - 10 * b1 * a2, b1**2])
    bumps = [T for T in found[np.abs(found.imag) < 1e-9].real if critical / 3 <= T and 5 * T * a2 > b1]
    gone = not bumps and 5 * a2 * critical / 3 <= b1  # then the maximum reaches 0 at T_c/3
    return {
        "zero": critical / 3,
        "critical": critical,
        "bump": critical / 3 if gone else float(min(bumps, default=np.inf)),
    }


@steady
def tail_exponent(mode: ModeSDE) -> float:
    """The power of s with which the stationary density falls at infinity: ``−5 + 3/L`` whatever the data and T.

    At depth 1 ``−2 − 2(β₁+γ)/(Tα₁)``. Minus infinite, less than any power, for α₁ = 0 (inputs of one size), and where
    no path stays above a strength (``ModeSDE.crossing``).

    >>> tail_exponent(ModeSDE(depth=3, target=1.0, label_noise=1.0, temperature=0.1))
    -4.0
    """
    if mode.alpha1 == 0 or mode.temperature == 0:
        return -np.inf
    if mode.depth >= 2 and mode.crossing is not None and mode.crossing[1] < 0:
        return -np.inf
    if mode.depth == 1:
        return float(-2 - 2 * mode.pull[0] / (mode.temperature * mode.alpha1))
    return -5 + 3 / mode.depth


@steady
def moments_below(mode: ModeSDE) -> float:
    """``E[sᵏ]`` is finite for k below this, ``4 − 3/L``; infinite from there on.

    >>> moments_below(ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=0.1))    # a variance, no skewness
    2.5
    """
    return -1 - tail_exponent(mode)


@steady
def divergence_temperature(mode: ModeSDE) -> float:
    """Temperature from which ``E[s²]``, and with it the expected loss, is infinite: ``2(β₁+γ)/α₁`` at depth 1.

    1 for white Gaussian data. Infinite at depth ≥ 2, where the tail ``s^{−5+3/L}`` leaves a second moment at every T,
    and for inputs of one size (α₁ = 0). Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671; ``tail_exponent``.

    >>> [divergence_temperature(ModeSDE(depth=L, target=1.0, label_noise=0.5, temperature=0.1)) for L in (1, 2)]
    [1.0, inf]
    """
    return float(2 * mode.pull[0] / mode.alpha1) if mode.depth == 1 and mode.alpha1 > 0 else np.inf


@steady
def crossover_maximum(mode: ModeSDE) -> float:
    """The most likely strength at depth ≥ 3 for large T, ``(2β₂/(3(L−1)Tα₃))^{L/(L−2)}``: a crossover, no transition.

    From ``3κα₃ s^{1−2/L} = 2β₂/(TL)``, the small-s limit of ``extrema``. Raises ValueError for L ≤ 2, β₂ ≤ 0, γ > 0.

    >>> mode = ModeSDE(depth=4, target=1.0, label_noise=1.0, temperature=100.0)
    >>> crossover_maximum(mode), extrema(mode).maxima
    (5.4869...e-07, array([5.4869...e-07]))
    """
    _refuse_decay(mode, "the crossover is that of a law")
    if mode.depth < 3 or mode.beta2 <= 0 or mode.temperature * mode.alpha3 == 0:
        raise ValueError(
            f"the crossover is one of depth ≥ 3 with β₂ > 0 and noise at 0, got depth {mode.depth}, "
            f"β₂ = {mode.beta2:g} and Tα₃ = {mode.temperature * mode.alpha3:g}"
        )
    L = mode.depth
    return float((2 * mode.beta2 / (3 * (L - 1) * mode.temperature * mode.alpha3)) ** (L / (L - 2)))


@steady
def gamma_law(mode: ModeSDE) -> Law:
    """The stationary law at depth 2 where noise swamps the signal (s* ≪ σ): Gamma.

    Shape ``β₂/(Tα₃) − ½``, scale ``Tα₃/β₁``: mean ``(β₂/β₁)(1 − T/T_c)`` and variance ``2(β₂/β₁)²(T/T_c)(1 − T/T_c)``.
    Fluctuations grow with T only up to T_c/2, then fall: fluctuation inversion. It puts α₃ for g, so it is exact as
    s*/σ → 0. Raises ValueError at other depths, for T = 0 and T ≥ T_c.

    >>> law = gamma_law(ModeSDE(depth=2, target=0.01, label_noise=1.0, temperature=0.005))
    >>> law.mean(), law.var()         # T_c = 0.02
    (0.0074..., 3.7...e-05)
    """
    from scipy import stats  # heavy: imported where it is used

    _at_depth_two(mode, "the Gamma law")
    T, (b1, b2) = mode.temperature, mode.pull
    if not 0 < T < mode.critical_temperature:
        raise ValueError(f"the Gamma law needs 0 < T < T_c = {mode.critical_temperature:g}, got T = {T:g}")
    return Known(stats.gamma(b2 / (T * mode.alpha3) - 0.5, scale=T * mode.alpha3 / b1))


@steady
def hot_law(mode: ModeSDE) -> Law:
    """The stationary law at depth ≥ 3 for large T: ``s^{−(L−2)/L}`` is Gamma, shape ``(2L−3)/(L−2)``, rate c.

    ``c = 2β₂/((L−2)Tα₃)``: ``p ∝ s^{−3κ} exp(−c s^{−(L−2)/L})``, the form near 0, where all mass lies once that is far
    below s* and σ; its maximum is ``crossover_maximum``. As L → ∞ 1/s is Gamma(2), rate ``2β₂/(LTα₃)``: the law goes
    to 0 like 1/(LT), and no temperature is critical. Raises ValueError for L ≤ 2, β₂ ≤ 0, γ > 0.

    >>> mode = ModeSDE(depth=4, target=1.0, label_noise=1.0, temperature=1000.0)
    >>> hot_law(mode).median(), mode.stationary().median()
    (2.3471...e-08, 2.3471...e-08)
    """
    crossover_maximum(mode)
    L, power = mode.depth, (mode.depth - 2) / mode.depth
    rate = 2 * mode.beta2 / ((L - 2) * mode.temperature * mode.alpha3)
    return power_of_gamma((2 * L - 3) / (L - 2), rate, -1 / power)


@steady
def heat(mode: ModeSDE, width: float = 1) -> float:
    """``T̂ = L T d^{2/L−1}`` of d equal balanced subnetworks: it determines their law in deep networks.

    d subnetworks are one with t and T times ``d^{2/L−1}``. With T held and L → ∞: for d = o(L) T̂ → ∞, and s → 0
    as ``hot_law``; for d = cL it is T/c, and s has the law of ``infinite_depth``; for L = o(d) T̂ → 0, and s → s*
    with the variance ``½T̂ s*² g(s*)/β₁``. Raises ValueError for a width below 1.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671, widths d = o(D) and d = Ω(D), D = L − 1.

    >>> [heat(ModeSDE(depth=1000, target=1.0, label_noise=0.5, temperature=0.1), d) for d in (1, 1000, 10**6)]
    [100.0, 0.101..., 0.000102...]
    """
    if not as_number(width, "width") >= 1:
        raise ValueError(f"width must be at least 1, got {width}; it counts subnetworks")
    return float(mode.depth * mode.temperature * width ** (2 / mode.depth - 1))


@steady
def infinite_depth(mode: ModeSDE) -> Diffusion1D:
    """The limit L → ∞ with ``T̂ = LT`` held, in ``v = log s`` and the time ``τ = Lt``; T̂ is that of ``mode``.

    ``dv = s(β₂ − β₁s) dτ + s√(T̂g) dW``, with stationary density ``∝ s^{−3}g^{−1}exp(−(2/T̂)∫(β₁s − β₂)/(s²g)ds)`` of s.
    Temperatures must fall like 1/L; d equal subnetworks have ``T̂ = LT/d``, so that only the ratio of width to depth
    matters. Raises ValueError for weight decay, which scales differently with L, or T = 0.

    >>> limit = infinite_depth(ModeSDE(depth=100, target=1.0, label_noise=0.5, temperature=1e-3))
    >>> limit.stationary().expect(np.exp)           # E[s]
    0.9862...
    """
    heat = mode.depth * mode.temperature
    if mode.weight_decay or heat == 0 or mode.vertex[1] == 0:
        raise ValueError("the limit of infinite depth needs noise at every s, T > 0 and no weight decay")

    def drift(v: Floats) -> Floats:
        return np.asarray(np.exp(v) * (mode.beta2 - mode.beta1 * np.exp(v)))

    def diffusion(v: Floats) -> Floats:
        return np.asarray(np.exp(v) * np.sqrt(heat * mode.g(np.exp(v))))

    start = float(np.log(mode.fixed_point)) if mode.fixed_point > 0 else 0.0
    return Diffusion1D(drift, diffusion, center=start, tails="exponential")


@steady
def no_law(mode: ModeSDE) -> str | None:
    """Why a mode has no stationary law on s > 0, in a sentence; None where it has one.

    Where paths cross a strength upwards (``ModeSDE.crossing``) that law is of starts above it.

    >>> no_law(ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.1, weight_decay=1e-3))
    'weight decay γ = 0.001 outweighs the pull near 0 at depth 3 at any γ > 0, and all mass ends there'
    >>> no_law(ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.1)) is None
    True
    """
    L, T, gamma = mode.depth, mode.temperature, mode.weight_decay
    if T > 0 and mode.crossing is not None and mode.crossing[1] > 0:
        return None
    if L >= 3 and gamma > 0:
        return (
            f"weight decay γ = {gamma:g} outweighs the pull near 0 at depth {L} at any γ > 0, and all mass ends there"
        )
    if L >= 2 and mode.pull[1] <= 0:
        return f"nothing holds the mode: β₂ minus weight decay is {mode.pull[1]:g}, and all mass ends at 0"
    if mode.critical_temperature <= T:
        return f"T = {T:g} is not below T_c = {mode.critical_temperature:g}, and all mass ends at 0"
    if mode.frozen:
        return "the noise vanishes at a strength, and mass ends in points (see stationary)"
    return None


def _at_depth_two(mode: ModeSDE, what: str) -> None:
    if mode.depth != 2:
        raise ValueError(f"{what}: only depth 2 has a critical temperature, got depth {mode.depth}")


def _refuse_above(mode: ModeSDE) -> None:
    if mode.crossing is not None and mode.crossing[1] > 0:
        raise ValueError(
            f"regimes are defined for laws that extend to 0, but noise vanishes at s = {mode.crossing[0]:g}, and no "
            "path returns from above"
        )


def _refuse_decay(mode: ModeSDE, what: str) -> None:
    if mode.depth >= 3 and mode.weight_decay > 0:
        raise ValueError(f"{what}, but {no_law(mode)}")
