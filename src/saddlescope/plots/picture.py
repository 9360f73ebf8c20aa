"""The picture of a run: one figure with every panel that the run has something for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope._numbers import shown
from saddlescope.networks.model import is_model
from saddlescope.plots import series, training
from saddlescope.plots.laws import draw_stationary
from saddlescope.plots.panel import Panel, draw
from saddlescope.plots.predicted import predictions
from saddlescope.plots.style import PANEL, STYLE, Picture, quiet, titled, wrapped
from saddlescope.plots.views import CannotPlot, View, view
from saddlescope.runs.training import is_training

Draw = Callable[[Axes, int], None]
"""Draws into axes, with this many entries in a row of the legend."""


def plot(run: Any, theory: bool = True) -> Figure:
    """The picture of a run: mode strengths, mode noise, loss, balance, rank or determinant, with theory.

    ``run`` is a dataset of simulate or load, or a watched training: a ``Watch``, its dataset, or that from a store. Its
    picture shows the modes of a few weights, noise, balance and rank, with their errors; ``theory`` adds predictions.

    Lines are ensemble means and bands hold 90 % of the trajectories. ``theory`` adds the mode SDE (mean and 5–95 %) and
    gradient flow to the strengths of the first four modes, and the mean noise of the mode SDE. What a reader may miss
    is named in the footer, with the reason. Where nearly all trajectories diverged, a sentence takes the place of the
    panels; ``run.isel(time=…)`` selects the saves before that. The figure is independent of pyplot and of its settings:
    a notebook shows it once, a script writes it with ``figure.savefig(path)``.
    Raises TypeError or ValueError for what is not a run from simulate or load.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Balanced(scale=0.1))
    >>> figure = plot(simulate(problem, GD(lr=0.05), Plan(steps=100), engine="reference"))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['mode strength [y/x]', 'excess loss [y²]', 'rank']
    """
    if not isinstance(theory, bool):
        raise TypeError(f"theory must be True or False, got {shown(theory)}")
    run = run.to_xarray() if hasattr(run, "to_xarray") else run
    if is_training(run):
        return training.picture(run, theory)
    seen = view(run)
    notes = list(seen.notes)
    with mpl.rc_context(STYLE), quiet():
        panels, more = ([], []) if seen.ruin else _panels(seen, theory)
        figure = _laid_out(panels)
        if seen.ruin:
            figure.text(0.008, 0.45, wrapped(seen.ruin, 0.98 * figure.get_figwidth(), 11), va="center", fontsize=11)
        titled(figure, _title(seen), notes + more)
    return figure


def _panels(seen: View, theory: bool) -> tuple[list[Draw], list[str]]:
    """The panels that the run has something for, and sentences for the footer."""
    found: list[Draw] = []
    absent: list[str] = []
    notes: list[str] = []
    model = is_model(seen.problem.network)

    def add(content: Callable[[View], Panel], labels: bool = True) -> None:
        try:
            panel = content(seen)
        except CannotPlot as error:
            absent.extend([error.reason] * error.missed)
            return
        whole = not found
        found.append(lambda axes, across: draw(axes, panel, seen, labels, whole, across))

    predicted, sentences = (
        predictions(seen, series.shown_modes(seen))
        if theory and not model and len(seen.time) and "mode_strength" in seen.run
        else ([], [])
    )
    if model:
        for content in _of_model(seen):
            add(content)
        return found, [f"Left out: {'; '.join(absent)}."] if absent else []
    add(lambda seen: series.strengths_of(seen, predicted))
    add(lambda seen: series.noise_of(seen, predicted), labels=False)
    for content in (series.loss_of, series.balance_of, series.rank_of, series.determinant_of):
        add(content)
    if "histogram" in seen.run and (shown_modes := series.shown_modes(seen)):
        found.append(lambda axes, across: draw_stationary(axes, seen, shown_modes[0], across))
    hidden = int((~seen.learnable).sum())
    if hidden:
        notes.append(f"{hidden} mode{'s' * (hidden > 1)} with s* = 0 not shown.")
    notes += sentences
    if absent:
        notes.append(f"Left out: {'; '.join(absent)}.")
    return found, [" ".join(notes)] if notes else []


def _of_model(seen: View) -> list[Callable[[View], Panel]]:
    """Contents of the panels of a Model: modes, their noise, the loss, then every other variable, as many as fit."""
    held = {str(name): one for name, one in seen.run.data_vars.items() if "time" in one.dims}
    model: Any = seen.problem.network
    leaves = {leaf.name for leaf in model.leaves}
    first: list[Callable[[View], Panel]] = []
    if "mode_strength" in held:
        first.append(lambda seen: series.strengths_of(seen, []))
    if "mode_noise" in held:
        first.append(lambda seen: series.noise_of(seen, []))
    others = [name for name in held if name not in {"mode_strength", "mode_noise", "loss", "test_loss"} | leaves]
    plain: list[Callable[[View], Panel]] = [partial(series.plain, name=name) for name in others]
    return [*first, series.loss_of, *plain][: max(LAYOUTS)]


LAYOUTS = {
    1: ((6,),),
    2: ((4, 2),),
    3: ((6,), (3, 3)),
    4: ((4, 2), (3, 3)),
    5: ((4, 2), (2, 2, 2)),
    6: ((4, 2), (3, 3), (3, 3)),
    7: ((4, 2), (2, 2, 2), (3, 3)),
}
"""Widths of the panels of every row, in sixths of the figure, by their number."""


def _laid_out(panels: Sequence[Draw]) -> Picture:
    """A figure of these panels."""
    rows = LAYOUTS.get(len(panels), ())
    figure = Picture(2 * PANEL[0] if len(panels) == 1 else 3 * PANEL[0], max(len(rows), 0.3) * PANEL[1] + 0.5)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    if rows:
        grid = figure.add_gridspec(len(rows), 6)
        places = ((number, sum(row[:i]), width) for number, row in enumerate(rows) for i, width in enumerate(row))
        for drawing, (row, start, width) in zip(panels, places, strict=True):
            drawing(figure.add_subplot(grid[row, start : start + width]), 2 if width == 2 else 5)
    return figure


def _title(seen: View) -> str:
    """Method, network and numbers in short form."""
    temperature = f" · T = {seen.method.temperature:.3g}" if seen.method.temperature > 0 else ""
    words = f"{seen.method!r}{temperature} · {seen.problem.network!r} · {seen.plan.count:,} trajectories"
    return f"{words} · {seen.reached:,} steps"
