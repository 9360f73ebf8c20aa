"""Modes of aligned, balanced networks follow the scalar mode SDE under aligned noise, an SDE of P under full noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saddlescope import init, plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle import _rivals
from saddlescope.claims.tools import COARSE_LAW, aligned, alive, around, at, largest, network, run, smallest
from saddlescope.engines import make_engine
from saddlescope.methods import Langevin
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE
from saddlescope.theory.network.balanced import simulate_balanced_map
from saddlescope.theory.network.end_to_end import map_drift

DEPTH, TARGETS, START, LABEL_NOISE, TEMPERATURE = 3, (2.0, 1.0), 0.064, 0.5, 0.02
MODES = [ModeSDE(depth=DEPTH, target=target, label_noise=LABEL_NOISE, temperature=TEMPERATURE) for target in TARGETS]

HALF_ORDER: Region = (0.4, 1.5)
"""Euler–Maruyama converges path by path with order ½, or faster where noise is small."""

OTHER_THAN_SCALAR: Region = (0.05, 1.0)
"""Distance from the scalar SDE under full noise: more than three times what counts as the same distribution."""

BALANCED: Region = (0.0, 0.02)
"""Distance to the SDE of P, which neglects the imbalance of order T caused by full noise."""

ADDED: Region = around(1.0, 0.05)
"""Drift over its prediction."""

WRONG = (0.75, 1.25)
"""Factors of T that full runs must distinguish from 1 under full noise."""

LEVELS = np.linspace(0.001, 0.999, 400)


def experiment(quick: bool) -> Evidence:
    """Paths on shared noise, distributions while modes are learned, and the drift added by full noise."""
    paths = _paths(256 if quick else 1024)
    laws = _laws(32_768, 32_768, (), 2.5e-3) if quick else _laws(524_288, 262_144, WRONG, 2e-3)
    drifts = _drifts(65_536 if quick else 524_288)
    scalar, coupled = (
        "Kolmogorov distance to the mode SDE, aligned noise",
        "Kolmogorov distance to the balanced SDE of P, full noise",
    )
    return Evidence(
        numbers=[
            _rivals.judged(scalar, laws["aligned"], quick),
            Number(coupled, largest(laws["full"][1.0]), COARSE_LAW if quick else BALANCED, moved=True),
            Number(
                "Kolmogorov distance to the mode SDE, full noise",
                largest(laws["to_scalar"]),
                OTHER_THAN_SCALAR,
                moved=True,
            ),
            Number("strong order of the path difference", paths["order"], HALF_ORDER),
            Number("mean path difference at the smallest step, in s*", paths["difference"], (0.0, 0.01)),
            Number("drift added by full noise / exact Itô SDE", largest(drifts["ratio"], 1.0), ADDED),
        ],
        controls=[
            Number("strong order without the Itô term", paths["order_without"], HALF_ORDER),
            Number(
                "drift with full noise / Itô term of the mode SDE alone, nearest mode",
                smallest(drifts["to_own"], 1.0),
                ADDED,
            ),
        ],
        runs=[paths["run"], *laws["runs"], *drifts["runs"]],
        curves={"paths": paths, "laws": laws, "drifts": drifts},
        rivals=[
            *_rivals.rivals(scalar, laws["aligned"], quick, _rivals.temperatures(quick)),
            *_rivals.rivals(scalar, laws["aligned"][5:6], quick, _rivals.ADDITIVE),
            Rival(
                "full noise as aligned noise: the mode SDE",
                [Number(coupled, largest(laws["to_scalar"]), COARSE_LAW if quick else BALANCED)],
            ),
            Rival(
                "modes couple through the Itô drift of aligned maps alone",
                [Number(coupled, largest(laws["full"]["aligned"]), COARSE_LAW if quick else BALANCED)],
            ),
            *(
                Rival(
                    f"full noise, T × {factor}",
                    [Number(coupled, largest(laws["full"][factor]), COARSE_LAW if quick else BALANCED)],
                )
                for factor in (() if quick else WRONG)
            ),
        ],
    )


# --- path by path


def _paths(
    trajectories: int, horizon: float = 6.0, fine: int = 8192, levels: Sequence[int] = (64, 32, 16, 8)
) -> dict[str, Any]:
    """The network at several steps and the mode SDE on the finest grid, driven by the same Brownian paths.

    Along a mode a step of the network adds ``√(T/dt) (√2 (s − s*) h − σz)`` to Ḡ, h and z normal: this is
    ``dW = (σz − √2 (s − s*) h) √(dt / g(s))``.
    """
    rng = np.random.default_rng(1)
    normals = rng.standard_normal((trajectories, fine, 2, len(TARGETS)))
    exact, without = (_solve(normals, horizon / fine, levels[0], ito) for ito in (True, False))
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
        "run": Run.by_hand("network on shared noise (the TOML alone draws its own)", problem, method, plan, status),
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


def _solve(normals: Floats, dt: float, every: int, ito: bool) -> Floats:
    """The mode SDE (trajectory, save, mode) by Euler–Maruyama in the product coordinate, with or without Itô term."""
    paths = np.empty((len(normals), normals.shape[1] // every, len(MODES)))
    for mode, sde in enumerate(MODES):
        quiet = ModeSDE(depth=DEPTH, target=sde.target, label_noise=LABEL_NOISE, temperature=0.0)
        s, drift = np.full(len(normals), START), (sde if ito else quiet).drift
        for step in range(normals.shape[1]):
            h, z = normals[:, step, :, mode].T
            wiener = (LABEL_NOISE * z - np.sqrt(2) * (s - TARGETS[mode]) * h) * np.sqrt(dt / sde.g(s))
            s = s + drift(s) * dt + sde.diffusion(s) * wiener
            paths[:, step // every, mode] = s
    return paths


def _advance(
    problem: Problem, method: Langevin, plan: Plan, along: Floats, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.int64]]:
    """Strengths (trajectory, save, mode) of a network with given noise along the modes; all other noise is drawn.

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


def _order(steps: Floats, differences: Floats, groups: int = 64) -> Interval:
    """Slope of log difference (step, trajectory) against log step, from independent groups of trajectories."""
    by_group = differences.reshape(len(steps), groups, -1).mean(axis=2)
    return intervals.mean(np.polyfit(np.log(steps), np.log(by_group), 1)[0])


# --- in distribution


def _laws(trajectories: int, maps: int, wrong: Sequence[float], dt: float) -> dict[str, Any]:
    """Strengths while modes are learned, with aligned and with full noise, and their distances to the SDEs."""
    when, places = (0.9, 1.5, 2.5, 4.0), list(np.ndindex(4, len(TARGETS)))
    saves = tuple(round(time / dt) for time in when)
    plan = Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="trajectories")
    samples, runs = {}, []
    for noise in ("aligned", "gradient"):
        method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=dt)
        dataset = run(network(DEPTH, 3, TARGETS, aligned(DEPTH, START), LABEL_NOISE), method, plan)
        samples[noise] = alive(dataset)["mode_strength"].values[:, -len(when) :]
        runs.append(Run.of(f"distributions during learning, {noise} noise", dataset))

    def pairs(noise: str) -> list[_rivals.Sample]:
        return [
            (samples[noise][:, save, mode], MODES[mode], _rivals.at_time(START, when, save)) for save, mode in places
        ]

    def to_maps(factor: float, size: int, aligned: bool = False) -> list[Interval]:
        temperature = factor * TEMPERATURE
        found = simulate_balanced_map(
            TARGETS, DEPTH, temperature, LABEL_NOISE, START, when, size, 5 * dt, seed=3, aligned=aligned
        )
        found = found[np.isfinite(found).all(axis=(1, 2))]
        return [intervals.distance_between(samples["gradient"][:, *place], found[:, *place]) for place in places]

    return {
        "when": when,
        "runs": runs,
        "samples": samples,
        "expected": [[law.ppf(LEVELS) for law in mode.evolve(START, when, tol=1e-4)] for mode in MODES],
        "aligned": pairs("aligned"),
        "to_scalar": _rivals.distances(pairs("gradient")),
        "full": {1.0: to_maps(1.0, maps), "aligned": to_maps(1.0, maps // 4, aligned=True)}
        | {factor: to_maps(factor, maps // 4) for factor in wrong},
    }


# --- drift added by full noise


def _drifts(pairs: int, dt: float = 1e-3) -> dict[str, Any]:
    """Itô drift of the modes at an aligned state, from one step over pairs of opposite noise.

    The mean of a pair has no martingale part, and the step without noise is subtracted. The drift that full noise
    adds is measured against aligned noise from the same normals.
    """
    strengths, targets = np.array([1.2, 0.4, 0.1]), (2.0, 1.0, 0.5)
    problem = at(network(DEPTH, len(targets), targets, aligned(DEPTH, 1.0), LABEL_NOISE), strengths)
    measured, runs = {}, []
    for noise in ("gradient", "aligned"):
        method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=dt)
        plan = Plan(steps=1, trajectories=2 * pairs + 1)
        engine = make_engine("auto", problem, method, plan)
        drawn = np.random.default_rng(5).standard_normal((pairs, 1, engine.normals_per_step))
        state = engine.advance(engine.init(), 1, np.concatenate([drawn, -drawn, 0 * drawn[:1]]))
        after = engine.observe(state)["mode_strength"]
        measured[noise] = ((after[:pairs] + after[pairs:-1]) / 2 - after[-1]) / dt
        runs.append(Run.by_hand(f"one step, {noise} noise", problem, method, plan, state.status))
    own = np.array([_own_drift(*mode) for mode in zip(strengths, targets, strict=True)])
    added, predicted = measured["gradient"] - measured["aligned"], _ito_drift(problem) - own
    return {
        "runs": runs,
        "targets": targets,
        "predicted": predicted,
        "added": [intervals.mean(mode) for mode in added.T],
        "ratio": [intervals.mean(mode) for mode in (added / predicted).T],
        "to_own": [intervals.mean(mode) for mode in (measured["gradient"] / own).T],
    }


def _own_drift(strength: float, target: float) -> float:
    """Itô term of the mode SDE."""
    noisy, quiet = (
        ModeSDE(depth=DEPTH, target=target, label_noise=LABEL_NOISE, temperature=T) for T in (TEMPERATURE, 0.0)
    )
    return float(noisy.drift(strength) - quiet.drift(strength))


def _ito_drift(problem: Problem) -> Floats:
    """Itô term of every mode from the exact SDE of P."""
    weights = init.draw(problem.init, problem.network, problem.data, seed=0, members=[0])
    noisy, quiet = (map_drift(problem.data, T, weights)[0] for T in (TEMPERATURE, 0.0))
    modes = problem.data.modes
    return np.diag(modes.left.T @ (noisy - quiet) @ modes.right)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Paths on shared noise, their difference against the step, distributions while a mode is learned, drifts."""
    paths, laws, drifts = (evidence.curves[name] for name in ("paths", "laws", "drifts"))
    path, order, law, extra = axes
    _draw_paths(path, paths)
    _draw_order(order, paths)
    _draw_laws(law, laws)
    places = np.arange(len(drifts["targets"]))
    extra.bar(places, drifts["predicted"], 0.55, color="#9db8cc", label="exact Itô SDE")
    for place, seen in enumerate(drifts["added"]):
        plots.interval(extra, place, seen, color=plots.COLOURS[1], label=None if place else "network, one step")
    extra.set(title="Drift added by full noise", xlabel="target s*", ylabel="strength per time")
    extra.set_xticks(places, [f"{target:g}" for target in drifts["targets"]])
    extra.set_ylim(0, 1.4 * drifts["predicted"].max())
    extra.legend(loc="upper right")


def _draw_paths(panel: Axes, paths: dict[str, Any]) -> None:
    for trajectory in range(len(paths["network"])):
        for mode, colour in zip(range(len(TARGETS)), plots.COLOURS, strict=False):
            first = trajectory == 0
            sde = f"mode SDE, s* = {TARGETS[mode]:g}" if first else None
            panel.plot(paths["time"], paths["exact"][trajectory, :, mode], color=colour, lw=3, alpha=0.3, label=sde)
            network = "network" if first and mode else None
            panel.plot(paths["time"], paths["network"][trajectory, :, mode], color=plots.INK, lw=0.8, label=network)
    panel.set(title="Three trajectories on shared noise", xlabel="time", ylabel="uᵀPv", ylim=(0, 3.4))
    panel.legend(loc="upper right")


def _draw_order(panel: Axes, paths: dict[str, Any]) -> None:
    for name, colour, label in (
        ("differences", plots.COLOURS[0], "mode SDE"),
        ("differences_without", plots.COLOURS[1], "without the Itô term"),
    ):
        panel.plot(paths["steps"], paths[name], "o-", color=colour, label=label)
    guide = paths["differences"][0] * np.sqrt(paths["steps"] / paths["steps"][0])
    panel.plot(paths["steps"], 0.8 * guide, color=plots.GREY, lw=0.8, ls=":", label="slope ½")
    panel.set(title="Network minus SDE, path by path", xscale="log", yscale="log")
    panel.set(xlabel="step dt", ylabel="mean |difference| / s*")
    panel.set_xticks(paths["steps"], [f"{step:.3f}" for step in paths["steps"]])
    panel.set_yticks([0.003, 0.005, 0.01, 0.015], ["0.003", "0.005", "0.010", "0.015"])
    panel.minorticks_off()
    panel.legend()


def _draw_laws(panel: Axes, laws: dict[str, Any], save: int = 1) -> None:
    for mode, colour in zip(range(len(TARGETS)), plots.COLOURS, strict=False):
        sde = f"SDE, s* = {TARGETS[mode]:g}"
        panel.plot(laws["expected"][mode][save], LEVELS, color=colour, lw=4, alpha=0.3, label=sde)
    for noise, label, style in (("aligned", "aligned noise", "-"), ("gradient", "full noise", ":")):
        for mode in range(len(TARGETS)):
            quantiles = np.quantile(laws["samples"][noise][:, save, mode], LEVELS)
            panel.plot(quantiles, LEVELS, color=plots.INK, lw=1, ls=style, label=None if mode else label)
    panel.set(title=f"Strengths at t = {laws['when'][save]:g}", xlabel="uᵀPv", ylabel="fraction below", ylim=(0, 1.02))
    panel.legend(loc="center", bbox_to_anchor=(0.5, 0.62))


CLAIM = Claim(
    name="mode-sde",
    title="Modes of an aligned, balanced network follow a scalar SDE",
    statement=(
        "From aligned and balanced weights, with gradient noise on the teacher's modes alone, every mode of the "
        "network follows ds = [L s^(2κ)(s* − s) + ½L(L−1) T s^(3−4/L) g] dt + L s^(2κ) √(T g) dW, g = 2(s − s*)² + σ²: "
        "path by path on the same noise, and in distribution. With the full gradient noise it does not: at L = 3, T = "
        "0.02 the distribution of the weaker mode differs by more than 0.05, because noise between modes slows it "
        "down. The whole map then follows the exact Itô SDE of P, closed by balance: (PPᵀ)^(1−l/L) and (PᵀP)^((l−1)/L) "
        "replace the layers around layer l."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366; Arora et al. 2018, arXiv 1802.06509 (flow of the balanced map); the "
        "coupling of modes and the SDE of P are this project's"
    ),
    method=(
        "Langevin, L = 3, modes 2 and 1, σ = 0.5, T = 0.02, s₀ = 0.064. Path by path: the network runs at four steps "
        "dt, each on sums of the same fine normals, from which dW = (σz − √2(s − s*)h) √(dt/g) of the scalar SDE is "
        "rebuilt and solved on the finest grid; the slope of the mean difference against dt is the strong order. In "
        "distribution: strengths of both modes at four times, by their Kolmogorov distance to the solution of the mode "
        "SDE's Fokker–Planck equation and, for full noise, to an ensemble of the 2 × 2 SDE of P (Heun's rule for the "
        "drift). Added drift: one step at an aligned state over pairs of opposite noise, which has no martingale part, "
        "minus the step without noise; the drift that full noise adds to aligned noise from the same normals, divided "
        "by the prediction of the exact Itô SDE of P, worst of three modes. The regions for full noise, farther than "
        "0.05 from the scalar SDE and within 0.02 of the SDE of P, were set after a first look: the SDE of P neglects "
        "the imbalance of the layers, which is also of order T."
    ),
    control=(
        "Without the Itô term the path difference must not vanish with the step, and with full noise the Itô term of "
        "the mode SDE alone must not explain the drift of any mode."
    ),
    caption=(
        "Trajectories of the network (thin) and of the mode SDE on the same noise (wide); their mean difference "
        "against the step; strengths while modes are learned, network against mode SDE; drift beyond the mode SDE, "
        "measured against the exact Itô SDE."
    ),
    why=(
        "The effect of learning rate and batch size on one feature of a linear network can be computed from one "
        "scalar equation, without simulating all weights. The claim also shows where that ends: with real minibatch "
        "noise the features disturb each other, the weaker ones are late, and only the coupled equations are right."
    ),
    equations=(
        r"ds = \left[L s^{2\kappa}(s^* - s) + \tfrac12 L(L-1)\, T s^{3-4/L} g(s)\right] dt \qquad {} + L "
        r"s^{2\kappa} \sqrt{T g(s)}\; dW",
        r"g(s) = 2 (s - s^*)^2 + \sigma^2, \qquad \kappa = 1 - \tfrac1L, \qquad T = \tfrac{\eta}{B}",
        r"W_{>l} W_{>l}^\top = (P P^\top)^{1-l/L}, \qquad W_{<l}^\top W_{<l} = (P^\top P)^{(l-1)/L}",
    ),
    proved=(
        "The source derives the scalar SDE for Langevin dynamics from aligned, balanced weights (its proposition "
        "3.5); it is exact if noise acts on the modes alone. The SDE of the whole map is Itô's formula; it is closed "
        "in P only as long as the layers are balanced."
    ),
    unknown=(
        "How large an error the SDE of P has under full noise: it neglects the imbalance of the layers, which is also "
        "of order T, and no bound is known. Tested at L = 3, T = 0.02, two modes, with Langevin dynamics; another "
        "claim tests other depths."
    ),
    related=("depths", "noise-peak", "stationary-law", "whole-map"),
    experiment=experiment,
    draw=draw,
    panels=4,
)
