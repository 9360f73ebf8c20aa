"""What an engine is: it starts an ensemble, advances it, and looks at it.

Weights live in the teacher's basis (``W_L ← UᵀW_L``, ``W_1 ← W_1V``), where the end-to-end map P shows the mode
strengths on its diagonal and the teacher is ``diag(s*)``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from saddlescope import init
from saddlescope.data import Data, Dataset, Moments
from saddlescope.engines import correlator as accumulate
from saddlescope.kernel import streams
from saddlescope.methods import GD, SGD, GradientFlow, Langevin, Method
from saddlescope.networks import Diagonal
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.problem import Problem

Floats = NDArray[np.float64]

PEAK_FALL = 0.9
"""A noise peak counts when the noise has fallen to this fraction of it by the time the mode is learned."""


@dataclass(frozen=True)
class State:
    """Everything an ensemble needs to go on: n trajectories at one step.

    ``weights`` L arrays (n, n_l, n_{l−1}) in the teacher's basis; ``words`` (n, 4) generator state; ``status`` (n,)
    0 or the step of divergence; ``learned`` (n, 2, m) first step with ``u_αᵀPv_α ≥ θ s*_α`` (inf: not yet,
    NaN: s* = 0); ``peak`` (n, 4, m) largest mode noise before learning, its step, the strength there, the noise when
    learned (NaN: not yet); all NaN unless the plan asks for noise peaks;
    ``clock`` (n, 2) the integrator's own time, at most the state's, and next step (gradient flow only, where
    ``weights`` are those of that time); ``order`` (n, samples) the order in which SGD takes the samples of a data set
    (sampling "without" and "shuffle" only, else (n, 0)); ``correlator`` (n, m, levels, ROW) and ``histogram``
    (m, bins + 2) of the whole ensemble: what the plan accumulates, empty when it does not.
    """

    step: int
    weights: tuple[NDArray[Any], ...]
    words: NDArray[Any]
    status: NDArray[np.int64]
    learned: Floats
    peak: Floats
    clock: Floats
    order: NDArray[np.int32]
    correlator: Floats
    histogram: NDArray[np.int64]

    @property
    def trajectories(self) -> int:
        """Ensemble size n."""
        return len(self.words)

    def take(self, rows: NDArray[np.int64]) -> State:
        """The state of these trajectories alone; of a plan that accumulates the histogram stays that of all."""
        own = ("words", "status", "learned", "peak", "clock", "order", "correlator")
        taken: dict[str, Any] = {name: getattr(self, name)[rows] for name in own}
        return replace(self, weights=tuple(layer[rows] for layer in self.weights), **taken)

    def to_bytes(self) -> bytes:
        """Serialise, without loss."""
        layers = {f"weights{index}": layer for index, layer in enumerate(self.weights)}
        others = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weights"}
        buffer = io.BytesIO()
        np.savez(buffer, **layers, **others)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """The state that ``to_bytes`` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as store:
            values: dict[str, Any] = {f.name: store[f.name] for f in fields(cls) if f.name not in ("weights", "step")}
            depth = sum(name.startswith("weights") for name in store.files)
            layers = tuple(store[f"weights{index}"] for index in range(depth))
            return cls(step=int(store["step"]), weights=layers, **values)


class Engine(Protocol):
    """Advances one ensemble; made by ``Engine(problem, method, plan)``."""

    name: str

    def __init__(self, problem: Problem, method: Method, plan: Plan) -> None: ...

    @property
    def normals_per_step(self) -> int:
        """Standard normals a step takes when they are given instead of drawn (Langevin only)."""
        ...

    def init(self) -> State:
        """The ensemble at step 0."""
        ...

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``; the same to the last bit however the way there is cut."""
        ...

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Weights at the state's step in the original basis; for gradient flow not those the state holds."""
        ...

    def observe(self, state: State) -> dict[str, Floats]:
        """Every observable of every trajectory, leading axis n."""
        ...


def check(problem: Problem, method: Method, plan: Plan) -> None:
    """Raise ValueError when this method cannot run on this problem under this plan."""
    if not np.isfinite(method.time_step * float(plan.steps)):
        raise ValueError(
            f"time must be finite, got {method.time_step:.3g} a step for {plan.steps} steps; lower lr or dt"
        )
    if isinstance(method, GradientFlow) and plan.dtype != "float64":
        raise ValueError(f'dtype must be "float64" for GradientFlow, got "{plan.dtype}"; leave dtype out')
    if isinstance(method, GradientFlow) and plan.accumulate is not None:
        raise ValueError("accumulate is for methods with noise, got GradientFlow; leave accumulate out")
    if isinstance(method, Langevin) and method.noise == "aligned" and not problem.data.diagonal_in_modes:
        raise ValueError(
            'noise = "aligned" needs a covariance that is diagonal in the right singular vectors of the teacher; '
            'use noise = "gradient" or change covariance'
        )
    if isinstance(problem.data, Moments) and isinstance(method, SGD):
        raise ValueError("SGD needs data with samples, got Moments, which do not fix the law of a batch; use Langevin")
    if isinstance(problem.data, Dataset):
        _check_dataset(problem, problem.data, method, plan)
    elif isinstance(method, SGD) and method.sampling != "replacement":
        raise ValueError(
            f'sampling = "{method.sampling}" needs a data set, but samples of Gaussian data are always fresh; '
            "leave sampling out"
        )


def _check_dataset(problem: Problem, data: Dataset, method: Method, plan: Plan) -> None:
    layers = not isinstance(problem.network, Diagonal)
    if layers and isinstance(method, Langevin) and method.noise == "isotropic":
        raise ValueError('noise = "isotropic" needs Gaussian data, got a Dataset; use noise = "gradient"')
    if "noise_peak" in plan.events:
        raise ValueError('events "noise_peak" needs Gaussian data, got a Dataset; leave it out and watch mode_noise')
    if draws_from_order(method) and (method.batch_size or 0) > data.samples:
        raise ValueError(
            f'batch_size must be at most the {data.samples} samples with sampling = "{method.sampling}", '
            f'got {method.batch_size}; lower it or use sampling = "replacement"'
        )


def noise_scale(problem: Problem, method: Method, step: int) -> tuple[float, float]:
    """Temperature of the noise of Ḡ at a step, and the share of the sampling noise that is in it.

    Of a data set, n samples without replacement leave ``(n − B)/(n − 1)``; full batches have η/n and label noise alone.
    """
    data, n, temperature = problem.data, getattr(problem.data, "samples", 0), float(method.temperature_at(step))
    if not isinstance(data, Dataset) or not isinstance(method, GD | SGD):
        return temperature, 1.0
    if isinstance(method, GD) or method.batch_size is None:
        return float(method.lr_at(step)) / n, 0.0
    return temperature, (n - method.batch_size) / max(n - 1, 1) if draws_from_order(method) else 1.0


def draws_from_order(method: Method) -> TypeGuard[SGD]:
    """Whether every trajectory keeps an order of the samples."""
    return isinstance(method, SGD) and method.sampling in ("without", "shuffle")


def check_advance(engine: Engine, state: State, until: int, normals: NDArray[Any] | None) -> None:
    """Raise ValueError when the ensemble cannot go to step ``until``, or not with these normals."""
    if until < state.step:
        raise ValueError(f"until must be at least the step reached, {state.step}, got {until}")
    shape = (state.trajectories, until - state.step, engine.normals_per_step)
    if normals is not None and not engine.normals_per_step:
        raise ValueError("normals can be given to Langevin only; leave them out")
    if normals is not None and normals.shape != shape:
        raise ValueError(
            f"normals must have shape {shape} (trajectories, steps, normals_per_step), got {normals.shape}"
        )


def start(problem: Problem, method: Method, plan: Plan, weights: tuple[Floats, ...] | None = None) -> State:
    """The ensemble at step 0, from the problem's initial weights or the given ones (original basis)."""
    members = plan.member_indices
    if weights is None:
        weights = init.draw(problem.init, problem.network, problem.data, plan.seed, members)
    strengths = problem.data.modes.strengths
    shape = (len(members), len(THRESHOLDS), len(strengths))
    learned = np.broadcast_to(np.where(strengths > 0, np.inf, np.nan), shape)
    peak = np.full((len(members), 4, len(strengths)), np.nan)
    if "noise_peak" in plan.events:
        peak[:, :3] = 0.0
    clock = np.zeros((len(members), 2))
    if isinstance(method, GradientFlow):
        clock[:, 1] = method.lr
    samples = problem.data.samples if draws_from_order(method) and isinstance(problem.data, Dataset) else 0
    correlator, histogram = accumulate.empty(plan.accumulate, len(members), len(strengths))
    return State(
        step=0,
        weights=tuple(layer.astype(plan.dtype) for layer in into_modes(problem.data, weights)),
        words=streams.seed_words(plan.seed, members, streams.NOISE, plan.dtype),
        status=np.zeros(len(members), np.int64),
        learned=np.array(learned),
        peak=peak,
        clock=clock,
        order=np.tile(np.arange(samples, dtype=np.int32), (len(members), 1)),
        correlator=correlator,
        histogram=histogram,
    )


def into_modes(data: Data, weights: tuple[Floats, ...]) -> tuple[Floats, ...]:
    """Weights in the teacher's basis: ``W_1 V`` first, ``Uᵀ W_L`` last."""
    left, right = data.bases
    first = (weights[0] @ right, *weights[1:])
    return (*first[:-1], _turned(left.T, first[-1]))


def out_of_modes(data: Data, weights: tuple[NDArray[Any], ...]) -> tuple[Floats, ...]:
    """Weights in the original basis, float64."""
    left, right = data.bases
    layers = tuple(np.asarray(layer, np.float64) for layer in weights)
    first = (layers[0] @ right.T, *layers[1:])
    return (*first[:-1], _turned(left, first[-1]))


def _turned(basis: Floats, layer: Floats) -> Floats:
    """``basis @ layer``; of one dimension a sign, whatever the shape of the layer."""
    return basis @ layer if basis.size > 1 else basis * layer
