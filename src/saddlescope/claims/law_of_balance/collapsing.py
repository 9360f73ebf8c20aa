"""The collapsing regime: above T_c all mass goes to 0, but at small label noise it lingers around an s > 0."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import dots
from saddlescope.claims.tools import around, largest, power, same_law
from saddlescope.comparison import FALSE_ALARM
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.phases import extrema, regime

NOISES, HEAT = (0.3, 0.5, 0.6, 1.0, 2.0), 1.3
"""Label noise in units of s* = 1, and temperature in units of T_c."""

TIMES, GONE = (10.0, 15.0, 20.0, 400.0), 1e-4
"""Times at which ensembles are sampled, and the strength below which they count as collapsed."""

BINS = np.linspace(0.25, 1.15, 7)
"""Bins in which a maximum is searched."""


def experiment(quick: bool) -> Evidence:
    """Ensembles above T_c: whether the survivors have a maximum at s > 0, and their distributions over time."""
    size, margin = (32_768, 0.45) if quick else (262_144, 0.2)
    looks = {noise: _looks(at(noise), size) for noise in NOISES}
    lingers = {noise: bump(left[:, :-1]) for noise, left in looks.items()}
    gone = largest((intervals.proportion(left[:, -1] < GONE) for left in looks.values()), 1.0)
    low = [noise for noise in NOISES if predicted(at(noise))]

    def agreement(name: str, theory: Sequence[bool]) -> Number:
        """Fraction of label noises at which a maximum was detected exactly if the theory has one."""
        right = [seen == claimed for seen, claimed in zip(lingers.values(), theory, strict=True)]
        return Number(name, intervals.exact(float(np.mean(right))), (1.0, 1.0))

    def transient(factor: float) -> Number:
        return _transient(looks, factor, quick)

    def heights(name: str, factor: float = 1.0) -> Number:
        """Ratio of the counts near the maximum and near the minimum, over that of m(s)."""
        off = largest((height(looks[n][:, 2], at(n)) / expected(at(n)) * (1 / factor) for n in low), 1.0)
        return Number(name, off, around(1.0, margin), moved=True)

    cold, hot = (0.7, 1.4) if quick else (0.9, 1.1)
    right, count = [predicted(at(noise)) for noise in NOISES], len(NOISES)
    return Evidence(
        numbers=[
            agreement("fraction of 5 label noises with a maximum exactly where predicted", right),
            transient(1.0) if quick else replace(transient(1.0), catches=power(transient, "T")),
            replace(
                heights("t = 20: count near the maximum over that near the minimum, over that of m(s), farthest"),
                catches=power(lambda factor: heights("", factor), "height"),
            ),
            Number("smallest fraction at 0 by t = 400", gone, (0.9, 1.0)),
        ],
        controls=[
            agreement("fraction of 5 label noises that agree with: never a maximum above T_c", [False] * count),
            agreement("fraction of 5 label noises that agree with: always a maximum", [True] * count),
        ],
        rivals=[
            Rival("no maximum above T_c", [agreement("fraction of label noises", [False] * count)]),
            Rival(
                "a maximum as long as σ < s*/2",
                [agreement("fraction of label noises", [noise < 0.5 for noise in NOISES])],
            ),
            Rival(f"T × {cold}", [transient(cold)]),
            Rival(f"T × {hot}", [transient(hot)]),
            Rival("the survivors have a flat density", [_flat(looks, low, margin)]),
        ],
        runs=[],
        curves={"looks": looks, "lingers": lingers},
    )


def _transient(looks: dict[float, Floats], factor: float, quick: bool) -> Number:
    """Ensembles at t = 10 against the predicted distribution at ``factor`` times the temperature."""
    off = largest(
        intervals.distance_to_law(
            looks[noise][:, 0], _hotter(at(noise), factor).evolve(1.0, TIMES[:1], tol=1e-4)[0].cdf
        )
        for noise in NOISES
    )
    name = "T = 1.3 T_c: Kolmogorov distance to the prediction at t = 10, farthest of σ"
    return Number(name, off, same_law(quick))


def at(noise: float) -> ModeSDE:
    """Depth 2, s* = 1, above T_c."""
    mode = ModeSDE(depth=2, target=1.0, label_noise=noise, temperature=1.0)
    return replace(mode, temperature=HEAT * mode.critical_temperature)


def predicted(mode: ModeSDE) -> bool:
    """Whether theory predicts a maximum at s > 0."""
    return regime(mode) == "collapsing"


def _hotter(mode: ModeSDE, factor: float) -> ModeSDE:
    return replace(mode, temperature=factor * mode.temperature)


def _looks(mode: ModeSDE, trajectories: int) -> Floats:
    return np.asarray(mode.simulate(1.0, TIMES, trajectories, seed=1), np.float64)


def bump(looks: Floats) -> bool:
    """Whether some bin significantly holds more than one of the same width below it (trajectory, time)."""
    held = [((looks >= low) & (looks < high)).sum(axis=1) for low, high in itertools.pairwise(BINS)]
    pairs = [(upper, lower) for i, upper in enumerate(held) for lower in held[:i]]
    return any(intervals.mean(upper - lower, FALSE_ALARM / len(pairs)).low > 0 for upper, lower in pairs)


def height(values: Floats, mode: ModeSDE) -> Interval:
    """Count near the maximum over that near the minimum of m(s), each within a fifth of the latter's position."""
    top, dip = places(mode)
    (a, b), (c, d) = top, dip
    first, second = (
        intervals.proportion((values >= low) & (values < high), FALSE_ALARM / 2) for low, high in ((a, b), (c, d))
    )
    return intervals.ratio(first, second)


def places(mode: ModeSDE) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bins of equal width around the maximum and the minimum."""
    found = extrema(mode)
    half = float(found.minima[0]) / 5
    top, dip = ((float(place) - half, float(place) + half) for place in (found.maxima[0], found.minima[0]))
    return top, dip


def expected(mode: ModeSDE) -> float:
    """The same for the speed density m(s), that of the survivors after a long time."""
    low, high = np.array(places(mode)).T
    s = np.linspace(low, high, 201)
    mass = density(mode, s.ravel()).reshape(s.shape).mean(axis=0)
    return float(mass[0] / mass[1])


def density(mode: ModeSDE, s: Floats) -> Floats:
    """m(s), not normalised: the formula of the stationary density, which is not normalisable above T_c.

    >>> s = np.array([0.5, 1.0, 2.0])
    >>> cold = replace(at(1.0), temperature=0.1)
    >>> ratio = density(cold, s) / cold.stationary().pdf(s)
    >>> bool(np.allclose(ratio, ratio[0], rtol=1e-6))
    True
    """
    w = np.log(s / mode.fixed_point) / mode.depth
    return np.asarray(np.exp(mode.log_diffusion.log_speed_density(w)) / s)


def _flat(looks: dict[float, Floats], low: Sequence[float], margin: float) -> Number:
    off = largest((height(looks[noise][:, 2], at(noise)) for noise in low), 1.0)
    return Number("count near the maximum over that near the minimum", off, around(1.0, margin))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Survivors at t = 20 with m(s), surviving fractions over time, the diagram above T_c."""
    left, time, plane = axes
    s, edges = np.linspace(0.1, 1.6, 300), np.linspace(0.1, 1.6, 31)
    for noise, colour in zip((0.3, 0.5, 2.0), plots.COLOURS, strict=False):
        values = evidence.curves["looks"][noise][:, 2]
        kept = values[(values > edges[0]) & (values < edges[-1])]
        m = density(at(noise), s)
        left.plot(s, m / (m.sum() * (s[1] - s[0])), color=colour, label=f"σ = {noise:g}")
        dots(left, kept, edges, color=colour)
    left.set(title="Not yet collapsed, t = 20", xlabel="s", ylabel="density on 0.1 < s < 1.6", ylim=(0, None))
    left.legend(title="lines: m(s)", alignment="left")
    times = np.array(TIMES)
    for noise, colour in zip(NOISES, plots.COLOURS, strict=False):
        shares = (evidence.curves["looks"][noise] > 0.2).mean(axis=0)
        time.plot(times[:3], shares[:3], "o", color=colour)
        laws = at(noise).evolve(1.0, np.linspace(5, 22, 12), tol=1e-4)
        time.plot(
            np.linspace(5, 22, 12), [1 - float(law.cdf(0.2)) for law in laws], color=colour, label=f"σ = {noise:g}"
        )
    time.set(title="Fraction with s > 0.2", xlabel="time", ylabel="fraction", ylim=(0, 1))
    time.legend()
    noises, heats = np.linspace(0.1, 2.2, 60), np.linspace(1.02, 2.0, 40)
    lingering = [
        [float(predicted(replace(at(n), temperature=h / HEAT * at(n).temperature))) for n in noises] for h in heats
    ]
    plane.contourf(noises, heats, lingering, levels=[0.5, 1.5], colors=[plots.COLOURS[2]], alpha=0.25)
    for noise, seen in evidence.curves["lingers"].items():
        plane.plot(noise, HEAT, "o", color=plots.COLOURS[2] if seen else plots.GREY, mec=plots.INK, ms=6)
    plane.set(title="Above $T_c$", xlabel="label noise σ / s*", ylabel="T / $T_c$")
    plane.text(0.15, 1.8, "lingers", color=plots.COLOURS[2])
    plane.text(1.3, 1.8, "collapses", color=plots.INK)


CLAIM = Claim(
    name="collapsing",
    title="The collapsing regime: above T_c the surviving trajectories linger at a strength s > 0",
    statement=(
        "At L = 2 and T > T_c there is no stationary distribution, but the formula of its density, m(s), which cannot "
        "be normalised at 0, still has a maximum at s > 0 if (1 + 4Ts*)² > 42T²σ² and 10Ts* > 1. Then the trajectories "
        "that have not collapsed have a maximum of their density there, and otherwise none. At T = 1.3 T_c there is "
        "such a maximum for σ ≤ 0.6 s* and none for σ ≥ s*."
    ),
    source=("Ziyin, Li & Ueda 2023, arXiv 2308.06671, a regime of the phase diagram; the condition is this project's"),
    method=(
        "Ensembles of the mode SDE from s* at T = 1.3 T_c and σ = 0.3, 0.5, 0.6, 1, 2 (s* = 1), sampled at t = 10, 15, "
        "20 and 400. A maximum counts as detected if some bin between 0.25 and 1.15 holds more trajectories than a bin "
        "below it, significant at 10⁻⁶ over all pairs of bins. Counts near the maximum and the minimum of m(s) at t = "
        "20 are compared with m(s), distribution functions at t = 10 with the predicted distribution at that time. The "
        "claim is about the Langevin model: there T s* > 1/10, where SGD with B = 1 no longer follows it."
    ),
    control=(
        "That there is never a maximum above T_c, and that there always is one, must both be refuted. Rivals, on the "
        "same samples: T × 0.9 and 1.1 (quick: 0.7 and 1.4), a maximum for σ < s*/2 only, a flat density of the "
        "surviving trajectories."
    ),
    caption=(
        "Density of the surviving trajectories at t = 20 (dots) and m(s), normalised over the panel (lines); fraction "
        "with s > 0.2 over time (dots: ensembles, lines: theory); where theory predicts the maximum (shaded) and where "
        "it was detected (dots)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Training that is too hot to last can look stable for a while: above T_c the trajectories that have not yet "
        "collapsed linger near a learned strength if the label noise is small compared with s*. A short run can thus "
        "mistake a temperature above T_c for a safe one; this is a result on the Langevin model of a two-layer "
        "diagonal network, which SGD with B = 1 does not follow at these temperatures."
    ),
    equations=(
        r"(1+4Ts^{*})^2>42\,T^2\sigma^2,\quad10\,Ts^{*}>1,\quad T>T_c",
        r"m(s)\propto\frac{s^{-3/2}}{g(s)}\,\exp\left(-\frac{1}{T}\int\frac{\beta_1s-\beta_2}{s\,g(s)}\,ds\right)",
    ),
    proved=(
        "The regime is in the phase diagram of Ziyin, Li & Ueda; the condition, that d log m/ds has two positive "
        "zeros, is worked out by this project for white Gaussian data. Distributions at finite times are solved "
        "numerically from the mode SDE."
    ),
    unknown=(
        "That the trajectories left take the shape of m(s) is measured at one time, not proved. One temperature, 1.3 "
        "T_c, and one start, s*, are tested. How long they linger has no closed form here."
    ),
    related=("regimes", "phase-transition", "metastable"),
)
