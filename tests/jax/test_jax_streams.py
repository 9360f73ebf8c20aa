"""The streams in JAX and their NumPy twin: the same words always, the same draws to rounding."""

import numpy as np
import pytest

from saddlescope._jax import load, precision
from saddlescope.kernel.streams import NOISE, Streams, seed_words

jax = load()
streams = pytest.importorskip("saddlescope.engines.jax.streams")
ROUNDING = {"float64": {"rtol": 1e-13, "atol": 1e-14}, "float32": {"rtol": 3e-6, "atol": 1e-6}}


@pytest.fixture(params=ROUNDING)
def dtype(request):
    with precision(request.param):
        yield request.param


def both(seed, dtype, count=101):
    """Words of JAX and the NumPy twin of the streams."""
    words = seed_words(seed, range(count), NOISE, dtype)
    return tuple(map(jax.numpy.asarray, words.T)), Streams(words)


def same(words, twin):
    np.testing.assert_array_equal(np.stack(words, axis=1), twin.words)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 400])
def test_normals(dtype, count):
    words, twin = both(3, dtype)
    words, drawn = jax.jit(streams.normals, static_argnums=1)(words, count)
    assert drawn.dtype == dtype
    np.testing.assert_allclose(drawn.T, twin.normals(count), **ROUNDING[dtype])
    same(words, twin)


def test_chi(dtype):
    draw = jax.jit(streams.chi)
    words, twin = both(4, dtype)
    for degrees in (2, 3, 5, 30, 10_000):
        for _ in range(20):
            words, drawn = draw(words, degrees)
            np.testing.assert_allclose(drawn, twin.chi(degrees), **ROUNDING[dtype])
            same(words, twin)
    words, drawn = streams.half_normal(words)
    np.testing.assert_allclose(drawn, twin.chi(1), **ROUNDING[dtype])


def test_indices(dtype):
    """With 3·2²⁹ every fourth word is rejected, in each stream independently."""
    draw = jax.jit(streams.below)
    words, twin = both(6, dtype, 37)
    for bound in (1, 2, 7, 1000, 2**20 + 1, 3 * 2**29, 2**31 - 1):
        for _ in range(20):
            words, drawn = draw(words, bound)
            np.testing.assert_array_equal(drawn, twin.below(bound))
    same(words, twin)


def test_extreme_words_give_finite_normals(dtype):
    """The uniform behind a radius is never 0."""
    kind = np.uint64 if dtype == "float64" else np.uint32
    for value in (0, np.iinfo(kind).max):
        word = jax.numpy.full(1, value, kind)
        uniform, (_, cosine, sine) = streams._uniform(word), streams._direction(word, word)
        assert 0 < uniform[0] <= 1
        np.testing.assert_allclose(cosine**2 + sine**2, 1, rtol=1e-6)
