"""The arguments of a ``Watch``, checked where they enter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope._numbers import as_choice, as_number, as_whole, hint, shown
from saddlescope.monitor._torch import nn
from saddlescope.monitor.schedule import Schedule, schedule
from saddlescope.monitor.uses import Heads

QUANTITIES = ("modes", "noise", "balance", "rank")
"""What can be measured, in the order of the documentation."""

PRESETS = {"standard": QUANTITIES, "weights": ("rank",)}
"""Names of several quantities; those of "weights" need no data and no hooks."""


@dataclass(frozen=True, eq=False)
class Settings:
    """What a ``Watch`` does at which steps."""

    due: Schedule
    schedule: str
    quantities: frozenset[str]
    samples: int | None
    modes: int
    reduction: str
    loss_scale: Any
    strict: bool
    stance: str

    @property
    def squares(self) -> int | None:
        """Number of samples whose squares are taken: None for all, 0 for none."""
        return self.samples if self.quantities & {"noise", "balance"} else 0

    @property
    def needs_data(self) -> bool:
        """Whether anything but weights is measured."""
        return bool(self.quantities & {"modes", "noise", "balance"})

    def scale(self) -> float:
        """The factor on the loss at this moment."""
        get = getattr(self.loss_scale, "get_scale", None)
        return float(get() if get is not None else self.loss_scale)


def settings(
    given_schedule: Any,
    quantities: Any,
    samples: Any,
    modes: Any,
    reduction: Any,
    loss_scale: Any,
    strict: Any,
    stance: Any,
) -> Settings:
    """The checked settings; TypeError or ValueError names the argument."""
    if not hasattr(loss_scale, "get_scale") and not 0 < as_number(loss_scale, "loss_scale") < math.inf:
        raise ValueError(f"loss_scale must be above 0 and finite, or a GradScaler, got {shown(loss_scale)}")
    if not isinstance(strict, bool):
        raise TypeError(f"strict must be True or False, got {shown(strict)}")
    return Settings(
        due=schedule(given_schedule),
        schedule=given_schedule if isinstance(given_schedule, str) else shown(given_schedule),
        quantities=frozenset(_quantities(quantities)),
        samples=None if samples is None else _at_least(samples, "samples", 2),
        modes=_at_least(modes, "modes", 1),
        reduction=as_choice(reduction, "reduction", "mean", "sum"),
        loss_scale=loss_scale,
        strict=strict,
        stance=as_choice(stance, "stance", "probe", "eager"),
    )


def checked_model(model: Any) -> nn.Module:
    """The model, refused if it is none or has nothing to watch."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {shown(model)}")
    if any(nn.parameter.is_lazy(p) for p in model.parameters()):
        raise ValueError("model must know the shapes of its parameters, got lazy ones; pass a batch through it first")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model must have a parameter that trains, got none; set requires_grad before it is watched")
    return model


def checked_optimizer(optimizer: Any, model: nn.Module) -> Any:
    """The optimizer, refused if it trains no parameter of the model; what is none is left to who follows it."""
    groups = getattr(optimizer, "param_groups", None)
    own = {id(parameter) for parameter in model.parameters()}
    if groups and not any(id(parameter) in own for group in groups for parameter in group["params"]):
        raise ValueError("optimizer must train a parameter of the model, got one of others; make it from this model's")
    return optimizer


def checked_heads(heads: Any, model: nn.Module) -> dict[str, Heads]:
    """Heads that the user declared: numbers of heads, or ``(count, "rows" | "columns")``, by name of the parameter."""
    if heads is None:
        return {}
    if not isinstance(heads, Mapping):
        raise TypeError(f"heads must be a dict from names of parameters to numbers of heads, got {shown(heads)}")
    parameters = dict(model.named_parameters())
    names = list(parameters)
    found = {}
    for name, value in heads.items():
        if name not in names:
            own = [one for one in names if isinstance(name, str) and one.rpartition(".")[0] == name]
            meant = f" (did you mean {own[0]!r}?)" if own else hint(name, names)
            raise ValueError(f"heads must name parameters of the model, got {shown(name)}{meant}")
        count, side = (
            (value.count, value.side)
            if isinstance(value, Heads)
            else value
            if isinstance(value, tuple)
            else (value, "rows")
        )
        one = Heads(_at_least(count, f"heads[{name!r}]", 1), as_choice(side, f"heads[{name!r}]", "rows", "columns"))
        rows, *columns = parameters[name].shape or (1,)
        size = math.prod(columns) if columns and one.side == "columns" else rows
        if size % one.count:
            raise ValueError(f"heads[{name!r}] must divide the {size} {one.side} of the parameter, got {one.count}")
        found[name] = one
    return found


def _quantities(given: Any) -> Iterable[str]:
    if isinstance(given, str):
        if given in PRESETS:
            return PRESETS[given]
        given = (given,)
    try:
        names = tuple(given)
    except TypeError:
        raise TypeError(f"quantities must be a name or several, got {shown(given)}") from None
    for name in names:
        if name not in QUANTITIES:
            allowed = ", ".join(f'"{one}"' for one in (*PRESETS, *QUANTITIES))
            raise ValueError(
                f"quantities must be among {allowed}, got {shown(name)}{hint(name, (*PRESETS, *QUANTITIES))}"
            )
    if not names:
        raise ValueError('quantities must not be empty; "weights" needs no data')
    return names


def _at_least(value: Any, name: str, least: int) -> int:
    number = as_whole(value, name)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number
