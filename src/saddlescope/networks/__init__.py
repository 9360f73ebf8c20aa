"""Networks, one file each; ``base.py`` is the protocol."""

from saddlescope.networks.deep_linear import DeepLinear
from saddlescope.networks.diagonal import Diagonal
from saddlescope.networks.model import Model, is_model

Network = DeepLinear | Diagonal
"""Every network; a new one is added here and in its own file."""

__all__ = ["DeepLinear", "Diagonal", "Model", "Network", "is_model"]
