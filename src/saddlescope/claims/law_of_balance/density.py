"""The stationary density of diagonal networks at every depth, and the temperature up to which SGD follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
"""Temperatures at which SGD is compared with theory, that of Langevin dynamics, and one at which SGD deviates."""

SMALL = 0.05
"""A target s* ≪ σ, for which small steps give a distribution far from Boltzmann."""

SPREAD = 0.3
"""Temperature there, as the ratio ``½ L T σ² s*^{2κ−2}`` of the noise term to the drift."""

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
    """The stationary distribution at ``factor`` times the temperature."""
    return lambda sde: replace(sde, temperature=factor * sde.temperature).stationary()


def deeper(sde: ModeSDE) -> Any:
    """The distribution of the next depth with the same width near s*, ``L T s*^{2κ}``."""
    L, target = sde.depth + 1, sde.fixed_point
    T = sde.temperature * sde.depth / L * target ** (2 / L - 2 / sde.depth)
    return replace(sde, depth=L, temperature=T).stationary()


def deeper_at_same_heat(sde: ModeSDE) -> Any:
    """The distribution of the next depth at the same LT."""
    L = sde.depth + 1
    return replace(sde, depth=L, temperature=sde.temperature * sde.depth / L).stationary()


def additive(sde: ModeSDE) -> Any:
    """The distribution with g = σ² for g(s): noise that does not depend on the error."""
    moments = (0.0, 0.0, LABEL_NOISE**2, sde.beta1, sde.beta2)
    return ModeSDE(depth=sde.depth, moments=moments, temperature=sde.temperature).stationary()


def without_ito(sde: ModeSDE) -> Any:
    """The distribution of s at L ≥ 2 without the Itô term of its drift."""

    def drift(w: Floats) -> Floats:
        pull = L * np.exp(w * (1 - 2 / L)) * (sde.beta2 - sde.beta1 * np.exp(w))
        return np.asarray(pull - diffusion(w) ** 2 / 2)

    def diffusion(w: Floats) -> Floats:
        return np.asarray(L * np.exp(w * (1 - 2 / L)) * np.sqrt(sde.temperature * sde.g(np.exp(w))))

    L = sde.depth

    law = Diffusion1D(drift, diffusion, center=float(np.log(sde.fixed_point)), tails="exponential").stationary()
    return law.transformed(np.exp, np.log, lambda w: w)


def experiment(quick: bool) -> Evidence:
    """Ensembles of the mode SDE, Langevin dynamics and SGD against the predicted distribution."""
    size, same = 16_384 if quick else 131_072, same_law(quick)
    hottest = [(sde, _settled(sde, 2 * size)) for sde in (mode(L, T) for L in DEPTHS for T in HOT)]
    langevin, langevin_run = _ends("Langevin", [mode(L, WARM) for L in DEPTHS], 2 * size)
    spread, spread_run = _ends("SGD", [small(L) for L in DEPTHS], 2 * size)
    frozen, frozen_run = _ends("SGD", [mode(L, T) for L in DEPTHS for T in COLD], size if quick else 4 * size)
    left, _ = _ends("SGD", [mode(L, T) for L in DEPTHS for T in (WARM, WARMER)], size)
    deep, far = [pair for pair in spread if pair[0].depth > 1], _distances(left)
    groups = {"SDE": hottest, "Langevin": langevin, "SGD, s* = σ/20": spread, "SGD, T ≤ 0.005": frozen}
    return Evidence(
        numbers=[
            _judged("Kolmogorov distance to the prediction, mode SDE, worst of L and T", hottest, quick, not quick),
            _judged("the same, discrete SGD (B = 1), s* = σ/20, LTσ²s*^(2κ−2) = 0.6", spread, quick, True),
            _judged("the same, Langevin dynamics of networks, T = 0.02", langevin, quick, not quick),
            _judged("the same, discrete SGD, s* = σ, T ≤ 0.005", frozen, quick, not quick),
            Number("discrete SGD deviates from theory: s* = σ, L = 4, T = 0.05", far[-1], (same[1], 1.0)),
            *(Number(f"discrete SGD, s* = σ, L = {L}, T = 0.05", far[2 * L - 1]) for L in DEPTHS[:3]),
        ],
        controls=[
            Number(
                "Kolmogorov distance to the next depth at the same LT, SGD, s* = σ/20, nearest",
                smallest(_distances(spread, deeper_at_same_heat)),
                same,
            ),
            Number(
                "Kolmogorov distance to Boltzmann, SGD, s* = σ/20, L ≥ 2, nearest",
                smallest(_distances(deep, ModeSDE.boltzmann)),
                same,
            ),
            Number(
                "the same, Langevin dynamics of networks, T = 0.02, L ≥ 3, nearest",
                smallest(_distances(langevin[2:], ModeSDE.boltzmann)),
                same,
            ),
        ],
        rivals=_wrong(groups, quick),
        runs=[langevin_run, spread_run, frozen_run],
        curves={"hot": _by_key(hottest), "long": _long_run(), "same": same}
        | {"exact": list(zip(hottest, _distances(hottest), strict=True))}
        | {"discrete": list(zip(frozen + left, _distances(frozen) + far, strict=True))},
    )


def _judged(name: str, samples: Samples, quick: bool, catching: bool = False, law: Law = ModeSDE.stationary) -> Number:
    """The largest distance of samples to their distributions; if ``catching``, with the errors of T that it catches."""

    def at(law: Law) -> Number:
        return Number(name, largest(_distances(samples, law)), same_law(quick))

    return replace(at(law), catches=power(lambda factor: at(hotter(factor)), "T")) if catching else at(law)


def _wrong(groups: Mapping[str, Samples], quick: bool) -> list[Rival]:
    """The rival theories, each on one group of samples."""

    def rival(theory: str, name: str, samples: Samples, law: Law) -> Rival:
        return Rival(f"{name}: {theory}", [_judged("Kolmogorov distance, worst", samples, quick, law=law)])

    spread = groups["SGD, s* = σ/20"]
    deep = [pair for pair in spread if pair[0].depth > 1]
    return [
        *(
            rival(f"T × {factor}", name, samples, hotter(factor))
            for name, samples in groups.items()
            for factor in ((0.6, 1.6) if quick else (0.9, 1.1))
        ),
        rival("g = σ²", "SDE", groups["SDE"], additive),
        rival("the next depth, as wide at s*", "SDE", groups["SDE"], deeper),
        rival("no Itô term", "SGD, s* = σ/20, L ≥ 2", deep, without_ito),
        rival("Boltzmann", "SGD, s* = σ/20, L ≥ 2", deep, ModeSDE.boltzmann),
        *([] if quick else [rival("the next depth, as wide at s*", "SGD, s* = σ/20", spread, deeper)]),
    ]


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    """An ensemble after six relaxation times."""
    return np.asarray(sde.simulate(sde.fixed_point, [6 * memory(sde)], trajectories, seed=1)[:, 0])


def _distances(samples: Samples, law: Law = ModeSDE.stationary) -> list[Interval]:
    """Kolmogorov distance of every sample to the distribution of its mode."""
    return [intervals.distance_to_law(values, law(sde).cdf) for sde, values in samples]


def _ends(name: str, modes: Sequence[ModeSDE], trajectories: int) -> tuple[list[tuple[ModeSDE, Floats]], Run]:
    """Final strengths of networks after five relaxation times or more, and the run of the last mode."""
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
    """Bins and density of all steps of a long run of SGD at depth 2 and T = 0.02, accumulated during the run."""
    counted = Accumulate(low=0.0, high=3.0, bins=60, start=1000)
    plan = Plan(steps=20_000, trajectories=64, saves=1, events=(), accumulate=counted)
    dataset = run(chain(2, 1.0, LABEL_NOISE), SGD(0.02, 1), plan)
    counts = dataset["histogram"].values[0]
    return counted.edges[1:-1], counts[1:-1] / counts.sum() / np.diff(counted.edges[1:-1])


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities at every depth, at every temperature, and the distance of SGD from theory."""
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
    by_heat.set(title="Depth 2: heat moves mass to 0", xlabel="s", ylabel="density", ylim=(1e-5, 1e5))
    by_heat.set(xscale="log", yscale="log")
    by_heat.legend(loc="upper right")
    for name, style in (("discrete", {}), ("exact", {"mfc": "white"})):
        for (sde, _), number in evidence.curves[name]:
            L, T = sde.depth, sde.temperature
            label = f"SGD, L = {L}" if name == "discrete" and COLD[0] == T else None
            plots.interval(distance, T * 1.06 ** (L - 2), number, color=plots.COLOURS[L - 1], label=label, **style)
    distance.axhspan(*evidence.curves["same"], color=plots.COLOURS[2], alpha=0.12, lw=0)
    distance.set(title="Distance to theory", xlabel="T", ylabel="Kolmogorov distance", xscale="log")
    distance.set(ylim=(0, None))
    distance.legend(title="open: the SDE", loc="upper right", alignment="left")


CLAIM = Claim(
    name="stationary-density",
    title="One formula gives the stationary density at every depth; SGD follows it while steps are small",
    statement=(
        "The strength v = Π u_l of a balanced diagonal network of depth L (the paper counts D = L − 1) has the "
        "stationary density p(v) ∝ v^(−3κ) g(v)⁻¹ exp(−(2/(TL)) ∫ (β₁v − β₂)/(v^(2κ) g) dv), κ = 1 − 1/L, g = α₁v² − "
        "2α₂v + α₃: on v > 0 for L ≥ 2, on all real v for L = 1. This is the distribution of the Langevin model. "
        "Finding of this project: discrete SGD (B = 1) follows it where η s*^(2κ) ≪ 1. At s* = σ/20 that holds even "
        "when the noise term is a third of the drift, far from Boltzmann; at s* = σ only up to T = 0.005 for L ≤ 4 "
        "(within 0.015 in the distribution function), and at T = 0.05 depth 4 no longer does."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, theorem on D ≥ 0 and its figure of D = 0 … 3; Student-t at L = 1",
    method=(
        "L = 1, 2, 3, 4, σ = 1. Ensembles of the mode SDE with locally controlled steps at s* = 1 (T_c = 2/3 at L = "
        "2), after six relaxation times, at T = 0.02, 0.1, 0.4; networks with s* = 1 under Langevin dynamics (T = "
        "0.02, dt = T/4) and under discrete SGD (B = 1, η = T) until time 5, five relaxation times or more; networks "
        "with s* = 0.05 under discrete SGD at LTσ²s*^(2κ−2) = 0.6 after six relaxation times. Distribution functions "
        "are compared on independent trajectories. The temperatures up to which SGD follows theory at s* = σ were "
        "found in pilot runs. SGD cannot test g: at s* ≪ σ g is σ² to within a percent; at s* = σ the difference "
        "between g and σ² is of the order of its finite steps. Only the SDE is compared with g = σ²."
    ),
    control=(
        "For SGD the distribution of the next depth at the same LT and the Boltzmann distribution must be rejected; "
        "for networks of depth 3 and 4 under Langevin dynamics Boltzmann must be rejected too. Rivals, on the same "
        "samples: T × 0.9 and 1.1 (quick: × 0.6 and 1.6) for each ensemble; g = σ² and the next depth with the same "
        "width near s* for the SDE; no Itô term, Boltzmann and, in full, the next depth with the same width for SGD at "
        "s* = σ/20."
    ),
    caption=(
        "Densities at four depths and at three temperatures (lines: theory; dots: ensembles of the SDE with standard "
        "errors; squares: all steps of a long run of SGD); Kolmogorov distance of SGD (filled) and of the SDE (open) "
        "to theory, with intervals at 1 − 10⁻⁶ and the region of the claim."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Training at a constant learning rate ends in a distribution of weights, not at a point, and for diagonal "
        "linear networks this claim gives it in closed form for any depth, any temperature T = η/B at which it exists, "
        "and any data. The formula is exact for the Langevin model and holds for discrete SGD only while η s*^(2κ) is "
        "small, which for s* = σ = 1 and B = 1 means a learning rate of at most about 0.005."
    ),
    equations=(
        (
            r"p(v)\propto\frac{v^{-3\kappa}}{g(v)}\,\exp\left(-\frac{2}{TL}\int\frac{\beta_1v-\beta_2}{v^{2\kappa}g(v)}\,dv\right),\quad\kappa=1-\frac{1}{L}"
        ),
        r"g(v)=\alpha_1v^2-2\alpha_2v+\alpha_3",
        (
            r"\alpha_1=\operatorname{Var}[x^2],\quad\alpha_2=\operatorname{Cov}[x^2,xy],\quad\alpha_3=\operatorname{Var}[xy],\quad\beta_1=\mathbb{E}[x^2],\quad\beta_2=\mathbb{E}[xy]"
        ),
    ),
    proved=(
        "Ziyin, Li & Ueda derive the density in the Langevin model for balanced diagonal networks of any depth. At L = "
        "2 it can be normalised only for T < T_c (claim phase-transition). At L = 1 with Gaussian data it is a "
        "Student-t distribution."
    ),
    unknown=(
        "No theorem covers discrete SGD: the range in which it follows the formula was measured, at B = 1 on Gaussian "
        "data. In that range SGD cannot tell g from the constant σ², so only the SDE tests how the noise depends on "
        "the strength. At L ≥ 2 SGD on Gaussian inputs leaves this distribution in the end (claim metastable)."
    ),
    related=("stationary-law", "phase-transition", "tail-exponents", "metastable"),
)
