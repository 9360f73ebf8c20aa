"""Errors of the law of balance, and its test of symmetry in undecidable cases."""

import numpy as np
import pytest

from saddlescope.theory import Balance, rescaling_symmetry


def scalar_pair(power=1.0, dtype=np.float64):
    """ℓ = ½(uw^p)²; the symmetry holds at p = 1 only."""

    def gradients(u, w):
        g_u, g_w = u * w ** (2 * power), power * u**2 * w ** (2 * power - 1)
        return g_u[None].astype(dtype), g_w[None].astype(dtype)

    return gradients


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("power", "verdict"), [(1.0, "symmetric"), (1.1, "broken")])
def test_verdict_at_either_precision(dtype, power, verdict):
    assert rescaling_symmetry(scalar_pair(power, dtype), [0.7], [0.3]).verdict == verdict


def test_between_rounding_and_a_break_nothing_is_said():
    assert rescaling_symmetry(scalar_pair(1 + 1e-8), [0.7], [0.3]).verdict == "inconclusive"


def test_without_gradient_nothing_is_said():
    found = rescaling_symmetry(lambda u, w: (0 * u[None], 0 * w[None]), [0.7], [0.3])
    assert found.verdict == "inconclusive" and np.isnan(found.violation)


def test_equal_weights_do_not_pass_for_a_symmetry():
    """ℓ = ½(u² + w²) has u·g_u = w·g_w at u = w, but not beside it."""
    assert rescaling_symmetry(lambda u, w: (u[None], w[None]), [0.5], [0.5]).verdict == "broken"


def test_wrong_input():
    with pytest.raises(ValueError, match=r"scales must be numbers other than 0, got \(0,\)"):
        rescaling_symmetry(scalar_pair(), [0.7], [0.3], (0,))
    with pytest.raises(ValueError, match=r"gradients of w must have shape \(samples, …\).*\(1,\).*got \(2,\)"):
        Balance.of([1.0], [1.0], np.ones((2, 1)), np.ones(2), 0.1)
    with pytest.raises(ValueError, match=r"must have the rescaling symmetry.*differ by 0\.33"):
        Balance.of([1.0], [1.0], np.ones((2, 1)), 2 * np.ones((2, 1)), 0.1)
    with pytest.raises(ValueError, match="must not be zero"):
        Balance.of([0.0], [0.0], np.ones((2, 1)), np.ones((2, 1)), 0.1)
    with pytest.raises(ValueError, match=r"A must have shape \(samples, 2, 1\).*got \(3, 1, 2\)"):
        Balance.of_product([1.0], [1.0, 2.0], np.ones((3, 1, 2)), 0.1)


def test_without_noise_no_ratio():
    still = Balance.of([1.0], [2.0], np.ones((3, 1)), 0.5 * np.ones((3, 1)), 0.1)
    assert np.isnan(still.ratio) and still.rate == 0 and still.drift == 0


def test_ranks_of_the_noise():
    """As many directions as the samples' gradients span about their mean; full ones bound the ratio on both sides."""
    rng = np.random.default_rng(4)
    u, w = rng.standard_normal(3), rng.standard_normal(5)
    full = Balance.of_product(u, w, rng.standard_normal((40, 5, 3)), temperature=0.1)
    assert full.ranks == (3, 5)
    assert 0 < full.ratio_bounds[0] < full.ratio < full.ratio_bounds[1] < np.inf
    left, right = rng.standard_normal((5, 2)), rng.standard_normal((1, 3))
    low = np.einsum("ka,sab,bi->ski", left, rng.standard_normal((40, 2, 1)), right)
    thin = Balance.of_product(u, w, low, temperature=0.1)
    assert thin.ranks == (1, 2) and thin.ratio_bounds[0] < 1e-12 and thin.ratio_bounds[1] > 1e9
    assert Balance.of_product(u, w, np.ones((4, 5, 3)), temperature=0.1).ranks == (0, 0)
