"""The test of a rescaling pair, and sums over its parts: one pass over every parameter for all pairs.

``loss(λu, w/λ) = loss(u, w)`` gives Euler's identity, at any weights and on any batch,

    u·g_u = w·g_w.

It holds to rounding for a true pair and fails for any other, so that the gradients at hand decide. A head's key bias
has gradient 0 (the softmax does not see it) and adds 0 to its side. ``rescaled`` is the same test with finite λ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from saddlescope.monitor._torch import Tensor, nn, torch, wide
from saddlescope.monitor.pairs import Pair, Part
from saddlescope.monitor.uses import Heads

SLACK, SLACK_HALF = 1000, 8
"""Rounding units that the backward pass may leave in the gradients. In half precision little room is left between the
rounding of a true pair and the defect of a false one."""
SMALL = 1 << 18
"""Numbers of a matrix of signs that is still faster than a sum over parts."""
RUN = 4096
"""Numbers that are summed up in single precision."""


def precise(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def block_dot(x: Tensor, y: Tensor, heads: Heads | None = None) -> Tensor:
    """``Σ xy`` over every block of a parameter, (H,), or over all of it, (1,), in at least single precision.

    >>> block_dot(torch.ones(2, 4), torch.ones(2, 4), Heads(2, "columns"))
    tensor([4., 4.])
    """
    if x.dtype.itemsize < 4:
        x, y = x.to(wide(x.dtype)), y.to(wide(y.dtype))
    if heads is None:
        flat = x.reshape(-1)
        return torch.dot(flat, flat if y is x else y.reshape(-1)).view(1)
    if heads.side == "rows" or x.dim() == 1:
        return torch.linalg.vecdot(x.reshape(heads.count, -1), y.reshape(heads.count, -1))
    return torch.linalg.vecdot(x.flatten(1), y.flatten(1), dim=0).view(heads.count, -1).sum(1)


def exact_dot(x: Tensor, y: Tensor, heads: Heads | None = None) -> Tensor:
    """``block_dot`` with sums of ``RUN`` numbers in their type and all further sums in double precision.

    A small part of the error of single precision, at a fraction of the time of copies in double precision.
    """
    exact = precise(x.device)
    if x.dtype == exact or x.numel() <= RUN:
        return block_dot(x.to(exact), y.to(exact), heads)
    x, y = x.to(wide(x.dtype)), y.to(wide(y.dtype))
    if heads is None or heads.side == "rows" or x.dim() == 1:
        count = heads.count if heads else 1
        x, y = x.reshape(count, -1), y.reshape(count, -1)
        whole = x.shape[1] // RUN * RUN
        runs = [part[:, :whole].unflatten(1, (-1, RUN)) for part in (x, y)] if whole else []
        rest = torch.linalg.vecdot(x[:, whole:], y[:, whole:]).to(exact)
        return rest + torch.linalg.vecdot(*runs).to(exact).sum(1) if runs else rest
    x, y = (part.flatten(1).unflatten(1, (heads.count, -1)) for part in (x, y))
    return torch.linalg.vecdot(x, y).to(exact).sum(0)


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the parts of P pairs lie in the list of all blocks of some parameters.

    ``places`` (P, most blocks) are positions in that list, one beyond its end for none; ``signs`` are 1 for u, −1 for
    w, 0 for none.
    """

    parameters: tuple[str, ...]
    heads: tuple[Heads | None, ...]
    places: Tensor
    signs: Tensor

    def differences(self, values: Sequence[Tensor]) -> Tensor:
        """``Σ_u − Σ_w`` (…, P) of numbers per block, one tensor (…, H) for every parameter."""
        if self._matrix is not None:  # one launch
            return torch.cat(list(values), -1).to(self.signs.dtype) @ self._matrix
        return (self._parts(values) * self.signs).sum(-1)

    @cached_property
    def _matrix(self) -> Tensor | None:
        """The signs as a matrix (blocks, P), if it is small."""
        count = sum(split.count if split else 1 for split in self.heads)
        if count * len(self.signs) > SMALL:
            return None
        whole = self.signs.new_zeros(count + 1, len(self.signs))
        whole.scatter_add_(0, self.places.T, self.signs.T)
        return whole[:-1]

    def sides(self, values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``Σ_u`` and ``Σ_w`` of numbers per block, each (…, P)."""
        parts = self._parts(values)
        return (parts * self.signs.clamp(min=0)).sum(-1), (parts * (-self.signs).clamp(min=0)).sum(-1)

    def dots(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> list[Tensor]:
        """Inner products per block of two lists of tensors, one of each for every parameter, in double precision."""
        return [exact_dot(*one) for one in zip(x, y, self.heads, strict=True)]

    def _parts(self, values: Sequence[Tensor]) -> Tensor:
        joined = torch.cat([*values, values[0].new_zeros(*values[0].shape[:-1], 1)], -1)
        return joined.to(self.signs.dtype)[..., self.places]


def layout(pairs: Sequence[Pair], heads: Mapping[str, Heads], device: torch.device) -> Layout:
    """The layout of pairs; ValueError where a pair names a head that its parameter has not.

    >>> pair = Pair("a~b", (Part("a"), Part("c", 1)), (Part("b"),), "declared")
    >>> layout([pair], {"c": Heads(3, "rows")}, torch.device("cpu")).places
    tensor([[0, 2, 4]])
    """
    parameters = tuple(dict.fromkeys(name for pair in pairs for name in pair.parameters))
    split = tuple(heads.get(name) for name in parameters)
    counts = [one.count if one else 1 for one in split]
    ends = list(accumulate(counts))
    blocks = {name: range(end - count, end) for name, count, end in zip(parameters, counts, ends, strict=True)}
    whole = {name for name, one in zip(parameters, split, strict=True) if one is None}
    rows = [list(_places(pair, blocks, whole)) for pair in pairs]
    most = max(map(len, rows), default=0)
    padded = [row + [(sum(counts), 0)] * (most - len(row)) for row in rows]
    table = torch.tensor(padded, dtype=torch.int64).reshape(len(pairs), most, 2)
    return Layout(parameters, split, table[..., 0].to(device), table[..., 1].to(device, precise(device)))


def _places(pair: Pair, blocks: Mapping[str, range], whole: set[str]) -> Iterator[tuple[int, int]]:
    """Position and sign of every block of a pair; a part without a head is all blocks of its parameter."""
    for sign, parts in ((1, pair.u), (-1, pair.w)):
        for part in parts:
            own = blocks[part.parameter]
            if part.head is None:
                yield from ((place, sign) for place in own)
            elif 0 <= part.head < len(own) and part.parameter not in whole:
                yield own[part.head], sign
            else:
                count = 0 if part.parameter in whole else len(own)
                raise ValueError(
                    f"pair {pair.name!r} names head {part.head} of {part.parameter!r}, which has {count}; "
                    f"say by heads={{{part.parameter!r}: (count, side)}} how it is split"
                )


def tolerance(layout: Layout, weights: Mapping[str, Tensor], precision: float) -> Tensor:
    """The defect (P,) that rounding explains: ``slack · ε/√n`` for n weights and signals with the rounding unit ε.

    The rounding errors of single gradients average out in u·g_u.
    """
    sizes = [
        torch.full((split.count if split else 1,), weights[name].numel() / (split.count if split else 1))
        for name, split in zip(layout.parameters, layout.heads, strict=True)
    ]
    slack = SLACK_HALF if precision > torch.finfo(torch.float32).eps else SLACK
    counts = sum(layout.sides([size.to(layout.signs.device) for size in sizes]))
    return slack * precision / torch.as_tensor(counts).sqrt()


def defect(layout: Layout, euler: Sequence[Tensor], weights2: Sequence[Tensor], gradients2: Sequence[Tensor]) -> Tensor:
    """``|u·g_u − w·g_w| / (‖u‖‖g_u‖ + ‖w‖‖g_w‖)`` (P,) from θ·g, ‖θ‖² and ‖g‖² of every block.

    NaN where both terms of the denominator are 0: such a batch says nothing.
    """
    sizes = zip(layout.sides(weights2), layout.sides(gradients2), strict=True)
    scale = torch.stack([(weight * gradient).sqrt() for weight, gradient in sizes]).sum(0)
    return torch.where(scale > 0, layout.differences(euler).abs() / scale, torch.nan)


def symmetry_defect(layout: Layout, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Tensor:
    """The defect of Euler's identity (P,) of gradients by the name of the parameter.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    >>> net(torch.ones(5, 3).double()).square().sum().backward()
    >>> pair = Pair("0~2", (Part("0.weight"), Part("0.bias")), (Part("2.weight"),), "layers")
    >>> weights = dict(net.named_parameters())
    >>> found = symmetry_defect(
    ...     layout([pair], {}, torch.device("cpu")), weights, {name: weights[name].grad for name in weights}
    ... )
    >>> found.item() < 1e-15
    True
    """
    x, g = ([given[name].detach() for name in layout.parameters] for given in (weights, gradients))
    return defect(layout, layout.dots(x, g), layout.dots(x, x), layout.dots(g, g))


@contextmanager
def rescaled(model: nn.Module, pair: Pair, factor: float, heads: Mapping[str, Heads] | None = None) -> Iterator[None]:
    """The model with u multiplied and w divided by a factor; the weights come back to the last bit."""
    weights = dict(model.named_parameters())
    kept = {name: weights[name].detach().clone() for name in pair.parameters}
    try:
        with torch.no_grad():
            for parts, by in ((pair.u, factor), (pair.w, 1 / factor)):
                for part in parts:
                    _block(weights[part.parameter], part, heads or {}).mul_(by)
        yield
    finally:
        with torch.no_grad():
            for name, old in kept.items():
                weights[name].copy_(old)


def _block(weight: Tensor, part: Part, heads: Mapping[str, Heads]) -> Tensor:
    """The view of a part in its parameter."""
    if part.head is None:
        return weight.data
    split = heads[part.parameter]
    matrix = weight.data.view(len(weight), -1) if weight.dim() > 1 else weight.data
    axis = 0 if split.side == "rows" or weight.dim() == 1 else 1
    return matrix.unflatten(axis, (split.count, -1)).select(axis, part.head)
