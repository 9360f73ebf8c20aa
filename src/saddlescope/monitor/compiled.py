"""Models that torch.compile has compiled: hooks do not fire in their code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from saddlescope.monitor._torch import nn, torch


def is_compiled(model: nn.Module) -> bool:
    """Whether the model, or a module of it, was compiled by ``torch.compile(model)`` or ``model.compile()``."""
    return any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules and functions uncompiled inside; nothing is recompiled before or after."""
    with torch.compiler.set_stance("force_eager"):
        yield


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restore the state of all random generators and the buffers of the model afterwards."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def rows(batch: Any) -> int | None:
    """The length that all tensors of a batch have in common, None if there is none.

    >>> rows([torch.zeros(8, 3), {"y": torch.zeros(8)}]), rows([torch.zeros(8, 3), torch.zeros(4)]), rows(None)
    (8, None, None)
    """
    lengths = {len(leaf) for leaf in _tensors(batch)}
    return lengths.pop() if len(lengths) == 1 else None


def _tensors(batch: Any) -> list[torch.Tensor]:
    """The tensors of a batch that have rows."""
    leaves = torch.utils._pytree.tree_leaves(batch)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dim()]


def first_samples(batch: Any, count: int | None) -> tuple[Any, int]:
    """The first samples of all tensors in a batch, and the number of samples of the whole batch.

    >>> batch = {"x": torch.zeros(8, 3), "y": torch.zeros(8), "weight": 2.0}
    >>> part, whole = first_samples(batch, 2)
    >>> part["x"].shape, part["y"].shape, whole
    (torch.Size([2, 3]), torch.Size([2]), 8)
    """
    whole = next((len(leaf) for leaf in _tensors(batch)), 0)
    if count is None or count >= whole:
        return batch, whole
    return (
        torch.utils._pytree.tree_map(
            lambda leaf: leaf[:count] if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) == whole else leaf,
            batch,
        ),
        whole,
    )
