"""What a sweep will take: time from a few of its runs, measured here, memory and disk from shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from saddlescope._memory import in_bytes
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulation import estimate
from saddlescope.sweeps.layout import Layout

SAMPLED = 8
"""Runs that are measured, spread evenly over the grid."""

FIXED_SECONDS = 0.003
"""Time of a run beside its steps and saves."""

RECORD_BYTES = 64
"""Bytes of a run in a store beside its values: status, digest, seconds, message."""


@dataclass(frozen=True)
class Needs:
    """Number of runs, processor time of all, memory of one run at a time, bytes of the store before compression."""

    runs: int
    seconds: float
    memory: int
    store: int

    def on(self, workers: int) -> str:
        """In words, for this number of workers.

        >>> Needs(400, 800.0, 10**8, 10**6).on(2)
        '400 runs, time about 7 min on 2 workers, memory about 100 MB each, store at most 1 MB'
        """
        takes = estimate.in_time(self.seconds / min(workers, max(1, self.runs)))
        where, each = (f" on {workers:,} workers", " each") if workers > 1 else ("", "")
        return (
            f"{self.runs:,} runs, time {takes}{where}, memory about {in_bytes(self.memory)}{each}, "
            f"store at most {in_bytes(self.store)}"
        )


def needs(layout: Layout, parts: Callable[[int], tuple[Problem, Method, Plan]], engine: str = "auto") -> Needs:
    """The needs of a sweep; ``parts`` are problem, method and plan of a run. A run that cannot be made takes nothing.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> run = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5)), GD(lr=0.1), Plan(steps=10)
    >>> needs(Layout(("seed",), (50,), {}, {}, ""), lambda index: run).runs
    50
    """
    seconds, memory = [0.0], [0]
    places = np.unique(np.linspace(0, layout.size - 1, SAMPLED).astype(np.int64))
    for index in places:
        try:
            problem, method, plan = parts(int(index))
            alone = replace(plan, threads=1)
            seconds.append(FIXED_SECONDS + estimate.seconds(problem, method, alone, engine))
            memory.append(estimate.size(problem, method, alone, engine).memory(stored=False))
        except (TypeError, ValueError):
            continue
    values = 8 * sum(math.prod(array.shape) for array in layout.arrays.values())
    return Needs(
        runs=layout.size,
        seconds=layout.size * sum(seconds) / len(places),
        memory=max(memory),
        store=layout.size * (values + RECORD_BYTES),
    )
