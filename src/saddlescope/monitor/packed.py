"""The values of a record in a few tensors: all numbers, and all vectors, of one type on one device.

A tensor of a few numbers takes half a kilobyte, and a record may have thousands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from saddlescope.monitor._torch import Tensor, torch

Kind = tuple[int, torch.dtype, torch.device]
"""Number of dims, type and device of the tensors that are kept together."""


class Cell(NamedTuple):
    """Where a value is: in the tensor of its kind, from ``start`` on."""

    kind: Kind
    start: int
    length: int


Layout = Mapping[str, Mapping[str, Cell]]
"""Variable → key → where its value is; records with the same names and lengths share one."""


class Packed(Mapping[str, Mapping[str, Tensor]]):
    """Values by variable and key, as those they are made from, kept in one tensor for each kind.

    Values are numbers or vectors. Raises ValueError for others.

    >>> values = Packed({"trace": {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, "check": {"a": torch.tensor(0.0)}})
    >>> values["trace"], len(values.tensors)
    ({'a': tensor(1.), 'b': tensor(2.)}, 1)
    """

    def __init__(self, values: Mapping[str, Mapping[str, Tensor]]) -> None:
        parts: dict[Kind, list[Tensor]] = {}
        signature = []
        for variable, by_key in values.items():
            for key, tensor in by_key.items():
                kind = (tensor.dim(), tensor.dtype, tensor.device)
                parts.setdefault(kind, []).append(tensor)
                signature.append((variable, key, kind, tensor.numel()))
        for dims, *_ in parts:
            if dims > 1:
                raise ValueError(f"values must be numbers or vectors, got a tensor of {dims} dims")
        self.layout = _layout(tuple(values), tuple(signature))
        self.tensors = {
            kind: (torch.cat if kind[0] else torch.stack)(tensors).detach() for kind, tensors in parts.items()
        }

    def __getitem__(self, variable: str) -> dict[str, Tensor]:
        return {key: self._value(*cell) for key, cell in self.layout[variable].items()}

    def _value(self, kind: Kind, start: int, length: int) -> Tensor:
        found = self.tensors[kind]
        return found[start : start + length] if kind[0] else found[start]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout)

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return repr(dict(self))


@lru_cache(maxsize=32)
def _layout(variables: tuple[str, ...], signature: tuple[tuple[str, str, Kind, int], ...]) -> Layout:
    found: dict[str, dict[str, Cell]] = {variable: {} for variable in variables}
    used: dict[Kind, int] = {}
    for variable, key, kind, length in signature:
        found[variable][key] = Cell(kind, used.get(kind, 0), length)
        used[kind] = used.get(kind, 0) + length
    return found


def packed(values: Mapping[str, Mapping[str, Any]]) -> Packed:
    """The values, packed unless they are."""
    return values if isinstance(values, Packed) else Packed(values)
