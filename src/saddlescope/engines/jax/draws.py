"""What a step sees: the gradient estimate of one member."""

from __future__ import annotations

from typing import Any

import jax
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import Step


def gradient(model: Any, table: Table, step: Step, params: Any, key: Any, number: Any, factor: Any) -> Any:
    """The gradient estimate of one member in step ``number``, without weight decay."""
    key = jax.random.fold_in(key, number)
    index = jax.random.randint(key, (int(step.batch),), 0, table.samples)
    return jax.grad(lambda params: model.losses(params, table.x[index], table.y[index]).mean())(params)
