"""A forward and backward pass beside training, for models in whose code hooks do not fire.

Gradients are returned instead of accumulated, random generators and buffers are restored, and compiled code is left
alone: the training step that follows is bit-identical to one without the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from saddlescope._numbers import shown
from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.capture import Capture
from saddlescope.monitor.compiled import eager, untouched
from saddlescope.monitor.sites import Site

LossFunction = Callable[[nn.Module, Any], Tensor]
"""Model and batch → the loss that training would differentiate."""


def probe(
    model: nn.Module,
    sites: Mapping[str, Site],
    capture: Capture,
    loss_fn: LossFunction,
    batch: Any,
    hear: Callable[[Tensor], None] = lambda loss: None,
) -> dict[str, Tensor]:
    """Run the pass with the hooks of the capture on; the gradients by parameter, where there are any.

    ``hear`` is called with the loss. Raises TypeError if the loss is not one number that depends on the parameters.
    """
    with untouched(model), eager(), torch.enable_grad():
        capture.open(gradients=False)
        try:
            loss = loss_fn(model, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
                got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else shown(loss)
                raise TypeError(f"loss_fn(model, batch) must return the loss as a tensor with one number, got {got}")
            hear(loss)
            wanted = [site.parameter for site in sites.values()]
            found = torch.autograd.grad(loss.reshape(()), wanted, allow_unused=True)
        finally:
            capture.close()
    return {name: gradient for name, gradient in zip(sites, found, strict=True) if gradient is not None}


def averaged(gradients: Mapping[str, Tensor], group: Any) -> dict[str, Tensor]:
    """The means over the ranks of a process group; every rank has gradients of the same parameters."""
    ranks = torch.distributed.get_world_size(group)
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients.values()])
    torch.distributed.all_reduce(flat, group=group)
    parts = (flat / ranks).split([gradient.numel() for gradient in gradients.values()])
    return {name: part.reshape(gradient.shape) for (name, gradient), part in zip(gradients.items(), parts, strict=True)}


def summed(count: int, group: Any) -> int:
    """The sum of a number over the ranks of a process group."""
    counts: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(counts, count, group=group)
    return sum(counts)
