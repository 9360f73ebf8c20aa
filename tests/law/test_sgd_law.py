"""A step of SGD has the distribution of an explicitly drawn batch, for every batch size."""

import numpy as np
import pytest
from scipy import stats

from saddlescope import SGD, DeepLinear, GaussianData, Langevin, Plan, Problem, init
from saddlescope.networks.deep_linear import layer_noise
from support import (
    FALSE_ALARM,
    alike,
    batch_gradients,
    covariance,
    gradient_covariance,
    has_covariance,
    has_mean,
)

COUNT, LR = 20_000, 0.1
INPUTS = {"white": None, "coloured": covariance(3), "rank 2": covariance(3, rank=2)}


def regression(inputs, noise=0.7):
    data = GaussianData.from_spectrum([2.0, 1.0], 3, 2, noise, INPUTS[inputs], seed=1)
    return Problem(DeepLinear((3, 2)), data, init.Given([np.array([[0.5, -0.3, 0.8], [0.1, 0.9, -0.6]])]))


def error_of(problem):
    return problem.init.weights[0] - problem.data.teacher


def map_gradients(engine, problem, method, seed=0, count=COUNT):
    """Ḡ (count, dy, dx) of one step each, from the increment of a single layer."""
    run = engine(problem, method, Plan(steps=1, trajectories=count, seed=seed))
    state = run.init()
    moved = run.weights(state)[0] - run.weights(run.advance(state, 1))[0]
    return moved / method.time_step


def views(gradients):
    """Scalars that probe the whole distribution: projections, a norm and a product of two projections."""
    flat = gradients.reshape(len(gradients), -1)
    directions = np.random.default_rng(9).standard_normal((3, flat.shape[1]))
    a, b, c = (flat @ directions.T).T
    return [a, b, c, np.linalg.norm(flat, axis=1), a * b]


SIZES = [
    (inputs, batch)
    for inputs, rank in (("white", 3), ("coloured", 3), ("rank 2", 2))
    for batch in sorted({1, 2, 3, rank + 1, 32})
]


@pytest.mark.parametrize(("inputs", "batch"), SIZES)
def test_a_step_is_a_batch(engine, inputs, batch):
    problem = regression(inputs)
    error = error_of(problem)
    drawn = map_gradients(engine, problem, SGD(LR, batch))
    mean, spread = error @ problem.data.sigma, gradient_covariance(problem.data, error)
    assert has_mean(drawn, mean)
    assert has_covariance(drawn, mean, spread / batch)
    assert not has_covariance(drawn, mean, 1.25 * spread / batch), "a wrong temperature must be rejected"
    slow = batch_gradients(problem.data, error, batch, COUNT, seed=7)
    pairs = list(zip(views(drawn), views(slow), strict=True))
    assert all(alike(a, b, len(pairs)) for a, b in pairs)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_batch_of_another_size_is_rejected(engine, batch):
    """Negative control at the same temperature: only the distribution differs, not its mean or covariance."""
    problem = regression("white")
    error = error_of(problem)
    drawn = map_gradients(engine, problem, SGD(LR, batch))
    other = batch_gradients(problem.data, error, 8 * batch, COUNT, seed=7)
    other = error + (other - error) * np.sqrt(8)
    assert not all(alike(a, b, 5) for a, b in zip(views(drawn), views(other), strict=True))


def test_the_langevin_model_is_not_the_law_of_a_small_batch(engine):
    """Negative control: the Gaussian with the same mean and covariance."""
    problem = regression("white")
    drawn, gaussian = (map_gradients(engine, problem, method) for method in (SGD(LR, 2), Langevin(LR, 2)))
    assert not all(alike(a, b, 5) for a, b in zip(views(drawn), views(gaussian), strict=True))


def test_without_label_noise(engine):
    problem = regression("coloured", noise=0.0)
    drawn = map_gradients(engine, problem, SGD(LR, 2))
    slow = batch_gradients(problem.data, error_of(problem), 2, COUNT, seed=7)
    pairs = list(zip(views(drawn), views(slow), strict=True))
    assert all(alike(a, b, len(pairs)) for a, b in pairs)


def test_successive_batches_are_fresh(engine):
    """With lr so small that the weights do not move, the gradients of successive steps are uncorrelated."""
    problem, method = regression("white"), SGD(1e-9, 2)
    run = engine(problem, method, Plan(steps=3, trajectories=5_000))
    state, flat = run.init(), []
    for step in range(3):
        after = run.advance(state, step + 1)
        flat.append(((run.weights(state)[0] - run.weights(after)[0]) / 1e-9).reshape(5_000, -1)[:, 0])
        state = after
    off = np.corrcoef(flat)[np.tril_indices(3, -1)]
    assert np.abs(off).max() * np.sqrt(5_000) < 1.5 * stats.norm.isf(FALSE_ALARM / 6)


@pytest.mark.parametrize("batch", [1, 16])
def test_noise_of_every_layer_has_the_closed_form(engine, batch):
    """``Var[pᵀ ∂W_l q] = layer_noise / (T B)`` along the direction of every mode."""
    data = GaussianData.from_spectrum([2.0, 1.0], 3, 2, 0.7, covariance(3), seed=1)
    rng = np.random.default_rng(2)
    layers = [0.7 * rng.standard_normal(shape) for shape in ((4, 3), (4, 4), (2, 4))]
    problem = Problem(DeepLinear((3, 4, 4, 2)), data, init.Given(layers))
    run = engine(problem, SGD(LR, batch), Plan(steps=1, trajectories=COUNT))
    start, end = run.weights(run.init()), run.weights(run.advance(run.init(), 1))
    expected = layer_noise(data, LR / batch, [layer[:1] for layer in start])[0]
    above = [layers[2] @ layers[1], layers[2], np.eye(2)]
    below = [np.eye(3), layers[0], layers[1] @ layers[0]]
    for l, mode in np.ndindex(3, 2):
        p, q = above[l].T @ data.modes.left[:, mode], below[l] @ data.modes.right[:, mode]
        moved = (end[l] - start[l]) @ (q / np.linalg.norm(q)) @ (p / np.linalg.norm(p))
        squares = (moved - moved.mean()) ** 2 / LR
        assert has_mean(squares[:, None], expected[l, mode])
        assert not has_mean(squares[:, None], 1.25 * expected[l, mode])
