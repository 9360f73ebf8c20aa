"""Functions of a user as parts of a run: what a store keeps of them is a name and a fingerprint.

A fingerprint covers the bytecode of a function, its defaults, what it closes over, and the functions, numbers and
arrays among the globals that it names, recursively. A store cannot hold a function: what is read from it is a
``StoredFunction``, equal to the original in its text, which refuses to be called.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")


class StoredFunction:
    """The place of a function in a run that was read from a store."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.__name__ = self.__qualname__ = text.split(" ")[0]

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        raise ValueError(
            f"the function {self.__name__} is not in the store, which holds no functions; "
            "give the problem, method and plan again: simulate(problem, method, plan, out=path)"
        )

    def __repr__(self) -> str:
        return self.__name__


def described(function: Any) -> str:
    """Name and fingerprint of a function.

    >>> one, other = (lambda x: x + 1), (lambda x: x + 2)
    >>> described(one) == described(lambda x: x + 1), described(one) == described(other)
    (True, False)
    """
    if isinstance(function, StoredFunction):
        return function.text
    content = hashlib.sha256()
    for part in _parts(function, set()):
        content.update(part)
    return f"{name_of(function)} sha256:{content.hexdigest()[:32]}"


def name_of(function: Any) -> str:
    """The name of a function, without spaces."""
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return str(name).replace("<locals>.", "").replace(" ", "_")


def _parts(value: Any, seen: set[int]) -> Iterator[bytes]:
    """What a value is made of, as bytes."""
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, types.FunctionType | types.MethodType | functools.partial | types.CodeType):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, types.CodeType):
        yield value.co_code
        yield repr(value.co_names).encode()
        for constant in value.co_consts:
            yield from _parts(constant, seen)
    elif isinstance(value, types.FunctionType):
        yield from _parts(value.__code__, seen)
        for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
            yield from _parts(default, seen)
        for cell in value.__closure__ or ():
            with_value = getattr(cell, "cell_contents", None) if _filled(cell) else None
            yield from _parts(with_value, seen)
        for name in value.__code__.co_names:
            if name in value.__globals__:
                yield from _parts(value.__globals__[name], seen)
    elif isinstance(value, types.MethodType):
        yield from _parts(value.__func__, seen)
        yield from _parts(value.__self__, seen)
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *sorted(value.keywords.items())):
            yield from _parts(part, seen)
    elif isinstance(value, (types.ModuleType, type)):
        yield value.__name__.encode()
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from _parts(entry, seen)
    elif isinstance(value, np.ndarray) or (hasattr(value, "__array__") and hasattr(value, "dtype")):
        array = np.asarray(value)
        yield f"{array.dtype} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()
    else:
        yield _ADDRESS.sub("", repr(value)).encode()


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
