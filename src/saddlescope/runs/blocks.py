"""Blocks of runs: boxes along the axes of a sweep that are also ranges of its runs, numbered in C order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]


def chunk(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The shape of blocks with at most this many runs each, of nearly equal size.

    It spans whole trailing axes, a part of one axis, and one point of the axes before.

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


@dataclass(frozen=True)
class Blocks:
    """The blocks of this shape, the last ones smaller, in C order.

    >>> blocks = Blocks((6, 400), (2, 400))
    >>> blocks.grid, blocks.rows(1), blocks.box(1), int(blocks.of(1700))
    ((3, 1), slice(800, 1600, None), (slice(2, 4, None), slice(0, 400, None)), 2)
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Number of blocks along every axis."""
        return tuple(math.ceil(size / part) for size, part in zip(self.shape, self.chunk, strict=True))

    def __len__(self) -> int:
        return math.prod(self.grid)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """First run of every block."""
        corners = np.indices(self.grid).reshape(len(self.grid), -1) * np.reshape(self.chunk, (-1, 1))
        return np.ravel_multi_index(tuple(corners), self.shape).astype(np.int64)

    def of(self, index: Any) -> Any:
        """The block of a run, or of each of several runs."""
        return self.starts.searchsorted(index, "right") - 1

    def rows(self, block: int) -> slice:
        """The runs of a block."""
        stop = self.starts[block + 1] if block + 1 < len(self) else math.prod(self.shape)
        return slice(int(self.starts[block]), int(stop))

    def box(self, block: int) -> Box:
        """The same runs, along the axes."""
        corner = np.unravel_index(int(self.starts[block]), self.shape)
        ends = zip(map(int, corner), self.chunk, self.shape, strict=True)
        return tuple(slice(start, min(start + part, size)) for start, part, size in ends)

    def around(self, box: Box) -> Box:
        """The smallest box of whole blocks around a box."""
        ends = zip(box, self.chunk, self.shape, strict=True)
        return tuple(slice(b.start // c * c, min(size, -(-b.stop // c) * c)) for b, c, size in ends)

    def within(self, box: Box) -> list[int]:
        """The blocks in a box of whole blocks."""
        spans = [np.arange(b.start // c, -(-b.stop // c)) for b, c in zip(box, self.chunk, strict=True)]
        found: list[int] = np.ravel_multi_index(np.ix_(*spans), self.grid).ravel().tolist()
        return found
