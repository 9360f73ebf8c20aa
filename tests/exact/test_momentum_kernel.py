"""Momentum in the kernel: the heavy ball ``p ← μ p − dt (∂W + γ W)``, ``W ← W + p``, against NumPy."""

import numpy as np
import pytest

from saddlescope import _kernel
from saddlescope.kernel.streams import NOISE, seed_words

MU, LR, DECAY, N, STEPS = 0.8, 0.05, 0.2, 19, 12
FACTORS = np.linspace(1.0, 0.5, STEPS + 1)
STRENGTHS = [2.0, 1.0]
NETWORKS = {
    "deep_linear": {"network": "deep_linear", "shapes": [(4, 3), (5, 4), (2, 5)], "rank": 3, "strengths": STRENGTHS},
    "diagonal": {
        "network": "diagonal",
        "shapes": [(4, 1)] * 3,
        "rank": 1,
        "strengths": STRENGTHS[:1],
        "gradient_noise": (2.0, 0.0, 0.25),
    },
}
ROUTES = ["lanes", "one by one"]


def kernel(name, route="auto", momentum=MU, **changes):
    made = NETWORKS[name] | {"root": [], "label_noise": 0.5, "source": "gd", "lr": LR, "dt": LR, "batch": 2.0}
    made |= {"block": list(range(len(made["strengths"]))), "weight_decay": DECAY, "order": 1}
    return _kernel.Kernel(**made | {"momentum": momentum, "route": route} | changes)


def start(name, dtype):
    shapes, modes = NETWORKS[name]["shapes"], len(NETWORKS[name]["strengths"])
    weights = 0.4 * np.random.default_rng(1).standard_normal((N, sum(a * b for a, b in shapes)))
    return {
        "weights": weights.astype(dtype),
        "words": seed_words(1, range(N), NOISE, dtype),
        "status": np.zeros(N, np.int64),
        "learned": np.full((N, 2, modes), np.inf),
        "peak": np.full((N, 4, modes), np.nan),
        "clock": np.zeros((N, 2)),
        "correlator": np.zeros((N, modes, 0, 34)),
        "histogram": np.zeros((modes, 0), np.int64),
        "velocity": np.zeros(weights.shape, dtype),
    }


def advance(made, arrays, first, last, passages=True):
    made.advance(
        **arrays, start=first, until=last, passages=passages, peaks=False, threads=2, factors=FACTORS[first : last + 1]
    )


def run(made, arrays, *ends, passages=True):
    first = 0
    for last in ends:
        advance(made, arrays, first, last, passages)
        first = last
    return arrays


def loss(weights, name):
    """Loss of one set of weights, complex steps allowed."""
    shapes, at, layers = NETWORKS[name]["shapes"], 0, []
    for rows, columns in shapes:
        layers.append(weights[at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    product = layers[0]
    for layer in layers[1:]:
        product = layer * product if name == "diagonal" else layer @ product
    error = product.sum(axis=0, keepdims=True) if name == "diagonal" else product.copy()
    for mode, strength in enumerate(NETWORKS[name]["strengths"]):
        error[mode, mode] -= strength
    return (error**2).sum() / 2


def gradient(weights, name):
    return np.array([loss(weights + 1e-30j * one, name).imag / 1e-30 for one in np.eye(len(weights))])


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_descent_is_a_heavy_ball(name, dtype, route):
    arrays = start(name, dtype)
    expected = arrays["weights"].astype(float)
    for row in expected:
        velocity = np.zeros_like(row)
        for factor in FACTORS[:-1]:
            velocity = MU * velocity - LR * factor * (gradient(row, name) + DECAY * row)
            row += velocity
    run(kernel(name, route), arrays, STEPS)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(arrays["weights"], expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("passages", [True, False])
@pytest.mark.parametrize("batch", [1.0, 2.0, 64.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_sgd_does_not_depend_on_cuts_and_routes(name, dtype, batch, passages):
    runs = [
        run(kernel(name, route, source="sgd", batch=batch), start(name, dtype), *ends, passages=passages)
        for route in ROUTES
        for ends in ([STEPS], [1, 5, STEPS])
    ]
    for other in runs[1:]:
        for key in ("weights", "velocity", "words"):
            np.testing.assert_array_equal(other[key], runs[0][key])
    assert runs[0]["velocity"].any()


def test_without_momentum_no_velocity_is_looked_at():
    plain, given = start("deep_linear", "float64"), start("deep_linear", "float64")
    del plain["velocity"]
    for arrays in (plain, given):
        run(kernel("deep_linear", momentum=0.0), arrays, STEPS)
    np.testing.assert_array_equal(plain["weights"], given["weights"])
    assert not given["velocity"].any()


def test_what_is_refused():
    arrays = start("deep_linear", "float64")
    del arrays["velocity"]
    with pytest.raises(ValueError, match="momentum needs velocity"):
        run(kernel("deep_linear"), arrays, STEPS)
    with pytest.raises(ValueError, match="velocity must be"):
        run(kernel("deep_linear"), arrays | {"velocity": arrays["weights"][:, 1:].copy()}, STEPS)
    with pytest.raises(ValueError, match="momentum is for gd and sgd"):
        kernel("deep_linear", source="gradient")
    with pytest.raises(ValueError, match="momentum must be at least 0 and below 1"):
        kernel("deep_linear", momentum=1.0)


def test_divergence_makes_weights_nan():
    arrays = start("deep_linear", "float64")
    arrays["weights"][3] = 1e100
    healthy = run(kernel("deep_linear"), start("deep_linear", "float64"), STEPS)
    run(kernel("deep_linear"), arrays, STEPS)
    assert arrays["status"][3] > 0 and np.isnan(arrays["weights"][3]).all()
    others = np.arange(N) != 3
    np.testing.assert_array_equal(arrays["weights"][others], healthy["weights"][others])
