"""The axes of a sweep: which fields take which values, and the run at every point of the grid.

Axes are crossed. An axis with several columns changes several fields together (zipped). A column is a field of the run,
a part of it as a whole, or a parameter without a field, which ``derived`` formulas use. The name of a coordinate is the
last part of its path. Points are numbered in C order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._numbers import shown
from saddlescope._parts import allowed
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulation.start import begin
from saddlescope.sweeps import fields
from saddlescope.sweeps.fields import WHOLE, Base
from saddlescope.sweeps.formulas import Formula
from saddlescope.sweeps.layout import Coordinate
from saddlescope.sweeps.values import MOST, labels, listed


def last(path: str) -> str:
    """The last part of a dotted path, which names its coordinate."""
    return path.rpartition(".")[2]


@dataclass(frozen=True, eq=False)
class Column:
    """The values of one field, part or parameter along an axis, and the coordinate that shows them."""

    path: str
    values: tuple[Any, ...]
    labels: NDArray[Any]

    @property
    def name(self) -> str:
        """The name of its coordinate."""
        return last(self.path)

    @property
    def is_setting(self) -> bool:
        """Whether it is a field or a part of the run, and not only a parameter."""
        return "." in self.path or self.path in WHOLE


@dataclass(frozen=True, eq=False)
class Axis:
    """One dim of a sweep: columns of equal length."""

    dim: str
    columns: tuple[Column, ...]

    @property
    def size(self) -> int:
        """Number of points along it."""
        return len(self.columns[0].values)


@dataclass(frozen=True, eq=False)
class Grid:
    """Crossed axes, and fields that follow from their coordinates by formulas.

    >>> grid = grid_of({"method.lr": [0.1, 0.2], "T": [0.01, 0.05]}, {"method.batch_size": "round(lr / T)"})
    >>> grid.dims, grid.shape, grid.settings(3)
    (('lr', 'T'), (2, 2), {'method.lr': 0.2, 'method.batch_size': 4})
    """

    axes: tuple[Axis, ...]
    derived: Mapping[str, Formula] = field(default_factory=dict)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.dim for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of runs."""
        return math.prod(self.shape)

    @cached_property
    def columns(self) -> tuple[tuple[int, Column], ...]:
        """Every column, with the number of its axis."""
        return tuple((number, column) for number, axis in enumerate(self.axes) for column in axis.columns)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every field and part that changes, derived ones included."""
        return (*(column.path for _, column in self.columns if column.is_setting), *self.derived)

    def settings(self, index: int) -> dict[str, Any]:
        """Values of the fields and parts of one run, by path, derived ones included."""
        at = np.unravel_index(index, self.shape)
        found = {column.path: column.values[at[axis]] for axis, column in self.columns if column.is_setting}
        if self.derived:
            names = {column.name: column.values[at[axis]] for axis, column in self.columns}
            found |= {path: formula.at(names) for path, formula in self.derived.items()}
        return found

    def parts(self, base: Base, index: int) -> tuple[Problem, Method, Plan]:
        """Problem, method and plan of one run; TypeError or ValueError names what it cannot have."""
        return fields.changed(base, self.settings(index))

    def where(self, index: int) -> str:
        """The coordinates of one run, for a sentence."""
        at = np.unravel_index(index, self.shape)
        return ", ".join(f"{column.name} = {column.labels[at[axis]]}" for axis, column in self.columns)

    def varied(self, matters: Callable[[str], bool]) -> NDArray[np.int64]:
        """Runs with every combination of the fields whose path matters, each once."""
        wanted = {axis for axis, column in self.columns if matters(column.path)}
        for path, formula in self.derived.items():
            wanted |= set(self._axes_of(formula)) if matters(path) else set()
        sizes = [size if axis in wanted else 1 for axis, size in enumerate(self.shape)]
        points = np.indices(sizes).reshape(len(sizes), -1)
        return np.asarray(np.ravel_multi_index(tuple(points), self.shape), np.int64)

    def _axes_of(self, formula: Formula) -> tuple[int, ...]:
        return tuple(sorted({axis for axis, column in self.columns if column.name in formula.names}))

    @cached_property
    def coords(self) -> dict[str, Coordinate]:
        """Dims, values and attributes of every coordinate, those of derived fields included."""
        found: dict[str, Coordinate] = {}
        for axis, column in self.columns:
            attrs = {"field": column.path} if column.is_setting else {}
            found[column.name] = (self.dims[axis],), column.labels, attrs
        for path, formula in self.derived.items():
            found[last(path)] = self._along(path, formula)
        return found

    def _along(self, path: str, formula: Formula) -> Coordinate:
        """A derived field, along the axes of the coordinates in its formula."""
        axes = self._axes_of(formula)
        columns = {column.name: (axes.index(axis), column) for axis, column in self.columns if axis in axes}
        points = itertools.product(*(range(self.shape[axis]) for axis in axes))
        values = [formula.at({name: one.values[at[k]] for name, (k, one) in columns.items()}) for at in points]
        shape = tuple(self.shape[axis] for axis in axes)
        attrs = {"field": path, "formula": formula.text}
        return tuple(self.dims[axis] for axis in axes), labels(values, distinct=False).reshape(shape), attrs

    def check(self, base: Base) -> None:
        """Raise ValueError or TypeError for a path that is no field, or a value along an axis that is not allowed.

        Checked are the runs along each axis, at the first point of all others.
        """
        swept = {column.path for _, column in self.columns if column.path in WHOLE}
        for path in self.paths:
            if path.split(".")[0] not in swept:
                fields.check(base, path)
        self._check_parameters(base)
        self._check_names()
        for index in self._along_axes():
            try:
                begin(*self.parts(base, index))
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"axes: the run at {self.where(index)} is not allowed: {error}") from None

    def _along_axes(self) -> Iterator[int]:
        for axis, size in enumerate(self.shape):
            yield from (math.prod(self.shape[axis + 1 :]) * k for k in range(size))

    def _check_parameters(self, base: Base) -> None:
        """Raise ValueError for a parameter that no formula uses, and for names and values that formulas cannot use."""
        used = {name for formula in self.derived.values() for name in formula.names}
        known = {column.name: column for _, column in self.columns}
        for path, formula in self.derived.items():
            for name in formula.names:
                if name not in known:
                    raise ValueError(f"derived {path!r}: there is no coordinate {name!r}; {allowed(name, known)}")
                if known[name].labels.dtype.kind not in "iuf" or not isinstance(known[name].values[0], (int, float)):
                    raise ValueError(f"derived {path!r}: the values of {name!r} are no numbers; use another coordinate")
        for _, column in self.columns:
            if not column.is_setting and column.name not in used:
                raise ValueError(
                    f"axis {column.path!r} is no field of the run, and no formula in derived uses it; name a field "
                    f"such as 'method.lr'{fields.nearest(base, column.path)}"
                )

    def _check_names(self) -> None:
        """Raise ValueError where two columns have the same path or the same coordinate."""
        taken: dict[str, str] = {}
        for path in (*(column.path for _, column in self.columns), *self.derived):
            if (other := taken.setdefault(last(path), path)) != path:
                raise ValueError(
                    f"axes: {other!r} and {path!r} would both be the coordinate {last(path)!r}; replace one by a "
                    f"parameter: axes={{'x': values}}, derived={{{path!r}: 'x'}}"
                )
        given = [*(column.path for _, column in self.columns), *self.derived]
        if twice := [path for path in given if given.count(path) > 1]:
            raise ValueError(f"axes: {twice[0]!r} is given twice; leave one out")
        for axis in self.axes:
            if axis.dim in taken and not any(column.name == axis.dim for column in axis.columns):
                raise ValueError(
                    f"axes: the zipped axis {axis.dim!r} has the name of the coordinate of {taken[axis.dim]!r}; "
                    "rename the axis"
                )


def grid_of(axes: Any, derived: Any = None) -> Grid:
    """The grid that the arguments of ``sweep`` describe; its fields are checked by ``Grid.check``.

    Raises TypeError or ValueError naming the axis at fault.
    """
    if not isinstance(axes, Mapping):
        raise TypeError(f"axes must map fields to values, such as {{'method.lr': [1e-3, 1e-2]}}, got {shown(axes)}")
    if not axes:
        raise ValueError("axes must name at least one field, such as {'method.lr': [1e-3, 1e-2]}, got none")
    grid = Grid(tuple(_axis(key, given) for key, given in axes.items()), _formulas(derived))
    if len(set(grid.dims)) < len(grid.dims):
        twice = next(dim for dim in grid.dims if grid.dims.count(dim) > 1)
        raise ValueError(
            f"axes: two have the name {twice!r}; replace one by a parameter with a formula in derived, or zip them "
            "under another name"
        )
    if grid.size > MOST:
        raise ValueError(f"axes give {grid.size:,} runs, allowed are {MOST:,}; use fewer values")
    return grid


def _formulas(derived: Any) -> dict[str, Formula]:
    if derived is None:
        return {}
    if not isinstance(derived, Mapping):
        raise TypeError(
            "derived must map fields to formulas, such as {'method.batch_size': 'round(lr / T)'}, got "
            f"{shown(derived)}"
        )
    for path in derived:
        if not isinstance(path, str) or "." not in path:
            raise ValueError(f"derived must name fields such as 'method.batch_size', got {shown(path)}")
    found = {}
    for path, text in derived.items():
        try:
            found[path] = text if isinstance(text, Formula) else Formula(text)
        except (TypeError, ValueError) as error:
            raise type(error)(f"derived {path!r}: {error}") from None
    return found


def _axis(key: Any, given: Any) -> Axis:
    if not isinstance(key, str) or not all(part.isidentifier() for part in key.split(".")):
        raise ValueError(f"axes must name fields such as 'method.lr', or parameters such as 'T', got {shown(key)}")
    if not isinstance(given, Mapping) or key in WHOLE:
        return Axis(last(key), (_column(key, given, distinct=True),))
    if "." in key:
        raise TypeError(
            f"axis {key!r} must be a list of values, got a mapping; fields that change together stand under a name "
            "without a dot"
        )
    if not given:
        raise ValueError(f"axis {key!r} must hold at least one field, got none")
    columns = tuple(_column(path, values, distinct=False) for path, values in given.items())
    lengths = {column.path: len(column.values) for column in columns}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{path} {length:,}" for path, length in lengths.items())
        raise ValueError(f"axis {key!r} must have lists of equal length, got {counted}; give each as many values")
    return Axis(key, columns)


def _column(path: Any, given: Any, distinct: bool) -> Column:
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"axes must name fields such as 'method.lr', got {shown(path)}")
    if path in WHOLE and isinstance(given, Mapping):
        return Column(path, tuple(given.values()), np.array(list(map(str, given)), object))
    values = listed(path, given)
    if not ("." in path or path in WHOLE):
        _check_numbers(path, values)
    if distinct:
        _check_distinct(path, values)
    return Column(path, values, labels(values))


def _check_numbers(path: str, values: Collection[Any]) -> None:
    if path in ("plan", "problem"):
        fix = "'plan.steps'" if path == "plan" else "'data' or 'network.widths'"
        raise ValueError(f"axis {path!r} cannot be exchanged as a whole; use its parts and fields, such as {fix}")
    for value in values:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(
                f"axis {path!r} is a parameter, whose values must be finite numbers, got {shown(value)}; a field has a "
                "dot, such as 'method.lr'"
            )


def _check_distinct(path: str, values: Collection[Any]) -> None:
    seen = set()
    for value in values:
        try:
            new = value not in seen
            seen.add(value)
        except TypeError:  # arrays
            continue
        if not new:
            raise ValueError(
                f"axis {path!r} holds {shown(value)} twice; leave one out, or repeat runs by an axis of 'plan.seed'"
            )
