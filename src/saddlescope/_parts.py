"""Frozen, validated parts of a run: one decorator, the types of their arguments, and the table of a part.

A part is a small dataclass. Wrong input raises one sentence that names the argument, the value, what is
allowed and the usual fix (the field's description).
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import PydanticCustomError

from saddlescope import _show
from saddlescope._functions import StoredFunction, described
from saddlescope._numbers import as_matrix, hint, python_number, shown

T = TypeVar("T")
Array = np.ndarray

_ALIASES = {"learning_rate": "lr", "eta": "lr", "batch": "batch_size", "sigma": "label_noise", "t": "temperature"}
"""Common other names of an argument."""

_OF_OTHERS = ("nesterov", "dampening", "betas", "beta", "amsgrad", "eps", "optimizer")
_UNSUPPORTED = "Adam and AdamW have adaptive steps, Nesterov momentum is not supported"

_CONFIG = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def frozen(cls: type[T]) -> type[T]:
    """A frozen pydantic dataclass whose errors are one sentence and whose equality compares arrays by value."""
    model = pydantic_dataclass(frozen=True, eq=False, config=_CONFIG)(cls)
    validate: Callable[..., None] = model.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        names = [f.name for f in dataclasses.fields(model) if not f.kw_only]
        if len(args) > len(names):
            listed, plural = ", ".join(names), "" if len(names) == 1 else "s"
            fix = f"; give a tuple: {cls.__name__}({args!r:.60})" if _takes_a_tuple(model) else ""
            raise TypeError(f"{cls.__name__} takes {len(names)} argument{plural} ({listed}), got {len(args)}{fix}")
        for name, value in zip(names, args, strict=False):
            if name in kwargs:
                raise TypeError(f"{cls.__name__} got {name!r} twice, by position and by name; give it once")
            kwargs[name] = value
        try:
            validate(self, **kwargs)
        except pydantic.ValidationError as error:
            raise _one_sentence(model, error) from None

    __init__.__wrapped__ = validate  # type: ignore[attr-defined]  # keeps the signature for help()
    overrides: dict[str, Any] = {
        "__init__": __init__,
        "__eq__": lambda self, other: type(self) is type(other) and _identity(self) == _identity(other),
        "__repr__": _text,
        "_repr_html_": _html,
        "__hash__": lambda self: hash(repr(_identity(self))),
        "__getstate__": lambda self: {f.name: getattr(self, f.name) for f in dataclasses.fields(model)},
        "__setstate__": lambda self, state: self.__dict__.update({k: _read_only(v) for k, v in state.items()}),
    }
    for name, function in overrides.items():
        setattr(model, name, function)
    return model  # type: ignore[return-value]


def _identity(value: Any) -> Any:
    """What equal parts have in common: their tables, with digests of the arrays."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, (tuple, list)):
        return [_identity(item) for item in value]
    if hasattr(value, "_table"):
        return value._table()
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    return type(value).__name__, {f.name: _identity(getattr(value, f.name)) for f in dataclasses.fields(value)}


def _takes_a_tuple(model: type) -> bool:
    (first, *others) = (f for f in dataclasses.fields(model) if not f.kw_only)
    return not others and "tuple[" in str(first.type)


def _read_only(value: Any) -> Any:
    """A value of a part with its arrays read-only, as they were before it was copied."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return tuple(map(_read_only, value)) if isinstance(value, tuple) else value


def _facts(part: Any) -> _show.Rows:
    """What a part shows: its own ``_facts``, or its arguments."""
    return part._facts() if hasattr(part, "_facts") else arguments(part)


def arguments(part: Any) -> _show.Rows:
    """The arguments of a part without those that have their default value."""
    given = []
    for field in dataclasses.fields(part):
        value, default = getattr(part, field.name), getattr(field.default, "default", field.default)
        if isinstance(value, np.ndarray) or value != default:
            given.append((field.name, _show.value(value)))
    return given


def _results(part: Any) -> _show.Rows:
    """What follows from the arguments of a part and is shown below them."""
    return part._results() if hasattr(part, "_results") else ()


def as_call(part: Any) -> str:
    """A part as a user would write it, arrays summarised; only its name where it has nothing but results."""
    facts, name = _facts(part), type(part).__name__
    return _show.call(name, facts) if facts or not _results(part) else name


def _text(part: Any) -> str:
    """A part as a call, with what follows from its arguments below it."""
    return _show.text(as_call(part), _results(part))


def _html(part: Any) -> str:
    return _show.html(type(part).__name__, [*_facts(part), *_results(part)])


def _one_sentence(model: type, error: pydantic.ValidationError) -> Exception:
    # A misspelt name also leaves the right one missing; report the misspelling.
    errors = error.errors()
    first = min(errors, key=lambda e: e["type"] != "unexpected_keyword_argument")
    # Of the alternatives for an argument, report the one that fits up to an entry.
    first = max((e for e in errors if e["loc"][:1] == first["loc"][:1]), key=lambda e: len(e["loc"]))
    kind, name, got = first["type"], str(first["loc"][0]) if first["loc"] else "", first.get("input")
    fields = {f.name: f for f in dataclasses.fields(model)}
    if kind == "unexpected_keyword_argument":
        unsupported = f": {_UNSUPPORTED}" if name.lower() in _OF_OTHERS else ""
        names = inspect.signature(model).parameters
        return TypeError(f"{model.__name__} has no argument {name!r}{unsupported}; {allowed(name, names)}")
    if kind.startswith("missing"):
        return TypeError(f"{model.__name__} needs the argument {name!r}{_fix(fields.get(name))}")
    if kind in ("value_error", "assertion_error"):
        return ValueError(str(first["ctx"]["error"]))
    if kind in ("too_short", "too_long"):
        got = first["ctx"]["actual_length"]
    close = hint(got, re.findall(r"'([^']*)'", first["ctx"]["expected"])) if kind == "literal_error" else ""
    must = f"{model.__name__}: {name} must {_must(first, error, name)}"
    sentence = f"{must}, got {shown(got)}{close}{_fix(fields.get(name))}"
    wrong_kind = kind.endswith(("_type", "_parsing", "_from_float")) or kind == "is_instance_of"
    return TypeError(sentence) if wrong_kind else ValueError(sentence)


def _must(first: Any, error: pydantic.ValidationError, name: str) -> str:
    """What an argument must be, in plain words."""
    kind, context = first["type"], first.get("ctx", {})
    if kind == "dataclass_type":
        classes = [e["ctx"]["class_name"] for e in error.errors() if e["type"] == kind and e["loc"][0] == name]
        return f"be a {' or '.join(classes)}"
    if kind == "is_instance_of":
        return "be a matrix" if context["class"] == "ndarray" else f"be a {context['class']}"
    if kind == "too_short":
        return f"hold at least {context['min_length']} numbers"
    if kind == "too_long":
        return f"hold at most {context['max_length']:,} numbers"
    plain = re.sub(r"^\w+ should ", "", first["msg"]).rstrip(".")
    plain = re.sub(r"\d{30,}", lambda digits: f"{float(digits[0]):g}", plain)
    return plain.replace("a valid tuple", "a list").replace("a valid integer", "an integer").replace("a valid ", "a ")


def _fix(field: Any) -> str:
    description = getattr(getattr(field, "default", None), "description", None)
    return f"; {description}" if description else ""


def allowed(name: str, names: Any) -> str:
    """The end of an error sentence on an unknown name: what is allowed, and the closest of these."""
    usual = _ALIASES.get(name.lower())
    close = f" (did you mean {usual!r}?)" if usual in names else hint(name, names)
    return f"allowed: {', '.join(names) or 'none'}{close}"


def _real(value: Any) -> Any:
    """A number as a Python float; pydantic alone would accept any object with a ``__float__``."""
    number = python_number(value)
    if type(number) is bool or not isinstance(number, (int, float)):
        raise PydanticCustomError("float_type", "Input should be a valid number")
    try:
        return float(number) + 0.0  # −0.0 becomes 0.0, so that equal parts have equal hashes
    except OverflowError:
        raise PydanticCustomError("float_size", "Input should be at most 1e308 in size") from None


def _whole(value: Any) -> Any:
    """A whole float such as 1e4 as the integer it is."""
    value = python_number(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _matrix(value: Any, info: ValidationInfo) -> Array | None:
    return None if value is None else as_matrix(value, str(info.field_name))


def _no_boolean(value: Any) -> Any:
    number = python_number(value)
    return repr(number) if isinstance(number, (bool, np.bool_)) else number


NO_BOOLEAN = BeforeValidator(_no_boolean)
"""For choices among numbers: True does not count as 1."""


def _function(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, str) and " sha256:" in value:
        return StoredFunction(value)
    if not callable(value):
        raise TypeError(f"{info.field_name} must be a function, got {shown(value)}")
    return value


Function = Annotated[Any, BeforeValidator(_function)]
"""A function of the user; its text in a store becomes a function that refuses to be called."""

Real = Annotated[float, BeforeValidator(_real), Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
Matrix = Annotated[Array, BeforeValidator(_matrix)]
OptionalMatrix = Annotated[Array | None, BeforeValidator(_matrix)]


def to_table(part: Any) -> dict[str, Any]:
    """A part as a TOML table: its class name under ``type`` and every argument that is not None."""
    if hasattr(part, "_table"):
        table: dict[str, Any] = part._table()
        return table
    table = {"type": type(part).__name__}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if value is not None:
            table[field.name] = _to_toml(value)
    return table


def _to_toml(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_to_toml(item) for item in value]
    if dataclasses.is_dataclass(value):
        return to_table(value)
    return described(value) if callable(value) else value
