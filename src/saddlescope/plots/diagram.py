"""A variable of a sweep over two of its axes, with boundaries of the theory drawn over it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from saddlescope._arrays import Floats
from saddlescope._numbers import hint, shown
from saddlescope.plots.style import ALONE, GREY, INK, drawn, label, legend_above

Boundary = Callable[[Floats], Any] | tuple[Any, Any]
"""``y(x)``, or points (x, y)."""

MARKS = {2: ("diverged", "////"), 3: ("raised", "xxxx")}
"""Name and hatch of the runs of a status, see ``sweep``."""

DASHES = ("-", "--", ":", "-.")
WIDE, ZERO = 100, 1e6
"""Ratios of the largest to the smallest value between which colours are logarithmic; beyond, small ones count as 0."""


def phase_diagram(
    sweep: xr.Dataset,
    name: str,
    x: str | None = None,
    y: str | None = None,
    boundaries: Mapping[str, Boundary] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """A variable of a sweep as colours in the plane of two of its axes.

    ``x`` and ``y`` are coordinates of the axes, by default the last and the one before. Select along all other dims
    first, as in ``sweep.sel(statistic="mean")``. ``boundaries`` are curves by their names, each a function y(x) or
    points (x, y). Axes and colours are logarithmic where values are spaced so. Runs without a value because all
    trajectories diverged, or because they raised, are hatched, those still to come are blank. Draws into ``axes``, or a
    new figure, and returns the figure.
    Raises ValueError for a variable or coordinate that does not exist, and for a variable that does not have two dims.

    >>> sigma, T = np.linspace(0.1, 2, 5), np.geomspace(0.01, 1, 4)
    >>> mass = xr.DataArray(T[:, None] * sigma, {"T": T, "sigma": sigma}, ("T", "sigma"))
    >>> figure = phase_diagram(xr.Dataset({"mass": mass}), "mass", boundaries={"T_c": lambda sigma: 1 / sigma})
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel(), figure.axes[0].get_yscale()
    ('sigma', 'T', 'log')
    """
    values = _variable(sweep, name)
    down, across = (str(dim) for dim in values.dims)
    along_x, along_y = _coordinate(values, "x", x, across), _coordinate(values, "y", y, down)
    if along_x.dims == along_y.dims:
        raise ValueError(f"x and y must lie along different axes, got {x!r} and {y!r}, both along {along_x.dims[0]!r}")
    values = values.transpose(*along_y.dims, *along_x.dims)
    status = sweep["status"].transpose(*values.dims) if _has_status(sweep, values) else None
    places_x, places_y = _places(along_x), _places(along_y)

    def draw(place: Axes) -> None:
        place.grid(False)
        numbers = np.ma.masked_invalid(values.values.astype(float))
        edges = _edges_of(along_x), _edges_of(along_y)
        mesh = place.pcolormesh(*edges, numbers, cmap="viridis", norm=_norm(numbers))
        place.figure.colorbar(mesh, ax=place, label=label(values))
        for along, places, scale, ticks in (
            (along_x, places_x, place.set_xscale, place.set_xticks),
            (along_y, places_y, place.set_yscale, place.set_yticks),
        ):
            scale("log" if _logarithmic(places) else "linear")
            if along.dtype.kind not in "iuf":
                ticks(places, [str(value) for value in along.values])
        limits = place.get_xlim(), place.get_ylim()
        entries: dict[str, Any] = {}
        for (text, boundary), dashes in zip((boundaries or {}).items(), itertools.cycle(DASHES), strict=False):
            points = _points(text, boundary, limits[0], _logarithmic(places_x))
            place.plot(*points, color="white", lw=3.2)
            (entries[text],) = place.plot(*points, color=INK, lw=1.6, ls=dashes)
        entries |= _hatched(place, status, np.isfinite(values.values), *edges)
        place.set(xlim=limits[0], ylim=limits[1], xlabel=_named(along_x), ylabel=_named(along_y))
        legend_above(place, 4, entries)

    return drawn(draw, axes, (ALONE[0], ALONE[1] + 0.4))


def _variable(sweep: xr.Dataset, name: str) -> xr.DataArray:
    """The variable, with two dims."""
    if not isinstance(sweep, xr.Dataset):
        raise TypeError(f"sweep must be a Dataset such as sc.sweep or sc.load gives, got {shown(sweep)}")
    if name not in sweep:
        raise ValueError(
            f"name must be a variable of the sweep, one of {', '.join(map(str, sweep))}, got {name!r}"
            f"{hint(name, list(map(str, sweep)))}"
        )
    values = sweep[name].squeeze()
    if values.ndim != 2:
        sizes = ", ".join(f"{dim} = {size}" for dim, size in values.sizes.items()) or "none"
        how = "sweep.sel(…) or sweep.isel(…) along the others" if values.ndim > 2 else "sweep two axes"
        raise ValueError(f"{name!r} must have two dims to be a diagram, got {sizes}; {how}")
    return values


def _coordinate(values: xr.DataArray, which: str, name: str | None, dim: str) -> xr.DataArray:
    """The coordinate of this name, by default that of the dim, or the first along it."""
    along = {str(key): one for key, one in values.coords.items() if one.ndim == 1}
    if name is None:
        found = [one for one in along.values() if one.dims == (dim,)]
        return along.get(
            str(dim), found[0] if found else xr.DataArray(np.arange(values.sizes[dim]), dims=dim, name=dim)
        )
    if name not in along:
        known = ", ".join(along)
        raise ValueError(f"{which} must be a coordinate of the sweep, one of {known}, got {name!r}{hint(name, along)}")
    return along[name]


def _named(along: xr.DataArray) -> str:
    return label(along).replace("_", " ")


def _has_status(sweep: xr.Dataset, values: xr.DataArray) -> bool:
    return "status" in sweep and set(sweep["status"].squeeze().dims) == set(values.dims)


def _places(along: xr.DataArray) -> Floats:
    """Where the values of a coordinate are drawn: numbers where they are, ascending or not, names in a row."""
    values = along.values
    return values.astype(float) if values.dtype.kind in "iuf" else np.arange(len(values), dtype=float)


def _logarithmic(places: Floats) -> bool:
    """Whether places are positive and nearer to a geometric than to an arithmetic sequence.

    >>> _logarithmic(np.geomspace(1, 9, 4)), _logarithmic(np.linspace(1, 9, 4)), _logarithmic(np.array([0.0, 1.0]))
    (True, False, False)
    """
    if len(places) < 3 or places.min() <= 0:
        return False
    ratios, gaps = np.abs(np.diff(np.log(places))), np.abs(np.diff(places))
    return bool(ratios.std() * gaps.mean() < gaps.std() * ratios.mean())


def _edges_of(along: xr.DataArray) -> Floats:
    """Edges of the cells along a coordinate; one without negative values has none below 0."""
    edges = _edges(_places(along))
    return np.maximum(edges, 0.0) if along.dtype.kind in "iuf" and along.values.min() >= 0 else edges


def _edges(places: Floats) -> Floats:
    """Edges of cells around places, halfway in between, on the scale of the axis.

    >>> _edges(np.array([1.0, 2.0, 3.0])).tolist(), _edges(np.array([4.0])).tolist()
    ([0.5, 1.5, 2.5, 3.5], [3.5, 4.5])
    """
    if _logarithmic(places):
        return np.exp(_edges_between(np.log(places)))
    return _edges_between(places)


def _edges_between(places: Floats) -> Floats:
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    middle = (places[1:] + places[:-1]) / 2
    return np.concatenate([[2 * places[0] - middle[0]], middle, [2 * places[-1] - middle[-1]]])


def _norm(numbers: Any) -> Normalize:
    """Logarithmic colours where positive values are spread over two to six orders of magnitude."""
    known = numbers.compressed()
    if known.size and known.min() > 0 and WIDE < known.max() / known.min() < ZERO:
        return LogNorm(known.min(), known.max())
    return Normalize(*((known.min(), known.max()) if known.size else (0, 1)))


def _hatched(place: Axes, status: xr.DataArray | None, known: Any, x: Floats, y: Floats) -> dict[str, Patch]:
    """Hatch the runs without a value that diverged or raised, in cells with these edges; the entries of the legend."""
    found: dict[str, Patch] = {}
    if status is None:
        return found
    for number, (text, hatch) in MARKS.items():
        style: dict[str, Any] = {"facecolor": "none", "edgecolor": GREY, "hatch": hatch, "linewidth": 0.0}
        for i, j in np.argwhere((status.values == number) & ~known):
            place.add_patch(Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i], **style))
            found[text] = Patch(**style)
    return found


def _points(name: str, boundary: Any, limits: tuple[float, float], logarithmic: bool) -> tuple[Floats, Floats]:
    """Points of a boundary."""
    if callable(boundary):
        x = np.geomspace(*limits, 200) if logarithmic else np.linspace(*limits, 200)
        y = np.asarray(boundary(x), float)
    else:
        x, y = (np.asarray(part, float) for part in boundary)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"the boundary {name!r} must give one y for each x, got shapes {x.shape} and {y.shape}")
    return x, y
