"""Deep linear networks in PyTorch: signal and noise of every mode, as the monitor sees them, against closed form.

Writes deep_linear.png. ``python deep_linear.py STEPS`` takes fewer steps than 2,000.
"""

import itertools
import sys

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure

import saddlescope as sc

DATA = sc.GaussianData(np.diag([2.0, 1.5, 1.0, 0.5]), label_noise=0.5)
BATCH, LR, PERIOD = 128, 0.005, 5


def closed_form(weights, layer, U, V):
    """Mean and variance of uᵀG_iv for every mode of a layer, over the population of inputs and labels."""
    error = torch.linalg.multi_dot([*reversed(weights), torch.eye(4).double()]) - torch.tensor(DATA.teacher)
    (mean,) = torch.autograd.grad(0.5 * error.square().sum(), weights[layer])
    one = [W.detach().numpy()[None] for W in weights]
    variance = sc.theory.layer_variance(DATA, 1.0, one, layer, left=U.T, right=V.T)[0]
    return ((U.T @ mean.numpy()) * V.T).sum(1), np.diag(variance)


def train(depth, steps, seed=0):
    """Measured signal and variance, then both in closed form: (4, records, layers, modes)."""
    torch.manual_seed(seed)
    sizes = (4, *(8,) * (depth - 1), 4)
    model = torch.nn.Sequential(*(torch.nn.Linear(n, m, bias=False) for n, m in itertools.pairwise(sizes))).double()
    for layer in model:
        torch.nn.init.normal_(layer.weight, std=0.15)
    watch = sc.monitor.Watch(model, schedule=PERIOD, quantities="modes", modes=4)
    optimizer, rows = torch.optim.SGD(model.parameters(), LR), []
    for step in range(steps):
        before = [layer.weight.detach().clone().requires_grad_() for layer in model]
        x = torch.randn(BATCH, 4, dtype=torch.float64)
        y = x @ torch.tensor(DATA.teacher).T + DATA.label_noise * torch.randn(BATCH, 4, dtype=torch.float64)
        optimizer.zero_grad()
        with watch.step():
            (0.5 * (model(x) - y).square().sum(1).mean()).backward()
        optimizer.step()
        if step % PERIOD == 0:
            values = watch.records[-1].values
            for layer, W in enumerate(before):
                U, _, Vh = np.linalg.svd(W.detach().numpy(), full_matrices=False)
                seen = [values[name][f"{layer}.weight"].numpy() for name in ("mode_signal", "mode_variance")]
                rows.append((*seen, *closed_form(before, layer, U[:, :4], Vh[:4].T)))
    return np.array(rows).reshape(-1, depth, 4, 4).transpose(2, 0, 1, 3)


def main(steps):
    """Prints what was found; the figure."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for depth in (2, 3):
        signal, variance, mean, expected = train(depth, steps)
        z = (signal - mean) / np.sqrt(expected / BATCH)
        ratio = (variance / expected).mean(axis=(1, 2))
        error = ratio.std(ddof=1) / len(ratio) ** 0.5
        print(
            f"{depth} layers: z-scores of {z.size:,} signals have mean {z.mean():.3f} and standard deviation "
            f"{z.std():.3f}; measured variance over closed form {ratio.mean():.4f} ± {error:.4f}"
        )
        right.hist(z.ravel(), np.linspace(-4, 4, 41), density=True, histtype="step", label=f"{depth} layers")
        if depth == 2:
            left.plot(PERIOD * np.arange(len(variance)), variance[:, 0], ".", ms=2, alpha=0.5)
            left.set_prop_cycle(None)
            left.plot(PERIOD * np.arange(len(variance)), expected[:, 0], label=[f"mode {i}" for i in range(1, 5)])
    left.set(title="Noise of the first of 2 layers", xlabel="step", ylabel="variance along the mode", yscale="log")
    left.legend()
    x = np.linspace(-4, 4, 200)
    right.plot(x, np.exp(-(x**2) / 2) / (2 * np.pi) ** 0.5, color="black", lw=1, label="normal")
    right.set(title="Signals against closed form", xlabel="z-score", ylabel="density")
    right.legend()
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    matplotlib.style.use(sc.plots.STYLE)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000).savefig("deep_linear.png", dpi=150)
