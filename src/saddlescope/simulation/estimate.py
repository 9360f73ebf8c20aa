"""What a run will take: disk and memory from the shapes of its arrays, time from a few members and first steps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saddlescope import _threads
from saddlescope._memory import in_bytes, require
from saddlescope.data.base import data_bytes
from saddlescope.engines import chosen, make_engine
from saddlescope.engines import correlator as accumulate
from saddlescope.engines.step import ORDERED
from saddlescope.methods import Method
from saddlescope.networks.model import is_model
from saddlescope.observables import THRESHOLDS
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import kept, record
from saddlescope.runs.sink import COMMIT_BYTES
from saddlescope.runs.variables import sizes, variables

LANES, WIDE_LANES = 8, 128
"""Most trajectories that a thread of the kernel, or a device of JAX, advances together."""

LISTED = 160
"""Bytes of memory that a save takes in the list of saves."""

MEASURED_SECONDS, MEASURED_MEMBERS = 0.3, 256


@dataclass(frozen=True)
class Size:
    """Bytes of the saves of a run (uncompressed), of the list of saves, of a checkpoint, and of the engine at work."""

    saves: int
    listed: int
    checkpoint: int
    engine: int

    def memory(self, stored: bool = True) -> int:
        """Bytes of memory that a run needs beyond those of Python, when it is written to a store or kept in memory."""
        return self.kept(stored) + 3 * self.checkpoint + self.engine

    def kept(self, stored: bool) -> int:
        """Bytes of memory for saves."""
        return self.listed + (min(self.saves, COMMIT_BYTES) if stored else self.saves)

    def __str__(self) -> str:
        total, checkpoint = in_bytes(self.saves + self.checkpoint), in_bytes(self.checkpoint)
        return f"store at most {total}, of that the checkpoint {checkpoint}"


def size(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> Size:
    """The size of a run, computed before anything is allocated.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> size(problem, GD(lr=0.1), Plan(steps=10, saves=10)).saves
    5544
    """
    if is_model(problem.network):
        return _size_of_model(problem, method, plan)
    layers = problem.network.parameters * np.dtype(plan.dtype).itemsize * (2 if method.momentum else 1)
    trajectories = layers + _registers(problem, method, plan)
    modes = min(problem.data.dim_in, problem.data.dim_out)
    histogram = 8 * modes * (plan.accumulate.bins + 2) if plan.accumulate else 0
    return Size(
        saves=plan.most_saves * _save_bytes(problem, plan),
        listed=LISTED * plan.most_saves,
        checkpoint=plan.count * trajectories + histogram,
        engine=_scratch(problem, plan, chosen(engine, problem.network)) + data_bytes(problem.data),
    )


def _size_of_model(problem: Problem, method: Method, plan: Plan) -> Size:
    """Of a Model: its leaves and the state of the optimizer, of every member; the engine holds them twice."""
    word = np.dtype(plan.dtype).itemsize
    weights = problem.network.parameters * word
    carried = weights * (1 + method.states) + 8 * 8
    data: Any = problem.data
    samples = int(data.X.nbytes + data.Y.nbytes)
    return Size(
        saves=plan.most_saves * _save_bytes(problem, plan),
        listed=LISTED * plan.most_saves,
        checkpoint=plan.count * carried,
        engine=2 * plan.count * carried + 4 * samples,
    )


def _registers(problem: Problem, method: Method, plan: Plan) -> int:
    """Bytes per trajectory of a checkpoint without the weights: the other fields of ``State``."""
    modes, word = min(problem.data.dim_in, problem.data.dim_out), np.dtype(plan.dtype).itemsize
    learned_and_peak, words, status, clock = 8 * modes * (len(THRESHOLDS) + 4), 4 * word, 8, 16
    samples = problem.data.samples if method.source == "sgd" and method.sampling in ORDERED else 0
    correlator = 8 * modes * plan.accumulate.levels * accumulate.ROW if plan.accumulate else 0
    return words + status + learned_and_peak + clock + 4 * samples + correlator


def _save_bytes(problem: Problem, plan: Plan) -> int:
    """Bytes of one save."""
    lengths = sizes(problem, plan) | {"time": 1}
    kept = variables(problem, plan).values()
    return sum(8 * math.prod(lengths[dim] for dim in variable.dims) for variable in kept)


def _scratch(problem: Problem, plan: Plan, engine: str) -> int:
    """Bytes of the engine's work arrays; in the kernel each busy thread holds those of LANES trajectories."""
    each = 4 * problem.network.parameters + max(problem.network.widths) ** 2
    busy = min(plan.threads or _threads.available(), -(-plan.count // LANES))
    if engine == "jax":  # all members on the device, and the work of its chunks
        return 2 * 8 * problem.network.parameters * plan.count + 8 * WIDE_LANES * each * busy
    return 2 * 8 * each * plan.count if engine == "reference" else 8 * LANES * each * busy


def check_memory(problem: Problem, method: Method, plan: Plan, stored: bool = True, engine: str = "auto") -> None:
    """Raise ValueError when a run needs more memory than is available, where that is known.

    ``stored``: whether the run is written to a store; otherwise all of its saves stay in memory.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> check_memory(problem, GD(lr=0.1), Plan(steps=10))
    """
    needs = size(problem, method, plan, engine)
    if is_model(problem.network):
        require(needs.memory(stored), "the run", f"lower trajectories (now {plan.count:,}), saves, or keep")
        return
    ensemble, widest = f"trajectories (now {plan.count:,})", f"widths (now at most {max(problem.network.widths):,})"
    _, largest = max(
        (3 * needs.checkpoint, ensemble),
        (needs.kept(stored), f"saves (now {plan.most_saves:,}), trajectories, or keep"),
        (needs.engine, ensemble if chosen(engine, problem.network) == "reference" else f"threads, or {widest}"),
    )
    require(needs.memory(stored), "the run", f"lower {largest}")


def sample(plan: Plan) -> Plan:
    """The plan with the first few members only, for which time is measured."""
    few = min(plan.count, MEASURED_MEMBERS)
    return replace(plan, trajectories=few, members=plan.members[:few] if plan.members else tuple(range(few)))


def seconds(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> float:
    """Seconds that a run will take on this machine.

    Measured on at most 256 members, from one save and blocks of first steps that double in length, and scaled to the
    ensemble, its steps and its saves.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> seconds(problem, GD(lr=0.1), Plan(steps=10, saves=10), engine="reference") > 0
    True
    """
    part = sample(plan)
    few = part.count
    made = make_engine(engine, problem, method, part)
    state = made.init()
    began = time.perf_counter()
    kept(made, [record(made, part, state)], problem, part)
    save = time.perf_counter() - began
    steps, spent = 1, 0.0
    while spent < MEASURED_SECONDS and state.step < plan.steps:
        steps = min(2 * steps, plan.steps - state.step)
        began = time.perf_counter()
        state = made.advance(state, state.step + steps)
        spent = time.perf_counter() - began
    return plan.count / few * (plan.steps * spent / steps + len(plan.save_steps) * save)


def in_time(seconds: float) -> str:
    """A time span in words.

    >>> in_time(0.5), in_time(100), in_time(4000), in_time(1e6)
    ('less than a second', 'about 100 s', 'about 67 min', 'about 278 h')
    """
    if seconds < 1:
        return "less than a second"
    unit, per = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"about {seconds / per:.0f} {unit}"
