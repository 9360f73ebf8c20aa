"""What passes between the loop of a sweep and its store: the layout of the arrays, and the result of one run.

Every array has the axes of the sweep first, then its own dims. Runs are numbered in C order over the axes. A *block* is
a range of these numbers that is a box in the axes. It is one chunk of every array, written and verified as a whole.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats

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


@dataclass(frozen=True, eq=False)
class Layout:
    """The dataset of a sweep before its first run.

    ``dims`` and ``shape`` belong to the axes; ``identity`` is a text that is equal for sweeps with the same results.

    >>> layout = Layout(("lr", "seed"), (6, 400), {}, {"loss": Array()}, "an example")
    >>> layout.size, layout.chunk, layout.grid
    (2400, (2, 400), (3, 1))
    >>> layout.rows(1), layout.box(1), layout.block_of(1700)
    (slice(800, 1600, None), (slice(2, 4, None), slice(0, 400, None)), 2)
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

    @cached_property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a block, in runs: whole trailing axes, a part of one axis, and one point of those before."""
        largest = 8 * sum(math.prod(array.shape) for array in self.arrays.values())
        return chunk(self.shape, max(1, min(BLOCK_RUNS, BLOCK_BYTES // max(1, largest))))

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of blocks along every axis."""
        return tuple(math.ceil(size / part) for size, part in zip(self.shape, self.chunk, strict=True))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First run of every block."""
        if not self.shape:
            return np.zeros(1, np.int64)
        corners = np.indices(self.grid).reshape(len(self.grid), -1) * np.reshape(self.chunk, (-1, 1))
        return np.ravel_multi_index(tuple(corners), self.shape).astype(np.int64)

    def block_of(self, index: int) -> int:
        """The block of a run."""
        return int(np.searchsorted(self.starts, index, "right")) - 1

    def rows(self, block: int) -> slice:
        """The runs of a block."""
        stop = self.starts[block + 1] if block + 1 < len(self.starts) else self.size
        return slice(int(self.starts[block]), int(stop))

    def box(self, block: int) -> tuple[slice, ...]:
        """The same runs, along the axes."""
        corner = np.unravel_index(int(self.starts[block]), self.shape) if self.shape else ()
        ends = zip(map(int, corner), self.chunk, self.shape, strict=True)
        return tuple(slice(start, min(start + part, size)) for start, part, size in ends)


def chunk(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The shape of blocks with at most this many runs each, of nearly equal size.

    >>> chunk((10, 20, 30), 1000), chunk((100_000,), 1000), chunk((5, 5001), 1000)
    ((1, 20, 30), (1000,), (1, 834))
    """
    parts: list[int] = []
    for size in reversed(shape):
        part = min(size, max(1, most))
        part = math.ceil(size / math.ceil(size / part))
        parts.insert(0, part)
        most = most // part if part == size else 1
    return tuple(parts)


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
