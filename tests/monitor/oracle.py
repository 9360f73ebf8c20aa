"""Brute force: the gradient of every sample by ``torch.func``, and what follows from it for a record."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from saddlescope.monitor import Watch  # noqa: E402
from saddlescope.monitor.uses import Heads  # noqa: E402

Loss = Callable[[Any, Any], Any]
"""The mean loss of a batch, as a function of the model and the batch."""

Values = dict[str, dict[str, Any]]


def length(batch: Any) -> int:
    """Number of samples of a batch."""
    return len(torch.utils._pytree.tree_leaves(batch)[0])


def gradients(model: Any, loss: Loss, batch: Any) -> dict[str, Any]:
    """The gradient of the loss of every sample alone, (N, …) by parameter."""
    trained = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def of_sample(values: dict[str, Any], one: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            return torch.func.functional_call(model, values, args, kwargs, tie_weights=True)

        return loss(called, one)

    ones = [torch.utils._pytree.tree_map(lambda leaf, i=i: leaf[i : i + 1], batch) for i in range(length(batch))]
    found = [torch.func.grad(of_sample)(trained, one) for one in ones]
    return {name: torch.stack([each[name] for each in found]).detach() for name in trained}


def contributions(model: Any, loss: Loss, batches: Sequence[Any], divided: bool) -> dict[str, Any]:
    """``G_i = N · contribution`` over micro-batches whose mean losses are added, or averaged if ``divided``."""
    N = sum(length(batch) for batch in batches)
    parts = []
    for batch in batches:
        weight = N / length(batch) / (len(batches) if divided else 1)
        parts.append({name: weight * G for name, G in gradients(model, loss, batch).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def blocks(G: Any, heads: Heads) -> list[Any]:
    """Blocks of rows or columns of (N, …), each flattened."""
    if G.dim() == 2 or heads.side == "rows":
        return [part.flatten(1) for part in G.chunk(heads.count, 1)]
    return [part.flatten(1) for part in G.flatten(2).chunk(heads.count, 2)]


def trace(G: Any, kept: Any) -> Any:
    """``(mean ‖G_i‖² − ‖ḡ‖²) N/(N−1)`` of (N, …), the mean over the samples in ``kept``."""
    N = len(G)
    return (G[kept].flatten(1).square().sum(1).mean() - G.mean(0).square().sum()) * N / (N - 1)


def expected(watch: Watch, G: dict[str, Any], kept: Any = slice(None)) -> Values:
    """The values of a record; squares are of the samples in ``kept``."""
    found: Values = {}

    def put(variable: str, name: str, value: Any) -> None:
        found.setdefault(variable, {})[name] = value

    for name, each in G.items():
        site = watch._measure.layout.sites[name]
        if site.shape is not None:
            matrix, one = each.flatten(2), watch._measure._along[name]
            for prefix, (U, V) in {"mode": (one.U, one.V), "control": watch._measure._control(name, one)}.items():
                along = torch.einsum("mk,imn,nk->ik", U.to(each.dtype), matrix, V.to(each.dtype))
                put(f"{prefix}_signal", name, along.mean(0))
                put(f"{prefix}_variance", name, along.var(0))
        put("gradient_norm2", name, each.mean(0).square().sum())
        put("trace", name, trace(each, kept))
        if site.heads:
            parts = blocks(each, site.heads)
            put("head_trace", name, torch.stack([trace(part, kept) for part in parts]))
            put("head_gradient_norm2", name, torch.stack([part.mean(0).square().sum() for part in parts]))
    everything = torch.cat([each.flatten(1) for each in G.values()], 1)
    put("total_trace", "", trace(everything, kept))
    put("total_gradient_norm2", "", everything.mean(0).square().sum() - found["total_trace"][""] / len(everything))
    return found


def errors(values: Values, wanted: Values) -> dict[str, float]:
    """The largest difference of every variable, relative to the mean square of the samples' gradients.

    That is the scale of rounding: a variance or trace is the difference of two numbers of that size.
    """
    N2 = {name: value + wanted["gradient_norm2"][name] for name, value in wanted["trace"].items()}
    floor = 1e-3 * max(N2.values()) if N2 else 0.0  # gradients that vanish by symmetry
    found = {}
    for variable, parameters in wanted.items():
        worst = []
        for name, value in parameters.items():
            got = values[variable][name].reshape(value.shape).to(value.dtype)
            scale = value.abs().max()
            if variable.endswith("_signal"):
                scale = scale + wanted[variable.replace("signal", "variance")][name].max().sqrt()
                scale = scale + (1e-3 * floor) ** 0.5
            elif name:
                scale = torch.maximum(scale, torch.as_tensor(1e-3 * floor))
            worst.append((got - value).abs().max() / scale)
        found[variable] = float(torch.stack(worst).max())
    return found


@dataclass(frozen=True)
class Found:
    """A record beside brute force."""

    watch: Watch
    errors: dict[str, float]
    status: dict[str, int]
    messages: list[str]

    @property
    def worst(self) -> float:
        """The largest error; NaN if one is."""
        return float(torch.tensor(list(self.errors.values())).max())


def compared(
    model: Any,
    loss: Loss,
    batches: Sequence[Any],
    train: Callable[[Watch, Any, Loss, Sequence[Any]], None] | None = None,
    divided: bool = True,
    kept: Any = slice(None),
    weight: float = 1.0,
    brute: tuple[Any, Loss] | None = None,
    **options: Any,
) -> Found:
    """One sampled step of training beside brute force; ``brute`` is another model of the same gradients."""
    watch = Watch(model, schedule=1, **{"samples": None, **options})
    G = contributions(*(brute or (model, loss)), batches, divided)
    G = {name: weight * each for name, each in G.items()}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        (train or plainly)(watch, model, loss, batches)
    record = watch.records[0]
    status = {name: int(one) for name, one in record.values.get("status", {}).items()}
    messages = [str(one.message) for one in said]
    return Found(watch, errors(record.values, expected(watch, G, kept)), status, messages)


def plainly(watch: Watch, model: Any, loss: Loss, batches: Sequence[Any]) -> None:
    """Micro-batches one after the other, their losses averaged."""
    for i, batch in enumerate(batches):
        with watch.step(complete=i == len(batches) - 1):
            (loss(model, batch) / len(batches)).backward()
