"""Arguments that do not fit the model are refused by name, not ignored."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from saddlescope.monitor import Watch  # noqa: E402

model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heads": {"0.weight": 5}}, r"heads\['0.weight'\] must divide the 6 rows of the parameter, got 5"),
        ({"heads": {"2.weight": (4, "columns")}}, "must divide the 6 columns"),
        ({"heads": {"0.bias": 4}}, "must divide the 6 rows"),
        ({"optimizer": other}, "optimizer must train a parameter of the model"),
        ({"loss_scale": float("inf")}, "loss_scale must be above 0 and finite"),
        ({"pairs": [("0", "0")]}, "pairs has '0.weight' on both sides"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Watch(model, **given)


def test_fitting_arguments_are_taken() -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Watch(model, heads={"0.weight": 3, "2.weight": (2, "columns")}, optimizer=optimizer, pairs=[("0", "2")]).close()
