"""The streams of the kernel and their NumPy twin against their distributions and against each other."""

import numpy as np
import pytest
from scipy import stats

from saddlescope import _kernel
from saddlescope.kernel.streams import INIT, NOISE, Streams, seed_words
from support import FALSE_ALARM, follows

DTYPES = ["float64", "float32"]
MEMBERS, DRAWS = 400, 500


class KernelStreams:
    """The kernel's streams with the twin's interface."""

    def __init__(self, words):
        self.words = words.copy()

    def normals(self, count):
        return _kernel.normals(self.words, count)

    def chi(self, degrees):
        return _kernel.chi(self.words, degrees)


@pytest.fixture(params=[Streams, KernelStreams], ids=["twin", "kernel"])
def streams(request):
    """Streams of many members: ``streams(dtype, seed, members, purpose)``."""

    def make(dtype="float64", seed=0, members=range(MEMBERS), purpose=NOISE):
        return request.param(seed_words(seed, members, purpose, dtype))

    return make


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_normal(streams, dtype):
    normals = streams(dtype).normals(DRAWS)
    assert normals.dtype == dtype
    assert follows(normals, stats.norm)
    assert not follows(1.04 * normals, stats.norm), "a deviation wrong by 4 % must show"
    assert not follows(normals + 0.02, stats.norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_pairs_of_one_draw_are_independent(streams, dtype):
    """Squared radius and angle of a pair, and its two halves."""
    normals = streams(dtype).normals(DRAWS)
    first, second = normals[:, ::2].ravel(), normals[:, 1::2].ravel()
    assert follows(first**2 + second**2, stats.chi2(2))
    assert follows(np.arctan2(second, first), stats.uniform(-np.pi, 2 * np.pi))
    assert follows((first + second) / np.sqrt(2), stats.norm)
    assert follows((first - second) / np.sqrt(2), stats.norm)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails(streams, dtype):
    normals = streams(dtype, seed=3).normals(5 * DRAWS)
    for bound in (3.0, 4.0):
        expected = stats.binom(normals.size, 2 * stats.norm.sf(bound))
        assert expected.cdf((np.abs(normals) > bound).sum()) > FALSE_ALARM / 2
        assert expected.sf((np.abs(normals) > bound).sum() - 1) > FALSE_ALARM / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 60, 100_000])
def test_chi(streams, dtype, degrees):
    source = streams(dtype, seed=degrees)
    sample = np.stack([source.chi(degrees) for _ in range(60)])
    assert sample.dtype == dtype
    assert (sample > 0).all()
    assert follows(sample, stats.chi(degrees))
    assert not follows(sample, stats.chi(degrees + max(1, degrees // 20))), "wrong degrees of freedom must show"


@pytest.mark.parametrize("dtype", DTYPES)
def test_members_and_moments_in_time_are_uncorrelated(streams, dtype):
    normals = streams(dtype).normals(DRAWS).astype(float)
    for rows in (normals, normals.T, np.abs(normals), np.abs(normals).T):
        correlation = np.corrcoef(rows)
        off = correlation[np.tril_indices(len(rows), -1)]
        bound = stats.norm.isf(FALSE_ALARM / 2 / off.size) / np.sqrt(rows.shape[1])
        assert np.abs(off).max() < 1.3 * bound, "the bound is that of normal correlations, with room for their tails"


@pytest.mark.parametrize("dtype", DTYPES)
def test_seeds_members_and_purposes_have_streams_of_their_own(streams, dtype):
    """Neighbouring seeds and members, and the two purposes, are independent."""
    base = streams(dtype).normals(DRAWS)
    for other in (
        streams(dtype, seed=1).normals(DRAWS),
        streams(dtype, purpose=INIT).normals(DRAWS),
        streams(dtype, members=range(1, MEMBERS + 1)).normals(DRAWS),
        streams(dtype, seed=2**62).normals(DRAWS),
    ):
        assert follows((base + other) / np.sqrt(2), stats.norm)
        product = (base.astype(float) * other).ravel()
        assert abs(product.mean()) * np.sqrt(product.size) < stats.norm.isf(FALSE_ALARM / 2)
    assert len(np.unique(seed_words(0, range(10_000), NOISE, dtype), axis=0)) == 10_000


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_member_replays_alone(streams, dtype):
    """A stream does not depend on what its neighbours draw or reject."""
    together, alone = streams(dtype), streams(dtype, members=[17])
    for draw in (lambda s: s.normals(3), lambda s: s.chi(2), lambda s: s.chi(1), lambda s: s.normals(4)):
        np.testing.assert_array_equal(draw(together)[17], draw(alone)[0])
    np.testing.assert_array_equal(together.words[17], alone.words[0])
