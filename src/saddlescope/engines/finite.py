"""Finite data sets in plain NumPy: how samples are drawn, and the noise of their gradients.

In the teacher's basis a sample is ``x_i = R c_i`` with ``mean(c cᵀ) = I``, and its residual r_i. Then with ``E = ΔR``

    batch      K = (E C − R_b − δΞ) Cᵀ / B        C (r, B) and R_b (dy, B) its samples, Ξ fresh normals
    full       K = E − (δ/√n) Z
    Langevin   K = E + √(T/dt) (E H − Y − δZ)     (H, Y) Gaussian with the covariance of (ccᵀ, r cᵀ) over the samples

and ``Ḡ = K Rᵀ``. (H, Y) are F ζ, F the factor of that fixed covariance, or, where F would be larger than the data,
``Σ_i ζ_i (z_i − z̄)/√n`` taken through each sample's gradient.
Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133, for full batches with label noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from saddlescope._arrays import Array, Floats, transposed
from saddlescope.data import Dataset
from saddlescope.engines.step import Step
from saddlescope.kernel.streams import Streams

Draw = Callable[[int], Array]

PANEL = 16
"""Samples drawn together: first their indices, then their label noise. Even, so that no normal is dropped."""


@dataclass(frozen=True)
class Samples:
    """``inputs`` c_i (n, r), so that ``x_i = R c_i``, and ``residuals`` r_i (n, dy), in the teacher's basis."""

    inputs: Floats
    residuals: Floats

    @classmethod
    def of(cls, data: Dataset) -> Samples:
        """The samples of a data set."""
        return cls(data.whitened, data.in_modes[1])


# --- draws of the reference engine


class Finite:
    """Source of K of a method on a data set, for all trajectories at once."""

    def __init__(self, data: Dataset, step: Step) -> None:
        samples = Samples.of(data)
        self._step, self._label_noise = step, data.label_noise
        self._inputs, self._residuals = samples.inputs.astype(step.dtype), samples.residuals.astype(step.dtype)
        factor = data.noise_factor if step.noise_from == "samples" else None
        self._factor = None if factor is None else factor.astype(step.dtype)

    def gradient(self, error: Array, step: int, order: Array, streams: Streams) -> Array:
        """K (n, dy, r) of a batch, or of all samples; ``order`` is changed in place."""
        if self._step.sampling == "full":
            return self._whole(error, streams.normals)
        batch = int(self._step.batch)
        place = self._begin(step, batch, order, streams)
        total = np.zeros_like(error)
        for first in range(0, batch, PANEL):
            indices = [self._pick(place + k, order, streams) for k in range(first, min(first + PANEL, batch))]
            total += self._sum(error, np.stack(indices, axis=1), streams.normals)
        return total / batch

    def _whole(self, error: Array, draw: Draw) -> Array:
        if self._label_noise == 0:
            return error
        scale = self._label_noise / np.sqrt(len(self._inputs))
        return error - error.dtype.type(scale) * draw(error[0].size).reshape(error.shape)

    def _begin(self, step: int, batch: int, order: Array, streams: Streams) -> int:
        """Position in the order at which the batch of this step begins; a new epoch starts with a fresh permutation."""
        if self._step.sampling != "shuffle":
            return 0
        part = step % (len(self._inputs) // batch)
        for k in range(len(self._inputs) - 1 if part == 0 else 0):
            swap(order, k, streams)
        return part * batch

    def _pick(self, place: int, order: Array, streams: Streams) -> Array:
        """The next sample of every trajectory."""
        if self._step.sampling == "replacement":
            return streams.below(len(self._inputs))
        if self._step.sampling == "without":
            swap(order, place, streams)
        return order[:, place].copy()

    def _sum(self, error: Array, indices: Array, draw: Draw) -> Array:
        """``(E C − R − δΞ) Cᵀ`` of some samples (trajectories, count)."""
        inputs, residuals = self._inputs[indices], self._residuals[indices]
        if self._label_noise > 0:
            residuals = residuals + self._label_noise * draw(residuals[0].size).reshape(residuals.shape)
        return (error @ transposed(inputs) - transposed(residuals)) @ inputs

    def noise(self, error: Array, draw: Draw) -> Array:
        """Noise of one sample's K (n, dy, r): ``E H − Y − δZ``."""
        noise = self._by_sample(error, draw) if self._factor is None else self._by_factor(error, self._factor, draw)
        if self._label_noise > 0:
            noise = noise - self._label_noise * draw(error[0].size).reshape(error.shape)
        return noise

    def _by_factor(self, error: Array, factor: Array, draw: Draw) -> Array:
        moments, r = draw(factor.shape[1]) @ factor.T, error.shape[2]
        rows, columns = np.tril_indices(r)
        half = np.zeros((len(error), r, r), error.dtype)
        half[:, rows, columns] = half[:, columns, rows] = moments[:, : len(rows)]
        noise = error @ half
        return noise if len(rows) == len(factor) else noise - moments[:, len(rows) :].reshape(error.shape)

    def _by_sample(self, error: Array, draw: Draw) -> Array:
        n = len(self._inputs)
        weights = draw(n) / np.asarray(np.sqrt(n), error.dtype)
        pulled = error @ self._inputs.T - self._residuals.T
        return (pulled * weights[:, None]) @ self._inputs - error * weights.sum(axis=1)[:, None, None]


def swap(order: Array, k: int, streams: Streams) -> None:
    """Swap a random later sample into position k of every trajectory's order, in place (Fisher–Yates shuffle)."""
    rows, other = np.arange(len(order)), k + streams.below(order.shape[1] - k)
    order[rows, k], order[rows, other] = order[rows, other], order[rows, k]


# --- input of the compiled kernel


def kernel_tables(data: Dataset, step: Step) -> tuple[Floats, Floats, str]:
    """Rows of inputs and residuals, the factor Fᵀ (empty where there is none), and the sampling.

    Batches are taken as inputs x (n, dx), all else as c (n, r).
    """
    factor = data.noise_factor if step.noise_from == "samples" else None
    batches = step.source == "sgd" and step.sampling != "full"
    samples = Samples(*data.in_modes) if batches else Samples.of(data)
    rows = np.concatenate([samples.inputs, samples.residuals], axis=1)
    return rows, np.empty((0, 0)) if factor is None else np.ascontiguousarray(factor.T), step.sampling
