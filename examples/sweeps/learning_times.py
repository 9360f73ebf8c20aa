"""When a mode is learned, from depth 1 to 4: distributions of 512 networks each, beside the law of first passages.

Writes learning_times.png. The gallery page "Learning times over depth" explains it.
"""

import matplotlib.pyplot as plt
import numpy as np

import saddlescope as sc

DEPTHS, START, SGD = [1, 2, 3, 4], 1e-3, sc.SGD(lr=5e-3, batch_size=1)

data = sc.GaussianData([[1.0]], label_noise=1.0)
problem = sc.Problem(sc.Diagonal(depth=1), data, sc.init.Balanced(scale=START))
sweep = sc.sweep(
    (problem, SGD, sc.Plan(steps=20_000, trajectories=512, saves=1)),
    axes={"network.depth": DEPTHS},
    derived={"init.scale": f"{START} ** (1 / depth)"},
    reduce={"learned": sc.Pick("learned_at", sel={"threshold": 0.5, "mode": 0})},
    client=2,
    progress=False,
)
plt.rcParams.update(sc.plots.STYLE)
figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
for depth, colour in zip(DEPTHS, sc.plots.COLOURS, strict=False):
    times = np.sort(sweep.learned.sel(depth=depth).values)
    axes.step(times, np.arange(1, len(times) + 1) / len(times), color=colour, label=f"depth {depth}")
    mode = sc.theory.ModeSDE(depth=depth, target=1.0, label_noise=1.0, temperature=SGD.temperature)
    mean, variance = mode.passage(START, 0.5)
    print(f"depth {depth}: mean {times.mean():.2f}, theory {float(mean):.2f}", end="; ")
    print(f"standard deviation {times.std(ddof=1):.2f}, theory {float(variance) ** 0.5:.2f}")
    grid = np.linspace(times[0], times[-1], 60)
    axes.plot(grid, mode.passage_cdf(grid, START, 0.5, tol=1e-3), "k--", lw=0.8)
axes.set(xscale="log", xlabel="time to half of the target", ylabel="fraction of networks")
axes.legend()
figure.savefig("learning_times.png")
