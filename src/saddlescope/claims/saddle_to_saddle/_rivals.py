"""The nearest wrong theories of a mode, and samples judged by each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope.claims import intervals
from saddlescope.claims.claim import Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import largest, power, same_law
from saddlescope.theory import Law, ModeSDE

Change = Callable[[ModeSDE], ModeSDE]
"""A mode with one thing changed."""

LawOf = Callable[[ModeSDE], Law]
"""The distribution at the time of a sample, for any mode."""

Sample = tuple[NDArray[np.floating[Any]], ModeSDE, LawOf]
"""Strengths, their mode, and the distribution they should have."""


def warmer(factor: float) -> Change:
    """T times a factor."""
    return lambda mode: replace(mode, temperature=factor * mode.temperature)


def additive(mode: ModeSDE) -> ModeSDE:
    """Noise that does not depend on s: g(s*) in place of g(s), which is σ² for white Gaussian data.

    >>> additive(ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)).g([0.0, 1.0])
    array([0.25, 0.25])
    """
    floor = float(mode.g(mode.fixed_point))
    return ModeSDE(mode.depth, moments=(0.0, 0.0, floor, mode.beta1, mode.beta2), temperature=mode.temperature)


def neighbour(by: int) -> Change:
    """The depth L + ``by`` at the same LT, so that the distribution near s* has the same width at s* = 1."""
    return lambda mode: replace(
        mode, depth=mode.depth + by, temperature=mode.temperature * mode.depth / (mode.depth + by)
    )


def temperatures(quick: bool) -> dict[str, Change]:
    """T changed by 10 %, in quick runs halved and doubled."""
    return {f"T × {factor}": warmer(factor) for factor in ((0.5, 2) if quick else (0.9, 1.1))}


ADDITIVE: dict[str, Change] = {"noise that does not depend on s, g = σ²": additive}


def neighbours(quick: bool) -> dict[str, Change]:
    """One layer fewer and one more, in quick runs three more."""
    return {f"depth L {by:+d} at the same LT": neighbour(by) for by in (-1, 3 if quick else 1)}


def distances(samples: Iterable[Sample], change: Change = lambda mode: mode) -> list[Interval]:
    """Kolmogorov distance of every sample to the distribution of its mode, after ``change``."""
    return [intervals.distance_to_law(sample, law(change(mode)).cdf) for sample, mode, law in samples]


def judged(name: str, samples: Iterable[Sample], quick: bool) -> Number:
    """The largest distance of samples to the distributions of their modes, in full runs with the errors it catches.

    These are measured on the sample that is most sensitive to 20 % of T.
    """
    samples = list(samples)
    number = Number(name, largest(distances(samples)), same_law(quick))
    if quick:
        return number
    moved = [found.value for found in distances(samples, warmer(1.2))]
    sensitive = samples[int(np.argmax(moved))]

    def at(factor: float) -> Number:
        return replace(number, interval=largest(distances([sensitive], warmer(factor))))

    return replace(number, catches=power(at, "T"))


def rivals(name: str, samples: Iterable[Sample], quick: bool, changes: dict[str, Change]) -> list[Rival]:
    """Each wrong theory, judged on the same samples as the claim."""
    samples = list(samples)
    return [
        Rival(theory, [Number(name, largest(distances(samples, change)), same_law(quick))])
        for theory, change in changes.items()
    ]


def at_time(start: float, times: Sequence[float], which: int = -1) -> LawOf:
    """The distribution of s at one of these times from one starting point, by the Fokker–Planck equation.

    >>> at_time(0.1, (1.0, 2.0))(ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.01)).mean()
    0.85...
    """
    return lambda mode: _evolved(mode, start, tuple(times))[which]


@lru_cache(maxsize=64)
def _evolved(mode: ModeSDE, start: float, times: tuple[float, ...]) -> list[Law]:
    return list(mode.evolve(start, times, tol=1e-3))


def at_rest(mode: ModeSDE) -> Law:
    """The stationary distribution."""
    return mode.stationary()
