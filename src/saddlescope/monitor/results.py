"""The records of a watched training as one labelled dataset.

Dims are ``step``, the names ``weight``, ``parameter``, ``pair`` and ``interface``, and ``mode``, ``control`` and
``head``; what is shorter than others, or was not recorded at a step, is NaN there.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.monitor._torch import torch
from saddlescope.monitor.coverage import Coverage
from saddlescope.monitor.packed import Kind, Layout, packed
from saddlescope.monitor.record import Record
from saddlescope.monitor.variables import COORDINATES, VARIABLES, Status
from saddlescope.runs.run import CONVENTIONS, version
from saddlescope.runs.training import SOURCE

LABELS = ("weight", "parameter", "pair", "interface")
"""Dims along names; other dims are counted."""

Places = dict[str, dict[str, int]]
"""By dim, the place of every name along it."""


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers (record, …) of records with one layout, by kind, and the places of these records."""

    rows: NDArray[np.int64]
    layout: Layout
    numbers: dict[Kind, Floats]


def to_dataset(
    records: Sequence[Record],
    *,
    quantities: Iterable[str] = (),
    schedule: str = "",
    reduction: str = "mean",
    loss_scale: float = 1.0,
    coverage: Coverage | None = None,
    complete: bool = True,
) -> xr.Dataset:
    """One labelled dataset of all records: float64, ``status`` int64, variables that no record has left out.

    Numbers come from the device at once. Raises ValueError for a variable without an entry in
    ``variables.py``.

    >>> record = Record(0, 32, 0.1, {"trace": {"fc.weight": torch.tensor(2.0)}})
    >>> dataset = to_dataset([record], quantities=["noise"])
    >>> float(dataset["trace"].sel(parameter="fc.weight", step=0)), dict(dataset.sizes)
    (2.0, {'step': 1, 'parameter': 1})
    """
    tables = _tables(records)
    names = sorted({name for table in tables for name in table.layout}, key=list(VARIABLES).index)
    places = _places(tables, names)
    blocks = {name: _block(tables, len(records), name, places) for name in names}
    lengths = {dim: len(of) for dim, of in places.items()} | _lengths(blocks)
    data = {
        name: (VARIABLES[name].dims, _padded(name, blocks[name], lengths), VARIABLES[name].attrs | _flags(name))
        for name in names
    }
    attrs = attributes(quantities, schedule, reduction, loss_scale, coverage or Coverage(), complete)
    importlib.import_module("saddlescope.accessor")  # above this module: what a dataset can do, such as its plot
    return xr.Dataset(data, _coordinates(records, places, lengths), attrs)


def attributes(
    quantities: Iterable[str], schedule: str, reduction: str, loss_scale: float, coverage: Coverage, complete: bool
) -> dict[str, Any]:
    """What the numbers mean and where they were made."""
    return {
        "source": SOURCE,
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "inference_library": "saddlescope",
        "inference_library_version": version(),
        "torch_version": str(torch.__version__),
        "convention_gradient": "G_i = N · contribution of sample i to the gradient of a step of N samples",
        "convention_temperature": CONVENTIONS["convention_temperature"],
        "reduction": reduction,
        "loss_scale": float(loss_scale),
        "quantities": ", ".join(quantities),
        "schedule": schedule,
        "coverage": coverage.text,
        "complete": int(complete),
    }


def _places(tables: Sequence[Table], names: Sequence[str]) -> Places:
    """The names along every dim that is used, in the order in which they were first recorded."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        if dim := _label(name):
            for table in tables:
                found.setdefault(dim, {}).update(dict.fromkeys(table.layout.get(name, ())))
    return {dim: {key: place for place, key in enumerate(known)} for dim, known in found.items()}


def _label(name: str) -> str:
    """The dim along which a variable has names; "" where it has the dim ``step`` alone."""
    dims = VARIABLES[name].dims
    return dims[1] if len(dims) > 1 and dims[1] in LABELS else ""


def _tables(records: Sequence[Record]) -> list[Table]:
    """All numbers of the records, fetched from their device at once where records have the same layout."""
    groups: dict[int, list[int]] = {}
    for row, record in enumerate(records):
        groups.setdefault(id(packed(record.values).layout), []).append(row)
    tables = []
    for rows in groups.values():
        values = [packed(records[row].values) for row in rows]
        numbers = {
            kind: torch.stack([one.tensors[kind] for one in values]).cpu().double().numpy()
            for kind in values[0].tensors
        }
        tables.append(Table(np.array(rows), values[0].layout, numbers))
    return tables


def _block(tables: Sequence[Table], records: int, name: str, places: Places) -> Floats:
    """A variable (step, name, inner) of all records, padded with NaN; of length 1 along dims that it does not have."""
    at = places.get(_label(name), {"": 0})
    cells = [cell for table in tables for cell in table.layout.get(name, {}).values()]
    block = np.full((records, len(at), max((cell.length for cell in cells), default=0)), np.nan)
    for table in tables:
        for key, (kind, start, length) in table.layout.get(name, {}).items():
            block[table.rows, at[key], :length] = table.numbers[kind][:, start : start + length]
    return block


def _lengths(blocks: Mapping[str, Floats]) -> dict[str, int]:
    """The length of every counted dim: that of the longest vector."""
    found: dict[str, int] = {}
    for name, block in blocks.items():
        for dim in VARIABLES[name].dims[2:]:
            found[dim] = max(found.get(dim, 0), block.shape[2])
    return found


def _padded(name: str, block: Floats, lengths: Mapping[str, int]) -> NDArray[Any]:
    """The block with the dims of the variable."""
    shape = (len(block), *(lengths[dim] for dim in VARIABLES[name].dims[1:]))
    if len(shape) == 3:
        padded = np.full(shape, np.nan)
        padded[:, :, : block.shape[2]] = block
        return padded
    values = block.reshape(shape)
    if name == "status":
        return np.nan_to_num(values, nan=Status.NOT_RECORDED).astype(np.int64)
    return values


def _flags(name: str) -> dict[str, Any]:
    """The flags of ``status``, as the CF conventions describe them (section 3.5)."""
    if name != "status":
        return {}
    return {
        "flag_masks": [flag.value for flag in Status],
        "flag_meanings": " ".join(str(flag.name).lower() for flag in Status),
    }


def _coordinates(records: Sequence[Record], places: Places, lengths: Mapping[str, int]) -> dict[str, Any]:
    axes: dict[str, NDArray[Any]] = {
        "step": np.array([record.step for record in records], np.int64),
        "batch_size": np.array([record.batch_size for record in records], np.int64),
        "lr": np.array([np.nan if record.lr is None else record.lr for record in records], np.float64),
    }
    axes |= {dim: np.array(list(names), object) for dim, names in places.items()}
    axes |= {dim: np.arange(length) for dim, length in lengths.items() if dim not in LABELS}
    return {name: (COORDINATES[name].dims, values, COORDINATES[name].attrs) for name, values in axes.items()}
