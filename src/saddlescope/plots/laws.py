"""Panels of distributions: the stationary law, the law in time, and a run against a law."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.special import ndtr

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_vector, shown
from saddlescope.comparison import HasCDF, compare, gaps, strengths
from saddlescope.plots.predicted import prediction_start
from saddlescope.plots.style import COLOURS, GREY, INK, drawn, legend_above
from saddlescope.plots.views import Curves, View, drawable, quantiles
from saddlescope.runs.selection import selected
from saddlescope.theory import Atoms, Mixture, ModeSDE, mode_sde

TIMES = 160
"""Times of a law in time."""

DECADES = 3
"""Of density that the colours of a law in time span."""

LEVELS = ndtr(np.linspace(-3.5, 3.5, 281))
"""Probabilities of the quantiles between which its density is found."""

PATHS = 20_000
"""Paths of the mode SDE that stand for a law in time which is not found in closed form."""


def stationary(run_or_law: xr.Dataset | ModeSDE | Any, mode: int = 0, axes: Axes | None = None) -> Figure:
    """Histogram of a mode's strength against its stationary density and the Boltzmann law; point masses as lines.

    ``run_or_law`` is a run, a ``ModeSDE``, or a law with ``pdf`` and ``ppf``. A run gives the histogram that
    ``Plan(accumulate=…)`` has collected, or its trajectories at the last step, and the theory of its mode. Where that
    is a point mass at 0 (above T_c), which strengths approach with time, their sizes are shown on a logarithmic axis.
    Draws into ``axes``, or a new figure, and returns the figure. Raises TypeError for other things, ValueError for a
    mode that does not exist, or an SDE whose law depends on its start.

    >>> figure = stationary(ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1))
    >>> [line.get_label() for line in figure.axes[0].lines]
    ['stationary law', 'Boltzmann']
    """
    if isinstance(run_or_law, xr.Dataset):
        seen = drawable(run_or_law)
        return drawn(lambda place: draw_stationary(place, seen, seen.mode(mode)), axes)
    if isinstance(run_or_law, ModeSDE):
        laws = _laws(run_or_law, None)
    elif hasattr(run_or_law, "pdf") and hasattr(run_or_law, "ppf"):
        laws = {"law": run_or_law}
    else:
        raise TypeError(
            f"run_or_law must be a run, a ModeSDE or a law with pdf and ppf, got {shown(run_or_law)}; "
            "use such as theory.mode_sde(problem, method, mode=0)"
        )
    return drawn(lambda place: _densities(place, laws, None), axes)


def draw_stationary(axes: Axes, seen: View, mode: int, across: int = 3) -> None:
    """The stationary panel of a run."""
    if seen.plan.accumulate is None and _ends_at_zero(seen, mode):
        _towards_zero(axes, seen, mode, across)
        return
    edges, heights = _histogram(seen, mode)
    axes.stairs(heights, edges, fill=True, color=COLOURS[mode % len(COLOURS)], alpha=0.35, label="simulation")
    try:
        laws = _laws(mode_sde(seen.problem, seen.method, mode), float(np.median(edges)))
    except ValueError as error:
        laws = {}
        axes.plot([], [], " ", label="no theory: " + str(error).split(",")[0].split(";")[0])
    _densities(axes, laws, (edges, heights), across)


def _ends_at_zero(seen: View, mode: int) -> bool:
    """Whether the stationary law is a point mass at 0."""
    try:
        return mode_sde(seen.problem, seen.method, mode).stationary().point_masses() == [(0.0, 1.0)]
    except ValueError:
        return False


def _towards_zero(axes: Axes, seen: View, mode: int, across: int) -> None:
    """Sizes of the strengths at the last step on a logarithmic axis, beside s*."""
    sizes = np.abs(strengths(selected(seen.run), mode, None)[0])
    scale = float(seen.targets[mode]) or 1.0
    powers = np.log10(np.maximum(sizes, 1e-300))
    low, high = min(float(powers.min()), np.log10(scale) - 1), max(float(powers.max()), np.log10(scale))
    pad = 0.05 * (high - low)
    edges = np.linspace(low - pad, high + pad, int(np.clip(2 * len(sizes) ** (1 / 3), 8, 60)) + 1)
    shares = np.histogram(powers, edges)[0] / len(sizes)
    axes.stairs(shares, 10**edges, fill=True, color=COLOURS[mode % len(COLOURS)], alpha=0.35, label="simulation")
    if seen.targets[mode] > 0:
        axes.axvline(scale, color=GREY, lw=1.2, ls=":", label="s*")
    axes.plot([], [], color=INK, marker="<", ls="", label="stationary law: mass 1 at 0")
    axes.plot(0.01, 0.03, color=INK, marker="<", ms=7, ls="", transform=axes.transAxes, clip_on=False)
    axes.set(xscale="log", xlabel="|mode strength| [y/x]", ylabel="fraction in a bin")
    axes.set(xlim=(10 ** edges[0], 10 ** edges[-1]), ylim=(0, 1.15 * shares.max()))
    legend_above(axes, across)


def _laws(sde: ModeSDE, start: float | None) -> dict[str, Any]:
    """The stationary law and the Boltzmann law, where they exist."""
    try:
        found = {"stationary law": sde.stationary(start)}
    except ValueError:
        if start is None:
            raise
        found = {"stationary law": sde.stationary()}
    if sum(p for _, p in found["stationary law"].point_masses()) > 0.999:  # no density to compare with
        return found
    try:
        return found | {"Boltzmann": sde.boltzmann()}
    except ValueError:
        return found


def _histogram(seen: View, mode: int) -> tuple[Floats, Floats]:
    """Edges and density."""
    if "histogram" in seen.run and seen.plan.accumulate is not None:
        counts = seen.run["histogram"].sel(mode=mode).values[1:-1].astype(float)
        total, edges = seen.run["histogram"].sel(mode=mode).values.sum(), seen.plan.accumulate.edges[1:-1]
        held = np.flatnonzero(counts)
        inside = slice(held[0], held[-1] + 1) if len(held) else slice(None)
        edges = edges[inside.start : None if inside.stop is None else inside.stop + 1]
        return edges, counts[inside] / max(total, 1) / np.diff(edges)
    values = strengths(selected(seen.run), mode, None)[0]
    low, high = np.quantile(values, (0.001, 0.999))
    if not high > low:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    bins = int(np.clip(2 * len(values) ** (1 / 3), 8, 60))
    counts, edges = np.histogram(values, bins, (low, high))
    return edges, counts / len(values) / np.diff(edges)


def _densities(axes: Axes, laws: dict[str, Any], histogram: tuple[Floats, Floats] | None, across: int = 3) -> None:
    ends = [] if histogram is None else [histogram[0][0], histogram[0][-1]]
    for law in laws.values():
        ends += [float(x) for x in np.asarray(law.ppf(np.array([0.002, 0.998])))]
    low, high = min(ends), max(ends)
    if histogram is not None:  # theory does not stretch the axis far beyond the histogram
        width = histogram[0][-1] - histogram[0][0]
        low, high = max(low, ends[0] - 0.6 * width), min(high, ends[1] + 0.6 * width)
    pad = 0.04 * (high - low) or 0.5 * (abs(high) or 1.0)
    x = np.linspace(low - pad, high + pad, 800)
    tops = [] if histogram is None else [histogram[1].max()]
    styles: tuple[dict[str, Any], ...] = ({"color": INK, "lw": 1.4}, {"color": GREY, "lw": 1.2, "ls": "--"})
    masses = all(isinstance(part, Atoms) for law in laws.values() for _, part in _parts(law)) and histogram is None
    for (name, law), style in zip(laws.items(), styles, strict=False):
        for share, part in _parts(law):
            if isinstance(part, Atoms):
                for value, probability in zip(part.values, share * part.probabilities, strict=True):
                    height = probability if masses else 1.0
                    axes.axvline(
                        value, 0, height, **style | {"lw": 2.4}, label=f"mass {probability:.3g} at {value:.3g}"
                    )
            else:
                density = share * np.asarray(part.pdf(x))
                density[~np.isfinite(density)] = np.nan
                axes.plot(x, density, **style, label=name)
                central = np.asarray(part.pdf(np.asarray(part.ppf(np.linspace(0.1, 0.9, 50)))))
                tops.append(share * float(np.nanmax(central[np.isfinite(central)], initial=0.0)))
    top = 1.0 if masses else 1.15 * max(tops, default=1.0)
    axes.set(xlabel="mode strength [y/x]", ylabel="probability" if masses else "density", ylim=(0, top))
    axes.set_xlim(x[0], x[-1])
    legend_above(axes, across)


def _parts(law: Any) -> list[tuple[float, Any]]:
    """The parts of a law with their probabilities."""
    return list(zip(law.shares, law.laws, strict=True)) if isinstance(law, Mixture) else [(1.0, law)]


def density_in_time(
    run_or_sde: xr.Dataset | ModeSDE,
    mode: int = 0,
    axes: Axes | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Figure:
    """The density of a mode's strength in time as a heat map, under the run's mean and its 5 and 95 % quantiles.

    Of a run, theory is that of its mode from where ``modes`` starts it, and the median is drawn where some paths run
    away; of a ``ModeSDE`` it is that from strength ``start`` until the time ``end``, with its own 5, 50 and 95 %
    quantiles. Colours are logarithmic and the same at all times. Their label says how the law was found: within which
    error of its distribution function, or from how many paths of the SDE.
    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where the mode has no SDE, has no
    noise, or the run has no suitable start.

    >>> sde = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
    >>> figure = density_in_time(sde, start=0.1, end=5.0)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mode strength [y/x]', 'density [x/y], CDF within ...']
    """
    sde, sample, first, last, curves = _span(run_or_sde, mode, start, end)
    times = np.linspace(first, last, TIMES + 1)
    found, source = _law_in_time(sde, sample, times[1:] - first)
    levels = np.array([np.quantile(sample, LEVELS), *found])
    fine = np.linspace(first, last, 4 * TIMES + 1)[1:]
    grid, density = _heat(levels, times, fine)
    top = 2.0 * float(np.quantile(density.max(axis=0), 0.1))  # beyond: narrow laws, of one colour

    def draw(place: Axes) -> None:
        colours = LogNorm(10.0**-DECADES * top, top, clip=True)
        heat = place.pcolormesh(fine, grid, density, cmap="Blues", norm=colours, shading="nearest", rasterized=True)
        bar = place.figure.colorbar(heat, ax=place, aspect=30, pad=0.02, extend="both")
        bar.set_label(f"density [x/y], {source}")
        bar.outline.set_visible(False)
        if curves is None:
            for probability, name, style in (
                (0.05, "5 and 95 %", ":"),
                (0.95, "5 and 95 %", ":"),
                (0.5, "median", "-"),
            ):
                heights = [np.interp(probability, LEVELS, row) for row in levels]
                place.plot(times, heights, color=INK, lw=1.0, ls=style, label=name)
        else:
            index = list(curves.places).index(mode)
            name = f"run, {curves.kind or 'mean'}"
            place.plot(curves.time, curves.middle[:, index], color=COLOURS[1], lw=1.4, label=name)
            for line in (curves.low, curves.high):
                place.plot(curves.time, line[:, index], color=COLOURS[1], lw=0.9, ls="--", label="run, 5 and 95 %")
        place.set(xlabel="time", ylabel="mode strength [y/x]", ylim=(grid[0], grid[-1]), xlim=(first, last))
        place.grid(False)
        legend_above(place, 3)

    return drawn(draw, axes)


def _span(
    run_or_sde: xr.Dataset | ModeSDE, mode: int, start: float | None, end: float | None
) -> tuple[ModeSDE, Floats, float, float, Curves | None]:
    """The SDE, the strengths it starts from, the first and the last time, and the curves of the run."""
    if isinstance(run_or_sde, xr.Dataset):
        if start is not None or end is not None:
            raise ValueError("start and end belong to a ModeSDE; a run has its own, leave them out")
        seen = drawable(run_or_sde)
        sde = mode_sde(seen.problem, seen.method, seen.mode(mode))
        begin = prediction_start(seen, mode, sde.depth)
        first, sample, last = begin.time, begin.strengths, float(seen.time[-1])
        curves: Curves | None = seen.curves("mode_strength")
    elif isinstance(run_or_sde, ModeSDE):
        if start is None or end is None:
            raise TypeError("start and end are missing: give a strength and a time, such as start=1e-3, end=10.0")
        sde, first, curves = run_or_sde, 0.0, None
        sample, last = np.array([as_number(start, "start")]), as_number(end, "end")
    else:
        raise TypeError(f"run_or_sde must be a run or a ModeSDE, got {shown(run_or_sde)}")
    if not sde.temperature > 0:
        raise ValueError("a law in time needs noise, got T = 0; use SGD or Langevin")
    if not last > first:
        raise ValueError(f"end must lie after the start at time {first:g}, got {last:g}")
    return sde, sample, first, last, curves


def _law_in_time(sde: ModeSDE, sample: Floats, elapsed: Floats) -> tuple[Floats, str]:
    """Quantiles (t, p) at ``LEVELS`` and what they are of: laws in time, or paths where these are out of reach.

    Paths also where strengths do not start together.
    """
    try:
        if len(sample) > 1:
            raise ValueError("laws in time are found from one strength")
        laws = sde.evolve(float(sample[0]), elapsed, tol=1e-3)
        error = max(law.error for law in laws)
        return np.array([law.ppf(LEVELS) for law in laws]), f"CDF within {error:.1g}"
    except ValueError:
        first = np.quantile(sample, (np.arange(PATHS) + 0.5) / PATHS)
        paths = np.asarray(sde.simulate(np.random.default_rng(0).permutation(first), elapsed, PATHS), np.float64)
        return quantiles(paths, tuple(LEVELS)).T, f"from {PATHS:,} paths"


def _heat(levels: Floats, times: Floats, fine: Floats) -> tuple[Floats, Floats]:
    """Grid of strengths (x,), and the density (x, fine), between the quantiles at ``times``."""
    between = np.stack([np.interp(fine, times, column) for column in levels.T], axis=1)
    low, high = (float(np.quantile(levels, q)) for q in (0.0, 1.0))
    low, high = (
        max(low, levels[:, 20].min() - 0.5 * np.ptp(levels[:, 20:-20])),
        min(high, levels[:, -20].max() + 0.2 * np.ptp(levels[:, 20:-20])),
    )
    edges = np.linspace(low, high, 241)
    below = np.array([np.interp(edges, row, LEVELS) for row in between])
    density = np.diff(below, axis=1) / np.diff(edges)
    return (edges[1:] + edges[:-1]) / 2, density.T


def comparison(
    run: xr.Dataset, law: HasCDF | xr.Dataset, mode: int = 0, step: int | None = None, axes: Axes | None = None
) -> Figure:
    """Distribution functions of a run and of a law (or another run), with the verdict of ``compare`` as the title.

    The band is what chance explains around the run's (Dvoretzky, Kiefer and Wolfowitz, at 1e-6); the bar marks the
    largest difference. Draws into ``axes``, or a new figure, and returns the figure. Raises as ``compare``.

    >>> from scipy.stats import norm
    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Gaussian(scale=1.0))
    >>> run = simulate(problem, GD(lr=0.5), Plan(steps=1, trajectories=200), engine="reference")
    >>> comparison(run, norm(0.5, 0.5)).axes[0].get_title(loc="left")[:6]
    'agrees'
    """
    found = compare(run, law, mode, step)
    largest = found.rows[0]
    values = np.sort(strengths(selected(run), mode, step)[0])
    shares = np.arange(1, len(values) + 1) / len(values)
    others = np.sort(strengths(selected(law), mode, step)[0]) if isinstance(law, xr.Dataset) else None

    def cdf(x: ArrayLike) -> Floats:
        if others is not None:
            return np.searchsorted(others, as_vector(x, "x"), side="right") / len(others)
        return np.asarray(law.cdf(x), np.float64)

    def draw(place: Axes) -> None:
        low, high = _range(values, law if others is None else others)
        pad = 0.08 * (high - low) or 0.1 * max(abs(high), 1e-3)
        x = np.linspace(low - pad, high + pad, 600)
        steps = np.searchsorted(values, x, side="right") / len(values)
        place.fill_between(
            x, np.maximum(steps - largest.bound, 0), np.minimum(steps + largest.bound, 1), color=COLOURS[0], alpha=0.15,
            lw=0, step="mid", label="chance",
        )  # fmt: skip
        place.step([x[0], *values, x[-1]], [0, *shares, 1], where="post", color=COLOURS[0], label="run")
        place.plot(x, cdf(x), color=INK, lw=1.2, ls=(0, (4, 2)), label="law" if others is None else "other run")
        at = values[int(gaps(values, cdf).argmax())]
        theirs = float(cdf(np.array([at]))[0])
        sides = [np.searchsorted(values, at, side=side) / len(values) for side in ("left", "right")]
        mine = max(sides, key=lambda share: abs(share - theirs))
        place.plot(
            [at, at], [mine, theirs], color=COLOURS[1], lw=2.2, label="largest difference", solid_capstyle="butt"
        )
        place.set(xlabel="mode strength [y/x]", ylabel="distribution function", xlim=(x[0], x[-1]), ylim=(0, 1.01))
        legend_above(place, 4)
        verdict = f"{found.verdict}: largest difference {largest.difference:.3g}, chance explains {largest.bound:.3g}"
        if found.verdict == "inconclusive" and largest.difference > largest.bound + found.diverged:
            verdict = "inconclusive: a run may only approach point masses of a law"
        place.set_title(verdict, pad=24)

    return drawn(draw, axes)


def _range(values: Floats, law: Any) -> tuple[float, float]:
    """Ends of the sample and of the law, but not further beyond the sample than three times its width."""
    low, high = float(values[0]), float(values[-1])
    width = high - low or abs(high)
    if isinstance(law, np.ndarray):
        ends = law[[0, -1]]
    else:
        ends = np.asarray(law.ppf(np.array([0.01, 0.99]))) if hasattr(law, "ppf") else values[[0, -1]]
    return max(min(low, float(ends[0])), low - 3 * width), min(max(high, float(ends[1])), high + 3 * width)
