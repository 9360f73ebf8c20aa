"""Projections and norms of per-sample gradients by other packages, which form these gradients.

Every function returns a step: forward, backward, ``p.grad`` as training needs it, and for every watched weight
``uᵀG_iv`` (N, k) with ``‖G_i‖²`` (N,) of every parameter, in as few operations as the package allows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from monitor_models import Batch, loss
from torch import Tensor, nn
from torch.nn import functional

from saddlescope.monitor.directions import leading

Step = Callable[[Batch], None]
MODES = 8


class Reader:
    """Reads per-sample gradients along the leading directions of the weights, warm-started as ours are."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.bases = model, dict[str, Tensor]()

    def __call__(self, gradients: Mapping[str, Tensor]) -> dict[str, tuple[Tensor | None, Tensor]]:
        """Projections and squares from gradients (N, …) by parameter."""
        found = {}
        for name, parameter in self.model.named_parameters():
            G, along = gradients[name].flatten(2) if parameter.dim() > 1 else gradients[name], None
            if parameter.dim() > 1:
                now = leading(parameter.detach().flatten(1), MODES, self.bases.get(name))
                self.bases[name] = now.basis
                along = ((G @ now.V) * now.U).sum(1)
            flat = G.flatten(1)
            found[name] = (along, torch.linalg.vecdot(flat, flat))
        return found


def vmap_grad(model: nn.Module, chunk: int | None = None) -> Step:
    """``torch.func``: vmap of grad; the gradient of the batch is the mean over samples."""
    read = Reader(model)

    def of_sample(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        out = torch.func.functional_call(model, parameters, (x.unsqueeze(0),))
        return functional.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))

    per_sample = torch.func.vmap(torch.func.grad(of_sample), (None, 0, 0), chunk_size=chunk)

    def step(batch: Batch) -> None:
        parameters = {name: p.detach() for name, p in model.named_parameters()}
        gradients = per_sample(parameters, *batch)
        with torch.no_grad():
            read(gradients)
            for name, p in model.named_parameters():
                p.grad = gradients[name].mean(0)

    return step


def opacus(model: nn.Module) -> Step:
    """Opacus: hooks that leave ``p.grad_sample``."""
    from opacus import GradSampleModule

    warnings.filterwarnings("ignore", module="torch|opacus")
    wrapped, read = GradSampleModule(model), Reader(model)

    def step(batch: Batch) -> None:
        loss(wrapped, batch).backward()
        with torch.no_grad():
            read({name: p.grad_sample for name, p in model.named_parameters()})
        for p in model.parameters():
            p.grad_sample = None

    return step


def backpack(model: nn.Module) -> Step:
    """BackPACK: the extension ``BatchGrad``, which leaves ``p.grad_batch``."""
    import backpack as package
    from backpack.extensions import BatchGrad

    if any(isinstance(layer, nn.LayerNorm) for layer in model.modules()):
        raise NotImplementedError("BackPACK has no per-sample gradients of LayerNorm")
    package.extend(model)
    criterion, read = package.extend(nn.CrossEntropyLoss()), Reader(model)

    def step(batch: Batch) -> None:
        x, y = batch
        with package.backpack(BatchGrad()):
            criterion(model(x), y).backward()
        with torch.no_grad():
            read({name: p.grad_batch for name, p in model.named_parameters()})
        for p in model.parameters():
            del p.grad_batch

    return step


PEERS: dict[str, Callable[[nn.Module], Step]] = {
    "vmap(grad)": vmap_grad,
    "vmap(grad), chunks of 16": lambda model: vmap_grad(model, 16),
    "Opacus": opacus,
    "BackPACK": backpack,
}
