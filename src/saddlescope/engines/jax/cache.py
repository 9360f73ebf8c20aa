"""How many members are vectorised together: those whose arrays of one step stay in the cache of a processor."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params

from saddlescope.engines.jax import convolution, draws
from saddlescope.engines.jax.kept import Memory, kept
from saddlescope.engines.jax.numbers_of_models import form_of, key_of
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import Step
from saddlescope.networks.model import Model

CACHE = 4_000_000
"""Bytes that the steps of a chunk may write; measured on cores with 1 and 2 MB; XLA does not write all of them."""

FEWEST, MOST = 2, 256
"""Members of a chunk: a single one is rounded differently; beyond many, small networks gain nothing."""


def members_together(model: Model, table: Table, step: Step) -> int:
    """Members of a chunk on a processor, from the sizes of all arrays in the gradient of one member."""
    return kept(_KEPT, key_of(form_of(step)), lambda: _counted(model, table, step))


def _counted(model: Model, table: Table, step: Step) -> int:
    computed = convolution.of_model(model)

    def gradient(leaves: Any, table: Table) -> Any:
        key, factor = jax.random.key(0), np.ones((), step.dtype)
        return draws.gradient(computed, table, step, model.unflatten(leaves), key, np.int32(0), factor)

    leaves = tuple(jax.ShapeDtypeStruct(leaf.shape, step.dtype) for leaf in model.leaves)
    size = max(1, written(jax.make_jaxpr(gradient)(leaves, table).jaxpr))
    return min(max(CACHE // size, FEWEST), MOST)


_KEPT: Memory[int] = []


def written(jaxpr: Jaxpr) -> int:
    """Bytes of the results of all operations of a jaxpr.

    >>> written(jax.make_jaxpr(lambda x: (2 * x).sum())(np.zeros(10, np.float32)).jaxpr)
    44
    """
    total = 0
    for eqn in jaxpr.eqns:
        inner = [written(part) for part in jaxprs_in_params(eqn.params)]
        results = (math.prod(v.aval.shape) * getattr(v.aval.dtype, "itemsize", 0) for v in eqn.outvars)
        total += sum(inner) if inner else sum(results)
    return total
