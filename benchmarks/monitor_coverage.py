"""How often the monitor's 95 % intervals hold the truth: ``python benchmarks/monitor_coverage.py [--seed 1]``.

Three networks are trained; at several times, weights of 20 records are kept. At these fixed weights batches are drawn
from the training set with replacement; the truth is the variance (trace, noise scale) over the whole training set.
Every number is the per cent of batches, and of the leading modes of all matrices, whose interval holds the truth.
"one" is the interval of the last record, "window" that of the mean over 20 records; "raw" is value ± 1.96 standard
errors. Under two minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from saddlescope.monitor.intervals import WINDOW, Interval, noise_scale, variance_interval, window_interval
from saddlescope.monitor.moments import Moments, trace

TIMES = {"start": (0, 1), "early": (30, 3), "middle": (300, 20), "late": (2000, 50)}
"""First step of a window, and steps between its records."""

BATCHES = (32, 256)
MODES = 8
DRAWS = 200


class Transformer(nn.Module):
    """One layer with ReLU, no normalisation, reading its answer off the last token."""

    def __init__(self, tokens: int, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.embed, self.heads = nn.Embedding(tokens + 1, width), heads
        self.place = nn.Parameter(0.1 * torch.randn(3, width))
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.out = nn.Linear(width, tokens, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids) + self.place
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for f in (self.q, self.k, self.v))
        seen = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v
        x = x + self.o(seen.transpose(-2, -3).flatten(-2))
        x = x + self.down(torch.relu(self.up(x)))
        return self.out(x[..., -1, :])


@dataclass
class Task:
    """A network with its training set, loss and optimizer."""

    net: nn.Module
    x: Tensor
    y: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer


def mlp() -> Task:
    """Classification of scikit-learn's digits."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16 - 0.3, dtype=torch.float32)[:1200], torch.tensor(digits.target)[:1200]
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return Task(net, x, y, nn.functional.cross_entropy, torch.optim.SGD(net.parameters(), 0.1))


def deep_linear() -> Task:
    """Three layers without biases, a linear teacher and label noise."""
    net = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in ((8, 16), (16, 16), (16, 8))))
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.08)
    x = torch.randn(1200, 8)
    y = x * torch.linspace(2, 0.25, 8) + 0.5 * torch.randn(1200, 8)
    return Task(net, x, y, lambda f, y: 0.5 * (f - y).square().sum(-1).mean(), torch.optim.SGD(net.parameters(), 0.05))


def transformer() -> Task:
    """Addition modulo 31."""
    net, pairs = Transformer(31), torch.cartesian_prod(torch.arange(31), torch.arange(31))
    x = torch.cat([pairs, torch.full((len(pairs), 1), 31)], 1)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.1)
    return Task(net, x, pairs.sum(1) % 31, nn.functional.cross_entropy, optimizer)


@dataclass
class Population:
    """All samples at fixed weights: projections (N, modes), gradients (N, parameters), ‖G_i‖² and ‖E G‖²."""

    projections: Tensor
    gradients: Tensor
    squares: Tensor
    mean2: Tensor


def population(task: Task) -> Population:
    weights = {name: p.detach() for name, p in task.net.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(functional_call(task.net, weights, (x[None],)), y[None])

    G = vmap(grad(loss), (None, 0, 0))(weights, task.x, task.y)
    found = []
    for name, g in G.items():
        if g.dim() == 3:
            U, s, Vh = torch.linalg.svd(weights[name], full_matrices=False)
            k = min(MODES, len(s))
            found.append(torch.einsum("nij,ik,kj->nk", g, U[:, :k], Vh[:k]))
    whole = torch.cat([g.flatten(1) for g in G.values()], 1)
    squares, mean2 = whole.square().sum(1).double(), whole.mean(0).double().square().sum()
    return Population(torch.cat(found, 1).double(), whole, squares, mean2)


def windows(task: Task) -> Iterator[tuple[str, list[Population]]]:
    """Train, and stop at every record of every time."""
    records = {start + j * gap: name for name, (start, gap) in TIMES.items() for j in range(WINDOW)}
    kept: list[Population] = []
    for step in range(max(records) + 1):
        if step in records:
            kept.append(population(task))
            if len(kept) == WINDOW:
                yield records[step], kept
                kept = []
        i = torch.randint(len(task.x), (32,))
        task.optimizer.zero_grad()
        task.loss(task.net(task.x[i]), task.y[i]).backward()
        task.optimizer.step()


def raw(values: Tensor, stderrs: Tensor) -> Interval:
    """The interval that these replace."""
    return Interval(values[-1], values[-1] - 1.96 * stderrs[-1], values[-1] + 1.96 * stderrs[-1])


def raw_window(values: Tensor, stderrs: Tensor) -> Interval:
    mean, stderr = values.mean(0, keepdim=True), stderrs.square().sum(0, keepdim=True).sqrt() / len(values)
    return raw(mean, stderr)


def alone(values: Tensor, stderrs: Tensor) -> Interval:
    """The last record without those before."""
    return variance_interval(values[-1:], stderrs[-1:])


def holds(interval: Interval, truth: Tensor) -> float:
    return 100 * ((interval.low <= truth) & (truth <= interval.high)).double().mean().item()


def coverages(values: Tensor, stderrs: Tensor, truth: Tensor) -> dict[str, float]:
    """Of all intervals, from estimates (records, …) and the truth (records, …)."""
    last, mean = truth[-1], truth.mean(0)
    return {
        "one, raw": holds(raw(values, stderrs), last),
        "one, no window": holds(alone(values, stderrs), last),
        "one": holds(variance_interval(values, stderrs), last),
        "window, raw": holds(raw_window(values, stderrs), mean),
        "window": holds(window_interval(values, stderrs), mean),
    }


def of_modes(kept: list[Population], draws: list[Tensor]) -> dict[str, float]:
    values, stderrs, truth = [], [], []
    for one, i in zip(kept, draws, strict=True):
        P = one.projections
        found = Moments.from_samples(P[i].transpose(0, 1).flatten(1))
        values.append(found.variance.unflatten(0, (len(i), -1)))
        stderrs.append(found.variance_stderr.unflatten(0, (len(i), -1)))
        truth.append(P.var(0, correction=0))
    return coverages(torch.stack(values), torch.stack(stderrs), torch.stack(truth))


def of_traces(kept: list[Population], batch: int, draws: list[Tensor]) -> dict[str, dict[str, float]]:
    """From 16 samples and from all of the batch."""
    norms = []
    for one, i in zip(kept, draws, strict=True):
        counts = torch.zeros(len(i), len(one.gradients)).scatter_add_(1, i, torch.ones(i.shape))
        norms.append((counts @ one.gradients / batch).double().square().sum(1))
    true_norms = torch.stack([one.mean2 for one in kept])
    truth = torch.stack([one.squares.mean() for one in kept]) - true_norms
    table = {}
    for samples in (16, batch):
        found = [
            trace(Moments.from_samples(one.squares[i[:, :samples]].T), norm, batch)
            for one, i, norm in zip(kept, draws, norms, strict=True)
        ]
        values, stderrs = (torch.stack([getattr(t, name) for t in found]) for name in ("value", "stderr"))
        norm2 = torch.stack([t.gradient_norm2 for t in found])
        ratio = truth.sum() / true_norms.sum()
        scales = [holds(noise_scale(values[:, j], norm2[:, j]), ratio) for j in range(values.shape[1])]
        table[f"trace of {samples}, B = {batch}"] = {
            **coverages(values, stderrs, truth[:, None]),
            "noise scale": sum(scales) / len(scales),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how often the monitor's intervals hold the truth.")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    table: dict[tuple[str, str], list[float]] = {}
    columns = []
    for make in (mlp, deep_linear, transformer):
        for time, kept in windows(make()):
            columns.append(f"{make.__name__[:4]} {time[:5]}")
            for batch in BATCHES:
                draws = [torch.randint(len(one.gradients), (DRAWS, batch)) for one in kept]
                found = {f"variance, B = {batch}": of_modes(kept, draws), **of_traces(kept, batch, draws)}
                for quantity, row in found.items():
                    for kind, per_cent in row.items():
                        table.setdefault((quantity, kind), []).append(per_cent)
    for part in (0, 1):
        print(f"{'':38}" + "".join(f"{name.split()[part]:>7}" for name in columns) + ("   mean    min    max" * part))
    for (quantity, kind), row in sorted(table.items(), key=lambda item: item[0][0]):
        numbers = [*row, sum(row) / len(row), min(row), max(row)]
        print(f"{quantity:22}{kind:16}" + "".join(f"{x:7.1f}" for x in numbers))


if __name__ == "__main__":
    main()
