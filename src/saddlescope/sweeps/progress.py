"""What a sweep reports while it runs: runs done and raised, their rate, the time left; a bar, or a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saddlescope.simulation.estimate import in_time
from saddlescope.simulation.loop import perhaps_terminal

LINE_SECONDS = 60.0
"""Time between two lines where there is no terminal."""

Show = Callable[[int, int], None]
"""Takes the numbers of runs that are done and that raised, those of earlier calls included."""


@contextmanager
def progress(
    total: int, before: int, wanted: bool, link: str | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Show]:
    """Report a sweep of ``total`` runs, ``before`` done by earlier calls, on stderr; ``link`` is a dashboard."""
    if not wanted:
        yield lambda done, raised: None
        return
    if link:
        print(f"dashboard: {link}", file=sys.stderr)
    started = printed = clock()
    if not perhaps_terminal():

        def tell(done: int, raised: int) -> None:
            nonlocal printed
            now = clock()
            if now - printed >= LINE_SECONDS:
                printed = now
                print(line(total, before, done, raised, now - started), file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(line(total, before, before, 0, 0.0), total=total, completed=before)

        def move(done: int, raised: int) -> None:
            bar.update(task, completed=done, description=line(total, before, done, raised, clock() - started))

        yield move


def line(total: int, before: int, done: int, raised: int, seconds: float) -> str:
    """The state of a sweep ``seconds`` after this call has started.

    >>> line(1000, 200, 600, 3, 60.0)
    '600 of 1,000 runs, 3 raised; 6.67 a second, about 60 s left'
    >>> line(1000, 200, 200, 0, 1.0)
    '200 of 1,000 runs'
    """
    text = f"{done:,} of {total:,} runs" + (f", {raised:,} raised" if raised else "")
    if done <= before or seconds <= 0:
        return text
    rate = (done - before) / seconds
    return f"{text}; {rate:.3g} a second, {in_time((total - done) / rate)} left"
