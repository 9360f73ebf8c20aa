"""The picture of a watched training: modes of a few weights, noise, balance and rank, beside predictions.

A panel is a ``Chart``: lines over the steps, each with a band of its error. The footer names what a dataset lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.monitor.coverage import Coverage
from saddlescope.monitor.summary import alarms, ends, order, title
from saddlescope.monitor.variables import COORDINATES, VARIABLES
from saddlescope.monitor.words import labels
from saddlescope.plots.panel import SDE, beside
from saddlescope.plots.style import COLOURS, GREY, PANEL, STYLE, Picture, label, legend_above, quiet, titled

WEIGHTS, CURVES = 3, 5
"""Most weights whose modes are shown, most curves of a panel of weights, parameters or pairs."""

NAME = 24
"""Most columns of a name beside a curve."""

SOME = ("noise of heads", "log determinant")
"""Panels of which nothing is said where they are missing, as few models have heads, or linear layers in a row."""

SIGNAL = "squared mean gradient"
"""The level that noise is compared with."""

POOLED = 7
"""Number of neighbouring records whose mean is drawn where single records scatter."""

LEVEL: dict[str, Any] = {"color": GREY, "lw": 1.0, "ls": (0, (4, 2))}
"""The line of a grey level."""

ERRORS = 2.0
"""Standard errors in a band: about 95 %."""


@dataclass(frozen=True)
class Line:
    """A curve over the steps (t,) with its band and, where there is theory, its prediction with a band."""

    name: str
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    predicted: Floats | None = None
    error: Floats | None = None
    marks: Floats | None = None
    """Steps that are marked, NaN elsewhere."""
    edges: bool = False
    """Whether the band is told by its edges, so that bands may overlap."""


@dataclass(frozen=True)
class Chart:
    """A panel: its lines, the label of its axis, the subject above it, and a grey band or level to compare with."""

    label: str
    lines: tuple[Line, ...]
    log: bool = False
    subject: str = ""
    grey: tuple[Floats, Floats] | None = None
    grey_name: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    """Kinds among "line", "band", "predicted" and "marks" with what they mean."""


def picture(training: xr.Dataset, theory: bool = True) -> Figure:
    """The picture of what a monitor recorded; ``theory`` adds the predicted balance and log determinant."""
    training = _whole(training)
    with mpl.rc_context(STYLE), quiet():
        rows, notes = _charts(training, theory)
        figure = Picture(3 * PANEL[0], max(len(rows), 0.3) * PANEL[1] + 0.5)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
        parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0] if rows else ()
        for part, row in zip(parts, rows, strict=True):
            for axes, chart in zip(part.subplots(1, len(row), squeeze=False)[0], row, strict=True):
                draw(axes, chart, training["step"].values)
        titled(figure, title(training), notes, once=True)
    return figure


def _whole(training: xr.Dataset) -> xr.Dataset:
    """The dataset in the order of its steps, with all dims where single names, modes or steps were selected."""
    for dim in {dim for one in VARIABLES.values() for dim in one.dims}:
        if dim in training.coords and dim not in training.dims:
            lost = [name for name in (*VARIABLES, *COORDINATES) if name in training.variables]
            lost = [name for name in lost if dim in (VARIABLES | COORDINATES)[name].dims]
            training = training.assign({name: training[name].variable.expand_dims(dim) for name in lost})
    training = training.assign({name: training[name].transpose(*VARIABLES[str(name)].dims) for name in training})
    return training.sortby("step")


# --- what is shown


def _charts(training: xr.Dataset, theory: bool) -> tuple[list[list[Chart]], list[str]]:
    """Rows of panels, and sentences for the footer."""
    if not training.sizes["step"]:
        return [], ["Nothing was recorded yet.", _covered(training)]
    weights, note = _weights(training)
    strengths = [_strengths(training, weight) for weight in weights]
    noisy = [_mode_noise(training, weight) for weight in weights if "mode_variance" in training]
    noisy = noisy if any(chart.lines for chart in noisy) else []
    rows = [strengths + noisy] if len(weights) == 1 else [row for row in (strengths, noisy) if row]
    found: list[Chart] = []
    absent, notes = [], [note] if note else []
    for what, of, names in (
        ("noise", _traces, ("trace", "total_trace")),
        ("noise scale", _noise_scale, ("noise_scale",)),
        ("noise of heads", _heads, ("head_trace",)),
        ("balance", _balance, ("imbalance",)),
        ("rank", _ranks, ("effective_rank_low", "effective_rank_high")),
        ("log determinant", _log_det, ("log_det",)),
    ):
        if set(names) <= set(training) and all(np.isfinite(training[name]).any() for name in names):
            chart, more = of(training, theory)
            found.append(chart)
            notes += [more] if more else []
        elif what not in SOME:
            absent.append(what)
    if not weights:
        absent.insert(0, "modes")
    if absent:
        notes.append(f"Not recorded: {', '.join(absent)}.")
    if training.sizes["step"] > 2 * POOLED and ("mode_variance" in training or "trace" in training):
        notes.append(f"Noise is the mean of {POOLED} neighbouring records.")
    if "trace" in training or "mode_variance" in training:
        notes.append(
            "Noise is the variance of gradients of single samples, in squared units of loss per unit of weight."
        )
    wrong = alarms(training)
    told = [" ".join(notes), "" if wrong.startswith("none") else f"Alarms: {wrong}.", _covered(training)]
    return [*rows, *(found[i : i + 2] for i in range(0, len(found), 2))], [one for one in told if one]


def _covered(training: xr.Dataset) -> str:
    return f"Coverage: {Coverage.from_text(training.attrs['coverage']).sentence}."


def _weights(training: xr.Dataset) -> tuple[list[str], str]:
    """The weights whose modes are shown, and a sentence that says which where there are more."""
    if "mode_strength" not in training or not np.isfinite(training["mode_strength"]).any():
        return [], ""
    first, last = ends(training["mode_strength"])
    change = np.sqrt(np.nansum((last - first) ** 2, axis=1)) / np.sqrt(np.nansum(first**2, axis=1))
    names, places = [str(name) for name in training["weight"].values], order(-change)[:WEIGHTS]
    note = "" if len(places) == len(names) else (
        f"Modes of the {len(places)} of {len(names)} weights whose mode strengths changed most; "
        f"sel(weight=[…]) selects others."
    )  # fmt: skip
    return [names[place] for place in sorted(places)], note


def _strengths(training: xr.Dataset, weight: str) -> Chart:
    found = training["mode_strength"].sel(weight=weight)
    lines = [Line(f"{mode}", found.values[:, place]) for place, mode in enumerate(found["mode"].values[: len(COLOURS)])]
    return Chart(label(found), _known(lines), subject=f"modes of {_short(training['weight'].values)[weight]}")


def _mode_noise(training: xr.Dataset, weight: str) -> Chart:
    found, grey = training["mode_variance"].sel(weight=weight), None
    lines = [
        Line(f"{mode}", _pooled(found.values[:, place]))
        for place, mode in enumerate(found["mode"].values[: len(COLOURS)])
    ]
    if "control_variance" in training:
        control = _pooled(training["control_variance"].sel(weight=weight).values)
        grey = np.nanmin(control, axis=1), np.nanmax(control, axis=1)
    return Chart(label(found), _known(lines), True, "", grey, "random directions")


def _noise_scale(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    low, high = (
        training[name].values if name in training else None for name in ("noise_scale_low", "noise_scale_high")
    )
    line = Line("", training["noise_scale"].values, low, high)
    batch = training["batch_size"].values.astype(float)
    return Chart(label(training["noise_scale"]), (line,), True, grey=(batch, batch), grey_name="batch size",
                 legend=(("band", "95 %"),)), ""  # fmt: skip


def _traces(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    found = training["trace"]
    chosen = _largest(found, CURVES - 1)
    lines = [_with_errors(training, "total_trace", "all parameters")]
    named = _short(found["parameter"].values)
    lines += [_with_errors(training, "trace", named[name], parameter=name) for name in chosen]
    signal = _pooled(training["total_gradient_norm2"].values) if "total_gradient_norm2" in training else None
    fewer = len(chosen) < found.sizes["parameter"]
    note = [f"Noise of the {len(chosen)} noisiest of {found.sizes['parameter']} parameters."] if fewer else []
    note += [] if signal is None else [f"The {SIGNAL} is ‖E G‖² over all of them, with gaps where it is not above 0."]
    grey = None if signal is None else (signal, signal)
    return Chart(label(found), _known(lines), True, grey=grey, grey_name=SIGNAL), " ".join(note)


def _heads(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    found = training["head_trace"].stack(place=("weight", "head"))
    chosen, named = _largest(found, CURVES), _short(training["weight"].values, NAME - 4)
    lines = [
        Line(f"{named[weight]} · {head}", _pooled(found.sel(place=(weight, head)).values)) for weight, head in chosen
    ]
    return Chart(label(training["head_trace"]), _known(lines), True), f"Noise of the {len(lines)} noisiest heads."


def _balance(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    found = training["imbalance"]
    start, end = ends(found)
    score, names = -np.abs(end - start), found["pair"].values
    places, lines, short = order(score)[: CURVES - 1], [], _short(names, NAME - 8)
    for place in sorted(places):
        one = training.isel(pair=place)
        predicted = one["imbalance_predicted"].values if theory and "imbalance_predicted" in training else None
        error = one["imbalance_predicted_stderr"].values if "imbalance_predicted_stderr" in training else None
        jumps = one["balance_jump"].values == 1 if "balance_jump" in training else np.zeros(len(found), bool)
        y = one["imbalance"].values - start[place]
        named = f"{short[names[place]]} from {start[place]:.3g}"
        predicted = None if predicted is None else predicted - start[place]
        marks = np.where(jumps, y, np.nan) if jumps.any() else None
        lines.append(Line(named, y, None, None, predicted, error, marks))
    legend = [("line", "measured")]
    legend += [("predicted", "predicted, 95 %")] if any(line.predicted is not None for line in lines) else []
    legend += [("marks", "jump")] if any(line.marks is not None for line in lines) else []
    note = "" if len(lines) == len(names) else f"The {len(lines)} of {len(names)} pairs whose balance changed most. "
    note += "A pair is ‘from’ its imbalance at the first record."
    return Chart(f"change of {label(found)}", _known(lines), legend=tuple(legend)), note


def _ranks(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    low, high = training["effective_rank_low"], training["effective_rank_high"]
    names, change = low["weight"].values, ends(high)[1] / ends(low)[0]
    lines, short = [], _short(names)
    for place in sorted(order(change)[:CURVES]):
        least, most = low.values[:, place], high.values[:, place]
        lines.append(Line(short[names[place]], np.sqrt(least * most), least, most, edges=True))
    note = (
        ""
        if len(lines) == len(names)
        else f"The {len(lines)} of {len(names)} weights whose effective rank fell most, or rose least."
    )
    return Chart("effective rank", _known(lines), legend=(("band", "bounds"),)), note


def _log_det(training: xr.Dataset, theory: bool) -> tuple[Chart, str]:
    found, lines = training["log_det"], []
    short = _short(found["interface"].values)
    start, end = ends(found)
    for place in sorted(order(end - start)[: CURVES - 1]):
        one = training.isel(interface=place)
        predicted = one["log_det_predicted"].values if theory and "log_det_predicted" in training else None
        lines.append(Line(short[found["interface"].values[place]], one["log_det"].values, None, None, predicted))
    legend = (
        (("line", "measured"), ("predicted", "predicted")) if any(line.predicted is not None for line in lines) else ()
    )
    return Chart(label(found), _known(lines), legend=legend), ""


def _with_errors(training: xr.Dataset, name: str, named: str, **at: Any) -> Line:
    """Pooled noise with a band of its errors, where there are any."""
    found = training[name].sel(at).values
    y = _pooled(found)
    if f"{name}_stderr" not in training:
        return Line(named, y)
    squares = training[f"{name}_stderr"].sel(at).values ** 2
    error = ERRORS * np.sqrt(_pooled(squares) / _counts(squares))
    return Line(named, y, y - error, y + error)


def _pooled(values: Floats) -> Floats:
    """Means over neighbouring records (t, …), without NaN; single records where there are few."""
    if len(values) <= 2 * POOLED:
        return values
    with np.errstate(all="ignore"):
        return np.asarray(_moving(np.where(np.isfinite(values), values, 0)) / _counts(values))


def _counts(values: Floats) -> Floats:
    """Numbers that the means are taken over (t, …)."""
    return _moving(np.isfinite(values)) if len(values) > 2 * POOLED else np.ones_like(values)


def _moving(values: NDArray[Any]) -> Floats:
    """Sums over a window of records (t, …), shorter at the ends."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0, dtype=float)])
    at = np.arange(len(values))
    return np.asarray(sums[np.minimum(at + POOLED // 2 + 1, len(at))] - sums[np.maximum(at - POOLED // 2, 0)])


def _largest(variable: xr.DataArray, most: int) -> list[Any]:
    """The labels with the largest mean over the steps, along the other dim."""
    dim = next(dim for dim in variable.dims if dim != "step")
    mean = variable.mean("step").values
    return [variable[dim].values[place] for place in sorted(order(-mean)[:most])]


def _short(names: Iterable[Any], width: int = NAME) -> dict[Any, str]:
    """Short names by name, no two of them alike."""
    return dict(zip(names, labels([str(name) for name in names], width), strict=True))


def _known(lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if np.isfinite(line.y).any())


# --- how it is drawn


def draw(axes: Axes, chart: Chart, step: Floats) -> None:
    """Draw a panel into axes."""
    single = len(step) == 1
    _scales(axes, chart, step)
    low, high = axes.get_ylim()
    reach = (0.1 * low, 10 * high) if axes.get_yscale() == "log" else (-np.inf, np.inf)
    if chart.grey is not None:
        if _is_level(chart.grey):
            axes.plot(step, chart.grey[0], **LEVEL, zorder=2, marker="_" if single else None, ms=20)
        else:
            _band(axes, step, *chart.grey, GREY, 0.35)
    for line, colour in zip(chart.lines, COLOURS, strict=False):
        if line.low is not None and line.high is not None:
            _band(axes, step, line.low.clip(*reach), line.high.clip(*reach), colour, 0.08 if line.edges else 0.2)
            if line.edges:
                axes.plot(step, line.low, step, line.high, color=colour, lw=0.6, zorder=2)
        middle = {"lw": 0} if line.edges and not single else {"lw": 1.4}
        axes.plot(step, line.y, color=colour, marker="o" if single else None, zorder=3, **middle)
        if line.predicted is not None:
            axes.plot(step, line.predicted, **{**SDE, "zorder": 4})
            if line.error is not None:
                error = ERRORS * line.error
                _band(axes, step, line.predicted - error, line.predicted + error, GREY, 0.3)
        if line.marks is not None:
            axes.plot(step, line.marks, "x", color=colour, ms=6, mew=1.6, zorder=5)
    axes.set(xlabel="step", ylabel=chart.label, title=chart.subject)
    if not chart.lines:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=GREY)
    if len(chart.lines) > 1:
        labels = [(line.name, _end(line.y), colour) for line, colour in zip(chart.lines, COLOURS, strict=False)]
        beside(axes, labels)
    _legend(axes, chart)


def _band(axes: Axes, step: Floats, low: Floats, high: Floats, colour: str, alpha: float) -> None:
    """Between two ends over the steps, over some width where there is one step."""
    if len(step) == 1:
        step, low, high = step[0] + np.array([-0.2, 0.2]), np.repeat(low, 2), np.repeat(high, 2)
    axes.fill_between(step, low, high, color=colour, alpha=alpha, lw=0, zorder=1)


def _is_level(grey: tuple[Floats, Floats]) -> bool:
    return np.array_equal(*grey, equal_nan=True)


def _scales(axes: Axes, chart: Chart, step: Floats) -> None:
    if len(step) > 1:
        axes.set_xlim(step[0], step[-1])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    else:
        axes.set_xlim(step[0] - 1, step[0] + 1)
        axes.set_xticks(step)
    values = np.concatenate([*(line.y for line in chart.lines), *(chart.grey or ())])
    positive = values[np.isfinite(values) & (values > 0)]
    open_end = any(line.high is not None and np.isposinf(line.high).any() for line in chart.lines)
    if chart.log and len(positive) and (open_end or positive.max() > 10 * positive.min()):
        axes.set_yscale("log", nonpositive="mask")
        low, high = max(positive.min(), 1e-6 * positive.max()) / 1.5, 1.5 * positive.max()
        if high < 100 * low:  # two labelled ticks at least
            low, high = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high))
        axes.set_ylim(low, high)
        axes.yaxis.set_minor_formatter(NullFormatter())


def _end(y: Floats) -> float:
    return float(y[np.isfinite(y)][-1])


def _legend(axes: Axes, chart: Chart) -> None:
    kinds: dict[str, Any] = {
        "line": Line2D([], [], color=GREY, lw=1.4),
        "band": Patch(color=COLOURS[0] if len(chart.lines) == 1 else GREY, alpha=0.2, lw=0),
        "predicted": (Patch(color=GREY, alpha=0.3, lw=0), Line2D([], [], **SDE)),
        "marks": Line2D([], [], color=GREY, marker="x", ms=6, mew=1.6, lw=0),
    }
    entries = {name: kinds[kind] for kind, name in chart.legend}
    if chart.grey is not None:
        patch = Patch(color=GREY, alpha=0.35, lw=0)
        entries[chart.grey_name] = Line2D([], [], **LEVEL) if _is_level(chart.grey) else patch
    if entries:
        legend_above(axes, 2, entries)
