"""Ensembles of one mode's SDE against its stationary distribution and passage times, with negative controls."""

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope.theory import Diffusion1D, ModeSDE, mode_sde, plateau_time
from support import FALSE_ALARM, follows

TRAP = ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3)
MODES = {
    "depth 1": (ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.9), 12.0),
    "depth 2": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.3), 12.0),
    "depth 2, far from Gaussian data": (ModeSDE(depth=2, moments=(0.4, 0.3, 0.9, 1.1, 0.8), temperature=0.3), 12.0),
    "depth 3": (TRAP, 12.0),
    "depth 4": (ModeSDE(depth=4, target=1.0, label_noise=0.5, temperature=0.1), 12.0),
    "depth 8": (ModeSDE(depth=8, target=1.0, label_noise=0.3, temperature=0.05), 4.0),
}


def other(mode, **changes):
    given = {"target": mode.target, "label_noise": mode.label_noise, "moments": mode.moments}
    return ModeSDE(**({"depth": mode.depth, "temperature": mode.temperature} | given | changes))


@pytest.mark.parametrize("name", MODES)
def test_the_stationary_law_is_reached_and_kept(name):
    mode, horizon = MODES[name]
    law = mode.stationary()
    sample = mode.simulate(law.rvs(40_000, random_state=1), [horizon / 4], 40_000, seed=2)[:, 0]
    assert follows(sample, law)
    assert not follows(sample, other(mode, temperature=1.15 * mode.temperature).stationary())
    reached = mode.simulate(mode.fixed_point, [horizon], 20_000, seed=1)[:, 0]
    assert follows(reached, law)


@pytest.mark.parametrize(
    ("depth", "temperature", "at_zero"),
    [(2, 0.1, 0.0), (2, 0.6, np.inf), (2, 8 / 27, None), (3, 0.1, 0.0), (4, 0.1, 0.0)],
)
def test_strengths_below_zero_have_no_probability(depth, temperature, at_zero):
    law = ModeSDE(depth=depth, target=1.0, label_noise=0.5, temperature=temperature).stationary()
    limit = law.pdf(1e-200) if at_zero is None else at_zero  # at T = 8/27 the power of s is 0
    np.testing.assert_array_equal(law.cdf([-np.inf, -1.0, 0.0, np.inf]), [0, 0, 0, 1])
    np.testing.assert_allclose(law.pdf([-np.inf, -1.0, 0.0, np.inf]), [0, 0, limit, 0], rtol=1e-6)
    np.testing.assert_array_equal(law.logpdf([-np.inf, -1.0, np.inf]), [-np.inf] * 3)
    np.testing.assert_array_equal(law.ppf([0, 1, -0.1, 1.1]), [0, np.inf, np.nan, np.nan])


def test_laws_on_the_whole_line_end_at_infinity():
    linear = ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1)
    for law in (linear.stationary(), linear.boltzmann(), MODES["depth 2"][0].boltzmann()):
        np.testing.assert_array_equal(law.ppf([0, 1, -0.1, 1.1]), [-np.inf, np.inf, np.nan, np.nan])
        np.testing.assert_array_equal(law.cdf([-np.inf, np.inf]), [0, 1])
        np.testing.assert_array_equal(law.pdf([-np.inf, np.inf]), [0, 0])


def test_a_mode_sde_is_of_a_problem_a_method_and_a_whole_mode():
    problem = sc.Problem(sc.DeepLinear((2, 2, 2)), sc.GaussianData(np.diag([2.0, 1.0])), sc.init.Balanced(scale=0.1))
    sgd = sc.SGD(lr=0.01, batch_size=2)
    for arguments, message in (
        ((sgd, problem, 0), r"^problem must be such as Problem\(network, data, init\), got SGD\("),
        ((problem, 0.1, 0), r"^method must be such as SGD\(lr=1e-3, batch_size=16\), got 0\.1"),
        ((problem, sgd, 0.5), r"^mode must be a whole number, got 0\.5"),
        ((problem, sgd, True), r"^mode must be a whole number, got True"),
    ):
        with pytest.raises(TypeError, match=message):
            mode_sde(*arguments)
    assert mode_sde(problem, sgd, np.int64(1)).target == 1.0


def test_a_mode_that_starts_learned_has_no_plateau():
    for depth in (2, 3, 5):
        assert plateau_time(0.5, 1.0, depth) > 0
        np.testing.assert_array_equal(plateau_time([1.0, 2.0], 1.0, depth), [0, 0])
        assert ModeSDE(depth=depth, target=1.0, temperature=0.0).plateau(2.0) == 0


def test_ito_is_not_stratonovich():
    """Negative control: with Stratonovich noise the distribution of s differs."""
    mode, step = MODES["depth 2"][0], 1e-6

    def drift(s):
        slope = (mode.diffusion(s * (1 + step)) - mode.diffusion(s * (1 - step))) / (2 * step * s)
        return mode.drift(s) + mode.diffusion(s) * slope / 2

    wrong = Diffusion1D(drift, mode.diffusion, lower=0.0).stationary()
    right = Diffusion1D(mode.drift, mode.diffusion, lower=0.0).stationary()
    sample = mode.simulate(1.0, [12.0], 20_000, seed=1)[:, 0]
    np.testing.assert_allclose(right.cdf(sample[:9]), mode.stationary().cdf(sample[:9]), rtol=1e-6)
    assert follows(sample, right)
    assert not follows(sample, wrong)


def mean_bound(law, count):
    return stats.norm.isf(FALSE_ALARM / 2) * law.std() / np.sqrt(count)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fixed_step_keeps_a_cold_law_and_loses_a_hot_one(dtype):
    """At the fixed step 0.002 heavy-tail jumps throw nearly all paths to 0 or to overflow by t = 160."""
    cold = other(TRAP, temperature=0.01)
    sample = cold.simulate(cold.fixed_point, [12.0], 40_000, seed=1, dt=2e-3, dtype=dtype)[:, 0]
    assert follows(sample, cold.stationary())
    assert not follows(sample, other(cold, temperature=0.0115).stationary())
    law, count, times = TRAP.stationary(), 1000, [10.0, 40.0, 160.0]
    assert law.mean() == pytest.approx(1.1615, abs=5e-5)
    fixed = TRAP.simulate(1.5, times, count, seed=1, dt=2e-3, dtype=dtype)
    settled = np.isfinite(fixed) & (np.abs(fixed) > 1e-3)
    assert settled.mean(axis=0)[0] < 0.6
    assert settled.mean(axis=0)[2] < 0.02
    assert 0.1 < np.isfinite(fixed[:, 2]).mean() < 0.4


def test_local_steps_do_not_fall_into_the_trap():
    law, count, times = TRAP.stationary(), 1000, [10.0, 40.0, 160.0]
    local = TRAP.simulate(1.5, times, count, seed=1)
    assert (np.abs(local.mean(axis=0) - law.mean()) < mean_bound(law, count)).all()
    assert all(follows(column, law, tests=3) for column in local.T)


def test_the_law_converges_in_the_tolerance():
    law, count = TRAP.stationary(), 100_000
    samples = {tol: TRAP.simulate(1.5, [6.0], count, seed=1, tol=tol)[:, 0] for tol in (1.6, 0.8, 0.2, 0.1)}
    distance = {tol: stats.kstest(sample, law.cdf).statistic for tol, sample in samples.items()}
    assert distance[1.6] > 2 * distance[0.8] > 4 * distance[0.2]
    assert not follows(samples[1.6], law)
    for tol in (0.2, 0.1):
        assert follows(samples[tol], law)
        assert abs(samples[tol].mean() - law.mean()) < mean_bound(law, count)


PASSAGES = {
    "depth 1": (ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.3), 0.0, 0.9),
    "depth 2, cool": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05), 1e-3, 0.5),
    "depth 2, hot": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.3), 1e-2, 0.9),
    "depth 2, downwards": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.6), 1.0, 0.3),
    "depth 3": (ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.1), 1e-2, 1.35),
}


@pytest.mark.parametrize("name", PASSAGES)
def test_passage_times(name):
    mode, start, target = PASSAGES[name]
    mean, variance = mode.passage(start, target)
    count = 8_000
    times = mode.simulate_passages(start, [target], 40 * float(mean), count, seed=1, tol=0.05)[:, 0]
    error, sigma = times.std() / np.sqrt(count), stats.norm.isf(FALSE_ALARM / 4)
    assert abs(times.mean() - mean) < sigma * error
    fourth = np.mean((times - times.mean()) ** 4)
    assert abs(times.var() - variance) < sigma * np.sqrt((fourth - times.var() ** 2) / count)
    wrong = other(mode, temperature=1.3 * mode.temperature).passage(start, target)
    assert abs(times.mean() - wrong[0]) > sigma * error or abs(times.var() - wrong[1]) > 0.1 * variance


def test_the_plateau_is_passed_in_an_inverse_gaussian_time():
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
    times = mode.simulate_passages(1e-7, [1e-3], 100.0, 20_000, seed=1, tol=0.03)[:, 0]
    law = mode.plateau_passage(1e-7, 1e-3)
    assert follows(times, law)
    assert not follows(times, stats.norm(law.mean(), law.std()))
    assert not follows(times, mode.plateau_passage(1e-7, 1.1e-3))
    assert not follows(times, other(mode, temperature=0.13).plateau_passage(1e-7, 1e-3))


def test_above_the_critical_temperature_all_goes_to_zero():
    below, above = (ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=T) for T in (0.45, 0.75))
    assert below.critical_temperature == pytest.approx(2 / 3)
    assert follows(below.simulate(1.0, [200.0], 4000, seed=1), below.stationary())
    depths = np.log(above.simulate(1.0, [200.0, 1000.0], 1000, seed=1))
    rate = 2 * above.beta2 - above.temperature * above.alpha3  # d log s / dt near 0
    bound = stats.norm.isf(FALSE_ALARM / 2) * depths[:, 1].std() / np.sqrt(1000)
    assert abs(depths[:, 1].mean() - depths[:, 0].mean() - 800 * rate) < bound + 10  # a little is still held at s*
    assert above.stationary().mean() == 0


def test_without_label_noise_the_fate_depends_on_the_start():
    mode = ModeSDE(depth=2, target=1.0, temperature=2.0)
    count = 10_000
    ends = mode.simulate(0.3, [100.0], count, seed=1)[:, 0]
    gone = np.sum(ends < 0.5)
    assert (np.minimum(ends, np.abs(ends - 1)) < 0.05).mean() > 0.999
    expected, wrong = mode.stationary(0.3).probabilities[0], mode.stationary(0.4).probabilities[0]
    assert stats.binomtest(int(gone), count, expected).pvalue > FALSE_ALARM
    assert stats.binomtest(int(gone), count, wrong).pvalue < FALSE_ALARM


WEAK = {
    "depth 1": (1, 1e-6, 0.0, 0.9),
    "depth 2": (2, 1e-6, 1e-3, 0.5),
    "depth 2, tiny start": (2, 1e-4, 1e-19, 0.5),
    "depth 3, tiny start": (3, 1e-4, 1e-9, 0.5),
    "depth 6": (6, 1e-5, 1e-4, 0.5),
    "depth 2, from above": (2, 1e-4, 3.0, 1.5),
}


@pytest.mark.parametrize("name", WEAK)
def test_weak_noise_leaves_no_bias(name):
    """Mean, width and distribution function against the time-dependent one, known to 1e-6; and passage times."""
    depth, temperature, start, target = WEAK[name]
    mode, count = ModeSDE(depth=depth, target=1.0, label_noise=0.5, temperature=temperature), 200_000
    (mean, variance) = (float(moment) for moment in mode.passage(start, target))
    (law,) = mode.evolve(start, [mean])
    found = law.probit(mode.simulate(start, [mean], count, seed=5)[:, 0])
    sigma = stats.norm.isf(FALSE_ALARM / 8) / np.sqrt(count)
    assert abs(found.mean()) < sigma + 1e-3
    assert abs(found.std() - 1) < sigma / 2**0.5 + 4e-3
    times = mode.simulate_passages(start, [target], mean + 9 * variance**0.5, count, seed=6)[:, 0]
    assert abs(times.mean() - mean) < (sigma + 0.02) * variance**0.5
    assert abs(times.std() / variance**0.5 - 1) < sigma / 2**0.5 + 0.02
    warmer = law.probit(other(mode, temperature=1.1 * temperature).simulate(start, [mean], count, seed=5)[:, 0])
    assert abs(warmer.std() - 1) > 2 * (sigma / 2**0.5 + 4e-3)


MODE = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MODE.simulate(0.1, [1.0], 10, seed=1.5), TypeError, r"^seed must be a whole number, got 1\.5"),
        (lambda: MODE.simulate(0.1, [1.0], 10, seed=-1), ValueError, "^seed must be from 0 to .*, got -1"),
        (lambda: MODE.simulate(np.inf, [1.0], 10), ValueError, "^start must be finite, got inf"),
        (lambda: MODE.simulate(np.nan, [1.0], 10), ValueError, "^start must be finite, got nan"),
        (lambda: MODE.simulate([0.1, 0.2], [1.0], 10), ValueError, "^start must be one number or one for each of 10"),
        (lambda: MODE.simulate(0.1, [1.0], 10, threads=0), ValueError, "^threads must be from 1 to .*, got 0"),
        (lambda: MODE.simulate(0.1, [1.0], 10, threads=True), TypeError, "^threads must be a whole number, got True"),
        (lambda: MODE.simulate(0.1, [1.0], 0), ValueError, "^trajectories must be at least 1, got 0"),
        (lambda: MODE.simulate(0.1, [1.0], 2.0), TypeError, r"^trajectories must be a whole number, got 2\.0"),
        (lambda: MODE.simulate(0.1, [np.nan], 10), ValueError, "^times must be increasing finite numbers"),
        (lambda: MODE.simulate(0.1, [np.inf], 10), ValueError, "^times must be increasing finite numbers"),
        (lambda: MODE.simulate(0.1, [1.0], 10, tol=np.nan), ValueError, "^tol must be positive and finite, got nan"),
        (lambda: MODE.simulate(0.1, [1.0], 10, dt=0.1, seed=1.5), TypeError, "^seed must be a whole number"),
        (lambda: MODE.simulate_passages(0.1, [0.5], np.inf, 10), ValueError, "^horizon must be a finite time, got inf"),
        (lambda: MODE.simulate_passages(0.1, [np.inf], 9.0, 10), ValueError, "^targets must be finite, got inf"),
    ],
)
def test_ensembles_refuse_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
