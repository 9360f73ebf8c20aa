"""The parts of the claims on the law of balance and on noise peaks in ReLU networks."""

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network import noise_balance_of_relu as balance


def run_of(imbalance, noise, gradient, time):
    """A run with these paths (trajectory, time, pair, unit), all alive."""
    dims = ("trajectory", "time", "pair", "unit")
    named = {"imbalance": imbalance, "balance_noise": noise, "balance_gradient": gradient}
    variables = {name: (dims, values) for name, values in named.items()}
    variables["status"] = ("trajectory", np.zeros(len(imbalance), int))
    return xr.Dataset(variables, coords={"time": time, "pair": ["a", "b"], "unit": [0, 1, 2]})


@pytest.fixture(scope="module")
def account():
    """An account whose two parts sum to the change exactly, but for a factor 1.02; the second pair has two units."""
    rng, time = np.random.default_rng(0), np.array([0.0, 1.0, 4.0])
    noise, gradient = rng.normal(size=(2, 60, 1, 2, 3)) * np.array([1.0, 0.4])[:, None, None, None, None]
    noise, gradient = (np.broadcast_to(rate, (60, 3, 2, 3)).copy() for rate in (noise, gradient))
    imbalance = 1.02 * time[:, None, None] * (noise + gradient)
    imbalance[:, :, 1, 2] = np.nan
    noise[:, :, 1, 2] = gradient[:, :, 1, 2] = np.nan
    return balance.Account.of(run_of(imbalance, noise, gradient, time))


def test_an_account_is_that_of_its_units(account):
    assert account.measured.shape == (60, 5)
    assert account.measured == pytest.approx(1.02 * account.predicted)


def test_slope_and_correlation_are_confirmed_and_rivals_are_not(account):
    slope, correlation = account.numbers("here", balance.SLOPE)
    assert slope.interval.value == pytest.approx(1.02) and correlation.interval.value == pytest.approx(1.0)
    assert slope.verdict == correlation.verdict == "confirmed"
    assert account.slope("here", -account.predicted).verdict == "refuted"
    assert account.slope("here", account.gradient).verdict != "confirmed"


def test_the_control_leaves_out_the_test_of_its_pairs():
    x, y = _networks.teacher(8, 3, 2)
    data, tanh = sc.Examples(x, y), _networks.layers((3, 5, 2), "tanh")
    with pytest.raises(ValueError, match="w1"):
        sc.observe.Balance(balance.UNITS).check(tanh, data)
    balance.Untested(balance.UNITS).check(tanh, data)
