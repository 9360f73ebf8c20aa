"""The arrays of a store, and how saves are written to their chunks and read back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import _files, _zarr
from saddlescope._arrays import Floats
from saddlescope.engines.state import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.checkpoint import DIGEST, DamagedStore, Sums, checksum, digest, pack
from saddlescope.runs.run import Frame, events, joined_saves, with_times
from saddlescope.runs.statistics import Record
from saddlescope.runs.variables import CHECKPOINT, EVENTS, shapes, variables


@dataclass(frozen=True, eq=False)
class Layout:
    """What never changes in a store: its run, the arrays of its saves, the digests of the files written once."""

    problem: Problem
    method: Method
    plan: Plan
    saves: dict[str, _zarr.Array]
    digests: dict[str, bytes]

    @property
    def no_sums(self) -> Sums:
        """The sums of a store without saves."""
        return {name: np.zeros(array.grid[:2], np.uint32) for name, array in self.saves.items()}


def save_arrays(problem: Problem, plan: Plan) -> dict[str, _zarr.Array]:
    """The arrays of the saves of a run, in their full length."""
    size = shapes(problem, plan)
    return {
        name: _zarr.Array(variable.dims, size[name], chunks(size[name]), "float64", variable.attrs)
        for name, variable in variables(problem, plan).items()
    }


def chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of about 4 MB of an array (ensemble, time, …): few saves of many members, rather than the reverse."""
    ensemble, times, *rest = shape
    row = 8 * math.prod(rest)
    saves = min(times, max(1, _zarr.CHUNK_BYTES // (row * ensemble)))
    return (min(ensemble, max(1, _zarr.CHUNK_BYTES // (row * saves))), saves, *rest)


def _event_arrays(
    problem: Problem, method: Method, plan: Plan, state: State
) -> Iterator[tuple[str, _zarr.Array, NDArray[Any]]]:
    for name, values in with_times(events(problem, plan, state), method).items():
        variable = EVENTS[name]
        yield name, _zarr.of(values, variable.dims, variable.attrs, whole=True), values


def lay_out(folder: Path, frame: Frame, problem: Problem, plan: Plan, state: State) -> Layout:
    """Write all metadata, coordinates and large arrays into a folder."""
    given, saves = frame.arrays | frame.coords, save_arrays(problem, plan)
    fixed = {name: _zarr.of(values, dims, attrs) for name, (dims, values, attrs) in given.items()}
    happened = {name: array for name, array, _ in _event_arrays(problem, frame.method, plan, state)}
    names = [_zarr.METADATA, *(f"{name}/{_zarr.METADATA}" for name in (*fixed, *saves, *happened, "checkpoint"))]
    names += [
        _zarr.chunk_file(Path(), name, index).as_posix()
        for name, array in fixed.items()
        for index in itertools.product(*map(range, array.grid))
    ]
    layout = Layout(problem, frame.method, plan, saves, dict.fromkeys(names, bytes(DIGEST)))
    length = len(pack(state, layout.digests, layout.no_sums))
    checkpoint = _zarr.Array(CHECKPOINT.dims, (length,), (length,), "int8", CHECKPOINT.attrs)
    apart = [name for name, (dims, _, _) in frame.coords.items() if dims != (name,)]
    attrs = frame.attrs | {"coordinates": " ".join(apart)}
    _zarr.lay_out(folder, attrs, fixed | saves | happened | {"checkpoint": checkpoint})
    for name, array in fixed.items():
        _zarr.write(folder, name, array, given[name][1])
    return replace(layout, digests={name: digest((folder / name).read_bytes()) for name in names})


def write(folder: Path, layout: Layout, state: State, records: Sequence[Record], done: int, sums: Sums) -> Sums:
    """Write saves after the first ``done``, then the checkpoint, which commits them; return the new sums."""
    sums = {name: values.copy() for name, values in sums.items()}
    for name, array in layout.saves.items() if records else ():
        _append(folder, name, array, joined_saves(records, name), done, sums[name])
    for name, array, values in _event_arrays(layout.problem, layout.method, layout.plan, state):
        if f"{name}/{_zarr.METADATA}" in layout.digests:  # earlier versions had fewer
            _zarr.write(folder, name, array, values)
    packed = np.frombuffer(pack(state, layout.digests, sums), np.int8)
    checkpoint = _zarr.Array(CHECKPOINT.dims, packed.shape, packed.shape, "int8", {})
    _zarr.write(folder, "checkpoint", checkpoint, packed)
    return sums


def _append(
    folder: Path, name: str, array: _zarr.Array, values: NDArray[Any], done: int, sums: NDArray[np.uint32]
) -> None:
    """Write saves into their chunks, and update the sums of these chunks in place."""
    rows, columns = array.chunks[:2]
    end = done + values.shape[1]
    for i, j in itertools.product(range(array.grid[0]), range(done // columns, -(-end // columns))):
        first, last = max(done, j * columns), min(end, (j + 1) * columns)
        new = values[i * rows : (i + 1) * rows, first - done : last - done]
        chunk = np.full(array.chunks, np.nan)
        if first > j * columns:
            chunk[...] = read_chunk(folder, name, array, (i, j), done, sums)
        chunk[: len(new), first - j * columns : last - j * columns] = new
        _zarr.write_chunk(folder, name, array, chunk_index(array, i, j), chunk)
        sums[i, j] = checksum(new, int(sums[i, j]))


def read_chunk(
    folder: Path, name: str, array: _zarr.Array, at: tuple[int, int], done: int, sums: NDArray[np.uint32]
) -> Floats:
    """One chunk of saves; raises DamagedStore unless the first ``done`` saves of the run in it are as committed."""
    index = chunk_index(array, *at)
    part = f"the chunk {_zarr.chunk_file(Path(), name, index).as_posix()}"
    with _files.in_words(folder, "path"):
        try:
            chunk = _zarr.read_chunk(folder, name, array, index)
        except ValueError as error:
            raise DamagedStore.of(folder, f"{part} {error}") from None
    valid = chunk[: array.shape[0] - at[0] * array.chunks[0], : done - at[1] * array.chunks[1]]
    if checksum(valid) != sums[at]:
        raise DamagedStore.of(folder, f"{part} does not hold the saves of the last commit")
    return chunk


def chunk_index(array: _zarr.Array, i: int, j: int) -> tuple[int, ...]:
    """The index of the chunk of members i and saves j; other dims have one chunk."""
    return (i, j, *(0 for _ in array.shape[2:]))
