"""Data the networks are trained on."""

from saddlescope.data.base import Data, GaussianData
from saddlescope.data.dataset import Dataset
from saddlescope.data.moments import Moments

__all__ = ["Data", "Dataset", "GaussianData", "Moments"]
