"""A function of the reader's that reduces a run to numbers: its results define what is kept, the first ones for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from saddlescope._arrays import Floats
from saddlescope._functions import described
from saddlescope._numbers import as_numbers, shown
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.simulation.simulate import simulate
from saddlescope.sweeps.layout import Array, Coordinate, Forms, form
from saddlescope.sweeps.picks import SAVE, Found
from saddlescope.sweeps.schema import Schema

Function = Callable[[xr.Dataset], Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Reduction:
    """A function of a run; it must return the names, dims, shapes and labels of the first run for every other."""

    function: Function

    def of(self, problem: Problem, method: Method, plan: Plan, engine: str, forms: Forms) -> Found:
        """What is kept of one run; ValueError where it is not what was kept of the first."""
        run = self.run(problem, method, plan, engine)
        found = results(self.function(run))
        if set(found) != set(forms):
            raise ValueError(
                f"reduce returned {', '.join(found)}, but of the first run {', '.join(forms)}; return the same names "
                "of every run"
            )
        values = tuple(_formed(name, found, forms) for name in forms)
        return Found(values, bool((run["status"].values != 0).any()))

    def first(self, problem: Problem, method: Method, plan: Plan, engine: str) -> Schema:
        """What is kept of every run, and coordinates along it, from what the function returns of the first."""
        return _schema(results(self.function(self.run(problem, method, plan, engine))))

    @staticmethod
    def run(problem: Problem, method: Method, plan: Plan, engine: str) -> xr.Dataset:
        """The run that the function sees."""
        return simulate(problem, method, plan, engine=engine, progress=False)

    def table(self) -> str:
        """Its name and fingerprint."""
        return described(self.function)


def _formed(name: str, found: Mapping[str, xr.DataArray], forms: Forms) -> Floats:
    """The values of one result; ValueError where its shape, dims or labels are not those of the first run."""
    one, wanted = found[name], forms[name]
    if set(one.dims) == set(wanted.dims):
        one = one.transpose(*wanted.dims)
    if one.shape != wanted.shape:
        raise ValueError(
            f"reduce returned {name} of shape {one.shape}, but of the first run {wanted.shape}; return the same shape "
            "of every run, padded with NaN"
        )
    dims = tuple(map(str, one.dims))
    if dims != wanted.dims:
        raise ValueError(
            f"reduce returned {name} with the dims {', '.join(dims)}, but of the first run {', '.join(wanted.dims)}; "
            "return the same dims of every run"
        )
    labels = {dim: one.coords[dim].values for dim in dims if dim in one.coords and dim not in found}
    here = form(dims, one.shape, labels).labels
    if other := [dim for dim, own, there in zip(dims, here, wanted.labels, strict=True) if own != there]:
        raise ValueError(
            f"reduce returned {name} with other labels along {other[0]!r} than of the first run; return the same "
            "labels of every run, or drop them by .values"
        )
    return np.asarray(one.values)


def results(returned: Any) -> dict[str, xr.DataArray]:
    """What a function returned, as labelled arrays in double precision, the saves along ``save``.

    Raises TypeError or ValueError for anything but numbers by name.

    >>> results({"peak": 2, "profile": [0.5, 1.5]})["profile"].dims
    ('profile_0',)
    """
    if isinstance(returned, xr.Dataset):
        returned = dict(returned.data_vars)
    if not isinstance(returned, Mapping) or not returned:
        raise TypeError(
            f"reduce must return a mapping of names to numbers, got {shown(returned)}; use {{'name': value}}"
        )
    return {_name(name): _labelled(name, value) for name, value in returned.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"reduce must return names that are words, got {shown(name)}; rename it")
    return name


def _labelled(name: str, value: Any) -> xr.DataArray:
    if not isinstance(value, xr.DataArray):
        plain = np.asarray(value) if isinstance(value, (bool, np.bool_)) else value
        values = _floats(plain, name)
        return xr.DataArray(values, dims=[f"{name}_{axis}" for axis in range(values.ndim)])
    labelled = value.copy(data=_floats(value.values, name)).drop_vars("time", errors="ignore")
    return labelled.rename({"time": SAVE}) if "time" in labelled.dims else labelled


def _floats(value: Any, name: str) -> Floats:
    if getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return np.asarray(value, np.float64)
    return as_numbers(value, f"reduce: {name}")


def _schema(first: Mapping[str, xr.DataArray]) -> Schema:
    arrays, coords = dict[str, Array](), dict[str, Coordinate]()
    for name, one in first.items():
        arrays[name] = Array(tuple(map(str, one.dims)), one.shape, dict(one.attrs))
        for dim, size in one.sizes.items():
            labels = one.coords[dim].values if dim in one.coords else np.arange(size)
            known = coords.get(str(dim), ((str(dim),), labels, {}))[1]
            if not np.array_equal(known, labels):
                raise ValueError(f"reduce: two results have different entries of the dim {dim!r}; rename one of these")
            if dim in one.coords:
                coords[str(dim)] = (str(dim),), labels, dict(one.coords[dim].attrs)
    return arrays, {name: one for name, one in coords.items() if name not in arrays}
