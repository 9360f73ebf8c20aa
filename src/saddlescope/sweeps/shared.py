"""What belongs to the whole process while runs are executed in some of its threads: warnings, threads of BLAS."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Shared:
    """A context that the first of several threads enters and the last leaves.

    >>> from contextlib import contextmanager
    >>> @contextmanager
    ... def loud():
    ...     print("in")
    ...     yield
    ...     print("out")
    >>> shared = Shared(loud)
    >>> with shared, shared:
    ...     print("inside")
    in
    inside
    out
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._inside = make, threading.Lock(), 0
        self._entered: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._entered = self._make()
                self._entered.__enter__()
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._entered.__exit__(None, None, None)


def _limits() -> AbstractContextManager[Any]:
    if importlib.util.find_spec("threadpoolctl") is None:
        return nullcontext()
    limits: AbstractContextManager[Any] = importlib.import_module("threadpoolctl").threadpool_limits(1, "blas")
    return limits


one_blas_thread = Shared(_limits)
"""BLAS has one thread, where threadpoolctl is installed: sums of large data sets depend on their number.

It has to be entered by the main thread: OpenBLAS ignores the others.
"""
