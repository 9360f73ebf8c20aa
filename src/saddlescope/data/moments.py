"""Data of which only five moments are known: all that the dynamics of one input and one label see."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from saddlescope._arrays import Floats
from saddlescope._parts import Real, frozen
from saddlescope.data.base import LARGEST, Data, ModeMoments

_FIX = "give the moments of one input x and one label y, such as 2, 2, 3, 1, 1"


@frozen
class Moments(Data):
    """One input and label by ``α₁ = Var[x²], α₂ = Cov[x², xy], α₃ = Var[xy], β₁ = E[x²], β₂ = E[xy]``.

    They fix gradient flow, GD and Langevin of a ``Diagonal`` network, but not the law of a batch. The teacher is β₂/β₁.
    E[y²] is not among them: ``loss`` is counted from that of the teacher, as ``excess_loss`` is.
    Raises ValueError for β₁ ≤ 0 or a covariance ``[[α₁, α₂], [α₂, α₃]]`` that is not positive semi-definite.
    Source: Ziyin, Li & Ueda 2023, arXiv 2308.06671.

    >>> float(Moments(2, 2, 3, 1, 1).teacher[0, 0])
    1.0
    """

    alpha1: Annotated[Real, Field(ge=0, le=LARGEST)] = Field(description=_FIX)
    alpha2: Annotated[Real, Field(ge=-LARGEST, le=LARGEST)] = Field(description=_FIX)
    alpha3: Annotated[Real, Field(ge=0, le=LARGEST)] = Field(description=_FIX)
    beta1: Annotated[Real, Field(gt=0, le=LARGEST)] = Field(description=_FIX)
    beta2: Annotated[Real, Field(ge=-LARGEST, le=LARGEST)] = Field(description=_FIX)

    moments_alone = True

    def __post_init__(self) -> None:
        if self.alpha2**2 > self.alpha1 * self.alpha3 * (1 + 1e-12):
            raise ValueError(
                f"alpha2 must satisfy α₂² ≤ α₁α₃, as the covariance of x² and xy does, got α₁ = {self.alpha1:g}, "
                f"α₂ = {self.alpha2:g}, α₃ = {self.alpha3:g}; compute all three from the same data"
            )

    @cached_property
    def teacher(self) -> Floats:  # type: ignore[override]
        """β₂/β₁ (1, 1)."""
        return np.array([[self.beta2 / self.beta1]])

    @cached_property
    def sigma(self) -> Floats:  # type: ignore[override]
        """β₁ (1, 1)."""
        return np.array([[self.beta1]])

    @property
    def label_noise(self) -> float:  # type: ignore[override]
        """0: the noise of the labels is part of α₃."""
        return 0.0

    def mode_moments(self, mode: int) -> ModeMoments:
        """(α₁, α₂, α₃, β₁, β₂) with y in the direction in which the teacher is positive."""
        sign = float(self.modes.left[0, 0] * self.modes.right[0, 0])
        return self.alpha1, sign * self.alpha2, self.alpha3, self.beta1, sign * self.beta2
