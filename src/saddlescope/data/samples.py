"""Samples from files; sizes are read from headers and checked before anything is unpacked."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope._memory import require
from saddlescope._numbers import shown

_TEXT = 60
"""Bytes of memory per byte of a CSV while it is read."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, RuntimeError, NotImplementedError)
"""Exceptions raised by reading a damaged or unusual .npz."""


def read_samples(path: str | os.PathLike[str]) -> tuple[Any, Any]:
    """The arrays X and Y of an ``.npz``, or the columns x… and y… of a ``.csv``.

    Raises TypeError, ValueError, FileNotFoundError, PermissionError or OSError, in one sentence.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be that of an .npz or .csv, got {shown(path)}")
    file, readers = Path(path).expanduser(), {".npz": _read_npz, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise ValueError(f"path must end in .npz or .csv, got {str(path)!r}; save the arrays X and Y as one of them")
    try:
        if not file.is_file():
            raise FileNotFoundError(f"path {str(path)!r} is not a file; give the path of an .npz or .csv")
        return readers[file.suffix.lower()](file)
    except PermissionError:
        raise PermissionError(f"path {str(path)!r} may not be read; change its permissions") from None
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(f"path {shown(str(path))} could not be read ({error.strerror}); check it") from None


def _read_npz(file: Path) -> tuple[Any, Any]:
    try:
        with zipfile.ZipFile(file) as archive:
            listed = {member.filename: member for member in archive.infolist()}
            for name in ("X", "Y"):
                if f"{name}.npy" not in listed:
                    raise ValueError(f"{str(file)!r} has no array {name!r}; save it with numpy.savez(path, X=X, Y=Y)")
            size = sum(listed[f"{name}.npy"].file_size for name in ("X", "Y"))
            require(2 * size, f"{str(file)!r}", "save fewer samples or inputs")
            arrays = [_array(archive, listed[f"{name}.npy"]) for name in ("X", "Y")]
    except PermissionError:
        raise
    except _DAMAGE as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(
            f"{str(file)!r} is not an .npz of numeric arrays; create it with numpy.savez(path, X=X, Y=Y)"
        ) from None
    return arrays[0], arrays[1]


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


def _read_csv(file: Path) -> tuple[Floats, Floats]:
    require(_TEXT * file.stat().st_size, f"{str(file)!r}", "save it as .npz")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = (row for row in csv.reader(stream) if row)
            header = next(rows, [])
            inputs = _inputs(header, file)
            return _table(header, list(rows), inputs, file)
    except (UnicodeDecodeError, csv.Error):
        raise ValueError(f"{str(file)!r} is not a CSV with a header; start it with a line such as x1,x2,y1") from None


def _inputs(header: list[str], file: Path) -> NDArray[np.bool_]:
    """Mask of the input columns."""
    kinds = np.array([name.strip()[:1].lower() for name in header] or [""])
    if {*kinds.tolist()} != {"x", "y"}:
        raise ValueError(
            f"{str(file)!r} has the columns {', '.join(header)[:80]!r}; name inputs x1, x2, … and labels y1, y2, …, "
            "and no others"
        )
    inputs = kinds == "x"
    many = max(int(inputs.sum()), int((~inputs).sum()))
    require(64 * many**2, f"{str(file)!r} with {many:,} inputs or labels", "leave some of them out")
    return inputs


def _table(header: list[str], rows: list[list[str]], inputs: NDArray[np.bool_], file: Path) -> tuple[Floats, Floats]:
    if not rows:
        raise ValueError(f"{str(file)!r} has no samples; add a line of numbers for each")
    table = np.array([_numbers(row, len(header), f"row {n} of {str(file)!r}") for n, row in enumerate(rows, start=1)])
    return table[:, inputs], table[:, ~inputs]


def _numbers(row: list[str], count: int, where: str) -> list[float]:
    try:
        if len(row) == count:
            return [float(entry) for entry in row]
    except ValueError:
        pass
    raise ValueError(f"{where} must hold {count} numbers, got {shown(','.join(row))}; complete or drop it")
