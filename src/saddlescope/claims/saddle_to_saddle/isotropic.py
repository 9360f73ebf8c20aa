"""Isotropic noise of the same trace paints another picture than gradient noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import OTHER_LAW, Floats, learning_times, network, run
from saddlescope.init import Gaussian
from saddlescope.methods import Langevin
from saddlescope.plan import Plan

TARGETS = (2.0, 1.5, 1.0, 0.5)
TEMPERATURE, STEP, HORIZON = 0.01, 0.01, 20.0


def experiment(quick: bool) -> Evidence:
    """Langevin runs of one temperature with gradient noise (twice) and isotropic noise (once)."""
    size = 8192 if quick else 16_384
    gradient, again = (_run("gradient", seed, size) for seed in (1, 2))
    isotropic = _run("isotropic", 3, size)
    return Evidence(
        numbers=[
            *(Number(f"CDF difference of {name}", found, OTHER_LAW) for name, found in _apart(gradient, isotropic)),
            *(Number(f"isotropic / gradient: median {name}", found) for name, found in _ratios(gradient, isotropic)),
        ],
        controls=[
            Number(f"two runs of gradient noise: CDF difference of {name}", found, OTHER_LAW)
            for name, found in _apart(gradient, again)
        ],
        runs=[
            Run.of("gradient noise", gradient),
            Run.of("gradient noise, other seed", again),
            Run.of("isotropic noise of the same trace", isotropic),
        ],
        curves={"gradient": gradient, "isotropic": isotropic},
    )


def _run(noise: Literal["gradient", "isotropic"], seed: int, trajectories: int) -> xr.Dataset:
    method = Langevin(lr=TEMPERATURE, batch_size=1.0, noise=noise, dt=STEP)
    plan = Plan(steps=round(HORIZON / STEP), trajectories=trajectories, saves=40, seed=seed, keep="trajectories")
    return run(network(2, 8, TARGETS, Gaussian(scale=0.05), 0.5), method, plan)


def _samples(dataset: xr.Dataset) -> dict[str, Floats]:
    """What is compared, one number a trajectory."""
    last = dataset.isel(time=-1)
    return {
        "the excess loss at the end": last["excess_loss"].values,
        "the imbalance at the end": last["imbalance"].isel(interface=0).values,
        "the time at which the weakest mode is learned": learning_times(dataset)[:, -1],
    }


def _apart(one: xr.Dataset, other: xr.Dataset) -> list[tuple[str, Interval]]:
    first, second = _samples(one), _samples(other)
    return [(name, intervals.distance_between(first[name], second[name])) for name in first]


def _ratios(gradient: xr.Dataset, isotropic: xr.Dataset) -> list[tuple[str, Interval]]:
    first, second = _samples(gradient), _samples(isotropic)
    return [
        (
            name.removeprefix("the "),
            intervals.ratio(intervals.median(second[name]), intervals.median(first[name])),
        )
        for name in first
    ]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Excess loss and imbalance over time, learning times of the weakest mode."""
    loss, imbalance, times = axes
    for kind, colour in zip(("gradient", "isotropic"), plots.COLOURS, strict=False):
        dataset: xr.Dataset = evidence.curves[kind]
        for panel, name in ((loss, "excess_loss"), (imbalance, "imbalance")):
            low, middle, high = np.quantile(
                dataset[name].values.reshape(len(dataset["trajectory"]), -1), (0.05, 0.5, 0.95), axis=0
            )
            panel.fill_between(dataset["time"], low, high, color=colour, alpha=0.2, lw=0)
            panel.plot(dataset["time"], middle, color=colour, label=f"{kind} noise")
        ordered = np.sort(learning_times(dataset)[:, -1])
        times.plot(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=colour, label=f"{kind} noise")
    loss.set(title="Loss above label noise", yscale="log", xlabel="time", ylabel="½ Tr ΔΣΔᵀ")
    loss.legend()
    imbalance.set(title="Imbalance of the layers", yscale="log", xlabel="time", ylabel="‖W₂ᵀW₂ − W₁W₁ᵀ‖")
    imbalance.legend()
    times.set(
        title="Weakest mode",
        xlabel="time at which s = ½ s*",
        ylabel="share of trajectories learned",
        xlim=(2, 8),
    )
    times.legend(loc="lower right")


CLAIM = Claim(
    name="isotropic-noise",
    title="Isotropic noise of the same trace gives another picture",
    statement=(
        "The shape of the gradient noise matters: isotropic Langevin noise with the same trace at every "
        "moment changes when modes are learned, unbalances the layers and leaves another loss."
    ),
    source="Corlouer et al. 2026, arXiv 2604.06366; the numbers are this project's",
    method=(
        "Langevin with T = 0.01, integration step 0.01, network 4 → 8 → 4 from Gaussian weights of "
        "deviation 0.05, teacher modes 2, 1.5, 1, 0.5, σ = 0.5, until t = 20. Isotropic noise has "
        "covariance (Tr C/d) I over all d weights, C the covariance of the per-sample gradient at the "
        "current weights. Laws are compared by their largest CDF difference; 0.1 is the smallest that "
        "counts."
    ),
    control="Two runs of gradient noise with different seeds must not come out as different.",
    caption=(
        "Median and 5–95 % of trajectories: loss above label noise; imbalance, which gradient noise nearly "
        "keeps; share of trajectories that have learned the weakest mode."
    ),
    experiment=experiment,
    draw=draw,
)
