"""The loss of linear regression diverges at a finite temperature; that of deeper networks does not in the SDE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain, hill, memory
from saddlescope.claims.law_of_balance.tails import exact_exponent
from saddlescope.claims.tools import around, largest, power, run
from saddlescope.comparison import FALSE_ALARM
from saddlescope.methods import SGD
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.discrete import sgd_tail
from saddlescope.theory.mode.phases import divergence_temperature, tail_exponent

SHALLOW = ModeSDE(depth=1, target=1.0, label_noise=1.0, temperature=1.0)
"""Linear regression on Gaussian data, whose E[s²] diverges at T = 1."""

BESIDE, BATCHES, FAR, NEAR = (0.85, 1.15), (1, 4), 10.0, 3.0
"""Temperatures in units of the predicted one; batch sizes; |v − s*| where the tail starts, for SGD and the SDE."""

LOOKS = np.arange(4.0, 14.0, 0.1)
"""Times in relaxation times."""

DEEP, HOT, CUTS = (2, 3, 4), (0.5, 1.2), (3.0, 30.0)
"""Depths without divergence; temperatures (the first at L = 2, below T_c = 2/3); cutoffs of the second moment."""


def experiment(quick: bool) -> Evidence:
    """Tail exponents on either side of the predicted temperature, and second moments at growing cutoffs."""
    size = 16_384 if quick else 131_072
    times = {T: _looks(_shallow(T), size) for T in BESIDE}
    tails = {T: hill(np.abs(looks - 1.0) / NEAR) - early(_shallow(T)) for T, looks in times.items()}
    steps, runs = {}, []
    for B in BATCHES:
        for factor in BESIDE:
            steps[B, factor], dataset = _sgd(factor * sgd_divergence(B), B, size)
            runs.append(Run.of(f"SGD, L = 1, B = {B}, η = {factor * sgd_divergence(B):.3g}", dataset))
    langevin = _crossing([tails[T] for T in BESIDE], inverse=True)
    discrete = {B: _crossing([steps[B, factor] for factor in BESIDE], inverse=False) for B in BATCHES}
    deep = {L: _looks(_deep(L), 4 * size if quick else size) for L in DEEP}
    found = {L: growth(looks) for L, looks in deep.items()}
    shallow, margin = growth(np.abs(times[BESIDE[1]] - 1.0)), 0.22 if quick else 0.1

    def threshold(factor: float) -> Number:
        name = "L = 1: temperature at which E[s²] diverges, over 2β₁/α₁"
        return Number(name, langevin / factor, around(1.0, margin), moved=True)

    def sgd(theory: Callable[[int], float]) -> Number:
        return _sgd_number(discrete, theory, margin)

    def moments(name: str, off: Iterable[Interval]) -> Number:
        return Number(name, largest(off, 1.0), around(1.0, 0.15 if quick else 0.05), moved=True)

    return Evidence(
        numbers=[
            replace(threshold(1.0), catches=power(threshold, "T")),
            replace(sgd(sgd_divergence), catches=power(lambda factor: sgd(lambda B: factor * sgd_divergence(B)), "η")),
            moments(
                "L = 2, 3, 4: E[min(s, 30)²]/E[min(s, 3)²] over the prediction, farthest",
                (found[L] / law_growth(_deep(L)) for L in DEEP),
            ),
            *(Number(f"the same at L = {L}, T = {_deep(L).temperature:g}, not divided", found[L]) for L in DEEP),
        ],
        controls=[
            Number(
                "L = 1, T = 1.15: growth of E[min(|v − s*|, c)²] from c = 3 to 30, over that at L = 3",
                shallow / law_growth(_deep(3)),
                around(1.0, 0.1),
            ),
            replace(sgd(float), name="SGD, L = 1: η at which E[v²] diverges over that of Langevin dynamics, η = B"),
        ],
        rivals=[
            Rival("T × 0.8", [threshold(0.8)]),
            Rival("T × 1.25", [threshold(1.25)]),
            Rival("β₁/α₁: not converted from a loss without ½", [threshold(0.5)]),
            Rival("SGD: η × 0.8", [sgd(lambda B: 0.8 * sgd_divergence(B))]),
            Rival("SGD: the stability edge of the mean, η = 2", [sgd(lambda B: 2.0)]),
            Rival("SGD: the Langevin model, η = B", [sgd(float)]),
            Rival(
                "L ≥ 2 also diverges: the moment grows as at L = 1",
                [moments("measured growth over that", (found[L] / law_growth(_shallow(BESIDE[1])) for L in DEEP))],
            ),
        ],
        runs=runs,
        curves={"tails": tails, "steps": steps, "deep": deep, "shallow": times[BESIDE[1]]},
    )


def _sgd_number(discrete: dict[int, Interval], theory: Callable[[int], float], margin: float) -> Number:
    """Learning rates at which E[v²] of SGD diverges, over those of this theory."""
    worst = largest((discrete[B] * (sgd_divergence(B) / theory(B)) for B in BATCHES), 1.0)
    name = "SGD, L = 1: η at which E[v²] diverges over 2/(1 + 2/B), farther of B = 1, 4"
    return Number(name, worst, around(1.0, margin))


def sgd_divergence(batch_size: int) -> float:
    """The η at which ``E(1 − η mean x²)² = 1 − 2η + η²(1 + 2/B)`` is 1.

    >>> sgd_tail(sgd_divergence(4), 4)
    2.0
    """
    return 2 / (1 + 2 / batch_size)


def _shallow(factor: float) -> ModeSDE:
    return replace(SHALLOW, temperature=factor * divergence_temperature(SHALLOW))


def _deep(depth: int) -> ModeSDE:
    return replace(SHALLOW, depth=depth, temperature=HOT[depth > 2])


def _looks(sde: ModeSDE, trajectories: int) -> Floats:
    """Strengths (trajectory, time) once the start is forgotten."""
    return np.asarray(sde.simulate(sde.fixed_point, LOOKS * memory(sde), trajectories, seed=1))


def _sgd(lr: float, batch_size: int, trajectories: int) -> tuple[Interval, xr.Dataset]:
    """The tail exponent of SGD at depth 1, and its run."""
    plan = Plan(2000, trajectories, saves=100, keep="trajectories", events=(), seed=2)
    dataset = run(chain(1, 1.0, 1.0), SGD(lr, batch_size), plan)
    return hill(np.abs(dataset["mode_strength"].values[:, 11:, 0] - 1) / FAR), dataset


def _crossing(powers: list[Interval], inverse: bool) -> Interval:
    """Where the tail exponent is 2, in units of the prediction, by linear interpolation.

    With ``inverse`` in 1/T, in which the exponent of Langevin dynamics is linear.
    """
    below, above = (1 / np.array(BESIDE) if inverse else np.array(BESIDE)).tolist()

    def at(first: float, second: float) -> float:
        place = below + (above - below) * (first - 2) / (first - second)
        return 1 / place if inverse else place

    (a, b) = powers
    return Interval(at(a.value, b.value), at(a.low, b.low), at(a.high, b.high), a.miss + b.miss)


def early(sde: ModeSDE) -> float:
    """Bias of Hill's estimator beyond ``NEAR`` in the exact distribution of depth 1."""
    return tail_exponent(sde) - exact_exponent(sde, NEAR)


def growth(looks: Floats) -> Interval:
    """``E[min(s, 30)²]/E[min(s, 3)²]``."""
    near, far = (np.minimum(looks, cut) ** 2 for cut in CUTS)
    added = intervals.mean((far - near).mean(axis=1), FALSE_ALARM / 2)
    base = intervals.mean(near.mean(axis=1), FALSE_ALARM / 2)
    more = intervals.ratio(added, base)
    return Interval(1 + more.value, 1 + more.low, 1 + more.high, more.miss)


def law_growth(sde: ModeSDE) -> float:
    """The same in the stationary distribution, by ``E[min(s, c)²] = ∫₀ᶜ 2x P(s > x) dx``; of |s − s*| at depth 1."""
    logs, law, end = np.linspace(-12.0, np.log(CUTS[1]), 6001), sde.stationary(), sde.fixed_point
    far = np.exp(logs)
    tail = 2 * far**2 * (law.sf(end + far) + law.cdf(end - far) if sde.depth == 1 else law.sf(far))
    pieces = np.concatenate([[0.0], np.cumsum((tail[1:] + tail[:-1]) / 2 * np.diff(logs))])
    first, second = np.interp(np.log(CUTS), logs, pieces)
    return float(second / first)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Tail exponents against T and, for SGD, against η; second moments against their cutoff."""
    heat, steps, moment = axes
    T = np.linspace(0.5, 1.5, 60)
    heat.plot(T, 1 + 1 / T, color=plots.COLOURS[0], label="1 + 2β₁/(Tα₁)")
    for factor, found in evidence.curves["tails"].items():
        plots.interval(heat, factor, found, color=plots.INK)
    heat.set(title="L = 1, Langevin model", xlabel="T", ylabel="tail exponent k")
    for B, colour in zip(BATCHES, plots.COLOURS, strict=False):
        rates = np.linspace(0.6, 1.4, 40)
        line = [sgd_tail(float(rate) * sgd_divergence(B), B) for rate in rates]
        steps.plot(rates, line, color=colour, label=f"E|1 − η mean x²|$^k$ = 1, B = {B}")
        for factor in BESIDE:
            plots.interval(steps, factor, evidence.curves["steps"][B, factor], color=colour)
    steps.set(title="L = 1, discrete SGD", xlabel="η / η(k = 2)", ylabel="tail exponent k")
    for panel in (heat, steps):
        panel.axhline(2, color=plots.GREY, lw=0.8, ls=":")
        panel.legend(title="below 2: E[v²] infinite", alignment="left")
    cuts = np.geomspace(2, 300, 25)
    looks = {"L = 1, T = 1.15": np.abs(evidence.curves["shallow"] - 1)}
    looks |= {f"L = {L}, T = {_deep(L).temperature:g}": found for L, found in evidence.curves["deep"].items()}
    for (name, found), colour in zip(looks.items(), plots.COLOURS, strict=False):
        thin = found[:, ::5]
        moments = np.array([(np.minimum(thin, cut) ** 2).mean() for cut in cuts])
        moment.plot(cuts, moments / moments[0], color=colour, label=name)
    moment.set(title="Second moment, truncated at c", xlabel="c", ylabel="E[min(s, c)²], from c = 2", xscale="log")
    moment.set(yscale="log")
    moment.legend()


CLAIM = Claim(
    name="loss-divergence",
    title=(
        "Linear regression has infinite loss above a finite temperature; deeper networks in the Langevin model never do"
    ),
    statement=(
        "At L = 1 the stationary E[v²], and with it the expected loss, is infinite for T ≥ 2β₁/α₁; at this temperature "
        "the tail of the density has exponent −3. For L ≥ 2 the tail −5 + 3/L keeps E[s²] finite at every temperature. "
        "Both hold for the Langevin model. Finding of this project: under discrete SGD at L = 1 on Gaussian data E[v²] "
        "diverges at η = 2/(1 + 2/B), not at T = 1; at L ≥ 2 SGD is unstable in its tail (claim tail-exponents)."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, divergence of the loss at D = 0 and none at D ≥ 1; the SGD results "
        "are this project's"
    ),
    method=(
        "s* = σ = 1, white Gaussian inputs. L = 1: the exponent k of P(|v − s*| > x) by Hill's estimator, at 0.85 and "
        "1.15 times the predicted temperature (mode SDE beyond 3, corrected by the bias of the estimator in the exact "
        "distribution; a hundred samples in ten relaxation times) or learning rate (SGD with B = 1 and 4 beyond 10, "
        "ninety samples in 2,000 steps); k = 2 is interpolated linearly between both (in 1/T for the SDE). L = 2, 3, "
        "4: ensembles of the mode SDE at T = 0.5 (L = 2, below T_c) and T = 1.2; second moments of s truncated at 3 "
        "and at 30, against those of theory. A sample cannot show that a moment is finite, but it can show that the "
        "moment does not grow with the cutoff as at L = 1."
    ),
    control=(
        "At L = 1 and T = 1.15 the truncated moment must grow more than at L = 3, and SGD must not diverge at η = B, "
        "the temperature of the Langevin model. Rivals, on the same samples: T × 0.8 and 1.25, the temperature of a "
        "loss without ½, η × 0.8, the stability edge η = 2, moments that grow at L ≥ 2 as at L = 1."
    ),
    caption=(
        "Exponent of the tail at L = 1 against T and, for SGD, against η (lines: theory; dots: measured, intervals at "
        "1 − 10⁻⁶); second moment of ensembles truncated at c."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "In linear regression on Gaussian inputs the expected loss becomes infinite at a learning rate well below the "
        "one at which the mean of the weights becomes unstable: for SGD with unit input variance at η = 2/(1 + 2/B), "
        "which is 2/3 at B = 1, against 2. Deeper diagonal networks keep a finite loss at every temperature in the "
        "Langevin model, but this does not make large learning rates safe, because their discrete SGD on Gaussian "
        "inputs can diverge."
    ),
    equations=(
        r"\mathbb{E}[v^2]=\infty\quad\text{if}\quad T\ge\frac{2\beta_1}{\alpha_1}\quad(L=1)",
        r"\mathbb{E}[s^2]<\infty\quad\text{for all}\quad T\quad(L\ge2,\;p(s)\propto s^{-5+3/L})",
        (
            r"\mathbb{E}\left(1-\frac{\eta}{B}\sum_{i=1}^{B}x_i^2\right)^2=1-2\eta+\eta^2\left(1+\frac{2}{B}\right)=1\quad\text{at}\quad\eta=\frac{2}{1+2/B}"
        ),
    ),
    proved=(
        "In the Langevin model both follow from the tails of the stationary density (Ziyin, Li & Ueda). The learning "
        "rate of SGD is this project's, from the exact second moment of one step for Gaussian inputs of unit variance."
    ),
    unknown=(
        "A sample cannot show that a moment is finite: at L ≥ 2 moments truncated at 30 are compared with theory. At L "
        "≥ 2 SGD itself is not run here. Inputs that are not Gaussian are not tested."
    ),
    related=("tail-exponents", "metastable", "stationary-density"),
)
