"""Growth on the first plateau under discrete SGD against closed forms."""

import numpy as np
import pytest

from saddlescope.theory.mode.phases import collapse_rate
from saddlescope.theory.network.plateaus import growth_rate, pivot_growth

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
