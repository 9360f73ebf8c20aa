"""What of a sweep is intact when it is resumed, and a new copy of that where something is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.runs import swept
from saddlescope.runs.blocks import Box
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.runs.swept import RECORD, SUMS, Content, checksum
from saddlescope.sweeps import chunks
from saddlescope.sweeps.chunks import Chunk
from saddlescope.sweeps.layout import PENDING, Layout, Result

Record = dict[str, NDArray[Any]]
"""What is recorded about all runs, by variable of ``RECORD``."""


def empty(layout: Layout) -> Record:
    """The record before the first run."""
    return {name: np.full(layout.size, fill, dtype) for name, (dtype, fill, _) in RECORD.items()}


def intact(content: Content, layout: Layout) -> Record | None:
    """The record of a sweep, after all of its chunks were verified; None where something is not what was written."""
    record = empty(layout)
    whole = tuple(slice(0, size) for size in layout.shape)
    try:
        for name in content.names:
            for box, values in swept.slabs(content, name, whole):
                if name in record:
                    record[name].reshape(layout.shape)[box] = values
    except DamagedStore:
        return None
    return record


def copy(content: Content, layout: Layout, store: Any, attrs: Mapping[str, Any]) -> tuple[Record, NDArray[np.uint64]]:
    """Write all runs whose digest is right into a Zarr store, laid out anew; their record and all checksums."""
    chunks.lay_out(store, layout, attrs)
    described, record = chunks.metadata(store), empty(layout)
    sums = np.zeros(described[SUMS].shape, np.uint64)

    def write(made: list[Chunk]) -> None:
        chunks.write(store, described, made)
        for one in made:
            sums[one.sum_at] = checksum(one.values)

    for block in range(len(layout.records)):
        box, rows = layout.records.box(block), layout.records.rows(block)
        for name, kept in record.items():
            kept[rows] = _readable(content, name, box, ()).reshape(-1)
    record["seconds"][:] = _seconds(content, layout)
    for block in range(len(layout.blocks)):
        box, rows = layout.blocks.box(block), layout.blocks.rows(block)
        if record["status"][rows].any():
            found = {name: _readable(content, name, box, own.shape) for name, own in layout.arrays.items()}
            values = {name: one.reshape(-1, *one.shape[len(box) :]) for name, one in found.items()}
            _drop_damaged(record, rows, list(values.values()))
            write([Chunk.of(layout, name, block, one) for name, one in values.items()])
    for block in range(len(layout.records)):
        rows = layout.records.rows(block)
        write([Chunk.of(layout, name, block, kept[rows]) for name, kept in record.items()])
    chunks.write(store, described, chunks.changed(sums, np.zeros_like(sums)))
    return record, sums


def _readable(content: Content, name: str, box: Box, own: tuple[int, ...]) -> NDArray[Any]:
    """A variable in a box; where it cannot be read, as of pending runs."""
    shape = (*(part.stop - part.start for part in box), *own)
    try:
        values = swept.plain(np.asarray(content.arrays[name][box]))
        if values.shape == shape:
            return values
    except Exception:
        pass
    return np.full(shape, swept.fill(name), RECORD[name][0] if name in RECORD else "float64")


def _seconds(content: Content, layout: Layout) -> NDArray[Any]:
    """The times of the runs, which are no part of their digests: all of them, or NaN."""
    try:
        found = [one for _, one in swept.slabs(content, "seconds", tuple(slice(0, size) for size in layout.shape))]
        return np.concatenate(found).reshape(-1)
    except Exception:
        return np.full(layout.size, np.nan, np.float32)


def _drop_damaged(record: Record, rows: slice, values: list[Floats]) -> None:
    """Make the runs pending whose digest is wrong."""
    for row, index in enumerate(range(rows.start, rows.stop)):
        status = int(record["status"][index])
        if status != PENDING:
            own = tuple(one[row] for one in values)
            found = Result(index, status & 255, str(record["message"][index]), own, 0.0)
            if found.digest == int(record["digest"][index]):
                continue
        for name, (_, fill, _) in RECORD.items():
            record[name][index] = fill
        for one in values:
            one[row] = np.nan
