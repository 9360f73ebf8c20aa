"""Exponents of discrete SGD against moments known in closed form, plain sampling, and the Langevin limit."""

import numpy as np
import pytest

from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.discrete import log_normal_moment, sgd_start, sgd_tail
from saddlescope.theory.mode.phases import collapse_window, exponent_at_zero


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
def test_tail_of_power_two_is_where_the_variance_diverges(batch_size):
    """E(1 − ηr²)² = 1 − 2η + η²(1 + 2/B) is 1 at η = 2/(1 + 2/B)."""
    assert sgd_tail(2 / (1 + 2 / batch_size), batch_size) == pytest.approx(2.0, abs=1e-8)


@pytest.mark.parametrize(("lr", "batch_size"), [(0.4, 1), (0.9, 1), (1.5, 4), (1.2, 2)])
def test_tail_is_where_the_moment_of_a_step_is_one(lr, batch_size):
    squares = np.random.default_rng(1).chisquare(batch_size, 400_000) / batch_size
    k = sgd_tail(lr, batch_size)
    for power, sign in ((0.8 * k, -1), (1.2 * k, 1)):
        moments = np.abs(1 - lr * squares) ** power
        assert sign * (moments.mean() - 1) > 4.9 * moments.std() / len(moments) ** 0.5


def test_steps_too_large_leave_no_law():
    assert sgd_tail(5.0, 1) == 0.0


@pytest.mark.parametrize(("noise", "heat"), [(6.0, 0.6), (10.0, 0.75), (10.0, 0.9), (3.0, 0.55)])
def test_start_at_zero_is_where_the_inverse_moment_of_a_step_is_one(noise, heat):
    lr = heat * 2 / (2 + noise**2)
    k = 2 * (sgd_start(lr, 1, 1.0, noise) + 1)
    x, z = np.random.default_rng(1).standard_normal((2, 1_000_000))
    logs = np.log(np.abs(1 + lr * (x * x + noise * x * z)))
    rate = np.mean(np.exp(-k * logs) - 1) / np.mean(logs)  # 0 at the root, of the scale of k
    assert abs(rate) < 4.9 * np.std(np.exp(-k * logs)) / 1e3 / np.mean(logs)


@pytest.mark.parametrize("heat", [0.55, 0.75, 0.95])
def test_start_at_zero_tends_to_that_of_langevin_dynamics(heat):
    gaps = []
    for noise in (40.0, 80.0):
        mode = ModeSDE(depth=2, target=1.0, label_noise=noise, temperature=heat * 2 / (2 + noise**2))
        gaps.append(sgd_start(mode.temperature, 1, 1.0, noise) - exponent_at_zero(mode))
    assert abs(gaps[1]) < 0.005
    assert gaps[0] / gaps[1] == pytest.approx(4.0, rel=0.1)


def test_start_at_zero_is_minus_one_where_sgd_collapses():
    first = collapse_window(1, 1.0, 10.0)[0]
    assert sgd_start(0.9999 * first, 1, 1.0, 10.0) == pytest.approx(-1.0, abs=1e-3)
    assert np.isnan(sgd_start(1.01 * first, 1, 1.0, 10.0))
    assert sgd_start(0.3 * first, 1, 1.0, 10.0) == pytest.approx(-0.5, abs=1e-3)


@pytest.mark.parametrize("power", [2.0, 4.0])
@pytest.mark.parametrize(("mean", "deviation"), [(3.0, 2.0), (0.0, 1.0), (3.0, 0.1)])
def test_moments_of_a_normal_variable(mean, deviation, power):
    exact = mean**2 + deviation**2 if power == 2 else mean**4 + 6 * mean**2 * deviation**2 + 3 * deviation**4
    assert np.exp(log_normal_moment(np.array([mean]), np.array([deviation]), power)) == pytest.approx(exact, rel=1e-6)


def test_far_and_near_moments_meet():
    near, far = log_normal_moment(np.array([1.0, 1.0]), np.array([0.0501, 0.0499]), -0.4)
    assert near - far == pytest.approx(0.28 * (0.0501**2 - 0.0499**2), rel=0.05)


@pytest.mark.parametrize("arguments", [(0.0, 1), (0.1, 0), (np.inf, 1)])
def test_what_is_no_step_is_refused(arguments):
    with pytest.raises(ValueError, match="must be positive and finite, got"):
        sgd_tail(*arguments)
