"""Identities of every step, to rounding: balance, determinant and rescaling, from the weights before and after."""

import itertools

import numpy as np
import pytest

from saddlescope import Plan
from saddlescope.networks.deep_linear import balance, log_det
from support import METHODS, PROBLEMS, largest, pairs

KEPT = [name for name, method in METHODS.items() if "balance identity" in method.keeps]
BROKEN = ["isotropic", "isotropic, dt", "gradient, order 2", "aligned, order 2, steps"]
STEPS, TRAJECTORIES = 12, 5


def transitions(engine, problem, method, dtype="float64"):
    """Weights before and after every step, and the factor ``1 − ηγ`` of weight decay."""
    run = engine(problem, method, Plan(steps=STEPS, trajectories=TRAJECTORIES, seed=5, dtype=dtype))
    state = run.init()
    for step in range(STEPS):
        before = run.weights(state)
        state = run.advance(state, step + 1)
        keep = 1 - method.time_step * float(method.factor(step)) * method.weight_decay
        yield before, run.weights(state), keep


def balance_error(before, after, keep):
    """``Q_l' − (1−ηγ)²Q_l − (δ_{l+1}ᵀδ_{l+1} − δ_lδ_lᵀ)``, δ = ηg of a layer, against the last term, over ‖W‖²."""
    change = [b - keep * a for a, b in zip(before, after, strict=True)]
    expected = [np.swapaxes(up, 1, 2) @ up - low @ np.swapaxes(low, 1, 2) for low, up in itertools.pairwise(change)]
    scale = largest(after)[:, None, None]
    error = [(b - keep**2 * a - e) / scale for a, b, e in zip(balance(before), balance(after), expected, strict=True)]
    return max((np.abs(e).max() for e in error), default=0.0), max(
        (np.abs(e / scale).max() for e in expected), default=0.0
    )


@pytest.mark.parametrize(("problem", "method"), pairs(methods=KEPT))
def test_balance_changes_by_the_squared_gradients(engine, problem, method):
    for transition in transitions(engine, PROBLEMS[problem], METHODS[method]):
        assert balance_error(*transition)[0] < 1e-14


@pytest.mark.parametrize("method", KEPT)
def test_balance_identity_in_float32(engine, method):
    for transition in transitions(engine, PROBLEMS["deep"], METHODS[method], "float32"):
        assert balance_error(*transition)[0] < 2e-6


@pytest.mark.parametrize("method", BROKEN)
def test_isotropic_noise_and_order_two_break_the_balance_identity(engine, method):
    errors = [balance_error(*each) for each in transitions(engine, PROBLEMS["deep"], METHODS[method])]
    assert min(error for error, _ in errors) > 1e-5


def determinant_change(before, after, keep):
    """``2 Σ_i log|k² − s_i(ηJ_l)²| + 2|n_{l−1} − n_{l+1}| log k`` (n, L−1), k = 1−ηγ, ηJ from ``δ_l = −W_{l+1}ᵀ ηJ``.

    NaN where the layer is too narrow.
    """
    out = np.full((len(before[0]), len(before) - 1), np.nan)
    for l, (low, up, moved) in enumerate(zip(before, before[1:], after, strict=False)):
        if low.shape[1] >= low.shape[2] + up.shape[1]:
            values = np.linalg.svd(np.linalg.pinv(np.swapaxes(up, 1, 2)) @ (keep * low - moved), compute_uv=False)
            beside = abs(low.shape[2] - up.shape[1]) * np.log(keep)
            out[:, l] = 2 * np.log(np.abs(keep**2 - values**2)).sum(axis=1) + 2 * beside
    return out


@pytest.mark.parametrize(
    ("problem", "method"), pairs(["wide", "coloured", "rank 2", "rank 1, no noise", "repeated"], KEPT)
)
def test_determinant_changes_by_the_singular_values_of_the_gradient(engine, problem, method):
    for before, after, keep in transitions(engine, PROBLEMS[problem], METHODS[method]):
        change, expected = log_det(after) - log_det(before), determinant_change(before, after, keep)
        assert np.isfinite(expected).any()
        np.testing.assert_allclose(change, expected, atol=1e-11, rtol=1e-9)


def test_isotropic_noise_breaks_the_determinant_identity(engine):
    for before, after, keep in transitions(engine, PROBLEMS["wide"], METHODS["isotropic"]):
        assert np.abs(log_det(after) - log_det(before) - determinant_change(before, after, keep)).max() > 1e-2


def test_the_share_that_decay_leaves_is_part_of_both_identities(engine):
    """Negative control: the identities of a step without weight decay do not hold with it."""
    for before, after, keep in transitions(engine, PROBLEMS["wide"], METHODS["gradient, decay"]):
        assert keep < 0.9995
        assert balance_error(before, after, 1.0)[0] > 1e-5
        assert np.abs(log_det(after) - log_det(before) - determinant_change(before, after, 1.0)).max() > 1e-3


@pytest.mark.parametrize(("problem", "method"), pairs(methods=KEPT))
def test_every_layer_has_the_same_product_with_its_gradient(engine, problem, method):
    """``Tr W_lᵀg_l`` is one number for all layers: the loss does not change when one grows as another shrinks."""
    for before, after, keep in transitions(engine, PROBLEMS[problem], METHODS[method]):
        products = [np.sum(a * (b - keep * a), axis=(1, 2)) for a, b in zip(before, after, strict=True)]
        np.testing.assert_allclose(products, [products[0]] * len(products), atol=1e-14 * largest(before).max())


def test_isotropic_noise_breaks_the_rescaling_identity(engine):
    for before, after, _ in transitions(engine, PROBLEMS["deep"], METHODS["isotropic"]):
        products = [np.sum(a * (b - a), axis=(1, 2)) for a, b in zip(before, after, strict=True)]
        assert np.ptp(products, axis=0).max() > 1e-3
