"""The microscope for SGD noise in networks whose dynamics can be written down."""

from saddlescope import convert, init, schedules, theory
from saddlescope.accumulate import Accumulate
from saddlescope.cite import cite
from saddlescope.compare import compare
from saddlescope.data import GaussianData
from saddlescope.dataset import Dataset
from saddlescope.methods import GD, SGD, GradientFlow, Langevin
from saddlescope.moments import Moments
from saddlescope.network import DeepLinear, Diagonal
from saddlescope.plan import Plan, logspaced
from saddlescope.problem import Problem
from saddlescope.simulate import simulate
from saddlescope.store import load

__all__ = [
    "GD",
    "SGD",
    "Accumulate",
    "Dataset",
    "DeepLinear",
    "Diagonal",
    "GaussianData",
    "GradientFlow",
    "Langevin",
    "Moments",
    "Plan",
    "Problem",
    "cite",
    "compare",
    "convert",
    "init",
    "load",
    "logspaced",
    "schedules",
    "simulate",
    "theory",
]
