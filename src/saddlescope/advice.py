"""What deserves a warning before a run starts: each with its number, none stops the run."""

from __future__ import annotations

from collections.abc import Iterator

from saddlescope.engines.protocol import Engine, State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem


def on_run(problem: Problem, method: Method, plan: Plan, engine: Engine, state: State) -> Iterator[str]:
    """Sentences on what is likely to go wrong in this run."""
    yield from ()
