"""Queries and keys, values and outputs of a transformer on modular addition: their balance under three optimizers.

Writes attention.png. ``python attention.py STEPS`` takes fewer steps than 3,000.
"""

import sys

import matplotlib.style
import torch
from matplotlib.figure import Figure
from modular import Transformer, addition

import saddlescope as sc

OPTIMIZERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, 0.05),
    "momentum": lambda weights: torch.optim.SGD(weights, 0.005, momentum=0.9),
    "AdamW": lambda weights: torch.optim.AdamW(weights, 1e-3),
}


def train(name, steps, seed=0):
    """The watched run."""
    torch.manual_seed(seed)
    model, (x, y, _, _) = Transformer(97), addition(97, 0.5)
    optimizer = OPTIMIZERS[name](model.parameters())
    watch = sc.monitor.Watch(model, quantities="balance", samples=None, optimizer=optimizer)
    for _ in range(steps):
        batch = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        with watch.step():
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return watch.to_xarray()


def main(steps):
    """Prints what was found; the figure."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    for column, name in zip(figure.subplots(2, 3, sharex=True).T, OPTIMIZERS, strict=True):
        run, said = train(name, steps), []
        for axes, kind in zip(column, ("qk", "ov"), strict=True):
            heads = run.sel(pair=[pair for pair in run.pair.values if f".{kind}." in pair])
            start = heads.imbalance[0]
            axes.plot(run.step, heads.imbalance - start)
            axes.set_title(f"{kind.upper()}, {name}")
            said.append(f"{kind.upper()} {(heads.imbalance[-1] - start).sum().item():.3f}")
            if "imbalance_predicted" in run:
                axes.set_prop_cycle(None)
                axes.plot(run.step, heads.imbalance_predicted - start, "--", lw=1)
                error = (heads.imbalance_predicted_stderr[-1] ** 2).sum().item() ** 0.5
                said[-1] += f" (predicted {(heads.imbalance_predicted[-1] - start).sum().item():.3f} ± {error:.3f})"
            else:
                said[-1] += " (no prediction)"
        print(f"{name}: ‖u‖² − ‖w‖², summed over 4 heads, changes by {', '.join(said)}")
        axes.set_xlabel("step")
    figure.supylabel("change of ‖u‖² − ‖w‖² of each head", fontsize=9)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    matplotlib.style.use(sc.plots.STYLE)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000).savefig("attention.png", dpi=150)
