"""Distributions of first-passage times at weak noise, by renewal, against closed forms and another scheme."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import simpson

from saddlescope.theory import Diffusion1D, ModeSDE
from saddlescope.theory.sde import renewal


def constant(value):
    return lambda x: np.full_like(x, value)


@pytest.mark.parametrize("noise", [0.1, 1e-3])
def test_brownian_motion_with_drift_passes_in_an_inverse_gaussian_time(noise):
    exact = stats.invgauss(noise**2, scale=1 / noise**2)
    times = exact.ppf([1e-4, 0.01, 0.5, 0.9, 0.999])
    found = Diffusion1D(constant(1.0), constant(noise), tails="exponential").passage_cdf(times, 0.0, 1.0)
    np.testing.assert_allclose(found, exact.cdf(times), atol=2e-6)
    np.testing.assert_allclose(found[:2], exact.cdf(times[:2]), rtol=2e-3)
    other = stats.invgauss(1.2 * noise**2, scale=1 / (1.2 * noise**2))
    assert np.abs(found - other.cdf(times)).max() > 0.01


def test_an_ornstein_uhlenbeck_process_passes_its_middle():
    noise = 0.01
    times = np.log(1 / noise) + np.array([0.5, 1.0, 3.0])
    spread = noise * np.sqrt(-np.expm1(-2 * times) / 2)
    found = Diffusion1D(lambda x: -x, constant(noise)).passage_cdf(times, 1.0, 0.0)
    np.testing.assert_allclose(found, 2 * stats.norm.sf(np.exp(-times) / spread), atol=1e-5)


def test_renewal_agrees_with_an_absorbing_wall():
    """Both schemes where both work."""
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.2)
    times, log = np.array([2.0, 3.0, 5.0, 9.0]), mode.log_diffusion
    at = [float(np.log(s)) / 2 for s in (0.05, 0.5)]
    renewed = renewal.passage_cdf(log.scale_speed, *at, times, 1e-4)
    np.testing.assert_allclose(renewed, log.passage_cdf(times, *at, tol=1e-5), atol=5e-5)


@pytest.mark.parametrize(
    ("depth", "temperature", "start", "target"), [(2, 1e-6, 1e-3, 0.5), (3, 1e-4, 1e-9, 0.5), (2, 1e-4, 2.0, 1.1)]
)
def test_the_distribution_has_the_moments_of_passage(depth, temperature, start, target):
    mode = ModeSDE(depth=depth, target=1.0, label_noise=0.5, temperature=temperature)
    mean, variance = mode.passage(start, target)
    spread = float(variance) ** 0.5
    times = float(mean) + spread * np.linspace(-8, 8, 161)
    survival = 1 - mode.passage_cdf(times, start, target)
    shift = simpson(survival, x=times) + times[0] - mean
    assert abs(shift) < 2e-4 * spread
    second = simpson(2 * (times - mean) * survival, x=times) + (times[0] - mean) ** 2
    assert second == pytest.approx(float(variance), rel=1e-3)


def test_half_of_the_paths_at_the_mean_time():
    """The example of the first paper's regime, which an ensemble puts at about a half."""
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=1e-4)
    mean, variance = mode.passage(1e-3, 0.5)
    found = mode.passage_cdf([float(mean)], 1e-3, 0.5)
    skewed = stats.invgauss(float(variance / mean**2), scale=float(mean**3 / variance))  # an inverse Gaussian plateau
    np.testing.assert_allclose(found, skewed.cdf(float(mean)), atol=1e-3)
    assert abs(found[0] - 0.5) > 1e-3


def test_a_bound_that_is_not_reached_is_raised():
    with pytest.raises(ValueError, match=r"^the law at these times cannot be computed to tol = 1e-11"):
        Diffusion1D(constant(1.0), constant(1e-3), tails="exponential").passage_cdf([1.0], 0.0, 1.0, tol=1e-11)
