"""A problem is a network, the data it is trained on, and its initial weights. With a method and a plan it is a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from saddlescope import _show
from saddlescope import init as _init
from saddlescope._numbers import shown
from saddlescope._parts import frozen
from saddlescope._tables import NEEDED, OPTIONAL, PARTS, parse, problem_parts, problem_tables, text_of
from saddlescope.data import Dataset, Examples, GaussianData, Moments
from saddlescope.init import Balanced, Gaussian, Given
from saddlescope.networks import Network
from saddlescope.networks.model import Model, is_model

if TYPE_CHECKING:  # for the type checker a linear network; a Model is told apart by is_model
    AnyNetwork = Network
    AnyData = GaussianData | Dataset | Moments
    AnyInit = Any
else:
    AnyNetwork = Network | Model
    AnyData = GaussianData | Dataset | Moments | Examples
    AnyInit = Gaussian | Balanced | Given | None


@frozen
class Problem:
    """What is trained: ``network`` on ``data`` from ``init``; a Model brings its own initial weights.

    Raises ValueError when the network's input and output sizes differ from the teacher's, or the shapes of given
    weights from the network's widths.

    >>> from saddlescope import DeepLinear
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), Gaussian(scale=0.1))
    >>> Problem.from_toml(problem.to_toml()) == problem
    True
    """

    network: AnyNetwork = Field(description="a network such as DeepLinear((8, 16, 6)), or a Model")
    data: AnyData = Field(description="data such as GaussianData(teacher) or Dataset(X, Y), or Examples(X, Y)")
    init: AnyInit = Field(default=None, description="initial weights such as init.Gaussian(scale=1e-2)")

    def __post_init__(self) -> None:
        data: object = self.data
        if isinstance(data, Examples) and not is_model(self.network):
            raise TypeError(
                f"data must be GaussianData, a Dataset or Moments for a {type(self.network).__name__} network, got "
                "Examples; use Dataset(X, Y)"
            )
        self.network.check(self.data)
        if is_model(self.network):
            if self.init is not None:
                raise ValueError(f"init must be left out for a Model, which brings its own, got {shown(self.init)}")
            return
        if self.init is None:
            raise TypeError("Problem needs the argument 'init'; initial weights such as init.Gaussian(scale=1e-2)")
        _init.check(self.init, self.network)

    def _facts(self) -> _show.Rows:
        return ()

    def _results(self) -> _show.Rows:
        network = self.network
        rows = [(name, repr(getattr(self, name))) for name in PARTS if getattr(self, name) is not None]
        if is_model(network):
            return [*rows, ("weights", f"{network.parameters:,} in {len(network.shapes):,} leaves")]
        return [*rows, ("weights", f"{network.parameters:,} in {network.depth:,} layer{'s' * (network.depth > 1)}")]

    def to_toml(self) -> str:
        """The problem as TOML, without loss."""
        return text_of(problem_tables(self))

    @classmethod
    def from_toml(cls, text: str, folder: str | os.PathLike[str] = ".") -> Self:
        """The problem that a TOML text describes; a data set may be given by its ``path``, relative to ``folder``.

        Raises ValueError or TypeError naming the table and key at fault.
        """
        return cls(*problem_parts(parse(text, NEEDED, OPTIONAL), folder))
