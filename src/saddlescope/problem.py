"""A problem is a network, the data it is trained on, and its initial weights. With a method and a plan it is a run."""

from __future__ import annotations

import os
from typing import Self

from pydantic import Field

from saddlescope import init as _init
from saddlescope._parts import frozen
from saddlescope.data import Dataset, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.networks import DeepLinear, Diagonal


@frozen
class Problem:
    """What is trained: ``network`` on ``data`` from ``init``.

    Raises ValueError when the network's input and output sizes differ from the teacher's, or the shapes of given
    weights from the network's widths.

    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), Gaussian(scale=0.1))
    >>> Problem.from_toml(problem.to_toml()) == problem
    True
    """

    network: DeepLinear | Diagonal = Field(description="a network such as DeepLinear((8, 16, 6))")
    data: GaussianData | Dataset | Moments = Field(description="data such as GaussianData(teacher) or Dataset(X, Y)")
    init: Gaussian | Balanced | Given = Field(description="initial weights such as init.Gaussian(scale=1e-2)")

    def __post_init__(self) -> None:
        ends, teacher = (self.network.dim_in, self.network.dim_out), (self.data.dim_in, self.data.dim_out)
        if isinstance(self.network, Diagonal) and ends != teacher:
            raise ValueError(
                f"data must have one input and one output for a Diagonal network, got {teacher[0]} and {teacher[1]}; "
                "use a DeepLinear network"
            )
        if isinstance(self.data, Moments) and not isinstance(self.network, Diagonal):
            raise ValueError("network must be Diagonal(depth, width) for data given by Moments; use it or other data")
        if ends != teacher:
            raise ValueError(
                f"widths {self.network.widths} map {ends[0]} inputs to {ends[1]} outputs, but the teacher maps "
                f"{teacher[0]} to {teacher[1]}; make the first width {teacher[0]} and the last {teacher[1]}"
            )
        _init.check(self.init, self.network)

    def to_toml(self) -> str:
        """The problem as TOML, without loss."""
        from saddlescope import runfile  # it imports this module

        return runfile.problem_to_toml(self)

    @classmethod
    def from_toml(cls, text: str, folder: str | os.PathLike[str] = ".") -> Self:
        """The problem that a TOML text describes; a data set may be given by its ``path``, relative to ``folder``.

        Raises ValueError or TypeError naming the table and key at fault.
        """
        from saddlescope import runfile  # it imports this module

        return cls(*runfile.problem_parts(text, folder))
