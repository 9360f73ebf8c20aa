"""Itô drifts of the whole network against second differences along every direction of the noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.networks.deep_linear import balance, end_to_end, surroundings
from saddlescope.theory.network.end_to_end import (
    label_noise_shift,
    map_drift,
    singular_value_drift,
    singular_value_sde,
    strength_drift,
)
from saddlescope.theory.network.layers import balance_drift, layer_noise, layer_variance, noise_balance
from saddlescope.theory.network.plateaus import growth_rate
from support import covariance, gradient_covariance

TEMPERATURE = 0.1


def noise_directions(data, layers):
    """Changes of the layers, (directions, …) each, whose outer products sum to the noise covariance per unit time."""
    weights = [layer[None] for layer in layers]
    error = (end_to_end(weights) - data.teacher)[0]
    dy, dx = error.shape
    values, vectors = np.linalg.eigh(gradient_covariance(data, error).reshape(dy * dx, dy * dx))
    gradients = (vectors * np.sqrt(np.clip(values, 0, None))).T.reshape(-1, dy, dx)
    above, below = surroundings(weights)
    return [np.sqrt(TEMPERATURE) * a[0].T @ gradients @ b[0].T for a, b in zip(above, below, strict=True)]


def ito_correction(function, data, layers, step):
    """``½ Σ (second difference of the function along every noise direction)``."""
    changes = noise_directions(data, layers)
    at = [layer[None] for layer in layers]
    plus = function([layer + step * change for layer, change in zip(at, changes, strict=True)])
    minus = function([layer - step * change for layer, change in zip(at, changes, strict=True)])
    return (plus + minus - 2 * function(at)).sum(axis=0) / (2 * step**2)


def gradient_step(function, data, layers, step):
    """Derivative of the function along minus the gradient of the population loss."""
    weights = [layer[None] for layer in layers]
    above, below = surroundings(weights)
    pull = (end_to_end(weights) - data.teacher) @ data.sigma
    slopes = [-(a.transpose(0, 2, 1) @ pull @ b.transpose(0, 2, 1)) for a, b in zip(above, below, strict=True)]
    ahead = function([layer + step * slope for layer, slope in zip(weights, slopes, strict=True)])
    back = function([layer - step * slope for layer, slope in zip(weights, slopes, strict=True)])
    return (ahead - back)[0] / (2 * step)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (2, 3, 4, 3), (3, 2, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("white", [True, False])
def test_drift_of_the_map(widths, white):
    rng = np.random.default_rng(0)
    sigma = None if white else covariance(widths[0])
    data = sc.GaussianData(rng.standard_normal((widths[-1], widths[0])), sigma, label_noise=0.7)
    layers = [rng.standard_normal((b, a)) / 2 for a, b in itertools.pairwise(widths)]
    expected = gradient_step(end_to_end, data, layers, 1e-4) + ito_correction(end_to_end, data, layers, 1e-3)
    found = map_drift(data, TEMPERATURE, [layer[None] for layer in layers])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    wrong = map_drift(data, 2 * TEMPERATURE, [layer[None] for layer in layers])[0]
    assert len(widths) == 2 or np.abs(wrong - expected).max() > 1e-3  # twice the temperature is told apart


@pytest.mark.parametrize("widths", [(3, 4, 2), (2, 3, 4, 3), (3, 2, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("white", [True, False])
def test_balance_of_layers(widths, white):
    """The whole drift is the Itô term: gradient flow adds nothing."""
    rng = np.random.default_rng(1)
    data = sc.GaussianData(rng.standard_normal((widths[-1], widths[0])), None if white else covariance(widths[0]), 0.7)
    layers = [rng.standard_normal((b, a)) / 2 for a, b in itertools.pairwise(widths)]
    found = balance_drift(data, TEMPERATURE, [layer[None] for layer in layers])
    noise = layer_noise(data, TEMPERATURE, [layer[None] for layer in layers])[0]
    directions = noise_directions(data, layers)
    np.testing.assert_allclose(noise, [(direction**2).sum() for direction in directions], rtol=1e-10)
    for interface, rate in enumerate(found):

        def q(weights, interface=interface):
            return balance(weights)[interface]

        expected = ito_correction(q, data, layers, 1.0)  # Q is quadratic: any step is exact
        np.testing.assert_allclose(rate[0], expected, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(gradient_step(q, data, layers, 1e-3), 0, atol=1e-10)
        assert np.trace(rate[0]) == pytest.approx(noise[interface + 1] - noise[interface], rel=1e-9)
        assert np.abs(rate[0]).max() > 1e-3


def test_white_layers_balance_noise_and_not_norms():
    """Without error ``dQ/dt = Tσ²(dy W_1W_1ᵀ − dx W_2ᵀW_2)``, which is not zero where norms are equal."""
    rng = np.random.default_rng(2)
    w1, w2 = rng.standard_normal((4, 6)), rng.standard_normal((2, 4))
    data = sc.GaussianData(w2 @ w1, label_noise=0.7)
    (rate,) = balance_drift(data, TEMPERATURE, [w1[None], w2[None]])
    np.testing.assert_allclose(rate[0], TEMPERATURE * 0.49 * (2 * w1 @ w1.T - 6 * w2.T @ w2), rtol=1e-12)


def aligned_layers(strengths, depth, widths):
    a = strengths ** (1 / depth)
    layers = [np.zeros((rows, columns)) for columns, rows in itertools.pairwise(widths)]
    for layer in layers:
        layer[np.arange(len(a)), np.arange(len(a))] = a
    return layers


STRENGTHS, TARGETS = np.array([1.3, 0.7, 0.2]), np.array([2.0, 1.0, 0.5])


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_drift_of_strengths_at_an_aligned_state(depth):
    data = sc.GaussianData(np.diag(TARGETS), label_noise=0.6)
    layers = [layer[None] for layer in aligned_layers(STRENGTHS, depth, [3] * (depth + 1))]
    expected = np.diagonal(map_drift(data, TEMPERATURE, layers)[0])
    found = strength_drift(STRENGTHS, TARGETS, depth, TEMPERATURE, 0.6)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("ends", [(3, 3), (5, 3), (3, 4)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_singular_values_drift_apart(depth, ends):
    teacher = np.zeros((ends[1], ends[0]))
    teacher[np.arange(3), np.arange(3)] = TARGETS
    data = sc.GaussianData(teacher, label_noise=0.6)
    layers = aligned_layers(STRENGTHS, depth, [ends[0], *[6] * (depth - 1), ends[1]])

    def singular_values(weights):
        return np.linalg.svd(end_to_end(weights), compute_uv=False)[:, :3]

    def strengths(weights):
        return np.diagonal(end_to_end(weights), axis1=1, axis2=2)[:, :3]

    extra = ito_correction(singular_values, data, layers, 1e-4) - ito_correction(strengths, data, layers, 1e-4)
    found = singular_value_drift(STRENGTHS, TARGETS, depth, TEMPERATURE, 0.6, *ends)
    np.testing.assert_allclose(found, extra, rtol=1e-4, atol=1e-6)


def test_equal_singular_values_are_refused():
    with pytest.raises(ValueError, match="strengths must differ"):
        singular_value_drift([1.0, 1.0], [2.0, 1.0], 2, 0.1, 0.0)


def test_growth_of_one_mode_is_that_of_its_sde():
    free, own, others = growth_rate([1.5], TEMPERATURE, label_noise=0.6)
    small = 1e-9
    drift = strength_drift([small], [1.5], 2, TEMPERATURE, 0.6)
    variance = 4 * small**2 * TEMPERATURE * (2 * (small - 1.5) ** 2 + 0.36)
    np.testing.assert_allclose(free - own - others, drift / small - variance / (2 * small**2), rtol=1e-8)


@pytest.mark.parametrize("ends", [(3, 3), (5, 3), (3, 4)], ids=str)
@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_label_noise_pushes_down_the_trace_of_the_hessian(depth, ends):
    """``L a^{L−1} shift = ¼Tσ² ∂Tr H/∂a``, the derivative taken along one mode in all layers alike."""

    def trace(strengths):
        layers = aligned_layers(strengths, depth, [ends[0], *[3] * (depth - 1), ends[1]])
        above, below = surroundings([layer[None] for layer in layers])
        return sum(float((a**2).sum() * (b**2).sum()) for a, b in zip(above, below, strict=True))

    a, step = np.array(TARGETS) ** (1 / depth), 1e-6
    slope = [(trace((a + step * e) ** depth) - trace((a - step * e) ** depth)) / (2 * step) for e in np.eye(3)]
    expected = 0.25 * TEMPERATURE * 0.6**2 * np.array(slope) / (depth * a ** (depth - 1))
    found = label_noise_shift(TARGETS, depth, TEMPERATURE, 0.6, *ends)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_label_noise_shifts_one_mode_as_its_stationary_law(depth):
    """The two differ by O(T²): a hundredth of the temperature, a hundredth of the relative difference."""
    off = []
    for temperature in (1e-2, 1e-4):
        mean = sc.theory.ModeSDE(depth, 1.5, 0.6, temperature=temperature).stationary().mean()
        off.append((1.5 - mean) / label_noise_shift([1.5], depth, temperature, 0.6)[0] - 1)
    assert abs(off[1]) < 1e-3 and off[1] == pytest.approx(off[0] / 100, rel=0.2)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (2, 3, 4, 3)], ids=str)
def test_singular_values_in_any_state(widths):
    """Second differences along every direction of the noise, far from alignment."""
    rng = np.random.default_rng(1)
    data = sc.GaussianData(rng.standard_normal((widths[-1], widths[0])), covariance(widths[0]), label_noise=0.7)
    layers = [rng.standard_normal((b, a)) for a, b in itertools.pairwise(widths)]

    def singular_values(weights):
        return np.linalg.svd(end_to_end(weights), compute_uv=False)

    law = singular_value_sde(data, TEMPERATURE, [layer[None] for layer in layers])
    ito = ito_correction(singular_values, data, layers, 1e-4)
    slope = gradient_step(singular_values, data, layers, 1e-5)
    np.testing.assert_allclose(law.drift[0], slope + ito, rtol=1e-4, atol=1e-6)
    assert np.abs(law.repulsion).max() > 1e-3
    changes = noise_directions(data, layers)
    there, back = (singular_values([w + h * c for w, c in zip(layers, changes, strict=True)]) for h in (1e-5, -1e-5))
    first = (there - back) / 2e-5
    np.testing.assert_allclose(law.covariance[0], first.T @ first, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3])
def test_singular_values_at_an_aligned_state(depth):
    data = sc.GaussianData(np.diag(TARGETS), label_noise=0.6)
    layers = [layer[None] for layer in aligned_layers(STRENGTHS, depth, [3] * (depth + 1))]
    law = singular_value_sde(data, TEMPERATURE, layers)
    extra = singular_value_drift(STRENGTHS, TARGETS, depth, TEMPERATURE, 0.6)
    np.testing.assert_allclose(law.repulsion[0], extra, rtol=1e-10)
    np.testing.assert_allclose(
        law.drift[0], extra + strength_drift(STRENGTHS, TARGETS, depth, TEMPERATURE, 0.6), rtol=1e-10
    )


def test_noise_of_a_layer_along_directions():
    """``(W_{>l}p)ᵀN(W_{>l}p) (W_{<l}ᵀq)ᵀΣ(W_{<l}ᵀq) + [(W_{>l}p)ᵀΔΣW_{<l}ᵀq]²``."""
    rng, sigma = np.random.default_rng(2), covariance(3)
    data = sc.GaussianData(rng.standard_normal((2, 3)), sigma, label_noise=0.7)
    w1, w2, w3 = (rng.standard_normal((b, a)) / 2 for a, b in itertools.pairwise((3, 4, 5, 2)))
    error = w3 @ w2 @ w1 - data.teacher
    noise, pull = error @ sigma @ error.T + 0.49 * np.eye(2), error @ sigma
    p, q = rng.standard_normal((1, 5)), rng.standard_normal((1, 4))
    left, right = w3 @ p[0], w1.T @ q[0]
    expected = (left @ noise @ left) * (right @ sigma @ right) + (left @ pull @ right) ** 2
    found = layer_variance(data, TEMPERATURE, [w[None] for w in (w1, w2, w3)], 1, p, q)
    np.testing.assert_allclose(found, TEMPERATURE * expected, rtol=1e-10)


def test_noise_balances_noise_and_not_norms():
    data = sc.GaussianData(np.random.default_rng(3).standard_normal((2, 3)), covariance(3), label_noise=0.7)
    root = np.linalg.cholesky(data.sigma)
    left, _, right = np.linalg.svd(data.teacher @ root, full_matrices=False)
    first, second = noise_balance(data)
    hidden = np.linalg.qr(np.random.default_rng(4).standard_normal((5, 2)))[0]
    weights = [(hidden * np.sqrt(first) @ right @ np.linalg.inv(root))[None], (left * np.sqrt(second) @ hidden.T)[None]]
    np.testing.assert_allclose(end_to_end(weights)[0], data.teacher, atol=1e-12)
    np.testing.assert_allclose(balance_drift(data, TEMPERATURE, weights)[0], 0, atol=1e-12)
    equal = [weights[0] / 1.2, weights[1] * 1.2]
    assert np.abs(balance_drift(data, TEMPERATURE, equal)[0]).max() > 1e-3
