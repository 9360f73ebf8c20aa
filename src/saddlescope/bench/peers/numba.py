"""Numba: a parallel loop over trajectories, each through all its steps."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from saddlescope.bench.arms import Advance
from saddlescope.bench.settings import Scalar


def mode(setting: Scalar, trajectories: int, seed: int, block: int, threads: int = 1) -> Advance:
    """Euler–Maruyama in float32; every call continues the generators of its threads."""
    depth, target, dt = setting.depth, np.float32(setting.target), np.float32(setting.dt)
    curve = np.float32(2 * setting.temperature * setting.dt)
    floor = np.float32(setting.label_noise**2 * setting.temperature * setting.dt)
    start = np.float32(setting.strength ** (1 / setting.depth))

    def ensemble(a: Any, steps: int) -> None:
        for i in numba.prange(len(a)):
            x = start
            for _ in range(steps):
                power = x
                for _ in range(depth - 2):
                    power *= x
                error = power * x - target
                noise = math.sqrt(curve * error * error + floor) * np.float32(np.random.normal())  # noqa: NPY002
                x += power * (noise - dt * error)
            a[i] = x

    numba.set_num_threads(threads)
    compiled = numba.njit(parallel=True, fastmath=True)(ensemble)

    def advance(steps: int) -> Any:
        a = np.empty(trajectories, np.float32)
        compiled(a, steps)
        return np.float64(a) ** depth

    return advance
