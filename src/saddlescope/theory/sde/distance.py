"""Largest difference of two distribution functions, by bisection over ranks of floating-point numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope._arrays import Floats

_TOL = 1e-5


def largest_difference(f: Callable[[Floats], ArrayLike], g: Callable[[Floats], ArrayLike], points: ArrayLike) -> float:
    """``sup |F − G|`` to 1e-5, starting from some ``points``, where jumps are exact.

    Between x and y, x < y, it is at most ``max(F(y) − G(x), G(y) − F(x))``: the interval is halved while that exceeds
    the largest difference found. Raises ValueError where G or F falls.

    >>> largest_difference(lambda x: np.clip(x, 0, 1), lambda x: np.clip(x, 0, 1) ** 2, [0.1])
    0.2500000
    """
    inner = np.asarray(points, np.float64)
    inner = np.unique([inner, np.nextafter(inner, -np.inf)])
    x = rank(np.concatenate([[-np.inf], inner[np.isfinite(inner)], [np.inf]]))
    shares = np.stack([np.pad(np.asarray(h(number(x[1:-1])), np.float64), 1) for h in (f, g)])
    shares[:, -1] = 1.0
    left, right, low, high = x[:-1], x[1:], shares[:, :-1], shares[:, 1:]
    largest = float(np.abs(shares[0] - shares[1]).max())
    while True:
        if (high < low - 1e-9).any():
            raise ValueError("cdf must not fall where x grows; give the distribution function of a law")
        open_ = (np.maximum(high[0] - low[1], high[1] - low[0]) > largest + _TOL) & (left + 1 < right)
        if not open_.any():
            return largest
        left, right, low, high = left[open_], right[open_], low[:, open_], high[:, open_]
        middle = left // 2 + right // 2 + (left % 2 + right % 2) // 2
        at = np.stack([np.asarray(h(number(middle)), np.float64) for h in (f, g)])
        largest = max(largest, float(np.abs(at[0] - at[1]).max()))
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        low, high = np.concatenate([low, at], axis=1), np.concatenate([at, high], axis=1)


def rank(x: Floats) -> NDArray[np.int64]:
    """Rank of a floating-point number; the next larger number has the next rank."""
    bits = np.asarray(x + 0.0, np.float64).view(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFF_FFFF_FFFF_FFFF), bits)


def number(rank: NDArray[np.int64]) -> Floats:
    """The floating-point number of a rank."""
    size = np.abs(rank).view(np.float64)
    return np.where(rank < 0, -size, size)
