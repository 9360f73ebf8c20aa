"""What a monitor recorded of a training, in a Zarr store that is written once and read as a whole.

A store is a Zarr 3 group, made aside and moved to its place. Its array ``digests`` begins with a digest of itself and
holds that of every other file, so that any damage is noticed when the store is read.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from saddlescope import _files, _zarr
from saddlescope.runs.checkpoint import DamagedStore, digest

SOURCE = "saddlescope.monitor"
"""The attribute ``source`` of these datasets (CF conventions)."""

WHAT = (
    "what a monitor recorded of a training, which has no problem, method and plan; use it with load, plot, "
    "saddlescope info or saddlescope plot"
)
"""End of the sentence that refuses such a dataset where a simulation is needed."""

MAGIC = b"saddlescope training\n"
DIGESTS = "digests"
_FILE = Path(DIGESTS, "c", "0")
_ATTRS = {"definition": "BLAKE2b digests of all other files of the store"}

Digests = dict[str, str]
"""By file of a store, relative to it, its digest in hexadecimal digits."""


def is_training(run: Any) -> bool:
    """Whether this is the dataset of a monitor."""
    return isinstance(run, xr.Dataset) and run.attrs.get("source") == SOURCE


def is_stored(place: Path) -> bool:
    """Whether a store of a monitor is at this place, intact or damaged."""
    try:
        with (place / _FILE).open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return True
    except OSError:
        pass
    try:
        return bool(json.loads((place / _zarr.METADATA).read_bytes())["attributes"]["source"] == SOURCE)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return (place / DIGESTS).is_dir()


def save(training: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write the dataset of a monitor; an intact store of a monitor at this path is replaced.

    Raises TypeError or ValueError for a path that cannot be, FileExistsError when something else is there, and
    BlockingIOError when another process writes there.
    """
    place = _files.place(path, "path")
    with _files.in_words(place, "path"), _files.sole(place, "path"):
        _files.recover(place)
        _check_replaceable(place)
        new = _files.aside(place)
        try:
            _write(new, training)
            _files.put(new, place)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise


def _check_replaceable(place: Path) -> None:
    """Raise FileExistsError unless nothing but an intact store of a monitor, or an empty folder, is there."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not is_stored(place):
        raise FileExistsError(f"path {str(place)!r} exists and is not the store of a monitor; give another path")
    try:
        ours = {*_digests(place), _FILE.as_posix()}
    except DamagedStore:
        raise FileExistsError(
            f"path {str(place)!r} is the damaged store of a monitor; move it elsewhere, or give another path"
        ) from None
    for entry in place.rglob("*"):
        name = entry.relative_to(place).as_posix()
        folder = entry.is_dir() and any(file.startswith(f"{name}/") for file in ours)
        if entry.is_symlink() or not (folder or name in ours):
            raise FileExistsError(
                f"path {str(place)!r} holds the store of a monitor and also {name!r}, which is not part of it; "
                "move it elsewhere, or give another path"
            )


def _write(folder: Path, training: xr.Dataset) -> None:
    """All files of a store; those of digests last."""
    arrays = {
        str(name): _zarr.of(variable.values, tuple(map(str, variable.dims)), variable.attrs)
        for name, variable in training.variables.items()
    }
    files = [_zarr.METADATA, *(f"{name}/{_zarr.METADATA}" for name in (*arrays, DIGESTS))]
    for name, array in arrays.items():
        files += [_zarr.chunk_file(Path(), name, index).as_posix() for index in _chunks(array)]
    length = len(_pack(dict.fromkeys(files, digest(b"").hex())))
    sealed = _zarr.Array(("byte",), (length,), (length,), "int8", _ATTRS)
    apart = [str(name) for name, one in training.coords.items() if one.dims != (name,)]
    _zarr.lay_out(folder, training.attrs | {"coordinates": " ".join(apart)}, arrays | {DIGESTS: sealed})
    for name, array in arrays.items():
        _zarr.write(folder, name, array, training[name].values)
    packed = _pack({file: digest((folder / file).read_bytes()).hex() for file in files})
    _zarr.write(folder, DIGESTS, sealed, np.frombuffer(packed, np.int8))


def _chunks(array: _zarr.Array) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, array.grid)))


def _pack(digests: Digests) -> bytes:
    body = json.dumps(digests).encode()
    return MAGIC + digest(body) + body


def _digests(place: Path) -> Digests:
    try:
        packed = _zarr.read_bytes(place / _FILE)
    except ValueError as error:
        raise DamagedStore.of(place, f"its digests are damaged: the file {_FILE.as_posix()} {error}") from None
    start = len(MAGIC) + len(digest(b""))
    if not packed.startswith(MAGIC) or digest(packed[start:]) != packed[len(MAGIC) : start]:
        raise DamagedStore.of(place, f"the file {_FILE.as_posix()} is not what was written")
    found: Digests = json.loads(packed[start:])
    return found


def read(place: Path) -> xr.Dataset:
    """The dataset in a store; raises DamagedStore unless every file is what was written."""
    for name, expected in _digests(place).items():
        try:
            same = digest((place / name).read_bytes()).hex() == expected
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise DamagedStore.of(place, f"the file {name} is missing") from None
        if not same:
            raise DamagedStore.of(place, f"the file {name} is not what was written")
    group = json.loads((place / _zarr.METADATA).read_bytes())
    attrs, names = group["attributes"], list(group["consolidated_metadata"]["metadata"])
    apart = attrs.pop("coordinates").split()
    variables = {}
    for name in names:
        if name != DIGESTS:
            array = _zarr.read_metadata(place, name)
            variables[name] = xr.Variable(array.dims, _zarr.read(place, name, array), array.attrs)
    return xr.Dataset(variables, attrs=attrs).set_coords(apart)
