"""The parts of the claims on the law of balance and on noise peaks in ReLU networks."""

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network import noise_balance_of_relu as balance
from saddlescope.claims.any_network import noise_peaks_of_relu as peaks

UNOPTIMISED = True


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


def test_times_of_peaks_and_of_learning():
    """Logistic growth from 0 to a strength of either sign; its noise, the slope, peaks at its middle."""
    time, middle = np.linspace(0, 10, 501), np.array([[2.0, 4.0, 6.0], [5.0, 3.0, 1.0]])
    growth = 1 / (1 + np.exp(-8 * (time - middle[..., None])))
    strength = growth * np.array([3.0, -2.0, 1.0])[:, None]
    run = xr.Dataset(
        {
            "mode_strength": (("trajectory", "mode", "time"), strength),
            "mode_noise": (("trajectory", "mode", "time"), growth * (1 - growth)),
            "status": ("trajectory", [0, 0]),
        },
        coords={"time": time},
    )
    times = peaks.Times.of(run, "mode")
    assert times.peak == pytest.approx(middle, abs=0.01)
    assert times.learned == pytest.approx(middle + np.log(9) / 8, abs=0.021)
    assert times.before.all() and times.order == pytest.approx(1.0)


def test_the_order_is_confirmed_and_lost_when_peaks_are_shuffled():
    rng = np.random.default_rng(0)
    learned = rng.permuted(np.tile(np.arange(6.0), (60, 1)), axis=1)
    times = peaks.Times(learned - 0.5, learned)
    assert peaks.in_order(times, "here").verdict == "confirmed"
    assert peaks.in_order(times.shuffled(1.0), "here").verdict == "refuted"
    assert peaks.in_order(peaks.Times(np.zeros_like(learned), learned), "here").interval.value == 0


def test_the_teacher_has_its_targets():
    examples = peaks.data()
    assert examples.X.T @ examples.X / len(examples.X) == pytest.approx(np.eye(peaks.INPUTS), abs=1e-12)
    found = np.linalg.svd(examples.Y.T @ examples.X / len(examples.X), compute_uv=False)
    assert found == pytest.approx(np.array(peaks.TARGETS))
