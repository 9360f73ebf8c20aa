"""How a parameter was used in one backward pass, and what follows for every sample without per-sample gradients.

A use in a linear map has inputs a (N, T, n) and output gradients δ (N, T, m): sample i contributes
``G_i = Σ_t δ_it a_itᵀ`` (m × n), which is never formed unless that is cheaper. From a and δ follow

    projections   uᵀG_iv = Σ_t (δ_it·u)(a_it·v),
    squares       ‖G_i‖² = Σ_tt' (δ_it·δ_it')(a_it·a_it')        (Gram matrices over t, or G_i formed in blocks),
    inner         ⟨G_i, G'_i⟩ = Σ_tt' (δ_it·δ'_it')(a_it·a'_it')  of two uses of the same parameter.

A lookup (embedding) is such a map with one-hot inputs. Of vectors (biases, scales of a norm) the per-sample gradients
are formed: they are no larger than the signals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

from saddlescope.monitor._torch import Tensor, torch

CHUNK = 1 << 22
"""Numbers in one block of per-sample gradients that are formed."""


@dataclass(frozen=True)
class Heads:
    """Equal blocks of a matrix: of its "rows" or its "columns", one block per attention head."""

    count: int
    side: str


class Use(Protocol):
    """One use of a parameter, on all samples of a backward pass."""

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``u_αᵀG_iv_α`` (N, k) for the columns of U (m, k) and V (n, k)."""
        ...

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block (N, H)."""
        ...

    def first(self, count: int) -> Use:
        """The use on the first samples only."""
        ...

    def formed(self) -> Tensor:
        """The per-sample contributions (N, m, n), or (N, m) of a vector."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Outer:
    """A linear map: inputs a (N, T, n), output gradients d (N, T, m)."""

    a: Tensor
    d: Tensor

    def __len__(self) -> int:
        return len(self.a)

    def first(self, count: int) -> Outer:
        """The use on the first samples only."""
        return self if count >= len(self) else Outer(self.a[:count], self.d[:count])

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``Σ_t (δ_it·u_α)(a_it·v_α)`` (N, k)."""
        return ((self.d @ U.to(self.d.dtype)) * (self.a @ V.to(self.a.dtype))).sum(1)

    @cached_property
    def gram(self) -> Tensor:
        """``a_it·a_it'`` (N, T, T)."""
        return self.a @ self.a.mT

    @property
    def small_grams(self) -> bool:
        """Whether Gram matrices take fewer operations than the per-sample gradients."""
        T, m, n = self.d.shape[1], self.d.shape[2], self.a.shape[2]
        return T * (m + n) <= m * n

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block of rows or columns (N, H)."""
        if self.a.shape[1] == 1:
            return _split(self.d[:, 0].square(), self.a[:, 0].square(), heads)
        if not self.small_grams:
            return _in_chunks(self, lambda G: blocks(G.square(), heads))
        if heads is None:
            return torch.linalg.vecdot(self.gram.flatten(1), (self.d @ self.d.mT).flatten(1)).unsqueeze(1)
        whole, parts = (self.gram, self.d) if heads.side == "rows" else (self.d @ self.d.mT, self.a)
        each = parts.unflatten(2, (heads.count, -1)).unbind(2)
        return torch.stack([((x @ x.mT) * whole).sum((1, 2)) for x in each], 1)

    def formed(self) -> Tensor:
        """The per-sample contributions ``Σ_t δ_it a_itᵀ`` (N, m, n)."""
        return self.d.mT @ self.a


@dataclass(frozen=True, eq=False)
class Lookup:
    """A table: rows ids (N, T) of m, output gradients d (N, T, n)."""

    ids: Tensor
    d: Tensor
    rows: int

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Lookup:
        """The use on the first samples only."""
        return replace(self, ids=self.ids[:count], d=self.d[:count])

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``Σ_t u_α[id_it] (δ_it·v_α)`` (N, k)."""
        return (U.to(self.d.dtype)[self.ids] * (self.d @ V.to(self.d.dtype))).sum(1)

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block of columns (N, H)."""
        same = self.ids[:, :, None] == self.ids[:, None, :]
        parts = [self.d] if heads is None else self.d.unflatten(2, (heads.count, -1)).unbind(2)
        return torch.stack([((x @ x.mT) * same).sum((1, 2)) for x in parts], 1)

    def formed(self) -> Tensor:
        """The per-sample contributions (N, m, n)."""
        G = self.d.new_zeros(len(self), self.rows, self.d.shape[2])
        return G.scatter_add_(1, self.ids[:, :, None].expand_as(self.d), self.d)


@dataclass(frozen=True, eq=False)
class Distinct(Lookup):
    """A lookup of rows of which no two are the same."""

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖² = Σ_t ‖δ_it‖²`` (N, 1), or of every block of columns (N, H)."""
        return blocks(self.d.square(), heads)


@dataclass(frozen=True, eq=False)
class Rows:
    """A vector whose per-sample contributions g (N, m) are formed from parts (N, …) when they are asked for."""

    parts: tuple[Tensor, ...]
    form: Callable[..., Tensor] = lambda g: g

    def __len__(self) -> int:
        return len(self.parts[0])

    @cached_property
    def g(self) -> Tensor:
        """The contributions (N, m)."""
        return self.form(*self.parts)

    def first(self, count: int) -> Rows:
        """The use on the first samples only."""
        return self if count >= len(self) else Rows(tuple(part[:count] for part in self.parts), self.form)

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """A vector has no singular directions."""
        raise TypeError("a vector has no singular directions")

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block (N, H)."""
        if heads is None:
            return self.g.square().sum(1, keepdim=True)
        return self.g.square().unflatten(1, (heads.count, -1)).sum(2)

    def formed(self) -> Tensor:
        """The per-sample contributions (N, m)."""
        return self.g


@dataclass(frozen=True, eq=False)
class Filter:
    """A convolution: padded inputs a (N, C, *space), output gradients d (N, m, *positions), and how it slides.

    The weight as a matrix is (m, C/groups · kernel). Projections need no unfolded inputs: ``a·v`` is a convolution with
    k filters.
    """

    a: Tensor
    d: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def __len__(self) -> int:
        return len(self.a)

    def first(self, count: int) -> Filter:
        """The use on the first samples only."""
        return Filter(self.a[:count], self.d[:count], self.kernel, self.stride, self.dilation, self.groups)

    def project(self, U: Tensor, V: Tensor) -> Tensor:
        """``u_αᵀG_iv_α`` (N, k): filters v_α on the inputs, times u_α on the output gradients."""
        dims, k, groups = len(self.kernel), V.shape[1], self.groups
        convolve = getattr(torch.nn.functional, f"conv{dims}d")
        filters = V.to(self.a.dtype).T.reshape(k, self.a.shape[1] // groups, *self.kernel)
        filters = filters.repeat(groups, *(1,) * (dims + 1))
        seen = convolve(self.a, filters, None, self.stride, 0, self.dilation, groups).flatten(2)[..., : self._positions]
        back = self.d.flatten(2).unflatten(1, (groups, -1))
        u = U.to(self.d.dtype).unflatten(0, (groups, -1))
        return torch.einsum("ngmt,gmk,ngkt->nk", back, u, seen.unflatten(1, (groups, k)))

    @property
    def _positions(self) -> int:
        return self.d.flatten(2).shape[2]

    def maps(self) -> list[Outer]:
        """The linear maps of the groups, on unfolded inputs."""
        patches = _unfold(self.a, self.kernel, self.stride, self.dilation).mT
        return [
            Outer(a, d)
            for a, d in zip(patches.chunk(self.groups, 2), self.d.flatten(2).mT.chunk(self.groups, 2), strict=True)
        ]

    def squares(self, heads: Heads | None = None) -> Tensor:
        """``‖G_i‖²`` (N, 1), or of every block of rows or columns (N, H)."""
        if heads is None:
            return torch.stack([one.squares() for one in self.maps()]).sum(0)
        return blocks(self.formed().square(), heads)

    def formed(self) -> Tensor:
        """The per-sample contributions (N, m, C/groups · kernel)."""
        return torch.cat([one.formed() for one in self.maps()], 1)


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


def inner(one: Use, other: Use, heads: Heads | None = None) -> Tensor:
    """``⟨G_i, G'_i⟩`` (N, 1), or of every block (N, H), of two uses of the same parameter on the same samples."""
    if heads is None and isinstance(one, Outer) and isinstance(other, Outer):
        return ((one.a @ other.a.mT) * (one.d @ other.d.mT)).sum((1, 2)).unsqueeze(1)
    if heads is None and isinstance(one, Outer) and isinstance(other, Lookup):
        one, other = other, one
    if heads is None and isinstance(one, Lookup) and isinstance(other, Outer):
        rows = torch.gather(other.d, 2, one.ids[:, None, :].expand(-1, other.d.shape[1], -1))
        return (rows * (other.a @ one.d.mT)).sum((1, 2)).unsqueeze(1)
    G, other_G = one.formed(), other.formed()
    if G.dim() == 2:
        return (G * other_G).unflatten(1, (heads.count if heads else 1, -1)).sum(2)
    return blocks(G * other_G, heads)


def _split(rows: Tensor, columns: Tensor, heads: Heads | None) -> Tensor:
    """Sums of the outer product of rows (N, m) and columns (N, n) over blocks, (N, H)."""
    if heads is None:
        return rows.sum(1, keepdim=True) * columns.sum(1, keepdim=True)
    if heads.side == "columns":
        rows, columns = columns, rows
    return rows.unflatten(1, (heads.count, -1)).sum(2) * columns.sum(1, keepdim=True)


def blocks(squares: Tensor, heads: Heads | None) -> Tensor:
    """Sums of (N, m, n) over blocks of rows or columns, (N, H)."""
    if heads is None:
        return squares.sum((1, 2)).unsqueeze(1)
    if heads.side == "rows":
        return squares.unflatten(1, (heads.count, -1)).sum((2, 3))
    return squares.unflatten(2, (heads.count, -1)).sum((1, 3))


def _in_chunks(use: Outer, of: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of the formed contributions, some samples at a time so that memory stays bounded."""
    size = max(1, CHUNK // (use.a.shape[2] * use.d.shape[2]))
    return torch.cat([of(Outer(a, d).formed()) for a, d in zip(use.a.split(size), use.d.split(size), strict=True)])


def _unfold(a: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    """Patches of padded inputs (N, C · kernel, positions), channels first, in any number of dims."""
    patches = a
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        patches = patches.unfold(2 + axis, gap * (size - 1) + 1, step)[..., ::gap]
    dims = len(kernel)
    order = (0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))
    return patches.permute(order).flatten(1, 1 + dims).flatten(2)
