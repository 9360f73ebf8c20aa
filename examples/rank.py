"""Label noise lowers the rank of layers: the slope of their log determinant, and its prediction.

Writes rank.png. The gallery page "Label noise lowers the rank of layers" explains it.
"""

import numpy as np

import saddlescope as sc

rng = np.random.default_rng(0)
X = rng.standard_normal((100, 5))
Y = X @ np.outer([1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.5])

data = sc.Dataset(X, Y, label_noise=2.0)
problem = sc.Problem(sc.DeepLinear((5, 10, 2)), data, sc.init.Gaussian(scale=0.5))
gd = sc.GD(lr=0.05)  # on a data set with label noise: all samples at every step, fresh noise on the labels
run = sc.simulate(problem, gd, sc.Plan(steps=40_000, trajectories=16, saves=400, keep="weights"))

learned = run.sel(time=slice(100, None))
layers = [(learned.W1[:, save].values, learned.W2[:, save].values) for save in range(learned.sizes["time"])]
T = gd.lr / data.samples
rate = np.mean([sc.theory.determinant.settled_rate(data, T, pair, gd.lr) for pair in layers])

measured = learned.log_det.isel(interface=0)
slopes = measured.polyfit("time", 1).polyfit_coefficients.sel(degree=1)
slope, error = slopes.mean().item(), slopes.std(ddof=1).item() / slopes.size**0.5
print(f"slope of log det: measured {slope:.5f} ± {error:.5f}, predicted {rate:.5f}")

figure = sc.plots.determinant(run)
theory = measured[:, 0].mean().item() + rate * (learned.time - learned.time[0])
figure.axes[0].plot(learned.time, theory, "k--", zorder=5, label="theory")
figure.axes[0].legend()
figure.savefig("rank.png")
