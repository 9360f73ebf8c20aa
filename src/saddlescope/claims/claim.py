"""A claim: a statement of the literature, the experiment that could refute it, and the rule that judges it.

Every measured number has an interval that misses the true value with a stated probability (1e-6 by default), and the
claim states the region that theory predicts. Interval inside the region: confirmed; outside: refuted; across an
edge: inconclusive.

A claim demonstrates its power in two ways. *Controls* ask the same question where the answer must be no. *Rivals* are
the nearest wrong theories, judged by the same rule on the same data: a claim that would also confirm one of them is
inconclusive.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import _show
from saddlescope.claims.intervals import Interval
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import run_to_toml
from saddlescope.runs.run import whole_toml

Verdict = Literal["confirmed", "refuted", "inconclusive"]
Region = tuple[float, float]

DIVERGED = 1e-3
"""Largest fraction of diverged trajectories at which the others still represent the ensemble."""


@dataclass(frozen=True, repr=False)
class Number(_show.Shown):
    """A measured number with its interval, and the region the claim predicts (None: reported, not judged).

    ``catches`` describes the smallest error that the number does not confirm, such as "T × 0.96, T × 1.05"
    (measured by ``tools.power``). ``moved`` marks a region that was set after a first look at the result.
    Raises ValueError if the lower end of the region is above its upper end.

    >>> Number("fraction of heads", Interval(0.5, 0.48, 0.52), (0.45, 0.55)).verdict
    'confirmed'
    """

    name: str
    interval: Interval
    region: Region | None = None
    catches: str = ""
    moved: bool = False

    def _summary(self) -> tuple[str, _show.Rows]:
        rows = [("measured", _in(self.interval.value, self.interval.low, self.interval.high))]
        if self.region is not None:
            low, high = (_show.number(end) for end in self.region)
            rows += [("predicted", f"{low} to {high}"), ("verdict", str(self.verdict))]
        if self.catches:
            rows.append(("catches", self.catches))
        return f"Number: {self.name}", rows

    def __post_init__(self) -> None:
        if self.region is not None and not self.region[0] <= self.region[1]:
            raise ValueError(f"region of {self.name!r} must be (low, high) with low ≤ high, got {self.region}")

    @property
    def refutes_from(self) -> tuple[float, float] | None:
        """True values at or beyond which an interval of this width would refute: the region widened by its arms.

        Infinite where no value lies beyond the edge: an edge at infinity, or the lower edge 0 of a distance.
        None without a region.

        >>> Number("fraction of heads", Interval(0.5, 0.48, 0.53), (0.25, 0.75)).refutes_from
        (0.22, 0.77)
        """
        if self.region is None:
            return None
        (low, high), seen = self.region, self.interval
        return low - (seen.high - seen.value) if low else -math.inf, high + (seen.value - seen.low)

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


@dataclass(frozen=True, repr=False)
class Run(_show.Shown):
    """A run behind a claim: its name, the TOML that repeats it, the fraction of trajectories that diverged."""

    name: str
    toml: str
    diverged: float

    def _summary(self) -> tuple[str, _show.Rows]:
        return f"Run: {self.name}", [("diverged", f"{self.diverged:.2%}"), ("toml", f"{len(self.toml):,} characters")]

    @classmethod
    def of(cls, name: str, run: xr.Dataset) -> Run:
        """The run as ``simulate`` returned it."""
        return cls(name, whole_toml(run), float((run["status"] != 0).mean()))

    @classmethod
    def by_hand(cls, name: str, problem: Problem, method: Method, plan: Plan, status: np.ndarray) -> Run:
        """A run that the experiment advanced itself, such as one on given noise."""
        return cls(name, run_to_toml(problem, method, plan), float((status != 0).mean()))


@dataclass(frozen=True, repr=False)
class Rival(_show.Shown):
    """A wrong theory, and the claim's numbers judged as if it were right.

    ``theory`` says what is wrong with it ("T × 1.1", "no Itô term"). ``numbers`` are those that it predicts
    differently, each with the region that this theory would state.

    >>> Rival("biased coin", [Number("fraction of heads", Interval(0.5, 0.48, 0.52), (0.55, 0.65))]).verdict
    'refuted'
    """

    theory: str
    numbers: Sequence[Number]

    def _summary(self) -> tuple[str, _show.Rows]:
        rows = [
            (n.name, f"{n.verdict}, would have to be {' to '.join(map(_show.number, n.region or ()))}")
            for n in self.numbers[:6]
        ]
        return f"Rival theory: {self.theory}, {self.verdict}", rows

    @property
    def verdict(self) -> Verdict:
        """Confirmed if every judged number is, refuted if one is refuted, else inconclusive."""
        verdicts = {number.verdict for number in self.numbers if number.region is not None}
        if "refuted" in verdicts:
            return "refuted"
        return "confirmed" if verdicts == {"confirmed"} else "inconclusive"


@dataclass(frozen=True, repr=False)
class Evidence(_show.Shown):
    """The results of an experiment.

    ``numbers``: the first is the headline, those with a region decide. ``controls``: the same question where the
    answer must be no. ``runs``: what was simulated. ``curves``: data for the figure. ``rivals``: the nearest wrong
    theories.
    """

    numbers: Sequence[Number]
    controls: Sequence[Number]
    runs: Sequence[Run]
    curves: Mapping[str, Any] = field(default_factory=dict)
    rivals: Sequence[Rival] = ()

    def _summary(self) -> tuple[str, _show.Rows]:
        verdict, reason = judge(self)
        measured = [
            (
                number.name,
                f"{_in(number.interval.value, number.interval.low, number.interval.high)} {number.verdict or ''}",
            )
            for number in self.numbers[:4]
        ]
        counts = [f"{name} {len(getattr(self, name)):,}" for name in ("numbers", "controls", "rivals", "runs")]
        return f"Evidence: {verdict}, {reason}", [*measured, ("", ", ".join(counts))]


@dataclass(frozen=True, repr=False)
class Claim(_show.Shown):
    """A statement with its source, the experiment that could refute it, and the figure that shows it.

    ``experiment(quick)`` returns the evidence; ``draw(axes, evidence)`` fills ``panels`` axes. For readers: ``why`` it
    matters to someone who trains networks, in two sentences; ``equations``, the formulas tested, in TeX (narrow
    pages break them at ``\\qquad``); what is ``proved`` and what is ``unknown``; ``related`` claims by name.
    ``extra``: the optional package that the experiment needs, and the extra of saddlescope that installs it; a claim
    whose package is missing is not run.
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
    why: str
    equations: tuple[str, ...]
    proved: str
    unknown: str
    related: tuple[str, ...]
    panels: int = 3
    extra: str = ""

    @property
    def lacking(self) -> str:
        """Why the experiment cannot run here, in one sentence; empty where it can."""
        if not self.extra or importlib.util.find_spec(self.extra) is not None:
            return ""
        return f"{self.extra} is not installed; run pip install 'saddlescope[{self.extra}]'"

    def _summary(self) -> tuple[str, _show.Rows]:
        rows = [(name, " ".join(getattr(self, name).split())) for name in ("statement", "source", "method", "control")]
        return f"Claim {self.name}: {self.title}", rows


def _in(value: float, low: float, high: float) -> str:
    """A number with its interval."""
    return f"{_show.number(value)} ({_show.number(low)} to {_show.number(high)})"


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict on a claim and the reason for it, in one sentence.

    >>> heads = Number("fraction of heads", Interval(0.5, 0.48, 0.52), (0.45, 0.55))
    >>> judge(Evidence([heads], controls=[heads], runs=[]))
    ('inconclusive', 'the negative control "fraction of heads" was not rejected')
    """
    for run in evidence.runs:
        if not run.diverged <= DIVERGED:
            return "inconclusive", f'{run.diverged:.2%} of the trajectories of "{run.name}" diverged'
    for control in evidence.controls:
        if control.verdict != "refuted":
            return "inconclusive", f'the negative control "{control.name}" was not rejected'
    for rival in evidence.rivals:
        if rival.verdict == "confirmed":
            return "inconclusive", f'the rival theory "{rival.theory}" would also be confirmed'
    verdicts = {number.name: number.verdict for number in evidence.numbers if number.region is not None}
    for wanted, reason in (("refuted", "is outside"), ("inconclusive", "is not clearly inside")):
        for name, verdict in verdicts.items():
            if verdict == wanted:
                return verdict, f'"{name}" {reason} the predicted region'
    if not verdicts or not evidence.controls or not evidence.rivals:
        return "inconclusive", "nothing was measured against a prediction, a negative control and a rival theory"
    return "confirmed", (
        "every number is inside its predicted region, every negative control is refuted, "
        "and no rival theory would be confirmed"
    )
