"""The gradient J of the product of two neighbouring linear maps, and the log determinant that follows from it.

With the inputs a of the lower map and the output gradients δ of the upper one, ``J = Σ_i Σ_t δ_it a_itᵀ``. A step of
SGD changes the log determinant of ``[W_1, W_2ᵀ]`` by ``−2η²‖J‖²`` to leading order, and by
``2(n_0 + n_2) log(1 − ηγ)`` from weight decay γ. The expectation of ``‖J‖²`` over batches is ``‖E J‖² + Tr Cov[J]/B``:
mean gradient and noise.
Source: Varre, Sagitova & Flammarion 2024, NeurIPS 37:60133; theory of the determinant in ``saddlescope.theory``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.uses import Outer, Use

Interfaces = Mapping[str, tuple[str, str]]
"""Name → names of the lower and of the upper weight."""


class Products:
    """The gradients of the products of one step, summed over its passes."""

    def __init__(self, interfaces: Interfaces) -> None:
        self._below = {lower: name for name, (lower, _) in interfaces.items()}
        self._above = {upper: name for name, (_, upper) in interfaces.items()}
        self._waiting: dict[tuple[str, int], Tensor] = {}
        self.gradients: dict[str, Tensor] = {}

    def take(self, weight: str, task: int, use: Use) -> None:
        """Take a use of a weight in a pass; the upper one comes first."""
        if not isinstance(use, Outer):
            return
        if weight in self._below and (d := self._waiting.pop((self._below[weight], task), None)) is not None:
            J = d.flatten(0, 1).T @ use.a.flatten(0, 1)
            name = self._below[weight]
            self.gradients[name] = self.gradients[name] + J if name in self.gradients else J
        if weight in self._above:
            self._waiting[self._above[weight], task] = use.d


@dataclass(frozen=True)
class Decline:
    """The prediction at a record: its value, and the expected change by the step that follows, NaN if not known."""

    step: int
    predicted: float
    rate: float


def extended(before: Decline | None, step: int, log_det: float, rate: float) -> Decline:
    """The prediction at the next record, by the trapezoidal rule; it starts at the ``log_det`` of the first.

    Where the rate of one end is not known, that of the other stands for it.

    >>> extended(Decline(step=0, predicted=1.0, rate=-0.1), step=10, log_det=0.2, rate=-0.3).predicted
    -1.0
    """
    if before is None:
        return Decline(step, log_det, rate)
    known = [one for one in (before.rate, rate) if math.isfinite(one)]
    mean = sum(known) / len(known) if known else math.nan
    return Decline(step, before.predicted + (step - before.step) * mean, rate)


def rate(J: Tensor, optimizer: Any, weights: tuple[Tensor, Tensor]) -> float:
    """Expected change of the log determinant by a step of plain SGD; NaN under any other optimizer."""
    group = plain_sgd(optimizer, weights)
    if group is None:
        return math.nan
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    shrunk = 1 - lr * decay
    loss = 2 * sum(J.shape) * math.log(shrunk) if shrunk > 0 else math.nan
    return -2 * lr**2 * float(J.double().square().sum()) + loss


def plain_sgd(optimizer: Any, weights: tuple[Tensor, ...]) -> dict[str, Any] | None:
    """The group of parameters that holds these weights, if it is of SGD without momentum."""
    if type(optimizer) is not torch.optim.SGD:
        return None
    wanted = {id(weight) for weight in weights}
    for group in optimizer.param_groups:
        if wanted <= {id(parameter) for parameter in group["params"]}:
            return group if group["momentum"] == 0 and not group["maximize"] else None
    return None
