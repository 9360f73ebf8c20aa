"""How long, how many, which seed and what to keep."""

from __future__ import annotations

import math
from collections.abc import Sized
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from saddlescope._arrays import Floats
from saddlescope._memory import require
from saddlescope._parts import Count, Real, frozen
from saddlescope.observe.base import Observation

Event = Literal["learning_time", "noise_peak"]
Positive = Annotated[Count, Field(ge=1, lt=2**53)]
MOST_LISTED = 10_000_000
"""Most numbers in a list."""
LAGS = 16
"""Lags of each level of the correlator."""


def _listed(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, Sized) and len(value) > MOST_LISTED:
        fix = "trajectories = a number" if info.field_name == "members" else "saves = a number"
        raise ValueError(
            f"{info.field_name} must list at most {MOST_LISTED:,} numbers, got {len(value):,}; use {fix} instead"
        )
    return value


def _sorted(wanted: tuple[str | Observation, ...]) -> tuple[str | Observation, ...]:
    """Distinct names in one order, so that plans that ask for the same are equal; then the observations of a Model."""
    names = sorted({one for one in wanted if isinstance(one, str)})
    return (*names, *dict.fromkeys(one for one in wanted if not isinstance(one, str)))


_LISTED = BeforeValidator(_listed)
Threads = Annotated[Count, Field(ge=1, le=2**16)]


@frozen
class Logspaced:
    """Saves at step 0 and at ``count`` steps equally spaced in log step."""

    count: Positive = Field(description="a number of saves such as 100")


def logspaced(count: int) -> Logspaced:
    """Saves equally spaced in log step, for ``Plan(saves=…)``.

    >>> Plan(steps=1000, saves=logspaced(4)).save_steps
    array([   0,    1,   10,  100, 1000])
    """
    return Logspaced(count)


@frozen
class Accumulate:
    """Histogram and autocorrelation of every mode's strength, at every ``every``-th step from ``start``.

    The histogram has ``bins`` equal bins from ``low`` to ``high`` and one beyond each end; ``density`` is the same per
    unit of strength, with an integral of 1 minus the fraction ``outside`` these bins; correlations reach lags of
    ``2^(levels + 3) · every`` steps. Takes ``280 · levels`` bytes for each mode of each trajectory.
    Raises ValueError unless ``high`` is above ``low``.

    >>> Accumulate(low=0.0, high=2.0, bins=4).edges
    array([-inf,  0. ,  0.5,  1. ,  1.5,  2. ,  inf])
    """

    low: Real = Field(description="a strength such as 0.0")
    high: Real = Field(description="a strength such as 3.0")
    bins: Annotated[Count, Field(ge=1, lt=2**53)] = Field(default=200, description="a number of bins such as 200")
    start: Annotated[Count, Field(ge=0, lt=2**53)] = Field(default=0, description="the first step, such as 100_000")
    every: Annotated[Count, Field(ge=1, lt=2**53)] = Field(default=1, description="use 1 to count every step")
    levels: Annotated[Count, Field(ge=1, le=48)] = Field(default=20, description="a number of levels such as 20")

    def __post_init__(self) -> None:
        if not 0 < self.high - self.low < np.inf:
            raise ValueError(f"high must lie above low = {self.low}, at a finite distance, got {self.high}; swap them")
        require(40 * self.bins, f"bins = {self.bins:,}", "lower bins")

    @property
    def edges(self) -> Floats:
        """Edges of the bins, with the infinite ends (bins + 3,)."""
        return np.concatenate([[-np.inf], np.linspace(self.low, self.high, self.bins + 1), [np.inf]])

    def due(self, step: int) -> bool:
        """Whether this step is counted."""
        return step >= self.start and (step - self.start) % self.every == 0

    @property
    def lags(self) -> NDArray[np.int64]:
        """Lags in steps, ascending: every one up to 15 samples, then eight for each factor of two."""
        upper = np.arange(LAGS // 2, LAGS)
        return self.every * np.concatenate([np.arange(LAGS), *(upper << i for i in range(1, self.levels))])


@frozen
class Plan:
    """Steps, ensemble size, saves, seed, and what to keep.

    ``keep``: "statistics" over the ensemble, on the dim ``statistic``, as in ``run.loss.sel(statistic="mean")``;
    "trajectories", every one on the dim ``trajectory``, as in ``run.loss.mean("trajectory")``; or "weights", these and
    the weights at every save.
    ``saves`` is the number of equal intervals between saves (step 0 is always saved), or ``logspaced(n)``;
    ``save_at`` lists the steps instead. ``members`` replays these members of a larger ensemble with the same seed.
    ``observe`` names extra observables to save in addition to the standard ones: "mode_matrix", "drift_norm",
    "diffusion_norm", "noise_to_drift", "layer_singular_values" or "test_loss" (see ``observables.OBSERVABLES``); for a
    Model it lists parts such as ``observe.Accuracy()``.
    ``events`` are tested at every step; "noise_peak" more than doubles the cost of a step.
    ``accumulate`` counts mode strengths during the run.

    >>> Plan(steps=100, saves=4).save_steps
    array([  0,  25,  50,  75, 100])
    """

    steps: Annotated[Count, Field(ge=1, lt=2**53)] = Field(description="a number of steps such as 10000")
    trajectories: Positive = Field(default=1, description="an ensemble size such as 512")
    saves: Annotated[Positive | Logspaced, Field(union_mode="left_to_right")] = Field(
        default=100, description="a number of saves such as 100, or logspaced(100)"
    )
    seed: Annotated[Count, Field(ge=0, lt=2**63)] = Field(default=0, description="a whole number of at least 0")
    dtype: Literal["float64", "float32"] = Field(default="float64", description='use "float64" or "float32"')
    threads: Threads | None = Field(default=None, description="a number of threads, or leave it out to use every core")
    keep: Literal["statistics", "trajectories", "weights"] = Field(
        default="statistics", description='use "statistics", "trajectories" or "weights"'
    )
    save_at: Annotated[tuple[Annotated[Count, Field(ge=0)], ...] | None, _LISTED] = Field(
        default=None, description="a list of steps such as [0, 10, 100]"
    )
    members: Annotated[tuple[Annotated[Count, Field(ge=0, lt=2**63)], ...] | None, _LISTED] = Field(
        default=None, description="a list of member indices such as [17]"
    )
    events: tuple[Event, ...] = Field(
        default=("learning_time",), description='a list of "learning_time" and "noise_peak"'
    )

    accumulate: Accumulate | None = Field(default=None, description="a part such as Accumulate(low=0.0, high=3.0)")
    observe: Annotated[tuple[str | Observation, ...], AfterValidator(_sorted)] = Field(
        default=(), description='a list of extra observables such as ["mode_matrix"], of a Model such as [Accuracy()]'
    )

    def __post_init__(self) -> None:
        if self.save_at == ():
            raise ValueError("save_at must not be empty; give a list of steps such as [0, 10, 100], or leave it out")
        if self.save_at is not None and max(self.save_at) > self.steps:
            raise ValueError(
                f"save_at must hold steps from 0 to steps = {self.steps}, got {list(self.save_at)[:8]}; "
                "raise steps or drop the later saves"
            )
        if self.members is not None:
            if not self.members or len(set(self.members)) < len(self.members):
                raise ValueError(f"members must be distinct and not empty, got {list(self.members)[:8]}")
            if self.trajectories not in (1, len(self.members)):
                raise ValueError(
                    f"trajectories = {self.trajectories} conflicts with the {len(self.members)} entries of members; "
                    "leave trajectories out when members is given"
                )

    @property
    def count(self) -> int:
        """Number of trajectories."""
        return self.trajectories if self.members is None else len(self.members)

    @property
    def member_indices(self) -> NDArray[np.int64]:
        """Index of every trajectory in its ensemble."""
        return np.arange(self.trajectories) if self.members is None else np.array(self.members, np.int64)

    @property
    def most_saves(self) -> int:
        """Upper bound of the number of saves, without listing them."""
        if self.save_at is not None:
            return len(self.save_at)
        return min(self.saves.count if isinstance(self.saves, Logspaced) else self.saves, self.steps) + 1

    @cached_property
    def save_steps(self) -> NDArray[np.int64]:
        """Steps at which observables are saved, ascending: from 0 to the last step, or those of ``save_at``."""
        require(40 * self.most_saves, f"a list of {self.most_saves:,} saves", "lower saves")
        if self.save_at is not None:
            steps = np.array(self.save_at)
        elif isinstance(self.saves, Logspaced):
            all_of_them = int(2 * self.steps * math.log(self.steps + 1)) + 2  # so close that they leave no step out
            count = min(self.saves.count, all_of_them)
            steps = np.concatenate([[0], np.rint(np.geomspace(self.steps, 1, count))])
        else:
            steps = np.rint(np.linspace(0, self.steps, min(self.saves, self.steps) + 1))
        steps = np.unique(steps.astype(np.int64))
        steps.flags.writeable = False
        return steps
