"""Broken ergodicity: balanced pairs never change sign; with any imbalance they do, after a known time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chain
from saddlescope.claims.tools import ALWAYS, NEVER, around, power, run
from saddlescope.data import GaussianData
from saddlescope.init import Given
from saddlescope.methods import SGD
from saddlescope.networks import Diagonal
from saddlescope.plan import Plan
from saddlescope.problem import Problem

START, LABEL_NOISE, HORIZON, SAVES = -0.25, 1.0, 20.0, 100
RATES = {1: 0.02, 2: 0.02, 3: 0.01}
"""Learning rates by depth, B = 1."""

NEAR, RATIO = -0.01, 1e-6
"""Initial v and imbalance ratio ``|u + w| / |u − w|`` of the pairs whose time to leave is measured; s* = 1."""

RATIOS = (1e-2, 1e-4, RATIO, 1e-8)


def experiment(quick: bool) -> Evidence:
    """Signs of ensembles that all start with the wrong one."""
    size = 2048 if quick else 32_768
    runs = {L: _run(chain(L, START, LABEL_NOISE), RATES[L], size) for L in RATES}
    paths = {L: _strengths(dataset) for L, dataset in runs.items()}
    pairs = {ratio: _run(pair(NEAR, ratio), RATES[2], size // 4 if ratio != RATIO else size) for ratio in RATIOS}
    leaving = {ratio: _leaving(dataset) for ratio, dataset in pairs.items()}
    tanh = _tanh(size // 2)
    time = intervals.mean(leaving[RATIO])
    alpha3 = 2 + LABEL_NOISE**2
    return Evidence(
        numbers=[
            Number("L = 2, balanced: fraction that reaches the right sign", _right(paths[2]), NEVER),
            Number("the same, L = 3", _right(paths[3]), NEVER),
            Number("L = 2: fraction that ends within 0.01 of 0", intervals.proportion(paths[2][:, -1] > -0.01), ALWAYS),
            Number("L = 1: fraction that reaches the right sign", _right(paths[1]), ALWAYS),
            Number(
                "L = 2, |u + w| = 10⁻⁶ |u − w|: mean time to leave, over predicted",
                (over := _leaves(time, 2.0)).interval,
                over.region,
                power(lambda factor: _leaves(time, 2 * factor), "rate"),
                moved=True,
            ),
            Number("w tanh(ux), u = −w: fraction that reaches the right sign", _right(tanh), ALWAYS),
        ],
        controls=[
            Number("L = 1: fraction that reaches the right sign", _right(paths[1]), NEVER),
            Number(
                "L = 2, unbalanced by 10⁻⁶: the same",
                intervals.proportion(leaving[RATIO] < HORIZON),
                NEVER,
            ),
        ],
        rivals=[
            Rival("pairs leave at rate 2s* − Tα₃, as a balanced product grows", [_leaves(time, 2 - RATES[2] * alpha3)]),
            Rival("pairs leave at rate s*", [_leaves(time, 1.0)]),
            Rival(
                "the sign is also conserved at L = 1",
                [Number("L = 1: fraction that reaches the right sign", _right(paths[1]), NEVER)],
            ),
            Rival(
                "noise moves balanced weights past 0",
                [Number("L = 2, balanced: fraction that reaches the right sign", _right(paths[2]), ALWAYS)],
            ),
        ],
        runs=[Run.of(f"SGD with the wrong sign, L = {L}", dataset) for L, dataset in runs.items()]
        + [Run.of(f"SGD, L = 2, unbalanced by {ratio:g}", dataset) for ratio, dataset in pairs.items()],
        curves={"paths": paths | {"pair": _strengths(pairs[RATIO]), "tanh": tanh}, "leaving": leaving},
    )


def pair(strength: float, ratio: float) -> Problem:
    """A pair with ``uw = strength < 0`` and ``(u + w)/(u − w) = ratio``.

    >>> u, w = pair(-1.0, 0.6).init.weights
    >>> (u * w).item(), ((u + w) / (u - w)).item()
    (-1.0, 0.6...)
    """
    apart = 2 * np.sqrt(-strength / (1 - ratio**2))
    together = ratio * apart
    weights = [np.array([[(together + sign * apart) / 2]]) for sign in (1, -1)]
    return Problem(Diagonal(2), GaussianData(np.eye(1), label_noise=LABEL_NOISE), Given(tuple(weights)))


def _run(problem: Problem, lr: float, trajectories: int) -> xr.Dataset:
    plan = Plan(round(HORIZON / lr), trajectories, saves=SAVES, keep="trajectories", events=(), seed=1)
    return run(problem, SGD(lr, 1), plan)


def _leaves(time: Interval, rate: float) -> Number:
    """Mean time to leave over ``log(|u − w|/|u + w|)/rate``."""
    return Number("mean time to leave, over predicted", time / (np.log(1 / RATIO) / rate), around(1.0, 0.02))


def _strengths(dataset: xr.Dataset) -> Floats:
    return np.asarray(dataset["mode_strength"].values[:, :, 0])


def _right(paths: Floats) -> intervals.Interval:
    return intervals.proportion(paths[:, -1] > 0)


def _leaving(dataset: xr.Dataset) -> Floats:
    """Time at which each trajectory reaches the right sign, to half the save interval; inf if never."""
    right, times = _strengths(dataset) > 0, dataset["time"].values
    return np.where(right.any(axis=1), times[right.argmax(axis=1)] - times[1] / 2, np.inf)


def _tanh(trajectories: int, lr: float = RATES[2]) -> Floats:
    """Products uw of units w tanh(ux), trained by SGD on the same data from u = −w (trajectory, time)."""
    rng, every = np.random.default_rng(1), round(HORIZON / lr / SAVES)
    u = np.full(trajectories, np.sqrt(-START))
    w, saved = -u, [-u * u]
    for step in range(SAVES * every):
        x, noise = rng.standard_normal((2, trajectories))
        hidden = np.tanh(u * x)
        error = w * hidden - x - LABEL_NOISE * noise
        u, w = u - lr * error * w * (1 - hidden**2) * x, w - lr * error * hidden
        if (step + 1) % every == 0:
            saved.append(u * w)
    return np.stack(saved, axis=1)


NAMES = {
    1: "L = 1",
    2: "L = 2, balanced",
    3: "L = 3, balanced",
    "pair": "L = 2, off by 10⁻⁶",
    "tanh": "w tanh(ux)",
}


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Strengths over time, fractions with the right sign, time to leave against imbalance."""
    path, share, leaving = axes
    times = np.linspace(0, HORIZON, SAVES + 1)
    for (key, name), colour in zip(NAMES.items(), plots.COLOURS, strict=False):
        strengths = evidence.curves["paths"][key]
        low, middle, high = np.quantile(strengths, (0.05, 0.5, 0.95), axis=0)
        path.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
        path.plot(times, middle, color=colour, label=name)
        share.plot(times, (strengths > 0).mean(axis=0), color=colour, ls="--" if key == 3 else "-")
    path.axhline(0, color=plots.GREY, lw=0.8, ls=":")
    path.set(title="All start with the wrong sign", xlabel="time", ylabel="strength v (tanh: uw)", ylim=(-0.3, 2.6))
    path.legend(loc="upper left", ncols=2)
    share.set(title="Reaching the right sign", xlabel="time", ylabel="fraction with v > 0", ylim=(-0.03, 1.03))
    ratios = np.geomspace(1e-9, 0.1, 10)
    leaving.plot(ratios, np.log(1 / ratios) / 2, color=plots.COLOURS[3], label="log(|u − w|/|u + w|) / (2s*)")
    for ratio, found in evidence.curves["leaving"].items():
        plots.interval(leaving, ratio, intervals.mean(found), color=plots.INK)
    leaving.set(title="Time to leave the wrong sign, L = 2", xscale="log", ylim=(0, None))
    leaving.set(xlabel="initial |u + w| / |u − w|", ylabel="mean time")
    leaving.legend(loc="lower left")


CLAIM = Claim(
    name="broken-ergodicity",
    title="A balanced product of weights never changes sign; with any imbalance it does, after a predicted time",
    statement=(
        "From exactly balanced weights of the wrong sign, v < 0 < s*, SGD at L ≥ 2 never reaches v > 0 but ends at 0 "
        "(at odd L as long as no single step moves weights past 0), whereas at L = 1 it learns. Findings of this "
        "project: this requires exact balance. Since u ± w ← (1 ∓ ηḠ)(u ± w) at L = 2, a pair with u + w ≠ 0 and a "
        "small v reaches the right sign below T_c, after the mean time log(|u − w|/|u + w|)/(2s*), independent of the "
        "noise. A unit w tanh(ux), which has no rescaling symmetry to keep it balanced, also leaves u = −w."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, broken ergodicity; the findings are this project's",
    method=(
        "Discrete SGD (B = 1, η = 0.02, at L = 3 0.01), s* = σ = 1, from v = −0.25, until t = 20, for Diagonal "
        "networks of depth 1, 2, 3 and for the unit w tanh(ux) with u = −w. Time to leave: pairs from v = −0.01 with "
        "|u + w|/|u − w| = 10⁻² … 10⁻⁸; the first of 100 saves at which v > 0, minus half the time between saves. "
        "Fractions of at least 0.95 count as always, of at most 0.05 as never."
    ),
    control=(
        "That v > 0 is never reached must be refuted for L = 1, and for pairs unbalanced by 10⁻⁶. Rivals, on the same "
        "trajectories: other rates at which pairs leave, the nearest 2s* − Tα₃, 3 % slower."
    ),
    caption=(
        "Median strength and 5–95 % band; fraction of trajectories with the right sign; mean time at which pairs reach "
        "it (dots, intervals at 1 − 10⁻⁶) against the prediction (line)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "A unit of two or more exactly balanced weights that starts with the wrong sign stays dead under SGD: it "
        "shrinks to zero and neither noise nor more training brings it to the right sign. This needs exact balance, so "
        "random initial weights escape after a time that grows only logarithmically as they are better balanced (depth "
        "2, below T_c), and a tanh unit, which lacks the symmetry, escapes as well."
    ),
    equations=(
        r"u\pm w\leftarrow(1\mp\eta\bar{G})(u\pm w),\quad\bar{G}=\frac{1}{B}\sum_{i=1}^{B}(vx_i-y_i)x_i\quad(L=2)",
        r"\mathbb{E}[t]=\frac{1}{2s^{*}}\,\log\,\frac{\left| u-w\right|}{\left| u+w\right|}",
    ),
    proved=(
        "At L = 2 the recursion of u ± w is exact for SGD on any data, so u + w = 0 is kept for ever. Broken "
        "ergodicity is described by Ziyin, Li & Ueda in the Langevin model. The time to leave is derived by this "
        "project for small v, to first order in η."
    ),
    unknown=(
        "The time to leave is tested at L = 2 only; at L ≥ 3 nothing is predicted for weights that are not balanced. "
        "At odd L a single large step can move balanced weights past 0. The tanh unit is observed, without a "
        "prediction of its time."
    ),
    related=("exact-balance", "width", "stationary-density"),
)
