"""Where a run is put while it goes on: in memory, or in a Zarr store that may be killed at any time.

In a store all arrays have their full length from the start. A commit writes the new saves, and then the state
of the ensemble into one chunk, which is replaced as a whole: this chunk alone says how many saves count.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import xarray as xr
import zarr

from saddlescope import results
from saddlescope.engines import protocol
from saddlescope.engines.protocol import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.results import Record

CHUNK_BYTES, COMMIT_BYTES = 4 << 20, 128 << 20
COUNTS = ("status", "histogram")
"""Variables that are whole numbers."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink(Protocol):
    """Takes the saves of a run and the state from which it can go on."""

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
        self._arrays = {name: np.full(shape, np.nan) for name, shape in _shapes(problem, plan).items()}
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
        return results.fill(self._frame, self._arrays, self._problem, self._plan, self.state)

    def close(self) -> None:
        """Nothing to let go of."""


class Store:
    """A run on disk, open to be written from its last commit on; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        self._group = zarr.open_group(path, mode="r+")
        stored = _open(path)
        self._problem, _, self._plan = results.parts(stored)
        self.state = results.final_state(stored)
        self.attrs = stored.attrs

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
        """A new store with a first commit, in the place of whatever lies at ``path``."""
        aside = path.with_name(path.name + ".partial")
        shutil.rmtree(aside, ignore_errors=True)
        with _one_sentence(path, "nothing had been computed yet"):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                group = _lay_out(aside, frame, problem, plan, state)
                _write(group, problem, plan, 0, state, records)
                _swap(aside, path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return cls(path)

    @property
    def complete(self) -> bool:
        """Whether the run has come to its end."""
        return self.state.step >= self._plan.steps

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, then let the state count: killed in between, the last commit still stands."""
        done = results.saved(self._plan, self.state)
        with _one_sentence(self.path, f"it goes on from step {self.state.step}"):
            _write(self._group, self._problem, self._plan, done, state, records)
        self.state = state

    def dataset(self) -> xr.Dataset:
        """The run so far, read from disk when it is used."""
        return load(self.path)

    def close(self) -> None:
        """Let other processes write the store."""
        os.close(self._lock)


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """The run in a store: the saves up to its last commit, read from disk when they are used.

    ``run.attrs["complete"]`` says whether the run had come to its end.
    Raises FileNotFoundError when there is nothing, ValueError when it is no run.

    >>> load("missing.zarr")
    Traceback (most recent call last):
    FileNotFoundError: path 'missing.zarr' does not exist; give the store that simulate(…, out=…) wrote
    """
    place = as_path(path, "path")
    if not place.exists():
        raise FileNotFoundError(f"path {str(place)!r} does not exist; give the store that simulate(…, out=…) wrote")
    if not is_run(place):
        raise ValueError(f"path {str(place)!r} holds no run; give the store that simulate(…, out=…) wrote")
    stored = _open(place)
    problem, method, plan = results.parts(stored)
    arrays = {name: stored[name].variable for name in results.variables(problem, plan)}
    frame = results.frame(problem, method, plan, stored.attrs)
    return results.fill(frame, arrays, problem, plan, results.final_state(stored))


def as_path(path: Any, name: str) -> Path:
    """A path; TypeError names the argument."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path such as 'run.zarr', got {path!r:.80}")
    return Path(path)


def is_run(path: Path) -> bool:
    """Whether a run lies at ``path``."""
    try:
        group = zarr.open_group(path, mode="r")
        return "toml" in group.attrs and "checkpoint" in group
    except (OSError, ValueError, KeyError):
        return False


def same_run(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs with these attributes have the same results; the number of threads does not matter."""
    return _identity(one) == _identity(other)


def _identity(attrs: dict[str, Any]) -> tuple[Any, ...]:
    tables = tomllib.loads(attrs["toml"])
    tables["plan"].pop("threads", None)
    return tables, tuple(attrs.get("continues", ()))


def saves_bytes(problem: Problem, plan: Plan) -> int:
    """Size of the saves of a run before compression."""
    return sum(8 * math.prod(shape) for shape in _shapes(problem, plan).values())


def checkpoint_bytes(problem: Problem, method: Method, plan: Plan) -> int:
    """Size of a checkpoint, to about a kilobyte."""
    member = protocol.start(problem, method, replace(plan, trajectories=1, members=plan.members and (0,)))
    own = (member.words, member.status, member.learned, member.peak, member.clock, member.order, member.correlator)
    return plan.count * sum(array.nbytes for array in (*own, *member.weights)) + member.histogram.nbytes


def _shapes(problem: Problem, plan: Plan) -> dict[str, tuple[int, ...]]:
    size = results.sizes(problem, plan)
    return {
        name: tuple(size[dim] for dim in variable.dims) for name, variable in results.variables(problem, plan).items()
    }


def _lay_out(path: Path, frame: xr.Dataset, problem: Problem, plan: Plan, state: State) -> zarr.Group:
    frame.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    group = zarr.open_group(path, mode="r+")
    shapes = _shapes(problem, plan)
    for name, variable in results.variables(problem, plan).items():
        _create(group, name, variable, shapes[name], chunks(shapes[name]))
    for name, values in results.events(state, plan).items():
        _create(group, name, results.EVENTS[name], values.shape, values.shape)
    length = len(state.to_bytes())
    group.create_array(
        "checkpoint",
        shape=(length,),
        chunks=(length,),
        dtype="uint8",
        compressors=None,
        dimension_names=("byte",),
        attributes=dict(results.CHECKPOINT),
    )
    return group


def _write(group: zarr.Group, problem: Problem, plan: Plan, done: int, state: State, records: Sequence[Record]) -> None:
    """New saves first, the state last: it is what commits them."""
    for name in results.variables(problem, plan) if records else ():
        _array(group, name)[:, done : done + len(records)] = results.stack(records, name)
    for name, values in results.events(state, plan).items():
        _array(group, name)[...] = values
    _array(group, "checkpoint")[...] = np.frombuffer(state.to_bytes(), np.uint8)


def _create(
    group: zarr.Group, name: str, variable: results.Variable, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype="int64" if name in COUNTS else "float64",
        fill_value=0 if name in COUNTS else np.nan,
        dimension_names=variable.dims,
        attributes=dict(variable.attrs),
    )


def chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunks of about 4 MB of an array (ensemble, time, …): few saves of many members, not the reverse."""
    ensemble, times, *rest = shape
    row = 8 * math.prod(rest)
    saves = min(times, max(1, CHUNK_BYTES // (row * ensemble)))
    return (min(ensemble, max(1, CHUNK_BYTES // (row * saves))), saves, *rest)


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{group.store} is damaged: {name} is not an array; write the run anew")
    return array


def _open(path: Path) -> xr.Dataset:
    run: xr.Dataset = xr.open_zarr(path, chunks=None, consolidated=False)
    return run


def _swap(new: Path, path: Path) -> None:
    old = path.with_name(path.name + ".old")
    if path.exists():
        os.close(_lock(path))  # refuses to take a store away from the process that writes it
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _lock(path: Path) -> int:
    """Lock a store for this process; the system frees the lock when the process ends, however it ends."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise BlockingIOError(
            f"out {str(path)!r} is being written by another process; wait for it or give another path"
        ) from None
    return handle


@contextmanager
def _one_sentence(path: Path, consequence: str) -> Iterator[None]:
    """Errors of the disk in words; their number is kept."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        fix = "give a path in a folder that can be written"
        if error.errno in _FULL:
            fix = f"the disk is full: free some space and run again; {consequence}"
        told = OSError(f"out {str(path)!r} could not be written ({error.strerror}); {fix}")
        told.errno = error.errno
        raise told from None
