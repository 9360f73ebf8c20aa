"""Processes of this machine that execute runs, each with one thread.

They are started anew (spawned). Unlike those of ``multiprocessing`` they do not import the program that started them,
so that a script needs no guard, and they end when it ends, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from saddlescope.sweeps.work import Task, execute

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Environment variables that limit the threads of libraries."""

_job: tuple[str, bytes] = ("", b"")
"""In a worker: version and content of the job."""


@contextmanager
def pool(workers: int, made_by: str, content: bytes) -> Iterator[Callable[..., Future[Any]]]:
    """Processes that know a pickled job, and ``submit(task, *arguments)``; they are killed if the block raises."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    made = ProcessPoolExecutor(workers, context, _begin, (reader, made_by, content))

    def submit(task: Task, *arguments: Any) -> Future[Any]:
        with _apart():  # a submit may start a process
            return made.submit(_execute, task, *arguments)

    try:
        yield submit
    except BaseException:
        writer.close()
        raise
    finally:
        made.shutdown(wait=True, cancel_futures=True)
        writer.close()
        reader.close()


@contextmanager
def _apart() -> Iterator[None]:
    """Processes started here do not import the main module, and libraries in them have one thread."""
    main, before = sys.modules["__main__"], {name: os.environ.get(name) for name in _THREADS}
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _begin(reader: Connection, made_by: str, content: bytes) -> None:
    """Make this process a worker, which ends with the one that holds the other end of the pipe."""
    global _job
    _job = made_by, content
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(reader,), daemon=True).start()


def _end_with(reader: Connection) -> None:
    try:
        reader.poll(None)
        reader.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _execute(task: Task, *arguments: Any) -> Any:
    return execute(*_job, task, *arguments)
