"""The number of threads to use by default."""

from __future__ import annotations

import os


def available() -> int:
    """Cores that this process may use; all of the machine where the system does not say.

    >>> available() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
