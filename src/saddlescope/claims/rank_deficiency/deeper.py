"""Deeper networks: label noise reduces the rank of every pair of neighbouring layers, each at its own rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.rank_deficiency._setting import LABEL_NOISE, SAMPLES, WeightPaths, follow, problem
from saddlescope.claims.tools import around, largest, power, smallest
from saddlescope.init import Gaussian
from saddlescope.methods import GD, GradientFlow
from saddlescope.theory.network import determinant

PAIRS = {(5, 4, 8, 2): (1,), (5, 10, 4, 8, 2): (0, 2), (5, 10, 3, 8, 4, 8, 2): (0, 2, 4)}
"""Networks of depth 3, 4 and 6, and their interfaces wide enough to have a determinant."""

LR, LEARNED, START = 0.02, 10.0, Gaussian(scale=0.4)

SAME = around(1.0, 0.02)
"""Measured over predicted fall of log det N."""


def experiment(quick: bool) -> Evidence:
    """Label noise and gradient flow on every network, from the same Gaussian weights."""
    count, steps = (96, 50_000) if quick else (256, 400_000)
    noisy = [_run(widths, steps, count) for widths in PAIRS]
    flows = [
        follow(f"gradient flow, {widths}", problem(LABEL_NOISE, widths, start=START), GradientFlow(LR), (1000,), 8)
        for widths in PAIRS
    ]
    both = [(path, pair) for path, pairs in zip(noisy, PAIRS.values(), strict=True) for pair in pairs]
    names = [f"layers {pair + 1} and {pair + 2} of {path.problem.network.widths}" for path, pair in both]
    rates = [path.label_noise_rate(pair) for path, pair in both]
    predicted = [path.integral(rate)[-1] for (path, _), rate in zip(both, rates, strict=True)]
    noise = [_noise(path, pair) for path, pair in both]
    held = [_held(path, rate) for (path, _), rate in zip(both, rates, strict=True)]
    shared = [
        np.mean([other for (of, _), other in zip(both, predicted, strict=True) if of is path], axis=0)
        for path, _ in both
    ]
    change = max(float(np.nanmax(np.abs(flow.fall))) for flow in flows)

    def over(falls: Sequence[Floats]) -> list[Interval]:
        return [intervals.mean(_fall(*one) / fall) for one, fall in zip(both, falls, strict=True)]

    def rival(theory: str, falls: Sequence[Floats]) -> Rival:
        return Rival(theory, [Number(name, one, SAME) for name, one in zip(names, over(falls), strict=True)])

    whole, alone = over(predicted), over(noise)
    return Evidence(
        numbers=[
            _caught("fall of log det N over predicted, worst pair of neighbours", largest(whole, 1.0)),
            *(_caught(name, found) for name, found in zip(names, whole, strict=True)),
            Number("gradient flow: largest change of log det N, any pair", intervals.exact(change), (0.0, 1e-6)),
        ],
        controls=[Number("fall over that without the gradient term, best pair", smallest(alone, 1.0), SAME)],
        runs=[path.run for path in (*noisy, *flows)],
        curves={"noisy": noisy, "both": both, "whole": whole, "alone": alone},
        rivals=[
            rival("the line of two layers alone", [_two(*one) for one in both]),
            rival(
                "half of the gradient term", [(all_ + part) / 2 for all_, part in zip(predicted, noise, strict=True)]
            ),
            rival("the rate when the map is learned, held constant", held),
            rival("the same rate for every pair of a network", shared),
        ],
    )


def _caught(name: str, found: Interval) -> Number:
    """A measured over predicted fall, with the errors of T that it catches."""
    return Number(name, found, SAME, power(lambda factor: Number(name, found / factor, SAME), "T"), moved=True)


def _run(widths: tuple[int, ...], steps: int, count: int) -> WeightPaths:
    learned = round(LEARNED / LR)
    saves = [*range(learned), *np.linspace(learned, steps, 200).astype(int).tolist()]
    return follow(f"label noise 2, {widths}", problem(LABEL_NOISE, widths, start=START), GD(LR), saves, count)


def _fall(path: WeightPaths, pair: int) -> Floats:
    return np.asarray(path.fall[-1, :, pair])


def _two(path: WeightPaths, pair: int) -> Floats:
    """The line of two layers alone, ignoring the other layers."""
    return np.asarray(path.line_rate * path.time[-1])


def _noise(path: WeightPaths, pair: int) -> Floats:
    """The predicted fall without the gradient term."""
    rate = determinant.log_det_rate(path.problem.data, LR / SAMPLES, path.flat, pair, lr=0.0, share=0.0)
    return path.integral(rate.reshape(path.weights[0].shape[:2]))[-1]


def _held(path: WeightPaths, rate: Floats) -> Floats:
    """The prediction if the rate stayed constant once the map is learned (mean over five units of time)."""
    learned = round(LEARNED / LR)
    late = rate[learned // 2 : learned].mean(axis=0)
    return np.asarray(path.integral(rate)[learned] + late * (path.time[-1] - path.time[learned]))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Fall in the deepest network, singular values of its first pair, measured over predicted for all pairs."""
    fall, values, ratio = axes
    deepest, both = evidence.curves["noisy"][-1], evidence.curves["both"]
    shown = np.searchsorted(deepest.time, np.linspace(0, deepest.time[-1], 10)[1:])
    for pair, colour in zip(PAIRS[deepest.problem.network.widths], plots.COLOURS, strict=False):
        predicted = deepest.integral(deepest.label_noise_rate(pair)).mean(axis=1)
        fall.plot(deepest.time, predicted, color=colour, lw=1.2)
        seen = deepest.fall[shown, :, pair].mean(axis=1)
        fall.plot(deepest.time[shown], seen, "o", color=colour, label=f"layers {pair + 1}, {pair + 2}")
    fall.set(title="Depth 6, label noise 2", xlabel="time", ylabel="log det N(t) − log det N(0)")
    fall.legend()
    late = np.concatenate([[0], np.flatnonzero(deepest.time >= LEARNED)[::10]])
    theta = determinant.neighbours([layer[late].reshape(-1, *layer.shape[2:]) for layer in deepest.weights])
    logs = np.log(np.linalg.svd(theta, compute_uv=False)).reshape(len(late), -1, theta.shape[2])
    for place in range(theta.shape[2]):
        values.plot(deepest.time[late], np.exp(logs[:, :, place].mean(axis=1)), color=plots.COLOURS[place])
    values.set(title="Depth 6, layers 1 and 2", xlabel="time", ylabel="singular values of [W₁, W₂ᵀ]", yscale="log")
    for name, colour, label in (("alone", plots.GREY, "without gradient term"), ("whole", plots.COLOURS[0], "with it")):
        for place, found in enumerate(evidence.curves[name]):
            plots.interval(ratio, place, found, color=colour, label=None if place else label)
    ratio.axhspan(*SAME, color=plots.COLOURS[2], alpha=0.15, lw=0)
    ratio.set_xticks(
        range(len(both)), [f"{len(path.problem.network.widths) - 1}: {pair + 1}, {pair + 2}" for path, pair in both]
    )
    ratio.set(title="Measured fall over predicted", xlabel="depth: layers", ylabel="measured / predicted")
    ratio.legend()


CLAIM = Claim(
    name="deeper",
    title="In deeper networks every pair of neighbouring layers loses its determinant",
    statement=(
        "For neighbouring layers l and l+1 at any depth, Θ = [W_l, W_{l+1}ᵀ], log det ΘᵀΘ is constant under gradient "
        "flow, and label noise lowers it at the rate 2η(δ²/n) Tr(AᵀA) Tr(D S_xx Dᵀ) + 2η‖AᵀΔS_xxDᵀ‖², with A the "
        "layers above and D those below: each pair has its own rate, which changes as the other layers do."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (deeper networks, neighbour by neighbour); the rate with "
        "its gradient term is this project's"
    ),
    method=(
        "n = 1000, 5 inputs, 2 outputs (teacher strengths 2 and 1), networks of depth 3, 4 and 6 in which every other "
        "layer is as wide as its neighbours together, weights N(0, 0.4²), δ = 2, full batches at η = 0.02. The "
        "prediction integrates the closed-form rate along each path: at every step while the map is learned, at 200 "
        "times afterwards."
    ),
    control="The rate without its gradient term must be rejected for every pair.",
    caption=(
        "Fall of log det N of each pair in the network 5 → 10 → 3 → 8 → 4 → 8 → 2 (means over networks: dots; "
        "predicted: lines); singular values of its first pair (geometric means); measured over predicted fall of all "
        "pairs with intervals at 1 − 10⁻⁶, and the predicted region."
    ),
    why=(
        "In a deep linear network label noise acts on every pair of neighbouring layers, and each pair loses its "
        "determinant at its own rate, which the other layers set. Layers can therefore lose rank at different speeds, "
        "which the rank of the whole map does not show."
    ),
    equations=(
        r"\frac{d}{dt} \log\det \Theta_l^\top \Theta_l = -2 \eta \frac{\delta^2}{n} \operatorname{Tr}(A^\top A) "
        r"\operatorname{Tr}(D S_{xx} D^\top) - 2 \eta \lVert A^\top \Delta S_{xx} D^\top \rVert^2",
        r"\Theta_l = \left[W_l,\, W_{l+1}^\top\right], \qquad A = W_L \cdots W_{l+2}, \qquad D = W_{l-1} \cdots W_1",
    ),
    proved=(
        "Each step changes log det ΘᵀΘ by an exact amount, 2 Σ log|1 − η²s_i(J)²|, at any depth; the rate is its "
        "expansion to order η² in each step. That gradient flow conserves the determinant and that label noise lowers "
        "it is the result of the source, pair by pair."
    ),
    unknown=(
        "The rate is integrated along the measured weights; the fall is not predicted from the initial weights. A "
        "hidden layer must be at least as wide as its two neighbours together, or the determinant is 0 from the "
        "start. Tested at depths 3, 4 and 6."
    ),
    related=("determinant", "step-size", "singular-values"),
    experiment=experiment,
    draw=draw,
)
