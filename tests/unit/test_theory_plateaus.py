"""Growth on the first plateau under discrete SGD, and critical batch sizes, against closed forms."""

import numpy as np
import pytest

from saddlescope.theory.mode.phases import collapse_rate
from saddlescope.theory.network.plateaus import critical_batch_size, growth_rate, half_times, pivot_growth

TARGETS, NOISE = np.array([2.0, 1.0]), 0.5


def test_the_strongest_mode_is_a_balanced_pair():
    """log s grows twice as fast as log a, whose rate is known by quadrature; first order in η is 5 % off."""
    lr = 0.005
    (free, _), own, _ = growth_rate(TARGETS, lr, NOISE, lr)
    slower, expected = (
        free - pivot_growth(TARGETS, lr, NOISE, samples=2**20)[0],
        free - 2 * collapse_rate(lr, 1, 2.0, NOISE) / lr,
    )
    assert slower == pytest.approx(expected, rel=0.02)
    assert abs(own[0] / expected - 1) > 0.04


def test_small_steps_make_it_the_first_order_law():
    lr = 1e-4
    free, own, others = growth_rate(TARGETS, lr, NOISE, lr)
    assert (free - pivot_growth(TARGETS, lr, NOISE, samples=2**20)) / lr == pytest.approx((own + others) / lr, rel=0.02)


def test_without_label_noise_and_with_one_target_it_needs_one_number():
    """det = 1 + η s x², whose logarithm is that of a χ² variable."""
    lr, normals = 0.05, np.random.default_rng(1).standard_normal(2**20)
    expected = 2 * np.log1p(lr * 1.5 * normals**2).mean() / lr
    assert pivot_growth([1.5], lr, 0.0, samples=2**20)[0] == pytest.approx(expected, rel=0.01)


FOUR = np.array([2.0, 1.5, 1.0, 0.5])


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_critical_batch_sizes_of_small_steps_and_starts(noise):
    """2s² + σ² + Σ (σ² + (3/2)s_α² + ½s_αs_β) over 2εs, the sum over stronger modes."""
    lr, late = 1e-6, 1e-4
    found = critical_batch_size(FOUR, lr, noise, late) * 2 * FOUR * late / lr
    expected = [
        2 * s**2 + noise**2 + sum(noise**2 + 1.5 * s**2 + 0.5 * s * other for other in FOUR if other > s) for s in FOUR
    ]
    assert found == pytest.approx(expected, rel=2e-4)
    assert found[-1] < 0.7 * sum(growth_rate(FOUR, 1.0, noise)[part][-1] for part in (1, 2))


@pytest.mark.parametrize("start", [1e-3, 1e-10])
def test_critical_batch_sizes_delay_half_times_by_their_fraction(start):
    lr, late, noise = 1e-3, 1e-3, 1.0
    free = half_times(FOUR, start, 0.0, noise, lr)
    for mode, batch in enumerate(critical_batch_size(FOUR, lr, noise, late, start)):
        delay = half_times(FOUR, start, lr / batch, noise, lr)[mode] / free[mode] - 1
        assert delay == pytest.approx(late, rel=5e-3)


def test_on_the_first_plateau_all_orders_of_the_learning_rate_are_in():
    """Pivots of I + ½η(S + Sᵀ) for batches of 64, two targets that are learned at the same time."""
    lr, batch, noise, targets = 0.05, 64, 1.0, np.array([1.0 + 1e-9, 1.0])
    rng, growth = np.random.default_rng(0), []
    for _ in range(20):
        x, z = rng.standard_normal((2, 10_000, 2, batch))
        s = (targets[:, None] * x + noise * z) @ x.swapaxes(1, 2) / batch
        minors = [np.ones(len(s)), 1 + lr * s[:, 0, 0]]
        minors.append(minors[1] * (1 + lr * s[:, 1, 1]) - lr**2 / 4 * (s[:, 0, 1] + s[:, 1, 0]) ** 2)
        linear = lr * (np.diagonal(s, axis1=1, axis2=2) - 1) / (1 + lr)
        growth.append(2 / lr * (np.diff(np.log(minors), axis=0).T - linear).mean(axis=0))
    free = 2 / lr * np.log1p(lr)
    lost = critical_batch_size(targets, lr, noise, 1e-6) * 1e-6 * free / (1 + 1e-6) / lr
    assert (free - np.mean(growth, axis=0)) * batch / lr == pytest.approx(lost, rel=0.02)
    assert lost == pytest.approx([3.0 / 1.05**2, 6.0 / 1.05**2], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slow_down": 0.0}, "slow_down must be positive"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"targets": [1.0, 0.0]}, "targets must be positive"),
        ({"start": 0.6}, "start must be positive and below half of every target"),
        ({"label_noise": -1.0}, "label_noise must be finite and not negative"),
    ],
)
def test_critical_batch_sizes_refuse(changes, message):
    with pytest.raises(ValueError, match=message):
        critical_batch_size(**({"targets": [1.0], "lr": 0.1, "label_noise": 1.0, "slow_down": 0.1} | changes))


def test_modes_that_are_not_there_have_no_half_time():
    """They change no other time, and are not negative."""
    times = half_times([0.0, 2.0, 1.0, 0.0], 1e-4, 0.01, 0.5)
    np.testing.assert_array_equal(times, [np.nan, *half_times([2.0, 1.0], 1e-4, 0.01, 0.5), np.nan])
    with pytest.raises(ValueError, match=r"below half of every target but 0, got 0\.0001 and -1; lower it"):
        half_times([2.0, -1.0], 1e-4, 0.01, 0.5)
