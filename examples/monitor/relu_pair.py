"""Two layers around a ReLU: which of them SGD makes larger, measured and predicted, at three batch sizes.

Writes relu_pair.png. ``python relu_pair.py STEPS`` takes fewer steps than 5,000.
"""

import sys

import matplotlib.style
import torch
from matplotlib.figure import Figure

import saddlescope as sc

SETTINGS = ((4, 0.02), (32, 0.05), (256, 0.1))
"""Batch sizes and learning rates."""


def train(batch_size, lr, steps, seed=0):
    """The watched run: linear, ReLU, linear on noisy labels of a teacher."""
    torch.manual_seed(seed)
    x, teacher = torch.randn(4000, 10), torch.randn(10, 3) / 10**0.5
    y = torch.relu(x @ teacher) + torch.randn(4000, 3)
    model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr)
    watch = sc.monitor.Watch(model, quantities="balance", samples=None, optimizer=optimizer)
    for _ in range(steps):
        batch = torch.randint(len(x), (batch_size,))
        optimizer.zero_grad()
        with watch.step():
            (0.5 * (model(x[batch]) - y[batch]).square().sum(1).mean()).backward()
        optimizer.step()
    return watch.to_xarray().isel(pair=0)


def main(steps):
    """Prints what was found; the figure."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axes, (batch_size, lr) in zip(figure.subplots(1, 3), SETTINGS, strict=True):
        run = train(batch_size, lr, steps)
        measured, predicted = run.imbalance - run.imbalance[0], run.imbalance_predicted - run.imbalance[0]
        error = run.imbalance_predicted_stderr
        noise = (run.balance_noise * run.step.diff("step", label="lower")).cumsum()
        print(
            f"batches of {batch_size}, learning rate {lr:g}: the imbalance changes by {measured[-1]:.2f}, "
            f"predicted {predicted[-1]:.2f} ± {error[-1]:.2f} from {run.step.size} samples; "
            f"{noise[-1]:.2f} from noise alone"
        )
        axes.plot(run.step, measured, label="measured")
        axes.plot(run.step, predicted, "--", label="predicted")
        axes.fill_between(run.step, predicted - 2 * error, predicted + 2 * error, color="C1", alpha=0.2, lw=0)
        axes.set(title=f"B = {batch_size}, η = {lr:g}", xlabel="step")
    figure.axes[0].set_ylabel("change of ‖u‖² − ‖w‖²")
    figure.axes[0].legend()
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    matplotlib.style.use(sc.plots.STYLE)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000).savefig("relu_pair.png", dpi=150)
