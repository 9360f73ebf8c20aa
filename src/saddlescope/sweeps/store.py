"""A sweep in an Icechunk repository, written by one committer, whoever executes the runs.

**Commits.** Results are kept in memory by block until ``commit`` writes every block that has changed, the record of its
runs and the checksums, and makes all of it visible at once. After a kill, the sweep is as after its last commit.

**Damage.** Icechunk has no checksum of a chunk. Chunks end with crc32c, ``sums`` shows readers a chunk that was lost or
exchanged, and the digest of every run shows, when a sweep is resumed, which runs are not what was written. These are
pending again, and all others are written anew in one commit.

**Writers.** On disk, a lock beside the store, see ``_files``; on an object store, see ``lease``. A committer that has
lost its lease cannot commit: Icechunk compares the last commit with the one that the session began from.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope import _files
from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope._warnings import warn
from saddlescope.runs import repository, swept
from saddlescope.runs.checkpoint import DamagedStore
from saddlescope.runs.repository import BRANCH, Place
from saddlescope.runs.swept import RECORD, Content, checksum
from saddlescope.sweeps import chunks, lease, lock, salvage
from saddlescope.sweeps.chunks import Chunk, Written
from saddlescope.sweeps.layout import PENDING, Layout, Result
from saddlescope.sweeps.salvage import Record


class Store:
    """A sweep in a store, locked and open to be written from its last commit on; see ``open``."""

    def __init__(self, place: Place, layout: Layout, held: ExitStack) -> None:
        self.place, self.layout, self._held = place, layout, held
        self._repository = repository.opened(place)
        content, sealed = _opened(place, layout)
        self._content: Content | None = content
        self._tip = content.commit
        self._values: dict[int, list[Floats]] = {}
        self._stored, self._token = 0, secrets.token_hex(8)
        self.attrs, self._annotated = dict(content.attrs if sealed else layout.attrs), False
        self._dirty: set[int] = set()
        self._recorded: list[int] = []
        self._forks: list[Any] = []
        self._described = {name: array.metadata for name, array in content.arrays.items()}
        record = salvage.intact(content, layout) if sealed and _same_blocks(content, layout) else None
        if record is None:
            self._record, self._sums = self._rewritten(content)
        else:
            self._record, self._sums = record, content.sums.copy()
        self._known, self._stored = self._sums.copy(), self._done

    @classmethod
    def open(cls, path: Any, layout: Layout, overwrite: bool = False) -> Self:
        """The store of a sweep at a path or address, new or from its last commit on.

        Raises FileExistsError when something else is there, BlockingIOError when another process writes there,
        DamagedStore when so much is damaged that the sweep cannot be resumed.
        """
        repository.icechunk()
        with ExitStack() as held:
            place, new = take(path, overwrite, held)
            if new:
                _create(place, layout)
            store = cls(place, layout, held)
            store._held = held.pop_all()
            return store

    @property
    def _done(self) -> int:
        return int(np.count_nonzero(self._record["status"]))

    def _rewritten(self, content: Content) -> tuple[Record, NDArray[np.uint64]]:
        """What is intact, written anew; warns of the rest."""
        self._stored = before = _done_runs(content)
        with self._writing():
            session = self._session()
            record, sums = salvage.copy(content, self.layout, session.store, self.attrs)
            self._tip = session.commit("what is intact", {"by": self._token})
        self._flush()
        if lost := before - int(np.count_nonzero(record["status"])):
            warn(f"{lost:,} of the {before:,} runs in {str(self.place)!r} are damaged and are executed again")
        self._content = content = swept.opened(self.place)
        self._described = {name: array.metadata for name, array in content.arrays.items()}
        return record, sums

    def pending(self) -> NDArray[np.int64]:
        """Numbers of the runs that have no result yet, or a damaged one."""
        return np.flatnonzero(self._record["status"] == PENDING)

    def put(self, result: Result) -> None:
        """Keep the result of a run for the next commit; ValueError when a value has the wrong shape."""
        for (name, own), value in zip(self.layout.arrays.items(), result.values, strict=True):
            chunks.check(name, own.shape, value)
        block = self.layout.blocks.of(result.index)
        if block not in self._values:
            if self._forks:
                self.commit()  # a worker may have written this block
            self._values[block] = self._read(block)
        row = result.index - int(self.layout.blocks.starts[block])
        for kept, value in zip(self._values[block], result.values, strict=True):
            kept[row] = value
        self._dirty.add(block)
        self._note(result.index, chunks.record(result))

    def _note(self, index: int, record: dict[str, Any]) -> None:
        for name, value in record.items():
            self._record[name][index] = value
        self._recorded.append(index)

    def _read(self, block: int) -> list[Floats]:
        """The values of a block as of the last commit."""
        layout, rows = self.layout, self.layout.blocks.rows(block)
        shapes = [(rows.stop - rows.start, *own.shape) for own in layout.arrays.values()]
        if not self._record["status"][rows].any():
            return [np.full(shape, np.nan) for shape in shapes]
        if self._content is None:
            self._content = swept.opened(self.place)
        box = layout.blocks.box(block)
        found = [swept.verified(self._content, name, box) for name in layout.arrays]
        return [one.reshape(shape).copy() for one, shape in zip(found, shapes, strict=True)]

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Add or change attributes of the dataset with the next commit; ``attrs`` has those that it has."""
        self.attrs.update(attrs)
        self._annotated = True

    def fork(self) -> Any:
        """A session that can be pickled, with which a worker writes blocks: ``chunks.write_block``."""
        return self._session().fork()

    def merge(self, session: Any, written: Sequence[Written]) -> None:
        """Put the blocks that a worker has written with a session into the next commit."""
        self._forks.append(session)
        for one in written:
            self._values.pop(one.block, None)
            self._dirty.discard(one.block)
            for place, found in one.sums.items():
                self._sums[place] = found
            for index, record in one.runs:
                self._note(index, record)

    def commit(self) -> None:
        """Make all results visible at once, and wait for the disk; if killed meanwhile, none of them is there."""
        if not (self._recorded or self._annotated):
            return
        import zarr

        with self._writing():
            session = self._session()
            if self._forks:
                session.merge(*self._forks)
            self._write(session.store)
            if self._annotated:
                chunks.describe(zarr.open_group(session.store, mode="r+"), self.layout, self.attrs)
            self._tip = session.commit(f"{self._done} of {self.layout.size} runs", {"by": self._token})
        self._flush()
        for block in self._dirty:
            if self._record["status"][self.layout.blocks.rows(block)].all():
                del self._values[block]
        self._content, self._known, self._stored = None, self._sums.copy(), self._done
        self._annotated = False
        for kept in (self._forks, self._dirty, self._recorded):
            kept.clear()

    def _session(self) -> Any:
        """A session from the last commit, which must be the last that this process knows."""
        session = self._repository.writable_session(BRANCH)
        if session.snapshot_id != self._tip:
            last = next(iter(self._repository.ancestry(snapshot_id=session.snapshot_id)))
            if last.metadata.get("by") != self._token:  # else a commit was interrupted after it was done
                raise self._overtaken()
        return session

    def _overtaken(self) -> BlockingIOError:
        return BlockingIOError(
            f"out {str(self.place)!r} was changed by another process meanwhile; run again to resume it"
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with repository.in_words(self.place, f"it resumes with the {self._stored:,} runs that are stored"):
                yield
        except repository.icechunk().ConflictError:
            raise self._overtaken() from None

    def _flush(self) -> None:
        if isinstance(self.place, Path):
            with _files.in_words(self.place, "out", f"it resumes with the {self._stored:,} runs that are stored"):
                lock.flush(self.place)

    def _write(self, store: Any) -> None:
        """Write the blocks that have changed, their record, and the checksums of both."""
        layout, made = self.layout, []
        for position, name in enumerate(layout.arrays):
            made += [Chunk.of(layout, name, block, self._values[block][position]) for block in self._dirty]
        for name, kept in self._record.items():
            for block in np.unique(layout.records.of(np.array(self._recorded))).tolist():
                made.append(Chunk.of(layout, name, block, kept[layout.records.rows(block)]))
        for one in made:
            self._sums[one.sum_at] = checksum(one.values)
        chunks.write(store, self._described, [*made, *chunks.changed(self._sums, self._known)])

    def dataset(self) -> xr.Dataset:
        """The sweep as of its last commit, read from disk when it is used."""
        return swept.read(self.place)

    def tidy(self) -> None:
        """Remove what earlier commits have left; a dataset that was loaded before may have to be loaded again."""
        before = datetime.now(UTC) - (timedelta(0) if isinstance(self.place, Path) else lease.TIDY_AFTER)
        try:
            self._repository.expire_snapshots(before)
            self._repository.garbage_collect(before)
        except repository.icechunk().IcechunkError as error:
            what = repository.line(error)
            warn(
                f"earlier versions in {str(self.place)!r} are kept: they could not be removed ({what}); use it as it is"
            )
        if isinstance(self.place, Path):
            lock.sweep_up(self.place)
            self._flush()

    def close(self) -> None:
        """Release the lock; results since the last commit are lost."""
        self._held.close()


def _create(place: Place, layout: Layout) -> None:
    """A sweep with all runs pending; it replaces one at the same place."""
    consequence = "nothing had been computed yet"
    if not isinstance(place, Path):
        with repository.in_words(place, consequence):
            _first_commit(place, layout)
        return
    with _files.in_words(place, "out", consequence), repository.in_words(place, consequence):
        folder = _files.aside(place)
        try:
            _first_commit(folder, layout)
            lock.mark(folder)
            lock.flush(folder)
            _files.put(folder, place)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def take(path: Any, overwrite: bool, held: ExitStack) -> tuple[Place, bool]:
    """The place of a sweep, held alone until ``held`` is closed, and whether a new one can be put there.

    Raises FileExistsError for what is not a sweep, BlockingIOError when another process writes there.
    """
    return (lease if repository.is_address(path) else lock).take(path, overwrite, held)


def _first_commit(place: Place, layout: Layout) -> None:
    made = repository.made(place)
    session = made.writable_session(BRANCH)
    chunks.lay_out(session.store, layout, layout.attrs)
    session.commit("a new sweep")


def _opened(place: Place, layout: Layout) -> tuple[Content, bool]:
    """The content of this sweep, and whether its metadata are what was written; if not, its runs may still be."""
    try:
        content = swept.opened(place)
    except DamagedStore as error:
        try:
            content = swept.opened(place, sealed=False)
            _check_same(content, layout)
        except Exception:
            raise error from None
        return content, False
    _check_same(content, layout)
    return content, True


def _check_same(content: Content, layout: Layout) -> None:
    """Raise FileExistsError for another sweep."""
    there, here = str(content.about["identity"]), layout.identity
    shapes = {name: layout.shape + own.shape for name, own in layout.arrays.items()}
    if there == here and shapes == {name: content.arrays[name].shape for name in content.about["arrays"]}:
        return
    lines = ([line for line in text.splitlines() if line] for text in (there, here))
    pairs = itertools.zip_longest(*lines, fillvalue="nothing")
    one, other = next(((a, b) for a, b in pairs if a != b), ("other shapes", "these"))
    raise FileExistsError(
        f"out {str(content.place)!r} holds another sweep, with {shown(one)} where this one has {shown(other)}; "
        "give another path, or overwrite=True (--overwrite)"
    )


def _same_blocks(content: Content, layout: Layout) -> bool:
    """Whether the chunks are those that this version makes."""
    stored = {name: content.blocks(name).chunk for name in content.names}
    ours = dict.fromkeys(layout.arrays, layout.blocks.chunk) | dict.fromkeys(RECORD, layout.records.chunk)
    return stored == ours


def _done_runs(content: Content) -> int:
    """Number of runs with a result, where the status can be read."""
    try:
        return int(np.count_nonzero(content.arrays["status"][...]))
    except Exception:
        return 0
