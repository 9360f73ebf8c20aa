"""Isotropic noise of the same trace changes variances, loss and balance of the layers, all as predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import OTHER_LAW, alive, around, largest, learning_times, network, power, run
from saddlescope.init import Gaussian
from saddlescope.methods import Langevin
from saddlescope.plan import Plan
from saddlescope.theory import layer_noise

TARGETS, WIDTH, LABEL_NOISE = (2.0, 1.5, 1.0, 0.5), 8, 0.5
TEMPERATURE, STEP, HORIZON, REST = 0.01, 0.01, 20.0, 10.0
SECOND_ORDER: Region = (0.9, 1.2)
"""Gradient noise over its first order in T: the error Δ caused by noise adds about 10 % to the noise here."""

NEAR = around(1.0, 0.1)
NAMES = (
    "isotropic noise: quasi-stationary variance of a mode / ½cT, worst mode",
    "gradient noise: stationary variance of a mode / Tσ²s*, worst mode",
    "isotropic noise: quasi-stationary excess loss / ¼cT dx dy",
    "gradient noise: stationary excess loss / ¼Tσ² Tr H",
)
GAINED = "isotropic noise: ‖W₂ᵀW₂ − W₁W₁ᵀ‖² gained / (2h + 2) T ∫c(‖W₁‖² + ‖W₂‖²)dt"

PROBLEM = network(2, WIDTH, TARGETS, Gaussian(scale=0.05), LABEL_NOISE)


@dataclass(frozen=True, eq=False)
class Training:
    """One run with its weights, and the predictions for it."""

    run: xr.Dataset

    @cached_property
    def noise(self) -> Floats:
        """``cT``, c = Tr C/d the variance of isotropic noise in each weight (trajectory, time)."""
        first, second = (self.run[name].values for name in ("W1", "W2"))
        shape, count = first.shape[:2], first[0, 0].size + second[0, 0].size
        flat = [weights.reshape(-1, *weights.shape[2:]) for weights in (first, second)]
        return np.asarray(layer_noise(PROBLEM.data, TEMPERATURE, flat).sum(axis=1).reshape(shape) / count)

    @cached_property
    def size(self) -> Floats:
        """``‖W₁‖² + ‖W₂‖²`` (trajectory, time)."""
        return np.asarray(sum((self.run[name].values ** 2).sum(axis=(2, 3)) for name in ("W1", "W2")))

    @property
    def rest(self) -> np.ndarray:
        """The saves after learning, while c is nearly constant, about one relaxation time of the weakest mode apart."""
        return np.flatnonzero(self.run["time"].values >= REST - 1e-9)

    def variances(self, isotropic: bool) -> list[Interval]:
        """Variance of every learned mode, mean over saves, over ``½cT`` or ``Tσ²s*``."""
        strengths = self.run["mode_strength"].values[:, self.rest]
        square = (strengths - strengths.mean(axis=0)) ** 2
        if isotropic:
            predicted = self.noise[:, self.rest, None] / 2
        else:
            predicted = TEMPERATURE * LABEL_NOISE**2 * np.array(TARGETS)
        return [intervals.mean(mode) for mode in (square / predicted).mean(axis=1).T]

    def loss(self, isotropic: bool) -> Interval:
        """Late excess loss over ``¼cT dx dy`` or ``¼Tσ² Tr H``, Tr H = (‖W₁‖² + ‖W₂‖²) dx for a square map."""
        size, rest = len(TARGETS), self.rest
        if isotropic:
            predicted = self.noise[:, rest] * size**2 / 4
        else:
            predicted = TEMPERATURE * LABEL_NOISE**2 * size * self.size[:, rest] / 4
        return intervals.mean((self.run["excess_loss"].values[:, rest] / predicted).mean(axis=1))

    def unbalanced(self, factor: float = 2 * WIDTH + 2) -> Interval:
        """``‖Q‖²`` gained until the end over ``∫ cT (2h + 2)(‖W₁‖² + ‖W₂‖²) dt``, the mean of each."""
        square = self.run["imbalance"].values[:, :, 0] ** 2
        predicted = np.trapezoid(factor * self.noise * self.size, self.run["time"].values, axis=1)
        return intervals.mean((square[:, -1] - square[:, 0]) / predicted.mean())


def experiment(quick: bool) -> Evidence:
    """Langevin runs of one temperature with gradient noise (twice) and isotropic noise (once)."""
    size = 8192 if quick else 16_384
    gradient, again = _run("gradient", 1, size), _run("gradient", 2, size)
    isotropic = _run("isotropic", 3, size)
    plain, round_ = Training(alive(gradient)), Training(alive(isotropic))
    stationary = _stationary(plain, round_)
    balance = around(1.0, 0.08 if quick else 0.05)

    def unbalanced(factor: float = 1.0) -> Number:
        return Number(GAINED, round_.unbalanced() / factor, balance)

    return Evidence(
        numbers=[
            *(replace(judged(1.0), catches=power(judged, "T")) for judged in stationary),
            replace(unbalanced(), catches=power(unbalanced, "T")),
            *(
                Number(f"Kolmogorov distance of {name}", found, OTHER_LAW)
                for name, found in _apart(gradient, isotropic)
            ),
        ],
        controls=[
            *(
                Number(f"two runs of gradient noise: Kolmogorov distance of {name}", found, OTHER_LAW)
                for name, found in _apart(gradient, again)
            ),
            Number(
                "gradient noise: imbalance gained over the prediction for isotropic noise", plain.unbalanced(), balance
            ),
        ],
        runs=[
            Run.of("gradient noise", gradient),
            Run.of("gradient noise, other seed", again),
            Run.of("isotropic noise of the same trace", isotropic),
        ],
        curves={"gradient": gradient, "isotropic": isotropic, "trainings": (plain, round_)},
        rivals=[
            *_exchanged(plain, round_),
            Rival("2h in place of 2h + 2", [Number(GAINED, round_.unbalanced(2 * WIDTH), balance)]),
            *(
                Rival(f"T × {factor}", [stationary[0](factor), stationary[2](factor), unbalanced(factor)])
                for factor in ((0.8, 1.25) if quick else (0.9, 1.1))
            ),
        ],
    )


def _stationary(plain: Training, round_: Training) -> list[Callable[[float], Number]]:
    """Each ratio, judged as if T were a factor times its value."""
    found = (round_.variances(True), plain.variances(False), [round_.loss(True)], [plain.loss(False)])

    def judged(which: int, factor: float) -> Number:
        region, moved = (SECOND_ORDER, True) if "gradient" in NAMES[which] else (NEAR, False)
        return Number(NAMES[which], largest((one / factor for one in found[which]), 1.0), region, moved=moved)

    return [partial(judged, which) for which in range(len(NAMES))]


def _exchanged(plain: Training, round_: Training) -> list[Rival]:
    """Rivals: each noise with the predictions of the other."""
    return [
        Rival(
            "isotropic noise with the variances of gradient noise",
            [Number(NAMES[0], largest(round_.variances(False), 1.0), NEAR)],
        ),
        Rival(
            "gradient noise with the variances of isotropic noise",
            [Number(NAMES[1], largest(plain.variances(True), 1.0), SECOND_ORDER)],
        ),
        Rival("isotropic noise with the loss of gradient noise", [Number(NAMES[2], round_.loss(False), NEAR)]),
    ]


def _run(noise: Literal["gradient", "isotropic"], seed: int, trajectories: int) -> xr.Dataset:
    method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=STEP)
    plan = Plan(steps=round(HORIZON / STEP), trajectories=trajectories, saves=20, seed=seed, keep="weights")
    return run(PROBLEM, method, plan)


def _samples(dataset: xr.Dataset) -> dict[str, Floats]:
    """The quantities that are compared, one number per trajectory."""
    last = dataset.isel(time=-1)
    return {
        "the excess loss at the end": last["excess_loss"].values,
        "the imbalance at the end": last["imbalance"].isel(interface=0).values,
        "the time at which the weakest mode is learned": learning_times(dataset)[:, -1],
    }


def _apart(one: xr.Dataset, other: xr.Dataset) -> list[tuple[str, Interval]]:
    first, second = _samples(one), _samples(other)
    return [(name, intervals.distance_between(first[name], second[name])) for name in first]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Excess loss and imbalance over time, variances."""
    loss, imbalance, variance = axes
    for training, kind, colour in zip(
        evidence.curves["trainings"], ("gradient", "isotropic"), plots.COLOURS, strict=False
    ):
        dataset: xr.Dataset = training.run
        for panel, name in ((loss, "excess_loss"), (imbalance, "imbalance")):
            low, middle, high = np.quantile(
                dataset[name].values.reshape(len(dataset["trajectory"]), -1), (0.05, 0.5, 0.95), axis=0
            )
            panel.fill_between(dataset["time"], low, high, color=colour, alpha=0.2, lw=0)
            panel.plot(dataset["time"], middle, color=colour, label=f"{kind} noise")
        round_ = kind == "isotropic"
        unit = training.noise[:, training.rest].mean() / 2
        theory = np.full(4, unit) if round_ else TEMPERATURE * LABEL_NOISE**2 * np.array(TARGETS)
        variance.plot(TARGETS, 1e3 * theory, color=colour, label=f"{kind} noise")
        for target, level, seen in zip(TARGETS, theory, training.variances(round_), strict=True):
            plots.interval(variance, target, 1e3 * level * seen, color=colour)
    loss.set(title="Loss above label noise", yscale="log", xlabel="time", ylabel="½ Tr ΔΣΔᵀ")
    loss.legend()
    imbalance.set(title="Imbalance of the layers", yscale="log", xlabel="time", ylabel="‖W₂ᵀW₂ − W₁W₁ᵀ‖")
    imbalance.legend()
    variance.set(title="Variance of a learned mode", xlabel="target s*", ylabel="10³ Var[uᵀPv]", ylim=(0, None))
    variance.legend(title="lines: theory, dots: network", alignment="left")


CLAIM = Claim(
    name="isotropic-noise",
    title="Isotropic noise of the same trace gives a different picture, also predicted",
    statement=(
        "The shape of the gradient noise matters. Isotropic Langevin noise with the same trace at every moment, "
        "variance c = Tr C/d in each of d weights, changes when modes are learned, unbalances the layers and leads to "
        "a different loss. For two layers and white inputs, to first order in T and while c is nearly constant, the "
        "learned modes are quasi-stationary: the variance of every mode is ½cT, under gradient noise Tσ²s*, and the "
        "excess loss is ¼cT dx dy, under gradient noise ¼Tσ² Tr H, hence smaller by the factor dx dy/d. The imbalance "
        "Q = W₂ᵀW₂ − W₁W₁ᵀ, nearly conserved by gradient noise, grows as d E‖Q‖² = (2h + 2) T E[c(‖W₁‖² + ‖W₂‖²)] dt "
        "for dx = dy and h hidden units. Nothing confines the directions that leave the map as it is, so the weights "
        "and with them c grow, and there is no stationary distribution."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366 (isotropic noise as a comparison); the predicted variances, loss and "
        "imbalance are this project's: Ornstein–Uhlenbeck process of the linearised map, Itô's formula for Q"
    ),
    method=(
        "Langevin with T = 0.01, integration step 0.01, network 4 → 8 → 4 from Gaussian weights of standard deviation "
        "0.05, teacher modes 2, 1.5, 1, 0.5, σ = 0.5, until t = 20. Isotropic noise has covariance (Tr C/d) I over all "
        "d weights, C the covariance of the per-sample gradient at the current weights; c is computed from the weights "
        "at every save. Variances and losses are means over trajectories and saves from t = 10 on; the imbalance is "
        "the gain over the whole run. Distributions are compared by the Kolmogorov distance; 0.1 is the smallest that "
        "counts as different."
    ),
    control=(
        "Two runs of gradient noise with different seeds must not count as different, and gradient noise must not "
        "unbalance the layers as isotropic noise does."
    ),
    caption=(
        "Median and 5–95 % of trajectories: loss above label noise; imbalance, which gradient noise nearly conserves; "
        "variance of each mode from t = 10 to 20 against theory."
    ),
    why=(
        "Adding white noise of the same total size to gradients is no substitute for minibatch noise: it gives "
        "another loss, other fluctuations and layers out of balance. Conclusions from Langevin dynamics with "
        "isotropic noise can fail for SGD even in a linear network."
    ),
    equations=(
        r"\operatorname{Var}[s_\alpha] \approx \tfrac12 c T \text{ (isotropic, slow } c\text{)}, \qquad T \sigma^2 "
        r"s_\alpha^* \text{ (gradient noise)}",
        r"\mathrm{E}[\text{excess loss}] \approx \tfrac14 c T d_x d_y \text{ (isotropic)}, \qquad \tfrac14 T "
        r"\sigma^2 \operatorname{Tr} H \text{ (gradient noise)}",
        r"d\, \mathrm{E}\lVert Q \rVert^2 = (2h + 2)\, T\, \mathrm{E}\left[c \left(\lVert W_1 \rVert^2 + \lVert "
        r"W_2 \rVert^2\right)\right] dt, \qquad c = \frac{\operatorname{Tr} C}{d}",
    ),
    proved=(
        "Variances and losses are those of the linearised process at the minimum, to first order in T and with c held "
        "constant. The growth of the imbalance is Itô's formula, exact for isotropic Langevin noise in continuous time "
        "when dx = dy."
    ),
    unknown=(
        "There is no stationary law under isotropic noise: c grows at a rate of order Tσ², in longer runs from 0.19 "
        "at t = 27 to 0.79 at t = 240, and the variances with it. This experiment ends at t = 20, while c is nearly "
        "constant. Learning times are only shown to differ; they are not predicted. Tested for two layers with white "
        "inputs at one temperature, one width and one label noise."
    ),
    related=("noise-peak", "label-noise", "balance-decay", "noise-balance"),
    experiment=experiment,
    draw=draw,
)
