"""Weak order of fixed steps for one mode: moments against the recursions they obey, and the slope of a bias."""

import itertools

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import ModeSDE
from support import FALSE_ALARM

COUNT = 400_000


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_moments_at_depth_one(steps, dtype):
    """d = s − s*: E d ← (1 − dt) E d, E d² ← ((1 − dt)² + 2 T dt) E d² + T σ² dt, exactly."""
    mode, dt = ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1), 1 / steps
    d = mode.simulate(0.2, [1.0], COUNT, seed=steps, dt=dt, dtype=dtype)[:, 0].astype(float) - 1
    first, second = -0.8, 0.64
    for _ in range(steps):
        first, second = (1 - dt) * first, ((1 - dt) ** 2 + 0.2 * dt) * second + 0.1 * 0.25 * dt
    sigma = stats.norm.isf(FALSE_ALARM / 4) / np.sqrt(COUNT)
    assert abs(d.mean() - first) < sigma * d.std()
    assert abs((d**2).mean() - second) < sigma * (d**2).std()
    limit = -0.8 * np.exp(-1)
    assert steps == 20 or abs(d.mean() - limit) > sigma * d.std(), "the bias of long steps must show"


@pytest.mark.parametrize(("depth", "time"), [(2, 1.0), (3, 2.0)])
def test_weak_order_one(depth, time):
    """During learning, means at decreasing steps converge as dt."""
    mode = ModeSDE(depth=depth, target=1.0, label_noise=0.3, temperature=0.01)
    ends = [mode.simulate(0.1, [time], COUNT, seed=k, dt=1 / 2**k)[:, 0] for k in range(2, 6)]
    pairs = list(itertools.pairwise(ends))
    gaps = np.array([b.mean() - a.mean() for a, b in pairs])
    error = np.array([np.hypot(a.std(), b.std()) / np.sqrt(COUNT) for a, b in pairs])
    slope = np.log2(gaps[:-1] / gaps[1:])
    uncertain = np.hypot(error[:-1] / gaps[:-1], error[1:] / gaps[1:]) / np.log(2)
    print(f"weak order at depth {depth}: {slope} ± {uncertain}")
    assert uncertain.max() < 0.2
    assert slope[-1] == pytest.approx(1, abs=0.15 + 3 * uncertain[-1])
