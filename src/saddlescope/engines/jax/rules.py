"""How a gradient moves the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
from saddlescope.engines.step import Step


@dataclass(frozen=True)
class Rule:
    """Plain SGD."""

    step: Step

    def start(self, params: Any) -> tuple[Any, ...]:
        """State of the optimizer."""
        return ()

    def update(self, params: Any, gradient: Any, state: Any, number: Any, factor: Any) -> Any:
        """Parameters and state after a step."""
        moved = jax.tree.map(lambda w, g: w - self.step.dt * factor * (g + self.step.decay * w), params, gradient)
        return moved, state


def rule(step: Step) -> Rule:
    """The rule of a step."""
    return Rule(step)
