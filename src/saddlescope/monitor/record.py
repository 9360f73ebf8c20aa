"""What one sampled step leaves: numbers by variable and by the weight, parameter or pair that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from saddlescope.monitor._torch import Tensor
from saddlescope.monitor.coverage import listed
from saddlescope.monitor.packed import packed

Values = dict[str, dict[str, Tensor]]
"""Variable → key along its first dim, "" if it has the dim ``step`` only → a number, or a vector of its inner dim."""


@dataclass(frozen=True, eq=False, repr=False)
class Record:
    """The values at one step, as tensors on the device of the model until results are asked for.

    >>> import torch
    >>> Record(3, 32, 0.1, {"trace": {"fc.weight": torch.tensor(2.0), "fc.bias": torch.tensor(1.0)}})
    Record(step=3, batch_size=32, lr=0.1, values of trace)
    """

    step: int
    batch_size: int
    lr: float | None
    values: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", packed(self.values))

    def __repr__(self) -> str:
        lr = "" if self.lr is None else f", lr={self.lr:.4g}"
        return f"Record(step={self.step}, batch_size={self.batch_size}{lr}, values of {listed(list(self.values))})"

    def number(self, variable: str, key: str = "") -> float:
        """One number of the record; KeyError where it is not there."""
        return float(self.values[variable][key])


def merged(*parts: Values) -> Values:
    """The values of several quantities together.

    >>> import torch
    >>> one, two = {"trace": {"fc": torch.tensor(1.0)}}, {"trace": {"out": torch.tensor(2.0)}}
    >>> sorted(merged(one, two)["trace"])
    ['fc', 'out']
    """
    found: Values = {}
    for part in parts:
        for variable, by_key in part.items():
            found.setdefault(variable, {}).update(by_key)
    return found
