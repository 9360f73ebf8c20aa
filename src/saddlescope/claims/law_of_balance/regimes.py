"""The regimes of depth 2 over temperature and label noise: learned, bimodal, most likely at zero, collapsed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import dots, hill, memory
from saddlescope.claims.tools import Floats, around, largest
from saddlescope.theory import ModeSDE
from saddlescope.theory.phases import exponent_at_zero, extrema, regime, regime_temperatures

REGIMES = ("learned", "bimodal", "at zero", "collapsed")
NOISES, HEATS = (0.3, 0.5, 0.7, 1.5, 2.5), (0.15, 0.55, 0.75, 1.5)
"""Label noise in units of s* = 1, temperatures in units of T_c."""

LOOKS, COLLAPSED = np.arange(4.0, 14.0, 0.5), 1e-4
"""Times in relaxation times, and the strength below which most trajectories end when there is no law."""

BINS = np.linspace(0.2, 1.2, 11)
"""Where a second maximum is looked for."""


def experiment(quick: bool) -> Evidence:
    """The regime of every point, seen in an ensemble and predicted."""
    size = 4096 if quick else 32_768
    points = {(noise, heat): _point(at(noise, heat), size) for noise in NOISES for heat in HEATS}
    right = [point.seen == predicted(at(*key)) for key, point in points.items()]
    halved = [point.seen == predicted(_cooler(at(*key))) for key, point in points.items()]
    zero = {key: point.zero - exponent_at_zero(at(*key)) for key, point in points.items() if 0.5 < key[1] < 1}
    return Evidence(
        numbers=[
            Number(f"share of {len(points)} points in the predicted regime", _share(right), (1.0, 1.0)),
            Number(
                "T_c/3 < T < T_c: exponent at 0 minus predicted, farthest", largest(zero.values()), around(0.0, 0.1)
            ),
        ],
        controls=[Number("the same share, with T_c twice as large", _share(halved), (1.0, 1.0))],
        runs=[],
        curves={"points": points},
    )


def at(noise: float, heat: float) -> ModeSDE:
    """Depth 2, s* = 1, at this label noise and share of T_c."""
    mode = ModeSDE(depth=2, target=1.0, label_noise=noise, temperature=1.0)
    return replace(mode, temperature=heat * mode.critical_temperature)


def predicted(mode: ModeSDE) -> str:
    """The regime that theory gives; whether there is a maximum above T_c, where there is no law, is not looked at."""
    found = regime(mode)
    return "collapsed" if found == "collapsing" else found


def _cooler(mode: ModeSDE) -> ModeSDE:
    return replace(mode, temperature=mode.temperature / 2)


def _share(hits: Sequence[bool]) -> Interval:
    return intervals.exact(float(np.mean(hits)))


@dataclass(frozen=True)
class Point:
    """What an ensemble shows: its regime, the power of s with which its density starts at 0, some of its strengths."""

    seen: str
    zero: Interval
    sample: Floats


def _point(mode: ModeSDE, trajectories: int) -> Point:
    cold = mode.temperature < mode.critical_temperature
    times = LOOKS * (memory(mode) if cold else 8.0)
    looks = np.asarray(mode.simulate(1.0, times, trajectories, seed=1), np.float64)
    return Point(seen(looks), start(looks), looks[:, ::4].ravel())


def seen(looks: Floats) -> str:
    """The regime of an ensemble (trajectory, look), from what it shows beyond chance.

    Most ends near 0: collapsed. Fewer below its lowest 1 % than in an interval as long above: learned. A bin with
    more than a bin below it: bimodal. Every bin twice as wide less than the one below: at zero. Else unclear.
    """
    if intervals.proportion(looks[:, -1] < COLLAPSED).low > 0.5:
        return "collapsed"
    low = float(np.quantile(looks, 0.01))
    if _more(looks, (low, 2 * low), (0.0, low)):
        return "learned"
    bins = list(itertools.pairwise(BINS))
    if any(_more(looks, upper, lower) for i, upper in enumerate(bins) for lower in bins[:i]):
        return "bimodal"
    falls = all(_more(looks, lower, upper) for lower, upper in itertools.pairwise(itertools.pairwise(BINS[::2])))
    return "at zero" if falls else "unclear"


def _more(looks: Floats, first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether the first bin certainly holds more than the second of the same width."""
    held, other = (((looks >= low) & (looks < high)).sum(axis=1) for low, high in (first, second))
    return intervals.mean(held - other).low > 0


def start(looks: Floats) -> Interval:
    """Power of s with which the density starts at 0, by Hill's estimator below 0.02.

    >>> powers = np.linspace(1e-5, 1, 100_000)[:, None] ** 2                  # density ∝ s^(−½)
    >>> round(start(powers).value, 2)
    -0.5
    """
    return hill(0.02 / looks) - 1


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """The diagram with what was seen, a density of each regime, exponents at 0."""
    plane, density, zero = axes
    points: dict[tuple[float, float], Point] = evidence.curves["points"]
    colours = dict(zip(REGIMES, (plots.COLOURS[i] for i in (0, 2, 4, 1)), strict=True))
    noises, temperatures = np.linspace(0.1, 2.8, 60), np.geomspace(0.02, 2, 60)
    grid = [[REGIMES.index(predicted(_mode(noise, T))) for noise in noises] for T in temperatures]
    shades = ListedColormap(list(colours.values()))
    plane.pcolormesh(noises, temperatures, grid, cmap=shades, vmin=-0.5, vmax=3.5, alpha=0.25, rasterized=True)
    for name in ("zero", "critical"):
        plane.plot(noises, [regime_temperatures(_mode(noise, 1.0))[name] for noise in noises], color=plots.GREY, lw=1)
    for (noise, heat), point in points.items():
        plane.plot(
            noise, at(noise, heat).temperature, "o", color=colours.get(point.seen, plots.GREY), mec=plots.INK, ms=6
        )
    plane.set(title="Regimes of depth 2", xlabel="label noise σ / s*", ylabel="s* T", yscale="log")
    plane.grid(visible=False)
    edges, s = np.linspace(0, 2.2, 45), np.linspace(0.004, 2.2, 400)
    for key in ((0.3, 0.15), (0.5, 0.55), (1.5, 0.55)):
        colour, law = colours[predicted(at(*key))], at(*key).stationary()
        density.plot(s, law.pdf(s), color=colour)
        dots(density, points[key].sample, edges, color=colour)
    for name, colour in colours.items():
        density.plot([], [], "o-", color=colour, label=name)
    density.set(title="A density of each", xlabel="s", ylabel="density", ylim=(0, 4.5), xlim=(0, 2.2))
    density.legend(loc="upper right")
    heats = np.linspace(0.25, 1, 50)
    zero.plot(heats, 0.5 / heats - 1.5, color=plots.INK, label="T_c/(2T) − 3/2")
    for (noise, heat), point in points.items():
        if 0.5 < heat < 1:
            spot = heat + 0.012 * (NOISES.index(noise) - 2)
            plots.interval(zero, spot, point.zero, color=plots.COLOURS[NOISES.index(noise)], ms=3.5)
    zero.axhline(0, color=plots.GREY, lw=0.8, ls=":")
    zero.plot([], [], "o", color=plots.GREY, label="measured, five σ")
    best = extrema(at(0.5, 0.55))
    density.axvline(best.maxima[0], color=plots.GREY, lw=0.8, ls=":")
    zero.set(
        title="How the density starts at 0", xlabel="T / T_c", ylabel="power of s", xlim=(0.25, 1), ylim=(-1.1, 0.5)
    )
    zero.legend()


def _mode(noise: float, temperature: float) -> ModeSDE:
    return ModeSDE(depth=2, target=1.0, label_noise=noise, temperature=temperature)


CLAIM = Claim(
    name="regimes",
    title="At depth 2 temperature and label noise decide between four regimes",
    statement=(
        "At L = 2 the stationary density vanishes at 0 for T < T_c/3 (learned); for T_c/3 < T < T_c it is infinite at "
        "0, like s^(T_c/(2T) − 3/2), and has a second maximum near s* where (1 + 4Ts*)² > 42T²σ² and 10Ts* > 1 "
        "(bimodal), or none (at zero); for T > T_c there is no law and all mass goes to 0 (collapsed)."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, phase diagram; the end of the second maximum is this project's",
    method=(
        "Ensembles of the mode SDE at five label noises and four temperatures, each trajectory looked at twenty times "
        "from four relaxation times on. The regime of an ensemble is read off its counts alone: where most "
        "trajectories end below 10⁻⁴, whether fewer lie in the lowest 1 % than in an interval as long above it, "
        "whether any bin holds more than a bin below it or every one less, beyond chance at 10⁻⁶. The exponent at 0 is "
        "Hill's estimator below s = 0.02."
    ),
    control="The diagram with T_c twice as large (a loss without ½ read in this convention) must be refuted.",
    caption=(
        "Regimes predicted (shaded; lines: T_c/3 and T_c) and seen (dots); densities of three regimes (lines: theory; "
        "dots: ensembles; dotted: the second maximum); exponent at 0 with intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
)
