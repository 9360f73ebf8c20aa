"""A phase transition in the temperature: where the mean strength of Langevin dynamics and of SGD vanishes.

Writes phase_transition.png. The gallery page "A phase transition in the temperature" explains it.
"""

import numpy as np
from matplotlib.figure import Figure

import saddlescope as sc

data = sc.GaussianData([[1.0]], label_noise=20.0)
problem = sc.Problem(sc.Diagonal(depth=2), data, sc.init.Balanced(scale=1.0))
critical = sc.theory.mode_sde(problem, sc.GD(lr=1e-3), mode=0).critical_temperature
ratios = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7])

figure = Figure(figsize=(5.6, 3.6), layout="constrained")
axes = figure.add_subplot(xlabel="T / T_c", ylabel="mean strength / s*")
axes.plot([0, 1, 1.2], [1, 0, 0], "k", lw=1, label="stationary law")
for name, method_at in {
    "Langevin": lambda T: sc.Langevin(lr=T, temperature=T),
    "SGD": lambda T: sc.SGD(lr=T, batch_size=1),
}.items():
    means, errors = [], []
    for seed, ratio in enumerate(ratios):
        plan = sc.Plan(steps=20_000, trajectories=256, seed=seed, keep="trajectories")
        run = sc.simulate(problem, method_at(ratio * critical), plan)
        late = run.mode_strength.sel(mode=0).isel(time=slice(50, None)).mean("time")
        means.append(late.mean().item())
        errors.append(late.std(ddof=1).item() / late.size**0.5)
    (slope, top), covariance = np.polyfit(ratios, means, 1, w=1 / np.array(errors), cov="unscaled")
    gradient = np.array([top / slope**2, -1 / slope])
    error = np.sqrt(gradient @ covariance @ gradient)
    print(f"{name}: mean vanishes at {-top / slope:.3f} ± {error:.3f} T_c, theory 1 in the limit of small steps")
    axes.errorbar(ratios, means, errors, fmt="o", label=name)
axes.legend()
figure.savefig("phase_transition.png")
