"""Blocks of runs as chunks of a Zarr group: its arrays, what is written to them, by the committer or by a worker.

A worker with large results writes whole blocks through a session that ``Store.fork`` gave it, and returns the session
and a ``Written``, of some bytes a run, which ``Store.merge`` puts into the next commit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from saddlescope.runs import repository
from saddlescope.runs.blocks import Box
from saddlescope.runs.swept import RECORD, SUMS, checksum, seal
from saddlescope.sweeps.layout import Layout, Result

SUMS_CHUNK = 4096
LEVEL = 1
"""Of the compression by Zstandard."""


def lay_out(store: Any, layout: Layout, attrs: Mapping[str, Any]) -> None:
    """The arrays of a sweep with all runs pending, in place of everything that was in a Zarr store."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    group = zarr.open_group(store, mode="w", zarr_format=3)
    codecs = (ZstdCodec(level=LEVEL), Crc32cCodec())

    def create(name: str, dtype: Any, fill: Any, shape: Any, chunks: Any, dims: Any, attrs: Any) -> Any:
        return group.create_array(
            name,
            shape=shape,
            chunks=tuple(max(1, part) for part in chunks),
            dtype=dtype,
            fill_value=fill,
            compressors=codecs,
            dimension_names=dims,
            attributes=_as_json(attrs),
        )

    for name, (dims, values, own_attrs) in layout.coords.items():
        values = np.asarray(values)
        text = values.dtype.kind in "OUT"
        dtype: Any = str if text else values.dtype
        fill: Any = "" if text else 0
        array = create(name, dtype, fill, values.shape, values.shape, dims, own_attrs)
        if values.size:
            array[...] = values.astype(object) if text else values
    for name, own in layout.arrays.items():
        shape, chunks = layout.shape + own.shape, layout.blocks.chunk + own.shape
        create(name, "float64", np.nan, shape, chunks, layout.dims + own.dims, own.attrs)
    for name, (kind, pending, own_attrs) in RECORD.items():
        dtype = str if kind == "object" else kind
        create(name, dtype, pending, layout.shape, layout.records.chunk, layout.dims, own_attrs)
    count = sum(len(blocks) for blocks, _ in layout.geometry.values())
    create(SUMS, "uint64", 0, (count,), (min(count, SUMS_CHUNK),), ("chunk",), {"definition": "BLAKE2b of every chunk"})
    describe(group, layout, attrs)


def _as_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without numbers and arrays of NumPy, and without tuples."""
    found: dict[str, Any] = json.loads(json.dumps(dict(attrs), default=lambda value: value.tolist()))
    return found


def describe(group: Any, layout: Layout, attrs: Mapping[str, Any]) -> None:
    """Write the attributes of a sweep, with their seal."""
    about = {"axes": list(layout.dims), "arrays": list(layout.arrays), "identity": layout.identity}
    apart = [name for name, (dims, _, _) in layout.coords.items() if dims != (name,)]
    group.attrs.put(_as_json({**attrs, "sweep": about, "coordinates": " ".join(apart)}))
    group.attrs["seal"] = seal(dict(group.attrs), dict(group.arrays()))


@dataclass(frozen=True)
class Chunk:
    """A block of runs of one variable: its place along the axes, its values, the place of its checksum."""

    name: str
    box: Box
    values: NDArray[Any]
    sum_at: int

    @classmethod
    def of(cls, layout: Layout, name: str, block: int, values: NDArray[Any]) -> Self:
        """The chunk of the runs of a block, in their order."""
        blocks, first = layout.geometry[name]
        box = blocks.box(block)
        shape = (*(part.stop - part.start for part in box), *values.shape[1:])
        return cls(name, box, values.reshape(shape), first + block)


def changed(sums: NDArray[np.uint64], known: NDArray[np.uint64]) -> list[Chunk]:
    """The chunks of the checksums themselves that differ from the known ones."""
    parts = np.unique(np.flatnonzero(sums != known) // SUMS_CHUNK).tolist()
    boxes = (slice(part * SUMS_CHUNK, min((part + 1) * SUMS_CHUNK, sums.size)) for part in parts)
    return [Chunk(SUMS, (box,), sums[box], -1) for box in boxes]


def write(store: Any, described: Mapping[str, Any], chunks: Sequence[Chunk]) -> None:
    """Write chunks into a Zarr store, all together; ``described`` has the metadata of its arrays.

    They are encoded here, which saves about 1 ms of CPU for each.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    buffer = default_buffer_prototype().buffer

    async def write_all() -> None:
        await asyncio.gather(*(store.set(key, buffer.from_bytes(data)) for key, data in encoded))

    encoded = [_encoded(one, described[one.name]) for one in chunks]
    sync(write_all())


def _encoded(chunk: Chunk, described: Any) -> tuple[str, bytes]:
    """Key and bytes of a chunk, as the codecs of ``lay_out`` make them."""
    import numcodecs

    shape, values = described.chunks, chunk.values
    if values.shape != shape:  # at the end of an axis
        values = np.full(shape, described.fill_value, chunk.values.dtype)
        values[tuple(map(slice, chunk.values.shape))] = chunk.values
    if values.dtype == object:
        data = numcodecs.VLenUTF8().encode(values.ravel())
    else:
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    data = bytes(numcodecs.Zstd(level=LEVEL).encode(data))
    places = [part.start // size for part, size in zip(chunk.box, shape, strict=False)]
    key = "/".join([chunk.name, "c", *map(str, places), *["0"] * (len(shape) - len(places))])
    return key, data + google_crc32c.value(data).to_bytes(4, "little")


def metadata(store: Any) -> dict[str, Any]:
    """The metadata of the arrays in a Zarr store."""
    import zarr

    return {name: array.metadata for name, array in zarr.open_group(store, mode="r").arrays()}


@dataclass(frozen=True)
class Written:
    """A block that a worker has written: the checksums of its chunks, and its runs without their values."""

    block: int
    sums: Mapping[int, int]
    runs: tuple[tuple[int, dict[str, Any]], ...]


def record(result: Result) -> dict[str, Any]:
    """What is recorded about a run."""
    return {name: getattr(result, name) for name in RECORD}


def check(name: str, shape: tuple[int, ...], value: Any) -> None:
    """Raise ValueError when a value has another shape than its array."""
    if np.shape(value) != shape:
        raise ValueError(f"{name} of a run must have the shape {shape} of its array, got {np.shape(value)}")


def write_block(session: Any, layout: Layout, results: Sequence[Result]) -> Written:
    """In a worker: write all runs of one block through a session from ``Store.fork``.

    Raises ValueError unless the results are the runs of one block, in order, with values of the right shapes.
    """
    block = layout.blocks.of(results[0].index)
    rows = layout.blocks.rows(block)
    if [result.index for result in results] != list(range(rows.start, rows.stop)):
        raise ValueError(f"results must be the runs {rows.start} to {rows.stop - 1}, which are one block, in order")
    made = []
    for position, (name, own) in enumerate(layout.arrays.items()):
        for result in results:
            check(name, own.shape, result.values[position])
        values = np.stack([np.asarray(result.values[position], "<f8") for result in results])
        made.append(Chunk.of(layout, name, block, values))
    repository.icechunk()
    write(session.store, metadata(session.store), made)
    sums = {one.sum_at: checksum(one.values) for one in made}
    return Written(block, sums, tuple((result.index, record(result)) for result in results))
