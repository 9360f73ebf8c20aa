"""Engines advance ensembles: a compiled one, one in JAX, and a plain NumPy one to check both against."""

from __future__ import annotations

from saddlescope import _jax
from saddlescope._numbers import shown
from saddlescope._parts import allowed
from saddlescope.engines.protocol import Engine
from saddlescope.engines.reference import Reference
from saddlescope.methods import Rule
from saddlescope.networks import Network
from saddlescope.networks.model import is_model
from saddlescope.plan import Plan
from saddlescope.problem import Problem

ENGINES = ("auto", "native", "reference", "jax")


def make_engine(name: str, problem: Problem, method: Rule, plan: Plan) -> Engine:
    """The engine of one run, by its name or "auto"; ValueError where it cannot run the problem."""
    if not isinstance(name, str) or name not in ENGINES:
        raise ValueError(f"engine = {shown(name)} is unknown; {allowed(str(name), ENGINES)}")
    if is_model(problem.network):
        return _of_model(name, problem, method, plan)
    if chosen(name, problem.network) == "reference":
        return Reference(problem, method, plan)
    if name == "jax":
        return _layered()(problem, method, plan)
    native = _native()
    if native is None:
        raise ValueError('engine "native" is not built here; reinstall the package, or use "reference"')
    return native(problem, method, plan)


def chosen(name: str, network: Network) -> str:
    """The engine that a name stands for: "auto" is the compiled one, where it is built and has the network."""
    if name != "auto":
        return name
    if is_model(network):
        return "jax"
    return "native" if network.kernel and _native() else "reference"


def _of_model(name: str, problem: Problem, method: Rule, plan: Plan) -> Engine:
    if name not in ("auto", "jax"):
        raise ValueError(f'engine must be "auto" or "jax" for a Model, got "{name}"; leave it out')
    from saddlescope.engines.jax.ensemble import Ensemble

    return Ensemble(problem, method, plan)


def _layered() -> type[Engine]:
    """The JAX engine; ImportError with the extra to install where JAX is missing."""
    _jax.load()
    from saddlescope.engines.jax.layered import Layered

    return Layered


def _native() -> type[Engine] | None:
    """The compiled engine; None where it is not built."""
    try:
        from saddlescope.engines.native import Native
    except ImportError:
        return None
    return Native
