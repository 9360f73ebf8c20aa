"""JAX: the idiomatic scan of one trajectory under vmap, and faster arrangements found by hand; all of it jitted."""

from __future__ import annotations

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from saddlescope.bench.arms import Advance
from saddlescope.bench.settings import Network, Scalar, Table


def langevin(setting: Network, trajectories: int, seed: int, block: int, layout: str) -> Advance:
    """``vmap``: the step of one trajectory with its own key; ``first``, ``last``: ensemble arrays, one key per step."""
    if layout == "vmap":
        return _vmap_scan(setting, trajectories, seed, block)
    mul, flip, ensemble = layouts(layout, trajectories)
    teacher, start = ensemble(setting.teacher), tuple(map(ensemble, setting.start))

    def step(layers: Any, key: Any) -> Any:
        half, label = jax.random.normal(key, (2, *teacher.shape))
        below = mul(layers[1], layers[0])
        error = mul(layers[2], below) - teacher
        symmetric = (half + flip(half)) / 2**0.5
        gradient = error + (mul(error, symmetric) - setting.label_noise * label) * setting.batch_size**-0.5
        back = mul(flip(layers[2]), gradient)
        changes = mul(flip(layers[1]), back), mul(back, flip(layers[0])), mul(gradient, flip(below))
        return tuple(w - setting.lr * change for w, change in zip(layers, changes, strict=True)), None

    return scanned(step, start, seed, block, lambda layers: setting.excess_loss(by_trajectory(layout, layers)))


def _vmap_scan(setting: Network, trajectories: int, seed: int, block: int) -> Advance:
    teacher, width = jnp.asarray(setting.teacher, jnp.float32), setting.width

    def step(layers: Any, key: Any) -> Any:
        key_h, key_z = jax.random.split(key)
        half = jax.random.normal(key_h, (width, width))
        label = setting.label_noise * jax.random.normal(key_z, (width, width))
        product, pull_back = jax.vjp(lambda layers: layers[2] @ layers[1] @ layers[0], layers)
        error = product - teacher
        symmetric = (half + half.T) / jnp.sqrt(2)
        (gradients,) = pull_back(error + (error @ symmetric - label) * setting.batch_size**-0.5)
        return jax.tree.map(lambda w, g: w - setting.lr * g, layers, gradients), None

    def trajectory(layers: Any, key: Any) -> Any:
        return lax.scan(step, layers, jax.random.split(key, block))[0]

    advance_block = jax.jit(lambda layers, key: jax.vmap(trajectory)(layers, jax.random.split(key, trajectories)))
    return blocks(advance_block, _start(setting, trajectories), seed, block, setting.excess_loss)


def sgd(setting: Network, trajectories: int, seed: int, block: int) -> Advance:
    """``vmap(grad)`` of the loss of a batch, under a scan; batches of the whole ensemble are drawn at once."""
    teacher = jnp.asarray(setting.teacher, jnp.float32)

    def loss(layers: Any, x: Any, y: Any) -> Any:
        output = reduce(lambda h, w: h @ w.T, layers, x)
        return 0.5 * ((output - y) ** 2).sum(axis=1).mean()

    gradients = jax.vmap(jax.grad(loss))

    def step(layers: Any, key: Any) -> Any:
        x, noise = jax.random.normal(key, (2, trajectories, setting.batch_size, setting.width))
        changes = gradients(layers, x, x @ teacher.T + setting.label_noise * noise)
        return jax.tree.map(lambda w, g: w - setting.lr * g, layers, changes), None

    return scanned(step, _start(setting, trajectories), seed, block, setting.excess_loss)


def label_noise(setting: Table, trajectories: int, seed: int, block: int, every_sample: bool) -> Advance:
    """Full batches: ``vmap(grad)`` of the loss on all samples, or the data by their moments."""
    x, y, teacher, covariance, root = (
        jnp.asarray(a, jnp.float32) for a in (setting.x, setting.y, setting.teacher, setting.covariance, setting.root.T)
    )

    def loss(layers: Any, labels: Any) -> Any:
        return 0.5 * ((reduce(lambda h, w: h @ w.T, layers, x) - labels) ** 2).sum(axis=1).mean()

    def samples(layers: Any, key: Any) -> Any:
        labels = y + setting.label_noise * jax.random.normal(key, (trajectories, *y.shape))
        return jax.vmap(jax.grad(loss))(layers, labels)

    def moments(layers: Any, key: Any) -> Any:
        noise = jax.random.normal(key, (trajectories, *teacher.shape))

        def pull_back(layers: Any, noise: Any) -> Any:
            product, back = jax.vjp(lambda layers: layers[1] @ layers[0], layers)
            return back((product - teacher) @ covariance - noise @ root)[0]

        return jax.vmap(pull_back)(layers, noise)

    def step(layers: Any, key: Any) -> Any:
        changes = (samples if every_sample else moments)(layers, key)
        return jax.tree.map(lambda w, g: w - setting.lr * g, layers, changes), None

    return scanned(step, _start(setting, trajectories), seed, block, setting.excess_loss)


def mode(setting: Scalar, trajectories: int, seed: int, block: int) -> Advance:
    """Euler–Maruyama on one array under a scan, one key per step."""
    L = setting.depth

    def step(a: Any, key: Any) -> Any:
        error = a**L - setting.target
        noise = jnp.sqrt(setting.temperature * setting.dt * (2 * error**2 + setting.label_noise**2))
        return a + a ** (L - 1) * (noise * jax.random.normal(key, a.shape) - error * setting.dt), None

    start = jnp.full(trajectories, setting.strength ** (1 / L), jnp.float32)
    return scanned(step, start, seed, block, lambda a: np.asarray(a, np.float64) ** L)


def scanned(step: Any, start: Any, seed: int, block: int, value: Any) -> Advance:
    """Blocks of a jitted scan, one key for each step of the ensemble."""
    advance_block = jax.jit(lambda state, key: lax.scan(step, state, jax.random.split(key, block))[0])
    return blocks(advance_block, start, seed, block, value)


def blocks(advance_block: Any, start: Any, seed: int, block: int, value: Any) -> Advance:
    """Repeated calls of a function that advances the ensemble by a block, each with its own key."""
    rng = np.random.default_rng(seed)

    def advance(steps: int) -> Any:
        state = start
        for _ in range(steps // block):
            state = advance_block(state, jax.random.key(int(rng.integers(2**31))))
        return value(jax.block_until_ready(state))

    return advance


def layouts(layout: str, trajectories: int) -> Any:
    """Product, transpose, and a matrix repeated for all, with the trajectories on the ``first`` or ``last`` axis."""
    if layout == "first":
        return jnp.matmul, lambda a: a.swapaxes(1, 2), lambda a: _repeated(a, trajectories)
    return (
        lambda a, b: jnp.einsum("ijn,jkn->ikn", a, b),
        lambda a: a.swapaxes(0, 1),
        lambda a: jnp.moveaxis(_repeated(a, trajectories), 0, -1),
    )


def by_trajectory(layout: str, layers: Any) -> Any:
    """The layers with the trajectories on the first axis."""
    return layers if layout == "first" else [jnp.moveaxis(w, -1, 0) for w in layers]


def _repeated(matrix: Any, trajectories: int) -> Any:
    return jnp.broadcast_to(jnp.asarray(matrix, jnp.float32), (trajectories, *matrix.shape))


def _start(setting: Network | Table, trajectories: int) -> Any:
    return tuple(_repeated(w, trajectories) for w in setting.start)
