"""Every step of SGD changes ‖u‖² − ‖w‖² by exactly η²(‖g_u‖² − ‖g_w‖²), for any loss and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import _networks as networks
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import exact
from saddlescope.claims.tools import network, run
from saddlescope.data import Dataset
from saddlescope.init import Gaussian
from saddlescope.methods import SGD, Langevin, Method
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import balance_step, rescaling_symmetry

SYMMETRIC = {"linear": networks.linear, "ReLU": networks.relu, "attention": networks.attention()}
BROKEN = {"tanh": networks.tanh, "query bias": networks.attention(0.5)}
LR, BATCH, DECAYS = 0.05, 4, (0.0, 0.1)
ROUNDING: Region = (9.0, np.inf)
"""Correct digits at which an identity holds to rounding."""

Step = Callable[[Floats, Floats, Floats, Floats, float, float], Floats]
"""‖u‖² − ‖w‖² after a step, from u, w, their gradients, η and γ."""


@dataclass(frozen=True)
class BalancePath:
    """``‖u‖² − ‖w‖²`` before the first step and after each (``found``), and after each step by the identity."""

    found: Floats
    stepped: Floats

    @property
    def digits(self) -> float:
        """Decimal digits to which the changes satisfy the identity; below 0, it is wrong."""
        return digits(self.found[1:] - self.stepped, self.stepped - self.found[:-1])


def experiment(quick: bool) -> Evidence:
    """Networks trained in NumPy, and the matrix W₂ᵀW₂ − W₁W₁ᵀ of networks on the engine."""
    steps = 1000 if quick else 10_000
    paths = {(name, decay): descend(pair, steps, decay) for name, pair in SYMMETRIC.items() for decay in DECAYS}
    broken = {name: descend(pair, steps) for name, pair in BROKEN.items()}
    trained = {name: _trained(data, SGD(lr=LR, batch_size=BATCH)) for name, data in _problems().items()}
    isotropic = _trained(_problems()["Gaussian data"], Langevin(lr=LR, batch_size=BATCH, noise="isotropic"))
    found = {name: path.digits for name, path in paths.items()}
    wrong = {
        theory: min(descend(pair, steps, DECAYS[1], step).digits for pair in SYMMETRIC.values())
        for theory, step in RIVALS.items()
    }
    return Evidence(
        numbers=[
            Number(
                "digits to which every step satisfies the identity, worst case", exact(min(found.values())), ROUNDING
            ),
            *(
                Number(f"the same, {name}, γ = {decay:g}", exact(value), ROUNDING)
                for (name, decay), value in found.items()
            ),
            *(
                Number(f"the same for W₂ᵀW₂ − W₁W₁ᵀ on the engine, {name}", exact(_layer_digits(dataset)), ROUNDING)
                for name, dataset in trained.items()
            ),
            Number(
                "fraction of networks whose symmetry is classified correctly before training",
                exact(_judged()),
                (1.0, 1.0),
            ),
        ],
        controls=[
            *(Number(f"digits of the identity, {name}", exact(path.digits), ROUNDING) for name, path in broken.items()),
            Number("digits for W₂ᵀW₂ − W₁W₁ᵀ, isotropic noise", exact(_layer_digits(isotropic)), ROUNDING),
        ],
        rivals=[
            Rival(theory, [Number("digits to which every step satisfies it, worst case", exact(value), ROUNDING)])
            for theory, value in wrong.items()
        ],
        runs=[Run.of(f"SGD, {name}", dataset) for name, dataset in trained.items()]
        + [Run.of("Langevin, isotropic noise", isotropic)],
        curves={"paths": paths, "broken": broken},
    )


def first_order_decay(u: Floats, w: Floats, g_u: Floats, g_w: Floats, lr: float, decay: float) -> Floats:
    """The identity with 1 − 2ηγ for (1 − ηγ)²."""
    return balance_step(u, w, g_u, g_w, lr) - 2 * lr * decay * (u @ u - w @ w)


def first_order_step(u: Floats, w: Floats, g_u: Floats, g_w: Floats, lr: float, decay: float) -> Floats:
    """Conservation as under gradient flow: without the terms of second order in η."""
    return np.asarray((1 - lr * decay) ** 2 * (u @ u - w @ w))


RIVALS: dict[str, Step] = {
    "decay of first order, 1 − 2ηγ": first_order_decay,
    "conserved as by gradient flow, no η² term": first_order_step,
    "half the η² term": lambda *of: 0.5 * (balance_step(*of) + first_order_step(*of)),
}
"""Wrong theories of a step with weight decay."""


def digits(error: Floats, change: Floats) -> float:
    """``−log₁₀`` of the root mean square error relative to the change; at most 16.

    >>> digits(np.array([1e-12]), np.array([0.1]))
    11.0
    """
    share = float(np.linalg.norm(error) / np.linalg.norm(change))
    return float(-np.log10(max(share, 1e-16)))


def start(pair: networks.Pair, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Random weights u, w: layers of 5 → 6 → 4, or a head of size 3 on tokens of size 5."""
    shapes = [(4, 6), (6, 5)] if _layered(pair) else [(5, 3)] * 2
    u, w = (rng.standard_normal(shape) / 2 for shape in shapes)
    return 1.5 * u, w


def batch(pair: networks.Pair, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Fresh Gaussian inputs; labels their first entries, or the token before, with noise."""
    x = rng.standard_normal((samples, 5) if _layered(pair) else (samples, 6, 5))
    y = x[:, :4] if _layered(pair) else np.roll(x, 1, axis=1)
    return x, y + 0.5 * rng.standard_normal(y.shape)


def descend(pair: networks.Pair, steps: int, decay: float = 0.0, step: Step = balance_step) -> BalancePath:
    """SGD on fresh batches, with each change predicted by the identity or by another ``step``."""
    rng = np.random.default_rng(0)
    u, w = start(pair, rng)
    found, stepped = [_difference(u, w)], []
    for _ in range(steps):
        g_u, g_w = (g.mean(axis=0) for g in pair(u, w, *batch(pair, BATCH, rng)))
        stepped.append(step(u.ravel(), w.ravel(), g_u.ravel(), g_w.ravel(), LR, decay))
        u, w = (1 - LR * decay) * u - LR * g_u, (1 - LR * decay) * w - LR * g_w
        found.append(_difference(u, w))
    return BalancePath(np.array(found), np.array(stepped))


def _difference(u: Floats, w: Floats) -> float:
    return float((u**2).sum() - (w**2).sum())


def _layered(pair: networks.Pair) -> bool:
    return pair in (networks.linear, networks.relu, networks.tanh)


def _judged() -> float:
    """Fraction of all networks that the numerical test of symmetry classifies correctly."""
    verdicts = []
    for pair in (SYMMETRIC | BROKEN).values():
        rng = np.random.default_rng(1)
        (u, w), data = start(pair, rng), batch(pair, 64, rng)
        found = rescaling_symmetry(lambda u, w, pair=pair, data=data: pair(u, w, *data), u, w)  # type: ignore[misc]
        verdicts.append(found.verdict == ("symmetric" if pair in SYMMETRIC.values() else "broken"))
    return float(np.mean(verdicts))


def _problems() -> dict[str, Problem]:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 4))
    data = Dataset(x, x[:, :3] + 0.5 * rng.standard_normal((50, 3)))
    return {
        "Gaussian data": network(2, 6, (1.0, 0.5, 0.25), Gaussian(scale=0.5), 0.5),
        "50 samples": Problem(DeepLinear((4, 6, 3)), data, Gaussian(scale=0.5)),
    }


def _trained(problem: Problem, method: Method) -> xr.Dataset:
    """A few trajectories with the weights of every step."""
    return run(problem, method, Plan(steps=300, trajectories=4, saves=300, keep="weights"))


def _layer_digits(dataset: xr.Dataset) -> float:
    """Digits to which changes of ``W₂ᵀW₂ − W₁W₁ᵀ`` follow from the changes of the weights."""
    first, second = (np.asarray(dataset[name].transpose("trajectory", "time", ...)) for name in ("W1", "W2"))
    turned = first.swapaxes(-1, -2)
    change = np.diff(second.swapaxes(-1, -2) @ second - first @ turned, axis=1)
    step, step_turned = np.diff(second, axis=1), np.diff(turned, axis=1)
    expected = step.swapaxes(-1, -2) @ step - step_turned.swapaxes(-1, -2) @ step_turned
    return digits(change - expected, expected)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Paths with the symmetry and the identity as a line, paths without it, digits of all."""
    paths: dict[tuple[str, float], BalancePath] = evidence.curves["paths"]
    broken: dict[str, BalancePath] = evidence.curves["broken"]
    kept, lost, share = axes
    free = {name: path for (name, decay), path in paths.items() if decay == 0}
    shown = 1000
    for panel, group in ((kept, free), (lost, broken)):
        for (name, path), colour in zip(
            group.items(), plots.COLOURS if panel is kept else plots.COLOURS[3:], strict=False
        ):
            by_identity = path.found[0] + np.concatenate([[0.0], np.cumsum(path.stepped - path.found[:-1])])
            at = np.arange(0, shown + 1, 50)
            panel.plot(by_identity[: shown + 1], color=colour, lw=1.2)
            panel.plot(at, path.found[at], "o", color=colour, label=name)
        panel.set(xlabel="step", ylabel="‖u‖² − ‖w‖²")
        panel.margins(y=0.12)
        panel.legend(title="dots: weights, lines: identity" if panel is kept else None, alignment="left")
    kept.set(title="With the symmetry")
    lost.set(title="Without it")
    rows = {f"{name}, γ = {decay:g}": path for (name, decay), path in paths.items()} | broken
    for place, (name, path) in enumerate(rows.items()):
        share.plot(path.digits, place, "o", color=plots.COLOURS[3] if name in broken else plots.COLOURS[0])
    share.axvspan(ROUNDING[0], 17, color=plots.COLOURS[2], alpha=0.12, lw=0)
    share.set(title="How exact it is", xlabel="correct digits of a step", xlim=(-3, 17))
    share.set_yticks(range(len(rows)), list(rows))
    share.invert_yaxis()


CLAIM = Claim(
    name="exact-balance",
    title="Rescaling symmetry determines ‖u‖² − ‖w‖² step by step, for any loss",
    statement=(
        "If ℓ(λu, w/λ) = ℓ(u, w), then u·g_u = w·g_w on every batch, and a step of SGD changes ‖u‖² − ‖w‖² by exactly "
        "η²(‖g_u‖² − ‖g_w‖²); weight decay multiplies the previous value by (1−ηγ)². This holds for linear and ReLU "
        "layers and for the queries and keys of attention. Neighbouring linear layers obey the same identity for the "
        "matrix W₂ᵀW₂ − W₁W₁ᵀ."
    ),
    source=(
        "Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, law of balance (there in continuous time); the exact identity "
        "of the discrete step and its matrix form are this project's"
    ),
    method=(
        "Two-layer linear and ReLU networks 5 → 6 → 4 and one attention head (6 tokens of size 5, queries and keys of "
        "size 3, softmax) trained by SGD on fresh batches of 4, learning rate 0.05, with and without weight decay; and "
        "deep linear networks on the engine, on Gaussian data and on 50 samples, with the weights of every step. "
        "Digits: −log₁₀ of the root mean square error of the identity over the changes it predicts. Before training, "
        "the symmetry of every network is tested numerically on 64 samples, from gradients alone."
    ),
    control=(
        "Layers with tanh and attention whose queries have a bias lack the symmetry, and isotropic noise does not "
        "respect it: there the identity must fail. Rivals, on paths with γ = 0.1: the identity to first order in γ, "
        "without its η² term, and with half of it."
    ),
    caption=(
        "‖u‖² − ‖w‖² of the trained weights (dots) and summed from the squared gradients alone (lines), with and "
        "without the symmetry; correct digits of every step, with the rounding region shaded."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Where a network has a rescaling symmetry (linear or ReLU layers, queries and keys of attention), the loss "
        "does not decide how the norm is divided between two layers; learning rate, gradients and weight decay do, and "
        "this claim gives their effect in every step. The identity holds for discrete SGD at any learning rate and "
        "batch size, so it can check training code, and it shows that weight decay shrinks any initial imbalance of "
        "two layers by the factor (1−ηγ)² per step."
    ),
    equations=(
        r"u\cdot g_u=w\cdot g_w",
        (
            r"\lVert u'\rVert^2-\lVert w'\rVert^2=(1-\eta\gamma)^2\left(\lVert u\rVert^2-\lVert w\rVert^2\right) "
            r"+\eta^2\left(\lVert g_u\rVert^2-\lVert g_w\rVert^2\right)"
        ),
        r"\Delta\left(W_2^{\top}W_2-W_1W_1^{\top}\right)=\eta^2\left(g_2^{\top}g_2-g_1g_1^{\top}\right)",
    ),
    proved=(
        "The identity follows from the derivative of ℓ(λu, w/λ) = ℓ(u, w) at λ = 1 and the square of one step (this "
        "project). It assumes the symmetry and plain SGD, and nothing about data, batch or learning rate. Its limit of "
        "small steps, with the gradient noise averaged, is the law of balance of Ziyin, Li & Ueda."
    ),
    unknown=(
        "The identity gives each change, not where training ends, which depends on the gradients along the path. "
        "Momentum has an identity of another form (claim heavy-ball); adaptive methods such as Adam rescale gradients "
        "and are not covered. The checks use small networks in double precision."
    ),
    related=("balance-decay", "heavy-ball", "noise-balance", "determinant"),
)
