"""User functions in theory: constants, jumps, wrong shapes and kinds, and their own error handling."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Atoms, Diffusion1D, ModeSDE, rescaling_symmetry

OU = Diffusion1D(lambda x: -x, lambda x: 1.0)
MODE = ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.3)


def laws():
    return {
        "normal": OU.stationary(),
        "narrow": Diffusion1D(lambda x: 1 - x, lambda x: 1e-6).stationary(),
        "heavy": ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.3).stationary(),
        "mode": MODE.stationary(),
        "in time": MODE.evolve(0.1, [2.0])[0],
        "absorbed": Diffusion1D(lambda x: 0.0, lambda x: 1.0).evolve(0.3, [1.0], lower=0.0, upper=1.0)[0],
        "atoms": Atoms(np.array([0.0, 2.0]), np.array([0.25, 0.75])),
    }


@pytest.mark.parametrize("name", laws())
def test_constants_and_jumps(name):
    law = laws()[name]
    assert law.expect(lambda x: 1.0) == pytest.approx(1, abs=1e-12)
    assert law.expect(lambda x: -2) == pytest.approx(-2, rel=1e-12)
    for q in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999):
        at = float(law.ppf(q))
        assert law.expect(lambda x, at=at: x <= at) == pytest.approx(float(law.cdf(at)), rel=1e-7, abs=1e-15)
    low, high = law.ppf([0.4, 0.402])
    assert law.expect(lambda x: (x > low) & (x <= high)) == pytest.approx(law.cdf(high) - law.cdf(low), abs=1e-10)


def test_many_jumps():
    assert OU.stationary().expect(lambda x: np.floor(20 * x)) == pytest.approx(-0.5, abs=1e-7)
    with pytest.raises(ValueError, match=r"too many jumps: \d+ panels"):
        OU.stationary().expect(lambda x: np.sign(np.sin(1 / (x - 0.1234567))))


def test_constant_coefficients():
    named = Diffusion1D(lambda x: np.full_like(x, 2.0), np.ones_like, tails="exponential")
    plain = Diffusion1D(lambda x: 2, lambda x: 1, tails="exponential")
    assert plain.passage(0.0, 3.0) == named.passage(0.0, 3.0)
    assert plain == Diffusion1D(plain.drift, plain.diffusion, tails="exponential")


def test_functions_may_change_what_they_get():
    def drift(x):
        x *= -1
        return x

    assert Diffusion1D(drift, lambda x: 1.0).stationary().var() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x[1:], ValueError, "must return an array of the shape of x"),
        (lambda x: 1j * x, TypeError, "must return real numbers, got ndarray of complex128"),
        (lambda x: "1", TypeError, "must return real numbers, got str"),
        (lambda x: None, TypeError, "must return real numbers, got NoneType"),
        (lambda x: np.ma.masked_less(x, 0), TypeError, "must return real numbers, got MaskedArray"),
        (lambda x: 1.0 if x > 0 else 0.0, ValueError, "must map an array of x to an array"),
        (1.0, TypeError, "must be a function of x such as"),
    ],
)
def test_what_is_no_function(function, error, message):
    with pytest.raises(error, match=f"function {message}"):
        OU.stationary().expect(function)
    with pytest.raises(error, match=f"drift {message}"):
        Diffusion1D(function, lambda x: 1.0).stationary()
    with pytest.raises(error, match=f"diffusion {message}"):
        Diffusion1D(lambda x: -x, function).stationary()


@pytest.mark.parametrize("name", ["normal", "mode", "in time", "atoms"])
def test_functions_that_are_not_finite(name):
    law = laws()[name]
    middle = float(law.ppf(0.5))
    for function in (
        lambda x: np.nan,
        lambda x: np.where(x > middle - 1e-3, np.nan, x),
        lambda x: np.where(x >= middle, np.inf, x),
    ):
        with pytest.raises(ValueError, match="function must be finite where the law has its mass"):
            law.expect(function)


def test_infinite_expectations():
    heavy = ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=0.1).stationary()  # tail s^−3.5
    assert heavy.moment(2) < heavy.moment(3) == np.inf
    assert OU.stationary().expect(lambda x: np.exp(0.5 * x**2)) == pytest.approx(2**0.5)
    assert OU.stationary().expect(lambda x: np.exp(x**2)) == np.inf


def answers():
    law = OU.stationary()
    x = np.array([-1e200, -40.0, 0.3, 40.0, 1e200])
    yield law.pdf(x), law.logpdf(x), law.cdf(x), law.ppf([0.0, 1e-300, 0.5, 1.0]), law.var()
    yield OU.passage([-5.0, 3.0], 1.0), OU.boundaries, OU.exit_probability(0.1, -30.0, 30.0), OU.relaxation_time
    for mode in (MODE, ModeSDE(depth=2, target=1.0, label_noise=1.0, temperature=0.1, weight_decay=1e-3)):
        law = mode.stationary()
        yield law.mean(), law.pdf([0.0, 1e-300, 1.0, 1e300]), law.cdf([0.0, 1e-300, 1.0, 1e300]), law.ppf([1e-12, 0.5])
        yield mode.passage(1e-8, 1.0), mode.boundaries, mode.relaxation_time, mode.g([1e-200, 1e200])
    (law,) = MODE.evolve(0.1, [2.0])
    yield law.pdf([0.0, 0.5, 50.0]), law.cdf([0.0, 0.5, 50.0]), law.mean(), MODE.passage_cdf([2.0], 0.1, 1.0)


def test_error_handling_of_the_user_changes_nothing():
    usual = list(answers())
    with np.errstate(all="raise"):
        stubborn = list(answers())
        assert float(stats.norm.pdf(0)) > 0 and np.geterr()["over"] == "raise"
    assert repr(usual) == repr(stubborn)


@pytest.mark.parametrize(
    ("drift", "diffusion", "message"),
    [
        (lambda x: np.log(x), lambda x: 1.0, r"drift must be a number inside the domain, got nan at x = -0\.0"),
        (
            lambda x: np.where(np.abs(x - 1) < 3e-3, np.nan, -x),
            lambda x: 1.0,
            r"drift must be a number .* x = (0.99|1)",
        ),
        (lambda x: 1 / x - x, lambda x: 1.0, "drift must be finite inside the domain, and is not at x = 0"),
        (lambda x: -x, lambda x: np.sqrt(x), r"diffusion must be positive inside the domain, got nan at x = -0\.0"),
        (
            lambda x: 1 - x,
            lambda x: np.sqrt(np.maximum(x, 0)),
            "diffusion must be positive inside the domain, got 0 at",
        ),
        (lambda x: 1 - x, lambda x: x, r"diffusion must be positive inside the domain, got -0\.0"),
        (lambda x: -x, lambda x: -1.0, "diffusion must be positive inside the domain, got -1 at x = 1"),
    ],
)
def test_coefficients_are_numbers_inside_the_domain(drift, diffusion, message):
    """Errors inside a user function are not mistaken for the end of the domain."""
    with pytest.raises(ValueError, match=message):
        Diffusion1D(drift, diffusion, center=1.0).stationary()


def test_coefficients_that_jump():
    """Laplace's law with two noises: ``p = 2e^U/b²`` piece by piece."""
    at, jump = 0.1234, 0.4
    sde = Diffusion1D(lambda x: -np.sign(x - at), lambda x: np.where(x > jump, 1.0, 2.0))
    x = np.array([-3.0, 0.2, 0.3999, 0.4001, 2.0])
    potential = np.where(x < jump, -0.5 * np.abs(x - at), -0.5 * (jump - at) - 2 * (x - jump))
    inside = 0.5 * (2 + 2 * (1 - np.exp(-0.5 * (jump - at))))
    total = inside + np.exp(-0.5 * (jump - at))  # ∫ 2e^U/b² below and above the jump
    density = np.exp(potential) * np.where(x > jump, 2.0, 0.5) / total
    np.testing.assert_allclose(sde.stationary().pdf(x), density, rtol=1e-10)


def test_maps_of_a_law():
    law = OU.stationary()
    assert law.transformed(lambda x: x + 1, lambda x: x - 1, lambda x: 0.0).mean() == pytest.approx(1)
    for to_x, to_y in ((lambda x: -x, lambda x: -x), (lambda x: 2 * x, lambda x: x), (lambda x: 1.0, lambda x: x)):
        with pytest.raises(ValueError, match="to_x must increase and to_y be its inverse"):
            law.transformed(to_x, to_y, lambda x: 0.0)


@pytest.mark.parametrize("result", [None, 3.0, np.array(2.0), (np.ones((1, 1)),)])
def test_gradients_of_users(result):
    with pytest.raises((TypeError, ValueError), match=r"gradients (must return two arrays|of u must)"):
        rescaling_symmetry(lambda u, w: result, [1.0], [2.0])
    with np.errstate(all="raise"), pytest.raises(ValueError, match="gradients of u must be finite"):
        rescaling_symmetry(lambda u, w: (np.exp(1e3 * u[None]), w[None]), [1.0], [2.0])  # seen in the result
