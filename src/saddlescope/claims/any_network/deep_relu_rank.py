"""Label noise lowers the rank of the first layer of a three-layer ReLU network, and hardly that of the second."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network._rank import (
    RANK,
    as_far,
    draw_left,
    draw_paths,
    follow,
    learned,
    left,
    penalised,
    runs,
)
from saddlescope.claims.any_network.relu_rank import BATCH, FALLS, FLOW, LEARNED, LR, NOISE, SAMPLES
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.data import Examples
from saddlescope.methods import GD, SGD
from saddlescope.observe import EffectiveRank

WIDTHS, SECOND = (10, 20, 20, 3), "effective_rank_w2"

KEPT: Region = (0.9, 1.0)
"""What is left of the effective rank where it falls by no more than a tenth."""


def experiment(quick: bool) -> Evidence:
    """Three ReLU layers with and without label noise, and three linear ones with it."""
    steps, count = (10_000, 48) if quick else (24_000, 96)
    x, y = _networks.teacher(SAMPLES, WIDTHS[0], WIDTHS[-1])
    noisy, clean, deep = Examples(x, y, label_noise=NOISE), Examples(x, y), _networks.layers(WIDTHS)
    both = EffectiveRank("w1"), EffectiveRank("w2")
    found = {
        "label noise": follow(deep, noisy, SGD(LR, BATCH), steps, count, both),
        "GD": follow(deep, clean, GD(LR), steps, count, both),
        "label noise, linear": follow(_networks.layers(WIDTHS, "linear"), noisy, SGD(LR, BATCH), steps, count, both),
    }
    if not quick:
        model = penalised(WIDTHS, "relu", LR / BATCH * NOISE**2 / 4)
        found["penalty, no noise"] = follow(model, clean, GD(FLOW), round(steps * LR / FLOW), count)
    ratios = {name: left(run) for name, run in found.items()}
    second = left(found["label noise"], SECOND)
    headline = Number("label noise: effective rank of W₁, end over start", ratios["label noise"], FALLS)
    floor = 0.5 * WIDTHS[-1] * NOISE**2
    theories = {
        "label noise, linear": "as far as in linear layers, within 20 % of the logarithm",
        "penalty, no noise": "as far as the penalty (Tδ²/4) Σ_k⟨‖∂f_k/∂θ‖²⟩ predicts, within 20 % of the logarithm",
    }
    return Evidence(
        numbers=[
            headline,
            Number("label noise: effective rank of W₂, end over start", second, KEPT),
            Number("label noise: excess loss, end over start", learned(found["label noise"], floor), LEARNED),
        ],
        controls=[
            Number("GD, clean labels: effective rank of W₁, end over start", ratios["GD"], FALLS),
            Number("label noise: effective rank of W₂ falls", second, FALLS),
        ],
        runs=runs(found),
        curves={"runs": found, "left": ratios | {"label noise, W₂": second}},
        rivals=[
            *(
                Rival(theory, [Number(headline.name, headline.interval, as_far(ratios[name].value))])
                for name, theory in theories.items()
                if name in ratios
            ),
            Rival(
                "W₂ falls as far as W₁, within 20 % of the logarithm",
                [Number("label noise: effective rank of W₂", second, as_far(headline.interval.value))],
            ),
        ],
    )


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Effective rank of both layers over time, and what is left of it."""
    found = evidence.curves["runs"]
    draw_paths(axes[0], found, RANK, "First layer", "effective rank of W₁")
    draw_paths(
        axes[1],
        {name: run for name, run in found.items() if SECOND in run},
        SECOND,
        "Second layer, 20 → 20",
        "effective rank of W₂",
    )
    draw_left(axes[2], evidence.curves["left"], FALLS, "Effective rank")


CLAIM = Claim(
    name="deep-relu-rank",
    title="In three ReLU layers label noise lowers the rank of the first layer, hardly that of the second",
    statement=(
        "In a three-layer ReLU network that learns a teacher of rank 2, SGD with noisy labels lowers the effective "
        "rank of W₁ by more than a quarter, and that of W₂ by no more than a tenth. GD on clean labels lowers the "
        "first by less than a quarter. W₁ falls less far than in linear layers, and than the known penalty on the "
        "slopes of the outputs predicts."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (linear networks); the penalty: Blanc, Gupta, Valiant & "
        "Valiant 2020, arXiv 1904.09080, and Li, Wang & Arora 2021, arXiv 2110.06914; three ReLU layers are this "
        "project's"
    ),
    method=(
        "200 Gaussian inputs, widths 10, 20, 20 and 3, no biases, labels of a linear teacher of rank 2, fresh Gaussian "
        "noise of standard deviation 1 on every use of a label; SGD, η = 0.05, B = 8, until t = 1200 (500 in the quick "
        "form). Regions were set from smaller runs with another seed."
    ),
    control="GD on clean labels must not lower the effective rank of W₁ by a quarter, nor label noise that of W₂.",
    caption=(
        "Left and middle: mean effective rank of W₁ and W₂, twice its standard error shaded. Right: end over start "
        "with intervals at 1e-6; the region of a fall is grey."
    ),
    why=(
        "Which layers label noise simplifies decides what low-rank compression can save. In linear networks every "
        "layer loses what the teacher does not need; here the middle layer keeps most of it."
    ),
    equations=(
        r"r(W_l) = \exp\left(-\sum_i q_i \log q_i\right), \qquad q_i = \frac{s_i(W_l)}{\sum_j s_j(W_l)}",
        r"f(x) = W_3 \varphi(W_2 \varphi(W_1 x)), \qquad \varphi(z) = \max(z, 0)",
    ),
    proved="Nothing for ReLU networks; in linear ones label noise lowers the determinant of every pair of layers.",
    unknown="How far W₂ falls at much longer times, and how the fall of W₁ depends on depth. Tested at width 20.",
    related=("relu-rank", "deeper", "step-size"),
    experiment=experiment,
    draw=draw,
    panels=3,
    extra="jax",
)
