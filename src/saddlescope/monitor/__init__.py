"""Noise, balance and rank of real PyTorch training, per mode and with error bars; needs ``saddlescope[torch]``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlescope.monitor.watch import Watch

__all__ = ["Watch"]

_HOMES = {"Watch": "watch"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
