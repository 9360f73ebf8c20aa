"""Engines advance ensembles: a compiled one, and a plain NumPy one to check it against."""

from __future__ import annotations

from saddlescope._numbers import shown
from saddlescope._parts import allowed
from saddlescope.engines.protocol import Engine
from saddlescope.engines.reference import Reference
from saddlescope.methods import Rule
from saddlescope.plan import Plan
from saddlescope.problem import Problem

ENGINES = ("auto", "native", "reference")


def make_engine(name: str, problem: Problem, method: Rule, plan: Plan) -> Engine:
    """The engine of one run; "auto" is the compiled one where it is built."""
    if not isinstance(name, str) or name not in ENGINES:
        raise ValueError(f"engine = {shown(name)} is unknown; {allowed(str(name), ENGINES)}")
    if name == "reference":
        return Reference(problem, method, plan)
    try:
        from saddlescope.engines.native import Native
    except ImportError:
        if name == "native":
            raise ValueError('engine "native" is not built here; reinstall the package, or use "reference"') from None
        return Reference(problem, method, plan)
    return Native(problem, method, plan)
