"""The regimes of one mode at depth 2, in the plane of label noise and temperature."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from saddlescope._numbers import as_number, shown
from saddlescope.plots.style import COLOURS, INK, drawn, legend_above
from saddlescope.plots.views import view
from saddlescope.theory import ModeSDE, mode_sde
from saddlescope.theory.mode.phases import REGIMES, regime_temperatures

TINTS = dict(zip(REGIMES, ("#cfe3f1", "#d5ecd9", "#fbe9c6", "#f7d9c4", "#e3e5e8"), strict=True))
"""One colour for each regime."""

POINTS = 240
"""Label noises and temperatures of the plane, along each axis."""

WIDE = 6
"""Ratio σ/s* of a marked mode beyond which the axis of σ is logarithmic."""

MARGIN = 20
"""Least distance of the name of a regime from the left and right, in points of the plane."""


def regimes(run_or_mode: xr.Dataset | ModeSDE | float, mode: int = 0, axes: Axes | None = None) -> Figure:
    """The five regimes of a mode at depth 2 and its critical temperature T_c, by label noise σ and temperature T.

    ``run_or_mode`` is a target strength s*, a ``ModeSDE``, or a run; the last two are marked by a dot at their σ and T.
    For white Gaussian data: the density vanishes at 0 below T_c/3, and all mass ends at 0 above
    ``T_c = 2s*/(2s*² + σ²)``. Regimes are those of ``theory.phases.REGIMES``.
    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError at other depths, for other data, and
    with weight decay. Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671.

    >>> [text.get_text() for text in regimes(1.0).axes[0].texts]
    ['learned', 'bimodal', 'at zero', 'collapsing', 'collapsed']
    """
    marked, target, noise, T = _asked(run_or_mode, mode)
    most, wide = max(3.0 * target, 1.25 * noise), noise > WIDE * target
    sigma = np.geomspace(0.1 * target, most, POINTS) if wide else np.linspace(1e-3 * target, most, POINTS)
    found = [regime_temperatures(ModeSDE(depth=2, target=target, label_noise=s, temperature=1.0)) for s in sigma]
    zero, critical, bump = (np.array([one[name] for one in found]) for name in ("zero", "critical", "bump"))
    low, high = zero.min() / 5, 4 * critical.max()
    if T > 0:
        low, high = min(low, T / 2), max(high, 2 * T)
    temperatures = np.geomspace(low, high, POINTS)[:, None]
    names = np.select(
        [temperatures < zero, temperatures < np.minimum(bump, critical), temperatures < critical, temperatures < bump],
        [0, 1, 2, 3],
        4,
    )

    def draw(place: Axes) -> None:
        place.grid(False)
        place.contourf(
            sigma, temperatures[:, 0], names, levels=np.arange(6) - 0.5, colors=list(TINTS.values()), antialiased=True
        )
        place.plot(sigma, critical, color=INK, lw=1.6, label=r"$T_c$")
        place.plot(sigma, zero, color=INK, lw=1.0, ls="--", label=r"$T_c$/3")
        place.plot(sigma, np.where(bump > zero, bump, np.nan), color=INK, lw=1.0, ls=":", label="second maximum ends")
        for number, name in enumerate(REGIMES):
            inside = names == number
            if inside.mean() > 0.005:
                row, column = np.unravel_index(
                    distance_transform_edt(np.pad(inside, 1)).argmax(), np.add(inside.shape, 2)
                )
                across = sigma[np.clip(column - 1, MARGIN, POINTS - MARGIN)]
                place.text(across, temperatures[row - 1, 0], name, ha="center", va="center")
        if marked is not None and T > 0:
            place.plot(noise, T, "o", color=COLOURS[1], mec="white", ms=8, label="this mode", clip_on=False, zorder=5)
        place.set(
            yscale="log", xlabel="label noise σ [y]", ylabel="temperature T", xlim=(sigma[0] if wide else 0, sigma[-1]),
            ylim=(low, high), xscale="log" if wide else "linear",
        )  # fmt: skip
        legend_above(place, 4)

    return drawn(draw, axes)


def _asked(run_or_mode: xr.Dataset | ModeSDE | float, mode: int) -> tuple[ModeSDE | None, float, float, float]:
    """The mode to be marked, if any, s*, σ and T."""
    marked: ModeSDE | None = None
    if isinstance(run_or_mode, xr.Dataset):
        seen = view(run_or_mode)
        marked = mode_sde(seen.problem, seen.method, seen.mode(mode))
    elif isinstance(run_or_mode, ModeSDE):
        marked = run_or_mode
    if marked is not None:
        if marked.depth != 2 or marked.moments is not None or marked.weight_decay:
            raise ValueError(
                "regimes in this plane are those of depth 2 and white Gaussian data without weight decay, got "
                f"{shown(marked)}; give a target strength such as 1.0"
            )
        target, noise, T = float(marked.target), marked.label_noise, marked.temperature
    else:
        target, noise, T = as_number(run_or_mode, "run_or_mode"), 0.0, 0.0
    if not target > 0:
        raise ValueError(f"run_or_mode must have a positive target strength, got {target:g}")
    return marked, target, noise, T
