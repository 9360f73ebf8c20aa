"""The plain NumPy engine: every method written as its formula, the oracle of the compiled engine.

A step of a discrete method is that of ``step.py``; the methods differ in where the gradient Ḡ of the map comes from,
which is a function in ``SOURCES``. To add a method, add its source there.
Source: Corlouer et al. 2026, arXiv 2604.06366; batches after Bartlett 1933, Proc. R. Soc. Edinb. 53.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from saddlescope import observables
from saddlescope._arrays import Array, Floats, Layers, transposed
from saddlescope.data import is_finite
from saddlescope.data.base import out_of_modes
from saddlescope.engines import correlator, dormand_prince
from saddlescope.engines import state as states
from saddlescope.engines.finite import Finite
from saddlescope.engines.protocol import OneByOne, check_advance
from saddlescope.engines.state import State, descent, error, start
from saddlescope.engines.step import decode
from saddlescope.kernel.streams import Streams
from saddlescope.methods import Rule
from saddlescope.observables import THRESHOLDS, block_strength
from saddlescope.plan import Plan
from saddlescope.problem import Problem

Draw = Callable[[int], Array]
"""Returns the next ``count`` standard normals of every trajectory, (n, count)."""


@dataclass(frozen=True)
class Now:
    """What a source of Ḡ sees at a step: the state, ``E = ΔR`` (n, dy, r), and the streams of the trajectories."""

    state: State
    error: Array
    draw: Draw
    streams: Streams


class Reference(OneByOne):
    """Advances one ensemble in plain NumPy, all trajectories of a step at once.

    >>> from saddlescope import DeepLinear, GaussianData, GD, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[2.0]]), init.Balanced(scale=1.0))
    >>> engine = Reference(problem, GD(lr=0.5), Plan(steps=1))
    >>> engine.weights(engine.advance(engine.init(), until=1))[0]
    array([[[1.5]]])
    """

    name = "reference"

    def __init__(self, problem: Problem, method: Rule, plan: Plan) -> None:
        self.problem, self.plan, self.step = problem, plan, decode(problem, method, plan)
        data = problem.data
        self.root = self.step.root
        self._goals = np.outer(THRESHOLDS, data.modes.strengths).astype(plan.dtype)
        self.finite = Finite(data, self.step) if is_finite(data) else None

    @property
    def normals_per_step(self) -> int:
        """Standard normals of a step when they are given instead of drawn; 0 without diffusive noise."""
        return self.step.normals_per_step

    def init(self) -> State:
        """The ensemble at step 0."""
        return start(self.problem, self.step, self.plan)

    def weights(self, state: State) -> tuple[Floats, ...]:
        """Weights at the state's step in the original basis, float64, each (n, n_l, n_{l−1})."""
        return states.weights(self.step, state)

    def observe(self, state: State) -> dict[str, Floats]:
        """The observables of the step's description for every trajectory, leading axis n."""
        step = self.step
        temperature = step.temperature_at(state.step)
        return observables.observe(
            self.problem, temperature, self.weights(state), step.share, step.observed, step.decay
        )

    def advance(self, state: State, until: int, normals: Array | None = None) -> State:
        """The ensemble at step ``until``; ``normals`` (n, steps, normals_per_step) replace those drawn."""
        check_advance(self.step, state, until, normals)
        first, streams = state.step, Streams(state.words)
        state = replace(state, order=state.order.copy())  # changed in place
        draw: Draw = streams.normals
        with np.errstate(over="ignore", invalid="ignore"):
            if self.step.continuous:
                return self._flow(state, until, self.step.lr)
            for step in range(first, until):
                if normals is not None:
                    draw = _given(normals[:, step - first], self.step.dtype)
                state = self._accumulate(self._record(replace(state, step=step)))
                state = self._moved(state, draw, streams)
            return self._record(replace(state, step=until, words=streams.words))

    # --- one step of a discrete method

    def _moved(self, state: State, draw: Draw, streams: Streams) -> State:
        """``(1 − γdt) W − dt ∂W``, with the second-order drift, the noise at the layers or momentum if there is any."""
        step, weights = self.step, state.weights
        factor = step.factor(state.step)
        dt, now = step.dt * factor, Now(state, error(step, weights) @ self.root, draw, streams)
        slopes = step.network.pull_back(weights, SOURCES[step.source](self, now))
        if step.order == 2:
            slopes = tuple(g + h for g, h in zip(slopes, self._curvature(weights, step.lr * factor), strict=True))
        if step.momentum:
            pulls = (g + step.decay * w for g, w in zip(slopes, weights, strict=True))
            velocity = tuple(step.momentum * p - dt * g for p, g in zip(state.velocity, pulls, strict=True))
            moved = tuple(w + p for w, p in zip(weights, velocity, strict=True))
            return replace(state, weights=moved, velocity=velocity)
        keep = 1 - dt * step.decay
        moved = tuple(keep * w - dt * g for w, g in zip(weights, slopes, strict=True))
        if step.source == "isotropic":
            deviation = factor * self._isotropic_deviation(weights, now.error)
            moved = tuple(w + deviation * draw(w[0].size).reshape(w.shape) for w in moved)
        return replace(state, weights=moved)

    def _curvature(self, weights: Layers, lr: float) -> Layers:
        """``(η/2) ∇²𝓛 ∇𝓛``, decay included: the derivative of −∇𝓛 along itself, by a complex step."""
        slopes = descent(self.step, weights)
        ahead = descent(self.step, tuple(w + 2.0**-64 * 1j * d for w, d in zip(weights, slopes, strict=True)))
        return tuple(0.5 * lr * (2.0**64 * d.imag) for d in ahead)

    def noise(self, now: Now) -> Array:
        """Diffusive noise of K (n, dy, r): √(T/dt) times that of one sample."""
        step, data = self.step, self.step.data
        if step.noise_from == "scalar":
            gradient_noise = data.gradient_noise().about(float(data.modes.strengths[0]))
            one = np.sqrt(gradient_noise(now.error / self.root)) / self.root * now.draw(1)[:, :, None]
        elif self.finite:
            one = self.finite.noise(now.error, now.draw)
        else:
            one = _gaussian(now.error, data.label_noise, now.draw)
        return np.asarray(math.sqrt(step.temperature / step.dt) * one)

    def _isotropic_deviation(self, weights: Layers, error: Array) -> Array:
        """``√(T dt Tr C / d)`` (n, 1, 1), C the covariance of the per-sample gradient of all d weights."""
        network = self.step.network
        rate = self.step.temperature * self.step.dt / network.parameters
        return np.sqrt(rate * network.gradient_trace(self.step.data, weights, error, self.root))

    # --- events, tested at every step

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
        if self.step.peaks and not self.step.continuous:
            state = self._record_peak(state, strengths, passed)
        return state

    def _accumulate(self, state: State) -> State:
        """The state with its mode strengths accumulated, if the plan asks for it."""
        wanted, targets = self.step.accumulate, self.step.data.modes.strengths
        if wanted is None or not wanted.due(state.step):
            return state
        strengths = self._strengths(state.weights).astype(np.float64)
        correlations = correlator.correlate(state.correlator, strengths - targets, state.status == 0)
        histogram = correlator.bins(wanted, state.histogram, strengths[state.status == 0])
        return replace(state, correlator=correlations, histogram=histogram)

    def _record_peak(self, state: State, strengths: Array, passed: Array) -> State:
        """``State.peak``: the largest noise strictly before learning, and the noise when learned."""
        step, temperature = self.step, self.step.temperature_at(state.step)
        weights = out_of_modes(step.data, state.weights)
        noise, _ = step.network.noises(step.data, temperature, weights, step.share)
        higher = np.isinf(state.learned[:, -1]) & (noise > state.peak[:, 0])
        now = np.stack([noise, np.full_like(noise, state.step), strengths, noise], axis=1)
        taken = np.stack([higher, higher, higher, passed[:, -1]], axis=1)
        return replace(state, peak=np.where(taken, now, state.peak))

    def _strengths(self, weights: Layers) -> Array:
        return block_strength(self.step.network.end_to_end(weights), self.step.data.modes.blocks)

    # --- gradient flow

    def _field(self, layers: Layers) -> Layers:
        return descent(self.step, layers)

    def _flow(self, state: State, until: int, lr: float) -> State:
        """All steps of the integrator that end by ``until · lr``; ``weights`` integrates the remaining time."""
        if state.step == 0:
            state = self._record(state)
        weights, learned = tuple(layer.copy() for layer in state.weights), state.learned.copy()
        time, size = state.clock.T.copy()
        alive = state.status == 0
        moving = partial(dormand_prince.moving, unit=lr)
        while (rows := np.flatnonzero(alive & (time + size <= until * lr) & moving(time, size))).size:
            before, start, h = dormand_prince.take(weights, rows), time[rows], size[rows]
            after, accepted, factor = dormand_prince.attempt(self._field, before, h)
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
        """``learned`` (n, 2, m) with the first clock step after ``time``, up to ``last``, at or above a threshold.

        Looked for where ``beyond`` says so, by bisection with side steps from ``weights`` at ``time``.
        """
        learned, lr = learned.copy(), self.step.lr
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
        there = dormand_prince.land(self._field, weights, time, size, end, self.step.lr)
        return self._strengths(there)[:, mode]


# --- sources of the gradient of the map


def _mean(engine: Reference, now: Now) -> Array:
    return now.error @ engine.root.T


def _sampled(engine: Reference, now: Now) -> Array:
    """The gradient on a batch."""
    step = engine.step
    if engine.finite:
        k = engine.finite.gradient(now.error, now.state.step, now.state.order, now.streams)
    else:
        k = _batch(now.error, step.data.label_noise, int(step.batch), now.streams)
    return np.asarray(k @ engine.root.T)


def _noisy(engine: Reference, now: Now) -> Array:
    return np.asarray((now.error + engine.noise(now)) @ engine.root.T)


def _aligned(engine: Reference, now: Now) -> Array:
    """The noise that falls on the modes alone."""
    noise = engine.noise(now) @ engine.root.T
    return np.asarray(now.error @ engine.root.T + noise * np.eye(*noise.shape[1:], dtype=noise.dtype))


SOURCES: dict[str, Callable[[Reference, Now], Array]] = {
    "gd": _mean,
    "sgd": _sampled,
    "gradient": _noisy,
    "aligned": _aligned,
    "isotropic": _mean,
}
"""Ḡ (n, dy, dx) of every discrete method."""


def _batch(error: Array, label_noise: float, batch_size: int, streams: Streams) -> Array:
    """K of an exact batch: ``(E C − σZ) Cᵀ / B``, inputs ``R C``; for B ≥ r any C with Wishart ``C Cᵀ`` does.

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
    return mixed @ transposed(factor) / batch_size


def _gaussian(error: Array, label_noise: float, draw: Draw) -> Array:
    """Noise of one sample's K: ``E H − σZ``, H symmetric with variance 1 off and 2 on the diagonal."""
    count, rank = len(error), error.shape[2]
    rows, columns = np.tril_indices(rank)
    half = np.zeros((count, rank, rank), error.dtype)
    half[:, rows, columns] = draw(len(rows))
    symmetric = half + transposed(half)
    np.einsum("nii->ni", symmetric)[:] *= math.sqrt(0.5)
    noise = error @ symmetric
    if label_noise > 0:
        noise = noise - label_noise * draw(error[0].size).reshape(error.shape)
    return noise


def _given(normals: Array, dtype: str) -> Draw:
    """Returns given normals (n, normals_per_step) in place of drawn ones."""
    used = 0

    def draw(count: int) -> Array:
        nonlocal used
        used += count
        return normals[:, used - count : used].astype(dtype)

    return draw
