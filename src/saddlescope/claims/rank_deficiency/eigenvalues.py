"""The eigenvalues of N = ΘᵀΘ are a repelling diffusion; its drift and noise are measured on single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.rank_deficiency._setting import LABEL_NOISE, SAMPLES, WIDTHS, follow, problem
from saddlescope.claims.tools import around, power
from saddlescope.engines import make_engine
from saddlescope.init import Given
from saddlescope.methods import GD, SGD
from saddlescope.plan import Plan
from saddlescope.theory.network import determinant
from saddlescope.theory.network.determinant import EigenvalueSDE

LR, BATCH, RESIDUAL = 1e-3, 50, 1.0
STEPS = (0, 200, 20_000, 100_000)
"""Steps of a network under label noise at which its next step is measured."""

GAPS = tuple(np.geomspace(0.02, 0.8, 9).round(3).tolist())
"""Relative distances of the two largest eigenvalues in constructed states."""

SAME = around(1.0, 0.03)
"""Measured over predicted coefficient."""

RIVALS = {
    "without": "eigenvalues that do not repel, c_ij = λ_j",
    "without_lambda": "c_ij without λ_j, (λ_i + λ_j)²/(λ_i − λ_j)",
    "without_own": "c_ii = 0",
    "without_mean": "q_ij without the square of the mean",
}
"""Coefficients near the right ones: properties of ``Steps`` and their descriptions."""


@dataclass(frozen=True)
class Steps:
    """Single steps from one state: ``Δλ_i/λ_i`` and its linear part ``−2η v_iᵀS v_i`` (trajectories, m); their SDE.

    ``noise_alone`` is the SDE without the terms of discrete steps.
    """

    change: Floats
    linear: Floats
    law: EigenvalueSDE
    noise_alone: EigenvalueSDE
    run: Run

    @property
    def pull(self) -> Floats:
        """Predicted mean of the linear part."""
        return np.asarray(LR * (self.law.pull / self.law.eigenvalues)[0])

    @property
    def repulsion(self) -> Floats:
        """Predicted mean of the change beyond the linear part."""
        return np.asarray(LR * (self.law.repulsion / self.law.eigenvalues)[0])

    @property
    def without(self) -> Floats:
        """The same if eigenvalues did not repel: ``Σ_j λ_j q_ij`` alone."""
        return self._weighted(self.law.squares[0])

    @property
    def half(self) -> Floats:
        """The same if they repelled half as much."""
        return (self.repulsion + self.without) / 2

    @property
    def without_lambda(self) -> Floats:
        """The same for ``c_ij = (λ_i + λ_j)²/(λ_i − λ_j)``."""
        squares = self.law.squares[0]
        return self.repulsion - self._weighted(squares - np.diag(np.diag(squares)))

    @property
    def without_own(self) -> Floats:
        """The same for ``c_ii = 0``."""
        return self.repulsion - LR * np.diag(self.law.squares[0])

    @property
    def without_mean(self) -> Floats:
        """The same for ``q_ij`` of the noise alone."""
        return LR * (self.noise_alone.repulsion / self.noise_alone.eigenvalues)[0]

    def _weighted(self, squares: Floats) -> Floats:
        """``Σ_j λ_j q_ij / λ_i`` of a step."""
        values = self.law.eigenvalues[0]
        return np.asarray(LR * (squares @ values) / values)

    @property
    def covariance(self) -> Floats:
        """Predicted covariance of the change."""
        values = self.law.eigenvalues[0]
        return np.asarray(LR * self.law.covariance[0] / np.outer(values, values))


def experiment(quick: bool) -> Evidence:
    """Single steps from states along a run and from close pairs."""
    count = 32_768 if quick else 131_072
    along = follow("label noise 2, η = 0.05", problem(LABEL_NOISE), GD(0.05), STEPS, 1)
    states = [[layer[save, 0] for layer in along.weights] for save in range(len(STEPS))]
    labels = [_steps(f"label noise, step {at}", state, False, count) for at, state in zip(STEPS, states, strict=True)]
    batches = [
        _steps(f"minibatch noise, step {at}", state, True, count) for at, state in zip(STEPS, states, strict=True)
    ]
    close = [_steps(f"label noise, gap {gap:g}", _close(gap), False, count, fitted=True) for gap in GAPS]
    groups = {"label noise": labels, "minibatch noise": batches, "close pairs": close}
    return Evidence(
        numbers=[
            *(
                _caught(f"repulsion over predicted, {name}", _repelled(some, "repulsion"))
                for name, some in groups.items()
            ),
            *(_caught(f"noise over predicted, {name}", _spread(some)) for name, some in groups.items()),
            *(
                _caught(f"pull of the mean gradient over predicted, {name}, step 0", _pulled(first), "pull")
                for name, first in (("label noise", labels[0]), ("minibatch noise", batches[0]))
            ),
        ],
        controls=[_other(group, "half", f"half the repulsion, {name}") for name, group in groups.items()],
        runs=[along.run, *(steps.run for steps in (*labels, *batches, *close))],
        curves={"labels": labels, "batches": batches, "close": close},
        rivals=[
            Rival(theory, [_other(group, part, name) for name, group in groups.items()])
            for part, theory in RIVALS.items()
        ],
    )


def _other(group: Sequence[Steps], part: str, name: str) -> Number:
    """The change beyond the linear part, over a wrong prediction of it."""
    return Number(f"repulsion over that of {name}", intervals.mean(_repelled(group, part)), SAME)


def _caught(name: str, shares: Floats, symbol: str = "T") -> Number:
    """Mean of a measured over predicted coefficient, with the errors of ``symbol`` that it catches."""
    found = intervals.mean(shares)
    catches = power(lambda factor: Number(name, found / factor, SAME), symbol)
    return Number(name, found, SAME, catches, moved=True)


def _steps(name: str, state: list[Floats], minibatch: bool, trajectories: int, fitted: bool = False) -> Steps:
    """Single steps of minibatches without label noise, or of full batches with it; ``fitted``: the weights fit."""
    noise, residual = (0.0, RESIDUAL) if minibatch else (LABEL_NOISE, 0.0)
    at = problem(noise, residual=residual, start=Given(tuple(state)), teacher=state[1] @ state[0] if fitted else None)
    method = SGD(LR, BATCH) if minibatch else GD(LR)
    plan = Plan(steps=1, trajectories=trajectories, seed=len(name))
    engine = make_engine("auto", at, method, plan)
    after = engine.advance(engine.init(), 1)
    moved = engine.weights(after)
    weights, size = [layer[None] for layer in state], WIDTHS[0]
    temperature, share = (method.temperature, 1.0) if minibatch else (LR / SAMPLES, 0.0)
    law, alone = (determinant.eigenvalue_sde(at.data, temperature, weights, lr=lr, share=share) for lr in (LR, 0.0))
    rows = np.linalg.svd(determinant.neighbours(weights)[0], full_matrices=False)[2]
    gradient = np.linalg.pinv(state[1].T) @ (state[0] - moved[0])
    linear = -4 * np.einsum("ia,nab,ib->ni", rows[:, size:], gradient, rows[:, :size])
    values = np.linalg.svd(determinant.neighbours(moved), compute_uv=False) ** 2
    run = Run.by_hand(name, at, method, plan, after.status)
    return Steps(values / law.eigenvalues - 1, linear, law, alone, run)


def _close(gap: float) -> list[Floats]:
    """Weights whose two largest eigenvalues differ by this relative gap, the others fixed, in random directions."""
    rng, size = np.random.default_rng(3), WIDTHS[0] + WIDTHS[2]
    values = np.array([6.0, 6.0 * (1 - gap), 1.0, 0.7, 0.5, 0.3, 0.2])
    left, right = (np.linalg.qr(rng.standard_normal((rows, size)))[0] for rows in (WIDTHS[1], size))
    theta = left * np.sqrt(values) @ right.T
    return [theta[:, : WIDTHS[0]], theta[:, WIDTHS[0] :].T]


def _pulled(steps: Steps) -> Floats:
    """Linear part projected on its prediction, over the prediction (trajectories,)."""
    return np.asarray(steps.linear @ steps.pull / (steps.pull @ steps.pull))


def _repelled(group: Sequence[Steps], part: str) -> Floats:
    """Change beyond the linear part projected on its prediction, mean over states (trajectories,)."""
    predicted = [getattr(steps, part) for steps in group]
    shares = [(steps.change - steps.linear) @ p / (p @ p) for steps, p in zip(group, predicted, strict=True)]
    return np.asarray(np.mean(shares, axis=0))


def _spread(group: Sequence[Steps]) -> Floats:
    """Noise of the steps over its prediction, ``dᵀC⁺d / rank C``, mean over states (trajectories,).

    C has rank m − 1: the sum of ``dλ_i/λ_i``, the change of log det N, has no noise.
    """
    shares = []
    for steps in group:
        centred, inverse = steps.change - steps.change.mean(axis=0), np.linalg.pinv(steps.covariance, rcond=1e-9)
        shares.append((centred @ inverse * centred).sum(axis=1) / (centred.shape[1] - 1))
    return np.asarray(np.mean(shares, axis=0))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Drift of every eigenvalue in one state, noise in all states, repulsion of a close pair."""
    drift, noise, pair = axes
    groups = [evidence.curves[name] for name in ("labels", "batches", "close")]
    learned, places = groups[0][1], np.arange(1, 8)
    for place, value in zip(places, _beyond(learned).T, strict=True):
        plots.interval(drift, float(place), intervals.mean(value), color=plots.COLOURS[0])
    ends = places - 0.35, places + 0.35
    drift.hlines(learned.repulsion / LR**2, *ends, color=plots.COLOURS[0], label="repelling eigenvalues")
    drift.hlines(learned.without / LR**2, *ends, color=plots.GREY, ls=":", label="without repulsion")
    drift.set(
        title="Label noise, map learned", xlabel="eigenvalue of N, largest first", ylabel="drift of Δλ/λ, over η²"
    )
    for group, colour, label in zip(groups[:2], plots.COLOURS, ("label noise", "minibatches"), strict=False):
        predicted = np.concatenate([np.sqrt(np.diagonal(steps.covariance)) for steps in group]) / LR
        seen = np.concatenate([steps.change.std(axis=0) for steps in group]) / LR
        noise.plot(predicted, seen, "o", color=colour, label=label)
    noise.axline((0.1, 0.1), (1, 1), color=plots.GREY, lw=0.8, ls=":")
    noise.set(
        title="Noise of a step, all states",
        xscale="log",
        yscale="log",
        xlabel="predicted standard deviation of Δλ/λ, over η",
    )
    noise.set_ylabel("measured")
    for which, colour in enumerate(plots.COLOURS[:2]):
        curve = [steps.repulsion[which] / LR**2 for steps in groups[2]]
        pair.plot(GAPS, curve, color=colour, label=f"λ{'₁₂'[which]}")
        for gap, steps in zip(GAPS, groups[2], strict=True):
            plots.interval(pair, gap, intervals.mean(_beyond(steps)[:, which]), color=colour)
    pair.set(title="A close pair repels", xlabel="gap 1 − λ₂/λ₁", ylabel="drift of Δλ/λ, over η²", xscale="log")
    pair.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"], minor=False)
    pair.set_xticks([], minor=True)
    drift.legend(loc="upper left")
    noise.legend()
    pair.legend()


def _beyond(steps: Steps) -> Floats:
    """Change beyond the linear part over η² (trajectories, m)."""
    return (steps.change - steps.linear) / LR**2


CLAIM = Claim(
    name="eigenvalues",
    title="The eigenvalues of N diffuse and repel each other",
    statement=(
        "The eigenvalues of N = ΘᵀΘ follow dλ_i = −2λ_i v_iᵀ⟨S⟩v_i dt + Σ_j c_ij q_ij dt + 2λ_i v_iᵀdZ v_i with c_ij = "
        "λ_i(λ_i + 3λ_j)/(λ_i − λ_j), c_ii = λ_i, S = [[0, Jᵀ], [J, 0]] and q_ij the variance rate of v_iᵀS v_j (plus "
        "η times the square of its mean): neighbours repel, small eigenvalues shrink relative to large ones, and the "
        "sum of dλ_i/λ_i is free of noise. This holds for label noise and for minibatch noise."
    ),
    source=(
        "Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133 (label noise); minibatch noise and c_ij in this form are "
        "this project's"
    ),
    method=(
        "An ensemble takes one step (η = 0.001) from the same weights: those of a network at four times of a run under "
        "label noise, and weights whose two largest eigenvalues are close, with labels that they fit. Full batches "
        "with label noise δ = 2, or minibatches of 50 with residuals of standard deviation 1. The linear part of a "
        "step is known from its weights, and its mean must be the predicted pull; the remainder must have the mean "
        "predicted by repulsion, and the whole step the predicted covariance."
    ),
    control="Half the repulsion must be rejected for every kind of noise, and for close pairs.",
    caption=(
        "Mean change of the eigenvalues beyond the linear part (dots, intervals at 1 − 10⁻⁶), predicted with repulsion "
        "(blue lines) and without (dotted); standard deviation of the change against prediction; repulsion of two "
        "eigenvalues against their distance (lines: theory)."
    ),
    why=(
        "Rank is lost because noise pushes the eigenvalues of the weights apart: the small ones shrink relative to "
        "the large ones, from any initial weights. Label noise does so, and so do ordinary minibatches whose labels "
        "cannot all be fitted."
    ),
    equations=(
        r"d\lambda_i = -2 \lambda_i\, v_i^\top \langle S \rangle v_i\, dt + \sum_j c_{ij} q_{ij}\, dt + 2 "
        r"\lambda_i\, v_i^\top dZ\, v_i",
        r"c_{ij} = \frac{\lambda_i (\lambda_i + 3 \lambda_j)}{\lambda_i - \lambda_j}, \qquad c_{ii} = \lambda_i",
        r"q_{ij} = T \operatorname{Var}[v_i^\top S v_j] + \eta \langle v_i^\top S v_j \rangle^2",
        r"v_i^\top S v_j = b_i^\top J a_j + b_j^\top J a_i, \qquad v_i = (a_i, b_i)",
    ),
    proved=(
        "The source derives the SDE of the eigenvalues for two layers under label noise in continuous time. The "
        "coefficients in this form, and minibatch noise, follow from perturbation theory to second order, exact for "
        "small steps as long as eigenvalues differ."
    ),
    unknown=(
        "Single steps from given weights are tested, not paths; the claim on the paths follows whole runs. "
        "Eigenvalues closer than a step moves them are outside the theory. One size of network and data is tested."
    ),
    related=("eigenvalue-paths", "determinant", "singular-values"),
    experiment=experiment,
    draw=draw,
)
