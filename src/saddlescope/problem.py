"""A problem is a network, the data it is trained on, and where it starts. With a method and a plan it is a run."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydantic import Field

from saddlescope import _files, _zarr
from saddlescope import init as _init
from saddlescope._numbers import shown
from saddlescope._parts import allowed, from_table, frozen, to_table
from saddlescope.data import Dataset, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.methods import METHODS, Method
from saddlescope.networks import DeepLinear, Diagonal
from saddlescope.plan import Accumulate, Logspaced, Plan
from saddlescope.schedules import SCHEDULES

T = TypeVar("T")

LARGE = 1024
"""Numbers beyond which an array of a run is stored beside its TOML, which then holds its name and digest."""

_REFERENCE = re.compile(r"(\w+) sha256:([0-9a-f]{32})")


@frozen
class Problem:
    """What is trained: ``network`` on ``data`` from ``init``.

    Raises ValueError when the network's ends do not meet the teacher's shape or given weights its widths.

    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), Gaussian(scale=0.1))
    >>> Problem.from_toml(problem.to_toml()) == problem
    True
    """

    network: DeepLinear | Diagonal = Field(description="a network such as DeepLinear((8, 16, 6))")
    data: GaussianData | Dataset | Moments = Field(description="data such as GaussianData(teacher) or Dataset(X, Y)")
    init: Gaussian | Balanced | Given = Field(description="initial weights such as init.Gaussian(scale=1e-2)")

    def __post_init__(self) -> None:
        ends, teacher = (self.network.dim_in, self.network.dim_out), (self.data.dim_in, self.data.dim_out)
        if isinstance(self.network, Diagonal) and ends != teacher:
            raise ValueError(
                f"data must have one input and one output for a Diagonal network, got {teacher[0]} and {teacher[1]}; "
                "use a DeepLinear network"
            )
        if isinstance(self.data, Moments) and not isinstance(self.network, Diagonal):
            raise ValueError("network must be Diagonal(depth, width) for data given by Moments; use it or other data")
        if ends != teacher:
            raise ValueError(
                f"widths {self.network.widths} go from {ends[0]} to {ends[1]}, but the teacher from {teacher[0]} to "
                f"{teacher[1]}; make the first width {teacher[0]} and the last {teacher[1]}"
            )
        _init.check(self.init, self.network)

    def to_toml(self) -> str:
        """The problem as TOML, without loss."""
        return _text(_problem_tables(self))

    @classmethod
    def from_toml(cls, text: str, folder: str | os.PathLike[str] = ".") -> Self:
        """The problem a TOML text describes; a data set may be named by its ``path``, relative to ``folder``.

        Raises ValueError or TypeError naming the table and key at fault.
        """
        tables = _parse(text, ("network", "data", "init"))
        return cls(*_problem_parts(tables, folder))


def run_to_toml(problem: Problem, method: Method, plan: Plan, *, beside: bool = False) -> str:
    """A whole run as TOML, without loss; with the arrays of ``large_arrays`` by name only when they are ``beside`` it.

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
    """The run a TOML text describes; a data set may be named by its ``path``, relative to ``folder``.

    What the TOML of a run names by digest is looked up in ``arrays``, or in the store of its table ``[arrays]``.
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
    tables = _parse(text, ("network", "data", "init", "method", "plan"), ("arrays",))
    _fetch(tables, folder, arrays)
    method: Method = _with_schedule("method", tables["method"], "schedule", METHODS)
    plan_table = dict(tables["plan"]) if isinstance(tables["plan"], Mapping) else tables["plan"]
    if isinstance(plan_table, dict) and isinstance(plan_table.get("saves"), Mapping):
        plan_table["saves"] = from_table("plan.saves", plan_table["saves"], (Logspaced,))
    if isinstance(plan_table, dict) and isinstance(plan_table.get("accumulate"), Mapping):
        plan_table["accumulate"] = from_table("plan.accumulate", plan_table["accumulate"], (Accumulate,))
    return Problem(*_problem_parts(tables, folder)), method, from_table("plan", plan_table, (Plan,))


def _with_schedule(name: str, table: Any, key: str, classes: tuple[type, ...]) -> Any:
    """The part in a table, one key of which may hold the table of a schedule."""
    if isinstance(table, Mapping) and isinstance(table.get(key), Mapping):
        table = {**table, key: _with_schedule(f"{name}.{key}", table[key], "then", SCHEDULES)}
    return from_table(name, table, classes)


def _problem_tables(problem: Problem) -> dict[str, Any]:
    return {name: to_table(getattr(problem, name)) for name in ("network", "data", "init")}


def _problem_parts(tables: dict[str, Any], folder: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    network = from_table("network", tables["network"], (DeepLinear, Diagonal))
    data = _data(tables["data"], folder)
    return network, data, from_table("init", tables["init"], (Gaussian, Balanced, Given))


def _data(table: Any, folder: str | os.PathLike[str]) -> GaussianData | Dataset | Moments:
    """The data themselves, or a short form: a teacher by its spectrum, a data set by its file."""
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
            raise TypeError(f"[data] a spectrum needs {key!r} beside it; add {key} = a width")
    return _made(lambda: GaussianData.from_spectrum(**arguments))


def _from_file(table: Mapping[str, Any], folder: str | os.PathLike[str]) -> Dataset:
    arguments = _short_form(table, "Dataset with a path", ("path", "label_noise"))
    if not isinstance(arguments["path"], str):
        raise TypeError(f'[data] path must be a text such as "data.npz", got {arguments["path"]!r:.80}')
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
    """Arrays in the place of their names."""
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
            f"[{part}] the array {name} is not in this TOML but in the run it is from; "
            'add the table [arrays] with store = "RUN.zarr", or write the problem by Problem.to_toml'
        )
    if found.dtype.kind != "f" or _digest(found) != digest:
        raise ValueError(f"[{part}] the array {name} in {where!r} is not the one that was used; give the original")
    return found


def _parse(text: str, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
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
