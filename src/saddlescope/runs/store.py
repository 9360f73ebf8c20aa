"""A run in a Zarr store, whose writers may be killed or race each other, and whose files may be damaged.

**Layout.** A store is a Zarr 3 group with consolidated metadata. Its arrays have their full length from the start.

**Commits.** A commit writes the new saves, and then the checkpoint, one chunk that is replaced as a whole. It holds the
state of the ensemble, which determines how many saves count. After a kill, the store is as after its last commit.

**Checks.** The checkpoint begins with a digest of itself, and holds the digest of every file that never changes
(metadata, coordinates, large arrays of the problem) and, for every chunk of saves, the CRC-32C of the saves that count.
Damaged, missing, exchanged and outdated chunks are therefore all noticed when a store is opened or, at the latest, when
the chunk is read; saves that a killed commit has left do no harm. Each chunk also ends with Zarr's own crc32c, for
other readers. Events are stored for other readers only: this package computes them from the state. If an older
checkpoint alone is restored, the store is the run as it was then.

**Writers.** A call first takes the lock, and what it makes is kept aside until its first commit: see ``_files``. An
empty folder is filled in place, marked by ``.saddlescope-new`` until the first commit.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import xarray as xr

from saddlescope import _files
from saddlescope._numbers import shown
from saddlescope._warnings import warn
from saddlescope.engines.state import State
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import run_from_toml, run_to_toml
from saddlescope.runs import reading, swept, training
from saddlescope.runs.place import NEW, clear, is_run, mark
from saddlescope.runs.reading import check_saves, dataset, located, opened, steady
from saddlescope.runs.repository import is_address
from saddlescope.runs.run import Frame, Parts, earlier, saved
from saddlescope.runs.saves import Layout, lay_out, write
from saddlescope.runs.statistics import Record
from saddlescope.runs.variables import variables


class Store:
    """A run on disk, open to be written from its last commit on; ``held`` holds its lock until ``close``."""

    stored = True

    def __init__(self, path: Path) -> None:
        self._content = content = reading.read(path)
        self.path, self.attrs, self.state, self.complete = path, content.attrs, content.state, content.complete
        self.held = ExitStack()
        self._layout = Layout(content.problem, content.method, content.plan, content.saves, content.digests)
        self._sums = content.sums or {}

    def check(self) -> None:
        """Raise DamagedStore when a save is not what was written, ValueError when there are no checksums."""
        if self._content.sums is None:
            raise ValueError(
                f"out {str(self.path)!r} was written without checksums and cannot be resumed; "
                "finish it in another store with simulate(load(path), out=another_path)"
            )
        if self._content.saves.keys() != variables(self._content.problem, self._content.plan).keys():
            raise ValueError(
                f"out {str(self.path)!r} was written by version {self.attrs.get('inference_library_version')}, which "
                "had other observables, and cannot be resumed by this one; use that version, or another path"
            )
        check_saves(self._content)
        with suppress(OSError):
            (self.path / NEW).unlink(missing_ok=True)

    @classmethod
    def create(
        cls, path: Path, frame: Frame, problem: Problem, plan: Plan, state: State, records: Sequence[Record]
    ) -> Self:
        """A new store with a first commit; it replaces a run at ``path``. Needs the lock of ``path``."""
        in_place = path.is_dir() and not is_run(path)
        with _files.in_words(path, "out", "nothing had been computed yet"):
            target = path if in_place else _files.aside(path)
            try:
                if in_place:
                    clear(path)
                    mark(path, {*variables(problem, plan), *frame.coords, *frame.arrays})
                layout = lay_out(target, frame, problem, plan, state)
                write(target, layout, state, records, 0, layout.no_sums)
                if in_place:
                    (path / NEW).unlink()
                else:
                    _files.put(target, path)
            except BaseException:
                if in_place:
                    clear(path)
                else:
                    shutil.rmtree(target, ignore_errors=True)
                raise
            return cls(path)

    def commit(self, state: State, records: Sequence[Record]) -> None:
        """Append these saves, then the state: if killed in between, the store is as after the last commit."""
        done = saved(self._layout.plan, self.state)
        with _files.in_words(self.path, "out", f"it resumes from step {self.state.step}"):
            self._sums = write(self.path, self._layout, state, records, done, self._sums)
        self.state = state

    def same_run(self, problem: Problem, method: Method, plan: Plan, continued: Sequence[str]) -> bool:
        """Whether this run, after these earlier runs, has the results of the store; threads do not matter."""
        content = self._content
        one, other = (
            run_to_toml(*run, replace(threaded, threads=None), beside=True)
            for run, threaded in (((content.problem, content.method), content.plan), ((problem, method), plan))
        )
        return one == other and earlier(self.attrs) == tuple(continued)

    def dataset(self) -> xr.Dataset:
        """The run so far, read from disk when it is used."""
        return load(self.path)

    def close(self) -> None:
        """Release the lock of the store."""
        self.held.close()


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """The run in a store: the saves up to its last commit, read from disk, and checked, when they are used.

    ``run.attrs["complete"]`` is 1 when the run has reached its last step, else 0. What a monitor recorded of a training
    is read and checked as a whole. A sweep is read as of its last commit, with NaN and the status 0 for
    pending runs.
    Raises FileNotFoundError when nothing is there, ValueError when it is not a run, and DamagedStore (a ValueError),
    here or when the data are used, when the store does not hold what was written to it.

    >>> load("missing.zarr")
    Traceback (most recent call last):
    FileNotFoundError: path 'missing.zarr' does not exist; give the store that simulate(…, out=…) or watch.save(…) wrote
    """
    if is_address(path):
        return swept.read(swept.addressed(path))
    if swept.is_stored(place := located(path)):
        with _files.in_words(place, "path"):
            return steady(place, swept.read)
    if training.is_stored(place):
        with _files.in_words(place, "path"):
            return steady(place, training.read)
    content = opened(path)
    if content.sums is None:
        warn(
            f"the store {str(content.path)!r} was written without checksums, by an earlier version or by hand: "
            "damage to it would go unnoticed; simulate anew, or accept it"
        )
    return dataset(content)


def read(path: str | os.PathLike[str]) -> Parts:
    """Problem, method and plan of a run file (TOML) or of a store, so that ``simulate(*read(path))`` is that run.

    Warns when the store continues a run of another method, which these three do not repeat.
    Raises FileNotFoundError when nothing is there, TypeError or ValueError when it is neither or has an error, and
    DamagedStore (a ValueError).

    >>> read("missing.toml")
    Traceback (most recent call last):
    FileNotFoundError: path 'missing.toml' does not exist; give a run file (TOML) or a store
    """
    place = _files.place(path, "path")
    if place.is_dir():
        content = opened(path)
        if before := len(earlier(content.attrs)):
            warn(
                f"the run in {str(place)!r} continues {before} earlier run{'s' * (before > 1)} of another method: "
                "simulate(load(path), …) continues it, but problem, method and plan alone do not repeat it"
            )
        return content.problem, content.method, content.plan
    text = _files.text(path, "a run file (TOML) or a store")
    try:
        return run_from_toml(text, place.parent)
    except (TypeError, ValueError) as error:
        raise type(error)(f"run file {shown(os.fspath(path))}: {error}") from None


def check(path: str | os.PathLike[str]) -> None:
    """Read every save of a store; raises DamagedStore at the first that is not what was written."""
    check_saves(opened(path))
