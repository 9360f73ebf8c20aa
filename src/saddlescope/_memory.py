"""Available memory, and the error for what needs more, raised before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

ALWAYS = 64 << 20
"""Bytes that are assumed to be available."""


def available() -> int | None:
    """Bytes that new arrays can use without swapping, within the limits of this process; None where unknown."""
    known = [count for count in (_of_machine(), _of_group(), _of_process()) if count is not None]
    return max(min(known), 0) if known else None


def require(needed: int, what: str, fix: str) -> None:
    """Raise ValueError, with the size, when ``what`` needs more bytes than are available.

    >>> require(10**18, "dim_in = 10**9", "lower it")
    Traceback (most recent call last):
    ValueError: dim_in = 10**9 needs 1e+06 TB of memory, available ...; lower it
    """
    if needed <= ALWAYS:
        return
    left = available()
    if left is not None and needed > left:
        raise ValueError(f"{what} needs {in_bytes(needed)} of memory, available {in_bytes(left)}; {fix}")


def in_bytes(count: float) -> str:
    """A number of bytes with a unit.

    >>> in_bytes(500), in_bytes(2_500_000), in_bytes(7e15)
    ('500 B', '2.5 MB', '7e+03 TB')
    """
    size = min(count, 10**300)  # a float cannot hold more
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _of_machine() -> int | None:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    try:
        return int(os.sysconf("SC_PHYS_PAGES")) * int(os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, AttributeError):  # Windows has no sysconf
        return None


def _of_group() -> int | None:
    """Of a container (cgroup v2); cached files that can be dropped count as free."""
    limit, used = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if not (limit.isdigit() and used.isdigit()):
        return None
    cached = (line.split() for line in _text("/sys/fs/cgroup/memory.stat").splitlines())
    return int(limit) - int(used) + sum(int(value) for name, value in cached if name == "inactive_file")


def _of_process() -> int | None:
    if resource is None:
        return None  # type: ignore[unreachable]
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _text("/proc/self/statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return None
    return limit - int(pages[0]) * resource.getpagesize()


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
