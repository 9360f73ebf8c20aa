"""Which backward passes hold the same samples.

A pass is a backward pass that the training loop starts. Those that run inside it (reentrant checkpointing) belong to
it, and so does a later one through the same forward pass (``retain_graph``): it has the same samples. A pass that adds
to no gradient, such as ``autograd.grad`` with respect to an input, is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saddlescope.monitor._torch import torch


@dataclass(eq=False)
class Call:
    """One call of a layer, and the first pass that came back through it."""

    passed: int | None = None


class Passes:
    """Numbers the passes of one step, by the backward pass that runs when it is asked."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        """``then`` is called at the end of every pass, after what others do there."""
        self._then = then
        self._of_task: dict[int, int] = {}
        self._running: int | None = None
        self._added: dict[int, set[str]] = {}

    def now(self, call: Call | None = None) -> int | None:
        """The pass that runs now, None outside all; ``call`` is a layer's call that it came back through."""
        task = int(torch._C._current_graph_task_id())
        if task < 0:
            self._running = None
            return None
        if task not in self._of_task:
            if self._running is None:
                self._running = task
                _at_the_end(self._end)
            self._of_task[task] = self._running
        if call is not None:
            if call.passed is not None and call.passed in self._added:
                self._running = self._of_task[task] = call.passed
            call.passed = self._of_task[task]
        return self._of_task[task]

    def adds(self, name: str) -> None:
        """The pass that runs now has added to the gradient of a parameter."""
        now = self.now()
        if now is not None:
            self._added.setdefault(now, set()).add(name)

    def added(self, name: str, number: int) -> bool:
        """Whether a pass has added to the gradient of a parameter."""
        return name in self._added.get(number, ())

    def _end(self) -> None:
        self._running = None
        if self._then is not None:
            _at_the_end(self._then)


def _at_the_end(function: Callable[[], None]) -> None:
    """Call a function when the running backward pass has ended, after those that asked before."""
    torch.autograd.Variable._execution_engine.queue_callback(function)
