"""The critical temperature of depth 2, its shift by weight decay, and the different threshold of discrete SGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, end, memory
from saddlescope.claims.tools import ALWAYS, NEVER, around, power, same_law
from saddlescope.methods import SGD, Langevin, Method
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.phases import collapse_rate, collapse_window

WARM = ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=1.0)
"""T_c = 1/3; with weight decay ½ it is 1/6."""

DECAYS, HEATS = (0.0, 0.5), (0.1, 0.2, 0.4, 0.7, 1.3, 2.0)
"""Weight decays, and temperatures in units of T_c."""

NOISY = (6.0, 10.0, 16.0)
"""Label noise, in units of s*, at which SGD with B = 1 has a threshold; at ``QUIET`` it has none."""

QUIET = 0.5**0.5

DEEP = ModeSDE(depth=3, target=1.0, label_noise=1.0, temperature=0.2)
DEEP_DECAYS, HORIZON, LOST = (0.0, 0.2, 0.25, 0.3), 100.0, 1e-3

SEED = 1e-80
"""A start so small that v never grows up to s* while its rate is measured."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Thresholds of Langevin dynamics by weight decay and of SGD at σ = 10 s*, ensembles at T_c · 0.4 and depth 3."""

    langevin: dict[float, Interval]
    sgd: Interval
    settled: np.ndarray
    lost: Interval
    quick: bool

    def threshold(self, factor: float, decay: float = 0.0) -> Number:
        """Where Langevin dynamics stops growing, over ``factor`` T_c."""
        name = "threshold of Langevin dynamics over T_c" if decay == 0 else "with weight decay γ = ½, over T_c(γ)"
        margin = 0.05 if self.quick else 0.03
        found = self.langevin[decay] / (factor * WARM.critical_temperature)
        return Number(name, found, around(1.0, margin if decay == 0 else 2 * margin))

    def law(self, factor: float) -> Number:
        """An ensemble below T_c against the stationary distribution at ``factor`` times the temperature."""
        name = "T = 0.4 T_c: Kolmogorov distance to the stationary distribution"
        return Number(name, _distance(self.settled, 0.0, 0.4 * factor), same_law(self.quick))

    def steps(self, factor: float) -> Number:
        """The threshold of SGD over ``factor`` times its prediction."""
        name = "SGD, σ = 10 s*: threshold over that of E log|1 + η mean(xy)|"
        return Number(name, self.sgd / (factor * _window(10.0)[0]), around(1.0, 0.03 if self.quick else 0.015))

    def lost_by(self, factor: float) -> Number:
        """Fraction of deep chains at 0, minus that at ``factor`` times the weight decay."""
        decay = 0.2 * factor
        expected = float(replace(DEEP, weight_decay=decay).passage_cdf([HORIZON], 1.0, LOST, tol=1e-4)[0])
        name = "L = 3, γ = 0.2: fraction at 0 by t = 100, minus prediction"
        return Number(name, self.lost - expected, around(0.0, 0.04 if self.quick else 0.02))


def experiment(quick: bool) -> Evidence:
    """Thresholds of Langevin dynamics and of SGD from the growth of log v near 0, and final strengths of ensembles."""
    size = 8192 if quick else 65_536
    langevin = {decay: _langevin_threshold(decay, size) for decay in DECAYS}
    sgd = {noise: _sgd_threshold(noise, 3 * size if noise == 10 else size) for noise in NOISY}
    quiet = {heat: _growth(SGD(heat * _critical(QUIET), 1), QUIET, size)[0] for heat in (0.5, 1.0, 1.25, 1.5, 2.0)}
    ends = {(decay, heat): _end(decay, heat, size) for decay in DECAYS for heat in HEATS}
    falls = {decay: _falls(decay, size) for decay in DEEP_DECAYS}
    lost = {decay: intervals.proportion(times <= HORIZON) for decay, times in falls.items()}
    settled = _end(0.0, 0.4, size if quick else 4 * size)
    measured = Measured(
        {decay: found for decay, (found, _) in langevin.items()}, sgd[10.0][0], settled, lost[0.2], quick
    )
    gone, decayed = (intervals.proportion(ends[key] < LOST) for key in ((0.0, 2.0), (0.5, 0.7)))
    return Evidence(
        numbers=[
            replace(measured.threshold(1.0), catches=power(measured.threshold, "T_c")),
            replace(
                measured.threshold(0.5, 0.5),
                catches=power(lambda factor: measured.threshold(0.5 * factor, 0.5), "T_c"),
            ),
            replace(measured.law(1.0), catches=power(measured.law, "T")),
            Number("T = 2 T_c: fraction that ends at 0", gone, ALWAYS),
            Number("γ = ½, between T_c(γ) and T_c: fraction that ends at 0", decayed, ALWAYS),
            replace(measured.steps(1.0), catches=power(measured.steps, "threshold")),
            Number("SGD, σ² = ½ s*²: slowest growth of log v near 0, five η", _slowest(quiet), (0.0, np.inf)),
            Number("L = 3, γ = 0: fraction at 0 by t = 100", lost[0.0], NEVER),
            measured.lost_by(1.0),
        ],
        controls=[
            Number(
                "with γ = ½, threshold over T_c without decay", measured.threshold(1.0, 0.5).interval, around(1.0, 0.1)
            ),
            Number("SGD, σ = 10 s*: threshold over T_c", measured.sgd / _critical(10.0), around(1.0, 0.03)),
            Number("SGD, σ² = ½ s*², T = 1.25 T_c: growth of log v near 0", quiet[1.25], (-np.inf, 0.0)),
        ],
        rivals=_wrong(measured),
        runs=[
            Run.of("Langevin dynamics above T_c", langevin[0.0][1]),
            Run.of("SGD above its threshold, σ = 10", sgd[10.0][1]),
        ],
        curves={"ends": ends, "sgd": {noise: found for noise, (found, _) in sgd.items()}, "falls": falls},
    )


def _wrong(measured: Measured) -> list[Rival]:
    """The rival theories."""
    cold, hot = (0.6, 1.5) if measured.quick else (0.9, 1.1)
    return [
        Rival("T_c × 0.9", [measured.threshold(0.9)]),
        Rival("T_c × 1.1", [measured.threshold(1.1)]),
        Rival("T'_c = β₂/α₃ of a loss without ½, not converted", [measured.threshold(0.5)]),
        Rival("α₃ = σ², without 2s*²", [measured.threshold(1.5)]),
        Rival("weight decay counts half", [measured.threshold(0.75, 0.5)]),
        Rival(f"T × {cold} below T_c", [measured.law(cold)]),
        Rival(f"T × {hot} below T_c", [measured.law(hot)]),
        Rival("threshold of SGD × 0.95", [measured.steps(0.95)]),
        Rival("threshold of SGD × 1.05", [measured.steps(1.05)]),
        Rival("L = 3: γ × 0.9", [measured.lost_by(0.9)]),
        Rival("L = 3: γ × 1.1", [measured.lost_by(1.1)]),
    ]


def _critical(label_noise: float) -> float:
    return replace(WARM, label_noise=label_noise).critical_temperature


def _window(label_noise: float) -> tuple[float, float]:
    """The learning rates between which SGD with B = 1 collapses; NaN if there are none."""
    return collapse_window(1, 1.0, label_noise) or (np.nan, np.nan)


def _growth(method: Method, label_noise: float, trajectories: int) -> tuple[Interval, xr.Dataset]:
    """Growth of log v per unit time near 0, and the run."""
    time = 20.0
    strengths, dataset = end(chain(2, SEED, label_noise), method, time, trajectories)
    return intervals.mean(np.log(strengths / SEED) / time), dataset


def _langevin_threshold(decay: float, trajectories: int) -> tuple[Interval, xr.Dataset]:
    critical = replace(WARM, weight_decay=decay).critical_temperature
    methods = [
        Langevin(T, 1.0, noise="gradient", dt=T / 60, weight_decay=decay) for T in (0.8 * critical, 1.2 * critical)
    ]
    return _threshold(methods, WARM.label_noise, trajectories)


def _sgd_threshold(label_noise: float, trajectories: int) -> tuple[Interval, xr.Dataset]:
    first = _window(label_noise)[0]
    return _threshold([SGD(lr, 1) for lr in (0.95 * first, 1.05 * first)], label_noise, trajectories)


def _threshold(methods: Sequence[Langevin | SGD], label_noise: float, size: int) -> tuple[Interval, xr.Dataset]:
    """Learning rate at which the growth is 0, by linear interpolation between two."""
    (cold, _), (hot, dataset) = (_growth(method, label_noise, size) for method in methods)
    low, high = (method.lr for method in methods)

    def zero(a: float, b: float) -> float:
        return low + (high - low) * a / (a - b)

    return Interval(zero(cold.value, hot.value), zero(cold.low, hot.low), zero(cold.high, hot.high)), dataset


def _slowest(rates: dict[float, Interval]) -> Interval:
    return min(rates.values(), key=lambda rate: rate.value)


def _sde(decay: float, heat: float) -> ModeSDE:
    return replace(WARM, temperature=heat * WARM.critical_temperature, weight_decay=decay)


def _end(decay: float, heat: float, trajectories: int) -> np.ndarray:
    """An ensemble of the mode SDE from s*, long after it has settled or collapsed."""
    sde = _sde(decay, heat)
    cold = sde.temperature < sde.critical_temperature
    time = 5 * memory(sde) if cold else 100.0
    return np.asarray(sde.simulate(1.0, [time], trajectories, seed=1)[:, 0])


def _distance(sample: np.ndarray, decay: float, heat: float) -> Interval:
    return intervals.distance_to_law(sample, _sde(decay, heat).stationary().cdf)


def _falls(decay: float, trajectories: int) -> np.ndarray:
    """Times at which chains of depth 3 reach a strength from which they do not return."""
    return replace(DEEP, weight_decay=decay).simulate_passages(1.0, [LOST], HORIZON, trajectories, seed=2)[:, 0]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Median strength against T, the phase diagram of discrete SGD, survival with weight decay at depth 3."""
    order, plane, survival = axes
    heats = np.linspace(0.02, 0.98, 40)
    for decay, colour in zip(DECAYS, plots.COLOURS, strict=False):
        scale = 1 - decay  # T_c(γ)/T_c
        lines = [float(_sde(decay, heat * scale).stationary().ppf(0.5)) for heat in heats]
        order.plot([*heats * scale, scale, 2.1], [*lines, 0, 0], color=colour, label=f"γ = {decay:g}")
        order.axvline(scale, color=colour, lw=0.8, ls=":")
        for heat in HEATS:
            plots.interval(order, heat, intervals.median(evidence.curves["ends"][decay, heat]), color=colour)
    order.set(title="Depth 2: transition at $T_c$", xlabel="T / $T_c$(γ = 0)", ylabel="median s", xlim=(0, 2.1))
    order.legend(title="dots: ensembles", alignment="left")
    noises, rates = np.geomspace(3, 40, 16), np.geomspace(0.7, 30, 24)
    grown = [[collapse_rate(rate * _critical(noise), 1, 1.0, noise) for noise in noises] for rate in rates]
    plane.contourf(noises, rates, grown, levels=[-np.inf, 0.0], colors=[plots.COLOURS[0]], alpha=0.15)
    plane.contour(noises, rates, grown, levels=[0.0], colors=[plots.COLOURS[0]])
    plane.plot([], [], color=plots.COLOURS[0], label="E log|1 + η xy| = 0")
    plane.axhline(1, color=plots.COLOURS[1], ls="--", lw=1.2, label="$T_c$ of the Langevin model")
    for noise, found in evidence.curves["sgd"].items():
        plots.interval(plane, noise, found / _critical(noise), color=plots.INK)
    plane.text(12, 2.2, "collapse", color=plots.COLOURS[0], ha="left")
    plane.set(title="Discrete SGD, B = 1", xlabel="label noise σ / s*", ylabel="η / $T_c$", xscale="log", yscale="log")
    plane.set(xlim=(3, 40), ylim=(0.7, 30))
    plane.set_xticks([3, 5, 10, 20, 40], ["3", "5", "10", "20", "40"])
    plane.minorticks_off()
    plane.legend(loc="upper left")
    times = np.linspace(4, HORIZON, 25)
    for decay, colour in zip(DEEP_DECAYS, plots.COLOURS, strict=False):
        cdf = replace(DEEP, weight_decay=decay).passage_cdf(times, 1.0, LOST, tol=1e-3)
        survival.plot([0, *times], [1, *(1 - cdf)], color=colour, label=f"γ = {decay:g}")
        for time in (20, 40, 60, 80, 100):
            share = intervals.proportion(evidence.curves["falls"][decay] > time)
            plots.interval(survival, time, share, color=colour, ms=3.5)
    survival.set(title="Depth 3: any decay ends at 0", xlabel="time", ylabel="fraction not yet at 0", ylim=(0, 1.05))
    survival.legend(loc="lower left", borderpad=0)


CLAIM = Claim(
    name="phase-transition",
    title=(
        "Networks of depth 2 collapse above T_c, which weight decay lowers; discrete SGD has another threshold or none"
    ),
    statement=(
        "At L = 2 the stationary density on s > 0 exists iff T < T_c = 2(β₂ − γ)/α₃ (weight decay γ); above, all mass "
        "goes to s = 0. Findings of this project: T_c holds for the Langevin model. Balanced discrete SGD collapses "
        "iff E log|1 − ηγ + η mean(xy)| < 0, which is T_c only for s* T_c B ≪ 1: at B = 1 the threshold is 0.935 T_c "
        "for σ = 10 s*, and below σ ≈ 4.5 s* no learning rate collapses at all. At L ≥ 3 there is no transition "
        "without decay, and with any γ > 0 no stationary density: everything ends at 0, exponentially slowly for small "
        "γ."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671 (T'_c = β₂/α₃, loss without ½); the findings are this project's",
    method=(
        "Thresholds: mean growth of log v over time 20 from v = 10⁻⁸⁰, of Diagonal networks of depth 2 under Langevin "
        "dynamics (s* = 1, σ = 2, dt = T/60) and SGD (B = 1), at two temperatures on either side of the prediction; "
        "the threshold is the zero of the line through both. End points: ensembles of the mode SDE from s*, after five "
        "relaxation times below T_c and at time 100 above. Depth 3: times at which ensembles (s* = σ = 1, T = 0.2) "
        "reach s = 10⁻³, against the predicted first-passage distribution."
    ),
    control=(
        "T_c without decay must be refuted where there is decay; T_c must be refuted as the threshold of SGD at σ = 10 "
        "s*, and collapse at 1.25 T_c must be refuted for SGD at σ² = ½ s*². Rivals, on the same samples: T_c × 0.9, "
        "1.1, ½ (not converted) and 3/2 (α₃ = σ²), half the decay, T × 0.9 and 1.1 (quick: 0.6 and 1.5) below T_c, the "
        "threshold of SGD × 0.95 and 1.05, γ × 0.9 and 1.1 at L = 3."
    ),
    caption=(
        "Median strength against temperature with and without weight decay (lines: theory; dots: ensembles; dotted: "
        "T_c); learning rates at which discrete SGD collapses (shaded) and measured thresholds (dots); fraction of "
        "chains of depth 3 that has not yet collapsed (lines: first-passage theory). Intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Above a critical ratio of learning rate to batch size, label noise drives the weights of a two-layer model to "
        "zero, and weight decay lowers this limit. T_c belongs to the Langevin model of a diagonal network: discrete "
        "SGD has another threshold, near T_c only if labels are very noisy (σ ≫ s*), and at B = 1 none below σ ≈ 4.5 "
        "s*, while three or more layers have no transition without weight decay."
    ),
    equations=(
        r"T_c=\frac{2(\beta_2-\gamma)}{\alpha_3},\quad p(s)\propto s^{(\beta_2-\gamma)/(T\alpha_3)-3/2}\quad(s\to0)",
        r"\mathbb{E}\,\log\left|1-\eta\gamma+\frac{\eta}{B}\sum_{i=1}^{B}x_iy_i\right|<0",
    ),
    proved=(
        "In the Langevin model at L = 2, for balanced weights of the right sign and α₃ > 0, the density can be "
        "normalised at 0 if and only if T < T_c (Ziyin, Li & Ueda). The condition for SGD is derived by this project: "
        "near 0 a step multiplies balanced weights by an independent random factor, so the mean of its logarithm "
        "decides whether they grow."
    ),
    unknown=(
        "Weights that are not balanced are not covered. Thresholds of SGD are measured from the growth of tiny "
        "weights, at B = 1 and without weight decay. Whether wider or nonlinear networks collapse at a comparable "
        "temperature is not tested."
    ),
    related=("second-order", "regimes", "annealing", "broken-ergodicity"),
)
