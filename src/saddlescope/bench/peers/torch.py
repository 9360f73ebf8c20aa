"""PyTorch by hand: batched products into preallocated buffers, the ensemble in chunks that fit the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from saddlescope.bench.arms import Advance
from saddlescope.bench.settings import Network, Scalar, Table


def langevin(setting: Network, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """``Ḡ = Δ(I + H/√B) − σZ/√B``; the distinct normals of H are drawn once and gathered."""
    generator, width = _ready(seed, threads), setting.width
    pairs = width * (width + 1) // 2
    shape = (chunk, width, width)
    teacher = torch.tensor(setting.teacher, dtype=torch.float32)
    normals, symmetric = torch.empty(chunk, pairs + width * width), torch.empty(chunk, width * width)
    diagonal, label = normals[:, :width], normals[:, pairs:].unflatten(1, (width, width))
    below, error, gradient = (torch.empty(shape) for _ in range(3))
    entries = _entries(width)

    def draw(layers: list[Any]) -> Any:
        first, second, third = layers
        torch.bmm(second, first, out=below)
        torch.bmm(third, below, out=error).sub_(teacher)
        normals.normal_(0, setting.batch_size**-0.5, generator=generator)
        diagonal.mul_(2**0.5)
        torch.index_select(normals, 1, entries, out=symmetric)
        torch.bmm(error, symmetric.view(shape), out=gradient)
        return gradient.add_(error).sub_(label, alpha=setting.label_noise), below

    return _three_layers(setting, trajectories, chunk, draw)


def sgd(setting: Network, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """A fresh batch for every trajectory: ``Ḡ = EᵀX/B``, ``E = XΔᵀ − σΞ``."""
    generator, batch = _ready(seed, threads), setting.batch_size
    teacher = torch.tensor(setting.teacher, dtype=torch.float32)
    x, residual = (torch.empty(chunk, batch, setting.width) for _ in range(2))
    below, error, gradient = (torch.empty(chunk, setting.width, setting.width) for _ in range(3))

    def draw(layers: list[Any]) -> Any:
        first, second, third = layers
        torch.bmm(second, first, out=below)
        torch.bmm(third, below, out=error).sub_(teacher)
        x.normal_(generator=generator)
        residual.normal_(0, setting.label_noise, generator=generator)
        residual.baddbmm_(x, error.transpose(1, 2))
        return torch.bmm(residual.transpose(1, 2), x, out=gradient).div_(batch), below

    return _three_layers(setting, trajectories, chunk, draw)


def sgd_one(setting: Network, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """Batches of one sample: vectors go forwards and backwards through the layers."""
    generator = _ready(seed, threads)
    teacher = torch.tensor(setting.teacher, dtype=torch.float32)
    x, error = (torch.empty(chunk, setting.width, 1) for _ in range(2))
    inner, outer, back = (torch.empty(chunk, setting.width, 1) for _ in range(3))

    def advance_chunk(steps: int) -> Any:
        layers = _start(setting, chunk)
        first, second, third = layers
        for _ in range(steps):
            x.normal_(generator=generator)
            error.normal_(0, setting.label_noise, generator=generator)
            torch.bmm(first, x, out=inner)
            torch.bmm(second, inner, out=outer)
            error.sub_(torch.matmul(teacher, x)).baddbmm_(third, outer)
            torch.bmm(third.transpose(1, 2), error, out=back)
            third.baddbmm_(error, outer.transpose(1, 2), alpha=-setting.lr)
            torch.bmm(second.transpose(1, 2), back, out=outer)
            second.baddbmm_(back, inner.transpose(1, 2), alpha=-setting.lr)
            first.baddbmm_(outer, x.transpose(1, 2), alpha=-setting.lr)
        return setting.excess_loss([w.numpy() for w in layers])

    return _chunked(advance_chunk, trajectories, chunk)


def _three_layers(setting: Network, trajectories: int, chunk: int, draw: Any) -> Advance:
    """Every chunk runs all its steps before the next starts; no step allocates."""
    back, product = (torch.empty(chunk, setting.width, setting.width) for _ in range(2))

    def advance_chunk(steps: int) -> Any:
        layers = _start(setting, chunk)
        first, second, third = layers
        first_t, second_t, third_t = (w.transpose(1, 2) for w in layers)
        for _ in range(steps):
            gradient, below = draw(layers)
            torch.bmm(third_t, gradient, out=back)
            third.sub_(torch.bmm(gradient, below.transpose(1, 2), out=product), alpha=setting.lr)
            torch.bmm(second_t, back, out=product)
            second.sub_(torch.bmm(back, first_t, out=gradient), alpha=setting.lr)
            first.sub_(product, alpha=setting.lr)
        return setting.excess_loss([w.numpy() for w in layers])

    return _chunked(advance_chunk, trajectories, chunk)


def label_noise(
    setting: Table, trajectories: int, seed: int, block: int, chunk: int, every_sample: bool, threads: int = 1
) -> Advance:
    """Full batches on two layers: sample by sample, or the data by their moments ``Ḡ = ΔS − Z R'ᵀ``."""
    generator = _ready(seed, threads)
    x, y, teacher, covariance, root = (
        torch.tensor(a, dtype=torch.float32)
        for a in (setting.x, setting.y, setting.teacher, setting.covariance, setting.root.T)
    )
    rows, columns = teacher.shape
    error, gradient, normals = (torch.empty(chunk, rows, columns) for _ in range(3))
    residual, hidden = torch.empty(chunk, len(x), rows), torch.empty(chunk, setting.start[0].shape[0], columns)
    x_all = x.expand(chunk, *x.shape)

    def samples(first: Any, second: Any) -> None:
        torch.bmm(second, first, out=error)
        residual.normal_(0, setting.label_noise, generator=generator).sub_(y)
        residual.baddbmm_(x_all, error.transpose(1, 2))
        torch.bmm(residual.transpose(1, 2), x_all, out=gradient).div_(len(x))

    def moments(first: Any, second: Any) -> None:
        torch.bmm(second, first, out=error).sub_(teacher)
        normals.normal_(generator=generator)
        torch.matmul(error, covariance, out=gradient).sub_(torch.matmul(normals, root, out=error))

    def advance_chunk(steps: int) -> Any:
        layers = _start(setting, chunk)
        first, second = layers
        draw = samples if every_sample else moments
        for _ in range(steps):
            draw(first, second)
            torch.bmm(second.transpose(1, 2), gradient, out=hidden)
            second.baddbmm_(gradient, first.transpose(1, 2), alpha=-setting.lr)
            first.sub_(hidden, alpha=setting.lr)
        return setting.excess_loss([w.numpy() for w in layers])

    return _chunked(advance_chunk, trajectories, chunk)


def mode(setting: Scalar, trajectories: int, seed: int, block: int, chunk: int, threads: int = 1) -> Advance:
    """Euler–Maruyama on one array, in place."""
    generator = _ready(seed, threads)
    curve, floor = (c * setting.temperature * setting.dt for c in (2.0, setting.label_noise**2))

    def advance_chunk(count: int, steps: int) -> Any:
        a = torch.full((count,), setting.strength ** (1 / setting.depth))
        power, error, noise, root = (torch.empty_like(a) for _ in range(4))
        lowest = torch.tensor(floor)
        for _ in range(steps):
            torch.pow(a, setting.depth - 1, out=power)
            torch.mul(power, a, out=error).sub_(setting.target)
            torch.addcmul(lowest, error, error, value=curve, out=root).sqrt_()
            noise.normal_(generator=generator)
            root.mul_(noise).sub_(error, alpha=setting.dt)
            a.addcmul_(power, root)
        return a.double().numpy() ** setting.depth

    return lambda steps: np.concatenate(
        [advance_chunk(min(chunk, trajectories - first), steps) for first in range(0, trajectories, chunk)]
    )


def _ready(seed: int, threads: int) -> torch.Generator:
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch.Generator().manual_seed(seed)


def _start(setting: Network | Table, chunk: int) -> list[Any]:
    return [torch.tensor(w, dtype=torch.float32).expand(chunk, *w.shape).clone() for w in setting.start]


def _chunked(advance_chunk: Any, trajectories: int, chunk: int) -> Advance:
    return lambda steps: np.concatenate([advance_chunk(steps) for _ in range(trajectories // chunk)])


def _entries(width: int) -> Any:
    """Where entry (i, j) of the symmetric H lies among the normals: first the diagonal, then the pairs."""
    index = torch.diag(torch.arange(width))
    rows, columns = torch.tril_indices(width, width, offset=-1)
    index[rows, columns] = index[columns, rows] = torch.arange(width, width * (width + 1) // 2)
    return index.flatten()
