"""What a run will take: disk and memory counted, time measured on its first steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

from saddlescope import results
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulate import COMMIT_BYTES, make_engine
from saddlescope.store import checkpoint_bytes, saves_bytes

MEASURED_SECONDS = 0.3


@dataclass(frozen=True)
class Size:
    """Bytes of the saves of a run (before compression) and of a checkpoint."""

    saves: int
    checkpoint: int

    @property
    def memory(self) -> int:
        """Bytes of memory beyond Python's own, for a run that is written to a store."""
        return 3 * self.checkpoint + min(self.saves, COMMIT_BYTES)

    def __str__(self) -> str:
        total, checkpoint = in_bytes(self.saves + self.checkpoint), in_bytes(self.checkpoint)
        return f"store at most {total}, of that the checkpoint {checkpoint}"


def size(problem: Problem, method: Method, plan: Plan) -> Size:
    """How large a run will be.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> size(problem, GD(lr=0.1), Plan(steps=10, saves=10))
    Size(saves=5544, checkpoint=112)
    """
    return Size(saves_bytes(problem, plan), checkpoint_bytes(problem, method, plan))


def seconds(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> float:
    """How long a run will take on this machine, from one save and ever longer blocks of first steps.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> seconds(problem, GD(lr=0.1), Plan(steps=10, saves=10), engine="reference") > 0
    True
    """
    made = make_engine(engine, problem, method, plan)
    state = made.init()
    began = time.perf_counter()
    results.record(made, problem, plan, state)
    save = time.perf_counter() - began
    steps, spent = 1, 0.0
    while spent < MEASURED_SECONDS and state.step < plan.steps:
        steps = min(2 * steps, plan.steps - state.step)
        began = time.perf_counter()
        state = made.advance(state, state.step + steps)
        spent = time.perf_counter() - began
    return plan.steps * spent / steps + len(plan.save_steps) * save


def in_time(seconds: float) -> str:
    """A time span in words.

    >>> in_time(0.5), in_time(100), in_time(4000), in_time(1e6)
    ('less than a second', 'about 100 s', 'about 67 min', 'about 278 h')
    """
    if seconds < 1:
        return "less than a second"
    unit, per = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"about {seconds / per:.0f} {unit}"


def in_bytes(count: float) -> str:
    """A number of bytes in words.

    >>> in_bytes(500), in_bytes(2_500_000), in_bytes(7e15)
    ('500 B', '2.5 MB', '7e+03 TB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
