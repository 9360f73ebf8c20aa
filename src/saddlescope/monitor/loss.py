"""What the graph of the loss says: mean or sum over the batch, a factor, samples that are coupled.

It is heard on the first sampled step alone, where ``backward`` is called on it. It can raise doubts about what the user
declared, never replace it: a loss can be averaged in more ways than its graph shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor._torch import Tensor, torch

REDUCTIONS = {1: "mean", 2: "sum"}
"""How autograd numbers the reductions of its losses."""
THROUGH = ("Mul", "Div", "ToCopy", "View", "Squeeze", "Unsqueeze", "Neg", "Alias", "Clone", "Reshape", "UnsafeView")
"""Operations that the graph is followed through."""
LARGE = 64.0
"""A factor from which on a loss is taken for scaled, as in mixed precision."""


@dataclass(frozen=True)
class Reading:
    """The outermost reduction, if it shows, and the constant by which the result was multiplied."""

    reduction: str | None
    factor: float


def read(loss: Tensor) -> Reading:
    """Read the graph of a loss, from its end to the first reduction.

    >>> read(torch.ones(3, requires_grad=True).square().sum() * 1024.0)
    Reading(reduction='sum', factor=1024.0)
    """
    node, factor = loss.grad_fn, 1.0
    while node is not None:
        name = node.name().removesuffix("Backward0").removesuffix("Backward1")
        saved = getattr(node, "_saved_reduction", None)
        if saved is not None or name in ("Mean", "Sum"):
            return Reading(REDUCTIONS.get(saved) if saved is not None else name.lower(), factor)
        before = [one for one, _ in node.next_functions if one is not None]
        if name not in THROUGH or len(before) != 1:
            break
        if name in ("Mul", "Div"):
            constant = _constant(node)
            factor = factor * constant if name == "Mul" else factor / (constant or 1.0)
        node = before[0]
    return Reading(None, factor)


def doubts(reading: Reading, reduction: str, loss_scale: float) -> str:
    """Where a loss looks other than was declared, as a sentence with the remedy; empty if nowhere."""
    found = reading.reduction
    if found is not None and found != reduction and (found == "mean" or reading.factor >= 1):
        return (
            f'the loss looks like a {found} over the batch, but reduction="{reduction}" was declared: '
            f'use Watch(…, reduction="{found}"), or variances and traces are wrong by powers of the batch size'
        )
    if reading.factor >= LARGE and not 0.5 < reading.factor / loss_scale < 2:
        return (
            f"the loss is multiplied by {reading.factor:g}, but loss_scale={loss_scale:g} was declared: "
            f"use Watch(…, loss_scale=scaler) or loss_scale={reading.factor:g}, or traces are wrong by its square"
        )
    return ""


def couples(loss: Tensor) -> bool:
    """Whether a batch norm without a module, in training, is in the graph: no gradient then belongs to one sample."""
    for node in _graph(loss):
        if "BatchNorm" in node.name() and getattr(node, "_saved_training", True):
            shapes = [one.shape for one in getattr(node, "_input_metadata", ())]
            if shapes and len(shapes[0]) > 1 and shapes[0][0] > 1:  # that of InstanceNorm has one row
                return True
    return False


class Listener(torch.overrides.TorchFunctionMode):
    """While it is entered, ``hear`` is called with every tensor on which ``backward`` is called."""

    def __init__(self, hear: Callable[[Tensor], None]) -> None:
        self._hear = hear

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.backward and args:
            self._hear(args[0])
        return func(*args, **(kwargs or {}))


def _constant(node: Any) -> float:
    """The constant factor of a product or quotient; 1 if there is none that was saved."""
    for name in ("_saved_other", "_saved_self"):
        value = getattr(node, name, None)
        if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
            return abs(float(value))
        if isinstance(value, int | float):
            return abs(float(value))
    return 1.0


def _graph(loss: Tensor) -> Iterator[Any]:
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [one for one, _ in node.next_functions]
