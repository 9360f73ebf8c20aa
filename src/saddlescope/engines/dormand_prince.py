"""Gradient flow by the explicit Runge–Kutta pair 5(4) of Dormand & Prince 1980, J. Comput. Appl. Math. 6(1).

Every trajectory has its own time and step size h. A step is accepted, with the solution of order 5, if

    error = max_l ‖e_l‖_F / (RTOL max(‖W_l‖_F, ‖W_l'‖_F)) ≤ 1,   e the difference of the two orders.

Accepted or not, the next step is ``h · min(GROW, max(SHRINK, SAFETY error^(−1/5)))``, with SHRINK if the
error is not finite. A trajectory is marked diverged when its step falls below STUCK of the clock's unit and SLOW of its
time: its gradient overflows, or its flow is too stiff for an explicit method. Steps are never shortened to reach a
save: a save shows separate steps (``land``) that do not change the state, so that results do not depend on the saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats, Layers

RTOL = 1e-12
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
STUCK, SLOW = 1e-7, 1e-4
EXPONENT = -1 / 5

STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Weights of the earlier slopes at every stage; the last row is the solution of order 5."""

ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Order 5 minus order 4."""

Field = Callable[[Layers], Layers]


def step(field: Field, weights: Layers, size: Floats) -> tuple[Layers, Layers]:
    """Weights after one step of ``size`` (n,) along ``dW/dt = field(W)``, and their difference to order 4.

    >>> new, difference = step(lambda w: (-w[0],), (np.ones((1, 1, 1)),), np.array([0.1]))
    >>> bool(abs(new[0] - np.exp(-0.1)) < 2e-9)
    True
    """
    slopes = [field(weights)]
    for row in STAGES:
        stage = _plus(weights, size, row, slopes)
        slopes.append(field(stage))
    nothing = tuple(np.zeros_like(layer) for layer in weights)
    return stage, _plus(nothing, size, ERROR, slopes)


def _plus(weights: Layers, size: Floats, row: Sequence[float], slopes: list[Layers]) -> Layers:
    """``W + h Σ_j row_j slopes_j``."""
    h = size[:, None, None]
    return tuple(
        layer + h * sum(a * slope[l] for a, slope in zip(row, slopes, strict=True) if a)
        for l, layer in enumerate(weights)
    )


def attempt(field: Field, weights: Layers, size: Floats) -> tuple[Layers, NDArray[np.bool_], Floats]:
    """One step of every trajectory: where it leads, whether it is accepted, and the factor for the next."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        new, difference = step(field, weights, size)
        ratios = [
            _norm(e) / np.maximum(RTOL * np.maximum(_norm(a), _norm(b)), np.finfo(float).tiny)
            for e, a, b in zip(difference, weights, new, strict=True)
        ]
        error = np.max(ratios, axis=0)
        factor = np.clip(SAFETY * error**EXPONENT, SHRINK, GROW)
    return new, error <= 1, np.where(np.isfinite(error), factor, SHRINK)


def moving(time: Floats, size: Floats, unit: float) -> NDArray[np.bool_]:
    """Whether steps of this size still advance the time."""
    return np.asarray((time + size > time) & (size > np.minimum(SLOW * time, STUCK * unit)))


def land(field: Field, weights: Layers, time: Floats, size: Floats, end: Floats, unit: float) -> Layers:
    """Weights at exactly ``end`` (n,), the last step shortened to reach it; for observation only."""
    weights, time, size = tuple(layer.copy() for layer in weights), time.copy(), size.copy()
    while (rows := np.flatnonzero((time < end) & moving(time, size, unit))).size:
        left = end[rows] - time[rows]
        h = np.minimum(size[rows], left)
        new, accepted, factor = attempt(field, take(weights, rows), h)
        put(weights, rows[accepted], take(new, accepted))
        time[rows] = np.where(accepted, np.where(h == left, end[rows], time[rows] + h), time[rows])
        size[rows] = h * factor
    return weights


def take(weights: Layers, rows: NDArray[np.generic]) -> Layers:
    """The weights of these trajectories."""
    return tuple(layer[rows] for layer in weights)


def put(weights: Layers, rows: NDArray[np.generic], values: Layers) -> None:
    """Write the weights of these trajectories in place."""
    for layer, value in zip(weights, values, strict=True):
        layer[rows] = value


def _norm(layer: Floats) -> Floats:
    return np.asarray(np.sqrt((layer**2).sum(axis=(1, 2))))
