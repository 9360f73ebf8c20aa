"""Where the runs of a sweep are executed: this process, processes of this machine, Dask, or anything with ``submit``.

An executor turns a task of ``work`` into a future with ``add_done_callback`` and ``result``. The job reaches its
workers once.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

from saddlescope._numbers import python_number, shown
from saddlescope._warnings import warn
from saddlescope.sweeps.pool import pool
from saddlescope.sweeps.work import Sendable, Task, UnequalVersions, execute, packed, unequal, version

LEAST, PER_WORKER = 8, 4
"""Batches in flight: at least, and for each worker."""

CONNECT_SECONDS = 10.0
"""Time within which a scheduler must answer."""

COUNT_SECONDS = 5.0
"""Time between two counts of the workers of a scheduler."""


class Executor(Protocol):
    """What the loop of a sweep asks of an executor."""

    runs_here: bool
    """Whether ``submit`` executes the task."""

    @property
    def in_flight(self) -> int:
        """Batches that wait or are executed at a time."""
        ...

    @property
    def lost(self) -> str:
        """Why no batch will be executed any more; empty while that is not known."""
        ...

    @property
    def link(self) -> str | None:
        """Address of a page that shows the workers, where there is one."""
        ...

    def submit(self, task: Task, *arguments: Any) -> Any:
        """The future of a task."""
        ...


@contextmanager
def connected(client: Any, job: Sendable) -> Iterator[Executor]:
    """The executor that ``client`` names, which knows the job.

    Raises TypeError or ValueError for anything else, ConnectionError where no scheduler or worker answers,
    UnequalVersions where workers have another version of the package, ImportError where Dask is missing.
    """
    client = python_number(client)
    if client is None:
        yield Here(job)
    elif isinstance(client, int):
        if isinstance(client, bool) or client < 1:
            raise ValueError(
                f"client must be a number of processes of at least 1, got {client}; use 4, or leave it out"
            )
        content = packed(job)
        with pool(client, version(), content) as submit:
            yield Submitting(submit, client)
    elif isinstance(client, str):
        with _dask_at(client) as made:
            yield Dask(made, job)
    elif (module := sys.modules.get("distributed")) is not None and isinstance(client, module.Client):
        yield Dask(client, job)
    elif callable(getattr(client, "submit", None)) and not isinstance(client, type):
        yield Submitting(_carrying(client, job), getattr(client, "_max_workers", 1))
    else:
        raise TypeError(
            "client must be a number of processes, a distributed.Client, the address of a scheduler such as "
            f"'tcp://host:8786', or have a submit(function, *arguments), got {shown(client)}; leave it out to run here"
        )


class Here:
    """This process: a task is executed when it is submitted."""

    in_flight = 1
    lost = ""
    link = None
    runs_here = True

    def __init__(self, job: Sendable) -> None:
        self._job = job

    def submit(self, task: Task, *arguments: Any) -> Future[Any]:
        """The future of a task, which has its result."""
        future: Future[Any] = Future()
        future.set_result(task(self._job, *arguments))
        return future


class Submitting:
    """Anything that submits tasks."""

    lost = ""
    link = None
    runs_here = False

    def __init__(self, submit: Any, workers: int) -> None:
        self._submit, self.in_flight = submit, max(LEAST, PER_WORKER * workers)

    def submit(self, task: Task, *arguments: Any) -> Any:
        """The future of a task."""
        return self._submit(task, *arguments)


def _carrying(client: Any, job: Sendable) -> Any:
    """Submit with the whole job in every task, to workers of which nothing else is known."""
    content = packed(job)

    def submit(task: Task, *arguments: Any) -> Any:
        future = client.submit(execute, version(), content, task, *arguments)
        if not (hasattr(future, "add_done_callback") and hasattr(future, "result")):
            raise TypeError(
                f"client.submit must return futures with add_done_callback and result, got {shown(future)}; use a "
                "concurrent.futures executor or a distributed.Client"
            )
        return future

    return submit


class Dask:
    """A Dask cluster. The job is a task, so that the scheduler can have it made again when its workers are lost."""

    runs_here = False

    def __init__(self, client: Any, job: Sendable) -> None:
        if getattr(client, "asynchronous", False):
            raise TypeError("client must not be asynchronous, since a sweep waits for it; make it by Client(address)")
        self._client, self._counted, self._workers = client, -COUNT_SECONDS, 0
        content = packed(job)
        _check_versions(client.run(importlib.metadata.version, "saddlescope", on_error="return"))
        self.link: str | None = client.dashboard_link
        self._content = client.submit(_same, content, pure=False)

    @property
    def in_flight(self) -> int:
        """By the threads of all workers."""
        if (now := time.monotonic()) - self._counted > COUNT_SECONDS:
            self._counted, self._workers = now, sum(self._client.nthreads().values())
        return max(LEAST, PER_WORKER * self._workers)

    @property
    def lost(self) -> str:
        """Whether the scheduler is gone."""
        return "" if self._client.status == "running" else f"the scheduler is {self._client.status}"

    def submit(self, task: Task, *arguments: Any) -> Any:
        """The future of a task."""
        return self._client.submit(execute, version(), self._content, task, *arguments, pure=False)


def _same(content: bytes) -> bytes:
    return content


def _check_versions(found: Mapping[str, Any]) -> None:
    """Raise UnequalVersions unless all workers have the version of this process; warn where there are none yet."""
    if not found:
        warn("the scheduler has no workers yet; the sweep waits for them")
    there = {answer if isinstance(answer, str) else "none" for answer in found.values()}
    if there - {version()}:
        raise UnequalVersions(unequal(version(), there - {version()}))


@contextmanager
def _dask_at(address: str) -> Iterator[Any]:
    """A client of the scheduler at an address, closed at the end."""
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "an address of a scheduler needs Dask, which is not installed; run pip install 'saddlescope[sweep]'"
        ) from None
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"client = {address!r} does not answer ({str(error).splitlines()[0]:.200}); start a scheduler by dask "
            "scheduler, and give its address, such as 'tcp://host:8786'"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_SECONDS)
