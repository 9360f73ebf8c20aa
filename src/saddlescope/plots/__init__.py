"""Figures: the picture of a run (``saddlescope.plot``), its panels one by one, and the style of all figures.

Every panel is a function of a run that draws into ``axes``, or a new figure where ``axes`` is None, and returns the
figure. A new figure does not belong to pyplot: a notebook shows it as the last line of a cell, a script writes it with
``figure.savefig(path)``; it has no window, and ``plt.show()`` does not know it.
"""

from saddlescope.plots.diagram import phase_diagram
from saddlescope.plots.laws import comparison, density_in_time, stationary
from saddlescope.plots.plane import regimes
from saddlescope.plots.series import balance, determinant, loss, modes, noise, rank, variable
from saddlescope.plots.style import (
    COLOURS,
    GREY,
    INK,
    LIGHT,
    PANEL,
    STYLE,
    Picture,
    columns,
    interval,
    label,
    panels,
    save,
    spread,
    to_svgs,
)

__all__ = [
    "COLOURS",
    "GREY",
    "INK",
    "LIGHT",
    "PANEL",
    "STYLE",
    "Picture",
    "balance",
    "columns",
    "comparison",
    "density_in_time",
    "determinant",
    "interval",
    "label",
    "loss",
    "modes",
    "noise",
    "panels",
    "phase_diagram",
    "rank",
    "regimes",
    "save",
    "spread",
    "stationary",
    "to_svgs",
    "variable",
]
