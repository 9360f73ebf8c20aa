"""Infinite depth: only the ratio of width to depth matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, end, memory
from saddlescope.claims.tools import around, largest, power, same_law
from saddlescope.methods import SGD, Langevin
from saddlescope.theory import Density, ModeSDE, mode_sde
from saddlescope.theory.mode.phases import infinite_depth

LABEL_NOISE, HEAT, WIDTH = 1.0, 0.05, 4
"""T̂ = LT/d of the mode ensembles, and their width d; s* = 1."""

DEPTHS, DEEPEST = (4, 8, 16, 32, 128), 128
APPROACH = ((8, 4), (16, 16), (32, 64))
"""Depth and width of the ensembles that measure the approach to the limit."""

FAR = 512
"""A depth at which ``L × excess`` has reached its limit."""

NETWORKS, RATE = ((8, 4), (12, 6), (16, 8)), 0.01
"""Depth and width of the networks trained by SGD, all with the same ratio, and their learning rate; B = 1."""


def limit(heat: float) -> Density:
    """The distribution of log v at infinite depth and T̂ = ``heat``."""
    return infinite_depth(ModeSDE(100, target=1.0, label_noise=LABEL_NOISE, temperature=heat / 100)).stationary()


def chains_sde(depth: int, width: int, temperature: float) -> ModeSDE:
    """The SDE of ``width`` equal chains: T and t are scaled by d^(2/L−1) relative to one chain."""
    method = Langevin(temperature, 1.0, noise="gradient")
    return mode_sde(chain(depth, 1.0, LABEL_NOISE, width=width), method, 0)


@dataclass(frozen=True, eq=False)
class Measured:
    """Strengths of ensembles by depth, of those that approach the limit, and of SGD, the latter by depth and width."""

    hot: dict[int, Floats]
    near: dict[tuple[int, int], Floats]
    sgd: dict[tuple[int, int], Floats]
    quick: bool

    def deepest(self, factor: float) -> Number:
        """The deepest ensemble against the limit at ``factor`` times the temperature."""
        name = f"L = {DEEPEST}, d = 4: Kolmogorov distance to the limit"
        return Number(name, to_limit(self.hot[DEEPEST], factor * HEAT), same_law(self.quick))

    def networks(self, scale: Callable[[int, int], float]) -> Number:
        """SGD against the distribution at finite depth and ``scale`` times the temperature."""
        laws = {(L, d): chains_sde(L, d, RATE * scale(L, d)).stationary() for L, d in NETWORKS}
        worst = largest(intervals.distance_to_law(sample, laws[key].cdf) for key, sample in self.sgd.items())
        name = "SGD, d/L = 1/2: Kolmogorov distance to the distribution with d^(2/L−1), worst"
        return Number(name, worst, same_law(self.quick))

    def approaching(self, theory: Callable[[int, int], float], name: str) -> Number:
        """Excess fraction of ensembles over that of this theory."""
        worst = largest((excess(self.near[L, d]) / theory(L, d) for L, d in APPROACH), 1.0)
        return Number(name, worst, around(1.0, 0.35 if self.quick else 0.15))


def experiment(quick: bool) -> Evidence:
    """Mode ensembles and networks of growing depth against the limit, and the rate at which they approach it."""
    size, same = 16_384 if quick else 131_072, same_law(quick)
    hot = {L: _settled(chains_sde(L, WIDTH, HEAT * WIDTH / L), 2 * size) for L in DEPTHS}
    near = {(L, d): _settled(chains_sde(L, d, HEAT * d / L), 2 * size) for L, d in APPROACH}
    wider = _settled(chains_sde(DEEPEST, 2 * WIDTH, HEAT * WIDTH / DEEPEST), 2 * size)
    found = {L: to_limit(sample, HEAT) for L, sample in hot.items()}
    sgd, runs = {}, []
    for L, d in NETWORKS:
        time = 6 * memory(chains_sde(L, d, RATE))
        sgd[L, d], dataset = end(chain(L, 1.0, LABEL_NOISE, width=d), SGD(RATE, 1), time, size)
        runs.append(Run.of(f"SGD, L = {L}, d = {d}", dataset))
    measured = Measured(hot, near, sgd, quick)
    alone, each = approach(1), (approach(4) - approach(1)) / np.log(4)
    return Evidence(
        numbers=[
            replace(measured.deepest(1.0), catches=power(measured.deepest, "T̂")),
            replace(
                measured.networks(_always(1.0)), catches=power(lambda factor: measured.networks(_always(factor)), "T")
            ),
            measured.approaching(
                lambda L, d: (alone + each * np.log(d)) / L,
                f"excess over the limit over ({alone:.3f} + {each:.3f} log d)/L, farthest from 1",
            ),
            Number(
                "theory: L × excess at d = 64 over the log d extrapolation from d = 1 and 4",
                intervals.exact(approach(64) / (alone + each * np.log(64))),
                around(1.0, 0.03),
            ),
            *(Number(f"L = {L}, d = 4: Kolmogorov distance to the limit", found[L]) for L in DEPTHS[:-1]),
        ],
        controls=[
            Number("L = 4, d = 4: Kolmogorov distance to the limit", found[4], same),
            Number(f"L = {DEEPEST} at the same T, twice as wide: the same", to_limit(wider, HEAT), same),
        ],
        rivals=_wrong(measured, alone, each),
        runs=runs,
        curves={"hot": hot, "found": found},
    )


def _wrong(measured: Measured, alone: float, each: float) -> list[Rival]:
    """The rival theories; the excess is (``alone`` + ``each`` log d)/L."""
    temperatures, excess_over = (0.6, 1.6) if measured.quick else (0.9, 1.1), "excess over that"
    approaches: dict[str, tuple[Callable[[int, int], float], str]] = {
        "the limit is approached as 1/L for every d": (lambda L, d: alone / L, excess_over),
        "approached as log(d)/L²": (
            lambda L, d: 16 * each * np.log(d) / L**2,
            f"{excess_over}, equal at L = 16",
        ),
        "approached as log(d)²/L": (
            lambda L, d: each * np.log(d) ** 2 / np.log(16) / L,
            f"{excess_over}, equal at d = 16",
        ),
        "the factor is d^(1/L)": (lambda L, d: (alone + each * np.log(d) / 2) / L, excess_over),
    }
    return [
        *(Rival(f"T̂ × {factor} at the limit", [measured.deepest(factor)]) for factor in temperatures),
        *(Rival(f"T × {factor} for SGD", [measured.networks(_always(factor))]) for factor in temperatures),
        Rival("T̂ = LT/d at finite depth, no factor d^(2/L)", [measured.networks(lambda L, d: d ** (-2 / L))]),
        Rival("T̂ = LT: width does not matter", [measured.networks(lambda L, d: d ** (1 - 2 / L))]),
        *(Rival(theory, [measured.approaching(law, name)]) for theory, (law, name) in approaches.items()),
    ]


def _always(factor: float) -> Callable[[int, int], float]:
    return lambda L, d: factor


def central(heat: float) -> Floats:
    """The ends of the central 68 % of v at infinite depth."""
    return np.exp(np.asarray(limit(heat).ppf([0.16, 0.84])))


def excess(sample: Floats) -> Interval:
    """Fraction of strengths outside the central 68 % of the limit, minus 32 %; it grows with temperature."""
    low, high = central(HEAT)
    return intervals.proportion((sample < low) | (sample > high)) - 0.32


def approach(width: int) -> float:
    """``L ×`` that excess in the exact distribution of ``width`` chains, at a depth where it has converged."""
    law = chains_sde(FAR, width, HEAT * width / FAR).stationary()
    low, high = central(HEAT)
    return FAR * (1 - 0.32 - float(law.cdf(high) - law.cdf(low)))


def to_limit(sample: Floats, heat: float) -> Interval:
    """Kolmogorov distance of strengths to the limit, on log v; values of 0 are raised to 1e-99."""
    return intervals.distance_to_law(np.log(np.maximum(sample, 1e-99)), limit(heat).cdf)


def distance(depth: int, width: int, heat: float) -> float:
    """The same distance for the stationary distribution of equal chains at T = T̂d/L."""
    levels = np.linspace(1e-3, 1 - 1e-3, 400)
    law = chains_sde(depth, width, heat * width / depth).stationary()
    return float(np.abs(limit(heat).cdf(np.log(law.ppf(levels))) - levels).max())


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    return np.asarray(sde.simulate(1.0, [6 * memory(sde)], trajectories, seed=1)[:, 0], float)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities approaching the limit, distances to it, means with and without scaling the width."""
    density, far, mean = axes
    v, edges = np.linspace(0.02, 2.2, 300), np.linspace(0, 2.2, 34)
    for L, colour in zip((4, 16, 128), plots.COLOURS, strict=False):
        law = chains_sde(L, WIDTH, HEAT * WIDTH / L).stationary()
        density.plot(v, law.pdf(v), color=colour, label=f"L = {L}")
        dots(density, evidence.curves["hot"][L], edges, color=colour)
    density.plot(v, limit(HEAT).pdf(np.log(v)) / v, color=plots.INK, ls="--", lw=1.2, label="L → ∞")
    density.set(title="LT/d = 0.05, d = 4", xlabel="v", ylabel="density", xlim=(0, 2.2), ylim=(0, None))
    density.legend()
    depths = np.array([3, 4, 6, 8, 12, 16, 32, 64, 100])
    for width, colour in zip((1, 4, 16), plots.COLOURS, strict=False):
        far.plot(depths, [distance(int(L), width, HEAT) for L in depths], color=colour, label=f"d = {width}")
    for L, number in evidence.curves["found"].items():
        plots.interval(far, L, number, color=plots.INK)
    far.set(title="Distance to the limit", xlabel="depth L", ylabel="Kolmogorov distance")
    far.set(xscale="log", yscale="log", ylim=(2e-3, 1.2))
    far.legend(title="lines: theory", loc="upper right", alignment="left")
    temperature, doubled = 1 / 8, 2 ** np.arange(2, 8)
    for name, widths, colour in (
        ("d = L/4", doubled // 4, plots.COLOURS[0]),
        ("d = 4", np.full(6, WIDTH), plots.COLOURS[1]),
    ):
        laws = [chains_sde(int(L), int(d), temperature).stationary() for L, d in zip(doubled, widths, strict=True)]
        mean.plot(doubled, [law.mean() for law in laws], color=colour, label=name)
    mean.axhline(float(limit(0.5).expect(np.exp)), color=plots.INK, ls="--", lw=1.2, label="L → ∞ at LT/d = ½")
    mean.set(title="Widen as you deepen, T = 1/8", xlabel="depth L", ylabel="E[v]", xscale="log", ylim=(0, 1))
    for panel in (far, mean):
        panel.minorticks_off()
        panel.set_xticks([4, 8, 16, 32, 64, 128], ["4", "8", "16", "32", "64", "128"])
    mean.legend(loc="lower left")


CLAIM = Claim(
    name="deep-limit",
    title="In the deep limit only the ratio of width to depth matters",
    statement=(
        "For d equal balanced chains of depth L → ∞ the stationary distribution of v depends on T, d and L through T̂ "
        "= LT/d alone: p(v) ∝ v⁻³ g(v)⁻¹ exp(−(2/T̂) ∫ (β₁v − β₂)/(v² g) dv). Deeper networks at the same learning "
        "rate need proportionally more width. Findings of this project: at finite depth T̂ is L T d^(2/L−1), so the "
        "limit is approached as (c₁ + c₂ log d)/L; c₁ is small, and SGD has the distribution predicted at finite "
        "depth."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, the limit D → ∞ and its scaling d/D; the factor is this project's",
    method=(
        "s* = σ = 1. Ensembles of the mode SDE of four chains at T̂ = 0.05 and depths 4 to 128, after six relaxation "
        "times; Diagonal networks of depth 8, 12, 16 and width L/2 under discrete SGD with the same learning rate 0.01 "
        "(B = 1, T̂ = 0.02) are compared with the distribution at finite depth. Approach to the limit: fraction of "
        "strengths outside the central 68 % of the limit, above 32 %, at L, d = 8, 4 and 16, 16 and 32, 64; c₁ and c₂ "
        "come from the exact distribution at L = 512 and d = 1, 4."
    ),
    control=(
        "Depth 4 must not be at the limit, nor depth 128 at the same temperature and twice the width. Rivals, on the "
        "same samples: T × 0.9 and 1.1 (quick: 0.6 and 1.6), no factor d^(2/L) and no width for SGD; for the approach "
        "1/L, log(d)/L², log(d)²/L and half the factor."
    ),
    caption=(
        "Densities approaching the limit (lines: theory; dots: ensembles); Kolmogorov distance to the limit (lines: "
        "theory; dots: ensembles with d = 4); mean strength at T = 1/8 at fixed width and with the width proportional "
        "to the depth (theory)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "To a diagonal linear network the same learning rate is hotter if the network is deeper and colder if it is "
        "wider: in the deep limit only LT/d counts, with depth L and width d. A network that is deepened at fixed "
        "learning rate and batch size therefore needs a width that grows in proportion, or a learning rate that falls "
        "like 1/L, to keep the same fluctuations."
    ),
    equations=(
        (
            r"p(v)\propto\frac{v^{-3}}{g(v)}\,\exp\left(-\frac{2}{\hat{T}}\int\frac{\beta_1v-\beta_2}{v^2g(v)}\,dv\right),\quad\hat{T}=\frac{LT}{d}"
        ),
        r"\hat{T}=L\,T\,d^{2/L-1}\quad(L<\infty)",
        r"\text{distance to the limit}\approx\frac{c_1+c_2\,\log\,d}{L}",
    ),
    proved=(
        "Ziyin, Li & Ueda take the limit of infinite depth of the stationary density, for equal balanced chains in the "
        "Langevin model. The factor at finite depth is this project's: d equal chains follow the SDE of one, with time "
        "and temperature multiplied by d^(2/L−1). The constants c₁ and c₂ are computed from the exact density."
    ),
    unknown=(
        "SGD, at depths 8 to 16, is compared with the distribution at finite depth, not with the limit. All chains are "
        "equal from the start. Dense layers, and initial scales or learning rates that depend on the width, are not "
        "covered."
    ),
    related=("wide-and-deep", "width", "stationary-density", "depths"),
)
