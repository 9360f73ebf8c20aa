"""A CNN on images of digits: its noise scale, the ranks of its weights, and the balance of its layers.

Writes digits.png. ``python digits.py STEPS`` takes fewer steps than 2,000.
"""

import sys

import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import saddlescope as sc


def train(steps, seed=0):
    """The watched run."""
    torch.manual_seed(seed)
    found = load_digits()
    x, y = torch.tensor(found.images[:, None] / 16, dtype=torch.float32), torch.tensor(found.target)
    convolutions = nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU()
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sc.monitor.Watch(model, samples=None, modes=32, optimizer=optimizer)
    for _ in range(steps):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        with watch.step():
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return watch.to_xarray()


def main(steps):
    """Prints what was found; the figure."""
    run, figure = train(steps), Figure(figsize=(7.2, 2.8), layout="constrained")
    noise, rank, balance = figure.subplots(1, 3)
    noise.plot(run.step, run.noise_scale)
    noise.fill_between(run.step, run.noise_scale_low, np.minimum(run.noise_scale_high, 1e4), alpha=0.3, lw=0)
    noise.set(title="Noise scale", xlabel="step", ylabel="samples", xscale="symlog", yscale="log", ylim=(10, 1e4))
    rank.plot(run.step, run.effective_rank_high / run.effective_rank_high[0], label=run.weight.values)
    rank.set(title="Effective rank", xlabel="step", ylabel="of that at the start")
    rank.legend()
    for i, pair in enumerate(run.pair.values):
        own, start = run.sel(pair=pair), run.imbalance[0].sel(pair=pair)
        measured, predicted = own.imbalance - start, own.imbalance_predicted - start
        error = own.imbalance_predicted_stderr
        balance.plot(run.step, measured, label=pair, color=f"C{i}")
        balance.plot(run.step, predicted, "--", color=f"C{i}")
        balance.fill_between(run.step, predicted - 2 * error, predicted + 2 * error, color=f"C{i}", alpha=0.2, lw=0)
        print(
            f"{pair}: ‖u‖² − ‖w‖² changes by {measured[-1].item():.2f}, predicted {predicted[-1].item():.2f} "
            f"± {error[-1].item():.2f}"
        )
    balance.set(title="Change of ‖u‖² − ‖w‖²", xlabel="step")
    balance.legend()
    scale, ranks = run.noise_scale.dropna("step"), run.effective_rank_high
    print(f"noise scale: {scale.min().item():.0f} to {scale.max().item():.0f} samples")
    print(f"effective ranks: {ranks[0].values.round(1)} at the start, {ranks[-1].values.round(1)} at the end")
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    matplotlib.style.use(sc.plots.STYLE)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000).savefig("digits.png", dpi=150)
