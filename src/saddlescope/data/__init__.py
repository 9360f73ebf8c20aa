"""Data the networks are trained on, one file a kind; ``base.py`` is what all share."""

from saddlescope.data.base import Data
from saddlescope.data.dataset import Dataset, is_finite
from saddlescope.data.examples import Examples
from saddlescope.data.gaussian import GaussianData
from saddlescope.data.moments import Moments

__all__ = ["Data", "Dataset", "Examples", "GaussianData", "Moments", "is_finite"]
