"""What a sweep keeps of each run: picks, which select entries of its variables by label or position.

Where runs differ in size, values are padded with NaN to the largest; a label or a position that a run lacks gives NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope._numbers import python_number, shown
from saddlescope._parts import allowed
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.variables import coordinates
from saddlescope.simulation.measured import measured
from saddlescope.sweeps.layout import Forms

SAVE = "save"
"""Dim of the saves in a sweep, whose times differ from run to run."""


@dataclass(frozen=True)
class Pick:
    """A variable of a run, reduced to the labels ``sel`` and the positions ``isel`` along its dims.

    ``sel`` maps a dim to a label or a list of labels, ``isel`` to a position, a list of positions (−1 is the last) or a
    slice. A single one drops the dim. Saves are selected by position: their times differ from run to run.
    Raises TypeError or ValueError naming the argument at fault.

    >>> Pick("mode_strength", sel={"statistic": "mean"}, isel={"time": -1}).variable
    'mode_strength'
    """

    variable: str
    sel: Mapping[str, Any] = field(default_factory=dict)
    isel: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.variable, str):
            raise TypeError(f"variable must be a name such as 'loss', got {shown(self.variable)}")
        for name, given in (("sel", self.sel), ("isel", self.isel)):
            if not isinstance(given, Mapping) or not all(isinstance(dim, str) for dim in given):
                raise TypeError(f"{name} must map dims to entries, such as {{'mode': 0}}, got {shown(given)}")
        if twice := [dim for dim in self.sel if dim in self.isel]:
            raise ValueError(f"sel and isel both select along {twice[0]!r}; leave one out")
        if "time" in self.sel:
            raise ValueError("sel must not hold 'time', which differs from run to run; use isel={'time': -1}")
        for name, given in (("sel", self.sel), ("isel", self.isel)):
            if empty := [dim for dim, entry in given.items() if np.size(_bounds(entry) or entry) == 0]:
                raise ValueError(
                    f"{name} of {empty[0]!r} must hold at least one entry, got none; leave {empty[0]!r} out"
                )
        for dim, entry in self.sel.items():
            if not all(isinstance(one, (str, int, float)) for one in _entries(entry)):
                raise TypeError(f"sel of {dim!r} must be a label or a list of labels, got {shown(entry)}; slices: isel")
        for dim, entry in self.isel.items():
            bounds = _bounds(entry)
            if bounds and bounds[2] == 0:
                raise ValueError(
                    f"isel of {dim!r} must not be a slice with the step 0, got {shown(entry)}; use 1 or -1"
                )
            if not all(type(one) is int or (bounds and one is None) for one in bounds or _entries(entry)):
                raise TypeError(
                    f"isel of {dim!r} must be a whole number, a list of them or a slice, got {shown(entry)}"
                )

    @cached_property
    def chosen(self) -> dict[str, tuple[bool, Any]]:
        """By dim, whether it is dropped, and what is chosen along it: a slice, or a list of entries."""
        return {
            dim: (False, entry) if isinstance(entry, slice) else (_single(entry), _entries(entry))
            for dim, entry in (*self.sel.items(), *self.isel.items())
        }

    def where(self, dim: str, length: int, labels: NDArray[Any] | None) -> NDArray[np.int64]:
        """Positions along a dim of this length that are kept; −1 for an entry that the run lacks."""
        _, entries = self.chosen[dim]
        if isinstance(entries, slice):
            return np.arange(length)[entries]
        if dim in self.isel:
            return np.array([one % length if -length <= one < length else -1 for one in entries], np.int64)
        known = list(range(length)) if labels is None else labels.tolist()
        return np.array([known.index(one) if one in known else -1 for one in entries], np.int64)

    def table(self) -> dict[str, Any]:
        """As a table of TOML; slices as text."""
        kept = {"sel": self.sel, "isel": self.isel}
        return {"variable": self.variable} | {
            name: {dim: str(entry) if isinstance(entry, slice) else _bare(entry) for dim, entry in one.items()}
            for name, one in kept.items()
            if one
        }


def _single(entry: Any) -> bool:
    return isinstance(entry, str) or np.ndim(entry) == 0


def _bounds(entry: Any) -> tuple[Any, ...]:
    """Start, stop and step of a slice, with Python's numbers; empty for anything else."""
    if not isinstance(entry, slice):
        return ()
    return tuple(map(python_number, (entry.start, entry.stop, entry.step)))


def _bare(entry: Any) -> Any:
    return python_number(entry) if _single(entry) else _entries(entry)


def _entries(entry: Any) -> list[Any]:
    return [python_number(one) for one in ([entry] if _single(entry) else entry)]


@dataclass(frozen=True, eq=False)
class Found:
    """What is kept of one run: values in the order of their names, and whether a trajectory diverged."""

    values: tuple[Floats, ...]
    diverged: bool


@dataclass(frozen=True, eq=False)
class Picks:
    """Picks by the names under which they are kept."""

    picks: Mapping[str, Pick]

    def of(self, problem: Problem, method: Method, plan: Plan, engine: str, forms: Forms) -> Found:
        """What is kept of one run, padded to the shapes of these forms."""
        run, known = measured(problem, method, plan, engine), _Labels(problem, plan)
        values = []
        for name, pick in self.picks.items():
            if pick.variable not in run.values:
                values.append(np.full(forms[name].shape, np.nan))
                continue
            here = taken(pick, run.values[pick.variable], run.dims[pick.variable], known)
            values.append(padded(here, forms[name].shape))
        return Found(tuple(values), bool((run.status != 0).any()))

    def table(self) -> dict[str, Any]:
        """As tables of TOML."""
        return {name: pick.table() for name, pick in self.picks.items()}


class _Labels:
    """Labels along the dims of a run, found when they are needed."""

    def __init__(self, problem: Problem, plan: Plan) -> None:
        self._run = problem, plan

    @cached_property
    def _all(self) -> dict[str, NDArray[Any]]:
        return coordinates(*self._run)

    def __getitem__(self, dim: str) -> NDArray[Any] | None:
        return self._all.get(dim)


def taken(pick: Pick, values: NDArray[Any], dims: tuple[str, ...], labels: Any) -> Floats:
    """What a pick keeps of a variable."""
    kept = np.asarray(values, np.float64)
    for axis in reversed(range(len(dims))):
        if (dim := dims[axis]) not in pick.chosen:
            continue
        drop, _ = pick.chosen[dim]
        where = pick.where(dim, kept.shape[axis], labels[dim] if dim in pick.sel else None)
        if kept.shape[axis]:
            kept = kept.take(where, axis)
            kept[(slice(None),) * axis + (where < 0,)] = np.nan
        else:
            kept = np.full((*kept.shape[:axis], len(where), *kept.shape[axis + 1 :]), np.nan)
        kept = kept[(slice(None),) * axis + (0,)] if drop else kept
    return kept


def padded(values: Floats, shape: tuple[int, ...]) -> Floats:
    """Values with NaN behind them along every dim, up to this shape.

    >>> padded(np.array([1.0, 2.0]), (3,))
    array([ 1.,  2., nan])
    """
    if values.shape == shape:
        return values
    wide = np.full(shape, np.nan)
    wide[tuple(map(slice, values.shape))] = values
    return wide


def picks_of(reduce: Any) -> dict[str, Pick]:
    """Picks by name, from a name, a list of names, or a mapping of names to picks, names or tables.

    Raises TypeError or ValueError naming what is wrong.

    >>> picks_of(["loss"]), picks_of({"end": {"variable": "loss", "isel": {"time": -1}}})["end"].isel
    ({'loss': Pick(variable='loss', sel={}, isel={})}, {'time': -1})
    """
    if isinstance(reduce, (str, Pick)):
        reduce = [reduce]
    if isinstance(reduce, (list, tuple)):
        names = [getattr(one, "variable", one) for one in reduce]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"reduce names {shown(twice[0])} twice; leave one out, or give each a name, such as "
                "{'first': Pick(…), 'last': Pick(…)}"
            )
        reduce = {_name(name): one for name, one in zip(names, reduce, strict=True)}
    if not isinstance(reduce, Mapping):
        raise TypeError(
            "reduce must be a name, a list of names, a mapping of names to picks such as "
            f"Pick('loss', isel={{'time': -1}}), or a function of a run, got {shown(reduce)}"
        )
    if not reduce:
        raise ValueError("reduce must keep at least one variable, got none; leave it out to keep all at the last save")
    return {_name(name): _pick(name, one) for name, one in reduce.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"reduce must give names that are words, got {shown(name)}; rename it")
    return name


def _pick(name: str, given: Any) -> Pick:
    try:
        if isinstance(given, Mapping):
            for key in given:
                if key not in ("variable", "sel", "isel"):
                    raise TypeError(f"there is no {key!r}; {allowed(str(key), ('variable', 'sel', 'isel'))}")
            return Pick(**{"variable": name, **given})
        return given if isinstance(given, Pick) else Pick(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"reduce {name!r}: {error}") from None
