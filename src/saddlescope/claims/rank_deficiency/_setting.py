"""The setting of the source: n = 1000 samples, 5 inputs, 2 outputs, Gaussian weights; weights of ensembles in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.claims.claim import Run
from saddlescope.data import Dataset
from saddlescope.engines import make_engine
from saddlescope.init import Gaussian, Init
from saddlescope.methods import GD, Method
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory.network import determinant

SAMPLES, WIDTHS, STRENGTHS, LABEL_NOISE = 1000, (5, 10, 2), (2.0, 1.0), 2.0
INIT = Gaussian(scale=0.5)

SOURCE = Gaussian(scale=1.0)
"""Weights of the source; from these one network in ten diverges at η = 0.1, none at η ≤ 0.05."""

HEAT = 0.2
"""``ηδ²`` of runs at small steps, as for δ = 2 at η = 0.05; first-order effects depend on it alone."""


def problem(
    label_noise: float,
    widths: tuple[int, ...] = WIDTHS,
    residual: float = 0.0,
    start: Init = INIT,
    teacher: Floats | None = None,
) -> Problem:
    """A linear network on samples of the setting."""
    return Problem(DeepLinear(widths), samples(label_noise, residual, teacher), start)


def small_steps(dt: float, start: Init, heat: float = HEAT) -> tuple[Problem, GD]:
    """Label noise in continuous time, at fixed ``T = η/n`` and ``ηδ²``, by steps dt: ``dtδ(dt)² = ηδ²``."""
    return problem(float(np.sqrt(heat / dt)), start=start), GD(dt)


def samples(label_noise: float = 0.0, residual: float = 0.0, teacher: Floats | None = None) -> Dataset:
    """Gaussian inputs, and labels linear in them up to this residual, rounded to two decimals."""
    rng, (dim_in, _, dim_out) = np.random.default_rng(1), WIDTHS
    x = rng.standard_normal((SAMPLES, dim_in)).round(2)
    left, right = (np.linalg.qr(rng.standard_normal((size, dim_out)))[0] for size in (dim_out, dim_in))
    teacher = left * STRENGTHS @ right.T if teacher is None else teacher
    y = x @ teacher.T + residual * rng.standard_normal((SAMPLES, dim_out))
    return Dataset(x, y.round(2), label_noise)


@dataclass(frozen=True)
class WeightPaths:
    """Weights of an ensemble at some steps, each layer (saves, trajectories, n_l, n_{l−1})."""

    problem: Problem
    method: Method
    steps: NDArray[np.int64]
    weights: tuple[Floats, ...]
    run: Run

    @property
    def time(self) -> Floats:
        """Time of every save."""
        return self.method.time(self.steps)

    @property
    def flat(self) -> list[Floats]:
        """The layers with saves and trajectories in one dimension."""
        return [layer.reshape(-1, *layer.shape[2:]) for layer in self.weights]

    @cached_property
    def fall(self) -> Floats:
        """log det N minus its initial value (saves, trajectories, interface), NaN where a layer is too narrow."""
        values = self._shaped(self.problem.network.log_det(self.flat))
        return values - values[0]

    def label_noise_rate(self, interface: int = 0) -> Floats:
        """Its predicted rate for full batches with fresh label noise (saves, trajectories)."""
        data, lr = self.problem.data, self.method.lr
        return self._shaped(determinant.log_det_rate(data, lr / SAMPLES, self.flat, interface, lr, share=0.0))

    @property
    def line_rate(self) -> float:
        """Rate of log det N for two layers under label noise in continuous time, ``−2ηδ²dy Tr(S_xx)/n``."""
        data = self.problem.data
        return float(-2 * self.method.lr * data.label_noise**2 * data.dim_out * np.trace(data.sigma) / SAMPLES)

    def integral(self, rate: Floats) -> Floats:
        """Time integral of a rate from the start to every save (saves, trajectories)."""
        steps = np.diff(self.time)[:, None] * rate[:-1]
        return np.concatenate([np.zeros((1, rate.shape[1])), steps.cumsum(axis=0)])

    def _shaped(self, values: Floats) -> Floats:
        return values.reshape(*self.weights[0].shape[:2], *values.shape[1:])


def follow(
    name: str, problem: Problem, method: Method, steps: Sequence[int], trajectories: int, seed: int = 0
) -> WeightPaths:
    """Simulate an ensemble and keep its weights at these steps and at the start."""
    saves = np.unique([0, *steps])
    plan = Plan(steps=int(saves[-1]), trajectories=trajectories, seed=seed, save_at=tuple(saves.tolist()))
    engine = make_engine("auto", problem, method, plan)
    state, seen = engine.init(), []
    for step in saves.tolist():
        state = engine.advance(state, step) if step else state
        seen.append(engine.weights(state))
    layers = tuple(np.stack(layer) for layer in zip(*seen, strict=True))
    return WeightPaths(problem, method, saves, layers, Run.by_hand(name, problem, method, plan, state.status))


def drifted(problem: Problem, lr: float, weights: Sequence[Floats], time: float, stages: int) -> Iterator[list[Floats]]:
    """Weights under the averaged drift of label noise at the midpoints of stages, and at the end (midpoint rule)."""
    h, now = time / stages, list(weights)
    for _ in range(stages):
        half = _moved(problem, lr, now, now, h / 2)
        yield half
        now = _moved(problem, lr, now, half, h)
    yield now


def _moved(problem: Problem, lr: float, weights: list[Floats], at: list[Floats], h: float) -> list[Floats]:
    slopes = determinant.label_noise_drift(problem.data, lr / SAMPLES, at)
    return [layer + h * slope for layer, slope in zip(weights, slopes, strict=True)]
