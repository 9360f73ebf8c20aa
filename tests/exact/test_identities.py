"""What every step keeps, to rounding: balance, determinant and rescaling, from the weights before and after alone."""

import itertools

import numpy as np
import pytest

from saddlescope import Plan
from saddlescope.observables import balance, log_det
from support import METHODS, PROBLEMS, largest, pairs

KEPT = [name for name, method in METHODS.items() if "balance identity" in method.keeps]
BROKEN = ["isotropic", "isotropic, dt"]
STEPS, TRAJECTORIES = 12, 5


def transitions(engine, problem, method, dtype="float64"):
    """Weights before and after every step."""
    run = engine(problem, method, Plan(steps=STEPS, trajectories=TRAJECTORIES, seed=5, dtype=dtype))
    state = run.init()
    for step in range(STEPS):
        before = run.weights(state)
        state = run.advance(state, step + 1)
        yield before, run.weights(state)


def balance_error(before, after):
    """``ΔQ_l − (δ_{l+1}ᵀδ_{l+1} − δ_lδ_lᵀ)``, δ = ηg the change of a layer, against the change, both over ‖W‖²."""
    change = [b - a for a, b in zip(before, after, strict=True)]
    expected = [np.swapaxes(up, 1, 2) @ up - low @ np.swapaxes(low, 1, 2) for low, up in itertools.pairwise(change)]
    scale = largest(after)[:, None, None]
    error = [(b - a - e) / scale for a, b, e in zip(balance(before), balance(after), expected, strict=True)]
    return max((np.abs(e).max() for e in error), default=0.0), max(
        (np.abs(e / scale).max() for e in expected), default=0.0
    )


@pytest.mark.parametrize(("problem", "method"), pairs(methods=KEPT))
def test_balance_changes_by_the_squared_gradients(engine, problem, method):
    for before, after in transitions(engine, PROBLEMS[problem], METHODS[method]):
        assert balance_error(before, after)[0] < 1e-14


@pytest.mark.parametrize("method", KEPT)
def test_balance_identity_in_float32(engine, method):
    for before, after in transitions(engine, PROBLEMS["deep"], METHODS[method], "float32"):
        assert balance_error(before, after)[0] < 2e-6


@pytest.mark.parametrize("method", BROKEN)
def test_isotropic_noise_breaks_the_balance_identity(engine, method):
    errors = [balance_error(*pair) for pair in transitions(engine, PROBLEMS["deep"], METHODS[method])]
    assert min(error for error, _ in errors) > 1e-3


def determinant_change(before, after):
    """``2 Σ_i log|1 − s_i(ηJ_l)²|`` (n, L−1), ηJ from ``δ_l = −W_{l+1}ᵀ ηJ``; NaN where the layer is too narrow."""
    out = np.full((len(before[0]), len(before) - 1), np.nan)
    for l, (low, up, moved) in enumerate(zip(before, before[1:], after, strict=False)):
        if low.shape[1] >= low.shape[2] + up.shape[1]:
            values = np.linalg.svd(np.linalg.pinv(np.swapaxes(up, 1, 2)) @ (low - moved), compute_uv=False)
            out[:, l] = 2 * np.log(np.abs(1 - values**2)).sum(axis=1)
    return out


@pytest.mark.parametrize(
    ("problem", "method"), pairs(["wide", "coloured", "rank 2", "rank 1, no noise", "repeated"], KEPT)
)
def test_determinant_changes_by_the_singular_values_of_the_gradient(engine, problem, method):
    for before, after in transitions(engine, PROBLEMS[problem], METHODS[method]):
        change, expected = log_det(after) - log_det(before), determinant_change(before, after)
        assert np.isfinite(expected).any()
        np.testing.assert_allclose(change, expected, atol=1e-11, rtol=1e-9)


def test_isotropic_noise_breaks_the_determinant_identity(engine):
    for before, after in transitions(engine, PROBLEMS["wide"], METHODS["isotropic"]):
        assert np.abs(log_det(after) - log_det(before) - determinant_change(before, after)).max() > 1e-2


@pytest.mark.parametrize(("problem", "method"), pairs(methods=KEPT))
def test_every_layer_has_the_same_product_with_its_gradient(engine, problem, method):
    """``Tr W_lᵀg_l`` is one number for all layers: the loss does not change when one grows as another shrinks."""
    for before, after in transitions(engine, PROBLEMS[problem], METHODS[method]):
        products = [np.sum(a * (b - a), axis=(1, 2)) for a, b in zip(before, after, strict=True)]
        np.testing.assert_allclose(products, [products[0]] * len(products), atol=1e-14 * largest(before).max())


def test_isotropic_noise_breaks_the_rescaling_identity(engine):
    for before, after in transitions(engine, PROBLEMS["deep"], METHODS["isotropic"]):
        products = [np.sum(a * (b - a), axis=(1, 2)) for a, b in zip(before, after, strict=True)]
        assert np.ptp(products, axis=0).max() > 1e-3
