"""One step of SGD as a rescaling pair sees it: how its imbalance changes, exactly.

Write ``⟨x, y⟩ = x_u·y_u − x_w·y_w`` for two vectors on the weights of a pair, ``Q = ⟨θ, θ⟩`` for its imbalance and
``C = ⟨θ, m⟩`` with the momentum buffer m. SGD of PyTorch has the gradient ``h = g + γθ`` with weight decay, and

    m' = μm + (1 − d)h   (m' = h in the first step),    θ' = θ − ηs,
    s = h without momentum,  s = m' with it,  s = h + μm' of Nesterov.

The symmetry says ``⟨θ, g⟩ = 0`` on any batch, so that the gradient enters by squares only. With ``E = ⟨θ, m'⟩``,

    E = μC + (1 − d)γQ,    C' = E − η⟨s, m'⟩,    Q' = Q − 2η⟨θ, s⟩ + η²⟨s, s⟩,

where ``⟨θ, s⟩`` is γQ, E or γQ + μE. Without momentum, ``Q' = (1 − ηγ)²Q + η²⟨g, g⟩``. Clipping by a norm, a change
of η, μ or γ between steps, and skipped steps leave all of this exact. It does not hold where the weights of a pair have
different η, μ or γ, and for optimizers other than SGD: such pairs are measured, but not accounted for.
Source: derived here; ``saddlescope.theory.heavy_ball`` has it for matrices.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from saddlescope.monitor._torch import Tensor, torch


@dataclass(frozen=True)
class Rule:
    """The constants of SGD at one step: η, μ, d, γ; the sign of the gradient; Nesterov's form or not."""

    lr: Any
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    maximize: bool = False


@dataclass(frozen=True, eq=False)
class State:
    """Q and C of P pairs, and 1 where there is no momentum buffer yet; each (P,)."""

    imbalance: Tensor
    mixed: Tensor
    fresh: Tensor


CONSTANTS = tuple(one.name for one in fields(Rule))


def advanced(state: State, rule: Rule, gg: Tensor, gm: Tensor | None = None, mm: Tensor | None = None) -> State:
    """The state after a step, from ``⟨g, g⟩``, ``⟨g, m'⟩`` and ``⟨m', m'⟩`` (P,) of it; exact for any batch.

    The first is not read with momentum, unless it is Nesterov's, which alone reads the second.

    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> advanced(State(3 * one, zero, one), Rule(lr=0.5), gg=4 * one).imbalance
    tensor([4.])
    """
    Q, η, μ, γ = state.imbalance, rule.lr, rule.momentum, rule.weight_decay
    if mm is None:
        kept = (1 - η * γ) ** 2 * Q if γ else Q
        return State(kept + η**2 * gg, state.mixed, state.fresh)
    E = μ * state.mixed
    if γ:
        E = E + (1 - rule.dampening * (1 - state.fresh)) * γ * Q
    along, ss, sm = E, mm, mm
    if rule.nesterov and gm is not None:
        X = -gm if rule.maximize else gm
        along = γ * Q + μ * E
        ss = gg + γ**2 * Q + μ**2 * mm + 2 * μ * (X + γ * E)
        sm = X + γ * E + μ * mm
    return State(Q - 2 * η * along + η**2 * ss, E - η * sm, 0 * state.fresh)


def rule(group: dict[str, Any]) -> Rule:
    """The rule of a group of parameters of ``torch.optim.SGD``."""
    return Rule(*(group[name] for name in CONSTANTS))


def is_sgd(optimizer: Any) -> bool:
    """Whether an optimizer takes the steps of ``torch.optim.SGD``, on whatever device and in whatever order."""
    return inspect.unwrap(type(optimizer).step) is inspect.unwrap(torch.optim.SGD.step)


def why_not(optimizer: Any, groups: Mapping[str, int | None]) -> str:
    """Why a pair has no account, "" if it has one; ``groups`` by parameter, None outside of the optimizer."""
    if not is_sgd(optimizer):
        return f"its optimizer is {type(optimizer).__name__}; the identity covers SGD, with or without momentum"
    for name, group in groups.items():
        if group is None:
            return f"{name} is not in the optimizer of the rest of the pair"
    return differing(optimizer, [group for group in groups.values() if group is not None])


def differing(optimizer: Any, groups: Iterable[int]) -> str:
    """Which constant differs between groups of parameters, as a reason; "" if none does."""
    first, *rest = (
        {one.name: optimizer.param_groups[i][one.name] for one in fields(Rule)} for i in dict.fromkeys(groups)
    )
    for other in rest:
        for name, value in first.items():
            if value is not other[name] and value != other[name]:
                return f"{name} differs between its weights: {value} and {other[name]}"
    return ""
