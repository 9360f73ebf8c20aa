"""The import of torch, which only the monitor needs."""

from __future__ import annotations

try:
    import torch
    from torch import Tensor, nn
    from torch.optim.optimizer import register_optimizer_step_pre_hook
except ImportError:
    raise ImportError("saddlescope.monitor needs PyTorch: pip install 'saddlescope[torch]'") from None

__all__ = ["Tensor", "double", "nn", "register_optimizer_step_pre_hook", "torch", "wide"]


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, otherwise the type itself: the type of all sums of the monitor."""
    return torch.promote_types(dtype, torch.float32)


def double(x: Tensor) -> Tensor:
    """In float64, without gradient; on the CPU where the device has no float64."""
    x = x.detach()
    return (x.cpu() if x.device.type == "mps" else x).to(torch.float64)
