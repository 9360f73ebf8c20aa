"""When the SDE is wrong: the distance of Langevin dynamics from SGD against the learning rate, at orders 1 and 2.

Writes when_the_sde_is_wrong.png. The gallery page "When the SDE is wrong" explains it.
"""

import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc

BATCH, TIME, COUNTS = 32, 1.6, np.array([4, 6, 9])

data = sc.GaussianData([[1.0]], label_noise=0.3)
problem = sc.Problem(sc.DeepLinear((1, 1, 1)), data, sc.init.Balanced(scale=0.6))


def mean_strength(method, steps, seed):
    """Mean and standard error of the mode strength after these steps."""
    run = sc.simulate(problem, method, sc.Plan(steps=steps, trajectories=40_000, saves=1, seed=seed, events=()))
    return run.mode_strength.isel(time=-1, mode=0).sel(statistic=["mean", "stderr"]).values


figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="learning rate", ylabel="|difference of means|", xscale="log", yscale="log")
rates = TIME / COUNTS
x = np.log(rates) - np.log(rates).mean()
for order in (1, 2):
    gaps, errors = [], []
    for lr, steps in zip(rates, COUNTS, strict=True):
        mean, error = mean_strength(sc.SGD(lr, BATCH), steps, seed=0)
        langevin = sc.Langevin(lr, BATCH, dt=lr / (5 * steps), order=order)
        model, other = mean_strength(langevin, 5 * steps**2, seed=order)
        gaps.append(abs(model - mean))
        errors.append(np.hypot(error, other) / gaps[-1])
    slope, spread = x @ np.log(gaps) / (x @ x), np.linalg.norm(x * errors) / (x @ x)
    print(f"order {order}: slope {slope:.2f} ± {spread:.2f}, theory {order}")
    axes.errorbar(rates, gaps, np.multiply(errors, gaps), fmt="o-", label=f"order {order}")
axes.legend()
figure.savefig("when_the_sde_is_wrong.png")
