"""Icechunk repositories on this machine or in an object store: the package, the place, its groups, errors in words."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from saddlescope import _files
from saddlescope.runs.checkpoint import DamagedStore

Place = Path | str
"""A folder, or the address of an object store, ``s3://bucket/prefix``."""

BRANCH = "main"
_ADDRESS = re.compile(r"s3://([^/]+)/*(.*?)/*")
_ERRNO = re.compile(r"\(os error (\d+)\)")


def icechunk() -> ModuleType:
    """The package, without its warnings, which concern several writers without a lock."""
    try:
        import icechunk
    except ImportError:
        raise ImportError("a sweep in a store needs Icechunk: pip install 'saddlescope[sweep]'") from None
    if "ICECHUNK_LOG" not in os.environ:
        icechunk.set_logs_filter("error")
    return icechunk


def is_address(path: Any) -> bool:
    """Whether a path from a user is the address of an object store."""
    return isinstance(path, str) and path.startswith("s3://")


def storage(place: Place) -> Any:
    """Icechunk's access to a place; for object stores, credentials, region and endpoint are those of the AWS tools."""
    if not is_address(place):
        return icechunk().local_filesystem_storage(str(place))
    match = _ADDRESS.fullmatch(str(place))
    if not match or not match[2]:
        raise ValueError(f"the address {str(place)!r:.200} must be s3://bucket/prefix, such as 's3://results/phase'")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return icechunk().s3_storage(
        bucket=match[1],
        prefix=match[2],
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_url=endpoint,
        allow_http=bool(endpoint and endpoint.startswith("http://")),
        force_path_style=endpoint is not None,
        from_env=True,
    )


def exists(place: Place) -> bool:
    """Whether there is a repository at an address, with a commit."""
    with in_words(place, "nothing was changed"):
        where = storage(place)
        return bool(icechunk().Repository.exists(where)) and has_commits(icechunk().Repository.open(where))


def has_commits(repository: Any) -> bool:
    """Whether something was committed."""
    return next(iter(repository.ancestry(branch=BRANCH))).parent_id is not None


def made(place: Place) -> Any:
    """The repository at a place, new or not."""
    package, where = icechunk(), storage(place)
    if package.Repository.exists(where):
        return package.Repository.open(where)
    form = {} if package.__version__.startswith("1.") else {"spec_version": 1}  # which both versions read and write
    try:
        return package.Repository.create(where, **form)
    except package.IcechunkError:  # another process may be about to create it
        for _ in range(20):
            if package.Repository.exists(where):
                return package.Repository.open(where)
            time.sleep(0.1)
        raise


def opened(place: Place) -> Any:
    """The repository; DamagedStore when it cannot be read."""
    with reading(place):
        return icechunk().Repository.open(storage(place))


@contextmanager
def reading(place: Place, what: str = "it", fix: str = "") -> Iterator[None]:
    """What cannot be read is damaged: DamagedStore, in one sentence."""
    try:
        yield
    except (DamagedStore, ImportError, KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        raise damaged(place, f"{what} cannot be read ({line(error)})", fix) from None


@contextmanager
def in_words(place: Place, consequence: str) -> Iterator[None]:
    """Errors of Icechunk as OSError in one sentence, with their errno: disk full, no access, not reachable."""
    try:
        yield
    except Exception as error:
        package = icechunk()
        if not isinstance(error, package.IcechunkError) or isinstance(error, package.ConflictError):
            raise
        found = _ERRNO.search(str(error))
        number = int(found[1]) if found else errno.EIO
        fix = "free some space" if number in _files.FULL else "check the disk or the network"
        what = os.strerror(number) if found else line(error)
        worded = OSError(f"the store {str(place)!r} could not be used ({what}); {fix} and run again; {consequence}")
        worded.errno = number
        raise worded from None


def line(error: Exception) -> str:
    """An error on one line, without the trace of Icechunk."""
    first = str(error).split("|", 1)[0].split()
    return f"{type(error).__name__}: {' '.join(first[first[:1] == ['x'] :]):.160}"


def damaged(place: Place, what: str, fix: str = "") -> DamagedStore:
    """The error of a sweep as a sentence."""
    fix = fix or "restore it from a copy, or write the sweep anew (overwrite=True, --overwrite)"
    return DamagedStore(f"the sweep {str(place)!r} is damaged: {what}; {fix}")
