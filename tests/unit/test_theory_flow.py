"""Gradient-flow curves of a mode against an integration of their equation, and against their own inverse."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from saddlescope.theory import flow_time, mode_flow, plateau_time

CASES = [(1e-3, 2.0), (1e-6, 0.7), (0.5, 0.5000001), (1.9, 2.0), (3.0, 2.0), (50.0, 2.0)]
SINKS = [(0.3, -0.8), (0.3, 0.0), (2.0, -1e-3)]


def integrated(times, start, target, depth, rate):
    """In log s, which is positive at every depth ≥ 2."""
    power = 2 - 2 / depth

    def slope(_, y):
        return rate * depth * np.exp(y * (power - 1)) * (target - np.exp(y))

    solution = solve_ivp(slope, (0, times[-1]), [np.log(start)], "LSODA", t_eval=times, rtol=1e-11, atol=1e-12)
    return np.exp(solution.y[0])


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 8, 20])
@pytest.mark.parametrize(("start", "target"), CASES + SINKS)
def test_curves_solve_their_equation(depth, start, target):
    middle = (start + target) / 2 if target > 0 else start / 3
    horizon = 2.5 * float(flow_time(middle, start, target, depth, rate=1.7))
    times = np.linspace(0, horizon, 30)
    curve = mode_flow(times, start, target, depth, rate=1.7)
    np.testing.assert_allclose(curve, integrated(times, start, target, depth, 1.7), rtol=2e-7)
    under_way = np.abs(curve - target) > 1e-6 * abs(target)
    back = flow_time(curve, start, target, depth, rate=1.7)
    np.testing.assert_allclose(back[under_way], times[under_way], rtol=1e-7, atol=1e-9 * horizon)


def test_linear_regression():
    curve = mode_flow([0.0, 1.0, 2.0], start=-1.0, target=2.0, depth=1)
    np.testing.assert_allclose(curve, 2 - 3 * np.exp([0.0, -1.0, -2.0]), rtol=1e-14)
    np.testing.assert_allclose(flow_time(curve, -1.0, 2.0, 1), [0, 1, 2], atol=1e-14)


def test_curves_end_at_the_target():
    assert mode_flow(1e6, 1e-3, 2.0, 3) == pytest.approx(2.0, rel=1e-14)
    assert mode_flow(1e6, 9.0, 2.0, 4) == pytest.approx(2.0, rel=1e-14)
    assert mode_flow(1e4, 1e-3, 2.0, 2) == pytest.approx(2.0, rel=1e-14)
    np.testing.assert_array_equal(mode_flow([0.0, 5.0], 2.0, 2.0, 3), [2.0, 2.0])


def test_what_is_never_reached_takes_forever():
    np.testing.assert_array_equal(flow_time([1e-4, 2.0, 3.0], 1e-3, 2.0, 3), [np.inf] * 3)
    np.testing.assert_array_equal(flow_time([0.5, 1.0], 0.5, -1.0, 2), [0.0, np.inf])


def test_everything_broadcasts():
    curves = mode_flow(np.linspace(0, 5, 7)[:, None], 1e-2, [2.0, 1.0], 3)
    assert curves.shape == (7, 2)
    np.testing.assert_allclose(curves[:, 1], mode_flow(np.linspace(0, 5, 7), 1e-2, 1.0, 3), rtol=1e-12)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_plateaus_are_the_time_to_learn_from_a_small_start(depth):
    start = 1e-12 if depth < 4 else 1e-18
    ratio = flow_time(1.0, start, 2.0, depth, rate=0.5) / plateau_time(start, 2.0, depth, rate=0.5)
    np.testing.assert_allclose(ratio, 1, atol=0.06)
    assert abs(ratio - 1) < abs(flow_time(1.0, 1e-3, 2.0, depth) / plateau_time(1e-3, 2.0, depth) - 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_flow(1.0, 0.0, 1.0, 2), "start must be positive"),
        (lambda: mode_flow(1.0, -0.5, 1.0, 3), "start must be positive"),
        (lambda: mode_flow(-1.0, 0.5, 1.0, 2), "times must not be negative"),
        (lambda: mode_flow(1.0, 0.5, 1.0, 0), "depth must be at least 1"),
        (lambda: plateau_time(0.1, 1.0, 1), "depth 1 has no plateau"),
        (lambda: plateau_time(0.1, 0.0, 2), "target must be positive"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
