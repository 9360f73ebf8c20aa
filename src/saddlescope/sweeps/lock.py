"""The place of a sweep on disk: locked, checked, replaced as a whole, and flushed."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saddlescope import _files
from saddlescope.runs.swept import MARK, is_stored

_OURS = re.compile(
    rf"{MARK}|config\.yaml|repo|(refs|snapshots|manifests|chunks|transactions|attributes|overwritten)(/.+)?"
)
_TEXT = "A sweep of saddlescope in an Icechunk repository: open it with saddlescope.load.\n"


def take(path: Any, overwrite: bool, held: ExitStack) -> tuple[Path, bool]:
    """The place of a sweep, locked until ``held`` is closed, and whether a new one can be put there.

    Raises FileExistsError for what is not a sweep, BlockingIOError when another process writes there.
    """
    place = _files.place(path, "out")
    with _files.in_words(path, "out"):
        _check(place, path)
        held.enter_context(_files.sole(place, "out"))
        _files.recover(place)
        _check(place, path)
        if is_stored(place) and overwrite:
            _check_replaceable(place)
        return place, overwrite or not is_stored(place)


def _check(place: Path, path: Any) -> None:
    empty = not place.exists() or (place.is_dir() and not any(place.iterdir()))
    if not empty and not is_stored(place):
        raise FileExistsError(f"out {os.fspath(path)!r} exists and is not a sweep; give another path")


def _check_replaceable(place: Path) -> None:
    """Raise FileExistsError unless the folder of a sweep holds nothing else."""
    for entry in place.rglob("*"):
        relative = entry.relative_to(place).as_posix()
        if entry.is_symlink() or not _OURS.fullmatch(relative):
            raise FileExistsError(
                f"out {str(place)!r} holds a sweep and also {relative!r}, which is not part of it; "
                "move it elsewhere, or give another path"
            )


def mark(folder: Path) -> None:
    """Mark a folder as that of a sweep."""
    (folder / MARK).write_text(_TEXT, encoding="utf-8")


def flush(place: Path) -> None:
    """Wait until everything on this file system is on the disk, so that it outlives a power cut."""
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (AttributeError, OSError, TypeError):  # not Linux
        os.sync()
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        if syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)


def sweep_up(place: Path) -> None:
    """Remove the parts of files that killed writers have left. Needs the lock."""
    for left in place.rglob("*#*"):
        left.unlink(missing_ok=True)
