"""Saddle-to-saddle learning: the mean half-time of the second mode, SGD against three theories.

Writes saddle_to_saddle.png. The gallery page "Saddle-to-saddle learning" explains it.
"""

import saddlescope as sc

TARGETS, START, NOISE = [4.0, 2.0, 1.0], 1e-4, 1.0

data = sc.GaussianData.from_spectrum(TARGETS, dim_in=8, dim_out=3, label_noise=NOISE, seed=0)
problem = sc.Problem(sc.DeepLinear((8, 16, 3)), data, sc.init.Balanced(scale=START**0.5))
sgd = sc.SGD(lr=4e-3, batch_size=1)
run = sc.simulate(problem, sgd, sc.Plan(steps=2000, trajectories=512))

half = sgd.lr * run.learning_time.sel(mode=1, threshold=0.5)
mean, stderr = half.mean().item(), half.std(ddof=1).item() / half.size**0.5
print(f"half-time of the second mode, SGD: {mean:.3f} ± {stderr:.3f}")

sde = sc.theory.mode_sde(problem, sgd, mode=1)
theory = {
    "gradient flow": sc.theory.flow_time(0.5 * sde.target, START, sde.target, depth=2),
    "mode SDE": sde.passage(START, 0.5 * sde.target)[0],
    "with other modes": sc.theory.half_times(TARGETS, START, sgd.temperature, NOISE, lr=sgd.lr)[1],
}
for name, time in theory.items():
    print(f"  {name}: {time:.3f}, off by {mean - time:+.3f}")

sc.plots.modes(run).savefig("saddle_to_saddle.png")
