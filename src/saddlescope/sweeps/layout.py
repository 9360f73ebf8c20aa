"""What passes between the loop of a sweep and its store: the layout of the arrays, and the result of one run.

Every array has the axes of the sweep first, then its own dims. Runs are numbered in C order over the axes. A chunk of
an array is a block of runs: see ``runs/blocks``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.runs.blocks import Blocks, chunk
from saddlescope.runs.swept import RECORD

PENDING, DONE, DIVERGED, RAISED = range(4)
"""Status of a run: not executed yet; executed; executed, and a trajectory diverged; raised an error."""

BLOCK_RUNS = 1000
BLOCK_BYTES = 1 << 20
"""Most runs in a block, and most bytes of values in a block of several runs."""

Coordinate = tuple[tuple[str, ...], NDArray[Any], Mapping[str, Any]]
"""Dims, values (numbers or text) and attributes."""


@dataclass(frozen=True)
class Array:
    """What is kept of every run under one name: dims and shape of one run, in double precision."""

    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """What a run must give under one name: dims, shape, and a number for the labels along each dim (0 without)."""

    dims: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()


Forms = Mapping[str, Form]
"""What a run must give, by name."""


def form(dims: tuple[str, ...], shape: tuple[int, ...], labels: Mapping[str, NDArray[Any]]) -> Form:
    """The form of an array with labels along some of its dims.

    >>> form(("mode",), (2,), {"mode": np.arange(2)}) == form(("mode",), (2,), {"mode": np.array([0, 2])})
    False
    """
    sums = (zlib.crc32(repr(labels[dim].tolist()).encode()) if dim in labels else 0 for dim in dims)
    return Form(dims, shape, tuple(sums))


@dataclass(frozen=True, eq=False)
class Layout:
    """The dataset of a sweep before its first run.

    ``dims`` and ``shape`` belong to the axes; ``identity`` is a text that is equal for sweeps with the same results.

    >>> layout = Layout(("lr", "seed"), (6, 400), {}, {"loss": Array()}, "an example")
    >>> layout.size, layout.blocks.chunk
    (2400, (2, 400))
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: Mapping[str, Coordinate]
    arrays: Mapping[str, Array]
    identity: str
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of runs."""
        return math.prod(self.shape)

    @property
    def forms(self) -> Forms:
        """What every run must give."""
        labels = {name: values for name, (dims, values, _) in self.coords.items() if dims == (name,)}
        return {name: form(one.dims, one.shape, labels) for name, one in self.arrays.items()}

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks of values."""
        run = 8 * sum(math.prod(array.shape) for array in self.arrays.values())
        return Blocks(self.shape, chunk(self.shape, max(1, min(BLOCK_RUNS, BLOCK_BYTES // max(1, run)))))

    @cached_property
    def records(self) -> Blocks:
        """The blocks of what is recorded about the runs, which is small."""
        return Blocks(self.shape, chunk(self.shape, BLOCK_RUNS))

    @cached_property
    def geometry(self) -> dict[str, tuple[Blocks, int]]:
        """By variable in a store, its blocks, and the place of its first checksum."""
        every = dict.fromkeys(self.arrays, self.blocks) | dict.fromkeys(RECORD, self.records)
        firsts = itertools.accumulate(map(len, every.values()), initial=0)
        return {name: (blocks, first) for (name, blocks), first in zip(every.items(), firsts, strict=False)}


@dataclass(frozen=True, eq=False)
class Result:
    """One run: its number, its status, the sentence of its error, its values in the order of the arrays, its time.

    >>> Result(7, DONE, "", (np.array(0.5),), 0.01).digest == Result(7, DONE, "", (np.array(0.5),), 0.02).digest
    True
    """

    index: int
    status: int
    message: str
    values: tuple[Floats, ...]
    seconds: float

    @property
    def digest(self) -> int:
        """BLAKE2b of status, values and message, in 8 bytes: equal for runs that are bit-identical."""
        content = hashlib.blake2b(bytes([self.status]), digest_size=8)
        for value in self.values:
            content.update(np.asarray(value, "<f8").tobytes())
        content.update(self.message.encode())
        return int.from_bytes(content.digest(), "little")
