"""Time-dependent distributions by their quantiles, at any noise, against closed forms; the order of the scheme."""

import itertools

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Diffusion1D, ModeSDE, flow_time
from saddlescope.theory.sde.quantile_law import QuantileLaw
from saddlescope.theory.sde.quantile_mesh import mesh
from saddlescope.theory.sde.quantiles import _run, from_point, noiseless, stepped


def constant(value):
    return lambda x: np.full_like(x, value)


def ornstein_uhlenbeck(rate, noise):
    return Diffusion1D(lambda x: -rate * x, constant(noise))


def normal(rate, noise, start, time):
    return stats.norm(start * np.exp(-rate * time), noise * np.sqrt(-np.expm1(-2 * rate * time) / (2 * rate)))


@pytest.mark.parametrize("noise", [1e-8, 1e-3])
@pytest.mark.parametrize("rate", [1.0, -1.0])
def test_ornstein_uhlenbeck_stable_and_not_at_tiny_noise(rate, noise):
    times = [0.2, 3.0, 10.0]
    for time, law in zip(times, ornstein_uhlenbeck(rate, noise).evolve(0.5, times, tol=1e-4), strict=True):
        exact = normal(rate, noise, 0.5, time)
        x = exact.ppf([1e-9, 1e-3, 0.2, 0.5, 0.9, 0.999])
        assert np.abs(law.cdf(x) - exact.cdf(x)).max() < law.error < 1e-5
        np.testing.assert_allclose(law.cdf(law.ppf([0.01, 0.5, 0.9])), [0.01, 0.5, 0.9], atol=1e-12)
        np.testing.assert_allclose([law.mean(), law.std()], [exact.mean(), exact.std()], rtol=1e-5)
        np.testing.assert_allclose(law.pdf(x[1:]), exact.pdf(x[1:]), rtol=2e-4)
        np.testing.assert_allclose(law.sf(exact.isf(1e-9)), 1e-9, rtol=1e-2)


def test_an_unstable_law_of_large_noise_takes_little():
    (law,) = ornstein_uhlenbeck(-1.0, 1.0).evolve(0.1, [3.0])
    exact = normal(-1.0, 1.0, 0.1, 3.0)
    x = exact.ppf(np.linspace(0.01, 0.99, 9))
    assert np.abs(law.cdf(x) - exact.cdf(x)).max() < law.error <= 1e-5


def test_brownian_motion_drifts_over_a_thousand_standard_deviations():
    brownian = Diffusion1D(constant(1.0), constant(1.0), tails="exponential")
    (law,) = brownian.evolve(0.0, [1e6])
    np.testing.assert_allclose([law.mean(), law.std()], [1e6, 1e3], rtol=1e-7)
    assert float(law.cdf(1e6 + 1e3)) == pytest.approx(stats.norm.cdf(1), abs=law.error)


@pytest.mark.parametrize("temperature", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_modes_end_in_their_stationary_law(depth, temperature):
    mode = ModeSDE(depth=depth, target=1.0, label_noise=0.5, temperature=temperature)
    early, late = mode.evolve(0.1, [1.0, 1e5])
    q = np.linspace(0.001, 0.999, 51)
    assert np.abs(late.cdf(mode.stationary().ppf(q)) - q).max() < late.error <= 1e-5
    assert np.abs(early.cdf(mode.stationary().ppf(q)) - q).max() > 0.1


def test_the_regime_of_the_first_paper():
    """lr = 1e-4, B = 1: half of the paths have passed half of s* at the mean passage time."""
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=1e-4)
    (law,) = mode.evolve(1e-3, [float(mode.passage(1e-3, 0.5)[0])])
    assert law.mean() == pytest.approx(0.5, abs=1e-5)
    assert float(law.cdf(0.5)) == pytest.approx(0.5, abs=1e-3)
    assert law.std() == pytest.approx(0.0142, rel=0.01)  # ½·√(time's variance) of the passage: ds/dt = ½ there


def test_a_strong_restoring_force():
    """``dx = −10x³ dt + dW``: in the long run ∝ e^(−5x⁴)."""
    strong = Diffusion1D(lambda x: -10 * x**3, np.ones_like)
    (law,) = strong.evolve(0.5, [50.0])
    q = np.linspace(0.01, 0.99, 9)
    assert np.abs(law.cdf(strong.stationary().ppf(q)) - q).max() < law.error
    assert law.moment(4) == pytest.approx(1 / 20, rel=1e-4)


def test_a_law_to_start_from():
    start = stats.norm(1.0, 1e-3)
    for at, law in zip([0.5, 2.0], ornstein_uhlenbeck(1.0, 1e-3).evolve(start, [0.5, 2.0]), strict=True):
        exact = stats.norm(np.exp(-at), 1e-3 * np.sqrt((1 + np.exp(-2 * at)) / 2))
        x = exact.ppf([0.001, 0.3, 0.9])
        assert np.abs(law.cdf(x) - exact.cdf(x)).max() < law.error
    mode = ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=1e-4)
    half, whole = mode.evolve(0.01, [2.0, 4.0])
    (again,) = mode.evolve(half, [2.0])
    x = whole.ppf([0.001, 0.2, 0.5, 0.9])
    assert np.abs(again.cdf(x) - whole.cdf(x)).max() < again.error + whole.error + 2 * half.error


@pytest.mark.parametrize("start", [0.05, 2.0])
def test_without_label_noise_both_sides_of_the_target(start):
    for depth in (1, 2, 3):
        mode = ModeSDE(depth=depth, target=1.0, temperature=1e-4)
        early, late = mode.evolve(start, [1.5, 60.0])
        assert early.mean() == pytest.approx(float(mode.flow([1.5], start)[0]), abs=1e-3)
        np.testing.assert_allclose(late.ppf([1e-6, 0.5, 1 - 1e-6]), 1, atol=1e-12)
        across = 2.4 if start < 1 else 0.4  # no path goes through s*
        assert (mode.passage_cdf([1.0, 60.0], start, across) == 0).all()
        np.testing.assert_array_equal(mode.passage([start, 1.0], across), np.full((2, 2), np.inf))
        halfway = (start + 1) / 2
        mean, variance = mode.passage([start, halfway], halfway)
        assert mean[0] == pytest.approx(float(flow_time(halfway, start, 1.0, depth, 1.0)), rel=1e-3)
        assert mean[1] == variance[1] == 0 < variance[0]
    with pytest.raises(ValueError, match="start must lie on one side of s"):
        ModeSDE(depth=2, target=1.0, temperature=0.1).evolve(1.0, [1.0])


@pytest.mark.parametrize("changes", [{"weight_decay": 0.1}, {"moments": (0.4, 0.3, 0.9, 1.1, 0.8)}], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_weight_decay_and_any_moments(depth, changes):
    """Against an ensemble of the same SDE."""
    data = {} if "moments" in changes else {"target": 1.0, "label_noise": 0.5}
    mode = ModeSDE(depth=depth, temperature=1e-4, **data, **changes)
    (law,) = mode.evolve(0.2, [1.5])
    sample = law.probit(mode.simulate(0.2, [1.5], 40_000, seed=depth)[:, 0])
    assert stats.kstest(sample, "norm").pvalue > 1e-6
    assert stats.kstest(1.05 * sample + 0.05, "norm").pvalue < 1e-6


def test_moments_of_a_heavy_tail_near_the_critical_temperature():
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.888)
    (law,) = mode.evolve(1e-3, [1e5], tol=1e-4)
    assert 0 < law.mean() < 0.1


def test_what_is_not_reached_is_raised():
    """The tol that the error names is one that is reached."""
    process = ornstein_uhlenbeck(1.0, 1e-3)
    with pytest.raises(ValueError, match=r"^the law at these times cannot be computed to tol = 1e-12 ") as refused:
        process.evolve(1.0, [1.0], tol=1e-12)
    named = float(str(refused.value).split("use tol = ")[1].split(",")[0])
    (law,) = process.evolve(1.0, [1.0], tol=named)
    assert 1e-12 < law.error <= named < 1e-6


# --- the scheme


def test_nodes_are_of_order_four():
    mode, x = ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.1), np.log(np.linspace(0.6, 1.3, 40)) / 3

    def law(cells):
        return next(_run(mode.log_diffusion.scale_speed, -0.5, np.array([1.5]), cells, 1e-7, 1e-4)).cdf(x)

    fine = law(256)
    errors = [np.abs(law(cells) - fine).max() for cells in (32, 64, 128)]
    assert (np.log2(np.array(errors[:-1]) / errors[1:]) > 3.5).all()


@pytest.mark.parametrize("noise", [0.3, 1e-3])
def test_steps_are_of_order_four_in_the_frame_of_the_noiseless_path_too(noise):
    sde = Diffusion1D(lambda x: x - x**3, lambda x: noise * np.sqrt(1 + x * x), tails="exponential").scale_speed
    at = mesh(np.linspace(-7.5, 7.5, 49))
    first = from_point(sde, at, 0.2, 1.0, 0.05)

    def after(count):
        state = first
        for _ in range(count):
            state, _ = stepped(sde, at, state, 1.0 / count)
        return state.middle - 0.4 + state.d

    ends = [after(count) for count in (32, 64, 128)]
    differences = [np.abs(a - b)[10:-10].max() for a, b in itertools.pairwise(ends)]
    orders = np.log2(np.array(differences[:-1]) / differences[1:])
    assert orders[-1] > 3.5


def test_differences_are_exact_for_quartics_on_any_nodes():
    z = np.sort(np.random.default_rng(1).uniform(-3, 3, 40))
    first, second = mesh(z).smooth
    near = z[mesh(z).columns]
    inner = slice(2, -2)
    np.testing.assert_allclose((first * near**4).sum(axis=1)[inner], 4 * z[inner] ** 3, atol=1e-7)
    np.testing.assert_allclose((second * near**4).sum(axis=1)[inner], 12 * z[inner] ** 2, atol=1e-5)


def test_the_noiseless_path():
    moved, speed = noiseless(ornstein_uhlenbeck(1.0, 1.0).scale_speed, 0.0, 1.0)
    np.testing.assert_array_equal(moved, 0)
    logistic = Diffusion1D(lambda x: x * (1 - x), constant(1e-3), tails="exponential")
    moved, speed = noiseless(logistic.scale_speed, 0.1, 1.0)
    end = 1 / (1 + 9 * np.exp(-1))
    assert 0.1 + moved[-1] == pytest.approx(end, rel=1e-14)
    assert speed[-1] == pytest.approx(end * (1 - end), rel=1e-13)


def test_laws_have_the_names_of_scipy():
    law = QuantileLaw(z := np.linspace(-8, 8, 65), 1.0, 2 * z, np.full(65, 2.0), 0.0, constant_coordinate())
    expected = stats.norm(1.0, 2.0)
    x = np.array([-3.0, 0.0, 1.0, 20.0, 40.0])
    np.testing.assert_allclose(law.cdf(x), expected.cdf(x), atol=1e-15)
    np.testing.assert_allclose(law.sf(x), expected.sf(x), rtol=1e-12)
    np.testing.assert_allclose(law.logpdf(x), expected.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(law.isf([1e-30, 0.1]), expected.isf([1e-30, 0.1]))
    np.testing.assert_array_equal(law.ppf([0, 1, -0.1, np.nan]), [-np.inf, np.inf, np.nan, np.nan])
    np.testing.assert_allclose([law.mean(), law.var(), law.moment(4)], [1, 4, expected.moment(4)], rtol=1e-9)
    assert law.expect(lambda v: v > 2.0) == pytest.approx(expected.sf(2.0), rel=1e-7)
    assert law.absorbed == (0.0, 0.0)


def constant_coordinate():
    return Diffusion1D(np.zeros_like, np.ones_like, tails="exponential").coordinate
