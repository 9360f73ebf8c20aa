"""Names of arrays, for annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""Numbers of the type of a run, float32 or float64."""

Floats = NDArray[np.float64]

Weights = Sequence[NDArray[Any]]
"""Layers, first to last, each with the trajectories as leading axis: (n, rows, columns)."""

Layers = tuple[NDArray[Any], ...]
"""Weights in a frozen part."""


def transposed(matrices: Array) -> Array:
    """The transpose of every matrix of a stack."""
    return np.swapaxes(matrices, -1, -2)
