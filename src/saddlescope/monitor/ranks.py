"""The samples of all ranks of a distributed training, by one gather of one vector.

Rank r of R holds n_r of the N samples and differentiates the mean loss of its own; the gradient is the mean over
ranks. Contributions to a rank's own gradient times n_r are ``G_i`` of that rank; those of the training are
``N/(R n_r)`` times as large: equal if all ranks hold equally many. A rank without a key has none of its samples in the
moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.moments import FIELDS, Moments

Key = tuple[str, str]
"""Name of a parameter, "" for the model, and what is known of it."""

LINEAR = ("modes", "control")
"""Kinds of numbers that are linear in ``G_i``; others are quadratic, and may be of fewer samples than the batch."""


@dataclass(frozen=True)
class Together:
    """What all ranks say: moments over their samples, the number of these, and the flags of every parameter."""

    moments: dict[Key, Moments]
    samples: int
    flags: dict[str, int]


def together(
    columns: Mapping[Key, int],
    moments: Mapping[Key, Moments],
    samples: int,
    flags: Mapping[str, int],
    reduction: str,
    group: Any,
) -> Together:
    """Merge over the ranks of a process group; ``columns`` are the keys and their widths, alike on all ranks."""
    like = next((one.mean for one in moments.values()), None)
    own = _packed(columns, moments, samples, flags, torch.empty(0) if like is None else like)
    parts = [torch.empty_like(own) for _ in range(torch.distributed.get_world_size(group))]
    torch.distributed.all_gather(parts, own, group=group)
    ranks = torch.stack(parts)
    counts = [int(count) for count in ranks[:, 0].tolist()]
    found = ranks[:, 1 : 1 + len(flags)].long().tolist()
    either = {name: _either(rank[i] for rank in found) for i, name in enumerate(flags)}
    whole = sum(counts)
    merged = {}
    start = 1 + len(flags)
    for key, width in columns.items():
        stop = start + FIELDS * width
        vectors = ranks[:, start:stop]
        start = stop
        one = _merged(vectors, _factors(key, vectors[:, 0].tolist(), counts, whole, reduction))
        if one is not None:
            merged[key] = one
    if found != [found[0]] * len(found):  # ranks disagree on which parameters are in the sum
        merged.pop(("", "total"), None)
    return Together(merged, whole, either)


def _packed(
    columns: Mapping[Key, int], moments: Mapping[Key, Moments], samples: int, flags: Mapping[str, int], like: Tensor
) -> Tensor:
    parts = [torch.tensor([float(samples), *map(float, flags.values())], dtype=torch.float64, device=like.device)]
    for key, width in columns.items():
        nothing = torch.zeros(FIELDS * width, dtype=torch.float64, device=like.device)
        parts.append(moments[key].to_vector() if key in moments else nothing)
    return torch.cat(parts)


def _factors(key: Key, kept: Sequence[float], counts: Sequence[int], whole: int, reduction: str) -> list[float]:
    """By what the numbers of every rank are multiplied; kept squares weigh as the samples that they stand for."""
    ranks = len(counts)
    factors = [(whole / (ranks * n) if n else 0.0) if reduction == "mean" else 1 / ranks for n in counts]
    if key[1] in LINEAR:
        return factors
    total = sum(kept)
    stand = [n * total / (whole * b) if b else 0.0 for n, b in zip(counts, kept, strict=True)]
    return [c**2 * w for c, w in zip(factors, stand, strict=True)]


def _merged(vectors: Tensor, factors: Sequence[float]) -> Moments | None:
    """The moments of ranks, each multiplied by its factor; None without samples."""
    parts = []
    for vector, c in zip(vectors, factors, strict=True):
        n, mean, m2, m3, m4 = vector.unflatten(0, (FIELDS, -1))
        if float(n[0]):
            parts.append(torch.cat([n, c * mean, c**2 * m2, c**3 * m3, c**4 * m4]))
    return Moments.from_vectors(torch.stack(parts)) if parts else None


def _either(flags: Any) -> int:
    found = 0
    for one in flags:
        found |= one
    return found
