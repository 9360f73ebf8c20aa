"""Numbers from users are converted to float64 where they enter the package; anything but plain real numbers is refused.

Plain numbers are Python's and NumPy's integers and floats, arrays of them (also from pandas, xarray and other libraries
that NumPy reads), and nested lists of these; not booleans, text, bytes, dates, complex numbers, masks or objects.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope._memory import require

DEPTH = 32
"""Maximum nesting of lists."""

SHORTEST = 4
"""Fewest letters of a name that is searched for within other names."""

_KINDS = {
    "b": "booleans are not allowed; write 0.0 and 1.0 if that is meant",
    "c": "complex numbers are not allowed; take its real part",
    "M": "dates are not allowed; subtract a reference date and divide by a unit",
    "m": "time spans are not allowed; divide by a unit such as numpy.timedelta64(1, 's')",
    "U": "text is not allowed; convert it to numbers",
    "S": "bytes are not allowed; convert them to numbers",
    "O": "objects are not allowed; convert them to numbers",
    "V": "records are not allowed; take one of their fields",
}

_ARRAYS = (np.ndarray, np.memmap, np.matrix)
"""Array classes that are plain numbers; other subclasses of NumPy's array may carry units or other meaning."""


class _NotPlain(Exception):
    """The value is not plain; the message is the end of a sentence."""


def as_numbers(value: Any, name: str, what: str = "an array") -> Floats:
    """Plain real numbers of any shape as float64, NaN and infinity included; float64 arrays are not copied.

    Raises TypeError naming the argument for anything but plain real numbers, ValueError for integers beyond float64.

    >>> as_numbers([1, 2.5], "x")
    array([1. , 2.5])
    >>> as_numbers([1, True], "x")
    Traceback (most recent call last):
    TypeError: x must be an array of numbers, booleans are not allowed; write 0.0 and 1.0 if that is meant
    """
    if type(value) is np.ndarray and value.dtype == np.float64:
        return value
    return _converted(value, name, what, np.float64)


def _converted(value: Any, name: str, what: str, dtype: type | None) -> NDArray[Any]:
    """Plain real numbers as an array of this type, or of that which holds them (None)."""
    try:
        with np.errstate(over="raise"):
            return np.asarray(_plain(value, DEPTH), dtype)
    except _NotPlain as reason:
        end = str(reason)
    except (OverflowError, FloatingPointError):
        raise ValueError(f"{name} must be at most 1e308 in size, got a larger number; rescale it") from None
    except ValueError:  # lists of unequal length
        end = f"nested lists of equal length, got {shown(value)}"
    raise TypeError(f"{name} must be {what} of numbers, {end}" if what else f"{name} must be a number, {end}")


def as_samples(value: Any, name: str) -> NDArray[Any]:
    """A read-only copy of finite samples (n, …) of any shape: floats as float64, whole numbers as int64.

    >>> as_samples([[1, 2]], "X"), as_samples([1.0], "X")
    (array([[1, 2]]), array([1.]))
    """
    plain = _converted(value, name, "an array", None)
    whole = plain.dtype.kind in "iu" and plain.max(initial=0) < 2**63
    samples = _copy(plain, name) if whole else _copy(as_numbers(plain, name), name)
    if samples.ndim == 0 or 0 in samples.shape:
        raise ValueError(
            f"{name} must hold samples along its first axis, none of its axes empty, got shape {samples.shape}; "
            f"use {name}[None] for one sample"
        )
    return _finite(samples.astype(np.int64) if whole else samples, name)


def as_number(value: Any, name: str) -> float:
    """One plain real number; NaN and infinity are allowed."""
    if type(value) is float:
        return value
    numbers = as_numbers(value, name, "")
    if numbers.ndim:
        raise TypeError(f"{name} must be a number, got the shape {numbers.shape}; give one at a time")
    return float(numbers)


def as_whole(value: Any, name: str) -> int:
    """One whole number.

    >>> as_whole(np.int8(3), "mode")
    3
    """
    number = python_number(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if abs(number) > 2**64:
        raise ValueError(f"{name} must be at most 2**64 in size, got {shown(value)}; lower it")
    return number


def as_matrix(value: Any, name: str) -> Floats:
    """A read-only copy of a finite matrix with two non-empty dimensions."""
    matrix = _copy(as_numbers(value, name, "a matrix"), name)
    if matrix.ndim != 2 or 0 in matrix.shape:
        fix = f"; write {name}[:, None] for one column" if matrix.ndim == 1 else ""
        raise ValueError(f"{name} must be a matrix with two non-empty dimensions, got shape {matrix.shape}{fix}")
    return _finite(matrix, name)


def as_matrices(value: Any, name: str) -> Floats:
    """A read-only copy of a finite matrix, or of a stack of matrices along the first of three dimensions."""
    matrices = _copy(as_numbers(value, name, "a matrix"), name)
    return _finite(matrices, name) if matrices.ndim == 3 and matrices.size else as_matrix(value, name)


def as_vector(value: Any, name: str) -> Floats:
    """A read-only copy of finite numbers in one dimension."""
    vector = _copy(as_numbers(value, name, "a list"), name)
    if vector.ndim != 1:
        raise ValueError(f"{name} must be a list of numbers, got shape {vector.shape}; use [value] for one")
    return _finite(vector, name)


def as_choice(value: Any, name: str, *choices: str) -> str:
    """One of some words.

    >>> as_choice("heavy", "tails", "power", "exponential")
    Traceback (most recent call last):
    ValueError: tails must be "power" or "exponential", got 'heavy'
    """
    if not (isinstance(value, str) and value in choices):
        words = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be {words}, got {shown(value)}{hint(value, choices)}")
    return value


def hint(given: Any, names: Iterable[str], cutoff: float = 0.6) -> str:
    """The names meant by one that is not among them, as the end of a sentence; empty if none is close.

    Up to three names that contain it, otherwise the most similar one.

    >>> hint("shufle", ["replacement", "shuffle"])
    " (did you mean 'shuffle'?)"
    >>> hint("noise", ["label_noise", "noise_peak", "loss"])
    " (did you mean 'label_noise' or 'noise_peak'?)"
    """
    if not isinstance(given, str):
        return ""
    names = list(names)
    close = [name for name in names if given.lower() in name.lower()] if len(given) >= SHORTEST else []
    if not 0 < len(close) <= 3:
        close = difflib.get_close_matches(given[:80], names, n=1, cutoff=cutoff)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def python_number(value: Any) -> Any:
    """A single plain number of NumPy or another library as a Python number; anything else unchanged."""
    if getattr(value, "ndim", None) != 0 or type(value) in (int, float):
        return value
    try:
        array = _array(value)
    except _NotPlain:
        return value
    return int(array) if array.dtype.kind in "iu" else float(array)


def _copy(numbers: NDArray[Any], name: str) -> NDArray[Any]:
    """A copy, with −0.0 replaced by 0.0."""
    require(16 * numbers.size, f"{name} of shape {numbers.shape}", "make it smaller")
    return np.asarray(numbers + numbers.dtype.type(0))


def _finite(numbers: NDArray[Any], name: str) -> NDArray[Any]:
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity; remove or replace these entries")
    numbers.flags.writeable = False
    return numbers


def _plain(value: Any, depth: int) -> Any:
    """The value with every part that NumPy would have to interpret replaced by an array, or refused."""
    if type(value) in (int, float):
        return value
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        raise _NotPlain(_KINDS["U" if isinstance(value, str) else "S"])
    if not isinstance(value, Sequence):
        return _array(value)
    if not depth:
        raise _NotPlain(f"got lists nested more than {DEPTH} deep; flatten them")
    return value if {*map(type, value)} <= {int, float} else [_plain(item, depth - 1) for item in value]


def _array(value: Any) -> NDArray[Any]:
    """Anything but a list as an array of plain numbers."""
    if isinstance(value, bool):
        raise _NotPlain(_KINDS["b"])
    if hasattr(value, "toarray") and not hasattr(value, "__array__"):
        raise _NotPlain("sparse ones are not allowed; use its toarray()")
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.getmaskarray(value).any():
            raise _NotPlain("masked entries are not allowed; fill or drop them")
        value = value.data
    elif isinstance(value, np.ndarray) and type(value) not in _ARRAYS:
        raise _NotPlain(f"a {type(value).__name__} is not allowed; convert it by numpy.asarray")
    if isinstance(value, (int, float)):  # subclasses, such as members of an enumeration
        return np.asarray(float(value))
    try:
        dtypes: Any = value.dtypes if hasattr(value, "columns") else [getattr(value, "dtype", None)]
        kinds = {getattr(dtype, "kind", None) for dtype in dtypes}
        array = np.asarray(value)
    except Exception:
        raise _NotPlain(f"got {shown(value)}") from None
    if array.dtype.kind == "O" and kinds <= set("iuf"):  # from pandas, which allows missing entries
        try:
            return array.astype(np.float64)
        except TypeError:
            raise _NotPlain("missing entries are not allowed; fill or drop them") from None
    for kind in (*kinds, array.dtype.kind):
        if kind in _KINDS:
            raise _NotPlain(_KINDS[kind] if array.ndim or kind != "O" else f"got {shown(value)}")
    return array


def shown(value: Any) -> str:
    """A value for an error message: short, on one line."""
    try:
        return " ".join(repr(value).split())[:80]
    except Exception:  # such as an integer with too many digits
        return f"a value of type {type(value).__name__}"
