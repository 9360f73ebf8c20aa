"""The protocol of a network; everything special to a network is in its own file, behind this protocol.

``weights`` are the layers, first to last, each (n, rows, columns) for n trajectories, which lead every result; P is the
end-to-end map (n, dy, dx) and Ḡ its gradient. Weights that are not finite give NaN. Engines hold weights in the
teacher's basis, ``W_1V`` and ``UᵀW_L`` for ``W_1`` and ``W_L``: of these ``end_to_end`` must give ``UᵀPV``.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import Field

from saddlescope._arrays import Array, Floats, Layers, Weights
from saddlescope._parts import Count
from saddlescope.data import Data
from saddlescope.kernel.streams import Streams

Width = Annotated[Count, Field(ge=1, lt=2**31)]


class NetworkType(Protocol):
    """A network that the engines can train."""

    citation: str
    """Key of the work that introduced it, in ``runs/cite.py``."""
    kernel: str
    """Name of its compiled kernel; "" where the reference engine alone runs it."""
    scalar: bool
    """One input and one output, so that Langevin noise takes one normal a step."""
    directions: bool
    """Whether balanced initial weights have directions that can be drawn."""
    mode_sde: bool
    """Whether aligned balanced modes follow the SDE of a deep linear network; if not, theory and advice leave them out.
    """

    @property
    def depth(self) -> int:
        """Number of layers L."""
        ...

    @property
    def dim_in(self) -> int:
        """Input dimension dx."""
        ...

    @property
    def dim_out(self) -> int:
        """Output dimension dy."""
        ...

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths between input and output."""
        ...

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from input to output."""
        ...

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape of every layer, first to last."""
        ...

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Shape of the matrix that every layer stands for, first to last."""
        ...

    @property
    def parameters(self) -> int:
        """Number of weights."""
        ...

    @property
    def chains(self) -> int:
        """Number of parallel networks that share one mode."""
        ...

    @property
    def speed(self) -> float:
        """How many times as fast as a single chain it moves when all its chains are equal and balanced."""
        ...

    def check(self, data: Data) -> None:
        """Raise ValueError for data that it cannot be trained on, or whose teacher's basis it cannot take."""
        ...

    def layer_dims(self, layer: int) -> tuple[str, str]:
        """Names of the two dims of a layer, counted from 1."""
        ...

    def kernel_arguments(self, data: Data, share: float) -> dict[str, Any]:
        """Arguments of its compiled kernel in addition to the shapes; ``share`` of the sampling variance remains."""
        ...

    def balanced(self, scale: float, aligned: bool, data: Data, source: Streams, count: int) -> Layers:
        """Balanced weights of ``count`` trajectories, every layer with singular values ``scale``."""
        ...

    def end_to_end(self, weights: Weights) -> Array:
        """P."""
        ...

    def pull_back(self, weights: Weights, gradient: Array) -> Layers:
        """Gradient of every layer, from Ḡ."""
        ...

    def gradient_trace(self, data: Data, weights: Weights, error: Array, root: Array, share: float = 1.0) -> Array:
        """Trace of the covariance of one sample's gradient of all weights (n, 1, 1), in the teacher's basis.

        From ``E = ΔR`` and R; ``share`` of the sampling variance and all of the fresh label noise.
        """
        ...

    def imbalance(self, weights: Weights) -> Floats:
        """Norm of what gradient flow conserves at every interface (n, L−1)."""
        ...

    def imbalance_trace(self, weights: Weights) -> Floats:
        """``‖W_{l+1}‖_F² − ‖W_l‖_F²``, with its sign (n, L−1)."""
        ...

    def log_det(self, weights: Weights) -> Floats:
        """``log det ΘᵀΘ`` of neighbouring layers (n, L−1); NaN where it is not defined."""
        ...

    def noises(self, data: Data, temperature: float, weights: Weights, share: float = 1.0) -> tuple[Floats, Floats]:
        """Variance rates under minibatch noise at T: of mode strengths (n, m), of layers along modes (n, L, m)."""
        ...
