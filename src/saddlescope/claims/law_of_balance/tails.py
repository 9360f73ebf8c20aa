"""Tails: the exponent −5 + 3/L at every temperature and on all data, and a different one at depth 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, dots, hill, memory
from saddlescope.claims.tools import NEVER, around, largest, run
from saddlescope.methods import SGD
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.discrete import sgd_tail
from saddlescope.theory.mode.phases import tail_exponent

DEPTHS, TEMPERATURES = (2, 3, 4, 6), (0.3, 1.0, 3.0)
DATA = {"independent": (10.0, 0.0, 0.3, 1.0, 1.0), "correlated": (10.0, 1.0, 0.5, 1.0, 1.0)}
"""Moments α₁, α₂, α₃, β₁, β₂ of x² and xy, with tails from s = 1 on at these temperatures."""

OTHER, BEYOND, LOOKS = "correlated", 1.0, np.arange(4.0, 14.0, 0.1)
SHALLOW, FAR = (0.15, 0.4), 3.0
"""At depth 1: temperatures, and the distance from β₂/β₁ at which the tail starts to be counted."""

COLD, LIMIT = TEMPERATURES[0], 100.0
"""Temperature at which all depths are compared with theory; strength at which the exact tail is at its limit."""

STEPS, OUT = ((0.9, 1), (2 / 3, 1), (1.5, 4)), 10.0
"""η and B of SGD at depth 1, and the distance |v − s*| beyond which its tail is counted, in units of σ = s*."""

HOT, UNTIL = 0.3, 50.0
"""Temperature and time at which networks of depth 2 diverge under SGD."""


def mode(depth: int, temperature: float, data: str = "independent") -> ModeSDE:
    """One chain on these data."""
    return ModeSDE(depth=depth, moments=DATA[data], temperature=temperature)


@dataclass(frozen=True, eq=False)
class Measured:
    """Exponents of ensembles by depth and temperature, on other data, at depth 1, and of SGD by η and B."""

    found: dict[tuple[int, float], Interval]
    others: dict[int, Interval]
    shallow: dict[float, Interval]
    sgd: dict[tuple[float, int], Interval]
    quick: bool

    def exponents(self, law: Callable[[ModeSDE], float], heat: float = 1.0) -> Number:
        """Measured exponents minus those of this theory at ``heat`` times the temperature."""
        every = [(self.found[L, COLD], mode(L, heat * COLD)) for L in DEPTHS]
        every += [(self.others[L], mode(L, heat * COLD, OTHER)) for L in DEPTHS]
        name = "exponent beyond s = 1 minus that of the exact distribution, farthest of L = 2, 3, 4, 6"
        return Number(name, largest(number - law(sde) for number, sde in every), self.near, moved=self.quick)

    @property
    def near(self) -> Region:
        """Region of an exponent minus its prediction."""
        return around(0.0, 0.145 if self.quick else 0.1)

    def steps(self, theory: Callable[[float, int], float], name: str = "SGD, L = 1: k minus that") -> Number:
        """Exponents of SGD minus those of this theory."""
        off = largest(k - theory(*key) for key, k in self.sgd.items())
        return Number(name, off, around(0.0, 0.25 if self.quick else 0.12))


def experiment(quick: bool) -> Evidence:
    """Exponents of ensembles at several depths, temperatures and data, and of SGD."""
    size = 16_384 if quick else 131_072
    found, shown = {}, {}
    for L in DEPTHS:
        for T in TEMPERATURES:
            looks = _looks(mode(L, T), (3 if quick else 2) * size if COLD == T else size if L == 2 else size // 4)
            found[L, T], shown[L, T] = exponent(looks, BEYOND), looks[:, ::10].ravel()
    others = {L: exponent(_looks(mode(L, COLD, OTHER), 2 * size), BEYOND) for L in DEPTHS}
    shallow = {T: exponent(np.abs(_looks(mode(1, T), size) - 1.0), FAR) for T in SHALLOW}
    sgd, runs = {}, []
    for lr, batch in STEPS:
        sgd[lr, batch], dataset = _sgd(lr, batch, size)
        runs.append(Run.of(f"SGD, L = 1, η = {lr:.3g}, B = {batch}", dataset))
    measured = Measured(found, others, shallow, sgd, quick)
    return Evidence(
        numbers=[*_numbers_of_ensembles(measured), *_numbers_of_sgd(measured, size // 4)],
        controls=[
            Number(f"L = {L}: exponent minus that of L = {wrong}", _off(measured, L, wrong), measured.near)
            for L, wrong in ((2, 3), (4, 6))
        ]
        + [
            Number(
                "L = 1: change of the exponent from T = 0.15 to T = 0.4",
                difference(shallow[SHALLOW[1]], shallow[SHALLOW[0]]),
                around(0.0, 0.2),
            )
        ],
        rivals=_wrong(measured),
        runs=runs,
        curves={"shown": shown, "found": found, "others": others},
    )


def _off(measured: Measured, depth: int, wrong: int) -> Interval:
    """The exponent at one depth minus the prediction for another."""
    return measured.found[depth, COLD] - exact_exponent(mode(wrong, COLD), BEYOND)


def _numbers_of_ensembles(measured: Measured) -> list[Number]:
    found, quick = measured.found, measured.quick
    limits = [
        exact_exponent(mode(L, T, data), LIMIT) - predicted(L)
        for L in DEPTHS
        for T in TEMPERATURES[:2]
        for data in DATA
    ]
    change = exact_exponent(mode(2, 3.0), BEYOND) - exact_exponent(mode(2, COLD), BEYOND)
    return [
        measured.exponents(lambda sde: exact_exponent(sde, BEYOND)),
        Number(
            "exact distribution: exponent beyond s = 100 minus (−5 + 3/L), farthest of L, T and data",
            largest(intervals.exact(limit) for limit in limits),
            around(0.0, 0.01),
        ),
        *(Number(f"exponent beyond s = 1 at L = {L}, limit {predicted(L):g}", found[L, COLD]) for L in DEPTHS),
        Number(
            "L = 2: change of the exponent from T = 0.3 to T = 3, minus that of the exact distribution",
            difference(found[2, 3.0], found[2, COLD]) - change,
            around(0.0, 0.3 if quick else 0.15),
        ),
        *(
            Number(
                f"L = 1, T = {T:g}: exponent minus that of the exact distribution, "
                f"limit {tail_exponent(mode(1, T)):.3g}",
                number - exact_exponent(mode(1, T), FAR),
                around(0.0, 0.35 if quick else 0.15),
            )
            for T, number in measured.shallow.items()
        ),
    ]


def _numbers_of_sgd(measured: Measured, trajectories: int) -> list[Number]:
    return [
        measured.steps(
            sgd_tail, "SGD, L = 1: k of P(|v − s*| > x) ~ x^(−k) minus that of E|1 − η mean x²|^(k) = 1, farthest"
        ),
        *(
            Number(f"SGD, L = 1, η = {lr:.3g}, B = {B}: k, predicted {sgd_tail(lr, B):.3f}", k)
            for (lr, B), k in measured.sgd.items()
        ),
        Number("SGD, L = 2, T = 0.3: fraction diverged by t = 50", _diverged(2, trajectories), (0.2, 1.0)),
        Number("SGD, L = 1, T = 0.3: the same", _diverged(1, trajectories), NEVER),
    ]


def _wrong(measured: Measured) -> list[Rival]:
    """The rival theories."""

    def next_depth(sde: ModeSDE) -> float:
        return exact_exponent(replace(sde, depth=sde.depth + 1), BEYOND)

    def shallow(sde: ModeSDE) -> float:
        return tail_exponent(replace(sde, depth=1))

    return [
        Rival("the next depth", [measured.exponents(next_depth)]),
        Rival("no Itô term: −6 + 4/L", [measured.exponents(lambda sde: -6 + 4 / sde.depth)]),
        Rival("the tail of depth 1 at every depth, −2 − 2β₁/(Tα₁)", [measured.exponents(shallow)]),
        Rival("Langevin dynamics for SGD, k = 1 + B/η", [measured.steps(lambda lr, B: 1 + B / lr)]),
        Rival("SGD with η × 0.9", [measured.steps(lambda lr, B: sgd_tail(0.9 * lr, B))]),
        Rival("SGD with η × 1.1", [measured.steps(lambda lr, B: sgd_tail(1.1 * lr, B))]),
    ]


def predicted(depth: int) -> float:
    """−5 + 3/L."""
    return tail_exponent(mode(depth, 1.0))


def exact_exponent(sde: ModeSDE, beyond: float) -> float:
    """Value of Hill's estimator in the stationary distribution, ``−1 − P(s > c)/E[log(s/c); s > c]``.

    At depth 1 in the distribution of ``|s − β₂/β₁|``.

    >>> round(exact_exponent(mode(2, 0.3, "correlated"), 1.0), 3)
    -3.655
    """
    logs = np.linspace(0.0, 40.0, 8001)
    law, far, end = sde.stationary(), beyond * np.exp(logs), sde.fixed_point
    tail = law.sf(end + far) + law.cdf(end - far) if sde.depth == 1 else law.sf(far)
    return float(-1 - tail[0] / ((tail.sum() - (tail[0] + tail[-1]) / 2) * logs[1]))


def _sgd(lr: float, batch: int, trajectories: int) -> tuple[Interval, xr.Dataset]:
    """The exponent k of the tail of SGD at depth 1, each trajectory sampled ninety times, and its run."""
    plan = Plan(2000, trajectories, saves=100, keep="trajectories", events=(), seed=1)
    dataset = run(chain(1, 1.0, 1.0), SGD(lr, batch), plan)
    return hill(np.abs(dataset["mode_strength"].values[:, 11:, 0] - 1) / OUT), dataset


def _diverged(depth: int, trajectories: int) -> Interval:
    """Fraction of networks (s* = σ = 1, B = 1) that have diverged."""
    plan = Plan(round(UNTIL / HOT), trajectories, saves=1, keep="trajectories", events=(), seed=1)
    return intervals.proportion(run(chain(depth, 1.0, 1.0), SGD(HOT, 1), plan)["status"].values != 0)


def difference(first: Interval, second: Interval) -> Interval:
    """First minus second."""
    return Interval(first.value - second.value, first.low - second.high, first.high - second.low)


def exponent(looks: Floats, beyond: float) -> Interval:
    """Exponent of a density beyond ``beyond``, ``−1 − #/Σ log(s/beyond)``, from samples (trajectory, time).

    >>> pareto = np.linspace(1e-5, 1, 100_000)[:, None] ** (-1 / 2.5)
    >>> round(exponent(pareto, 1.0).value, 2)
    -3.5
    """
    rate = hill(looks / beyond)
    return Interval(-1 - rate.value, -1 - rate.high, -1 - rate.low)


def _looks(sde: ModeSDE, trajectories: int) -> Floats:
    """Strengths (trajectory, time) once the start is forgotten."""
    return np.asarray(sde.simulate(sde.fixed_point, LOOKS * memory(sde), trajectories, seed=1))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Tails at several temperatures, tails at several depths, exponents."""
    heat, depth, exponents = axes
    shown: dict[tuple[int, float], Floats] = evidence.curves["shown"]
    s, edges = np.geomspace(0.05, 40, 200), np.geomspace(0.05, 40, 31)
    for T, colour in zip(TEMPERATURES, plots.COLOURS, strict=False):
        heat.plot(s, mode(2, T).stationary().pdf(s), color=colour, label=f"T = {T:g}")
        dots(heat, shown[2, T], edges, color=colour)
    heat.set(title="Depth 2: one exponent for all T", xlabel="s", ylabel="density")
    for L, colour in zip(DEPTHS, plots.COLOURS, strict=False):
        depth.plot(s, mode(L, COLD).stationary().pdf(s), color=colour, label=f"L = {L}")
        dots(depth, shown[L, COLD], edges, color=colour)
    depth.set(title="T = 0.3: steeper with depth", xlabel="s", ylabel="density")
    for panel in (heat, depth):
        panel.set(xscale="log", yscale="log", ylim=(1e-6, 10), xlim=(0.05, 40))
        panel.legend(title="lines: theory", loc="lower left", alignment="left")
    deep = np.linspace(2, 6.2, 100)
    exponents.plot(deep, -5 + 3 / deep, color=plots.INK, label="−5 + 3/L")
    for place, (T, colour) in enumerate(zip(TEMPERATURES, plots.COLOURS, strict=False)):
        for L in DEPTHS:
            at, label = L + 0.12 * (place - 1), f"T = {T:g}" if DEPTHS[0] == L else None
            plots.interval(exponents, at, evidence.curves["found"][L, T], color=colour, label=label)
    for L, number in evidence.curves["others"].items():
        label = "other data" if DEPTHS[0] == L else None
        plots.interval(exponents, L + 0.24, number, color=plots.GREY, fmt="s", ms=4, label=label)
    exponents.set(title="Exponents", xlabel="depth L", ylabel="exponent of the tail", ylim=(-6.2, -3.0))
    exponents.set_xticks(DEPTHS)
    exponents.legend(loc="lower left", ncols=2)


CLAIM = Claim(
    name="tail-exponents",
    title=(
        "From depth 2 on, the tail of the stationary distribution is a power law whose exponent depends on the depth "
        "alone"
    ),
    statement=(
        "For L ≥ 2 and α₁ = Var[x²] > 0 the stationary density of the Langevin model decays as s^(−5+3/L), independent "
        "of the temperature and the other moments of the data, so E[sᵏ] is finite only for k < 4 − 3/L. At L = 1 the "
        "exponent −2 − 2β₁/(Tα₁) depends on both. Findings of this project: discrete SGD has different tails. At L = 1 "
        "P(|v − s*| > x) decays as x^(−k), where E|1 − η mean x²|^(k) = 1; the Langevin model has k = 1 + 2β₁/(Tα₁). "
        "At L ≥ 2 and B = 1 SGD shows −5 + 3/L nowhere: the tail begins at s^(2κ) ~ 1/(Tα₁), where single steps of SGD "
        "are unstable, and trajectories that get there diverge."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, tails of the stationary distribution; those of discrete SGD are this "
        "project's, after Kesten 1973, Acta Math. 131"
    ),
    method=(
        "Ensembles of the mode SDE with locally controlled steps at L = 2, 3, 4, 6 and T = 0.3, 1, 3 on data with "
        "moments α₁ = 10, α₂ = 0, α₃ = 0.3, β₁ = β₂ = 1, whose tails begin at s ≈ 1; each trajectory is sampled a "
        "hundred times in ten relaxation times. Hill's estimator on s > 1, with the error of a ratio of means over "
        "trajectories. The estimator has not reached its limit there: it is compared with its value in the exact "
        "distribution, and the exact distribution beyond s = 100 with the limit. Other data: α₂ = 1, α₃ = 0.5 (at s = "
        "1 up to 0.15 from the limit). SGD at L = 1: Gaussian data, s* = σ = 1, three pairs of η and B, 2,000 steps, "
        "|v − s*| > 10, ninety samples. Exponents at L = 1 are those of |v − β₂/β₁| > 3. SGD at L = 2 and 1: B = 1, η "
        "= 0.3 until t = 50; runs that are meant to diverge are not listed."
    ),
    control=(
        "The exponent of L = 3 must be refuted at L = 2 and that of L = 6 at L = 4; at L = 1 the exponent must change "
        "with T. Rivals, on the same samples: the next depth, no Itô term, depth 1, and for SGD the tail of the "
        "Langevin model and η × 0.9 and 1.1."
    ),
    caption=(
        "Densities at depth 2 and three temperatures, and at T = 0.3 and four depths (lines: theory; dots: ensembles "
        "with standard errors); measured exponents, with intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Heavy tails mean that very large excursions of weights and loss must be expected and that averages over "
        "training are unreliable; in the Langevin model of diagonal networks of depth 2 or more their exponent is set "
        "by the depth, not by learning rate, batch size or data. Discrete SGD differs: in linear regression its tail "
        "depends on learning rate and batch size, and at depth 2 with B = 1 trajectories diverge instead of forming "
        "the tail."
    ),
    equations=(
        r"p(s)\propto s^{-5+3/L}\quad(s\to\infty,\;L\ge2)",
        r"p(v)\propto\left| v\right|^{-2-2\beta_1/(T\alpha_1)}\quad(\left| v\right|\to\infty,\;L=1)",
        (
            r"P\left(\left| v-s^{*}\right|>x\right)\propto "
            r"x^{-k},\quad\mathbb{E}\left|1-\frac{\eta}{B}\sum_{i=1}^{B}x_i^2\right|^{k}=1\quad(\text{SGD},\;L=1)"
        ),
    ),
    proved=(
        "The exponents of the Langevin model follow from its stationary density (Ziyin, Li & Ueda), for α₁ > 0 and "
        "balanced weights. That of SGD at L = 1 is Kesten's theorem on random affine recursions, applied by this "
        "project."
    ),
    unknown=(
        "Samples do not reach far enough to show the limit: ensembles are compared with the exact density at the same "
        "strengths, and the limit is a property of the formula. Where the tail of SGD begins at L ≥ 2 is an estimate; "
        "divergence is measured at L = 2, T = 0.3. Heavy tails of other networks are not tested."
    ),
    related=("stationary-density", "loss-divergence", "metastable"),
)
