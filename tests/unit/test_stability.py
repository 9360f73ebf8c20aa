"""The stability edge: where gradient descent leaves the teacher, and where the mean square of SGD grows."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.theory.network.stability import _in_mean_square

DATA = sc.GaussianData.from_spectrum([2.0, 1.0], dim_in=6, dim_out=3)


def of(data, depth=2, width=4):
    widths = (data.dim_in, *(width,) * (depth - 1), data.dim_out)
    return sc.Problem(sc.DeepLinear(widths), data, sc.init.Balanced(scale=0.1))


def one_mode(depth, target=1.5):
    return of(sc.GaussianData([[target]]), depth, 1)


def run(problem, method, plan):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sc.simulate(problem, method, plan, progress=False)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_gradient_descent_leaves_the_teacher_there(depth, momentum):
    """Started next to the teacher: stable just inside the limit, unstable just outside."""
    problem = replace(one_mode(depth), init=sc.init.Balanced(scale=1.5 ** (1 / depth) * (1 + 1e-6)))
    edge, distance = sc.theory.stability_edge(problem, sc.GD(0.1, momentum=momentum)), {}
    for factor in (0.97, 1.03):
        path = run(problem, sc.GD(factor * edge, momentum=momentum), sc.Plan(steps=100))
        distance[factor] = np.abs(path.mode_strength.sel(statistic="mean").values[:, 0] - 1.5)
    assert distance[0.97][-1] < distance[0.97][0]
    assert distance[1.03][-1] > distance[1.03][0]


@pytest.mark.parametrize("dim", [1, 3, 20])
@pytest.mark.parametrize("batch", [1, 8, 100])
def test_one_white_layer(dim, batch):
    """E‖Δ − ηΔS‖² = ‖Δ‖² (1 − 2η + η²(1 + (d + 1)/B)), S the mean of xxᵀ over a batch: an identity."""
    data = sc.GaussianData(np.eye(1, dim))
    edge = sc.theory.stability_edge(of(data, depth=1), sc.SGD(0.1, batch))
    assert edge == pytest.approx(2 / (1 + (dim + 1) / batch))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_second_moment_is_marginal_there(decay):
    """The largest eigenvalue of the exact linear map of the second moments of the errors is 1 at the edge."""
    variances, batch = np.array([2.0, 1.0, 0.5, 1.0]), 3
    data = sc.GaussianData(np.eye(2, 4) * np.array([[3.0], [1.0]]), np.diag(variances))
    edge = sc.theory.stability_edge(of(data, 3), sc.SGD(0.1, batch, weight_decay=decay))
    s = np.array([3.0, 1.0, 0.0, 0.0])
    speed = 3 ** (4 / 3) + 3 ** (2 / 3) * s ** (2 / 3) + s ** (4 / 3)

    def growth(lr):
        a = speed * variances
        step = np.diag(1 - 2 * lr * (a + decay) + lr**2 * ((a + decay) ** 2 + a**2 / batch))
        return np.abs(np.linalg.eigvals(step + lr**2 / batch * np.outer(speed**2 * variances, variances))).max()

    assert growth(edge) == pytest.approx(1) and growth(0.99 * edge) < 1 < growth(1.01 * edge)


@pytest.mark.parametrize("depth", [2, 3])
def test_sgd_diverges_beyond_and_not_below(depth):
    data = sc.GaussianData.from_spectrum([4.0, 2.0, 1.0], dim_in=20, dim_out=3)
    problem = replace(of(data, depth), init=sc.init.Gaussian(scale=0.2))
    edge = sc.theory.stability_edge(problem, sc.SGD(0.1, 8))
    assert edge < 0.7 * sc.theory.stability_edge(problem, sc.GD(0.1))
    plan = sc.Plan(steps=3000, trajectories=32, saves=1)
    assert not run(problem, sc.SGD(0.8 * edge, 8), plan).status.any()
    assert run(problem, sc.SGD(1.5 * edge, 8), plan).status.all()


def test_large_batches_approach_gradient_descent():
    edges = [sc.theory.stability_edge(of(DATA), sc.SGD(0.1, batch)) for batch in (1, 10, 1000, 10**6, 2**52)]
    gd = sc.theory.stability_edge(of(DATA), sc.GD(0.1))
    assert edges == sorted(edges) and edges[-1] == pytest.approx(gd) == 0.5
    assert edges[0] < 0.25 * gd
    assert sc.theory.stability_edge(of(DATA), sc.SGD(0.1, sampling="full")) == gd


def test_without_an_edge():
    assert sc.theory.stability_edge(of(DATA), sc.GradientFlow(0.1)) == math.inf
    zero = of(sc.GaussianData(np.zeros((2, 3))))
    assert sc.theory.stability_edge(zero, sc.GD(0.1)) == sc.theory.stability_edge(zero, sc.SGD(0.1, 2)) == math.inf
    assert sc.theory.stability_edge(zero, sc.SGD(0.1, 2, weight_decay=0.5)) == 4.0
    assert _in_mean_square(np.array([1e-300, 0.0]), 0.0, 1.0) > 1e299
    with pytest.raises(TypeError, match="method must be such as"):
        sc.theory.stability_edge(of(DATA), 0.1)
    with pytest.raises(TypeError, match="problem must be such as"):
        sc.theory.stability_edge(DATA, sc.GD(0.1))


def test_correlated_inputs_and_data_sets_have_the_edge_without_noise():
    coupled = sc.GaussianData(np.diag([2.0, 1.0]), covariance=[[1.0, 0.3], [0.3, 1.0]])
    for data in (coupled, sc.Dataset(np.eye(4)[:, :2] * 2, np.eye(4)[:, :2])):
        assert sc.theory.stability_edge(of(data), sc.SGD(0.1, 2)) == sc.theory.stability_edge(of(data), sc.GD(0.1))
