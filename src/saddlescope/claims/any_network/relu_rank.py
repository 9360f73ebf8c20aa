"""Label noise lowers the rank of the first layer of a two-layer ReLU network, and less than two theories predict."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network._rank import (
    as_far,
    draw_left,
    draw_paths,
    follow,
    learned,
    left,
    penalised,
    runs,
)
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.data import Examples
from saddlescope.methods import GD, SGD

WIDTHS, SAMPLES, LR, BATCH, NOISE = (10, 20, 3), 200, 0.05, 8, 1.0

FLOW = 0.2
"""Step of the gradient flow of the penalised loss."""

FALLS: Region = (0.0, 0.75)
"""What is left of the effective rank where it falls: at most three quarters."""

LEARNED: Region = (0.0, 0.1)
"""What is left of the excess loss where the labels are learned."""


def experiment(quick: bool) -> Evidence:
    """ReLU layers with and without label noise, and linear layers with it; the same initial weights."""
    steps, count = (10_000, 48) if quick else (24_000, 96)
    x, y = _networks.teacher(SAMPLES, WIDTHS[0], WIDTHS[-1])
    noisy, clean, relu = Examples(x, y, label_noise=NOISE), Examples(x, y), _networks.layers(WIDTHS)
    found = {
        "label noise": follow(relu, noisy, SGD(LR, BATCH), steps, count),
        "GD": follow(relu, clean, GD(LR), steps, count),
        "SGD": follow(relu, clean, SGD(LR, BATCH), steps, count),
        "label noise, linear": follow(_networks.layers(WIDTHS, "linear"), noisy, SGD(LR, BATCH), steps, count),
    }
    if not quick:
        model = penalised(WIDTHS, "relu", LR / BATCH * NOISE**2 / 4)
        found["penalty, no noise"] = follow(model, clean, GD(FLOW), round(steps * LR / FLOW), count)
    ratios = {name: left(run) for name, run in found.items()}
    headline = Number("label noise: effective rank of W₁, end over start", ratios["label noise"], FALLS)
    floor = 0.5 * WIDTHS[-1] * NOISE**2
    theories = {
        "label noise, linear": "as far as in linear layers, within 20 % of the logarithm",
        "penalty, no noise": "as far as the penalty (Tδ²/4) Σ_k⟨‖∂f_k/∂θ‖²⟩ predicts, within 20 % of the logarithm",
    }
    return Evidence(
        numbers=[
            headline,
            Number("label noise: excess loss, end over start", learned(found["label noise"], floor), LEARNED),
        ],
        controls=[
            Number("GD, clean labels: effective rank of W₁, end over start", ratios["GD"], FALLS),
            Number("SGD, clean labels: effective rank of W₁, end over start", ratios["SGD"], FALLS),
        ],
        runs=runs(found),
        curves={"runs": found, "left": ratios},
        rivals=[
            Rival(theory, [Number(headline.name, headline.interval, as_far(ratios[name].value))])
            for name, theory in theories.items()
            if name in ratios
        ],
    )


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Effective rank over time, and what is left of it."""
    draw_paths(axes[0], evidence.curves["runs"], title="10 → 20 → 3, teacher of rank 2", ylabel="effective rank of W₁")
    draw_left(axes[1], evidence.curves["left"], FALLS, "Effective rank of W₁")


CLAIM = Claim(
    name="relu-rank",
    title="Label noise lowers the rank of the first layer of a ReLU network",
    statement=(
        "In a two-layer ReLU network that learns a teacher of rank 2, SGD with noisy labels lowers the effective rank "
        "of W₁ by more than a quarter. Without label noise, GD and SGD at the same learning rate and for the same "
        "time lower it by about a tenth, while they learn. Under label noise it falls less far than in linear layers, "
        "and less far than the known penalty on the slopes of the outputs predicts."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (label noise and rank in linear networks, ReLU in "
        "experiments); the penalty: Blanc, Gupta, Valiant & Valiant 2020, arXiv 1904.09080, and Li, Wang & Arora "
        "2021, arXiv 2110.06914; the comparison of the three is this project's"
    ),
    method=(
        "200 Gaussian inputs, widths 10, 20 and 3, no biases, labels of a linear teacher of rank 2, which ReLU layers "
        "can represent; fresh Gaussian noise of standard deviation 1 on every use of a label; SGD, η = 0.05, B = 8, "
        "until t = 1200 (500 in the quick form). Effective rank: exponential of the entropy of the singular values. "
        "Linear layers and the gradient flow of the penalised loss start from weights of the same distribution. "
        "Regions were set from smaller runs with another seed."
    ),
    control="GD and SGD on clean labels, at the same learning rate for the same time, must not lower it by a quarter.",
    caption=(
        "Left: mean effective rank of W₁, twice its standard error shaded. Right: end over start with intervals at "
        "1e-6; the region of the claim is grey."
    ),
    why=(
        "Noise in labels, not the size of the steps, removes directions of the first layer that the task does not "
        "need. Theories of linear networks give its direction, and for ReLU networks not its size."
    ),
    equations=(
        r"\frac{d\theta}{dt} = -\nabla\left[\mathcal{L} + \frac{T \delta^2}{4} \sum_k \left\langle \left\lVert "
        r"\frac{\partial f_k}{\partial \theta} \right\rVert^2 \right\rangle\right], \qquad T = \frac{\eta}{B}",
        r"r(W_1) = \exp\left(-\sum_i q_i \log q_i\right), \qquad q_i = \frac{s_i}{\sum_j s_j}",
    ),
    proved=(
        "In linear networks label noise lowers the determinant of the weights (Varre et al.). For smooth outputs and "
        "small steps its mean effect is the penalty; a ReLU has a kink at every sample, where this does not apply."
    ),
    unknown=(
        "Why the rank of ReLU layers settles above that of linear ones, and where. The claim compares sizes and does "
        "not predict them."
    ),
    related=("deep-relu-rank", "step-size", "singular-values"),
    experiment=experiment,
    draw=draw,
    panels=2,
    extra="jax",
)
