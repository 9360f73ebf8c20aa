"""Whether the saved state of a watch belongs to this watch: records of different kinds are not joined.

The schedule, the number of samples and the optimizer may differ; what decides the meaning of a record may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saddlescope._numbers import shown
from saddlescope.monitor._torch import nn
from saddlescope.monitor.coverage import listed
from saddlescope.monitor.settings import Settings

VERSION = 2
"""Of the layout of a state."""

ELSEWHERE = "state must be written by this version of saddlescope, got one that was written by another version"

PARTS = ("alerts", "balance")
"""Entries of a state that have fixed entries themselves."""


def described(model: nn.Module, given: Settings) -> dict[str, Any]:
    """What two watches must have in common so that their records can be compared."""
    return {
        "parameters": {name: list(parameter.shape) for name, parameter in model.named_parameters()},
        "quantities": sorted(given.quantities),
        "modes": given.modes,
        "reduction": given.reduction,
    }


def check(state: Any, own: Mapping[str, Any]) -> None:
    """Refuse a state that does not fit to ``own``, the present state of the watch.

    Raises TypeError for anything but a dict, ValueError for that of another version, model or kind of measurement.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dict from Watch.state_dict, got {shown(state)}")
    if "version" not in state:
        raise ValueError(f"state must be from Watch.state_dict, got a dict with the keys {listed([*map(str, state)])}")
    lacking = [key for key in own if key not in state]
    if state["version"] != VERSION or lacking:
        what = f" and lacks {listed(lacking)}" if lacking else ""
        raise ValueError(f"{ELSEWHERE}{what}; start a new watch, and load its records from watch.save")
    theirs, ours = state["of"], own["of"]
    if difference := _between(theirs["parameters"], ours["parameters"]):
        raise ValueError(f"state must be of the same model, got one with other parameters: {difference}")
    for name in ("quantities", "modes", "reduction"):
        if theirs[name] != ours[name]:
            raise ValueError(
                f"state must be of a watch with {name}={ours[name]!r}, got {theirs[name]!r}; "
                f"use Watch(…, {name}={theirs[name]!r})"
            )
    for part in PARTS:
        if lacking := [key for key in own[part] or () if key not in state[part]]:
            raise ValueError(f"{ELSEWHERE} and lacks {listed(lacking)} of {part}")


def _between(theirs: Mapping[str, list[int]], ours: Mapping[str, list[int]]) -> str:
    """In which parameters two models differ; empty if in none.

    >>> _between({"a": [2, 3], "b": [2]}, {"a": [3, 3], "c": [2]})
    'a is (2, 3) in it and (3, 3) here; b is not here; c is not in it'
    """
    shapes = [
        f"{name} is {tuple(theirs[name])} in it and {tuple(shape)} here"
        for name, shape in ours.items()
        if name in theirs and theirs[name] != shape
    ]
    missing, new = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
    parts = [listed(shapes, 2)] if shapes else []
    for names, where in ((missing, "not here"), (new, "not in it")):
        parts += [f"{listed(names)} {'is' if len(names) == 1 else 'are'} {where}"] if names else []
    return "; ".join(parts)
