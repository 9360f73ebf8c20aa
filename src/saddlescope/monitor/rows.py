"""Whether the leading dimension of a layer's input counts samples.

Equal lengths are no proof: positions that are looked up, sequences that come first and tokens that were sorted or
routed can have as many rows as there are samples. The graph of the input, walked back, says how its rows were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from saddlescope.monitor._torch import Tensor

VIEWS = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0")
MOVES = ("Index", "Gather", "Sort", "Flip", "Roll", "Scatter", "Masked", "Take", "Embedding", "Repeat", "Expand")
"""Parts of the names of operations after which rows are others, or in another order."""

FAR = 400
"""Nodes that are walked back at most."""


def why_not_samples(x: Tensor, samples: int) -> str:
    """Why the rows of x (rows, …) are not samples, or samples × positions; empty if they are. The end of a sentence."""
    rows = len(x)
    if rows == samples:
        if x.dim() > 1 and x.shape[1] == samples and _swapped(x):
            return "has its dimensions exchanged, so that rows are positions; keep the batch first"
        if not x.is_floating_point() and _positions(x):
            return "looks up positions, one row for all samples"
        return "is given rows that were picked from others" if any(map(_picks, _back(x))) else ""
    if rows % max(samples, 1) or not _flattened(x, samples):
        return (
            f"has the leading dimension {rows} for {samples} samples, which it does not get by flattening (samples, "
            "positions); keep the batch as the leading dimension"
        )
    return ""


def _positions(ids: Tensor) -> bool:
    """Whether entries are those of positions: a run 0, 1, 2, …, or a function of the difference of two positions."""
    if len(ids) < 2:
        return False
    if ids.dim() == 1:
        return bool((ids.diff() == 1).all())
    return ids.dim() == 2 and ids.shape[0] == ids.shape[1] and bool((ids[1:, 1:] == ids[:-1, :-1]).all())


def _picks(node: Any) -> bool:
    """Whether rows were picked: by index, but not one entry of every row in turn."""
    if node.name() == "IndexSelectBackward0":
        return _signed(node._saved_dim) == 0
    if node.name() != "IndexBackward0" or not node._saved_indices or node._saved_indices[0] is None:
        return False
    first = node._saved_indices[0].reshape(-1)
    return len(first) != node._saved_self_sym_sizes[0] or not bool((first.diff() == 1).all())


def _flattened(x: Tensor, samples: int) -> bool:
    """Whether x is (samples, positions, …) with the first dimensions in one."""
    if x.grad_fn is None:
        base = x._base if x._is_view() else None
        whole = base is not None and base.numel() == x.numel() and base.is_contiguous() and x.is_contiguous()
        return whole and base is not None and base.dim() > 1 and len(base) == samples
    return flattened(x.grad_fn, len(x), samples)


def flattened(start: Any, rows: int, samples: int) -> bool:
    """Whether what a node made, which has so many rows, is (samples, positions, …) with the first dimensions in one."""
    for node in _back_from(start, rows):
        if any(move in node.name() for move in MOVES):
            return False
        if node.name() in VIEWS:
            before = node._saved_self_sym_sizes
            if before[0] == samples and len(before) > 1:
                return before[1] != samples or not _moved(_back_from(_before(node), samples))
            if before[0] != rows:
                return False
    return False


def unclear(x: Tensor, samples: int) -> bool:
    """Whether rows of indices, as many as samples, may be positions."""
    return len(x) == samples and (x.dim() == 1 or x.shape[1] == samples)


def turned(start: Any, samples: int) -> bool:
    """Whether what a node made has as many positions as samples, and its dimensions exchanged."""
    shape = tuple(start._input_metadata[0].shape) if hasattr(start, "_input_metadata") else ()
    return len(shape) > 1 and shape[0] == shape[1] == samples and _moved(_back_from(start, samples))


def first_dim(dim: int, dims: int) -> int:
    """A saved dimension counted from the first."""
    return _signed(dim) % dims


def _swapped(x: Tensor) -> bool:
    return _moved(_back(x))


def _moved(nodes: Iterator[Any]) -> bool:
    """Whether another dimension was the leading one before."""
    place = 0
    for node in nodes:
        if node.name() == "TransposeBackward0":
            dims = len(node._input_metadata[0].shape)
            pair = [_signed(dim) % dims for dim in (node._saved_dim0, node._saved_dim1)]
            place = pair[1 - pair.index(place)] if place in pair else place
        elif node.name() == "PermuteBackward0":
            order = [_signed(dim) % len(node._saved_dims) for dim in node._saved_dims]
            place = order[place] if place < len(order) else place
    return place != 0


def _signed(dim: int) -> int:
    """A dimension that autograd saved as an unsigned number."""
    return dim - 2**64 if dim >= 2**63 else dim


def _back(x: Tensor) -> Iterator[Any]:
    return _back_from(x.grad_fn, len(x))


def _back_from(node: Any, rows: int) -> Iterator[Any]:
    """The nodes that made a tensor with so many rows, each the first input of the one before that has them too."""
    for _ in range(FAR):
        if node is None or "AccumulateGrad" in node.name():
            return
        yield node
        if node.name() in VIEWS:
            node = _before(node)
            rows = 0 if node is None else _rows(node)
        else:
            made = (one for one, _ in node.next_functions if one is not None and _rows(one) == rows)
            node = next(made, None)


def _before(node: Any) -> Any:
    return node.next_functions[0][0] if node.next_functions else None


def _rows(node: Any) -> int:
    shapes = [one.shape for one in getattr(node, "_input_metadata", ())]
    return int(shapes[0][0]) if shapes and len(shapes[0]) else 0
