"""SGD at depth 2 is metastable: on Gaussian inputs a few large batches in a row take the weights to divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy import special, stats

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain
from saddlescope.claims.tools import around, power, run
from saddlescope.data import Dataset
from saddlescope.methods import SGD
from saddlescope.plan import Plan
from saddlescope.problem import Problem

CASES = ((0.6, 4), (0.6, 7), (0.6, 10), (0.4, 2), (0.4, 4))
"""η and B, with s* = σ = 1."""

LINE = CASES[:3]
"""Those with one η, between whose first and last B the slope is measured."""

SETTLED = 60
"""Steps from s* to the quasi-stationary distribution."""

NAME = "hazard of divergence per step / predicted"

Theory = Callable[[float, float], float]


@dataclass(frozen=True, eq=False)
class Measured:
    """Divergence steps (0: none) of ensembles by η and B, after ``steps`` steps."""

    status: dict[tuple[float, int], Floats]
    steps: int
    quick: bool

    def hazards(self, theory: Theory, case: tuple[float, int] | None = None, name: str = NAME) -> Number:
        """Measured hazard over that of this theory, where their ratio is farthest from 1, or in one case."""
        ratios = [
            hazard_in(status, SETTLED, self.steps) / theory(*key)
            for key, status in self.status.items()
            if case is None or key == case
        ]
        worst = max(ratios, key=lambda ratio: max(np.log(ratio.high), -np.log(max(ratio.low, 1e-300))))
        return Number(name, worst, around(1.0, 0.25 if self.quick else 0.1))

    def slope(self, action: float) -> Number:
        """Growth of the log lifetime with B, over this action."""
        (first, few), *_, (last, many) = [(hazard_in(self.status[key], SETTLED, self.steps), key[1]) for key in LINE]
        ratio = intervals.ratio(first, last)
        value, low, high = (float(np.log(number)) / (many - few) for number in (ratio.value, ratio.low, ratio.high))
        return Number(
            f"growth of log lifetime per unit of B, from B = {few} to {many}, / least action",
            Interval(value, low, high, ratio.miss) / action,
            around(1.0, 0.15),
        )

    def constancy(self) -> Number:
        """Hazard in the second half of the run over that in the first, for the shortest lifetime."""
        status, middle = self.status[CASES[0]], (SETTLED + self.steps) // 2
        late, early = hazard_in(status, middle, self.steps), hazard_in(status, SETTLED, middle)
        name = "hazard in the second half of the run / first half, η = {:g}, B = {}".format(*CASES[0])
        return Number(name, intervals.ratio(late, early), around(1.0, 0.2 if self.quick else 0.1))


def experiment(quick: bool) -> Evidence:
    """Divergence steps of ensembles on Gaussian data, and on bounded data with the same label noise."""
    size, steps = (65_536, SETTLED + 300) if quick else (262_144, SETTLED + 600)
    status = {(lr, B): _run(chain(2, 1.0, 1.0), lr, B, size, steps)["status"].values for lr, B in CASES}
    measured = Measured(status, steps, quick)
    lr, B = CASES[0]
    bounded = _run(replace(chain(2, 1.0, 1.0), data=bounded_data()), lr, B, size, steps)
    never = Measured({CASES[0]: bounded["status"].values}, steps, quick)
    off = (0.9, 1.1) if quick else (0.95, 1.05)
    return Evidence(
        numbers=[
            replace(
                measured.hazards(hazard, name=f"{NAME}, farthest of five η and B"),
                catches=power(lambda factor: measured.hazards(_at_rate(factor)), "η"),
            ),
            measured.slope(least_action(lr)),
            measured.constancy(),
        ],
        controls=[never.hazards(hazard, name="bounded inputs and labels: hazard / that of Gaussian data")],
        rivals=[
            Rival("one batch instead of several", [measured.slope(least_action(lr, batches=1))]),
            Rival("Gaussian gradient noise of the same covariance", [measured.hazards(partial(hazard, normal=True))]),
            Rival("a function of T alone: η/2, B/2", [measured.hazards(lambda lr, B: hazard(lr / 2, B / 2))]),
            *(Rival(f"η × {factor}", [measured.hazards(_at_rate(factor))]) for factor in off),
        ],
        runs=[Run.of(f"bounded data, η = {lr:g}, B = {B}", bounded)],
        curves={"measured": measured},
    )


def _at_rate(factor: float) -> Theory:
    return lambda lr, B: hazard(factor * lr, B)


def bounded_data() -> Dataset:
    """x = 1 and y = 0 or 2: s* = 1 and label noise of variance 1 as in the Gaussian data, but no large batch.

    >>> bounded_data().modes.strengths
    array([1.])
    """
    return Dataset(np.ones((2, 1)), np.array([[0.0], [2.0]]))


def _run(problem: Problem, lr: float, batch_size: int, size: int, steps: int) -> xr.Dataset:
    plan = Plan(steps, size, saves=1, keep="trajectories", events=(), seed=1)
    return run(problem, SGD(lr, batch_size), plan)


def hazard_in(status: Floats, start: int, end: int) -> Interval:
    """The constant probability of divergence per step, from the fraction lost from step ``start`` to ``end``.

    >>> hazard_in(np.array([0, 0, 0, 10, 12]), 10, 12).value
    0.13...
    """
    alive = status[(status == 0) | (status > start)]
    lost = intervals.proportion((alive > 0) & (alive <= end))
    value, low, high = (float(-np.expm1(np.log1p(-p) / (end - start))) for p in (lost.value, lost.low, lost.high))
    return Interval(value, low, high, lost.miss)


@cache
def hazard(lr: float, batch_size: float, normal: bool = False, cells: int = 200, draws: int = 64) -> float:
    """Probability of divergence per step of balanced SGD at depth 2, s* = σ = 1, in its quasi-stationary distribution.

    A step multiplies the balanced weights u by ``1 − η q (u² − 1) + η √q z/√B``, with Bq ~ χ²_B and z normal;
    ``normal`` replaces q and √q z by normal variables of the same covariance. The distribution of log|u| is the
    leading left eigenvector of this kernel, and the hazard its probability to pass u = e^3.5, from where ηqu² ≫ 2
    makes every step grow.
    Source: quasi-stationary distributions, Collet, Martínez & San Martín 2013, Springer.

    >>> round(hazard(0.5, 4), 6)
    0.000818
    """
    low, high = -6.0, 3.5
    width = (high - low) / cells
    u = np.exp(low + width * (np.arange(cells) + 0.5))
    kernel, out = np.zeros((cells, cells)), np.zeros(cells)
    for q, spread, weight in zip(*_batches(batch_size, normal, draws), strict=True):
        centre, sd = u - lr * q * u * (u * u - 1), lr * spread * u
        for sign in (1.0, -1.0):
            z = (sign * u - centre[:, None]) / sd[:, None]
            kernel += weight * np.exp(-z * z / 2) * (u * width) / (np.sqrt(2 * np.pi) * sd[:, None])
            out += weight * special.ndtr((sign * centre - np.exp(high)) / sd)
    # where steps grow the kernel is narrower than a cell
    kernel *= ((1 - out) / np.maximum(kernel.sum(axis=1), 1e-30))[:, None]
    law = np.exp(-np.square(np.log(u)))
    for _ in range(500):
        law = law @ kernel
        law /= law.sum()
    return float(law @ out)


def _batches(batch_size: float, normal: bool, draws: int) -> tuple[Floats, Floats, Floats]:
    """Nodes q = mean(x²), standard deviations of mean(xξ) given q, and weights."""
    x, weights = np.polynomial.legendre.leggauss(draws)
    law = stats.norm(1, np.sqrt(2 / batch_size)) if normal else stats.chi(batch_size, scale=batch_size**-0.5)
    low, high = law.ppf(1e-15), law.isf(1e-15)
    nodes = low + (high - low) * (x + 1) / 2
    weights = weights * law.pdf(nodes)
    spread = (np.ones_like(nodes) if normal else nodes) / np.sqrt(batch_size)
    return nodes if normal else nodes**2, spread, weights / weights.sum()


def least_action(lr: float, batches: int = 40, cells: int = 800) -> float:
    """Least cost of a sequence of at most ``batches`` batches from u = 1 to the edge ``u² = 1 + 2/η``.

    A batch costs ``½(q − 1 − log q + ζ²)``, the rates of q and of z = √B ζ, and log lifetime / B approaches the least
    sum. The cost of a step from u to v minimises over q, with ``√q ζ = (±v/u − 1)/η + q (u² − 1)``.
    Source: large deviations of random maps, Kifer 1990, Trans. Amer. Math. Soc. 321(2).

    >>> round(least_action(0.5), 2), round(least_action(0.5, batches=1), 2)
    (0.87, 1.47)
    """
    v = np.append(np.exp(np.linspace(-4.0, 0.5 * np.log1p(2 / lr), cells)), 1.0)
    pull, cost = (v * v - 1)[:, None], np.full((v.size, v.size), np.inf)
    for sign in (1.0, -1.0):
        push = (sign * v / v[:, None] - 1) / lr
        q = (1 + np.sqrt(1 + 4 * (1 + pull**2) * push**2)) / (2 * (1 + pull**2))
        cost = np.minimum(cost, (q - 1 - np.log(q) + (push + q * pull) ** 2 / q) / 2)
    best = np.append(np.full(cells, np.inf), 0.0)
    for _ in range(batches):
        best = np.minimum(best, (best[:, None] + cost).min(axis=0))
    return float(best[-2])


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Hazard against the batch size, and fractions alive against time."""
    hazards, fractions = axes
    measured: Measured = evidence.curves["measured"]
    sizes = np.linspace(1, 12, 45)
    for lr, colour in zip(dict.fromkeys(lr for lr, _ in CASES), plots.COLOURS, strict=False):
        hazards.semilogy(sizes, [hazard(lr, B) for B in sizes], color=colour, label=f"η = {lr:g}")
        anchor = max(B for rate, B in CASES if rate == lr)
        line = hazard(lr, anchor) * np.exp((anchor - sizes) * least_action(lr))
        hazards.semilogy(sizes, line, color=colour, ls=":", lw=1)
        for B in (B for rate, B in CASES if rate == lr):
            plots.interval(hazards, B, hazard_in(measured.status[lr, B], SETTLED, measured.steps), color=colour)
    hazards.set(title="Hazard of divergence", xlabel="batch size B", ylabel="probability per step", ylim=(1e-7, 1))
    hazards.legend(title="dotted: slope of least action", loc="upper right")
    times = np.arange(measured.steps + 1)
    for (lr, B), colour in zip(LINE, plots.COLOURS, strict=False):
        status = measured.status[lr, B]
        lost = np.cumsum(np.bincount(status[status > 0].astype(int), minlength=times.size))[: times.size]
        fractions.semilogy(times, 1 - lost / status.size, color=colour, label=f"B = {B}")
        fractions.semilogy(times, (1 - hazard(lr, B)) ** times, color=plots.INK, ls=":", lw=1)
    fractions.set(title=f"η = {LINE[0][0]:g}: constant hazard", xlabel="steps", ylabel="fraction not diverged")
    fractions.legend(loc="lower left")


CLAIM = Claim(
    name="metastable",
    title="SGD near a solution is metastable: a few large batches lead to divergence",
    statement=(
        "At L = 2 with Gaussian inputs and label noise, SGD has no stationary distribution: it diverges at a constant "
        "rate per step. A step multiplies balanced weights u (s* = σ = 1) by 1 − ηq(u² − 1) + η√q z/√B with q = "
        "mean(x²), Bq ~ χ²_B, and beyond u² = 1 + 2/η the mean step grows. The hazard per step is that of the "
        "quasi-stationary distribution of this kernel, and the log lifetime grows with B at a slope that approaches "
        "the least action Σ ½(q − 1 − log q + ζ²) of a sequence of batches from u = 1 to that edge, 0.587 at η = 0.6. "
        "The sequence has several batches: one alone costs 0.939. The Langevin model at the same T has a stationary "
        "distribution, and on bounded data SGD can be stable forever."
    ),
    source=(
        "this project's; large deviations after Kifer 1990, Trans. Amer. Math. Soc. 321(2); the stationary "
        "distribution is that of Ziyin, Li & Ueda 2023, arXiv 2308.06671"
    ),
    method=(
        "SGD on one pair of weights from s = s* = 1, σ = 1, at η = 0.6 and B = 4, 7, 10, and η = 0.4 and B = 2, 4; "
        "hazards from the fractions lost after the first 60 steps. Their prediction is an eigenvector of the kernel of "
        "a step on 200 values of log|u|. The slope is that of log hazard from B = 4 to 10; prefactors add a few "
        "per cent to the action there. Runs that are meant to diverge are not listed."
    ),
    control=(
        "With x = 1 and y = 0 or 2 (the same s* and label noise variance) the hazard must be refuted. Rivals: one "
        "batch instead of several, Gaussian gradient noise of the same covariance, a hazard that depends on T alone, "
        "and η × 0.95 and 1.05 (quick: 0.9 and 1.1)."
    ),
    caption=(
        "Hazard per step against B at two learning rates (lines: theory; dotted: slope of the least action; dots: "
        "ensembles, with intervals at 1 − 10⁻⁶); fractions not diverged (dotted: constant hazard)."
    ),
    experiment=experiment,
    draw=draw,
    panels=2,
    why=(
        "On Gaussian inputs SGD does not stay at a good solution for ever: a few unusually large batches in a row can "
        "make it diverge, with the same probability in every step, so late divergence needs no change of data or "
        "settings. The lifetime grows exponentially with the batch size, so a larger B or smaller η soon makes "
        "divergence rare; on bounded data it can be impossible, and the Langevin model does not show it (all at depth "
        "2)."
    ),
    equations=(
        (
            r"u\leftarrow u\left(1-\eta q(u^2-1)+\eta\sqrt{q}\,\frac{z}{\sqrt{B}}\right),\quad "
            r"q=\frac{1}{B}\sum_{i=1}^{B}x_i^2"
        ),
        r"\frac{d}{dB}\,\log(\text{lifetime})\to\min\sum_k\frac{1}{2}\left(q_k-1-\log\,q_k+\zeta_k^2\right)",
        r"u^2=1+\frac{2}{\eta}",
    ),
    proved=(
        "The step of balanced weights is exact. Its hazard is the rate at which the quasi-stationary distribution "
        "loses mass, computed numerically from an eigenvector of the step; the slope is the least action of large "
        "deviations (Kifer 1990), applied here without a proof that covers this process."
    ),
    unknown=(
        "Tested at depth 2 with s* = σ = 1, η = 0.4 and 0.6 and B from 2 to 10, where divergence is frequent enough to "
        "count; the long lifetimes of common settings are extrapolated. Prefactors of the lifetime are not derived. "
        "Other depths and several modes are not tested."
    ),
    related=("tail-exponents", "loss-divergence", "stationary-density"),
)
