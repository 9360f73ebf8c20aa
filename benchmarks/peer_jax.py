"""JAX: the idiomatic scan of one trajectory under vmap, and the fastest arrangement found by hand."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from workload import BATCH_SIZE, LABEL_NOISE, LR, TEACHER, WEIGHTS, WIDTH, excess_loss

M = jnp.asarray(TEACHER, jnp.float32)
START = tuple(jnp.asarray(layer, jnp.float32) for layer in WEIGHTS)
Advance = Callable[[int], np.ndarray]


def vmap_scan(trajectories: int, seed: int) -> Advance:
    """Write the step of one trajectory, scan it, vmap the scan, jit the whole."""

    def step(weights, key):
        key_h, key_z = jax.random.split(key)
        half = jax.random.normal(key_h, (WIDTH, WIDTH))
        symmetric = (half + half.T) / jnp.sqrt(2)
        label = LABEL_NOISE * jax.random.normal(key_z, (WIDTH, WIDTH))
        product, pull_back = jax.vjp(lambda layers: layers[2] @ layers[1] @ layers[0], weights)
        error = product - M
        (gradients,) = pull_back(error + (error @ symmetric - label) / jnp.sqrt(BATCH_SIZE))
        return jax.tree.map(lambda w, g: w - LR * g, weights, gradients), None

    @partial(jax.jit, static_argnames="steps")
    def ensemble(key, steps):
        def trajectory(key):
            return lax.scan(step, START, jax.random.split(key, steps))[0]

        return jax.vmap(trajectory)(jax.random.split(key, trajectories))

    return lambda steps: excess_loss(ensemble(jax.random.key(seed), steps))


def trajectories_last(trajectories: int, seed: int) -> Advance:
    """Arrays (row, column, trajectory), one key per step for the whole ensemble."""

    def mul(a, b):
        return jnp.einsum("ijn,jkn->ikn", a, b)

    def flip(a):
        return a.transpose(1, 0, 2)

    def step(weights, key):
        first, second, third = weights
        noise = jax.random.normal(key, (2, WIDTH, WIDTH, trajectories))
        below = mul(second, first)
        error = mul(third, below) - M[:, :, None]
        symmetric = (noise[0] + flip(noise[0])) / jnp.sqrt(2)
        batch = error + (mul(error, symmetric) - LABEL_NOISE * noise[1]) / jnp.sqrt(BATCH_SIZE)
        back = mul(flip(third), batch)
        return (
            first - LR * mul(flip(second), back),
            second - LR * mul(back, flip(first)),
            third - LR * mul(batch, flip(below)),
        ), None

    @partial(jax.jit, static_argnames="steps")
    def ensemble(key, steps):
        start = tuple(jnp.broadcast_to(w[:, :, None], (WIDTH, WIDTH, trajectories)) for w in START)
        return lax.scan(step, start, jax.random.split(key, steps))[0]

    return lambda steps: excess_loss([w.transpose(2, 0, 1) for w in ensemble(jax.random.key(seed), steps)])
