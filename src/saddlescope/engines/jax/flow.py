"""Gradient flow of a Model."""

from __future__ import annotations

from typing import Any


def advance(model: Any, table: Any, step: Any, state: Any, until: int, layout: Any) -> Any:
    """The ensemble at step ``until``."""
    raise NotImplementedError


def landed(model: Any, table: Any, step: Any, state: Any, layout: Any) -> Any:
    """Leaves at the state's own time."""
    raise NotImplementedError
