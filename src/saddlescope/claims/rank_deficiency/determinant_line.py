"""log det N is constant under gradient flow and falls under label noise: along a line, plus a gradient term."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.rank_deficiency._setting import (
    LABEL_NOISE,
    SAMPLES,
    SOURCE,
    WeightPaths,
    drifted,
    follow,
    problem,
    small_steps,
)
from saddlescope.claims.tools import around, largest, power, smallest
from saddlescope.methods import GD, GradientFlow
from saddlescope.problem import Problem
from saddlescope.theory.network import determinant

SMALL = (0.02, 0.01, 0.004)
"""Steps dt at the same ηδ²; the theorem holds in the limit dt → 0, in continuous time."""

RATES = (0.1, 0.05, 0.02)
"""Learning rates η at the same δ."""

LEARNED, TRAJECTORIES, STAGES = 8.0, 64, 60
"""Time after which the map fluctuates about the teacher; stages of the averaged drift from there to the end."""

SAME = around(1.0, 0.01)
"""Measured over predicted fall of log det N."""

CLOSE = around(1.0, 0.005)
"""The same at small steps."""

AHEAD = around(1.0, 0.05)
"""Measured over predicted fall beyond the line."""


def experiment(quick: bool) -> Evidence:
    """Label noise at small steps and fixed ηδ², at several learning rates and fixed δ, and none."""
    count, fall = (TRAJECTORIES, 12.0) if quick else (4 * TRAJECTORIES, 24.0)
    small = [_small(dt, fall, count) for dt in SMALL]
    noisy = [_run(lr, LABEL_NOISE, fall=12.0 if quick else 40.0) for lr in RATES]
    silent = _run(RATES[1], 0.0, fall=0.5)
    flow = follow("gradient flow", problem(LABEL_NOISE), GradientFlow(0.05), (20, 160, 2000), TRAJECTORIES // 4)
    whole, line = ([_ratio(path, rate(path)) for path in noisy] for rate in (WeightPaths.label_noise_rate, _line))
    predicted = [_predicted(path) for path in noisy]
    limit = _to_no_step(small[1:], [_fall(path) / path.integral(_line(path))[-1] for path in small[1:]])
    corrected = [(path, _ratio(path, path.label_noise_rate())) for path in small]
    drift = float(np.abs(flow.fall).max())
    return Evidence(
        numbers=[
            _caught("small steps, dt → 0: fall over the line", limit, SAME),
            *(
                _caught(f"dt = {path.method.lr:g}: fall over line and gradient term", found, CLOSE)
                for path, found in corrected
            ),
            _caught("label noise 2: fall over line and gradient term, worst η", largest(whole, 1.0), SAME),
            _caught("gradient term over that predicted from the initial weights, η → 0", _ahead(noisy[1:]), AHEAD),
            Number("gradient flow: largest change of log det N", intervals.exact(drift), (0.0, 1e-9)),
            Number(
                "gradient descent: fall over the gradient term",
                _ratio(silent, silent.label_noise_rate()),
                around(1.0, 0.02),
            ),
        ],
        controls=[
            Number("label noise 2: fall over the line alone, best η", smallest(line, 1.0), SAME),
            Number("gradient descent: change of log det N", intervals.mean(_fall(silent)), (-1e-9, 1e-9)),
        ],
        runs=[path.run for path in (*small, *noisy, silent, flow)],
        curves={"small": small, "noisy": noisy, "silent": silent, "flow": flow, "predicted": predicted},
        rivals=[
            *(Rival(f"no discrete correction, dt = {path.method.lr:g}", [_share_of(path, 0.0)]) for path in small),
            Rival(f"half the gradient term, dt = {SMALL[-1]:g}", [_share_of(small[-1], 0.5)]),
            Rival(f"gradient term × 0.9, dt = {SMALL[0]:g}", [_share_of(small[0], 0.9)]),
            Rival(f"gradient term × 1.1, dt = {SMALL[0]:g}", [_share_of(small[0], 1.1)]),
            Rival("gradient term while the map is learned only", [_early(noisy[1])]),
            Rival(
                "prediction for weights that stay fixed once the map is learned",
                [Number("gradient term over that of fixed weights", _ahead(noisy[1:], moving=False), AHEAD)],
            ),
        ],
    )


def _caught(name: str, found: Interval, region: Region) -> Number:
    """A measured over predicted fall, with the errors of T that it catches."""
    catches = power(lambda factor: Number(name, found / factor, region), "T")
    return Number(name, found, region, catches=catches, moved=region is not SAME)


def _small(dt: float, fall: float, count: int) -> WeightPaths:
    """Steps dt from weights N(0, 1) until the line has fallen by ``fall``."""
    data, method = small_steps(dt, SOURCE)
    return _followed(f"label noise flow, dt = {dt:g}", data, method, fall, count)


def _run(lr: float, label_noise: float, fall: float) -> WeightPaths:
    """Full batches from weights N(0, ½²) until the line has fallen by ``fall``."""
    name = f"label noise {label_noise:g}, η = {lr:g}" if label_noise else f"gradient descent, η = {lr:g}"
    return _followed(name, problem(label_noise), GD(lr), fall, TRAJECTORIES)


def _followed(name: str, problem: Problem, method: GD, fall: float, count: int) -> WeightPaths:
    """Saves at every step while the map is learned and 400 after, until the line (for δ = 2 if none) falls so far."""
    learned, noise = round(LEARNED / method.lr), problem.data.label_noise or LABEL_NOISE
    per_step = 2e-2 * noise**2 * method.lr**2
    steps = [*range(learned), *np.linspace(learned, fall / per_step, 400).astype(int).tolist()]
    return follow(name, problem, method, steps, count)


def _fall(path: WeightPaths) -> Floats:
    """Total fall of log det N (trajectories,)."""
    return np.asarray(path.fall[-1, :, 0])


def _line(path: WeightPaths) -> Floats:
    """The rate of the line at all saves."""
    return np.full(path.weights[0].shape[:2], path.line_rate)


def _ratio(path: WeightPaths, rate: Floats) -> Interval:
    """Fall of log det N over the time integral of a rate."""
    return intervals.mean(_fall(path) / path.integral(rate)[-1])


def _to_no_step(paths: Sequence[WeightPaths], ratios: Sequence[Floats]) -> Interval:
    """Mean of a ratio extrapolated linearly to step 0 from two runs with the same initial weights."""
    (coarse, fine), (above, below) = (path.method.lr for path in paths), ratios
    return intervals.mean((coarse * below - fine * above) / (coarse - fine))


def _share_of(path: WeightPaths, share: float) -> Number:
    """Fall over the line plus a fraction of the gradient term."""
    line = _line(path)
    rate = line + share * (path.label_noise_rate() - line)
    return Number(f"fall over line and {share:g} of the gradient term", _ratio(path, rate), CLOSE)


def _early(path: WeightPaths) -> Number:
    """Fall over the line plus a gradient term that ends once the map is learned."""
    line = _line(path)
    rate = np.where(path.time[:, None] < LEARNED, path.label_noise_rate(), line)
    return Number("fall over line and early gradient term", _ratio(path, rate), SAME)


def _ahead(paths: Sequence[WeightPaths], moving: bool = True) -> Interval:
    """Measured over predicted fall beyond the line, at η → 0."""
    ratios = []
    for path in paths:
        line = path.integral(_line(path))[-1]
        ratios.append((_fall(path) - line) / (_predicted(path, moving)[-1] - line))
    return _to_no_step(paths, ratios)


def _predicted(path: WeightPaths, moving: bool = True) -> Floats:
    """Predicted change of log det N at LEARNED and at equal times from there (STAGES + 1, trajectories).

    Gradient flow from the initial weights, then the averaged drift of label noise.
    """
    data, lr = path.problem.data, path.method.lr
    steps, count = range(0, round(LEARNED / 0.05) + 1, 2), path.weights[0].shape[1]
    flow = follow("before label noise acts", path.problem, GradientFlow(0.05), steps, count)
    fallen = [np.trapezoid(_line(path)[0] + 0 * flow.time[:, None], flow.time, axis=0)]
    fallen[0] += lr / flow.method.lr * np.trapezoid(flow.label_noise_rate() - _line(flow), flow.time, axis=0)
    time, start = path.time[-1] - LEARNED, [layer[-1] for layer in flow.weights]
    *halves, _ = drifted(path.problem, lr, start, time, STAGES) if moving else [start] * (STAGES + 1)
    rates = [determinant.settled_rate(data, lr / SAMPLES, half, lr) for half in halves]
    return np.cumsum([*fallen, *(time / STAGES * rate for rate in rates)], axis=0)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """The limit of small steps, the fall over the whole run, and its start."""
    limit, whole, start = axes
    small, noisy, silent, flow = (evidence.curves[name] for name in ("small", "noisy", "silent", "flow"))
    for path, colour in zip(small, plots.COLOURS, strict=False):
        line = path.integral(_line(path))[-1]
        plots.interval(limit, path.method.lr, intervals.mean(_fall(path) / line), color=colour)
        predicted = float((path.integral(path.label_noise_rate())[-1] / line).mean())
        limit.plot(
            path.method.lr, predicted, "_", color=plots.INK, ms=14, label=None if path is not small[0] else "with it"
        )
    plots.interval(limit, 0.0, evidence.numbers[0].interval, color=plots.INK, label="dt → 0")
    limit.axhline(1, color=plots.GREY, lw=1, ls=":", label="line alone")
    limit.set(title="Small steps at the same ηδ²", xlabel="step dt", ylabel="fall of log det N over the line")
    for path, predicted, colour in zip(noisy, evidence.curves["predicted"], plots.COLOURS, strict=False):
        ahead = path.method.lr * np.linspace(LEARNED, path.time[-1], STAGES + 1)
        whole.plot([0, *ahead], [0, *predicted.mean(axis=1)], color=colour, lw=1.2)
        shown = np.searchsorted(path.time, np.linspace(0, path.time[-1], 10)[1:])
        mean, label = path.fall[shown, :, 0].mean(axis=1), f"η = {path.method.lr:g}"
        whole.plot(path.method.lr * path.time[shown], mean, "o", color=colour, label=label)
    line = path.integral(_line(path))[:, 0]
    whole.plot(path.method.lr * path.time, line, color=plots.GREY, lw=1, ls=":", label="line alone")
    whole.set(title="Label noise 2: log det N falls", xlabel="η · time", ylabel="log det N(t) − log det N(0)")
    for path, colour, label in ((noisy[1], plots.COLOURS[1], "label noise"), (silent, plots.COLOURS[2], "no noise")):
        early = np.flatnonzero(path.time <= LEARNED)
        start.plot(path.time[early], path.integral(path.label_noise_rate()).mean(axis=1)[early], color=colour, lw=1.2)
        dots = early[1::12]
        start.plot(path.time[dots], path.fall[dots, :, 0].mean(axis=1), "o", color=colour, label=label)
    start.plot(path.time[early], noisy[1].integral(_line(noisy[1]))[early, 0], color=plots.GREY, lw=1, ls=":")
    start.plot(flow.time[:3], flow.fall[:3, :, 0].mean(axis=1), color=plots.INK, label="gradient flow")
    start.set(title="The gradient term, η = 0.05", xlabel="time", ylabel="log det N(t) − log det N(0)")
    for panel in axes:
        panel.legend()


CLAIM = Claim(
    name="determinant",
    title="Label noise lowers the determinant of the layers; gradient flow conserves it",
    statement=(
        "With N = ΘᵀΘ, Θ = [W₁, W₂ᵀ], log det N is constant under gradient flow. In continuous time, the limit of "
        "small steps at fixed ηδ², label noise lowers it along a straight line: log det N(t) = log det N(0) − 2ηδ²dy "
        "Tr(S_xx) t/n. Steps of finite size η add −2η∫‖ΔS_xx‖²dt: this gradient term exists without noise, bends the "
        "line while the map is learned and, sustained by the noise, steepens it as long as the noise acts. At fixed δ "
        "it is of the same order in η as the line."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (the constant and the line, in continuous time); the "
        "gradient term, and the fall predicted from the initial weights, are this project's"
    ),
    method=(
        "n = 1000 Gaussian samples, 5 inputs, 2 outputs (teacher strengths 2 and 1), width 10. Small steps: weights "
        "N(0, 1), as in the source, ηδ² = 0.2, full batches with fresh label noise at dt = 0.02, 0.01 and 0.004; the "
        "limit is extrapolated linearly from the last two. (At a step of 0.1 one in ten of these networks diverges.) "
        "Label noise 2: weights N(0, ½²), δ = 2 or 0, η = 0.1, 0.05 and 0.02. The prediction integrates the "
        "closed-form rate along each path: at every step while the map is learned, at 400 times afterwards. Prediction "
        "from the initial weights alone, to first order in η: gradient flow gives ∫‖ΔS_xx‖²dt, then the averaged drift "
        "of label noise among interpolating weights gives the rate; the fall beyond the line is compared with it at η "
        "→ 0, extrapolated linearly from the last two. 64 networks, 256 for the small steps of the full form."
    ),
    control="The line alone must be rejected at δ = 2, and log det N of gradient descent must not be constant.",
    caption=(
        "Fall of log det N over the line at small steps (intervals at 1 − 10⁻⁶, bars: with the gradient term) and its "
        "limit. Fall under label noise 2 against η·t: dots are means over networks, lines predicted from the initial "
        "weights, dotted the line alone. The start of training; lines: line and gradient term, dotted: the line alone."
    ),
    why=(
        "Label noise makes the weights of a linear network lose rank at a rate that learning rate and noise set, "
        "while gradient descent with small steps keeps the rank of the initial weights. Large steps lower the "
        "determinant even without noise, so a statement about rank needs the learning rate beside the noise."
    ),
    equations=(
        r"\log\det N(t) = \log\det N(0) - 2 \eta \delta^2 d_y \operatorname{Tr}(S_{xx}) \frac{t}{n} - 2 \eta \int "
        r"\lVert \Delta S_{xx} \rVert^2 dt",
        r"N = \Theta^\top \Theta, \qquad \Theta = \left[W_1,\, W_2^\top\right]",
    ),
    proved=(
        "For two layers and square loss in continuous time the source proves that gradient flow keeps the determinant "
        "and that label noise lowers its logarithm along the line. The gradient term is the expansion, to order η² in "
        "each step, of the exact change 2 Σ log|1 − η²s_i(J)²| of a step."
    ),
    unknown=(
        "The fall predicted from the initial weights rests on averaging, to first order in η, without a bound of its "
        "error. The determinant does not tell which singular values fall; other claims do. Tested at one size of "
        "network and data."
    ),
    related=("singular-values", "eigenvalues", "deeper", "step-size"),
    experiment=experiment,
    draw=draw,
)
