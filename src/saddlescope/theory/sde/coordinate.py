"""Coordinates on the whole line in which scalar SDEs are integrated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit

from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers
from saddlescope.theory._checks import given
from saddlescope.theory.sde._piecewise import Function

Tails = Literal["power", "exponential"]


@dataclass(frozen=True)
class Coordinate:
    """An increasing map x = φ(y) of the whole line onto a ``domain``: φ, its inverse, log φ' and ``bend`` φ''/φ'."""

    to_x: Function
    to_y: Function
    log_slope: Function
    bend: Function
    domain: tuple[float, float] = (-np.inf, np.inf)

    def inverse(self, x: ArrayLike) -> Floats:
        """``to_y``, and ∓∞ at the ends of the domain and beyond them."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.to_y(np.clip(as_numbers(x, "x"), *self.domain)))

    def then(self, to_x: Function, to_y: Function, log_slope: Function) -> Coordinate:
        """This map followed by an increasing function of x, given with its inverse and the log of its derivative.

        Raises ValueError where the function does not increase, or ``to_y`` is not its inverse.
        """
        to_x, to_y, log_slope = (
            given(f, name) for f, name in ((to_x, "to_x"), (to_y, "to_y"), (log_slope, "log_slope"))
        )
        x = self.to_x(np.array([-1.0, 0.0, 1.0]))
        back = to_y(to_x(x))
        if not ((np.diff(to_x(x)) > 0).all() and (np.abs(back - x) <= 1e-6 * np.maximum(np.abs(x), np.ptp(x))).all()):
            raise ValueError(f"to_x must increase and to_y be its inverse, but they take {x} to {to_x(x)} and {back}")
        low, high = (float(to_x(end)) for end in self.domain)
        return Coordinate(
            lambda y: to_x(self.to_x(y)),
            lambda x: self.to_y(to_y(x)),
            lambda y: self.log_slope(y) + log_slope(self.to_x(y)),
            self.bend,
            (low, high),
        )


LINE = Coordinate(lambda y: 1.0 * y, lambda x: 1.0 * x, np.zeros_like, np.zeros_like)
"""x = y."""


def scaled(scale: float) -> Coordinate:
    """x = scale · y."""
    log_scale = np.log(scale)
    return Coordinate(lambda y: scale * y, lambda x: x / scale, lambda y: np.full_like(y, log_scale), np.zeros_like)


def on_domain(lower: float, upper: float, center: float, scale: float, tails: Tails) -> Coordinate:
    """A coordinate on ``lower < x < upper``: logarithms of the distances to finite ends, else as ``tails`` says.

    >>> on_domain(0.0, np.inf, 0.0, 1.0, "power").to_x(np.array([0.0, 1.0]))
    array([1.        , 2.71828183])
    """
    if np.isfinite(lower) and np.isfinite(upper):
        width = upper - lower
        return Coordinate(
            lambda y: np.where(y < 0, lower + width * expit(y), upper - width * expit(-y)),
            lambda x: np.log(x - lower) - np.log(upper - x),
            lambda y: np.log(width) + log_expit(y) + log_expit(-y),
            lambda y: -np.tanh(y / 2),
            (lower, upper),
        )
    if np.isfinite(lower):
        return Coordinate(
            lambda y: lower + np.exp(y), lambda x: np.log(x - lower), lambda y: 1.0 * y, np.ones_like, (lower, np.inf)
        )
    if np.isfinite(upper):
        return Coordinate(
            lambda y: upper - np.exp(-y),
            lambda x: -np.log(upper - x),
            lambda y: -y,
            lambda y: -np.ones_like(y),
            (-np.inf, upper),
        )
    if tails == "exponential":
        return scaled(scale)
    return Coordinate(
        lambda y: center + scale * np.sinh(y),
        lambda x: np.arcsinh((x - center) / scale),
        lambda y: np.log(scale / 2) + np.abs(y) + np.log1p(np.exp(-2 * np.abs(y))),
        np.tanh,
    )
