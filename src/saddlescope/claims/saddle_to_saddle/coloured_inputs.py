"""Coloured inputs: a variance λ rescales time, temperature and label noise; rotated inputs change the plateaus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.linalg import expm

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle import _rivals
from saddlescope.claims.saddle_to_saddle.plateaus import log_pivots
from saddlescope.claims.tools import (
    ALWAYS,
    aligned,
    around,
    largest,
    learning_times,
    power,
    run,
    same_law,
    smallest,
)
from saddlescope.data import GaussianData
from saddlescope.init import Gaussian, Init
from saddlescope.methods import SGD, Langevin
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import parts
from saddlescope.theory import ModeSDE, mode_sde

FOUR, VARIANCES = (2.0, 1.5, 1.0, 0.5), (0.25, 0.5, 1.2, 4.0)
"""Targets s* and input variances λ along the modes: λs* orders the modes in reverse."""

PAIR, UNEQUAL, LABEL_NOISE, TURN = (2.0, 1.0), (0.25, 3.0), 0.3, 0.3
START, DEPTHS = 0.02, (2, 3)

NEAR: Region = around(0.0, 0.005)
"""Strength at the peak minus its prediction, in s*."""

GROWN: Region = around(1.0, 0.005)
"""Growth over its prediction."""

DISTANCE = "Kolmogorov distance to the mode SDE with λ in time, temperature and label noise"
PEAK = "strength at the peak minus prediction with σ/√λ, in s*"
RATE = "rotated inputs: growth on the first plateau / singular values of MΣ, worst mode"


def coloured(targets: Sequence[float], variances: Sequence[float], turn: float = 0.0) -> GaussianData:
    """A teacher with these strengths; inputs with these variances along its modes, rotated by an angle ``turn``."""
    size = len(targets)
    white = GaussianData.from_spectrum(targets, size, size)
    matrix = np.random.default_rng(5).standard_normal((size, size))
    generator = (matrix - matrix.T) / np.linalg.norm(matrix - matrix.T, 2)
    axes = white.modes.right @ expm(turn * generator)
    covariance = (axes * np.array(variances)) @ axes.T
    return GaussianData(white.teacher, (covariance + covariance.T) / 2, LABEL_NOISE, white.left, white.right)


def experiment(quick: bool) -> Evidence:
    """Order of learning, distributions and peaks of aligned modes, growth on the first plateau with rotated inputs."""
    size = 512 if quick else 4096
    order, rotated = (_small(turn, size) for turn in (0.0, TURN))
    laws = {depth: _laws(depth, 32_768 if quick else 262_144, size) for depth in DEPTHS}
    growth = _growth(size)
    in_time = [sample for found in laws.values() for sample in found["samples"]]
    all_peak = smallest(_peaks(dataset) for dataset in (order, rotated))
    return Evidence(
        numbers=[
            Number(
                "fraction of trajectories that learn in the order of λs*", _in_order(order, np.arange(4)[::-1]), ALWAYS
            ),
            _rivals.judged(DISTANCE, in_time, quick),
            _peak_at(laws, -0.5),
            Number(
                "fraction in which every mode peaks, inputs along the modes and rotated, worst case", all_peak, ALWAYS
            ),
            replace(_grows(growth), catches=power(lambda factor: _grows(growth, factor), "MΣ")),
        ],
        controls=_controls(order, laws, growth, quick),
        runs=[
            Run.of("SGD from small weights, inputs along the modes", order),
            Run.of("SGD from small weights, inputs rotated", rotated),
            *(run for found in laws.values() for run in found["runs"]),
            growth["run"],
        ],
        curves={"order": order, "law": in_time[0], "growth": growth},
        rivals=_wrong(laws, growth, quick),
    )


def _controls(order: xr.Dataset, laws: dict[int, dict[str, Any]], growth: dict[str, Any], quick: bool) -> list[Number]:
    in_time = [sample for found in laws.values() for sample in found["samples"]]
    return [
        Number("fraction of trajectories that learn in the order of s*", _in_order(order, np.arange(4)), ALWAYS),
        Number(
            "Kolmogorov distance to the white mode SDE in time λt, nearest",
            smallest(_rivals.distances(in_time, _white(1.0, 0.0, 0.0))),
            same_law(quick),
        ),
        Number("strength at the peak minus prediction with σ, in s*, nearest", smallest(_departures(laws, 0.0)), NEAR),
        Number(
            "rotated inputs: growth / entries of MΣ along the modes of M, nearest mode except the strongest",
            smallest(growth["own"][1:], 1.0),
            GROWN,
        ),
    ]


def _wrong(laws: dict[int, dict[str, Any]], growth: dict[str, Any], quick: bool) -> list[Rival]:
    """The rival theories."""
    in_time = [sample for found in laws.values() for sample in found["samples"]]
    white = Number(DISTANCE, largest(_rivals.distances(in_time, _white(1.0, 1.0, 0.0))), same_law(quick))
    return [
        *_rivals.rivals(DISTANCE, in_time, quick, _rivals.temperatures(quick) | PARTIAL),
        Rival("λ in time and temperature, not in the label noise: distribution and peak", [white, _peak_at(laws, 0.0)]),
        Rival("peak of the label noise σ√λ", [_peak_at(laws, 0.5)]),
        Rival("peak of the label noise σ/λ", [_peak_at(laws, -1.0)]),
        Rival("growth along the modes of M", [Number(RATE, largest(growth["own"], 1.0), GROWN)]),
    ]


def _departures(laws: dict[int, dict[str, Any]], exponent: float) -> list[Interval]:
    """Strengths at the peak minus the prediction with label noise σλ^exponent, every mode and depth."""
    return [
        _departure(found["peaks"], mode, variance**exponent)
        for found in laws.values()
        for mode, variance in enumerate(UNEQUAL)
    ]


def _peak_at(laws: dict[int, dict[str, Any]], exponent: float) -> Number:
    return Number(PEAK, largest(_departures(laws, exponent)), NEAR)


def _grows(growth: dict[str, Any], factor: float = 1.0) -> Number:
    return Number(RATE, largest((found / factor for found in growth["ratio"]), 1.0), GROWN)


def _white(time: float, temperature: float, noise: float) -> _rivals.Change:
    """The white mode SDE in time λ^time t, at temperature λ^temperature T, with label noise σ/λ^noise."""

    def changed(mode: ModeSDE) -> ModeSDE:
        variance, hot = mode.beta1, mode.beta1 ** (temperature + time)
        plain = ModeSDE(mode.depth, mode.fixed_point, LABEL_NOISE / variance**noise, temperature=1.0)
        moments = (plain.alpha1, plain.alpha2, plain.alpha3)
        pull = variance**time  # time ct multiplies the pull by c and the noise T g by c
        a1, a2, a3 = (float(moment * hot) for moment in moments)
        return ModeSDE(mode.depth, moments=(a1, a2, a3, pull, pull * mode.fixed_point), temperature=mode.temperature)

    return changed


PARTIAL: dict[str, _rivals.Change] = {
    "the white mode SDE": _white(0.0, 0.0, 0.0),
    "λ in time alone": _white(1.0, 0.0, 0.0),
    "λ in time and label noise": _white(1.0, 0.0, 0.5),
}
"""Theories with λ in only some of the three places."""


def _problem(data: GaussianData, depth: int, width: int, start: Init) -> Problem:
    return Problem(DeepLinear((data.dim_in, *[width] * (depth - 1), data.dim_out)), data, start)


# --- order of learning


def _small(turn: float, trajectories: int) -> xr.Dataset:
    """SGD from small weights until the slowest mode is learned."""
    method = SGD(lr=4e-3, batch_size=2)
    plan = Plan(
        steps=round(24 / method.lr), trajectories=trajectories, saves=120, events=("learning_time", "noise_peak")
    )
    return run(_problem(coloured(FOUR, VARIANCES, turn), 2, 8, Gaussian(scale=0.01)), method, plan)


def _in_order(dataset: xr.Dataset, modes: np.ndarray) -> Interval:
    return intervals.proportion((learning_times(dataset).argsort(axis=1) == modes).all(axis=1))


def _peaks(dataset: xr.Dataset) -> Interval:
    return intervals.proportion(np.isfinite(dataset["noise_peak_strength"].values).all(axis=1))


# --- distributions and peaks of aligned modes


def _laws(depth: int, trajectories: int, peaking: int) -> dict[str, Any]:
    """Each mode when half learned, and a run that records the strength at its noise peak."""
    problem = _problem(coloured(PAIR, UNEQUAL), depth, 2, aligned(depth, START))
    langevin, sgd = Langevin(lr=0.01, batch_size=1.0, noise="aligned", dt=2.5e-3), SGD(lr=4e-3, batch_size=16)
    modes = [mode_sde(problem, langevin, mode) for mode in range(len(PAIR))]
    half = [round(float(mode.passage(START, 0.5 * mode.fixed_point)[0]) / langevin.time_step) for mode in modes]
    saves = tuple(sorted(half))
    dataset = run(
        problem, langevin, Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="trajectories")
    )
    steps = round(2.5 * half[0] * langevin.time_step / sgd.lr)
    plan = Plan(steps=steps, trajectories=peaking, saves=1, events=("learning_time", "noise_peak"))
    peaks = run(problem, sgd, plan)
    samples: list[_rivals.Sample] = [
        (
            dataset["mode_strength"].values[:, saves.index(save), mode],
            sde,
            _rivals.at_time(START, (save * langevin.time_step,)),
        )
        for mode, (sde, save) in enumerate(zip(modes, half, strict=True))
    ]
    return {
        "samples": samples,
        "peaks": peaks,
        "runs": [Run.of(f"Langevin, L = {depth}", dataset), Run.of(f"SGD, L = {depth}", peaks)],
    }


def _departure(dataset: xr.Dataset, mode: int, factor: float) -> Interval:
    """Median strength at the noise peak minus that predicted with ``factor`` σ, in s*; ∞ if none is predicted."""
    theory = ModeSDE(parts(dataset)[0].network.depth, PAIR[mode], factor * LABEL_NOISE, temperature=1.0)
    predicted, found = theory.noise_peak("product"), dataset["noise_peak_strength"].values[:, mode]
    if predicted is None:
        return intervals.exact(np.inf)
    if not np.isfinite(found).any():
        return intervals.exact(np.nan)
    return intervals.median((found[np.isfinite(found)] - predicted) / PAIR[mode])


# --- the first plateau with rotated inputs


def _growth(trajectories: int) -> dict[str, Any]:
    """Growth of the pivots of P in the singular vectors of MΣ, over ``2μ − ημ²``, that of strength μ under GD."""
    data, method, when = coloured(FOUR, VARIANCES, TURN), SGD(lr=5e-3, batch_size=64), (1.0, 9.0)
    problem = _problem(data, 2, 4, aligned(2, 1e-20))
    saves = tuple(round(time / method.lr) for time in when)
    plan = Plan(steps=saves[-1], trajectories=trajectories, save_at=saves, keep="weights")
    dataset = run(problem, method, plan)
    pull, modes = data.teacher @ data.sigma, data.modes
    left, values, right = np.linalg.svd(pull)
    own = np.diag(modes.left.T @ pull @ modes.right)
    maps = left.T @ (dataset["W2"].values @ dataset["W1"].values) @ right.T
    rate = np.diff(log_pivots(maps), axis=1)[:, 0] / (when[1] - when[0])

    def over(strengths: Floats) -> list[Interval]:
        return [intervals.mean(mode) for mode in (rate / (2 * strengths - method.lr * strengths**2)).T]

    return {
        "run": Run.of("first plateau, inputs rotated", dataset),
        "ratio": over(values),
        "own": over(np.sort(own)[::-1]),
        "rate": [intervals.mean(mode) for mode in rate.T],
        "predicted": 2 * values,
        "along": 2 * np.sort(own)[::-1],
    }


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Modes learned in the order of λs*, the distribution of one mode, growth with rotated inputs."""
    order, law, growth = (evidence.curves[name] for name in ("order", "law", "growth"))
    plateaus, half, rates = axes
    for mode, (colour, target, variance) in enumerate(zip(plots.COLOURS, FOUR, VARIANCES, strict=False)):
        plots.spread(plateaus, order["mode_strength"].isel(mode=mode), colour, f"{target:g}, {variance:g}")
    plateaus.set(title="Learned in the order of λs*", xlabel="time", ylabel="uᵀPv", xlim=(0, 16), ylim=(-0.05, 3.1))
    plateaus.legend(title="s*, λ", loc="upper left", ncols=2, alignment="left")
    shares, (sample, mode, at) = np.linspace(0.001, 0.999, 300), law
    half.plot(at(mode).ppf(shares), shares, color=plots.COLOURS[0], lw=4, alpha=0.3, label="mode SDE")
    alone = at(PARTIAL["λ in time alone"](mode)).ppf(shares)
    half.plot(alone, shares, color=plots.COLOURS[1], lw=1.5, ls="--", label="λ in time alone")
    half.plot(np.quantile(sample, shares), shares, color=plots.INK, lw=1, label="network")
    half.set(title="Half learned: s* = 2, λ = 0.25, L = 2", xlabel="uᵀPv", ylabel="fraction below", ylim=(0, 1.02))
    half.legend(loc="upper left")
    places = np.arange(len(FOUR))
    rates.bar(places - 0.2, growth["predicted"], 0.4, color="#9db8cc", label="singular values of MΣ")
    rates.bar(places + 0.2, growth["along"], 0.4, color=plots.LIGHT, label="MΣ along the modes of M")
    for place, seen in enumerate(growth["rate"]):
        plots.interval(rates, place - 0.2, seen, color=plots.COLOURS[1], label=None if place else "SGD")
    rates.set(
        title="First plateau, inputs rotated", xlabel="fastest to slowest", ylabel="growth rate, twice the strength"
    )
    rates.set_xticks(places, [str(place + 1) for place in places])
    rates.legend(loc="upper right")


CLAIM = Claim(
    name="coloured-inputs",
    title="With coloured inputs the modes are learned in the order of λs*, each at its own temperature",
    statement=(
        "If inputs have variance λ along a mode, that mode follows the mode SDE in time λt, at temperature λT and with "
        "label noise σ/√λ. Modes are therefore learned in the order of λs*, not of s*, and the noise peaks at the "
        "strength that σ/√λ predicts. If the inputs are not aligned with the teacher, the plateaus change: on the "
        "first one the map grows along the singular vectors of MΣ, at twice its singular values; the noise still peaks "
        "before every mode of M is learned."
    ),
    source="Corlouer et al. 2026, arXiv 2604.06366 (white inputs); coloured inputs are this project's extension",
    method=(
        "Order and peaks: SGD (η = 0.004, B = 2), network 4 → 8 → 4 from Gaussian weights of standard deviation 0.01, "
        "modes 2, 1.5, 1, 0.5 with input variances 0.25, 0.5, 1.2, 4, σ = 0.3, with the variances along the modes or "
        "along modes rotated by 0.3. Distributions: Langevin with aligned noise, T = 0.01, L = 2 and 3, modes 2 and 1 "
        "with variances 0.25 and 3, each when half learned, by the Kolmogorov distance to the solution of the "
        "Fokker–Planck equation; strength at the peak of the closed-form noise of the weights: SGD (η = 0.004, B = "
        "16), median. Growth: SGD (η = 0.005, B = 64), L = 2, rotated inputs, from weights aligned with M at s₀ = "
        "10⁻²⁰ between t = 1 and t = 9, as growth of the pivots of P in the singular vectors of MΣ, divided by 2μ − "
        "ημ²."
    ),
    control=(
        "The modes must not be learned in the order of s*, the white SDE in time λt must fit neither a mode nor its "
        "noise peak, and the growth must not follow MΣ along the modes of M. At this label noise the distribution "
        "alone does not distinguish σ/√λ from σ; the strength at the peak does."
    ),
    caption=(
        "Mean strengths under SGD with 5–95 % of trajectories; strength of the slower mode when it is half learned by "
        "the SDE; growth rates on the first plateau with rotated inputs, SGD against twice the singular values of MΣ."
    ),
    why=(
        "Inputs are rarely white: the variance of the input along a feature decides how early it is learned and how "
        "much minibatch and label noise it feels. Whitening or rescaling inputs therefore changes the order in which "
        "features are learned and the noise of each."
    ),
    equations=(
        r"t \to \lambda t, \qquad T \to \lambda T, \qquad \sigma \to \frac{\sigma}{\sqrt{\lambda}}",
        r"s_{\mathrm{peak}} = s^* - \frac{s^* + \sqrt{s^{*2} - 4\kappa(2\kappa + 1)\sigma^2/\lambda}}{2(2\kappa + "
        r"1)}",
        r"\frac{d \log s_\mu}{dt} = 2 \mu - \eta \mu^2, \qquad \mu \text{ a singular value of } M \Sigma \quad (L = 2)",
    ),
    proved=(
        "The rescaling is exact for Langevin dynamics with aligned noise if the input covariance is diagonal in the "
        "modes of the teacher; it is derived in this project, while the source treats white inputs. The growth with "
        "rotated inputs is the linear approximation at small weights for two layers."
    ),
    unknown=(
        "With rotated inputs only the first plateau has a prediction; what follows once a mode is learned has no "
        "closed formula. Tested with four modes, one rotation and depths 2 and 3."
    ),
    related=("plateaus", "finite-data", "mode-sde", "noise-peak"),
    experiment=experiment,
    draw=draw,
)
