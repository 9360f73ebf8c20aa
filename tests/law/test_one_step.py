"""One step of many networks has the predicted mean and covariance, and not those with a term left out."""

import itertools

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines import make_engine
from saddlescope.networks.deep_linear import balance, end_to_end, surroundings
from saddlescope.theory import balance_drift, layer_variance, map_covariance, map_drift, singular_value_sde
from support import covariance, dataset, has_covariance, has_mean

COUNT = 100_000


def data_of(kind, dim_in, dim_out):
    if kind == "finite":
        return dataset(9, dim_in, dim_out)
    teacher = np.random.default_rng(5).standard_normal((dim_out, dim_in))
    return sc.GaussianData(teacher, covariance(dim_in), label_noise=0.7)


def one_step(kind, widths, method):
    """The data, the layers before the step, and those of many networks after it."""
    rng = np.random.default_rng(5)  # singular values of P well apart
    layers = [rng.standard_normal((b, a)) / 1.5 for a, b in itertools.pairwise(widths)]
    problem = sc.Problem(sc.DeepLinear(widths), data_of(kind, widths[0], widths[-1]), sc.init.Given(layers))
    engine = make_engine("auto", problem, method, sc.Plan(steps=1, trajectories=COUNT))
    return problem.data, [layer[None] for layer in layers], engine.weights(engine.advance(engine.init(), 1))


def linear_part(before, after):
    """``Σ_l W_{>l} δW_l W_{<l}``: the part of the change of P that is linear in that of the layers."""
    above, below = surroundings(before)
    parts = zip(above, before, after, below, strict=True)
    return sum(left @ (new - old) @ right for left, old, new, right in parts)


@pytest.mark.parametrize("kind", ["coloured", "finite"])
@pytest.mark.parametrize("batch", [1, 4])
def test_map_of_two_layers_after_a_step_of_sgd(kind, batch):
    """With ``lr`` the drift is exactly the mean of a step of any size."""
    method = sc.SGD(0.1, batch)
    data, before, after = one_step(kind, (3, 4, 2), method)
    change, linear = end_to_end(after) - end_to_end(before), linear_part(before, after)
    told = map_drift(data, method.temperature, before, lr=method.lr)
    assert has_mean(change / method.lr, told)
    beyond = (change - linear) / method.lr
    assert has_mean(beyond, told - map_drift(data, 0.0, before))
    assert not has_mean(beyond, told - map_drift(data, 0.0, before, lr=method.lr))


@pytest.mark.parametrize("kind", ["coloured", "finite"])
@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 4, 5, 2)], ids=str)
def test_map_and_its_singular_values_after_a_short_time(kind, widths):
    """Langevin dynamics: covariance of P, and the means of P and of its singular values beyond what is linear."""
    dt = 1e-8
    data, before, after = one_step(kind, widths, sc.Langevin(1.0, 1.0, dt=dt))
    change, linear = end_to_end(after) - end_to_end(before), linear_part(before, after)
    ito = map_drift(data, 1.0, before) - map_drift(data, 0.0, before)
    assert has_mean((change - linear) / dt, ito)
    assert not has_mean((change - linear) / dt, 0 * ito)
    noise = map_covariance(data, 1.0, before).reshape(change[0].size, -1)
    assert has_covariance(change / np.sqrt(dt), np.sqrt(dt) * map_drift(data, 1.0, before), noise)
    assert not has_covariance(change / np.sqrt(dt), 0, 1.1 * noise)
    law = singular_value_sde(data, 1.0, before)
    left, _, right = np.linalg.svd(end_to_end(before)[0], full_matrices=False)
    values = np.linalg.svd(end_to_end(after), compute_uv=False) - law.values
    beyond = (values - np.einsum("ia,nij,aj->na", left, change, right)) / dt
    assert has_mean(beyond, law.repulsion)
    assert not has_mean(beyond, 0 * law.repulsion)


@pytest.mark.parametrize("kind", ["coloured", "finite"])
@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 4, 5, 2)], ids=str)
def test_balance_and_layers_after_a_step_of_sgd(kind, widths):
    method = sc.SGD(0.1, 2)
    data, before, after = one_step(kind, widths, method)
    told = [balance_drift(data, method.temperature, before, lr) for lr in (method.lr, 0.0)]
    for new, old, exact, continuous in zip(balance(after), balance(before), *told, strict=True):
        assert has_mean((new - old) / method.lr, exact)
        assert not has_mean((new - old) / method.lr, continuous)
    for layer in range(len(widths) - 1):
        step = (after[layer] - after[layer].mean(axis=0)) ** 2 / method.lr
        variance = layer_variance(data, method.temperature, before, layer)
        assert has_mean(step, variance)
        assert not has_mean(step, 1.1 * variance)
