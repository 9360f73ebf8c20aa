"""Drift and diffusion of one member of a Model, from the functions of the engine; params are a pytree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
from jax import numpy as jnp

from saddlescope.engines.jax import draws
from saddlescope.engines.jax.sde import Settings
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import Step


def normals(table: Table) -> tuple[Any, ...]:
    """Shapes of the normals: of the samples (n,), and of fresh labels (n, …)."""
    kind = jnp.zeros(0).dtype
    shapes = [(table.samples,), *[table.mean_y.shape] * int(draws.fresh(table))]
    return tuple(jax.ShapeDtypeStruct(shape, kind) for shape in shapes)


def drift(step: Step, table: Table, params: Any, settings: Settings) -> Any:
    """``−∇𝓛 − γθ``; at order 2 less ``(η/2)(∇²𝓛 + γ)(∇𝓛 + γθ)``."""
    own = replace(step, decay=settings.weight_decay)
    slope = draws.drift(step.network, table, own, params, 1.0)
    return jax.tree.map(lambda g, w: -g - settings.weight_decay * w, slope, params)


def noise(step: Step, table: Table, params: Any, normals: tuple[Any, ...], settings: Settings) -> Any:
    """``√T C^{1/2} ζ``, linear in the normals ζ, by one backward pass; C, of one sample's gradient, is not formed."""
    if table.label_noise is not None:
        table = replace(table, label_noise=settings.label_noise)
    scale = -jnp.sqrt(settings.temperature / table.samples)
    weights, labels = draws.spread(table, scale, *normals)
    return draws.pulled(step.network, params, table.x, table.mean_y, weights, labels)
