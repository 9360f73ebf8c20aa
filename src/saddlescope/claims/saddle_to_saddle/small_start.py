"""From small random weights, neither aligned nor balanced, the noise still peaks before every mode is
learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots, results
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Run
from saddlescope.claims.tools import ALWAYS, learning_times, network, run, smallest
from saddlescope.init import Gaussian
from saddlescope.methods import SGD
from saddlescope.plan import Plan

TARGETS, WIDTH = (2.0, 1.5, 1.0, 0.5), 10
HORIZON = {2: 10.0, 3: 32.0, 4: 70.0}
QUIET, LOUD = (0.0, 0.1), 1.5


def experiment(quick: bool) -> Evidence:
    """SGD from Gaussian weights of variance width⁻², below and above the label-noise threshold."""
    size = 1024 if quick else 4096
    runs = {(depth, noise): _run(depth, noise, size) for depth in HORIZON for noise in QUIET}
    control = _run(2, LOUD, size)
    shares = {key: intervals.proportion(_peaked(dataset).all(axis=1)) for key, dataset in runs.items()}
    return Evidence(
        numbers=[
            Number(
                "share of trajectories in which every mode peaks, worst case",
                smallest(shares.values()),
                ALWAYS,
            ),
            *(Number(f"the same, L = {depth}, σ = {noise}", share, ALWAYS) for (depth, noise), share in shares.items()),
        ],
        controls=[
            Number(
                f"every mode peaks although σ = {LOUD} is above every threshold",
                intervals.proportion(_peaked(control).all(axis=1)),
                ALWAYS,
            )
        ],
        runs=[Run.of(f"SGD, L = {depth}, σ = {noise}", dataset) for (depth, noise), dataset in runs.items()]
        + [Run.of(f"SGD, L = 2, σ = {LOUD}", control)],
        curves={"runs": runs, "shares": shares, "path": _one_path()},
    )


def _run(depth: int, label_noise: float, trajectories: int) -> xr.Dataset:
    method = SGD(lr=8e-3, batch_size=4)
    plan = Plan(
        steps=round(HORIZON[depth] / method.lr),
        trajectories=trajectories,
        saves=1,
        events=("learning_time", "noise_peak"),
    )
    return run(network(depth, WIDTH, TARGETS, Gaussian(gamma=2.0), label_noise), method, plan)


def _one_path() -> xr.Dataset:
    """One trajectory, to look at."""
    plan = Plan(steps=2000, saves=400, keep="trajectories", events=("learning_time", "noise_peak"))
    return run(network(3, WIDTH, TARGETS, Gaussian(gamma=2.0), 0.1), SGD(lr=8e-3, batch_size=4), plan)


def _peaked(dataset: xr.Dataset) -> np.ndarray:
    """Whether the noise of a mode peaked before the mode was learned (trajectory, mode)."""
    return np.isfinite(dataset["noise_peak_strength"].values)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """One trajectory with its noise, shares of trajectories, time between peak and learning."""
    path, runs, shares = (evidence.curves[name] for name in ("path", "runs", "shares"))
    trajectory, share, lead = axes
    for mode, (colour, target) in enumerate(zip(plots.COLOURS, TARGETS, strict=False)):
        noise = path["mode_noise"].isel(trajectory=0, mode=mode)
        trajectory.plot(
            path["time"],
            path["mode_strength"].isel(trajectory=0, mode=mode),
            color=colour,
            label=f"s* = {target:g}",
        )
        trajectory.fill_between(path["time"], 0, noise / noise.max() * target / 2, color=colour, alpha=0.25, lw=0)
    trajectory.set(
        title="One trajectory of SGD, L = 3",
        xlabel="time",
        ylabel="uᵀPv  (shaded: noise, scaled)",
        ylim=(-0.1, 2.9),
    )
    trajectory.legend(ncols=2, loc="upper left")
    labels = [f"{depth}, {noise:g}" for depth, noise in shares]
    for place, interval in enumerate(shares.values()):
        plots.interval(share, place, interval, color=plots.COLOURS[0])
    share.axhspan(*ALWAYS, color=plots.COLOURS[2], alpha=0.12, lw=0)
    share.set(
        title="Every mode peaks before learning",
        xlabel="depth L, label noise σ",
        ylabel="share of trajectories",
        ylim=(0.9, 1.004),
    )
    share.set_xticks(range(len(labels)), labels)
    for place, (depth, colour) in enumerate(zip(HORIZON, plots.COLOURS, strict=False)):
        dataset = runs[depth, 0.0]
        before = results.parts(dataset)[1].time(dataset["noise_peak_step"]) / learning_times(dataset, 0.9)
        for mode in range(len(TARGETS)):
            at, seen = mode + 0.22 * (place - 1), before[np.isfinite(before[:, mode]), mode]
            lead.plot([at, at], np.quantile(seen, (0.05, 0.95)), color=colour, lw=3, alpha=0.35)
            lead.plot(at, np.median(seen), "o", color=colour, label=None if mode else f"L = {depth}")
    lead.axhline(1, color=plots.GREY, lw=0.8, ls=":")
    lead.set(
        title="When the noise peaks, σ = 0",
        xlabel="target s*",
        ylabel="time of peak / time learned",
        ylim=(0, 1.05),
    )
    lead.set_xticks(range(len(TARGETS)), [f"{target:g}" for target in TARGETS])
    lead.legend(loc="lower left")


CLAIM = Claim(
    name="small-start",
    title="Without alignment or balance the noise still peaks first",
    statement=(
        "Starting from small Gaussian weights, neither aligned with the teacher nor balanced, the noise "
        "along every mode still peaks before the mode is learned, in nearly every trajectory."
    ),
    source="Corlouer et al. 2026, arXiv 2604.06366",
    method=(
        "Discrete SGD (exact batches of 4, learning rate 0.008) on networks 4 → 10 → … → 4 of depth 2, 3 "
        "and 4, weights of variance width⁻², teacher modes 2, 1.5, 1, 0.5, label noise 0 and 0.1. At every "
        "step the closed-form noise along each mode is computed; a peak counts if the noise has fallen by "
        "10 % when the mode reaches 0.9 s*. A mode that is not learned within the horizon counts against "
        "the claim."
    ),
    control="With label noise above every mode's threshold the same network must not show the peaks.",
    caption=(
        "Mode strengths of one trajectory (lines) and the noise along each mode (shaded, each scaled to "
        "its largest value); share of trajectories in which every mode peaks, with intervals at 1 − 10⁻⁶ "
        "and the predicted region; time of the peak over time of learning, median and 5–95 %."
    ),
    experiment=experiment,
    draw=draw,
)
