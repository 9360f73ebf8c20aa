"""The teacher, its modes and the covariance of the inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope import GaussianData
from support import covariance


@given(
    spectrum=st.lists(st.floats(0, 10), min_size=1, max_size=4),
    extra=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    seed=st.integers(0, 2**40),
)
@settings(max_examples=40, deadline=None)
def test_from_spectrum_has_the_spectrum(spectrum, extra, seed):
    dim_in, dim_out = len(spectrum) + extra[0], len(spectrum) + extra[1]
    data = GaussianData.from_spectrum(spectrum, dim_in, dim_out, seed=seed)
    modes, m = data.modes, min(dim_in, dim_out)
    assert (data.dim_in, data.dim_out) == (dim_in, dim_out)
    assert modes.left.shape == (dim_out, m)
    assert modes.right.shape == (dim_in, m)
    expected = np.zeros(m)
    expected[: len(spectrum)] = np.sort(spectrum)[::-1]
    np.testing.assert_allclose(modes.strengths, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((modes.left * modes.strengths) @ modes.right.T, data.teacher, atol=1e-11)
    np.testing.assert_allclose(np.linalg.svd(data.teacher, compute_uv=False), modes.strengths, atol=1e-11)


def test_seeds_choose_the_bases():
    first, same, other = (GaussianData.from_spectrum([2.0, 1.0], 3, 2, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_modes_of_a_given_teacher_are_its_svd_with_fixed_signs():
    teacher = np.random.default_rng(0).standard_normal((3, 5))
    modes, flipped = GaussianData(teacher).modes, GaussianData(-teacher).modes
    np.testing.assert_allclose((modes.left * modes.strengths) @ modes.right.T, teacher, atol=1e-12)
    assert (np.diff(modes.strengths) <= 0).all()
    assert (modes.right[np.abs(modes.right).argmax(axis=0), range(3)] > 0).all()
    np.testing.assert_allclose(modes.right, flipped.right, atol=1e-12)


@pytest.mark.parametrize("given_bases", [False, True])
def test_a_mode_that_is_not_there_has_strength_zero(given_bases):
    """Exactly, though the singular value of a product is a rounding error."""
    data = GaussianData.from_spectrum([3.0, 1.0, 0.0], 4, 3, seed=5)
    data = data if given_bases else GaussianData(data.teacher)
    assert data.modes.strengths[2] == 0


def test_repeated_singular_values_form_blocks():
    assert GaussianData.from_spectrum([2, 1, 1, 0], 5, 4).modes.blocks == ((0,), (1, 2), (3,))
    assert GaussianData(np.zeros((2, 3))).modes.blocks == ((0, 1),)
    assert GaussianData(np.diag([2.0, 2.0, 2.0])).modes.blocks == ((0, 1, 2),)


def test_bases_complete_the_modes():
    data = GaussianData.from_spectrum([2.0, 1.0], 5, 2, seed=1)
    for basis, columns in zip(data.bases, (data.modes.left, data.modes.right), strict=True):
        np.testing.assert_array_equal(basis[:, :2], columns)
        np.testing.assert_allclose(basis.T @ basis, np.eye(len(basis)), atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_root_is_a_root_of_the_covariance_in_the_teachers_basis(rank):
    sigma = covariance(4, rank)
    data = GaussianData.from_spectrum([2.0, 1.0], 4, 2, covariance=sigma)
    right = data.bases[1]
    assert data.root.shape == (4, rank)
    np.testing.assert_allclose(right @ data.root @ data.root.T @ right.T, sigma, atol=1e-12)
    assert not data.white


def test_white_inputs():
    for data in (GaussianData(np.ones((2, 3))), GaussianData(np.ones((2, 3)), covariance=np.eye(3))):
        assert data.white
        assert data.diagonal_in_modes
        np.testing.assert_array_equal(data.root, np.eye(3))


def test_a_covariance_diagonal_in_the_modes_has_a_diagonal_root():
    plain = GaussianData.from_spectrum([2.0, 1.0], 3, 2)
    right = plain.bases[1]
    sigma = right @ np.diag([2.0, 0.0, 0.5]) @ right.T
    data = GaussianData(plain.teacher, (sigma + sigma.T) / 2, 0.0, plain.left, plain.right)
    assert data.diagonal_in_modes
    np.testing.assert_allclose(np.abs(data.root), [[2**0.5, 0], [0, 0], [0, 0.5**0.5]], atol=1e-12)
    assert not GaussianData(plain.teacher, covariance(3)).diagonal_in_modes


def test_data_are_frozen():
    data = GaussianData([[1.0, 0.0]])
    with pytest.raises(ValueError, match="read-only"):
        data.teacher[0, 0] = 2.0
    with pytest.raises((AttributeError, TypeError)):
        data.label_noise = 1.0
    mine = np.ones((2, 2))
    kept = GaussianData(mine)
    mine[0, 0] = 7.0
    assert kept.teacher[0, 0] == 1.0
