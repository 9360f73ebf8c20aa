"""Label noise from small to large: the exact stationary distribution, and the shrinkage under full noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle import _rivals
from saddlescope.claims.tools import (
    aligned,
    alive,
    around,
    at,
    largest,
    network,
    power,
    run,
    same_law,
    smallest,
)
from saddlescope.data import GaussianData
from saddlescope.methods import Langevin
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE, label_noise_shift

DEPTHS, SWEEP, TARGETS, TEMPERATURE = (2, 3, 4), (0.25, 0.5, 1.0), (1.0, 0.6), 0.02
END, STEP = 5.0, 5e-3

DISTANCE = "Kolmogorov distance to the exact stationary distribution, worst depth and σ"
SQUARE = "full noise, σ = 1: shrinkage / prediction, worst depth"
OTHER = "the same with 6 inputs and 2 outputs, or 2 and 6, worst case"


def _missing(strengths: Floats) -> Floats:
    """s* minus strengths (trajectory, save, mode), mean over saves; strengths beyond ± 4 are diverging and clipped."""
    return np.asarray(np.array(TARGETS) - np.clip(strengths, -4.0, 4.0).mean(axis=1))


@dataclass(frozen=True)
class Sweep:
    """Strengths (trajectory, save, mode) long after learning at one depth and label noise, aligned and full noise."""

    depth: int
    label_noise: float
    aligned: Floats
    full: Floats

    @property
    def modes(self) -> list[ModeSDE]:
        """The SDE of each mode."""
        return [ModeSDE(self.depth, target, self.label_noise, temperature=TEMPERATURE) for target in TARGETS]

    def shrinkage(self, full: bool) -> list[Interval]:
        """s* minus mean strength, of each mode."""
        missing = _missing(self.full if full else self.aligned)
        return [intervals.mean(mode) for mode in missing.T]

    def over(self, predicted: Floats) -> Interval:
        """Shrinkage under full noise over a prediction, mean over modes."""
        missing = _missing(self.full)
        return intervals.mean((missing / predicted).mean(axis=1))


def experiment(quick: bool) -> Evidence:
    """Stationary networks: square ones at every depth and label noise, others at the largest label noise."""
    size = 16_384 if quick else 131_072
    sweep, runs = _sweep(size)
    oblong, oblong_runs = _oblong(size)
    loud = [point for point in sweep if point.label_noise == SWEEP[-1]]
    at_rest = [
        (strengths, mode, _rivals.at_rest)
        for point in sweep
        for strengths, mode in zip(point.aligned[:, -1].T, point.modes, strict=True)
    ]
    boltzmann = [
        intervals.distance_to_law(strengths, mode.boltzmann().cdf)
        for point in loud
        for strengths, mode in zip(point.aligned[:, -1].T, point.modes, strict=True)
    ]
    region = around(1.0, 0.2 if quick else 0.1)
    over_own = [point.over(own_shift(point)) for point in loud]

    def square(factor: float) -> Number:
        """Shrinkage of square networks over that at ``factor`` times the temperature."""
        return Number(SQUARE, largest((point.over(full_shift(point)) / factor for point in loud), 1.0), region)

    def other(ends: Callable[[int, int], tuple[int, int]]) -> Number:
        """Shrinkage of the other networks over that predicted for these ends."""
        ratios = (one.over(one.shift(*ends(one.inputs, one.outputs))) for one in oblong)
        return Number(OTHER, largest(ratios, 1.0), region)

    return Evidence(
        numbers=[
            _rivals.judged(DISTANCE, at_rest, quick),
            replace(square(1.0), catches=power(square, "T")),
            other(lambda inputs, outputs: (inputs, outputs)),
            Number("full noise, σ = 1, L = 4: shrinkage / that from a mode's own noise", over_own[-1]),
        ],
        controls=[
            Number(
                f"Kolmogorov distance to Boltzmann at σ = 1, nearest{' at L = 4' if quick else ''}",
                smallest(boltzmann[-2:] if quick else boltzmann),
                same_law(quick),
            ),
            Number(
                "full noise, σ = 1: shrinkage / that from a mode's own noise, nearest depth",
                smallest(over_own, 1.0),
                region,
            ),
        ],
        runs=[*runs, *oblong_runs],
        curves={"sweep": sweep},
        rivals=[
            *_rivals.rivals(DISTANCE, at_rest, quick, _rivals.temperatures(quick)),
            Rival("half the shrinkage, ⅛Tσ² for ¼Tσ²", [square(0.5)]),
            Rival("the number of modes in place of ½(dx + dy)", [other(lambda inputs, outputs: (2, 2))]),
            Rival("dx in place of ½(dx + dy)", [other(lambda inputs, outputs: (inputs, inputs))]),
            Rival("dy in place of ½(dx + dy)", [other(lambda inputs, outputs: (outputs, outputs))]),
        ],
    )


def full_shift(point: Sweep) -> Floats:
    """Predicted shrinkage of each mode under full noise."""
    return label_noise_shift(TARGETS, point.depth, TEMPERATURE, point.label_noise)


def own_shift(point: Sweep) -> Floats:
    """Predicted shrinkage of modes that have only their own noise."""
    alone = [label_noise_shift([target], point.depth, TEMPERATURE, point.label_noise) for target in TARGETS]
    return np.concatenate(alone)


@dataclass(frozen=True, eq=False)
class Oblong:
    """A network with unequal input and output sizes, σ = 1, full noise: strengths (trajectory, save, mode)."""

    depth: int
    inputs: int
    outputs: int
    strengths: Floats

    def shift(self, inputs: int, outputs: int) -> Floats:
        """Predicted shrinkage of each mode for these input and output sizes."""
        return label_noise_shift(TARGETS, self.depth, TEMPERATURE, SWEEP[-1], inputs, outputs)

    def over(self, predicted: Floats) -> Interval:
        """Shrinkage over a prediction, mean over modes."""
        missing = _missing(self.strengths)
        return intervals.mean((missing / predicted).mean(axis=1))


def _oblong(trajectories: int) -> tuple[list[Oblong], list[Run]]:
    """Networks with more inputs than outputs, and with fewer."""
    found, runs, method = [], [], Langevin(lr=TEMPERATURE, batch_size=1.0, dt=STEP)
    for depth, (inputs, outputs) in itertools.product(DEPTHS, ((6, 2), (2, 6))):
        data = GaussianData.from_spectrum(TARGETS, inputs, outputs, label_noise=SWEEP[-1])
        problem = Problem(DeepLinear((inputs, *[2] * (depth - 1), outputs)), data, aligned(depth, 1.0))
        dataset = run(at(problem, TARGETS), method, _plan(trajectories))
        found.append(Oblong(depth, inputs, outputs, alive(dataset)["mode_strength"].values))
        runs.append(Run.of(f"L = {depth}, σ = 1, {inputs} inputs, {outputs} outputs", dataset))
    return found, runs


def _plan(trajectories: int) -> Plan:
    """Saves in the second half, so that means include time."""
    saves = tuple(round(time / STEP) for time in np.linspace(END / 2, END, 6))
    return Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="trajectories")


def _sweep(trajectories: int) -> tuple[list[Sweep], list[Run]]:
    """Square networks with aligned and with full noise, at every depth and label noise."""
    found, runs, plan = [], [], _plan(trajectories)
    for depth in DEPTHS:
        for label_noise in SWEEP:
            strengths = []
            for noise in ("aligned", "gradient"):
                method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=STEP)
                problem = network(depth, len(TARGETS), TARGETS, aligned(depth, 1.0), label_noise)
                dataset = run(at(problem, TARGETS), method, plan)
                strengths.append(alive(dataset)["mode_strength"].values)
                runs.append(Run.of(f"L = {depth}, σ = {label_noise:g}, {noise} noise", dataset))
            found.append(Sweep(depth, label_noise, *strengths))
    return found, runs


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities at increasing label noise, shrinkage of both modes against σ²."""
    sweep: list[Sweep] = evidence.curves["sweep"]
    law, *shrink = axes
    s = np.linspace(0.2, 2.2, 400)
    for point, colour in zip([point for point in sweep if point.depth == 3], plots.COLOURS, strict=False):
        mode = point.modes[0]
        law.hist(point.aligned[:, -1, 0], list(np.linspace(0.2, 2.2, 101)), density=True, color=colour, alpha=0.25)
        law.plot(s, mode.stationary().pdf(s), color=colour, label=f"σ = {point.label_noise:g}")
        law.plot(s, mode.boltzmann().pdf(s), color=colour, ls="--", lw=0.9)
    law.set(title="Stationary density, L = 3, s* = 1", xlabel="s", ylabel="density", xlim=(0.4, 1.8), ylim=(0, 16))
    law.legend(title="lines: exact, dashed: Boltzmann", alignment="left")
    for panel, (index, target) in zip(shrink, enumerate(TARGETS), strict=True):
        for depth, colour in zip(DEPTHS, plots.COLOURS, strict=False):
            points = [point for point in sweep if point.depth == depth]
            variances = [point.label_noise**2 for point in points]
            own, full = ([shift(point)[index] for point in points] for shift in (own_shift, full_shift))
            panel.plot([0, *variances], [0, *full], color=colour, label=f"L = {depth}")
            panel.plot([0, *variances], [0, *own], color=colour, lw=1, ls=":")
            for point in points:
                plots.interval(panel, point.label_noise**2, point.shrinkage(True)[index], color=colour)
                plots.interval(panel, point.label_noise**2, point.shrinkage(False)[index], color=colour, mfc="white")
        panel.set(title=f"Shrinkage, s* = {target:g}", xlabel="σ²", ylabel="s* − mean strength")
        panel.legend(title="full noise; dotted, open: own noise", loc="upper left", alignment="left")


CLAIM = Claim(
    name="label-noise",
    title="Label noise shrinks what is learned; full noise penalises the trace of the Hessian",
    statement=(
        "At any label noise, modes with only their own noise stay in the exact stationary distribution, whose mean "
        "lies, to first order in T, ½(L−1)Tσ²s*^(1−2/L) below s*; Boltzmann keeps it at s*. Under full noise the map "
        "shrinks more: to first order in T mode α lies (Tσ²/L) Σ_k k a_α^(2k−L) A_{L−1−k} below s*_α, k = 1 … L−1, a = "
        "s*^(1/L), A_k = Σ_β a_β^(2k), A_0 the mean of dx and dy: the noise acts as a penalty ¼Tσ² Tr H on the trace "
        "of the Hessian."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366 (stationary distribution); Blanc et al. 2020, arXiv 1904.09080 (the "
        "penalty); the shrinkage of the modes is this project's"
    ),
    method=(
        "Langevin, T = 0.02, step 0.005, depths 2, 3 and 4, modes 1 and 0.6, σ = 0.25, 0.5 and 1, from aligned weights "
        "at s* until t = 5, with noise on the modes alone and with full noise; at σ = 1 also with 6 inputs and 2 "
        "outputs, and with 2 and 6. Final distributions by their Kolmogorov distance; means over trajectories and over "
        "six saves from t = 2.5, well before the layers lose their balance, with strengths clipped at 4: at L = 4 "
        "fixed steps lose one trajectory in 2000 to the heavy tail, and those about to diverge would dominate the "
        "mean. Shrinkage over prediction is averaged over both modes; its region allows for the second order in T, "
        "which is 5 % at L = 4. At this temperature the distributions do not distinguish neighbouring depths at the "
        "same LT, nor g = σ²: the claim on the stationary distribution does."
    ),
    control=(
        "Boltzmann must be rejected at σ = 1 for every mode (at every depth; in quick runs at L = 4), and under full "
        "noise a mode's own noise must not explain the shrinkage at any depth."
    ),
    caption=(
        "Ensembles of the network (histograms, aligned noise) against the exact distribution and Boltzmann; mean "
        "strength below s* against σ²: full noise (dots, lines: theory) and aligned noise (open symbols, dotted), "
        "intervals at 1 − 10⁻⁶."
    ),
    why=(
        "With noisy labels, a large learning rate or a small batch makes a network learn every feature a little too "
        "weakly, as if the loss had a penalty on its curvature. The shift is proportional to η/B and to the variance "
        "of the label noise; at two layers it is the same for every feature, so weak features lose the largest "
        "fraction."
    ),
    equations=(
        r"s^* - \mathrm{E}[s] \approx \tfrac12 (L - 1)\, T \sigma^2 s^{*\,1-2/L} \qquad (\text{noise of the mode "
        r"alone})",
        r"s_\alpha^* - \mathrm{E}[s_\alpha] \approx \frac{T\sigma^2}{L} \sum_{k=1}^{L-1} k\, a_\alpha^{2k-L} "
        r"A_{L-1-k} \qquad (\text{full noise})",
        r"A_k = \sum_\beta a_\beta^{2k}, \qquad A_0 = \tfrac12 (d_x + d_y), \qquad a_\alpha = s_\alpha^{*\,1/L}",
        r"\mathcal{L} + \tfrac14 T \sigma^2 \operatorname{Tr} H",
    ),
    proved=(
        "The mean under a mode's own noise follows from the stationary density of the mode SDE. That label noise acts "
        "as a penalty on the trace of the Hessian near weights that fit is a result of Blanc et al., to leading order "
        "in the noise; the sum over modes is this penalty evaluated for balanced layers."
    ),
    unknown=(
        "The second order in T: 5 % of the shrinkage at L = 4 and T = 0.02, without a formula here. Later times are "
        "not tested: after t = 5 the noise also moves the weights along the set of minima and unbalances the layers. "
        "Tested with Langevin dynamics at depths 2 to 4."
    ),
    related=("stationary-law", "noise-balance", "most-likely", "singular-values"),
    experiment=experiment,
    draw=draw,
)
