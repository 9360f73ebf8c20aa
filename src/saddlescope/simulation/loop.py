"""The loop of a run: blocks of steps between saves, commits, the progress bar, and signals that ask it to stop."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from saddlescope.engines.protocol import Engine
from saddlescope.engines.state import State
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import Save, kept, record
from saddlescope.runs.sink import COMMIT_BYTES, Sink
from saddlescope.runs.statistics import Record, saves_together
from saddlescope.runs.variables import shapes

BLOCK_SECONDS = 0.2
"""Time between two looks at signals and the progress bar."""

COMMIT_SECONDS = 30.0
"""Longest time between commits to a store, which also commits when COMMIT_BYTES wait to be written."""

FIRST_SECONDS, COMMIT_SHARE, COMMIT_COSTS = 1.0, 0.2, 20.0
"""Time to the first commit; least time between commits as a share of that since the start, and in costs of a commit."""

TWICE_SECONDS = 2.0
"""Time within which a second Ctrl-C ends the program instead of the next run in memory."""


def advance(engine: Engine, problem: Problem, plan: Plan, sink: Sink, progress: bool) -> None:
    """Advance the run in ``sink`` to the end of the plan, or until a signal asks to stop."""
    state = sink.state
    saves = set(plan.save_steps.tolist())
    goals = sorted(saves | {plan.steps})
    together = most_together(problem, plan)
    pace, fresh, records, clock = Pace(), list[Save](), list[Record](), Clock()
    with _bar(plan, state, progress) as show, _Stop(sink) as stop:
        while state.step < plan.steps:
            try:
                state = pace.advance(engine, state, goals[bisect_right(goals, state.step)])
            except MemoryError as error:
                if fresh:
                    records.append(kept(engine, fresh, problem, plan))
                sink.commit(state, records)
                raise MemoryError(_kept_until(state.step, sink, error)) from None
            if state.step in saves:
                fresh.append(record(engine, plan, state))
            show(state.step)
            due = stop.wanted or state.step == plan.steps or clock.due
            if fresh and (due or len(fresh) == together):
                records.append(kept(engine, fresh, problem, plan))
                fresh = []
                due = due or _bytes(records) > COMMIT_BYTES
            if due:
                with clock.commit():
                    sink.commit(state, records)
                records = []
                if stop.wanted:  # only after a commit: a signal that comes later waits for the next block
                    break


def most_together(problem: Problem, plan: Plan) -> int:
    """Most saves of a run that are observed and summarised in one pass."""
    numbers = sum(math.prod(shape[2:]) for shape in shapes(problem, plan).values())
    return saves_together(plan.count, problem.network.parameters + numbers)


def _kept_until(step: int, sink: Sink, error: MemoryError) -> str:
    """The error of a run that ran out of memory, with what is kept of it."""
    kept = f"; the store holds the run up to step {step:,}, and the same call resumes it" if sink.stored else ""
    return f"{error}{kept}"


def _bytes(records: Sequence[Record]) -> int:
    """Bytes of records of equally many saves."""
    return len(records) * sum(value.nbytes for value in records[0].values())


def commit_interval(elapsed: float, cost: float) -> float:
    """Seconds between commits of a run that started ``elapsed`` seconds ago and whose last commit took ``cost``.

    A killed run loses at most this, and commits take at most a twentieth of the time as long as it is below 30 s.

    >>> [commit_interval(elapsed, 0.01) for elapsed in (0, 60, 3600)], commit_interval(0, 0.5)
    ([1.0, 12.0, 30.0], 10.0)
    """
    return min(max(FIRST_SECONDS, COMMIT_SHARE * elapsed, COMMIT_COSTS * cost), COMMIT_SECONDS)


class Clock:
    """When to commit."""

    def __init__(self) -> None:
        self._started = self._committed = time.monotonic()
        self._cost = 0.0

    @property
    def due(self) -> bool:
        """Whether the last commit is too long ago."""
        now = time.monotonic()
        return now - self._committed > commit_interval(now - self._started, self._cost)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Around a commit."""
        began = time.monotonic()
        yield
        self._committed = time.monotonic()
        self._cost = self._committed - began


class Pace:
    """Advances in blocks of about BLOCK_SECONDS."""

    def __init__(self) -> None:
        self._steps = 1

    def advance(self, engine: Engine, state: State, until: int) -> State:
        """The state one block later, at step ``until`` at most."""
        started = time.perf_counter()
        after = engine.advance(state, min(until, state.step + self._steps))
        seconds_per_step = max(time.perf_counter() - started, 1e-9) / (after.step - state.step)
        self._steps = max(1, min(int(BLOCK_SECONDS / seconds_per_step), 4 * self._steps))
        return after


@contextmanager
def _bar(plan: Plan, state: State, wanted: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, which the yielded function moves to a step; elsewhere nothing is built."""
    if not (wanted and perhaps_terminal()):
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("step {task.completed:,} of {task.total:,}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=plan.steps, completed=state.step)
        yield lambda step: progress.update(task, completed=step)


def perhaps_terminal() -> bool:
    """Whether rich may take stderr for a terminal; False is certain."""
    forced = any(os.environ.get(name) for name in ("FORCE_COLOR", "TTY_COMPATIBLE"))
    return forced or "IPython" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


class _Stop:
    """Ctrl-C, and for a store SIGTERM, take effect after the next commit, at the end of the block.

    A run in memory then ends as it is; a store raises KeyboardInterrupt. A second signal takes effect at once, and so
    does Ctrl-C within TWICE_SECONDS of one that ended another run in memory, so that it ends a loop over runs. For a
    run in memory, a program that handles Ctrl-C itself is left alone.
    """

    _ended = -math.inf
    """When Ctrl-C last ended a run in memory."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.wanted: int | None = None
        self._signals: tuple[signal.Signals, ...] = ()
        if threading.current_thread() is threading.main_thread():
            usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            self._signals = (signal.SIGINT, signal.SIGTERM) if sink.stored else (signal.SIGINT,) if usual else ()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._note) for number in self._signals}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = not self._sink.stored and time.monotonic() - _Stop._ended < TWICE_SECONDS
        if self.wanted is not None or again:
            self._restore()
            signal.raise_signal(number)
        self.wanted = number

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._restore()
        if kind is not None or self.wanted is None:
            return
        if not self._sink.stored:
            _Stop._ended = time.monotonic()
        elif self.wanted == signal.SIGINT:
            raise KeyboardInterrupt(f"stopped at step {self._sink.state.step}; run the same again to resume")
        else:
            signal.raise_signal(self.wanted)
