"""The runs of forecast.py: ``python forecast_runs.py development`` or ``fresh`` writes forecast_development.csv, ….

A task and a seed fix a run: its weights, the split of its data and its learning rate, log-uniform in a range. A run
ends at the fall of its test loss. All signals are measured on the whole training set, without sampling error.
"""

import csv
import sys
from pathlib import Path

import torch
from modular import Transformer, addition
from sklearn.datasets import load_digits
from torch import nn

import saddlescope as sc

SEEDS = {"development": range(24), "fresh": range(1000, 1024)}
STEPS = {round(20 * 2 ** (j / 8)) for j in range(60)}
"""When signals are measured."""
SIGNALS = ("train", "trace", "scale", "modes", "leading", "head", "spread", "gradient", "random")
loss_of = nn.functional.cross_entropy


def modular(fraction, size):
    """Addition modulo 23 in double precision; weights are ``size`` times their usual ones."""
    model = Transformer(23, width=32, hidden=64, spread=32**-0.5).double()
    nn.utils.vector_to_parameters(size * nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    return model, *addition(23, fraction)


def digits():
    """A small CNN on images of digits, from weights so small that it starts on a plateau."""
    layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten()
    model = nn.Sequential(*layers, nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 10)).double()
    nn.utils.vector_to_parameters(0.6 * nn.utils.parameters_to_vector(model.parameters()), model.parameters())
    found, order = load_digits(), torch.randperm(1797)
    x, y = torch.tensor(found.images[:, None] / 16)[order], torch.tensor(found.target)[order]
    return model, x[:500], y[:500], x[500:], y[500:]


def adam(decay):
    return lambda weights, lr: torch.optim.AdamW(weights, lr, betas=(0.9, 0.98), weight_decay=decay)


TASKS = {  # model and data, optimizer, range of learning rates, steps after which a run without a fall ends
    "grokking": (lambda: modular(0.6, 2.0), adam(1.0), (3e-3, 8e-3), 2500),
    "plain": (lambda: modular(0.9, 1.0), adam(0.0), (1e-3, 4e-3), 1000),
    "digits": (digits, torch.optim.SGD, (0.05, 0.2), 800),
}


def signals(train, record):
    """The numbers of one record that may forecast, in the order of SIGNALS."""
    of = {name: torch.cat([one.flatten() for one in parts.values()]).double() for name, parts in record.values.items()}
    trace, gradient = of["total_trace"].item(), of["gradient_norm2"].sum().item()
    leading = sum(one[0].item() for one in record.values["mode_variance"].values())
    head, spread = "", ""
    if "head_trace" in of:
        head, spread = of["head_trace"].max().item(), (of["head_trace"].max() / of["head_trace"].mean()).item()
    modes, random = of["mode_variance"].sum().item(), of["control_variance"].sum().item()
    return train, trace, trace / gradient, modes, leading, head, spread, gradient, random


def run(task, seed):
    """The rows of a run, and the step at which its test loss falls: to 0.8 of its maximum so far; 0 if it does not."""
    make, optimizer, (low, high), limit = TASKS[task]
    torch.manual_seed(seed)
    model, x, y, test_x, test_y = make()
    stepper = optimizer(model.parameters(), low * (high / low) ** torch.rand(()).item())
    heads = {
        name: (4, "columns" if "o_" in name else "rows") for name, _ in model.named_parameters() if "_proj" in name
    }
    watch = sc.monitor.Watch(model, schedule=1, quantities=("modes", "noise"), samples=None, heads=heads)
    rows, highest = [], 0.0
    for step in range(limit + 1):
        if step % 10 == 0:
            with torch.no_grad():
                test = loss_of(model(test_x), test_y).item()
            highest = max(highest, test)
            if test <= 0.8 * highest:
                return rows, step
        if step in STEPS:
            with torch.no_grad():
                train = loss_of(model(x), y).item()
            record = watch.probe(lambda model, batch: loss_of(model(batch[0]), batch[1]), (x, y))
            rows.append((step, *signals(train, record)))
        batch = torch.randint(len(x), (128,))
        stepper.zero_grad()
        loss_of(model(x[batch]), y[batch]).backward()
        stepper.step()
    return rows, 0


def main(seeds):
    torch.set_num_threads(1)
    with Path(__file__).with_name(f"forecast_{seeds}.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("task", "seed", "fall", "step", *SIGNALS))
        for task in TASKS:
            for seed in SEEDS[seeds]:
                rows, fall = run(task, seed)
                for step, *values in rows:
                    table.writerow(
                        (task, seed, fall, step, *(f"{value:.4g}" if value != "" else "" for value in values))
                    )


if __name__ == "__main__":
    main(sys.argv[1])
