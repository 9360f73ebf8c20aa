"""The generators bit by bit, and the words that a draw consumes."""

import numpy as np
import pytest

from saddlescope.kernel.streams import NOISE, Streams, seed_words

PUBLISHED = {
    np.uint64: [
        41943041,
        58720359,
        3588806011781223,
        3591011842654386,
        9228616714210784205,
        9973669472204895162,
    ],
    np.uint32: [641, 1573767, 3222811527, 3517856514, 836907274, 4247214768],
}
"""First outputs of xoshiro256++ and xoshiro128++ from the state 1, 2, 3, 4, as their authors' C code gives them."""


@pytest.mark.parametrize("word", PUBLISHED)
def test_published_outputs(word):
    source = Streams(np.array([[1, 2, 3, 4], [1, 2, 3, 4]], word))
    for expected in PUBLISHED[word]:
        np.testing.assert_array_equal(source.bits(), [expected, expected])


def test_inactive_streams_stay_where_they_are():
    source = Streams(seed_words(0, range(4), NOISE))
    before = source.words.copy()
    source.bits(np.array([True, False, True, False]))
    moved = (source.words != before).any(axis=1)
    np.testing.assert_array_equal(moved, [True, False, True, False])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_odd_draw_drops_the_last_half_pair(dtype):
    words = seed_words(1, range(3), NOISE, dtype)
    odd, even = Streams(words), Streams(words)
    np.testing.assert_array_equal(odd.normals(5), even.normals(6)[:, :5])
    np.testing.assert_array_equal(odd.words, even.words)


def test_an_empty_draw_draws_nothing():
    source = Streams(seed_words(0, range(3), NOISE))
    before = source.words.copy()
    assert source.normals(0).shape == (3, 0)
    np.testing.assert_array_equal(source.words, before)


def test_the_given_words_are_not_changed():
    words = seed_words(0, range(3), NOISE)
    before = words.copy()
    Streams(words).normals(4)
    np.testing.assert_array_equal(words, before)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_words_give_finite_normals(dtype):
    """The uniform behind a radius is never 0."""
    word = np.uint64 if dtype == "float64" else np.uint32
    source = Streams(np.zeros((1, 4), word))
    for value in (0, np.iinfo(word).max):
        words = np.array([value], word)
        uniform, angle = source._uniform(words), source._angle(words, words)[1]
        assert 0 < uniform[0] <= 1
        assert np.abs(angle[0]) <= np.pi / 2
