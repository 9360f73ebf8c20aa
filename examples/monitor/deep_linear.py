"""Deep linear networks in PyTorch: signal and noise of every mode, as the monitor sees them, against closed form.

Writes deep_linear.png. ``python deep_linear.py STEPS`` takes fewer steps than 2,000.
"""

import itertools
import sys

import numpy as np
import torch
from matplotlib.figure import Figure

import saddlescope as sc

DATA = sc.GaussianData(np.diag([2.0, 1.5, 1.0, 0.5]), label_noise=0.5)
BATCH, LR = 128, 0.02


def closed_form(weights, layer, U, V):
    """Mean and variance of uᵀG_iv along every mode of a layer, from the population of inputs and labels."""
    model = torch.linalg.multi_dot([*reversed(weights), torch.eye(4).double()])
    loss = 0.5 * (model - torch.tensor(DATA.teacher)).square().sum()
    (mean,) = torch.autograd.grad(loss, weights[layer])
    one = [W.detach().numpy()[None] for W in weights]
    variance = sc.theory.layer_variance(DATA, 1.0, one, layer, left=U.T, right=V.T)[0]
    return ((U.T @ mean.numpy()) * V.T).sum(1), np.diag(variance)


def train(depth, steps, seed=0):
    """Signal, variance and the closed form of both (records, modes): one row per sampled step and layer."""
    torch.manual_seed(seed)
    sizes = (4, *(8,) * (depth - 1), 4)
    model = torch.nn.Sequential(*(torch.nn.Linear(n, m, bias=False) for n, m in itertools.pairwise(sizes)))
    model.double()
    watch = sc.monitor.Watch(model, schedule=5, quantities="modes", modes=4)
    optimizer, rows = torch.optim.SGD(model.parameters(), LR), []
    for _ in range(steps):
        before, known = [layer.weight.detach().clone().requires_grad_() for layer in model], len(watch.records)
        x = torch.randn(BATCH, 4, dtype=torch.float64)
        y = x @ torch.tensor(DATA.teacher).T + DATA.label_noise * torch.randn(BATCH, 4, dtype=torch.float64)
        optimizer.zero_grad()
        with watch.step():
            (0.5 * (model(x) - y).square().sum(1).mean()).backward()
        optimizer.step()
        for record in watch.records[known:]:
            for layer, W in enumerate(before):
                U, _, Vh = np.linalg.svd(W.detach().numpy(), full_matrices=False)
                seen = [record.values[name][f"{layer}.weight"].numpy() for name in ("mode_signal", "mode_variance")]
                rows.append((*seen, *closed_form(before, layer, U[:, :4], Vh[:4].T)))
    return np.array(rows).transpose(1, 0, 2)


def main(steps):
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    for axes, depth in zip(figure.subplots(1, 2), (2, 3), strict=True):
        signal, variance, mean, expected = train(depth, steps)
        z = (signal - mean) / np.sqrt(expected / BATCH)
        ratio = (variance / expected).mean(axis=1)
        error = ratio.std(ddof=1) / len(ratio) ** 0.5
        print(
            f"{depth} layers: z-scores of {z.size:,} signals have mean {z.mean():.3f} and standard deviation "
            f"{z.std():.3f}; measured variance over closed form {ratio.mean():.4f} ± {error:.4f}"
        )
        axes.loglog(expected.ravel(), variance.ravel(), ".", ms=2)
        axes.loglog(*[[expected.min(), expected.max()]] * 2, color="black", lw=1)
        axes.set(title=f"{depth} layers", xlabel="variance along a mode, closed form", ylabel="measured")
    figure.savefig("deep_linear.png")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
