"""Parallel chains: noise conserves their ratios at depth 2 and equalises them in deeper networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import chains
from saddlescope.claims.tools import ALWAYS, alive, around, largest, power, run
from saddlescope.methods import SGD, GradientFlow, Langevin, Method
from saddlescope.plan import Plan
from saddlescope.runs.run import parts

LABEL_NOISE, TEMPERATURE, HORIZON, SAVES = 1.0, 0.01, 20.0, 200
SAME, OPPOSITE = (0.1, 0.4), (-0.05, 0.4)
"""Initial strengths of two chains, whose sum learns s* = 1."""

LONG, WARMER = 150.0, 0.02
"""Time and temperature at which chains become alike."""

RATE = around(1.0, 0.03)
"""Region of a measured change over its prediction."""

Changes = dict[tuple[int, tuple[float, float]], tuple[Floats, Floats]]
"""Measured and predicted change of each trajectory, by depth and starts."""

COLD, EARLY = SGD(TEMPERATURE, 8), 4.0
"""SGD whose finite-step term is larger than that of the noise, and the time until which the error is large."""


def experiment(quick: bool) -> Evidence:
    """Two chains of the same and of opposite sign at depths 2, 3, 4, against the predicted change of their distance."""
    size = 512 if quick else 8192
    fine = Langevin(TEMPERATURE, 1.0, noise="gradient", dt=TEMPERATURE / 4)
    shallow = _run(2, (*SAME, 0.2), SGD(0.05, 1), size)
    ratios = np.log(strengths(shallow, 2) / strengths(shallow, 2)[..., :1])
    kinds = {(L, starts): _run(L, starts, fine, size) for L in (3, 4) for starts in (SAME, OPPOSITE)}
    kinds[2, OPPOSITE] = _run(2, OPPOSITE, fine, size)
    changes = {key: change(dataset, *key) for key, dataset in kinds.items()}
    sgd = _run(4, SAME, COLD, size, EARLY)
    flow = change(_run(3, SAME, GradientFlow(0.01), 1), 3, SAME)[0]
    long = {L: _run(L, SAME, SGD(WARMER, 1), size, LONG) for L in (2, 3, 4)}
    apart = {L: np.log(strengths(dataset, L)[..., 1] / strengths(dataset, L)[..., 0]) for L, dataset in long.items()}
    halved = np.abs(apart[4][:, -1]) < np.log(4) / 2
    return Evidence(
        numbers=[
            replace(_worst(changes, 1.0), catches=power(lambda factor: _worst(changes, factor), "T")),
            Number(
                "L = 2: largest change of a log ratio of strengths",
                intervals.exact(float(np.abs(ratios - ratios[:, :1]).max())),
                (0.0, 1e-9),
            ),
            _caught("L = 2, opposite signs: change of log|v₁v₂| over predicted", changes[2, OPPOSITE]),
            _caught("L = 4 under SGD: change of log|x₁ − x₂| over predicted", change(sgd, 4, SAME)),
            Number("L = 3, gradient flow: change of log|x₁ − x₂|", intervals.exact(float(flow[0])), around(0.0, 1e-6)),
            Number(
                "L = 4, T = 0.02, t = 150: fraction with the log ratio halved", intervals.proportion(halved), ALWAYS
            ),
        ],
        controls=[
            Number("L = 3: change of log|x₁ − x₂|", intervals.mean(changes[3, SAME][0]), around(0.0, 0.05)),
            Number(
                "L = 2, opposite signs: change of log|v₁v₂|", intervals.mean(changes[2, OPPOSITE][0]), around(0.0, 0.05)
            ),
            _one("L = 4: change of log|x₁ − x₂| over that at L = 3", changes[4, SAME], 1 / 3),
        ],
        rivals=[
            Rival("T × 0.95", [_worst(changes, 0.95)]),
            Rival("T × 1.05", [_worst(changes, 1.05)]),
            Rival("L(L − 1)/2 for (L − 1)(L − 2)/2 at L = 4", [_one("L = 4, same sign", changes[4, SAME], 2.0)]),
            Rival("(L − 2)²/2 for (L − 1)(L − 2)/2 at L = 4", [_one("L = 4, same sign", changes[4, SAME], 2 / 3)]),
            Rival("L = 2, opposite signs: half the rate", [_one("L = 2", changes[2, OPPOSITE], 0.5)]),
            Rival("SGD without the term of discrete steps", [_one("L = 4, SGD", change(sgd, 4, SAME, stepping=0.0))]),
        ],
        runs=[Run.of("SGD, L = 2, three chains", shallow), Run.of("SGD, L = 4, two chains", long[4])]
        + [Run.of(f"Langevin, L = {L}, chains from {starts}", dataset) for (L, starts), dataset in kinds.items()],
        curves={"apart": apart, "changes": changes, "path": strengths(long[4], 4)[0], "times": long[4]["time"].values},
    )


def _worst(changes: Changes, factor: float) -> Number:
    """The changes at depth 3 and 4 over ``factor`` times the predicted ones."""
    deep = [both for (depth, _), both in changes.items() if depth > 2]
    found = largest((_over(found, factor * predicted) for found, predicted in deep), 1.0)
    return Number("L = 3, 4: change of log|x₁ ∓ x₂| over predicted, farthest from 1", found, RATE, moved=True)


def _one(name: str, both: tuple[Floats, Floats], factor: float = 1.0) -> Number:
    """One measured change over ``factor`` times its prediction."""
    return Number(name, _over(both[0], factor * both[1]), RATE, moved=True)


def _caught(name: str, both: tuple[Floats, Floats]) -> Number:
    """The same, with the errors of T that it catches."""
    return replace(_one(name, both), catches=power(lambda factor: _one(name, both, factor), "T"))


def _run(depth: int, starts: Sequence[float], method: Method, size: int, time: float = HORIZON) -> xr.Dataset:
    plan = Plan(round(time / method.time_step), size, saves=SAVES, keep="weights", events=(), seed=1)
    return run(chains(depth, starts, LABEL_NOISE), method, plan)


def strengths(dataset: xr.Dataset, depth: int) -> Floats:
    """Strength ``Π_l u_lj`` of every chain (trajectory, time, chain), without diverged trajectories."""
    held = alive(dataset)
    return np.asarray(np.prod([held[f"W{layer}"].values[..., 0] for layer in range(1, depth + 1)], axis=0))


def change(dataset: xr.Dataset, depth: int, starts: Sequence[float], stepping: float = 1.0) -> tuple[Floats, Floats]:
    """Change of the distance of two chains in each trajectory, and its prediction from the path.

    L ≥ 3, ``x = |a|^{−(L−2)}``: ``d log|x₁ ∓ x₂| = ∓½(L−1)(L−2) |a₁a₂|^{L−2} dQ``, the lower sign for opposite signs.
    L = 2, opposite signs: ``d log|v₁v₂| = −2 dQ``. ``dQ = (T g(v) + h (v − s*)²) dt`` with h the time of a step: the
    second part, times ``stepping``, comes from the discrete steps.
    """
    v = strengths(dataset, depth)
    a, total, opposite = np.abs(v) ** (1 / depth), v.sum(axis=-1), starts[0] * starts[1] < 0
    method = parts(dataset)[1]
    heat = getattr(method, "temperature", 0.0)
    step = 0.0 if isinstance(method, GradientFlow) else stepping * float(method.time(1))
    off = (total - 1.0) ** 2
    noise = heat * (2 * off + LABEL_NOISE**2) + step * off
    if depth == 2:
        found, rate = np.log(np.abs(v[..., 0] * v[..., 1])), -2 * noise
    else:
        x = a ** -(depth - 2.0)
        found = np.log(np.abs(x[..., 0] + (1 if opposite else -1) * x[..., 1]))
        rate = (1 if opposite else -1) * (depth - 1) * (depth - 2) / 2 * noise * (a[..., 0] * a[..., 1]) ** (depth - 2)
    rates = np.broadcast_to(rate, found.shape)
    return found[:, -1] - found[:, 0], np.asarray((rates[:, 1:] + rates[:, :-1]) / 2 @ np.diff(dataset["time"]))


def _over(found: Floats, predicted: Floats) -> Interval:
    """Mean change over mean prediction on the same trajectories."""
    scale = float(predicted.mean())
    rest = intervals.mean((found - predicted) / abs(scale))
    sign = np.sign(scale)
    ends = sorted((1 + sign * rest.low, 1 + sign * rest.high))
    return Interval(1 + sign * rest.value, *ends)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Ratios over time, one trajectory, measured and predicted changes."""
    ratio, path, changes = axes
    times = evidence.curves["times"]
    for (L, apart), colour in zip(evidence.curves["apart"].items(), plots.COLOURS, strict=False):
        low, middle, high = np.quantile(apart, (0.05, 0.5, 0.95), axis=0)
        ratio.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
        ratio.plot(times, middle, color=colour, label=f"L = {L}")
    ratio.set(title="Two chains become alike, L ≥ 3", xlabel="time", ylabel="log v₂/v₁", ylim=(0, None))
    ratio.legend(loc="upper right")
    for chain_, colour in zip(evidence.curves["path"].T, plots.COLOURS, strict=False):
        path.plot(times, chain_, color=colour, lw=1)
    path.plot(times, evidence.curves["path"].sum(axis=1), color=plots.GREY, lw=0.8, label="v₁ + v₂")
    path.set(title="One trajectory of SGD, L = 4", xlabel="time", ylabel="strength of a chain", ylim=(0, None))
    path.legend()
    for ((L, starts), (found, predicted)), colour in zip(
        evidence.curves["changes"].items(), plots.COLOURS, strict=False
    ):
        signs = "opposite" if starts == OPPOSITE else "same"
        changes.plot(predicted[:400], found[:400], ".", ms=2.5, color=colour, alpha=0.5)
        changes.plot([], [], "o", color=colour, label=f"L = {L}, {signs}")
    ends = np.array(changes.get_xlim())
    changes.plot(ends, ends, color=plots.INK, lw=1)
    changes.set(title="log|x₁ ∓ x₂|, path by path", xlabel="predicted change", ylabel="measured change")
    changes.legend(loc="upper left", markerscale=0.8)


CLAIM = Claim(
    name="width",
    title="Noise conserves the ratios of parallel chains at depth 2 and equalises them in deeper networks",
    statement=(
        "Balanced chains v = Σ_j a_j^(L). At L = 2 the ratios of chains of the same sign never change, exactly, and "
        "chains of opposite signs decay, d log|v_i v_j| = −2T g dt. At L ≥ 3, with x = |a|^(−(L−2)), d log|x_i − x_j| "
        "= −½(L−1)(L−2) T g |a_i a_j|^(L−2) dt, path by path and not only on average: noise makes chains of the same "
        "sign alike. For opposite signs log(x_i + x_j) grows at the same rate, so the smaller chain vanishes. Without "
        "noise all of these are conserved. Finding of this project; finite steps add η(v − s*)² to T g."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, diagonal networks of any width; L ≥ 3 is this project's",
    method=(
        "Diagonal networks, s* = σ = 1, T = 0.01: two chains from 0.1 and 0.4, or −0.05 and 0.4, under Langevin "
        "dynamics (dt = T/4) until t = 20, under SGD with the same η and B = 8 until t = 4, where the finite-step term "
        "is twice that of the noise, and under SGD with η = 0.02, B = 1 until t = 150; three chains at L = 2 under SGD "
        "with η = 0.05. The predicted change is the integral along each trajectory, from 200 saves."
    ),
    control=(
        "Conservation must be refuted at L = 3 and for opposite signs at L = 2; the factor of L = 3 must be refuted at "
        "L = 4. Rivals, on the same trajectories: T × 0.95 and 1.05, neighbouring factors of the depth, half the rate "
        "at L = 2, and SGD without its finite-step term."
    ),
    caption=(
        "Log ratio of two chains under SGD (median, 5–95 %); the chains of one trajectory; change of log|x₁ ∓ x₂| (L = "
        "2: log|v₁v₂|) in each trajectory against the prediction from its path (line: equal)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Parallel units share what is learned, and minibatch noise decides how: in a diagonal network of depth 2 it "
        "keeps the ratios of units of the same sign as they were at initialisation, in deeper ones it makes them "
        "alike. Of two units with opposite signs the smaller one is driven to zero, at a rate proportional to learning "
        "rate over batch size, which gradient flow does not do."
    ),
    equations=(
        r"v=\sum_ja_j^L,\quad d\,\log\left| v_iv_j\right|=-2Tg\,dt\quad(L=2,\;\text{opposite signs})",
        (
            r"d\,\log\left| x_i-x_j\right|=-\frac{(L-1)(L-2)}{2}\,Tg\,\left| a_ia_j\right|^{L-2}\,dt,\quad x=\left| "
            r"a\right|^{-(L-2)}"
        ),
        r"d\,\log(x_i+x_j)=+\frac{(L-1)(L-2)}{2}\,Tg\,\left| a_ia_j\right|^{L-2}\,dt\quad(\text{opposite signs})",
        r"Tg\to Tg+\eta(v-s^{*})^2\quad(\text{SGD})",
    ),
    proved=(
        "At L = 2 constant ratios are exact for SGD on any data. The other equations are derived by this project with "
        "Itô's formula, path by path, for balanced chains in the Langevin model; the term of finite steps is of first "
        "order in η. Ziyin, Li & Ueda introduce diagonal networks of any width."
    ),
    unknown=(
        "Chains that are not balanced, more than two chains at L ≥ 3, and units of nonlinear networks are not tested."
    ),
    related=("broken-ergodicity", "deep-limit", "wide-and-deep"),
)
