"""The SDE of a mode in the logarithm of its strength, where positivity cannot be lost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from saddlescope._arrays import Floats
from saddlescope.theory.mode.coefficients import ModeCoefficients
from saddlescope.theory.sde._piecewise import Function
from saddlescope.theory.sde.boundaries import Boundaries, classified
from saddlescope.theory.sde.diffusion1d import Diffusion1D


class Strength(NamedTuple):
    """s as an increasing function ``of`` a coordinate, its inverse ``back``, and the log of its derivative."""

    of: Function
    back: Function
    log_slope: Function


SAME = Strength(lambda s: s, lambda s: s, np.zeros_like)
"""The coordinate is s."""


@dataclass(frozen=True)
class LogStrength:
    """The SDE of ``mode`` in w = log(s/unit)/L at depth L ≥ 2, in s at depth 1.

    >>> log = LogStrength(ModeCoefficients(depth=2, target=1.5, label_noise=0.5, temperature=0.1))
    >>> float(log.strength.of(np.array(0.0))), log.unit
    (1.5, 1.5)
    """

    mode: ModeCoefficients

    @property
    def unit(self) -> float:
        """Strength in whose units logarithms are taken: where paths cross one way, or β₂/β₁ if that is positive."""
        if self.mode.crossing is not None:
            return self.mode.crossing[0]
        b1, b2 = self.mode.pull
        return b2 / b1 if b2 > 0 else 1.0

    @property
    def strength(self) -> Strength:
        """s as a function of the coordinate."""
        L = self.mode.depth
        if L == 1:
            return SAME
        unit = self.unit
        return Strength(
            lambda w: np.asarray(unit * np.exp(L * w)),
            lambda s: np.asarray(np.log(s / unit) / L),
            lambda w: np.log(L * unit) + L * w,
        )

    @cached_property
    def sde(self) -> Diffusion1D:
        """The SDE: below s* if noise vanishes there, on the side that paths do not leave if it vanishes elsewhere."""
        low, high, mode = -np.inf, np.inf, self.mode
        if mode.crossing is not None:
            place, side = mode.crossing if mode.depth == 1 else (0.0, mode.crossing[1])
            low, high = (place, np.inf) if side > 0 else (-np.inf, place)
        elif mode.noiseless_at == mode.fixed_point and mode.depth >= 2:
            high = 0.0
        return self.between(low, high)

    def side(self, above: bool) -> tuple[Diffusion1D, Strength]:
        """The SDE above or below s* where noise vanishes there, and s in its coordinate, s − s* at depth 1."""
        mode = self.mode
        end, low, high = mode.fixed_point, *((0.0, np.inf) if above else (-np.inf, 0.0))
        if mode.depth >= 2:
            return self.between(low, high) if above else self.sde, self.strength
        pull, noise = mode.pull[0], float(np.sqrt(mode.temperature * mode.alpha1))
        sde = Diffusion1D(lambda u: -pull * u, lambda u: noise * np.abs(u), low, high)
        return sde, Strength(lambda u: u + end, lambda s: s - end, np.zeros_like)

    def between(self, low: float, high: float) -> Diffusion1D:
        """The SDE between two ends of the coordinate."""
        mode, L, unit = self.mode, self.mode.depth, self.unit
        if L == 1:
            end = mode.fixed_point
            width = abs(end - mode.vertex[0]) if mode.crossing else float(np.sqrt(mode.g(end) / mode.pull[0])) or 1.0
            return Diffusion1D(mode.drift, mode.diffusion, low, high, center=end, scale=width)
        drift, diffusion = _in_log(mode, unit)
        return Diffusion1D(drift, diffusion, low, high, scale=1 / L, tails="exponential")

    @cached_property
    def boundaries(self) -> Boundaries:
        """Ends of s, as ``ModeSDE.boundaries``."""
        mode = self.mode
        L, T, zero = mode.depth, mode.temperature, mode.noiseless_at
        if T == 0:
            raise ValueError("boundaries need noise, got T = 0")
        natural = classified(scale=False, speed=True, time_to=False, time_from=False)
        sink = classified(scale=True, speed=False, time_to=False, time_from=False)
        critical = classified(scale=False, speed=False, time_to=False, time_from=False)
        entrance = classified(scale=False, speed=True, time_to=False, time_from=True)
        top = natural if L == 1 else entrance
        if L == 1:
            bottom = natural
        elif L == 2:
            bottom = critical if mode.critical_temperature == T else sink if mode.critical_temperature < T else natural
        else:
            bottom = sink if mode.zero_attracts else natural
        if mode.crossing is not None:
            return Boundaries(entrance, top) if mode.crossing[1] > 0 else Boundaries(bottom, entrance)
        return Boundaries(bottom, top if zero is None or (L >= 2 and zero <= 0) else sink)


def _in_log(mode: ModeCoefficients, unit: float) -> tuple[Function, Function]:
    """Drift and diffusion of w = log(s/unit)/L at depth L ≥ 2."""
    L, T, (center, floor) = mode.depth, mode.temperature, mode.vertex
    a1, (b1, b2), decay = mode.alpha1, mode.pull, mode.weight_decay if L >= 3 else 0.0
    rest = b2 - b1 * unit
    near = abs(unit - center) < unit / 2
    base = unit ** (1 - 2 / L)

    def grow(w: Floats) -> Floats:  # a^{L−2}
        return np.asarray(base * np.exp((L - 2) * w))

    def offset(w: Floats) -> Floats:  # s − center, without cancellation near s* and near 0
        return np.asarray(unit * np.expm1(L * w) + (unit - center) if near else unit * np.exp(L * w) - center)

    def noise2(w: Floats) -> Floats:  # T g
        return np.asarray(T * (a1 * offset(w) ** 2 + floor) if a1 else np.full_like(w, T * floor))

    def drift(w: Floats) -> Floats:
        up = grow(w)
        return np.asarray(up * (rest - b1 * unit * np.expm1(L * w) - up * noise2(w) / 2) - decay)

    def diffusion(w: Floats) -> Floats:
        if floor == 0:  # where g itself underflows
            return np.asarray(grow(w) * np.sqrt(T * a1) * np.abs(offset(w)))
        return np.asarray(grow(w) * np.sqrt(noise2(w)))

    return drift, diffusion
