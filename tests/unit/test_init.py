"""Initial weights: their distribution, and their assignment to trajectories."""

import numpy as np
import pytest
from scipy import stats

from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, load, simulate
from saddlescope.init import draw
from saddlescope.networks.deep_linear import imbalance
from saddlescope.observables import alignment, mode_strength, singular_values
from saddlescope.simulation.estimate import seconds
from support import follows

NETWORK = DeepLinear((5, 7, 6, 4))
DATA = GaussianData.from_spectrum([3.0, 2.0, 1.0], 5, 4, seed=2)


def weights(start, network=NETWORK, data=DATA, seed=0, members=range(6)):
    return draw(start, network, data, seed, members)


def test_aligned_and_balanced():
    layers = weights(init.Balanced(scale=0.3))
    np.testing.assert_allclose(mode_strength(DATA, layers), 0.3**3)
    np.testing.assert_allclose(alignment(DATA, layers), 1)
    for layer in layers:
        np.testing.assert_allclose(np.linalg.svd(layer, compute_uv=False)[:, :4], 0.3)


def test_unaligned_and_balanced():
    layers = weights(init.Balanced(scale=0.3, aligned=False))
    np.testing.assert_allclose(singular_values(layers), 0.3**3)
    np.testing.assert_allclose(imbalance(layers), 0, atol=1e-15)
    assert (np.abs(alignment(DATA, layers)) < 0.99).all()
    assert len(np.unique(mode_strength(DATA, layers), axis=0)) == 6, "trajectories differ"


def test_random_directions_have_no_preference():
    """The square of an entry of a uniform unit vector in d dimensions is Beta(½, (d−1)/2)."""
    layers = weights(init.Balanced(scale=1.0, aligned=False), members=range(3000))
    assert follows(layers[0][:, 0, 0] ** 2, stats.beta(0.5, 2.0), 2)
    assert follows(layers[-1][:, 0, 0] ** 2, stats.beta(0.5, 1.5), 2)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_bottleneck_holds_as_many_modes_as_fit(aligned):
    layers = weights(init.Balanced(scale=0.5, aligned=aligned), DeepLinear((5, 2, 4)))
    np.testing.assert_allclose(singular_values(layers), [[0.25, 0.25, 0, 0]] * 6, atol=1e-15)
    np.testing.assert_allclose(imbalance(layers), 0, atol=1e-15)


def test_gaussian():
    layers = weights(init.Gaussian(scale=0.2), members=range(2000))
    for layer in layers:
        assert follows(layer / 0.2, stats.norm, 3)
    gamma = init.Gaussian(gamma=2.0)
    assert gamma.deviations(NETWORK) == pytest.approx([1 / 7] * NETWORK.depth)
    np.testing.assert_allclose(weights(gamma)[0] / (1 / 7), weights(init.Gaussian(scale=1.0))[0])


def test_one_scale_for_each_layer():
    scales = (0.25, 0.1, 2.0)
    layers, unit = weights(init.Gaussian(scale=scales)), weights(init.Gaussian(scale=1.0))
    for layer, scale, one in zip(layers, scales, unit, strict=True):
        np.testing.assert_array_equal(layer, scale * one)
    assert init.Gaussian(scale=np.array(scales)) == init.Gaussian(scale=list(scales)) == init.Gaussian(scale=scales)
    problem = Problem(NETWORK, DATA, init.Gaussian(scale=scales))
    assert Problem.from_toml(problem.to_toml()) == problem


def stacks(count):
    rng = np.random.default_rng(5)
    return [rng.standard_normal((count, *shape)) for shape in NETWORK.shapes]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_given_weights_for_each_trajectory(engine, tmp_path):
    """Every trajectory is that of a problem with its own weights; members, stores and TOML keep them."""
    given = stacks(4)
    problem, method = Problem(NETWORK, DATA, init.Given(given)), GD(0.01)
    run = simulate(problem, method, Plan(20, 4, keep="weights"), engine=engine, out=tmp_path / "run.zarr")
    for member in range(4):
        alone = Problem(NETWORK, DATA, init.Given([layer[member] for layer in given]))
        single = simulate(alone, method, Plan(20, keep="weights"), engine=engine)
        np.testing.assert_array_equal(run.W2[member], single.W2[0])
    some = simulate(problem, method, Plan(20, members=(2, 0), keep="weights"), engine=engine)
    np.testing.assert_array_equal(some.W3, run.W3[[2, 0]])
    assert load(tmp_path / "run.zarr").identical(run)
    assert Problem.from_toml(problem.to_toml()) == problem
    longer = simulate(run, plan=Plan(40, 4, keep="weights"), engine=engine)
    np.testing.assert_array_equal(longer.W1[:, :1], run.W1[:, :1])


def test_sets_of_weights_are_as_many_as_trajectories():
    problem = Problem(NETWORK, DATA, init.Given(stacks(4)))
    with pytest.raises(ValueError, match="trajectories must be 4, the number of sets of weights that are given, got 5"):
        simulate(problem, GD(0.01), Plan(2, 5))
    with pytest.raises(ValueError, match="members must be from 0 to 3, as 4 sets of weights are given"):
        simulate(problem, GD(0.01), Plan(2, members=(0, 4)))
    with pytest.raises(ValueError, match="the same first axis"):
        init.Given([np.ones((4, 7, 5)), np.ones((6, 7))])
    with pytest.raises(ValueError, match="the same first axis"):
        init.Given([np.ones((4, 7, 5)), np.ones((3, 6, 7))])
    with pytest.raises(ValueError, match="scale must be one number, or one for each of the 3 layers, got 2 numbers"):
        Problem(NETWORK, DATA, init.Gaussian(scale=(0.1, 0.2)))


def test_the_time_of_a_run_with_given_weights_is_measured_on_some():
    problem = Problem(NETWORK, DATA, init.Given(stacks(300)))
    assert seconds(problem, GD(0.01), Plan(5, 300, saves=1)) > 0


def test_given_weights_are_shared():
    layers = [np.full(shape, 0.1) for shape in NETWORK.shapes]
    for got, layer in zip(weights(init.Given(layers)), layers, strict=True):
        np.testing.assert_array_equal(got, np.broadcast_to(layer, got.shape))


@pytest.mark.parametrize("start", [init.Gaussian(scale=0.1), init.Balanced(scale=0.1, aligned=False)])
def test_members_have_weights_of_their_own(start):
    everyone, some = weights(start), weights(start, members=[4, 1])
    for a, b in zip(everyone, some, strict=True):
        np.testing.assert_array_equal(a[[4, 1]], b)
    assert (weights(start, seed=1)[0] != everyone[0]).any(axis=(1, 2)).all()


def test_what_cannot_be():
    with pytest.raises(ValueError, match="exactly one of scale and gamma"):
        init.Gaussian()
    with pytest.raises(ValueError, match="exactly one of scale and gamma"):
        init.Gaussian(scale=1.0, gamma=2.0)
    with pytest.raises(ValueError, match="gamma"):
        Problem(DeepLinear((5, 4)), DATA, init.Gaussian(gamma=2.0))
    with pytest.raises(ValueError, match="shapes"):
        Problem(NETWORK, DATA, init.Given([np.ones((7, 5))]))
