"""Places on disk, for stores and reports: paths from users, one writer at a time, no file deleted that is not ours.

A writer holds ``sole(path)`` from before it first reads ``path`` until it is done: a lock on
``.NAME.saddlescope-lock`` beside it, which the system releases when the process ends, for whatever reason. The writer
works in a folder from ``aside``, with a new random name, until ``put`` moves that folder to ``path``. What was there is
first moved to ``.NAME.TOKEN.saddlescope-old``, and renamed to ``…-gone`` before it is removed.
After a kill, ``recover`` completes this under the lock: if nothing is at ``path``, the old content is restored; all
other folders with these names are removed. No other file is ever changed.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from saddlescope._numbers import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_URL = re.compile(r"(?:[A-Za-z][\w+.-]*::)*([A-Za-z][\w+.-]+):/")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_TAG = "saddlescope"


def place(path: Any, name: str) -> Path:
    """The absolute path, with ``~`` expanded and links followed.

    Raises TypeError for what is not a path, ValueError for a URL or an unknown home, NotADirectoryError below a file.

    >>> place("s3://bucket/run.zarr", "out")
    Traceback (most recent call last):
    ValueError: out must be on this machine, got the s3 URL 's3://bucket/run.zarr'; give a path such as 'run.zarr'
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path such as 'run.zarr', got {shown(path)}")
    if not text or "\0" in text:
        raise ValueError(f"{name} must be a path such as 'run.zarr', got {text!r:.80}")
    if url := _URL.match(text):
        raise ValueError(
            f"{name} must be on this machine, got the {url[1]} URL {text!r:.80}; give a path such as 'run.zarr'"
        )
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(
            f"{name} {text!r:.80} names a home folder that does not exist; give './{text}' or another path"
        )
    with in_words(text, name):
        found = Path(os.path.realpath(expanded))
        for parent in found.parents:
            if parent.exists() and not parent.is_dir():
                raise NotADirectoryError(
                    f"{name} {text!r:.200} lies below {str(parent)!r}, which is a file; give a path in a folder"
                )
    return found


def text(path: Any, wanted: str) -> str:
    """The text of a file from a user; ``wanted`` says what it should be.

    Raises FileNotFoundError when nothing is there, ValueError when it is not text.
    """
    there = place(path, "path")
    with in_words(there, "path"):
        if not there.exists():
            raise FileNotFoundError(f"path {shown(os.fspath(path))} does not exist; give {wanted}")
        try:
            return there.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"path {shown(os.fspath(path))} is not text; give {wanted}") from None


@contextmanager
def in_words(
    path: str | os.PathLike[str], name: str, consequence: str = "nothing had been written yet"
) -> Iterator[None]:
    """Reword errors of the disk as one sentence; their class and errno are kept."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror is None:  # already one sentence
            raise
        fix = "check the disk"
        if error.errno in FULL:
            fix = f"the disk is full: free some space and run again; {consequence}"
        elif error.errno in _CLOSED:
            fix = "give a path in a folder that you may read and write"
        elif error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR):
            fix = "give another path"
        worded = type(error)(f"{name} {os.fspath(path)!r} could not be used ({error.strerror}); {fix}")
        worded.errno = error.errno
        raise worded from None


@contextmanager
def sole(path: Path, name: str) -> Iterator[None]:
    """The exclusive right to write at ``path``, which need not exist: for one thread of one process at a time.

    Raises BlockingIOError when another holds it, OSError on a system without such locks.
    """
    if fcntl is None:
        raise OSError(f"{name} cannot be written: stores and reports need file locks of Linux or macOS; use WSL here")
    with ExitStack() as held:
        try:
            with in_words(path, name):
                _lock_beside(path, held)
                if path.is_dir():
                    held.callback(os.close, _locked(path, os.O_RDONLY))
        except BlockingIOError:
            raise BlockingIOError(
                f"{name} {str(path)!r} is being written by another process; wait for it or give another path"
            ) from None
        yield


def _lock_beside(path: Path, held: ExitStack) -> None:
    """Lock the file beside ``path``; without write access to its folder, ``path`` cannot be replaced anyway."""
    file = path.with_name(f".{path.name}.{_TAG}-lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = _locked(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(file)):
                    break
            os.close(handle)  # its last owner has just removed the file
    except OSError as error:
        if error.errno in _CLOSED and path.is_dir():
            return
        raise
    held.callback(os.close, handle)
    held.callback(_remove_lock, file, handle)


def _remove_lock(file: Path, handle: int) -> None:
    if os.fstat(handle).st_size == 0:  # lock files of this package are empty
        file.unlink(missing_ok=True)


def _locked(path: Path, flags: int) -> int:
    handle = os.open(path, flags, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def aside(path: Path) -> Path:
    """A new empty folder beside ``path``, with a random name."""
    made = _aside(path, "new")
    made.mkdir()
    return made


def put(new: Path, path: Path) -> None:
    """Move ``new`` to ``path`` and remove what was there. Needs ``sole(path)``."""
    if not path.exists():
        new.rename(path)
        return
    old = _aside(path, "old")
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    _discard(old, path)


def recover(path: Path) -> None:
    """Complete or undo what a killed writer left beside ``path``. Needs ``sole(path)``."""
    for old in _asides(path, "old"):
        if not path.exists():
            old.rename(path)
        elif not path.is_dir() or any(path.iterdir()):  # an empty folder does not replace it
            _discard(old, path)
    for left in (*_asides(path, "new"), *_asides(path, "gone")):
        shutil.rmtree(left, ignore_errors=True)


def interrupted(path: Path) -> bool:
    """Whether ``recover`` would restore something at ``path``."""
    return not path.exists() and bool(_asides(path, "old"))


def replace(file: Path, data: bytes) -> None:
    """Write a file atomically: after a kill it holds the old or the new data. For one writer at a time."""
    part = _aside(file, "part")
    try:
        part.write_bytes(data)
        part.replace(file)
    finally:
        for left in _asides(file, "part"):
            left.unlink(missing_ok=True)


def _discard(old: Path, path: Path) -> None:
    gone = _aside(path, "gone")
    old.rename(gone)  # so that a half removed folder is never restored
    shutil.rmtree(gone, ignore_errors=True)


def _aside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{_TAG}-{kind}")


def _asides(path: Path, kind: str) -> list[Path]:
    """Such paths of any writer, oldest first."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.{_TAG}-{kind}")
    try:
        found = [entry for entry in path.parent.iterdir() if name.fullmatch(entry.name) and not entry.is_symlink()]
        return sorted(found, key=lambda entry: entry.stat().st_mtime)
    except OSError:
        return []
