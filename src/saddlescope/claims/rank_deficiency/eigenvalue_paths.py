"""Eigenvalues of N over a whole run under label noise follow the paths predicted from the initial weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.rank_deficiency._setting import SAMPLES, SOURCE, WeightPaths, drifted, follow, small_steps
from saddlescope.claims.tools import around, largest, power, smallest
from saddlescope.methods import GradientFlow
from saddlescope.problem import Problem
from saddlescope.theory.network import determinant

STEPS, HEAT = (0.01, 0.005), 0.5
"""Steps dt, and ηδ²."""

TIMES, STAGES = (8.0, *np.linspace(400.0, 4000.0, 10).tolist()), 20
"""Times of the saves, the first when the map is learned; stages of the averaged drift between two of them."""

COLOURS = (*plots.COLOURS, plots.INK)[:7]


@dataclass(frozen=True)
class Prediction:
    """log λ_i minus its initial value (saves, n, m), and the part of it due to repulsion since the first save."""

    logs: Floats
    repelled: Floats


def experiment(quick: bool) -> Evidence:
    """Label noise at two small steps and the same ηδ², from the same weights N(0, 1), and their prediction."""
    count, region = (128, around(0.0, 0.05)) if quick else (512, around(0.0, 0.03))
    coarse, fine = (_run(dt, count) for dt in STEPS)
    limit = (STEPS[0] * _seen(fine) - STEPS[1] * _seen(coarse)) / (STEPS[0] - STEPS[1])
    predicted = predict(fine.problem, fine.method.lr, count)
    colder, hotter = (predict(fine.problem, factor * fine.method.lr, count).logs for factor in (0.95, 1.05))
    line = _equal(fine, predicted)

    def judged(logs: Floats, seen: Floats = limit) -> Number:
        name = "mean of log λ_i minus its prediction, dt → 0, worst i and time"
        return Number(name, largest(_means(seen - logs)), region)

    def repelling(factor: float) -> Number:
        return judged(predicted.logs + (factor - 1) * predicted.repelled)

    return Evidence(
        numbers=[replace(judged(predicted.logs), moved=True, catches=power(repelling, "repulsion"))],
        controls=[
            Number(
                "the same if each took an equal share of the line, at the end, nearest i",
                smallest(_means((limit - line)[-1:])),
                region,
            )
        ],
        runs=[path.run for path in (coarse, fine)],
        curves={"coarse": _seen(coarse), "limit": limit, "predicted": predicted.logs, "line": line, "region": region},
        rivals=[
            Rival("no repulsion", [repelling(0.0)]),
            Rival("repulsion × 0.95", [repelling(0.95)]),
            Rival("repulsion × 1.05", [repelling(1.05)]),
            Rival("T × 0.95", [judged(colder)]),
            Rival("T × 1.05", [judged(hotter)]),
            Rival(f"no correction for the step, dt = {STEPS[1]:g}", [judged(predicted.logs, _seen(fine))]),
        ],
    )


def _run(dt: float, count: int) -> WeightPaths:
    problem, method = small_steps(dt, SOURCE, HEAT)
    return follow(f"label noise flow, dt = {dt:g}", problem, method, [round(time / dt) for time in TIMES], count)


def _logs(weights: Sequence[Floats]) -> Floats:
    """``log λ_i`` (n, m), largest first."""
    return np.asarray(2 * np.log(np.linalg.svd(determinant.neighbours(weights), compute_uv=False)))


def _seen(path: WeightPaths) -> Floats:
    """``log λ_i`` at every save minus its initial value (saves, n, m)."""
    logs = _logs(path.flat).reshape(len(path.steps), path.weights[0].shape[1], -1)
    return np.asarray(logs[1:] - logs[0])


def predict(problem: Problem, lr: float, count: int) -> Prediction:
    """From the initial weights: gradient flow until the map is learned, then the averaged drift of label noise.

    The drift acts for the whole time, because noise lowers log det N even while the map is learned.
    """
    flow = follow("before label noise acts", problem, GradientFlow(0.05), (round(TIMES[0] / 0.05),), count)
    first, now = _logs([layer[0] for layer in flow.weights]), [layer[-1] for layer in flow.weights]
    logs, repelled, since = [], [], np.zeros_like(first)
    for begin, end in zip((0.0, *TIMES), TIMES, strict=False):
        *halves, now = drifted(problem, lr, now, end - begin, STAGES)
        if begin > 0:
            since = since + (end - begin) / STAGES * sum(_repulsion(problem, lr, half) for half in halves)
        logs.append(_logs(now) - first)
        repelled.append(since)
    return Prediction(np.array(logs), np.array(repelled))


def _repulsion(problem: Problem, lr: float, weights: Sequence[Floats]) -> Floats:
    """Contribution of the other eigenvalues to d log λ_i/dt (n, m)."""
    law = determinant.eigenvalue_sde(problem.data, lr / SAMPLES, weights, share=0.0)
    own = np.diagonal(law.squares, axis1=1, axis2=2)
    return np.asarray(law.repulsion / law.eigenvalues - own)


def _equal(path: WeightPaths, predicted: Prediction) -> Floats:
    """Predicted logs if every eigenvalue took an equal share of the line once the map is learned (saves, n, m)."""
    data = path.problem.data
    rate = 2 * HEAT * data.dim_out * np.trace(data.sigma) / SAMPLES / predicted.logs.shape[2]
    return np.asarray(predicted.logs[:1] - rate * (np.array(TIMES) - TIMES[0])[:, None, None])


def _means(difference: Floats) -> Iterator[Interval]:
    """Means over networks for every save and eigenvalue (saves, n, m)."""
    return (intervals.mean(values) for save in difference for values in save.T)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Paths of the eigenvalues, each against the line, and measured minus predicted values."""
    paths, ends, rest = axes
    coarse, limit, predicted, line = (
        evidence.curves[name].mean(axis=1) for name in ("coarse", "limit", "predicted", "line")
    )
    time = np.array(TIMES) / 1000
    for place, colour in enumerate(COLOURS):
        paths.plot(time, predicted[:, place], color=colour, lw=1.2)
        paths.plot(time, limit[:, place], "o", color=colour, label=f"λ{'₁₂₃₄₅₆₇'[place]}")
        values = (evidence.curves["limit"] - evidence.curves["predicted"])[-1, :, place]
        plots.interval(rest, place + 1.0, intervals.mean(values), color=colour)
    paths.plot(time, line.mean(axis=1), color=plots.GREY, lw=1, ls=":")
    paths.set(title="Eigenvalues of N under label noise", xlabel="time / 1000", ylabel="log λ_i(t) − log λ_i(0)")
    paths.legend(ncols=2)
    places = np.arange(1, predicted.shape[1] + 1)
    ends.plot(places, predicted[-1], "_", color=plots.INK, ms=14, label="predicted")
    ends.plot(places, limit[-1], "o", color=plots.COLOURS[0], label="dt → 0")
    ends.plot(places, coarse[-1], "o", color=plots.COLOURS[1], mfc="none", label=f"dt = {STEPS[0]:g}")
    ends.plot(places, line[-1], color=plots.GREY, lw=1, ls=":", label="equal share of the line")
    ends.set(title=f"At t = {TIMES[-1]:g}", xlabel="eigenvalue, largest first", ylabel="log λ_i(t) − log λ_i(0)")
    ends.legend(loc="lower left")
    rest.axhspan(*evidence.curves["region"], color=plots.COLOURS[2], alpha=0.15, lw=0)
    rest.set(title="Measured minus predicted", xlabel="eigenvalue, largest first", ylabel="log λ_i")


CLAIM = Claim(
    name="eigenvalue-paths",
    title="Label noise separates the eigenvalues of N, along paths predicted from the initial weights",
    statement=(
        "In continuous time, at small T, the eigenvalues of N = ΘᵀΘ, Θ = [W₁, W₂ᵀ], follow gradient flow until the map "
        "is learned and then the averaged drift of label noise among interpolating weights, in which repulsion pushes "
        "the small eigenvalues down and holds the large ones up. They do not take equal shares of the fall of log det "
        "N. From weights N(0, 1) the mean of every log λ_i, dt → 0, stays within 0.03 of the prediction from the "
        "initial weights, while the smallest fall by 12."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (eigenvalues repel and small ones decrease); the paths "
        "predicted from the initial weights are this project's, by averaging (Li, Wang & Arora 2021, arXiv 2110.06914)"
    ),
    method=(
        "n = 1000 Gaussian samples, 5 inputs, 2 outputs (teacher strengths 2 and 1), width 10, weights N(0, 1) as in "
        "the source, ηδ² = 0.5, full batches with fresh label noise at dt = 0.01 and 0.005 until t = 4000, from the "
        "same initial weights; the limit is extrapolated linearly from the two. 512 networks; the quick form has 128 "
        "and a region of ± 0.05. Repulsion along the predicted path is the part of the drift from j ≠ i."
    ),
    control="An equal share of the line must be rejected as the fall of every eigenvalue.",
    caption=(
        "Mean of log λ_i at dt → 0 (dots) and predicted (lines), dotted an equal share of the line. Final values: "
        "predicted, measured at dt → 0 and at dt = 0.01. Measured minus predicted with intervals at 1 − 10⁻⁶, and the "
        "region."
    ),
    why=(
        "How much rank survives a long training with label noise can be predicted from the initial weights alone. The "
        "loss is uneven: the smallest eigenvalues fall fast while the large ones stay, so the determinant says little "
        "about a single direction."
    ),
    equations=(
        r"\dot W_1 = -\tfrac12 \frac{\eta\delta^2}{n} d_y W_1 S_{xx} - W_2^\top K, \qquad \dot W_2 = -\tfrac12 "
        r"\frac{\eta\delta^2}{n} \operatorname{Tr}(S_{xx})\, W_2 - K W_1^\top",
        r"K \text{ such that } \frac{d}{dt} (W_2 W_1) = 0",
    ),
    proved=(
        "The source derives that eigenvalues repel and that small ones decrease. The averaged drift among weights "
        "that fit is that of Li, Wang & Arora, who prove it for label noise in the limit of small steps over times of "
        "order one over the noise; here it is evaluated for two linear layers."
    ),
    unknown=(
        "The error at a finite temperature has no bound; it is measured at ηδ² = 0.5. The limit dt → 0 is "
        "extrapolated from two steps. Larger steps and deeper networks are not tested."
    ),
    related=("eigenvalues", "determinant", "singular-values"),
    experiment=experiment,
    draw=draw,
)
