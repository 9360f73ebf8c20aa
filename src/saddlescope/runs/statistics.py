"""Statistics of a sample of trajectories: what a run keeps of its ensemble by default."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats

Record = dict[str, Floats]
"""Successive saves: every variable, with time as its second axis."""

STATISTICS = ("mean", "var", "q05", "q50", "q95", "stderr", "n")
QUANTILES = (0.05, 0.5, 0.95)

TOGETHER = 8192
"""Largest ensemble whose variables are summarised in one table; in larger ones the bits of a sum of squares depend on
the rows beside it, because einsum buffers as many numbers."""

SAVES = 128
"""Most saves that are summarised in one pass."""

SAVES_BYTES = 16 << 20
"""Bytes of the saves that are summarised in one pass, unless one takes more."""


def saves_together(trajectories: int, numbers: int) -> int:
    """Number of saves of an ensemble, ``numbers`` of each trajectory, that are summarised in one pass.

    >>> saves_together(4, 30), saves_together(2000, 30), saves_together(100_000, 30), saves_together(4, 100_000)
    (128, 4, 1, 5)
    """
    return max(1, min(SAVES, TOGETHER // trajectories, SAVES_BYTES // (8 * trajectories * numbers)))


def statistics(values: Mapping[str, Floats], alive: NDArray[np.bool_]) -> Record:
    """Mean, variance, quantiles, standard error and sample size of each variable, over its leading axis.

    ``values`` (n, …) become (7, …), in the order of ``STATISTICS``, over the trajectories that are ``alive`` (n,). The
    variance is the unbiased one (NaN for one trajectory); quantiles are interpolated linearly between samples.

    >>> loss, alive = np.array([1.0, 2.0, 6.0, np.nan]), np.array([True, True, True, False])
    >>> dict(zip(STATISTICS, statistics({"loss": loss}, alive)["loss"].tolist()))
    {'mean': 3.0, 'var': 7.0, 'q05': 1.1, 'q50': 2.0, 'q95': 5.6, 'stderr': 1.5275, 'n': 3.0}
    """
    groups = [list(values)] if len(alive) <= TOGETHER else [[name] for name in values]
    found: Record = {}
    for names in groups:
        flat = [values[name].reshape(len(alive), math.prod(values[name].shape[1:])).T for name in names]
        together = np.ascontiguousarray(np.concatenate(flat))  # trajectories side by side, for speed and for the bits
        table, end = _summary(together if alive.all() else np.compress(alive, together, axis=1)), 0
        for name, columns in zip(names, flat, strict=True):
            start, end = end, end + len(columns)
            found[name] = table[:, start:end].reshape(len(STATISTICS), *values[name].shape[1:])
    return found


def _summary(samples: Floats) -> Floats:
    """Statistics (7, k) over the last axis of samples (k, n), which are sorted in place."""
    count, n = samples.shape
    table = np.full((len(STATISTICS), count), np.nan)
    table[-1] = n
    if n == 0:
        return table
    with np.errstate(all="ignore"):
        table[0] = samples.mean(axis=1)
        if n > 1:
            centred = samples - table[0][:, None]
            table[1] = np.einsum("kn,kn->k", centred, centred) / (n - 1)
        samples.sort(axis=1)
        table[2:5] = _quantiles(samples).T
        table[5] = np.sqrt(table[1] / n)
    return table


def _quantiles(ascending: Floats) -> Floats:
    """The quantiles (k, 3) of ascending samples (k, n); NaN for a row with NaN, which sort puts last."""
    positions = [quantile * (ascending.shape[1] - 1) for quantile in QUANTILES]
    low, high = ascending[:, [math.floor(at) for at in positions]], ascending[:, [math.ceil(at) for at in positions]]
    values = np.where(low == high, low, low + np.array([at % 1 for at in positions]) * (high - low))
    return np.where(np.isnan(ascending[:, -1:]), np.nan, values)
