"""torchsde: Euler with a constant step, time in units of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchsde

from saddlescope.bench.arms import Advance
from saddlescope.bench.settings import Network, Scalar


class _Network:
    """Three layers, flat in the state."""

    sde_type, noise_type = "ito", "general"

    def __init__(self, setting: Network) -> None:
        self.setting, self.width = setting, setting.width
        self.teacher = torch.tensor(setting.teacher, dtype=torch.float32)

    def layers(self, y: Any) -> Any:
        return y.unflatten(1, (3, self.width, self.width)).unbind(1)

    @staticmethod
    def pull_back(first: Any, second: Any, third: Any, below: Any, gradient: Any) -> Any:
        back = third.transpose(1, 2) @ gradient
        changes = second.transpose(1, 2) @ back, back @ first.transpose(1, 2), gradient @ below.transpose(1, 2)
        return torch.stack(changes, 1).flatten(1)


class _Langevin(_Network):
    """Drift and noise applied together, so that products are computed once; noise is (H before symmetrising, Z)."""

    def f_and_g_prod(self, t: Any, y: Any, noise: Any) -> Any:
        (first, second, third), setting = self.layers(y), self.setting
        below = second @ first
        error = third @ below - self.teacher
        half, label = noise.unflatten(1, (2, self.width, self.width)).unbind(1)
        symmetric = (half + half.transpose(1, 2)) / 2**0.5
        change = torch.baddbmm(label, error, symmetric, beta=-setting.label_noise)
        pulled = (self.pull_back(first, second, third, below, g) for g in (error, change))
        return tuple(
            scale * g for scale, g in zip((-setting.lr, setting.lr * setting.batch_size**-0.5), pulled, strict=True)
        )


class _Dense(_Network):
    """The diffusion as a matrix, parameters × entries of Ḡ: a Cholesky factor of its covariance, pulled back."""

    def f_and_g(self, t: Any, y: Any) -> Any:
        (first, second, third), setting, n = self.layers(y), self.setting, self.width
        below = second @ first
        error, identity = third @ below - self.teacher, torch.eye(n)
        by_rows = error @ error.transpose(1, 2) + setting.label_noise**2 * identity
        covariance = torch.einsum("bik,jl->bijkl", by_rows, identity) + torch.einsum("bil,bkj->bijkl", error, error)
        factor = torch.linalg.cholesky(covariance.reshape(-1, n * n, n * n))
        pairs = ((third @ second).transpose(1, 2), identity), (third.transpose(1, 2), first), (identity, below)
        jacobian = torch.cat([self.kron(a, b) for a, b in pairs], 1)
        drift = -setting.lr * self.pull_back(first, second, third, below, error)
        return drift, setting.lr * setting.batch_size**-0.5 * (jacobian @ factor)

    def kron(self, a: Any, b: Any) -> Any:
        rows = "bik,jl->bijkl" if b.dim() == 2 else "ik,bjl->bijkl" if a.dim() == 2 else "bik,bjl->bijkl"
        return torch.einsum(rows, a, b).flatten(3).flatten(1, 2)


class _Mode:
    sde_type, noise_type = "ito", "diagonal"

    def __init__(self, setting: Scalar, dt: float) -> None:
        self.setting, self.dt = setting, dt

    def f_and_g(self, t: Any, a: Any) -> Any:
        setting = self.setting
        power = a ** (setting.depth - 1)
        error = power * a - setting.target
        g = 2 * error**2 + setting.label_noise**2
        return -self.dt * power * error, power * torch.sqrt(setting.temperature * self.dt * g)

    def f(self, t: Any, a: Any) -> Any:
        return self.f_and_g(t, a)[0]

    def g(self, t: Any, a: Any) -> Any:
        return self.f_and_g(t, a)[1]


def langevin(setting: Network, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """Noise applied as a product, never as a matrix."""
    return _network(_Langevin(setting), trajectories, chunk, seed, threads, 2 * setting.width**2)


def dense(setting: Network, trajectories: int, seed: int, block: int, threads: int = 1) -> Advance:
    """Noise by its matrix."""
    return _network(_Dense(setting), trajectories, trajectories, seed, threads, setting.width**2)


def _network(sde: _Network, trajectories: int, chunk: int, seed: int, threads: int, noises: int) -> Advance:
    setting = sde.setting
    start = torch.tensor(np.concatenate([w.ravel() for w in setting.start]), dtype=torch.float32).expand(chunk, -1)
    solve = _solver(sde, start, noises, seed, threads)

    def advance_chunk(steps: int) -> Any:
        return setting.excess_loss([w.numpy() for w in sde.layers(solve(steps))])

    return lambda steps: np.concatenate([advance_chunk(steps) for _ in range(trajectories // chunk)])


def mode(setting: Scalar, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """One mode in a chunk of trajectories after another."""
    start = torch.full((chunk, 1), setting.strength ** (1 / setting.depth))
    solve = _solver(_Mode(setting, setting.dt), start, 1, seed, threads)

    def advance_chunk(steps: int) -> Any:
        return solve(steps)[:, 0].double().numpy() ** setting.depth

    return lambda steps: np.concatenate([advance_chunk(steps) for _ in range(trajectories // chunk)])


def _solver(sde: Any, start: Any, noises: int, seed: int, threads: int) -> Any:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    rng = np.random.default_rng(seed)

    def solve(steps: int) -> Any:
        entropy = int(rng.integers(2**31))
        path = torchsde.BrownianInterval(0.0, float(steps), size=(len(start), noises), entropy=entropy, dt=1.0)
        return torchsde.sdeint(sde, start, torch.tensor([0.0, float(steps)]), bm=path, method="euler", dt=1.0)[-1]

    return solve
