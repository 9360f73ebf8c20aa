"""Where a run is put while it runs: in memory, or in a Zarr store that may be killed, raced for, or damaged.

**Layout.** A store is a Zarr 3 group with consolidated metadata. Its arrays have their full length from the start.

**Commits.** A commit writes the new saves, and then the checkpoint, one chunk that is replaced as a whole. It holds the
state of the ensemble, which alone says how many saves count. Killed at any time, a store stands at its last commit.

**Checks.** The checkpoint begins with a digest of itself, and holds the digest of every file that never changes
(metadata, coordinates, large arrays of the problem) and, of every chunk of saves, the CRC-32C of the saves that count.
So damaged, missing, exchanged and outdated chunks are all noticed, when a store is opened or at the latest when the
chunk is read, while saves that a killed commit has left do no harm. Each chunk also ends with Zarr's own crc32c, for
other readers. Events are stored for other readers only: here they come from the state. An older checkpoint, put back
together with nothing else, is the run as it was then.

**Writers.** The lock comes first, and what a call makes lies aside until its first commit: see ``_files``. An empty
folder is filled in its place, marked by ``.saddlescope-new`` until the first commit.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import struct
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import google_crc32c
import numpy as np
import tomli_w
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from saddlescope import _files, _zarr
from saddlescope.engines.state import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs import results
from saddlescope.runs.results import Record

COMMIT_BYTES = 128 << 20

_MAGIC = b"saddlescope run\n"
_UNCHECKED = (b"PK\x03\x04", b"\x28\xb5\x2f\xfd")
"""How a checkpoint begins in stores without checksums: as an archive, or compressed by Zstandard."""

_DIGEST = 16
"""Bytes of a digest."""

_NEW = ".saddlescope-new"
_CHECKPOINT = Path("checkpoint", "c", "0")

Sums = dict[str, NDArray[np.uint32]]


class DamagedStore(ValueError):
    """A store does not hold what was written there."""

    @classmethod
    def of(cls, path: Path, what: str) -> Self:
        """The error as a sentence."""
        fix = "restore it from a copy, or write the run anew (overwrite=True, --overwrite)"
        return cls(f"the store {str(path)!r} is damaged: {what}; {fix}")


class Sink(Protocol):
    """Takes the saves of a run and the state from which it can be resumed."""

    state: State

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, up to this state."""
        ...

    def dataset(self) -> xr.Dataset:
        """The run so far."""
        ...

    def close(self) -> None:
        """Let go of the sink."""
        ...


class Memory:
    """A run in memory."""

    def __init__(
        self, frame: xr.Dataset, problem: Problem, plan: Plan, state: State, records: Sequence[Record]
    ) -> None:
        self._frame, self._problem, self._plan = frame, problem, plan
        self._arrays = {name: np.full(array.shape, np.nan) for name, array in _saves(problem, plan).items()}
        self._done = 0
        self.commit(state, records)

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, up to this state."""
        end = self._done + len(records)
        for name in self._arrays if records else ():
            self._arrays[name][:, self._done : end] = results.stack(records, name)
        self._done, self.state = end, state

    def dataset(self) -> xr.Dataset:
        """The run so far."""
        arrays = {name: values[:, : self._done] for name, values in self._arrays.items()}
        return results.fill(self._frame, arrays, self._problem, self._plan, self.state)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True)
class _Content:
    """What a store holds, except for its saves.

    ``saves`` are their arrays, ``digests`` those of the files that never change, ``sums`` those of the saves, None in
    a store without checksums.
    """

    path: Path
    attrs: dict[str, Any]
    problem: Problem
    method: Method
    plan: Plan
    state: State
    saves: dict[str, _zarr.Array]
    digests: dict[str, bytes]
    sums: Sums | None

    @property
    def complete(self) -> bool:
        """Whether the run has come to its end."""
        return self.state.step >= self.plan.steps


class Store:
    """A run on disk, open to be written from its last commit on; ``held`` gets its lock, and is closed with it."""

    def __init__(self, path: Path) -> None:
        self._content = content = _read(path)
        self.path, self.attrs, self.state, self.complete = path, content.attrs, content.state, content.complete
        self.held = ExitStack()
        self._sums = content.sums or {}

    def check(self) -> None:
        """Raise DamagedStore when a save is not what was written, ValueError when there are no checksums."""
        if self._content.sums is None:
            raise ValueError(
                f"out {str(self.path)!r} was written without checksums and cannot be resumed; "
                "finish it elsewhere by simulate(load(path), out=another_path)"
            )
        if self._content.saves.keys() != results.variables(self._content.problem, self._content.plan).keys():
            raise ValueError(
                f"out {str(self.path)!r} was written by version {self.attrs.get('inference_library_version')}, which "
                "had other observables, and cannot be resumed by this one; use that version, or another path"
            )
        _check_saves(self._content)
        with suppress(OSError):
            (self.path / _NEW).unlink(missing_ok=True)

    @classmethod
    def create(
        cls,
        path: Path,
        frame: xr.Dataset,
        problem: Problem,
        plan: Plan,
        state: State,
        records: Sequence[Record],
    ) -> Self:
        """A new store with a first commit, in the place of the run at ``path`` if there is one; under its lock."""
        in_place = path.is_dir() and not is_run(path)
        with _files.in_words(path, "out", "nothing had been computed yet"):
            target = path if in_place else _files.aside(path)
            try:
                if in_place:
                    _clear(path)
                    (path / _NEW).touch(exist_ok=False)
                saves = _saves(problem, plan)
                digests, sums = _lay_out(target, frame, saves, problem, plan, state)
                _write(target, problem, plan, state, records, 0, saves, digests, sums)
                if in_place:
                    (path / _NEW).unlink()
                else:
                    _files.put(target, path)
            except BaseException:
                if in_place:
                    _clear(path)
                else:
                    shutil.rmtree(target, ignore_errors=True)
                raise
            return cls(path)

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, then let the state count: killed in between, the last commit still stands."""
        plan, saves = self._content.plan, self._content.saves
        done = results.saved(plan, self.state)
        with _files.in_words(self.path, "out", f"it resumes from step {self.state.step}"):
            problem, digests = self._content.problem, self._content.digests
            self._sums = _write(self.path, problem, plan, state, records, done, saves, digests, self._sums)
        self.state = state

    def dataset(self) -> xr.Dataset:
        """The run so far, read from disk when it is used."""
        return load(self.path)

    def close(self) -> None:
        """Let others write the store."""
        self.held.close()


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """The run in a store: the saves up to its last commit, read from disk, and checked, when they are used.

    ``run.attrs["complete"]`` is 1 when the run had come to its end, else 0.
    Raises FileNotFoundError when there is nothing, ValueError when it is no run, DamagedStore (a ValueError), here or
    when the data are used, when it does not hold what was written.

    >>> load("missing.zarr")
    Traceback (most recent call last):
    FileNotFoundError: path 'missing.zarr' does not exist; give the store that simulate(…, out=…) wrote
    """
    content = _opened(path)
    if content.sums is None:
        warnings.warn(
            f"the store {str(content.path)!r} was written without checksums, by an earlier version or by hand: "
            "damage to it goes unnoticed; simulate anew, or accept it",
            stacklevel=2,
        )
    return _dataset(content)


def check(path: str | os.PathLike[str]) -> None:
    """Read every save of a store; raises DamagedStore at the first that is not what was written."""
    _check_saves(_opened(path))


def take(path: Any, overwrite: bool, held: ExitStack) -> tuple[Path, bool]:
    """The place of a run to be written, locked as long as ``held`` is, and whether a new run can be put there.

    Raises FileExistsError for what is no run, BlockingIOError when another process writes there.
    """
    place = _files.place(path, "out")
    with _files.in_words(path, "out"):
        _check_place(place, path)
        held.enter_context(_files.sole(place, "out"))
        _files.recover(place)
        _check_place(place, path)
        if overwrite and is_run(place):
            _check_replaceable(place)
            return place, True
        return place, not is_run(place)


def _check_place(place: Path, path: Any) -> None:
    if place.exists() and not is_run(place) and not (place.is_dir() and _vacant(place)):
        raise FileExistsError(f"out {os.fspath(path)!r} exists and is no run; give another path")


def _check_replaceable(place: Path) -> None:
    if os.path.ismount(place):
        raise FileExistsError(f"out {str(place)!r} is a mount point, where no run can be replaced; give a folder in it")
    for entry in place.rglob("*"):
        relative = entry.relative_to(place).as_posix()
        if entry.is_symlink() or not (
            _OURS.fullmatch(relative) or (entry.is_dir() and _OUR_FOLDERS.fullmatch(relative))
        ):
            raise FileExistsError(
                f"out {str(place)!r} holds a run and also {relative!r}, which is no part of it; "
                "move that away, or give another path"
            )


def is_run(path: Path) -> bool:
    """Whether a run lies at ``path``, whole or damaged."""
    try:
        with (path / _CHECKPOINT).open("rb") as file:
            if file.read(len(_MAGIC)) == _MAGIC:
                return True
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    if (path / _NEW).exists():
        return False
    try:
        return "toml" in json.loads((path / _zarr.METADATA).read_bytes())["attributes"]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return (path / _CHECKPOINT).is_file()
    except (ValueError, KeyError, TypeError, RecursionError):
        return (path / "checkpoint").is_dir()


def same_run(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs with these attributes have the same results; the number of threads does not matter."""
    return _identity(one) == _identity(other)


def _identity(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    tables = tomllib.loads(attrs["toml"])
    tables["plan"].pop("threads", None)
    tables.pop("arrays", None)
    return tables, results.earlier(attrs)


# --- what a store is made of


def _saves(problem: Problem, plan: Plan) -> dict[str, _zarr.Array]:
    size = results.sizes(problem, plan)
    found = {}
    for name, variable in results.variables(problem, plan).items():
        shape = tuple(size[dim] for dim in variable.dims)
        found[name] = _zarr.Array(variable.dims, shape, chunks(shape), "float64", variable.attrs)
    return found


def chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of about 4 MB of an array (ensemble, time, …): few saves of many members, not the reverse."""
    ensemble, times, *rest = shape
    row = 8 * math.prod(rest)
    saves = min(times, max(1, _zarr.CHUNK_BYTES // (row * ensemble)))
    return (min(ensemble, max(1, _zarr.CHUNK_BYTES // (row * saves))), saves, *rest)


def _events(problem: Problem, plan: Plan, state: State) -> Iterator[tuple[str, _zarr.Array, NDArray[Any]]]:
    for name, values in results.events(problem, plan, state).items():
        variable = results.EVENTS[name]
        yield name, _zarr.of(values, variable.dims, variable.attrs, whole=True), values


def _lay_out(
    folder: Path, frame: xr.Dataset, saves: dict[str, _zarr.Array], problem: Problem, plan: Plan, state: State
) -> tuple[dict[str, bytes], Sums]:
    """Everything but saves, events and checkpoint; the digests of what never changes, the sums of no saves."""
    fixed = {str(name): _zarr.of(v.values, tuple(map(str, v.dims)), v.attrs) for name, v in frame.variables.items()}
    sums = {name: np.zeros(array.grid[:2], np.uint32) for name, array in saves.items()}
    events = {name: array for name, array, _ in _events(problem, plan, state)}
    names = [_zarr.METADATA, *(f"{name}/{_zarr.METADATA}" for name in (*fixed, *saves, *events, "checkpoint"))]
    names += [
        _zarr.chunk_file(Path(), name, index).as_posix()
        for name, array in fixed.items()
        for index in itertools.product(*map(range, array.grid))
    ]
    length = len(_pack(state, dict.fromkeys(names, bytes(_DIGEST)), sums))
    variable = results.CHECKPOINT
    checkpoint = _zarr.Array(variable.dims, (length,), (length,), "int8", variable.attrs)
    apart = [str(name) for name in frame.coords if name not in frame.dims]
    attrs = dict(frame.attrs) | {"coordinates": " ".join(apart)}
    _zarr.lay_out(folder, attrs, fixed | saves | events | {"checkpoint": checkpoint})
    for name, array in fixed.items():
        _zarr.write(folder, name, array, frame[name].values)
    return {name: _digest((folder / name).read_bytes()) for name in names}, sums


def _write(
    folder: Path,
    problem: Problem,
    plan: Plan,
    state: State,
    records: Sequence[Record],
    done: int,
    saves: dict[str, _zarr.Array],
    digests: dict[str, bytes],
    sums: Sums,
) -> Sums:
    """New saves behind the ``done`` first, the state last: it is what commits them. Returns the new sums."""
    sums = {name: values.copy() for name, values in sums.items()}
    for name, array in saves.items() if records else ():
        _append(folder, name, array, results.stack(records, name), done, sums[name])
    for name, array, values in _events(problem, plan, state):
        _zarr.write(folder, name, array, values)
    packed = np.frombuffer(_pack(state, digests, sums), np.int8)
    checkpoint = _zarr.Array(("byte",), packed.shape, packed.shape, "int8", {})
    _zarr.write(folder, "checkpoint", checkpoint, packed)
    return sums


def _append(
    folder: Path, name: str, array: _zarr.Array, values: NDArray[Any], done: int, sums: NDArray[np.uint32]
) -> None:
    """Write saves into their chunks, and continue the sums of these."""
    rows, columns = array.chunks[:2]
    end = done + values.shape[1]
    for i, j in itertools.product(range(array.grid[0]), range(done // columns, -(-end // columns))):
        first, last = max(done, j * columns), min(end, (j + 1) * columns)
        new = values[i * rows : (i + 1) * rows, first - done : last - done]
        chunk = np.full(array.chunks, np.nan)
        if first > j * columns:
            chunk[...] = _chunk(folder, name, array, (i, j), done, sums)
        chunk[: len(new), first - j * columns : last - j * columns] = new
        _zarr.write_chunk(folder, name, array, _index(array, i, j), chunk)
        sums[i, j] = _sum(new, int(sums[i, j]))


def _chunk(
    folder: Path, name: str, array: _zarr.Array, at: tuple[int, int], done: int, sums: NDArray[np.uint32]
) -> NDArray[np.float64]:
    """One chunk of saves, checked up to the ``done`` first saves of the run."""
    index = _index(array, *at)
    part = f"the chunk {_zarr.chunk_file(Path(), name, index).as_posix()}"
    with _files.in_words(folder, "path"):
        try:
            chunk = _zarr.read_chunk(folder, name, array, index)
        except ValueError as error:
            raise DamagedStore.of(folder, f"{part} {error}") from None
    valid = chunk[: array.shape[0] - at[0] * array.chunks[0], : done - at[1] * array.chunks[1]]
    if _sum(valid) != sums[at]:
        raise DamagedStore.of(folder, f"{part} holds other saves than the last commit wrote")
    return chunk


def _index(array: _zarr.Array, i: int, j: int) -> tuple[int, ...]:
    return (i, j, *(0 for _ in array.shape[2:]))


def _sum(values: NDArray[Any], start: int = 0) -> int:
    """CRC-32C of saves (ensemble, time, …) in the order of time, so that it can be continued."""
    return google_crc32c.extend(start, np.moveaxis(values, 1, 0).astype("<f8", copy=False).tobytes())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _pack(state: State, digests: Mapping[str, bytes], sums: Sums) -> bytes:
    """A checkpoint: mark, digest of the rest, length of a table, table, digests, sums, state."""
    table = json.dumps({"files": list(digests), "sums": {name: values.shape for name, values in sums.items()}}).encode()
    numbers = (np.ascontiguousarray(values, "<u4").tobytes() for values in sums.values())
    body = b"".join([struct.pack("<Q", len(table)), table, *digests.values(), *numbers, state.to_bytes()])
    return _MAGIC + _digest(body) + body


def _unpack(packed: bytes) -> tuple[State, dict[str, bytes], Sums]:
    """State, digests and sums of a checkpoint; ValueError when it is damaged."""
    start = len(_MAGIC) + _DIGEST
    if not packed.startswith(_MAGIC) or _digest(packed[start:]) != packed[len(_MAGIC) : start]:
        raise ValueError("has a wrong digest")
    body = io.BytesIO(packed[start:])
    table = json.loads(body.read(*struct.unpack("<Q", body.read(8))))
    digests = {name: body.read(_DIGEST) for name in table["files"]}
    sums = {}
    for name, shape in table["sums"].items():
        sums[name] = np.frombuffer(body.read(4 * math.prod(shape)), "<u4").reshape(shape)
    return State.from_bytes(body.read()), digests, sums


# --- reading


def _opened(path: Any) -> _Content:
    place = _files.place(path, "path")
    with _files.in_words(place, "path"):
        _bring_back(place)
        if not place.exists():
            raise FileNotFoundError(
                f"path {os.fspath(path)!r} does not exist; give the store that simulate(…, out=…) wrote"
            )
        if not is_run(place):
            raise ValueError(f"path {os.fspath(path)!r} holds no run; give the store that simulate(…, out=…) wrote")
        before = _inode(place)
        try:
            return _read(place)
        except DamagedStore:
            if _inode(place) == before:
                raise
        return _read(place)  # it was replaced in the meantime


def _bring_back(place: Path) -> None:
    """The run that an overwrite was about to replace when it was killed; one at work takes a moment."""
    for _ in range(100):
        if not _files.interrupted(place):
            return
        with suppress(BlockingIOError), _files.sole(place, "path"):
            _files.recover(place)
        time.sleep(0.01)


def _read(path: Path) -> _Content:
    """A store without its saves; everything that never changes is checked, and that no chunk is missing."""
    try:
        packed = (path / _CHECKPOINT).read_bytes()
        if packed.startswith(_UNCHECKED):
            return _read_unchecked(path)
        state, digests, sums = _unpack(_zarr.read_bytes(path / _CHECKPOINT))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DamagedStore.of(path, "its checkpoint is missing") from None
    except DamagedStore:
        raise
    except ValueError as error:
        raise DamagedStore.of(path, f"its checkpoint {error}") from None
    for name, digest in digests.items():
        try:
            same = _digest((path / name).read_bytes()) == digest
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise DamagedStore.of(path, f"the file {name} is missing") from None
        if not same:
            raise DamagedStore.of(path, f"the file {name} is not what was written")
    attrs = json.loads((path / _zarr.METADATA).read_bytes())["attributes"]
    del attrs["coordinates"]
    named = {name.split("/")[0] for name in digests if name.startswith(("data_", "init_"))}
    arrays = {name: _zarr.read(path, name, _zarr.read_metadata(path, name)) for name in named}
    problem, method, plan = results.parsed(attrs["toml"], arrays)
    if arrays:
        attrs["toml"] += "\n" + tomli_w.dumps({"arrays": {"store": str(path)}})
    saves = {name: _zarr.read_metadata(path, name) for name in sums}
    content = _Content(path, attrs, problem, method, plan, state, saves, digests, sums)
    for name, array, at in _chunks(content):
        file = _zarr.chunk_file(Path(), name, _index(array, *at))
        if not (path / file).is_file():
            raise DamagedStore.of(path, f"the chunk {file.as_posix()} is missing")
    return content


def _read_unchecked(path: Path) -> _Content:
    """A store without checksums, through the library; what that cannot read is damaged too."""
    try:
        stored = xr.open_zarr(path, chunks=None, consolidated=False)
        problem, method, plan = results.parts(stored)
        state = results.final_state(stored)
    except Exception as error:
        raise DamagedStore.of(path, f"it cannot be read ({_line(error)})") from None
    return _Content(path, dict(stored.attrs), problem, method, plan, state, _saves(problem, plan), {}, None)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.120}"


def _chunks(content: _Content) -> Iterator[tuple[str, _zarr.Array, tuple[int, int]]]:
    """Name, array and place of every chunk that holds saves."""
    done = results.saved(content.plan, content.state)
    for name, array in content.saves.items():
        for at in itertools.product(range(array.grid[0]), range(-(-done // array.chunks[1]))):
            yield name, array, at


def _check_saves(content: _Content) -> None:
    done = results.saved(content.plan, content.state)
    if content.sums is not None:
        for name, array, at in _chunks(content):
            _chunk(content.path, name, array, at, done, content.sums[name])


def _dataset(content: _Content) -> xr.Dataset:
    problem, plan = content.problem, content.plan
    stored = xr.open_dataset(content, engine=_Backend, chunks=None)  # type: ignore[arg-type]
    arrays = {name: stored[name].variable for name in content.saves}
    frame = results.frame(problem, content.method, plan, content.attrs)
    return results.fill(frame, arrays, problem, plan, content.state)


class _Backend(BackendEntrypoint):
    """The saves of a store, as xarray reads them when they are used."""

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.Dataset:
        """Saves up to the last commit; not filled up to the length of the whole run."""
        content: _Content = filename_or_obj
        if content.sums is None:
            return _unchecked(content)
        done = results.saved(content.plan, content.state)
        found = {
            name: (array.dims, indexing.LazilyIndexedArray(_Saves(content.path, name, array, done, content.sums[name])))
            for name, array in content.saves.items()
        }
        return xr.Dataset({name: xr.Variable(dims, data) for name, (dims, data) in found.items()})


class _Saves(BackendArray):
    """One variable of a store, from disk; every chunk is checked whenever it is read."""

    def __init__(self, path: Path, name: str, array: _zarr.Array, done: int, sums: NDArray[np.uint32]) -> None:
        self._path, self._name, self._array, self._done, self._sums = path, name, array, done, sums
        self.shape, self.dtype = (array.shape[0], done, *array.shape[2:]), np.dtype(np.float64)
        self._inode = _inode(path)

    def __getitem__(self, key: Any) -> Any:
        try:
            return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)
        except DamagedStore:
            if _inode(self._path) == self._inode:
                raise
        raise DamagedStore(f"the store {str(self._path)!r} is no longer the one that was opened; load it again")

    def _get(self, key: tuple[Any, ...]) -> NDArray[np.float64]:
        members, saves = (np.atleast_1d(np.arange(self.shape[axis])[key[axis]]) for axis in (0, 1))
        rows, columns = self._array.chunks[:2]
        rest = (slice(None), slice(None), *key[2:])
        values = np.empty((len(members), len(saves), *np.empty(self.shape[2:])[key[2:]].shape))
        for i, j in itertools.product(np.unique(members // rows).tolist(), np.unique(saves // columns).tolist()):
            chunk = _chunk(self._path, self._name, self._array, (i, j), self._done, self._sums)
            to = np.ix_(members // rows == i, saves // columns == j)
            at = np.ix_(members[to[0].ravel()] - i * rows, saves[to[1].ravel()] - j * columns)
            values[to] = chunk[at][rest]
        return values[tuple(0 if isinstance(part, (int, np.integer)) else slice(None) for part in key[:2])]


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


class _Unchecked(BackendArray):
    """One variable of a store without checksums; what the library cannot read is told in one sentence."""

    def __init__(self, path: Path, name: str, array: Any, done: int) -> None:
        self._path, self._name, self._array = path, name, array
        self.shape, self.dtype = (array.shape[0], done, *array.shape[2:]), np.dtype(array.dtype)

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._get)

    def _get(self, key: tuple[Any, ...]) -> NDArray[Any]:
        try:
            return np.asarray(self._array[_within(key, self.shape)])
        except Exception as error:
            raise DamagedStore.of(self._path, f"{self._name} cannot be read ({_line(error)})") from None


def _within(key: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The same part of an array whose dims may be longer."""
    return tuple(
        slice(*part.indices(size)) if isinstance(part, slice) else part for part, size in zip(key, shape, strict=True)
    )


def _unchecked(content: _Content) -> xr.Dataset:
    import zarr

    done, found = results.saved(content.plan, content.state), {}
    for name, expected in content.saves.items():
        try:
            array = zarr.open_array(content.path / name, mode="r")
            if array.shape[:1] + array.shape[2:] != expected.shape[:1] + expected.shape[2:] or array.shape[1] < done:
                raise ValueError("an array of another shape")
        except Exception as error:
            raise DamagedStore.of(content.path, f"{name} cannot be read ({_line(error)})") from None
        lazy = indexing.LazilyIndexedArray(_Unchecked(content.path, name, array, done))
        found[name] = xr.Variable(expected.dims, lazy)
    return xr.Dataset(found)


# --- what belongs to a run


def _vacant(place: Path) -> bool:
    """Whether a folder is empty but for what a killed call has left in it."""
    left = [entry.name for entry in place.iterdir()]
    return not left or (_NEW in left and all(_OUR_NAMES.fullmatch(name) for name in left))


def _clear(place: Path) -> None:
    """Remove from a vacant folder what a killed call has left."""
    if (place / _NEW).exists():
        for entry in place.iterdir():
            if entry.name != _NEW and _OUR_NAMES.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (place / _NEW).unlink()


_NAMES = "|".join((*results.COORDINATES, *results.OBSERVABLES, *results.EVENTS, r"checkpoint|W\d+|data_\w+|init_\w+"))
_OUR_NAMES = re.compile(rf"zarr\.json|{re.escape(_NEW)}|{_NAMES}")
_OUR_FOLDERS = re.compile(rf"(?:{_NAMES})(?:/c(?:/\d+)*)?")
_OURS = re.compile(
    rf"(?:(?:{_NAMES})/)?zarr\.json|{re.escape(_NEW)}"
    rf"|(?:{_NAMES})/c(?:/\d+)*/(?:\d+|\.\d+\.[0-9a-f]{{16}}\.saddlescope-part|\d+\.[0-9a-f]{{32}}\.partial)"
)
