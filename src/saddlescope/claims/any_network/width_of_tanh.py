"""Does a tanh network trained by SGD end in a state that does not depend on its width, if η ∝ 1/D?

``f(x) = W_2 tanh(W_1 x)`` with D hidden units and entries of W_l from N(0, 1/fan-in): the outputs at the start keep
their size as D grows. The squared slopes of an output, ``Σ_j tanh²(w_j·x) + |x|² Σ_j u_j² tanh'²(w_j·x)``, set what
a step of size η does. The first sum grows like D, so that η ∝ 1/D keeps its effect; the second does not grow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import _jax, plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals, tools
from saddlescope.claims.any_network import _networks
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.data import Examples
from saddlescope.methods import SGD
from saddlescope.networks.model import Model
from saddlescope.plan import Plan
from saddlescope.problem import Problem

LR, BATCH, LABEL_NOISE, IMAGES, CLASSES = 0.04, 4, 0.3, 40, len(_networks.GLYPHS)
"""Learning rate at the reference width, batch size, noise of each label, numbers of images and classes."""

REFERENCE, WIDTHS = 32, (128, 16)
"""The width at which all rules have the same learning rate, and those that are compared with it."""

RULES = {"1/D": -1.0, "1/√D": -0.5, "fixed": 0.0}
"""Exponent of D in the learning rate of each rule."""

LABELS = {"1/D": "∝ 1/D", "1/√D": "∝ 1/√D", "fixed": "fixed"}

NETWORKS = (("1/D", REFERENCE), *((rule, width) for rule in RULES for width in WIDTHS))
"""Rule and width of the networks that are trained; the reference belongs to every rule."""

ALIKE: Region = (0.9, 1.1)
"""Ratio to the reference width that counts as independent of the width."""

STEADY: Region = (0.9, 1.1)
"""Ratio of the last quarter of a run to the quarter before that counts as stationary."""

SEED, SAVES = 41, 16

Paths = Mapping[tuple[str, int], Floats]
"""A quantity of every network over time (trajectory, time)."""

Measured = Mapping[str, Paths]
"""Training errors and effective ranks."""


def experiment(quick: bool) -> Evidence:
    """Networks of 16, 32 and 128 units under three rules for the learning rate."""
    run = train(*((3000, 48) if quick else (12_000, 64)))
    found = measure(run)
    errors = {rule: compared(found["error"], rule, "training error") for rule in RULES}
    ranks = compared(found["rank"], "1/D", "effective rank of the outputs", None)
    return Evidence(
        numbers=[*errors["1/D"], steady(found["error"]), *ranks],
        controls=errors["fixed"][:1],
        rivals=[Rival("η ∝ 1/√D", errors["1/√D"]), Rival("η does not depend on D", errors["fixed"])],
        runs=[Run.of("tanh networks side by side", run)],
        curves={"errors": found["error"], "times": run["step"].values / 1000, "numbers": errors},
    )


def speed(rule: str, width: int) -> float:
    """Learning rate of a rule at a width over that at the reference width.

    >>> speed("1/D", 128), speed("1/√D", 128), speed("fixed", 128)
    (0.25, 0.5, 1.0)
    """
    return float((width / REFERENCE) ** RULES[rule])


def networks(sizes: Sequence[int], speeds: Sequence[float], inputs: int, outputs: int) -> Model:
    """Networks ``u_a tanh(w_a x)`` of these widths side by side, with outputs one after another (B, networks·outputs).

    Weights are √c φ for parameters φ, c the ``speeds``: SGD on φ with η is SGD on the weights with cη. Entries of the
    weights are N(0, 1/fan-in). Networks share batches, not weights or label noise.

    >>> networks((2, 3), (1.0, 0.5), 4, 10).leaves
    (Leaf(name='u', shape=(10, 5)), Leaf(name='w', shape=(5, 4)))
    """
    jax = _jax.load()
    ends = np.cumsum([0, *sizes]).tolist()
    root = np.repeat(np.sqrt(speeds), sizes)
    narrow = np.repeat(np.sqrt(sizes), sizes)

    def init(key: Any) -> Any:
        first, second = jax.random.split(key)
        w, u = jax.random.normal(first, (ends[-1], inputs)), jax.random.normal(second, (outputs, ends[-1]))
        by_w, by_u = (jax.numpy.asarray(by, w.dtype) for by in (math.sqrt(inputs) * root[:, None], narrow * root))
        return {"u": u / by_u, "w": w / by_w}

    def apply(params: Any, x: Any) -> Any:
        scale = jax.numpy.asarray(root, x.dtype)
        hidden, u = jax.numpy.tanh((x @ params["w"].T) * scale), params["u"] * scale
        parts = [hidden[:, a:b] @ u[:, a:b].T for a, b in itertools.pairwise(ends)]
        return jax.numpy.concatenate(parts, axis=1)

    return Model(apply, init, name="tanh networks side by side")


def data() -> tuple[Floats, Floats]:
    """Pixels (n, 64) of images of digits and their classes as 0 and 1 (n, 10)."""
    images, classes = _networks.digits(IMAGES)
    return images.reshape(IMAGES, -1), np.eye(CLASSES)[classes]


def train(steps: int, count: int, seed: int = SEED) -> xr.Dataset:
    """An ensemble of all networks, of the same number of steps."""
    x, y = data()
    widths, speeds = [width for _, width in NETWORKS], [speed(*network) for network in NETWORKS]
    model = networks(widths, speeds, x.shape[1], CLASSES)
    noisy = Examples(x, np.tile(y, len(NETWORKS)), label_noise=LABEL_NOISE)
    plan = Plan(steps, count, saves=SAVES, dtype="float32", keep="weights", seed=seed)
    return tools.run(Problem(model, noisy), SGD(LR, BATCH), plan)  # type: ignore[arg-type]


def outputs(run: xr.Dataset) -> list[Floats]:
    """Outputs of every network for all images (trajectory, time, image, class)."""
    held, (x, _) = tools.alive(run), data()
    widths = [width for _, width in NETWORKS]
    ends, root = np.cumsum(widths)[:-1], np.repeat(np.sqrt([speed(*network) for network in NETWORKS]), widths)
    w, u = np.asarray(held["w"].values), np.asarray(held["u"].values)
    hidden = np.tanh((x @ np.swapaxes(w, -1, -2)) * root)
    blocks = zip(np.split(hidden, ends, axis=-1), np.split(u * root, ends, axis=-1), strict=True)
    return [np.asarray(h @ np.swapaxes(block, -1, -2)) for h, block in blocks]


def measure(run: xr.Dataset) -> Measured:
    """Mean of ``½|f(x) − y|²`` over the images, y without noise, and effective rank of the outputs of all images."""
    named = dict(zip(NETWORKS, outputs(run), strict=True))
    y = data()[1]
    return {
        "error": {network: 0.5 * ((f - y) ** 2).sum(axis=-1).mean(axis=-1) for network, f in named.items()},
        "rank": {network: _networks.effective_rank(f) for network, f in named.items()},
    }


def quarter(values: Floats, from_end: int = 1) -> Floats:
    """Mean over a quarter of a run, the last or an earlier one (trajectory,)."""
    size = SAVES // 4
    stop = values.shape[1] - (from_end - 1) * size
    return np.asarray(values[:, stop - size : stop].mean(axis=1))


def ratio(above: Floats, below: Floats) -> Interval:
    """Geometric mean over trajectories of a ratio, which few large errors do not dominate."""
    logs = intervals.mean(np.log(above / below))
    value, low, high = np.exp([logs.value, logs.low, logs.high]).tolist()
    return Interval(value, low, high, logs.miss)


def compared(paths: Paths, rule: str, title: str, region: Region | None = ALIKE) -> list[Number]:
    """Ratios of means over the last quarter of a run to those of the reference width, under one rule."""
    below = quarter(paths["1/D", REFERENCE])
    return [
        Number(
            f"η {LABELS[rule]}: {title}, D = {width} over D = {REFERENCE}",
            ratio(quarter(paths[rule, width]), below),
            region,
        )
        for width in WIDTHS
    ]


def steady(paths: Paths) -> Number:
    """The training error of the last quarter over that of the quarter before, farthest from 1 under η ∝ 1/D."""
    own = [path for (rule, _), path in paths.items() if rule == "1/D"]
    each = [ratio(quarter(path), quarter(path, 2)) for path in own]
    name = "η ∝ 1/D: training error, last quarter over the one before"
    return Number(name, tools.largest(each, 1.0), STEADY, moved=True)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Training errors over time under two rules, and their ratios at the end under all."""
    paths, times = evidence.curves["errors"], evidence.curves["times"]
    colours = dict(zip(sorted((REFERENCE, *WIDTHS)), plots.COLOURS, strict=False))
    for panel, rule in zip(axes[:2], ("1/D", "fixed"), strict=True):
        for width, colour in colours.items():
            path = paths["1/D" if width == REFERENCE else rule, width]
            panel.plot(times, path.mean(axis=0), color=colour, label=f"D = {width}")
        title = f"η {LABELS[rule]}"
        panel.set(title=title, xlabel="1000 steps", ylabel="training error", yscale="log")
        panel.legend()
    panel = axes[2]
    panel.axhspan(*ALIKE, color=plots.GREY, alpha=0.2, lw=0)
    for place, numbers in enumerate(evidence.curves["numbers"].values()):
        for shift, width, number in zip((0.1, -0.1), WIDTHS, numbers, strict=True):
            plots.interval(panel, place + shift, number.interval, color=colours[width])
    panel.set(title=f"At the end, over D = {REFERENCE}", xlabel="η", ylabel="ratio of training errors")
    panel.set_xticks(range(len(RULES)), [LABELS[rule] for rule in RULES])


CLAIM = Claim(
    name="width-of-tanh",
    title="With η ∝ 1/D, the state that a tanh network ends in under SGD does not depend on its width",
    statement=(
        "Tanh networks with D = 16, 32 and 128 hidden units, whose initial weights have variance 1/fan-in and which "
        "learn images of digits by SGD with noisy labels, end in a stationary state with the same training error, "
        "within a tenth, if η ∝ 1/D. At a fixed η it depends on the width."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, give the stationary distribution of diagonal networks of any width; "
        "that it carries over to tanh networks with η ∝ 1/D is a conjecture that is tested here"
    ),
    method=(
        "40 images of 8 × 8 pixels, made from ten glyphs at random places with pixel noise of standard deviation 0.3; "
        "classes as 0 and 1, with fresh Gaussian noise of 0.3 at every use; squared error, no biases, SGD with B = 4, "
        "12,000 steps (3000 in the quick form, which is too short to be stationary). All rules have η = 0.04 at D = "
        "32. Training error: ½|f − y|² without label noise, mean over the images and over the last quarter of a run; "
        "ratios are geometric means over trajectories. Definitions and regions were fixed before these runs. First "
        "looks with another seed pointed outside the region of a tenth, which was not changed. They led to fewer "
        "images, longer runs and a larger η, to geometric means, to a tenth instead of a twentieth for what counts as "
        "stationary, and to a control at D = 128 only, because it was inconclusive at D = 16. They also showed that D "
        "= 8, too few units for ten classes, has a several times larger error, and that the effective rank of the "
        "outputs hardly differs under any rule: it is reported, not judged."
    ),
    control="With a fixed η, equal training errors at D = 128 and 32 must be refuted.",
    caption=(
        "Mean training error under η ∝ 1/D (left) and at a fixed η (middle). Right: ratios at the end to D = 32, "
        "intervals at 1e-6; the region of the claim is grey; colours as on the left."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "A learning rate found in a small network can be used in a large one only if one knows how it scales with "
        "width. The scaling also says whether the noise of SGD leaves the same mark on networks of all widths."
    ),
    equations=(
        r"\eta_D=\frac{32}{D}\,\eta_{32},\qquad f(x)=\sum_{j=1}^{D}u_j\tanh(w_j\cdot x)",
        (
            r"\left|\partial_{\theta}f\right|^2=\sum_j\tanh^2(w_j\cdot x)+\left|x\right|^2\sum_j"
            r"u_j^2\,\mathrm{sech}^4(w_j\cdot x)"
        ),
    ),
    proved=(
        "For D equal balanced chains of depth 2 with a given product at the start, the law of the product does not "
        "depend on D at a fixed η. With variance 1/fan-in, the first sum of the squared slopes grows like D and the "
        "second does not, so that η ∝ 1/D keeps the effect of a step only where the first is much the larger."
    ),
    unknown=(
        "Which dependence of η on D keeps the error at these widths, and whether η ∝ 1/D does in much wider networks, "
        "where the first sum is the larger one. The error still falls slowly at the end of the runs; other data and "
        "other sizes of label noise are not tested."
    ),
    related=("width", "wide-and-deep", "tanh-transition"),
    extra="jax",
)
