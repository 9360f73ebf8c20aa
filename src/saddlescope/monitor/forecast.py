"""How the imbalance of a rescaling pair will change, from samples of its gradients: the law of balance with its parts.

Notation of ``rules``: ``Q = ⟨θ, θ⟩``, ``C = ⟨θ, m⟩``, ``V = ⟨m, m⟩`` with the momentum buffer m. Let ``C_u`` be the
covariance of per-sample gradients, N the batch size, ``η₁ = η(1−d)/(1−μ)``. The heavy ball obeys, exactly,

    Δ(Q − kC) = κη²V − 2η₁γQ,    k = 2ημ/(1−μ),    κ = (1+μ)/(1−μ).

Independent gradients of variance ``Tr C/N`` add up to the level ``V = ν Tr C/N``, ``ν = (1−d)²/(1−μ²)``; whatever the
buffer holds beyond it is mean gradient. So the expected change per step has the parts

    noise  η₁² (Tr C_u − Tr C_w)/N,    gradient  κη² (V − ν (Tr C_u − Tr C_w)/N),    decay  −2η₁γ Q :

noise has T/(1−μ) on the clock η/(1−μ). Without momentum V is ``‖ḡ_u‖² − ‖ḡ_w‖²`` of the batch, ``κ = ν = 1``, and the
gradient part is ``η²(‖E G_u‖² − ‖E G_w‖²)``, unbiased. In Nesterov's form ``k = 2ημ²/(1−μ)``,
``κ = (1−μ+2μ²)/(1−μ)``, for a mean gradient that changes little in 1/(1−μ) steps.

Between records noise and gradient part are straight lines, and decay acts step by step: with ``X = Q − kC`` and the
decay per step ``a − 1``, ``X' = aX + noise + gradient + (a − 1)kC``. The error is the scatter of V about straight lines
through neighbouring records, relative to ``V_u + V_w`` and pooled over recent records; and, where samples are not those
of the step, that of ``Tr C``, from the mean of ``‖G_u,i‖² − ‖G_w,i‖²``.
Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671; momentum derived here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.rules import Rule

WINDOW = 20
"""Records over which the scatter of V is pooled."""
LEAST = 1e-12
"""Smallest factor by which decay multiplies in a step."""
SURE = 5.0
"""Standard errors beyond which a change is not explained."""


class Constants(NamedTuple):
    """``η₁²``, ``κη²``, ν, the factor of Q, k, and 1 if V is of the step to come (no momentum), 0 if of the last."""

    noise: Any
    level: Any
    share: Any
    decay: Any
    carried: Any
    ahead: Any


def constants(rule: Rule) -> Constants:
    """The constants of a rule.

    >>> constants(Rule(lr=0.5, momentum=0.5))
    Constants(noise=1.0, level=0.75, share=1.3333333333333333, decay=0.0, carried=1.0, ahead=0.0)
    """
    η, μ, γ = float(rule.lr), float(rule.momentum), float(rule.weight_decay)
    if not μ:
        return Constants(η**2, η**2, 1.0, γ * (η**2 * γ - 2 * η), 0.0, 1.0)
    a = 1 - float(rule.dampening)
    κ = (1 - μ + 2 * μ**2 if rule.nesterov else 1 + μ) / (1 - μ)
    k = 2 * η * (μ**2 if rule.nesterov else μ) / (1 - μ)
    η1 = η * a / (1 - μ)
    return Constants(η1**2, κ * η**2, a**2 / (1 - μ**2), -2 * η1 * γ, k, 0.0)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one record says about P pairs; tensors (P,), NaN where something was not seen.

    ``squares`` is the mean of ``‖G_u,i‖² − ‖G_w,i‖²`` and ``squares_stderr`` its error, ``gradient2`` is
    ``‖ḡ_u‖² − ‖ḡ_w‖²`` of ``samples`` samples. ``level`` is V, ``size`` is ``V_u + V_w``, ``mixed`` is C, and
    ``constants`` (6, P) are those of the next step.
    """

    step: int
    samples: int
    batch_size: int
    squares: Tensor
    squares_stderr: Tensor
    gradient2: Tensor
    level: Tensor
    size: Tensor
    imbalance: Tensor
    mixed: Tensor
    constants: Tensor

    @property
    def by(self) -> Constants:
        """The constants by name."""
        return Constants(*self.constants)

    @property
    def unbiased(self) -> float:
        """``n/(n−1)`` of n samples."""
        return self.samples / (self.samples - 1) if self.samples > 1 else float("nan")

    @property
    def trace(self) -> Tensor:
        """``Tr C_u − Tr C_w``, unbiased."""
        return (self.squares - self.gradient2) * self.unbiased

    @property
    def mean_of(self) -> Tensor:
        """Number of samples in the gradients that V is made of."""
        return torch.where(self.by.ahead > 0, float(self.samples), float(self.batch_size))

    @property
    def parts(self) -> Tensor:
        """Noise, gradient and decay part of the expected change per step, (3, P)."""
        c = self.by
        gradient = c.level * (self.level - c.share * self.trace / self.mean_of)
        return torch.stack([c.noise * self.trace / self.batch_size, gradient, c.decay * self.imbalance])

    @property
    def carried(self) -> Tensor:
        """``kC``, which comes and goes with the momentum."""
        return self.by.carried * self.mixed

    def stderr(self, scatter: Tensor) -> Tensor:
        """Standard error (P,) of the sum of the parts."""
        c = self.by
        of_trace = (c.noise / self.batch_size - c.level * c.share / self.mean_of) * self.unbiased
        of_level = (c.level - c.ahead * of_trace) * scatter * self.size
        return ((of_trace * self.squares_stderr).square() + of_level.square()).sqrt()


@dataclass(frozen=True, eq=False)
class Forecast:
    """The prediction up to a record: its value, the variance of what is final, and the weight of the last record."""

    last: Evidence
    earlier: Evidence
    """The record before the last one, or the last one."""
    predicted: Tensor
    variance: Tensor
    weight: Tensor
    residuals: Tensor
    """Of ``level`` from straight lines, relative, of unit variance per scatter²; (records, P), the latest last."""
    jump: Tensor
    """1 where the change since the record before is not explained, NaN where that is not known."""

    @property
    def scatter(self) -> Tensor:
        """Relative standard deviation (P,) of ``level`` at one record; NaN before the second record."""
        return self.residuals.square().nanmean(0).sqrt()

    @property
    def stderr(self) -> Tensor:
        """Standard error (P,) of ``predicted``."""
        own = torch.where(self.weight > 0, self.weight * self.last.stderr(self.scatter), 0.0)
        return (self.variance + own.square()).sqrt()


def start(first: Evidence) -> Forecast:
    """The forecast at the first record: the imbalance as it is."""
    zero = torch.zeros_like(first.imbalance)
    return Forecast(first, first, first.imbalance, zero, zero, zero[None][:0], torch.full_like(zero, torch.nan))


def extended(before: Forecast, now: Evidence, rounding: float | Tensor = 0.0) -> Forecast:
    """The forecast at the next record. ``rounding`` is a change of the imbalance that is never a jump.

    Where one record saw nothing, the other stands for it.
    """
    last = before.last
    if now.step <= last.step:
        return before
    last, now = _completed(last, now), _completed(now, last)
    residual = _residual(before.earlier, last, now)
    after = replace(before, last=now, earlier=last, residuals=torch.cat([before.residuals, residual[None]])[-WINDOW:])
    Δ, span = now.step - last.step, between(last, now)
    rates, decays = (torch.stack([one.parts[part].sum(0) for one in (last, now)]) for part in (slice(2), slice(2, 3)))
    errors = torch.stack([one.stderr(after.scatter) for one in (last, now)])
    ends = torch.stack([last.carried, now.carried])
    carried = ends[1] - ends[0]
    decayed = span.lost * (last.imbalance - ends[0]) + (span.of_carried * ends).sum(0)
    change = (span.of_rates * rates).sum(0) + decayed + carried
    return replace(
        after,
        predicted=before.predicted + change,
        variance=before.variance + ((before.weight + span.of_rates[0]) * errors[0]).square(),
        weight=span.of_rates[1],
        jump=_jump(now.imbalance - last.imbalance - carried, Δ * (rates + decays), Δ * errors, rounding),
    )


class Between(NamedTuple):
    """How X changes from one record to the next, for P pairs: by ``lost`` times X, and the weights (2, P) of both ends.

    They are those of the rates, and those of kC.
    """

    lost: Tensor
    of_rates: Tensor
    of_carried: Tensor


def between(last: Evidence, now: Evidence) -> Between:
    """``X' = aX + r + (a − 1)kC`` over all Δ steps, where r and kC, and log a, are straight lines between the records.

    Step s has the rate of the place s/Δ, or (s + 1)/Δ where V is of the step before.
    """
    Δ = now.step - last.step
    place = torch.arange(Δ, dtype=last.imbalance.dtype, device=last.imbalance.device)[:, None] / Δ
    one, other = (torch.log1p(end.by.decay.clamp(min=LEAST - 1)) for end in (last, now))
    log_a = (1 - place) * one + place * other
    from_here = log_a.flip(0).cumsum(0).flip(0)
    later = (from_here - log_a).exp()  # the product of the steps that follow
    of_rate = place + (1 - now.by.ahead) / Δ
    weights = [torch.stack([(w * (1 - at)).sum(0), (w * at).sum(0)]) for w, at in (
        (later, of_rate), (later * log_a.expm1(), place)
    )]  # fmt: skip
    return Between(from_here[0].expm1(), *weights)


def _residual(one: Evidence, two: Evidence, three: Evidence) -> Tensor:
    """How far V of the second record is from the straight line between its neighbours, relative, of unit variance.

    Of two records, how far they are apart.
    """
    if one.step == two.step:
        return (three.level - two.level) / (three.size + two.size) * 2**0.5
    w = (two.step - one.step) / (three.step - one.step)
    line = (1 - w) * one.level + w * three.level
    size = ((1 - w) * one.size + w * three.size + two.size) / 2
    return (two.level - line) / (size * (1 + w**2 + (1 - w) ** 2) ** 0.5)


def _completed(one: Evidence, other: Evidence) -> Evidence:
    """A record with what another saw where it saw nothing."""
    tensors = {
        name: torch.where(value.isnan(), getattr(other, name), value)
        for name, value in vars(one).items()
        if isinstance(value, Tensor)
    }
    counts = {name: getattr(one, name) or getattr(other, name) for name in ("samples", "batch_size")}
    return replace(one, **tensors, **counts)


def _jump(change: Tensor, explained: Tensor, errors: Tensor, rounding: float | Tensor) -> Tensor:
    """1 where a change lies outside of what the rates at both ends (2, P) explain, with their errors."""
    room = SURE * errors.max(0).values + rounding
    outside = (change < explained.min(0).values - room) | (change > explained.max(0).values + room)
    return torch.where((explained.sum(0) + room).isnan(), torch.nan, outside.to(change.dtype))


# --- saved and restored


def chosen(forecast: Forecast, which: Sequence[int]) -> Forecast:
    """The forecast of some of its pairs."""
    index = torch.tensor(list(which), dtype=torch.int64, device=forecast.predicted.device)
    return _mapped(forecast, lambda x: x[..., index])


def _mapped(part: Any, of: Callable[[Tensor], Tensor]) -> Any:
    values = {one.name: getattr(part, one.name) for one in fields(part)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = of(value)
        elif isinstance(value, Evidence):
            values[name] = _mapped(value, of)
    return type(part)(**values)


def state(forecast: Forecast) -> dict[str, Any]:
    """A forecast as plain dictionaries."""
    return {
        one.name: vars(value) if isinstance(value := getattr(forecast, one.name), Evidence) else value
        for one in fields(forecast)
    }


def restored(state: Mapping[str, Any], like: Tensor) -> Forecast:
    """The forecast of ``state``, on the device of a tensor."""
    records = {name: Evidence(**state[name]) for name in ("last", "earlier")}
    forecast = Forecast(**{**state, **records})
    return _mapped(forecast, lambda x: x.to(like))
