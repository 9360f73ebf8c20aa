"""A claim: what a source says, the experiment that could refute it, and a verdict by a rule fixed before the
run.

Every measured number carries an interval that misses the truth with probability 1e-6, and the claim says in
which region the number must lie; the width of the region is the smallest effect worth catching. Interval
inside the region: confirmed. Outside: refuted. Across its edge: inconclusive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope.claims.intervals import Interval
from saddlescope.compare import DIVERGED
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem, run_to_toml

Verdict = Literal["confirmed", "refuted", "inconclusive"]
Region = tuple[float, float]


@dataclass(frozen=True)
class Number:
    """A measured number with its interval, and the region the claim predicts (None: reported, not judged).

    >>> Number("share of heads", Interval(0.5, 0.48, 0.52), (0.45, 0.55)).verdict
    'confirmed'
    """

    name: str
    interval: Interval
    region: Region | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Inside the region: confirmed; outside: refuted; across its edge (or NaN): inconclusive."""
        if self.region is None:
            return None
        low, high = self.region
        if low <= self.interval.low and self.interval.high <= high:
            return "confirmed"
        if self.interval.high < low or high < self.interval.low:
            return "refuted"
        return "inconclusive"


@dataclass(frozen=True)
class Run:
    """A run behind a claim: its name, the TOML that repeats it, the share of trajectories that diverged."""

    name: str
    toml: str
    diverged: float

    @classmethod
    def of(cls, name: str, run: xr.Dataset) -> Run:
        """The run as ``simulate`` returned it."""
        return cls(name, str(run.attrs["toml"]), float((run["status"] != 0).mean()))

    @classmethod
    def by_hand(cls, name: str, problem: Problem, method: Method, plan: Plan, status: np.ndarray) -> Run:
        """A run advanced on given noise."""
        return cls(name, run_to_toml(problem, method, plan), float((status != 0).mean()))


@dataclass(frozen=True)
class Evidence:
    """What an experiment found.

    ``numbers``: the first is the headline, those with a region decide. ``controls``: the same question asked
    where the answer must be no. ``runs``: what was simulated. ``curves``: whatever the figure draws.
    """

    numbers: Sequence[Number]
    controls: Sequence[Number]
    runs: Sequence[Run]
    curves: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A statement with its source, the experiment that could refute it, and the figure that shows it.

    ``experiment(quick)`` returns the evidence; ``draw(axes, evidence)`` fills ``panels`` axes.
    """

    name: str
    title: str
    statement: str
    source: str
    method: str
    control: str
    caption: str
    experiment: Callable[[bool], Evidence]
    draw: Callable[[Sequence[Axes], Evidence], None]
    panels: int = 3


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict on a claim and the reason for it, in one sentence.

    >>> heads = Number("share of heads", Interval(0.5, 0.48, 0.52), (0.45, 0.55))
    >>> judge(Evidence([heads], controls=[heads], runs=[]))
    ('inconclusive', 'the negative control "share of heads" was not rejected')
    """
    for run in evidence.runs:
        if not run.diverged <= DIVERGED:
            return "inconclusive", f'{run.diverged:.2%} of the trajectories of "{run.name}" diverged'
    for control in evidence.controls:
        if control.verdict != "refuted":
            return "inconclusive", f'the negative control "{control.name}" was not rejected'
    verdicts = {number.name: number.verdict for number in evidence.numbers if number.region is not None}
    for wanted, reason in (("refuted", "is outside"), ("inconclusive", "is not clearly inside")):
        for name, verdict in verdicts.items():
            if verdict == wanted:
                return verdict, f'"{name}" {reason} the predicted region'
    if not verdicts or not evidence.controls:
        return "inconclusive", "nothing was measured against a prediction and a negative control"
    return "confirmed", "every number is inside its predicted region, every negative control is rejected"
