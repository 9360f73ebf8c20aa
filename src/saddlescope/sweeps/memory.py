"""A sweep in memory, with the interface of a store on disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.runs.swept import RECORD
from saddlescope.sweeps.layout import Layout, Result


class Memory:
    """The results of a sweep, until it is a dataset.

    >>> from saddlescope.sweeps.layout import Array
    >>> store = Memory(Layout(("lr",), (2,), {"lr": (("lr",), np.array([0.1, 0.2]), {})}, {"loss": Array()}, ""))
    >>> store.put(Result(1, 1, "", (np.array(0.5),), 0.01))
    >>> store.pending().tolist(), store.dataset().loss.values.tolist()
    ([0], [nan, 0.5])
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.attrs = layout, dict(layout.attrs)
        self._record = {name: np.full(layout.size, fill, dtype) for name, (dtype, fill, _) in RECORD.items()}
        self._values: list[Floats] = [np.full((layout.size, *one.shape), np.nan) for one in layout.arrays.values()]

    def pending(self) -> NDArray[np.int64]:
        """Numbers of the runs that have no result yet."""
        return np.flatnonzero(self._record["status"] == 0)

    def put(self, result: Result) -> None:
        """Keep the result of a run."""
        for own, value in zip(self._values, result.values, strict=True):
            own[result.index] = value
        for name, kept in self._record.items():
            kept[result.index] = getattr(result, name)

    def annotate(self, attrs: Mapping[str, Any]) -> None:
        """Add or change attributes of the dataset; ``attrs`` has those that it has."""
        self.attrs.update(attrs)

    def commit(self) -> None:
        """Nothing: there is no disk."""

    def tidy(self) -> None:
        """Nothing: there are no old versions."""

    def close(self) -> None:
        """Nothing: there is no lock."""

    def dataset(self) -> xr.Dataset:
        """The sweep so far."""
        layout = self.layout
        made: dict[str, Any] = {}
        for (name, array), values in zip(layout.arrays.items(), self._values, strict=True):
            made[name] = (layout.dims + array.dims, values.reshape(layout.shape + array.shape), dict(array.attrs))
        for name, (_, _, attrs) in RECORD.items():
            made[name] = (layout.dims, self._record[name].reshape(layout.shape), attrs)
        coords = {name: (dims, values, dict(attrs)) for name, (dims, values, attrs) in layout.coords.items()}
        return xr.Dataset(made, coords, dict(self.attrs))
