"""How a panel over time is drawn: curves, bands, theory, labels beside the curves, scales and the legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerLine2D
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from saddlescope._arrays import Floats
from saddlescope.plots.predicted import Prediction
from saddlescope.plots.style import COLOURS, GREY, INK, legend_above
from saddlescope.plots.views import Curves, View

MAP = "viridis"
"""Colours of more curves than ``COLOURS``."""

RUNAWAY = 1000
"""Multiple of the median of what is drawn beyond which an axis does not follow trajectories that diverge."""

GAP = 0.066
"""Least distance of two labels beside a panel, as a fraction of its height."""


SDE: dict[str, Any] = {"color": INK, "lw": 1.0, "ls": (0, (4, 2))}
EDGE: dict[str, Any] = {"color": INK, "lw": 0.6, "ls": (0, (1.5, 1.5))}
FLOW: dict[str, Any] = {"color": GREY, "lw": 3.8, "ls": "-", "alpha": 0.4, "solid_capstyle": "butt"}
LEVEL: dict[str, Any] = {"lw": 0.7, "ls": "-", "alpha": 0.5}
"""Lines of theory: the mode SDE, its 5 and 95 %, gradient flow (under the run, so wide that it shows), and s*."""


@dataclass(frozen=True)
class Panel:
    """What a panel shows, ready to be drawn: curves, and what is added to them."""

    curves: Curves
    log: bool
    decades: float = 6.0
    limits: tuple[float, float] | None = None
    theory: Sequence[Prediction] = ()
    edges: bool = True
    targets: Sequence[float] = ()
    peaks: Sequence[tuple[int, float, float]] = ()
    second: Curves | None = None
    single: str = ""


def draw(axes: Axes, panel: Panel, seen: View, labels: bool = True, whole: bool = True, across: int = 5) -> None:
    """Draw a panel into axes; without ``whole`` its legend leaves out what that of the first panel says.

    ``across`` is the number of entries in a row of the legend.
    """
    curves = panel.curves
    colours = _colours(curves, len(seen.targets))
    for index, target in enumerate(panel.targets):
        if len(curves) <= len(COLOURS):
            axes.axhline(target, color=colours[index], **LEVEL, zorder=1)
    for index, colour in enumerate(colours):
        _curve(axes, curves, index, colour, bands=len(curves) <= len(COLOURS))
    if panel.second is not None:
        for index in range(len(panel.second)):
            _curve(axes, panel.second, index, COLOURS[1], bands=True)
    for one in panel.theory:
        few = len(curves) <= len(COLOURS)
        _predicted(axes, one, flow=few, edges=few and panel.edges, median=curves.kind == "median")
    for index, time, height in panel.peaks:
        axes.plot(time, height, "o", color=colours[index], mec="white", mew=0.8, ms=6, zorder=5)
    _scales(axes, panel, seen)
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


def _predicted(axes: Axes, one: Prediction, flow: bool, edges: bool, median: bool) -> None:
    if one.flow is not None and flow:
        axes.plot(one.time, one.flow, **FLOW, zorder=2.5)
    if one.sde is not None:
        axes.plot(one.time, one.sde[2 if median else 0], **SDE, zorder=4)
        for edge in one.sde[[1, 3]] if edges else ():
            axes.plot(one.time, edge, **EDGE, zorder=4)


def _scales(axes: Axes, panel: Panel, seen: View) -> None:
    curves, values = panel.curves, panel.curves.values
    if panel.second is not None:
        values = np.concatenate([values.ravel(), panel.second.values.ravel()])
    known = np.isfinite(curves.middle).any(axis=1) | np.isfinite(curves.paths).any(axis=(0, 2))
    end = curves.time[known][-1]
    if seen.log_time:
        axes.set_xscale("log")
        axes.set_xlim(curves.time[curves.time > 0][0], end)
    elif end > curves.time[0]:
        axes.set_xlim(curves.time[0], end)
    else:
        axes.set_xticks([end])
    positive = values[values > 0]
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    elif panel.log and len(positive) and positive.max() > 10 * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        if seen.status.any():  # the last saves before a divergence do not stretch the axis
            positive = positive[positive <= RUNAWAY * np.median(positive)]
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


class _Edged(Line2D):
    """A line that the legend shows between its edges."""


class _Handler(HandlerLine2D):
    def create_artists(self, legend: Any, handle: Any, *place: Any) -> list[Any]:
        x, y, width, height, _, transform = place
        edges = [Line2D([x, x + width], [end, end], transform=transform, **EDGE) for end in (y, y + height)]
        return [*super().create_artists(legend, handle, *place), *edges]


Legend.update_default_handler_map({_Edged: _Handler()})


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
        edged = few and panel.edges
        entries["mode SDE, 5–95 %" if edged else "mode SDE"] = (_Edged if edged else Line2D)([], [], **SDE)
    if any(one.flow is not None for one in panel.theory) and few:
        entries["gradient flow"] = Line2D([], [], **FLOW)
    if panel.targets and few:
        entries["s*"] = Line2D([], [], color=GREY, **LEVEL)
    if panel.peaks:
        entries["peak"] = Line2D([], [], color=GREY, marker="o", mec="white", ms=6, lw=0)
    legend_above(axes, across, entries)
