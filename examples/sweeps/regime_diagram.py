"""The regimes of one mode: median strength over temperature and label noise, and the boundaries of the theory.

Writes regime_diagram.png, and the sweep to regime_diagram.icechunk: a second run resumes it. The gallery page "A regime
diagram" explains it.
"""

import warnings

import numpy as np

import saddlescope as sc

SIGMA, T = np.linspace(0.1, 3.0, 12), np.geomspace(0.02, 3.0, 16)

warnings.simplefilter("ignore")  # some networks collapse, and some with heavy tails diverge: that is the subject


def boundary(sigma, name):
    """A temperature of theory at each label noise."""
    modes = [sc.theory.ModeSDE(depth=2, target=1.0, label_noise=s, temperature=1.0) for s in sigma]
    return [sc.theory.phases.regime_temperatures(mode)[name] for mode in modes]


problem = sc.Problem(sc.Diagonal(depth=2), sc.GaussianData([[1.0]]), sc.init.Balanced(scale=1.0))
sweep = sc.sweep(
    (problem, sc.Langevin(lr=0.02, temperature=1), sc.Plan(steps=10_000, trajectories=256, saves=1)),
    axes={"method.temperature": T, "data.label_noise": SIGMA},
    derived={"method.lr": "min(0.004, 0.0005 / temperature)"},  # hot modes need small steps
    reduce={"strength": sc.Pick("mode_strength", sel={"statistic": "q50", "mode": 0}, isel={"time": -1})},
    out="regime_diagram.icechunk",
    client=2,
    progress=False,
)
figure = sc.plots.phase_diagram(
    sweep,
    "strength",
    boundaries={
        "$T_c$": lambda sigma: boundary(sigma, "critical"),
        "$T_c/3$": lambda sigma: boundary(sigma, "zero"),
    },
)
figure.savefig("regime_diagram.png")
critical = sc.theory.ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=1.0).critical_temperature
nearest = sweep.strength.sel(label_noise=1.0, method="nearest")
print(f"{sweep.strength.size} ensembles, {int((sweep.strength < 1e-3).sum())} with a median below 0.001")
print(f"σ near 1: {int((nearest < 1e-3).sum())} collapsed, {int((sweep.temperature > critical).sum())} above T_c")
