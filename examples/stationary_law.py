"""The stationary law of a long run: Kolmogorov distance to the exact law, and to Boltzmann.

Writes stationary_law.png. The gallery page "The stationary law of a long run" explains it.
"""

import numpy as np

import saddlescope as sc

data = sc.GaussianData([[1.0]], label_noise=10.0)
problem = sc.Problem(sc.Diagonal(depth=2), data, sc.init.Balanced(scale=1.0))
sgd = sc.SGD(lr=0.005, batch_size=1)
histogram = sc.Accumulate(low=0.0, high=6.0, start=4000)
run = sc.simulate(problem, sgd, sc.Plan(steps=20_000, trajectories=1024, saves=10, accumulate=histogram))

mode = sc.theory.mode_sde(problem, sgd, mode=0)
laws = {"exact law": mode.stationary(), "Boltzmann": mode.boltzmann()}
for name, law in laws.items():
    print(f"independent networks at the last step, {name}: {sc.compare(run, law).verdict}")

counts, effective = run.histogram.sel(mode=0), run.effective_samples.item()
cdf = (counts.cumsum() / counts.sum())[:-1]
print(f"all steps, effective sample size {effective:,.0f}: bound {np.sqrt(np.log(2e6) / (2 * effective)):.4f}")
for name, law in laws.items():
    print(f"  Kolmogorov distance to {name}: {abs(cdf - law.cdf(counts.bin_high[:-1])).max().item():.4f}")

sc.plots.stationary(run).savefig("stationary_law.png")
