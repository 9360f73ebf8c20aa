"""The default number of threads."""

from __future__ import annotations

import os


def available() -> int:
    """Cores that this process may use; all cores where the system does not report it.

    >>> available() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
