"""The live page as text, with the numbers of a store inlined.

The page is built from ``explore/`` by ``make page``; it computes with the package's kernels in WebAssembly. It reads
no file: the numbers of a store become a block of JSON in it.
"""

from __future__ import annotations

import importlib.resources
import json
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from saddlescope._arrays import Floats

LARGEST = 400_000
"""Numbers of a store that a page holds at most."""

MEMBERS = 32
"""Trajectories that a page holds at most, the first ones."""

ALONG = ("time", "step", "save")
"""Dimensions along which a variable is drawn, if it has one of them."""

EMPTY = '<script type="application/json" id="stored">null</script>'
HIDDEN = ("checkpoint", "byte", "digest")
"""Variables that the page does not show: checkpoints and checksums."""


def page(store: str | Path | None = None) -> str:
    """The live page as HTML, with the numbers of ``store``, a run, a sweep or a recorded training, in its last view.

    Of each variable the first 32 trajectories are kept. Raises FileNotFoundError if the page has not been built, and
    ValueError for a store of more than 400,000 numbers.

    >>> "<title>saddlescope</title>" in page()  # doctest: +SKIP
    True
    """
    text = _built()
    if store is None:
        return text
    from saddlescope.runs.store import load

    numbers = json.dumps(_numbers(load(store), str(store)), allow_nan=False, ensure_ascii=False)
    inlined = EMPTY.replace("null", numbers.replace("<", "\\u003c"))
    return text.replace(EMPTY, inlined)


def show(store: str | Path | None, out: Path | None) -> Path:
    """Write the page to ``out``, or to a temporary file that the browser opens; returns the path."""
    text = page(store)
    path = out or Path(tempfile.mkdtemp(prefix="saddlescope-")) / "explore.html"
    path.write_text(text, encoding="utf-8")
    if out is None:
        webbrowser.open(path.as_uri())
    return path


def _built() -> str:
    try:
        return (importlib.resources.files(__package__) / "explore.html").read_text("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(
            "the live page is missing: wheels contain it; in a source tree, build it with make page"
        ) from None


def _numbers(data: xr.Dataset, name: str) -> dict[str, Any]:
    """What the page shows of a dataset: its variables along time or the axes of a sweep, its TOML."""
    chosen = {str(key): _kept(values) for key, values in data.data_vars.items() if _wanted(str(key), values)}
    count = sum(values.size for values in chosen.values())
    if count > LARGEST:
        raise ValueError(
            f"store {name!r} has {count:,} numbers, and a page holds at most {LARGEST:,}; "
            "keep statistics, or fewer saves or trajectories"
        )
    if not chosen:
        raise ValueError(
            f"store {name!r} has no variable along time or axes to show; give a run, a sweep or a training"
        )
    toml = str(data.attrs.get("toml", ""))
    return {
        "name": Path(name).name,
        "toml": toml if len(toml) < 20_000 else "",
        "variables": {key: _variable(values) for key, values in chosen.items()},
    }


def _wanted(name: str, values: xr.DataArray) -> bool:
    return name not in HIDDEN and values.ndim > 0 and values.dtype.kind in "fiub" and _along(values) is not None


def _along(values: xr.DataArray) -> str | None:
    """The dimension on the horizontal axis: time, or the first with numbers for coordinates."""
    for name in ALONG:
        if name in values.dims and values.sizes[name] > 1:
            return name
    numbers = (
        str(dim)
        for dim in values.dims
        if dim in values.coords and values[dim].dtype.kind in "fi" and values.sizes[dim] > 1
    )
    apart = ("mode", "rank", "interface", "layer", "trajectory", "threshold")
    return next((dim for dim in numbers if dim not in apart), None)


def _kept(values: xr.DataArray) -> xr.DataArray:
    return values.isel(trajectory=slice(MEMBERS)) if "trajectory" in values.dims else values


def _variable(values: xr.DataArray) -> dict[str, Any]:
    """Numbers, dimensions and coordinates of a variable, the horizontal dimension last."""
    along = str(_along(values))
    values = values.transpose(..., along)
    return {
        "title": str(values.attrs.get("long_name", values.attrs.get("definition", values.name))),
        "units": str(values.attrs.get("units", "")),
        "dims": [str(dim) for dim in values.dims],
        "coords": {str(dim): _coordinate(values, str(dim)) for dim in values.dims},
        "values": _list(np.asarray(values.values, np.float64)),
    }


def _coordinate(values: xr.DataArray, dim: str) -> list[Any]:
    if dim not in values.coords:
        return list(range(values.sizes[dim]))
    given = values[dim].values
    return _list(given.astype(np.float64)) if given.dtype.kind in "fi" else [str(one) for one in given]


def _list(values: Floats) -> list[float | None]:
    """Numbers to seven digits; None where they are not finite, which JSON cannot say."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.ravel()]
