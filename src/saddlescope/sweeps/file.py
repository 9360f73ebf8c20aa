"""Sweeps as TOML: the tables of a run, and ``[axes]``, ``[derived]`` and ``[reduce]``.

Values are a list, ``{linear = [first, last, number]}`` or ``{log = [first, last, number]}``. A table of fields under a
name without a dot is a zipped axis. Dotted names may stand in quotes or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np

from saddlescope import _files, observe
from saddlescope._numbers import as_number, as_whole, shown
from saddlescope._parts import allowed
from saddlescope._tables import OPTIONAL, data_part, from_table, parse
from saddlescope.data import Dataset, Examples, GaussianData, Moments
from saddlescope.engines import ENGINES
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.methods import METHODS
from saddlescope.networks import Network
from saddlescope.plan import Accumulate, Logspaced
from saddlescope.runfile import RUN, run_from_tables
from saddlescope.schedules import SCHEDULES
from saddlescope.sweeps.fields import ROOTS, WHOLE, Base
from saddlescope.sweeps.setup import Setup, setup_of
from saddlescope.sweeps.values import check_number

_INITS = (Gaussian, Balanced, Given)
_PARTS: tuple[type, ...] = (
    *METHODS,
    *SCHEDULES,
    *get_args(Network),
    *(GaussianData, Dataset, Moments, Examples),
    *_INITS,
    *(Logspaced, Accumulate),
    *observe.PARTS,
)
"""All that a value can be."""


def from_toml(text: str, folder: str | os.PathLike[str] = ".") -> Setup:
    """The sweep that a TOML text describes; a data set may be given by its ``path``, relative to ``folder``.

    Raises ValueError or TypeError naming the table and key at fault.

    >>> setup = from_toml('''
    ... network = {type = "DeepLinear", widths = [2, 4, 2]}
    ... data = {spectrum = [2.0, 1.0], dim_in = 2, dim_out = 2}
    ... init = {type = "Gaussian", scale = 0.1}
    ... method = {type = "SGD", lr = 0.001, batch_size = 16}
    ... plan = {steps = 1000}
    ... [axes]
    ... method.lr = {log = [1e-4, 1e-2, 3]}
    ... data.spectrum = [[2.0, 1.0], [2.0, 0.5]]
    ... ''')
    >>> setup.grid.dims, setup.grid.shape, setup.grid.parts(setup.base, 5)[0].data.modes.strengths
    (('lr', 'spectrum'), (3, 2), array([2. , 0.5]))
    """
    tables = parse(text, (*RUN, "axes"), (*OPTIONAL, "arrays", "derived", "reduce", "engine"))
    axes, derived, reduce = (tables.pop(name, None) for name in ("axes", "derived", "reduce"))
    engine = tables.pop("engine", "auto")
    if not isinstance(engine, str):
        raise TypeError(f"engine must be text, got {shown(engine)}; {allowed('', ENGINES)}")
    data = tables["data"]
    short = dict(data) if isinstance(data, Mapping) and {"spectrum", "path"} & set(data) else None
    base = Base(*run_from_tables(tables, folder), short, os.fspath(folder))
    return setup_of(base, _axes(axes), _derived(derived), _reduce(reduce), engine)


def read(path: str | os.PathLike[str]) -> Setup:
    """The sweep of a sweep file.

    Raises FileNotFoundError when nothing is there, TypeError or ValueError where it has an error.

    >>> read("missing.toml")
    Traceback (most recent call last):
    FileNotFoundError: path 'missing.toml' does not exist; give a sweep file (TOML)
    """
    text = _files.text(path, "a sweep file (TOML)")
    try:
        return from_toml(text, _files.place(path, "path").parent)
    except (TypeError, ValueError) as error:
        raise type(error)(f"sweep file {shown(os.fspath(path))}: {error}") from None


def _reduce(table: Any) -> Any:
    if isinstance(table, str) and " sha256:" in table:
        raise ValueError(
            f"[reduce] names the function {table.split(' ')[0]!r}, which no TOML holds; use sweep in Python"
        )
    return table


def _derived(table: Any) -> Any:
    return None if table is None else _flat("derived", table, lambda value: not isinstance(value, Mapping))


def _axes(table: Any) -> dict[str, Any]:
    """The argument ``axes`` that a table describes."""
    axes: dict[str, Any] = {}
    for key, given in _table("axes", table).items():
        if key in ROOTS and isinstance(given, Mapping) and not _is_values(given):
            axes |= _columns({key: given})
        elif isinstance(given, Mapping) and not _is_values(given):
            axes[key] = _columns(given)
        else:
            axes[key] = _values(key, given)
    return axes


def _columns(table: Mapping[str, Any]) -> dict[str, Any]:
    """Values by path; the tables of a part by label are one entry."""
    found: dict[str, Any] = {}
    for path, given in _flat("axes", table, _is_values).items():
        root, _, label = path.partition(".")
        if root in WHOLE and label and isinstance(given, Mapping) and "type" in given:
            found.setdefault(root, {})[label] = _value(root, given)
        else:
            found[path] = _values(path, given)
    return found


def _flat(name: str, table: Any, is_leaf: Callable[[Any], bool], before: str = "") -> dict[str, Any]:
    """Entries by dotted path: TOML reads a name with dots as tables inside tables."""
    found: dict[str, Any] = {}
    for key, entry in _table(name, table).items():
        inside = isinstance(entry, Mapping) and not is_leaf(entry)
        found |= _flat(name, entry, is_leaf, f"{before}{key}.") if inside else {before + key: entry}
    return found


def _table(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f"[{name}] must be a table, got {shown(given)}")
    return given


def _is_values(given: Any) -> bool:
    return not isinstance(given, Mapping) or "type" in given or bool({"linear", "log"} & set(given))


def _values(path: str, given: Any) -> Any:
    """A list of values, as it is or from its ends."""
    if not isinstance(given, Mapping):
        return [_value(path, one) for one in given] if isinstance(given, list) else given
    (kind, *others) = given
    if others or kind not in ("linear", "log"):
        raise ValueError(f"[axes] {path} must be a list, or have one of linear and log, got {shown(dict(given))}")
    ends = given[kind]
    if not isinstance(ends, list) or len(ends) != 3:
        raise ValueError(f"[axes] {path}: {kind} must be [first, last, number], got {shown(ends)}")
    first, last = (as_number(end, f"[axes] {path}: {kind}") for end in ends[:2])
    count = as_whole(ends[2], f"[axes] {path}: the number of values")
    if count < 2 or (kind == "log" and not (first > 0 and last > 0)):
        raise ValueError(
            f"[axes] {path}: {kind} must have at least 2 values{' between positive ends' * (kind == 'log')}, got "
            f"{shown(ends)}"
        )
    check_number(path, count)
    return np.linspace(first, last, count) if kind == "linear" else np.geomspace(first, last, count)


def _value(path: str, entry: Any) -> Any:
    """One value, with a part for every table that names its type, and None for "None"."""
    if isinstance(entry, list):
        return [_value(path, one) for one in entry]
    if not isinstance(entry, Mapping):
        return None if entry == "None" else entry
    if path == "data":
        return data_part(entry, ".")
    kinds = {"method": METHODS, "network": get_args(Network), "init": _INITS}.get(path, _PARTS)
    return from_table(f"axes.{path}", {key: _value(path, one) for key, one in entry.items()}, kinds)
