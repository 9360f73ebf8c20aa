"""From what hooks saw to moments over samples: units of ``G_i``, all micro-batches, all ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.capture import CHECK, NO_CROSS, NO_GRADIENT, NOT_FINITE, NOT_RECORDED, REFUSED, Raw
from saddlescope.monitor.directions import Directions
from saddlescope.monitor.moments import Moments
from saddlescope.monitor.ranks import LINEAR, Key, together
from saddlescope.monitor.sites import Site

TOLERANCE, AT_MOST = 1e3, 0.1
"""By how much the sum of the projections may differ from the gradient's, relative to Σ|p_i|: rounding units, and the
largest difference whatever they are."""


def tolerance(precision: float) -> float:
    """The largest difference that rounding explains."""
    return min(TOLERANCE * precision, AT_MOST)


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
    """What one sampled step says about a parameter; moments are over the samples of all ranks, None if not seen."""

    projections: Moments | None
    """Of ``u_αᵀG_iv_α``, k columns."""
    control: Moments | None
    """Of the same along fixed random pairs."""
    squares: Moments | None
    """Of ``‖G_i‖²``, one column per head."""
    whole: Moments | None
    """Of ``‖G_i‖²``, the sum over heads; None without heads."""
    signal: Tensor | None
    """``u_αᵀḡv_α`` (k,)."""
    gradient_norm2: Tensor | None
    """``‖ḡ‖²`` (H,) per head."""
    euler: Tensor | None
    """``θ·ḡ`` (H,) per head."""
    directions: Directions | None
    check: Tensor
    """|Σ_i p_i − Σ uᵀgv| relative to Σ_i |p_i|, the largest over directions; NaN without projections."""
    status: int
    why: str = ""
    precision: float = 0.0
    """Rounding unit of the signals, 0 if none was seen."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One sampled step: N samples, what is known of every parameter, and of sums over parameters for every sample."""

    step: int
    batch_size: int
    seen: Mapping[str, Seen]
    total: Moments | None
    """Of ``Σ ‖G_i‖²`` over all parameters whose squares were seen."""
    sums: Mapping[str, Moments]
    """Of further numbers of every sample, such as those of rescaling pairs."""


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
    samples = _samples(raws)
    widths = {} if group is None else _widths(sites, directions, per_sample)
    columns, squares = _columns(raws, samples, scale, widths)
    if squares:
        columns["", "total"] = torch.stack([one.sum(1) for one in squares.values()]).sum(0).unsqueeze(1)
    columns |= {(name, "sum"): one.unsqueeze(1) for name, one in per_sample(squares).items()}
    merged, whole = _moments(columns), samples
    checks = {name: _check(raw) for name, raw in raws.items()}
    states = {name: _state(sites[name], raw, samples, directions, checks[name], refused) for name, raw in raws.items()}
    if group is not None:
        flags = {name: status for name, (status, _) in states.items()}
        all_ranks = together(widths, merged, samples, flags, scale.reduction, group)
        merged, whole = all_ranks.moments, all_ranks.samples
        states = {name: _elsewhere(state, all_ranks.flags[name]) for name, state in states.items()}
    factor = scale.of_gradient(whole)
    seen = {
        name: _seen(name, raw, merged, directions.get(name), factor, checks[name], *states[name])
        for name, raw in raws.items()
    }
    sums = {name: moments for (name, kind), moments in merged.items() if kind == "sum"}
    return Sample(step, whole, seen, merged.get(("", "total")), sums)


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


def _moments(columns: Mapping[Key, Tensor]) -> dict[Key, Moments]:
    """The moments of numbers of samples (n, k), those with the same n in one go."""
    found: dict[Key, Moments] = {}
    for length in {len(one) for one in columns.values()}:
        alike = {key: one for key, one in columns.items() if len(one) == length}
        together = Moments.from_samples(torch.cat(list(alike.values()), 1))
        found |= zip(alike, together.split([one.shape[1] for one in alike.values()]), strict=True)
    return {key: found[key] for key in columns}


def _columns(
    raws: Mapping[str, Raw], samples: int, scale: Scale, widths: Mapping[Key, int]
) -> tuple[dict[Key, Tensor], dict[str, Tensor]]:
    """Projections, control and squares of every sample by parameter, and the squares (b, H) alone.

    Parameters that no pass of this rank used have zeros, in columns of these ``widths``.
    """
    found: dict[Key, Tensor] = {}
    squares: dict[str, Tensor] = {}
    factor = scale.of_sample(samples)
    for name, raw in raws.items():
        if sum(raw.samples) != samples or raw.flags & REFUSED:
            continue
        if raw.projections:
            along = torch.cat(raw.projections).double() * factor
            k = along.shape[1] // 2
            found[name, "modes"], found[name, "control"] = along[:, :k], along[:, k:]
        if raw.squares:
            squares[name] = _squares(raw) * factor**2
            found[name, "squares"] = squares[name]
            if squares[name].shape[1] > 1:
                found[name, "whole"] = squares[name].sum(1, keepdim=True)
    lengths = Counter(len(one) for one in squares.values())
    usual = lengths.most_common(1)[0][0] if lengths else 0
    for (name, kind), width in widths.items():
        if name in raws and _unused(raws[name]) and usual:
            like = next(iter(squares.values()))
            found[name, kind] = like.new_zeros(samples if kind in LINEAR else usual, width)
            if kind == "squares":
                squares[name] = found[name, kind]
    return found, {name: one for name, one in squares.items() if len(one) == usual}


def _unused(raw: Raw) -> bool:
    """Whether a parameter took part in no pass of this rank, so that its samples contribute 0."""
    return not (raw.touched or raw.samples or raw.flags)


def _squares(raw: Raw) -> Tensor:
    """The squares of all passes (b, H), scaled so that their mean is that over all samples.

    A pass of n_j of the N samples, b_j of the b squares, has the weight ``n_j b/(N b_j)``; 1 if passes are alike.
    """
    if len(raw.squares) == 1 or len(raw.squares) != len(raw.samples):
        return torch.cat(raw.squares).double()
    b, N = sum(len(one) for one in raw.squares), sum(raw.samples)
    weights = [n * b / (N * len(one)) for one, n in zip(raw.squares, raw.samples, strict=True)]
    return torch.cat([one.double() * weight for one, weight in zip(raw.squares, weights, strict=True)])


def _check(raw: Raw) -> Tensor:
    if not raw.projections or raw.own is None:
        return torch.tensor(torch.nan)
    along = torch.cat(raw.projections).double()
    scale = along.abs().sum(0) + torch.finfo(torch.float64).tiny
    return ((along.sum(0) - raw.own.double()).abs() / scale).max()


def _state(
    site: Site, raw: Raw, samples: int, directions: Mapping[str, Directions], check: Tensor, refused: str | None
) -> tuple[int, str]:
    """Status of a parameter and its reason, as the end of a sentence."""
    status, why = raw.flags, raw.why
    if raw.norm2 is None:
        status |= NO_GRADIENT
    elif not bool(torch.isfinite(raw.norm2).all()):
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
    elif raw.samples and site.name in directions and not bool(check <= tolerance(raw.precision)):
        status |= CHECK
    return status, why


def _seen(
    name: str,
    raw: Raw,
    merged: Mapping[Key, Moments],
    directions: Directions | None,
    factor: float,
    check: Tensor,
    status: int,
    why: str,
) -> Seen:
    given = {} if status & REFUSED else merged
    squares = {} if status & (REFUSED | NO_CROSS) else merged
    return Seen(
        projections=given.get((name, "modes")),
        control=given.get((name, "control")),
        squares=squares.get((name, "squares")),
        whole=squares.get((name, "whole")),
        signal=None if raw.along is None else raw.along[: len(raw.along) // 2].double() * factor,
        gradient_norm2=None if raw.norm2 is None else raw.norm2.double() * factor**2,
        euler=None if raw.euler is None else raw.euler.double() * factor,
        directions=directions,
        check=check,
        status=status,
        why=why,
        precision=raw.precision,
    )
