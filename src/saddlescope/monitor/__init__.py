"""Noise, balance and rank of real PyTorch training, per mode and with error bars; needs ``saddlescope[torch]``.

``Watch`` is the interface; ``saddlescope.monitor.lightning`` and ``saddlescope.monitor.huggingface`` have callbacks.
Nothing of torch is imported before a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlescope.monitor.alerts import Alert, above, below, falls_below, flagged, rises_above
    from saddlescope.monitor.coverage import Coverage
    from saddlescope.monitor.loggers import JSONL, InMemory, TensorBoard, Trackio, WandB
    from saddlescope.monitor.pairs import Pair, Part
    from saddlescope.monitor.record import Record
    from saddlescope.monitor.summary import Summary
    from saddlescope.monitor.watch import Watch

__all__ = [
    "JSONL",
    "Alert",
    "Coverage",
    "InMemory",
    "Pair",
    "Part",
    "Record",
    "Summary",
    "TensorBoard",
    "Trackio",
    "WandB",
    "Watch",
    "above",
    "below",
    "falls_below",
    "flagged",
    "rises_above",
]

_HOMES = {
    "Alert": "alerts",
    "Coverage": "coverage",
    "InMemory": "loggers",
    "JSONL": "loggers",
    "Pair": "pairs",
    "Part": "pairs",
    "Record": "record",
    "Summary": "summary",
    "TensorBoard": "loggers",
    "Trackio": "loggers",
    "WandB": "loggers",
    "Watch": "watch",
    "above": "alerts",
    "below": "alerts",
    "falls_below": "alerts",
    "flagged": "alerts",
    "rises_above": "alerts",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
