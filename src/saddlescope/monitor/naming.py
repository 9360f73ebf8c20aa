"""The numbers of a record on the host, and the one scheme of their names: ``group/variable/key/index``.

The group is modes, noise, rank or balance; the key is a weight, parameter, pair or interface; the index is that of a
mode, control or head, from 0. What a variable does not have is left out:

    noise/total_trace    balance/imbalance/blocks.0.attn.qk.h0    modes/mode_variance/fc1.weight/0

Alerts and loggers use these names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.variables import BALANCE, MODES, NOISE, RANK

Number = float | tuple[float, ...]
"""A number, or the numbers along the inner dim of a variable."""

Numbers = dict[str, dict[str, Number]]
"""Variable → key → number: the values of a record on the host."""


GROUPS: Mapping[str, Mapping[str, object]] = {"modes": MODES, "noise": NOISE, "rank": RANK, "balance": BALANCE}
"""Variables by group. The status of a weight is among its modes."""


def name(variable: str, key: str = "", index: int | None = None) -> str:
    """The name of one number.

    >>> name("total_trace"), name("imbalance", "qk.h0"), name("mode_variance", "fc1.weight", 0)
    ('noise/total_trace', 'balance/imbalance/qk.h0', 'modes/mode_variance/fc1.weight/0')
    """
    group = next((group for group, table in GROUPS.items() if variable in table), "modes")
    return "/".join((group, variable, *([key] if key else []), *([] if index is None else [str(index)])))


def on_host(values: Mapping[str, Mapping[str, Tensor]]) -> Numbers:
    """All values as Python floats, fetched from their device at once.

    >>> on_host({"mode_strength": {"fc": torch.tensor([2.0, 1.0])}, "total_trace": {"": torch.tensor(3.0)}})
    {'mode_strength': {'fc': (2.0, 1.0)}, 'total_trace': {'': 3.0}}
    """
    tensors = [tensor.detach() for by_key in values.values() for tensor in by_key.values()]
    fetched = iter(_fetched(tensors))
    return {variable: {key: next(fetched) for key in by_key} for variable, by_key in values.items()}


def _fetched(tensors: list[Tensor]) -> list[Number]:
    """Tensors as numbers, with one transfer per device."""
    flat: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        wide = torch.float32 if tensor.device.type == "mps" else torch.float64  # MPS has no double precision
        flat.setdefault(tensor.device, []).append(tensor.reshape(-1).to(wide))
    lists = {device: iter(torch.cat(parts).tolist()) for device, parts in flat.items()}
    found: list[Number] = []
    for tensor in tensors:
        source = lists[tensor.device]
        found.append(tuple(next(source) for _ in range(tensor.numel())) if tensor.dim() else next(source))
    return found


def named(numbers: Mapping[str, Mapping[str, Number]]) -> Iterator[tuple[str, float]]:
    """Every number with its name.

    >>> dict(named({"mode_strength": {"fc": (2.0, 1.0)}}))
    {'modes/mode_strength/fc/0': 2.0, 'modes/mode_strength/fc/1': 1.0}
    """
    for variable, by_key in numbers.items():
        for key, value in by_key.items():
            if isinstance(value, tuple):
                yield from ((name(variable, key, i), x) for i, x in enumerate(value))
            else:
                yield name(variable, key), value
