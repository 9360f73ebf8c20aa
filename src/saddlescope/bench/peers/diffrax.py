"""diffrax: Euler with a constant step on the unsafe Brownian path, its fastest; time in units of a step."""

from __future__ import annotations

from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np

from saddlescope.bench.arms import Advance
from saddlescope.bench.peers.jax import by_trajectory, layouts
from saddlescope.bench.settings import Network, Scalar


def langevin(setting: Network, trajectories: int, seed: int, block: int, layout: str) -> Advance:
    """Noise as a linear operator on the increments of H and Z; one trajectory at a time (vmap) or the ensemble."""
    mul, flip, ensemble = layouts("last" if layout == "last" else "first", 1 if layout == "vmap" else trajectories)
    teacher, start = ensemble(setting.teacher), tuple(map(ensemble, setting.start))
    scale = setting.lr * setting.batch_size**-0.5

    def error(layers: Any) -> Any:
        return mul(layers[2], mul(layers[1], layers[0])) - teacher

    def pull_back(layers: Any, gradient: Any) -> Any:
        first, second, third = layers
        back = mul(flip(third), gradient)
        return mul(flip(second), back), mul(back, flip(first)), mul(gradient, flip(mul(second, first)))

    def drift(t: Any, layers: Any, args: Any) -> Any:
        return jax.tree.map(lambda g: -setting.lr * g, pull_back(layers, error(layers)))

    def diffusion(t: Any, layers: Any, args: Any) -> Any:
        distance = error(layers)

        def increment(noise: Any) -> Any:
            symmetric = (noise[0] + flip(noise[0])) / 2**0.5
            return pull_back(layers, scale * (mul(distance, symmetric) - setting.label_noise * noise[1]))

        return lineax.FunctionLinearOperator(increment, jax.ShapeDtypeStruct((2, *teacher.shape), jnp.float32))

    noise = jax.ShapeDtypeStruct((2, *teacher.shape), jnp.float32)
    solve = _solver(drift, diffusion, noise, start, trajectories if layout == "vmap" else None)

    def value(layers: Any) -> Any:
        layers = [w[:, 0] for w in layers] if layout == "vmap" else by_trajectory(layout, layers)
        return setting.excess_loss(layers)

    return _advance(solve, seed, value)


def dense(setting: Network, trajectories: int, seed: int, block: int) -> Advance:
    """The diffusion as a matrix, parameters × entries of Ḡ: a Cholesky factor of the covariance of Ḡ, pulled back."""
    width, teacher = setting.width, jnp.asarray(setting.teacher, jnp.float32)
    identity = jnp.eye(width)

    def error(layers: Any) -> Any:
        return layers[2] @ layers[1] @ layers[0] - teacher

    def drift(t: Any, layers: Any, args: Any) -> Any:
        gradient, (first, second, third) = error(layers), layers
        back = third.T @ gradient
        changes = jnp.stack([second.T @ back, back @ first.T, gradient @ (second @ first).T])
        return -setting.lr * changes

    def diffusion(t: Any, layers: Any, args: Any) -> Any:
        distance, (first, second, third) = error(layers), layers
        by_rows = distance @ distance.T + setting.label_noise**2 * identity
        covariance = jnp.kron(by_rows, identity) + jnp.einsum("il,kj->ijkl", distance, distance).reshape(width**2, -1)
        factor = jnp.linalg.cholesky(covariance)
        left, right = ((third @ second).T, third.T, identity), (identity, first, second @ first)
        jacobian = jnp.concatenate([jnp.kron(a, b) for a, b in zip(left, right, strict=True)])
        scale = setting.lr * setting.batch_size**-0.5
        return scale * (jacobian @ factor).reshape(3, width, width, width**2)

    noise = jax.ShapeDtypeStruct((width**2,), jnp.float32)
    solve = _solver(drift, diffusion, noise, jnp.asarray(np.stack(setting.start), jnp.float32), trajectories)
    return _advance(solve, seed, lambda layers: setting.excess_loss(np.moveaxis(np.asarray(layers), 1, 0)))


def mode(setting: Scalar, trajectories: int, seed: int, block: int, layout: str) -> Advance:
    """One mode, one trajectory at a time (``vmap``) or the ensemble as one array."""
    shape = () if layout == "vmap" else (trajectories,)
    drift, diffusion = _mode(setting, setting.dt)

    def operator(t: Any, a: Any, args: Any) -> Any:
        return lineax.DiagonalLinearOperator(diffusion(t, a, args)) if shape else diffusion(t, a, args)

    start = jnp.full(shape, setting.strength ** (1 / setting.depth), jnp.float32)
    noise = jax.ShapeDtypeStruct(shape, jnp.float32)
    solve = _solver(drift, operator, noise, start, None if shape else trajectories)
    return _advance(solve, seed, lambda a: np.asarray(a, np.float64) ** setting.depth)


def mode_controlled(setting: Scalar, trajectories: int, seed: int, block: int, rtol: float) -> Advance:
    """One mode with step control: Heun on the Stratonovich form (drift − ½bb', noise b), each with its own steps."""
    L, T = setting.depth, setting.temperature
    ito, noise = _mode(setting, 1.0)

    def drift(t: Any, a: Any, args: Any) -> Any:
        error = a**L - setting.target
        g, slope = 2 * error**2 + setting.label_noise**2, 4 * error * L * a ** (L - 1)
        return ito(t, a, args) - 0.5 * T * a ** (2 * L - 3) * ((L - 1) * g + 0.5 * a * slope)

    def trajectory(key: Any, horizon: Any) -> Any:
        tree = diffrax.VirtualBrownianTree(0.0, horizon, tol=1e-4, shape=(), key=key)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(noise, tree))
        control = diffrax.PIDController(rtol=rtol, atol=rtol, pcoeff=0.1, icoeff=0.3)
        start = jnp.float32(setting.strength ** (1 / L))
        return diffrax.diffeqsolve(
            terms, diffrax.Heun(), 0.0, horizon, 1e-3, start, stepsize_controller=control, max_steps=None,
            adjoint=diffrax.ForwardMode(),
        ).ys[0]  # fmt: skip

    def solve(key: Any, steps: Any) -> Any:
        keys = jax.random.split(key, trajectories)
        return jax.vmap(trajectory, (0, None))(keys, steps * setting.dt)

    return _advance(jax.jit(solve), seed, lambda a: np.asarray(a, np.float64) ** L)


def _mode(setting: Scalar, dt: float) -> Any:
    """Drift and noise coefficient of the weight, for a unit of time of ``dt``."""
    L = setting.depth

    def drift(t: Any, a: Any, args: Any) -> Any:
        return a ** (L - 1) * (setting.target - a**L) * dt

    def diffusion(t: Any, a: Any, args: Any) -> Any:
        g = 2 * (a**L - setting.target) ** 2 + setting.label_noise**2
        return a ** (L - 1) * jnp.sqrt(setting.temperature * dt * g)

    return drift, diffusion


def _solver(drift: Any, diffusion: Any, noise: Any, start: Any, trajectories: int | None) -> Any:
    """``solve(key, steps)``, jitted: each of the trajectories with its key, or (None) one path for the ensemble."""

    def solve(key: Any, steps: Any) -> Any:
        path = diffrax.UnsafeBrownianPath(shape=noise, key=key)
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, path))
        forward = diffrax.ForwardMode()
        solution = diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, steps, 1.0, start, max_steps=None, adjoint=forward)
        return jax.tree.map(lambda y: y[0], solution.ys)

    if trajectories is None:
        return jax.jit(solve)
    return jax.jit(lambda key, steps: jax.vmap(solve, (0, None))(jax.random.split(key, trajectories), steps))


def _advance(solve: Any, seed: int, value: Any) -> Advance:
    rng = np.random.default_rng(seed)

    def advance(steps: int) -> Any:
        state = solve(jax.random.key(int(rng.integers(2**31))), jnp.float32(steps))
        return value(jax.block_until_ready(state))

    return advance
