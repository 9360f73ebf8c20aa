"""Values along an axis of a sweep: as a tuple, as the coordinate that shows them, and as TOML."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope import _show
from saddlescope._functions import described
from saddlescope._numbers import python_number, shown
from saddlescope._parts import as_call, to_table
from saddlescope.runfile import LARGE

MOST = 10_000_000
"""Most runs of a sweep."""


def listed(name: str, given: Any) -> tuple[Any, ...]:
    """Values from a list, an array (along its first axis) or anything that NumPy reads.

    Raises TypeError for anything else, ValueError for an empty list or one that is too long.

    >>> listed("method.lr", np.array([0.5, 1.5])), listed("network.widths", [[2, 4, 2], [2, 8, 2]])
    ((0.5, 1.5), ((2, 4, 2), (2, 8, 2)))
    """
    no_list = isinstance(given, (str, bytes, Mapping, set, frozenset)) or not isinstance(given, Sized)
    if no_list or getattr(given, "ndim", 1) < 1:
        fix = f"; write [{shown(given)}]" if isinstance(given, (str, int, float)) else "; give a list"
        raise TypeError(f"axis {name!r} must be a list of values, got {shown(given)}{fix}")
    if not len(given):
        raise ValueError(f"axis {name!r} must hold at least one value, got none")
    check_number(name, len(given))
    if isinstance(given, Sequence):
        return tuple(_plain(value) for value in given)
    values = np.asarray(given)
    return tuple(values) if values.ndim > 2 else tuple(_plain(value) for value in values.tolist())


def check_number(name: str, values: int) -> None:
    """Raise ValueError for more values than a sweep has runs, before they are made."""
    if values > MOST:
        raise ValueError(f"axis {name!r} must hold at most {MOST:,} values, got {values:,}; use fewer")


def _plain(value: Any) -> Any:
    """A value with Python's numbers, and tuples in place of lists; arrays and parts stay as they are."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else python_number(value)


def labels(values: Sequence[Any], distinct: bool = True) -> NDArray[Any]:
    """A coordinate that shows values: numbers as they are, anything else as text, arrays as 0, 1, ….

    Parts are shown by the name of their class, or as calls where that does not tell them apart.

    >>> labels([1, 2.5]), labels([(4, 8, 4), (4, 16, 4)])
    (array([1. , 2.5]), array(['(4, 8, 4)', '(4, 16, 4)'], dtype=object))
    """
    if all(type(value) in (int, float) for value in values):
        return np.array(values)
    names = [type(value).__name__ if dataclasses.is_dataclass(value) else _text(value) for value in values]
    for texts in (names, [_text(value) for value in values]):
        if None not in texts and (not distinct or len(set(texts)) == len(texts)):
            return np.array(texts, object)
    return np.arange(len(values)) if distinct else np.array([str(text) for text in names], object)


def _text(value: Any) -> str | None:
    if isinstance(value, np.ndarray):
        return None
    return as_call(value) if dataclasses.is_dataclass(value) else str(value)


def as_toml(value: Any) -> Any:
    """A value as TOML can hold it; None as "None", a large array by its shape and digest.

    >>> as_toml((1, None, np.eye(2)))
    [1, 'None', [[1.0, 0.0], [0.0, 1.0]]]
    """
    if isinstance(value, np.ndarray):
        if value.size <= LARGE:
            return value.tolist()
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:32]
        return f"{value.dtype} {_show.shape(value.shape)} sha256:{digest}"
    if isinstance(value, (tuple, list)):
        return [as_toml(entry) for entry in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_table(value)
    return "None" if value is None else described(value) if callable(value) else value
