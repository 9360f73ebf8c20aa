"""Laws from which a scalar SDE can start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope._numbers import shown
from saddlescope.theory.sde._piecewise import Function


class Start(Protocol):
    """A law to start from. Its upper quantiles are exact where it has ``isf``."""

    def cdf(self, x: ArrayLike) -> Floats: ...
    def ppf(self, q: ArrayLike) -> Floats: ...


def check_law(start: Any, lower: float = -np.inf) -> None:
    """Raise where ``start`` is not a law of numbers above ``lower``.

    TypeError where it has no ``cdf`` and ``ppf`` of arrays, ValueError where the two do not belong together.
    """
    q = np.array([1e-9, 0.25, 0.5, 0.75])
    try:
        x, share = np.asarray(start.ppf(q)), np.asarray(start.cdf(np.asarray(start.ppf(q))))
    except Exception as error:
        raise TypeError(
            f"start must be a number, or a law with cdf and ppf of arrays as scipy.stats has them: {shown(error)}"
        ) from None
    if not all(values.shape == q.shape and values.dtype.kind in "fiu" for values in (x, share)):
        raise TypeError("start must be a law whose cdf and ppf map an array to an array of its shape")
    if not (np.isfinite(x).all() and (np.diff(x) >= 0).all() and (share >= q - 1e-6).all()):
        raise ValueError(f"start must be a law with increasing finite quantiles, those of its cdf, got {shown(x)}")
    if not x[0] > lower:
        raise ValueError(f"start must be a law of numbers above {lower:g}, got the quantile {x[0]:g}; shift or cut it")


@dataclass(frozen=True)
class Mapped:
    """The law of ``to(x)``, as a start, for an increasing function with the inverse ``back``."""

    law: Start
    to: Function
    back: Function

    def cdf(self, x: ArrayLike) -> Floats:
        return self.law.cdf(self.back(np.asarray(x)))

    def ppf(self, q: ArrayLike) -> Floats:
        return self.to(self.law.ppf(q))

    @property
    def isf(self) -> Function:
        """Quantiles from above, if the law has them."""
        isf: Any = self.law.isf  # type: ignore[attr-defined]
        return lambda q: self.to(isf(q))
