"""The microscope for SGD noise in networks whose dynamics can be written down.

Names are imported when they are first used, so that ``import saddlescope`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saddlescope import convert, init, labels, monitor, observe, plots, schedules, theory
    from saddlescope.comparison import compare
    from saddlescope.data import Dataset, Examples, GaussianData, Moments
    from saddlescope.derivatives import differentiable
    from saddlescope.methods import GD, SGD, Adam, AdamW, GradientFlow, Langevin
    from saddlescope.networks import DeepLinear, Diagonal, Model
    from saddlescope.networks.rescaling import Pair
    from saddlescope.plan import Accumulate, Plan, logspaced
    from saddlescope.plots.picture import plot
    from saddlescope.problem import Problem
    from saddlescope.runs.cite import cite
    from saddlescope.runs.store import load, read
    from saddlescope.sde_terms import to_diffrax
    from saddlescope.simulation.simulate import simulate
    from saddlescope.sweeps.picks import Pick
    from saddlescope.sweeps.sweep import sweep

__all__ = [
    "GD",
    "SGD",
    "Accumulate",
    "Adam",
    "AdamW",
    "Dataset",
    "DeepLinear",
    "Diagonal",
    "Examples",
    "GaussianData",
    "GradientFlow",
    "Langevin",
    "Model",
    "Moments",
    "Pair",
    "Pick",
    "Plan",
    "Problem",
    "cite",
    "compare",
    "convert",
    "differentiable",
    "init",
    "labels",
    "load",
    "logspaced",
    "monitor",
    "observe",
    "plot",
    "plots",
    "read",
    "schedules",
    "simulate",
    "sweep",
    "theory",
    "to_diffrax",
]

_HOMES = {
    "GD": "methods",
    "SGD": "methods",
    "Accumulate": "plan",
    "Adam": "methods",
    "AdamW": "methods",
    "Dataset": "data",
    "DeepLinear": "networks",
    "Diagonal": "networks",
    "Examples": "data",
    "GaussianData": "data",
    "GradientFlow": "methods",
    "Langevin": "methods",
    "Model": "networks",
    "Moments": "data",
    "Pair": "networks.rescaling",
    "Pick": "sweeps.picks",
    "Plan": "plan",
    "Problem": "problem",
    "cite": "runs.cite",
    "compare": "comparison",
    "differentiable": "derivatives",
    "load": "runs.store",
    "logspaced": "plan",
    "plot": "plots.picture",
    "read": "runs.store",
    "simulate": "simulation.simulate",
    "sweep": "sweeps.sweep",
    "to_diffrax": "sde_terms",
}
"""The module of each name; other public names are modules."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        if "xarray" in sys.modules:  # now there are runs, and here is what they can do
            importlib.import_module(f"{__name__}.accessor")
        return value
    if not name.startswith("__") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
