"""Warnings of runs: collected in the thread that gives them, shown nowhere, and counted by their sentence.

``warnings.catch_warnings`` changes the whole process, so that threads share it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from saddlescope._warnings import without_numbers
from saddlescope.sweeps.shared import Shared

_HEARD = threading.local()


@contextmanager
def hearing() -> Iterator[list[str]]:
    """The warnings of this thread, each as often as it is given.

    >>> with hearing() as sentences:
    ...     warnings.warn("too hot")
    >>> sentences
    ['too hot']
    """
    with _COLLECTING:
        before, _HEARD.sentences = getattr(_HEARD, "sentences", None), []
        try:
            yield _HEARD.sentences
        finally:
            _HEARD.sentences = before


@contextmanager
def _collecting() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _show
        yield


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    sentences = getattr(_HEARD, "sentences", None)
    if sentences is not None:
        sentences.append(str(message))


_COLLECTING = Shared(_collecting)


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
