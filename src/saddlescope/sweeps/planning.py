"""What a sweep will take: time from a few of its runs, measured here, memory and disk from shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from saddlescope._memory import in_bytes
from saddlescope.simulation import estimate
from saddlescope.sweeps.setup import Setup

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


def needs(setup: Setup) -> Needs:
    """The needs of a sweep. A run that cannot be made takes nothing.

    Values that a function keeps are not known before the first run, and are left out of the store.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init
    >>> from saddlescope.sweeps.setup import setup_of
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> needs(setup_of((problem, GD(lr=0.1), Plan(steps=10)), {"plan.seed": range(50)})).runs
    50
    """
    size, seconds, memory = setup.grid.size, [0.0], [0]
    places = np.unique(np.linspace(0, size - 1, SAMPLED).astype(np.int64))
    for index in places:
        try:
            problem, method, plan = setup.grid.parts(setup.base, int(index))
            alone = replace(plan, threads=1)
            seconds.append(FIXED_SECONDS + estimate.seconds(problem, method, alone, setup.engine))
            memory.append(estimate.size(problem, method, alone, setup.engine).memory(stored=False))
        except (TypeError, ValueError):
            continue
    arrays, _ = setup.schema or ({}, {})
    values = 8 * sum(math.prod(array.shape) for array in arrays.values())
    return Needs(size, size * sum(seconds) / len(places), max(memory), size * (values + RECORD_BYTES))
