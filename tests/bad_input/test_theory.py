"""Theory refuses meaningless input and says what is wrong."""

import numpy as np
import pytest

from saddlescope import GaussianData, Moments
from saddlescope.theory import (
    Balance,
    balance_drift,
    balance_step,
    growth_rate,
    half_times,
    label_noise_shift,
    layer_noise,
    layer_variance,
    map_drift,
    rescaling_symmetry,
    singular_value_drift,
    singular_value_sde,
    strength_drift,
)
from saddlescope.theory.mode.phases import collapse_window, discrete_critical_temperature, log_normal_size
from saddlescope.theory.network import determinant

DATA = GaussianData([[1.0, 0.0], [0.0, 0.5]], label_noise=1.0)
PAIR = [np.random.default_rng(0).standard_normal(shape) for shape in ((3, 5, 2), (3, 2, 5))]
RATES = (map_drift, layer_noise, balance_drift, determinant.log_det_rate, determinant.eigenvalue_sde)


@pytest.mark.parametrize("rate", [*RATES, determinant.settled_rate, determinant.label_noise_drift])
def test_weights_that_are_none_for_the_data(rate):
    with pytest.raises(ValueError, match=r"temperature must be finite and not negative, got -0.1; T = lr / batch_size"):
        rate(DATA, -0.1, PAIR)
    with pytest.raises(ValueError, match=r"weights must be arrays \(n, .*got shapes \[\(5, 2\), \(2, 5\)\].*W\[None\]"):
        rate(DATA, 0.1, [layer[0] for layer in PAIR])
    with pytest.raises(ValueError, match=r"layers must meet, .*got \(3, 5, 2\) and then \(1, 2, 5\)"):
        rate(DATA, 0.1, [PAIR[0], PAIR[1][:1]])
    with pytest.raises(ValueError, match=r"must have the 3 inputs and 3 outputs of the data, got 2 and 2"):
        rate(GaussianData(np.eye(3)), 0.1, PAIR)


@pytest.mark.parametrize("rate", RATES)
def test_moments_do_not_fix_the_gradients(rate):
    with pytest.raises(TypeError, match=r"data must be GaussianData or a Dataset, .*got Moments"):
        rate(Moments(2, 2, 3, 1, 1), 0.1, [np.ones((1, 2, 1)), np.ones((1, 1, 2))])


@pytest.mark.parametrize("rate", RATES)
def test_share_of_the_noise(rate):
    with pytest.raises(ValueError, match=r"share must be from 0 to 1, got 2"):
        rate(DATA, 0.1, PAIR, share=2)


def test_determinant():
    with pytest.raises(ValueError, match="two layers or more, got 1"):
        determinant.log_det(PAIR[:1])
    with pytest.raises(ValueError, match="threshold must be positive, got 0"):
        determinant.fall_times(DATA, 0.1, PAIR, 0.0)
    with pytest.raises(ValueError, match=r"gradient must be J .*got shape \(2, 2\)"):
        determinant.log_det_step(np.ones((2, 2)), 0.1)
    for rank in (determinant.rank, determinant.effective_rank):
        with pytest.raises(ValueError, match=r"matrices must have shape .*got \(3, 3\)"):
            rank(np.eye(3))
    equal = np.linalg.qr(PAIR[0][0] @ np.ones((2, 5)) + np.eye(5))[0][:, :4]
    with pytest.raises(ValueError, match="must differ from each other"):  # equal up to rounding
        determinant.eigenvalue_sde(DATA, 0.1, [equal[None, :, :2], equal[None, :, 2:].swapaxes(1, 2)])


def test_determinant_where_it_ends():
    """A step may reduce rank or overshoot; weights may have diverged or be zero."""
    assert determinant.log_det_step(np.ones((1, 1, 1)), lr=1.0) == -np.inf
    assert determinant.log_det_step(np.ones((1, 1, 2)), lr=1.0, weight_decay=1.0) == -np.inf
    predicted = determinant.log_det_step(np.zeros((1, 1, 2)), lr=1.0, weight_decay=3.0)  # Θ of 3 columns, times −2
    assert predicted == pytest.approx(np.linalg.slogdet(4 * np.eye(3))[1])
    lost = [PAIR[0].copy(), PAIR[1]]
    lost[0][1] = np.nan
    assert np.isnan(determinant.log_det(lost)).tolist() == [False, True, False]
    assert not any(np.any(layer) for layer in determinant.label_noise_drift(DATA, 0.1, [0 * layer for layer in PAIR]))


def test_balance():
    u, w, A = np.ones(3), np.ones(2), np.ones((4, 2, 3))
    for wrong, message in (
        ({"temperature": -1.0}, "temperature must be finite and not negative, got -1"),
        ({"temperature": np.nan}, "temperature must be finite and not negative, got nan"),
        ({"temperature": 0.1, "weight_decay": -1.0}, "weight_decay must be finite and not negative, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            Balance.of_product(u, w, A, **wrong)
    with pytest.raises(ValueError, match="u and w must not be zero, and finite"):
        Balance.of_product(0 * u, w, A, 0.1)
    with pytest.raises(ValueError, match=r"A must have shape \(samples, 2, 3\).*got \(0, 2, 3\)"):
        Balance.of_product(u, w, A[:0], 0.1)
    with pytest.raises(ValueError, match="C1 must be a finite matrix"):
        Balance.of_product(u, w, np.nan * A, 0.1)
    with pytest.raises(ValueError, match="same samples, got 2 and 1"):
        Balance.of([1.0], [1.0], [[0.2], [0.4]], [[0.2]], 0.1)
    with pytest.raises(ValueError, match="gradients of u must be finite"):
        rescaling_symmetry(lambda u, w: (np.nan * u[None], w[None]), [1.0], [1.0])
    with pytest.raises(ValueError, match=r"grad_u must end in the size of u, \(2,\), got \(1,\)"):
        balance_step([1.0, 2.0], [1.0], [1.0], [1.0], lr=0.1)
    with pytest.raises(ValueError, match="lr must be finite and not negative, got -1"):
        balance_step([1.0], [1.0], [1.0], [1.0], lr=-1)


def test_modes():
    with pytest.raises(ValueError, match=r"one number for each mode.*got shapes \(2,\) and \(1,\)"):
        strength_drift([1.0, 2.0], [1.0], 2, 0.1, 0.1)
    with pytest.raises(ValueError, match="temperature must be finite and not negative"):
        growth_rate([2.0, 1.0], -0.1, 0.1)
    with pytest.raises(ValueError, match=r"targets must be positive, got \[1.0, 0.0\]"):
        label_noise_shift([1.0, 0.0], 3, 0.1, 1.0)
    for count in (label_noise_shift, lambda s, *rest, **ends: singular_value_drift(s, s, *rest, **ends)):
        with pytest.raises(ValueError, match="at least the number of modes, 2, got 1 and 2"):
            count([1.0, 0.5], 2, 0.1, 1.0, dim_in=1)
    assert label_noise_shift([1.0, 0.5], 1, 0.1, 1.0).tolist() == [0, 0]  # regression has no shrinkage
    turn = np.linalg.qr(PAIR[0][0, :2])[0]
    with pytest.raises(ValueError, match="must be positive and differ"):  # equal up to rounding
        singular_value_sde(DATA, 0.1, [(turn @ np.diag([1.0, 1.0 + 1e-15]) @ turn.T)[None]])
    for start in (0.0, -1.0, 0.5, 3.0):
        with pytest.raises(ValueError, match="start must be positive and below half of every target"):
            half_times([2.0, 1.0], start, 0.1, 0.1)


def test_layer_that_is_not_there():
    with pytest.raises(ValueError, match="layer must be from 0 to 1, got 2"):
        layer_variance(DATA, 0.1, PAIR, 2)


def test_discrete_steps():
    with pytest.raises(ValueError, match=r"batch_size must be from 1 to 1e\+15, got 0"):
        collapse_window(0, 1.0, 1.0)
    with pytest.raises(ValueError, match="target must be finite"):
        collapse_window(1, np.nan, 1.0)
    with pytest.raises(ValueError, match="target must be more than 1e-150"):
        discrete_critical_temperature(1, target=0.0, label_noise=0.0)
    with pytest.raises(ValueError, match="deviation must not be negative, got -1"):
        log_normal_size(1.0, -1.0)
    assert log_normal_size(0.0, 0.0) == -np.inf
