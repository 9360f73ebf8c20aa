"""Whether the samples of a vector add up to its gradient.

Vectors (biases, scales) have no projections, so that nothing shows a penalty on them, or a use outside their layer.
Once for every layout of the model, their contributions are formed for all samples and compared with the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from saddlescope.monitor._torch import Tensor, torch
from saddlescope.monitor.uses import Rows, Use

TOLERANCE, AT_MOST = 1e3, 0.1
"""By how much sums of samples may differ from the gradient, relative to the sum of absolute values: rounding units, and
the largest difference whatever they are."""


def tolerance(precision: float) -> float:
    """The largest difference that rounding explains."""
    return min(TOLERANCE * precision, AT_MOST)


class Sums:
    """Contributions of samples to vectors, summed by backward pass, and the gradients of these vectors."""

    def __init__(self, wanted: Collection[str]) -> None:
        self._wanted = frozenset(wanted)
        self._sums: dict[str, list[tuple[int, Tensor, Tensor]]] = {}
        self._gradients: dict[str, Tensor] = {}

    def take(self, name: str, task: int, use: Use) -> None:
        """Take a use of a vector in a pass."""
        if name in self._wanted:
            G = use.formed().reshape(len(use), -1)
            # Positions may cancel, as in the bias of attention's keys: rounding is then relative to what cancels.
            parts = use.form(*(part.abs() for part in use.parts)) if isinstance(use, Rows) else G
            self._sums.setdefault(name, []).append((task, G.sum(0), (G.abs() + parts.abs().reshape(G.shape)).sum(0)))

    def gradient(self, name: str, g: Tensor) -> None:
        """Take the gradient of a vector, the sum over all passes so far."""
        if name in self._wanted:
            self._gradients[name] = g.reshape(-1).clone()

    def agree(self, precision: Callable[[str], float], counts: Callable[[str, int], bool]) -> dict[str, bool]:
        """Whether the samples of each vector add up, over the passes that count, if all is finite.

        The difference is relative to the norm of ``Σ_i |G_i|`` and of the gradient, as far as rounding goes; ten
        rounding units of the largest of all vectors are no difference, as gradients may vanish by symmetry.
        """
        off, scale = {}, {}
        for name, g in self._gradients.items():
            uses = [sums for task, *sums in self._sums.get(name, ()) if counts(name, task)]
            if uses:
                total, size = (torch.stack(parts).sum(0) for parts in zip(*uses, strict=True))
                off[name], scale[name] = float((total - g).norm()), float(size.norm() + g.norm())
        scale = {name: one for name, one in scale.items() if math.isfinite(one)}
        largest = max(scale.values(), default=0.0)
        return {
            name: off[name] <= max(tolerance(precision(name)) * one, 10 * precision(name) * largest)
            for name, one in scale.items()
        }
