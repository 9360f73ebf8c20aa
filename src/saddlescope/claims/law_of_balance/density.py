"""The stationary density of diagonal networks of every depth, and up to which temperature SGD has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, end, memory
from saddlescope.claims.tools import largest, power, run, same_law, smallest
from saddlescope.methods import SGD, Langevin
from saddlescope.plan import Accumulate, Plan
from saddlescope.theory import Diffusion1D, ModeSDE

DEPTHS, LABEL_NOISE = (1, 2, 3, 4), 1.0
HOT = (0.02, 0.1, 0.4)
"""Temperatures of the mode ensembles; T_c = 2/3 at depth 2."""

COLD, WARM, WARMER = (0.0025, 0.005), 0.02, 0.05
"""Temperatures at which discrete SGD is held against the law, that of Langevin dynamics, one at which SGD leaves it."""

SMALL = 0.05
"""A target s* ≪ σ, at which the law of small steps is far from Boltzmann."""

SPREAD = 0.3
"""Temperature there, as the share ``½ L T σ² s*^{2κ−2}`` that noise takes of the pull."""

Law = Callable[[ModeSDE], Any]
Samples = Sequence[tuple[ModeSDE, Floats]]


def mode(depth: int, temperature: float, target: float = 1.0) -> ModeSDE:
    """One chain at σ = 1."""
    return ModeSDE(depth=depth, target=target, label_noise=LABEL_NOISE, temperature=temperature)


def small(depth: int) -> ModeSDE:
    """One chain at s* = 0.05 and the temperature of ``SPREAD``.

    >>> round(small(2).temperature / small(2).critical_temperature, 2)
    0.15
    """
    return mode(depth, 2 * SPREAD * SMALL ** (2 / depth) / depth, SMALL)


def hotter(factor: float) -> Law:
    """The stationary law at ``factor`` times the temperature."""
    return lambda sde: replace(sde, temperature=factor * sde.temperature).stationary()


def deeper(sde: ModeSDE) -> Any:
    """The law of the next depth, with the width near s* of this one, ``L T s*^{2κ}``."""
    L, target = sde.depth + 1, sde.fixed_point
    T = sde.temperature * sde.depth / L * target ** (2 / L - 2 / sde.depth)
    return replace(sde, depth=L, temperature=T).stationary()


def deeper_at_same_heat(sde: ModeSDE) -> Any:
    """The law of the next depth with LT kept."""
    L = sde.depth + 1
    return replace(sde, depth=L, temperature=sde.temperature * sde.depth / L).stationary()


def additive(sde: ModeSDE) -> Any:
    """The law with g = σ² for g(s): noise that does not see the error."""
    moments = (0.0, 0.0, LABEL_NOISE**2, sde.beta1, sde.beta2)
    return ModeSDE(depth=sde.depth, moments=moments, temperature=sde.temperature).stationary()


def without_ito(sde: ModeSDE) -> Any:
    """The law of s at L ≥ 2 without the Itô term of its drift."""

    def drift(w: Floats) -> Floats:
        pull = L * np.exp(w * (1 - 2 / L)) * (sde.beta2 - sde.beta1 * np.exp(w))
        return np.asarray(pull - diffusion(w) ** 2 / 2)

    def diffusion(w: Floats) -> Floats:
        return np.asarray(L * np.exp(w * (1 - 2 / L)) * np.sqrt(sde.temperature * sde.g(np.exp(w))))

    L = sde.depth

    law = Diffusion1D(drift, diffusion, center=float(np.log(sde.fixed_point)), tails="exponential").stationary()
    return law.transformed(np.exp, np.log, lambda w: w)


def experiment(quick: bool) -> Evidence:
    """Ensembles of the mode SDE, of Langevin dynamics and of SGD against the law of each depth and temperature."""
    size, same = 16_384 if quick else 131_072, same_law(quick)
    cold, hot = (0.6, 1.6) if quick else (0.9, 1.1)
    hottest = [(sde, _settled(sde, 2 * size)) for sde in (mode(L, T) for L in DEPTHS for T in HOT)]
    langevin, langevin_run = _ends("Langevin", [mode(L, WARM) for L in DEPTHS], 2 * size)
    spread, spread_run = _ends("SGD", [small(L) for L in DEPTHS], 2 * size)
    frozen, frozen_run = _ends("SGD", [mode(L, T) for L in DEPTHS for T in COLD], size if quick else 4 * size)
    left, _ = _ends("SGD", [mode(L, T) for L in DEPTHS for T in (WARM, WARMER)], size)
    deep, far = [pair for pair in spread if pair[0].depth > 1], _distances(left)

    def number(name: str, samples: Samples, law: Law = ModeSDE.stationary) -> Number:
        return Number(name, largest(_distances(samples, law)), same)

    def counted(name: str, samples: Samples) -> Number:
        if quick and samples is not spread:
            return number(name, samples)
        return replace(number(name, samples), catches=power(lambda factor: number(name, samples, hotter(factor)), "T"))

    def rival(theory: str, name: str, samples: Samples, law: Law) -> Rival:
        return Rival(f"{name}: {theory}", [number("CDF difference, worst", samples, law)])

    groups = {"SDE": hottest, "Langevin": langevin, "SGD, s* = σ/20": spread, "SGD, T ≤ 0.005": frozen}
    temperatures = [
        rival(f"T × {factor}", name, samples, hotter(factor))
        for name, samples in groups.items()
        for factor in (cold, hot)
    ]
    shapes = [
        rival("g = σ²", "SDE", hottest, additive),
        rival("the next depth, as wide at s*", "SDE", hottest, deeper),
        rival("no Itô term", "SGD, s* = σ/20, L ≥ 2", deep, without_ito),
        rival("Boltzmann", "SGD, s* = σ/20, L ≥ 2", deep, ModeSDE.boltzmann),
    ]
    fine = [rival("the next depth, as wide at s*", "SGD, s* = σ/20", spread, deeper)]
    return Evidence(
        numbers=[
            counted("CDF difference to the law of its depth, mode SDE, worst of L and T", hottest),
            counted("the same, discrete SGD (B = 1), s* = σ/20, LTσ²s*^(2κ−2) = 0.6", spread),
            counted("the same, Langevin dynamics of networks, T = 0.02", langevin),
            counted("the same, discrete SGD, s* = σ, T ≤ 0.005", frozen),
            Number("discrete SGD has left the law: s* = σ, L = 4, T = 0.05", far[-1], (same[1], 1.0)),
            *(Number(f"discrete SGD, s* = σ, L = {L}, T = 0.05", far[2 * L - 1]) for L in DEPTHS[:3]),
        ],
        controls=[
            Number(
                "CDF difference to the law of the next depth at the same LT, SGD, s* = σ/20, nearest",
                smallest(_distances(spread, deeper_at_same_heat)),
                same,
            ),
            Number(
                "CDF difference to Boltzmann, SGD, s* = σ/20, L ≥ 2, nearest",
                smallest(_distances(deep, ModeSDE.boltzmann)),
                same,
            ),
            Number(
                "the same, Langevin dynamics of networks, T = 0.02, L ≥ 3, nearest",
                smallest(_distances(langevin[2:], ModeSDE.boltzmann)),
                same,
            ),
        ],
        rivals=temperatures + shapes + ([] if quick else fine),
        runs=[langevin_run, spread_run, frozen_run],
        curves={"hot": _by_key(hottest), "long": _long_run(), "same": same}
        | {"exact": list(zip(hottest, _distances(hottest), strict=True))}
        | {"discrete": list(zip(frozen + left, _distances(frozen) + far, strict=True))},
    )


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    """An ensemble after six relaxation times."""
    return np.asarray(sde.simulate(sde.fixed_point, [6 * memory(sde)], trajectories, seed=1)[:, 0])


def _distances(samples: Samples, law: Law = ModeSDE.stationary) -> list[Interval]:
    """Of every sample to the law of its mode."""
    return [intervals.distance_to_law(values, law(sde).cdf) for sde, values in samples]


def _ends(name: str, modes: Sequence[ModeSDE], trajectories: int) -> tuple[list[tuple[ModeSDE, Floats]], Run]:
    """Ends of networks after five relaxation times or more; the run is that of the last mode."""
    found = []
    for sde in modes:
        T, target = sde.temperature, sde.fixed_point
        method = SGD(T, 1) if name == "SGD" else Langevin(T, 1.0, noise="gradient", dt=T / 4)
        time = 5.0 if target == 1 else 6 * memory(sde)
        values, dataset = end(chain(sde.depth, target, LABEL_NOISE, target), method, time, trajectories)
        found.append((sde, values))
    return found, Run.of(f"{name}, L = {sde.depth}, s* = {target:g}, T = {T:.3g}", dataset)


def _by_key(samples: Samples) -> dict[tuple[int, float], Floats]:
    return {(sde.depth, sde.temperature): values for sde, values in samples}


def _long_run() -> tuple[Floats, Floats]:
    """Density of all steps of a long run of SGD at depth 2 and T = 0.02, counted on the way, and its bins."""
    counted = Accumulate(low=0.0, high=3.0, bins=60, start=1000)
    plan = Plan(steps=20_000, trajectories=64, saves=1, events=(), accumulate=counted)
    dataset = run(chain(2, 1.0, LABEL_NOISE), SGD(0.02, 1), plan)
    counts = dataset["histogram"].values[0]
    return counted.edges[1:-1], counts[1:-1] / counts.sum() / np.diff(counted.edges[1:-1])


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities of every depth, of every temperature, and the distance of SGD from the law."""
    by_depth, by_heat, distance = axes
    hot: dict[tuple[int, float], Floats] = evidence.curves["hot"]
    s, edges = np.linspace(0.005, 3.0, 600), np.linspace(0.0, 3.0, 41)
    for L, colour in zip(DEPTHS, plots.COLOURS, strict=False):
        by_depth.plot(s, mode(L, 0.1).stationary().pdf(s), color=colour, label=f"L = {L}")
        dots(by_depth, hot[L, 0.1], edges, color=colour)
    by_depth.set(title="Every depth, T = 0.1", xlabel="s", ylabel="density", xlim=(0, 3.2), ylim=(0, None))
    by_depth.legend(title="dots: the SDE", alignment="left")
    tails = np.geomspace(1e-2, 30, 400)
    for T, colour in zip(HOT, plots.COLOURS, strict=False):
        by_heat.plot(tails, mode(2, T).stationary().pdf(tails), color=colour, label=f"T = {T:g}")
        dots(by_heat, hot[2, T], np.geomspace(1e-2, 30, 31), color=colour)
    bins, density = evidence.curves["long"]
    by_heat.plot((bins[1:] + bins[:-1]) / 2, density, "s", color=plots.INK, mfc="none", ms=3.5, label="SGD, T = 0.02")
    by_heat.set(title="Depth 2: heat moves the law to 0", xlabel="s", ylabel="density", ylim=(1e-5, 1e5))
    by_heat.set(xscale="log", yscale="log")
    by_heat.legend(loc="upper right")
    for name, style in (("discrete", {}), ("exact", {"mfc": "white"})):
        for (sde, _), number in evidence.curves[name]:
            L, T = sde.depth, sde.temperature
            label = f"SGD, L = {L}" if name == "discrete" and COLD[0] == T else None
            plots.interval(distance, T * 1.06 ** (L - 2), number, color=plots.COLOURS[L - 1], label=label, **style)
    distance.axhspan(*evidence.curves["same"], color=plots.COLOURS[2], alpha=0.12, lw=0)
    distance.set(title="Distance to the law of theory", xlabel="T", ylabel="largest CDF difference", xscale="log")
    distance.set(ylim=(0, None))
    distance.legend(title="open: the SDE", loc="upper right", alignment="left")


CLAIM = Claim(
    name="stationary-density",
    title="One formula is the stationary law of every depth; SGD has it while steps are small",
    statement=(
        "The strength v = Π u_l of a balanced diagonal network of depth L = D + 1 has the stationary density p(v) ∝ "
        "v^(−3κ) g(v)⁻¹ exp(−(2/(TL)) ∫ (β₁v − β₂)/(v^(2κ) g) dv), κ = 1 − 1/L, g = α₁v² − 2α₂v + α₃: on v > 0 for L ≥ "
        "2, on all numbers for L = 1. It is the law of the Langevin model. Finding of this project: discrete SGD (B = "
        "1) has it where η s*^(2κ) ≪ 1. At s* = σ/20 that holds while noise takes a third of the pull, far from "
        "Boltzmann; at s* = σ only up to T = 0.005 for L ≤ 4 (within 0.015 in its distribution function), and at T = "
        "0.05 depth 4 has left it."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, theorem on D ≥ 0 and its figure of D = 0 … 3; Student-t at L = 1",
    method=(
        "L = 1, 2, 3, 4, σ = 1. Ensembles of the mode SDE with locally controlled steps at s* = 1 (T_c = 2/3 at L = "
        "2), after six relaxation times, at T = 0.02, 0.1, 0.4; networks with s* = 1 under Langevin dynamics (T = "
        "0.02, dt = T/4) and under discrete SGD (B = 1, η = T) until time 5, five relaxation times or more; networks "
        "with s* = 0.05 under discrete SGD at LTσ²s*^(2κ−2) = 0.6 after six relaxation times. Distribution functions "
        "are compared on independent trajectories. Which temperatures SGD still follows at s* = σ was found on "
        "prototypes. What SGD cannot tell: at s* ≪ σ g is σ² to a percent; at s* = σ the difference of g and σ² is of "
        "the order of its finite steps. Only the SDE is held against g = σ²."
    ),
    control=(
        "The law of the next depth at the same LT and the Boltzmann law must be rejected by SGD, the "
        "Boltzmann law also by networks of depth 3 and 4 under Langevin dynamics. Rivals, on the same samples: T × 0.9 "
        "and 1.1 (quick: × 0.6 and 1.6) for each ensemble; g = σ² and the next depth with the same width near s* for "
        "the SDE; no Itô term, Boltzmann and, in full, the next depth with the same width for SGD at s* = σ/20."
    ),
    caption=(
        "Densities at four depths and at three temperatures (lines: theory; dots: ensembles of the SDE with standard "
        "errors; squares: all steps of a long run of SGD); largest difference of the distribution functions of SGD "
        "(filled) and of the SDE (open) to the law, with intervals at 1 − 10⁻⁶ and the region of the claim."
    ),
    experiment=experiment,
    draw=draw,
)
