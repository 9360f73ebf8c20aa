"""Warnings that point at the line of the user, however deep in the package they are given."""

from __future__ import annotations

import re
import sys
import warnings

_INSIDE = ("saddlescope", "functools")
"""Packages whose frames are passed over; functools calls cached properties."""

_NUMBER = re.compile(r"\d[\d,.]*(e[-+]?\d+)?")


def without_numbers(message: str) -> str:
    """A sentence with # for every number, by which the same advice in other numbers is known.

    >>> without_numbers("lr = 0.5 is beyond the stability edge 1e-3")
    'lr = # is beyond the stability edge #'
    """
    return _NUMBER.sub("#", message)


def warn(message: str) -> None:
    """Give a UserWarning at the line that called the package."""
    warnings.warn(message, stacklevel=caller()[1])


def caller() -> tuple[str, int]:
    """Module of the first frame outside the package, and its ``stacklevel`` for ``warnings.warn`` where this is called.

    >>> caller()[1] >= 1
    True
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    return frame.f_globals.get("__name__", ""), level
