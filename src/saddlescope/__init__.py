"""The microscope for SGD noise in networks whose dynamics can be written down.

Names are imported when they are first used, so that ``import saddlescope`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlescope import convert, init, schedules, theory
    from saddlescope.accumulate import Accumulate
    from saddlescope.cite import cite
    from saddlescope.compare import compare
    from saddlescope.data import GaussianData
    from saddlescope.dataset import Dataset
    from saddlescope.methods import GD, SGD, GradientFlow, Langevin
    from saddlescope.moments import Moments
    from saddlescope.network import DeepLinear, Diagonal
    from saddlescope.plan import Plan, logspaced
    from saddlescope.problem import Problem
    from saddlescope.simulate import simulate
    from saddlescope.store import load

__all__ = [
    "GD",
    "SGD",
    "Accumulate",
    "Dataset",
    "DeepLinear",
    "Diagonal",
    "GaussianData",
    "GradientFlow",
    "Langevin",
    "Moments",
    "Plan",
    "Problem",
    "cite",
    "compare",
    "convert",
    "init",
    "load",
    "logspaced",
    "schedules",
    "simulate",
    "theory",
]

_HOMES = {
    "GD": "methods",
    "SGD": "methods",
    "Accumulate": "accumulate",
    "Dataset": "dataset",
    "DeepLinear": "network",
    "Diagonal": "network",
    "GaussianData": "data",
    "GradientFlow": "methods",
    "Langevin": "methods",
    "Moments": "moments",
    "Plan": "plan",
    "Problem": "problem",
    "cite": "cite",
    "compare": "compare",
    "load": "store",
    "logspaced": "plan",
    "simulate": "simulate",
}
"""The module of each name; other public names are modules."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("__") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package in which a module does not hide the function of its name, whichever is imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
