"""The end-to-end map of balanced layers under full gradient noise: an SDE of P alone, for two modes and white inputs.

Their product determines balanced layers up to rotations between them, ``W_{>l}W_{>l}ᵀ = (PPᵀ)^{1−l/L}`` and
``W_{<l}ᵀW_{<l} = (PᵀP)^{(l−1)/L}``. In the exact Itô law of P (``map_drift``, ``map_covariance``) only P remains:

    dP = −Σ_l (PPᵀ)^{1−l/L} (Δ dt + √T dG̃) (PᵀP)^{(l−1)/L}
         + T Σ_{l<m} (PPᵀ)^{1−m/L} [N Xᵀ + Tr(ΔX) Δ] (PᵀP)^{(l−1)/L} dt,    X = Pᵀ (PPᵀ)^{(m−l−1)/L}.

Noise unbalances layers at a rate of order T, which this leaves out. Arrays are (2, 2, n): one map for each trajectory.
Source: Arora, Cohen & Hazan 2018, arXiv 1802.06509, for the flow; Itô's formula on Corlouer et al. 2026, arXiv
2604.06366, for the noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saddlescope._arrays import Floats
from saddlescope.theory import _checks

_BLOCK = 4096
"""Trajectories that fit into a cache together."""


def balanced_map_drift(maps: Floats, targets: Sequence[float], depth: int, temperature: float, noise: float) -> Floats:
    """Itô drift of P (2, 2, n), strength per time, from maps (2, 2, n), for the teacher diag(``targets``).

    ``noise`` is the label noise σ. Source: the module's.

    >>> balanced_map_drift(np.diag([1.0, 0.5])[:, :, None], [2.0, 1.0], depth=2, temperature=0.1, noise=0.0)[..., 0]
    array([[2.225, 0.   ],
           [0.   , 0.575]])
    """
    return _Balanced(maps, targets, depth).drift(temperature, noise)


def simulate_balanced_map(
    targets: Sequence[float],
    depth: int,
    temperature: float,
    noise: float,
    start: float,
    times: Sequence[float],
    trajectories: int,
    dt: float,
    seed: int = 0,
    aligned: bool = False,
) -> Floats:
    """Strengths of both modes (trajectories, times, 2) under full gradient noise, from aligned weights at ``start``.

    Drift by Heun's rule, noise by Euler's: errors of order dt² and T dt; a path that overflows is NaN from then on.
    ``noise`` is the label noise σ. ``aligned`` removes the off-diagonal of P after every step, so that modes couple
    through the drift of aligned maps alone (``strength_drift``).
    Raises ValueError for other than two targets, and for times that are not increasing multiples of dt.
    Source: Milstein & Tretyakov 1997, SIAM J. Sci. Comput. 18(4), for the scheme.

    >>> found = simulate_balanced_map([2.0, 1.0], 2, 0.01, 0.5, start=0.1, times=[5.0], trajectories=1000, dt=0.01)
    >>> found.mean(axis=0)
    array([[1.99..., 0.99...]])
    """
    _checks.not_negative(temperature=temperature, label_noise=noise)
    steps = np.rint(np.asarray(times) / dt).astype(int)
    if len(targets) != 2 or (np.diff(steps, prepend=0) <= 0).any() or not np.allclose(steps * dt, times, rtol=1e-9):
        raise ValueError(
            f"targets must be two and times increasing multiples of dt = {dt:g}, got {len(targets)} targets and "
            f"times {list(times)}"
        )
    rng, found = np.random.default_rng(seed), []
    for first in range(0, trajectories, _BLOCK):
        maps = np.repeat(start * np.eye(2)[:, :, None], min(_BLOCK, trajectories - first), axis=2)
        saved = []
        with np.errstate(all="ignore"):
            for step in range(1, steps[-1] + 1):
                maps = _step(maps, rng.standard_normal((7, maps.shape[2])), targets, depth, temperature, noise, dt)
                if aligned:
                    maps[[0, 1], [1, 0]] = 0.0
                if step in steps:
                    saved.append(np.stack([maps[0, 0], maps[1, 1]], axis=-1))
        found.append(np.stack(saved, axis=1))
    return np.concatenate(found)


def _step(
    maps: Floats, normals: Floats, targets: Sequence[float], depth: int, temperature: float, noise: float, dt: float
) -> Floats:
    now = _Balanced(maps, targets, depth)
    drift, kick = now.drift(temperature, noise), np.sqrt(temperature * dt) * now.noise(normals, noise)
    ahead = _Balanced(maps + dt * drift + kick, targets, depth).drift(temperature, noise)
    return np.asarray(maps + dt / 2 * (drift + ahead) + kick)


class _Balanced:
    """Maps P with their error Δ and the powers ``(PPᵀ)^{k/L}``, ``(PᵀP)^{k/L}``, k = 0 … L−1."""

    def __init__(self, maps: Floats, targets: Sequence[float], depth: int) -> None:
        self.maps, self.depth = maps, depth
        self.error = maps - np.diag(np.asarray(targets, np.float64))[:, :, None]
        squares = _times(maps, _swapped(maps)), _times(_swapped(maps), maps)
        middle = (squares[0][0, 0] + squares[0][1, 1]) / 2
        product = (maps[0, 0] * maps[1, 1] - maps[0, 1] * maps[1, 0]) ** 2
        apart = np.sqrt(np.maximum(middle**2 - product, 0))
        high = middle + apart
        low = product / high
        near, one = apart < 1e-7 * high, np.eye(2)[:, :, None]
        self.left: list[Floats | None] = [None]  # the identity
        self.right: list[Floats | None] = [None]
        for power in np.arange(1, depth) / depth:  # a function of a 2 × 2 matrix is a straight line in it
            top, bottom = high**power, low**power
            slope = np.where(near, power * high ** (power - 1), (top - bottom) / np.where(near, 1.0, 2 * apart))
            for powers, square in zip((self.left, self.right), squares, strict=True):
                powers.append(slope * square + (top - slope * high) * one)

    def pulled(self, gradient: Floats) -> Floats:
        """``−Σ_l (PPᵀ)^{1−l/L} G (PᵀP)^{(l−1)/L}``."""
        pairs = zip(reversed(self.left), self.right, strict=True)
        return -sum((_between(left, gradient, right) for left, right in pairs), start=np.zeros_like(gradient))

    def noise(self, normals: Floats, noise: float) -> Floats:
        """The step from seven normals through ``G̃ = ΔH − σZ``, H symmetric of variance 2 on and 1 off the
        diagonal."""
        first, second, off = np.sqrt(2) * normals[0], np.sqrt(2) * normals[1], normals[2]
        symmetric = np.stack([np.stack([first, off]), np.stack([off, second])])
        return self.pulled(_times(self.error, symmetric) - noise * normals[3:].reshape(2, 2, -1))

    def drift(self, temperature: float, noise: float) -> Floats:
        """Itô drift of P."""
        error, drift = self.error, self.pulled(self.error)
        spread = _times(error, _swapped(error)) + noise**2 * np.eye(2)[:, :, None]
        for gap in range(1, self.depth):
            x = _between(None, _swapped(self.maps), self.left[gap - 1])
            inner = temperature * (_times(spread, _swapped(x)) + np.einsum("ijn,jin->n", error, x) * error)
            for l in range(1, self.depth - gap + 1):
                drift = drift + _between(self.left[self.depth - l - gap], inner, self.right[l - 1])
        return np.asarray(drift)


def _swapped(maps: Floats) -> Floats:
    return maps.swapaxes(0, 1)


def _times(first: Floats, second: Floats) -> Floats:
    return np.asarray((first[:, :, None] * second[None]).sum(axis=1))


def _between(left: Floats | None, middle: Floats, right: Floats | None) -> Floats:
    """Left · middle · right, None for the identity."""
    found = middle if left is None else _times(left, middle)
    return found if right is None else _times(found, right)
