"""Label noise removes the singular values of W_1 that the teacher does not use, at a known rate; the others remain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.rank_deficiency._setting import (
    LABEL_NOISE,
    SAMPLES,
    STRENGTHS,
    WeightPaths,
    drifted,
    follow,
    problem,
)
from saddlescope.claims.tools import around, largest, power, smallest
from saddlescope.methods import GD
from saddlescope.theory import noise_balance
from saddlescope.theory.network import determinant

COARSE, FINE, END = 0.1, 0.05, 12_000.0
"""Learning rates and the time at which training ends."""

SAME = around(1.0, 0.02)
"""Measured over predicted, at η → 0."""

LEARNED, THRESHOLD, USED = 8.0, 0.5, len(STRENGTHS)
"""Time when the map is learned, value below which a singular value has fallen, number that the teacher needs."""


def experiment(quick: bool) -> Evidence:
    """Label noise at two learning rates and gradient descent, from the same Gaussian weights."""
    count = 128 if quick else 512
    coarse, fine = (_run(lr, LABEL_NOISE, END, count) for lr in (COARSE, FINE))
    silent = _run(COARSE, 0.0, END, count)
    lost, kept = (_singular(path)[-1] / _singular(path)[1] for path in (coarse, silent))
    rate, time, stay = (2 * found(fine) - found(coarse) for found in (_rate, _delay, _staying))
    balanced, white = _staying_others(fine)
    return Evidence(
        numbers=[
            _caught("rate of fall of the last three over predicted, η → 0", _mean(rate), "T"),
            _caught(f"time at which the third passes {THRESHOLD:g} over predicted, η → 0", _mean(time[:, -1]), "time"),
            _caught("square of those that remain over predicted, η → 0, worst", largest(map(_mean, stay.T), 1.0), "σ²"),
            Number("third singular value of W₁ under label noise, end over learned", _mean(lost[:, USED]), (0.0, 0.1)),
            Number(
                "gradient descent: largest change of a singular value after learning",
                intervals.exact(np.abs(kept - 1).max()),
                (0.0, 0.01),
            ),
        ],
        controls=[
            Number("gradient descent: third singular value, end over learned", _mean(kept[:, USED]), (0.0, 0.1)),
            Number("rate over an equal share of the fall of log det N", _mean(rate / 2), SAME),
        ],
        runs=[path.run for path in (coarse, fine, silent)],
        curves={"fine": fine, "silent": silent, "times": _times(fine), "predicted": _predicted_times(fine)},
        rivals=[
            Rival("the rate of inputs of the mean variance", [Number("rate", _mean(rate) * _anisotropy(fine), SAME)]),
            Rival("no correction for the step, η = 0.05: rate", [Number("rate", _mean(_rate(fine)), SAME)]),
            Rival("norms of W₁ and W₂ in balance", [Number("those that remain", _nearest(stay * balanced), SAME)]),
            Rival("noise in balance as for white inputs", [Number("those that remain", _nearest(stay * white), SAME)]),
        ],
    )


_mean = intervals.mean


def _nearest(stay: Floats) -> Interval:
    return smallest(map(_mean, stay.T), 1.0)


def _caught(name: str, found: Interval, symbol: str) -> Number:
    """A measured over predicted number, with the errors of the prediction that it catches."""
    catches = power(lambda factor: Number(name, found / factor, SAME), symbol)
    return Number(name, found, SAME, catches, moved=True)


def _run(lr: float, label_noise: float, end: float, count: int) -> WeightPaths:
    """A run with saves when the map is learned and 400 times after."""
    name = f"label noise {label_noise:g}, η = {lr:g}" if label_noise else f"gradient descent, η = {lr:g}"
    steps = np.linspace(LEARNED / lr, end / lr, 401).astype(int).tolist()
    return follow(name, problem(label_noise), GD(lr), steps, count)


def _singular(path: WeightPaths) -> Floats:
    """Singular values of W_1 (saves, trajectories, 5)."""
    return np.asarray(np.linalg.svd(path.weights[0], compute_uv=False), np.float64)


def _unused(path: WeightPaths) -> Floats:
    """Variance of the inputs along the directions that the teacher does not use."""
    unused = np.linalg.svd(path.problem.data.teacher)[2][USED:]
    return np.asarray(np.linalg.eigvalsh(unused @ path.problem.data.sigma @ unused.T))


def _rate(path: WeightPaths) -> Floats:
    """Fall of the log of the last three singular values over the second half, over its prediction (trajectories,)."""
    data, half = path.problem.data, len(path.steps) // 2
    logs = np.log(_singular(path)[[half, -1], :, USED:]).sum(axis=-1)
    predicted = path.method.lr * LABEL_NOISE**2 * data.dim_out / (2 * SAMPLES) * _unused(path).sum()
    return np.asarray((logs[0] - logs[1]) / (path.time[-1] - path.time[half]) / predicted)


def _times(path: WeightPaths) -> Floats:
    """First save at which each of the last three, smallest first, lies below the threshold (trajectories, 3)."""
    below = _singular(path)[:, :, : USED - 1 : -1] < THRESHOLD
    return np.where(below.any(axis=0), path.time[below.argmax(axis=0)], np.inf)


def _predicted_times(path: WeightPaths) -> Floats:
    """The same times predicted from the weights when the map is learned."""
    learned = [layer[1] for layer in path.weights]
    return path.time[1] + determinant.fall_times(path.problem.data, path.method.lr / SAMPLES, learned, THRESHOLD)


def _delay(path: WeightPaths) -> Floats:
    """Times of falling below the threshold over those predicted (trajectories, 3)."""
    return _times(path) / _predicted_times(path)


def _staying(path: WeightPaths) -> Floats:
    """Squares of the remaining singular values of ``W_1R``, over those at which noise balances (trajectories, 2)."""
    data = path.problem.data
    found = path.weights[0][-1] @ np.linalg.cholesky(data.sigma)
    return np.asarray(np.linalg.svd(found, compute_uv=False)[:, :USED] ** 2 / noise_balance(data)[0])


def _staying_others(path: WeightPaths) -> tuple[Floats, Floats]:
    """Squares predicted over those of balanced norms, ``σ_i(MR)``, and of white inputs, ``√(dx/dy) σ_i(M)`` (2,)."""
    data = path.problem.data
    predicted = noise_balance(data)[0]
    balanced = predicted / np.sqrt(np.trace(data.sigma) / data.dim_out)
    return predicted / balanced, predicted / (np.sqrt(data.dim_in / data.dim_out) * data.modes.strengths)


def _anisotropy(path: WeightPaths) -> float:
    """Mean variance of the inputs along directions that the teacher does not use, over that along all."""
    return float(_unused(path).mean() / np.diag(path.problem.data.sigma).mean())


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Singular values under label noise and under gradient descent; times at which they fall."""
    noisy, quiet, times = axes
    fine, silent = evidence.curves["fine"], evidence.curves["silent"]
    logs = np.log(_singular(fine))
    start = [layer[1] for layer in fine.weights]
    predicted = [np.linalg.svd(w[0], compute_uv=False) for w in drifted(fine.problem, FINE, start, END - LEARNED, 100)]
    at = LEARNED + (END - LEARNED) * (np.arange(100) + 0.5) / 100
    for place in range(5):
        colour, label = plots.COLOURS[place], f"σ{'₁₂₃₄₅'[place]}"
        noisy.plot(at / 1000, np.exp(np.log(predicted)[:-1, :, place].mean(axis=1)), color=colour, lw=1.2)
        noisy.plot(fine.time[1::40] / 1000, np.exp(logs[1::40, :, place].mean(axis=1)), "o", color=colour, label=label)
        quiet.plot(silent.time / 1000, np.exp(np.log(_singular(silent))[:, :, place].mean(axis=1)), color=colour)
    noisy.set(
        title=f"Label noise 2, η = {FINE:g}",
        yscale="log",
        xlabel="time / 1000",
        ylabel="singular values of W₁",
        ylim=(0.03, 3),
    )
    noisy.legend(ncols=5, columnspacing=0.8, handletextpad=0.1, loc="lower left")
    quiet.set(
        title="Gradient descent", yscale="log", xlabel="time / 1000", ylabel="singular values of W₁", ylim=(0.03, 3)
    )
    for place, name in enumerate(("σ₅", "σ₄", "σ₃")):
        predicted_times, seen = (evidence.curves[key][:, place] for key in ("predicted", "times"))
        falls = seen > LEARNED
        times.plot(predicted_times[falls] / 1000, seen[falls] / 1000, ".", color=plots.COLOURS[4 - place], label=name)
    times.axline((0, 0), slope=1, color=plots.GREY, lw=0.8, ls=":")
    times.set(
        title=f"Time of falling below {THRESHOLD:g}",
        xlabel="time / 1000, predicted when learned",
        ylabel="time / 1000, measured",
    )
    times.legend()


CLAIM = Claim(
    name="singular-values",
    title="Label noise removes the singular values of W₁ that the teacher does not use",
    statement=(
        "Of the five singular values of W₁, label noise keeps as many as the rank of the teacher and drives the others "
        "to 0; gradient descent keeps all. At fixed δ, in the limit η → 0, those that vanish decay as exp(−ηδ²dy "
        "λt/2n), with λ the variance of the inputs along directions the teacher does not use. With white inputs that "
        "is, for σ_i², half of an equal share of the fall of log det N among the five eigenvalues of N that vanish. "
        "Those that remain end where the noise balances: σ_i²(W₁R) = √(Tr(S_xx)/dy) σ_i(MR), "
        "RRᵀ = S_xx. At η = 0.05 the rate is 2 % larger, and the third falls 5 % earlier."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (which ones vanish and remain); rate, times and final "
        "values are this project's"
    ),
    method=(
        "n = 1000, 5 inputs, 2 outputs (teacher strengths 2 and 1), width 10, weights N(0, ½²), δ = 2 or 0, full "
        "batches until t = 12000 at η = 0.1 and 0.05. The rate is that of the sum of logarithms over the second half "
        "of the run. Times are predicted from the weights when the map has been learned (t = 8). Rates, times and "
        "final values are extrapolated linearly from both η to 0. 128 networks in the quick form, 512 in full."
    ),
    control=(
        "The third singular value must not fall under gradient descent, and an equal share of the fall of log det N "
        "must be rejected as its rate."
    ),
    caption=(
        "Singular values of W₁ (geometric means over networks: dots) and the prediction from the weights at t = 8 by "
        "averaging over the fast fluctuations, to first order in η (lines); the same weights under gradient descent; "
        "time at which the last three pass the threshold, for each network."
    ),
    why=(
        "Label noise simplifies a network without any penalty in the loss: the first layer keeps as many directions "
        "as the task needs and loses the others at a known rate. The rate is of order ηδ²/n, so the effect appears "
        "only in long training or with strong noise."
    ),
    equations=(
        r"\sigma_i(W_1) \propto \exp\left(-\frac{\eta \delta^2 d_y \lambda t}{2n}\right) \qquad \text{for those "
        r"that vanish}",
        r"\sigma_i^2(W_1 R) = \sqrt{\frac{\operatorname{Tr} S_{xx}}{d_y}}\; \sigma_i(M R) \qquad \text{for those "
        r"that remain}, \qquad R R^\top = S_{xx}",
    ),
    proved=(
        "The source proves that label noise lowers the determinant, so that the rank decreases from any initial "
        "weights. Rate, times and final values are derived here by averaging over the fast fluctuations of weights "
        "that fit, to first order in η; no bound of the error is proved."
    ),
    unknown=(
        "The limit η → 0 is extrapolated from two step sizes. Tested with a teacher of rank 2, five inputs and two "
        "layers; whether strong noise also removes directions that the task needs is not tested."
    ),
    related=("determinant", "eigenvalue-paths", "step-size", "noise-balance"),
    experiment=experiment,
    draw=draw,
)
