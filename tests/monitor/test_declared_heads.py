"""Heads and pairs that are declared by hand: those that do not fit are refused when the watch is made."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.pairs import Pair, Part  # noqa: E402
from saddlescope.monitor.uses import Heads  # noqa: E402


class Fused(nn.Module):
    """Attention with one projection for queries, keys and values; without ``num_heads`` its structure is unknown."""

    def __init__(self, heads: int | None) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        if heads:
            self.num_heads = heads


class Plain(nn.Module):
    """Queries and keys."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)


U, W = (Part("q.weight"),), (Part("k.weight"),)

REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "fused, found": (Fused(4), {"heads": {"qkv.weight": 4}}, r"must be 12 blocks of rows.*got 4 of rows; leave it out"),
    "fused, not found": (Fused(None), {"heads": {"qkv.weight": 4}}, "queries, keys and values.*write 12 for 4 heads"),
    "other side": (Fused(4), {"heads": {"proj.weight": (4, "rows")}}, "must be 4 blocks of columns"),
    "module": (Plain(), {"heads": {"q": 4}}, r"did you mean 'q.weight'\?"),
    "no divisor": (Plain(), {"heads": {"q.weight": 5}}, r"heads\['q.weight'\].*8 rows.*got 5"),
    "no heads": (Plain(), {"pairs": [Pair("a", (Part("q.weight", 0),), W)]}, "names head 0 of 'q.weight', which has 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    model, given, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        Watch(model, **given)


def test_parts_must_be_parts() -> None:
    with pytest.raises(TypeError, match="tuples of Part"):
        Watch(Plain(), pairs=[Pair("a", ("q.weight",), ("k.weight",))])


@pytest.mark.parametrize(
    ("model", "heads"),
    [
        (Fused(4), {"qkv.weight": 12, "proj.weight": (4, "columns")}),
        (Fused(None), {"qkv.weight": 12}),
        (Fused(None), {"qkv.weight": (4, "columns")}),
        (Plain(), {"q.weight": Heads(4, "rows"), "q.bias": 2}),
    ],
)
def test_what_fits_is_taken(model: Any, heads: dict[str, Any]) -> None:
    Watch(model, heads=heads).close()


def test_the_kind_of_a_pair_is_a_word() -> None:
    Watch(Plain(), heads={"q.weight": 4}, pairs=[Pair("a", (Part("q.weight", 0),), W, "mine"), Pair("b", U, W)]).close()
