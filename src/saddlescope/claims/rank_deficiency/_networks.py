"""Two layers ``f(x) = W_2 φ(W_1 x)`` under plain SGD in NumPy, an ensemble at once: what the engine does not train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saddlescope.theory.network import determinant

Floats = NDArray[np.float64]
Loss = Literal["square", "logistic"]


@dataclass(frozen=True)
class Trained:
    """Times of the saves, layers (saves, trajectories, …), ``Σ log_det_step`` from the start (saves, trajectories)."""

    time: Floats
    first: Floats
    second: Floats
    told: Floats


def train(
    samples: tuple[Floats, Floats],
    weights: tuple[Floats, Floats],
    lr: float,
    batch: int,
    time: float,
    loss: Loss = "square",
    relu: bool = False,
    saves: int = 20,
    seed: int = 0,
) -> Trained:
    """SGD with replacement on samples x (n, dx), y (n, dy) from weights (trajectories, …), until this time.

    Loss ``½‖f − y‖²``, or for y of 0 and 1 ``Σ log(1 + e^f) − yf``: its gradient in f is ``e = 1/(1 + e^{−f}) − y``.
    ``told`` takes ``J = mean(e xᵀ)``, the gradient of the map where φ is the identity.
    """
    (x, y), (first, second), rng = samples, weights, np.random.default_rng(seed)
    steps = round(time / lr)
    marks = np.unique(np.linspace(0, steps, saves + 1).astype(int))
    seen, told = [], np.zeros(len(first))
    for step in range(steps + 1):
        if step in marks:
            seen.append((first, second, told))
        index = rng.integers(len(x), size=(len(first), batch))
        inputs = x[index]
        hidden = inputs @ first.swapaxes(1, 2)
        active = hidden > 0 if relu else np.ones_like(hidden, bool)
        hidden = hidden * active
        output = hidden @ second.swapaxes(1, 2)
        error = ((1 / (1 + np.exp(-output)) if loss == "logistic" else output) - y[index]) / batch
        told = told + determinant.log_det_step(error.swapaxes(1, 2) @ inputs, lr)
        back = (error @ second) * active
        first, second = first - lr * back.swapaxes(1, 2) @ inputs, second - lr * error.swapaxes(1, 2) @ hidden
    return Trained(lr * marks, *(np.stack(part) for part in zip(*seen, strict=True)))


def settle(
    samples: tuple[Floats, Floats],
    weights: tuple[Floats, Floats],
    temperature: float,
    time: float,
    step: float,
    loss: Loss = "square",
    relu: bool = False,
) -> tuple[Floats, Floats]:
    """Layers after the gradient flow of ``𝓛 + (T/4) Σ_k ⟨e_k² ‖∂f_k/∂θ‖²⟩``, by Euler steps.

    The errors e of the samples are held while the gradient of the second term is taken. It is the mean path of SGD to
    first order in T = η/B once the map is learned: noise is an implicit regulariser.
    Source: Blanc, Gupta, Valiant & Valiant 2020, arXiv 1904.09080; Li, Wang & Arora 2021, arXiv 2110.06914.
    """
    x, y, first, second = (np.asarray(part, np.float32) for part in (*samples, *weights))
    half, square, rate = np.float32(temperature / 2), (x**2).sum(axis=1), np.float32(step / len(x))
    for _ in range(round(time / step)):
        hidden = x @ first.swapaxes(1, 2)
        active = hidden > 0 if relu else np.ones_like(hidden, bool)
        hidden = hidden * active
        output = hidden @ second.swapaxes(1, 2)
        error = (1 / (1 + np.exp(-output)) if loss == "logistic" else output) - y
        noise = error**2
        shrink = (noise * square[:, None]).swapaxes(1, 2) @ active * second
        back = (error @ second) * active + half * noise.sum(axis=2, keepdims=True) * hidden
        second = second - rate * (error.swapaxes(1, 2) @ hidden + half * shrink)
        first = first - rate * back.swapaxes(1, 2) @ x
    return np.asarray(first, np.float64), np.asarray(second, np.float64)
