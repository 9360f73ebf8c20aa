"""What picks give of every run of a sweep, known from problems and plans before the first run.

Only fields that can change the size of a run are looked at, in all their combinations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._parts import allowed
from saddlescope.observables import Variable
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.swept import RECORD, SUMS
from saddlescope.runs.variables import COORDINATES, coordinates, happenings, lengths, variables
from saddlescope.sweeps.axes import Grid
from saddlescope.sweeps.fields import Base
from saddlescope.sweeps.layout import Array, Coordinate
from saddlescope.sweeps.picks import SAVE, Pick

RESERVED = (*RECORD, SUMS)
"""Names in a sweep that cannot be those of a pick."""

Schema = tuple[dict[str, Array], dict[str, Coordinate]]
"""Arrays by name, and the coordinates along their own dims."""

_SIZELESS = ("plan.seed", "plan.dtype", "data.label_noise", "data.seed")
"""Fields of the plan and the data that change no size."""


@dataclass(frozen=True, eq=False)
class Shape:
    """The variables of a run, and what is along their dims."""

    problem: Problem
    plan: Plan

    @cached_property
    def variables(self) -> dict[str, Variable]:
        """All that can be picked."""
        saves = {name: COORDINATES[name] for name in ("step", "time")}
        return variables(self.problem, self.plan) | happenings(self.problem, self.plan) | saves

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Length of every dim."""
        return lengths(self.problem, self.plan)

    @cached_property
    def labels(self) -> dict[str, NDArray[Any]]:
        """Values of the coordinates."""
        return coordinates(self.problem, self.plan)


def shapes_of(grid: Grid, base: Base) -> list[Shape]:
    """One run for each combination of the fields that can change sizes."""
    runs = grid.varied(lambda path: path.startswith(("network", "data", "plan")) and path not in _SIZELESS)
    return [Shape(problem, plan) for problem, _, plan in (grid.parts(base, int(index)) for index in runs)]


def everything(shapes: Iterable[Shape]) -> dict[str, Pick]:
    """Every variable of the runs at its last save; the divergence steps are named ``divergence_step``."""
    found = {name: one for shape in shapes for name, one in shape.variables.items() if name not in ("step", "time")}
    return {
        "divergence_step" if name == "status" else name: Pick(name, isel={"time": -1} if "time" in one.dims else {})
        for name, one in found.items()
    }


def schema(picks: Mapping[str, Pick], shapes: Sequence[Shape]) -> Schema:
    """What picks give of the runs, and the coordinates along their dims.

    Raises ValueError for a variable, a dim or an entry that no run has.
    """
    arrays, along = {}, dict[str, tuple[str, Pick]]()
    for name, pick in picks.items():
        arrays[name], dims = _array(name, pick, shapes)
        for dim in dims:
            _check_same(along.setdefault(dim, (name, pick)), (name, pick), dim)
    coords = _coords({dim: pick for dim, (_, pick) in along.items()}, shapes)
    return arrays, {name: one for name, one in coords.items() if name not in arrays}


def _array(name: str, pick: Pick, shapes: Sequence[Shape]) -> tuple[Array, list[str]]:
    """What a pick gives, and the dims of the variable that it keeps."""
    having = [shape for shape in shapes if pick.variable in shape.variables]
    if not having:
        known = tuple(dict.fromkeys(name for shape in shapes for name in shape.variables))
        raise ValueError(f"reduce {name!r}: a run has no variable {pick.variable!r}; {allowed(pick.variable, known)}")
    variable = having[0].variables[pick.variable]
    dims = variable.dims
    for other in (shape.variables[pick.variable].dims for shape in having):
        if other != dims:
            raise ValueError(
                f"reduce {name!r}: {pick.variable} has the dims {', '.join(dims)} in one run and {', '.join(other)} in "
                "another; sweep these apart"
            )
    for dim in pick.chosen:
        if dim not in dims:
            raise ValueError(f"reduce {name!r}: {pick.variable} has no dim {dim!r}; {allowed(dim, dims)}")
        _check_entries(name, pick, dim, having)
    kept = [dim for dim in dims if not pick.chosen.get(dim, (False,))[0]]
    shape = tuple(_length(pick, dim, shapes) for dim in kept)
    return Array(tuple(SAVE if dim == "time" else dim for dim in kept), shape, _attrs(variable, pick)), kept


def _attrs(variable: Variable, pick: Pick) -> dict[str, Any]:
    chosen = ", ".join(f"{dim} {entry}" for dim, entry in (*pick.sel.items(), *pick.isel.items()))
    return variable.attrs | ({"selected": f"{pick.variable} at {chosen}"} if chosen else {})


def _length(pick: Pick, dim: str, shapes: Sequence[Shape]) -> int:
    """The largest number of entries along a dim, over all runs."""
    own = [shape.lengths[dim] for shape in shapes if dim in shape.lengths]
    if dim not in pick.chosen:
        return max(own)
    _, entries = pick.chosen[dim]
    return max(len(range(length)[entries]) for length in own) if isinstance(entries, slice) else len(entries)


def _check_entries(name: str, pick: Pick, dim: str, shapes: Sequence[Shape]) -> None:
    _, entries = pick.chosen[dim]
    if isinstance(entries, slice):
        if not any(range(shape.lengths[dim])[entries] for shape in shapes):
            raise ValueError(f"reduce {name!r}: {entries} selects no entry of {dim!r} in any run; change it")
        return
    found = [pick.where(dim, shape.lengths[dim], shape.labels.get(dim)) >= 0 for shape in shapes]
    for entry, there in zip(entries, np.any(found, axis=0), strict=True):
        if not there:
            longest = max(shapes, key=lambda shape: shape.lengths[dim])
            length, labels = longest.lengths[dim], longest.labels.get(dim)
            known = f"from {-length} to {length - 1}"
            if dim in pick.sel:
                shown = [str(label) for label in (range(length) if labels is None else labels.tolist())]
                known = ", ".join(shown[:12]) + ", …" * (len(shown) > 12)
            raise ValueError(f"reduce {name!r}: no run has {dim} = {entry!r}; allowed: {known}")


def _check_same(one: tuple[str, Pick], other: tuple[str, Pick], dim: str) -> None:
    """Raise ValueError where two picks keep different entries of a dim."""
    if one[1].chosen.get(dim) != other[1].chosen.get(dim):
        raise ValueError(
            f"reduce: {one[0]!r} and {other[0]!r} keep different entries of the dim {dim!r}; select the same for both, "
            "or a single one for one of them"
        )


def _coords(along: Mapping[str, Pick], shapes: Sequence[Shape]) -> dict[str, Coordinate]:
    """Coordinates along dims that are kept, where they are the same in all runs, as far as these reach."""
    found: dict[str, Coordinate] = {}
    for dim, pick in along.items():
        for name, variable in COORDINATES.items():
            if variable.dims == (dim,) and name != "time":
                found |= _coordinate(name, dim, pick, shapes, variable.attrs)
        if dim not in found and dim not in COORDINATES:
            found |= _coordinate(dim, dim, pick, shapes, {})
    return found


def _coordinate(
    name: str, dim: str, pick: Pick, shapes: Sequence[Shape], attrs: Mapping[str, Any]
) -> dict[str, Coordinate]:
    """A coordinate, by name; none where runs differ in it."""
    if name == dim and dim in pick.sel:
        return {name: ((dim,), np.array(pick.chosen[dim][1]), dict(attrs))}
    own = [_kept(shape.labels[name], dim, pick, shape) for shape in shapes if name in shape.labels]
    if not own:
        return {}
    longest = max(own, key=len)
    for values in own:
        if not np.array_equal(values, longest[: len(values)]) or (name != dim and len(values) < len(longest)):
            return {}
    return {name: ((SAVE if dim == "time" else dim,), longest, dict(attrs))}


def _kept(values: NDArray[Any], dim: str, pick: Pick, shape: Shape) -> NDArray[Any]:
    if dim not in pick.chosen:
        return values
    where = pick.where(dim, shape.lengths[dim], shape.labels.get(dim))
    return values[where[where >= 0]]
