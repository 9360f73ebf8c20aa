"""A learning rate that rises to the critical one leaves equilibrium: strengths lag by the cube root of the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from matplotlib.axes import Axes
from scipy.linalg import solve_banded

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain
from saddlescope.claims.tools import alive, around, power, run
from saddlescope.methods import SGD
from saddlescope.plan import Plan
from saddlescope.schedules import Warmup
from saddlescope.theory.mode.phases import collapse_rate, discrete_critical_temperature

LABEL_NOISE, START = 10.0, 0.25
"""Label noise and start, in units of s*: at B = 1 T_c is then a property of SGD."""

RAMPS, WAITS = (1000, 8000, 64_000), (250, 2000, 16_000)
"""Steps in which the learning rate rises from 0 to the critical one, and steps at the critical one."""

TIMES = 8
"""Ratio of neighbouring ones."""


@dataclass(frozen=True, eq=False)
class Measured:
    """−log s at the critical learning rate, one array for each ramp."""

    lags: list[Floats]
    quick: bool

    @property
    def means(self) -> list[Interval]:
        """Mean of −log s."""
        return [intervals.mean(lag) for lag in self.lags]

    def exponent(self, expected: float) -> Number:
        """Power of the time of the ramp with which −log s grows, which a constant added to it does not change."""
        margin = 0.12 if self.quick else 0.05
        return Number(
            "power of the ramp's time in ⟨−log s⟩ at T_c",
            power_of_time(self.means),
            around(expected, margin),
            moved=True,
        )

    def slope(self, noise: float) -> Number:
        """Growth of −log s from the first ramp to the last over its prediction at ``noise`` times the variance."""
        first, *_, last = self.means
        expected = [lag(steps, noise) for steps in (RAMPS[0], RAMPS[-1])]
        grown = difference(last, first) / (expected[1] - expected[0])
        return Number("growth of ⟨−log s⟩ / predicted", grown, around(1, 0.15 if self.quick else 0.06), moved=True)


def experiment(quick: bool) -> Evidence:
    """Strengths when the learning rate reaches the critical one, and after times at the critical one."""
    sizes = (32_768, 32_768, 16_384) if quick else (262_144, 262_144, 131_072)
    ramps = [_reached(steps, size, True) for steps, size in zip(RAMPS, sizes, strict=True)]
    waits = [_reached(steps, 65_536 if quick else 262_144, False) for steps in WAITS]
    measured = Measured([values for values, _ in ramps], quick)
    held = Measured([values for values, _ in waits], quick)
    factors = (0.6, 1.6) if quick else (0.8, 1.25)
    return Evidence(
        numbers=[
            measured.exponent(1 / 3),
            replace(measured.slope(1.0), catches=power(measured.slope, "variance")),
        ],
        controls=[replace(held.exponent(1 / 3), name="power of the time spent at constant T = T_c")],
        runs=[found for _, found in (*ramps, *waits)],
        curves={"measured": measured, "held": held},
        rivals=[
            Rival("relaxation rate linear in T_c − T, power ½", [measured.exponent(1 / 2)]),
            Rival(
                "relaxation rate cubic in T_c − T, power ¼" if not quick else "power 0",
                [measured.exponent(1 / 4 if not quick else 0.0)],
            ),
            *(Rival(f"noise variance × {factor}", [measured.slope(factor)]) for factor in factors),
        ],
    )


def critical() -> float:
    """The critical learning rate at B = 1."""
    return discrete_critical_temperature(1, 1.0, LABEL_NOISE)


def lag(steps: int, noise: float = 1.0) -> float:
    """Mean of −log s at the critical learning rate, up to a constant, after a linear rise over ``steps``.

    Near T_c x = −log s has the drift ``v k`` per step, k counted from the crossing, the variance V per step, and a wall
    at x ≈ 0: ``C (V²/4v)^{1/3}``, as x in units of ``(V²/4v)^{1/3}`` is one universal process.

    >>> lag(8000) / lag(1000)
    2.0...
    """
    rate = critical()
    growth = [collapse_rate(rate * (1 + way), 1, 1.0, LABEL_NOISE) for way in (-1e-3, 1e-3)]
    rise = 2 * (growth[0] - growth[1]) / 2e-3 / steps
    return universal() * ((noise * _variance()) ** 2 / (4 * rise)) ** (1 / 3)


@cache
def _variance() -> float:
    """Variance of log s per step at the critical learning rate, from four million steps."""
    x, xi = np.random.default_rng(0).standard_normal((2, 2**22))
    return float(np.var(2 * np.log(np.abs(1 + critical() * (x * x + LABEL_NOISE * x * xi)))))


@cache
def universal(cells: int = 1500, step: float = 1e-3, reach: float = 30.0) -> float:
    """C: the mean at u = 0 of ``dx = u du + √2 dW``, reflected at 0 from u = −∞ on.

    By finite volumes that keep the stationary law (Chang–Cooper) and implicit Euler, extrapolated in the step.

    >>> universal()
    1.104...
    """
    coarse, fine = (_mean_at_crossing(cells, each, reach) for each in (2 * step, step))
    return 2 * fine - coarse


def _mean_at_crossing(cells: int, step: float, reach: float) -> float:
    width, start = reach / cells, -6.0
    x = (np.arange(cells) + 0.5) * width
    mass = np.exp(start * x)
    for u in np.arange(start + step / 2, 0, step):
        down = u / np.expm1(u * width) / width
        up = down + u / width
        diagonal = np.full(cells, up + down)
        diagonal[0], diagonal[-1] = up, down
        bands = np.stack([np.full(cells, -step * down), 1 + step * diagonal, np.full(cells, -step * up)])
        mass = solve_banded((1, 1), bands, mass)
    return float(mass @ x / mass.sum())


def difference(one: Interval, other: Interval) -> Interval:
    """One number minus another; miss probabilities add up."""
    return Interval(one.value - other.value, one.low - other.high, one.high - other.low, one.miss + other.miss)


def power_of_time(means: Sequence[Interval]) -> Interval:
    """The p of ``a + b τ^p`` through three means at times that grow eightfold each."""
    first, middle, last = means
    ratio = intervals.ratio(difference(last, middle), difference(middle, first))
    value, low, high = (
        float(np.log(max(number, 1e-9)) / np.log(TIMES)) for number in (ratio.value, ratio.low, ratio.high)
    )
    return Interval(value, low, high, ratio.miss)


def _reached(steps: int, size: int, rising: bool) -> tuple[Floats, Run]:
    """−log s of an ensemble after a ramp up to the critical learning rate, or after as many steps at it."""
    method = SGD(lr=critical(), batch_size=1, schedule=Warmup(steps=steps) if rising else None)
    plan = Plan(steps=steps, trajectories=size, save_at=(steps,), keep="trajectories", events=(), seed=1)
    dataset = run(chain(2, START, LABEL_NOISE), method, plan)
    strengths = np.abs(alive(dataset)["mode_strength"].values[:, -1, 0])
    name = f"SGD, learning rate rising to the critical one in {steps} steps" if rising else f"SGD at it, {steps} steps"
    return -np.log(strengths), Run.of(name, dataset)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Lag against the time of the ramp, and its distribution in units of the prediction."""
    growth, shape = axes
    measured, held = evidence.curves["measured"], evidence.curves["held"]
    offset = measured.means[0].value - lag(RAMPS[0])
    times = np.geomspace(RAMPS[0] / 2, 2 * RAMPS[-1], 50)
    growth.semilogx(times, [offset + lag(time) for time in times], color=plots.INK, lw=1.0, label="C (V²/4v)$^{1/3}$")
    for steps, mean in zip(RAMPS, measured.means, strict=True):
        label = "ramp to $T_c$" if steps == RAMPS[0] else None
        plots.interval(growth, steps, mean, color=plots.COLOURS[0], label=label)
    for steps, mean in zip(WAITS, held.means, strict=True):
        plots.interval(growth, steps, mean, color=plots.COLOURS[1], label="at $T_c$" if steps == WAITS[0] else None)
    growth.set(title="Lag of the strength", xlabel="steps of the ramp, or at $T_c$", ylabel="⟨−log s⟩", ylim=(0, None))
    growth.legend(loc="upper left")
    for colour, steps, values in zip(plots.COLOURS, RAMPS, measured.lags, strict=False):
        shape.hist(
            (values - offset) / lag(steps),
            np.linspace(-1, 5, 61).tolist(),
            density=True,
            histtype="step",
            color=colour,
            label=f"{steps} steps",
        )
    shape.set(title="Towards one law for slow ramps", xlabel="−log s / prediction of its mean", ylabel="density")
    shape.legend(loc="upper right")


CLAIM = Claim(
    name="annealing",
    title="Strengths lag behind a warm-up to T_c, by the cube root of its length",
    statement=(
        "At L = 2 the relaxation rate of log s vanishes like (T_c − T)² at the critical temperature, so strengths "
        "cannot follow T there, however slowly it rises. If the learning rate rises linearly over a time τ to its "
        "critical value, strengths leave equilibrium at 1 − T/T_c ~ τ^(−1/3). In equilibrium at T_c ⟨−log s⟩ would be "
        "infinite; after the rise it is C (V²/4v)^(1/3) up to a constant and grows like τ^(1/3). Here C = 1.104, v k "
        "is the drift of −log s per step at k steps from the end of the rise, and V its variance per step. At a "
        "constant T_c ⟨−log s⟩ grows like the square root of time."
    ),
    source=(
        "this project's; the transition is that of Ziyin, Li & Ueda 2023, arXiv 2308.06671, the argument that of "
        "Zurek 1985, Nature 317"
    ),
    method=(
        "SGD on one pair of weights, B = 1, s* = 1, σ = 10, from s = 0.25; a linear warm-up to the critical learning "
        "rate over 1000, 8000 and 64,000 steps. v and V are those of a step of SGD at the critical rate: the slope of "
        "E log|1 + η mean(xy)| and the variance of its terms. The power is that of a + bτ^p through three means, the "
        "growth their difference, which does not depend on where the wall at s ~ s* is."
    ),
    control="At a constant learning rate, the critical one, −log s must grow with another power of time.",
    caption=(
        "Mean of −log s at the critical learning rate against the time of the ramp, with the predicted growth; its "
        "distribution in units of the prediction, which approaches one law for slow ramps."
    ),
    experiment=experiment,
    draw=draw,
    panels=2,
    why=(
        "A warm-up should be slow enough for the weights to follow the learning rate, but near the critical "
        "temperature of a two-layer model no warm-up is, because relaxation becomes arbitrarily slow. After a warm-up "
        "to T_c a run can therefore look trained at a learning rate at which it would collapse in the long run: a "
        "warm-up eight times as long only doubles the lag, the mean of −log s."
    ),
    equations=(
        r"\langle-\log\,s\rangle=C\left(\frac{V^2}{4v}\right)^{1/3}+\text{const}\propto\tau^{1/3},\quad C=1.104",
        r"\langle-\log\,s\rangle\propto t^{1/2}\quad(T=T_c\;\text{held})",
    ),
    proved=(
        "Scaling argument after Zurek, carried out by this project: near T_c −log s has a drift proportional to the "
        "distance from T_c, a constant variance and a wall near 0. In units of (V²/4v)^(1/3) this is one process for "
        "all ramps, whose mean at the crossing, C, is computed numerically."
    ),
    unknown=(
        "That SGD converges to this process is not proved; ramps of 1000 to 64,000 steps agree with it. The constant, "
        "which depends on where the wall is, is not predicted. Other schedules and networks with several modes are not "
        "tested."
    ),
    related=("phase-transition", "second-order", "regimes"),
)
