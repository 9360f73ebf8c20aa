"""Warnings of runs: collected in the thread that gives them, shown nowhere, and counted by their sentence.

``warnings.catch_warnings`` changes the whole process. Here the first of several threads enters it and the last leaves.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from saddlescope._warnings import without_numbers

_LOCK = threading.Lock()
_HEARD = threading.local()
_inside: list[warnings.catch_warnings[None]] = []


@contextmanager
def hearing() -> Iterator[list[str]]:
    """The warnings of this thread, each as often as it is given.

    >>> with hearing() as sentences:
    ...     warnings.warn("too hot")
    >>> sentences
    ['too hot']
    """
    _enter()
    before, _HEARD.sentences = getattr(_HEARD, "sentences", None), []
    try:
        yield _HEARD.sentences
    finally:
        _HEARD.sentences = before
        _leave()


def _enter() -> None:
    with _LOCK:
        caught: warnings.catch_warnings[None] = warnings.catch_warnings()
        if not _inside:
            caught.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = _show
        _inside.append(caught)


def _leave() -> None:
    with _LOCK:
        first = _inside[0]
        _inside.pop()
        if not _inside:
            first.__exit__(None, None, None)


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    sentences = getattr(_HEARD, "sentences", None)
    if sentences is not None:
        sentences.append(str(message))


@dataclass(frozen=True)
class Heard:
    """A warning: in how many runs it was given, and its sentence in the first of these."""

    runs: int
    index: int
    sentence: str

    def joined(self, other: Heard) -> Heard:
        """The same warning in other runs too."""
        first = min(self, other, key=lambda one: one.index)
        return Heard(self.runs + other.runs, first.index, first.sentence)


def of_run(index: int, sentences: Iterable[str]) -> dict[str, Heard]:
    """The warnings of one run, by their sentences without numbers."""
    found: dict[str, Heard] = {}
    for sentence in sentences:
        found.setdefault(without_numbers(sentence), Heard(1, index, sentence))
    return found


def together(*many: Mapping[str, Heard]) -> dict[str, Heard]:
    """The warnings of several runs.

    >>> heard = together(of_run(7, ["T = 0.5 is hot"]), of_run(2, ["T = 0.4 is hot"]))
    >>> list(heard.values())
    [Heard(runs=2, index=2, sentence='T = 0.4 is hot')]
    """
    found: dict[str, Heard] = {}
    for one in many:
        for key, heard in one.items():
            found[key] = found[key].joined(heard) if key in found else heard
    return found
