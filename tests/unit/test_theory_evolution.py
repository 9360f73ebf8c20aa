"""Time-dependent distributions, passage times and spectra of scalar SDEs against closed forms."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import erfc, gammainc, gammaincc

from saddlescope.theory import Diffusion1D, ModeSDE

TWO = 2**0.5


def cir(shape, **ends):
    """``dx = (shape − x) dt + √(2x) dW``: Gamma(shape)."""
    return Diffusion1D(lambda x: shape - x, lambda x: np.sqrt(2 * x), lower=0.0, **ends)


def cir_law(shape, start, time):
    c = -np.expm1(-time) / 2
    return stats.ncx2(2 * shape, start * np.exp(-time) / c, scale=c)


def bessel(dimension, **ends):
    return Diffusion1D(lambda x: (dimension - 1) / 2 / x, np.ones_like, lower=0.0, **ends)


OU = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, TWO))
JACOBI = Diffusion1D(lambda x: 3 - 5 * x, lambda x: np.sqrt(2 * x * (1 - x)), 0.0, 1.0)
BROWNIAN = Diffusion1D(np.zeros_like, np.ones_like)
GBM = Diffusion1D(lambda x: 0.3 * x, lambda x: 0.5 * x, lower=0.0)
BOX = {"drift": np.zeros_like, "diffusion": np.ones_like, "lower": 0.0, "upper": 1.0}

TRANSITIONS = {
    "Ornstein–Uhlenbeck": (OU, 1.0, lambda t: stats.norm(np.exp(-t), np.sqrt(-np.expm1(-2 * t)))),
    "geometric Brownian motion": (GBM, 2.0, lambda t: stats.lognorm(0.5 * t**0.5, scale=2 * np.exp(0.175 * t))),
    "CIR, entrance": (cir(2.5), 1.5, lambda t: cir_law(2.5, 1.5, t)),
    "CIR, regular": (cir(0.7), 1.5, lambda t: cir_law(0.7, 1.5, t)),
    "CIR, hardly leaves 0": (cir(0.3), 1.5, lambda t: cir_law(0.3, 1.5, t)),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_transition_laws(name):
    diffusion, start, expected = TRANSITIONS[name]
    q = np.array([1e-3, 0.1, 0.5, 0.9, 0.999])
    for time, law in zip([0.2, 2.0], diffusion.evolve(start, [0.2, 2.0], tol=1e-6), strict=True):
        exact = expected(time)
        x = exact.ppf(q)
        np.testing.assert_allclose(law.cdf(x), q, atol=1e-7)
        np.testing.assert_allclose(law.pdf(x), exact.pdf(x), rtol=2e-5)
        np.testing.assert_allclose(law.cdf(law.ppf(q)), q, atol=1e-9)
        np.testing.assert_allclose([law.mean(), law.var()], [exact.mean(), exact.var()], rtol=1e-5, atol=1e-8)
        assert law.error < 1e-6
        assert law.absorbed == (0.0, 0.0)


def test_mass_is_kept_to_the_last_bit_and_never_negative():
    for diffusion in (OU, cir(2.5), cir(0.7), cir(0.3)):
        for law in diffusion.evolve(1.0, [0.1, 1.0, 100.0], tol=1e-3):
            assert law.cumulated[0] == 0.0 and law.cumulated[-1] == 1.0
            assert (np.diff(law.cumulated) >= 0).all()
            assert (law.pdf(law.ppf(np.linspace(0.01, 0.99, 50))) > 0).all()


def test_what_is_absorbed_and_what_is_left_are_one():
    lost = Diffusion1D(**BOX, at_lower="absorbing")
    early, late = lost.evolve(0.4, [0.1, 2.0], tol=1e-6)
    for law in (early, late):
        inside = np.diff(law.cumulated).sum()
        assert sum(law.absorbed) + inside == pytest.approx(1, abs=1e-15)
        assert law.absorbed[1] == 0
        np.testing.assert_allclose(law.cdf([-0.1, 0.0, 1.0]), [0, law.absorbed[0], 1], atol=1e-12)
    n = np.arange(40) + 0.5
    survival = np.sum(2 / (n * np.pi) * np.sin(n * np.pi * 0.4) * np.exp(-(n**2) * np.pi**2), axis=-1)
    assert late.absorbed[0] == pytest.approx(1 - survival, abs=1e-8)


def test_a_law_can_be_the_start_and_the_stationary_one_stays():
    for diffusion in (OU, cir(2.5), JACOBI):
        law = diffusion.stationary()
        x = law.ppf([0.01, 0.3, 0.9])
        np.testing.assert_allclose(diffusion.evolve(law, [3.0])[0].cdf(x), law.cdf(x), atol=2e-8)
    np.testing.assert_allclose(JACOBI.evolve(0.1, [9.0])[0].cdf(x := np.array([0.3, 0.7])), stats.beta(3, 2).cdf(x))
    spread = OU.evolve(Diffusion1D(lambda x: -x, lambda x: np.full_like(x, 2.0)).stationary(), [0.5])[0]  # variance 2
    assert spread.var() == pytest.approx(1 + np.exp(-1.0), rel=1e-6)


def test_another_reading_of_the_noise_or_another_temperature_is_seen():
    """Itô, not Stratonovich: ``b b'/2`` more drift is far outside the stated error."""
    (law,) = GBM.evolve(2.0, [2.0])
    stratonovich = Diffusion1D(lambda x: (0.3 + 0.125) * x, lambda x: 0.5 * x, lower=0.0)
    hotter = Diffusion1D(lambda x: 0.3 * x, lambda x: 0.51 * x, lower=0.0)
    x = law.ppf([0.05, 0.3, 0.7, 0.95])
    for other in (stratonovich, hotter):
        assert np.abs(other.evolve(2.0, [2.0])[0].cdf(x) - law.cdf(x)).max() > 1e3 * law.error


@pytest.mark.parametrize(("noise2", "time", "tol"), [(1.0, 1.0, 1e-5), (1.0, 4.0, 1e-4), (1e-4, 4.0, 1e-5)])
def test_supercritical_branching(noise2, time, tol):
    """``dx = x dt + √(noise2 x) dW`` from 1: a Poisson number of exponentials."""
    branching = Diffusion1D(lambda x: x, lambda x: np.sqrt(noise2 * x), lower=0.0)
    (law,) = branching.evolve(1.0, [time], tol=tol)
    size = noise2 * np.expm1(time) / 2
    mean = np.exp(time) / size
    counts = np.arange(1, int(mean + 12 * np.sqrt(mean) + 40))
    weights = stats.poisson.pmf(counts, mean)
    x = np.linspace(0.05, 3, 30) * np.exp(time)
    exact = np.exp(-mean) + (weights * gammainc(counts, x[:, None] / size)).sum(axis=1)
    assert np.abs(law.cdf(x) - exact).max() < law.error <= tol
    assert law.absorbed[0] == pytest.approx(np.exp(-mean), abs=law.error)
    assert law.mean() == pytest.approx(np.exp(time), rel=1e-3)


@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3, 1e10, 1e100])
def test_noise_of_any_size_beside_the_scale(noise):
    """The law of an Ornstein–Uhlenbeck process, in units of its own width, does not depend on the noise."""
    (law,) = Diffusion1D(lambda x: -x, lambda x: noise).evolve(0.3 * noise, [0.5], tol=1e-4)
    width = noise * np.sqrt(-np.expm1(-1.0) / 2)
    exact = stats.norm(0.3 * noise * np.exp(-0.5) / width)
    x = np.linspace(-3, 3, 41)
    assert np.abs(law.cdf(x * width) - exact.cdf(x)).max() < law.error
    assert law.var() / width / width == pytest.approx(1.0, abs=1e-4)


# --- passage times

TIMES = np.array([0.2, 1.0, 3.0])


def test_passages_of_brownian_motion():
    np.testing.assert_allclose(BROWNIAN.passage_cdf(TIMES, 0.0, 1.0, tol=1e-6), erfc(1 / np.sqrt(2 * TIMES)), atol=1e-7)
    drifted = Diffusion1D(lambda x: np.full_like(x, 0.5), lambda x: np.full_like(x, 0.7), tails="exponential")
    law = stats.invgauss(0.49, scale=4 / 0.49)  # mean 4, of 2/0.5
    np.testing.assert_allclose(drifted.passage_cdf([2.0, 4.0, 10.0], 0.0, 2.0), law.cdf([2.0, 4.0, 10.0]), atol=1e-7)


def test_passages_of_an_ornstein_uhlenbeck_process_to_its_middle():
    width = np.sqrt(-np.expm1(-2 * TIMES))
    np.testing.assert_allclose(OU.passage_cdf(TIMES, 1.0, 0.0), 2 * stats.norm.sf(np.exp(-TIMES) / width), atol=1e-7)
    wrong = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, TWO * 1.01))
    assert np.abs(wrong.passage_cdf(TIMES, 1.0, 0.0) - OU.passage_cdf(TIMES, 1.0, 0.0)).max() > 1e-3


@pytest.mark.parametrize("dimension", [0, 0.5, 1, 1.5])
def test_bessel_processes_reach_zero_below_dimension_two(dimension):
    """``P(τ₀ ≤ t) = Γ(1 − d/2, x²/2t)/Γ(1 − d/2)``."""
    process = bessel(dimension, at_lower="absorbing")
    absorbed = [law.absorbed[0] for law in process.evolve(1.0, TIMES)]
    np.testing.assert_allclose(absorbed, gammaincc(1 - dimension / 2, 1 / (2 * TIMES)), atol=1e-6)


def test_a_bessel_process_of_dimension_three_may_never_come_back():
    reached = bessel(3).passage_cdf(TIMES, 1.0, 0.5)
    np.testing.assert_allclose(reached, 0.5 * erfc(0.5 / np.sqrt(2 * TIMES)), atol=1e-7)
    assert bessel(3).evolve(1.0, [1.0])[0].absorbed == (0.0, 0.0)
    assert bessel(3).passage(1.0, 0.5)[0] == np.inf
    assert bessel(3).exit_probability(1.0, lower=0.5) == pytest.approx(0.5)


def test_means_and_laws_of_passages_agree():
    times = np.linspace(0, 24, 121)[1:]
    survival = np.append(1.0, 1 - cir(0.7).passage_cdf(times, 0.2, 1.0, tol=1e-3))
    mean, variance = cir(0.7).passage(0.2, 1.0)
    grid = np.append(0.0, times)
    assert np.trapezoid(survival, grid) == pytest.approx(float(mean), rel=2e-3)
    assert np.trapezoid(2 * grid * survival, grid) - mean**2 == pytest.approx(float(variance), rel=1e-2)


# --- spectra

ABSORBING = {"at_lower": "absorbing", "at_upper": "absorbing"}
SPECTRA = {
    "Ornstein–Uhlenbeck": (OU, np.arange(4)),
    "CIR": (cir(2.5), np.arange(4)),
    "CIR, regular": (cir(0.3), np.arange(4)),
    "CIR, absorbed": (cir(0.3, at_lower="absorbing"), np.arange(4) + 0.7),
    "Jacobi": (JACOBI, [0, 5, 12, 21]),
    "box": (Diffusion1D(**BOX), np.pi**2 / 2 * np.arange(4) ** 2),
    "box, absorbed": (Diffusion1D(**BOX, **ABSORBING), np.pi**2 / 2 * np.arange(1, 5) ** 2),
    "box, mixed": (Diffusion1D(**BOX, at_upper="absorbing"), np.pi**2 / 2 * (np.arange(4) + 0.5) ** 2),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra(name):
    diffusion, expected = SPECTRA[name]
    np.testing.assert_allclose(diffusion.spectrum(4), expected, rtol=1e-6, atol=1e-8)
    assert diffusion.essential_rate == np.inf


def test_levels_cut_the_spectrum():
    np.testing.assert_allclose(BROWNIAN.spectrum(2, 0.0, 1.0), np.pi**2 / 2 * np.array([1, 4]), rtol=1e-7)
    np.testing.assert_allclose(OU.spectrum(2, lower=0.0), [1, 3], rtol=1e-6)  # the odd ones


@pytest.mark.parametrize("temperature", [0.1, 0.6, 2.0])
def test_heavy_tails_make_the_spectrum_continuous(temperature):
    """Linear regression: rates n − n(n−1)T while their moments exist, continuous from (1+T)²/(4T) on."""
    mode = ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=temperature)
    edge = (1 + temperature) ** 2 / (4 * temperature)
    assert mode.log_diffusion.essential_rate == pytest.approx(edge, rel=1e-6)
    rate = 1.0 if temperature < 1 else edge  # beyond T = 1 the variance is infinite, and x no eigenfunction
    assert mode.relaxation_time == pytest.approx(1 / rate, rel=1e-4)


def test_relaxation_of_a_mode_slows_down_at_the_critical_temperature():
    times = []
    for share in (0.5, 0.9, 0.99):
        mode = ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=share / 3)
        edge = (2 - mode.temperature * 6) ** 2 / (8 * mode.temperature * 6)
        assert mode.log_diffusion.essential_rate == pytest.approx(edge, rel=1e-6)
        assert mode.relaxation_time >= 1 / edge * (1 - 1e-9)
        times.append(mode.relaxation_time)
    assert times[2] > 50 * times[1] > 500 * times[0] / 10
    with pytest.raises(ValueError, match=r"lower end \(natural, attracting\)"):
        ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.4).relaxation_time  # noqa: B018


def test_relaxation_near_the_target_is_that_of_the_linearised_mode():
    for depth in (2, 3):
        mode = ModeSDE(depth=depth, target=1.3, label_noise=0.3, temperature=1e-3)
        assert mode.relaxation_time == pytest.approx(1 / (depth * 1.3 ** (2 - 2 / depth)), rel=5e-3)


def test_a_rate_of_rare_escapes():
    """Two wells: the gap is twice the escape rate, until rounding hides it."""

    def wells(noise):
        return Diffusion1D(lambda x: x - x**3, lambda x: np.full_like(x, noise), tails="exponential")

    escape = wells(0.3).passage(-1.0, 1.0)[0]
    assert wells(0.3).spectrum(2)[1] == pytest.approx(2 / escape, rel=0.05)
    with pytest.raises(ValueError, match="rounding hides"):
        wells(0.1).spectrum(2)


# --- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OU.evolve(0.0, [1.0, 0.5]), "times must be positive, increasing"),
        (lambda: OU.evolve(0.0, [0.0]), "times must be positive, increasing"),
        (lambda: cir(1.0).evolve(-1.0, [1.0]), "start must lie between 0 and inf, got -1"),
        (lambda: OU.evolve(0.0, [1.0], lower=1.0), "start must lie between 1 and inf"),
        (lambda: OU.evolve(0.0, [1.0], lower=1.0, upper=-1.0), "lower below upper, got 1.0 and -1.0"),
        (lambda: GBM.spectrum(), "x can drift off to the upper end; give upper"),
        (lambda: BROWNIAN.relaxation_time, "not in finite mean time|infinite mean time"),
        (lambda: ModeSDE(depth=2, target=1.0, temperature=0.0).evolve(0.1, [1.0]), "temperature must be positive"),
        (lambda: ModeSDE(depth=3, target=1.0, temperature=0.1).evolve(0.0, [1.0]), "must be positive at depth 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
