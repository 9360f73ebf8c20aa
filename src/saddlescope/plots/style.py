"""One style for all figures, their panels together or one by one, and the files they are written to."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.rcsetup import cycler
from matplotlib.textpath import text_to_path

from saddlescope._numbers import shown

T = TypeVar("T")


class Interval(Protocol):
    """A number between two ends."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


INK, GREY, LIGHT = "#1b1f24", "#6b7280", "#d4d8dd"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#3B3B3B")
"""Distinct for readers with any colour vision (Okabe & Ito 2008), in the order of the modes."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ("DejaVu Sans", "Verdana", "Arial"),
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": LIGHT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "mathtext.default": "regular",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.6,
    "errorbar.capsize": 2,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "saddlescope",
}

PANEL = (3.5, 2.9)
"""Width and height of a panel, inches."""

ALONE = (5.6, 3.6)
"""Width and height of a panel that is a figure, inches."""


class Picture(Figure):
    """A figure without pyplot: it has no window, shows itself in notebooks, and is drawn in the style everywhere.

    ``picture.savefig(path)`` or ``save(picture, path)`` write it to a file.
    """

    def __init__(self, width: float, height: float) -> None:
        with mpl.rc_context(STYLE):
            super().__init__(figsize=(width, height), layout="constrained")
            FigureCanvasAgg(self)

    def savefig(self, fname: Any, **options: Any) -> None:
        """As ``Figure.savefig``, in the style; 200 dots per inch unless ``dpi`` says otherwise."""
        with mpl.rc_context(STYLE):
            super().savefig(fname, **({"dpi": 200} | options))

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """For notebooks, with two pixels for each of the screen's."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        width, height = self.get_size_inches()
        return buffer.getvalue(), {"width": round(100 * width), "height": round(100 * height)}


def drawn(draw: Callable[[Axes], None], axes: Axes | None, size: tuple[float, float] = ALONE) -> Figure:
    """The figure of ``axes`` after ``draw(axes)``; a new ``Picture`` in the style where ``axes`` is None.

    Raises TypeError when ``axes`` is not one panel of matplotlib.

    >>> len(drawn(lambda axes: None, None).axes)
    1
    """
    if axes is not None:
        if not isinstance(axes, Axes):
            raise TypeError(f"axes must be one matplotlib Axes, or None for a new figure, got {shown(axes)}")
        with quiet():
            draw(axes)
        figure = axes.figure
        return figure if isinstance(figure, Figure) else figure.figure
    with mpl.rc_context(STYLE), quiet():
        picture = Picture(*size)
        draw(picture.add_subplot())
        picture.canvas.draw()  # fixes ticks and text while the style holds
    return picture


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of axes that have no room or no positive values, and of slices that are all NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def columns(count: int) -> int:
    """Number of panels in a row, for this number of panels.

    >>> [columns(count) for count in (1, 2, 3, 4, 5, 6)]
    [1, 2, 3, 2, 3, 3]
    """
    return 2 if count == 4 else min(count, 3)


def panels(draw: Callable[[Sequence[Axes], T], None], content: T, count: int) -> Figure:
    """A figure of ``count`` panels, each a subfigure, filled by ``draw(axes, content)``.

    >>> len(panels(lambda axes, content: None, None, count=3).axes)
    3
    """
    across = columns(count)
    rows = -(-count // across)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(across * PANEL[0], rows * PANEL[1]), layout="constrained")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
        parts = np.ravel(figure.subfigures(rows, across, squeeze=False))[:count]
        draw([part.subplots() for part in parts], content)
        figure.canvas.draw()  # fixes ticks and text while the style holds
    return figure


def to_svgs(figure: Figure) -> list[str]:
    """Every panel as a separate SVG, identical for identical figures; text is text, the background transparent.

    >>> len(to_svgs(panels(lambda axes, content: None, None, count=3)))
    3
    """
    figure.set_layout_engine("none")  # keep the present layout
    with mpl.rc_context(STYLE):
        return [_alone(figure, part) for part in figure.subfigs if part.axes]


def _alone(figure: Figure, part: SubFigure) -> str:
    for other in figure.subfigs:
        other.set_visible(other is part)
    svg = _svg(figure, bbox_inches=part.bbox.transformed(figure.dpi_scale_trans.inverted()), transparent=True)
    for other in figure.subfigs:
        other.set_visible(True)
    return svg


def _svg(figure: Figure, **options: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, **options)
    return re.sub(r' d="[^"]*"', _rounded, buffer.getvalue())


def _rounded(path: re.Match[str]) -> str:
    """The coordinates of a path, truncated to a hundredth of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path[0])


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure in the format of the suffix of ``path`` (pdf, svg, png, …).

    Raises ValueError for a suffix that is not a figure format, FileNotFoundError when the folder does not exist.
    """
    kind = Path(path).suffix[1:].lower()
    known = sorted(figure.canvas.get_supported_filetypes())
    if kind not in known:
        raise ValueError(f"path must end in one of {', '.join(known)}, got {str(path)!r}; use figure.pdf")
    if not (folder := Path(path).parent).is_dir():
        raise FileNotFoundError(f"path {str(path)!r}: the folder {str(folder)!r} does not exist; make it first")
    with mpl.rc_context(STYLE):
        if kind == "svg":
            Path(path).write_text(_svg(figure), encoding="utf-8")
        else:
            figure.savefig(path, dpi=200)


def label(variable: xr.DataArray) -> str:
    """The label of an axis: display name and units; units that are 1 or repeat the name are left out.

    >>> label(xr.DataArray(0.0, attrs={"long_name": "mode strength", "units": "y/x"}))
    'mode strength [y/x]'
    >>> label(xr.DataArray(0.0, attrs={"long_name": "time", "units": "time"}))
    'time'
    """
    name, units = variable.attrs.get("long_name", str(variable.name)), variable.attrs.get("units", "1")
    return name if units in ("1", name) else f"{name} [{units}]"


def wrapped(text: str, width: float, size: float = 9) -> str:
    """Text in lines that fit into ``width`` inches at any resolution, where hinting widens letters by up to a tenth.

    >>> wrapped("a few words " * 3, width=1.0).count("\\n")
    2
    """
    font = FontProperties(size=size, family="DejaVu Sans")
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if 1.1 * text_to_path.get_text_width_height_descent(longer, font, False)[0] < 72 * width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def titled(figure: Picture, title: str, notes: Sequence[str], once: bool = False) -> None:
    """Add a title and a footer, a paragraph a note, and fix ticks and text while the style holds.

    ``once`` keeps the layout that is computed here, which takes most of the time of a drawing.
    """
    width = 0.98 * figure.get_figwidth()
    figure.suptitle(wrapped(title, width), x=0.008, ha="left", fontsize=9)
    figure.supxlabel("\n".join(wrapped(note, width) for note in notes), x=0.008, ha="left", fontsize=9, color=GREY)
    if once and (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    else:
        figure.canvas.draw()


def legend_above(axes: Axes, across: int, entries: Mapping[str, Any] | None = None) -> None:
    """A legend above the panel, ``across`` entries in a row: of names with handles, or of all that has a label."""
    if entries is None:
        handles, names = axes.get_legend_handles_labels()
        entries = dict(zip(names, handles, strict=True))
    if entries:
        rows = -(-len(entries) // across)
        axes.legend(
            list(entries.values()), list(entries), loc="lower left", bbox_to_anchor=(0, 1), frameon=False,
            ncols=-(-len(entries) // rows), borderaxespad=0.2, borderpad=0.2, columnspacing=1.4,
        )  # fmt: skip


def interval(panel: Axes, place: float, number: Interval, **style: Any) -> None:
    """A dot with its interval."""
    ends = [[number.value - number.low], [number.high - number.value]]
    panel.errorbar(place, number.value, ends, **({"fmt": "o"} | style))


def spread(panel: Axes, variable: xr.DataArray, colour: str, label: str | None = None, lines: int = 8) -> None:
    """Mean and 5–95 % band over time, or the first trajectories where those were kept."""
    if "statistic" in variable.dims:
        middle, low, high = (variable.sel(statistic=name) for name in ("mean", "q05", "q95"))
        panel.fill_between(variable["time"], low, high, color=colour, alpha=0.18, lw=0)
        panel.plot(variable["time"], middle, color=colour, label=label)
    else:
        paths = variable.isel(trajectory=slice(lines)).transpose("time", "trajectory")
        for index, path in enumerate(np.asarray(paths).T):
            panel.plot(variable["time"], path, color=colour, lw=0.8, alpha=0.7, label=None if index else label)
