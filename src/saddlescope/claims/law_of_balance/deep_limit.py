"""Infinite depth: only the ratio of width to depth matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, end, memory
from saddlescope.claims.tools import COARSE_LAW, Floats, largest
from saddlescope.methods import SGD, Langevin
from saddlescope.theory import Density, ModeSDE, mode_sde
from saddlescope.theory.phases import infinite_depth

LABEL_NOISE, HEAT, WIDTH = 1.0, 0.05, 4
"""T̂ = LT/d of the mode ensembles, and their width d; s* = 1."""

DEPTHS, DEEPEST = (4, 8, 16, 32, 64), 64
NETWORKS, RATE = ((8, 1), (16, 2), (32, 4)), 0.0025
"""Depth and width of the networks trained by SGD, all with the same ratio, and their learning rate, B = 1."""


def limit(heat: float) -> Density:
    """The law of log v at infinite depth and T̂ = ``heat``."""
    return infinite_depth(ModeSDE(100, target=1.0, label_noise=LABEL_NOISE, temperature=heat / 100)).stationary()


def chains_sde(depth: int, width: int, temperature: float) -> ModeSDE:
    """The SDE of ``width`` equal chains: T and t run d^(2/L−1) times as fast as those of one."""
    method = Langevin(temperature, 1.0, noise="gradient")
    return mode_sde(chain(depth, 1.0, LABEL_NOISE, width=width), method, 0)


def experiment(quick: bool) -> Evidence:
    """Mode ensembles and networks of growing depth against the limit."""
    size = 16_384 if quick else 65_536
    hot = {L: _settled(chains_sde(L, WIDTH, HEAT * WIDTH / L), 2 * size) for L in DEPTHS}
    wider = _settled(chains_sde(DEEPEST, 4 * WIDTH, HEAT * WIDTH / DEEPEST), 2 * size)
    found = {L: to_limit(sample, HEAT) for L, sample in hot.items()}
    networks, own, runs = {}, {}, []
    for L, d in NETWORKS:
        sde = chains_sde(L, d, RATE)
        time = 6 * memory(sde)
        strengths, dataset = end(chain(L, 1.0, LABEL_NOISE, width=d), SGD(RATE, 1), time, size)
        networks[L] = to_limit(strengths, RATE * L / d)
        own[L] = intervals.distance_to_law(strengths, sde.stationary().cdf)
        runs.append(Run.of(f"SGD, L = {L}, d = {d}", dataset))
    return Evidence(
        numbers=[
            Number("L = 64, d = 4: CDF difference to the limit", found[DEEPEST], COARSE_LAW),
            Number("SGD, L = 32, d = 4: CDF difference to the limit", networks[32], COARSE_LAW),
            Number("SGD, d/L = 1/8: CDF difference to the law with d^(2/L−1)", largest(own.values()), COARSE_LAW),
            *(Number(f"L = {L}, d = 4: CDF difference to the limit", found[L]) for L in DEPTHS[:-1]),
        ],
        controls=[
            Number("L = 4, d = 4: is at the limit", found[4], COARSE_LAW),
            Number("L = 64 at the same T, four times as wide: is at it", to_limit(wider, HEAT), COARSE_LAW),
        ],
        runs=runs,
        curves={"hot": hot, "found": found},
    )


def to_limit(sample: Floats, heat: float) -> Interval:
    """Largest CDF difference of strengths to the limit; one that a far excursion threw to 0 counts as one."""
    return intervals.distance_to_law(np.log(np.maximum(sample, 1e-99)), limit(heat).cdf)


def distance(depth: int, width: int, heat: float) -> float:
    """The same of the stationary law of equal chains at T = T̂d/L."""
    levels = np.linspace(1e-3, 1 - 1e-3, 400)
    law = chains_sde(depth, width, heat * width / depth).stationary()
    return float(np.abs(limit(heat).cdf(np.log(law.ppf(levels))) - levels).max())


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    return np.asarray(sde.simulate(1.0, [6 * memory(sde)], trajectories, seed=1)[:, 0], float)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities on the way to the limit, distances to it, means with and without scaling."""
    density, far, mean = axes
    v, edges = np.linspace(0.02, 2.2, 300), np.linspace(0, 2.2, 34)
    for L, colour in zip((4, 16, 64), plots.COLOURS, strict=False):
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
    far.set(title="Distance to the limit", xlabel="depth L", ylabel="largest CDF difference")
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
        "For d equal balanced chains of depth L → ∞ the stationary law of v depends on T, d and L through T̂ = LT/d "
        "alone: p(v) ∝ v⁻³ g(v)⁻¹ exp(−(2/T̂) ∫ (β₁v − β₂)/(v² g) dv). Deeper networks at the same learning rate need "
        "width in proportion. Finding of this project: at finite depth T̂ is L T d^(2/L−1), so that the limit is "
        "approached like log(d)/L, and for d = 1 like 1/L."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, the limit D → ∞ and its scaling d/D; the factor is this project's",
    method=(
        "s* = σ = 1. Ensembles of the mode SDE of four chains at T̂ = 0.05 and depths 4 to 64, after six relaxation "
        "times; Diagonal networks of depth 8, 16, 32 and width L/8 under discrete SGD with the same learning rate "
        "0.0025 (B = 1, T̂ = 0.02). Distribution functions are compared with that of the limit, and for SGD also with "
        "the law at finite depth."
    ),
    control="Depth 4 must not be at the limit, nor depth 64 at the same temperature and four times the width.",
    caption=(
        "Densities on the way to the limit (lines: theory; dots: ensembles); largest difference of the distribution "
        "functions to that of the limit (lines: theory; dots: ensembles with d = 4); mean strength at T = 1/8 with the "
        "width held and with the width growing like the depth (theory)."
    ),
    experiment=experiment,
    draw=draw,
)
