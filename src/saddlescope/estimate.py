"""What a run will take: time measured on its first steps, memory and disk counted."""

from __future__ import annotations

import time
from dataclasses import dataclass

from saddlescope import results
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulate import COMMIT_BYTES, make_engine
from saddlescope.store import store_bytes

MEASURED_SECONDS = 0.3


@dataclass(frozen=True)
class Estimate:
    """Seconds; bytes of memory beyond Python's own, of the saves (not compressed) and of a checkpoint."""

    seconds: float
    memory: int
    saves: int
    checkpoint: int

    def __str__(self) -> str:
        return (
            f"time about {duration(self.seconds)}, memory about {size(self.memory)}, store at most "
            f"{size(self.saves + self.checkpoint)} (of that the checkpoint {size(self.checkpoint)})"
        )


def estimate(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> Estimate:
    """What ``simulate(problem, method, plan)`` will take on this machine.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> estimate(problem, GD(lr=0.1), Plan(steps=10, saves=10), engine="reference").saves > 0
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
    checkpoint, saves = len(state.to_bytes()), store_bytes(problem, plan)
    return Estimate(
        seconds=plan.steps * spent / steps + len(plan.save_steps) * save,
        memory=3 * checkpoint + min(saves, COMMIT_BYTES),
        saves=saves,
        checkpoint=checkpoint,
    )


def duration(seconds: float) -> str:
    """A time span in words.

    >>> duration(0.5), duration(100), duration(4000), duration(1e6)
    ('less than a second', '100 s', '67 min', '278 h')
    """
    if seconds < 1:
        return "less than a second"
    unit, per = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"{seconds / per:.0f} {unit}"


def size(count: int) -> str:
    """A number of bytes in words.

    >>> size(500), size(2_500_000)
    ('500 B', '2.5 MB')
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, {"B": "kB", "kB": "MB", "MB": "GB", "GB": "TB"}[unit]
    return f"{amount:.3g} {unit}"
