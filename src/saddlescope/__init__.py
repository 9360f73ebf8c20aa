"""The microscope for SGD noise in networks whose dynamics can be written down."""

from saddlescope import init
from saddlescope.data import GaussianData
from saddlescope.methods import GD, SGD, GradientFlow, Langevin
from saddlescope.network import DeepLinear
from saddlescope.plan import Plan, logspaced
from saddlescope.problem import Problem

__all__ = ["GD", "SGD", "DeepLinear", "GaussianData", "GradientFlow", "Langevin", "Plan", "Problem", "init", "logspaced"]
