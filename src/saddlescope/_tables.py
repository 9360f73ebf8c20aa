"""The parts of a problem as TOML tables: network, data and init, in full or in short form."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import tomli_w

from saddlescope import _show, labels
from saddlescope._numbers import shown
from saddlescope._parts import allowed, to_table
from saddlescope.data import Dataset, Examples, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.networks import Network
from saddlescope.networks.model import Model

T = TypeVar("T")

PARTS = ("network", "data", "init")
"""The tables of a problem."""

NEEDED, OPTIONAL = ("network", "data"), ("init",)
"""Tables that every problem has, and one that a Model, which brings its own initial weights, has not."""

FEW = 8
"""Most numbers of a list that is shown in full."""


def parse(text: str, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
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
            raise ValueError(f"the table [{name}] is missing; add it; a file has {', '.join(names)}")
    return tables


def text_of(tables: Mapping[str, Any]) -> str:
    """TOML with every row of numbers on one line."""
    return re.sub(r'\[\s([^]["]*)\]', lambda row: f"[{' '.join(row[1].split()).rstrip(',')}]", tomli_w.dumps(tables))


def brief(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The same tables for reading: lists of more than FEW numbers are replaced by their size.

    >>> brief({"data": {"X": [[0.5, 1.5]] * 600, "Y": [[2.0]] * 600, "inputs": ["age", "bmi"]}})
    {'data': {'X': 'array 600 × 2', 'Y': 'array 600 × 1', 'inputs': ['age', 'bmi']}}
    """
    return {key: brief(value) if isinstance(value, Mapping) else _brief(value) for key, value in tables.items()}


def _brief(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    try:
        sizes = np.shape(value)
    except ValueError:  # lists of unequal length
        return [_brief(entry) for entry in value] if len(value) <= FEW else f"{len(value):,} entries"
    if math.prod(sizes) <= FEW:
        return value
    return f"array {_show.shape(sizes)}" if len(sizes) > 1 else f"{len(value):,} entries"


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


def problem_tables(problem: Any) -> dict[str, Any]:
    """The tables of the parts of a problem."""
    return {name: to_table(part) for name in PARTS if (part := getattr(problem, name)) is not None}


def problem_parts(tables: dict[str, Any], folder: str | os.PathLike[str]) -> tuple[Any, Any, Any]:
    """Network, data and init that tables describe; paths are relative to ``folder``."""
    data = data_part(tables["data"], folder)
    if isinstance(tables["network"], Mapping) and tables["network"].get("type") == "Model":
        return Model._stored(dict(tables["network"])), data, None
    network = from_table("network", tables["network"], get_args(Network))
    if "init" not in tables:
        raise ValueError(f"the table [init] is missing; add it ({allowed('init', PARTS)})")
    return network, data, from_table("init", tables["init"], (Gaussian, Balanced, Given))


def data_part(table: Any, folder: str | os.PathLike[str]) -> GaussianData | Dataset | Moments | Examples:
    """The data, written out or in short form: a teacher by its spectrum, a data set by its file."""
    kind = table.get("type", "GaussianData") if isinstance(table, Mapping) else None
    if kind == "GaussianData" and "spectrum" in table:
        return _from_spectrum(table)
    if kind == "Dataset" and "path" in table:
        return _from_file(table, folder)
    if kind == "Examples" and isinstance(table.get("labels"), Mapping):
        table = {**table, "labels": from_table("data.labels", table["labels"], labels.KINDS)}
    return from_table("data", table, (GaussianData, Dataset, Moments, Examples))  # type: ignore[return-value]


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
    names = ("path", "inputs", "targets", "standardise", "whiten", "label_noise", "test", "seed")
    arguments = _short_form(table, "Dataset with a path", names)
    if not isinstance(arguments["path"], str):
        raise TypeError(f'[data] path must be a string such as "data.npz", got {arguments["path"]!r:.80}')
    arguments["path"] = Path(folder, os.path.expanduser(arguments["path"]))
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
