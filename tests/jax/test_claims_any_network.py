"""Claims beyond linear networks: their networks and data, the parts of claims on rank, and what happens without JAX."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from saddlescope import claims
from saddlescope.accessor import Accessor
from saddlescope.claims.any_network import _networks, _rank
from saddlescope.claims.any_network.fresh_labels import probabilities
from saddlescope.data import Examples
from saddlescope.methods import GD, SGD

UNOPTIMISED = True

WIDTHS = (10, 20, 3)


# --- networks and data


@pytest.mark.parametrize("kind", ["relu", "tanh", "linear"])
def test_layers_by_hand(kind):
    model, x = _networks.layers((4, 6, 5, 2), kind), np.random.default_rng(0).standard_normal((7, 4))
    params = {name: np.asarray(leaf, float) for name, leaf in model.init(jax.random.key(0)).items()}
    phi = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "linear": lambda z: z}[kind]
    hidden = phi(phi(x @ params["w1"].T) @ params["w2"].T)
    np.testing.assert_allclose(model.features(params, x), hidden, atol=1e-5)
    np.testing.assert_allclose(model.apply(params, x), hidden @ params["w3"].T, atol=1e-5)


def test_initial_weights_have_the_variance_of_their_fan_in():
    params = _networks.convnet((8, 16), 64).init(jax.random.key(0))
    fans = {"c1": 9, "c2": 72, "w3": 256, "w4": 64}
    for name, fan in fans.items():
        found, count = float((params[name] ** 2).mean()) * fan / 2, params[name].size
        assert abs(found - 1) < 5 * np.sqrt(2 / count), name  # chi-squared


def test_the_convolutional_network_sees_where_a_digit_is():
    model = _networks.convnet((2, 3), 8)
    params = model.init(jax.random.key(1))
    image = np.zeros((1, 8, 8))
    image[0, 2:5, 2:5] = 1.0
    out = model.apply(params, np.concatenate([image, np.roll(image, 2, axis=2)]))
    assert out.shape == (2, 10) and not np.allclose(out[0], out[1])


def test_the_teacher_has_rank_2_and_its_strengths():
    x, y = _networks.teacher(100)
    teacher = np.linalg.lstsq(x, y, rcond=None)[0].T
    np.testing.assert_allclose(np.linalg.svd(teacher, compute_uv=False), [2, 1, 0], atol=1e-12)


def test_digits_are_their_glyphs_somewhere():
    images, classes = _networks.digits(40, noise=0.0)
    for image, digit in zip(images, classes, strict=True):
        rows, columns = np.nonzero(image)
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        glyph = np.array([list(row) for row in _networks.GLYPHS[digit].split()], float)
        glyph = glyph[:, glyph.any(axis=0)]
        np.testing.assert_allclose(box / box.max(), glyph)
        assert 0.5 <= box.max() <= 1.0
    assert len({image.tobytes() for image in images > 0}) > 20


# --- rank


def test_the_penalty_is_the_squared_slopes_of_every_output():
    """Beside the Jacobian of autodiff, in double precision."""
    widths, rng = (4, 6, 5, 2), np.random.default_rng(2)
    with jax.enable_x64(True):
        x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 2))
        for kind in ("relu", "tanh"):
            plain, model = _networks.layers(widths, kind), _rank.penalised(widths, kind, strength=0.3)
            params = {leaf.name: rng.standard_normal(leaf.shape) for leaf in plain.leaves}
            slopes = jax.jacrev(plain.apply)(params, x)
            squares = sum((slope.reshape(3, -1) ** 2).sum(axis=1) for slope in slopes.values())
            outputs = model.apply(params, x)
            np.testing.assert_allclose(outputs[:, :-1], plain.apply(params, x), rtol=1e-12)
            np.testing.assert_allclose(outputs[:, -1], squares, rtol=1e-12)
            np.testing.assert_allclose(model.losses(params, x, y), plain.losses(params, x, y) + 0.3 * squares)


def test_effective_rank_of_known_spectra():
    flat, one = np.eye(4, 7), np.outer(np.arange(1, 5), np.ones(7))
    np.testing.assert_allclose(_networks.effective_rank(np.stack([flat, one])), [4, 1], rtol=1e-9)


@pytest.fixture(scope="module")
def short():
    """Label noise and none, from the same weights, for a short time."""
    x, y = _networks.teacher(40)
    model, noisy, clean = _networks.layers(WIDTHS), Examples(x, y, label_noise=2.0), Examples(x, y)
    return _rank.follow(model, noisy, SGD(0.05, 4), 2500, 48), _rank.follow(model, clean, GD(0.05), 2500, 48)


def test_label_noise_lowers_the_rank_and_gradient_descent_does_not(short):
    noisy, clean = short
    np.testing.assert_array_equal(noisy[_rank.RANK][:, 0], clean[_rank.RANK][:, 0])
    assert _rank.left(noisy).high < 0.9 < 0.95 < _rank.left(clean).low
    assert _rank.learned(clean, 0.0).high < 0.1
    assert _rank.learned(noisy, 0.5 * 3 * 2.0**2).high < 0.5


def test_ranks_are_those_of_the_weights(short):
    weights = Accessor(short[0]).weights()["w1"]
    np.testing.assert_allclose(short[0][_rank.RANK][:, -1], _networks.effective_rank(weights), rtol=1e-4)


def test_as_far_is_a_region_around_a_logarithm():
    low, high = _rank.as_far(0.5, margin=0.1)
    assert low < 0.5 < high
    assert np.log(low) / np.log(0.5) == pytest.approx(1.1) and np.log(high) / np.log(0.5) == pytest.approx(0.9)


def test_probabilities_are_those_of_the_logits():
    logits = np.array([[1000.0, 1000.0 + np.log(3)]])
    np.testing.assert_allclose(probabilities(logits), [[0.25, 0.75]])


# --- the registry, and without JAX


def test_every_claim_needs_jax_and_stands_in_the_registry():
    for claim in claims.any_network.CLAIMS:
        assert claim.extra == "jax" and claim.lacking == ""
    assert claims.PAPERS["any-network"] is claims.any_network.CLAIMS


def test_without_jax_the_claims_are_not_run_and_do_not_fail(tmp_path):
    code = (
        "import sys; sys.modules['jax'] = None; from saddlescope.cli import app; "
        f"app(['reproduce', 'any-network', '--quick', '-o', {str(tmp_path / 'report')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report" / "report.json").read_text())["claims"]
    assert len(found) == len(claims.any_network.CLAIMS)
    assert {one["verdict"] for one in found} == {"not run"}
    assert all("pip install 'saddlescope[jax]'" in one["reason"] for one in found)
