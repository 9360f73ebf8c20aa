"""The place of a store on disk: whether a run is there, and whether a new one may be written."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saddlescope import _files, _zarr
from saddlescope.runs.checkpoint import CHECKPOINT, MAGIC, unpack
from saddlescope.runs.variables import COORDINATES, EVENTS, OBSERVABLES

NEW = ".saddlescope-new"
"""Marks an empty folder that is being filled, until the first commit."""


def take(path: Any, overwrite: bool, held: ExitStack) -> tuple[Path, bool]:
    """The place of a run to be written, locked until ``held`` is closed, and whether a new run can be put there.

    Raises FileExistsError for what is not a run, BlockingIOError when another process writes there.
    """
    place = free(path)
    with _files.in_words(path, "out"):
        held.enter_context(_files.sole(place, "out"))
        _files.recover(place)
        _check_place(place, path)
        if overwrite and is_run(place):
            check_replaceable(place)
            return place, True
        return place, not is_run(place)


def free(path: Any) -> Path:
    """The place of a run to be written, as far as can be seen without locking it.

    Raises FileExistsError for what is not a run.
    """
    place = _files.place(path, "out")
    with _files.in_words(path, "out"):
        _check_place(place, path)
    return place


def _check_place(place: Path, path: Any) -> None:
    if place.exists() and not is_run(place) and not (place.is_dir() and _vacant(place)):
        raise FileExistsError(f"out {os.fspath(path)!r} exists and is not a run; give another path")


def check_replaceable(place: Path) -> None:
    """Raise FileExistsError unless the folder of a run holds nothing else."""
    if os.path.ismount(place):
        raise FileExistsError(f"out {str(place)!r} is a mount point, which cannot be replaced; give a folder in it")
    ours = _Ours(_own_names(place))
    for entry in place.rglob("*"):
        relative = entry.relative_to(place).as_posix()
        if entry.is_symlink() or not ours.holds(relative, entry.is_dir()):
            raise FileExistsError(
                f"out {str(place)!r} holds a run and also {relative!r}, which is not part of the run; "
                "move it elsewhere, or give another path"
            )


def is_run(path: Path) -> bool:
    """Whether ``path`` holds a run, intact or damaged."""
    try:
        with (path / CHECKPOINT).open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                return True
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        pass
    if (path / NEW).exists():
        return False
    try:
        return "toml" in json.loads((path / _zarr.METADATA).read_bytes())["attributes"]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return (path / CHECKPOINT).is_file()
    except (ValueError, KeyError, TypeError, RecursionError):
        return (path / "checkpoint").is_dir()


def _vacant(place: Path) -> bool:
    """Whether a folder is empty, or holds only what a killed call has left in it."""
    left, names = [entry.name for entry in place.iterdir()], _Ours(_marked(place)).names
    return not left or (NEW in left and all(names.fullmatch(name) for name in left))


def mark(place: Path, names: Iterable[str]) -> None:
    """Mark an empty folder that is being filled with arrays of these names."""
    with (place / NEW).open("x", encoding="utf-8") as file:
        file.write("\n".join(names))


def _marked(place: Path) -> set[str]:
    """The names that ``mark`` wrote, if all of them arrived."""
    try:
        return set(filter(str.isidentifier, (place / NEW).read_text(encoding="utf-8").split("\n")))
    except (OSError, UnicodeDecodeError):
        return set()


def clear(place: Path) -> None:
    """Remove what a killed call has left in a vacant folder."""
    if (place / NEW).exists():
        names = _Ours(_marked(place)).names
        for entry in place.iterdir():
            if entry.name != NEW and names.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (place / NEW).unlink()


def _own_names(place: Path) -> set[str]:
    """Names of the arrays of a run that its checkpoint lists; none where it is damaged."""
    try:
        _, digests, sums = unpack(_zarr.read_bytes(place / CHECKPOINT))
    except (OSError, ValueError):
        return set()
    return set(filter(str.isidentifier, {name.split("/")[0] for name in digests} | set(sums)))


class _Ours:
    """Which files of a folder belong to a run: those of every run, and of arrays with these further names."""

    def __init__(self, further: Iterable[str]) -> None:
        known = (*COORDINATES, *OBSERVABLES, *EVENTS, r"checkpoint|W\d+|unit\d+|data_\w+|init_\w+")
        names, new = "|".join((*known, *map(re.escape, further))), re.escape(NEW)
        self.names = re.compile(rf"zarr\.json|{new}|{names}")
        self._folders = re.compile(rf"(?:{names})(?:/c(?:/\d+)*)?")
        part = r"\.\d+\.[0-9a-f]{16}\.saddlescope-part|\d+\.[0-9a-f]{32}\.partial"
        self._files = re.compile(rf"(?:(?:{names})/)?zarr\.json|{new}|(?:{names})/c(?:/\d+)*/(?:\d+|{part})")

    def holds(self, relative: str, folder: bool) -> bool:
        """Whether a file or folder is one of them."""
        return bool(self._files.fullmatch(relative) or (folder and self._folders.fullmatch(relative)))
