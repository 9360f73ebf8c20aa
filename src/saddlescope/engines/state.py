"""The state of an ensemble: how it starts, how it is kept, and what its weights are.

Weights live in the teacher's basis (``W_L ← UᵀW_L``, ``W_1 ← W_1V``), where the end-to-end map P shows the mode
strengths on its diagonal and the teacher is ``diag(s*)``.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import init
from saddlescope._arrays import Array, Floats, Layers
from saddlescope.data.base import into_modes, out_of_modes
from saddlescope.engines import correlator, dormand_prince
from saddlescope.engines.step import Step
from saddlescope.kernel import streams
from saddlescope.networks.model import is_model
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.problem import Problem

LAYERED = ("weights", "velocity", "sums")
"""Fields of a state that have an array for each layer."""

PEAK_FALL = 0.9
"""A noise peak counts when the noise has fallen to this fraction of it by the time the mode is learned."""


@dataclass(frozen=True)
class State:
    """Everything needed to continue an ensemble: n trajectories at one step.

    ``weights`` L arrays (n, n_l, n_{l−1}) in the teacher's basis; ``velocity`` p of the heavy ball, of the same shapes,
    empty without momentum; ``words`` (n, 4) generator state; ``status`` (n,) 0 or the step of divergence; ``learned``
    (n, 2, m) first step with ``u_αᵀPv_α ≥ θ s*_α`` (inf: not yet, NaN: s* = 0); ``peak`` (n, 4, m) largest mode noise
    before learning, its step, the strength there, the noise when learned (NaN: not yet), all NaN unless the plan asks
    for noise peaks; ``clock`` (n, 2) time and next step of the integrator (gradient flow only, where ``weights`` are
    those of that time, at most the state's own); ``order`` (n, samples) the order in which SGD takes the samples of a
    data set (sampling "without" and "shuffle" only, else (n, 0)); ``correlator`` (n, m, levels, ROW) and ``histogram``
    (m, bins + 2) of the whole ensemble: what the plan accumulates, empty when it does not.
    Of a Model ``weights`` are its leaves (n, …), ``velocity`` the state of its optimizer, ``words`` its keys (n, 2) and
    ``sums`` what its observations add up at every step.
    """

    step: int
    weights: Layers
    velocity: Layers
    words: NDArray[Any]
    status: NDArray[np.int64]
    learned: Floats
    peak: Floats
    clock: Floats
    order: NDArray[np.int32]
    correlator: Floats
    histogram: NDArray[np.int64]
    sums: Layers = ()

    @property
    def trajectories(self) -> int:
        """Ensemble size n."""
        return len(self.words)

    def take(self, rows: NDArray[np.int64]) -> State:
        """The state of these trajectories alone; a histogram stays that of the whole ensemble."""
        own = ("words", "status", "learned", "peak", "clock", "order", "correlator")
        taken: dict[str, Any] = {name: getattr(self, name)[rows] for name in own}
        taken |= {name: tuple(layer[rows] for layer in getattr(self, name)) for name in LAYERED}
        return replace(self, **taken)

    def to_bytes(self) -> bytes:
        """Serialise, without loss."""
        layers = {f"{name}{index}": layer for name in LAYERED for index, layer in enumerate(getattr(self, name))}
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in LAYERED}
        buffer = io.BytesIO()
        np.savez(buffer, **layers, **others)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The state that ``to_bytes`` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as store:
            values: dict[str, Any] = {f.name: store[f.name] for f in fields(cls) if f.name not in (*LAYERED, "step")}
            for name in LAYERED:
                count = sum(re.fullmatch(name + r"\d+", file) is not None for file in store.files)
                values[name] = tuple(store[f"{name}{index}"] for index in range(count))
            return cls(step=int(store["step"]), **values)


def start(problem: Problem, step: Step, plan: Plan, weights: Layers | None = None) -> State:
    """The ensemble at step 0, from the problem's initial weights or the given ones (original basis)."""
    members, n = plan.member_indices, plan.count
    if weights is None:
        weights = init.draw(problem.init, problem.network, problem.data, plan.seed, members)
    strengths = problem.data.modes.strengths
    learned = np.broadcast_to(np.where(strengths > 0, np.inf, np.nan), (n, len(THRESHOLDS), len(strengths)))
    peak = np.full((n, 4, len(strengths)), np.nan)
    if step.peaks:
        peak[:, :3] = 0.0
    clock = np.zeros((n, 2))
    if step.continuous:
        clock[:, 1] = step.lr
    samples = np.arange(problem.data.samples if step.ordered else 0, dtype=np.int32)
    accumulated, histogram = correlator.empty(plan.accumulate, n, len(strengths))
    layers = tuple(layer.astype(plan.dtype) for layer in into_modes(problem.data, weights))
    return State(
        step=0,
        weights=layers,
        velocity=tuple(map(np.zeros_like, layers)) if step.momentum else (),
        words=streams.seed_words(plan.seed, members, streams.NOISE, plan.dtype),
        status=np.zeros(n, np.int64),
        learned=np.array(learned),
        peak=peak,
        clock=clock,
        order=np.tile(samples, (n, 1)),
        correlator=accumulated,
        histogram=histogram,
    )


# --- weights


def weights(step: Step, state: State) -> Layers:
    """Weights at the state's step in the original basis, float64, each (n, n_l, n_{l−1}).

    Under gradient flow they are integrated from the last internal point to the state's own time.
    """
    layers = state.weights
    if is_model(step.network):
        return tuple(np.asarray(layer, np.float64) for layer in layers)
    if step.continuous:
        time, size = state.clock.T
        end = np.where(state.status == 0, step.lr * state.step, time)
        with np.errstate(over="ignore", invalid="ignore"):
            layers = dormand_prince.land(partial(descent, step), layers, time, size, end, step.lr)
    return out_of_modes(step.data, layers)


def descent(step: Step, layers: Layers) -> Layers:
    """``−∇𝓛 − γW`` of weights in the teacher's basis."""
    gradient = error(step, layers) @ step.root @ step.root.T
    slopes = step.network.pull_back(layers, gradient)
    return tuple(-slope - step.decay * layer for slope, layer in zip(slopes, layers, strict=True))


def error(step: Step, layers: Layers) -> Array:
    """``Δ = P − diag(s*)`` (n, dy, dx) of weights in the teacher's basis."""
    return np.asarray(step.network.end_to_end(layers) - step.teacher)
