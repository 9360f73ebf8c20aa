"""The parts of the claims on diagonal networks, on small ensembles."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope import init
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance import (
    _chains,
    collapsing,
    deep_limit,
    density,
    divergence,
    ergodicity,
    interpolation,
    inversion,
    most_likely,
    regimes,
    second_order,
    tails,
    transition,
    wide_and_deep,
    width,
)
from saddlescope.methods import GD, SGD, Langevin
from saddlescope.theory import mode_sde


def test_chains_start_where_they_are_told_to():
    problem = _chains.chains(3, [0.125, -0.5], label_noise=0.3)
    weights = init.draw(problem.init, problem.network, problem.data, seed=0, members=[0])
    product = np.prod([layer[0, :, 0] for layer in weights], axis=0)
    assert product == pytest.approx([0.125, -0.5])
    assert np.allclose(weights[0] ** 2, weights[2] ** 2)


def test_end_of_an_ensemble_is_at_its_time():
    problem = _chains.chain(2, 0.1, label_noise=0.0)
    strengths, dataset = _chains.end(problem, GD(1e-3), 2.0, trajectories=3)
    assert strengths == pytest.approx(0.1 / (0.1 + 0.9 * np.exp(-4.0)), abs=1e-3)
    assert float(dataset["time"][-1]) == pytest.approx(2.0)


@pytest.mark.parametrize("depth", density.DEPTHS)
def test_claimed_law_is_that_of_the_networks_simulated(depth):
    (_, run) = density._ends("SGD", [density.mode(depth, 0.05)], 1)
    assert f"L = {depth}, s* = 1" in run.name
    sde = mode_sde(_chains.chain(depth, 1.0, density.LABEL_NOISE), GD(0.1), 0)
    assert (sde.depth, sde.target, sde.label_noise) == (depth, 1.0, density.LABEL_NOISE)


def test_threshold_is_where_a_known_growth_is_zero():
    """Without noise log v grows by 2 log(1 + ηs*) per step, and quiet SGD has no threshold."""
    growth, _ = transition._growth(SGD(0.02, 1), 0.0, 400)
    exact = 2 * transition.collapse_rate(0.02, 1, 1.0, 0.0) / 0.02
    assert growth.low < exact < growth.high
    assert growth.high - growth.low < 0.2
    assert np.isnan(transition._window(transition.QUIET)).all()


def test_leaving_is_seen_where_the_sign_changes():
    """Gradient descent moves u + w past u − w after log(1/ratio)/(2s*), up to the save interval."""
    dataset = ergodicity._run(ergodicity.pair(-1e-4, 1e-3), 0.02, 50)
    assert ergodicity._leaving(dataset).mean() == pytest.approx(np.log(1e3) / 2, rel=0.15)
    assert not (ergodicity._strengths(ergodicity._run(_chains.chain(2, -0.1, 1.0), 0.5, 50)) > 0).any()


def test_variance_is_that_of_the_gamma_law_where_noise_swamps_the_signal():
    for heat in inversion.HEATS:
        assert inversion.expected(inversion.at(heat)) == pytest.approx(2 * heat * (1 - heat), rel=0.02)
    draws = inversion.at(0.5).stationary().rvs((4000, 2), random_state=1)
    found = inversion.variance(draws)
    assert found.low < inversion.expected(inversion.at(0.5)) < found.high


@pytest.mark.parametrize(("power", "name"), [(0.25, "learned"), (4.0, "at zero"), (400.0, "collapsed")])
def test_regime_is_read_off_counts(power, name):
    looks = np.random.default_rng(1).random((8000, 5)) ** power
    assert regimes.seen(looks) == name


def test_a_flat_density_is_in_no_regime():
    looks = np.random.default_rng(1).random((4000, 5)) * 1.2
    assert regimes.seen(looks) == "unclear"


def test_second_maximum_is_seen():
    rng = np.random.default_rng(1)
    looks = np.where(rng.random((4000, 5)) < 0.5, rng.random((4000, 5)) ** 4, 0.8 + 0.2 * rng.random((4000, 5)))
    assert regimes.seen(looks) == "bimodal"


@pytest.mark.parametrize(("depth", "starts"), [(2, width.OPPOSITE), (3, width.SAME), (4, width.OPPOSITE)])
def test_distance_of_chains_changes_as_predicted_in_small_steps(depth, starts):
    method = Langevin(width.TEMPERATURE, 1.0, noise="gradient", dt=width.TEMPERATURE / 50)
    found, predicted = width.change(width._run(depth, starts, method, 8, time=2.0), depth, starts)
    assert found == pytest.approx(predicted, rel=0.15)


def test_law_of_chains_tends_to_the_limit_like_one_over_the_depth():
    far, near = (deep_limit.distance(depth, 1, 0.1) for depth in (16, 32))
    assert near < 0.01
    assert far / near == pytest.approx(2.0, rel=0.1)
    draws = np.exp(deep_limit.limit(0.1).rvs(4000, random_state=1))
    assert deep_limit.to_limit(draws, 0.1).low == 0.0
    assert deep_limit.to_limit(draws, 0.2).low > 0.0


def test_steps_of_sgd_add_their_own_term_to_the_change_of_distance():
    dataset = width._run(4, width.SAME, width.COLD, 128, width.EARLY)
    found, predicted = width.change(dataset, 4, width.SAME)
    without = width.change(dataset, 4, width.SAME, stepping=0.0)[1]
    assert found.mean() == pytest.approx(predicted.mean(), rel=0.05)
    assert abs(without.mean() / predicted.mean() - 1) > 0.08


def test_time_to_leave_tells_its_rate_from_that_of_balanced_growth():
    time = Interval(*(np.log(1 / ergodicity.RATIO) / 2 * np.array([1.0, 0.995, 1.005])))
    assert ergodicity._leaves(time, 2.0).verdict == "confirmed"
    assert ergodicity._leaves(time, 1.94).verdict != "confirmed"


@pytest.mark.parametrize("depth", density.DEPTHS)
def test_rival_laws_are_told_from_the_law_where_it_is_held(depth):
    """Exact distances of the rivals exceed the region of full runs, independent of the sample."""
    levels = np.linspace(1e-3, 1 - 1e-3, 400)
    sde = density.small(depth)
    places = sde.stationary().ppf(levels)
    far = {factor: np.abs(density.hotter(factor)(sde).cdf(places) - levels).max() for factor in (0.9, 1.1)}
    assert all(distance > 0.01 for distance in far.values())
    if depth > 1:
        for law in (density.without_ito, density.ModeSDE.boltzmann, density.deeper):
            assert np.abs(law(sde).cdf(places) - levels).max() > 0.012
        hot = density.mode(depth, 0.4)
        places = hot.stationary().ppf(levels)
        assert np.abs(density.additive(hot).cdf(places) - levels).max() > 0.1


def test_without_ito_the_tail_is_another():
    sde = tails.mode(3, tails.COLD)
    logs = np.log(np.array([1e3, 1e4]))
    slope = np.diff(density.without_ito(sde).logpdf(np.exp(logs))) / np.diff(logs)
    assert slope == pytest.approx(-6 + 4 / 3, abs=0.01)


@pytest.mark.parametrize("depth", tails.DEPTHS)
def test_hills_value_of_the_exact_law_is_that_of_its_draws(depth):
    sde = tails.mode(depth, tails.COLD, tails.OTHER)
    draws = sde.stationary().rvs((20_000, 3), random_state=1)
    found = tails.exponent(draws, tails.BEYOND)
    assert found.low < tails.exact_exponent(sde, tails.BEYOND) < found.high
    assert tails.exact_exponent(sde, tails.LIMIT) == pytest.approx(tails.predicted(depth), abs=0.005)


def test_tail_of_sgd_is_told_from_that_of_langevin_dynamics():
    found, _ = tails._sgd(0.9, 1, 2048)
    assert found.low < tails.sgd_tail(0.9, 1) < found.high < 1 + 1 / 0.9


def test_excess_over_the_limit_of_infinite_depth_is_that_of_its_law():
    """L × excess has converged in L, and grows by the same amount for every factor 4 of the width."""
    found = {width: deep_limit.approach(width) for width in (1, 4, 16)}
    assert (found[16] - found[4]) / (found[4] - found[1]) == pytest.approx(1.0, abs=0.02)
    law = deep_limit.chains_sde(16, 16, deep_limit.HEAT * 16 / 16).stationary()
    share = deep_limit.excess(law.rvs(100_000, random_state=1))
    assert share.low < found[16] / 16 < share.high and not share.low < found[16] / 32 < share.high


def test_power_of_sgd_at_zero_is_told_from_that_of_langevin_dynamics():
    looks, _ = regimes._sgd(0.7, 256)
    found = _chains.hill(regimes.DEEP / looks) - 1
    mode = regimes.at(regimes.SGD_NOISE, 0.7)
    assert found.low < regimes.sgd_start(mode.temperature, 1, 1.0, regimes.SGD_NOISE) < found.high
    assert not found.low < -0.4 < found.high


def test_variance_and_mean_of_the_law_tell_their_temperature():
    for heat in inversion.HEATS:
        exact = inversion.average(inversion.at(heat))
        assert exact == pytest.approx(1 - heat, abs=0.01)
        assert abs(inversion._hotter(inversion.average, 1.1)(heat) - exact) > 0.009
    falls = inversion._falls(np.tile([0.0, 0.2], (96, 1)), np.tile([0.05, 0.15], (96, 1)))
    assert (falls.value, falls.low, falls.high) == pytest.approx((4.0, 4.0, 4.0))
    assert falls.miss <= 1e-6


def test_interpolating_laws_end_at_k_and_are_told_from_their_rivals():
    law, levels = interpolation.DECAYED.stationary(), np.linspace(1e-3, 1 - 1e-3, 400)
    assert law.ppf([0.1, 0.5, 0.9]) == pytest.approx([0.8158, 0.9171, 0.9566], abs=1e-4)
    for change in ({"temperature": 0.16}, {"temperature": 0.25}, {"weight_decay": 0.09}, {"weight_decay": 0.11}):
        other = replace(interpolation.DECAYED, **change).stationary()
        assert np.abs(other.cdf(law.ppf(levels)) - levels).max() > 0.015
    for depth in (1, 2):
        mode = interpolation._mode(depth)
        assert (mode.crossing, float(mode.stationary().cdf(1.0))) == ((1.0, -1), 1.0)
        assert (mode.alpha2, mode.alpha3) == pytest.approx((mode.alpha1, mode.alpha1))


def test_second_moments_grow_with_their_cut_where_the_loss_diverges():
    hot = divergence.law_growth(divergence._shallow(1.15))
    assert hot > 2 * max(divergence.law_growth(divergence._deep(depth)) for depth in divergence.DEEP)
    law = divergence._deep(3).stationary()
    draws = law.rvs((30_000, 2), random_state=1)
    found = divergence.growth(draws)
    assert found.low < divergence.law_growth(divergence._deep(3)) < found.high < hot


def test_temperature_of_divergence_is_where_the_power_is_two():
    powers = [Interval(1 + 1 / T, 1 + 0.99 / T, 1 + 1.01 / T) for T in divergence.BESIDE]
    found = divergence._crossing(powers, inverse=True)
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(0.99) and found.high == pytest.approx(1.01)
    straight = [Interval(k, k - 0.01, k + 0.01) for k in (2.15, 1.85)]
    assert divergence._crossing(straight, inverse=False).value == pytest.approx(1.0)
    assert all(divergence.sgd_tail(divergence.sgd_divergence(B), B) == pytest.approx(2.0) for B in divergence.BATCHES)


@pytest.mark.parametrize("depth", most_likely.HEATS)
def test_shift_of_the_maximum_is_read_off_counts(depth):
    sde = most_likely.mode(depth)
    assert most_likely.law_shift(sde) == pytest.approx(most_likely.peak(sde), rel=0.1)
    found = most_likely.shift(sde.stationary().rvs((20_000, 4), random_state=1), sde)
    assert found.low < most_likely.law_shift(sde) < found.high < 0.5 * most_likely.law_shift(sde)


def test_thresholds_of_second_order_are_not_those_of_the_steps():
    for data, batch_size in (("Gaussian", 1), ("Gaussian", 4), ("two values", 1)):
        orders = {theory(data, batch_size) for theory in (second_order.first, second_order.second)}
        assert all(abs(order / second_order.exact(data, batch_size) - 1) > 0.03 for order in orders)
    lr = second_order.exact("two values", 1)
    assert np.log(np.abs(1 + lr * np.array([6.0, -4.0]))).mean() == pytest.approx(0.0, abs=1e-12)
    found, _ = second_order.threshold("two values", 1, 512)
    assert found.low < lr < found.high and not found.low < 1.2 * lr < found.high


def test_what_is_left_above_the_critical_temperature_lingers_where_theory_says():
    looks = {}
    for noise in (0.3, 2.0):
        mode = collapsing.at(noise)
        looks[noise] = np.asarray(mode.simulate(1.0, collapsing.TIMES[:-1], 4096, seed=1))
        assert collapsing.bump(looks[noise]) == collapsing.predicted(mode) == (noise < 1)
    found, expected = collapsing.height(looks[0.3][:, 2], collapsing.at(0.3)), collapsing.expected(collapsing.at(0.3))
    assert 1 < found.low < expected < found.high


def test_width_decides_where_deep_networks_end():
    one, even, wide = (wide_and_deep.median(256, width, 0.5) for width in (lambda L: 1, lambda L: L, lambda L: L**2))
    assert one < 0.01 < even < 0.95 < wide
    assert wide_and_deep.spread(64, lambda L: L**2, 0.1) == pytest.approx(
        wide_and_deep._heat(64, 64**2, 0.1) / 2, rel=0.01
    )
