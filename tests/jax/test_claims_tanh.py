"""Claims on tanh networks: networks side by side, their strengths and slopes, and the numbers that are judged."""

import jax
import numpy as np
import pytest

from saddlescope.claims.any_network import tanh_transition as transition
from saddlescope.claims.intervals import Interval
from saddlescope.theory import ModeSDE

UNOPTIMISED = True

PRODUCTS = {"tanh": (0.5,), "four": (0.1, 0.2, 0.3, 0.4), "linear": (0.5,)}


def test_networks_side_by_side_by_hand():
    model, x = transition.networks(PRODUCTS), np.array([-1.5, 0.2, 3.0])
    params = {name: np.asarray(leaf, float) for name, leaf in model.init(jax.random.key(0)).items()}
    roots = np.sqrt([0.1, 0.2, 0.3, 0.4])
    one, four = np.sqrt(0.5) * np.tanh(np.sqrt(0.5) * x), (roots * np.tanh(np.outer(x, roots))).sum(axis=1)
    np.testing.assert_allclose(model.apply(params, x), np.stack([one, four, 0.5 * x], axis=1), atol=1e-6)
    wrong = transition.networks(PRODUCTS, -1.0).init(jax.random.key(0))
    np.testing.assert_array_equal(wrong["u"], -params["u"].astype(np.float32))


def test_networks_side_by_side_do_not_touch_each_other():
    model = transition.networks(PRODUCTS)
    x, y = np.ones(1), np.zeros((1, 3))
    gradient = jax.grad(lambda params, y: model.losses(params, x, y).sum())
    params = model.init(jax.random.key(0))
    plain, moved = gradient(params, y), gradient(params, y + np.array([0.0, 0.0, 5.0]))
    for leaf in ("u", "w"):
        changed = np.abs(np.asarray(plain[leaf] - moved[leaf])).sum(axis=1) > 0
        assert changed.tolist() == [False, False, True]
    padding = np.asarray(plain["u"])[[0, 2], 1:]
    np.testing.assert_array_equal(padding, 0.0)


def test_inputs_and_the_linear_theory():
    x = transition.inputs()
    assert np.mean(x**2) == pytest.approx(1) and np.mean(x) == pytest.approx(0, abs=1e-12)
    sde = transition.linear_theory(0.5)
    assert isinstance(sde, ModeSDE) and sde.temperature == pytest.approx(0.5 * 2 / (2 + 20.0**2))


def test_strengths_and_slopes_of_a_run():
    trained = transition.train(PRODUCTS, 0.25, 1.0, 8, seed=5)
    assert trained.run.attrs["complete"] and not trained.run.status.any()
    x = transition.inputs()
    for name, phi in (("tanh", np.tanh), ("four", np.tanh), ("linear", lambda z: z)):
        u, w = trained.weights(name)
        assert u.shape == (8, 4)
        by_hand = [(phi(np.outer(x, b)) @ a @ x) / (x @ x) for a, b in zip(u, w, strict=True)]
        np.testing.assert_allclose(trained.slopes(name), by_hand, rtol=1e-9)
    np.testing.assert_allclose(trained.slopes("linear"), trained.strengths("linear"), rtol=1e-9)
    assert np.ptp(trained.strengths("tanh")) > 0 and trained.gone("tanh").value == 0


def test_the_threshold_is_the_zero_of_a_line():
    growth = Interval(0.4, 0.35, 0.45), Interval(-0.4, -0.45, -0.35)
    measured = transition.Measured(growth, np.linspace(0.5, 0.9, 201), quick=True)
    number = measured.threshold(1.0)
    assert number.interval.value == pytest.approx(1.0) and number.verdict == "confirmed"
    assert measured.threshold(0.5).verdict == measured.threshold(2.0).verdict == "refuted"
    median = float(transition.linear_theory(0.25).stationary().ppf(0.5))
    assert measured.slope(1.0).interval.value == pytest.approx(0.7 / median, rel=1e-3)
