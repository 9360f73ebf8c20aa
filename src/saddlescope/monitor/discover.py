"""Finding the optimizer of a model: the first that makes a step with one of its parameters."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from saddlescope.monitor._torch import Tensor, register_optimizer_step_pre_hook, torch


class Search:
    """A hook on all optimizers, until one with these parameters is found; ``over`` says that it can be removed.

    It is removed by ``close``, not by itself: the hook runs while torch iterates over the hooks.
    """

    def __init__(self, parameters: Iterable[Tensor], found: Callable[[torch.optim.Optimizer], None]) -> None:
        """``found`` is a bound method, and is not kept alive."""
        self._wanted = {id(parameter) for parameter in parameters}
        self._found = weakref.WeakMethod(found)
        self.over = False
        self._handle = register_optimizer_step_pre_hook(self)

    def __call__(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        found = self._found()
        if found is None:
            self.over = True
        if found is None or self.over or not trains(optimizer, self._wanted):
            return
        self.over = True
        found(optimizer)

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()


def trains(optimizer: Any, wanted: set[int]) -> bool:
    """Whether an optimizer has one of these parameters, given by their ids."""
    return any(id(parameter) in wanted for group in optimizer.param_groups for parameter in group["params"])


def learning_rate(optimizer: Any, wanted: set[int]) -> float | None:
    """The learning rate of these parameters; None if they have several or none."""
    rates = {
        float(group["lr"])
        for group in optimizer.param_groups
        if any(id(parameter) in wanted for parameter in group["params"])
    }
    return rates.pop() if len(rates) == 1 else None
