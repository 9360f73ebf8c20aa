"""A sweep as plain Zarr or NetCDF, for programs without Icechunk."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from saddlescope import _files
from saddlescope._numbers import shown
from saddlescope.runs.store import load
from saddlescope.runs.swept import is_sweep


def export(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write the sweep in a store as plain Zarr (``out`` ends with .zarr) or NetCDF (.nc).

    In NetCDF, the digests are hexadecimal texts. Raises as ``load`` does, ValueError for another ending or a run, and
    FileExistsError when something is at ``out``.

    >>> export("phase.zarr", "phase.csv")
    Traceback (most recent call last):
    ValueError: out must end with .zarr or .nc, got 'phase.csv'
    """
    suffix = Path(os.fspath(out)).suffix
    if suffix not in (".zarr", ".nc"):
        raise ValueError(f"out must end with .zarr or .nc, got {shown(os.fspath(out))}")
    sweep, place = load(path), _files.place(out, "out")
    if not is_sweep(sweep):
        raise ValueError(f"path {shown(os.fspath(path))} is a run, not a sweep; give the store that a sweep wrote")
    with _files.in_words(place, "out"), _files.sole(place, "out"):
        if place.exists():
            raise FileExistsError(f"out {os.fspath(out)!r} exists; give another path")
        folder = _files.aside(place)
        try:
            made = folder / place.name
            if suffix == ".zarr":
                with (
                    warnings.catch_warnings()
                ):  # consolidated metadata, which xarray looks for, are not in the standard
                    warnings.simplefilter("ignore", UserWarning)
                    sweep.to_zarr(made, zarr_format=3, consolidated=True)
            else:
                _write_netcdf(sweep, made)
            made.rename(place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_netcdf(sweep: xr.Dataset, out: Path) -> None:
    """Without unsigned integers, which NetCDF 3 has not: it is what SciPy writes."""
    texts = np.vectorize("{:016x}".format, otypes=[object])(sweep.digest.values)
    try:
        sweep.assign(digest=(sweep.digest.dims, texts, sweep.digest.attrs)).to_netcdf(out)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"out {out.name!r} cannot hold this sweep ({error}); let it end with .zarr, or pip install h5netcdf"
        ) from None
