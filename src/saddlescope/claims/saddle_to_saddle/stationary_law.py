"""Where training ends: a point without label noise, the exact stationary law with it, Boltzmann only nearby."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import ALWAYS, SAME_LAW, Floats, aligned, around, largest, network, run, smallest
from saddlescope.init import Gaussian
from saddlescope.methods import SGD, Langevin
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE

HOT = (
    ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.3),
    ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3),
    ModeSDE(depth=4, target=1.0, label_noise=0.5, temperature=0.1),
)
"""Modes whose law is far from Boltzmann; the second is the one that fixed-step integration gets wrong."""

ESCAPE = ModeSDE(depth=2, target=1.0, label_noise=0.0, temperature=2.0)

WARM = [ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=T) for T in (3e-3, 1e-2, 3e-2, 0.1, 0.3)]
"""The same mode from nearly Boltzmann to far from it."""

END = 40.0


def experiment(quick: bool) -> Evidence:
    """Ends of network runs and of mode ensembles against points, the exact law and Boltzmann."""
    size = 8192 if quick else 65_536
    points, point_runs = _points(size // 4)
    trained, trained_runs = _trained(2 * size)
    ends = {mode: mode.simulate(mode.target, [END], 8 * size, seed=1)[:, 0] for mode in {*HOT, *WARM}}
    escaped = ESCAPE.simulate(START, [END], 8 * size, seed=2)[:, 0] < 0.5 * ESCAPE.target
    euler = _euler(HOT[1], dt=2e-3, trajectories=2048)
    to_exact = {mode: intervals.distance_to_law(sample, mode.stationary().cdf) for mode, sample in ends.items()}
    to_boltzmann = {mode: intervals.distance_to_law(sample, mode.boltzmann().cdf) for mode, sample in ends.items()}
    gaps = [_shift(to_boltzmann[mode], -distance_of_boltzmann(mode)) for mode in WARM]
    fate = float(ESCAPE.stationary(START).cdf(0.0))
    return Evidence(
        numbers=[
            Number("CDF difference to the exact law, network (aligned noise)", largest(trained["aligned"]), SAME_LAW),
            Number("CDF difference to the exact law, mode ensembles", largest(to_exact.values()), SAME_LAW),
            Number("σ = 0: share of SGD trajectories within 1 % of s*", smallest(points), ALWAYS),
            Number("σ = 0, L = 2, T = 2/s*: share that ends at 0 instead", intervals.proportion(escaped), around(fate, 0.02)),
            Number("distance to Boltzmann, measured minus predicted", largest(gaps), around(0.0, 0.03)),
            Number("CDF difference to the exact law, network (full noise)", largest(trained["gradient"])),
        ],
        controls=[
            Number("CDF difference to Boltzmann at T = 0.3", to_boltzmann[HOT[1]], SAME_LAW),
            Number(
                "CDF difference to the exact law, fixed-step Euler–Maruyama at T = 0.3",
                intervals.distance_to_law(euler, HOT[1].stationary().cdf),
                SAME_LAW,
            ),
        ],
        runs=[*point_runs, *trained_runs],
        curves={"ends": ends, "euler": euler, "to_boltzmann": to_boltzmann},
    )


def _points(trajectories: int) -> tuple[list[Interval], list[Run]]:
    """Without label noise: share of trajectories, of each depth and mode, that end within 1 % of s*."""
    found, runs = [], []
    for depth in (2, 3):
        problem = network(depth, 6, (2.0, 1.0), Gaussian(scale=0.3), label_noise=0.0)
        plan = Plan(steps=3000, trajectories=trajectories, save_at=(3000,), keep="trajectories")
        dataset = run(problem, SGD(lr=1e-2, batch_size=1), plan)
        near = np.abs(dataset["mode_strength"].values[:, -1] / dataset["target"].values - 1) < 0.01
        found += [intervals.proportion(mode) for mode in near.T]
        runs.append(Run.of(f"SGD without label noise, L = {depth}", dataset))
    return found, runs


def _trained(trajectories: int) -> tuple[dict[str, list[Interval]], list[Run]]:
    """Networks in the range where fixed steps can be trusted, with aligned and with full noise."""
    found, runs, label_noise, targets = {}, [], 0.3**0.5, (1.5, 1.0)
    plan = Plan(steps=5000, trajectories=trajectories, save_at=(5000,), keep="trajectories")
    for noise in ("aligned", "gradient"):
        method = Langevin(lr=0.03, batch_size=1.0, noise=noise, dt=2e-3)  # type: ignore[arg-type]
        dataset = run(network(3, 2, targets, aligned(3, 1.0), label_noise), method, plan)
        strengths = dataset["mode_strength"].values[:, -1]
        laws = [
            ModeSDE(depth=3, target=target, label_noise=label_noise, temperature=method.temperature).stationary()
            for target in targets
        ]
        found[noise] = [intervals.distance_to_law(s, law.cdf) for s, law in zip(strengths.T, laws, strict=True)]
        runs.append(Run.of(f"Langevin, {noise} noise, L = 3, T = 0.03", dataset))
    return found, runs


def _euler(mode: ModeSDE, dt: float, trajectories: int) -> Floats:
    """Fixed steps of Euler–Maruyama in log a: a jump of the heavy tail throws it to 0, where it stays."""
    rng, z = np.random.default_rng(3), np.full(trajectories, np.log(mode.fixed_point) / mode.depth)
    with np.errstate(all="ignore"):
        for _ in range(round(END / dt)):
            a = np.exp(z)
            pull, shake = mode.drift(a, "weight") / a, mode.diffusion(a, "weight") / a
            z = z + (pull - shake**2 / 2) * dt + shake * np.sqrt(dt) * rng.standard_normal(trajectories)
            z = np.where(np.isnan(z), -np.inf, z)
        return np.asarray(np.exp(mode.depth * z))


def distance_of_boltzmann(mode: ModeSDE) -> float:
    """Largest difference between the distribution functions of the exact law and of Boltzmann."""
    exact, boltzmann = mode.stationary(), mode.boltzmann()
    s = np.unique(np.concatenate([law.ppf(np.linspace(1e-4, 1 - 1e-4, 2001)) for law in (exact, boltzmann)]))
    return float(np.abs(exact.cdf(s) - boltzmann.cdf(s)).max())
