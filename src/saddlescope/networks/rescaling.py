"""Rescaling symmetries of a model: sets of weights that can be scaled against each other without a change of the loss.

Let ``A_j`` be the part of a leaf A that belongs to unit j: a row, a column, a channel with its bias. If the loss stays
the same under ``A_j → e^{ε c_A} A_j`` for all members A together, then for every batch and every unit

    Σ_A c_A A_j · g_{A,j} = 0,   g = ∂loss/∂A,                                                                      (1)

and a step of SGD changes ``Q_j = Σ_A c_A ‖A_j‖²`` by ``η² Σ_A c_A ‖g_{A,j}‖²`` alone. Members with c > 0 are the upper
side of a ``Pair``, those with c < 0 the lower side: for a ReLU unit, the weights out of it, and those into it with its
bias. ``find_pairs`` looks for every relation (1) with constant c, from gradients at random weights and nothing else:
the null space of the forms ``(A ∘ g_A)`` summed to one number a unit.
Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671, for the symmetry; the search is derived here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope import _jax
from saddlescope._numbers import hint, shown
from saddlescope._parts import Real, frozen

Member = tuple[Any, ...]
"""A leaf and its kept axes, ``("w1", (0,))``; with the shape in which to read the leaf, ``("w2", (1,), (49, 32, 10))``.
"""

Arrays = Mapping[str, Any]
"""One array a leaf, of NumPy or of JAX."""

BATCH = 8
"""Samples of a gradient at random weights."""

_SIDE = 'use ("w1", 0) for axis 0 of the leaf w1, or several such members, (("w1", 0), ("b1", 0))'


def _member(value: Any) -> Member:
    """``("w1", 0)`` in its full form ``("w1", (0,))``; without an axis, or with None, the whole leaf is one unit."""
    name, axes, *shape = (*value, None) if len(value) == 1 else value
    kept = () if axes is None else (axes,) if isinstance(axes, (int, np.integer)) else tuple(axes)
    whole = (*kept, *(shape[0] if shape and shape[0] is not None else ()))
    if len(shape) > 1 or any(isinstance(n, bool) or not isinstance(n, (int, np.integer)) for n in whole):
        raise TypeError
    read = () if not shape or shape[0] is None else (tuple(int(n) for n in shape[0]),)
    return (str(name), tuple(int(axis) for axis in kept), *read)


def _side(value: Any) -> tuple[Member, ...]:
    """Members of a side, from one or several."""
    try:
        alone = isinstance(value[0], str)
        members = tuple(_member(one) for one in ((value,) if alone else value))
        if all(isinstance(one[0], str) for one in ((value,) if alone else value)) and members:
            return members
    except (TypeError, ValueError, KeyError, IndexError):
        pass
    raise ValueError(f"a side of a Pair must be a leaf with an axis, got {shown(value)}; {_SIDE}")


Side = Annotated[tuple[Member, ...], BeforeValidator(_side)]


@frozen
class Pair:
    """Weights that can be rescaled against each other: ``‖upper‖² − ‖lower‖²`` moves by noise and step size alone.

    Each side is a leaf of a ``Model`` with the axis that counts its units, ``("w1", 0)``, or several of them. An axis
    may be a tuple of axes, as (1, 2) for heads and their dimensions, or None: the whole leaf as one unit. A third entry
    is the shape in which the leaf is to be read first: after 32 channels of a 7 × 7 image are flattened,
    ``("dense", 2, (7, 7, 32, 10))`` are the weights out of every channel. All members must count the same number of
    units. ``coefficients``: c > 0 of equation (1), those of ``lower`` first; all 1 by default. If one layer is squared,
    ``f = Σ_j w2_j (w1_j·x)²``, then ``w1·g_1 = 2 w2·g_2`` and they are (1, 2).
    Raises ValueError for a side or coefficients that cannot be read.

    >>> Pair(lower=(("w1", 0), ("b1", 0)), upper=("w2", 1)).name
    'b1+w1~w2'
    """

    lower: Side = Field(description=_SIDE)
    upper: Side = Field(description=_SIDE)
    coefficients: Annotated[tuple[Annotated[Real, Field(gt=0)], ...] | None, Field()] = Field(
        default=None, description="leave it out for 1, or give one positive number for every member"
    )

    def __post_init__(self) -> None:
        count = len(self.lower) + len(self.upper)
        if self.coefficients is not None and len(self.coefficients) != count:
            raise ValueError(
                f"coefficients must be {count} numbers, those of lower and then those of upper, got "
                f"{len(self.coefficients)}; leave them out if all are 1"
            )

    @property
    def members(self) -> tuple[tuple[Member, float], ...]:
        """Members with their c of equation (1), negative for the lower side."""
        sizes = self.coefficients or (1.0,) * (len(self.lower) + len(self.upper))
        signs = [-1.0] * len(self.lower) + [1.0] * len(self.upper)
        return tuple(zip((*self.lower, *self.upper), (s * c for s, c in zip(signs, sizes, strict=True)), strict=True))

    @property
    def name(self) -> str:
        """The leaves of both sides, ``w1~w2``."""
        return "~".join("+".join(sorted(one[0] for one in side)) for side in (self.lower, self.upper))

    def difference(self, arrays: Arrays) -> Any:
        """``Σ_A c_A Σ A_j`` over the entries of every unit j (units,): of squared weights it is ``Q_j``.

        >>> Pair(("w1", 0), ("w2", 1)).difference({"w1": np.ones((2, 3)), "w2": np.ones((1, 2))})
        array([-2., -2.])
        """
        return sum(c * form(member, arrays[member[0]]) for member, c in self.members)

    def units(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Number of units in a model whose leaves have these shapes.

        Raises ValueError for a leaf or an axis that the model does not have, or sides that count different units.

        >>> Pair(("w1", 0), ("w2", 1)).units({"w1": (2, 3), "w2": (1, 2)})
        2
        """
        counts = {str(one[0]): _units(one, shapes, self.name) for one, _ in self.members}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
            raise ValueError(f"all members of the pair {self.name} must have as many units, got {listed}; {_SIDE}")
        return next(iter(counts.values()))


class Pairs(tuple[Pair, ...]):
    """The pairs of a model, a tuple; ``scale_free`` lists members that can be scaled alone, without a change of loss.

    Such are weights before a normalisation, and weights without any effect, as the bias of attention keys.
    """

    scale_free: tuple[tuple[Member, ...], ...]

    def __new__(cls, pairs: Iterable[Pair], scale_free: Iterable[tuple[Member, ...]] = ()) -> Pairs:
        self = super().__new__(cls, pairs)
        self.scale_free = tuple(scale_free)
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.scale_free

    def __repr__(self) -> str:
        lines = [repr(pair) for pair in self] or ["no rescaling pair"]
        free = ["+".join(dict.fromkeys(one[0] for one in members)) for members in self.scale_free]
        return "\n".join([*lines, *([f"scale-free: {', '.join(free)}"] if free else [])])


def entries(member: Member, array: Any) -> Any:
    """The entries of a leaf that belong to every unit (units, rest), units in the order of the kept axes.

    >>> entries(("w", (1,)), np.arange(6.0).reshape(2, 3))
    array([[0., 3.],
           [1., 4.],
           [2., 5.]])
    """
    _, axes, *read = member
    array = array.reshape(read[0]) if read else array
    kept = tuple(axis % array.ndim for axis in axes)
    rest = tuple(axis for axis in range(array.ndim) if axis not in kept)
    return array.transpose(kept + rest).reshape(prod(array.shape[axis] for axis in kept), -1)


def form(member: Member, array: Any) -> Any:
    """The entries of a leaf summed to one number for every unit (units,).

    >>> form(("w", (2,), (2, 1, 3)), np.arange(6.0).reshape(6, 1))
    array([3., 5., 7.])
    """
    return entries(member, array).sum(axis=1)


def _units(member: Member, shapes: Mapping[str, tuple[int, ...]], pair: str) -> int:
    name, axes, *read = member
    if name not in shapes:
        raise ValueError(
            f"the pair {pair} names the leaf {name!r}, which the model does not have; its leaves are "
            f"{', '.join(shapes)}{hint(name, shapes)}"
        )
    shape = read[0] if read else shapes[name]
    if prod(shape) != prod(shapes[name]):
        raise ValueError(
            f"the pair {pair} must read {name} in a shape with as many entries as {shapes[name]}, got {shape}"
        )
    if not all(-len(shape) <= axis < len(shape) for axis in axes) or len({a % len(shape) for a in axes}) < len(axes):
        raise ValueError(f"the pair {pair} must name distinct axes of {name} {shape}, got {axes}; count from 0")
    return prod(shape[axis] for axis in axes)


# --- gradients at random weights


def products(model: Any, data: Any, seed: int, draws: int) -> Iterator[dict[str, Any]]:
    """``A ∘ g_A`` of every leaf at random weights, each on a random batch of the data, in float64.

    Weights are those of the model's init with noise, so that no leaf stays at zero or at a special point.
    """
    jax, rng = _jax.load(), np.random.default_rng(seed)
    x, y = np.asarray(data.X), np.asarray(getattr(data, "targets_mean", data.Y))
    names = [leaf.name for leaf in model.leaves]

    def mean_loss(leaves: Any, x: Any, y: Any) -> Any:
        return model.losses(model.unflatten(leaves), x, y).mean()

    with _jax.precision("float64"):
        gradient = jax.jit(jax.grad(mean_loss))
        quick = jax.random.key(seed, impl="unsafe_rbg")  # compiles five times as fast
        start = [np.asarray(leaf, np.float64) for leaf in model.flatten(jax.jit(model.init)(quick))]
        for _ in range(draws):
            leaves = [leaf + _spread(leaf) * rng.standard_normal(leaf.shape) for leaf in start]
            rows = rng.integers(0, len(x), min(BATCH, len(x)))
            found = [leaf * np.asarray(g) for leaf, g in zip(leaves, gradient(leaves, x[rows], y[rows]), strict=True)]
            if all(np.isfinite(one).all() for one in found):
                yield dict(zip(names, found, strict=True))


def _spread(leaf: Any) -> float:
    """Size of the noise of a leaf: half of its own spread, or a standard one where all its entries are equal."""
    return 0.5 * float(leaf.std()) or 0.3 / max(1, prod(leaf.shape[:-1])) ** 0.5


def defect(pair: Pair, drawn: Sequence[dict[str, Any]]) -> float:
    """How far (1) is from 0: the norm of the sum over that of its terms, over units and random weights."""
    total = np.stack([pair.difference(one) for one in drawn])
    terms = [np.stack([c * form(m, one[m[0]]) for one in drawn]) for m, c in pair.members]
    size = np.sqrt(sum((term**2).sum() for term in terms))
    return float(np.linalg.norm(total) / size) if size > 0 else 0.0


def check(model: Any, data: Any, pairs: Iterable[Pair], seed: int = 0, tol: float = 1e-7) -> None:
    """Raise ValueError for a pair that is not a rescaling symmetry of this model, by (1) at random weights.

    Of a Model from a store, whose functions are not there, only the leaves are compared.
    """
    pairs, shapes = tuple(pairs), {leaf.name: tuple(leaf.shape) for leaf in model.leaves}
    for pair in pairs:
        pair.units(shapes)
    drawn = [] if model.stored else list(products(model, data, seed, 4))
    for pair in pairs:
        if drawn and (off := defect(pair, drawn)) > tol:
            raise ValueError(
                f"the pair {pair.name} must keep the loss when its sides are rescaled against each other, but upper·g "
                f"and lower·g differ by {off:.2g} of their size at random weights; use model.find_pairs(data)"
            )


# --- the search


def find_pairs(model: Any, data: Any, seed: int = 0, tol: float = 1e-7) -> Pairs:
    """Every pair of a model, from gradients at random weights.

    For every leaf and every set of its axes the form ``(A ∘ g_A)`` is summed to one number a unit; of the forms with
    equal units, the null space gives all relations (1), in rows with small whole numbers. A relation that follows from
    one with finer units is left out. Axes whose length is a multiple of another are also read as a flattened image
    (positions, channels) or (channels, positions). Parts of leaves, as queries, keys and values in one matrix, are not
    looked into: give them leaves of their own, or declare a ``Pair`` with a shape. ``tol``: relative size of a sum that
    counts as zero. Raises ValueError where no gradient is finite.
    """
    shapes = {leaf.name: tuple(leaf.shape) for leaf in model.leaves}
    drawn = list(products(model, data, seed, len(shapes) + 8))
    if len(drawn) < len(shapes) + 4:
        raise ValueError(
            f"find_pairs needs finite gradients, got {len(drawn)} of {len(shapes) + 8} at random weights; lower the "
            "scale of the model's init"
        )
    largest = max(float(np.abs(one).sum()) for each in drawn for one in each.values())
    found: list[dict[Member, float]] = []
    groups = _grouped(shapes)
    for kept in sorted(groups, key=lambda kept: -len(kept)):
        if not kept:
            for members in _folded(shapes, found):
                found += _relations(members, drawn, _implied(found, members), tol, largest)
        found += _relations(groups[kept], drawn, _implied(found, groups[kept]), tol, largest)
    return _as_pairs([row for row in found if _holds(row, drawn, tol, largest)])


def _grouped(shapes: Mapping[str, tuple[int, ...]]) -> dict[tuple[int, ...], list[Member]]:
    """Members by the lengths of their kept axes, () for whole leaves; axes of length 1 count nothing."""
    groups: dict[tuple[int, ...], list[Member]] = {}
    for name, shape in shapes.items():
        long = [axis for axis, size in enumerate(shape) if size > 1]
        for chosen in range(2 ** min(len(long), 6)):
            axes = tuple(axis for bit, axis in enumerate(long) if chosen >> bit & 1)
            groups.setdefault(tuple(shape[axis] for axis in axes), []).append((name, axes))
    return groups


def _folded(shapes: Mapping[str, tuple[int, ...]], found: list[dict[Member, float]]) -> Iterator[list[Member]]:
    """Members with one axis, and axes without a partner read as (positions, units) and as (units, positions).

    One list for every number of units, largest first; ``found`` may grow in between.
    """
    single = [(name, axis, size) for name, shape in shapes.items() for axis, size in enumerate(shape) if size > 1]
    for units in sorted({size for _, _, size in single}, reverse=True):
        members: list[Member] = [(name, (axis,)) for name, axis, size in single if size == units]
        paired = {origin for row in found for member in row for origin in _origins(member, shapes)}
        for name, axis, size in single:
            if size > units and size % units == 0 and (name, axis) not in paired:
                before, after = shapes[name][:axis], shapes[name][axis + 1 :]
                members.append((name, (axis + 1,), (*before, size // units, units, *after)))
                members.append((name, (axis,), (*before, units, size // units, *after)))
        if any(len(member) > 2 for member in members):
            yield members


def _origins(member: Member, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, int]]:
    """The axes of a leaf that a member keeps, in whole or in part."""
    name, axes, *read = member
    split = next((i for i, (a, b) in enumerate(zip(read[0], shapes[name], strict=False)) if a != b), 0) if read else 0
    return [(name, split if read else axis) for axis in axes]


def _implied(found: list[dict[Member, float]], members: list[Member]) -> list[dict[Member, float]]:
    """Relations among these members that follow from finer ones: their units, summed over some of the kept axes."""
    known, rows = set(members), []
    for row in found:
        count = len(next(iter(row))[1])
        for chosen in range(2**count):
            coarse: dict[Member, float] = {}
            for (name, axes, *read), c in row.items():
                kept = tuple(axis for bit, axis in enumerate(axes) if chosen >> bit & 1)
                coarse_one: Member = (name, kept, *(read if kept else ()))
                coarse[coarse_one] = coarse.get(coarse_one, 0.0) + c
            coarse = {member: c for member, c in coarse.items() if c}
            if coarse and known.issuperset(coarse):
                rows.append(coarse)
    return rows


def _relations(
    members: list[Member],
    drawn: Sequence[dict[str, Any]],
    implied: list[dict[Member, float]],
    tol: float,
    largest: float,
) -> list[dict[Member, float]]:
    """The null space of the forms of these members, without what is implied: rows of small whole numbers."""
    matrix = np.array([[row.get(member, 0.0) for member in members] for row in implied]).reshape(-1, len(members))
    dropped = {int(np.flatnonzero(row)[0]) for row in _reduced(matrix)}
    members = [member for index, member in enumerate(members) if index not in dropped]
    columns = {m: np.concatenate([_some(form(m, one[m[0]])) for one in drawn]) for m in members}
    zero = {m for m in members if np.linalg.norm(columns[m]) <= _rounding(m, drawn, tol, largest)}
    members = [m for m in members if m not in zero]
    rows: list[dict[Member, float]] = [{m: 1.0} for m in zero]
    if members:
        stack = np.stack([columns[m] for m in members], axis=1)
        sizes = np.linalg.norm(stack, axis=0)
        _, values, directions = np.linalg.svd(stack / sizes, full_matrices=True)
        values = np.concatenate([values, np.zeros(len(members) - len(values))])
        null = directions[values <= tol * values[0]] / sizes
        rows += [{m: c for m, c in zip(members, row, strict=True) if c} for row in _reduced(null)]
    return rows


def _some(units: Any) -> Any:
    """At most 64 units: enough for a null space, which is then tested on all."""
    return units if len(units) <= 64 else units[np.random.default_rng(0).permutation(len(units))[:64]]


def _rounding(member: Member, drawn: Sequence[dict[str, Any]], tol: float, largest: float) -> float:
    """Norm below which a form is zero: its terms cancel, or have no size."""
    terms = np.concatenate([form(member, np.abs(one[member[0]])) for one in drawn])
    return float(tol * np.linalg.norm(terms) + 1e-5 * tol * largest)


def _holds(row: dict[Member, float], drawn: Sequence[dict[str, Any]], tol: float, largest: float) -> bool:
    """Whether a relation holds for every unit."""
    total = np.concatenate([sum(c * form(m, one[m[0]]) for m, c in row.items()) for one in drawn])
    return float(np.linalg.norm(total)) <= 10 * sum(abs(c) * _rounding(m, drawn, tol, largest) for m, c in row.items())


def _reduced(rows: Any) -> Any:
    """The reduced row echelon form, every row in whole numbers where some up to 12 fit."""
    rows = np.array(rows, np.float64)
    rank = 0
    rows /= np.abs(rows).max(axis=1, keepdims=True, initial=0.0) + (not rows.size)
    for column in range(rows.shape[1]):
        if rank == len(rows):
            break
        pivot = rank + int(np.abs(rows[rank:, column]).argmax())
        if abs(rows[pivot, column]) < 1e-6:
            continue
        rows[[rank, pivot]] = rows[[pivot, rank]]
        rows[rank] /= rows[rank, column]
        others = np.arange(len(rows)) != rank
        rows[others] -= np.outer(rows[others, column], rows[rank])
        rank += 1
    return np.array([_whole(row) for row in rows[:rank]]).reshape(rank, rows.shape[1])


def _whole(row: Any) -> Any:
    """A row times the smallest whole number that makes its entries whole, to 1e-5; the row itself without such."""
    row = np.where(np.abs(row) < 1e-6, 0.0, row)
    for factor in range(1, 13):
        if np.abs(factor * row - np.round(factor * row)).max() < 1e-5:
            return np.round(factor * row)
    return row


def _as_pairs(rows: Iterable[dict[Member, float]]) -> Pairs:
    """Relations with both signs as pairs, the first leaf below; the others are scale-free."""
    pairs, free = [], []
    for row in rows:
        sign = np.sign(next(iter(row.values())))
        sides = [{m: abs(c) for m, c in row.items() if c * sign * side > 0} for side in (1, -1)]
        if not sides[1]:
            free.append(tuple(row))
            continue
        sizes = [*sides[0].values(), *sides[1].values()]
        pairs.append(Pair(tuple(sides[0]), tuple(sides[1]), None if set(sizes) == {1.0} else tuple(sizes)))
    return Pairs(pairs, free)
