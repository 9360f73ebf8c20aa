"""Panels over time: mode strengths, mode noise, loss, balance, rank, determinant, and any other variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from saddlescope._arrays import Floats
from saddlescope.plots.predicted import Prediction, predictions
from saddlescope.plots.style import COLOURS, GREY, INK, drawn, legend_above
from saddlescope.plots.views import CannotPlot, Curves, View, view

MAP = "viridis"
"""Colours of more curves than ``COLOURS``."""

GAP = 0.066
"""Least distance of two labels beside a panel, as a fraction of its height."""


@dataclass(frozen=True)
class Panel:
    """What a panel shows, ready to be drawn: curves, and what is added to them."""

    curves: Curves
    log: bool
    decades: float = 6.0
    limits: tuple[float, float] | None = None
    theory: Sequence[Prediction] = ()
    targets: Sequence[float] = ()
    peaks: Sequence[tuple[int, float, float]] = ()
    second: Curves | None = None
    single: str = ""


# --- the public panels


def modes(run: xr.Dataset, axes: Axes | None = None, theory: bool = True) -> Figure:
    """Mode strengths ``u_αᵀPv_α`` over time, with the mode SDE and gradient flow where theory has them.

    Lines are ensemble means, bands hold 90 % of the trajectories; fewer than 8 kept trajectories are drawn one by one.
    Dashed: mean and 5–95 % of 4,096 paths of ``theory.mode_sde``; dash-dotted: gradient flow. Theory starts at the
    initial strengths of balanced weights, and otherwise from the run's own strengths at the first save at which their
    median is at least 0.05 s*. Modes with s* = 0 are left out.
    Draws into ``axes``, or a new figure, and returns the figure. Raises TypeError or ValueError for what is not a run,
    ValueError where the run holds no mode strengths.
    """
    seen = view(run)
    return _figure(lambda: strengths_of(seen, *_theory(seen, theory)[:1]), seen, axes)


def noise(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Variance rate of the gradient noise along every mode, with its peak marked.

    A peak is that of ``Plan(events=["noise_peak"])`` (median over trajectories) where the run has it, otherwise the
    largest mean noise before the mean strength reaches 0.9 s*, if it falls by 10 % until then.
    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where there is no noise.
    """
    return over(run, noise_of, axes)


def loss(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Population loss above that of the teacher, and the loss on held-out samples where the run has it.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where the run holds no loss.
    """
    return over(run, loss_of, axes)


def balance(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Imbalance ``‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F`` of neighbouring layers, which gradient flow conserves.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a single layer, and where the
    imbalance is 0 up to rounding.
    """
    return over(run, balance_of, axes)


def rank(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Effective rank of the end-to-end map, and the number of learned modes.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a map of rank one at most.
    """
    return over(run, rank_of, axes)


def determinant(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """``log det ΘᵀΘ`` of neighbouring layers, ``Θ = [W_l, W_{l+1}ᵀ]``, which noise lowers.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where no hidden layer is as wide as
    its two neighbours together.
    """
    return over(run, determinant_of, axes)


def variable(run: xr.Dataset, name: str, axes: Axes | None = None) -> Figure:
    """Any variable of a run over time, such as ``"alignment"`` or ``"layer_noise"``.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a variable that the run does not
    hold, with the option of the plan that keeps it.
    """
    return over(run, lambda seen: _plain(seen, name), axes)


def over(run: xr.Dataset, panel: Callable[[View], Panel], axes: Axes | None) -> Figure:
    """A panel of a run alone."""
    seen = view(run)
    return _figure(lambda: panel(seen), seen, axes)


def _figure(panel: Callable[[], Panel], seen: View, axes: Axes | None) -> Figure:
    content = panel()
    return drawn(lambda place: draw(place, content, seen, across=3), axes)


def _theory(seen: View, wanted: bool) -> tuple[list[Prediction], list[str]]:
    """Predictions of the modes that are shown."""
    return predictions(seen, shown_modes(seen)) if wanted else ([], [])


# --- their content


def shown_modes(seen: View) -> list[int]:
    """Modes of the run with s* > 0."""
    held = np.atleast_1d(seen.run["mode"].values) if "mode" in seen.run.coords else np.array([], int)
    return [int(mode) for mode in held if seen.learnable[mode]]


def strengths_of(seen: View, theory: Sequence[Prediction]) -> Panel:
    """Mode strengths."""
    curves = _of_modes(seen, "mode_strength")
    targets = seen.targets[curves.places]
    values, most = curves.values, float(np.abs(targets).max(initial=0.0))
    ends = np.nanmax(np.abs(curves.middle[-1])) if np.isfinite(curves.middle[-1]).any() else most
    apart = targets.max() >= 30 * targets.min() or ends < 0.01 * most
    log = bool(values.min() > 0 and apart)
    limits = None
    if most > 0 and not log and (values.max() > 4 * most or values.min() < -most):
        limits = (max(-0.25 * most, values.min()), min(2 * most, values.max()))
    return Panel(curves, log, limits=limits, theory=theory, targets=tuple(targets))


def noise_of(seen: View) -> Panel:
    """Noise along the modes, with peaks."""
    curves = _of_modes(seen, "mode_noise")
    if not curves.values.max() > 0:
        raise CannotPlot("mode noise", f"0 at all saves of {type(seen.method).__name__}", "use SGD or Langevin")
    return Panel(curves, True, decades=5, peaks=_peaks(seen, curves))


def loss_of(seen: View) -> Panel:
    """Excess loss and test loss."""
    curves = seen.curves("excess_loss" if "excess_loss" in seen.run else "loss")
    second = seen.curves("test_loss") if "test_loss" in seen.run else None
    single = "population" if second is not None else ""
    return Panel(curves, True, decades=10, second=second, single=single)


def balance_of(seen: View) -> Panel:
    """Imbalance of layers."""
    if seen.problem.network.depth == 1:
        raise CannotPlot("imbalance", "a single layer", "use depth ≥ 2")
    curves = seen.curves("imbalance")
    if curves.values.max() < 1e-12 * _weight(seen):
        raise CannotPlot("imbalance", "0 up to rounding", "use other initial weights or noise")
    return Panel(curves, True)


def rank_of(seen: View) -> Panel:
    """Effective rank and learned modes."""
    if len(seen.targets) < 2:
        raise CannotPlot("effective rank", "at most one mode", "use more inputs and outputs")
    curves = seen.curves("effective_rank")
    second = seen.curves("learned_modes") if "learned_modes" in seen.run else None
    if second is not None:
        none = np.full_like(second.low, np.nan)
        second = replace(second, low=none, high=none, paths=second.paths[:0] if second.kind else second.paths)
    tallest = max(curves.values.max(), second.values.max() if second is not None else 0)
    return Panel(curves, False, limits=(0, 1.08 * tallest), second=second, single="effective rank")


def determinant_of(seen: View) -> Panel:
    """log det of neighbouring layers."""
    if seen.problem.network.depth == 1:
        raise CannotPlot("log det", "a single layer", "use depth ≥ 2")
    try:
        curves = seen.curves("log_det")
    except CannotPlot as error:
        if "not defined" in error.reason:
            raise CannotPlot("log det", "no layer as wide as its neighbours together", "widen it") from None
        raise
    if "imbalance" in seen.run and np.nanmax(_first(seen.curves("imbalance"))) < 1e-12 * _weight(seen):
        raise CannotPlot("log det", "balanced layers are singular", "use other initial weights")
    return Panel(curves, False)


def _plain(seen: View, name: str) -> Panel:
    curves = _of_modes(seen, name)
    positive = curves.values.min() > 0
    return Panel(curves, bool(positive and curves.values.max() > 100 * curves.values.min()))


def _of_modes(seen: View, name: str) -> Curves:
    """Curves without the modes whose s* is 0."""
    curves = seen.curves(name)
    if curves.axis != "mode":
        return curves
    curves = curves.only(seen.learnable[curves.places])
    if not len(curves):
        raise CannotPlot(name.replace("_", " "), "only modes with s* = 0 are selected", "select others")
    return curves


def _weight(seen: View) -> float:
    """Size of a squared weight of the learned network."""
    return max(float(seen.targets.max(initial=0.0)) ** (2 / seen.problem.network.depth), 1e-30)


def _first(curves: Curves) -> Floats:
    """Values at the first save."""
    return (
        curves.middle[0] if len(curves.middle) and np.isfinite(curves.middle[0]).any() else curves.paths[:, 0].ravel()
    )


def _peaks(seen: View, curves: Curves) -> list[tuple[int, float, float]]:
    """The curve, time and noise of each peak."""
    steps = seen.run.get("noise_peak_step")
    return [
        (index, *peak)
        for index, mode in enumerate(curves.places)
        if (
            peak := _event_peak(seen, steps, curves, index)
            if steps is not None
            else _mean_peak(seen, curves, index, int(mode))
        )
    ]


def _event_peak(seen: View, steps: xr.DataArray, curves: Curves, index: int) -> tuple[float, float] | None:
    """Median peak of the trajectories, at the height of the curve."""
    of_mode = steps.sel(mode=curves.places[index]) if "mode" in steps.dims else steps
    found = np.atleast_1d(of_mode.values)
    found = found[np.isfinite(found)]
    if not 2 * len(found) > steps.sizes.get("trajectory", 1):
        return None
    time = float(seen.method.time(np.median(found)))
    return (
        (time, float(np.interp(time, curves.time, curves.middle[:, index])))
        if curves.time[0] <= time <= curves.time[-1]
        else None
    )


def _mean_peak(seen: View, curves: Curves, index: int, mode: int) -> tuple[float, float] | None:
    """Peak of the mean noise before the mean strength reaches 0.9 s*; none where some trajectories run away."""
    if curves.kind == "median":
        return None
    try:
        strength = seen.curves("mode_strength")
    except ValueError:
        return None
    learned = strength.middle[:, list(strength.places).index(mode)] >= 0.9 * seen.targets[mode]
    if not learned.any() or learned[0]:
        return None
    end = int(learned.argmax())
    before = curves.middle[: end + 1, index]
    if not np.isfinite(before).any():
        return None
    place = int(np.nanargmax(before))
    if not 0 < place < end or before[-1] > 0.9 * before[place]:
        return None
    return float(curves.time[place]), float(before[place])


# --- how they are drawn


def draw(axes: Axes, panel: Panel, seen: View, labels: bool = True, whole: bool = True, across: int = 5) -> None:
    """Draw a panel into axes; without ``whole`` its legend leaves out what that of the first panel says.

    ``across`` is the number of entries in a row of the legend.
    """
    curves, log_time = panel.curves, seen.log_time
    colours = _colours(curves, len(seen.targets))
    for index, target in enumerate(panel.targets):
        if len(curves) <= len(COLOURS):
            axes.axhline(target, color=colours[index], lw=0.7, ls=":", zorder=1)
    for index, colour in enumerate(colours):
        _curve(axes, curves, index, colour, bands=len(curves) <= len(COLOURS))
    if panel.second is not None:
        for index in range(len(panel.second)):
            _curve(axes, panel.second, index, COLOURS[1], bands=True)
    for one in panel.theory:
        _predicted(axes, one, bands=len(curves) <= len(COLOURS), median=curves.kind == "median")
    for index, time, height in panel.peaks:
        axes.plot(time, height, "o", color=colours[index], mec="white", mew=0.8, ms=6, zorder=5)
    _scales(axes, panel, log_time)
    axes.set(xlabel="time", ylabel=curves.label)
    if labels and len(curves) > len(COLOURS):
        _scale_of_colours(axes, curves)
    elif labels and (len(curves) > 1 or panel.targets):
        beside(axes, [(name, _last(curves, index), colours[index]) for index, name in enumerate(curves.names) if name])
    _legend(axes, panel, whole, across)


def _colours(curves: Curves, modes: int) -> list[Any]:
    if len(curves) <= len(COLOURS):
        return [
            COLOURS[int(place) % len(COLOURS)]
            for place in (curves.places if curves.places.max() < len(COLOURS) else range(len(curves)))
        ]
    ramp = mpl.colormaps[MAP]
    span = max(int(curves.places.max()), 1)
    return [ramp(0.92 * place / span) for place in curves.places]


def _scale_of_colours(axes: Axes, curves: Curves) -> None:
    ramp = mpl.colormaps[MAP]
    colours = mpl.colors.ListedColormap(ramp(np.linspace(0, 0.92, 256)))
    mappable = ScalarMappable(Normalize(0, int(curves.places.max())), colours)
    bar = axes.figure.colorbar(mappable, ax=axes, aspect=30, pad=0.02)
    bar.set_label(curves.axis.replace("_", " "))
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _curve(axes: Axes, curves: Curves, index: int, colour: Any, bands: bool) -> None:
    mark = "o" if len(curves.time) == 1 else None
    if bands:
        low, high = curves.low[:, index], curves.high[:, index]
        if len(curves.time) == 1:
            axes.vlines(curves.time, low, high, color=colour, lw=4, alpha=0.25)
        else:
            axes.fill_between(curves.time, low, high, color=colour, alpha=0.2, lw=0)
        alone = not np.isfinite(curves.middle[:, index]).any()
        for path in curves.paths:
            style: dict[str, Any] = {"lw": 0.9, "alpha": 0.8} if alone else {"lw": 0.5, "alpha": 0.55}
            axes.plot(curves.time, path[:, index], color=colour, marker=mark, **style)
    if np.isfinite(curves.middle[:, index]).any():
        axes.plot(curves.time, curves.middle[:, index], color=colour, marker=mark, lw=1.8 if bands else 1.0, zorder=3)
    elif not bands:
        axes.plot(curves.time, np.nanmean(curves.paths[:, :, index], axis=0), color=colour, lw=1.0)


def _predicted(axes: Axes, one: Prediction, bands: bool, median: bool) -> None:
    if one.flow is not None and bands:
        axes.plot(one.time, one.flow, color=GREY, lw=1.0, ls="-.", zorder=4 if one.sde is None else 2.5)
    if one.sde is not None:
        axes.plot(one.time, one.sde[2 if median else 0], color=INK, lw=1.0, ls=(0, (4, 2)), zorder=4)
        for edge in one.sde[[1, 3]] if bands else ():
            axes.plot(one.time, edge, color=INK, lw=0.6, ls=(0, (1.5, 1.5)), zorder=4)


def _scales(axes: Axes, panel: Panel, log_time: bool) -> None:
    curves, values = panel.curves, panel.curves.values
    known = np.isfinite(curves.middle).any(axis=1) | np.isfinite(curves.paths).any(axis=(0, 2))
    end = curves.time[known][-1]
    if log_time:
        axes.set_xscale("log")
        axes.set_xlim(curves.time[curves.time > 0][0], end)
    elif end > curves.time[0]:
        axes.set_xlim(curves.time[0], end)
    else:
        axes.set_xticks(curves.time)
    positive = values[values > 0]
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    elif panel.log and len(positive) and positive.max() > 10 * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        low, high = max(positive.min(), positive.max() * 10**-panel.decades) / 1.5, 1.5 * positive.max()
        if high < 100 * low:  # two labelled ticks at least
            low, high = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high))
        axes.set_ylim(low, high)
        axes.yaxis.set_minor_formatter(NullFormatter())


def _last(curves: Curves, index: int) -> float:
    """Height of the end of a curve."""
    for line in (curves.middle[:, index], *(path[:, index] for path in curves.paths)):
        known = line[np.isfinite(line)]
        if len(known):
            return float(known[-1])
    return np.nan


def beside(axes: Axes, labels: Sequence[tuple[str, float, Any]]) -> None:
    """Names at the ends of curves, to the right of the panel, moved apart where they would touch."""
    transform = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    with np.errstate(all="ignore"):
        heights = np.array([transform.transform((right, height))[1] for _, height, _ in labels])
    heights = np.clip(np.nan_to_num(heights, nan=0.5, posinf=1.0, neginf=0.0), 0.0, 1.0)
    for (name, _, colour), height in zip(labels, apart(heights, GAP), strict=True):
        axes.annotate(
            name, (1.0, height), (5, 0), xycoords="axes fraction", textcoords="offset points", color=colour,
            va="center", annotation_clip=False,
        )  # fmt: skip


def apart(places: Floats, gap: float) -> Floats:
    """Places in [0, 1], moved as little as needed to lie ``gap`` apart.

    >>> apart(np.array([0.5, 0.5]), 0.1)
    array([0.55, 0.45])
    """
    if not len(places):
        return places
    order = np.argsort(-places, kind="stable")
    found = places[order].astype(float)
    for _ in range(200):
        close = found[:-1] - found[1:] < gap - 1e-9
        if not close.any():
            break
        for i in np.flatnonzero(close):
            middle = (found[i] + found[i + 1]) / 2
            found[i], found[i + 1] = middle + gap / 2, middle - gap / 2
    found[0] = min(found[0], 1.0)
    for below in range(1, len(found)):
        found[below] = min(found[below], found[below - 1] - gap)
    moved = np.empty_like(found)
    moved[order] = found
    return moved


def _legend(axes: Axes, panel: Panel, whole: bool, across: int) -> None:
    """What the kinds of lines mean, above the panel."""
    curves, few = panel.curves, len(panel.curves) <= len(COLOURS)
    colour = GREY if panel.second is None else COLOURS[0]
    band = bool(np.isfinite(curves.low).any()) and few
    line, patch = Line2D([], [], color=colour, lw=1.8), Patch(color=colour, alpha=0.2, lw=0)
    words = (curves.kind, "5–95 %" if band else "", "trajectories" if len(curves.paths) else "")
    entries: dict[str, Any] = {}
    if whole or panel.single:
        name = panel.single or ", ".join(word for word in words if word) or "run"
        entries[name] = (patch, line) if band else line
    if panel.second is not None:
        entries[panel.second.label.split(" [")[0]] = Line2D([], [], color=COLOURS[1], lw=1.8)
    if any(one.sde is not None for one in panel.theory):
        entries["mode SDE"] = Line2D([], [], color=INK, lw=1.0, ls=(0, (4, 2)))
    if any(one.flow is not None for one in panel.theory) and few:
        entries["gradient flow"] = Line2D([], [], color=GREY, lw=1.0, ls="-.")
    if panel.targets and few:
        entries["s*"] = Line2D([], [], color=GREY, lw=0.7, ls=":")
    if panel.peaks:
        entries["peak"] = Line2D([], [], color=GREY, marker="o", mec="white", ms=6, lw=0)
    legend_above(axes, across, entries)
