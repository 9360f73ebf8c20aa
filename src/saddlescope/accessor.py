"""``run.saddlescope``: what a run can do, on every ``xarray.Dataset`` once this package has handed out a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@xr.register_dataset_accessor("saddlescope")
class Accessor:
    """Methods of a run.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Gaussian(scale=0.5))
    >>> run = simulate(problem, GD(lr=0.1), Plan(steps=10), engine="reference")
    >>> len(run.saddlescope.plot().axes)
    2
    """

    def __init__(self, run: xr.Dataset) -> None:
        self._run = run

    def plot(self, theory: bool = True) -> Figure:
        """The picture of the run: ``saddlescope.plot(run, theory)``."""
        from saddlescope.plots.picture import plot  # heavy: imported when it is used

        return plot(self._run, theory)
