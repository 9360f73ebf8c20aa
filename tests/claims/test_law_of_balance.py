"""The parts of the claims on the law of balance, on small ensembles."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope.claims import _networks
from saddlescope.claims.intervals import Interval, distance_to_law
from saddlescope.claims.law_of_balance import balance_decay, exact_balance, heavy_ball, noise_balance, norm_bounds
from saddlescope.claims.tools import around
from saddlescope.theory import Balance


@pytest.mark.parametrize("name", [*exact_balance.SYMMETRIC, *exact_balance.BROKEN])
def test_digits_tell_pairs_with_the_symmetry_from_others(name):
    path = exact_balance.descend((exact_balance.SYMMETRIC | exact_balance.BROKEN)[name], steps=40, decay=0.1)
    assert path.digits > 11 if name in exact_balance.SYMMETRIC else path.digits < 2
    assert exact_balance.digits(np.zeros(3), np.ones(3)) == 16


def test_rate_of_decay_is_told_from_that_of_another_temperature():
    ensemble = balance_decay._ensemble(balance_decay.SETTINGS[0], balance_decay.UNBALANCED, 10.0, 256)
    rate = ensemble.decay()
    assert rate.low < 1 < rate.high
    assert not rate.low < 0.8 < rate.high


def test_gradient_flow_has_somewhere_to_go():
    flow = balance_decay._ensemble(balance_decay.GradientFlow(lr=0.01), balance_decay.UNLEARNED, 4.0, 1)
    assert flow.v[0, -1] - flow.v[0, 0] > 0.8
    assert exact_balance.digits(flow.q[0] - flow.q[0, 0], flow.q[0]) > exact_balance.ROUNDING[0]


def test_growth_under_isotropic_noise_is_read_off_an_ensemble():
    spread = balance_decay._growth(balance_decay._ensemble(balance_decay.ISOTROPIC, balance_decay.BALANCED, 1.0, 4096))
    assert spread.low < 1 < spread.high and not spread.low < 1.5 < spread.high
    still = balance_decay._ensemble(balance_decay.SETTINGS[0], balance_decay.BALANCED, 1.0, 4)
    assert np.abs(still.q).max() < 1e-13


def test_noise_of_units_is_that_of_the_law_of_balance():
    rng = np.random.default_rng(0)
    u, w = (rng.standard_normal(shape).astype(np.float32) / 4 for shape in ((2, 20, 9), (2, 9, 20)))
    norm_u, norm_w, noise_u, noise_w = noise_balance.spread(u, w, noise_balance.UNEVEN, np.random.default_rng(1))
    x, y = noise_balance.UNEVEN.draw((2, noise_balance.SAMPLES // 32, 32), np.random.default_rng(1))
    g_u, g_w = _networks.relu(u[1], w[1], x[1].reshape(-1, 20), y[1].reshape(-1, 20))
    for unit in range(9):
        balance = Balance.of(u[1, :, unit], w[1, unit], g_u[:, :, unit], g_w[:, unit], temperature=1.0)
        assert norm_u[1, unit] - norm_w[1, unit] == pytest.approx(balance.difference, rel=1e-4, abs=1e-5)
        assert noise_u[1, unit] - noise_w[1, unit] == pytest.approx(
            balance.drift, rel=1e-3, abs=1e-4 * float(noise_u[1, unit])
        )


def test_training_starts_to_balance_noise():
    training = noise_balance.train(noise_balance.EVEN, steps=noise_balance.SAVES * 30, trajectories=2)
    assert training.noise_ratio.shape == (noise_balance.SAVES + 1, 2)
    assert np.all(np.abs(np.log(training.noise_ratio[-1])) < 0.7 * np.abs(np.log(training.noise_ratio[0])))
    assert np.all(training.norm_ratio[-1] > 2 * training.norm_ratio[0])


def test_rivals_of_noise_balance_are_rejected_on_ratios_that_follow_the_law():
    ratios = {(dx, dy): around(dy / dx, 0.01 * dy / dx) for dx, dy in noise_balance.SHAPES}
    ratios = {shape: Interval(sum(ends) / 2, *ends) for shape, ends in ratios.items()}
    assert noise_balance._exponent(ratios, 1.0).verdict == "confirmed"
    assert {noise_balance._exponent(ratios, power).verdict for power in (0.0, 0.5, 1.1)} == {"refuted"}


@pytest.mark.parametrize("theory", exact_balance.RIVALS)
def test_rivals_of_a_step_are_told_from_the_identity(theory):
    path = exact_balance.descend(_networks.linear, 40, exact_balance.DECAYS[1], exact_balance.RIVALS[theory])
    assert path.digits < exact_balance.ROUNDING[0] / 2


def test_terms_of_the_rate_of_decay_are_told_apart():
    ensemble = balance_decay._ensemble(balance_decay.SETTINGS[-1], balance_decay.UNBALANCED, 50.0, 256)
    right, *wrong = (
        ensemble.decay(**factors) for factors in ({}, {"heat": 0.95}, {"stepping": 0.0}, {"stepping": 2.0})
    )
    assert right.low < 1 < right.high
    assert all(not rate.low < 1 < rate.high for rate in wrong)


def test_ratio_of_norms_comes_within_its_bounds_and_flat_inputs_lose_rank():
    start, trained = (norm_bounds.units(norm_bounds.EVEN, steps, 6) for steps in (0, 2000))
    assert ((trained.bounds[0] < trained.ratio) & (trained.ratio < trained.bounds[1])).all()
    assert (start.ratio < start.bounds[0]).all()
    assert (trained.ranks == norm_bounds.SIZE).all()
    assert norm_bounds.units(norm_bounds.FLAT, 0, 2).ranks.tolist() == [[20, 20], [10, 10]]


@pytest.mark.parametrize("name", ["ReLU", "tanh", "Nesterov"])
def test_digits_tell_the_heavy_ball_on_symmetric_layers_from_others(name):
    pair = _networks.relu if name == "ReLU" else _networks.tanh if name == "tanh" else _networks.linear
    path = heavy_ball.descend(pair, 60, nesterov=name == "Nesterov")
    assert path.digits > 11 if name == "ReLU" else path.digits < 2


@pytest.fixture(scope="module")
def heavy_ball_paths():
    return heavy_ball._paths(60)[0]


@pytest.mark.parametrize("mistake", heavy_ball.MISTAKES)
def test_identity_of_another_method_is_rejected_on_every_path(heavy_ball_paths, mistake):
    assert min(path.digits for path in heavy_ball_paths.values()) > 11
    change = heavy_ball.MISTAKES[mistake]
    wrong = [replace(path, method=replace(path.method, **change)) for path in heavy_ball_paths.values()]
    changed = [new for new, path in zip(wrong, heavy_ball_paths.values(), strict=True) if new.method != path.method]
    assert changed and max(path.digits for path in changed) < 2


def test_temperature_and_clock_of_momentum_are_told_from_their_rivals():
    """The rate of decay alone allows T/(1 − μ)² on the clock η, the stationary distribution alone every clock."""
    decay = heavy_ball._decay(heavy_ball.SETTINGS[1], 256)
    (method, v), _ = heavy_ball._end(decay.method, 4096)
    rate, distance = decay.rate(), distance_to_law(v, heavy_ball.law(method).cdf)
    assert rate.low < 1 < rate.high and distance.low == 0.0
    for theory in heavy_ball.RIVALS.values():
        rate, distance = decay.rate(theory), distance_to_law(v, heavy_ball.law(method, theory).cdf)
        assert not rate.low < 1 < rate.high or distance.low > 0.0


def test_lag_of_momentum_is_seen_where_the_learning_rate_is_large():
    decay = heavy_ball._decay(heavy_ball.LARGE, 256)
    without, with_lag = decay.rate(), decay.rate(lagging=True)
    assert without.high < 0.97 and with_lag.low < 1 < with_lag.high
