"""On and off the diagonal, throughout training, the map has the drift and diffusion of its exact Itô SDE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import around, largest, network, power, run, smallest
from saddlescope.init import Gaussian
from saddlescope.methods import SGD, Langevin, Method
from saddlescope.plan import Plan
from saddlescope.theory.network.end_to_end import map_covariance, map_drift

DEPTH, TARGETS, LABEL_NOISE, HORIZON = 3, (2.0, 1.5, 1.0, 0.5), 0.2, 20.0
PROBLEM = network(DEPTH, 8, TARGETS, Gaussian(scale=0.15), LABEL_NOISE)
BATCH = 16
TRAINED = SGD(lr=4e-3, batch_size=BATCH)
SAVES = 12


@dataclass(frozen=True, eq=False)
class Step:
    """One step of every trajectory: the map before, its increment, and the predicted drift and variance rates.

    Arrays (trajectory, i, j) in the teacher's basis, rates per unit time.
    """

    time: float
    maps: Floats
    moved: Floats
    drift: Floats
    rate: Floats

    @property
    def diffusion(self) -> Floats:
        """Realised variance rate after subtracting the predicted drift."""
        return np.asarray((self.moved - self.drift * TRAINED.lr) ** 2 / TRAINED.lr)

    def over(self, predicted: Floats, diagonal: bool | None = None) -> Interval:
        """Realised over predicted total diffusion, on or off the diagonal or both; ∞ if none is predicted."""
        chosen = {None: np.ones((4, 4), bool), True: np.eye(4, dtype=bool), False: ~np.eye(4, dtype=bool)}[diagonal]
        expected = predicted[:, chosen].sum(axis=1)
        if not (expected > 0).all():
            return intervals.exact(np.inf)
        return intervals.mean(self.diffusion[:, chosen].sum(axis=1) / expected)


def experiment(quick: bool) -> Evidence:
    """SGD from small Gaussian weights; at twelve times a step is compared with the Itô SDE at its weights."""
    dataset = _run(TRAINED, 4096 if quick else 12_288)
    steps = _steps(dataset)
    control_run = _run(Langevin(lr=TRAINED.lr, batch_size=BATCH, noise="isotropic"), 512)
    other = _steps(control_run)
    on, off, drift = (
        "diffusion on the diagonal, realised / exact Itô SDE, worst time",
        "diffusion off the diagonal, realised / exact Itô SDE, worst time",
        "drift, realised / exact Itô SDE, all entries and times",
    )
    near = around(1.0, 0.2 if quick else 0.1)

    def judged(name: str, diagonal: bool, predicted: Callable[[Step], Floats]) -> Number:
        return Number(name, largest((step.over(predicted(step), diagonal) for step in steps), 1.0), near)

    def warmer(factor: float) -> Number:
        return judged(off, False, lambda step: factor * step.rate)

    def slope(factor: float = 1.0) -> Number:
        return Number(drift, _slope(steps) / factor, around(1.0, 0.15 if quick else 0.08))

    return Evidence(
        numbers=[
            replace(warmer(1.0), catches=power(warmer, "T")),
            judged(on, True, lambda step: step.rate),
            replace(slope(), catches=power(slope, "drift")),
        ],
        controls=[
            Number(
                "isotropic noise of the same trace: the same off the diagonal, nearest time",
                smallest((step.over(step.rate, False) for step in other), 1.0),
                near,
            )
        ],
        runs=[Run.of("SGD from small weights", dataset), Run.of("isotropic noise", control_run)],
        curves={"steps": steps},
        rivals=[
            *(Rival(f"T × {factor}", [warmer(factor)]) for factor in ((0.7, 1.4) if quick else (0.85, 1.2))),
            Rival("the same diffusion in every entry", [judged(on, True, _even)]),
            *(Rival(f"drift × {factor}", [slope(factor)]) for factor in ((0.7, 1.4) if quick else (0.85, 1.2))),
        ],
    )


def _run(method: Method, trajectories: int) -> xr.Dataset:
    """A run with saves in pairs: steps k, k + 1."""
    first = np.linspace(HORIZON / SAVES, HORIZON, SAVES) / TRAINED.lr
    saves = tuple(sorted({int(step) + by for step in first for by in (-1, 0)}))
    plan = Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="weights")
    return run(PROBLEM, method, plan)


def _steps(dataset: xr.Dataset) -> list[Step]:
    """Every pair of saves, with the SDE at the weights of the first."""
    (left, right), data = PROBLEM.data.bases, PROBLEM.data
    layers, turn = [dataset[f"W{layer}"].values for layer in (1, 2, 3)], np.kron(left, right)
    maps, temperature = layers[2] @ layers[1] @ layers[0], dataset.attrs["temperature"]
    steps = dataset["step"].values
    found = []
    for at in np.flatnonzero(np.diff(steps) == 1):
        weights = [layer[:, at] for layer in layers]
        covariance = map_covariance(data, temperature, weights).reshape(len(maps), turn.shape[0], turn.shape[0])
        rate = np.einsum("ka,nkl,la->na", turn, covariance, turn, optimize=True).reshape(maps[:, at].shape)
        drift = left.T @ map_drift(data, temperature, weights, lr=TRAINED.lr) @ right
        before, after = (left.T @ maps[:, at + by] @ right for by in (0, 1))
        found.append(Step(float(dataset["time"].values[at]), before, after - before, drift, rate))
    return found


def _slope(steps: Sequence[Step]) -> Interval:
    """Slope of the regression of realised on predicted drift, through 0."""
    both = sum((step.moved * step.drift).sum(axis=(1, 2)) for step in steps)
    square = sum((step.drift**2).sum(axis=(1, 2)) for step in steps)
    return intervals.mean(both) / float(np.mean(square) * TRAINED.lr)


def _even(step: Step) -> Floats:
    """The mean over entries, for every entry."""
    return np.broadcast_to(step.rate.mean(axis=(1, 2), keepdims=True), step.rate.shape)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Diffusion on and off the diagonal, total drift, their ratio during training."""
    steps: list[Step] = evidence.curves["steps"]
    diffusion, drift, ratio = axes
    time = [step.time for step in steps]
    for diagonal, colour, label in ((True, plots.COLOURS[0], "on the diagonal"), (False, plots.COLOURS[1], "off")):
        chosen = np.eye(4, dtype=bool) == diagonal
        level = [float(step.rate[:, chosen].sum(axis=1).mean()) for step in steps]
        diffusion.plot(time, level, color=colour, label=label)
        for step, size in zip(steps, level, strict=True):
            plots.interval(diffusion, step.time, size * step.over(step.rate, diagonal), color=colour)
    diffusion.set(title="Total diffusion of the map", xlabel="time", ylabel="variance rate", yscale="log")
    diffusion.legend(title="lines: Itô SDE, dots: SGD", alignment="left")
    pull = [float(np.sqrt((step.drift**2).sum(axis=(1, 2))).mean()) for step in steps]
    total = [float(step.rate.sum(axis=(1, 2)).mean()) for step in steps]
    drift.plot(time, pull, color=plots.COLOURS[2])
    drift.set(title="Total drift of the map", xlabel="time", ylabel="‖drift of P‖", yscale="log")
    ratio.plot(time, np.array(pull) / np.sqrt(total), color=plots.COLOURS[3])
    ratio.set(title="Drift over diffusion", xlabel="time", ylabel="‖drift‖ / √(total diffusion)", yscale="log")


CLAIM = Claim(
    name="whole-map",
    title="On and off the diagonal, SGD moves the map by its exact Itô SDE",
    statement=(
        "From small Gaussian weights, neither aligned nor balanced, through all plateaus and in the stationary state, "
        "the end-to-end map of SGD has the drift and diffusion of the exact Itô SDE of P at the current weights: along "
        "the modes, and in the entries u_αᵀPv_β, α ≠ β, which go to 0 under gradient flow."
    ),
    source="Corlouer et al. 2026, arXiv 2604.06366 (drift, diffusion and their ratio along training)",
    method=(
        "SGD (η = 0.004, B = 16), L = 3, network 4 → 8 → 8 → 4 from Gaussian weights of standard deviation 0.15, modes "
        "2, 1.5, 1, 0.5, σ = 0.2. At twelve times until t = 20 the next step of every trajectory is compared with the "
        "Itô SDE at its weights: the squared increments beyond the drift, summed over entries, over the trace of the "
        "covariance, and the projection of the increments on the predicted drift. The Itô part of the drift is of "
        "order T and not resolved here: the claim on the mode SDE measures it. Nor is the diagonal distinguished from "
        "that of aligned, balanced weights, which is 5 % away."
    ),
    control="Steps with isotropic noise of the same trace must not have this diffusion off the diagonal at any time.",
    caption=(
        "Total diffusion of the entries on and off the diagonal, SGD against the Itô SDE at its weights; total drift, "
        "and its ratio to the root of the total diffusion, means over trajectories."
    ),
    why=(
        "From random weights nothing is aligned, and minibatch noise also stirs combinations of features that the "
        "task does not contain. The drift and noise of the whole input–output map still follow from the current "
        "weights, so both can be computed at any time of training a linear network."
    ),
    equations=(
        r"dP = \left[-\sum_l A_l\, \Delta\Sigma\, D_l + O(T)\right] dt - \sqrt{T} \sum_l A_l\, d\tilde{G}\, D_l",
        r"A_l = W_{>l} W_{>l}^\top, \qquad D_l = W_{<l}^\top W_{<l}",
        r"\operatorname{Cov}[G_{ij}, G_{kl}] = (\Delta\Sigma\Delta^\top)_{ik} \Sigma_{jl} + (\Delta\Sigma)_{il} "
        r"(\Delta\Sigma)_{kj} + \sigma^2 \delta_{ik} \Sigma_{jl}",
    ),
    proved=(
        "The SDE is Itô's formula for a product of layers with Gaussian inputs; it assumes neither alignment nor "
        "balance. A step of SGD has this drift and diffusion to leading order in η."
    ),
    unknown=(
        "The Itô part of the drift, of order T, is below the resolution here. Each step is predicted from the weights "
        "before it; the SDE is not integrated over the run, so the growth of errors along a path is not tested. "
        "Tested at L = 3."
    ),
    related=("mode-sde", "isotropic-noise", "small-start"),
    experiment=experiment,
    draw=draw,
)
