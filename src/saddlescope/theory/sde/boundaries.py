"""What happens at the ends of the domain of a scalar SDE: Feller's classification.

With scale density s, speed density m, and l an end of the domain, four integrals near it decide:

    S = ∫ s,   M = ∫ m,   Σ = ∫ S(l, x] m(x) dx  (time to get there),   N = ∫ M(l, x] s(x) dx  (time to leave it)

regular: S, M finite; exit: Σ finite, M infinite; entrance: N finite, S infinite; natural: Σ, N infinite.
Source: Karlin & Taylor 1981, A Second Course in Stochastic Processes, section 15.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from saddlescope import _show
from saddlescope._arrays import Floats
from saddlescope.theory._checks import steady
from saddlescope.theory.sde._piecewise import Function, integrals, nodes
from saddlescope.theory.sde.mass import FLAT

Kind = Literal["natural", "entrance", "exit", "regular"]
Condition = Literal["reflecting", "absorbing"]
Recurrence = Literal["positive recurrent", "null recurrent", "transient"]


@dataclass(frozen=True, repr=False)
class Boundary(_show.Shown):
    """An end of a domain: ``kind``, whether it is ``attracting`` (S finite) and ``integrable`` (M finite), x ``there``.

    A regular end is what it is assumed to be, "reflecting" or "absorbing"; an exit absorbs; entrances and natural ends
    are "unreachable" in finite time, though x converges to an attracting one with positive probability.
    """

    kind: Kind
    attracting: bool
    integrable: bool
    there: Literal["unreachable", "reflecting", "absorbing"]

    @property
    def keeps(self) -> bool:
        """Whether x ends here with positive probability, never to leave."""
        return self.attracting and self.there != "reflecting"


class Boundaries(NamedTuple):
    """Both ends of a domain."""

    lower: Boundary
    upper: Boundary

    def __repr__(self) -> str:
        return _show.call("Boundaries", [(name, repr(end)) for name, end in self._asdict().items()])

    @property
    def recurrence(self) -> Recurrence:
        """Whether x ends somewhere ("transient"), or always comes back, in finite mean time ("positive recurrent")."""
        if self.lower.keeps or self.upper.keeps:
            return "transient"
        return "positive recurrent" if self.lower.integrable and self.upper.integrable else "null recurrent"

    @property
    def no_law(self) -> str | None:
        """Why there is no stationary law, in a sentence; None where there is one."""
        sides = {"lower": self.lower, "upper": self.upper}
        if self.recurrence == "transient":
            ends = " or ".join(
                f"the {side} end ({end.kind}, {'absorbing' if end.there == 'absorbing' else 'attracting'})"
                for side, end in sides.items()
                if end.keeps
            )
            return f"there is no stationary law: x ends at {ends}"
        open_ends = [side for side, end in sides.items() if not end.integrable]
        if not open_ends:
            return None
        return (
            "there is no stationary law: x always comes back, but in infinite mean time, as the density has infinite "
            f"mass towards the {' and the '.join(open_ends)} end"
        )


@steady
def classified(scale: bool, speed: bool, time_to: bool, time_from: bool, regular: Condition = "reflecting") -> Boundary:
    """The boundary at which these of S, M, Σ, N are finite.

    >>> classified(scale=False, speed=True, time_to=False, time_from=True).kind
    'entrance'
    """
    if scale and speed:
        return Boundary("regular", True, True, regular)
    if time_to:
        return Boundary("exit", True, False, "absorbing")
    return Boundary("entrance" if time_from else "natural", scale, speed, "unreachable")


@steady
def feller(
    slope: Function,
    log_noise2: Function,
    middle: float,
    end: float,
    flat: float = FLAT,
    regular: Condition = "reflecting",
) -> Boundary:
    """Classify the end of a line, seen from the ``middle`` as far as ``end``, from U' = 2a/b² and log b² there.

    As S(l, y] ≈ s/ρ where log s falls outwards at the rate ρ, the integrands of Σ and N are 2/(b²ρ), with the rates of
    s and of m: no integral is formed that could overflow, and U is counted between places far out, where the deep
    well of a weak noise would hide its changes. What falls more slowly than ``flat`` does not fall.
    """
    outwards, y = np.sign(end - middle), middle + (end - middle) * np.array([0.25, 0.5, 1.0])
    step = 0.05 * np.abs(y - middle)
    noise, inner, innermost = (log_noise2(y - outwards * k * step) for k in range(3))
    scale_rate = outwards * slope(y)
    speed_rate = -scale_rate + (3 * noise - 4 * inner + innermost) / (2 * step)

    paths = [np.linspace(y[0], y[1], 129), np.linspace(y[1], y[2], 129)]
    rises = np.array([integrals(slope(nodes(path)), path).sum() for path in paths])

    def finite(drops: Floats) -> bool:
        return converges(drops, y - middle, flat)

    def in_time(rate: Floats) -> bool:
        with np.errstate(divide="ignore", invalid="ignore"):
            return finite(np.diff(noise + np.log(rate)))

    scale, speed = finite(rises), finite(np.diff(noise) - rises)
    return classified(scale, speed, scale and in_time(scale_rate), speed and in_time(speed_rate), regular)


@steady
def converges(drops: Floats, y: Floats, flat: float) -> bool:
    """Whether the integral of a density converges that loses ``drops`` nats between three places, each twice as far.

    It falls exponentially when the second loss is the larger, and else like a power, which must exceed 1.

    >>> converges(np.array([1.0, 2.0]), np.array([10.0, 20.0, 40.0]), flat=1e-9)     # e^(−y/10)
    True
    >>> converges(np.log([2.0, 2.0]), np.array([10.0, 20.0, 40.0]), flat=1e-9)       # 1/y
    False
    """
    inner, outer = drops
    exponential = outer > flat * abs(y[2] - y[1]) and outer > 1.5 * inner
    return bool(exponential or outer / np.log(y[2] / y[1]) > 1.05)
