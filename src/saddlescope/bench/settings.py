"""The input of the contestants: three kinds of problem, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from saddlescope._arrays import Floats


@dataclass(frozen=True)
class Network:
    """A deep linear network that learns a linear teacher from white inputs, with label noise σ.

    Langevin: ``W_l ← W_l − η W_{>l}ᵀ Ḡ W_{<l}ᵀ``, ``Ḡ = Δ(I + H/√B) − σZ/√B``, ``Δ = W_L…W_1 − M``, H symmetric
    Gaussian of variance 1 off and 2 on the diagonal, Z standard normal: the covariance of minibatch SGD without
    forming it. SGD: ``Ḡ = (1/B) Σ (Δx − σξ)xᵀ`` over a fresh batch.
    """

    teacher: Floats
    start: tuple[Floats, ...]
    lr: float
    batch_size: int
    label_noise: float

    @property
    def width(self) -> int:
        return len(self.teacher)

    def excess_loss(self, layers: Any) -> Floats:
        """``½‖W_L…W_1 − M‖²`` of every trajectory, from layers (n, rows, columns)."""
        return 0.5 * ((_product(layers) - self.teacher) ** 2).sum(axis=(1, 2))


@dataclass(frozen=True)
class Table:
    """A deep linear network under full batches of a data set, with fresh label noise δ at every step.

    ``Ḡ = (1/n) Σ (W_L…W_1 x_i − y_i − δξ_i) x_iᵀ`` is equal in distribution to ``ΔS − (δ/√n) Z S^{1/2}``, with
    ``S = XᵀX/n`` and Δ the distance from the least-squares map M.
    """

    x: Floats
    y: Floats
    start: tuple[Floats, ...]
    lr: float
    label_noise: float

    @cached_property
    def covariance(self) -> Floats:
        """S = XᵀX/n."""
        return np.asarray(self.x.T @ self.x / len(self.x))

    @cached_property
    def teacher(self) -> Floats:
        """Least-squares map M."""
        return np.asarray(np.linalg.solve(self.covariance, self.x.T @ self.y / len(self.x)).T)

    @cached_property
    def root(self) -> Floats:
        """R with S = RRᵀ, times δ/√n."""
        return np.asarray(np.linalg.cholesky(self.covariance) * self.label_noise / len(self.x) ** 0.5)

    def excess_loss(self, layers: Any) -> Floats:
        """``½Tr(ΔSΔᵀ)`` of every trajectory."""
        error = _product(layers) - self.teacher
        return 0.5 * ((error @ self.covariance) * error).sum(axis=(1, 2))


@dataclass(frozen=True)
class Scalar:
    """One mode by Euler–Maruyama: ``da = a^{L−1}[(s* − s)dt + √(T g) dW]``, ``s = a^L``, ``g = 2(s − s*)² + σ²``."""

    depth: int
    target: float
    label_noise: float
    temperature: float
    dt: float
    strength: float
    """Initial strength of all trajectories."""


def network(width: int, batch_size: int) -> Network:
    """Three square layers, teacher strengths from 2 to 0.2, initial weights of the order of the result."""
    rng = np.random.default_rng(20240406)
    left, right = (np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(2))
    start = tuple((0.9 / width) ** 0.5 * rng.standard_normal((width, width)) for _ in range(3))
    return Network((left * np.linspace(2.0, 0.2, width)) @ right, start, 5e-3, batch_size, 0.5)


def table() -> Table:
    """1000 samples, 5 → 10 → 2, label noise 2."""
    rng = np.random.default_rng(20241210)
    x, teacher = rng.standard_normal((1000, 5)), rng.standard_normal((2, 5))
    y = x @ teacher.T + 0.1 * rng.standard_normal((1000, 2))
    return Table(x, y, (0.3 * rng.standard_normal((10, 5)), 0.3 * rng.standard_normal((2, 10))), 1e-2, 2.0)


def scalar(temperature: float, dt: float = 2e-3) -> Scalar:
    """Depth 3, s* = 1.5, σ² = 0.3, initial strength 0.5."""
    return Scalar(3, 1.5, 0.3**0.5, temperature, dt, 0.5)


def _product(layers: Any) -> Floats:
    matrices = (np.asarray(layer, np.float64) for layer in layers)
    return reduce(lambda product, layer: layer @ product, matrices)
