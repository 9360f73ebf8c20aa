"""Whether the noise of SGD lowers the rank of the hidden features of a convolutional network that learns digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network._rank import draw_left, draw_paths, follow, runs
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.data import Examples
from saddlescope.labels import Flips
from saddlescope.methods import GD, SGD
from saddlescope.observe import Accuracy, FeatureRank

LR, BATCH, LARGE, FLIPPED = 0.1, 4, 32, 0.1

LOWER: Region = (0.0, 0.9)
"""Feature rank under noise over that of GD, where noise lowers it: by a tenth at least."""

HIGHER: Region = (1.1, np.inf)
"""The same where noise raises it."""

LEARNED: Region = (0.95, np.inf)
"""Accuracy on the training images where they are learned."""


def experiment(quick: bool) -> Evidence:
    """A small convolutional network under GD, SGD, SGD with large batches and SGD with flipped classes."""
    images, steps, count = (120, 600, 48) if quick else (240, 1500, 48)
    x, y = _networks.digits(images)
    model, data, seen = _networks.convnet((4, 8), 32), Examples(x, y), (FeatureRank(), Accuracy())
    found = {
        "GD": follow(model, data, GD(LR), steps, count, seen),
        f"SGD, B = {BATCH}": follow(model, data, SGD(LR, BATCH), steps, count, seen),
        f"SGD, B = {LARGE}": follow(model, data, SGD(LR, LARGE), steps, count, seen),
        "SGD, flipped classes": follow(
            model, Examples(x, y, labels=Flips(FLIPPED)), SGD(LR, BATCH), steps, count, seen
        ),
    }
    ratios = {name: over(run, found["GD"]) for name, run in found.items() if name != "GD"}
    small, large, flipped = ratios.values()
    accuracy = found[f"SGD, B = {BATCH}"].accuracy.isel(time=-1)
    headline = Number(f"SGD, B = {BATCH}: feature rank over that of GD", small, LOWER)
    return Evidence(
        numbers=[
            headline,
            Number(f"SGD, B = {BATCH}, flipped classes: feature rank over that of GD", flipped, LOWER),
            Number(f"SGD, B = {BATCH}: accuracy on the training images", intervals.mean(accuracy), LEARNED, moved=True),
        ],
        controls=[Number(f"SGD, B = {LARGE}, an eighth of the noise: feature rank over that of GD", large, LOWER)],
        runs=runs(found),
        curves={"runs": found, "left": {"GD": intervals.exact(1.0)} | ratios},
        rivals=[Rival("noise raises the feature rank by a tenth", [Number(headline.name, small, HIGHER)])],
    )


def over(run: xr.Dataset, quiet: xr.Dataset) -> Interval:
    """Mean ratio of the feature ranks at the end of two runs from the same initial weights."""
    return intervals.mean(run.feature_rank.isel(time=-1) / quiet.feature_rank.isel(time=-1))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Feature rank over time, at the end over that of GD, and accuracy."""
    found = evidence.curves["runs"]
    draw_paths(axes[0], found, "feature_rank", "Hidden features", "feature rank")
    draw_left(axes[1], evidence.curves["left"], LOWER, "Feature rank over that of GD")
    axes[1].set(ylabel="ratio", ylim=(0, 1.5))
    for (label, run), colour in zip(found.items(), plots.COLOURS, strict=False):
        axes[2].plot(run.time, run.accuracy.mean("trajectory"), color=colour, label=label)
    axes[2].set(title="Training images", xlabel="time", ylabel="accuracy", ylim=(0, 1.02))


CLAIM = Claim(
    name="feature-rank",
    title="The noise of SGD lowers the rank of the features of a small convolutional network",
    statement=(
        "A small convolutional network that learns images of digits ends with hidden features of an effective rank at "
        "least a tenth lower under SGD than under GD from the same weights, at the same learning rate and after the "
        "same time; and so it does under SGD with one class in ten flipped."
    ),
    source=(
        "Andriushchenko, Varre, Pillaud-Vivien & Flammarion 2023, ICML, arXiv 2210.05337 (large steps of SGD lead to "
        "features of low rank, in larger networks and by another measure of rank); this test is this project's"
    ),
    method=(
        "Images of 8 × 8 pixels made from ten glyphs at random places, with noise of standard deviation 0.3: 240, or "
        "120 in the quick form. Two 3 × 3 convolutions (4 and 8 channels), a hidden layer of 32 units, cross entropy; "
        "η = 0.1, B = 4, until t = 150 (60 in the quick form). Feature rank: exponential of the entropy of the "
        "singular values of the centred hidden features of all training images. The region states the direction of "
        "the source; a first look with another seed pointed outside it, and the region was not changed. That of the "
        "accuracy lost its upper end, 1, after a first run: intervals of a mean may reach beyond it."
    ),
    control="SGD with batches of 32, which has an eighth of the noise, must not lower the feature rank by a tenth.",
    caption=(
        "Left: mean feature rank, twice its standard error shaded. Middle: at the end, over that of GD from the same "
        "weights, intervals at 1e-6; the region of the claim is grey. Right: accuracy on the training images."
    ),
    why=(
        "Many works report that the noise of SGD compresses features. Whether it does depends on the "
        "network, the data and the size of the noise, so it has to be measured."
    ),
    equations=(
        r"r(H) = \exp\left(-\sum_i q_i \log q_i\right), \qquad q_i = \frac{s_i(H)}{\sum_j s_j(H)}",
        r"H_i = h(x_i) - \frac{1}{n} \sum_j h(x_j)",
    ),
    proved="Nothing for convolutional networks.",
    unknown=(
        "On which data, sizes and step sizes noise lowers the rank of features. Tested on 240 images at one learning "
        "rate."
    ),
    related=("relu-rank", "fresh-labels"),
    experiment=experiment,
    draw=draw,
    panels=3,
    extra="jax",
)
