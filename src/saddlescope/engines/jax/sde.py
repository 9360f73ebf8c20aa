"""Drift and diffusion of one member of a linear network, from the functions of the engine.

``weights`` are the layers (n_l, n_{l−1}) of one network in the original basis; the engine has them in the teacher's,
with the trajectories last, of which there is one here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from saddlescope.data.base import into_modes
from saddlescope.engines.jax import sources, walk
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.streams import Draws
from saddlescope.engines.step import Step

Weights = tuple[Any, ...]

NO_STREAMS: Any = ()
"""In place of streams: every normal is given."""


class Settings(NamedTuple):
    """What dynamics can be differentiated by, beside the weights: η, T, σ and γ."""

    lr: Any
    temperature: Any
    label_noise: Any
    weight_decay: Any


def numbers_of(step: Step, settings: Settings) -> Numbers:
    """The numbers of a step, with the settings in place of those of method and data."""
    lr, temperature, label_noise, decay = (jnp.asarray(value, step.dtype) for value in settings)
    known = Numbers(*map(jnp.asarray, Numbers.of(step)))
    dt = lr if step.dt == step.lr else known.dt
    fresh = (label_noise**2 - known.label_noise**2) * float(step.data.sigma[0, 0])
    return known._replace(
        lr=lr,
        dt=dt,
        decay=decay,
        temperature=temperature,
        label_noise=label_noise,
        scale=jnp.sqrt(temperature / dt),
        deviation=jnp.sqrt(temperature * dt / step.network.parameters),
        noise=known.noise.at[2].add(fresh),
    )


def drift(step: Step, weights: Weights, settings: Settings) -> Weights:
    """``−∇𝓛 − γW``; at order 2 less ``(η/2) ∇²𝓛 ∇𝓛``, decay included."""
    step, form, numbers, layers = _described(step, weights, settings)
    error, pull_back = _looked(form, numbers, layers)
    slopes = pull_back(sources.SOURCES["gd"](form, numbers, error, Draws(NO_STREAMS)))
    changes = tuple(-g - numbers.decay * w for g, w in zip(slopes, layers, strict=True))
    if step.order == 2:
        bent = walk.curvature(form, numbers, layers, numbers.lr)
        changes = tuple(d - b for d, b in zip(changes, bent, strict=True))
    return out_of_modes(step, tuple(w[..., 0] for w in changes))


def noise(step: Step, weights: Weights, normals: Any, settings: Settings) -> Weights:
    """``√T C^{1/2} ζ``, linear in the normals ζ (normals_per_step,); isotropic: ``√(T Tr C / d) ζ``.

    C is the covariance of one sample's gradient, which is not formed.
    """
    step, form, numbers, layers = _described(step, weights, settings)
    error, pull_back = _looked(form, numbers, layers)
    draws = Draws(NO_STREAMS, normals[:, None])
    if step.source == "isotropic":
        trace = walk.NETWORKS[form.kernel].gradient_trace(form, numbers, layers, error)
        deviation = jnp.sqrt(numbers.temperature * trace / step.network.parameters)
        changes = tuple(deviation * draws.normals(math.prod(w.shape)).reshape(w.shape) for w in layers)
    else:
        own = numbers._replace(scale=-jnp.sqrt(numbers.temperature))
        changes = pull_back(sources.noise(form, own, error, draws))
    return out_of_modes(step, tuple(w[..., 0] for w in changes))


def mode_strength(step: Step, weights: Weights) -> Any:
    """``u_αᵀPv_α`` (…, m); leading axes of the weights lead."""
    leading = weights[0].shape[:-2]
    layers = (w.reshape(-1, *w.shape[-2:]) for w in into_modes(step.data, weights))
    form = Form.of(step)
    maps = walk.NETWORKS[form.kernel].end_to_end(tuple(jnp.moveaxis(w, 0, -1) for w in layers))
    return walk.mode_strengths(form, maps).T.reshape(*leading, -1)


def out_of_modes(step: Step, layers: Weights) -> Weights:
    """Layers (…, n_l, n_{l−1}) in the original basis: ``W_1 Vᵀ`` first, ``U W_L`` last; in one dimension a sign."""
    left, right = (jnp.asarray(basis, layers[0].dtype) for basis in step.data.bases)
    first = (layers[0] @ right.T, *layers[1:])
    last = left @ first[-1] if left.size > 1 else left * first[-1]
    return (*first[:-1], last)


def _described(step: Step, weights: Weights, settings: Settings) -> tuple[Step, Form, Numbers, Weights]:
    """The step in the type of the weights, its form and numbers, and the layers as the engine has them."""
    own = replace(step, dtype=str(jnp.result_type(*weights)))
    layers = tuple(jnp.asarray(w, own.dtype)[..., None] for w in into_modes(step.data, weights))
    return own, Form.of(own), numbers_of(own, settings), layers


def _looked(form: Form, numbers: Numbers, layers: Weights) -> tuple[Any, Any]:
    """``E = ΔR`` (dy, r, 1), and the function that pulls a Ḡ (dy, dx, 1) back to the layers."""
    product, pull_back = jax.vjp(walk.NETWORKS[form.kernel].end_to_end, layers)
    error = jnp.einsum("ijn,jr->irn", product - numbers.teacher[..., None], numbers.root)
    return error, lambda gradient: pull_back(gradient)[0]
