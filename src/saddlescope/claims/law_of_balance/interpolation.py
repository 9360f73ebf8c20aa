"""Interpolation: if the noise vanishes at one strength, the distribution lies on one side of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, end
from saddlescope.claims.tools import around, power, same_law
from saddlescope.data import Dataset
from saddlescope.init import Given
from saddlescope.methods import SGD, Langevin
from saddlescope.networks import Diagonal
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE, mode_sde

DECAYED = ModeSDE(depth=2, target=1.0, label_noise=0.0, temperature=0.2, weight_decay=0.1)
"""No label noise: g vanishes at s* = 1, and weight decay pulls below it."""

MEDIAN, TIME = 0.9171, 60.0
"""Median of its stationary distribution, and a time at which ensembles have reached it (over 35 relaxation times)."""

INPUTS, SLOPE, OFFSET = np.array([0.4, 0.8, 1.6]), 1.0, 0.1
"""Inputs ± x of the data ``y = kx − c/x``, whose noise vanishes at k, and their k and c."""

WARM, STEP = 0.2, 0.1
"""Temperature of the networks on these data, and η at which SGD deviates from theory."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Strengths of the SDE with weight decay and, by depth, of networks on y = kx − c/x."""

    sde: Floats
    fitted: dict[int, Floats]
    quick: bool

    def decayed(self, mode: ModeSDE) -> Number:
        """The ensemble of the SDE against the distribution of this mode."""
        name = "σ = 0, γ = 0.1, T = 0.2, mode SDE: Kolmogorov distance to theory on (0, s*)"
        return Number(name, _to(self.sde, mode), same_law(self.quick))

    def heated(self, factor: float) -> Number:
        """The same at ``factor`` times the temperature."""
        return self.decayed(replace(DECAYED, temperature=factor * DECAYED.temperature))

    def slowed(self, factor: float) -> Number:
        """The same at ``factor`` times the weight decay."""
        return self.decayed(replace(DECAYED, weight_decay=factor * DECAYED.weight_decay))

    def on_data(self, L: int, factor: float = 1.0) -> Number:
        """Networks on y = kx − c/x against the distribution at ``factor`` times the temperature."""
        mode = replace(_mode(L), temperature=factor * WARM)
        name = f"y = kx − c/x, L = {L}, Langevin: Kolmogorov distance to theory below k"
        return Number(name, _to(self.fitted[L], mode), same_law(self.quick))


def experiment(quick: bool) -> Evidence:
    """Ensembles with weight decay and on data y = kx − c/x against the distribution on one side of k."""
    size, same = 32_768 if quick else 262_144, same_law(quick)
    sde = np.asarray(DECAYED.simulate(DECAYED.fixed_point, [TIME], size, seed=1)[:, 0])
    problem, noisy = chain(2, DECAYED.fixed_point, 0.0), _langevin(DECAYED.temperature, DECAYED.weight_decay)
    networks, networks_run = end(problem, noisy, TIME, size)
    found, runs = {}, [Run.of("Langevin with weight decay", networks_run)]
    for L in (1, 2):
        found[L], dataset = end(fitting(L), _langevin(WARM), TIME, size)
        runs.append(Run.of(f"Langevin on y = kx − c/x, L = {L}", dataset))
    sgd, dataset = end(problem, SGD(STEP, 1, weight_decay=DECAYED.weight_decay), TIME, size)
    runs.append(Run.of("SGD with weight decay", dataset))
    measured = Measured(sde, found, quick)
    below = np.concatenate([sde, networks, *found.values()])
    return Evidence(
        numbers=[
            replace(measured.decayed(DECAYED), catches=f"{power(measured.heated, 'T')}, {power(measured.slowed, 'γ')}"),
            Number("the same, Langevin dynamics of networks", _to(networks, DECAYED), same),
            Number(f"median of the SDE minus {MEDIAN}", intervals.median(sde) - MEDIAN, around(0.0, 0.003)),
            *(replace(measured.on_data(L), catches=power(partial(measured.on_data, L), "T")) for L in found),
            Number("largest strength of all these, minus k", intervals.exact(below.max() - 1), (-np.inf, 0.0)),
            Number(
                "SGD, σ = 0, γ = 0.1, B = 1, η = 0.1: fraction beyond s*", intervals.proportion(sgd > 1), (0.01, 1.0)
            ),
            Number("the same: Kolmogorov distance to theory", _to(sgd, DECAYED_BY_SGD)),
        ],
        controls=[
            Number(
                "Kolmogorov distance to a point mass at s*, as without decay",
                _to(sde, replace(DECAYED, weight_decay=0.0)),
                same,
            ),
            Number(
                "Kolmogorov distance to Boltzmann at β₂/β₁, as for noise that does not vanish",
                intervals.distance_to_law(sde, DECAYED.boltzmann().cdf),
                same,
            ),
            Number("y = kx − c/x, L = 1: Kolmogorov distance to theory for L = 2", _to(found[1], _mode(2)), same),
        ],
        rivals=_wrong(measured),
        runs=runs,
        curves={"sde": sde, "sgd": sgd, "found": found},
    )


def _wrong(measured: Measured) -> list[Rival]:
    """The rival theories."""
    cold, hot = (0.5, 2.0) if measured.quick else (0.8, 1.25)
    beyond = Number("fraction beyond s*", intervals.proportion(measured.sde > 1), (0.01, 1.0))
    return [
        Rival(f"T × {cold}", [measured.heated(cold)]),
        Rival(f"T × {hot}", [measured.heated(hot)]),
        Rival("γ × 0.9", [measured.slowed(0.9)]),
        Rival("γ × 1.1", [measured.slowed(1.1)]),
        *(
            Rival(f"T × {factor}, y = kx − c/x, L = {L}", [measured.on_data(L, factor)])
            for L in measured.fitted
            for factor in (cold, hot)
        ),
        Rival("mass on both sides of s*", [beyond]),
    ]


DECAYED_BY_SGD = replace(DECAYED, temperature=STEP)


def fitting(depth: int) -> Problem:
    """A balanced chain on the data ``y = kx − c/x``, from k − c/E[x²].

    >>> mode_sde(fitting(2), _langevin(0.2), 0).crossing
    (1.0, -1)
    """
    x = np.concatenate([INPUTS, -INPUTS])[:, None]
    start = SLOPE - OFFSET / float((x**2).mean())
    return Problem(
        Diagonal(depth), Dataset(x, SLOPE * x - OFFSET / x), Given((np.array([[start ** (1 / depth)]]),) * depth)
    )


def _mode(depth: int) -> ModeSDE:
    return mode_sde(fitting(depth), _langevin(WARM), 0)


def _langevin(temperature: float, decay: float = 0.0) -> Langevin:
    return Langevin(temperature, 1.0, noise="gradient", dt=0.01, weight_decay=decay)


def _to(sample: Floats, mode: ModeSDE) -> Interval:
    return intervals.distance_to_law(sample, mode.stationary().cdf)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Density with decay, densities on y = kx − c/x, quantiles against T."""
    decay, data, heat = axes
    s, edges = np.linspace(0.5, 1.199, 400), np.linspace(0.5, 1.2, 36)
    decay.plot(s, DECAYED.stationary().pdf(s), color=plots.COLOURS[0], label="theory on (0, s*)")
    dots(decay, evidence.curves["sde"], edges, color=plots.COLOURS[0], label="mode SDE")
    dots(decay, evidence.curves["sgd"], edges, color=plots.COLOURS[1], label=f"SGD, B = 1, η = {STEP:g}")
    decay.plot(s, DECAYED.boltzmann().pdf(s), color=plots.GREY, ls=":", label="Boltzmann")
    decay.set(title="No label noise, weight decay", xlabel="s / s*", ylabel="density")
    for L, sample in evidence.curves["found"].items():
        data.plot(s, _mode(L).stationary().pdf(s), color=plots.COLOURS[L], label=f"L = {L}")
        dots(data, sample, edges, color=plots.COLOURS[L])
    data.set(title="y = kx − c/x", xlabel="s / k", ylabel="density")
    temperatures = np.linspace(0.02, 0.85, 30)
    laws = [replace(DECAYED, temperature=float(T)).stationary() for T in temperatures]
    for level, colour in zip((0.1, 0.5, 0.9), plots.COLOURS, strict=False):
        heat.plot(temperatures, [float(law.ppf(level)) for law in laws], color=colour, label=f"{level:.0%}")
        plots.interval(heat, 0.2, intervals.exact(np.quantile(evidence.curves["sde"], level)), color=colour)
    heat.axhline(1, color=plots.GREY, lw=0.8, ls=":")
    heat.set(title="Quantiles against T", xlabel="T", ylabel="s / s*", ylim=(0, 1.05))
    for panel, title in zip(axes, (None, "dots: networks", "dots: mode SDE"), strict=True):
        panel.legend(loc="upper left" if panel is not heat else "lower left", title=title, alignment="left")


CLAIM = Claim(
    name="interpolation",
    title="If the noise vanishes at one strength, the stationary distribution lies on one side of it",
    statement=(
        "If at one strength v = k all samples have the same gradient, but the mean gradient (with weight decay) is not "
        "zero there, then g(v) = α₁(v − k)² and the stationary distribution of the Langevin model has a density on one "
        "side of k only, the side the drift points to: with σ = 0 and weight decay on (0, s*), at L = 2 as long as T < "
        "T_c(γ), and for data y = kx − c/x below k. At L = 2, s* = 1, T = 0.2, γ = 0.1 its quantiles at 10, 50 and 90 "
        "% are 0.8158, 0.9171, 0.9566. Finding of this project: single steps of discrete SGD cross k."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, interpolation and its table of y = kx − c/x; the numbers are this "
        "project's"
    ),
    method=(
        "Ensembles from β₂/β₁ at t = 60: the mode SDE and networks under Langevin dynamics (dt = 0.01) with σ = 0, γ = "
        "0.1, T = 0.2 at L = 2; networks under Langevin dynamics at L = 1 and 2 on six samples y = kx − c/x with x = "
        "±0.4, ±0.8, ±1.6, k = 1, c = 0.1, T = 0.2; discrete SGD with B = 1, η = 0.1, γ = 0.1. Distribution functions "
        "are compared with theory. Langevin networks stay below k although their steps are finite."
    ),
    control=(
        "The distribution without decay, a point mass at s*, and Boltzmann must be refuted, and so must the "
        "distribution of L = 2 at L = 1. Rivals, on the same samples: T × 0.8 and 1.25 (quick: 0.5 and 2), γ × 0.9 and "
        "1.1, mass beyond s*."
    ),
    caption=(
        "Density with decay (line), ensembles of the SDE and of discrete SGD (dots); densities on y = kx − c/x at L = "
        "1 and 2 (lines: theory; dots: networks under Langevin dynamics); quantiles against temperature (lines: "
        "theory)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "A model that fits every sample exactly has no gradient noise at the fit, but with weight decay the mean "
        "gradient does not vanish there, so training settles elsewhere. In the Langevin model it then fluctuates below "
        "the fit and never crosses it (at depth 2 with γ = 0.1 and T = 0.2 half of the strengths lie below 0.917 s*), "
        "whereas discrete SGD crosses it in single steps."
    ),
    equations=(
        r"g(v)=\alpha_1(v-k)^2,\quad P(v<k)=1\quad(\beta_2<\beta_1k)",
        (
            r"p(v)\propto\frac{v^{-3\kappa}}{(v-k)^2}\,\exp\left(-\frac{2}{TL}\int\frac{\beta_1v-\beta_2}{v^{2\kappa}\alpha_1(v-k)^2}\,dv\right)\quad(v<k)"
        ),
        r"y=kx-\frac{c}{x}",
    ),
    proved=(
        "At k the diffusion vanishes while the drift points to one side, so paths of the Langevin model do not cross "
        "it. Ziyin, Li & Ueda describe this interpolation, with y = kx − c/x as an example. At L = 2 weight decay puts "
        "β₂ − γ in place of β₂; the quantiles, by quadrature, are this project's."
    ),
    unknown=(
        "For SGD only the crossing is judged, at one learning rate; its distribution is not predicted. Depths above 2, "
        "and models that fit nearly every sample, are not tested."
    ),
    related=("stationary-density", "stationary-law", "phase-transition", "finite-data"),
)
