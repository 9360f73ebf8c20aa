"""Fields of a run by dotted names, such as ``method.lr`` or ``method.schedule.steps``, and runs with other values.

All changes of a run are made at once, so that fields that must agree, such as widths and a teacher, change together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope._numbers import hint, shown
from saddlescope._parts import allowed
from saddlescope._tables import PARTS, data_part
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem

ROOTS = (*PARTS, "method", "plan")
"""First part of the name of every field."""

WHOLE = (*PARTS, "method")
"""Parts that can be exchanged as a whole."""

_GIVEN = ""
"""Key, in a tree of changes, of the value that replaces a part as a whole."""


@dataclass(frozen=True, eq=False)
class Base:
    """The run that a sweep varies.

    ``data_table`` is the table of its data in a TOML file, whose short forms (``spectrum``, ``path``) are no fields of
    the data; paths in it are relative to ``folder``.
    """

    problem: Problem
    method: Method
    plan: Plan
    data_table: Mapping[str, Any] | None = None
    folder: str = "."

    def part(self, root: str) -> Any:
        """The network, data, init, method or plan."""
        return getattr(self.problem, root) if root in PARTS else getattr(self, root)

    def in_short_form(self, paths: Iterable[str]) -> bool:
        """Whether one of these fields exists only in the table of the data."""
        if self.data_table is None:
            return False
        names = {path.split(".")[1] for path in paths if path.startswith("data.")}
        return not names <= set(_names(self.problem.data))


def check(base: Base, path: str) -> None:
    """Raise ValueError unless a path names a field of the base run.

    >>> from saddlescope import SGD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> check(Base(problem, SGD(lr=0.1, batch_size=4), Plan(steps=1)), "plan.seeds")
    Traceback (most recent call last):
    ValueError: axis 'plan.seeds': Plan has no argument 'seeds'; allowed: ... (did you mean 'seed'?)
    """
    root, *names = path.split(".")
    if root not in ROOTS:
        if root == "problem" and names:
            raise ValueError(f"axis {path!r} must be named without its first part; use {'.'.join(names)!r}")
        raise ValueError(f"axis {path!r}: a run has no part {root!r}; {allowed(root, ROOTS)}")
    if not names:
        return
    if path == "plan.threads":
        raise ValueError("axis 'plan.threads' changes no result; set it in the base run")
    if root == "data" and base.data_table is not None and names[0] in base.data_table and len(names) == 1:
        return
    value = base.part(root)
    for depth, name in enumerate(names, start=1):
        _check_field(value, name, ".".join([root, *names[: depth - 1]]), path)
        value = getattr(value, name)


def _check_field(value: Any, name: str, outer: str, path: str) -> None:
    if value is None:
        raise ValueError(f"axis {path!r}: {outer} is None in the base run, so that it has no {name!r}; give one there")
    if not dataclasses.is_dataclass(value):
        raise ValueError(f"axis {path!r}: {outer} is {shown(value)}, which has no fields; use the axis {outer!r}")
    names = _names(value)
    if name in names:
        return
    if (outer, name) in (("data", "spectrum"), ("data", "path")):
        raise ValueError(
            f"axis {path!r}: {name} is a short form of TOML files; use the axis 'data' with one part for each value, "
            "or give the data of the base run in this form in a sweep file"
        )
    raise ValueError(f"axis {path!r}: {type(value).__name__} has no argument {name!r}; {allowed(name, names)}")


def _names(part: Any) -> tuple[str, ...]:
    """Arguments of a part: its fields, and such as ``temperature``, which stands for one of them."""
    return (*(field.name for field in dataclasses.fields(part)), *_alternatives(part))


def _alternatives(part: Any) -> Mapping[str, str]:
    found: Mapping[str, str] = getattr(type(part), "alternatives", {})
    return found


def paths(base: Base) -> Iterator[str]:
    """Every field of the base run, parts and what is inside them."""
    for root in ROOTS:
        yield from _inside(base.part(root), root)


def _inside(value: Any, path: str) -> Iterator[str]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name in _names(value):
            yield f"{path}.{name}"
            yield from _inside(getattr(value, name), f"{path}.{name}")


def nearest(base: Base, name: str) -> str:
    """The fields meant by a name without a dot, as the end of a sentence; empty if none is close."""
    known = list(paths(base))
    same = [path for path in known if path.endswith(f".{name}")]
    if same:
        return f" (did you mean {' or '.join(map(repr, same[:3]))}?)"
    close = {path.rpartition(".")[2] for path in known}
    return hint(name, close)


def changed(base: Base, settings: Mapping[str, Any]) -> tuple[Problem, Method, Plan]:
    """The run with these values of its fields, validated; parts without a change are those of the base.

    Raises TypeError or ValueError naming the argument at fault.

    >>> from saddlescope import SGD, DeepLinear, GaussianData, init
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> base = Base(problem, SGD(lr=0.1, batch_size=4), Plan(steps=1))
    >>> problem, method, plan = changed(base, {"method.lr": 0.2, "data.label_noise": 1.0})
    >>> method.lr, problem.data.label_noise, plan is base.plan
    (0.2, 1.0, True)
    """
    tree: dict[str, Any] = {}
    for path, value in settings.items():
        node = tree
        for name in path.split("."):
            node = node.setdefault(name, {})
        node[_GIVEN] = value
    parts = {
        root: _data(base, node) if root == "data" else _with(base.part(root), node, root) for root, node in tree.items()
    }
    of_problem = {root: part for root, part in parts.items() if root in PARTS}
    problem = dataclasses.replace(base.problem, **of_problem) if of_problem else base.problem
    return problem, parts.get("method", base.method), parts.get("plan", base.plan)


def _data(base: Base, node: dict[str, Any]) -> Any:
    """Changed data; a short form is changed in its table, and read again."""
    if _GIVEN in node or base.data_table is None or not base.in_short_form(f"data.{name}" for name in node):
        return _with(base.problem.data, node, "data")
    given = {name: _listed(inner[_GIVEN]) for name, inner in node.items()}
    return data_part({**base.data_table, **given}, base.folder)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _with(value: Any, node: dict[str, Any], path: str) -> Any:
    """A part with the changes of a tree: first it as a whole, then its fields."""
    value = node.get(_GIVEN, value)
    inner = {name: changes for name, changes in node.items() if name != _GIVEN}
    if not inner:
        return value
    for name in inner:
        _check_field(value, name, path, f"{path}.{name}")
    changes = {name: _with(getattr(value, name), deeper, f"{path}.{name}") for name, deeper in inner.items()}
    replaced = {field: None for name, field in _alternatives(value).items() if name in changes}
    return dataclasses.replace(value, **replaced | changes)
