"""Widths and derived quantities."""

import numpy as np
import pytest

from saddlescope import DeepLinear


def test_shapes():
    network = DeepLinear((8, 16, 5, 6))
    assert network.shapes == ((16, 8), (5, 16), (6, 5))
    assert (network.depth, network.dim_in, network.dim_out, network.hidden) == (3, 8, 6, (16, 5))
    assert network.parameters == 16 * 8 + 5 * 16 + 6 * 5


def test_one_layer_has_nothing_hidden():
    assert DeepLinear((3, 2)).hidden == ()


def test_widths_may_be_any_sequence_of_whole_numbers():
    assert DeepLinear([3, 2]) == DeepLinear((3, 2)) == DeepLinear((np.int64(3), 2))
    assert hash(DeepLinear([3, 2])) == hash(DeepLinear((3, 2)))


@pytest.mark.parametrize(
    ("widths", "kind"), [((3,), ValueError), ((3, 0), ValueError), ((3, 2.5), TypeError), ("32", TypeError)]
)
def test_other_widths_are_refused(widths, kind):
    with pytest.raises(kind, match="widths"):
        DeepLinear(widths)
