"""The picture of a run: one figure with every panel that the run has something for."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial

import matplotlib as mpl
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope._numbers import shown
from saddlescope.plots import series
from saddlescope.plots.predicted import predictions
from saddlescope.plots.style import GREY, PANEL, STYLE, Picture, quiet
from saddlescope.plots.views import CannotPlot, View, view

ACROSS = 3
"""Panels in a row after the first row, which has the mode strengths over two."""

Draw = Callable[[Axes], None]


def plot(run: xr.Dataset, theory: bool = True) -> Figure:
    """The picture of a run: mode strengths, mode noise, loss, balance, rank or determinant, with theory.

    Lines are ensemble means and bands hold 90 % of the trajectories. ``theory`` adds the mode SDE (mean and 5–95 %) and
    gradient flow to the strengths of the first four modes. What cannot be drawn is left out and named in the
    footer, with the reason. The figure is independent of pyplot and of its settings: a notebook shows it once, a script
    writes it with ``figure.savefig(path)``.
    Raises TypeError or ValueError for what is not a run from simulate or load.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Balanced(scale=0.1))
    >>> figure = plot(simulate(problem, GD(lr=0.05), Plan(steps=100), engine="reference"))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mode strength [y/x]', 'excess loss [y²]', 'effective rank']
    """
    if not isinstance(theory, bool):
        raise TypeError(f"theory must be True or False, got {shown(theory)}")
    seen = view(run)
    notes = list(seen.notes)
    with mpl.rc_context(STYLE), quiet():
        panels, more = _panels(seen, theory)
        figure = _laid_out(panels)
        figure.suptitle(_title(seen), x=0.008, ha="left", fontsize=9, color=GREY)
        footer = [textwrap.fill(note, 150 if len(panels) > 1 else 100) for note in notes + more]
        figure.supxlabel("\n".join(footer), x=0.008, ha="left", fontsize=9, color=GREY)
        figure.canvas.draw()  # fixes ticks and text while the style holds
    return figure


def _panels(seen: View, theory: bool) -> tuple[list[Draw], list[str]]:
    """The panels that the run has something for, and sentences for the footer."""
    found: list[Draw] = []
    absent: list[str] = []
    notes: list[str] = []

    def add(content: Callable[[View], series.Panel], labels: bool = True) -> bool:
        try:
            panel = content(seen)
        except CannotPlot as error:
            absent.append(error.reason)
            return False
        found.append(partial(series.draw, panel=panel, seen=seen, labels=labels))
        return True

    predicted, told = predictions(seen, series.shown_modes(seen)) if theory and len(seen.time) else ([], [])
    add(lambda seen: series.strengths_of(seen, predicted))
    add(series.noise_of, labels=False)
    for content in (series.loss_of, series.balance_of, series.rank_of, series.determinant_of):
        add(content)
    hidden = int((~seen.learnable).sum())
    if hidden:
        notes.append(f"{hidden} mode{'s' * (hidden > 1)} with s* = 0 not shown.")
    notes += told
    if absent:
        notes.append(f"Left out: {'; '.join(absent)}.")
    return found, [" ".join(notes)] if notes else []


def _laid_out(panels: list[Draw]) -> Picture:
    """A figure with the first panel over two columns where another stands beside it."""
    first, rest = panels[:2], panels[2:]
    across = 2 if len(rest) in (2, 4) else ACROSS
    rows = [first, *(rest[start : start + across] for start in range(0, len(rest), across))] if panels else []
    width = ACROSS * PANEL[0] if len(panels) > 1 else 2 * PANEL[0]
    figure = Picture(width, max(len(rows), 0.3) * PANEL[1] + 0.5)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    if rows:
        grid = figure.add_gridspec(len(rows), 6)
        for number, row in enumerate(rows):
            edges = [0, 4, 6] if number == 0 and len(row) == 2 else [6 * i // len(row) for i in range(len(row) + 1)]
            for place, drawing in enumerate(row):
                drawing(figure.add_subplot(grid[number, edges[place] : edges[place + 1]]))
    return figure


def _title(seen: View) -> str:
    """Method, network and numbers in short form."""
    return f"{seen.method!r} · {seen.problem.network!r} · {seen.plan.count:,} trajectories · {seen.reached:,} steps"
