"""Nodes in probits z with differences on them, and how nodes move to where quantiles bend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BPoly, PchipInterpolator

from saddlescope._arrays import Floats

HALF = 2
"""Neighbours on each side in a difference; at the ends all of them are on one side."""

_FINEST = 1e-6
"""Width in z below which cells are not cut further to resolve a jump."""

_CURVED, _UNEVEN, _SMOOTH = 1.0, 2.5, 1.0
"""Weight of a change of log Q_z by 1, relative to a step of 1 in z; how many times the mean weight a cell may have
before nodes move; the change of log Q_z from cell to cell up to which differences are of order 4."""


@dataclass(frozen=True)
class Mesh:
    """Probits z (n), and for each the nodes (``columns``) and weights (n, 5) of the first two derivatives by z.

    ``smooth`` are weights of order 4, ``rough`` those of the next neighbours only (at the ends a straight line), whose
    first derivative is positive whatever the quantiles.
    """

    z: Floats
    columns: NDArray[np.intp]
    smooth: Floats
    rough: Floats

    @cached_property
    def worth(self) -> Floats:
        """Weight of a deviation in z: its effect on the distribution function, and a little more in the tails."""
        return np.maximum(np.exp(-(self.z**2) / 2), 1e-3)

    def weights(self, d: Floats) -> tuple[Floats, Floats]:
        """``smooth`` where the quantiles d are smooth on the mesh, ``rough`` elsewhere."""
        bends = np.abs(np.diff(np.log(np.diff(d) / np.diff(self.z)), prepend=np.nan, append=np.nan))
        worst = np.fmax(bends, np.fmax(np.append(bends[1:], 0.0), np.append(0.0, bends[:-1])))
        first, second = np.where((worst < _SMOOTH)[:, None], self.smooth, self.rough)
        return first, second


def mesh(z: Floats) -> Mesh:
    """Differences on any increasing nodes."""
    n, width = len(z), 2 * HALF + 1
    columns = np.clip(np.arange(n) - HALF, 0, n - width)[:, None] + np.arange(width)
    smooth, rough = _weights(z[columns] - z[:, None]), np.zeros((2, n, width))
    inner = np.arange(1, n - 1)
    near = inner[:, None] + np.array([-1, 0, 1])
    rough[:, inner[:, None], near - columns[1:-1, :1]] = _weights(z[near] - z[1:-1, None])
    rough[0, 0, :2] = rough[0, -1, -2:] = [-1.0, 1.0]
    rough[0, [0, -1]] /= np.array([[z[1] - z[0]], [z[-1] - z[-2]]])
    smooth[:, [0, 1, -2, -1]] = rough[:, [0, 1, -2, -1]]
    return Mesh(z, columns, smooth, rough)


def _weights(away: Floats) -> Floats:
    """Weights of the first two derivatives (2, …, n) at 0 of a function known at these places (…, n)."""
    count = away.shape[-1]
    scale = np.abs(away).max(axis=-1, keepdims=True)
    powers = (away / scale)[..., None, :] ** np.arange(count)[:, None]
    wanted = np.zeros((count, 2))
    wanted[1, 0], wanted[2, 1] = 1.0, 2.0
    weights = np.linalg.solve(powers, np.broadcast_to(wanted, (*away.shape, 2)))
    return np.stack([weights[..., 0] / scale, weights[..., 1] / scale**2])


@dataclass(frozen=True)
class State:
    """Nodes y = ``middle`` + ``d`` at a time."""

    time: float
    middle: float
    d: Floats


def remeshed(mesh_: Mesh, state: State) -> tuple[Mesh, State]:
    """Nodes moved to where log Q_z varies, if the present ones fit badly."""
    z, d = mesh_.z, state.d
    first, second = ((w * (d[mesh_.columns] - d[:, None])).sum(axis=1) for w in mesh_.weights(d))
    matters = np.exp(-(((z[1:] + z[:-1]) / 2) ** 2) / 16) * np.minimum(np.diff(z) / _FINEST, 1.0)
    weights = np.diff(z) + _CURVED * matters * np.abs(np.diff(np.log(first)))
    if weights.max() < _UNEVEN * weights.mean():
        return mesh_, state
    density = np.log(weights / np.diff(z))
    for _ in range(4):
        density = np.convolve(np.pad(density, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    share = np.concatenate([[0.0], np.cumsum(np.exp(density) * np.diff(z))])
    new = np.interp(np.linspace(0, share[-1], len(z)), share, z)
    new[[0, -1]] = z[[0, -1]]
    after = BPoly.from_derivatives(z, np.stack([d, first, second], axis=1))(new)
    if not (np.diff(after) > 0).all():
        after = PchipInterpolator(z, d)(new)
    return mesh(new), replace(state, d=after)
