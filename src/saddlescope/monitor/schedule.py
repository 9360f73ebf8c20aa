"""At which steps the monitor samples: dense on a logarithmic axis at the start, every so many steps later."""

from __future__ import annotations

import re
from collections.abc import Callable

from saddlescope._numbers import as_whole, shown

PER_DECADE = 10
"""Sampled steps in a factor of ten of the logarithmic part."""

Schedule = Callable[[int], bool]
"""Whether a step, counted from 0, is sampled."""


def every(period: int) -> Schedule:
    """Steps 0, period, 2·period, …

    >>> [step for step in range(10) if every(4)(step)]
    [0, 4, 8]
    """
    return lambda step: step % period == 0


def log_then_every(period: int) -> Schedule:
    """The steps ``⌊10^(j/10)⌋ − 1`` while they lie closer than ``period``, then every ``period`` steps.

    The first steps hold the transient: with one sample in the first ``period`` steps, sums over time miss it.

    >>> sampled = log_then_every(50)
    >>> [step for step in range(40) if sampled(step)]
    [0, 1, 2, 4, 5, 6, 9, 11, 14, 18, 24, 30, 38]
    """
    dense, last, j = {0}, 0, 0
    while True:
        j += 1
        step = int(10 ** (j / PER_DECADE)) - 1
        if step - last >= period or (step > last and step >= PER_DECADE * period):
            break
        dense.add(step)
        last = max(last, step)
    return lambda step: step in dense if step < last else (step - last) % period == 0


def schedule(given: str | int | Schedule) -> Schedule:
    """A schedule from "log+50", from a period, or from a function of the step.

    Raises TypeError or ValueError for anything else.

    >>> [step for step in range(10) if schedule(3)(step)]
    [0, 3, 6, 9]
    >>> schedule("log50")
    Traceback (most recent call last):
    ValueError: schedule must be "log+N", N steps or a function of the step, got 'log50'; write "log+50"
    """
    if isinstance(given, str):
        found = re.fullmatch(r"log\+(\d+)", given)
        if not found or not int(found[1]):
            number = re.search(r"[1-9]\d*", given)
            raise ValueError(
                f'schedule must be "log+N", N steps or a function of the step, got {shown(given)}; '
                f'write "log+{number[0] if number else 50}"'
            )
        return log_then_every(int(found[1]))
    if callable(given):
        return given
    period = as_whole(given, "schedule")
    if period < 1:
        raise ValueError(f"schedule must be at least 1 step, got {period}; 1 samples every step")
    return every(period)
