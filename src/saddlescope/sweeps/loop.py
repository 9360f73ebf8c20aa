"""The loop of a sweep: batches of about 0.2 s, a bounded number of them in flight, commits, and what ends it early.

Futures answer through callbacks into one queue, which every executor has.
"""

from __future__ import annotations

import itertools
import math
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from saddlescope.simulation.loop import BLOCK_SECONDS, Clock
from saddlescope.sweeps import hearing
from saddlescope.sweeps.executors import Executor
from saddlescope.sweeps.hearing import Heard
from saddlescope.sweeps.layout import RAISED, Forms, Result
from saddlescope.sweeps.progress import Show
from saddlescope.sweeps.work import Done, UnequalVersions, batch, sentence

LARGEST = 1000
"""Most runs in a batch."""

FIRST = 20
"""Runs that end a sweep, without ``max_failures``, if they are the first and all raise."""

WORKERS = "workers"
"""Attribute with the hosts and instruction sets that executed runs."""

TASK_SECONDS = 1e-3
"""Time of a batch for each that may be in flight: with thousands of workers batches are longer, since the scheduler and
this process take about two milliseconds for each."""

LOOK_SECONDS = 1.0
"""Time between two looks at whether the executor is lost."""


class Lost(Exception):
    """No batch will be executed any more."""


class Sink(Protocol):
    """What the loop asks of a store."""

    attrs: dict[str, Any]
    """Attributes of its dataset."""

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Add attributes."""

    def put(self, result: Result) -> None:
        """Keep a result."""

    def commit(self) -> None:
        """Make all results durable."""


@dataclass
class Tally:
    """What has happened in this call."""

    done: int = 0
    raised: int = 0
    heard: dict[str, Heard] = field(default_factory=dict)
    errors: dict[str, Heard] = field(default_factory=dict)
    places: set[tuple[str, str]] = field(default_factory=set)
    given_up: list[int] = field(default_factory=list)
    """Runs whose workers died again and again; they stay pending."""

    def add(self, done: Done) -> None:
        """Count a batch."""
        self.done += len(done.results)
        raised = [one for one in done.results if one.status == RAISED]
        self.raised += len(raised)
        self.heard = hearing.together(self.heard, done.heard)
        self.errors = hearing.together(self.errors, *(hearing.of_run(one.index, [one.message]) for one in raised))
        self.places.add(done.place)


class Stop:
    """Ctrl-C and SIGTERM end a sweep once what has answered is committed; a second one ends it at once.

    A run in this process is not waited for.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wanted: int | None = None
        self._wake, self._running = wake, False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    @contextmanager
    def running(self) -> Iterator[None]:
        """A block that a signal interrupts."""
        self._running = True
        try:
            yield
        finally:
            self._running = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted is not None:
            self._restore()
            signal.raise_signal(number)
        self.wanted = number
        self._wake()
        if self._running:
            raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()


class Flight:
    """Batches on their way, and the runs that wait for one."""

    def __init__(self, executor: Executor, indices: NDArray[np.int64], forms: Forms) -> None:
        self.executor, self.forms = executor, forms
        self.answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._todo = deque(indices.tolist())
        self._suspects: deque[int] = deque()
        self._tried: set[int] = set()
        self._flying: dict[int, tuple[Any, list[int]]] = {}
        self._seconds = math.inf

    def __bool__(self) -> bool:
        return bool(self._todo or self._suspects or self._flying)

    def fill(self) -> None:
        """Send batches as long as there is room for them; suspects last, one at a time."""
        while self._todo and len(self._flying) < (room := self.executor.in_flight):
            size = min(self._size(room), math.ceil(len(self._todo) / room))
            self._send([self._todo.popleft() for _ in range(size)])
        if self._suspects and not self._flying:
            self._send([self._suspects.popleft()])

    def _send(self, part: list[int]) -> None:
        try:
            future = self.executor.submit(batch, part, self.forms)
        except TypeError:
            raise
        except Exception as error:  # of a pool that has broken, or a scheduler that is gone
            raise Lost(self.executor.lost or sentence(error)) from error
        number = next(self._numbers)
        self._flying[number] = future, part
        future.add_done_callback(lambda _: self.answers.put(number))

    def _size(self, room: int) -> int:
        """Runs in a batch: those of about BLOCK_SECONDS, longer where many workers are; one at first."""
        return max(1, min(LARGEST, int(max(BLOCK_SECONDS, TASK_SECONDS * room) / self._seconds)))

    def answer(self, tally: Tally) -> Done | None:
        """The next batch that has answered; None when none has for a while, or one has been lost with its worker.

        Raises Lost when there will be no more answers.
        """
        try:
            number = self.answers.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            if self.executor.lost:
                raise Lost(self.executor.lost) from None
            return None
        if number is None:
            return None
        future, part = self._flying.pop(number)
        try:
            done: Done = future.result()
        except UnequalVersions:
            raise
        except Exception as error:
            if type(error).__name__ != "KilledWorker":
                raise Lost(self.executor.lost or sentence(error)) from error
            self._again(part, tally)
            return None
        self._measure(done)
        return done

    def _again(self, part: list[int], tally: Tally) -> None:
        """Try the runs of a batch whose workers died again, each alone; one that was alone stays pending."""
        if len(part) == 1 and part[0] in self._tried:
            tally.given_up.extend(part)
        else:
            self._suspects.extend(part)
            self._tried.update(part)

    def _measure(self, done: Done) -> None:
        """Learn how long a run takes, from the latest batches above all."""
        latest = sum(one.seconds for one in done.results) / len(done.results)
        self._seconds = max(1e-9, latest if math.isinf(self._seconds) else 0.7 * self._seconds + 0.3 * latest)

    def cancel(self) -> None:
        """Ask for no more answers."""
        for future, _ in self._flying.values():
            with suppress(Exception):  # not every future can be cancelled, nor where the scheduler is gone
                future.cancel()


def advance(flight: Flight, sink: Sink, tally: Tally, max_failures: int | None, show: Show) -> int | None:
    """Execute the runs of a flight, with commits; the signal that stopped it, if one did.

    Raises Lost when the workers are gone, RuntimeError when too many runs raise. What is done is committed.
    """
    clock = Clock()
    with Stop(lambda: flight.answers.put(None)) as stop:
        try:
            while flight and stop.wanted is None:
                with stop.running() if flight.executor.runs_here else nullcontext():
                    flight.fill()
                done = flight.answer(tally)
                if done is not None:
                    for result in done.results:
                        sink.put(result)
                    tally.add(done)
                    _note(done.place, sink)
                    show(tally.done, tally.raised)
                    check_failures(tally, max_failures)
                if clock.due:
                    with clock.commit():
                        sink.commit()
        except KeyboardInterrupt:
            if stop.wanted is None:
                raise
        finally:
            flight.cancel()
            sink.commit()
    return stop.wanted


def _note(place: tuple[str, str], sink: Sink) -> None:
    """Add the host and the instruction set of a worker to the attributes of a sweep."""
    known = [one for one in str(sink.attrs.get(WORKERS, "")).split(", ") if one]
    if (worker := " ".join(place)) not in known:
        sink.annotate({WORKERS: ", ".join(sorted([*known, worker]))})


def check_failures(tally: Tally, max_failures: int | None) -> None:
    """Raise RuntimeError when too many runs have raised."""
    if max_failures is None and not tally.raised == tally.done == max(FIRST, tally.done):
        return
    if max_failures is not None and tally.raised <= max_failures:
        return
    most = max(tally.errors.values(), key=lambda one: one.runs)
    fix = "correct it, or pass max_failures = a number to continue" if max_failures is None else "raise max_failures"
    raise RuntimeError(
        f"the sweep was stopped since {tally.raised:,} of the first {tally.done:,} runs raised, {most.runs:,} of them "
        f"as run {most.index:,}: {most.sentence}; {fix}"
    )
