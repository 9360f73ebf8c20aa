"""Random and soft labels of a classification: the law q (K,) of the label that a step sees, given a sample's own.

A sample's own label is a class, or probabilities p (K,) of classes; a class is p = e_y. Every kind maps p to q, and a
step either draws a class from q, anew at every use, or trains on q itself. Drift and loss use the mean, q, in both
cases: cross entropy is linear in the label.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from saddlescope._arrays import Array
from saddlescope._parts import Real, frozen

_NO_TABLE = BeforeValidator(lambda value: repr(value) if isinstance(value, dict) else value)
"""A table does not say which kind of labels it describes, so it is refused like text."""


@frozen
class Fresh:
    """A class drawn from the given probabilities at every use: ``q = p``.

    >>> Fresh().soft(np.array([[0.25, 0.75]]))
    array([[0.25, 0.75]])
    """

    random: ClassVar[bool] = True
    """Whether a step draws a class from q."""

    def soft(self, probabilities: Array) -> Array:
        """q (n, K) for probabilities p (n, K)."""
        return probabilities


@frozen
class Flips:
    """With probability p another class, all equally likely, anew at every use.

    ``q = (1 − p) e_y + p (1 − e_y)/(K − 1)``.
    Raises ValueError for p outside 0 < p ≤ 1.
    Source: Damian, Ma & Lee 2021, NeurIPS 34, arXiv 2106.06530 (SGD with such label noise).

    >>> Flips(0.1).soft(np.array([[1.0, 0.0, 0.0]]))
    array([[0.9 , 0.05, 0.05]])
    """

    p: Annotated[Real, Field(gt=0, le=1)] = Field(description="use a probability such as 0.1")

    random: ClassVar[bool] = True

    def soft(self, probabilities: Array) -> Array:
        """q (n, K) for probabilities (n, K)."""
        others = (1 - probabilities) / (probabilities.shape[1] - 1)
        return np.asarray((1 - self.p) * probabilities + self.p * others)


@frozen
class Smoothing:
    """Soft labels without randomness: ``q = (1 − ε) e_y + ε/K``.

    Raises ValueError for ε outside 0 < ε ≤ 1.
    Source: Szegedy et al. 2016, CVPR, arXiv 1512.00567, section 7.

    >>> Smoothing(0.1).soft(np.array([[1.0, 0.0]]))
    array([[0.95, 0.05]])
    """

    eps: Annotated[Real, Field(gt=0, le=1)] = Field(description="use a fraction such as 0.1")

    random: ClassVar[bool] = False

    def soft(self, probabilities: Array) -> Array:
        """q (n, K) for probabilities (n, K)."""
        return np.asarray((1 - self.eps) * probabilities + self.eps / probabilities.shape[1])


KINDS = (Fresh, Flips, Smoothing)
Labels = Annotated[Fresh | Flips | Smoothing | None, _NO_TABLE]
"""An argument that takes one of them."""
