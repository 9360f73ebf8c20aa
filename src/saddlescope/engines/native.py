"""The compiled engine: lanes are trajectories, noise is made in registers, threads share blocks of trajectories."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import _kernel, _threads, observables
from saddlescope.data import Data, Dataset
from saddlescope.engines import finite
from saddlescope.engines.protocol import Floats, State, check, check_advance, noise_scale, out_of_modes, start
from saddlescope.methods import GD, SGD, GradientFlow, Langevin, Method
from saddlescope.networks import Diagonal
from saddlescope.networks.diagonal import GradientNoise
from saddlescope.plan import Plan
from saddlescope.problem import Problem

MAX_DEPTH = 256

SCHEDULED_STEPS = 1 << 16
"""Steps under a schedule that go to the kernel at a time."""


class Native:
    """Engine of one run, on the best instruction set of the processor or the one named.

    Small networks run with their trajectories in lanes, wide ones one by one through blocked products; ``route``
    ("lanes", "one by one") forces either. The bits are the same.

    Raises ValueError for a network deeper than 256 layers, gradient flow in float32, or an unknown instruction set.

    >>> from saddlescope import DeepLinear, GaussianData, SGD, init
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Gaussian(scale=0.1))
    >>> engine = Native(problem, SGD(lr=1e-2, batch_size=4), Plan(steps=10, trajectories=3))
    >>> engine.advance(engine.init(), until=10).step
    10
    """

    name = "native"

    def __init__(
        self, problem: Problem, method: Method, plan: Plan, instruction_set: str = "auto", route: str = "auto"
    ) -> None:
        if problem.network.depth > MAX_DEPTH:
            raise ValueError(
                f"widths make {problem.network.depth} layers, the compiled engine takes at most {MAX_DEPTH}; "
                'use engine="reference"'
            )
        check(problem, method, plan)
        self.problem, self.method, self.plan = problem, method, plan
        self.threads = plan.threads or _threads.available()
        data, modes = problem.data, problem.data.modes
        self._kernel = _kernel.DeepLinearKernel(
            widths=list(problem.network.widths),
            strengths=modes.strengths.tolist(),
            block=[block[0] for block in modes.blocks for _ in block],
            rank=data.root.shape[1],
            root=[] if data.white else data.root.ravel().tolist(),
            label_noise=data.label_noise,
            source=_source(method, data),
            lr=method.lr,
            dt=method.time_step,
            batch=_batch(method, data),
            weight_decay=method.weight_decay,
            order=getattr(method, "order", 1),
            instruction_set=instruction_set,
            route=route,
        )
        samples = data if isinstance(data, Dataset) else None
        if isinstance(problem.network, Diagonal):
            noise = GradientNoise.of(data)
            offset = float(modes.strengths[0]) - noise.center
            self._kernel.diagonal(problem.network.width, noise.alpha, offset, noise.floor)
            samples = None if isinstance(method, Langevin) else samples  # its noise is all that they add
        if wanted := plan.accumulate:
            self._kernel.accumulate(wanted.low, wanted.high, wanted.start, wanted.every)
        if samples:
            self._kernel.use_samples(*finite.kernel_tables(samples, method))

    @property
    def instruction_set(self) -> str:
        """Instruction set of the kernels that run."""
        return str(self._kernel.instruction_set)

    @property
    def normals_per_step(self) -> int:
        """Standard normals of one Langevin step, as many as ``advance`` takes when they are given; 0 elsewhere."""
        return int(self._kernel.normals_per_step) if isinstance(self.method, Langevin) else 0

    def init(self) -> State:
        """The ensemble at step 0."""
        return start(self.problem, self.method, self.plan)

    def advance(self, state: State, until: int, normals: NDArray[Any] | None = None) -> State:
        """The ensemble at step ``until``; ``normals`` (n, steps, normals_per_step) replace those drawn (Langevin)."""
        check_advance(self, state, until, normals)
        weights, moved = self._flat(state.weights), _copy(state)
        for first, last in self._blocks(state.step, until):
            given = None if normals is None else normals[:, first - state.step : last - state.step]
            self._kernel.advance(
                weights,
                words=moved.words,
                status=moved.status,
                learned=moved.learned,
                peak=moved.peak,
                clock=moved.clock,
                correlator=moved.correlator,
                histogram=moved.histogram,
                start=first,
                until=last,
                passages=bool(self.plan.events or self.plan.accumulate),
                peaks="noise_peak" in self.plan.events,
                threads=self.threads,
                normals=None if given is None else np.ascontiguousarray(given, self.plan.dtype),
                factors=None if self.method.schedule is None else self.method.factor(np.arange(first, last + 1)),
                order=moved.order if moved.order.size else None,
            )
        return replace(moved, step=until, weights=self._layers(weights))

    def _blocks(self, start: int, until: int) -> list[tuple[int, int]]:
        """The steps from ``start`` to ``until`` in pieces, short enough that a schedule's factors take little room."""
        if self.method.schedule is None:
            return [(start, until)]
        ends = [*range(start + SCHEDULED_STEPS, until, SCHEDULED_STEPS), until]
        return list(zip([start, *ends], ends, strict=False))

    def observe(self, state: State) -> dict[str, Floats]:
        """Every observable of every trajectory, leading axis n."""
        problem, data = self.problem, self.problem.data
        temperature, share = noise_scale(problem, self.method, state.step)
        if isinstance(problem.network, Diagonal):
            return observables.observe(problem, temperature, self.weights(state), share)
        shown, modes = self._shown(state), len(data.modes.strengths)
        columns = _columns(self._kernel.observe(shown, temperature, self.threads), problem.network.depth, modes)
        if modes > _kernel.jacobi_modes:
            columns["singular_values"] = observables.singular_values(self._layers(shown))
            columns["effective_rank"] = observables.rank_of(columns["singular_values"])
        if isinstance(data, Dataset):
            weights = self.weights(state)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                columns["excess_loss"] = observables.excess_loss(data, weights)
                columns["loss"] = columns["excess_loss"] + data.least_loss
                columns["mode_noise"] = observables.mode_noise(data, temperature, weights, share)
                columns["layer_noise"] = observables.layer_noise(data, temperature, weights, share)
        return columns

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Layers (n, n_l, n_{l−1}) in the original basis, float64."""
        return out_of_modes(self.problem.data, self._layers(self._shown(state)))

    def _shown(self, state: State) -> Floats:
        """Weights at the state's own step: gradient flow looks ahead from its last internal point."""
        weights = self._flat(state.weights).astype(np.float64)
        if not isinstance(self.method, GradientFlow):
            return weights
        return np.asarray(self._kernel.peek(weights, state.clock, float(self.method.time(state.step)), self.threads))

    def _flat(self, layers: tuple[NDArray[Any], ...]) -> NDArray[Any]:
        return np.concatenate([layer.reshape(len(layer), -1) for layer in layers], axis=1)

    def _layers(self, weights: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        shapes = self.problem.network.shapes
        ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
        parts = np.split(weights, ends, axis=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))


def _source(method: Method, data: Data) -> str:
    if isinstance(method, Langevin):
        return method.noise
    if isinstance(data, Dataset) and method.full_batch:
        return "sgd" if data.label_noise > 0 else "gd"
    return {GradientFlow: "flow", GD: "gd", SGD: "sgd"}[type(method)]


def _batch(method: Method, data: Data) -> float:
    if isinstance(data, Dataset) and method.full_batch:
        return data.samples
    return getattr(method, "batch_size", np.inf)


def _copy(state: State) -> State:
    """The arrays a kernel changes in place, anew."""
    changed = (f.name for f in fields(state) if f.name not in ("step", "weights"))
    return replace(state, **{name: getattr(state, name).copy() for name in changed})


def _columns(table: Floats, depth: int, modes: int) -> dict[str, Floats]:
    sizes = {
        "loss": 1,
        "excess_loss": 1,
        "mode_strength": modes,
        "singular_values": modes,
        "alignment": modes,
        "imbalance": depth - 1,
        "imbalance_trace": depth - 1,
        "log_det": depth - 1,
        "mode_noise": modes,
        "layer_noise": depth * modes,
        "effective_rank": 1,
        "learned_modes": 1,
    }
    parts = np.split(table, np.cumsum(list(sizes.values()))[:-1], axis=1)
    columns = dict(zip(sizes, parts, strict=True))
    for name in ("loss", "excess_loss", "effective_rank", "learned_modes"):
        columns[name] = columns[name][:, 0]
    columns["layer_noise"] = columns["layer_noise"].reshape(-1, depth, modes)
    return columns
