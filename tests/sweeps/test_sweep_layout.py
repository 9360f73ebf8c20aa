"""Blocks of a sweep: boxes along the axes, ranges of runs, every run in exactly one."""

import numpy as np
import pytest

from saddlescope.sweeps import layout as layouts
from saddlescope.sweeps.layout import DONE, Array, Layout, Result

SHAPES = [(1,), (7,), (5000,), (1009,), (2, 3), (3, 1, 1700), (10, 20, 30), (1, 4, 2001), (999, 2), (1, 1)]


def made(shape, own=()):
    dims = tuple(f"axis{i}" for i in range(len(shape)))
    return Layout(dims, shape, {}, {"loss": Array(tuple(f"own{i}" for i in range(len(own))), own)}, "identity")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("own", [(), (700,), (1 << 18,)], ids=["scalar", "curve", "large"])
def test_blocks_are_boxes_and_ranges(shape, own):
    layout = made(shape, own)
    if layout.size > 2000 and own == (1 << 18,):
        pytest.skip("one block a run, as in the smaller ones")
    numbers, seen = np.arange(layout.size).reshape(shape), []
    for block in range(len(layout.blocks)):
        rows, box = layout.blocks.rows(block), layout.blocks.box(block)
        assert numbers[box].ravel().tolist() == list(range(rows.start, rows.stop))
        assert {layout.blocks.of(rows.start), layout.blocks.of(rows.stop - 1)} == {block}
        seen += range(rows.start, rows.stop)
    assert seen == list(range(layout.size))


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_are_large_but_not_too_large(shape):
    layout = made(shape)
    sizes = np.diff([*layout.blocks.starts, layout.size])
    assert sizes.max() <= layouts.BLOCK_RUNS
    assert layout.size <= 1000 or np.median(sizes) >= 500


def test_blocks_are_bounded_by_bytes():
    assert made((1000,), (1 << 14,)).blocks.chunk == (8,)
    assert made((1000,), (1 << 20,)).blocks.chunk == (1,)


def test_a_digest_sees_every_bit_but_the_time():
    one = Result(3, DONE, "", (np.array([0.0, 1.0]), np.array(2.0)), 1.0)
    assert one.digest == Result(4, DONE, "", one.values, 2.0).digest
    others = [
        Result(3, 2, "", one.values, 1.0),
        Result(3, DONE, "a sentence", one.values, 1.0),
        Result(3, DONE, "", (np.array([-0.0, 1.0]), np.array(2.0)), 1.0),
        Result(3, DONE, "", (np.array([0.0, 1.0]), np.nextafter(2.0, 3.0)), 1.0),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 5
