"""Classes drawn freshly from a teacher's probabilities lower the rank of the first layer; flipped ones do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope._arrays import Floats
from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network._rank import as_far, draw_left, draw_paths, follow, left, runs
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.data import Examples
from saddlescope.labels import Flips, Fresh
from saddlescope.methods import GD, SGD

WIDTHS, SAMPLES, LR, BATCH, FLIPPED, SHARPNESS = (10, 20, 3), 200, 0.1, 8, 0.1, 2.0

FALLS: Region = (0.0, 0.75)
"""What is left of the effective rank where it falls."""


def experiment(quick: bool) -> Evidence:
    """A ReLU network with three logits: fresh classes, their probabilities without noise, and flipped classes."""
    steps, count = (16_000, 48) if quick else (32_000, 96)
    x, logits = _networks.teacher(SAMPLES, WIDTHS[0], WIDTHS[-1])
    p, model = probabilities(SHARPNESS * logits), _networks.layers(WIDTHS, loss="cross_entropy")
    classes = p.argmax(axis=1)
    found = {
        "fresh classes": follow(model, Examples(x, p, labels=Fresh()), SGD(LR, BATCH), steps, count),
        "probabilities, GD": follow(model, Examples(x, p), GD(LR), steps, count),
        "probabilities, SGD": follow(model, Examples(x, p), SGD(LR, BATCH), steps, count),
        "flipped classes": follow(model, Examples(x, classes, labels=Flips(FLIPPED)), SGD(LR, BATCH), steps, count),
    }
    ratios = {name: left(run) for name, run in found.items()}
    headline = Number("fresh classes: effective rank of W₁, end over start", ratios["fresh classes"], FALLS)
    return Evidence(
        numbers=[headline],
        controls=[
            Number(f"{name}: effective rank of W₁, end over start", ratios[name], FALLS)
            for name in found
            if name != "fresh classes"
        ],
        runs=runs(found),
        curves={"runs": found, "left": ratios},
        rivals=[
            Rival(
                f"as far as {name}, within 20 % of the logarithm",
                [Number(headline.name, headline.interval, as_far(ratios[name].value))],
            )
            for name in ("flipped classes", "probabilities, SGD")
        ],
    )


def probabilities(logits: Floats) -> Floats:
    """``softmax`` of each row.

    >>> probabilities(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Effective rank over time, and what is left of it."""
    draw_paths(axes[0], evidence.curves["runs"], title="10 → 20 → 3, three classes", ylabel="effective rank of W₁")
    draw_left(axes[1], evidence.curves["left"], FALLS, "Effective rank of W₁")


CLAIM = Claim(
    name="fresh-labels",
    title="Random labels lower the rank of a classifier if a small teacher could draw them",
    statement=(
        "A two-layer ReLU classifier, trained by SGD on classes drawn anew at every use from the probabilities of a "
        "teacher of rank 2, loses more than a quarter of the effective rank of W₁. With the same probabilities and "
        "without randomness it loses less, under GD and SGD. So it does if each class is flipped with probability "
        "0.1: there the mean label is not one that the teacher gives."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (classification); label noise in classification: Blanc, "
        "Gupta, Valiant & Valiant 2020, arXiv 1904.09080; fresh against flipped classes is this project's"
    ),
    method=(
        "200 Gaussian inputs, widths 10, 20 and 3, no biases, cross entropy. Probabilities are the softmax of 2Mx for "
        "a teacher M of rank 2 with singular values 2 and 1; flipped classes start from the most likely one. SGD, η = "
        "0.1, B = 8, until t = 3200 (1600 in the quick form). Regions were set from smaller runs with another seed."
    ),
    control="The probabilities without noise, under GD and SGD, and flipped classes must not lower it by a quarter.",
    caption=(
        "Left: mean effective rank of W₁, twice its standard error shaded. Right: end over start with intervals at "
        "1e-6; the region of the claim is grey."
    ),
    why=(
        "Classes in real data are random at the boundary, and this randomness simplifies a network. Flipping labels, "
        "the usual model of label noise, asks for a sharp step instead, which takes all directions to represent."
    ),
    equations=(
        r"y \sim p(x) = \operatorname{softmax}(2 M x), \qquad \operatorname{rank} M = 2",
        r"r(W_1) = \exp\left(-\sum_i q_i \log q_i\right), \qquad q_i = \frac{s_i}{\sum_j s_j}",
    ),
    proved="Nothing for ReLU classifiers; near weights that give the mean label, label noise acts as a penalty.",
    unknown=(
        "How far the rank falls, and how this depends on the sharpness of the probabilities. Whether flipped classes "
        "lower it at much longer times."
    ),
    related=("relu-rank", "step-size"),
    experiment=experiment,
    draw=draw,
    panels=2,
    extra="jax",
)
