"""From small random weights, neither aligned nor balanced, the noise still peaks before every mode is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle.depths import limit
from saddlescope.claims.tools import ALWAYS, largest, learning_times, network, power, run, smallest
from saddlescope.comparison import FALSE_ALARM
from saddlescope.init import Gaussian
from saddlescope.methods import SGD
from saddlescope.plan import Plan
from saddlescope.runs.run import parts

TARGETS, WIDTH = (2.0, 1.5, 1.0, 0.5), 10
WEAKEST = TARGETS[-1]
HORIZON = {2: 10.0, 3: 32.0, 4: 70.0}
COARSE = (0.0, 0.9, 1.0, 1.1, 1.2)
FINE = (0.0, 0.9, 1.0, 1.02, 1.04, 1.06, 1.08, 1.1, 1.2)
"""Label noise over the largest at which an aligned weakest mode has a peak that counts."""

AT_THE_LIMIT: Region = (1.0, 1.1)
"""Where half of the trajectories peak in every mode, in these units: small weights are only nearly aligned."""


def experiment(quick: bool) -> Evidence:
    """SGD from Gaussian weights of variance width⁻², label noise below and above the limit of the weakest mode."""
    sweep = COARSE if quick else FINE
    runs = {
        (depth, times): _run(depth, times * boundary(depth), 768 if quick else 4096)
        for depth in HORIZON
        for times in sweep
    }
    shares = {key: intervals.proportion(_peaked(dataset).all(axis=1)) for key, dataset in runs.items()}
    half = {
        depth: half_point(sweep, [np.asarray(_peaked(runs[depth, times]).all(axis=1)) for times in sweep])
        for depth in HORIZON
    }
    name = "σ at which half of the trajectories peak in every mode / its limit, worst depth"

    def judged(scale: Mapping[int, float]) -> Number:
        return Number(name, largest((half[depth] * scale[depth] for depth in HORIZON), 1.05), AT_THE_LIMIT, moved=True)

    return Evidence(
        numbers=[
            Number(
                "fraction of trajectories in which every mode peaks, σ up to 0.9 of the limit, worst depth",
                smallest(share for (_, times), share in shares.items() if times <= 0.9),
                ALWAYS,
            ),
            replace(
                judged(dict.fromkeys(HORIZON, 1.0)),
                catches=power(lambda factor: judged(dict.fromkeys(HORIZON, 1 / factor)), "limit"),
            ),
            *(
                Number(
                    f"the same over the threshold s*/√(4κ(2κ+1)), L = {depth}", half[depth] * (boundary(depth) / end)
                )
                for depth, end in ((depth, WEAKEST * threshold(depth)) for depth in HORIZON)
            ),
            *(
                Number(f"fraction in which every mode peaks, L = {depth}, σ = {times * boundary(depth):.3g}", share)
                for (depth, times), share in shares.items()
                if times in COARSE
            ),
        ],
        controls=[
            Number(
                "fraction in which every mode peaks at 1.2 times the limit in σ, nearest depth",
                largest(share for (_, times), share in shares.items() if times == 1.2),
                ALWAYS,
            )
        ],
        runs=[
            Run.of(f"SGD, L = {depth}, σ = {times * boundary(depth):.3g}", dataset)
            for (depth, times), dataset in runs.items()
        ],
        curves={"runs": runs, "shares": shares, "path": _one_path()},
        rivals=[
            Rival("limit of depth L − 1", [judged({L: limit(L) / limit(L - 1) if L > 2 else 1.0 for L in HORIZON})]),
            Rival("limit of depth L + 1", [judged({L: limit(L) / limit(L + 1) for L in HORIZON})]),
            Rival("limit in the weight coordinate", [judged({L: 1 / in_weights(L) for L in HORIZON})]),
            Rival("limit of the next mode, s* = 1", [judged(dict.fromkeys(HORIZON, 0.5))]),
        ],
    )


def boundary(depth: int) -> float:
    """Largest label noise at which the noise along an aligned weakest mode peaks and falls by 10 %."""
    return WEAKEST * limit(depth)


def threshold(depth: int) -> float:
    """Label noise, in s*, at which the peak itself disappears.

    >>> threshold(2)
    0.5
    """
    kappa = 1 - 1 / depth
    return float(1 / np.sqrt(4 * kappa * (2 * kappa + 1)))


def in_weights(depth: int) -> float:
    """Threshold in the weight coordinate (κ/2 in place of κ) over that in the product coordinate."""
    kappa = 1 - 1 / depth
    return float(np.sqrt(2 * (2 * kappa + 1) / (kappa + 1)))


def half_point(at: Sequence[float], peaked: Sequence[NDArray[np.bool_]]) -> Interval:
    """Where a decreasing fraction crosses ½: between the last point certainly above and the first certainly below.

    >>> half_point((1.0, 2.0, 3.0), [np.ones(200, bool), np.arange(200) < 120, np.zeros(200, bool)]).high
    3.0
    """
    shares = [intervals.proportion(hits, FALSE_ALARM / len(at)) for hits in peaked]
    above = [x for x, share in zip(at, shares, strict=True) if share.low > 0.5]
    below = [x for x, share in zip(at, shares, strict=True) if share.high < 0.5]
    value = float(np.interp(-0.5, [-share.value for share in shares], at))
    return Interval(value, max(above, default=-np.inf), min(below, default=np.inf))


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
    """One trajectory for the figure."""
    plan = Plan(steps=2000, saves=400, keep="trajectories", events=("learning_time", "noise_peak"))
    return run(network(3, WIDTH, TARGETS, Gaussian(gamma=2.0), 0.1), SGD(lr=8e-3, batch_size=4), plan)


def _peaked(dataset: xr.Dataset) -> NDArray[np.bool_]:
    """Whether the noise of a mode peaked before the mode was learned (trajectory, mode)."""
    return np.isfinite(dataset["noise_peak_strength"].values)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """One trajectory with its noise, fractions of trajectories, time between peak and learning."""
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
    for depth, colour in zip(HORIZON, plots.COLOURS, strict=False):
        chosen = {times: found for (at, times), found in shares.items() if at == depth and times}
        noises = [times * boundary(depth) for times in chosen]
        share.plot(noises, [found.value for found in chosen.values()], color=colour, lw=0.8, label=f"L = {depth}")
        for noise, found in zip(noises, chosen.values(), strict=True):
            plots.interval(share, noise, found, color=colour)
        share.axvline(boundary(depth), color=colour, lw=0.8, ls=":")
    share.set(title="Every mode peaks before learning", xlabel="label noise σ", ylabel="fraction of trajectories")
    share.set_ylim(0, 1.5)
    share.legend(title="dotted: limit of the weakest mode", loc="upper left", ncols=3, alignment="left")
    for place, (depth, colour) in enumerate(zip(HORIZON, plots.COLOURS, strict=False)):
        dataset = runs[depth, 0.0]
        before = parts(dataset)[1].time(dataset["noise_peak_step"]) / learning_times(dataset, 0.9)
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
    title="The noise peaks first even without alignment or balance",
    statement=(
        "From small Gaussian weights, neither aligned with the teacher nor balanced, the noise along every mode still "
        "peaks before the mode is learned, in nearly every trajectory, as long as the label noise is below a limit: "
        "that of an aligned weakest mode. A peak that falls by 10 % before 0.9 s* exists there up to σ = 0.425, 0.342 "
        "and 0.312 times the weakest s* at L = 2, 3 and 4; the peak itself disappears at s*/√(4κ(2κ+1)). Half of the "
        "trajectories peak in every mode at a σ at most 10 % above this limit."
    ),
    source="Corlouer et al. 2026, arXiv 2604.06366; the limits in σ are computed from its formula for the noise",
    method=(
        "Discrete SGD (exact batches of 4, learning rate 0.008) on networks 4 → 10 → … → 4 of depth 2, 3 and 4, "
        "weights of variance width⁻², teacher modes 2, 1.5, 1, 0.5, label noise 0 and from 0.9 to 1.2 times the limit. "
        "The closed-form noise along each mode is computed at every step; a peak counts if the noise has fallen by 10 "
        "% when the mode reaches 0.9 s*. A mode that is not learned within the horizon counts against the claim. The σ "
        "at which half of the trajectories peak lies between the last one whose fraction is certainly above ½ and the "
        "first one whose fraction is certainly below."
    ),
    control="At 1.2 times the limit the same networks must not show all peaks, at any depth.",
    caption=(
        "Mode strengths of one trajectory (lines) and the noise along each mode (shaded, scaled to its largest value); "
        "fraction of trajectories in which every mode peaks, with intervals at 1 − 10⁻⁶, and the limit of each depth; "
        "time of the peak over learning time, median and 5–95 %."
    ),
    why=(
        "Training starts from small random weights, not from weights aligned with the data, and the noise along every "
        "feature still peaks before the feature is learned. The signal is reliable as long as label noise is below a "
        "limit that the weakest feature sets."
    ),
    equations=(
        r"D(s) \propto s^{4\kappa} \left(2 (s - s^*)^2 + \sigma^2\right), \qquad \kappa = 1 - \tfrac1L",
        r"D(0.9 s^*) = 0.9 \max_{s < 0.9 s^*} D(s) \quad \text{at the limit,} \qquad \sigma = 0.425,\ 0.342,\ "
        r"0.312\; s^* \quad (L = 2, 3, 4)",
        r"\sigma = \frac{s^*}{\sqrt{4\kappa(2\kappa + 1)}} \qquad \text{where the peak itself disappears}",
    ),
    proved=(
        "The formula for the noise, and with it the limit, is derived for an aligned, balanced mode. Without "
        "alignment or balance nothing is proved: the source reports that its results hold qualitatively in "
        "experiments, and here the fraction of trajectories is measured."
    ),
    unknown=(
        "Why half of the trajectories still peak slightly above the limit. Tested with SGD at η = 0.008, B = 4, width "
        "10 and initial variance width⁻²; larger initial weights, where features are learned together, are not "
        "tested."
    ),
    related=("noise-peak", "depths", "plateaus", "finite-data"),
    experiment=experiment,
    draw=draw,
)
