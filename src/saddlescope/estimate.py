"""What a run will take: disk and memory counted from shapes, time measured on a few members and first steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from saddlescope import results
from saddlescope.engines import make_engine
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.store import COMMIT_BYTES, checkpoint_bytes, saves_bytes

MEASURED_SECONDS, MEASURED_MEMBERS = 0.3, 256


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
    """How large a run will be; counted without making its ensemble.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> size(problem, GD(lr=0.1), Plan(steps=10, saves=10))
    Size(saves=5544, checkpoint=112)
    """
    one, two = (replace(plan, trajectories=count, members=None) for count in (1, 2))
    first = saves_bytes(problem, one)
    each_other = saves_bytes(problem, two) - first
    return Size(first + (plan.count - 1) * each_other, plan.count * checkpoint_bytes(problem, method, one))


def check_memory(problem: Problem, method: Method, plan: Plan, stored: bool = True) -> None:
    """Raise ValueError when a run needs more memory than the machine has left, where that is known.

    ``stored`` says whether it is written to a store; otherwise memory takes all of its saves.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> check_memory(problem, GD(lr=0.1), Plan(steps=10))
    """
    needs, free = size(problem, method, plan), available_memory()
    needed = needs.memory if stored else 3 * needs.checkpoint + needs.saves
    if free is not None and needed > free:
        raise ValueError(
            f"memory needed {in_bytes(needed)}, available {in_bytes(free)}; "
            f"lower trajectories (now {plan.count:,}), saves, or keep"
        )


def available_memory() -> int | None:
    """Bytes that new arrays can take without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def seconds(problem: Problem, method: Method, plan: Plan, engine: str = "auto") -> float:
    """How long a run will take on this machine, from one save and ever longer blocks of first steps.

    Measured on the first 256 members at most, and scaled to all of them.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> seconds(problem, GD(lr=0.1), Plan(steps=10, saves=10), engine="reference") > 0
    True
    """
    few = min(plan.count, MEASURED_MEMBERS)
    part = replace(plan, trajectories=few, members=plan.members and plan.members[:few])
    made = make_engine(engine, problem, method, part)
    state = made.init()
    began = time.perf_counter()
    results.record(made, problem, part, state)
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
