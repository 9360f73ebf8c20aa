"""The part of Zarr 3 that stores use: metadata, and chunks that end with a checksum.

It is implemented here, without the zarr library, to control every byte of a store: files are replaced as a whole, empty
chunks are written too, and everything is checked when it is read. Any Zarr 3 reader can read the result.
Source: Zarr core specification version 3, zarr-specs.readthedocs.io.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from saddlescope import _files

METADATA = "zarr.json"
CHUNK_BYTES = 4 << 20

_FILL: dict[str, Any] = {"float64": "NaN", "int64": 0, "int8": 0, "string": ""}


@dataclass(frozen=True)
class Array:
    """An array as in its metadata; ``dtype`` is "float64", "int64", "int8" (not compressed) or "string"."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    attrs: Mapping[str, Any]

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along every dim."""
        return tuple(math.ceil(size / chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    @property
    def metadata(self) -> dict[str, Any]:
        """The content of its zarr.json."""
        first = {"string": {"name": "vlen-utf8"}, "int8": {"name": "bytes"}}.get(
            self.dtype, {"name": "bytes", "configuration": {"endian": "little"}}
        )
        compressed = [{"name": "zstd", "configuration": {"level": 0, "checksum": False}}] * (self.dtype != "int8")
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": _FILL[self.dtype],
            "codecs": [first, *compressed, {"name": "crc32c"}],
            "attributes": dict(self.attrs),
            "dimension_names": self.dims,
            "storage_transformers": [],
        }


def of(values: NDArray[Any], dims: tuple[str, ...], attrs: Mapping[str, Any], whole: bool = False) -> Array:
    """The array for these values, in chunks of about 4 MB along its first dim, or in one chunk (``whole``)."""
    dtype = {"f": "float64", "i": "int64"}.get(values.dtype.kind, "string")
    dtype = "int8" if values.dtype == np.int8 else dtype
    rows = max(1, CHUNK_BYTES // (8 * max(1, math.prod(values.shape[1:]))))
    first = values.shape[0] if whole else min(values.shape[0], rows)
    return Array(dims, values.shape, tuple(max(1, size) for size in (first, *values.shape[1:])), dtype, attrs)


def lay_out(folder: Path, attrs: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write the metadata of a group and of its arrays into a folder; the group also holds that of the arrays."""
    described = {name: array.metadata for name, array in arrays.items()}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": described}
    group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attrs), "consolidated_metadata": consolidated}
    for name, metadata in described.items():
        (folder / name).mkdir()
        _write_json(folder / name / METADATA, metadata)
    _write_json(folder / METADATA, group)


def chunk_file(folder: Path, name: str, index: tuple[int, ...]) -> Path:
    """The file of a chunk."""
    return folder.joinpath(name, "c", *map(str, index))


def write(folder: Path, name: str, array: Array, values: NDArray[Any]) -> None:
    """Write all chunks of an array."""
    for index in itertools.product(*map(range, array.grid)):
        write_chunk(folder, name, array, index, values[_inside(array, index)])


def write_chunk(folder: Path, name: str, array: Array, index: tuple[int, ...], values: NDArray[Any]) -> None:
    """Write one chunk; a partial one at the end of the array is filled with zeros."""
    if values.shape != array.chunks:
        full = np.zeros(array.chunks, values.dtype)
        full[tuple(map(slice, values.shape))] = values
        values = full
    if array.dtype == "string":
        data = bytes(_codec("vlen-utf8").encode(values.astype(object)))
    else:
        data = np.ascontiguousarray(values, np.dtype(array.dtype).newbyteorder("<")).tobytes()
    if array.dtype != "int8":
        data = bytes(_codec("zstd").encode(data))
    file = chunk_file(folder, name, index)
    file.parent.mkdir(parents=True, exist_ok=True)
    _files.replace(file, data + google_crc32c.value(data).to_bytes(4, "little"))


def read_chunk(folder: Path, name: str, array: Array, index: tuple[int, ...]) -> NDArray[Any]:
    """One chunk; ValueError when it is missing or its checksum is wrong."""
    data = read_bytes(chunk_file(folder, name, index))
    try:
        data = data if array.dtype == "int8" else bytes(_codec("zstd").decode(data))
        if array.dtype == "string":
            return np.asarray(_codec("vlen-utf8").decode(data)).reshape(array.chunks)
        return np.frombuffer(data, np.dtype(array.dtype).newbyteorder("<")).reshape(array.chunks)
    except (RuntimeError, ValueError, TypeError):
        raise ValueError("holds something else") from None


def read_bytes(file: Path) -> bytes:
    """The bytes of a chunk without their checksum; ValueError when it is missing or its checksum is wrong."""
    try:
        data = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError("is missing") from None
    if len(data) < 4 or google_crc32c.value(data[:-4]).to_bytes(4, "little") != data[-4:]:
        raise ValueError("has a wrong checksum")
    return data[:-4]


def read(folder: Path, name: str, array: Array) -> NDArray[Any]:
    """All of an array; texts as objects."""
    values = np.empty(array.shape, object if array.dtype == "string" else np.dtype(array.dtype))
    for index in itertools.product(*map(range, array.grid)):
        inside = _inside(array, index)
        chunk = read_chunk(folder, name, array, index)
        values[inside] = chunk[tuple(slice(cut.stop - cut.start) for cut in inside)]
    return values


def read_metadata(folder: Path, name: str) -> Array:
    """The array that its metadata describe; ValueError when they are missing or damaged."""
    try:
        found = json.loads((folder / name / METADATA).read_bytes())
        shape, chunks = tuple(found["shape"]), tuple(found["chunk_grid"]["configuration"]["chunk_shape"])
        array = Array(tuple(found["dimension_names"]), shape, chunks, found["data_type"], found["attributes"])
        if array.dtype in _FILL and array.grid:
            return array
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError("is missing") from None
    except (KeyError, TypeError, ValueError, ZeroDivisionError, RecursionError):
        pass
    raise ValueError("has damaged metadata")


def _codec(name: str) -> Any:
    import numcodecs  # slow to import

    return numcodecs.get_codec({"id": name, "level": 0} if name == "zstd" else {"id": name})


def _inside(array: Array, index: tuple[int, ...]) -> tuple[slice, ...]:
    cuts = zip(index, array.chunks, array.shape, strict=True)
    return tuple(slice(place * chunk, min((place + 1) * chunk, size)) for place, chunk, size in cuts)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))
