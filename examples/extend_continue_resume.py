"""Stop, resume, extend and continue a run: bit-identical to an uninterrupted one.

Writes extend_continue_resume.png. The gallery page "Stop, resume, extend, continue" explains it.
"""

from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc

data = sc.GaussianData.from_spectrum([2.0, 1.0], dim_in=6, dim_out=4, label_noise=0.5)
problem = sc.Problem(sc.DeepLinear((6, 12, 4)), data, sc.init.Gaussian(scale=1e-2))
sgd = sc.SGD(lr=2e-3, batch_size=4)
short = sc.Plan(steps=5_000, trajectories=128, saves=50, seed=1)
long = replace(short, steps=10_000, saves=100)

whole = sc.simulate(problem, sgd, long)
with TemporaryDirectory() as folder:
    sc.simulate(problem, sgd, short, out=f"{folder}/run.zarr")  # if it is stopped, the same call resumes it
    extended = sc.simulate(sc.load(f"{folder}/run.zarr"), plan=long)
difference = np.abs(extended.mode_strength.values - whole.mode_strength.values).max()
print(f"extended from the store, against one run: largest difference {difference}")

drop = sc.simulate(extended, replace(sgd, lr=sgd.lr / 10), replace(short, steps=50_000))  # from its last weights
late = [run.excess_loss.isel(time=slice(-15, None)).mean("time") for run in (extended, drop)]
(before, error), (after, other) = (one.sel(statistic=["mean", "stderr"]).values for one in late)
ratio = before / after
error = ratio * np.hypot(error / before, other / after)
print(f"excess loss before over after the drop of the learning rate: {ratio:.2f} ± {error:.2f}, predicted 10")

figure = Figure(figsize=(5.6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="time", ylabel="mean excess loss", yscale="log")
axes.plot(extended.time, extended.excess_loss.sel(statistic="mean"), label="SGD")
axes.plot(extended.time[-1].item() + drop.time, drop.excess_loss.sel(statistic="mean"), label="learning rate / 10")
axes.legend()
figure.savefig("extend_continue_resume.png")
