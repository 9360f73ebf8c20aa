"""Uses of parameters that no layer owns up to: raw weights in einsum, ``nn.MultiheadAttention``, custom scales.

When the model returns, the graph of its output is walked from each of these parameters through views (permute, reshape,
select, …) to the operation that uses it. That node saves the other factor, and a hook on it sees the output gradient δ.
The views are undone by calling their own backward functions on the numbers 1, 2, 3, …: the result says which entry of
the operand is which entry of the parameter.

Which row of a flattened matrix belongs to which sample follows in the same way from the views above it, up to a tensor
that has the samples in front, or from a view that the product is given. In ``nn.MultiheadAttention`` and recurrent
layers rows are positions × samples. Where nothing shows it, and where a parameter meets other weights before it meets
data, it is refused.

What is the same for all samples, such as the embedding of positions, is broadcast to them by an addition or an
``expand``: the gradient of its result has the samples in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from saddlescope.monitor._torch import Tensor, torch, wide
from saddlescope.monitor.layers import NotSamples
from saddlescope.monitor.rows import first_dim, flattened, turned, why_not_samples
from saddlescope.monitor.uses import Distinct, Formed, Lookup, Operand, Rows, Use

VIEWS = {
    *("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Unsqueeze", "Squeeze"),
    *("Clone", "ToCopy", "Alias", "Select", "Slice", "AsStrided"),
}
"""Operations that only rearrange or select entries."""


SAME = ("Clone", "ToCopy", "Alias", "Add")
"""Operations that leave entries where they are; an addition is passed if its result has the shape of its operand."""

LOOKUPS, STRETCHES = ("Embedding", "Index"), ("Expand", "Repeat")

PICKS = ("Embedding", "Index", "Gather", "Take", "Scatter", "Masked", "Where")
"""Parts of the names of operations that data may have entered without a graph."""


@dataclass(frozen=True, eq=False)
class Found:
    """A node that uses a parameter: ``use`` makes the use from its output gradients."""

    name: str
    node: Any
    use: Callable[[tuple[Tensor, ...]], Use]
    lookup: Any = None
    """The node of a lookup that is the same for all samples."""


def find(
    output: Iterable[Tensor],
    wanted: Mapping[int, tuple[str, bool]],
    samples: int,
    own: Iterable[Tensor] = (),
    lookups: Mapping[Any, str] = MappingProxyType({}),
) -> list[Found]:
    """Nodes in the graph of an output that use the wanted parameters.

    ``wanted`` has by the id of a parameter its name, and whether its rows are positions × samples; ``own`` are
    parameters and buffers of the model. ``lookups`` are nodes that may look up the same rows for all samples, and the
    name of the table. A parameter whose use is not understood is left out.
    """
    parents, leaves = _graph(tensor.grad_fn for tensor in output if tensor.grad_fn is not None)
    leaves = [leaf for leaf in leaves if id(leaf.variable) in wanted]
    data = _of_data(parents, {one.data_ptr() for one in own}) if leaves or lookups else set()
    found = [one for node, name in lookups.items() for one in _broadcast_rows(name, node, parents, samples, data)]
    for leaf in leaves:
        name, by_position = wanted[id(leaf.variable)]
        for sink in _sinks(leaf, parents, samples):
            once = [] if sink.views else _broadcast_rows(name, sink.node, parents, samples, data)
            use = None if once else _use(sink, leaf.variable, samples, by_position, parents, data)
            if use is not None:
                met = sink.node in data or _kind(sink.node) in STRETCHES
                once = [Found(name, sink.node, use if met else _without_data)]
            found += once
    return found


def _without_data(gradients: tuple[Tensor, ...]) -> Use:
    raise NotSamples("meets other weights before it meets the data, so that its rows are no samples")


def _of_data(parents: Parents, own: set[int]) -> set[Any]:
    """The nodes whose result may depend on the batch: those with an input that is no weight, and all above them."""
    nodes = {one for above in parents.values() for one, _ in above}
    waiting = [node for node in nodes if any(part in node.name() for part in PICKS) or _meets(node, own)]
    found: set[Any] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [above for above, _ in parents.get(node, ())]
    return found


def _meets(node: Any, own: set[int]) -> bool:
    """Whether an input without a graph may be data: it is neither a number nor stored in the model."""
    if all(below is not None for below, _ in node.next_functions):
        return False
    if _kind(node) not in ("Mm", "Bmm", "Mul", "Div"):
        return True
    saved = [getattr(node, f"_saved_{name}", None) for name in ("self", "mat2", "other")]
    return any(isinstance(one, Tensor) and one.dim() and one.data_ptr() not in own for one in saved)


Parents = dict[Any, list[tuple[Any, int]]]
"""Node → the nodes that use its result, and at which place of theirs."""


def _graph(roots: Iterable[Any]) -> tuple[Parents, list[Any]]:
    """The parents of every node of a graph, and its leaves."""
    parents: Parents = {}
    leaves, stack, seen = [], list(roots), set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node)
        for place, (below, _) in enumerate(node.next_functions):
            if below is not None:
                parents.setdefault(below, []).append((node, place))
                stack.append(below)
    return parents, leaves


def _kind(node: Any) -> str:
    return str(node.name()).partition("Backward")[0]


@dataclass(frozen=True, eq=False)
class Sink:
    """A node that uses a tensor: at which place, through which views (last first), and its shape after these."""

    node: Any
    place: int
    views: tuple[Any, ...]
    shape: torch.Size


def _sinks(start: Any, parents: Parents, samples: int) -> Iterator[Sink]:
    """Every operation that uses what a node made."""
    stack: list[tuple[Any, tuple[Any, ...]]] = [(start, ())]
    while stack:
        node, views = stack.pop()
        shape = node.variable.shape if hasattr(node, "variable") else _made(node)
        for parent, place in parents.get(node, ()):
            kind = _kind(parent)
            passed = kind == "Add" and _made(parent) == shape and _alpha(parent, place) == 1
            if kind in VIEWS or (passed and not _widened(_made(parent), shape, samples)):
                stack.append((parent, (parent, *views)))
            else:
                yield Sink(parent, place, views, shape)


def _made(node: Any) -> torch.Size:
    """The shape of what a node made."""
    return torch.Size(node._input_metadata[0].shape)


def _alpha(node: Any, place: int) -> float:
    """The factor of an operand of an addition."""
    return float(node._saved_alpha) if place == 1 else 1.0


def _widened(result: torch.Size, shape: torch.Size, samples: int) -> bool:
    """Whether a tensor of this shape was broadcast to samples in front of the result."""
    leads = len(result) > 0 and result[0] == samples
    return leads and (len(result) > len(shape) or (len(result) == len(shape) and shape[0] == 1))


def _to_samples(sink: Sink, samples: int, parents: Parents, data: set[Any]) -> bool:
    """Whether an addition or an ``expand`` broadcasts a tensor to the samples, and not to positions."""
    node = sink.node
    if not _widened(_made(node), sink.shape, samples):
        return False
    if _kind(node) == "Add":
        return not turned(node.next_functions[1 - sink.place][0], samples)
    above = parents.get(node, ()) if _kind(node) in STRETCHES else ()
    return bool(above) and all(_beside_samples(one, at, _made(node), samples, data) for one, at in above)


def _beside_samples(node: Any, place: int, shape: torch.Size, samples: int, data: set[Any]) -> bool:
    """Whether a tensor of this shape is joined with data that have the samples in front too."""
    joined = _kind(node) in ("Add", "Mul") or (_kind(node) == "Cat" and first_dim(node._saved_dim, len(shape)) != 0)
    if not joined or len(_made(node)) != len(shape) or _made(node)[0] != samples:
        return False
    others = [one for at, (one, _) in enumerate(node.next_functions) if at != place]
    return any(one is None or one in data for one in others) and not any(turned(one, samples) for one in others)


def _broadcast_rows(name: str, node: Any, parents: Parents, samples: int, data: set[Any]) -> list[Found]:
    """The uses of a table in which the same rows are looked up for all samples; empty where this is not seen."""
    if _kind(node) not in LOOKUPS:
        return []
    sinks = list(_sinks(node, parents, samples))
    if not sinks or not all(_to_samples(sink, samples, parents, data) for sink in sinks):
        return []
    return [Found(name, sink.node, partial(_rows_of_all, node, sink), node) for sink in sinks]


def _rows_of_all(node: Any, sink: Sink, gradients: tuple[Tensor, ...]) -> Use:
    """Rows that are looked up once for all samples, each counted once."""
    ids, count = _looked_up(node)
    d = gradients[0] * _alpha(sink.node, sink.place) if _kind(sink.node) == "Add" else gradients[0]
    back = _unbroadcast(d.to(wide(d.dtype)), sink.shape).flatten(1)
    made = _made(node)
    if sink.views:
        back = torch.nn.functional.pad(back, (1, 0))[:, _entries(sink.views, sink.shape, made.numel(), d.device)]
    kept, place = ids.reshape(-1).unique(return_inverse=True)
    each = back.reshape(len(d), -1, made[-1])
    each = each.new_zeros(len(d), len(kept), made[-1]).index_add_(1, place, each)
    if _kind(node) == "Embedding":
        each = each * (kept != node._saved_padding_idx).unsqueeze(-1) if node._saved_padding_idx < count else each
    return Distinct(kept.expand(len(d), -1), each, count)


def _looked_up(node: Any) -> tuple[Tensor, int]:
    """Indices of a lookup, and the number of rows of its table."""
    if getattr(node, "_saved_scale_grad_by_freq", False):
        raise NotSamples("has gradients divided by how often rows are looked up, which couples samples")
    if _kind(node) == "Embedding":
        return node._saved_indices, int(node._saved_weight_sym_argsize_0)
    sizes = node._saved_self_sym_sizes
    if len(node._saved_indices) != 1 or len(sizes) != 2 or node._saved_indices[0].dtype == torch.bool:
        raise NotSamples("is indexed in another way than by rows")
    ids = node._saved_indices[0]
    return torch.where(ids < 0, ids + sizes[0], ids), int(sizes[0])


Maker = Callable[[tuple[Tensor, ...]], Use]


def _use(
    sink: Sink, parameter: Tensor, samples: int, by_position: bool, parents: Parents, data: set[Any]
) -> Maker | None:
    """The function that makes the use, None where it is not understood."""
    node, place, views, kind = sink.node, sink.place, sink.views, _kind(sink.node)
    shape = (len(parameter), parameter[0].numel()) if parameter.dim() > 1 else None

    def order_of(rows: Tensor, other: int, flip: bool = False) -> Tensor:
        split = by_position or any(_leads(above, samples) for above, _ in parents.get(node, ()))
        split = split or flattened(node.next_functions[other][0], rows.shape[-2], samples)
        return _order(rows, _above(node, other), flip, samples, by_position, split)

    def product(gradients: tuple[Tensor, ...]) -> Use:
        d, first = gradients[0], int(kind in ("Addmm", "Baddbmm"))
        if place < first:
            return summed(_rows(d, samples, order_of(d, first)).flatten(1, 2))
        if place == first + 1:
            other = node._saved_mat1 if kind == "Addmm" else node._saved_self
            left, right, order = other, d, order_of(other, first)
        else:
            other = node._saved_mat2
            left, right, order = d.mT, other.mT, order_of(other.mT, first + 1, flip=True)
        left, right = (_rows(x, samples, order) for x in (left, right))
        operand = (left.shape[1], left.shape[3], right.shape[3])
        entries = _entries(views, operand[1:] if d.dim() == 2 else operand, parameter.numel(), d.device)
        return Operand(left, right, entries, shape or (1, parameter.numel()))

    def added(gradients: tuple[Tensor, ...]) -> Use:
        d = gradients[0] * _alpha(node, place)
        return beside(d)

    def scaled(gradients: tuple[Tensor, ...]) -> Use:
        d = gradients[0] * (node._saved_other if place == 0 else node._saved_self)
        return beside(d)

    def beside(d: Tensor) -> Use:
        other = node.next_functions[1 - place][0]
        if not by_position and turned(other, samples):
            raise NotSamples("meets positions × samples; keep the batch first")
        if not by_position and d.dim() == 2 and len(d) != samples and not flattened(other, len(d), samples):
            raise NotSamples(f"meets {len(d)} rows that are not seen to be {samples} samples × positions")
        return summed(_positions(d.to(wide(d.dtype)), samples, by_position))

    def stretched(gradients: tuple[Tensor, ...]) -> Use:
        if not _to_samples(sink, samples, parents, data):
            raise NotSamples("is expanded to what is not seen to be the samples")
        return summed(gradients[0].to(wide(gradients[0].dtype)))

    def summed(d: Tensor) -> Use:
        back = _unbroadcast(d, sink.shape)
        if not views:
            return Rows((back.flatten(1),)) if shape is None else Formed(back.unflatten(1, (shape[0], -1)).flatten(2))
        entries = _entries(views, sink.shape, parameter.numel(), d.device)
        if shape is None:
            return Rows((torch.nn.functional.pad(back.flatten(1), (1, 0))[:, entries],))
        return Operand(back.new_ones(len(back), 1, 1, 1), back.reshape(len(back), 1, 1, -1), entries, shape)

    def looked_up(gradients: tuple[Tensor, ...]) -> Use:
        ids, count = _looked_up(node)
        d = gradients[0]
        if views or len(ids) != samples or shape is None or parameter.dim() != 2:
            raise NotSamples(f"is looked up with indices of shape {tuple(ids.shape)} for {samples} samples")
        if why := why_not_samples(ids, samples):
            raise NotSamples(why)
        if kind == "Embedding":
            d = d * (ids != node._saved_padding_idx).unsqueeze(-1) if node._saved_padding_idx < count else d
        return Lookup(ids.reshape(samples, -1), d.reshape(samples, -1, d.shape[-1]).to(wide(d.dtype)), count)

    makers: dict[str, Maker] = {"Mm": product, "Bmm": product, "Addmm": product, "Baddbmm": product}
    makers |= {"Add": added, "Mul": scaled, "Index": looked_up, "Embedding": looked_up}
    return (makers | dict.fromkeys(STRETCHES, stretched)).get(kind)


def _leads(node: Any, samples: int) -> bool:
    """Whether a node makes a view that has the samples in front."""
    shape = node._input_metadata[0].shape
    return _kind(node) in ("View", "UnsafeView", "ReshapeAlias") and len(shape) > 1 and shape[0] == samples


def _positions(d: Tensor, samples: int, by_position: bool) -> Tensor:
    """An output gradient with the samples in front: (N, …) or (T, N, …), or flattened rows (N·T, q) as (N, T, q)."""
    if d.dim() > 2 and by_position:
        d = d.transpose(0, 1)
    if len(d) == samples and (d.dim() > 2 or not by_position):
        return d
    if d.dim() != 2 or len(d) % samples:
        raise NotSamples(f"meets a gradient of shape {tuple(d.shape)} for {samples} samples")
    return d.unflatten(0, (-1, samples)).transpose(0, 1) if by_position else d.unflatten(0, (samples, -1))


def _unbroadcast(d: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The gradient (N, …) of something of this shape that was broadcast to every sample, per sample."""
    target = shape[1:] if len(shape) == d.dim() and shape[0] == 1 else shape
    extra = d.dim() - 1 - len(target)
    if extra < 0:
        raise NotSamples(f"of shape {tuple(shape)} meets a gradient of shape {tuple(d.shape)}")
    d = d.sum(tuple(range(1, 1 + extra))) if extra else d
    stretched = tuple(1 + i for i, size in enumerate(target) if size == 1 and d.shape[1 + i] > 1)
    d = d.sum(stretched, keepdim=True) if stretched else d
    return d.reshape(len(d), *shape)


def _rows(x: Tensor, samples: int, order: Tensor) -> Tensor:
    """A factor ([B,] N·T, p) as (N, B, T, p), widened; ``order`` are the rows of the first sample, of the second, …"""
    x = x.unsqueeze(0) if x.dim() == 2 else x
    return x[:, order].unflatten(1, (samples, -1)).transpose(0, 1).to(wide(x.dtype))


def _above(node: Any, place: int) -> tuple[Any, ...]:
    """The views that a factor of a product has come through, last first."""
    views: list[Any] = []
    above = node.next_functions[place][0]
    while above is not None and _kind(above) in VIEWS:
        views.append(above)
        above = above.next_functions[0][0]
    return tuple(views)


def _order(rows: Tensor, views: tuple[Any, ...], flip: bool, samples: int, by_position: bool, known: bool) -> Tensor:
    """The rows (N·T,) of a factor ([B,] N·T, p), sorted by sample.

    ``flip`` if the operand is its transpose, ``known`` if samples and positions are seen to be in one dimension.
    """
    count = rows.shape[-2]
    if count % samples:
        raise NotSamples(f"meets a matrix of {count} rows for {samples} samples")
    numbers = torch.arange(count, dtype=torch.float64, device=rows.device)[:, None].expand(rows.shape) + 1
    before = _through(views, numbers.mT if flip else numbers) if views else numbers.new_zeros(0)
    if before.dim() > 1 and len(before) == samples and before.numel() == rows.numel():
        row = before.flatten(1).long() - 1
        sample = torch.arange(samples, device=rows.device)[:, None].expand(row.shape)
        owner = torch.zeros(count, dtype=torch.int64, device=rows.device).scatter_(
            0, row.reshape(-1), sample.reshape(-1)
        )
        if bool((owner[row] != sample).any()) or bool((owner.bincount(minlength=samples) != count // samples).any()):
            raise NotSamples("meets rows that belong to several samples")
        return owner.argsort(stable=True)
    if count != samples and not known:
        raise NotSamples(f"meets a matrix of {count} rows that are not seen to be {samples} samples × positions")
    split = torch.arange(count, device=rows.device)
    return split.unflatten(0, (-1, samples)).T.reshape(-1) if by_position else split


def _entries(views: tuple[Any, ...], operand: tuple[int, ...], wanted: int, device: Any) -> Tensor:
    """For each of the wanted entries before the views that of the operand, from 1; 0 where it has none."""
    numbers = torch.arange(1.0, math.prod(operand) + 1, dtype=torch.float64, device=device)
    entries = _through(views, numbers.reshape(operand)).reshape(-1).long()
    if entries.numel() != wanted:
        raise NotSamples("is used in a way that is not understood")
    return entries


def _through(views: tuple[Any, ...], gradient: Tensor) -> Tensor:
    """The gradient of the parameter, from that of the operand."""
    for view in (one for one in views if _kind(one) not in SAME):
        result = view(gradient)
        gradient = result[0] if isinstance(result, tuple) else result
    return gradient
