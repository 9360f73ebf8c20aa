"""Functions of a user as parts of a run: what a store keeps of them is a name and a fingerprint.

A fingerprint covers the bytecode of a function, its defaults, what it closes over, and the functions, numbers, arrays
and objects among the globals that it names, recursively; of modules, classes and JAX it covers the names. A store
cannot hold a function: what is read from it is a ``StoredFunction``, equal to the original in its text, which refuses
to be called.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

LIBRARIES = ("jax", "jaxlib", "numpy")
"""Their functions count by name: how they are written is not the user's choice."""

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
    for part in _parts(function, {}):
        content.update(_counted(part))
    return f"{name_of(function)} sha256:{content.hexdigest()[:32]}"


def name_of(function: Any) -> str:
    """The name of a function, without spaces."""
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return str(name).replace("<locals>.", "").replace(" ", "_")


def _parts(value: Any, seen: dict[int, int]) -> Iterator[bytes]:
    """What a value is made of, as bytes."""
    if not isinstance(value, types.FunctionType):  # a function made by functools.wraps closes over the other
        value = getattr(value, "__wrapped__", value)
    if isinstance(value, types.CodeType):
        yield value.co_code
        yield repr(value.co_names).encode()
        for constant in value.co_consts:
            yield from _parts(constant, seen)
    elif isinstance(value, types.FunctionType):
        if (yield from _new(value, seen)):
            yield from _of_function(value, seen)
    elif isinstance(value, types.MethodType):
        yield from _parts(value.__func__, seen)
        yield from _parts(value.__self__, seen)
    elif isinstance(value, functools.partial):
        for part in (value.func, *value.args, *sorted(value.keywords.items())):
            yield from _parts(part, seen)
    elif isinstance(value, (types.ModuleType, type)):
        yield value.__name__.encode()
    elif isinstance(value, (tuple, list, set, frozenset, dict)):
        yield from _of_entries(value, seen)
    elif isinstance(value, np.ndarray) or (hasattr(value, "__array__") and hasattr(value, "dtype")):
        yield from _of_array(value)
    else:
        yield from _of_object(value, seen)


def _new(value: Any, seen: dict[int, int]) -> Generator[bytes, None, bool]:
    """Whether a value was not seen before; of one that was, its number."""
    known = id(value) in seen
    yield str(seen.setdefault(id(value), len(seen))).encode()
    return not known


def _counted(part: bytes) -> bytes:
    """A part with its length, so that 1 and 12 are not 11 and 2."""
    return b"%d:%b" % (len(part), part)


def _of_function(function: types.FunctionType, seen: dict[int, int]) -> Iterator[bytes]:
    ours = function.__module__ is None or function.__module__.split(".")[0] not in LIBRARIES
    if ours:
        yield from _parts(function.__code__, seen)
    else:
        yield f"{function.__module__}.{function.__qualname__}".encode()
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield from _parts(default, seen)
    for cell in function.__closure__ or ():
        yield from _parts(getattr(cell, "cell_contents", None) if _filled(cell) else None, seen)
    loaded = [one.argval for one in dis.get_instructions(function) if one.opname == "LOAD_GLOBAL"] if ours else []
    for name in dict.fromkeys(loaded):  # not co_names, which holds attributes too: x.T is no global T
        if name in function.__globals__:
            yield from _parts(function.__globals__[name], seen)


def _of_entries(entries: Any, seen: dict[int, int]) -> Iterator[bytes]:
    """Of tuples and lists in their order; of sets and dicts in one that does not depend on the process."""
    if isinstance(entries, (set, frozenset)):
        yield from sorted(b"".join(map(_counted, _parts(entry, seen))) for entry in entries)
        return
    for entry in sorted(entries.items(), key=lambda item: repr(item[0])) if isinstance(entries, dict) else entries:
        yield from _parts(entry, seen)


def _of_array(value: Any) -> Iterator[bytes]:
    try:
        array = np.asarray(value)
    except TypeError:  # random keys of JAX
        yield repr(value).encode()
        return
    yield f"{array.dtype} {array.shape}".encode()
    yield np.ascontiguousarray(array).tobytes()


def _of_object(value: Any, seen: dict[int, int]) -> Iterator[bytes]:
    """The fields of a dataclass, the attributes of an object without a text, the text of any other."""
    own = type(value)
    fields: dict[str, Any] | None = None
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    elif getattr(own, "__repr__", None) is object.__repr__:
        fields = getattr(value, "__dict__", {})
    if fields is None:
        yield _ADDRESS.sub("", repr(value)).encode()
    elif (yield from _new(value, seen)):
        yield own.__qualname__.encode()
        yield from _parts(fields, seen)
        if isinstance(call := inspect.getattr_static(own, "__call__", None), types.FunctionType):
            yield from _parts(call, seen)


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
