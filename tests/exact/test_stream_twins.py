"""The kernel's streams and their NumPy twin: the same words always, the same draws to rounding."""

import numpy as np
import pytest

from saddlescope import _kernel
from saddlescope.kernel.streams import NOISE, Streams, seed_words

SETS = _kernel.instruction_sets()
ROUNDING = {"float64": {"rtol": 1e-10, "atol": 1e-10}, "float32": {"rtol": 1e-5, "atol": 1e-6}}


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 400])
def test_normals(instruction_set, dtype, count):
    words = seed_words(3, range(101), NOISE, dtype)
    twin = Streams(words)
    np.testing.assert_allclose(_kernel.normals(words, count, instruction_set), twin.normals(count), **ROUNDING[dtype])
    np.testing.assert_array_equal(words, twin.words)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 30, 10_000])
def test_chi(instruction_set, dtype, degrees):
    words = seed_words(4, range(101), NOISE, dtype)
    twin = Streams(words)
    for _ in range(20):
        np.testing.assert_allclose(_kernel.chi(words, degrees, instruction_set), twin.chi(degrees), **ROUNDING[dtype])
        np.testing.assert_array_equal(words, twin.words)


@pytest.mark.parametrize("dtype", ROUNDING)
def test_instruction_sets_with_fused_multiply_add_agree_to_the_bit(dtype):
    fused = [name for name in SETS if name != "baseline"]
    draws = []
    for name in fused:
        words = seed_words(5, range(64), NOISE, dtype)
        draws.append((_kernel.normals(words, 501, name), _kernel.chi(words, 7, name), words))
    for draw in draws[1:]:
        for a, b in zip(draws[0], draw, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("bound", [1, 2, 7, 1000, 2**20 + 1, 3 * 2**29, 2**31 - 1])
def test_indices(instruction_set, dtype, bound):
    """With 3·2²⁹ every fourth word is rejected, in each stream independently."""
    words = seed_words(6, range(37), NOISE, dtype)
    twin = Streams(words)
    for _ in range(20):
        np.testing.assert_array_equal(_kernel.below(words, bound, instruction_set), twin.below(bound))
    np.testing.assert_array_equal(words, twin.words)
