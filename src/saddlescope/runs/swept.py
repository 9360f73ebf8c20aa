"""A sweep in a store: what is in its Icechunk repository, and how it is read.

Every array has the axes of the sweep first; a chunk is a block of runs, see ``blocks``. Beside what is kept of the runs
there is what happened to them: ``RECORD``. ``sums`` holds a checksum of every chunk, since Icechunk does not notice a
chunk that was exchanged or lost, and the attribute ``seal`` one of coordinates, attributes and shapes. The seal is
verified when a store is opened, a chunk when it is read. A commit replaces all of this at once.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from saddlescope.runs import repository
from saddlescope.runs.blocks import Blocks, Box
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.runs.repository import BRANCH, Place

MARK = "saddlescope-sweep"
"""A file that marks the folder of a sweep, beside those of Icechunk."""

SUMS = "sums"
AGAIN = "run the same sweep again, which repeats what is damaged, or restore it from a copy"
SLAB = 1 << 25
"""Bytes of values that are read and verified at a time, if a row of chunks is not larger."""

RECORD: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "status": (
        "int8",
        0,
        {"definition": "0: pending, 1: done, 2: some trajectory diverged, 3: raised the error in message"},
    ),
    "digest": ("uint64", 0, {"definition": "BLAKE2b of status, values and message: equal for bit-identical runs"}),
    "seconds": ("float32", np.nan, {"definition": "time that the run took", "units": "s"}),
    "message": ("object", "", {"definition": "the error that the run raised"}),
}
"""By variable: type, value of a pending run, attributes."""


@dataclass(frozen=True)
class Content:
    """An opened sweep: a Zarr group at one commit, all of whose metadata was verified."""

    place: Place
    group: Any
    commit: str
    arrays: dict[str, Any]

    @cached_property
    def about(self) -> dict[str, Any]:
        """What identifies the sweep: ``axes``, ``arrays`` and ``identity``."""
        return dict(self.group.attrs["sweep"])

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes of the dataset."""
        return {name: value for name, value in self.group.attrs.items() if name not in ("sweep", "seal", "coordinates")}

    @property
    def axes(self) -> list[str]:
        """Dims of the axes."""
        return list(self.about["axes"])

    @property
    def names(self) -> list[str]:
        """Variables of the runs, in the order of their checksums."""
        return [*self.about["arrays"], *RECORD]

    def blocks(self, name: str) -> Blocks:
        """The blocks of a variable, which are its chunks."""
        array, axes = self.arrays[name], len(self.axes)
        return Blocks(array.shape[:axes], array.chunks[:axes])

    @cached_property
    def offsets(self) -> dict[str, int]:
        """By variable, the place of its first checksum."""
        counts = itertools.accumulate((len(self.blocks(name)) for name in self.names), initial=0)
        return dict(zip(self.names, counts, strict=False))

    @cached_property
    def sums(self) -> NDArray[np.uint64]:
        """All checksums."""
        return np.asarray(self.arrays[SUMS][...])


def is_stored(place: Place) -> bool:
    """Whether a sweep is at this place, intact or damaged; Icechunk is not imported for a folder."""
    if isinstance(place, Path):
        return (place / MARK).exists()
    return repository.exists(place)


def is_sweep(dataset: xr.Dataset) -> bool:
    """Whether a dataset is a sweep: it records what happened to its runs."""
    return set(RECORD) <= set(dataset.variables)


def addressed(address: Any) -> str:
    """The address of a sweep in an object store; FileNotFoundError when nothing is there."""
    if not repository.exists(address):
        raise FileNotFoundError(f"path {address!r} does not exist; give the store that a sweep wrote")
    return str(address)


def opened(place: Place, sealed: bool = True) -> Content:
    """The sweep at a place as of its last commit; DamagedStore for metadata with a wrong seal, if ``sealed``."""
    import zarr

    held = repository.opened(place)
    with repository.reading(place):
        session = held.readonly_session(BRANCH)
        group = zarr.open_group(session.store, mode="r")
        arrays = dict(group.arrays())
        if sealed and group.attrs.get("seal") != seal(dict(group.attrs), arrays):
            raise repository.damaged(place, "its metadata or coordinates are not what was written")
    return Content(place, group, session.snapshot_id, arrays)


def seal(attrs: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    """Digest of attributes, shapes and coordinates."""
    content = hashlib.blake2b(digest_size=16)
    described: dict[str, Any] = {"": {name: value for name, value in attrs.items() if name != "seal"}}
    kept = set(attrs["sweep"]["arrays"]) | {*RECORD, SUMS}
    for name, array in sorted(arrays.items()):
        fill = repr(np.asarray(array.fill_value).item())
        dims = array.metadata.dimension_names
        described[name] = [array.shape, array.chunks, array.dtype.kind, dims, fill, dict(array.attrs)]
        if name not in kept:
            content.update(checksum(array[...]).to_bytes(8, "little"))
    content.update(json.dumps(described, sort_keys=True).encode())
    return content.hexdigest()


def checksum(values: NDArray[Any]) -> int:
    """BLAKE2b of numbers or texts, in 8 bytes.

    >>> checksum(np.array([1.0, 2.0])) == checksum(np.array([2.0, 1.0]))
    False
    """
    if values.dtype.kind in "OTU":
        data: Any = json.dumps([str(text) for text in values.ravel()]).encode()
    else:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        data = np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def read(place: Place) -> xr.Dataset:
    """The sweep at a place as of its last commit; values are read, and verified, when they are used."""
    content = opened(place)
    stored: xr.Dataset = xr.open_dataset(content, engine=_Backend, chunks=None)  # type: ignore[arg-type]
    return stored


class _Backend(BackendEntrypoint):
    """A sweep as xarray reads it when values are used."""

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.Dataset:
        """All variables, with the coordinates in memory."""
        content: Content = filename_or_obj
        found, coords = {}, {}
        kept = content.names
        for name, array in content.arrays.items():
            dims, attrs = array.metadata.dimension_names, dict(array.attrs)
            if name in kept:
                data = indexing.LazilyIndexedArray(_Verified(content, name))
                found[name] = xr.Variable(dims, data, attrs)
            elif name != SUMS:
                coords[name] = xr.Variable(dims, plain(array[...]), attrs)
        return xr.Dataset({name: found[name] for name in kept}, coords, content.attrs)


def plain(values: NDArray[Any]) -> NDArray[Any]:
    """Texts as objects, which every version of NumPy and xarray can hold."""
    return values.astype(object) if values.dtype.kind in "TU" else values


class _Verified(BackendArray):
    """One variable of a sweep on disk; a chunk is verified whenever it is read."""

    def __init__(self, content: Content, name: str) -> None:
        self._content, self._name = content, name
        array = content.arrays[name]
        self.shape, self.dtype = array.shape, np.dtype(RECORD[name][0] if name in RECORD else "float64")

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return self._read(key)
        except DamagedStore:
            if not replaced(self._content):
                raise
        raise DamagedStore(f"the sweep {str(self._content.place)!r} was changed since it was loaded; load it again")

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Read rows of blocks along the first axis, each verified and reduced to what was asked for."""
        axes = len(self._content.axes)
        wanted = [
            np.atleast_1d(np.arange(size)[part]) for size, part in zip(self.shape[:axes], key[:axes], strict=True)
        ]
        own = key[axes:]
        whole = np.empty((*map(len, wanted), *np.empty(self.shape[axes:], bool)[own].shape), self.dtype)
        if whole.size:
            span = tuple(slice(int(one.min()), int(one.max()) + 1) for one in wanted)
            for box, values in slabs(self._content, self._name, span):
                rows = (wanted[0] >= box[0].start) & (wanted[0] < box[0].stop)
                inside = [wanted[0][rows], *wanted[1:]]
                if not all(map(len, inside)):
                    continue
                parts = [_sliced(one, part.start) for one, part in zip(inside, box, strict=True)]
                whole[rows] = values[(*parts, *own)]
        return whole[tuple(0 if isinstance(part, (int, np.integer)) else slice(None) for part in key[:axes])]


def _sliced(positions: NDArray[np.intp], start: int) -> slice:
    """Equally spaced positions as a slice, counted from ``start``."""
    first, last = int(positions[0]) - start, int(positions[-1]) - start
    step = int(positions[1] - positions[0]) if len(positions) > 1 else 1
    stop = last + step
    return slice(first, stop if stop >= 0 else None, step)


def slabs(content: Content, name: str, span: Box) -> Iterator[tuple[Box, NDArray[Any]]]:
    """A variable in boxes of whole blocks that cover a box, in rows along the first axis; every block is verified."""
    array, blocks = content.arrays[name], content.blocks(name)
    around = blocks.around(span)
    row = 8 * math.prod(
        (blocks.chunk[0], *(part.stop - part.start for part in around[1:]), *array.shape[len(around) :])
    )
    step = blocks.chunk[0] * max(1, SLAB // row)
    for start in range(around[0].start, around[0].stop, step):
        box = (slice(start, min(start + step, around[0].stop)), *around[1:])
        yield box, verified(content, name, box)


def verified(content: Content, name: str, box: Box) -> NDArray[Any]:
    """A variable in a box of whole blocks; DamagedStore unless every block is what was written."""
    blocks, first = content.blocks(name), content.offsets[name]
    with repository.reading(content.place, name, AGAIN):
        values = plain(np.asarray(content.arrays[name][box]))
        sums = content.sums
    for block in blocks.within(box):
        inner = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(box, blocks.box(block), strict=True))
        part = values[inner]
        expected = int(sums[first + block]) or checksum(np.full_like(part, fill(name)))
        if checksum(part) != expected:
            runs = f"{blocks.rows(block).start} to {blocks.rows(block).stop - 1}"
            raise repository.damaged(content.place, f"{name} of the runs {runs} is not what was written", AGAIN)
    return values


def fill(name: str) -> Any:
    """The value of a pending run."""
    return RECORD[name][1] if name in RECORD else np.nan


def replaced(content: Content) -> bool:
    """Whether the sweep has another last commit than the one that was opened."""
    try:
        return bool(repository.opened(content.place).lookup_branch(BRANCH) != content.commit)
    except Exception:
        return False
