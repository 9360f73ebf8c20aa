"""Networks whose dynamics can be written down."""

from saddlescope.networks.shapes import DeepLinear, Diagonal, Network

__all__ = ["DeepLinear", "Diagonal", "Network"]
