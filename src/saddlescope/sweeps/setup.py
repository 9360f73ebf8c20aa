"""A sweep before its first run: the base run, the grid, what is kept of each run, and all of it as TOML."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from saddlescope._numbers import shown
from saddlescope._tables import parse, text_of
from saddlescope.engines import make_engine
from saddlescope.problem import Problem
from saddlescope.runfile import run_to_toml
from saddlescope.runs.run import version
from saddlescope.simulation import estimate
from saddlescope.simulation.start import begin
from saddlescope.sweeps.axes import Axis, Column, Grid, grid_of
from saddlescope.sweeps.fields import WHOLE, Base
from saddlescope.sweeps.layout import Layout
from saddlescope.sweeps.picks import Picks, picks_of
from saddlescope.sweeps.reduced import Reduction
from saddlescope.sweeps.schema import RESERVED, Schema, Shape, everything, schema, shapes_of
from saddlescope.sweeps.shared import one_blas_thread
from saddlescope.sweeps.values import as_toml
from saddlescope.sweeps.work import Job, place


@dataclass(frozen=True, eq=False)
class Setup:
    """A sweep; ``schema`` is what is kept of each run, None while only a function's first result can tell."""

    base: Base
    grid: Grid
    keep: Picks | Reduction
    engine: str
    schema: Schema | None

    @property
    def job(self) -> Job:
        """What a worker needs."""
        return Job(self.base, self.grid, self.keep, self.engine)

    @cached_property
    def toml(self) -> str:
        """The sweep as TOML, which is equal for sweeps with the same results."""
        problem, method, plan = self.base.problem, self.base.method, replace(self.base.plan, threads=None)
        tables = parse(run_to_toml(problem, method, plan, beside=True), ("method", "plan"), (*WHOLE, "network"))
        if self.base.data_table is not None and self.base.in_short_form(self.grid.paths):
            tables["data"] = dict(self.base.data_table)
        tables |= {"axes": dict(map(_axis, self.grid.axes))}
        if self.grid.derived:
            tables["derived"] = {path: formula.text for path, formula in self.grid.derived.items()}
        if self.engine != "auto":
            tables = {"engine": self.engine} | tables
        return text_of(tables | {"reduce": self.keep.table()})

    def layout(self, known: Schema) -> Layout:
        """The dataset of this sweep, before its first run.

        Raises ValueError where an axis and what is kept of a run have the same name.
        """
        arrays, along = known
        for name in (*arrays, *along):
            if name in RESERVED:
                raise ValueError(f"reduce must not name a variable {name!r}, which a sweep has itself; rename it")
        coords = self.grid.coords
        inside = {dim for array in arrays.values() for dim in array.dims}
        for name in (*coords, *self.grid.dims):
            if name in RESERVED or name in arrays or name in along or name in inside:
                raise ValueError(
                    f"axes: {name!r} is also a name in what is kept of a run; pick it under another name, or put its "
                    "field on a parameter by a formula in derived"
                )
        return Layout(self.grid.dims, self.grid.shape, {**coords, **along}, arrays, self.toml, self._attrs)

    @property
    def _attrs(self) -> dict[str, Any]:
        """How the sweep can be repeated."""
        host, instruction_set = place()
        return {
            "toml": self.toml,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "inference_library": "saddlescope",
            "inference_library_version": version(),
            "engine": self.engine,
            "instruction_set": instruction_set,
            "host": host,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }


def setup_of(base: Any, axes: Any, derived: Any = None, reduce: Any = None, engine: str = "auto") -> Setup:
    """The sweep that the arguments of ``sweep`` describe, with all that can be checked before the first run.

    Raises TypeError or ValueError naming the argument at fault.
    """
    with one_blas_thread:
        return _setup(base if isinstance(base, Base) else _base(base), grid_of(axes, derived), reduce, engine)


def _setup(base: Base, grid: Grid, reduce: Any, engine: str) -> Setup:
    grid.check(base)
    make_engine(engine, *grid.parts(base, 0))
    shapes = shapes_of(grid, base)
    _check_memory(base, shapes, engine)
    if callable(reduce):
        return Setup(base, grid, Reduction(reduce), engine, None)
    picks = everything(shapes) if reduce is None else picks_of(reduce)
    made = Setup(base, grid, Picks(picks), engine, schema(picks, shapes))
    assert made.schema is not None
    made.layout(made.schema)
    return made


def _base(given: Any) -> Base:
    """The base run, checked; TypeError unless it is a problem, a method and a plan."""
    if not isinstance(given, (tuple, list)) or len(given) != 3:
        raise TypeError(f"base must be a tuple (problem, method, plan), got {shown(given)}")
    if not isinstance(given[0], Problem):
        raise TypeError(f"problem must be such as Problem(network, data, init), got {shown(given[0])}")
    start = begin(*given)
    fresh = replace(start.problem, data=replace(start.problem.data))  # what it has computed depends on threads of BLAS
    return Base(fresh, start.method, start.plan)


def _check_memory(base: Base, shapes: Sequence[Shape], engine: str) -> None:
    """Raise ValueError where the largest runs do not fit in memory."""
    sizes = (
        lambda one: one.plan.count * one.problem.network.parameters,
        lambda one: one.plan.count * one.plan.most_saves,
    )
    for size in sizes:
        largest = max(shapes, key=size)
        estimate.check_memory(largest.problem, base.method, replace(largest.plan, threads=1), False, engine)


def _axis(axis: Axis) -> tuple[str, Any]:
    """Name and values of an axis, as in a table of TOML."""
    if len(axis.columns) == 1 and axis.dim == axis.columns[0].name:
        return axis.columns[0].path, _values(axis.columns[0])
    return axis.dim, {column.path: _values(column) for column in axis.columns}


def _values(column: Column) -> Any:
    values = [as_toml(value) for value in column.values]
    if column.path in WHOLE:
        return dict(zip(map(str, column.labels), values, strict=True))
    return values
