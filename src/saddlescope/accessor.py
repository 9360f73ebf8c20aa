"""``run.saddlescope``: what a run can do, on every ``xarray.Dataset`` once this package has handed out a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import xarray as xr

from saddlescope.runs.selection import selected
from saddlescope.runs.variables import unit_names, variables

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

    def weights(self) -> xr.Dataset:
        """The weights W_1, …, W_L of every trajectory at the last step, whatever the plan keeps.

        ``W1``, …, ``WL`` (trajectory, n_l, n_{l−1}), float64, in the basis of inputs and outputs, read from the
        checkpoint; of the selected trajectories after ``isel`` or ``sel``. A trajectory that has diverged has the
        weights of its divergence.
        Raises TypeError or ValueError for a run that has been changed otherwise.

        >>> from saddlescope import GD, DeepLinear, GaussianData, Plan, Problem, init, simulate
        >>> problem = Problem(DeepLinear((3, 2, 1)), GaussianData([[1.0, 0.0, 0.0]]), init.Gaussian(scale=0.5))
        >>> run = simulate(problem, GD(lr=0.1), Plan(steps=100, trajectories=4), engine="reference")
        >>> weights = run.isel(trajectory=[1, 3]).saddlescope.weights()
        >>> weights.W1.shape, weights.W2.shape, int(weights.step)
        ((2, 2, 3), (2, 1, 2), 100)
        """
        given = selected(self._run)
        whole = replace(given.plan, keep="weights")
        kept, names = variables(given.problem, whole), unit_names(given.problem, whole)
        labelled = {}
        for name, layer in given.last_weights.items():
            dims = tuple(dim for dim in kept[name].dims if dim != "time")
            labelled[name] = (dims, layer, kept[name].attrs)
        step = given.state.step
        coords = {"trajectory": given.plan.member_indices, "step": step, "time": float(given.method.time(step))}
        return xr.Dataset(labelled, coords | {dim: (dim, list(columns)) for dim, columns in names.items()})
