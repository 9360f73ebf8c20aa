"""The plain NumPy engine: every method written as its formula, the oracle of the compiled engine.

A step of a discrete method, in the teacher's basis, where the teacher is ``diag(s*)`` and ``Σ = R Rᵀ``:

    Δ = W_L … W_1 − diag(s*),   E = Δ R,   Ḡ = K Rᵀ,   W_l ← W_l − dt W_{>l}ᵀ Ḡ W_{<l}ᵀ

A method is a source of K: E itself (GD), the exact batch (SGD), E plus Gaussian noise (Langevin).
Source: Corlouer et al. 2026, arXiv 2604.06366; batches after Bartlett 1933, Proc. R. Soc. Edinb. 53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import observables
from saddlescope.data import Dataset
from saddlescope.engines import correlator as accumulate
from saddlescope.engines import dormand_prince
from saddlescope.engines.finite import Finite
from saddlescope.engines.protocol import State, check, check_advance, noise_scale, out_of_modes, start
from saddlescope.kernel.streams import Streams
from saddlescope.methods import GD, SGD, GradientFlow, Langevin, Method
from saddlescope.networks import Diagonal, diagonal
from saddlescope.networks.diagonal import GradientNoise
from saddlescope.observables import THRESHOLDS, block_strength, end_to_end, surroundings
from saddlescope.plan import Plan
from saddlescope.problem import Problem

Array = NDArray[Any]
Layers = tuple[Array, ...]
Draw = Callable[[int], Array]
"""Hands out the next ``count`` standard normals of every trajectory, (n, count)."""


class Reference:
    """Advances one ensemble in plain NumPy, all trajectories of a step at once.

    >>> from saddlescope import DeepLinear, GaussianData, GD, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[2.0]]), init.Balanced(scale=1.0))
    >>> engine = Reference(problem, GD(lr=0.5), Plan(steps=1))
    >>> engine.weights(engine.advance(engine.init(), until=1))[0]
    array([[[1.5]]])
    """

    name = "reference"

    def __init__(self, problem: Problem, method: Method, plan: Plan) -> None:
        check(problem, method, plan)
        self.problem, self.method, self.plan = problem, method, plan
        data = problem.data
        self._root = data.root.astype(plan.dtype)
        self._teacher = np.zeros((data.dim_out, data.dim_in), plan.dtype)
        np.fill_diagonal(self._teacher, data.modes.strengths)
        self._goals = np.outer(THRESHOLDS, data.modes.strengths).astype(plan.dtype)
        self._finite = Finite(data, method, plan.dtype) if isinstance(data, Dataset) else None
        self._one: GradientNoise | None = None  # of a diagonal network, as a function of Δ
        self._end_to_end, self._pull_back, self._mode_noise = end_to_end, _pull_back, observables.mode_noise
        if isinstance(problem.network, Diagonal):
            noise = GradientNoise.of(data)
            self._one = replace(noise, center=noise.center - float(data.modes.strengths[0]))
            self._end_to_end, self._pull_back = diagonal.end_to_end, diagonal.pull_back
            self._mode_noise = diagonal.mode_noise

    @property
    def normals_per_step(self) -> int:
        """Standard normals a step takes when they are given (Langevin only, else 0)."""
        if not isinstance(self.method, Langevin):
            return 0
        if self.method.noise == "isotropic":
            return self.problem.network.parameters
        if self._one:
            return 1
        if self._finite:
            return self._finite.normals_per_step
        rank, data = self._root.shape[1], self.problem.data
        return rank * (rank + 1) // 2 + (data.dim_out * rank if data.label_noise > 0 else 0)

    def init(self) -> State:
        """The ensemble at step 0."""
        return start(self.problem, self.method, self.plan)

    def weights(self, state: State) -> tuple[NDArray[np.float64], ...]:
        """Weights at the state's step in the original basis, float64, each (n, n_l, n_{l−1})."""
        layers = state.weights
        if isinstance(self.method, GradientFlow):
            time, size = state.clock.T
            end = np.where(state.status == 0, self.method.time(state.step), time)
            layers = dormand_prince.land(self._descent, layers, time, size, end, self.method.time_step)
        return out_of_modes(self.problem.data, layers)

    def observe(self, state: State) -> dict[str, NDArray[np.float64]]:
        """Every observable of every trajectory, leading axis n."""
        temperature, share = noise_scale(self.problem, self.method, state.step)
        return observables.observe(self.problem, temperature, self.weights(state), share)

    def advance(self, state: State, until: int, normals: Array | None = None) -> State:
        """The ensemble at step ``until``; ``normals`` (n, steps, normals_per_step) replace Langevin's streams."""
        check_advance(self, state, until, normals)
        first, streams = state.step, Streams(state.words)
        state = replace(state, order=state.order.copy())  # changed in place
        draw: Draw = streams.normals
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(self.method, GradientFlow):
                return self._flow(state, until, self.method.lr)
            for step in range(first, until):
                if normals is not None:
                    draw = _hand_out(normals[:, step - first], self.plan.dtype)
                state = self._accumulate(self._record(replace(state, step=step)))
                state = replace(state, weights=self._step(state, draw, streams))
            return self._record(replace(state, step=until, words=streams.words))

    # --- one step of a discrete method

    def _step(self, state: State, draw: Draw, streams: Streams) -> Layers:
        """``W ← (1 − γdt) W − dt ∂W``, and what noise or drift the method has of its own at the layers."""
        method, weights = self.method, state.weights
        factor = float(method.factor(state.step))
        dt, error = method.time_step * factor, (self._end_to_end(weights) - self._teacher) @ self._root
        slopes = self._pull_back(weights, self._map_gradient(error, state, draw, streams))
        if isinstance(method, Langevin) and method.order == 2:
            slopes = tuple(g + h for g, h in zip(slopes, self._curvature(weights, method.lr * factor), strict=True))
        keep = 1 - dt * method.weight_decay
        moved = tuple(keep * w - dt * g for w, g in zip(weights, slopes, strict=True))
        if isinstance(method, Langevin) and method.noise == "isotropic":
            deviation = factor * self._isotropic_deviation(weights, error)
            moved = tuple(w + deviation * draw(w[0].size).reshape(w.shape) for w in moved)
        return moved

    def _curvature(self, weights: Layers, lr: float) -> Layers:
        """``(η/2) ∇²𝓛 ∇𝓛``, decay included: the derivative of −∇𝓛 along itself, by an imaginary step without error."""
        slopes = self._descent(weights)
        ahead = self._descent(tuple(w + 2.0**-64 * 1j * d for w, d in zip(weights, slopes, strict=True)))
        return tuple(0.5 * lr * (2.0**64 * d.imag) for d in ahead)

    def _map_gradient(self, error: Array, state: State, draw: Draw, streams: Streams) -> Array:
        """Ḡ (n, dy, dx) from ``E = ΔR`` (n, dy, r)."""
        back, label_noise = self._root.T, self.problem.data.label_noise
        if self._finite and isinstance(self.method, GD | SGD):
            return self._finite.gradient(error, state.step, state.order, streams) @ back
        match self.method:
            case SGD(batch_size=int(batch_size)):
                return _batch(error, label_noise, batch_size, streams) @ back
            case Langevin(noise="gradient"):
                return (error + self._amplitude * self._noise(error, draw)) @ back
            case Langevin(noise="aligned"):
                noise = self._amplitude * self._noise(error, draw) @ back
                return error @ back + noise * np.eye(*noise.shape[1:], dtype=noise.dtype)
        return error @ back

    def _noise(self, error: Array, draw: Draw) -> Array:
        """Noise of one sample's K (n, dy, r); in one dimension ``√g(v) Z / R``."""
        if self._one:
            return np.sqrt(self._one(error / self._root)) / self._root * draw(1)[:, :, None]
        if self._finite:
            return self._finite.noise(error, draw)
        return _gaussian(error, self.problem.data.label_noise, draw)

    @property
    def _amplitude(self) -> float:
        """Turns per-sample noise into that of Ḡ: dt² times its square is T dt."""
        return math.sqrt(self.method.temperature / self.method.time_step)

    def _isotropic_deviation(self, weights: Layers, error: Array) -> Array:
        """``√(T dt Tr C / d)`` (n, 1, 1), C the covariance of the per-sample gradient of all d weights.

        ``Tr C = Σ_l Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖²``, ``N = ΔΣΔᵀ + σ²I``.
        """
        rate = self.method.temperature * self.method.time_step / self.problem.network.parameters
        if self._one:
            return np.sqrt(rate * self._one(error / self._root) * sum(map(_square, diagonal.others(weights))))
        trace: Any = 0.0
        for above, below in zip(*surroundings(weights), strict=True):
            spread = _square(_t(above) @ error) + self.problem.data.label_noise**2 * _square(above)
            trace = trace + spread * _square(below @ self._root) + _square(_t(above) @ error @ _t(below @ self._root))
        return np.sqrt(rate * trace)

    # --- events, looked for at every step

    def _record(self, state: State) -> State:
        """First passages, noise peaks and divergence at the state's step."""
        strengths = self._strengths(state.weights)
        finite = np.asarray(np.isfinite(strengths).all(axis=1))
        waiting = np.isinf(state.learned)
        passed = waiting & finite[:, None, None] & (strengths[:, None] >= self._goals)
        learned = np.where(passed, state.step, state.learned)
        status = np.where(finite | (state.status > 0), state.status, max(state.step, 1))
        weights = tuple(np.where(finite[:, None, None], w, w.dtype.type(np.nan)) for w in state.weights)
        state = replace(state, weights=weights, status=status, learned=learned)
        if "noise_peak" in self.plan.events and not isinstance(self.method, GradientFlow):
            state = self._record_peak(state, strengths, passed)
        return state

    def _accumulate(self, state: State) -> State:
        """The state with its strengths counted, where the plan says so."""
        wanted, targets = self.plan.accumulate, self.problem.data.modes.strengths
        if wanted is None or not wanted.due(state.step):
            return state
        strengths = self._strengths(state.weights).astype(np.float64)
        correlator = accumulate.correlate(state.correlator, strengths - targets, state.status == 0)
        histogram = accumulate.bins(wanted, state.histogram, strengths[state.status == 0])
        return replace(state, correlator=correlator, histogram=histogram)

    def _record_peak(self, state: State, strengths: Array, passed: Array) -> State:
        """``State.peak``: the largest noise strictly before learning, and the noise when learned."""
        data, temperature = self.problem.data, float(self.method.temperature_at(state.step))
        noise = self._mode_noise(data, temperature, out_of_modes(data, state.weights))
        higher = np.isinf(state.learned[:, -1]) & (noise > state.peak[:, 0])
        now = np.stack([noise, np.full_like(noise, state.step), strengths, noise], axis=1)
        taken = np.stack([higher, higher, higher, passed[:, -1]], axis=1)
        return replace(state, peak=np.where(taken, now, state.peak))

    def _strengths(self, weights: Layers) -> Array:
        return block_strength(self._end_to_end(weights), self.problem.data.modes.blocks)

    # --- gradient flow

    def _descent(self, weights: Layers) -> Layers:
        """``−∇𝓛 − γW``."""
        gradient = (self._end_to_end(weights) - self._teacher) @ self._root @ self._root.T
        decay = self.method.weight_decay
        return tuple(-g - decay * w for g, w in zip(self._pull_back(weights, gradient), weights, strict=True))

    def _flow(self, state: State, until: int, lr: float) -> State:
        """Steps of the integrator's own that end by ``until · lr``; ``weights`` goes the rest of the way."""
        if state.step == 0:
            state = self._record(state)
        weights, learned = tuple(layer.copy() for layer in state.weights), state.learned.copy()
        time, size = state.clock.T.copy()
        alive = state.status == 0
        moving = partial(dormand_prince.moving, unit=lr)
        while (rows := np.flatnonzero(alive & (time + size <= until * lr) & moving(time, size))).size:
            before, start, h = dormand_prince.take(weights, rows), time[rows], size[rows]
            after, accepted, factor = dormand_prince.attempt(self._descent, before, h)
            beyond = self._strengths(after)[:, None] >= self._goals
            time[rows] = np.where(accepted, start + h, start)
            size[rows] = h * factor
            learned[rows] = self._passages(learned[rows], beyond, before, start, h, np.floor(time[rows] / lr))
            dormand_prince.put(weights, rows[accepted], dormand_prince.take(after, accepted))
        lost = alive & ~moving(time, size)
        status = np.where(lost, np.maximum(np.floor(time / lr), 1), state.status).astype(np.int64)
        for layer in weights:
            layer[lost] = np.nan
        alive &= ~lost
        open_ = np.broadcast_to(alive[:, None, None], learned.shape)
        learned = self._passages(learned, open_, weights, time, size, np.full_like(time, until))
        clock = np.stack([time, size], axis=1)
        return replace(state, step=until, weights=weights, status=status, learned=learned, clock=clock)

    def _passages(self, learned: Array, beyond: Array, weights: Layers, time: Array, size: Array, last: Array) -> Array:
        """``learned`` (n, 2, m) with the first clock step after ``time``, up to ``last``, beyond a threshold.

        Looked for where ``beyond`` says so, by bisection with side steps from ``weights`` at ``time``.
        """
        learned, lr = learned.copy(), self.method.time_step
        before = np.floor(time / lr)
        wanted = beyond & np.isinf(learned) & (last > before)[:, None, None]
        for q, mode in np.argwhere(wanted.any(axis=0)):
            rows = np.flatnonzero(wanted[:, q, mode])
            side = dormand_prince.take(weights, rows), time[rows], size[rows]
            low, high = before[rows], last[rows]
            found = self._strength_at(side, high * lr, mode) >= self._goals[q, mode]
            while (high - low > 1).any():
                middle = np.ceil((low + high) / 2)
                there = self._strength_at(side, middle * lr, mode) >= self._goals[q, mode]
                low, high = np.where(there, low, middle), np.where(there, middle, high)
            learned[rows, q, mode] = np.where(found, high, np.inf)
        return learned

    def _strength_at(self, side: tuple[Layers, Array, Array], end: Array, mode: int) -> Array:
        weights, time, size = side
        there = dormand_prince.land(self._descent, weights, time, size, end, self.method.time_step)
        return self._strengths(there)[:, mode]


# --- sources of noise


def _batch(error: Array, label_noise: float, batch_size: int, streams: Streams) -> Array:
    """K of an exact batch: ``(E C − σZ) Cᵀ / B``, inputs ``R C``; from B = r on any C with ``C Cᵀ`` Wishart does.

    Then C is lower triangular: normals below the diagonal, chi of B − i degrees of freedom on it (Bartlett).
    """
    count, rank = len(error), error.shape[2]
    if batch_size < rank:
        factor = streams.normals(rank * batch_size).reshape(count, rank, batch_size)
    else:
        factor = np.zeros((count, rank, rank), error.dtype)
        rows_below, columns_below = np.tril_indices(rank, -1)
        factor[:, rows_below, columns_below] = streams.normals(len(rows_below))
        for i in range(rank):
            factor[:, i, i] = streams.chi(batch_size - i)
    mixed = error @ factor
    if label_noise > 0:
        mixed = mixed - label_noise * streams.normals(mixed[0].size).reshape(mixed.shape)
    return mixed @ _t(factor) / batch_size


def _gaussian(error: Array, label_noise: float, draw: Draw) -> Array:
    """Noise of one sample's K: ``E H − σZ``, H symmetric with variance 1 off and 2 on the diagonal."""
    count, rank = len(error), error.shape[2]
    rows, columns = np.tril_indices(rank)
    half = np.zeros((count, rank, rank), error.dtype)
    half[:, rows, columns] = draw(len(rows))
    symmetric = half + _t(half)
    np.einsum("nii->ni", symmetric)[:] *= math.sqrt(0.5)
    noise = error @ symmetric
    if label_noise > 0:
        noise = noise - label_noise * draw(error[0].size).reshape(error.shape)
    return noise


def _hand_out(normals: Array, dtype: str) -> Draw:
    """Given normals (n, normals_per_step) instead of streams."""
    used = 0

    def draw(count: int) -> Array:
        nonlocal used
        used += count
        return normals[:, used - count : used].astype(dtype)

    return draw


# --- matrices


def _pull_back(weights: Layers, gradient: Array) -> Layers:
    """``W_{>l}ᵀ Ḡ W_{<l}ᵀ`` of every layer l."""
    above, below = surroundings(weights)
    return tuple(_t(a) @ gradient @ _t(b) for a, b in zip(above, below, strict=True))


def _t(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


def _square(matrices: Array) -> Array:
    """``‖·‖_F²`` (n, 1, 1)."""
    return np.asarray((matrices**2).sum(axis=(1, 2), keepdims=True))
