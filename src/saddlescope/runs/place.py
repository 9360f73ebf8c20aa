"""The place of a store on disk: whether a run is there, and whether a new one may be written."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from saddlescope import _files, _zarr
from saddlescope.runs.checkpoint import CHECKPOINT, MAGIC
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
    for entry in place.rglob("*"):
        relative = entry.relative_to(place).as_posix()
        if entry.is_symlink() or not (
            _OURS.fullmatch(relative) or (entry.is_dir() and _OUR_FOLDERS.fullmatch(relative))
        ):
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
    left = [entry.name for entry in place.iterdir()]
    return not left or (NEW in left and all(_OUR_NAMES.fullmatch(name) for name in left))


def clear(place: Path) -> None:
    """Remove what a killed call has left in a vacant folder."""
    if (place / NEW).exists():
        for entry in place.iterdir():
            if entry.name != NEW and _OUR_NAMES.fullmatch(entry.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        (place / NEW).unlink()


_NAMES = "|".join((*COORDINATES, *OBSERVABLES, *EVENTS, r"checkpoint|W\d+|unit\d+|data_\w+|init_\w+"))
_OUR_NAMES = re.compile(rf"zarr\.json|{re.escape(NEW)}|{_NAMES}")
_OUR_FOLDERS = re.compile(rf"(?:{_NAMES})(?:/c(?:/\d+)*)?")
_OURS = re.compile(
    rf"(?:(?:{_NAMES})/)?zarr\.json|{re.escape(NEW)}"
    rf"|(?:{_NAMES})/c(?:/\d+)*/(?:\d+|\.\d+\.[0-9a-f]{{16}}\.saddlescope-part|\d+\.[0-9a-f]{{32}}\.partial)"
)
