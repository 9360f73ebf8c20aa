"""Gradient flow of a Model, ``dθ/dt = −∇𝓛 − γθ``, by the explicit pair 5(4) of ``engines/dormand_prince.py``.

Every member has its own time and step size h. A step is accepted, with the solution of order 5, if

    error = ‖e‖ / (RTOL max(‖θ‖, ‖θ'‖)) ≤ 1,   e the difference of the two orders,

norms over all weights, since a leaf without gradient has only rounding in it. The next h and the mark of divergence are
as there. Where the gradient jumps, as at the kinks of a ReLU, no step is small enough: steps of FLOOR of the clock's
unit are accepted whatever their error, which is then of first order in FLOOR lr. Steps are never shortened to reach a
save: a save shows separate steps (``landed``), so that a run does not depend on its saves, stops and
resumes; on the members beside it only by rounding.
Source: Dormand & Prince 1980, J. Comput. Appl. Math. 6(1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from jax.flatten_util import ravel_pytree

from saddlescope._arrays import Layers
from saddlescope.engines.dormand_prince import ERROR, EXPONENT, GROW, SAFETY, SHRINK, SLOW, STAGES, STUCK
from saddlescope.engines.jax.numbers_of_models import Numbers
from saddlescope.engines.state import State

RTOL = 1e-10
FLOOR = 1e-3

_ORDER = len(STAGES) + 1
_ROWS = np.array([(*row, *[0.0] * (_ORDER - len(row))) for row in ((), *STAGES)])
"""Weights of the earlier slopes at every stage, of which the first has none."""


class Flow:
    """Gradient flow of the members of ensembles; ``layout`` spreads them over chunks and devices."""

    def __init__(self, model: Any, layout: Any) -> None:
        self.model, self.layout = model, layout

    def advance(self, table: Any, numbers: Numbers, state: State, until: int) -> State:
        """The ensemble at step ``until``, with all steps of the integrator that end by ``until · lr``."""
        leaves, time, size = self._integrated(table, numbers, state, until, landing=False)
        lr = np.asarray(numbers.lr)
        lost = (state.status == 0) & ~np.asarray(_moving(time, size, lr))
        for leaf in leaves:
            leaf[lost] = np.nan
        status = np.where(lost, np.maximum(np.floor(time / lr), 1), state.status).astype(np.int64)
        return replace(state, step=until, weights=leaves, status=status, clock=np.stack([time, size], axis=1))

    def landed(self, table: Any, numbers: Numbers, state: State) -> Layers:
        """The leaves at the state's own time (n, …)."""
        return self._integrated(table, numbers, state, state.step, landing=True)[0]

    def _integrated(
        self, table: Any, numbers: Numbers, state: State, until: int, landing: bool
    ) -> tuple[Layers, Any, Any]:
        """Leaves, time and next step of every member."""
        time, size = state.clock.T
        end = np.where(state.status == 0, np.asarray(numbers.lr) * until, -np.inf)
        spread = self.layout.spread((state.weights, time, size, end))
        return self.layout.gathered(self._compiled(spread, table, numbers, np.bool_(landing)))

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        return jax.jit(self.layout.each(jax.vmap(self._member, in_axes=(0, None, None, None))))

    def _member(self, carried: Any, table: Any, numbers: Numbers, landing: Any) -> Any:
        """Leaves, time and next step of one member at its ``end``, reached by a shortened step where it is landing."""
        leaves, time, size, end = carried
        start, unravel = ravel_pytree(self.model.unflatten(leaves))

        def field(theta: Any) -> Any:
            def loss(params: Any) -> Any:
                return self.model.losses(params, table.x, table.mean_y).mean()

            slope = -ravel_pytree(jax.grad(loss)(unravel(theta)))[0]
            return slope if numbers.decay is None else slope - numbers.decay * theta

        def on_the_way(carried: Any) -> Any:
            _, time, size = carried
            return jnp.where(landing, time < end, time + size <= end) & _moving(time, size, numbers.lr)

        def attempt(carried: Any) -> Any:
            theta, time, size = carried
            left = end - time
            h = jnp.where(landing, jnp.minimum(size, left), size)
            after, error = _attempt(field, theta, h)
            known, floor = jnp.isfinite(error), FLOOR * numbers.lr
            accepted = known & ((error <= 1) | (h <= floor))
            longer = jnp.maximum(h * jnp.clip(SAFETY * error**EXPONENT, SHRINK, GROW), floor)
            reached = jnp.where(landing & (h == left), end, time + h)
            size = jnp.where(known, longer, h * SHRINK)
            return jnp.where(accepted, after, theta), jnp.where(accepted, reached, time), size

        theta, time, size = lax.while_loop(on_the_way, attempt, (start, time, size))
        return self.model.flatten(unravel(theta)), time, size


def _attempt(field: Callable[[Any], Any], theta: Any, size: Any) -> tuple[Any, Any]:
    """Where one step leads, and its error."""

    def stage(number: Any, carried: Any) -> Any:
        slopes, _ = carried
        there = theta + size * _along(jnp.asarray(_ROWS)[number], slopes)
        return slopes.at[number].set(field(there)), there

    nothing = jnp.zeros((_ORDER, *theta.shape), theta.dtype)
    slopes, after = lax.fori_loop(0, _ORDER, stage, (nothing, theta))
    difference = size * _along(jnp.asarray(ERROR), slopes)
    scale = RTOL * jnp.maximum(jnp.linalg.norm(theta), jnp.linalg.norm(after))
    return after, jnp.linalg.norm(difference) / jnp.maximum(scale, np.finfo(float).tiny)


def _along(row: Any, slopes: Any) -> Any:
    """``Σ_j row_j slopes_j``."""
    return (row[:, None] * slopes).sum(axis=0)


def _moving(time: Any, size: Any, unit: Any) -> Any:
    """Whether steps of this size still advance the time."""
    return (time + size > time) & (size > jnp.minimum(SLOW * time, STUCK * unit))
