"""Problems and runs as TOML: written without loss, read with errors that name the table and the key.

A run is five tables: network, data, init, method, plan. Arrays of more than LARGE numbers are stored as arrays beside
the TOML, which then holds their names and digests.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saddlescope import _files, _zarr, observe
from saddlescope._arrays import Array
from saddlescope._parts import to_table
from saddlescope._tables import NEEDED, OPTIONAL, from_table, parse, problem_parts, problem_tables, text_of
from saddlescope.methods import METHODS, Method
from saddlescope.plan import Accumulate, Logspaced, Plan
from saddlescope.problem import Problem
from saddlescope.schedules import SCHEDULES

RUN = (*NEEDED, "method", "plan")
"""The tables that every run has."""

LARGE = 1024
"""Numbers above which an array of a run is stored beside its TOML."""

_REFERENCE = re.compile(r"(\w+) sha256:([0-9a-f]{32})")


def run_to_toml(problem: Problem, method: Method, plan: Plan, *, beside: bool = False) -> str:
    """A run as TOML, without loss; ``beside`` replaces the arrays of ``large_arrays`` by their names and digests.

    >>> from saddlescope import GD, DeepLinear, GaussianData
    >>> from saddlescope.init import Gaussian
    >>> problem = Problem(DeepLinear((40, 2, 40)), GaussianData(np.eye(40)), Gaussian(scale=0.1))
    >>> large = large_arrays(problem)
    >>> list(large), len(run_to_toml(problem, GD(lr=0.1), Plan(steps=1), beside=True)) < 500
    (['data_teacher'], True)
    """
    plan_table, tables = to_table(plan), problem_tables(problem)
    del plan_table["type"]
    for name, keys, array in _large(problem) if beside else ():
        *outer, last = keys
        table: Any = tables
        for key in outer:
            table = table[key]
        table[last] = f"{name} sha256:{_digest(array)}"
    return text_of(tables | {"method": to_table(method), "plan": plan_table})


def large_arrays(problem: Problem) -> dict[str, Array]:
    """The arrays of a problem that its runs store as arrays, by name: data_X, data_teacher, init_weights_0, …"""
    return {name: array for name, _, array in _large(problem)}


def _large(problem: Problem) -> Iterator[tuple[str, tuple[Any, ...], Array]]:
    """Name, keys in the tables, and values of every large array."""
    for part in ("data", "init"):
        for field in dataclasses.fields(getattr(problem, part)) if getattr(problem, part) is not None else ():
            value = getattr(getattr(problem, part), field.name)
            items = enumerate(value) if isinstance(value, tuple) else [(None, value)]
            for index, array in items:
                if isinstance(array, np.ndarray) and array.size > LARGE:
                    keys = (part, field.name) if index is None else (part, field.name, index)
                    yield "_".join(map(str, keys)), keys, array


def _digest(array: Array) -> str:
    kind = "" if array.dtype.kind == "f" else "whole numbers "
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return hashlib.sha256(f"{kind}{array.shape!r}".encode() + content).hexdigest()[:32]


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
    return run_from_tables(parse(text, RUN, (*OPTIONAL, "arrays")), folder, arrays)


def run_from_tables(
    tables: dict[str, Any], folder: str | os.PathLike[str] = ".", arrays: Mapping[Any, Any] | None = None
) -> tuple[Problem, Method, Plan]:
    """The run that the tables of a TOML describe, as ``run_from_toml``."""
    _fetch(tables, folder, arrays)
    method: Method = _with_schedule("method", tables["method"], "schedule", METHODS)
    plan_table = dict(tables["plan"]) if isinstance(tables["plan"], Mapping) else tables["plan"]
    if isinstance(plan_table, dict) and isinstance(plan_table.get("saves"), Mapping):
        plan_table["saves"] = from_table("plan.saves", plan_table["saves"], (Logspaced,))
    if isinstance(plan_table, dict) and isinstance(plan_table.get("accumulate"), Mapping):
        plan_table["accumulate"] = from_table("plan.accumulate", plan_table["accumulate"], (Accumulate,))
    if isinstance(plan_table, dict) and isinstance(plan_table.get("observe"), list):
        plan_table["observe"] = [_observation(entry) for entry in plan_table["observe"]]
    return Problem(*problem_parts(tables, folder)), method, from_table("plan", plan_table, (Plan,))


def _with_schedule(name: str, table: Any, key: str, classes: tuple[type, ...]) -> Any:
    """The part that a table describes; ``key`` may hold the table of a schedule."""
    if isinstance(table, Mapping) and isinstance(table.get(key), Mapping):
        table = {**table, key: _with_schedule(f"{name}.{key}", table[key], "then", SCHEDULES)}
    return from_table(name, table, classes)


def _observation(entry: Any) -> Any:
    """An observation from its table, with the parts inside it; anything else as it is."""
    if isinstance(entry, list):
        return [_observation(item) for item in entry]
    if not isinstance(entry, Mapping):
        return entry
    inside = {key: _observation(value) for key, value in entry.items()}
    return from_table("plan.observe", inside, observe.PARTS) if "type" in inside else inside


def _fetch(tables: dict[str, Any], folder: str | os.PathLike[str], arrays: Mapping[Any, Any] | None) -> None:
    """Replace the names of stored arrays in the tables by the arrays."""
    source = tables.pop("arrays", None)
    for part in ("data", "init"):
        table = tables.get(part, {})
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
    if found.dtype not in (np.float64, np.int64) or _digest(found) != digest:
        raise ValueError(f"[{part}] the array {name} in {where!r} is not the one that was used; give the original")
    return found
