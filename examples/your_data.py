"""Your own CSV beside theory: what its modes are, and how far label noise moves them.

Writes houses.csv, a made-up table, and your_data.png. The gallery page "Your own CSV beside theory" explains it. For
your own file, leave out the table and change the names.
"""

from pathlib import Path

import numpy as np

import saddlescope as sc

rng = np.random.default_rng(0)
area, age, outdoor = rng.lognormal(4.7, 0.4, 400), rng.uniform(0, 80, 400), rng.normal(9, 3, 400)
windows = 0.15 * area + rng.normal(0, 6, 400)
heating = 0.9 * area + 0.6 * age + 1.5 * windows - 5 * outdoor + rng.normal(0, 15, 400)
cooling = 0.2 * area + 1.2 * windows + 2.5 * outdoor + rng.normal(0, 6, 400)
rows = ["area,age,windows,outdoor,heating,cooling"]
rows += [",".join(f"{x:.1f}" for x in row) for row in zip(area, age, windows, outdoor, heating, cooling, strict=True)]
Path("houses.csv").write_text("\n".join(rows))

targets = ["heating", "cooling"]  # all other columns are inputs
data = sc.Dataset.load("houses.csv", label_noise=1.0, targets=targets, standardise=True, whiten=True, test=100)
print(data.loadings.input_loading.to_pandas().round(2))
print(data.loadings.output_loading.to_pandas().round(2))

problem = sc.Problem(sc.DeepLinear((4, 16, 2)), data, sc.init.Gaussian(scale=1e-2))
sgd = sc.SGD(lr=0.01, batch_size=8)
plan = sc.Plan(steps=2000, trajectories=128, keep="trajectories", observe=["test_loss"])
run = sc.simulate(problem, sgd, plan)

law = sc.theory.mode_sde(problem, sgd, mode=0).stationary()
late = run.mode_strength.sel(mode=0, time=slice(15, None))  # the modes are learned
squares = ((late - late.mean()) ** 2).mean("time")
variance, error = squares.mean().item(), squares.std(ddof=1).item() / squares.size**0.5
print(f"variance of mode 0: {variance:.5f} ± {error:.5f} simulated, {law.var():.5f} in theory")
print(sc.compare(run, law))
sc.plot(run).savefig("your_data.png")
