"""Docstrings as they are written in the package, in the reference: plain text, ``code``, examples.

Sentences that begin with "Raises", "Source:" or "Keeps:" become fields. A part of a run shows its arguments with what
is allowed, as its own checks read them. A public name that is on no page is a warning.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)

FIELD = re.compile(r"(?:^|(?<=[.:;)…”\"] ))(Raises(?= \w+Error)|Source:|Sources:|Keeps:) *")
HUGE = 2**31
"""Bounds beyond this guard an integer type; they are no news to a reader."""

MODULES = (
    "saddlescope",
    "saddlescope.convert",
    "saddlescope.labels",
    "saddlescope.monitor",
    "saddlescope.observe",
    "saddlescope.theory",
    "saddlescope.theory.determinant",
    "saddlescope.theory.heavy_ball",
    "saddlescope.theory.phases",
)
"""Modules whose public names must all be in the reference."""


def plain(text: str) -> str:
    """Text of a docstring as reStructuredText: nothing outside ``code`` is markup.

    >>> print(plain("W_l ``x_l`` |x| s*"))
    W\\_l ``x_l`` \\|x\\| s\\*
    """
    parts = re.split(r"(``.+?``)", text)
    return "".join(part if part.startswith("``") else re.sub(r"([*_|`\\])", r"\\\1", part) for part in parts)


def paragraphs(lines: Iterable[str]) -> Iterator[list[str]]:
    """Runs of lines that are not blank."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def to_rst(lines: Iterable[str]) -> list[str]:
    """A docstring as reStructuredText, its "Raises", "Source" and "Keeps" as fields after the text.

    >>> to_rst(["Half of x. Raises ValueError for x < 0.", "", ">>> half(4)", "2"])
    ['Half of x.', '', ':Raises: ValueError for x < 0.', '', '>>> half(4)', '2', '']
    """
    text, fields, examples = [], [], []
    for block in paragraphs(lines):
        if block[0].lstrip().startswith(">>>"):
            examples += [*block, ""]
        elif block[0].startswith((" ", "- ", ".. ", ":")) or (len(block) > 1 and block[1].startswith(" ")):
            text += [*(plain(line) for line in block), ""]
        else:
            start, *found = FIELD.split(" ".join(map(str.strip, block)))
            text += [plain(start.strip()), ""] if start.strip() else []
            fields += [(name.rstrip(":"), body) for name, body in zip(found[::2], found[1::2], strict=True)]
    named = [f":{name}: {plain(body.strip())}" for name, body in fields]
    return [*text, *named, *([""] if named else []), *examples]


def arguments(part: type) -> list[tuple[str, str, str, str]]:
    """Name, what is allowed, default and advice of every argument of a part of a run.

    >>> from saddlescope import SGD
    >>> arguments(SGD)[0]
    ('lr', 'number > 0', '', 'use a learning rate such as 1e-3')
    """
    rows, fields = [], part.__pydantic_fields__  # type: ignore[attr-defined]
    for name, given in inspect.signature(part, eval_str=True).parameters.items():
        default = "" if given.default is given.empty else shown(given.default)
        field = fields.get(name)
        kind = allowed(field.annotation, field.metadata) if field else allowed(given.annotation)
        rows.append((name, kind, default, (field and field.description) or ""))
    return rows


def shown(default: Any) -> str:
    """A default value as it is written in code."""
    if isinstance(default, np.ndarray):
        return repr(default.tolist())
    return repr(default).replace("'", '"')


def allowed(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a type allows, in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        own = [one for item in inner[1:] for one in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return allowed(inner[0], [*own, *metadata])
    limits = " and ".join(bounds(metadata))
    if origin in (typing.Union, types.UnionType):
        kinds = dict.fromkeys(allowed(one) for one in inner if one is not type(None))
        return f"{' or '.join(kinds)} {limits}".rstrip()
    if origin is typing.Literal:
        return " or ".join(map(shown, inner))
    if origin is tuple:
        entry = allowed(inner[0])
        return re.sub(r"\b(number|array)\b", r"\1s", f"list of {entry}") if entry else ""
    if isinstance(annotation, str):
        annotation = {"float": float, "int": int, "str": str}.get(annotation.split(" |")[0], annotation)
    names = {float: "number", int: "whole number", str: "text", bool: "True or False", np.ndarray: "array", Any: ""}
    return f"{names.get(annotation, getattr(annotation, '__name__', str(annotation)))} {limits}".rstrip()


def bounds(metadata: Iterable[Any]) -> list[str]:
    """Limits among the metadata of a type."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return [
        f"{sign} {value:g}"
        for item in metadata
        for name, sign in signs.items()
        if (value := getattr(item, name, None)) is not None and abs(value) < HUGE
    ]


def table(part: type) -> list[str]:
    """The arguments of a part as a table."""
    rows = arguments(part)
    if not rows:
        return []
    lines = [".. list-table::", "   :header-rows: 1", "   :class: arguments", "   :widths: auto", ""]
    for name, kind, default, advice in [("argument", "allowed", "default", ""), *rows]:
        code = name != "argument"
        cells = (f"``{name}``" if code else name, plain(kind), f"``{default}``" if default and code else default)
        lines += [f"   {'* -' if n == 0 else '  -'} {cell}".rstrip() for n, cell in enumerate((*cells, plain(advice)))]
    return [*lines, ""]


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Rewrite a docstring in place."""
    found = to_rst(lines)
    if what == "class" and hasattr(obj, "__pydantic_fields__"):
        first = next((n for n, line in enumerate(found) if not line), len(found)) + 1
        found[first:first] = table(obj)
    lines[:] = found


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, returned: str | None
) -> tuple[str, str | None] | None:
    """Arguments as the source writes them; those of a part of a run without types, which are in its table."""
    if what in ("function", "method"):
        written = inspect.signature(obj)
        given = [one.replace(annotation=Written(one.annotation)) for one in _free(written, what)]
        returned = written.return_annotation
        return _text(inspect.Signature(given)), returned if isinstance(returned, str) else None
    if what != "class" or not hasattr(obj, "__pydantic_fields__"):
        return None
    written = inspect.signature(obj)
    bare = [one.replace(annotation=one.empty) for one in written.parameters.values()]
    return _text(inspect.Signature(bare)), None


class Written(str):
    """A type as the source writes it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _free(written: inspect.Signature, what: str) -> list[inspect.Parameter]:
    """Parameters that a caller gives, not ``self``; annotations are text throughout the package."""
    given = [one for one in written.parameters.values() if one.name not in ("self", "cls") or what != "method"]
    return [one if isinstance(one.annotation, str) else one.replace(annotation="") for one in given]


def _text(written: inspect.Signature) -> str:
    """A signature with text in double quotes."""
    return str(written).replace("'", '"').replace(": ,", ",")


def public(module: str) -> Iterator[tuple[str, Any]]:
    """Public names of a module and what they are: ``__all__``, else what it defines.

    >>> [name for name, _ in public("saddlescope.convert")][:3]
    ['depth', 'learning_rate', 'loss']
    """
    first, *path = module.split(".")
    found = functools.reduce(getattr, path, importlib.import_module(first))
    kinds = {n: v for n, v in vars(found).items() if inspect.isclass(v) or inspect.isroutine(v)}
    own = [n for n, v in kinds.items() if v.__module__ == found.__name__ and n[0] != "_"]
    for name in sorted(getattr(found, "__all__", None) or own):
        yield name, getattr(found, name)


def complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that no page of the reference shows."""
    documented = env.get_domain("py").data["objects"]  # type: ignore[attr-defined]
    for module in MODULES:
        for name, value in public(module):
            if not inspect.ismodule(value) and f"{module}.{name}" not in documented:
                LOGGER.warning("%s.%s is public but on no page of docs/reference; add it to one", module, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect to autodoc."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-process-signature", signature)
    app.connect("env-check-consistency", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
