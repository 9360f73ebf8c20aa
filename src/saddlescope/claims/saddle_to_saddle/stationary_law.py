"""Where training ends: a point without label noise, the exact stationary distribution with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.saddle_to_saddle import _rivals
from saddlescope.claims.tools import (
    ALWAYS,
    aligned,
    alive,
    around,
    largest,
    network,
    power,
    run,
    same_law,
    smallest,
)
from saddlescope.init import Gaussian
from saddlescope.methods import SGD, Langevin
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE, label_noise_shift

HOT = (
    ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.3),
    ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3),
    ModeSDE(depth=4, target=1.0, label_noise=0.5, temperature=0.1),
)
"""Modes far from Boltzmann; fixed-step integration gets the second one wrong."""

ESCAPE, START = ModeSDE(depth=2, target=1.0, label_noise=0.0, temperature=2.0), 0.3
"""Without label noise and above T = 1/s*, depth 2 can end at 0."""

WARM = [ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=T) for T in (3e-3, 1e-2, 3e-2, 0.1, 0.3)]
"""One mode from nearly Boltzmann to far from it."""

END = 20.0

SHIFTED: Region = (0.0, 0.035)
"""Distance to a shifted distribution, which is right to first order in T only."""


def experiment(quick: bool) -> Evidence:
    """Final strengths of networks and mode ensembles against points, the exact distribution and Boltzmann."""
    size = 32_768 if quick else 262_144
    points, point_runs = _points(2048 if quick else 16_384)
    trained, trained_runs = _trained(size)
    ends = {mode: mode.simulate(mode.fixed_point, [END], size, seed=1)[:, 0] for mode in {*HOT, *WARM}}
    escaped = ESCAPE.simulate(START, [END], size, seed=2)[:, 0] < 0.5 * ESCAPE.fixed_point
    euler = _euler(HOT[1], dt=2e-3, trajectories=2048)
    to_boltzmann = {mode: intervals.distance_to_law(sample, mode.boltzmann().cdf) for mode, sample in ends.items()}
    gaps = [to_boltzmann[mode] - distance_of_boltzmann(mode) for mode in WARM]
    network_name = "Kolmogorov distance to the exact distribution, network (aligned noise)"
    ensemble_name = "Kolmogorov distance to the exact distribution, mode ensembles"
    in_network = [(sample, mode, _rivals.at_rest) for sample, mode in trained["aligned"]]
    in_ensembles = [(ends[mode], mode, _rivals.at_rest) for mode in (*HOT, *WARM)]
    hot, shapes = _rivals.temperatures(quick), _rivals.ADDITIVE | _rivals.neighbours(quick)
    unshifted = _rivals.distances([(sample, mode, _rivals.at_rest) for sample, mode in trained["gradient"]])
    full_name = "Kolmogorov distance to the exact distribution shifted by full noise, network (full noise)"
    return Evidence(
        numbers=[
            _rivals.judged(network_name, in_network, quick),
            _rivals.judged(ensemble_name, in_ensembles, quick),
            Number("σ = 0: fraction of SGD trajectories within 1 % of s*", smallest(points), ALWAYS),
            _fate("σ = 0, L = 2, T = 2/s*: fraction that ends at 0 instead", escaped),
            Number(
                "Kolmogorov distance to Boltzmann, measured minus predicted",
                largest(gaps),
                around(0.0, same_law(quick)[1]),
            ),
            Number(full_name, largest(_shifted(trained["gradient"])), SHIFTED, moved=True),
        ],
        controls=[
            Number(
                "Kolmogorov distance to Boltzmann, nearest of T = 0.1 and 0.3", _nearest(to_boltzmann), same_law(quick)
            ),
            Number(
                "Kolmogorov distance to the exact distribution, fixed-step Euler–Maruyama at T = 0.3",
                intervals.distance_to_law(euler, HOT[1].stationary().cdf),
                same_law(quick),
            ),
        ],
        runs=[*point_runs, *trained_runs],
        curves={"ends": ends, "euler": euler, "to_boltzmann": to_boltzmann},
        rivals=[
            *_rivals.rivals(network_name, in_network, quick, hot | ({} if quick else shapes)),
            *(
                Rival(f"mode ensembles: {rival.theory}", rival.numbers)
                for rival in _rivals.rivals(ensemble_name, in_ensembles, quick, hot | shapes)
            ),
            Rival("Boltzmann", [Number(ensemble_name, largest(to_boltzmann.values()), same_law(quick))]),
            Rival("full noise without its shift", [Number(full_name, largest(unshifted), SHIFTED)]),
        ],
    )


def _fate(name: str, escaped: NDArray[np.bool_]) -> Number:
    """The fraction that ends at 0, and the errors of T that it catches."""
    found = intervals.proportion(escaped)

    def judged(factor: float) -> Number:
        mode = _rivals.warmer(factor)(ESCAPE)
        return Number(name, found, around(float(mode.stationary(START).cdf(0.0)), 0.015))

    return replace(judged(1.0), catches=power(judged, "T"))


def _nearest(to_boltzmann: dict[ModeSDE, Interval]) -> Interval:
    return smallest(to_boltzmann[mode] for mode in WARM[-2:])


def _shifted(ends: list[tuple[Floats, ModeSDE]]) -> list[Interval]:
    """Distance to the exact distribution after subtracting the shift by the noise of other modes."""
    targets = [mode.fixed_point for _, mode in ends]
    depth, temperature, noise = ends[0][1].depth, ends[0][1].temperature, ends[0][1].label_noise
    full = label_noise_shift(targets, depth, temperature, noise)
    alone = [label_noise_shift([target], depth, temperature, noise)[0] for target in targets]
    return [
        intervals.distance_to_law(sample + more - own, mode.stationary().cdf)
        for (sample, mode), more, own in zip(ends, full, alone, strict=True)
    ]


def _points(trajectories: int) -> tuple[list[Interval], list[Run]]:
    """Without label noise: fraction of trajectories that end within 1 % of s*, for each depth and mode."""
    found, runs = [], []
    for depth in (2, 3):
        problem = network(depth, 6, (2.0, 1.0), Gaussian(scale=0.3), label_noise=0.0)
        plan = Plan(steps=3000, trajectories=trajectories, save_at=(3000,), keep="trajectories")
        dataset = run(problem, SGD(lr=1e-2, batch_size=1), plan)
        near = np.abs(dataset["mode_strength"].values[:, -1] / dataset["target"].values - 1) < 0.01
        found += [intervals.proportion(mode) for mode in near.T]
        runs.append(Run.of(f"SGD without label noise, L = {depth}", dataset))
    return found, runs


def _trained(trajectories: int) -> tuple[dict[str, list[tuple[Floats, ModeSDE]]], list[Run]]:
    """Networks where fixed steps are accurate, with aligned and with full noise: final strengths by mode."""
    found, runs, label_noise, targets = {}, [], 0.3**0.5, (1.5, 1.0)
    plan = Plan(steps=2500, trajectories=trajectories, save_at=(2500,), keep="trajectories")
    for noise in ("aligned", "gradient"):
        method = Langevin(lr=0.03, batch_size=1.0, noise=noise, dt=2e-3)
        dataset = run(network(3, 2, targets, aligned(3, 1.0), label_noise), method, plan)
        strengths = alive(dataset)["mode_strength"].values[:, -1]
        modes = [ModeSDE(3, target, label_noise, temperature=method.temperature) for target in targets]
        found[noise] = list(zip(strengths.T, modes, strict=True))
        runs.append(Run.of(f"Langevin, {noise} noise, L = 3, T = 0.03", dataset))
    return found, runs


def _euler(mode: ModeSDE, dt: float, trajectories: int) -> Floats:
    """Euler–Maruyama with fixed steps in log a: a heavy-tail jump throws it to 0, where it stays."""
    rng, z = np.random.default_rng(3), np.full(trajectories, np.log(mode.fixed_point) / mode.depth)
    with np.errstate(all="ignore"):
        for _ in range(round(END / dt)):
            a = np.exp(z)
            drift, noise = mode.drift(a, "weight") / a, mode.diffusion(a, "weight") / a
            z = z + (drift - noise**2 / 2) * dt + noise * np.sqrt(dt) * rng.standard_normal(trajectories)
            z = np.where(np.isnan(z), -np.inf, z)
        return np.asarray(np.exp(mode.depth * z))


def distance_of_boltzmann(mode: ModeSDE) -> float:
    """Kolmogorov distance between the exact distribution and Boltzmann."""
    exact, boltzmann = mode.stationary(), mode.boltzmann()
    s = np.unique(np.concatenate([law.ppf(np.linspace(1e-4, 1 - 1e-4, 2001)) for law in (exact, boltzmann)]))
    return float(np.abs(exact.cdf(s[s > 0]) - boltzmann.cdf(s[s > 0])).max())


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Densities at two temperatures, the distribution where fixed steps fail, distance to Boltzmann against T."""
    ends: dict[ModeSDE, Floats] = evidence.curves["ends"]
    density, tail, distance = axes
    for mode, colour in zip((WARM[2], WARM[4]), plots.COLOURS, strict=False):
        s = np.linspace(0.01, 3.0, 500)
        density.hist(ends[mode], list(np.linspace(0, 3, 91)), density=True, color=colour, alpha=0.25)
        density.plot(s, mode.stationary().pdf(s), color=colour, label=f"T = {mode.temperature:g}, exact")
        density.plot(s, mode.boltzmann().pdf(s), color=colour, ls="--", lw=1, label="Boltzmann")
    density.set(title="Stationary density, L = 3, s* = 1.5", xlabel="s", ylabel="density", xlim=(0, 3))
    density.legend()
    hot, s = HOT[1], np.geomspace(1e-2, 30, 400)
    tail.plot(s, hot.stationary().cdf(s), color=plots.COLOURS[1], lw=3, alpha=0.4, label="exact")
    for sample, colour, label in (
        (ends[hot], plots.INK, "locally controlled step"),
        (evidence.curves["euler"], plots.COLOURS[3], "fixed step 0.002"),
    ):
        tail.plot(s, np.searchsorted(np.sort(sample), s) / len(sample), color=colour, lw=1, label=label)
    tail.set(
        title="T = 0.3: fixed steps fail",
        xscale="log",
        xlabel="s",
        ylabel="fraction below s",
        ylim=(0, 1.02),
    )
    tail.legend(loc="center left", bbox_to_anchor=(0, 0.3))
    temperatures = np.geomspace(1e-3, 0.4, 15)
    for label_noise, colour in zip((0.1, 0.3**0.5, 1.0), plots.COLOURS[2:], strict=False):
        modes = [ModeSDE(depth=3, target=1.5, label_noise=label_noise, temperature=float(T)) for T in temperatures]
        distance.plot(
            temperatures,
            [distance_of_boltzmann(mode) for mode in modes],
            color=colour,
            label=f"σ = {label_noise:.2g}",
        )
    for mode in WARM:
        at = evidence.curves["to_boltzmann"][mode]
        plots.interval(distance, mode.temperature, at, color=plots.COLOURS[3])
    distance.set(
        title="Distance of Boltzmann, L = 3",
        xscale="log",
        yscale="log",
        xlabel="T",
        ylabel="Kolmogorov distance",
        ylim=(1e-3, 1),
    )
    distance.legend(title="lines: theory, dots: ensemble", loc="upper left", alignment="left")


CLAIM = Claim(
    name="stationary-law",
    title="Training ends at a point without label noise, in the exact stationary distribution with it",
    statement=(
        "Without label noise the modes end where gradient flow ends, at s* (L = 2 requires T < 1/s*; above it, a mode "
        "can end at 0). With label noise, a mode with only its own noise has the stationary density p(s) ∝ s^(−3κ) "
        "g(s)⁻¹ exp(−(2/(TL)) ∫ (s − s*)/(s^(2κ) g) ds), g = 2(s − s*)² + σ²; Boltzmann is close to it only for T L "
        "s*^(2κ) ≪ 1 and ½ T L s*^(2κ−2) σ² ≪ 1. Under full noise the distribution is, to first order in T, the same "
        "shifted towards 0 by the noise of the other modes."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366; the case T > 1/s*, the distance of Boltzmann and the shift under full "
        "noise are this project's"
    ),
    method=(
        "σ = 0: discrete SGD (η = 0.01, B = 1, L = 2 and 3) from Gaussian weights until t = 30, and an ensemble of the "
        "mode SDE at T = 2/s*. σ > 0: networks with L = 3, modes 1.5 and 1, σ² = 0.3, at T = 0.03 and step 0.002, "
        "where a smaller step makes no difference; and ensembles of the mode SDE with locally controlled steps until t "
        "= 20 at temperatures up to 0.3 and depths 2 to 4. Distributions are compared by their distribution functions, "
        "since the tail s^(−5+3/L) makes the second moment of s² infinite. Boltzmann and the exact distribution are "
        "compared by quadrature, and each with the ensembles. The network alone, at T = 0.03, would not distinguish "
        "neighbouring depths: in quick runs only the hotter ensembles do. The shift under full noise is that of the "
        "claim on label noise; its region was set after a first look."
    ),
    control=(
        "Boltzmann must be rejected at T = 0.1 and at 0.3, and so must the ensemble of the same mode that "
        "Euler–Maruyama with the fixed step 0.002 produces at 0.3: heavy-tail jumps throw it to 0."
    ),
    caption=(
        "Ensembles of the mode SDE (histograms) against the exact density and Boltzmann; distribution function at T = "
        "0.3; Kolmogorov distance of Boltzmann from the exact distribution (lines) and from the ensembles (dots, σ = "
        "0.55)."
    ),
    why=(
        "Without label noise SGD ends where gradient flow ends; with it every feature keeps fluctuating, and learning "
        "rate over batch size sets how far. The usual picture of SGD as a thermal sampler of the loss (a Boltzmann "
        "distribution) holds only at small η/B: beyond that the distribution leans towards 0 and has heavy tails."
    ),
    equations=(
        r"p(s) \propto \frac{s^{-3\kappa}}{g(s)} \exp\left(-\frac{2}{TL} \int \frac{s - s^*}{s^{2\kappa} g(s)}\, "
        r"ds\right), \qquad g(s) = 2(s - s^*)^2 + \sigma^2",
        r"p_{\mathrm{Boltzmann}}(s) \propto \exp\left(-\frac{(s - s^*)^2}{L s^{*2\kappa} T \sigma^2}\right)",
        r"T L s^{*2\kappa} \ll 1, \qquad \tfrac12 T L s^{*2\kappa - 2} \sigma^2 \ll 1",
        r"\Pr(s \to 0) = 1 - I_{s_0/s^*}\left(\tfrac12 - \theta,\, 1 + \theta\right), \quad \theta = \frac{1}{2 T "
        r"s^*} \qquad (\sigma = 0,\ L = 2,\ T > 1/s^*)",
    ),
    proved=(
        "For the mode SDE the source derives that without label noise the stationary distribution is that of gradient "
        "flow, and that with label noise it is approximately Boltzmann. The exact density is the solution without "
        "flux of the same SDE; the case T > 1/s* and the conditions for Boltzmann are derived in this project."
    ),
    unknown=(
        "Under full noise the distribution is known to first order in T only. Networks are tested at L = 3, T = 0.03; "
        "hotter temperatures and other depths with ensembles of the mode SDE. SGD in discrete steps under label noise "
        "has another distribution, which other claims test."
    ),
    related=("label-noise", "stationary-density", "tail-exponents", "fluctuation-inversion"),
    experiment=experiment,
    draw=draw,
)
