"""The targets of the benchmark: for each quantity a floor and a goal (``reach``)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saddlescope.bench.arms import OURS

Fact = Mapping[str, Any]
Measured = tuple[float, float, float]
"""Median, lowest and highest round."""
Measure = Callable[[Fact], Measured | None]

PRODUCTS = 7 * 2 * 10**3
"""Floating-point operations in the products of a step of W1."""


@dataclass(frozen=True)
class Target:
    """A measured quantity with its floor and reach (ceilings if ``at_most``); without them it is only reported."""

    work: str
    what: str
    floor: float | None
    reach: float | None
    measure: Measure
    at_most: bool = False

    def judge(self, record: Fact) -> dict[str, Any]:
        """The target as a row of the report, with the verdict "reached", "met", "missed", "" or "not measured"."""
        work = record["works"].get(self.work)
        found = self.measure(work["races"]) if work else None
        row = {"work": self.work, "what": self.what, "floor": self.floor, "reach": self.reach, "at_most": self.at_most}
        if found is None:
            return {**row, "measured": None, "verdict": "not measured"}
        if self.floor is None or self.reach is None:
            return {**row, "measured": list(found), "verdict": ""}
        sign = -1 if self.at_most else 1
        met, reached = sign * found[0] >= sign * self.floor, sign * found[0] >= sign * self.reach
        return {**row, "measured": list(found), "verdict": "reached" if reached else "met" if met else "missed"}


def ratio(slow: Fact, fast: Fact) -> Measured:
    """Ratio of times per trajectory and step: median, lowest and highest over the rounds."""
    work = (fast["steps"] * fast["trajectories"]) / (slow["steps"] * slow["trajectories"])
    rounds = [work * s / f for s, f in zip(slow["seconds"], fast["seconds"], strict=True)]
    return statistics.median(rounds), min(rounds), max(rounds)


def best_peer(arms: Fact, *names: str) -> Fact | None:
    """The fastest arm of the peers, or of those whose names start with one of ``names``."""
    peers = [a for a in arms.values() if a["peer"] != OURS and (not names or a["name"].startswith(names))]
    return min(peers, key=lambda arm: arm["nanoseconds"], default=None)


def _against(race: str, *names: str) -> Measure:
    """Time of the best peer over ours."""

    def measure(races: Fact) -> Measured | None:
        arms = races.get(race, {}).get("arms", {})
        peer = best_peer(arms, *names)
        return ratio(peer, arms[OURS]) if peer else None

    return measure


def _between(race: str, slow: str, fast: str) -> Measure:
    """Time of one arm over that of another."""

    def measure(races: Fact) -> Measured | None:
        arms = races.get(race, {}).get("arms", {})
        return ratio(arms[slow], arms[fast]) if slow in arms and fast in arms else None

    return measure


def _peak_share(races: Fact) -> Measured | None:
    """Fraction of the peak rate of the machine in the same round."""
    race = races.get("1024 trajectories", {})
    arm = race.get("arms", {}).get(OURS)
    if not arm:
        return None
    work = PRODUCTS * arm["steps"] * arm["trajectories"] / 1e9
    peaks = [limits["float32"]["gflops"] for limits in race["limits"]]
    shares = [work / (s * peak) for s, peak in zip(arm["seconds"], peaks, strict=True)]
    return statistics.median(shares), min(shares), max(shares)


def _lowest(widths: Callable[[int], bool]) -> Measure:
    """The lowest ratio of the best peer to ours over some widths."""

    def measure(races: Fact) -> Measured | None:
        some = [_against(name)(races) for name in races if widths(int(name.split()[1]))]
        return min((found for found in some if found), default=None)

    return measure


W1 = "1024 trajectories"
TARGETS = (
    Target("W1", "best peer", 8, 12, _against(W1)),
    Target("W1", "JAX vmap + scan", 60, 100, _against(W1, "JAX vmap")),
    Target("W1", "diffrax, structured noise", None, None, _against(W1, "diffrax, structured")),
    Target("W1", "dense covariance, the better of diffrax and torchsde", None, None,
           _against(W1, "diffrax, dense", "torchsde, dense")),
    Target("W1", "fraction of the multiply-add peak", 0.38, 0.60, _peak_share),
    Target("W1", "speed of float64 relative to float32", 0.45, 0.50, _between(W1, OURS, "saddlescope, float64")),
    Target("W1", "best peer, 16 trajectories", 12, 20, _against("16 trajectories")),
    Target("W2", "B = 4096 over B = 16", 1.15, 1.02, _between("B = 4096", OURS, "saddlescope, B = 16"), True),
    Target("W2", "best peer, B = 1", 15, 25, _against("B = 1")),
    Target("W2", "best peer, B = 32", 10, 14, _against("B = 32")),
    Target("W2", "best peer, B = 256", 50, 80, _against("B = 256")),
    Target("W2", "best peer, B = 1024", 250, 350, _against("B = 1024")),
    Target("W3", "best peer", 9, 15, _against("100,000 trajectories")),
    Target("W4", "best peer", 10, 30, _against(W1)),
    Target("W5", "best peer, lowest of the widths up to 256", 1, 1.2, _lowest(lambda width: width <= 256)),
    Target("W5", "best peer, lowest of the widths above 256", 0.9, 1.2, _lowest(lambda width: width > 256)),
)  # fmt: skip
