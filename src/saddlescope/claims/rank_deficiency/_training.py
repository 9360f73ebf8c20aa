"""Ensembles of two-layer networks ``f(x) = W_2 φ(W_1 x)`` in NumPy: plain SGD, and the flow that predicts its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.claims._networks import LINEAR, RELU, Array, backward, forward
from saddlescope.theory.network import determinant

Loss = Literal["square", "logistic"]


@dataclass(frozen=True)
class Trained:
    """Times of the saves, layers (saves, trajectories, …), and log det N as linear layers would change it.

    ``predicted`` is ``Σ log_det_step`` from the start (saves, trajectories).
    """

    time: Floats
    first: Floats
    second: Floats
    predicted: Floats


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

    Loss ``½‖f − y‖²``, or for labels 0 and 1 ``Σ log(1 + e^f) − yf``, with gradient ``e = 1/(1 + e^{−f}) − y`` in f.
    ``predicted`` uses ``J = mean(e xᵀ)``, the gradient with respect to the map if φ is the identity.
    """
    (x, y), (first, second), rng = samples, weights, np.random.default_rng(seed)
    activation, steps = RELU if relu else LINEAR, round(time / lr)
    marks = np.unique(np.linspace(0, steps, saves + 1).astype(int))
    saved, predicted = [], np.zeros(len(first))
    for step in range(steps + 1):
        if step in marks:
            saved.append((first, second, predicted))
        index = rng.integers(len(x), size=(len(first), batch))
        inputs = x[index]
        before, hidden, output = forward(activation, second, first, inputs)
        error = (_response(output, loss) - y[index]) / batch
        predicted = predicted + determinant.log_det_step(error.swapaxes(1, 2) @ inputs, lr)
        back = backward(activation, second, error, before)
        first, second = first - lr * back.swapaxes(1, 2) @ inputs, second - lr * error.swapaxes(1, 2) @ hidden
    return Trained(lr * marks, *(np.stack(part) for part in zip(*saved, strict=True)))


def settle(
    samples: tuple[Floats, Floats],
    weights: tuple[Floats, Floats],
    temperature: float,
    time: float,
    step: float,
    loss: Loss = "square",
    relu: bool = False,
) -> tuple[Floats, Floats]:
    """Layers after the gradient flow of ``𝓛 + (T/4) Σ_k ⟨e_k² ‖∂f_k/∂θ‖²⟩``, by Euler steps in float32.

    The errors e of the samples are held fixed in the gradient of the second term. Once the map is learned, this flow
    is the mean path of SGD to first order in T = η/B: the noise acts as a regulariser.
    Source: Blanc, Gupta, Valiant & Valiant 2020, arXiv 1904.09080; Li, Wang & Arora 2021, arXiv 2110.06914.
    """
    x, y, first, second = (np.asarray(part, np.float32) for part in (*samples, *weights))
    half, square, rate = np.float32(temperature / 2), (x**2).sum(axis=1), np.float32(step / len(x))
    activation: Any = RELU if relu else LINEAR
    for _ in range(round(time / step)):
        before, hidden, output = forward(activation, second, first, x)
        error = _response(output, loss) - y
        noise = error**2
        shrink = (noise * square[:, None]).swapaxes(1, 2) @ activation.slope(before) * second
        back = backward(activation, second, error, before) + half * noise.sum(axis=2, keepdims=True) * hidden
        second = second - rate * (error.swapaxes(1, 2) @ hidden + half * shrink)
        first = first - rate * back.swapaxes(1, 2) @ x
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def _response(output: Array, loss: Loss) -> NDArray[Any]:
    """What the labels are compared with: the output, or its logistic function."""
    return 1 / (1 + np.exp(-output)) if loss == "logistic" else output
