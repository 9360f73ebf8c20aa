"""The SDE of a balanced end-to-end map against its layers."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from saddlescope import GaussianData
from saddlescope.claims.intervals import distance_to_law
from saddlescope.theory import ModeSDE, map_covariance, map_drift
from saddlescope.theory.network.balanced import _Balanced, balanced_map_drift, simulate_balanced_map

TARGETS, NOISE, TEMPERATURE = (2.0, 1.0), 0.5, 0.3
DATA = GaussianData(np.diag(TARGETS), label_noise=NOISE)


def balanced(depth, count=6, seed=0):
    """Maps (n, 2, 2) without any alignment, and balanced layers of each."""
    maps = np.random.default_rng(seed).standard_normal((count, 2, 2))
    left, values, right = np.linalg.svd(maps)
    scale = np.zeros((count, 2, 2))
    scale[:, [0, 1], [0, 1]] = values ** (1 / depth)
    return maps, [scale @ right, *[scale] * (depth - 2), left @ scale]


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_drift_is_that_of_balanced_layers(depth, count):
    maps, weights = balanced(depth, count)
    found = balanced_map_drift(np.moveaxis(maps, 0, 2), TARGETS, depth, TEMPERATURE, NOISE)
    np.testing.assert_allclose(np.moveaxis(found, 2, 0), map_drift(DATA, TEMPERATURE, weights), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("depth", [2, 3])
def test_covariance_of_the_step_is_that_of_balanced_layers(depth):
    """The step is linear in its seven normals, so that unit normals give its covariance without sampling."""
    maps, weights = balanced(depth, count=1)
    unit = _Balanced(np.repeat(np.moveaxis(maps, 0, 2), 7, axis=2), TARGETS, depth).noise(np.eye(7), NOISE)
    found = TEMPERATURE * np.einsum("ijn,kln->ijkl", unit, unit)
    np.testing.assert_allclose(found, map_covariance(DATA, TEMPERATURE, weights)[0], rtol=1e-9, atol=1e-10)


def test_powers_of_equal_and_of_different_singular_values():
    for maps in (np.diag([0.3, 0.3]), np.diag([0.3, 0.3 * (1 + 1e-9)]), np.array([[0.3, 0.1], [-0.2, 2.0]])):
        state = _Balanced(maps[:, :, None], TARGETS, depth=3)
        for k in (1, 2):
            np.testing.assert_allclose(
                np.asarray(state.left[k])[..., 0], fractional_matrix_power(maps @ maps.T, k / 3), rtol=1e-6
            )
            np.testing.assert_allclose(
                np.asarray(state.right[k])[..., 0], fractional_matrix_power(maps.T @ maps, k / 3), rtol=1e-6
            )


def test_a_mode_far_weaker_than_the_other_leaves_it_to_its_own_sde():
    """With targets 1 and 1e-6, and hardly any label noise, the strong mode is alone."""
    found = simulate_balanced_map((1.0, 1e-6), 2, 0.05, 1e-3, 0.1, [1.5], 20_000, dt=0.02)[:, 0, 0]
    mode = ModeSDE(depth=2, target=1.0, label_noise=1e-3, temperature=0.05)
    assert distance_to_law(found, mode.evolve(0.1, [1.5], tol=1e-4)[0].cdf).low == 0
    other = ModeSDE(depth=2, target=1.0, label_noise=1e-3, temperature=0.06)
    assert distance_to_law(found, other.evolve(0.1, [1.5], tol=1e-4)[0].cdf).low > 0


def test_times_are_multiples_of_the_step_and_targets_two():
    for targets, times in (((1.0, 0.5), [0.15]), ((1.0, 0.5), [0.2, 0.1]), ((1.0,), [0.1])):
        with pytest.raises(ValueError, match="targets must be two and times increasing multiples of dt"):
            simulate_balanced_map(targets, 2, 0.01, 0.5, 0.1, times, 10, dt=0.1)
