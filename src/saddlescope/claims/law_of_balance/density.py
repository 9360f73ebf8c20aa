"""The stationary density of diagonal networks of every depth, and up to which temperature SGD has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.accumulate import Accumulate
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, end, memory
from saddlescope.claims.tools import COARSE_LAW, Floats, largest, run, smallest
from saddlescope.methods import SGD, Langevin
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE

DEPTHS, LABEL_NOISE = (1, 2, 3, 4), 1.0
HOT = (0.02, 0.1, 0.4)
"""Temperatures of the mode ensembles; T_c = 2/3 at depth 2."""

COLD = (0.005, 0.01)
"""Temperatures at which discrete SGD is held against the law."""

WARMER = (0.02, 0.05)
"""Temperatures at which discrete SGD leaves the law, the deeper the sooner; Langevin dynamics has the first."""

BEYOND: Region = (COARSE_LAW[1], 1.0)


def mode(depth: int, temperature: float) -> ModeSDE:
    """One chain at s* = σ = 1."""
    return ModeSDE(depth=depth, target=1.0, label_noise=LABEL_NOISE, temperature=temperature)


def experiment(quick: bool) -> Evidence:
    """Ensembles of the mode SDE, of Langevin dynamics and of SGD against the law of each depth and temperature."""
    size = 16_384 if quick else 131_072
    hot = {(L, T): _settled(mode(L, T), 2 * size) for L in DEPTHS for T in HOT}
    langevin, langevin_run = _ends("Langevin", WARMER[:1], size)
    sgd, sgd_run = _ends("SGD", COLD + WARMER, size)
    exact = {key: _distance(sample, *key) for key, sample in hot.items()}
    discrete = {key: _distance(sample, *key) for key, sample in sgd.items()}
    deeper = [_distance(hot[L, 0.1], L + 1, 0.1) for L in DEPTHS]
    boltzmann = [intervals.distance_to_law(hot[L, 0.4], mode(L, 0.4).boltzmann().cdf) for L in DEPTHS[1:]]
    colder = [intervals.distance_to_law(langevin[L, WARMER[0]], mode(L, WARMER[0]).boltzmann().cdf) for L in (3, 4)]
    return Evidence(
        numbers=[
            Number("CDF difference to the law of its depth, worst of L and T", largest(exact.values()), COARSE_LAW),
            Number(
                "the same, Langevin dynamics of networks, T = 0.02",
                largest(_distance(sample, *key) for key, sample in langevin.items()),
                COARSE_LAW,
            ),
            Number(
                "the same, discrete SGD (B = 1), T ≤ 0.01",
                largest(discrete[L, T] for L in DEPTHS for T in COLD),
                COARSE_LAW,
            ),
            Number("discrete SGD has left the law: L = 4, T = 0.05", discrete[4, 0.05], BEYOND),
            *(Number(f"discrete SGD, L = {L}, T = 0.05", discrete[L, 0.05]) for L in DEPTHS[:3]),
        ],
        controls=[
            Number("CDF difference to the law of the next depth, T = 0.1, nearest", smallest(deeper), COARSE_LAW),
            Number("CDF difference to Boltzmann, T = 0.4, L ≥ 2, nearest", smallest(boltzmann), COARSE_LAW),
            Number("the same, Langevin dynamics of networks, T = 0.02, L ≥ 3", smallest(colder), COARSE_LAW),
        ],
        runs=[langevin_run, sgd_run],
        curves={"hot": hot, "exact": exact, "discrete": discrete, "long": _long_run()},
    )


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    """An ensemble after six relaxation times."""
    return np.asarray(sde.simulate(sde.fixed_point, [6 * memory(sde)], trajectories, seed=1)[:, 0])


def _distance(sample: Floats, depth: int, temperature: float) -> Interval:
    return intervals.distance_to_law(sample, mode(depth, temperature).stationary().cdf)


def _ends(name: str, temperatures: Sequence[float], trajectories: int) -> tuple[dict[tuple[int, float], Floats], Run]:
    """Ends of networks at time 5, by depth and temperature; the run is the deepest of the hottest."""
    found = {}
    for L in DEPTHS:
        for T in temperatures:
            method = SGD(T, 1) if name == "SGD" else Langevin(T, 1.0, noise="gradient", dt=T / 2)
            found[L, T], dataset = end(chain(L, 1.0, LABEL_NOISE), method, 5.0, trajectories)
    return found, Run.of(f"{name}, L = {L}, T = {T}", dataset)


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
    for L, colour in zip(DEPTHS, plots.COLOURS, strict=False):
        for T in COLD + WARMER:
            number, label = evidence.curves["discrete"][L, T], f"SGD, L = {L}" if COLD[0] == T else None
            plots.interval(distance, T * 1.06 ** (L - 2), number, color=colour, label=label)
        for T in HOT:
            plots.interval(distance, T * 1.06 ** (L - 2), evidence.curves["exact"][L, T], color=colour, mfc="white")
    distance.axhspan(*COARSE_LAW, color=plots.COLOURS[2], alpha=0.12, lw=0)
    distance.set(title="Distance to the law of theory", xlabel="T", ylabel="largest CDF difference", xscale="log")
    distance.set(ylim=(0, None))
    distance.legend(title="open: the SDE", loc="upper right", alignment="left")


CLAIM = Claim(
    name="stationary-density",
    title="One formula is the stationary law of every depth; SGD has it while steps are small",
    statement=(
        "The strength v = Π u_l of a balanced diagonal network of depth L = D + 1 has the stationary density p(v) ∝ "
        "v^(−3κ) g(v)⁻¹ exp(−(2/(TL)) ∫ (β₁v − β₂)/(v^(2κ) g) dv), κ = 1 − 1/L, g = α₁v² − 2α₂v + α₃: on v > 0 for L ≥ "
        "2, on all numbers for L = 1. It is the law of the Langevin model. Finding of this project: discrete SGD has "
        "it only at small T, and the deeper the network the smaller: at s* = σ = 1 and B = 1 up to T = 0.01 for L ≤ 4, "
        "while at T = 0.05 depth 4 has left it."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, theorem on D ≥ 0 and its figure of D = 0 … 3; Student-t at L = 1",
    method=(
        "L = 1, 2, 3, 4, s* = σ = 1 (T_c = 2/3 at L = 2). Ensembles of the mode SDE with locally controlled steps, "
        "after six relaxation times, at T = 0.02, 0.1, 0.4; networks under Langevin dynamics (T = 0.02, dt = T/2) and "
        "under discrete SGD (B = 1, η = T) until time 5, five relaxation times or more. Distribution functions are "
        "compared on independent trajectories. Which temperatures SGD still follows was found on prototypes."
    ),
    control=(
        "The law of the next depth and the Boltzmann law must both be rejected by the same ensembles, and the "
        "Boltzmann law by networks of depth 3 and 4 under Langevin dynamics. SGD at T ≤ 0.01 is too cold to tell them "
        "apart."
    ),
    caption=(
        "Densities at four depths and at three temperatures (lines: theory; dots: ensembles of the SDE with standard "
        "errors; squares: all steps of a long run of SGD); largest difference of the distribution functions of SGD "
        "(filled) and of the SDE (open) to the law, with intervals at 1 − 10⁻⁶ and the region of the claim."
    ),
    experiment=experiment,
    draw=draw,
)
