"""The law of balance in ReLU networks, unit by unit: noise and the mean gradient account for the change of the norms.

For the weights u out of a unit and w into it, ``Q = ‖u‖² − ‖w‖²``. In the mean over batches

    dQ/dt = T (Tr Cov[g_u] − Tr Cov[g_w])  +  η (‖ḡ_u‖² − ‖ḡ_w‖²),      g of one sample, ḡ their mean, T = η/B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import _jax, plots
from saddlescope._arrays import Floats
from saddlescope._parts import frozen
from saddlescope.claims import intervals, tools
from saddlescope.claims.any_network import _networks
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.data import Examples
from saddlescope.methods import SGD
from saddlescope.networks.model import Model
from saddlescope.networks.rescaling import Pair
from saddlescope.observe import Balance
from saddlescope.plan import Plan
from saddlescope.problem import Problem

WIDTHS, SAMPLES, LR, BATCH, NOISE = (10, 20, 3), 200, 0.05, 100, 1.0

CHANNELS, DENSE, IMAGES = (4, 8), 24, 160
"""Of the convolutional network, and its images."""

TOKENS, SIZE, HEAD = 5, 6, 8
"""Of the attention layer: tokens of a sequence, entries of a token, dimensions of the head."""

SLOPE: Region = (0.95, 1.05)
"""Slope of the measured change on the predicted one that counts as 1."""

ROUGH: Region = (0.9, 1.1)
"""The same for the further networks, which have fewer units."""

AGREES: Region = (0.95, 1.0)
"""Correlation over units."""

SEED = 0

UNITS = (Pair((("w1", 0),), (("w2", 1),)),)
KERNELS = (
    Pair((("c1", 3),), (("c2", 2),)),
    Pair((("c2", 3),), (("w3", 3, (DENSE, 4, 4, CHANNELS[1])),)),
)
HEADS = (Pair((("key", 1),), (("query", 1),)),)


@frozen
class Untested(Balance):
    """Balance without the test that the model has these pairs: the control is a network that lacks them."""

    def check(self, model: Any, data: Any) -> None:
        """Nothing is tested."""


@dataclass(frozen=True, eq=False)
class Account:
    """Change of Q of every unit over a run and the two parts of its prediction (trajectory, unit)."""

    measured: Floats
    noise: Floats
    gradient: Floats

    @classmethod
    def of(cls, run: xr.Dataset) -> Account:
        """The rates of both parts, summed over time by the trapezoidal rule."""
        alive = tools.alive(run).stack(of=("pair", "unit")).dropna("of", how="all", subset=["imbalance"])
        change = alive.imbalance.isel(time=-1) - alive.imbalance.isel(time=0)
        sums = (alive[name].integrate("time") for name in ("balance_noise", "balance_gradient"))
        return cls(*(np.asarray(one.transpose("trajectory", "of"), np.float64) for one in (change, *sums)))

    @property
    def predicted(self) -> Floats:
        """Both parts."""
        return self.noise + self.gradient

    def slope(self, name: str, predicted: Floats, region: Region = SLOPE) -> Number:
        """``Σ_j m_j p_j / Σ_j p_j²`` over the units of a trajectory, averaged over trajectories."""
        values = (self.measured * predicted).sum(axis=1) / (predicted**2).sum(axis=1)
        return Number(f"{name}: slope of the change of ‖u‖² − ‖w‖² on its prediction", intervals.mean(values), region)

    def correlation(self, name: str, region: Region = AGREES) -> Number:
        """Over the units of a trajectory, averaged over trajectories."""
        found = intervals.mean([np.corrcoef(m, p)[0, 1] for m, p in zip(self.measured, self.predicted, strict=True)])
        bounded = Interval(found.value, found.low, min(found.high, 1.0))
        return Number(f"{name}: correlation of change and prediction over units", bounded, region)

    def numbers(self, name: str, region: Region) -> list[Number]:
        """Slope, with the errors of T that it would not confirm, and correlation."""
        slope = self.slope(name, self.predicted, region)
        catches = tools.power(lambda f: self.slope(name, f * self.noise + self.gradient, region), "T")
        return [
            Number(slope.name, slope.interval, slope.region, catches),
            self.correlation(name),
        ]


def experiment(quick: bool) -> Evidence:
    """ReLU units under label noise; channels of a convolutional network and an attention head; tanh as the control."""
    count, steps = (48, 800) if quick else (192, 4000)
    x, y = _networks.teacher(SAMPLES, WIDTHS[0], WIDTHS[-1])
    noisy, sgd = Examples(x, y, label_noise=NOISE), SGD(LR, BATCH)
    found = {
        "ReLU units": follow(_networks.layers(WIDTHS), noisy, sgd, steps, count, UNITS),
        "tanh units": follow(_networks.layers(WIDTHS, "tanh"), noisy, sgd, steps, count, UNITS, Untested),
    }
    if not quick:
        found["channels"] = follow(
            _networks.convnet(CHANNELS, DENSE), Examples(*_networks.digits(IMAGES)), SGD(0.1, 4), 800, 192, KERNELS
        )
        found["query and key"] = follow(attention(), sequences(), SGD(0.1, 16), 2000, 192, HEADS)
    accounts = {name: Account.of(run) for name, run in found.items()}
    relu, tanh = accounts["ReLU units"], accounts["tanh units"]
    return Evidence(
        numbers=[
            one
            for name, account in accounts.items()
            if account is not tanh
            for one in account.numbers(name, SLOPE if account is relu else ROUGH)
        ],
        controls=[tanh.slope("tanh units", tanh.predicted), tanh.correlation("tanh units")],
        runs=[Run(name, run.attrs["toml"], float((run.status != 0).mean())) for name, run in found.items()],
        curves={"accounts": accounts},
        rivals=[
            Rival("noise alone", [relu.slope("ReLU units", relu.noise)]),
            Rival("mean gradient alone", [relu.slope("ReLU units", relu.gradient)]),
            Rival("the opposite sign", [relu.slope("ReLU units", -relu.predicted)]),
        ],
    )


def follow(
    model: Model,
    data: Examples,
    method: SGD,
    steps: int,
    trajectories: int,
    pairs: tuple[Pair, ...],
    seen: type[Balance] = Balance,
    seed: int = SEED,
) -> xr.Dataset:
    """An ensemble with the balance of every unit, saved densely at first, when the mean gradient falls."""
    saves = np.unique([*range(0, min(60, steps), 2), *np.linspace(60, steps, 60).astype(int)])
    plan = Plan(
        steps=steps,
        trajectories=trajectories,
        seed=seed,
        save_at=tuple(saves[1:].tolist()),
        dtype="float32",
        keep="trajectories",
        observe=(seen(pairs, units=True),),
    )
    return tools.run(Problem(model, data), method, plan)  # type: ignore[arg-type]


def attention() -> Model:
    """One head: the mean over tokens of ``softmax(x Q (x K)ᵀ) x V``; entries N(0, 1/rows)."""
    jax = _jax.load()
    shapes = {"key": (SIZE, HEAD), "query": (SIZE, HEAD), "value": (SIZE, SIZE)}

    def apply(params: Any, x: Any) -> Any:
        scores = (x @ params["query"]) @ (x @ params["key"]).swapaxes(-1, -2) / np.sqrt(HEAD)
        return (jax.nn.softmax(scores) @ (x @ params["value"])).mean(axis=-2)

    return Model(apply, _networks.gaussian(shapes, 1.0), name="attention")


def sequences(seed: int = 0) -> Examples:
    """Sequences of Gaussian tokens, labels of an attention layer of other weights, and label noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((SAMPLES, TOKENS, SIZE))
    query, key, value = (rng.standard_normal(shape) for shape in ((SIZE, HEAD), (SIZE, HEAD), (SIZE, SIZE)))
    scores = (x @ query) @ (x @ key).swapaxes(-1, -2) / SIZE
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return Examples(x, (weights @ (x @ value)).mean(axis=-2) / np.sqrt(SIZE), label_noise=0.3)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Measured against predicted change of every unit, with the law and without the part of the mean gradient."""
    accounts: Mapping[str, Account] = evidence.curves["accounts"]
    relu, tanh = accounts["ReLU units"], accounts["tanh units"]
    shown = {"ReLU, noise and mean gradient": (relu.predicted, relu), "tanh, the same": (tanh.predicted, tanh)}
    for panel, (title, (predicted, account)), colour in zip(axes, shown.items(), plots.COLOURS, strict=False):
        panel.scatter(predicted[:24], account.measured[:24], s=5, color=colour, alpha=0.5, lw=0)
        ends = np.array([predicted[:24].min(), predicted[:24].max()])
        panel.plot(ends, ends, color=plots.INK, lw=0.8)
        panel.set(title=title, xlabel="predicted change of ‖u‖² − ‖w‖²", ylabel="measured change")
    slopes = {name: one.slope(name, one.predicted) for name, one in accounts.items() if one is not tanh}
    slopes["noise alone"] = relu.slope("ReLU units", relu.noise)
    axes[2].axhspan(*SLOPE, color=plots.GREY, alpha=0.15, lw=0)
    for place, (number, colour) in enumerate(zip(slopes.values(), plots.COLOURS, strict=False)):
        plots.interval(axes[2], place, number.interval, color=colour)
    axes[2].set(title="Slope of measured on predicted", ylabel="slope", xlim=(-0.5, len(slopes) - 0.5))
    axes[2].set_xticks(np.arange(len(slopes)), [name.replace(" ", "\n") for name in slopes])


CLAIM = Claim(
    name="relu-noise-balance",
    title="The law of balance accounts for the norms of ReLU units",
    statement=(
        "In networks trained by SGD, the change of ‖u‖² − ‖w‖² of every ReLU unit, u the weights out of it and w those "
        "into it, is the one that the law of balance predicts from the noise of the gradient and from its mean: slope "
        "1 within 5 %, correlation above 0.95 over the units of a network. The same holds for the channels of a "
        "convolution and for the dimensions of an attention head. The law fails for tanh units."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, for the noise; the part of the mean gradient, and the test unit by "
        "unit, are this project's"
    ),
    method=(
        "ReLU layers 10, 20 and 3 without biases on 200 Gaussian inputs, labels of a linear teacher of rank 2 with "
        "fresh noise of standard deviation 1, η = 0.05, B = 100, until t = 200 (40 in the quick form). Both parts of "
        "the rate are computed from the gradients of all samples at about 90 saves and integrated over time; nothing "
        "is fitted. The slope is that of a line through the origin. The full form adds a convolutional network that "
        "classifies digits (SGD, B = 4, no label noise) and a softmax attention layer (B = 16, label noise 0.3), "
        "with slopes within 10 %. "
        "Regions were set from smaller runs with another seed."
    ),
    control="Tanh units have no rescaling symmetry; the same prediction must fail for them in slope and correlation.",
    caption=(
        "Left and middle: every dot is a unit of one of 24 networks, the line is the law. Right: slopes with intervals "
        "at 1e-6; the region of the claim is grey."
    ),
    why=(
        "Noise moves norms between the layers of a network although the loss does not ask for it. What moves them can "
        "be predicted from gradients, unit by unit, in any network with ReLUs."
    ),
    equations=(
        r"\frac{d}{dt}\left(\lVert u \rVert^2 - \lVert w \rVert^2\right) = T \left(\mathrm{Tr}\,\mathrm{Cov}[g_u] - "
        r"\mathrm{Tr}\,\mathrm{Cov}[g_w]\right) + \eta \left(\lVert \bar g_u \rVert^2 - "
        r"\lVert \bar g_w \rVert^2\right)",
        r"T = \frac{\eta}{B}",
    ),
    proved=(
        "For a loss with ℓ(λu, w/λ) = ℓ(u, w), a step changes the difference by η²(‖g_u‖² − ‖g_w‖²) exactly. The law "
        "is the mean of this over batches."
    ),
    unknown=(
        "The law gives the rate at the present weights. It does not say where norms end, which depends on how the "
        "noise changes with them."
    ),
    related=("noise-balance", "exact-balance", "relu-rank"),
    experiment=experiment,
    draw=draw,
    extra="jax",
)
