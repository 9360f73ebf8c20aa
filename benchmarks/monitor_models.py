"""Networks and batches that the benchmark of the monitor trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]


class Block(nn.Module):
    """A pre-norm block of a transformer with four causal heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = 4
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.ln1(x)
        q, k, v = (p(h).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for p in self._projections)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))

    @property
    def _projections(self) -> tuple[nn.Module, ...]:
        return self.q_proj, self.k_proj, self.v_proj


class GPT(nn.Module):
    """Four blocks of width 128 on sequences of 64 tokens out of 256."""

    def __init__(self, layers: int = 4, width: int = 128, length: int = 64, tokens: int = 256) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, tokens)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]).expand(len(ids), -1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def mlp() -> nn.Module:
    """784-512-512-10."""
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip


def cnn() -> nn.Module:
    """Three convolutions of 16, 32 and 64 filters on images of 28 × 28, and a linear layer."""
    layers: list[nn.Module] = []
    for inputs, filters in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 3 * 3, 10))


def classes(*shape: int) -> Callable[[int], Batch]:
    """Batches of ten noisy classes."""
    means = torch.randn(10, *shape, generator=torch.Generator().manual_seed(1))

    def batch(size: int) -> Batch:
        y = torch.randint(10, (size,))
        return means[y] + torch.randn(size, *shape), y

    return batch


def chains(length: int = 64, tokens: int = 256) -> Callable[[int], Batch]:
    """Batches of Markov chains: each token is followed by one of four."""
    after = torch.randint(tokens, (tokens, 4), generator=torch.Generator().manual_seed(1))

    def batch(size: int) -> Batch:
        ids = [torch.randint(tokens, (size,))]
        for _ in range(length):
            ids.append(after[ids[-1], torch.randint(4, (size,))])
        x = torch.stack(ids, 1)
        return x[:, :-1], x[:, 1:]

    return batch


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """The mean cross-entropy."""
    x, y = batch
    out = model(x)
    return functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


@dataclass(frozen=True)
class Task:
    """A network, its batches, the learning rate, and the untimed steps between two samples."""

    model: Callable[[], nn.Module]
    batches: Callable[[int], Batch]
    batch_size: int
    lr: float
    between: int


TASKS = {
    "GPT": Task(GPT, chains(), 64, 0.3, 5),
    "MLP": Task(mlp, classes(784), 128, 0.05, 50),
    "CNN": Task(cnn, classes(1, 28, 28), 64, 0.02, 50),
}
