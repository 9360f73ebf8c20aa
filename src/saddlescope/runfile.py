"""Problems and runs as TOML: written without loss, read with errors that name the table and the key.

A run is five tables: network, data, init, method, plan. Arrays of more than LARGE numbers are stored as arrays beside
the TOML, which then holds their names and digests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import tomli_w
from numpy.typing import NDArray

from saddlescope import _files, _zarr
from saddlescope._numbers import shown
from saddlescope._parts import allowed, to_table
from saddlescope.data import Dataset, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.methods import METHODS, Method
from saddlescope.networks import Network
from saddlescope.plan import Accumulate, Logspaced, Plan
from saddlescope.problem import Problem
from saddlescope.schedules import SCHEDULES

T = TypeVar("T")

LARGE = 1024
"""Numbers above which an array of a run is stored beside its TOML."""

_PARTS = ("network", "data", "init")
_REFERENCE = re.compile(r"(\w+) sha256:([0-9a-f]{32})")


def problem_to_toml(problem: Problem) -> str:
    """A problem as TOML, without loss; ``Problem.to_toml``."""
    return _text(_problem_tables(problem))


def problem_parts(text: str, folder: str | os.PathLike[str] = ".") -> tuple[Any, Any, Any]:
    """Network, data and init that a TOML text describes; for ``Problem.from_toml``.

    Raises ValueError or TypeError naming the table and key at fault.
    """
    return _problem_parts(_parse(text, _PARTS), folder)


def run_to_toml(problem: Problem, method: Method, plan: Plan, *, beside: bool = False) -> str:
    """A run as TOML, without loss; ``beside`` replaces the arrays of ``large_arrays`` by their names and digests.

    >>> from saddlescope import GD
    >>> problem = Problem(DeepLinear((40, 2, 40)), GaussianData(np.eye(40)), Gaussian(scale=0.1))
    >>> large = large_arrays(problem)
    >>> list(large), len(run_to_toml(problem, GD(lr=0.1), Plan(steps=1), beside=True)) < 400
    (['data_teacher'], True)
    """
    plan_table, tables = to_table(plan), _problem_tables(problem)
    del plan_table["type"]
    for name, keys, array in _large(problem) if beside else ():
        *outer, last = keys
        table: Any = tables
        for key in outer:
            table = table[key]
        table[last] = f"{name} sha256:{_digest(array)}"
    return _text(tables | {"method": to_table(method), "plan": plan_table})


def large_arrays(problem: Problem) -> dict[str, NDArray[np.float64]]:
    """The arrays of a problem that its runs store as arrays, by name: data_X, data_teacher, init_weights_0, …"""
    return {name: array for name, _, array in _large(problem)}


def _large(problem: Problem) -> Iterator[tuple[str, tuple[Any, ...], NDArray[np.float64]]]:
    """Name, keys in the tables, and values of every large array."""
    for part in ("data", "init"):
        for field in dataclasses.fields(getattr(problem, part)):
            value = getattr(getattr(problem, part), field.name)
            items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
            for index, array in items:
                if isinstance(array, np.ndarray) and array.size > LARGE:
                    keys = (part, field.name) if index is None else (part, field.name, index)
                    yield "_".join(map(str, keys)), keys, array


def _digest(array: NDArray[np.float64]) -> str:
    return hashlib.sha256(repr(array.shape).encode() + np.ascontiguousarray(array, "<f8").tobytes()).hexdigest()[:32]


def _text(tables: Mapping[str, Any]) -> str:
    """TOML with every row of numbers on one line."""
    return re.sub(r'\[\s([^]["]*)\]', lambda row: f"[{' '.join(row[1].split()).rstrip(',')}]", tomli_w.dumps(tables))


def run_from_toml(
    text: str, folder: str | os.PathLike[str] = ".", arrays: Mapping[Any, Any] | None = None
) -> tuple[Problem, Method, Plan]:
    """The run that a TOML text describes; a data set may be given by its ``path``, relative to ``folder``.

    Arrays given by name and digest are looked up in ``arrays``, or in the store of the table ``[arrays]``.
    Raises ValueError or TypeError naming the table and key at fault.

    >>> problem, method, plan = run_from_toml('''
    ... network = {type = "DeepLinear", widths = [3, 4, 2]}
    ... data = {type = "GaussianData", spectrum = [2.0, 1.0], dim_in = 3, dim_out = 2, label_noise = 0.5}
    ... init = {type = "Gaussian", scale = 0.01}
    ... method = {type = "SGD", lr = 0.001, batch_size = 16}
    ... plan = {steps = 1000}
    ... ''')
    >>> method.batch_size, plan.steps
    (16, 1000)
    """
    tables = _parse(text, (*_PARTS, "method", "plan"), ("arrays",))
    _fetch(tables, folder, arrays)
    method: Method = _with_schedule("method", tables["method"], "schedule", METHODS)
    plan_table = dict(tables["plan"]) if isinstance(tables["plan"], Mapping) else tables["plan"]
    if isinstance(plan_table, dict) and isinstance(plan_table.get("saves"), Mapping):
        plan_table["saves"] = from_table("plan.saves", plan_table["saves"], (Logspaced,))
    if isinstance(plan_table, dict) and isinstance(plan_table.get("accumulate"), Mapping):
        plan_table["accumulate"] = from_table("plan.accumulate", plan_table["accumulate"], (Accumulate,))
    return Problem(*_problem_parts(tables, folder)), method, from_table("plan", plan_table, (Plan,))


def _with_schedule(name: str, table: Any, key: str, classes: tuple[type, ...]) -> Any:
    """The part that a table describes; ``key`` may hold the table of a schedule."""
    if isinstance(table, Mapping) and isinstance(table.get(key), Mapping):
        table = {**table, key: _with_schedule(f"{name}.{key}", table[key], "then", SCHEDULES)}
    return from_table(name, table, classes)


def _problem_tables(problem: Problem) -> dict[str, Any]:
    return {name: to_table(getattr(problem, name)) for name in _PARTS}


def _problem_parts(tables: dict[str, Any], folder: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    network = from_table("network", tables["network"], get_args(Network))
    data = _data(tables["data"], folder)
    return network, data, from_table("init", tables["init"], (Gaussian, Balanced, Given))


def _data(table: Any, folder: str | os.PathLike[str]) -> GaussianData | Dataset | Moments:
    """The data, written out or in short form: a teacher by its spectrum, a data set by its file."""
    kind = table.get("type", "GaussianData") if isinstance(table, Mapping) else None
    if kind == "GaussianData" and "spectrum" in table:
        return _from_spectrum(table)
    if kind == "Dataset" and "path" in table:
        return _from_file(table, folder)
    return from_table("data", table, (GaussianData, Dataset, Moments))  # type: ignore[return-value]


def _from_spectrum(table: Mapping[str, Any]) -> GaussianData:
    arguments = _short_form(
        table,
        "GaussianData with a spectrum",
        ("spectrum", "dim_in", "dim_out", "label_noise", "covariance", "seed"),
    )
    for key in ("dim_in", "dim_out"):
        if key not in arguments:
            raise TypeError(f"[data] a spectrum also needs {key!r}; add {key} = a width")
    return _made(lambda: GaussianData.from_spectrum(**arguments))


def _from_file(table: Mapping[str, Any], folder: str | os.PathLike[str]) -> Dataset:
    arguments = _short_form(table, "Dataset with a path", ("path", "label_noise"))
    if not isinstance(arguments["path"], str):
        raise TypeError(f'[data] path must be a string such as "data.npz", got {arguments["path"]!r:.80}')
    arguments["path"] = Path(folder, arguments["path"])
    return _made(lambda: Dataset.load(**arguments))


def _short_form(table: Mapping[str, Any], what: str, names: tuple[str, ...]) -> dict[str, Any]:
    arguments = {key: value for key, value in table.items() if key != "type"}
    for key in arguments:
        if key not in names:
            raise TypeError(f"[data] {what} has no argument {key!r}; {allowed(key, names)}")
    return arguments


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"[data] {error}") from None


def _fetch(tables: dict[str, Any], folder: str | os.PathLike[str], arrays: Mapping[Any, Any] | None) -> None:
    """Replace the names of stored arrays in the tables by the arrays."""
    source = tables.pop("arrays", None)
    for part in ("data", "init"):
        table = tables[part]
        for key, value in table.items() if isinstance(table, dict) else ():
            if isinstance(value, list) and any(isinstance(item, str) for item in value):
                table[key] = [_fetched(part, item, source, folder, arrays) for item in value]
            else:
                table[key] = _fetched(part, value, source, folder, arrays)


def _fetched(
    part: str, value: Any, source: Any, folder: str | os.PathLike[str], arrays: Mapping[Any, Any] | None
) -> Any:
    named = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if named is None:
        return value
    name, digest = named.groups()
    if arrays is not None and name in arrays:
        found, where = np.asarray(arrays[name]), "the run"
    elif isinstance(source, dict) and isinstance(source.get("store"), str) and len(source) == 1:
        store = _files.place(Path(folder, os.path.expanduser(source["store"])), "[arrays] store")
        where = str(store)
        try:
            found = _zarr.read(store, name, _zarr.read_metadata(store, name))
        except ValueError as error:
            raise ValueError(f"[{part}] the array {name} in {where!r} {error}; restore that store") from None
    else:
        raise ValueError(
            f"[{part}] the array {name} is not in this TOML but in the store of its run; "
            'add the table [arrays] with store = "RUN.zarr", or write the problem with Problem.to_toml'
        )
    if found.dtype.kind != "f" or _digest(found) != digest:
        raise ValueError(f"[{part}] the array {name} in {where!r} is not the one that was used; give the original")
    return found


def _parse(text: str, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The tables of a TOML text; ValueError unless they are ``names`` and perhaps some of ``optional``."""
    if not isinstance(text, str):
        raise TypeError(f"text must be TOML, got {shown(text)}; read the file first")
    try:
        tables = tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("this is not the TOML of a run: its lists are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"this is not valid TOML: {error}; see toml.io for the format") from None
    for name in tables:
        if name not in (*names, *optional):
            raise ValueError(f"there is no table [{name}] here; {allowed(name, names)}")
    for name in names:
        if name not in tables:
            raise ValueError(f"the table [{name}] is missing; add it ({allowed(name, names)})")
    return tables


def from_table(name: str, table: Mapping[str, Any], classes: tuple[type[T], ...]) -> T:
    """The part that a TOML table describes, one of ``classes``; without ``type`` the only one of them."""
    if not isinstance(table, Mapping):
        raise TypeError(f"[{name}] must be a table, got {shown(table)}")
    arguments = dict(table)
    by_name = {cls.__name__: cls for cls in classes}
    kind = arguments.pop("type", classes[0].__name__ if len(classes) == 1 else None)
    if kind is None:
        raise ValueError(f"[{name}] needs a type; allowed: {', '.join(by_name)}")
    if not isinstance(kind, str) or kind not in by_name:
        raise ValueError(f"[{name}] has type = {shown(kind)}; {allowed(str(kind), by_name)}")
    try:
        return by_name[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"[{name}] {error}") from None
