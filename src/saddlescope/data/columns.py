"""Least squares, standardised columns, whitened inputs: each column of inputs and labels in its own unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from saddlescope._arrays import Floats
from saddlescope.data.base import ROUNDING


@dataclass(frozen=True)
class Fit:
    """Least squares by ``x_i = R c_i`` with ``mean(c cᵀ) = I``.

    ``whitened`` c (n, r), ``root`` R (dx, r), ``teacher`` M (dy, dx), ``fitted`` MR (dy, r), ``residuals`` (n, dy).
    """

    whitened: Floats
    root: Floats
    teacher: Floats
    fitted: Floats
    residuals: Floats

    @property
    def rank(self) -> int:
        """Rank r of the inputs up to rounding, independent of their units."""
        return self.whitened.shape[1]


def fit(x: Floats, y: Floats) -> Fit:
    """The least-squares map of smallest norm, with each column of inputs and labels in its own unit.

    Source: column scaling, van der Sluis 1969, Numer. Math. 14, 14–23; projection in place of ``Y − XM``.

    >>> fit(np.array([[1e9, 0.0], [0.0, 1e-9]]), np.array([[1.0], [1.0]])).teacher
    array([[1.e-09, 1.e+09]])
    """
    n, (units, sizes) = len(x), (_units(x), _units(y))
    left, values, rows = np.linalg.svd(x / units, full_matrices=False)
    rank = int((values > max(x.shape) * np.finfo(float).eps * values[0]).sum())
    left, values, rows = left[:, :rank], values[:rank], rows[:rank]
    scaled = y / sizes
    along = left.T @ scaled
    residuals = scaled - left @ along
    residuals -= left @ (left.T @ residuals)
    residuals[:, np.abs(residuals).max(axis=0) <= ROUNDING * np.abs(scaled).max(axis=0)] = 0.0
    root, fitted = units[:, None] * rows.T * values / n**0.5, along.T / n**0.5
    teacher = (along / values[:, None]).T @ rows / units if rank == len(root) else _smallest(root, fitted)
    return Fit(left * n**0.5, root, sizes[:, None] * teacher, sizes[:, None] * fitted, residuals * sizes)


def _smallest(root: Floats, fitted: Floats) -> Floats:
    """The smallest M with ``MR`` = fitted, R of full column rank.

    Source: rows in falling order and pivots make QR stable row by row, Cox & Higham 1998, in Numerical Analysis 1997.
    """
    order = np.argsort(-np.abs(root).max(axis=1), kind="stable")
    q, triangle, pivots = linalg.qr(root[order], mode="economic", pivoting=True)
    teacher = np.empty((len(fitted), len(root)))
    teacher[:, order] = (q @ linalg.solve_triangular(triangle, fitted.T[pivots], trans="T")).T
    return teacher


def _units(columns: Floats) -> Floats:
    """A power of 2 of the size of each column, 1 for a column of zeros: dividing by it rounds nothing."""
    largest = np.abs(columns).max(axis=0)
    return np.where(largest > 0, np.exp2(np.floor(np.log2(np.where(largest > 0, largest, 1.0)))), 1.0)


def polar(root: Floats) -> Floats:
    """The matrix with orthonormal columns closest to ``root`` R: ``R (RᵀR)^{−1/2}``, same shape.

    >>> polar(np.array([[2.0, 0.0], [0.0, 3.0]]))
    array([[1., 0.],
           [0., 1.]])
    """
    left, _, rows = np.linalg.svd(root, full_matrices=False)
    return np.asarray(left @ rows)


def standardised(
    name: str, names: tuple[str, ...] | None, train: Floats, test: Floats | None
) -> tuple[Floats, Floats | None]:
    """Columns of training and test samples, centred and scaled by the mean and variance of the training samples."""
    units = _units(train)
    first = (train / units).mean(axis=0)
    second = (train / units - first).mean(axis=0)  # what rounding has left of the mean
    deviation = np.sqrt(((train / units - first - second) ** 2).mean(axis=0))
    constant = np.flatnonzero(deviation <= ROUNDING * np.abs(train / units).max(axis=0))
    if constant.size:
        column = constant[0]
        which = f"{column} of {name} (from 0)" if names is None else repr(names[column])
        raise ValueError(
            f"standardise needs columns that vary, got {train[0, column]:g} in all {len(train)} training samples of "
            f"column {which}; leave that column out"
        )
    return (train / units - first - second) / deviation, (
        None if test is None else (test / units - first - second) / deviation
    )
