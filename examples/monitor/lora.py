"""LoRA on a transformer that knows modular addition: the balance of the two factors while it learns subtraction.

Writes lora.png. ``python lora.py STEPS`` takes fewer steps than 1,500, before and after.
"""

import contextlib
import sys

import matplotlib.style
import torch
from matplotlib.figure import Figure
from modular import Transformer, addition
from peft import LoraConfig, inject_adapter_in_model
from torch.nn.functional import cross_entropy

import saddlescope as sc

OPTIMIZERS = {
    "SGD": lambda weights: torch.optim.SGD(weights, 0.02),
    "AdamW": lambda weights: torch.optim.AdamW(weights, 1e-3),
}


def train(name, steps, seed=0):
    """The watched adaptation: addition is learned by the whole model, then subtraction by its adapters alone."""
    torch.manual_seed(seed)
    model, (x, y, _, _) = Transformer(97), addition(97, 0.5)
    descend(model, torch.optim.AdamW(model.parameters(), 1e-3), x, y, steps)
    model = inject_adapter_in_model(LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]), model)
    optimizer = OPTIMIZERS[name]([weight for weight in model.parameters() if weight.requires_grad])
    watch = sc.monitor.Watch(model, quantities="balance", samples=None, optimizer=optimizer)
    losses = descend(model, optimizer, x, (x[:, 0] - x[:, 1]) % 97, steps, watch.step)
    return watch.to_xarray().isel(step=slice(1, None)), losses  # at first B = 0: A has no gradient that could be tested


def descend(model, optimizer, x, y, steps, step=contextlib.nullcontext):
    """Training on batches of 128; the loss at the first and at the last."""
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        with step():
            loss = cross_entropy(model(x[batch]), y[batch])
            loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def main(steps):
    """Prints what was found; the figure."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), OPTIMIZERS, strict=True):
        run, losses = train(name, steps)
        start = run.imbalance[0]
        axes.plot(run.step, run.imbalance - start, label=[pair.split(".")[1] for pair in run.pair.values])
        predicted = "no prediction"
        if "imbalance_predicted" in run:
            axes.set_prop_cycle(None)
            axes.plot(run.step, run.imbalance_predicted - start, "--", lw=1)
            error = (run.imbalance_predicted_stderr[-1] ** 2).sum().item() ** 0.5
            predicted = f"predicted {(run.imbalance_predicted[-1] - start).sum().item():.3f} ± {error:.3f}"
        print(
            f"{name}: loss from {losses[0]:.2f} to {losses[1]:.2f}; ‖A‖² − ‖B‖², summed over 4 adapters, starts at "
            f"{start.sum().item():.2f} and changes by {(run.imbalance[-1] - start).sum().item():.3f} ({predicted})"
        )
        axes.set(title=name, xlabel="step")
    figure.axes[0].set_ylabel("change of ‖A‖² − ‖B‖²")
    figure.axes[0].legend()
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    matplotlib.style.use(sc.plots.STYLE)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500).savefig("lora.png", dpi=150)
