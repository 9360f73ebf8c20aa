"""Modes of aligned, balanced networks follow the scalar mode SDE; full noise adds what Itô's formula says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import SAME_LAW, Floats, Region, aligned, around, largest, network, run
from saddlescope.init import Given
from saddlescope.methods import Langevin
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulate import make_engine
from saddlescope.theory import ModeSDE

DEPTH, TARGETS, START, LABEL_NOISE, TEMPERATURE = 3, (2.0, 1.0), 0.064, 0.5, 0.02
MODES = [ModeSDE(depth=DEPTH, target=target, label_noise=LABEL_NOISE, temperature=TEMPERATURE) for target in TARGETS]

HALF_ORDER: Region = (0.4, 1.5)
"""Euler–Maruyama converges path by path with order ½, or faster where noise is small."""


def experiment(quick: bool) -> Evidence:
    """Paths on shared noise, laws while modes are learned, and the drift that full noise adds."""
    paths = _paths(256 if quick else 2048)
    laws = _laws(16_384 if quick else 65_536)
    drifts = _drifts(65_536 if quick else 524_288)
    return Evidence(
        numbers=[
            Number("CDF difference to the mode SDE, aligned noise", largest(laws["aligned"]), SAME_LAW),
            Number("strong order of the path difference", paths["order"], HALF_ORDER),
            Number("mean path difference at the smallest step, in s*", paths["difference"], (0.0, 0.01)),
            Number("full noise: drift beyond the mode SDE, measured / exact Itô law", largest(drifts["full"], 1), around(1, 0.1)),
            Number("CDF difference to the mode SDE, full noise", largest(laws["gradient"])),
        ],
        controls=[
            Number("strong order when the Itô term is left out", paths["order_without"], HALF_ORDER),
            Number("aligned noise: drift beyond the mode SDE / the same law", largest(drifts["aligned"], 1), around(1, 0.1)),
        ],
        runs=[paths["run"], *laws["runs"], drifts["run"]],
        curves={"paths": paths, "laws": laws, "drifts": drifts},
    )


# --- path by path


def _paths(trajectories: int, horizon: float = 6.0, fine: int = 8192, levels: Sequence[int] = (64, 32, 16, 8)) -> dict[str, Any]:
    """The network at several steps and the mode SDE on the finest grid, driven by the same Brownian paths.

    Along a mode a step of the network adds ``√(T/dt) (√2 (s − s*) h − σz)`` to Ḡ, h and z normal: this is
    ``dW = (σz − √2 (s − s*) h) √(dt / g(s))``.
    """
    rng = np.random.default_rng(1)
    normals = rng.standard_normal((trajectories, fine, 2, len(TARGETS)))
    exact, without = (_solve(normals, horizon / fine, ito)[:, levels[0] - 1 :: levels[0]] for ito in (True, False))
    problem = network(DEPTH, 3, TARGETS, aligned(DEPTH, START), LABEL_NOISE)
    differences, differences_without = [], []
    for level in levels:
        method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise="aligned", dt=horizon * level / fine)
        plan = Plan(steps=fine // level, trajectories=trajectories, saves=fine // levels[0])
        coarse = normals.reshape(trajectories, -1, level, 2, len(TARGETS)).sum(axis=2) / np.sqrt(level)
        strengths, status = _advance(problem, method, plan, coarse, rng)
        differences.append((np.abs(strengths - exact) / TARGETS).mean(axis=(1, 2)))
        differences_without.append((np.abs(strengths - without) / TARGETS).mean(axis=(1, 2)))
    steps = horizon * np.array(levels) / fine
    return {
        "run": Run.by_hand("network on shared noise", problem, method, plan, status),
        "order": _order(steps, np.stack(differences)),
        "order_without": _order(steps, np.stack(differences_without)),
        "difference": intervals.mean(differences[-1]),
        "steps": steps,
        "differences": np.mean(differences, axis=1),
        "differences_without": np.mean(differences_without, axis=1),
        "time": horizon * np.arange(1, plan.save_steps.size) / (plan.save_steps.size - 1),
        "network": strengths[:3],
        "exact": exact[:3],
    }


def _solve(normals: Floats, dt: float, ito: bool) -> Floats:
    """The mode SDE in the product coordinate by Euler–Maruyama (trajectory, step, mode); or without its Itô term."""
    paths = np.empty((*normals.shape[:2], len(MODES)))
    for mode, sde in enumerate(MODES):
        quiet = ModeSDE(depth=DEPTH, target=sde.target, label_noise=LABEL_NOISE, temperature=0.0)
        s, drift = np.full(len(normals), START), (sde if ito else quiet).drift
        for step in range(normals.shape[1]):
            h, z = normals[:, step, :, mode].T
            wiener = (LABEL_NOISE * z - np.sqrt(2) * (s - TARGETS[mode]) * h) * np.sqrt(dt / sde.g(s))
            s = s + drift(s) * dt + sde.diffusion(s) * wiener
            paths[:, step, mode] = s
    return paths


def _advance(
    problem: Problem, method: Langevin, plan: Plan, along: Floats, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Strengths (trajectory, save, mode) of a network whose noise along the modes is given, all other noise drawn.

    The normals of a step are the lower triangle of H row by row, then Z row by row.
    """
    engine, size = make_engine("auto", problem, method, plan), len(TARGETS)
    index = np.arange(size)
    h, z = index * (index + 3) // 2, size * (size + 1) // 2 + index * (size + 1)
    state, saved = engine.init(), []
    for save in plan.save_steps[1:].tolist():
        normals = rng.standard_normal((plan.trajectories, save - state.step, engine.normals_per_step))
        normals[:, :, h], normals[:, :, z] = along[:, state.step : save].transpose(2, 0, 1, 3)
        state = engine.advance(state, save, normals)
        saved.append(engine.observe(state)["mode_strength"])
    return np.stack(saved, axis=1), state.status


def _order(steps: Floats, differences: Floats, groups: int = 32) -> Interval:
    """Slope of log difference against log step (step, trajectory), from independent groups of trajectories."""
    by_group = differences.reshape(len(steps), groups, -1).mean(axis=2)
    return intervals.mean(np.polyfit(np.log(steps), np.log(by_group), 1)[0])


# --- in law


def _laws(trajectories: int, dt: float = 4e-3) -> dict[str, Any]:
    """Strengths while the modes are learned: network with aligned and with full noise against the mode SDE."""
    when = (0.9, 1.5, 2.5, 4.0)
    expected = np.stack([sde.simulate(START, when, 2**17, seed=mode) for mode, sde in enumerate(MODES)], axis=-1)
    saves = tuple(round(time / dt) for time in when)
    plan = Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="trajectories")
    found: dict[str, Any] = {"when": when, "expected": expected, "runs": [], "samples": {}}
    for noise in ("aligned", "gradient"):
        method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=dt)  # type: ignore[arg-type]
        dataset = run(network(DEPTH, 3, TARGETS, aligned(DEPTH, START), LABEL_NOISE), method, plan)
        strengths = dataset["mode_strength"].values
        found[noise] = [
            intervals.distance_between(strengths[:, save, mode], expected[:, save, mode])
            for save, mode in np.ndindex(len(when), len(TARGETS))
        ]
        found["samples"][noise] = strengths
        found["runs"].append(Run.of(f"laws during learning, {noise} noise", dataset))
    return found
