"""The discrete methods on a chunk of trajectories in JAX: look at them at every step, then take the step.

Trajectories are on the last axis, so that every operation is one loop over them. Steps are counted from the first of
the span; what happens at one is returned as its count, −1 where it does not happen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from saddlescope.engines.jax import deep_linear, diagonal, sources
from saddlescope.engines.jax.form import Form, Numbers
from saddlescope.engines.jax.streams import Draws

NETWORKS: dict[str, Any] = {"deep_linear": deep_linear, "diagonal": diagonal}
"""The module of every kernel."""


class Span(NamedTuple):
    """The steps of one call: how many, their factors (count + 1, or 1 if they are all the same), their phase.

    ``phase`` is the first step modulo the steps of an epoch; ``given`` (n, normals_per_step) of a span of one step,
    or None.
    """

    count: Any
    factors: Any
    phase: Any
    given: Any


class Chunk(NamedTuple):
    """Trajectories, as they move: the fields of ``State`` on the last axis, and what happened in this span.

    ``waiting`` (2, m, n) thresholds not reached before the span, ``passed`` (2, m, n) when they were in it; ``alive``
    (n,) trajectories that had not diverged before, ``lost`` (n,) when they did; ``peak`` (3, m, n) noise and strength
    of the peak, noise when learned; ``peaked`` (m, n) when it was.
    """

    weights: Any
    velocity: Any
    words: Any
    order: Any
    waiting: Any
    passed: Any
    alive: Any
    lost: Any
    peak: Any
    peaked: Any


def walk(form: Form, numbers: Numbers, span: Span, chunk: Chunk) -> Chunk:
    """The trajectories at the end of the span."""

    def step(count: Any, chunk: Chunk) -> Chunk:
        factor = lax.dynamic_index_in_dim(span.factors, count, keepdims=False)  # the last one beyond its end
        end_to_end, pull_back = NETWORKS[form.kernel].look(chunk.weights)
        error = end_to_end - numbers.teacher[..., None]
        chunk = _looked(form, numbers, chunk, count, factor, end_to_end, error)
        return moved(form, numbers, span, chunk, count, factor, error, pull_back)

    chunk = lax.fori_loop(0, span.count, step, chunk)
    end_to_end = NETWORKS[form.kernel].end_to_end(chunk.weights)
    factor = lax.dynamic_index_in_dim(span.factors, span.count, keepdims=False)
    return _looked(form, numbers, chunk, span.count, factor, end_to_end, end_to_end - numbers.teacher[..., None])


# --- one step


def moved(
    form: Form, numbers: Numbers, span: Span, chunk: Chunk, count: Any, factor: Any, error: Any, pull_back: Any
) -> Chunk:
    """``(1 − γdt) W − dt ∂W``, with the second-order drift, the noise at the layers or momentum if there is any."""
    weights, dt, draws = chunk.weights, numbers.dt * factor, Draws(chunk.words, span.given)
    error = error if form.white else jnp.einsum("ijn,jr->irn", error, numbers.root)
    gradient, order = sources.gradient(form, numbers, error, span.phase + count, chunk.order, draws)
    slopes, velocity = pull_back(gradient), chunk.velocity
    if form.order == 2:
        bent = curvature(form, numbers, weights, numbers.lr * factor)
        slopes = tuple(g + h for g, h in zip(slopes, bent, strict=True))
    if form.momentum:
        pulls = (g + numbers.decay * w for g, w in zip(slopes, weights, strict=True))
        velocity = tuple(numbers.momentum * p - dt * g for p, g in zip(velocity, pulls, strict=True))
        moved = tuple(w + p for w, p in zip(weights, velocity, strict=True))
    else:
        keep = 1 - dt * numbers.decay
        moved = tuple(keep * w - dt * g for w, g in zip(weights, slopes, strict=True))
    if form.source == "isotropic":
        trace = NETWORKS[form.kernel].gradient_trace(form, numbers, weights, error)
        deviation = factor * numbers.deviation * jnp.sqrt(trace)
        moved = tuple(w + deviation * draws.normals(w[..., 0].size).reshape(w.shape) for w in moved)
    return chunk._replace(weights=moved, velocity=velocity, words=draws.words, order=order)


def curvature(form: Form, numbers: Numbers, weights: Any, lr: Any) -> Any:
    """``(η/2) ∇²𝓛 ∇𝓛``, decay included: the derivative of ∇𝓛 along itself."""

    def slopes(weights: Any) -> Any:
        end_to_end, pull_back = NETWORKS[form.kernel].look(weights)
        error = jnp.einsum("ijn,jr->irn", end_to_end - numbers.teacher[..., None], numbers.root)
        found = pull_back(jnp.einsum("irn,jr->ijn", error, numbers.root))
        return tuple(g + numbers.decay * w for g, w in zip(found, weights, strict=True))

    _, bent = jax.jvp(slopes, (weights,), (slopes(weights),))
    return tuple(0.5 * lr * h for h in bent)


# --- events, tested at every step


def _looked(form: Form, numbers: Numbers, chunk: Chunk, count: Any, factor: Any, end_to_end: Any, error: Any) -> Chunk:
    """First passages, noise peaks and divergence at this step."""
    strengths = mode_strengths(form, end_to_end)
    alive = chunk.alive & (chunk.lost < 0)
    finite = jnp.isfinite(strengths).all(axis=0)
    chunk = chunk._replace(lost=jnp.where(alive & ~finite, count, chunk.lost))
    if not form.passages:
        return chunk
    reached = strengths >= numbers.goals[..., None]
    hit = chunk.waiting & (chunk.passed < 0) & reached & (alive & finite)
    chunk = chunk._replace(passed=jnp.where(hit, count, chunk.passed))
    return _peaks(form, numbers, chunk, count, factor, strengths, hit[-1], error) if form.peaks else chunk


def mode_strengths(form: Form, end_to_end: Any) -> Any:
    """Mode strengths (m, n) from the map in the teacher's basis."""
    strengths = [end_to_end[a, a] for a in range(form.modes)]
    for block in form.blocks:
        if len(block) > 1:
            square = (end_to_end[block[0] : block[-1] + 1, block[0] : block[-1] + 1] ** 2).sum(axis=(0, 1))
            strengths[block[0] : block[-1] + 1] = [jnp.sqrt(square / len(block))] * len(block)
    return jnp.stack(strengths)


def _peaks(
    form: Form, numbers: Numbers, chunk: Chunk, count: Any, factor: Any, strengths: Any, learned: Any, error: Any
) -> Chunk:
    """The largest noise strictly before learning, and the noise when learned."""
    error = jnp.einsum("ijn,jr->irn", error, numbers.root)
    noise = NETWORKS[form.kernel].mode_noise(form, numbers, chunk.weights, error) * (numbers.temperature * factor)
    largest, strength, at_learning = chunk.peak
    higher = chunk.waiting[-1] & (chunk.passed[-1] < 0) & (noise > largest) & chunk.alive & (chunk.lost < 0)
    peak = [
        jnp.where(higher, noise, largest),
        jnp.where(higher, strengths, strength),
        jnp.where(learned, noise, at_learning),
    ]
    return chunk._replace(peak=jnp.stack(peak), peaked=jnp.where(higher, count, chunk.peaked))
