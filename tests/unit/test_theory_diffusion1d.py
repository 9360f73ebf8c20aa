"""Scalar diffusions by quadrature against distributions and passage times known in closed form."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, trapezoid

from saddlescope.theory import Atoms, Diffusion1D
from saddlescope.theory.sde._piecewise import antiderivative
from support import follows


def constant(value):
    return lambda x: np.full_like(x, value)


def pearson(temperature):
    """``dx = (1.5 − x) dt + √(T(2(x − 1.5)² + 0.3)) dW``: Student-t."""
    law = stats.t(1 + 1 / temperature, 1.5, np.sqrt(0.3 / 2 / (1 + 1 / temperature)))
    return Diffusion1D(lambda x: 1.5 - x, lambda x: np.sqrt(temperature * (2 * (x - 1.5) ** 2 + 0.3))), law


KNOWN = {
    "Student-t, narrow": pearson(0.01),
    "Student-t": pearson(0.3),
    "Student-t, infinite variance": pearson(1.5),
    "normal": (Diffusion1D(lambda x: -x, constant(2**0.5), tails="exponential"), stats.norm()),
    "normal, narrow and far away": (Diffusion1D(lambda x: 1e3 - x, constant(1e-5)), stats.norm(1e3, 1e-5 / 2**0.5)),
    "gamma": (Diffusion1D(lambda x: 5 - x, lambda x: np.sqrt(2 * x), lower=0.0), stats.gamma(5)),
    "gamma, near the edge": (Diffusion1D(lambda x: 0.01 - x, lambda x: np.sqrt(2 * x), lower=0.0), stats.gamma(0.01)),
    "inverse gamma": (
        Diffusion1D(lambda x: 1 - x, lambda x: 0.5**0.5 * x, lower=0.0),
        stats.invgamma(1 + 2 / 0.5, scale=2 / 0.5),
    ),
    "beta": (
        Diffusion1D(lambda x: 3 - 5 * x, lambda x: np.sqrt(2 * x * (1 - x)), lower=0.0, upper=1.0),
        stats.beta(3, 2),
    ),
    "exponential, from a million": (
        Diffusion1D(lambda x: 1e6 + 1 - x, lambda x: np.sqrt(2 * (x - 1e6)), 1e6),
        stats.expon(1e6),
    ),
    "negative gamma": (Diffusion1D(lambda x: -2 - x, lambda x: np.sqrt(-2 * x), upper=0.0), None),
}


EDGES = {
    "0 and 1, falling": (KNOWN["beta"][0], stats.beta(3, 2)),
    "0 and 1, infinite": (
        Diffusion1D(lambda x: 0.5 - x, lambda x: np.sqrt(2 * x * (1 - x)), 0.0, 1.0),
        stats.arcsine(),
    ),
    "0, infinite": (KNOWN["gamma, near the edge"][0], stats.gamma(0.01)),
    "0, finite": (Diffusion1D(lambda x: 1 - x, lambda x: np.sqrt(2 * x), lower=0.0), stats.expon()),
    "2": (Diffusion1D(lambda x: 3 - (x - 2), lambda x: np.sqrt(2 * (x - 2)), lower=2.0), stats.gamma(3, 2)),
    "2 and 5": (
        Diffusion1D(lambda x: 6 - 5 * (x - 2), lambda x: np.sqrt(2 * (x - 2) * (5 - x)), 2.0, 5.0),
        stats.beta(2, 3, 2, 3),
    ),
    "2, finite": (Diffusion1D(lambda x: 3 - x, lambda x: np.sqrt(2 * (x - 2)), lower=2.0), stats.expon(2)),
    "2 and 5, finite and falling": (
        Diffusion1D(lambda x: 3 - 3 * (x - 2), lambda x: np.sqrt(2 * (x - 2) * (5 - x)), 2.0, 5.0),
        stats.beta(1, 2, 2, 3),
    ),
    "0 and 1, finite": (
        Diffusion1D(lambda x: 1 - 2 * x, lambda x: np.sqrt(2 * x * (1 - x)), 0.0, 1.0),
        stats.uniform(),
    ),
    "upper end 0": (Diffusion1D(lambda x: -1 - x, lambda x: np.sqrt(-2 * x), upper=0.0), None),
    "none": (KNOWN["normal"][0], stats.norm()),
}


@pytest.mark.parametrize("name", [name for name, (_, law) in (KNOWN | EDGES).items() if law is not None])
def test_stationary_laws(name):
    diffusion, expected = (KNOWN | EDGES)[name]
    law, q = diffusion.stationary(), np.array([1e-3, 0.1, 0.5, 0.9, 0.999])
    x = expected.ppf(q)
    np.testing.assert_allclose(law.pdf(x), expected.pdf(x), rtol=1e-6)
    np.testing.assert_allclose(law.cdf(x), q, atol=1e-8)
    np.testing.assert_allclose(law.ppf(q), x, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose([law.mean(), law.var()], [expected.mean(), expected.var()], rtol=1e-7, atol=1e-12)


def test_a_domain_with_an_upper_end():
    law = KNOWN["negative gamma"][0].stationary()
    np.testing.assert_allclose([law.mean(), law.var(), law.cdf(-1.0)], [-2, 2, stats.gamma(2).sf(1.0)], rtol=1e-8)


def test_outside_the_domain_there_is_nothing():
    law = KNOWN["gamma"][0].stationary()
    np.testing.assert_array_equal(law.cdf([-1.0, 0.0, np.inf]), [0, 0, 1])
    np.testing.assert_array_equal(law.pdf([-1.0, 0.0]), [0, 0])
    np.testing.assert_array_equal(KNOWN["beta"][0].stationary().cdf([-1.0, 0.0, 1.0, 2.0]), [0, 0, 1, 1])


@pytest.mark.parametrize("name", EDGES)
def test_at_and_beyond_the_ends_laws_answer_as_scipy(name):
    diffusion, expected = EDGES[name]
    law, (low, high) = diffusion.stationary(), (diffusion.lower, diffusion.upper)
    x = np.array([-np.inf, low - 1, low, high, high + 1, np.inf, np.nan])
    density = np.array([0, 0, 0, 1, 0, 0, np.nan])  # e^x on x < 0
    if expected is not None:
        density = np.where(np.isinf(x), 0, expected.pdf(np.where(np.isinf(x), 0, x)))
    np.testing.assert_allclose(law.pdf(x), density, rtol=1e-6)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(law.logpdf(x), np.log(density), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(law.cdf(x), [0, 0, 0, 1, 1, 1, np.nan])
    np.testing.assert_array_equal(law.ppf([0, 1, -0.1, 1.1, np.nan]), [low, high, np.nan, np.nan, np.nan])


def test_moments_that_diverge_are_infinite():
    law, tail = KNOWN["inverse gamma"][0].stationary(), KNOWN["inverse gamma"][1]
    np.testing.assert_allclose([law.moment(k) for k in (1, 2, 3)], [tail.moment(k) for k in (1, 2, 3)], rtol=1e-9)
    np.testing.assert_allclose(law.moment(4), 4**4 / (4 * 3 * 2 * 1), rtol=1e-9)
    assert law.moment(5) == law.moment(6) == np.inf
    assert KNOWN["Student-t, infinite variance"][0].stationary().var() == np.inf


def test_draws_follow_the_law():
    law = KNOWN["Student-t"][0].stationary()
    sample = law.rvs(20_000, random_state=0)
    assert follows(sample, KNOWN["Student-t"][1])
    assert not follows(sample, pearson(0.35)[1])
    assert np.shape(law.rvs()) == ()
    assert np.isnan(law.ppf(1.5))


def test_two_wells_are_both_seen():
    law = Diffusion1D(lambda x: (x - x**3) / 1e-3, constant(1.0), center=1.0).stationary()
    np.testing.assert_allclose([law.cdf(0.0), law.mean()], [0.5, 0.0], atol=1e-9)


def test_passage_of_a_drifted_brownian_motion_is_inverse_gaussian():
    drifted = Diffusion1D(constant(0.5), constant(0.7), tails="exponential")
    mean, variance = drifted.passage(np.array([0.0, 1.0, 1.9]), 2.0)
    length = np.array([2.0, 1.0, 0.1])
    np.testing.assert_allclose(mean, length / 0.5, rtol=1e-9)
    np.testing.assert_allclose(variance, length * 0.49 / 0.5**3, rtol=1e-9)
    np.testing.assert_array_equal(drifted.passage(2.0, 2.0), [0.0, 0.0])
    np.testing.assert_array_equal(drifted.passage(2.0, 0.0), [np.inf, np.inf])  # it may diverge


@pytest.mark.parametrize("noise", [1e-2, 1e-5, 1e-9])
def test_passage_with_weak_noise(noise):
    mean, variance = Diffusion1D(constant(2.0), constant(noise), tails="exponential").passage(0.0, 1.0)
    np.testing.assert_allclose([mean, variance], [0.5, noise**2 / 8], rtol=1e-9)
    falling = Diffusion1D(lambda x: -x, constant(noise)).passage(1.0, 0.5)  # mean log 2 − b²I, variance b²J and O(b⁴)
    first, second = (0.5**-2 - 1) / 4, (0.5**-2 - 1) / 2
    np.testing.assert_allclose(falling[0], np.log(2) - noise**2 * first, rtol=30 * noise**4 + 1e-10)
    np.testing.assert_allclose(falling[1], noise**2 * second, rtol=30 * noise**2 + 1e-8)


def test_passage_against_a_strong_force_in_closed_form():
    """``dx = −10x³ dt + b dW`` from 0 up: ``(2/b²) ∫₀ᶜ e^{5y⁴/b²} ∫_{−∞}^y e^{−5z⁴/b²} dz dy``."""
    for noise, end in ((1.0, 0.9), (0.1, 0.3)):

        def behind(y, noise=noise):
            return quad(lambda z: np.exp(-5 * z**4 / noise**2), -3, y, points=[0.0], epsabs=1e-12)[0]

        inside = quad(lambda y, n=noise: np.exp(5 * y**4 / n**2) * behind(y), 0, end, epsabs=1e-11, limit=200)[0]
        mean, _ = Diffusion1D(lambda x: -10 * x**3, constant(noise)).passage(0.0, end)
        assert float(mean) == pytest.approx(2 / noise**2 * inside, rel=1e-7)
    assert Diffusion1D(lambda x: -10 * x**3, constant(0.01)).passage(0.0, 0.9)[0] == np.inf  # beyond e^700


def ornstein_uhlenbeck_variance(target):
    """Second moment by a nested quadrature of the textbook's double integrals, less the squared mean."""

    def scale(y):
        return np.exp(y * y / 2)

    def mean(x):
        return quad(lambda y: scale(y) * quad(lambda z: np.exp(-z * z / 2), -12, y)[0], x, target, epsabs=1e-10)[0]

    grid = np.linspace(-9, target, 4001)
    means = np.array([mean(x) for x in grid[::40]])
    spline = np.interp(grid, grid[::40], means)
    inner = np.concatenate([[0], np.cumsum(np.diff(grid) * (2 * spline * np.exp(-(grid**2) / 2))[:-1])])
    above = grid >= 0
    return mean(0.0), trapezoid(scale(grid[above]) * inner[above], grid[above]) - mean(0.0) ** 2


def test_passage_of_an_ornstein_uhlenbeck_process():
    mean, variance = Diffusion1D(lambda x: -x, constant(2**0.5)).passage(0.0, 1.0)
    slow_mean, slow_variance = ornstein_uhlenbeck_variance(1.0)
    np.testing.assert_allclose(mean, slow_mean, rtol=1e-9)
    np.testing.assert_allclose(variance, slow_variance, rtol=5e-3)


def test_escape_over_a_barrier():
    well = Diffusion1D(lambda x: x - x**3, constant(0.3))

    def speed(x):
        return np.exp(2 / 0.09 * (x * x / 2 - x**4 / 4))

    expected = quad(lambda y: quad(lambda z: 2 / 0.09 * speed(z), -3, y)[0] / speed(y), -1, 1)[0]
    up, down = well.passage(-1.0, 1.0), well.passage(1.0, -1.0)
    np.testing.assert_allclose(up[0], expected, rtol=1e-7)
    np.testing.assert_allclose(up, down, rtol=1e-9)
    np.testing.assert_allclose(up[1], up[0] ** 2, rtol=0.01)  # rare escapes are exponential
    higher = Diffusion1D(lambda x: x - x**3, constant(0.03)).passage(-1.0, 1.0)  # 556 nats, mean 1e241
    assert np.isfinite(higher[0]) and higher[0] > 1e200


def test_null_recurrent_passages_take_infinitely_long():
    np.testing.assert_array_equal(Diffusion1D(constant(0.0), constant(1.0)).passage(0.0, 1.0), [np.inf, np.inf])


def test_scale_and_speed_densities():
    """``S' = e^{−U}``, ``m = 2e^U/b²`` and ``U = ∫ 2a/b²``; for dx = (5 − x) dt + √(2x) dW, U = 5 log x − x."""
    gamma, x = KNOWN["gamma"][0], np.array([0.3, 1.0, 4.0])
    scale, speed, potential = gamma.log_scale_density(x), gamma.log_speed_density(x), 5 * np.log(x) - x
    np.testing.assert_allclose(np.diff(scale), -np.diff(potential), rtol=1e-9)
    np.testing.assert_allclose(scale + speed, np.log(2 / (2 * x)), rtol=1e-9, atol=1e-12)
    assert np.abs(np.diff(speed) - np.diff(potential)).min() > 0.1, "without 1/b² it is not the speed density"


def test_exit_probabilities():
    brownian = Diffusion1D(constant(0.0), constant(1.0))
    falling = Diffusion1D(constant(-1.0), constant(1.0), tails="exponential")
    np.testing.assert_allclose(brownian.exit_probability([0.25, 0.5], 0.0, 1.0), [0.25, 0.5], rtol=1e-10)
    np.testing.assert_allclose(falling.exit_probability([0.0, 0.5], upper=1.0), np.exp([-2, -1]), rtol=1e-9)
    assert brownian.exit_probability(0.5, upper=1.0) == 1  # recurrent
    assert brownian.exit_probability(0.5, lower=0.0) == 0
    with pytest.raises(ValueError, match="neither end"):
        brownian.exit_probability(0.5)


def test_atoms():
    law = Atoms(np.array([0.0, 2.0]), np.array([0.25, 0.75]))
    np.testing.assert_array_equal(law.cdf([-1, 0, 1, 2]), [0, 0.25, 0.25, 1])
    np.testing.assert_array_equal(law.ppf([0, 0.25, 0.26, 1]), [0, 0, 2, 2])
    assert (law.mean(), law.var(), law.std()) == (1.5, 0.75, 0.75**0.5)
    np.testing.assert_array_equal(law.pdf([0.0, 1.0, np.nan]), [np.inf, 0, np.nan])
    np.testing.assert_array_equal(law.logpdf([0.0, -1.0]), [np.inf, -np.inf])
    np.testing.assert_array_equal(law.cdf([-np.inf, np.inf, np.nan]), [0, 1, np.nan])
    np.testing.assert_array_equal(law.ppf([-0.1, 1.1, np.nan]), [np.nan] * 3)
    np.testing.assert_array_equal(Atoms(law.values, np.array([0.0, 1.0])).ppf([0, 1]), [2, 2])
    assert abs(law.rvs(4000, random_state=0).mean() - 1.5) < 0.1


def test_errors():
    with pytest.raises(ValueError, match="lower must be below upper"):
        Diffusion1D(constant(0.0), constant(1.0), lower=1.0, upper=0.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        Diffusion1D(constant(0.0), constant(1.0), scale=0.0)
    with pytest.raises(ValueError, match="infinite mass towards the"):
        Diffusion1D(constant(0.0), constant(1.0)).stationary()
    with pytest.raises(ValueError, match="move center"):
        Diffusion1D(constant(0.0), lambda x: x, center=0.0).stationary()


def test_antiderivatives():
    edges = np.array([-1.0, 0.5, 3.0])
    integral = antiderivative(lambda x: 1 / (1e-4 + x**2), edges, origin=0.5)
    x = np.linspace(-1, 3, 50)
    np.testing.assert_allclose(integral(x), 100 * (np.arctan(100 * x) - np.arctan(50)), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(integral(integral.inverse(integral(x))), integral(x), atol=1e-10)
    with pytest.raises(ValueError, match="not finite"):
        antiderivative(lambda x: np.where(x > 0, np.nan, x), edges, origin=0.5)
    with pytest.raises(ValueError, match="must be smooth"):
        antiderivative(lambda x: np.random.default_rng(0).standard_normal(x.shape), edges, origin=0.5)
