"""Reading a store: state and metadata when it is opened, saves when they are used; all of it is checked."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tomli_w
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from saddlescope import _files, _zarr
from saddlescope._arrays import Floats
from saddlescope.engines.state import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs import training
from saddlescope.runs.checkpoint import CHECKPOINT, UNCHECKED, DamagedStore, Sums, digest, unpack
from saddlescope.runs.place import is_run
from saddlescope.runs.run import fill, final_state, frame, parsed, parts, remember, saved
from saddlescope.runs.saves import chunk_index, read_chunk, save_arrays

T = TypeVar("T")


@dataclass(frozen=True)
class Content:
    """What a store holds, except for its saves.

    ``saves`` are the arrays of the saves, ``digests`` belong to the files that never change, ``sums`` to the saves;
    ``sums`` is None in a store without checksums.
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
        """Whether the run has reached its last step."""
        return self.state.step >= self.plan.steps


def opened(path: Any) -> Content:
    """The content of the store at a path from a user.

    Raises FileNotFoundError when nothing is there, ValueError when it is not a run, DamagedStore when it is damaged.
    """
    place = located(path)
    with _files.in_words(place, "path"):
        if training.is_stored(place):
            raise ValueError(f"path {os.fspath(path)!r} is not a run but {training.WHAT}")
        if not is_run(place):
            raise ValueError(
                f"path {os.fspath(path)!r} is not a run; give the store that simulate(…, out=…) or watch.save(…) wrote"
            )
        return steady(place, read)


def located(path: Any) -> Path:
    """The place of a store, whatever it holds; FileNotFoundError when nothing is there."""
    place = _files.place(path, "path")
    with _files.in_words(place, "path"):
        _bring_back(place)
        if not place.exists():
            raise FileNotFoundError(
                f"path {os.fspath(path)!r} does not exist; "
                "give the store that simulate(…, out=…) or watch.save(…) wrote"
            )
    return place


def steady(place: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` finds at a place, also where another process replaces it meanwhile."""
    before = _inode(place)
    try:
        return read(place)
    except DamagedStore:
        if _inode(place) == before:
            raise
    return read(place)


def _bring_back(place: Path) -> None:
    """Restore a run that an overwrite was replacing when it was killed; wait briefly for one that is still at work."""
    for _ in range(100):
        if not _files.interrupted(place):
            return
        with suppress(BlockingIOError), _files.sole(place, "path"):
            _files.recover(place)
        time.sleep(0.01)


def read(path: Path) -> Content:
    """The content of a store; checks the digest of every file that never changes, and that no chunk is missing."""
    try:
        packed = (path / CHECKPOINT).read_bytes()
        if packed.startswith(UNCHECKED):
            return _read_unchecked(path)
        state, digests, sums = unpack(_zarr.read_bytes(path / CHECKPOINT))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise DamagedStore.of(path, "its checkpoint is missing") from None
    except DamagedStore:
        raise
    except ValueError as error:
        raise DamagedStore.of(path, f"its checkpoint {error}") from None
    _check_files(path, digests)
    attrs = json.loads((path / _zarr.METADATA).read_bytes())["attributes"]
    del attrs["coordinates"]
    named = {name.split("/")[0] for name in digests if name.startswith(("data_", "init_"))}
    arrays = {name: _zarr.read(path, name, _zarr.read_metadata(path, name)) for name in named}
    problem, method, plan = parsed(attrs["toml"], arrays)
    if arrays:
        attrs["toml"] += "\n" + tomli_w.dumps({"arrays": {"store": str(path)}})
        remember(attrs["toml"], (problem, method, plan))
    saves = {name: _zarr.read_metadata(path, name) for name in sums}
    content = Content(path, attrs, problem, method, plan, state, saves, digests, sums)
    for name, array, at in _chunks(content):
        file = _zarr.chunk_file(Path(), name, chunk_index(array, *at))
        if not (path / file).is_file():
            raise DamagedStore.of(path, f"the chunk {file.as_posix()} is missing")
    return content


def _check_files(path: Path, digests: dict[str, bytes]) -> None:
    for name, expected in digests.items():
        try:
            same = digest((path / name).read_bytes()) == expected
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise DamagedStore.of(path, f"the file {name} is missing") from None
        if not same:
            raise DamagedStore.of(path, f"the file {name} is not what was written")


def _read_unchecked(path: Path) -> Content:
    """The content of a store without checksums, read by xarray; what it cannot read is damaged too."""
    try:
        stored = xr.open_zarr(path, chunks=None, consolidated=False)
        problem, method, plan = parts(stored)
        state = final_state(stored)
    except Exception as error:
        raise DamagedStore.of(path, f"it cannot be read ({_line(error)})") from None
    return Content(path, dict(stored.attrs), problem, method, plan, state, save_arrays(problem, plan), {}, None)


def _line(error: Exception) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()):.120}"


def _chunks(content: Content) -> Iterator[tuple[str, _zarr.Array, tuple[int, int]]]:
    """Name, array and place of every chunk that holds saves."""
    done = saved(content.plan, content.state)
    for name, array in content.saves.items():
        for at in itertools.product(range(array.grid[0]), range(-(-done // array.chunks[1]))):
            yield name, array, at


def check_saves(content: Content) -> None:
    """Read every save; raise DamagedStore at the first chunk that is not as committed."""
    done = saved(content.plan, content.state)
    if content.sums is not None:
        for name, array, at in _chunks(content):
            read_chunk(content.path, name, array, at, done, content.sums[name])


def dataset(content: Content) -> xr.Dataset:
    """The run; its saves are read when they are used."""
    problem, plan = content.problem, content.plan
    stored = xr.open_dataset(content, engine=_Backend, chunks=None)  # type: ignore[arg-type]
    arrays = {name: stored[name].variable for name in content.saves}
    return fill(frame(problem, content.method, plan, content.attrs), arrays, problem, plan, content.state)


class _Backend(BackendEntrypoint):
    """The saves of a store, as xarray reads them when they are used."""

    def open_dataset(self, filename_or_obj: Any, *, drop_variables: Any = None) -> xr.Dataset:
        """Saves up to the last commit, without the empty rest of the arrays."""
        content: Content = filename_or_obj
        if content.sums is None:
            return _unchecked(content)
        done = saved(content.plan, content.state)
        found = {
            name: (array.dims, indexing.LazilyIndexedArray(_Saves(content.path, name, array, done, content.sums[name])))
            for name, array in content.saves.items()
        }
        return xr.Dataset({name: xr.Variable(dims, data) for name, (dims, data) in found.items()})


class _Saves(BackendArray):
    """One variable of a store, on disk; a chunk is checked whenever it is read."""

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

    def _get(self, key: tuple[Any, ...]) -> Floats:
        members, saves = (np.atleast_1d(np.arange(self.shape[axis])[key[axis]]) for axis in (0, 1))
        rows, columns = self._array.chunks[:2]
        rest = (slice(None), slice(None), *key[2:])
        values = np.empty((len(members), len(saves), *np.empty(self.shape[2:])[key[2:]].shape))
        for i, j in itertools.product(np.unique(members // rows).tolist(), np.unique(saves // columns).tolist()):
            chunk = read_chunk(self._path, self._name, self._array, (i, j), self._done, self._sums)
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
    """One variable of a store without checksums; what zarr cannot read raises DamagedStore."""

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
    """The same part of a longer array: slices with explicit ends."""
    return tuple(
        slice(*part.indices(size)) if isinstance(part, slice) else part for part, size in zip(key, shape, strict=True)
    )


def _unchecked(content: Content) -> xr.Dataset:
    import zarr

    done, found = saved(content.plan, content.state), {}
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
