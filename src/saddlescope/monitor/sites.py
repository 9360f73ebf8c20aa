"""Which parameters of a model are watched, in which layers, and what is left out with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saddlescope.monitor._torch import Tensor, nn, torch
from saddlescope.monitor.layers import BATCH_NORMS, NORMS, Uses, uses_of, why_not
from saddlescope.monitor.uses import Heads

BY_POSITION = (nn.MultiheadAttention, nn.RNNBase)
"""Layers that multiply their weights with rows of positions × samples, whether or not the batch comes first."""


@dataclass(frozen=True, eq=False)
class Site:
    """A trained parameter: ``shape`` (m, n) as a matrix or None for a vector; ``reason`` if no layer shows samples."""

    name: str
    parameter: nn.Parameter
    shape: tuple[int, int] | None
    heads: Heads | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Tap:
    """A layer that is listened to, and the sites of its parameters by their names in the layer."""

    name: str
    layer: nn.Module
    uses: Uses
    sites: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Layout:
    """The sites and taps of a model, what is skipped, and a fingerprint that changes when the model does."""

    sites: Mapping[str, Site]
    taps: tuple[Tap, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    """Sites without a tap by the id of the parameter, and whether its layer takes positions before samples."""
    batch_norm: str = ""
    """Name of a batch norm that is training."""
    fingerprint: tuple[Any, ...] = ()
    by_position: tuple[tuple[str, nn.Module], ...] = ()
    """Layers that multiply (positions, samples, …), and take it unless they are ``batch_first``."""
    known: dict[Any, str] = field(default_factory=dict)
    """Why rows are not samples, by layer and shape of its input; filled as they are met."""
    vectors: dict[str, bool] = field(default_factory=dict)
    """Whether the samples of a vector add up to its gradient; filled as they are met."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile, DistributedDataParallel and DataParallel."""
    while True:
        inner = model._modules.get("_orig_mod", model._modules.get("module"))
        wrappers = ("OptimizedModule", "DistributedDataParallel", "DataParallel")
        if inner is None or type(model).__name__ not in wrappers:
            return model
        model = inner


def fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """What decides the layout: parameters, their shapes, whether they train, and the modes of batch norms."""
    parameters = tuple((id(p), p.shape, p.requires_grad) for p in model.parameters())
    return parameters, tuple(m.training for m in model.modules() if isinstance(m, BATCH_NORMS))


def layout(model: nn.Module, heads: Mapping[str, Heads]) -> Layout:
    """The layout of a model; ``heads`` by the name of the parameter."""
    sites: dict[str, Site] = {}
    skipped: dict[str, str] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    reasons = _reasons(model)
    vectors = {id(p) for layer in model.modules() if uses_of(layer) in NORMS for p in layer._parameters.values()}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            skipped[name] = "is frozen"
        elif not torch.is_floating_point(parameter) or parameter.numel() == 0:
            skipped[name] = "has no real entries"
        elif hasattr(parameter, "full_tensor"):
            skipped[name] = "is sharded: its ranks hold parts of the matrix; watch an unsharded copy"
        else:
            matrix = parameter.dim() > 1 and id(parameter) not in vectors
            shape = (len(parameter), parameter[0].numel()) if matrix else None
            sites[name] = Site(
                name, parameter, shape, _fitting(heads.get(name), shape, parameter), reasons[id(parameter)]
            )
    taps = tuple(
        Tap(name, layer, uses, own)
        for name, layer in model.named_modules()
        if (uses := uses_of(layer)) is not None
        and not why_not(layer)
        and (
            own := {
                key: names[id(p)] for key, p in layer._parameters.items() if p is not None and names[id(p)] in sites
            }
        )
    )
    tapped = {name for tap in taps for name in tap.sites.values()}
    turned = {id(p) for m in model.modules() if isinstance(m, BY_POSITION) for p in m.parameters()}
    raw = {id(s.parameter): (name, id(s.parameter) in turned) for name, s in sites.items() if name not in tapped}
    training = (name for name, m in model.named_modules() if isinstance(m, BATCH_NORMS) and m.training)
    turned_layers = tuple((name, m) for name, m in model.named_modules() if isinstance(m, BY_POSITION))
    return Layout(sites, taps, skipped, raw, next(training, ""), fingerprint(model), turned_layers)


def shared(taps: Iterable[Tap]) -> set[str]:
    """Parameters of more than one layer: their uses are kept until the end of the pass."""
    seen: set[str] = set()
    again: set[str] = set()
    for tap in taps:
        for name in tap.sites.values():
            (again if name in seen else seen).add(name)
    return again


def products(x: Tensor, y: Tensor, site: Site) -> Tensor:
    """``Σ x y`` of two tensors shaped as a parameter, over each of its heads (H,) or, without heads, all of it (1,)."""
    if site.heads is None:
        return torch.dot(x.reshape(-1), y.reshape(-1)).reshape(1)
    count = site.heads.count
    if site.shape is None or site.heads.side == "rows":
        return torch.linalg.vecdot(x.reshape(count, -1), y.reshape(count, -1))
    x, y = (one.reshape(site.shape).unflatten(1, (count, -1)) for one in (x, y))
    return (x * y).sum((0, 2))


def _reasons(model: nn.Module) -> dict[int, str]:
    """Why no sample is seen at a parameter, by its id; empty where samples are seen."""
    found: dict[int, str] = {}
    for layer in model.modules():
        for parameter in layer._parameters.values():
            if parameter is not None:
                found[id(parameter)] = found.get(id(parameter), "") or why_not(layer)
    return found


def _fitting(heads: Heads | None, shape: tuple[int, int] | None, parameter: nn.Parameter) -> Heads | None:
    """The heads, if they divide the parameter."""
    if heads is None:
        return None
    size = parameter.numel() if shape is None else shape[0 if heads.side == "rows" else 1]
    return heads if heads.count > 1 and size % heads.count == 0 else None
