"""Every observable against its definition, written out or simulated."""

import numpy as np
import pytest

from saddlescope import SGD, DeepLinear, GaussianData, Plan, Problem, init
from saddlescope.data.base import into_modes
from saddlescope.engines.reference import Reference
from saddlescope.init import draw
from saddlescope.networks.deep_linear import (
    balance,
    end_to_end,
    gradient_trace,
    imbalance,
    imbalance_trace,
    layer_noise,
    log_det,
    mode_noise,
    surroundings,
)
from saddlescope.observables import (
    alignment,
    effective_rank,
    excess_loss,
    learned_modes,
    loss,
    mode_strength,
    observe,
    singular_values,
)
from support import PROBLEMS, batch_gradients, covariance, dataset, has_mean

SHAPES = {
    "loss": lambda L, m: (),
    "excess_loss": lambda L, m: (),
    "mode_strength": lambda L, m: (m,),
    "singular_values": lambda L, m: (m,),
    "alignment": lambda L, m: (m,),
    "imbalance": lambda L, m: (L - 1,),
    "imbalance_trace": lambda L, m: (L - 1,),
    "log_det": lambda L, m: (L - 1,),
    "mode_noise": lambda L, m: (m,),
    "layer_noise": lambda L, m: (L, m),
    "effective_rank": lambda L, m: (),
    "learned_modes": lambda L, m: (),
}


def weights_of(problem, count=5):
    return draw(problem.init, problem.network, problem.data, 3, range(count))


@pytest.mark.parametrize("name", PROBLEMS)
def test_names_and_shapes(name):
    problem = PROBLEMS[name]
    observed = observe(problem, 0.1, weights_of(problem))
    depth, m = problem.network.depth, len(problem.data.modes.strengths)
    assert {key: value.shape for key, value in observed.items()} == {
        key: (5, *shape(depth, m)) for key, shape in SHAPES.items()
    }
    assert all(value.dtype == np.float64 for value in observed.values())


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_stands_left_and_right_of_a_layer(name):
    layers = weights_of(PROBLEMS[name])
    aboves, belows = surroundings(layers)
    for above, layer, below in zip(aboves, layers, belows, strict=True):
        np.testing.assert_allclose(above @ layer @ below, end_to_end(layers), atol=1e-14)


@pytest.mark.parametrize("inputs", [None, covariance(4), covariance(4, rank=2)])
def test_loss_is_the_expected_loss(inputs):
    data = GaussianData.from_spectrum([2.0, 1.0], 4, 3, 0.7, inputs)
    map_ = np.random.default_rng(0).standard_normal((1, 3, 4))
    rng = np.random.default_rng(1)
    values, vectors = np.linalg.eigh(data.sigma)
    x = rng.standard_normal((100_000, 4)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    y = x @ data.teacher.T + 0.7 * rng.standard_normal((100_000, 3))
    samples = 0.5 * ((x @ map_[0].T - y) ** 2).sum(axis=1)
    assert has_mean(samples, loss(data, [map_]))
    assert not has_mean(2 * samples, loss(data, [map_])), "the ½ matters"
    np.testing.assert_allclose(loss(data, [map_]) - excess_loss(data, [map_]), 0.5 * 3 * 0.7**2)


def test_modes_of_the_teacher_itself():
    data = GaussianData.from_spectrum([3.0, 2.0, 1.0], 5, 4, 0.5)
    teacher = [data.teacher[None]]
    np.testing.assert_allclose(mode_strength(data, teacher)[0], data.modes.strengths, atol=1e-14)
    np.testing.assert_allclose(alignment(data, teacher)[0, :3], 1)
    np.testing.assert_allclose(singular_values(teacher)[0], data.modes.strengths, atol=1e-14)
    assert learned_modes(data, teacher)[0] == 3
    assert excess_loss(data, teacher)[0] == 0


def test_a_block_does_not_depend_on_the_choice_of_its_basis():
    data = GaussianData.from_spectrum([2.0, 1.0, 1.0], 3, 3)
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]]
    turned = GaussianData(data.teacher, None, 0.0, data.left @ turn, data.right @ turn)
    layers = [np.random.default_rng(0).standard_normal((4, 3, 3))]
    strengths = mode_strength(data, layers)
    np.testing.assert_allclose(strengths, mode_strength(turned, layers))
    block = data.left[:, 1:].T @ layers[0] @ data.right[:, 1:]
    np.testing.assert_allclose(strengths[:, 1], np.linalg.norm(block, axis=(1, 2)) / np.sqrt(2))
    np.testing.assert_array_equal(strengths[:, 1], strengths[:, 2])


def test_alignment_is_a_cosine():
    data = GaussianData.from_spectrum([3.0, 2.0, 1.0], 5, 4)
    values = alignment(data, [np.random.default_rng(0).standard_normal((500, 4, 5))])
    assert (np.abs(values) <= 1).all()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_effective_rank_of_equal_singular_values_is_their_number(rank):
    projector = np.diag([5.0] * rank + [0.0] * (4 - rank))[None]
    np.testing.assert_allclose(effective_rank([projector]), rank)
    assert effective_rank([0 * projector])[0] == 0


def test_learned_modes_are_those_beyond_nine_tenths():
    data = GaussianData(np.diag([2.0, 1.0, 0.0]))
    for strengths, count in (([1.8, 0.9, 0.0], 2), ([1.79, 0.9, 5.0], 1), ([0.1, 0.89, 0.0], 0)):
        assert learned_modes(data, [np.diag(strengths)[None] * (1 + 1e-12)])[0] == count


@pytest.mark.parametrize("name", ["deep", "wide", "bottleneck", "regression"])
def test_balance_and_its_norms(name):
    layers = weights_of(PROBLEMS[name])
    for l, q in enumerate(balance(layers)):
        for k in range(5):
            expected = layers[l + 1][k].T @ layers[l + 1][k] - layers[l][k] @ layers[l][k].T
            np.testing.assert_allclose(q[k], expected, atol=1e-14)
            assert imbalance(layers)[k, l] == pytest.approx(np.linalg.norm(expected))
            assert imbalance_trace(layers)[k, l] == pytest.approx(np.trace(expected))


def test_log_det_where_the_layer_is_wide_enough():
    layers = weights_of(PROBLEMS["deep"])
    assert np.isnan(log_det(layers)[:, 1:]).all(), "8 < 8 + 5 and 5 < 8 + 3"
    layers = weights_of(PROBLEMS["wide"])
    theta = np.concatenate([layers[0], layers[1].transpose(0, 2, 1)], axis=2)
    np.testing.assert_allclose(log_det(layers)[:, 0], np.linalg.slogdet(theta.transpose(0, 2, 1) @ theta)[1])


@pytest.mark.parametrize("name", ["deep", "coloured", "rank 2", "regression", "noiseless", "repeated"])
def test_noise_against_gradients_that_are_really_drawn(name):
    problem = PROBLEMS[name]
    data, layers, temperature = problem.data, weights_of(problem, 1), 0.3
    samples = batch_gradients(data, end_to_end(layers)[0] - data.teacher, 1, 20_000, seed=4)
    above, below = ([m[0] for m in side] for side in surroundings(layers))
    through = sum(a @ a.T @ samples @ (b.T @ b) for a, b in zip(above, below, strict=True))
    for mode, (u, v) in enumerate(zip(data.modes.left.T, data.modes.right.T, strict=True)):
        spread(u @ through @ v, temperature, mode_noise(data, temperature, layers)[0, mode])
        for l, (a, b) in enumerate(zip(above, below, strict=True)):
            p, q = a.T @ u, b @ v
            along = p / np.linalg.norm(p) @ a.T @ samples @ b.T @ q / np.linalg.norm(q)
            spread(along, temperature, layer_noise(data, temperature, layers)[0, l, mode])


def spread(samples, temperature, expected):
    squares = temperature * (samples - samples.mean()) ** 2
    assert has_mean(squares, expected)
    assert not has_mean(squares, 1.3 * expected), "a wrong temperature must be rejected"


def test_noise_of_an_aligned_mode_is_that_of_the_scalar_equation():
    """``L² s^{4−4/L} T (2(s − s*)² + σ²)`` end to end and ``a^{2L−2} T (…)`` in every layer."""
    data = GaussianData.from_spectrum([2.0, 1.0], 3, 3, 0.4)
    for depth in (1, 2, 3, 4):
        problem = Problem(DeepLinear((3, *[5] * (depth - 1), 3)), data, init.Balanced(scale=0.8))
        layers, s = weights_of(problem, 1), 0.8**depth
        g = 2 * (s - data.modes.strengths) ** 2 + 0.4**2
        np.testing.assert_allclose(mode_noise(data, 0.1, layers)[0], 0.1 * depth**2 * s ** (4 - 4 / depth) * g)
        np.testing.assert_allclose(layer_noise(data, 0.1, layers)[0], [0.1 * 0.8 ** (2 * depth - 2) * g] * depth)


def test_mode_noise_is_the_variance_of_a_step():
    """Of the strength, over many steps of SGD from one point, as the learning rate goes to 0."""
    data = GaussianData.from_spectrum([2.0, 1.0], 3, 2, 0.7, covariance(3), seed=1)
    rng = np.random.default_rng(2)
    problem = Problem(
        DeepLinear((3, 4, 2)),
        data,
        init.Given([0.7 * rng.standard_normal(shape) for shape in ((4, 3), (2, 4))]),
    )
    method = SGD(1e-5, 2)
    run = Reference(problem, method, Plan(steps=1, trajectories=20_000))
    before, after = run.observe(run.init()), run.observe(run.advance(run.init(), 1))
    moved = after["mode_strength"] - before["mode_strength"]
    squares = (moved - moved.mean(axis=0)) ** 2 / method.time_step
    assert has_mean(squares, before["mode_noise"][0])


def test_without_temperature_there_is_no_noise():
    problem = PROBLEMS["wide"]
    observed = observe(problem, 0.0, weights_of(problem))
    assert (observed["mode_noise"] == 0).all()
    assert (observed["layer_noise"] == 0).all()


def test_lost_trajectories_measure_nan_and_the_others_stay():
    problem = PROBLEMS["deep"]
    layers = [layer.copy() for layer in weights_of(problem)]
    expected = observe(problem, 0.1, layers)
    for layer in layers:
        layer[1] = np.nan
    for key, value in observe(problem, 0.1, layers).items():
        assert np.isnan(value[1]).all(), key
        np.testing.assert_array_equal(np.delete(value, 1, axis=0), np.delete(expected[key], 1, axis=0))


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_trace_of_the_gradient_noise_of_a_data_set(share):
    """Against every sample's gradient of every layer."""
    data, rng = dataset(300, 4, 3), np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in ((1, 5, 4), (1, 6, 5), (1, 3, 6))]
    layers = into_modes(data, tuple(weights))
    error = end_to_end(layers)
    error[0, range(3), range(3)] -= data.modes.strengths
    found = gradient_trace(data, layers, error @ data.root, data.root, share)
    above, below = surroundings(weights)
    errors = data.X @ end_to_end(weights)[0].T - data.Y
    expected = 0.0
    for a, b in zip(above, below, strict=True):
        seen = data.X @ b[0].T
        gradients = np.einsum("ni,nj->nij", errors @ a[0], seen)
        expected += share * gradients.var(axis=0).sum()
        expected += data.label_noise**2 * np.sum(a[0] ** 2) * np.mean((seen**2).sum(axis=1))
    np.testing.assert_allclose(found.item(), expected, rtol=1e-10)
