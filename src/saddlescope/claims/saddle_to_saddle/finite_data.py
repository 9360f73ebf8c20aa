"""On a finite data set the noise comes from the fourth moments of the data; reshuffled epochs nearly cancel it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle import _rivals
from saddlescope.claims.tools import ALWAYS, Region, aligned, around, learning_times, run, same_law, smallest
from saddlescope.comparison import FALSE_ALARM
from saddlescope.data import Dataset, GaussianData
from saddlescope.init import Gaussian, Init
from saddlescope.methods import SGD, Langevin
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE, mode_sde

SAMPLES, PAIR, FOUR, RESIDUALS = 20, (2.0, 1.0), (2.0, 1.5, 1.0, 0.5), 0.5
HORIZON = {2: 10.0, 3: 32.0}
START, HALF = 0.02, SAMPLES // 2

RATES = (2.5e-3, 5e-3, 1e-2)
"""Learning rates at which t = 1 is a whole number of epochs of 20 steps."""

SILENT: Region = (0.0, 0.1)
"""Ratio of variances that counts as nearly noiseless."""

POWER: Region = (1.5, 2.5)
"""The remaining variance is proportional to about η²."""

DISTANCE = "Kolmogorov distance to the mode SDE with the moments of the data"


def samples(targets: Sequence[float], residuals: float = 0.0, label_noise: float = 0.0) -> Dataset:
    """Whitened samples, ``S_xx = I``, of a linear teacher; residuals of this size are orthogonal to the inputs."""
    size, rng = len(targets), np.random.default_rng(3)
    white = np.sqrt(SAMPLES) * np.linalg.qr(rng.standard_normal((SAMPLES, 2 * size)))[0]
    inputs, rest = white[:, :size], white[:, size:]
    labels = inputs @ GaussianData.from_spectrum(targets, size, size).teacher.T + residuals * rest
    return Dataset(inputs, labels, label_noise)


def gaussian(mode: ModeSDE) -> ModeSDE:
    """The mode with the moments of Gaussian data of the same covariance, teacher and residuals."""
    return ModeSDE(mode.depth, mode.fixed_point, RESIDUALS, temperature=mode.temperature)


def experiment(quick: bool) -> Evidence:
    """Peaks from small weights, distributions of aligned modes, and the effect of the sampling scheme on the noise."""
    size = 400 if quick else 2048
    small = {depth: _small(depth, size, 0.0) for depth in HORIZON}
    loud = _small(2, size // 4, 1.5)
    laws = {depth: _laws(depth, 32_768 if quick else 262_144) for depth in (2, 3)}
    steps, times, runs = _sampling(2048 if quick else 32_768)
    orders, order_runs = _orders(4096 if quick else 32_768)
    in_time = [sample for found in laws.values() for sample in found["samples"]]
    return Evidence(
        numbers=[
            Number(
                "fraction of trajectories in which every mode peaks, worst depth",
                smallest(_all_modes(peaked(dataset)) for dataset in small.values()),
                ALWAYS,
            ),
            _rivals.judged(DISTANCE, in_time, quick),
            Number(
                "no residuals: fraction of trajectories in which every mode ends within 1 % of s*",
                smallest(_all_modes(_ended(dataset)) for dataset in small.values()),
                ALWAYS,
            ),
            _without(steps, quick),
            Number(
                "variance of the learning time, reshuffled epochs / with replacement, B = 1",
                _ratio(times["shuffle"], times["replacement"]),
                SILENT,
            ),
            Number(
                "variance of log s after whole epochs, reshuffled / with replacement: exponent of η",
                _power(orders["shuffle"], orders["replacement"]),
                POWER,
                moved=True,
            ),
        ],
        controls=[
            *([] if quick else [_not_gaussian(laws)]),
            Number(
                "fraction in which every mode peaks under fresh label noise δ = 1.5", _all_modes(peaked(loud)), ALWAYS
            ),
            *_sampling_controls(steps, times, orders, quick),
        ],
        runs=[
            *(Run.of(f"SGD from small weights, L = {depth}", dataset) for depth, dataset in small.items()),
            Run.of("SGD from small weights, L = 2, δ = 1.5", loud),
            *(found["run"] for found in laws.values()),
            *runs,
            *order_runs,
        ],
        curves={"path": small[3], "law": laws[2], "times": times},
        rivals=_wrong(laws, steps, quick),
    )


def _without(steps: dict[str, Floats], quick: bool) -> Number:
    predicted = (SAMPLES - HALF) / (SAMPLES - 1)
    return Number(
        "variance of a step without replacement / with, B = n/2",
        _ratio(steps["without"], steps["replacement"]),
        around(predicted, 0.08 if quick else 0.02),
    )


def _sampling_controls(
    steps: dict[str, Floats], times: dict[str, Floats], orders: dict[str, list[Floats]], quick: bool
) -> list[Number]:
    return [
        Number(
            "variance of a step with replacement, another seed / with",
            _ratio(steps["again"], steps["replacement"]),
            _without(steps, quick).region,
        ),
        Number(
            "variance of the learning time without replacement / with, B = 1",
            _ratio(times["without"], times["replacement"]),
            SILENT,
        ),
        Number(
            "variance of log s after whole epochs, without replacement / with: exponent of η",
            _power(orders["without"], orders["replacement"]),
            POWER,
        ),
    ]


def _wrong(laws: dict[int, dict[str, Any]], steps: dict[str, Floats], quick: bool) -> list[Rival]:
    """The rival theories."""
    in_time = [sample for found in laws.values() for sample in found["samples"]]
    ended = [found["samples"][1] for found in laws.values()]
    without = _without(steps, quick)
    found = _rivals.rivals(DISTANCE, in_time, quick, _rivals.temperatures(quick) | {"Gaussian moments": gaussian})
    if not quick:
        found += _rivals.rivals(DISTANCE, ended, quick, _rivals.neighbours(quick))
        found.append(
            Rival("(n − B)/n of the variance without replacement", [replace(without, region=around(0.5, 0.02))])
        )
    return [*found, Rival("no change without replacement", [replace(without, region=around(1.0, 0.05))])]


def _not_gaussian(laws: dict[int, dict[str, Any]]) -> Number:
    """The smallest distance of Gaussian moments from a mode at the end."""
    ends = [found["samples"][at] for found in laws.values() for at in (1, 3)]
    name = "Kolmogorov distance to the mode SDE with Gaussian moments at t = 5, nearest mode and depth"
    return Number(name, smallest(_rivals.distances(ends, gaussian)), same_law(False))


# --- small weights


def _problem(data: Dataset, depth: int, width: int, start: Init) -> Problem:
    return Problem(DeepLinear((data.dim_in, *[width] * (depth - 1), data.dim_out)), data, start)


def _small(depth: int, trajectories: int, label_noise: float) -> xr.Dataset:
    """SGD on noiseless labels from Gaussian weights of variance width⁻², long enough to learn every mode."""
    method = SGD(lr=8e-3, batch_size=4)
    plan = Plan(
        steps=round(HORIZON[depth] / method.lr), trajectories=trajectories, saves=60 * depth, keep="trajectories"
    )
    return run(_problem(samples(FOUR, 0.0, label_noise), depth, 10, Gaussian(gamma=2.0)), method, plan)


def peaked(dataset: xr.Dataset) -> np.ndarray:
    """Whether the noise of a mode had fallen by 10 % from its maximum when it was learned, at 0.9 s*.

    From the saves alone (trajectory, mode).
    """
    strength, noise = dataset["mode_strength"].values, dataset["mode_noise"].values
    learned = strength >= 0.9 * dataset["target"].values
    first = learned.argmax(axis=1)[:, None]
    before = np.where(np.arange(noise.shape[1])[:, None] <= first, noise, 0.0)
    fallen = np.take_along_axis(noise, first, axis=1)[:, 0] < 0.9 * before.max(axis=1)
    return np.asarray(fallen & learned.any(axis=1))


def _ended(dataset: xr.Dataset) -> np.ndarray:
    return np.asarray(np.abs(dataset["mode_strength"].values[:, -1] / dataset["target"].values - 1) < 0.01)


def _all_modes(modes: np.ndarray) -> Interval:
    """Fraction of trajectories in which this holds for every mode."""
    return intervals.proportion(modes.all(axis=1))


# --- distributions


def _laws(depth: int, trajectories: int) -> dict[str, Any]:
    """Each mode when half learned and long after, with its SDE."""
    data, method = samples(PAIR, RESIDUALS), Langevin(lr=0.02, batch_size=1.0, noise="aligned", dt=0.005)
    problem = _problem(data, depth, 2, aligned(depth, START))
    modes = [mode_sde(problem, method, mode) for mode in range(len(PAIR))]
    half = [round(float(mode.passage(START, 0.5 * mode.fixed_point)[0]) / method.time_step) for mode in modes]
    saves = (*half, round(5 / method.time_step))
    dataset = run(problem, method, Plan(saves[-1], trajectories, save_at=saves, keep="trajectories"))
    time = [save * method.time_step for save in saves]
    found: list[_rivals.Sample] = [
        (dataset["mode_strength"].values[:, place, mode], sde, _rivals.at_time(START, (time[mode], time[-1]), which))
        for mode, sde in enumerate(modes)
        for which, place in ((0, mode), (1, -1))
    ]
    return {
        "run": Run.of(f"Langevin on the data set, aligned noise, L = {depth}", dataset),
        "samples": found,
        "end": found[3][0],
        "laws": (modes[1], gaussian(modes[1])),
    }


# --- sampling schemes


def _sampling(trajectories: int) -> tuple[dict[str, Floats], dict[str, Floats], list[Run]]:
    """The strongest mode after one step from s = ½ s*, B = n/2, and the time at which it is half learned, B = 1."""
    data = samples(PAIR, RESIDUALS)
    steps, times, runs = {}, {}, []
    ways: tuple[tuple[str, Literal["replacement", "without", "shuffle"], int], ...] = (
        ("replacement", "replacement", 0),
        ("again", "replacement", 1),
        ("without", "without", 0),
        ("shuffle", "shuffle", 0),
    )
    for name, sampling, seed in ways:
        half = _problem(data, 2, 2, aligned(2, 0.5 * PAIR[0]))
        plan = Plan(steps=1, trajectories=8 * trajectories, seed=seed, keep="trajectories")
        one = run(half, SGD(lr=5e-3, batch_size=HALF, sampling=sampling), plan)
        steps[name] = one["mode_strength"].values[:, -1, 0]
        plan = Plan(steps=500, trajectories=trajectories, seed=seed, saves=1)
        many = run(_problem(data, 2, 2, aligned(2, START)), SGD(lr=5e-3, batch_size=1, sampling=sampling), plan)
        times[name] = learning_times(many)[:, 0]
        runs += [Run.of(f"one step, {name}", one), Run.of(f"learning time, {name}", many)]
    return steps, times, runs


def _orders(trajectories: int) -> tuple[dict[str, list[Floats]], list[Run]]:
    """log s of the strongest mode at t = 1, after whole epochs, for each learning rate and sampling scheme, B = 1."""
    data, found, runs = samples(PAIR, RESIDUALS), {}, []
    ways: tuple[Literal["replacement", "without", "shuffle"], ...] = ("replacement", "without", "shuffle")
    for sampling in ways:
        found[str(sampling)] = list[Floats]()
        for seed, rate in enumerate(RATES):
            plan = Plan(steps=round(1 / rate), trajectories=trajectories, seed=seed, keep="trajectories")
            dataset = run(_problem(data, 2, 2, aligned(2, START)), SGD(lr=rate, batch_size=1, sampling=sampling), plan)
            found[str(sampling)].append(np.log(dataset["mode_strength"].values[:, -1, 0]))
            runs.append(Run.of(f"whole epochs, {sampling}, η = {rate:g}", dataset))
    return found, runs


def _power(above: Sequence[Floats], below: Sequence[Floats]) -> Interval:
    """Exponent of η in the ratio of variances, from the first and the last learning rate."""
    first, last = (_ratio(above[at], below[at]) for at in (0, -1))
    span = np.log(RATES[-1] / RATES[0])
    return Interval(
        np.log(last.value / first.value) / span,
        np.log(last.low / first.high) / span,
        np.log(last.high / first.low) / span,
        first.miss + last.miss,
    )


def _ratio(above: Floats, below: Floats) -> Interval:
    """Ratio of two variances."""
    miss = FALSE_ALARM / 2
    over, under = (intervals.mean((values - values.mean()) ** 2, miss) for values in (above, below))
    return intervals.ratio(over, under)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """One trajectory on the data set, the final distribution, learning times of three sampling schemes."""
    path, law, times = (evidence.curves[name] for name in ("path", "law", "times"))
    trajectory, end, learned = axes
    for mode, (colour, target) in enumerate(zip(plots.COLOURS, FOUR, strict=False)):
        one = path.isel(trajectory=0, mode=mode)
        noise = one["mode_noise"]
        trajectory.plot(one["time"], one["mode_strength"], color=colour, label=f"s* = {target:g}")
        trajectory.fill_between(one["time"], 0, noise / noise.max() * target / 2, color=colour, alpha=0.25, lw=0)
    trajectory.set(title="SGD on 20 samples, L = 3", xlabel="time", ylabel="uᵀPv  (shaded: noise, scaled)")
    trajectory.set(xlim=(0, 12), ylim=(-0.1, 2.9))
    trajectory.legend(ncols=2, loc="upper left")
    s = np.linspace(0.75, 1.25, 300)
    own, white = law["laws"]
    end.hist(law["end"], list(np.linspace(0.75, 1.25, 61)), density=True, color=plots.LIGHT, label="network")
    end.plot(s, own.stationary().pdf(s), color=plots.COLOURS[0], label="moments of the data")
    end.plot(s, white.stationary().pdf(s), color=plots.COLOURS[1], ls="--", label="Gaussian moments")
    end.set(title="Stationary density, L = 2, s* = 1", xlabel="s", ylabel="density")
    end.set_ylim(0, 1.45 * float(own.stationary().pdf(s).max()))
    end.legend(loc="upper left")
    labels = {"replacement": "with replacement", "without": "without, fresh", "shuffle": "reshuffled epochs"}
    for (name, label), colour, style in zip(labels.items(), plots.COLOURS, ("-", ":", "-"), strict=False):
        ordered = np.sort(times[name])
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        learned.plot(ordered, share, color=colour, ls=style, label=label)
    learned.set(
        title="Strongest mode, B = 1", xlabel="time at which s = ½ s*", ylabel="fraction of trajectories learned"
    )
    learned.set(xlim=np.quantile(times["replacement"], (0.002, 0.998)), ylim=(-0.02, 1.02))
    learned.legend(loc="lower right")


CLAIM = Claim(
    name="finite-data",
    title="On a data set the picture holds, with the noise of the data's fourth moments",
    statement=(
        "On n given samples SGD keeps the saddle-to-saddle picture: the noise peaks before every mode is learned, and "
        "without residuals every mode ends at s*. An aligned mode follows the mode SDE with g = α₁s² − 2α₂s + α₃, "
        "where α₁ = Var[x²], α₂ = Cov[x², xy], α₃ = Var[xy] over the samples, not the moments of a Gaussian with the "
        "same covariance; residuals of the least-squares fit act like label noise. Batches drawn without replacement "
        "have (n − B)/(n − 1) of this noise. Over reshuffled epochs (B = 1) the noise cancels to leading order: after "
        "whole epochs, the variance of log s relative to that with replacement decreases with about the square of η, "
        "so T = η/B is not a temperature there."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366 (whitened n = 20); the moments and the sampling schemes are this "
        "project's"
    ),
    method=(
        "20 whitened samples of a linear teacher. Peaks and end points: SGD (η = 0.008, B = 4, with replacement) on "
        "noiseless labels, networks 4 → 10 → … → 4 of depth 2 and 3, weights of variance width⁻², modes 2, 1.5, 1, "
        "0.5; closed-form noise at the saves. Distributions: residuals of standard deviation 0.5, modes 2 and 1, "
        "Langevin with aligned noise, T = 0.02, L = 2 and 3, when half learned and at t = 5, by the Kolmogorov "
        "distance to the solution of the Fokker–Planck equation. Sampling: strongest mode, L = 2, variance over "
        "trajectories of one step (B = 10), of its learning time (η = 0.005, B = 1) and of log s at t = 1, at η = "
        "0.0025, 0.005 and 0.01; the exponent comes from the first and the last. Its region was set after a first "
        "look."
    ),
    control=(
        "Gaussian moments of the same covariance, teacher and residuals must not fit any mode at t = 5 (full runs); "
        "fresh label noise of 1.5 must remove the peaks; a different seed must not look like a different sampling "
        "scheme, and fresh batches without replacement at B = 1 must neither be nearly noiseless nor decrease with η."
    ),
    caption=(
        "One trajectory of SGD on 20 samples (noise shaded, each mode scaled to its largest value); strengths of the "
        "weaker mode at t = 5 against the stationary distributions; learning times of the strongest mode by sampling "
        "scheme."
    ),
    why=(
        "On a given data set the noise depends on the fourth moments of the samples and on how batches are drawn, so "
        "η/B alone does not describe it. Reshuffled epochs, the usual choice in training code, cancel most of the "
        "noise: formulas for batches drawn with replacement overestimate it."
    ),
    equations=(
        r"g(s) = \alpha_1 s^2 - 2 \alpha_2 s + \alpha_3",
        r"\alpha_1 = \operatorname{Var}[x^2], \qquad \alpha_2 = \operatorname{Cov}[x^2, xy], \qquad \alpha_3 = "
        r"\operatorname{Var}[xy]",
        r"C_{\text{without}} = \frac{n - B}{n - 1}\, C_{\text{with}}",
        r"\frac{\operatorname{Var}_{\text{epochs}}[\log s]}{\operatorname{Var}_{\text{with}}[\log s]} \propto \eta^2",
    ),
    proved=(
        "The covariance of a batch drawn with or without replacement is exact. The mode SDE with the moments of the "
        "samples is exact for Langevin dynamics with aligned noise if the inputs are white on the samples."
    ),
    unknown=(
        "The power of η over reshuffled epochs is measured for B = 1 between η = 0.0025 and 0.01, not derived; other "
        "batch sizes are not tested. All runs use 20 whitened samples; for Gaussian samples the moments tend to "
        "Gaussian ones as n grows."
    ),
    related=("mode-sde", "coloured-inputs", "label-noise", "plateaus"),
    experiment=experiment,
    draw=draw,
)
