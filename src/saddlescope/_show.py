"""How objects show themselves: a call or a few aligned lines at a prompt, a table in a notebook.

A text has at most LINES lines of at most WIDTH columns, whatever the size of the object; arrays are summarised. HTML
uses no colours, so that it is readable on any background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import islice
from textwrap import wrap
from typing import Any, TypeVar

import numpy as np

from saddlescope._numbers import shown

T = TypeVar("T")

WIDTH, LINES = 100, 12
SHORT = 60
"""Columns of one value."""

MISSING = "–"
"""Shown for what is not there, or cannot be computed."""

Rows = Sequence[tuple[str, str]]
"""Names with their texts."""


class Shown:
    """Base of what shows itself by ``_summary``: a title, and rows below it."""

    def _summary(self) -> tuple[str, Rows]:
        return call(type(self).__name__, fields(self)), ()

    def __repr__(self) -> str:
        return text(*self._summary())

    def _repr_html_(self) -> str:
        title, rows = self._summary()
        return html(title, rows) if rows else html(type(self).__name__, fields(self))


def fields(part: Any) -> Rows:
    """The fields of a dataclass."""
    return [(field.name, value(getattr(part, field.name))) for field in dataclasses.fields(part)]


def number(x: float | None, digits: int = 4) -> str:
    """A number to these significant digits; MISSING for None and NaN.

    >>> number(0.123456), number(float("inf")), number(None)
    ('0.1235', 'inf', '–')
    """
    return MISSING if x is None or np.isnan(x) else f"{x + 0.0:.{digits}g}"


def numbers(values: Iterable[float], most: int = 6) -> str:
    """The first of a list of numbers.

    >>> numbers([4.0, 2.0, 1.0]), numbers(range(100), most=3)
    ('[4, 2, 1]', '[0, 1, 2, …]')
    """
    listed = [number(x) for x in islice(values, most + 1)]
    return f"[{', '.join([*listed[:most], '…'] if len(listed) > most else listed)}]"


def tried(compute: Callable[[], T], otherwise: T) -> T:
    """A result, or another where it cannot be computed: a text never raises."""
    try:
        with np.errstate(all="ignore"):
            return compute()
    except Exception:
        return otherwise


def computed(compute: Callable[..., Any], *arguments: Any) -> float:
    """A number, NaN where it cannot be computed.

    >>> computed(lambda x: 1 / x, 0)
    nan
    """
    return tried(lambda: float(compute(*arguments)), float("nan"))


def value(of: Any) -> str:
    """An argument in at most SHORT columns: arrays by their shape, long lists by their ends, functions by their name.

    >>> value((8, 16, 6)), value(tuple(range(1000))), value(np.zeros((1000, 3)))
    ('(8, 16, 6)', '(0, 1, 2, …, 998, 999: 1,000 entries)', 'array 1,000 × 3')
    """
    if isinstance(of, np.ndarray):
        return _array(of)
    if isinstance(of, (tuple, list)):
        return cut(_sequence(of))
    if dataclasses.is_dataclass(of) and not isinstance(of, type):
        return cut(" ".join(repr(of).split()), WIDTH)
    if callable(of) and not isinstance(of, type):
        return cut(str(getattr(of, "__name__", type(of).__name__)))
    return cut(shown(of))


def _array(array: np.ndarray) -> str:
    if array.size <= 8 and array.dtype.kind in "biuf":
        return cut(" ".join(np.array2string(array, precision=4, separator=", ", floatmode="maxprec").split()))
    return f"array {shape(array.shape)}"


def shape(sizes: Sequence[int]) -> str:
    """A shape in words.

    >>> shape((1000, 3)), shape(())
    ('1,000 × 3', 'scalar')
    """
    return cut(" × ".join(f"{size:,}" for size in sizes)) or "scalar"


def _sequence(of: tuple[Any, ...] | list[Any]) -> str:
    opening, closing = "()" if isinstance(of, tuple) else "[]"
    if len(of) <= 24:
        whole = ", ".join(map(value, of)) + ("," if len(of) == 1 and opening == "(" else "")
        if len(whole) <= SHORT - 2 or len(of) <= 5:
            return f"{opening}{whole}{closing}"
    first, last = ([number(x, 6) if isinstance(x, float) else value(x) for x in part] for part in (of[:3], of[-2:]))
    ends = [*first, "…", *last]
    return f"{opening}{', '.join(ends)}: {len(of):,} entries{closing}"


def cut(line: str, width: int = SHORT) -> str:
    """A line that fits into this many columns."""
    return line if len(line) <= width else line[: width - 1] + "…"


def call(name: str, arguments: Rows) -> str:
    """``name(argument=value, …)`` on as few lines as fit.

    >>> call("SGD", [("lr", "0.001"), ("batch_size", "16")])
    'SGD(lr=0.001, batch_size=16)'
    """
    lines, indent = [f"{name}("], " " * (len(name) + 1)
    for index, (key, argument) in enumerate(arguments):
        piece = cut(f"{key}={argument}", WIDTH - len(indent) - 1) + (")" if index == len(arguments) - 1 else ",")
        if len(lines[-1]) + 1 + len(piece) > WIDTH and lines[-1].strip():
            lines.append(indent + piece)
        else:
            lines[-1] += piece if lines[-1].endswith("(") else f" {piece}"
    return _short(lines) if arguments else f"{name}()"


def text(title: str, rows: Rows, most: int = LINES) -> str:
    """A title with aligned rows below it, as many as fit into ``most`` lines.

    >>> print(text("Law", [("mean", "1"), ("standard deviation", "0.5")]))
    Law
      mean                1
      standard deviation  0.5
    """
    width = max((len(cut(name)) for name, _ in rows), default=0)
    lines = [part for line in title.splitlines() for part in _wrapped(line, WIDTH, 2, "    ")]
    for name, content in rows:
        for index, part in enumerate(_wrapped(content, WIDTH - width - 4, 3) or [""]):
            lines.append(f"  {'' if index else cut(name):<{width}}  {part}")
    return _short(lines, most)


def _wrapped(line: str, width: int, most: int, indent: str = "") -> list[str]:
    if len(line) <= width and "\n" not in line:
        return [line]
    line = " ".join(cut(line, width * (most + 1)).split())
    return wrap(line, width, max_lines=most, placeholder=" …", subsequent_indent=indent, break_on_hyphens=False)


def _short(lines: Sequence[str], most: int = LINES) -> str:
    lines = [*lines[: most - 1], "  …"] if len(lines) > most else lines
    return "\n".join(cut(line.rstrip(), WIDTH) for line in lines)


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, its first column to the left and the others to the right.

    >>> grid(["", "mean"], [["run", "0.5"]])
    ['     mean', 'run   0.5']
    """
    table = [head, *body]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width) for index, (cell, width) in enumerate(cells)
        ).rstrip()
        for cells in (list(zip(row, widths, strict=True)) for row in table)
    ]


def html(title: str, rows: Sequence[Sequence[str]], head: Sequence[str] = (), foot: str = "") -> str:
    """A table for a notebook: the first cell of a row is its name."""
    left = ' style="text-align: left; vertical-align: top"'
    lines = [f"<div><strong>{escape(' '.join(title.split()))}</strong>", "<table>"]
    if head:
        lines.append(f"<thead><tr>{''.join(f'<th{left}>{escape(cell)}</th>' for cell in head)}</tr></thead>")
    lines.append("<tbody>")
    for name, *cells in rows:
        data = "".join(f"<td{left}>{escape(' '.join(cell.split()))}</td>" for cell in cells)
        lines.append(f"<tr><th{left}>{escape(name)}</th>{data}</tr>")
    lines.append("</tbody></table>")
    return "\n".join([*lines, *([f"<small>{escape(foot)}</small>"] if foot else []), "</div>"])
