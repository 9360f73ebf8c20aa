"""From what hooks saw to moments over samples: units of ``G_i``, all micro-batches, all ranks.

Numbers of all parameters are put side by side first: a few operations on wide arrays instead of many small ones.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from saddlescope.monitor._torch import Tensor, double, torch
from saddlescope.monitor.capture import CHECK, NO_CROSS, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, REFUSED, Raw
from saddlescope.monitor.directions import Directions
from saddlescope.monitor.moments import Moments, Table
from saddlescope.monitor.ranks import LINEAR, Key, together
from saddlescope.monitor.sites import Site
from saddlescope.monitor.vectors import tolerance

Name = TypeVar("Name", str, tuple[str, str])


@dataclass(frozen=True)
class Scale:
    """The loss that was differentiated: "mean" or "sum" of the losses of samples, times ``loss_scale``."""

    reduction: str = "mean"
    loss_scale: float = 1.0

    def of_sample(self, samples: int) -> float:
        """Factor that makes ``G_i`` of the contribution of sample i."""
        return (samples if self.reduction == "mean" else 1) / self.loss_scale

    def of_gradient(self, samples: int) -> float:
        """Factor that makes ``ḡ = mean_i G_i`` of the gradient."""
        return (1 if self.reduction == "mean" else 1 / max(samples, 1)) / self.loss_scale


@dataclass(frozen=True, eq=False)
class Seen:
    """What one sampled step says about a parameter, over the samples of all ranks; None if not seen."""

    signal: Tensor | None
    """``u_αᵀḡv_α`` (k,)."""
    gradient_norm2: Tensor | None
    """``‖ḡ‖²`` (H,) per head."""
    euler: Tensor | None
    """``θ·ḡ`` (H,) per head."""
    directions: Directions | None
    check: float
    """|Σ_i p_i − Σ uᵀgv| relative to Σ_i |p_i|, the largest over directions; NaN without projections."""
    status: int
    why: str = ""
    precision: float = 0.0
    """Rounding unit of the signals, 0 if none was seen."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One sampled step: N samples, what is known of every parameter, and moments over samples.

    There is one table for every number of samples: usually one of a kind, none if nothing was seen.
    """

    step: int
    batch_size: int
    seen: Mapping[str, Seen]
    along: Sequence[Table] = ()
    """Of ``u_αᵀG_iv_α``: k columns (name, "modes"), and k along fixed random pairs, (name, "control")."""
    squares: Sequence[Table] = ()
    """Of ``‖G_i‖²``: one column per head (name, "squares"), where there are several their sum (name, "whole"), and the
    sum over all parameters whose squares were seen, ("", "total")."""
    sums: Mapping[str, Moments] = field(default_factory=dict)
    """Of further numbers of every sample, such as those of rescaling pairs."""


KINDS = (LINEAR, ("squares", "whole", "total"), ("sum",))
"""What is kept in one table."""

Columns = dict[Key, Tensor]
"""Numbers of every sample (N, k), and what they are."""

PerSample = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Squares ``‖G_i‖²`` (b, H) by parameter → further numbers (b,) of every sample by name."""


def pooled(
    step: int,
    sites: Mapping[str, Site],
    raws: Mapping[str, Raw],
    directions: Mapping[str, Directions],
    scale: Scale,
    refused: str | None = "",
    per_sample: PerSample = lambda squares: {},
    group: Any = None,
) -> Sample:
    """The sample of a step; ``group`` is the process group whose ranks hold further samples.

    ``refused`` says why no sample could be seen anywhere; None if none was to be seen.
    """
    samples = whole = _samples(raws)
    widths = {} if group is None else _widths(sites, directions, per_sample)
    columns, squares = _columns({} if refused else raws, samples, scale, widths)
    columns |= {(name, "sum"): one.unsqueeze(1) for name, one in per_sample(squares).items()}
    tables, checks, finite = _tables(columns), _checks(raws), _finite(raws)
    states = {
        name: _state(sites[name], raw, samples, directions, checks.get(name, math.nan), finite.get(name), refused)
        for name, raw in raws.items()
    }
    if group is not None:
        known = {key: one for table in itertools.chain(*tables) for key, one in table.apart().items()}
        flags = {name: status for name, (status, _) in states.items()}
        all_ranks = together(widths, known, samples, flags, scale.reduction, group)
        states = {name: _elsewhere(state, all_ranks.flags[name]) for name, state in states.items()}
        tables, whole = _merged(all_ranks.moments, all_ranks.flags), all_ranks.samples
    states = {name: (flags & ~REFUSED if raws[name].quiet else flags, why) for name, (flags, why) in states.items()}
    seen = _seen(raws, directions, scale.of_gradient(whole), checks, states)
    along, of_squares, further = tables
    sums = {name: one for table in further for (name, _), one in table.apart().items()}
    return Sample(step, whole, seen, along, of_squares, sums)


def _elsewhere(state: tuple[int, str], flags: int) -> tuple[int, str]:
    """The state of a parameter with the flags of all ranks."""
    status, why = state
    return flags, why or ("was refused on another rank" if flags & ~status & REFUSED else "")


def _widths(sites: Mapping[str, Site], directions: Mapping[str, Directions], per_sample: PerSample) -> dict[Key, int]:
    """What there can be to know, the same on all ranks, and in how many columns."""
    found: dict[Key, int] = {}
    heads = {name: 1 if site.heads is None else site.heads.count for name, site in sites.items()}
    for name, H in heads.items():
        k = len(directions[name].s) if name in directions else 0
        found |= {(name, kind): k for kind in LINEAR if k}
        found[name, "squares"] = H
        if H > 1:
            found[name, "whole"] = 1
    found["", "total"] = 1
    nothing = {name: torch.zeros(1, H, dtype=torch.float64) for name, H in heads.items()}
    return found | {(name, "sum"): 1 for name in per_sample(nothing)}


def _samples(raws: Mapping[str, Raw]) -> int:
    """Samples of this rank: what most parameters say, 0 if none does."""
    counts = Counter(sum(raw.samples) for raw in raws.values() if raw.samples)
    return max(counts, key=lambda count: (counts[count], count)) if counts else 0


def _tables(columns: Columns) -> list[list[Table]]:
    """The moments of numbers of samples (n, k): for every kind one table of those with the same n."""
    tables: list[list[Table]] = []
    for kinds in KINDS:
        found = {key: one for key, one in columns.items() if key[1] in kinds}
        alike = [
            {key: one for key, one in found.items() if one.shape[0] == length}
            for length in dict.fromkeys(one.shape[0] for one in found.values())
        ]
        tables.append(
            [
                Table(
                    Moments.from_samples(torch.cat(list(one.values()), 1)), {key: x.shape[1] for key, x in one.items()}
                )
                for one in alike
            ]
        )
    return tables


def _merged(moments: Mapping[Key, Moments], flags: Mapping[str, int]) -> list[list[Table]]:
    """The moments of all ranks in such tables, without those that were refused on one rank."""
    refused = {name for name, status in flags.items() if status & REFUSED}
    no_squares = refused | {name for name, status in flags.items() if status & NO_CROSS}
    tables = []
    for kinds in KINDS:
        left_out = refused if kinds is LINEAR else no_squares
        found = {key: one for key, one in moments.items() if key[1] in kinds and key[0] not in left_out}
        lengths = dict.fromkeys(one.n for one in found.values())
        tables.append([Table.joined({key: one for key, one in found.items() if one.n == n}) for n in lengths])
    return tables


def _columns(
    raws: Mapping[str, Raw], samples: int, scale: Scale, widths: Mapping[Key, int]
) -> tuple[Columns, dict[str, Tensor]]:
    """Projections, control and squares of every sample, and the squares (b, H) by parameter.

    Parameters that no pass of this rank used have zeros, in columns of these ``widths``.
    """
    complete = {name: raw for name, raw in raws.items() if sum(raw.samples) == samples and not raw.flags & REFUSED}
    factor = scale.of_sample(samples)
    projections = {name: _joined(raw.projections) for name, raw in complete.items() if raw.projections}
    halves = {(name, kind): one.shape[1] // 2 for name, one in projections.items() for kind in LINEAR}
    found = _split(list(projections.values()), halves, factor)
    squares = {name: _squares(raw) for name, raw in complete.items() if raw.squares and not raw.flags & NO_CROSS}
    lengths = Counter(one.shape[0] for one in squares.values())
    usual = lengths.most_common(1)[0][0] if lengths else 0
    squares = {name: one for name, one in squares.items() if one.shape[0] == usual}
    squares = _split(list(squares.values()), {name: one.shape[1] for name, one in squares.items()}, factor**2)
    for (name, kind), width in widths.items():
        if name in raws and _unused(raws[name]) and usual:
            like = next(iter(squares.values()))
            found[name, kind] = like.new_zeros(samples if kind in LINEAR else usual, width)
            if kind == "squares":
                squares[name] = found[name, kind]
    if squares:
        found |= {(name, "squares"): one for name, one in squares.items()}
        found |= {(name, "whole"): one.sum(1, keepdim=True) for name, one in squares.items() if one.shape[1] > 1}
        found["", "total"] = torch.cat(list(squares.values()), 1).sum(1, keepdim=True)
    return found, squares


def _split(parts: Sequence[Tensor], sizes: Mapping[Name, int], factor: float) -> dict[Name, Tensor]:
    """Arrays side by side, in float64 times a factor, as groups of so many columns."""
    if not parts:
        return {}
    together = double(torch.cat(list(parts), -1)) * factor
    return dict(zip(sizes, together.split(list(sizes.values()), -1), strict=True))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The samples of all passes."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _unused(raw: Raw) -> bool:
    """Whether a parameter took part in no pass of this rank, so that its samples contribute 0."""
    return not (raw.touched or raw.samples or raw.flags)


def _squares(raw: Raw) -> Tensor:
    """The squares of all passes (b, H), scaled so that their mean is that over all samples.

    A pass of n_j of the N samples, b_j of the b squares, has the weight ``n_j b/(N b_j)``; 1 if passes are alike.
    """
    if len(raw.squares) == 1 or len(raw.squares) != len(raw.samples):
        return _joined(raw.squares)
    b, N = sum(len(one) for one in raw.squares), sum(raw.samples)
    weights = [n * b / (N * len(one)) for one, n in zip(raw.squares, raw.samples, strict=True)]
    return torch.cat([double(one) * weight for one, weight in zip(raw.squares, weights, strict=True)])


def _checks(raws: Mapping[str, Raw]) -> dict[str, float]:
    """The self-check of every weight, from projections and gradient of this rank; ∞ where they are not finite."""
    known = {
        name: (_joined(raw.projections), own)
        for name, raw in raws.items()
        if raw.projections and (own := raw.own) is not None
    }
    found: dict[str, float] = {}
    for length in {p.shape[0] for p, _ in known.values()}:
        alike = {name: one for name, one in known.items() if one[0].shape[0] == length}
        along, own = (double(torch.cat(parts, -1)) for parts in zip(*alike.values(), strict=True))
        # Where all projections are small beside the gradient, rounding is relative to the gradient.
        norms = [double(norm2).sum().sqrt() for name in alike if (norm2 := raws[name].norm2) is not None]
        floor = torch.cat([norm.expand(one[0].shape[1]) for norm, one in zip(norms, alike.values(), strict=True)])
        off = (along.sum(0) - own).abs() / (along.abs().sum(0) + floor + torch.finfo(torch.float64).tiny)
        values = iter(off.nan_to_num(nan=torch.inf).tolist())
        found |= {name: max(next(values) for _ in range(p.shape[1])) for name, (p, _) in alike.items()}
    return found


def _finite(raws: Mapping[str, Raw]) -> dict[str, bool]:
    """Whether the squared gradient of each parameter is finite: one transfer for all."""
    norms = {name: raw.norm2 for name, raw in raws.items() if raw.norm2 is not None}
    values = iter(torch.cat(list(norms.values())).tolist() if norms else ())
    return {name: math.isfinite(sum(next(values) for _ in range(one.shape[0]))) for name, one in norms.items()}


def _state(
    site: Site,
    raw: Raw,
    samples: int,
    directions: Mapping[str, Directions],
    check: float,
    finite: bool | None,
    refused: str | None,
) -> tuple[int, str]:
    """Status of a parameter and its reason, as the end of a sentence."""
    status, why = raw.flags, raw.why
    if finite is None:
        status |= NO_GRADIENT
    elif not finite:
        status |= NOT_FINITE
    elif refused is None:
        pass
    elif refused:
        status, why = status | REFUSED, refused
    elif not raw.samples and raw.touched:
        status |= REFUSED if raw.flags & REFUSED or site.reason else NOT_RECORDED
        why = why or site.reason
    elif raw.samples and sum(raw.samples) != samples:
        status, why = status | REFUSED, f"saw {sum(raw.samples)} rows where the batch has {samples} samples"
    elif (
        raw.samples
        and site.name in directions
        and not status & REFUSED  # whose samples cannot add up
        and not check <= tolerance(raw.precision)
    ):
        status |= CHECK
    return status, why


def _seen(
    raws: Mapping[str, Raw],
    directions: Mapping[str, Directions],
    factor: float,
    checks: Mapping[str, float],
    states: Mapping[str, tuple[int, str]],
) -> dict[str, Seen]:
    """What is known of every parameter, gradients times this factor."""
    signals, norms, eulers = (
        _split(list(known.values()), {name: one.shape[0] for name, one in known.items()}, times)
        for known, times in (
            ({name: raw.along for name, raw in raws.items() if raw.along is not None}, factor),
            ({name: raw.norm2 for name, raw in raws.items() if raw.norm2 is not None}, factor**2),
            ({name: raw.euler for name, raw in raws.items() if raw.euler is not None}, factor),
        )
    )
    return {
        name: Seen(
            signal=signals[name].chunk(2)[0] if name in signals else None,
            gradient_norm2=norms.get(name),
            euler=eulers.get(name),
            directions=directions.get(name),
            check=checks.get(name, math.nan),
            status=states[name][0],
            why=states[name][1],
            precision=raw.precision,
        )
        for name, raw in raws.items()
    }
