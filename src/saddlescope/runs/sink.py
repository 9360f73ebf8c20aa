"""Where a run is kept while it is simulated: in memory, or in a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import xarray as xr

from saddlescope.engines.state import State
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import Frame, fill, joined_saves, saved
from saddlescope.runs.statistics import Record
from saddlescope.runs.variables import shapes

COMMIT_BYTES = 128 << 20
"""Bytes of saves after which they are committed."""


class Sink(Protocol):
    """Takes the saves of a run and the state from which it can be resumed."""

    state: State
    stored: bool
    """Whether what is committed outlives the process."""

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, up to this state."""
        ...

    def dataset(self) -> xr.Dataset:
        """The run so far."""
        ...

    def close(self) -> None:
        """Release what the sink holds."""
        ...


class Memory:
    """A run in memory."""

    stored = False

    def __init__(self, frame: Frame, problem: Problem, plan: Plan, state: State, records: Sequence[Record]) -> None:
        self._frame, self._problem, self._plan = frame, problem, plan
        self._arrays = {name: np.full(shape, np.nan) for name, shape in shapes(problem, plan).items()}
        self._done = 0
        self.commit(state, records)

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, up to this state."""
        end = saved(self._plan, state)
        for name in self._arrays if records else ():
            self._arrays[name][:, self._done : end] = joined_saves(records, name)
        self._done, self.state = end, state

    def dataset(self) -> xr.Dataset:
        """The run so far."""
        arrays = {name: values[:, : self._done] for name, values in self._arrays.items()}
        return fill(self._frame, arrays, self._problem, self._plan, self.state)

    def close(self) -> None:
        """Nothing is held."""
