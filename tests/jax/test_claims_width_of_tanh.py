"""Tanh networks of several widths: side by side, their learning rates, and the numbers that are judged."""

import jax
import numpy as np
import pytest

from saddlescope.claims.any_network import width_of_tanh as width

UNOPTIMISED = True

SIZES, SPEEDS = (3, 5), (0.25, 2.0)


def weights(params):
    """u and w of each network."""
    root, ends = np.repeat(np.sqrt(SPEEDS), SIZES), [SIZES[0]]
    u, w = np.asarray(params["u"]) * root, np.asarray(params["w"]) * root[:, None]
    return list(zip(np.split(u, ends, axis=1), np.split(w, ends, axis=0), strict=True))


def test_a_step_of_networks_side_by_side_is_that_of_each_at_its_learning_rate():
    rng, lr = np.random.default_rng(0), 0.1
    with jax.enable_x64(True):
        model = width.networks(SIZES, SPEEDS, 4, 2)
        x, y, params = rng.standard_normal((6, 4)), rng.standard_normal((6, 4)), model.init(jax.random.key(0))
        slopes = jax.grad(lambda p: model.losses(p, x, y).mean())(params)
        after = weights({name: params[name] - lr * slopes[name] for name in params})
        for a, ((u, w), moved, speed) in enumerate(zip(weights(params), after, SPEEDS, strict=True)):
            h = np.tanh(x @ w.T)
            r = h @ u.T - y[:, 2 * a : 2 * a + 2]
            np.testing.assert_allclose(model.apply(params, x)[:, 2 * a : 2 * a + 2], h @ u.T, rtol=1e-10)
            np.testing.assert_allclose(moved[0], u - speed * lr * r.T @ h / 6, rtol=1e-9)
            np.testing.assert_allclose(moved[1], w - speed * lr * (r @ u * (1 - h**2)).T @ x / 6, rtol=1e-9)


def test_initial_weights_have_the_variance_of_their_fan_in():
    sizes, speeds = (40, 400), (0.25, 4.0)
    params = width.networks(sizes, speeds, 64, 10).init(jax.random.key(1))
    root = np.repeat(np.sqrt(speeds), sizes)
    u, w = np.asarray(params["u"]) * root, np.asarray(params["w"]) * root[:, None]
    for part, fan in ((u[:, :40], 40), (u[:, 40:], 400), (w[:40], 64), (w[40:], 64)):
        assert abs((part**2).mean() * fan - 1) < 5 * np.sqrt(2 / part.size)


def test_errors_are_those_of_the_outputs(monkeypatch):
    monkeypatch.setattr(width, "NETWORKS", (("1/D", 32), ("1/D", 16)))
    monkeypatch.setattr(width, "SAVES", 4)
    run = width.train(8, 4, seed=3)
    found = width.measure(run)
    error = sum(path[:, -1] for path in found["error"].values()) + 0.5 * 10 * 2 * width.LABEL_NOISE**2
    np.testing.assert_allclose(run.loss.transpose("trajectory", "time")[:, -1], error, rtol=1e-4)
    assert {path.shape for path in found["rank"].values()} == {(4, 5)}


def test_widths_that_are_alike_are_confirmed_and_others_refuted():
    rng = np.random.default_rng(4)
    paths = {network: 1 + 0.01 * rng.standard_normal((48, width.SAVES + 1)) for network in width.NETWORKS}
    paths["fixed", 128] = paths["fixed", 128] * 1.3
    assert {number.verdict for number in width.compared(paths, "1/D", "error")} == {"confirmed"}
    assert width.compared(paths, "fixed", "error")[0].verdict == "refuted"
    assert width.steady(paths).verdict == "confirmed"
    paths["1/D", 16][:, -width.SAVES // 4 :] *= 0.8
    assert width.steady(paths).verdict == "refuted"


def test_learning_rates_agree_at_the_reference_width():
    assert {width.speed(rule, width.REFERENCE) for rule in width.RULES} == {1.0}
    assert width.speed("1/D", 16) == 2.0 and width.speed("1/√D", 128) == pytest.approx(0.5)
