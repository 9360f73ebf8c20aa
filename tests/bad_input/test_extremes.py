"""Extreme and odd arguments give a correct answer or a one-sentence error, immediately."""

import math

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope.theory.mode import phases

MODE = sc.theory.ModeSDE(2, 1.0, 0.5, temperature=0.1)
ORNSTEIN_UHLENBECK = sc.theory.Diffusion1D(lambda x: -x, lambda x: 1.0)


@pytest.mark.parametrize("batch_size", [1e4, 1e6, 1.01e6, 1e10, 1e15])
def test_large_batches_collapse_as_their_moments_say(batch_size):
    """``E log(1 + ηX)`` is ``log(1 + ηs*) − ½η² Var X/(1 + ηs*)²`` up to B⁻², Var X = (2s*² + σ²)/B."""
    lr, target, noise = 0.02, 1.0, 10.0
    variance = lr**2 * (2 * target**2 + noise**2) / batch_size
    expected = math.log1p(lr * target) - variance / (2 * (1 + lr * target) ** 2)
    found = phases.collapse_rate(lr, batch_size, target, noise)
    assert abs(found - expected) < 1e-11 + 10 * (lr * noise / math.sqrt(batch_size)) ** 4


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: phases.collapse_rate(0.1, 1e18, 1.0, 1.0), "batch_size must be from 1 to 1e"),
        (lambda: phases.collapse_rate(0.1, 1, 1e308, 1.0), "target must be finite and at most 1e"),
        (lambda: phases.collapse_window(1, 1.0, 1e308), "label_noise must be finite and at most 1e"),
        (lambda: phases.collapse_window(1, 5e-324, 0.0), "target must be more than 1e-150"),
        (lambda: MODE.simulate(0.1, [1e308], 2), "times must take at most 1e"),
        (lambda: MODE.simulate(0.1, [1e308], 2, dt=1.0), "times must take at most 1e"),
        (lambda: MODE.simulate_passages(0.1, [0.5], 1e200, 2), "times must take at most 1e"),
        (lambda: MODE.simulate(1e300, [1.0], 2), "start must be at most 1e"),
        (lambda: sc.Plan(steps=1, members=range(10**9)), "members must list at most 10,000,000 numbers"),
        (lambda: sc.Plan(steps=10**9, save_at=range(10**9)), "save_at must list at most 10,000,000 numbers"),
        (lambda: sc.DeepLinear((2,) * 10**6), "widths must hold at most 65,537 numbers, got"),
        (lambda: MODE.simulate(0.1, [1.0], 10**18), "needs .* of memory"),
        (lambda: MODE.passage(0.1, 1e308), "climbs against the drift too far"),
        (lambda: ORNSTEIN_UHLENBECK.evolve(0.1, [5e-324]), "times must be from 1e-300 to 1e300"),
        (lambda: ORNSTEIN_UHLENBECK.passage_cdf([1e308], 0.1, 0.5), "times must be from 1e-300 to 1e300"),
        (lambda: ORNSTEIN_UHLENBECK.exit_probability(0.2, 0.0, 2.0**63), "narrower than rounding"),
        (lambda: MODE.stationary().rvs(10**15), "size = .* needs .* of memory"),
        (lambda: sc.theory.mode_flow(1.0, 0.1, 1.0, 10**10), "depth = 10,000,000,000 roots needs .* of memory"),
        (lambda: sc.theory.ModeSDE(10**400, 1.0, temperature=0.1), "depth must be less than"),
        (lambda: ORNSTEIN_UHLENBECK.evolve(0.1, np.linspace(1, 2, 10**6)), "times must be at most 10,000 numbers"),
        (lambda: MODE.plateau_passage(5e-324), "start and target must be from 1e-150"),
        (lambda: MODE.plateau_passage(0.1, np.inf), "start and target must be from 1e-150"),
        (lambda: sc.theory.ModeSDE(1, 1.0, 0.5, temperature=0.1).passage_cdf([1.0], 0.1, np.nan), "must lie in the"),
        (lambda: ORNSTEIN_UHLENBECK.spectrum(0), "count must be from 1 to 50, got 0"),
        (lambda: ORNSTEIN_UHLENBECK.spectrum(10**6), "count must be from 1 to 50"),
        (lambda: ORNSTEIN_UHLENBECK.spectrum(tol=np.nan), "tol must be above 0 and below 1, got nan"),
        (lambda: ORNSTEIN_UHLENBECK.spectrum(lower=np.nan), "lower and upper must lie in the domain"),
        (lambda: ORNSTEIN_UHLENBECK.spectrum(lower=1.0, upper=0.0), "lower below upper, got 1.0 and 0.0"),
        (lambda: MODE.simulate(0.1, [1.0], 10**400), r"trajectories must be at most 2\*\*64"),
        (lambda: sc.convert.depth(10**400), r"theirs must be at most 2\*\*64"),
        (lambda: sc.GaussianData(np.broadcast_to(1.0, (10**6, 10**6))), "teacher of shape .* needs .* of memory"),
        (
            lambda: sc.GaussianData.from_spectrum(range(10**9), 3, 3),
            "spectrum must hold at most .* got 1000000000",
        ),
        (lambda: MODE.stationary().rvs(-1), "size must not be negative"),
        (lambda: MODE.stationary().rvs(1, -1), "random_state must not be negative"),
        (lambda: sc.schedules.Cosine(steps=5).at(-np.inf), "step must be finite and not negative"),
        (lambda: sc.schedules.Warmup(steps=5).at(np.nan), "step must be finite and not negative"),
        (lambda: sc.schedules.Step(every=5, factor=0.5).elapsed([0, np.inf]), "step must be finite and not negative"),
        (lambda: sc.SGD(lr=0.1, batch_size=1).lr_at(np.nan), "step must be finite and not negative"),
    ],
)
def test_extremes_are_refused_in_one_sentence(use, message):
    with pytest.raises(ValueError, match=message) as caught:
        use()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: MODE.stationary().rvs(True), "size must be a whole number"),
        (lambda: MODE.stationary().rvs(b"1"), "size must be a whole number"),
        (lambda: MODE.stationary().rvs(2, True), "random_state must be a whole number"),
        (lambda: MODE.stationary().rvs(2, "0"), "random_state must be a whole number"),
        (lambda: MODE.stationary().rvs(2, object()), "random_state must be a seed"),
        (lambda: MODE.stationary().moment("1"), "order must be a whole number"),
        (lambda: sc.Langevin(lr=0.1, batch_size=1, order=True), "order must be"),
    ],
)
def test_other_kinds_are_refused_in_one_sentence(use, message):
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        use()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flag", ["overwrite", "progress"])
def test_flags_are_true_or_false(flag, tmp_path):
    problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[1.0]]), sc.init.Gaussian(scale=0.1))
    for value in ("no", 0, None, np.array([True, False])):
        with pytest.raises(TypeError, match=f"{flag} must be True or False"):
            sc.simulate(problem, sc.GD(lr=0.1), sc.Plan(steps=1), **{flag: value})


def test_a_target_of_the_smallest_number_has_the_law_of_none():
    assert phases.collapse_window(1, 5e-324, 10.0) == pytest.approx(phases.collapse_window(1, 0.0, 10.0), rel=1e-9)


def test_paths_come_down_from_any_start():
    for depth in (2, 3, 9):
        mode = sc.theory.ModeSDE(depth, 1.0, 0.5, temperature=0.01)
        assert 0.5 < mode.simulate(1e30, [5.0], 100).mean() < 1.5


def test_many_rates():
    np.testing.assert_allclose(ORNSTEIN_UHLENBECK.spectrum(20), np.arange(20), rtol=1e-5, atol=1e-9)


def test_draws_follow_the_generator():
    law = MODE.stationary()
    assert law.rvs(random_state=0).shape == () and law.rvs((2, 3), 0).shape == (2, 3)
    np.testing.assert_array_equal(law.rvs(4, 7), law.rvs(4, np.random.default_rng(7)))


class Law:
    def __init__(self, ppf, cdf=lambda x: np.clip(x, 0.0, 1.0)):
        self.ppf, self.cdf = ppf, cdf


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (Law(lambda q: 0.5), "map an array to an array"),
        (Law(lambda q: np.ones(3)), "map an array to an array"),
        (Law(lambda q: np.full(q.shape, "a")), "as scipy.stats has them"),
        (Law(lambda q: 1 / 0), "as scipy.stats has them"),
        (Law(lambda q: q, None), "as scipy.stats has them"),
        (Law(lambda q: q * np.nan), "increasing finite quantiles"),
        (Law(lambda q: 1 - q), "increasing finite quantiles"),
        (Law(lambda q: q, lambda x: x / 2), "increasing finite quantiles"),
    ],
)
def test_a_start_is_a_law(law, message):
    for evolve in (MODE.evolve, ORNSTEIN_UHLENBECK.evolve):
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            evolve(law, [1.0])
        assert str(caught.value).startswith("start must be") and "\n" not in str(caught.value)


def test_strengths_to_start_from_are_positive():
    for law in (stats.norm(), stats.binom(3, 0.5)):
        with pytest.raises(ValueError, match="start must be a law of numbers above 0, got the quantile"):
            MODE.evolve(law, [1.0])
