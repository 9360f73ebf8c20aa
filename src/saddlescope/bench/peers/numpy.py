"""NumPy: batched products in float32, the ensemble in chunks that fit the cache."""

from __future__ import annotations

from typing import Any

import numpy as np

from saddlescope.bench.arms import Advance
from saddlescope.bench.settings import Network, Scalar, Table

F = np.float32


def langevin(setting: Network, trajectories: int, seed: int, block: int, chunk: int) -> Advance:
    """``Ḡ = Δ(I + H/√B) − σZ/√B``, H from a full square of normals."""
    rng, teacher, scale = np.random.default_rng(seed), np.asarray(setting.teacher, F), F(setting.batch_size**-0.5)
    noise, sigma = np.empty((2, chunk, setting.width, setting.width), F), F(setting.label_noise * scale)

    def gradient(layers: list[Any]) -> Any:
        rng.standard_normal(out=noise, dtype=F)
        error = layers[2] @ (layers[1] @ layers[0]) - teacher
        symmetric = (noise[0] + noise[0].swapaxes(1, 2)) * F(scale / 2**0.5)
        return error + error @ symmetric - sigma * noise[1]

    return _network(setting, trajectories, chunk, gradient)


def sgd(setting: Network, trajectories: int, seed: int, block: int, chunk: int) -> Advance:
    """A fresh batch for every trajectory: ``Ḡ = EᵀX/B``, ``E = XΔᵀ − σΞ``."""
    rng, teacher, batch = np.random.default_rng(seed), np.asarray(setting.teacher, F), setting.batch_size
    drawn, sigma = np.empty((2, chunk, batch, setting.width), F), F(setting.label_noise)

    def gradient(layers: list[Any]) -> Any:
        rng.standard_normal(out=drawn, dtype=F)
        x, noise = drawn
        error = layers[2] @ (layers[1] @ layers[0]) - teacher
        residual = x @ error.swapaxes(1, 2) - sigma * noise
        return (residual.swapaxes(1, 2) @ x) * F(1 / batch)

    return _network(setting, trajectories, chunk, gradient)


def label_noise(setting: Table, trajectories: int, seed: int, block: int, chunk: int) -> Advance:
    """The data by their moments: ``Ḡ = ΔS − Z R'ᵀ``, R' the root of S times δ/√n."""
    rng, teacher = np.random.default_rng(seed), np.asarray(setting.teacher, F)
    covariance, root = (np.asarray(a, F) for a in (setting.covariance, setting.root.T))
    drawn = np.empty((chunk, *setting.teacher.shape), F)

    def gradient(layers: list[Any]) -> Any:
        rng.standard_normal(out=drawn, dtype=F)
        return (layers[1] @ layers[0] - teacher) @ covariance - drawn @ root

    return _network(setting, trajectories, chunk, gradient)


def _network(setting: Network | Table, trajectories: int, chunk: int, gradient: Any) -> Advance:
    """Every chunk runs all its steps before the next starts; the gradient is propagated back through the layers."""
    lr = F(setting.lr)

    def advance_chunk(steps: int) -> Any:
        layers = [np.repeat(np.asarray(w, F)[None], chunk, axis=0) for w in setting.start]
        for _ in range(steps):
            back, products = gradient(layers), [layers[0]]
            for layer in layers[1:-1]:
                products.append(layer @ products[-1])
            for l in range(len(layers) - 1, 0, -1):
                change = back @ products[l - 1].swapaxes(1, 2)
                back = layers[l].swapaxes(1, 2) @ back
                layers[l] -= lr * change
            layers[0] -= lr * back
        return setting.excess_loss(layers)

    return lambda steps: np.concatenate([advance_chunk(steps) for _ in range(trajectories // chunk)])


def mode(setting: Scalar, trajectories: int, seed: int, block: int, chunk: int) -> Advance:
    """Euler–Maruyama on arrays, without temporaries where NumPy has a way to avoid them."""
    rng, target, dt = np.random.default_rng(seed), F(setting.target), F(setting.dt)
    curve = F(2 * setting.temperature * setting.dt)
    floor = F(setting.label_noise**2 * setting.temperature * setting.dt)

    @np.errstate(over="ignore", invalid="ignore")  # fixed steps can diverge
    def advance_chunk(count: int, steps: int) -> Any:
        a = np.full(count, setting.strength ** (1 / setting.depth), F)
        power, error, noise, root = (np.empty_like(a) for _ in range(4))
        for _ in range(steps):
            np.copyto(power, a)
            for _ in range(setting.depth - 2):
                power *= a
            np.multiply(power, a, out=error)
            error -= target
            np.multiply(error, error, out=root)
            root *= curve
            root += floor
            np.sqrt(root, out=root)
            rng.standard_normal(out=noise, dtype=F)
            root *= noise
            error *= dt
            root -= error
            root *= power
            a += root
        return np.float64(a) ** setting.depth

    return lambda steps: np.concatenate(
        [advance_chunk(min(chunk, trajectories - first), steps) for first in range(0, trajectories, chunk)]
    )
