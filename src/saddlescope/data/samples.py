"""Samples from files and tables; sizes are read from headers and checked before anything is unpacked."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._memory import require
from saddlescope._numbers import as_numbers, as_whole, hint, shown

_TEXT = 60
"""Bytes of memory per byte of a CSV while it is read."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, RuntimeError, NotImplementedError)
"""Exceptions raised by reading a damaged or unusual .npz."""

_MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")
"""How tables write that a value is missing, in lower case."""

_BY_NAME = "choose columns by inputs=[…] and targets=[…]"

Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs X and labels Y, one sample a row, and the names of their columns; None without names."""

    X: Any
    Y: Any
    inputs: Names | None = None
    targets: Names | None = None


def read_samples(path: str | os.PathLike[str], inputs: Any = None, targets: Any = None) -> Samples:
    """The samples of an ``.npz``, or of a ``.csv`` or ``.tsv``; these columns of it, if they are given.

    Raises TypeError, ValueError, FileNotFoundError, PermissionError or OSError, in one sentence.
    """
    if is_table(path):
        raise TypeError(
            "path must be that of a file, got a table; " + columns_chosen(path, {"inputs": inputs, "targets": targets})
        )
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be that of an .npz or .csv, got {shown(path)}")
    chosen = _chosen(inputs, targets)
    file, readers = Path(path).expanduser(), {".npz": _read_npz, ".csv": _read_csv, ".tsv": _read_csv}
    if file.suffix.lower() not in readers:
        raise ValueError(
            f"path must end in .npz or .csv (or .tsv), got {str(path)!r}; save the arrays X and Y as one of them"
        )
    try:
        if not file.is_file():
            raise FileNotFoundError(f"path {str(path)!r} is not a file; give the path of an .npz or .csv")
        return readers[file.suffix.lower()](file, *chosen)
    except PermissionError:
        raise PermissionError(f"path {str(path)!r} may not be read; change its permissions") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(f"path {shown(str(path))} could not be read ({error.strerror}); check it") from None


def held_out(data: Any, test: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``test`` of the samples of data, chosen at random, and the others, both in order.

    Raises ValueError when none would be left, or some are held out already.
    """
    test, seed = as_whole(test, "test"), as_whole(seed, "seed")
    if data.test_samples is not None:
        raise ValueError("split needs a data set of which no samples are held out; split the whole data set")
    if not 0 < test < data.samples:
        raise ValueError(
            f"test must be at least 1 and less than the {data.samples} samples, got {test}; leave some to train on"
        )
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(data.samples)
    return np.sort(order[:test]), np.sort(order[test:])


# --- names of columns


def as_names(value: Any, name: str) -> Names:
    """Distinct names of columns; one name may be given alone.

    >>> as_names("age", "inputs")
    ('age',)
    """
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, dict)):
        raise TypeError(f'{name} must be names of columns such as ["age", "bmi"], got {shown(value)}')
    names = list(value)
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f'{name} must be names of columns such as ["age", "bmi"], got {shown(one)} among them')
        if not one.strip() or not one.isprintable():
            raise ValueError(f"{name} must be printable names, got {shown(one)}; rename the column")
    if not names:
        raise ValueError(f'{name} must name at least one column, got none; use names such as ["age", "bmi"]')
    if twice := _twice(names):
        raise ValueError(f"{name} must be distinct, got {twice!r} twice; name each column once")
    return tuple(str(one) for one in names)


def _chosen(inputs: Any, targets: Any) -> tuple[Names | None, Names | None]:
    """The columns that a call asks for; inputs alone are refused, targets alone mean that all others are inputs."""
    if inputs is not None and targets is None:
        raise TypeError('targets is missing: name the columns to be predicted too, such as targets=["y"]')
    return (
        None if inputs is None else as_names(inputs, "inputs"),
        None if targets is None else as_names(targets, "targets"),
    )


def _twice(names: Sequence[str]) -> str | None:
    """A name that stands there twice."""
    name, count = Counter(names).most_common(1)[0]
    return name if count > 1 else None


def _others(columns: Sequence[str], targets: Names) -> Names:
    """All columns with a name that are not targets."""
    return tuple(name for name in columns if name and name not in targets)


def _places(columns: Sequence[str], chosen: Names, file: Path) -> list[int]:
    """Where the chosen columns are; ValueError unless each is there once."""
    counts, places = Counter(columns), {name: place for place, name in enumerate(columns)}
    for name in chosen:
        if name not in places:
            meant = hint(name, filter(None, columns))
            fix = "; separate columns by commas, semicolons or tabs" if len(columns) == 1 else meant
            raise ValueError(f"{str(file)!r} has no column {name!r}; its columns are {_listed(columns)}{fix}")
        if counts[name] > 1:
            raise ValueError(f"{str(file)!r} has {counts[name]} columns {name!r}; rename all but one of them")
    return [places[name] for name in chosen]


def _listed(columns: Sequence[str]) -> str:
    """Names for an error sentence, shortened."""
    text = ", ".join(repr(name) for name in columns[:12])
    return text if len(columns) <= 12 else f"{text}, … ({len(columns)} in all)"


# --- tables in memory


def is_table(value: Any) -> bool:
    """Whether a value is such as a DataFrame."""
    return hasattr(value, "columns") and hasattr(value, "iloc")


def columns_chosen(table: Any, chosen: Mapping[str, Any]) -> str:
    """How to make a data set of the columns of a table, as the end of an error sentence."""
    examples = {"inputs": ("age", "bmi"), "targets": ("y",)}
    x, y = (
        list(as_names(example if chosen.get(key) is None else chosen[key], key)) for key, example in examples.items()
    )
    listed = _listed([str(name) for name in table.columns])
    return f"choose columns of the table ({listed}), such as Dataset(table[{shown(x)}], table[{shown(y)}])"


def from_table(value: Any, name: str) -> tuple[Any, Names | None]:
    """The matrix in a DataFrame, Series or DataArray, and the names of its columns; other values as they are.

    Raises TypeError or ValueError that names a column that is not numeric, or has missing values.
    """
    if getattr(value, "ndim", None) == 1 and hasattr(value, "name"):  # one column
        columns = [value.name] if isinstance(value.name, str) else None
        return as_numbers(value, name, "a column")[:, None], _if_names(columns, name)
    if hasattr(value, "dims") and hasattr(value, "coords"):
        labels = value.coords.get(value.dims[1]) if len(value.dims) == 2 else None
        return value, None if labels is None else _if_names(labels.values.tolist(), name)
    if not hasattr(value, "columns"):
        return value, None
    columns = list(value.columns)
    try:
        matrix = as_numbers(value, name, "a matrix")
    except TypeError:
        for column in columns:
            as_numbers(value[column], f"column {column!r} of {name}", "a column")
        raise
    if matrix.ndim == 2 and not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        label = value.index[row] if hasattr(value, "index") and not callable(value.index) else row
        raise ValueError(
            f"column {columns[column]!r} of {name} must be finite, got {matrix[row, column]} in row {label}; "
            "fill it, or drop the row from X and Y"
        )
    return matrix, _if_names(columns, name)


def _if_names(columns: list[Any] | None, name: str) -> Names | None:
    """Names of columns, if all of them are text."""
    named = columns and all(isinstance(column, str) for column in columns)
    return as_names(columns, f"column names of {name}") if named else None


# --- .npz


def _read_npz(file: Path, inputs: Names | None, targets: Names | None) -> Samples:
    try:
        with zipfile.ZipFile(file) as archive:
            listed = {member.filename: member for member in archive.infolist()}
            for name in ("X", "Y"):
                if f"{name}.npy" not in listed:
                    raise ValueError(f"{str(file)!r} has no array {name!r}; save it with numpy.savez(path, X=X, Y=Y)")
            wanted = [name for name in ("X", "Y", "inputs", "targets") if f"{name}.npy" in listed]
            size = sum(listed[f"{name}.npy"].file_size for name in wanted)
            require(2 * size, f"{str(file)!r}", "save fewer samples or inputs")
            arrays = {name: _array(archive, listed[f"{name}.npy"]) for name in wanted}
    except PermissionError:
        raise
    except _DAMAGE as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(
            f"{str(file)!r} is not an .npz of numeric arrays; create it with numpy.savez(path, X=X, Y=Y)"
        ) from None
    names = [
        as_names(arrays[key].ravel().tolist(), f"{key} of {str(file)!r}") if key in arrays else None
        for key in ("inputs", "targets")
    ]
    found = Samples(arrays["X"], arrays["Y"], *names)
    return found if targets is None else _columns_of(found, inputs, targets, file)


def _columns_of(found: Samples, inputs: Names | None, targets: Names, file: Path) -> Samples:
    """The chosen columns of an archive whose columns have names."""
    columns = [*(found.inputs or ()), *(found.targets or ())]
    try:
        table = np.concatenate([found.X, found.Y], axis=1)
    except ValueError:  # of other dimensions, or of different length
        table = np.empty((0, 0))
    if not found.inputs or not found.targets or table.shape[1] != len(columns):
        raise ValueError(
            f"{str(file)!r} must name the columns of its matrices X and Y; save it with "
            "numpy.savez(path, X=X, Y=Y, inputs=names, targets=names), or leave out inputs and targets"
        )
    inputs = _others(columns, targets) if inputs is None else inputs
    x, y = (table[:, _places(columns, names, file)] for names in (inputs, targets))
    return Samples(x, y, inputs, targets)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """An array whose header matches the number of bytes present."""
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(member) as stream:
        shape, _, dtype = headers[np.lib.format.read_magic(stream)](stream)
        count = int(np.prod([int(length) for length in shape], dtype=object)) * dtype.itemsize
        if dtype.hasobject or stream.tell() + count != member.file_size:
            raise ValueError
    with archive.open(member) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


# --- .csv

_Row = tuple[int, list[str]]
"""Line number and entries."""


def _read_csv(file: Path, inputs: Names | None, targets: Names | None) -> Samples:
    require(_TEXT * file.stat().st_size, f"{str(file)!r}", "save it as .npz")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
        header, rows = _rows(text)
    except UnicodeDecodeError:
        raise ValueError(f"{str(file)!r} is not a CSV in UTF-8; save it with this encoding") from None
    except csv.Error:
        raise ValueError(f"{str(file)!r} is not a CSV with a header; start it with a line such as x1,x2,y1") from None
    if targets is None:
        columns = _by_first_letter(header, file)
    else:
        inputs = _others(header, targets) if inputs is None else inputs
        if not inputs:
            raise ValueError(f"{str(file)!r} has no columns beside the targets; its columns are {_listed(header)}")
        columns = _places(header, inputs, file), _places(header, targets, file)
    many = max(map(len, columns))
    require(64 * many**2, f"{str(file)!r} with {many:,} inputs or labels", "leave some of them out")
    if not rows:
        raise ValueError(f"{str(file)!r} has no samples; add a line of numbers for each")
    for n, (line, row) in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(
                f"row {n} (line {line}) of {str(file)!r} must hold {len(header)} entries as the header does, "
                f"got {shown(','.join(row))}; complete or drop it"
            )
    x, y = (np.array([_numbers(rows, place, header[place], file) for place in part]).T for part in columns)
    return Samples(x, y, inputs, targets)


def _rows(text: str) -> tuple[list[str], list[_Row]]:
    """Header and rows of a table separated by whichever of comma, semicolon and tab splits its first lines most."""

    def parsed(delimiter: str) -> Iterator[_Row]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t")
        return ((reader.line_num, row) for row in reader if any(entry.strip() for entry in row))

    def splits(delimiter: str) -> tuple[int, int]:
        lengths = [len(row) for _, row in itertools.islice(parsed(delimiter), 2)]
        return min(lengths, default=0), max(lengths, default=0)

    delimiter = max(",;\t", key=splits)
    rows = list(parsed(delimiter))
    return [" ".join(name.split()) for name in rows[0][1]] if rows else [], rows[1:]


def _by_first_letter(header: list[str], file: Path) -> tuple[list[int], list[int]]:
    """Places of the columns x… and y…, which must be all."""
    if header and all(math.isfinite(_number(name)) for name in header):
        raise ValueError(
            f"{str(file)!r} has no header, its first line is {shown(','.join(header))}; add a line that names its "
            "columns: name inputs x1, x2, … and labels y1, y2, …"
        )
    kinds = [name[:1].lower() for name in header]
    if {*kinds} != {"x", "y"}:
        raise ValueError(
            f"{str(file)!r} has the columns {_listed(header) or 'none'}; {_BY_NAME}, or name inputs x1, x2, … and "
            "labels y1, y2, …, and no others"
        )
    return [n for n, kind in enumerate(kinds) if kind == "x"], [n for n, kind in enumerate(kinds) if kind == "y"]


def _numbers(rows: list[_Row], place: int, name: str, file: Path) -> list[float]:
    """A column of finite numbers; ValueError names the row and the column of anything else."""
    entries = [row[place] for _, row in rows]
    values = [_number(entry) for entry in entries]
    if all(map(math.isfinite, values)):
        return values
    wrong = [n for n, value in enumerate(values) if not math.isfinite(value)]
    entry, where = entries[wrong[0]], f"row {wrong[0] + 1} (line {rows[wrong[0]][0]}) of {str(file)!r}"
    if lacking := sum(_missing(one) for one in entries) if _missing(entry) else 0:
        raise ValueError(
            f"{where} has no value in column {name!r}, as {lacking} of {len(rows)} rows; fill or drop them, as by "
            "table = pandas.read_csv(path, sep=…).dropna() and Dataset(table[[…]], table[[…]]), or "
            f"{_BY_NAME} without it"
        )
    if math.isfinite(_number(entry.replace(",", ".", 1))):
        fix = "write decimals with a point, and no commas between digits"
    elif len(wrong) == len(rows):
        fix = f"encode the column as numbers, or {_BY_NAME} without it"
    else:
        fix = "correct it"
    raise ValueError(f"{where} must hold a finite number in column {name!r}, got {shown(entry)}; {fix}")


def _missing(entry: str) -> bool:
    return entry.strip().lower() in _MISSING


def _number(entry: str) -> float:
    """The number that an entry is, or NaN."""
    try:
        return float(entry)
    except ValueError:
        return math.nan
