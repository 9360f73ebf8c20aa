"""The parts of the claim on noise peaks in a transformer and a convolutional network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network import noise_peaks_elsewhere as elsewhere
from saddlescope.claims.any_network.noise_peaks_of_relu import Times

UNOPTIMISED = True

MODULUS = 5


@pytest.fixture(scope="module")
def model():
    return _networks.transformer(MODULUS, width=4, heads=2, hidden=6)


@pytest.fixture(scope="module")
def params(model):
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), model.init(jax.random.key(3)))


def by_hand(params, pair, heads=2):
    """Logits of one pair, head by head: the last token attends to both."""
    h = np.array([params["embed"][token] + place for token, place in zip(pair, params["place"], strict=True)])
    mixed = []
    for q, k, v in zip(*(np.split(params[name], heads) for name in "qkv"), strict=True):
        scores = np.exp((k @ h.T).T @ (q @ h[-1]) / np.sqrt(len(q)))
        mixed.append(v @ (scores / scores.sum() @ h))
    last = h[-1] + params["o"] @ np.concatenate(mixed)
    last = last + params["w2"] @ np.maximum(params["w1"] @ last, 0)
    return params["logits"] @ last


def test_the_transformer_by_hand(model, params):
    pairs, _ = _networks.addition(MODULUS)
    expected = np.array([by_hand(params, pair) for pair in pairs])
    np.testing.assert_allclose(model.apply(params, jnp.asarray(pairs)), expected, rtol=1e-4, atol=1e-5)


def test_sums_are_all_sums():
    pairs, sums = _networks.addition(MODULUS)
    assert len({tuple(pair) for pair in pairs.tolist()}) == MODULUS**2
    assert [(a + b) % MODULUS for a, b in pairs.tolist()] == sums.tolist()


def test_fourier_modes_are_products_of_fourier_transforms():
    """``mean_i Re(conj(ŷ_i(k)) ẑ_i(k))``, of one-hot answers and any logits."""
    _, sums = _networks.addition(MODULUS)
    logits = np.random.default_rng(0).normal(size=(len(sums), MODULUS))
    answers, outputs = np.fft.fft(np.eye(MODULUS)[sums]), np.fft.fft(logits)
    expected = (answers.conj() * outputs).real.mean(axis=0)[1 : (MODULUS + 1) // 2]
    found = np.einsum("kic,ic->k", elsewhere.fourier(sums, MODULUS), logits)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_random_weights_do_not_see_a_shift_of_all_logits():
    weights = elsewhere.random(25, MODULUS)
    assert weights.shape == elsewhere.fourier(np.zeros(25, int), MODULUS).shape
    np.testing.assert_allclose(weights.sum(axis=-1), 0, atol=1e-15)


def test_strengths_are_of_the_logits_by_hand(model, params):
    pairs, sums = _networks.addition(MODULUS)
    weights = elsewhere.fourier(sums, MODULUS)
    part = elsewhere.along(model, weights)
    logits = np.array([by_hand(params, pair) for pair in pairs])
    found = part.function(params, jnp.asarray(pairs), jnp.asarray(sums))
    assert part.entries == len(weights) == MODULUS // 2
    np.testing.assert_allclose(found, (weights * logits).sum(axis=(1, 2)), rtol=1e-3, atol=1e-5)


def test_halves_of_the_observable_are_modes_and_random_directions():
    values = np.arange(8.0).reshape(2, 4)
    run = xr.Dataset({"m": (("time", "entry_m"), values), "m_noise": (("time", "entry_m"), -values)}, attrs={"a": 1})
    found = elsewhere.parted(run)
    np.testing.assert_array_equal(found.mode_strength, values[:, :2])
    np.testing.assert_array_equal(found.random_noise, -values[:, 2:])
    assert found.mode_noise.dims == ("time", "mode") and found.random_strength.dims == ("time", "direction")
    assert found.attrs == {"a": 1}


def seen(peak, learned):
    run = xr.Dataset(
        {"accuracy": (("trajectory", "time"), np.ones((60, 1))), "status": ("trajectory", np.zeros(60, int))}
    )
    return elsewhere.Seen("here", run, Times(peak, learned), Times(learned[:, ::-1], learned))


def test_early_ordered_peaks_are_confirmed_and_late_or_shuffled_ones_are_not():
    rng = np.random.default_rng(0)
    learned = 1 + rng.permuted(np.tile(np.arange(5.0), (60, 1)), axis=1)
    early, late = seen(learned - 0.5, learned), seen(learned + 0.5, learned)
    assert early.order.verdict == early.before.verdict == late.order.verdict == "confirmed"
    assert late.before.verdict == early.chance.verdict == "refuted"
    assert seen(rng.permuted(learned, axis=1) - 9, learned).order.verdict == "refuted"
    assert seen(np.zeros_like(learned), learned).order.interval.value == 0
