"""Uses of parameters that no layer owns up to: raw weights in einsum, ``nn.MultiheadAttention``, custom scales.

When the model returns, the graph of its output is walked from each of these parameters through views (permute, reshape,
select, …) to the operation that uses it. That node saves the other factor, and a hook on it sees the output gradient δ.
The views are undone by calling their own backward functions on the numbers 1, 2, 3, …: the result says which entry of
the operand is which entry of the parameter.

Which row of a flattened matrix belongs to which sample follows in the same way from the views above it, up to a tensor
that has the samples in front, or from a view that the product is given. In ``nn.MultiheadAttention`` and recurrent
layers rows are positions × samples. Where nothing shows it, and where a parameter meets other weights before it meets
data, it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor._torch import Tensor, torch, wide
from saddlescope.monitor.layers import NotSamples
from saddlescope.monitor.rows import flattened, why_not_samples
from saddlescope.monitor.uses import CHUNK, Heads, Lookup, Rows, Use, blocks

VIEWS = {
    *("View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Unsqueeze", "Squeeze"),
    *("Clone", "ToCopy", "Alias", "Select", "Slice", "AsStrided"),
}
"""Operations that only rearrange or select entries."""


PICKS = ("Embedding", "Index", "Gather", "Take", "Scatter", "Masked", "Where")
"""Parts of the names of operations that data may have entered without a graph."""


@dataclass(frozen=True, eq=False)
class Found:
    """A node that uses a parameter: ``use`` makes the use from its output gradients."""

    name: str
    node: Any
    use: Callable[[tuple[Tensor, ...]], Use]


@dataclass(frozen=True, eq=False)
class Operand:
    """A factor of a batched product: G_i is the sum over rows of ``left ⊗ right``, its entries rearranged.

    left (N, B, T, p) and right (N, B, T, q) give contributions to the operand (B, p, q); ``entries`` (m·n,) names for
    each entry of the parameter the one of the operand, from 1, with 0 where it has none.
    """

    left: Tensor
    right: Tensor
    entries: Tensor
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.left)

    def first(self, count: int) -> Operand:
        """The use on the first samples only."""
        return Operand(self.left[:count], self.right[:count], self.entries, self.shape)

    def formed(self) -> Tensor:
        """The per-sample contributions (N, m, n)."""
        G = torch.einsum("ibtp,ibtq->ibpq", self.left, self.right).flatten(1)
        return torch.nn.functional.pad(G, (1, 0))[:, self.entries].unflatten(1, self.shape)

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``u_αᵀG_iv_α`` (N, k)."""
        return self._each(lambda G: Formed(G).project(U, V))

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block (N, H)."""
        return self._each(lambda G: Formed(G).squares(heads))

    def _each(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        size = max(1, CHUNK // (self.shape[0] * self.shape[1]))
        return torch.cat([of(self._some(i, i + size).formed()) for i in range(0, len(self), size)])

    def _some(self, start: int, stop: int) -> Operand:
        return Operand(self.left[start:stop], self.right[start:stop], self.entries, self.shape)


@dataclass(frozen=True, eq=False)
class Formed:
    """Per-sample contributions g (N, m, n) that were formed."""

    g: Tensor

    def __len__(self) -> int:
        return len(self.g)

    def first(self, count: int) -> Formed:
        """The use on the first samples only."""
        return Formed(self.g[:count])

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``u_αᵀG_iv_α`` (N, k)."""
        return ((self.g @ V.to(self.g.dtype)) * U.to(self.g.dtype)).sum(1)

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block (N, H)."""
        return blocks(self.g.square(), heads)

    def formed(self) -> Tensor:
        """The per-sample contributions."""
        return self.g


def find(
    output: Iterable[Tensor],
    wanted: Mapping[int, tuple[str, bool]],
    samples: int,
    own: Iterable[Tensor] = (),
) -> list[Found]:
    """Nodes in the graph of an output that use the wanted parameters.

    ``wanted`` has by the id of a parameter its name, and whether its rows are positions × samples; ``own`` are
    parameters and buffers of the model. A parameter whose use is not understood is left out.
    """
    parents, leaves = _graph(tensor.grad_fn for tensor in output if tensor.grad_fn is not None)
    leaves = [leaf for leaf in leaves if id(leaf.variable) in wanted]
    data = _of_data(parents, {one.data_ptr() for one in own}) if leaves else set()
    found = []
    for leaf in leaves:
        name, by_position = wanted[id(leaf.variable)]
        for node, place, views in _sinks(leaf, parents):
            above = parents.get(node, ())
            use = _use(node, place, views, leaf.variable, samples, by_position, above)
            if use is not None:
                found.append(Found(name, node, use if node in data else _without_data))
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


def _sinks(leaf: Any, parents: Parents) -> Iterator[tuple[Any, int, tuple[Any, ...]]]:
    """Every operation that uses a parameter: its node, the place of the parameter, the views between, last first."""
    stack: list[tuple[Any, tuple[Any, ...]]] = [(leaf, ())]
    while stack:
        node, views = stack.pop()
        for parent, place in parents.get(node, ()):
            if _kind(parent) in VIEWS:
                stack.append((parent, (parent, *views)))
            else:
                yield parent, place, views


Maker = Callable[[tuple[Tensor, ...]], Use]


def _use(
    node: Any,
    place: int,
    views: tuple[Any, ...],
    parameter: Tensor,
    samples: int,
    by_position: bool,
    parents: Iterable[tuple[Any, int]],
) -> Maker | None:
    """The function that makes the use, None where it is not understood."""
    kind = _kind(node)
    shape = (len(parameter), parameter[0].numel()) if parameter.dim() > 1 else None

    def order_of(rows: Tensor, other: int, turned: bool = False) -> Tensor:
        split = by_position or any(_leads(above, samples) for above, _ in parents)
        split = split or flattened(node.next_functions[other][0], rows.shape[-2], samples)
        return _order(rows, _above(node, other), turned, samples, by_position, split)

    def product(gradients: tuple[Tensor, ...]) -> Use:
        d, first = gradients[0], int(kind in ("Addmm", "Baddbmm"))
        if place < first:
            return summed(_rows(d, samples, order_of(d, first)).flatten(1, 2))
        if place == first + 1:
            other = node._saved_mat1 if kind == "Addmm" else node._saved_self
            left, right, order = other, d, order_of(other, first)
        else:
            other = node._saved_mat2
            left, right, order = d.mT, other.mT, order_of(other.mT, first + 1, turned=True)
        left, right = (_rows(x, samples, order) for x in (left, right))
        entries = _entries(views, (left.shape[1], left.shape[3], right.shape[3]), d.dim() == 2, parameter)
        return Operand(left, right, entries, shape or (1, parameter.numel()))

    def added(gradients: tuple[Tensor, ...], factor: Tensor | None = None) -> Use:
        d = gradients[0] if factor is None else gradients[0] * factor
        return summed(_positions(d.to(wide(d.dtype)), samples, by_position))

    def summed(d: Tensor) -> Use:
        if views:
            raise NotSamples("is rearranged before it is added or multiplied")
        back = _unbroadcast(d, parameter.shape)
        return Rows((back.flatten(1),)) if shape is None else Formed(back.unflatten(1, (shape[0], -1)).flatten(2))

    def scaled(gradients: tuple[Tensor, ...]) -> Use:
        return added(gradients, node._saved_other if place == 0 else node._saved_self)

    def looked_up(gradients: tuple[Tensor, ...]) -> Use:
        ids = node._saved_indices[0] if kind == "Index" else node._saved_indices
        d = gradients[0]
        if views or len(ids) != samples or shape is None or parameter.dim() != 2:
            raise NotSamples(f"is looked up with indices of shape {tuple(ids.shape)} for {samples} samples")
        if why := why_not_samples(ids, samples):
            raise NotSamples(why)
        if getattr(node, "_saved_scale_grad_by_freq", False):
            raise NotSamples("has gradients divided by how often rows are looked up, which couples samples")
        if kind == "Embedding":
            d = d * (ids != node._saved_padding_idx).unsqueeze(-1) if node._saved_padding_idx < shape[0] else d
        return Lookup(ids.reshape(samples, -1), d.reshape(samples, -1, d.shape[-1]).to(wide(d.dtype)), shape[0])

    makers: dict[str, Maker] = {"Mm": product, "Bmm": product, "Addmm": product, "Baddbmm": product}
    makers |= {"Add": added, "Mul": scaled, "Index": looked_up, "Embedding": looked_up}
    return makers.get(kind)


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


def _order(rows: Tensor, views: tuple[Any, ...], turned: bool, samples: int, by_position: bool, known: bool) -> Tensor:
    """The rows (N·T,) of a factor ([B,] N·T, p), sorted by sample.

    ``turned`` if the operand is its transpose, ``known`` if samples and positions are seen to be in one dimension.
    """
    count = rows.shape[-2]
    if count % samples:
        raise NotSamples(f"meets a matrix of {count} rows for {samples} samples")
    numbers = torch.arange(count, dtype=torch.float64, device=rows.device)[:, None].expand(rows.shape) + 1
    before = _through(views, numbers.mT if turned else numbers) if views else numbers.new_zeros(0)
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


def _entries(views: tuple[Any, ...], operand: tuple[int, int, int], flat: bool, parameter: Tensor) -> Tensor:
    """For each entry of the parameter that of the operand, from 1; 0 where it has none."""
    count = operand[0] * operand[1] * operand[2]
    numbers = torch.arange(1.0, count + 1, dtype=torch.float64, device=parameter.device)
    entries = _through(views, numbers.reshape(operand[1:] if flat else operand)).reshape(-1).long()
    if entries.numel() != parameter.numel():
        raise NotSamples("is used in a way that is not understood")
    return entries


def _through(views: tuple[Any, ...], gradient: Tensor) -> Tensor:
    """The gradient of the parameter, from that of the operand."""
    for view in views:
        result = view(gradient)
        gradient = result[0] if isinstance(result, tuple) else result
    return gradient
