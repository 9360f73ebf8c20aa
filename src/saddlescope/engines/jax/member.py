"""One member of a linear network as functions that JAX can differentiate: its map, its drift, and its noise.

``weights`` are the layers (n_l, n_{l−1}) of one network in the original basis. The end-to-end map is taken in the
teacher's basis, ``P ← UᵀPV``, as in ``engines/step.py``: ``E = (P − diag(s*)) R`` and ``Ḡ = K Rᵀ`` there. The gradient
∂W(Ḡ) of the layers is Ḡ through the transposed derivative of the map. Langevin dynamics are

    dW = drift dt + √T noise(dζ),   drift = −∂W(E Rᵀ) − γW,   noise(ζ) = −∂W(K Rᵀ) of a K that is linear in ζ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import jax
from saddlescope.data import is_finite
from saddlescope.engines.finite import Samples
from saddlescope.engines.step import Step

Weights = tuple[Any, ...]


class Numbers(NamedTuple):
    """Numbers of a step that may be traced: η, dt, T, σ and γ."""

    lr: Any
    dt: Any
    temperature: Any
    label_noise: Any
    weight_decay: Any


class Sight(NamedTuple):
    """``E = ΔR`` (dy, r), R, and the function that pulls a Ḡ (dy, dx) back to the layers."""

    error: Any
    root: Any
    pull: Callable[[Any], Weights]


def _chain(weights: Weights) -> Any:
    """``P = W_L … W_1``."""
    return reduce(lambda product, layer: layer @ product, weights)


def _chains(weights: Weights) -> Any:
    """``v = Σ_j Π_l u_lj`` (1, 1)."""
    return reduce(lambda product, layer: layer * product, weights).sum(axis=-2, keepdims=True)


MAPS: dict[str, Callable[[Weights], Any]] = {"deep_linear": _chain, "diagonal": _chains}
"""The end-to-end map of a network, by the name of its kernel."""


def in_modes(step: Step, weights: Weights) -> Any:
    """``UᵀPV`` (dy, dx); leading axes of the weights lead the result."""
    left, right = (jnp.asarray(basis, weights[0].dtype) for basis in step.data.bases)
    return left.T @ MAPS[step.network.kernel](weights) @ right


def look(step: Step, weights: Weights) -> Sight:
    """The error of a network, and the derivative of its map."""
    product, back = jax.vjp(partial(in_modes, step), weights)
    root, teacher = (jnp.asarray(a, product.dtype) for a in (step.data.root, step.data.teacher_in_modes))
    return Sight((product - teacher) @ root, root, lambda gradient: back(gradient)[0])


def descent(step: Step, weights: Weights, weight_decay: Any) -> Weights:
    """``−∇𝓛 − γW``."""
    sight = look(step, weights)
    slopes = sight.pull(sight.error @ sight.root.T)
    return tuple(-g - weight_decay * w for g, w in zip(slopes, weights, strict=True))


def drift(step: Step, weights: Weights, numbers: Numbers) -> Weights:
    """``−∇𝓛 − γW``; at order 2 less ``(η/2) ∇²𝓛 ∇𝓛``, decay included."""
    field = partial(descent, step, weight_decay=numbers.weight_decay)
    if step.order == 1:
        return field(weights)
    slopes = field(weights)
    bends = jax.jvp(field, (weights,), (slopes,))[1]
    return tuple(d - 0.5 * numbers.lr * b for d, b in zip(slopes, bends, strict=True))


def noise(step: Step, weights: Weights, normals: Any, label_noise: Any) -> Weights:
    """``C^{1/2} ζ``, linear in the normals ζ (normals_per_step,); isotropic: ``√(Tr C / d) ζ``.

    C is the covariance of one sample's gradient, which is not formed.
    """
    sight = look(step, weights)
    if step.source == "isotropic":
        deviation = jnp.sqrt(_trace(replace(step, source="gradient"), sight, label_noise) / step.network.parameters)
        return out_of_modes(step, tuple(deviation * z for z in _shaped(normals, weights)))
    return tuple(-g for g in sight.pull(_gradient_noise(step, sight, normals, label_noise)))


def _gradient_noise(step: Step, sight: Sight, normals: Any, label_noise: Any) -> Any:
    """Noise of one sample's Ḡ (dy, dx)."""
    match step.noise_from:
        case "scalar":
            return _scalar(step, sight, label_noise) * normals.reshape(1, 1)
        case "samples":
            one = _of_samples(step, sight.error, normals, label_noise)
        case _:
            one = _gaussian(sight.error, normals, label_noise)
    noisy = one @ sight.root.T
    return noisy * np.eye(*noisy.shape, dtype=noisy.dtype) if step.source == "aligned" else noisy


def _trace(step: Step, sight: Sight, label_noise: Any) -> Any:
    """``Tr C``: the squares of the noise of every normal, in turn."""

    def square(normals: Any) -> Any:
        return sum((g**2).sum() for g in sight.pull(_gradient_noise(step, sight, normals, label_noise)))

    count = step.normals_per_step
    return jax.lax.map(square, jnp.eye(count, dtype=sight.error.dtype), batch_size=min(count, 64)).sum()


def _scalar(step: Step, sight: Sight, label_noise: Any) -> Any:
    """``√g`` (1, 1) of one input and one label, ``g = α₁(Δ − center)² + floor``; the floor holds the label noise."""
    data = step.data
    given = data.gradient_noise().about(float(data.modes.strengths[0]))
    floor = given.floor + (label_noise**2 - data.label_noise**2) * data.sigma[0, 0]
    return jnp.sqrt(given.alpha * (sight.error / sight.root - given.center) ** 2 + floor)


def _gaussian(error: Any, normals: Any, label_noise: Any) -> Any:
    """K of Gaussian inputs, ``E H − σZ``: H symmetric, variance 1 off and 2 on the diagonal."""
    rank = error.shape[1]
    rows, columns = np.tril_indices(rank)
    one = error @ _symmetric(normals[: len(rows)] * np.where(rows == columns, 2**0.5, 1.0), rank)
    labels = normals[len(rows) :]
    return one - label_noise * labels.reshape(error.shape) if labels.size else one


def _of_samples(step: Step, error: Any, normals: Any, label_noise: Any) -> Any:
    """K of a data set, ``E H − Y − δZ``: (H, Y) with the covariance of (ccᵀ, r cᵀ) over the samples."""
    data = step.data
    assert is_finite(data)
    factor = data.noise_factor
    count = data.samples if factor is None else factor.shape[1]
    own, labels = normals[:count], normals[count:]
    one = _by_sample(Samples.of(data), error, own) if factor is None else _by_factor(factor, error, own)
    return one - label_noise * labels.reshape(error.shape) if labels.size else one


def _by_factor(factor: Any, error: Any, normals: Any) -> Any:
    moments, rank = jnp.asarray(factor, error.dtype) @ normals, error.shape[1]
    count = rank * (rank + 1) // 2
    one = error @ _symmetric(moments[:count], rank)
    return one if len(factor) == count else one - moments[count:].reshape(error.shape)


def _by_sample(samples: Samples, error: Any, normals: Any) -> Any:
    inputs, residuals = (jnp.asarray(a, error.dtype) for a in (samples.inputs, samples.residuals))
    shares = normals / len(inputs) ** 0.5
    return ((error @ inputs.T - residuals.T) * shares) @ inputs - error * shares.sum()


def _symmetric(lower: Any, size: int) -> Any:
    """The symmetric matrix with this lower triangle, row by row."""
    rows, columns = np.tril_indices(size)
    where = np.zeros((size, size), int)
    where[rows, columns] = where[columns, rows] = np.arange(len(rows))
    return lower[where]


def _shaped(flat: Any, weights: Weights) -> Weights:
    """A vector of all weights as layers."""
    ends = list(itertools.accumulate(w.size for w in weights))
    return tuple(part.reshape(w.shape) for part, w in zip(jnp.split(flat, ends[:-1]), weights, strict=True))


def out_of_modes(step: Step, layers: Weights) -> Weights:
    """Layers in the original basis: ``W_1 Vᵀ`` first, ``U W_L`` last; of one dimension only the sign."""
    left, right = (jnp.asarray(basis, layers[0].dtype) for basis in step.data.bases)
    first = (layers[0] @ right.T, *layers[1:])
    last = left @ first[-1] if left.size > 1 else left * first[-1]
    return (*first[:-1], last)


# --- observables


def mode_strength(step: Step, maps: Any) -> Any:
    """``u_αᵀPv_α`` (…, m) of maps in the teacher's basis; of equal s* the root mean square of their block."""
    count = len(step.data.modes.strengths)
    strengths = jnp.diagonal(maps, axis1=-2, axis2=-1)[..., :count]
    for block in step.data.modes.blocks:
        if len(block) > 1:
            inside = slice(block[0], block[-1] + 1)
            mean = (maps[..., inside, inside] ** 2).sum(axis=(-2, -1)) / len(block)
            strengths = strengths.at[..., inside].set(jnp.sqrt(mean)[..., None])
    return strengths
