"""A Langevin step is Gaussian with the covariance of its noise model: that of the per-sample gradient times T dt."""

import numpy as np
import pytest
from scipy import stats

from saddlescope import SGD, DeepLinear, GaussianData, Langevin, Plan, Problem, init
from support import covariance, follows, gradient_covariance, has_covariance, has_mean

COUNT = 20_000
INPUTS = {"white": None, "coloured": covariance(3), "rank 2": covariance(3, rank=2)}
CLOCKS = {"dt = lr": {}, "dt < lr": {"dt": 0.02}, "dt > lr": {"dt": 0.3}}
WEIGHTS = np.array([[0.5, -0.3, 0.8], [0.1, 0.9, -0.6]])


def regression(sigma=None, noise=0.7, diagonal=None):
    data = GaussianData.from_spectrum([2.0, 1.0], 3, 2, noise, seed=1)
    if diagonal is not None:
        right = data.bases[1]
        sigma = right @ np.diag(diagonal) @ right.T
        sigma = (sigma + sigma.T) / 2
    data = GaussianData(data.teacher, sigma, noise, data.left, data.right)
    return Problem(DeepLinear((3, 2)), data, init.Given([WEIGHTS]))


def increments(engine, problem, method, dtype="float64"):
    """Weight increments of one step (count, parameters)."""
    run = engine(problem, method, Plan(steps=1, trajectories=COUNT, dtype=dtype))
    before, after = run.weights(run.init()), run.weights(run.advance(run.init(), 1))
    return np.concatenate([(b - a).reshape(COUNT, -1) for a, b in zip(before, after, strict=True)], axis=1)


def assert_gaussian(sample, mean, spread):
    """Mean, covariance, and the distribution along random directions; a standard deviation off by 6 % is rejected."""
    assert has_mean(sample, mean)
    assert has_covariance(sample, mean, spread)
    for direction in np.random.default_rng(3).standard_normal((3, sample.shape[1])):
        variance = direction @ spread @ direction
        scaled = (sample - mean) @ direction / np.sqrt(variance)
        assert follows(scaled, stats.norm, 3)
        assert not follows(1.15 * scaled, stats.norm)
    assert not has_covariance(sample, mean, 1.15 * spread), "a wrong temperature must be rejected"


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("noise", [0.7, 0.0])
def test_gradient_noise(engine, inputs, clock, noise):
    problem = regression(INPUTS[inputs], noise)
    error = WEIGHTS - problem.data.teacher
    method = Langevin(lr=0.1, batch_size=2.5, **CLOCKS[clock])
    mean = -method.time_step * (error @ problem.data.sigma).ravel()
    spread = method.temperature * method.time_step * gradient_covariance(problem.data, error)
    assert_gaussian(increments(engine, problem, method), mean, spread)


def test_gradient_noise_in_float32(engine):
    problem = regression(INPUTS["coloured"])
    error = WEIGHTS - problem.data.teacher
    method = Langevin(lr=0.1, batch_size=2.5)
    spread = 0.04 * 0.1 * gradient_covariance(problem.data, error)
    assert_gaussian(increments(engine, problem, method, "float32"), -0.1 * (error @ problem.data.sigma).ravel(), spread)


def test_first_two_moments_are_those_of_sgd(engine):
    problem = regression(INPUTS["coloured"])
    error = WEIGHTS - problem.data.teacher
    sample = increments(engine, problem, SGD(0.1, 4))
    mean, spread = (
        -0.1 * (error @ problem.data.sigma).ravel(),
        0.1**2 / 4 * gradient_covariance(problem.data, error),
    )
    assert has_mean(sample, mean)
    assert has_covariance(sample, mean, spread)


@pytest.mark.parametrize("diagonal", [None, [1.5, 0.5, 2.0], [1.5, 0.5, 0.0]], ids=["white", "coloured", "rank 2"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_aligned_noise(engine, clock, diagonal):
    """Only along ``u_α v_αᵀ``, with the variance and covariance that gradient noise has there."""
    problem = regression(diagonal=diagonal)
    data, error = problem.data, WEIGHTS - problem.data.teacher
    method = Langevin(lr=0.1, batch_size=2.5, noise="aligned", **CLOCKS[clock])
    mean = -method.time_step * (error @ data.sigma).ravel()
    frame = np.stack([np.outer(data.modes.left[:, a], data.modes.right[:, a]).ravel() for a in range(2)], axis=1)
    moved = increments(engine, problem, method) - mean
    np.testing.assert_allclose(moved, moved @ frame @ frame.T, atol=1e-13)
    spread = method.temperature * method.time_step * frame.T @ gradient_covariance(data, error) @ frame
    assert_gaussian(moved @ frame, np.zeros(2), spread)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_isotropic_noise_has_the_same_trace_in_every_direction(engine, inputs, clock):
    problem = regression(INPUTS[inputs])
    error = WEIGHTS - problem.data.teacher
    method = Langevin(lr=0.1, batch_size=2.5, noise="isotropic", **CLOCKS[clock])
    full = gradient_covariance(problem.data, error)
    mean = -method.time_step * (error @ problem.data.sigma).ravel()
    spread = method.temperature * method.time_step * np.trace(full) / 6 * np.eye(6)
    sample = increments(engine, problem, method)
    assert_gaussian(sample, mean, spread)
    assert not has_covariance(sample, mean, method.temperature * method.time_step * full), "not the gradient's noise"


@pytest.mark.parametrize("noise", ["gradient", "isotropic"])
def test_all_layers_of_a_deep_network_together(engine, noise):
    """The joint covariance of every weight, from ``Cov[G]`` pulled back through the layers."""
    rng = np.random.default_rng(4)
    data = GaussianData.from_spectrum([2.0, 1.0], 2, 2, 0.7, covariance(2), seed=1)
    layers = [0.8 * rng.standard_normal((2, 2)) for _ in range(3)]
    problem = Problem(DeepLinear((2, 2, 2, 2)), data, init.Given(layers))
    method = Langevin(lr=0.1, batch_size=2.5, noise=noise, dt=0.05)
    error = layers[2] @ layers[1] @ layers[0] - data.teacher
    pull = np.concatenate(
        [
            np.kron((layers[2] @ layers[1]).T, np.eye(2)),
            np.kron(layers[2].T, layers[0]),
            np.kron(np.eye(2), layers[1] @ layers[0]),
        ]
    )
    spread = pull @ gradient_covariance(data, error) @ pull.T
    if noise == "isotropic":
        spread = np.trace(spread) / 12 * np.eye(12)
    mean = -0.05 * pull @ (error @ data.sigma).ravel()
    assert_gaussian(increments(engine, problem, method), mean, 0.04 * 0.05 * spread)
