"""What a layer does with its parameters: its input and output gradient become uses of its weight, bias or scale.

A layer is supported if its type is in this table and its ``forward`` is that of the table; everything else is named in
the coverage. Inputs are batch first. Half precision is widened before any sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saddlescope.monitor._torch import Tensor, nn, torch, wide
from saddlescope.monitor.uses import Filter, Lookup, Outer, Rows, Use

functional = torch.nn.functional

Uses = Callable[[Any, Tensor, Tensor, int], dict[str, Use]]
"""Layer, input, output gradient, number of samples → the uses of its parameters."""


class NotSamples(ValueError):
    """The leading dimension of a layer's input does not count samples; the message is the end of a sentence."""


def uses_of(layer: nn.Module) -> Uses | None:
    """The function for this layer, or None where it is not supported."""
    for kind, uses in LAYERS.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return uses
    name = type(layer).__name__
    if name == "Conv1D" and hasattr(layer, "nf"):  # Hugging Face's linear layer with a transposed weight
        return _linear_transposed
    if name.endswith("RMSNorm") and set(layer._parameters) == {"weight"} and _epsilon(layer) is not None:
        return _rms_norm
    return None


def why_not(layer: nn.Module) -> str:
    """Why a layer that owns parameters has no per-sample quantities; empty if it has."""
    if uses_of(layer) is None:
        known = next((kind.__name__ for kind in LAYERS if isinstance(layer, kind)), None)
        own = f"is a {known} with its own forward" if known else f"is a {type(layer).__name__}"
        return f"{own}: only its weights are watched"
    if type(layer).__name__ == "NonDynamicallyQuantizableLinear":
        return "is called by nn.MultiheadAttention as a function: only its weights are watched"
    if isinstance(layer, nn.Embedding) and (layer.sparse or layer.scale_grad_by_freq):
        return "is an embedding with sparse or rescaled gradients: only its weights are watched"
    return ""


def sequences(x: Tensor, samples: int) -> Tensor:
    """``(N, …, d)`` as (N, T, d), widened; raises NotSamples."""
    if x.dim() < 2:
        raise NotSamples("has an input of one dimension; use inputs with the batch first")
    return _batch_first(x, samples).reshape(samples, -1, x.shape[-1]).to(wide(x.dtype))


def _batch_first(x: Tensor, samples: int) -> Tensor:
    if len(x) != samples:
        raise NotSamples(f"has the leading dimension {len(x)} for {samples} samples; use inputs with the batch first")
    return x


def _summed(d: Tensor) -> Tensor:
    """(N, T, m) summed to (N, m)."""
    return d[:, 0] if d.shape[1] == 1 else d.sum(1)


def _linear(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    # Under autocast the input was rounded to the type of the output before it was multiplied.
    a, d = sequences(a.to(d.dtype), samples), sequences(d, samples)
    return {"weight": Outer(a, d), "bias": Rows((d,), _summed)}


def _linear_transposed(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    a, d = sequences(a.to(d.dtype), samples), sequences(d, samples)
    return {"weight": Outer(d, a), "bias": Rows((d,), _summed)}


def _embedding(layer: Any, ids: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    if len(ids) != samples:
        raise NotSamples(
            f"looks up {tuple(ids.shape)} entries for {samples} samples, so one row serves several samples"
        )
    if layer.padding_idx is not None:
        d = d * (ids != layer.padding_idx).unsqueeze(-1)
    d = d.reshape(samples, -1, d.shape[-1])
    return {"weight": Lookup(ids.reshape(samples, -1), d.to(wide(d.dtype)), layer.num_embeddings)}


def _convolution(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    if len(a) != samples or a.dim() != len(layer.kernel_size) + 2:
        raise NotSamples(f"has the input shape {tuple(a.shape)} for {samples} samples")
    a = a.to(d.dtype).to(wide(d.dtype))
    if layer.padding_mode == "zeros":
        a = functional.pad(a, layer._reversed_padding_repeated_twice)
    else:
        a = functional.pad(a, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    d = d.to(a.dtype)
    geometry = (layer.kernel_size, layer.stride, layer.dilation, layer.groups)
    return {"weight": Filter(a, d, *geometry), "bias": Rows((d,), _over_positions)}


def _over_positions(d: Tensor) -> Tensor:
    """(N, m, …) summed to (N, m)."""
    return d.reshape(*d.shape[:2], -1).sum(2)


def _scaled(normal: Callable[[Tensor], Tensor], a: Tensor, d: Tensor, size: int) -> dict[str, Use]:
    """Uses of a scale and a shift over the last dims, where ``normal`` makes the normalised input."""
    d = d.to(wide(d.dtype))

    def scale(a: Tensor, d: Tensor) -> Tensor:
        return (d * normal(a.to(wide(a.dtype))).to(d.dtype)).reshape(len(d), -1, size).sum(1)

    return {"weight": Rows((a, d), scale), "bias": Rows((d,), lambda d: d.reshape(len(d), -1, size).sum(1))}


def _layer_norm(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    def normal(a: Tensor) -> Tensor:
        return functional.layer_norm(a, layer.normalized_shape, None, None, layer.eps)

    return _scaled(normal, _batch_first(a, samples), d, layer.weight.numel())


def _epsilon(layer: Any) -> float | None:
    return getattr(layer, "variance_epsilon", getattr(layer, "eps", None))


def _rms_norm(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    dims, epsilon = tuple(range(-layer.weight.dim(), 0)), _epsilon(layer)

    def normal(a: Tensor) -> Tensor:
        least = torch.finfo(a.dtype).eps if epsilon is None else epsilon
        return a * torch.rsqrt(a.square().mean(dims, keepdim=True) + least)

    return {"weight": _scaled(normal, _batch_first(a, samples), d, layer.weight.numel())["weight"]}


def _group_norm(layer: Any, a: Tensor, d: Tensor, samples: int) -> dict[str, Use]:
    if len(a) != samples:
        raise NotSamples(f"has the input shape {tuple(a.shape)} for {samples} samples")
    d = d.to(wide(d.dtype))

    def scale(a: Tensor, d: Tensor) -> Tensor:
        return _over_positions(d * functional.group_norm(a.to(d.dtype), layer.num_groups, None, None, layer.eps))

    return {"weight": Rows((a, d), scale), "bias": Rows((d,), _over_positions)}


LAYERS: dict[type[nn.Module], Uses] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _rms_norm,
    nn.GroupNorm: _group_norm,
}
"""The layers that are supported."""

NORMS = (_layer_norm, _rms_norm, _group_norm)
"""Uses whose parameters are vectors, whatever their shape."""

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
"""Layers that couple the samples of a batch while they train, so that no gradient belongs to one sample."""
