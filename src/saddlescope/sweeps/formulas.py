"""Arithmetic of the coordinates of a sweep, such as ``max(1, round(lr / T))``: parsed, checked and evaluated by name.

A formula is an expression of numbers, names, ``+ - * / // % **``, parentheses, tuples and the functions below.
Nothing else of Python is evaluated.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from saddlescope._numbers import shown
from saddlescope._parts import allowed

LONGEST = 1000
"""Most characters of a formula."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "float": float,
    "floor": math.floor,
    "int": int,
    "log": math.log,
    "max": max,
    "min": min,
    "round": round,
    "sqrt": math.sqrt,
}


def _power(base: float, exponent: float) -> Any:
    """Powers of whole numbers are exact only while they are small, so that none takes long."""
    small = isinstance(exponent, int) and 0 <= exponent <= 64 and abs(base) <= 2**64
    return base**exponent if small else math.pow(base, exponent)


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_UNARY: dict[type, Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


@dataclass(frozen=True)
class Formula:
    """The text of a formula; ``names`` are the coordinates in it.

    Raises TypeError unless it is text, ValueError for anything but arithmetic.

    >>> Formula("max(1, round(lr / T))").at({"lr": 0.1, "T": 0.02})
    5
    >>> Formula("(4, width, width, 4)").at({"width": 16})
    (4, 16, 16, 4)
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"a formula must be text such as 'max(1, round(lr / T))', got {shown(self.text)}")
        if len(self.text) > LONGEST:
            raise ValueError(f"the formula {self.text[:40]!r}… must have at most {LONGEST:,} characters; shorten it")
        try:
            self._check(self._tree)
        except SyntaxError as error:
            raise ValueError(f"the formula {self.text!r} cannot be read: {error.msg}; write it as in Python") from None
        except (RecursionError, MemoryError):
            raise ValueError(f"the formula {self.text[:40]!r}… is nested too deeply; simplify it") from None

    @cached_property
    def _tree(self) -> ast.expr:
        return ast.parse(self.text.strip(), mode="eval").body

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of coordinates, in the order of their first use."""
        called = {id(node.func) for node in ast.walk(self._tree) if isinstance(node, ast.Call)}
        found = [node for node in ast.walk(self._tree) if isinstance(node, ast.Name) and id(node) not in called]
        return tuple(dict.fromkeys(node.id for node in sorted(found, key=lambda node: (node.lineno, node.col_offset))))

    def at(self, values: Mapping[str, Any]) -> Any:
        """The value at these coordinates: a number, or a tuple of numbers.

        Raises ValueError where it has none, such as a division by zero.
        """
        try:
            value = self._value(self._tree, values)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise ValueError(f"the formula {self.text!r} has no value at {self._where(values)}: {error}") from None
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, (int, float)) or not math.isfinite(number):
                raise ValueError(f"the formula {self.text!r} gives {shown(value)} at {self._where(values)}; change it")
        return value

    def _where(self, values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} = {shown(values[name])}" for name in self.names) or "every run"

    def _check(self, node: ast.expr) -> None:
        """Raise ValueError for what is not arithmetic."""
        inside: list[ast.expr] = []
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            inside = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            inside = [node.operand]
        elif isinstance(node, (ast.Tuple, ast.List)):
            inside = list(node.elts)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            if node.func.id not in FUNCTIONS:
                raise ValueError(
                    f"the formula {self.text!r} calls {node.func.id!r}; {allowed(node.func.id, FUNCTIONS)}"
                )
            inside = list(node.args)
        elif not (isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and type(node.value) in (int, float))):
            raise ValueError(
                f"the formula {self.text!r} holds {ast.unparse(node)!r}, which is no arithmetic; use numbers, "
                f"coordinates, + - * / // % ** and {', '.join(FUNCTIONS)}"
            )
        for inner in inside:
            self._check(inner)

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return values[name]
            case ast.BinOp(left, sign, right):
                return _BINARY[type(sign)](self._value(left, values), self._value(right, values))
            case ast.UnaryOp(sign, operand):
                return _UNARY[type(sign)](self._value(operand, values))
            case ast.Call(ast.Name(name), arguments):
                return FUNCTIONS[name](*(self._value(one, values) for one in arguments))
            case ast.Tuple(entries) | ast.List(entries):
                return tuple(self._value(one, values) for one in entries)
        raise AssertionError(f"{self.text!r} was checked")
