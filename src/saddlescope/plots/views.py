"""A run as it is plotted: its variables as curves over time, whatever the run keeps and whatever was selected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope._numbers import as_whole
from saddlescope.methods import Method
from saddlescope.networks.model import is_model
from saddlescope.observables import OBSERVABLES
from saddlescope.plan import Plan
from saddlescope.plots.style import label, quiet
from saddlescope.problem import Problem
from saddlescope.runs.run import divergence, final_state, parts
from saddlescope.runs.variables import EVENTS
from saddlescope.simulation.advice import against_divergence

BANDS_FROM = 8
"""Number of trajectories from which a band is drawn instead of each of them."""

PATHS = 3
"""Number of single trajectories over a band."""

FEWEST = 0.1
"""Fraction of the trajectories that must not have diverged by the last save; statistics of fewer would mislead."""

MOST_NUMBERS = 20_000_000
"""Numbers of kept trajectories that are read for one panel."""

OPTIONS = (
    {name: f'Plan(observe=["{name}"])' for name, variable in OBSERVABLES.items() if variable.extra}
    | {"learning_time": 'Plan(events=["learning_time"])'}
    | dict.fromkeys(("noise_peak_step", "noise_peak_strength"), 'Plan(events=["noise_peak"])')
    | dict.fromkeys(
        ("histogram", "autocorrelation", "correlation_time", "samples", "effective_samples"),
        "Plan(accumulate=Accumulate(low, high))",
    )
)
"""The option of a plan that keeps each variable which is not kept by default."""


class CannotPlot(ValueError):
    """A panel that a run has nothing for; ``reason`` says it in a few words, ``missed`` whether a reader expects it."""

    def __init__(self, what: str, reason: str, fix: str, missed: bool = True) -> None:
        super().__init__(f"run has no {what} to plot: {reason}; {fix}")
        self.reason, self.missed = f"{what} ({reason})", missed


@dataclass(frozen=True)
class Curves:
    """A variable over time: ``middle``, ``low`` and ``high`` (t, k), and single ``paths`` (n, t, k).

    NaN where there are none. ``kind`` says what the middle is: a mean, or a median where some trajectories run away.
    ``places``, along the dim ``axis``, and ``names`` say what each of the k curves is.
    """

    time: Floats
    kind: str
    middle: Floats
    low: Floats
    high: Floats
    paths: Floats
    places: NDArray[np.int64]
    names: tuple[str, ...]
    axis: str
    label: str

    def __len__(self) -> int:
        return len(self.places)

    def only(self, keep: NDArray[np.bool_]) -> Curves:
        """Some of the curves."""
        names = tuple(name for name, kept in zip(self.names, keep, strict=True) if kept)
        arrays = {name: getattr(self, name)[..., keep] for name in ("middle", "low", "high", "paths", "places")}
        return replace(self, names=names, **arrays)

    @property
    def values(self) -> Floats:
        """All finite numbers that are drawn; without single paths where there are bands."""
        parts: tuple[Floats, ...] = (self.middle, self.low, self.high)
        if not any(np.isfinite(part).any() for part in parts):
            parts = (*parts, self.paths)
        together = np.concatenate([part.ravel() for part in parts])
        return together[np.isfinite(together)]


@dataclass(frozen=True, eq=False)
class View:
    """A run from a user with its problem, method and plan."""

    run: xr.Dataset
    problem: Problem
    method: Method
    plan: Plan

    @cached_property
    def targets(self) -> Floats:
        """s* of all modes of the teacher; of a Model those of its observed modes."""
        if is_model(self.problem.network):
            return np.atleast_1d(np.asarray(self.run["target"].values if "target" in self.run.coords else [], float))
        return np.asarray(self.problem.data.modes.strengths)

    @cached_property
    def learnable(self) -> NDArray[np.bool_]:
        """Modes with s* > 0, up to rounding; all where there are none."""
        found = self.targets > 1e-9 * self.targets.max(initial=0.0)
        return found if found.any() else np.ones_like(found)

    def mode(self, mode: int) -> int:
        """The index of a mode; raises ValueError for one that does not exist."""
        mode, count = as_whole(mode, "mode"), len(self.targets)
        if not 0 <= mode < count:
            raise ValueError(f"mode must be from 0 to {count - 1}, got {mode}; modes are counted from the strongest")
        return mode

    @cached_property
    def time(self) -> Floats:
        """Times of the saves, ascending."""
        return np.sort(np.atleast_1d(self.run["time"].values)) if "time" in self.run.coords else np.array([])

    @property
    def log_time(self) -> bool:
        """Whether the saves are spread over orders of magnitude."""
        later = self.time[self.time > 0]
        return len(later) > 4 and later[-1] > 50 * later[0] and np.median(later) < 0.15 * later[-1]

    @cached_property
    def reached(self) -> int:
        """Last step of the run."""
        return final_state(self.run).step

    @cached_property
    def status(self) -> NDArray[np.int64]:
        """0 or the step of divergence of every trajectory, as of the last save."""
        found = np.atleast_1d(self.run["status"].values) if "status" in self.run else np.zeros(0, np.int64)
        last = np.max(self.run["step"].values, initial=0) if "step" in self.run.coords else self.reached
        return np.where(found > last, 0, found)

    @property
    def ruin(self) -> str:
        """One sentence where all or nearly all trajectories diverged, with the remedy; empty otherwise."""
        lost, count = self.status[self.status != 0], self.status.size
        if not count or count - lost.size >= FEWEST * count:
            return ""
        many = "All" if lost.size == count else f"{lost.size:,} of"
        who = f"{many} {count:,} trajectories diverged, the first" if count > 1 else "The trajectory diverged"
        return f"{who} at step {lost.min():,}: {against_divergence(self.problem, self.method)}"

    @property
    def notes(self) -> list[str]:
        """What a reader must know: trajectories that diverged, a run that is not complete."""
        found = []
        if not self.ruin and (lost := divergence(self.status)):
            found.append(f"Diverged: {lost}; curves are those of the others.")
        if self.reached < self.plan.steps:
            found.append(f"The run is not complete: {self.reached:,} of {self.plan.steps:,} steps.")
        return found

    def needed(self, name: str) -> xr.DataArray:
        """A variable; raises ValueError with the option of the plan that keeps it where it is missing."""
        if name in self.run:
            return self.run[name]
        if name in OPTIONS and not is_model(self.problem.network):
            raise CannotPlot(name, "the plan did not ask for it", f"simulate with {OPTIONS[name]}")
        if name in OBSERVABLES or name in EVENTS:
            raise CannotPlot(name.replace("_", " "), "dropped from the run", "keep it when you select variables")
        known = sorted(str(key) for key in self.run if "time" in self.run[key].dims)
        raise ValueError(
            f"name must be a variable of the run with a time axis, one of {', '.join(known)}, got {name!r}"
        )

    def curves(self, name: str) -> Curves:
        """A variable over time. Raises ``CannotPlot`` where there is none, or no finite number in it."""
        found = self.needed(name)
        chosen = ("time", "mode") if "statistic" in found.coords else ("time", "trajectory", "mode")
        for dim in chosen:
            if dim not in found.dims and dim in found.coords:
                found = found.expand_dims(dim)
        what = found.attrs.get("long_name", name)
        if "time" not in found.dims:
            raise CannotPlot(what, "it has no time axis", "choose a variable over time")
        if not found.sizes["time"]:
            raise CannotPlot(what, "no save yet", "finish the run")
        if not found.size:
            raise CannotPlot(what, "nothing is selected", "select modes and trajectories that the run has")
        found = found.sortby("time")
        rest = [dim for dim in found.dims if dim not in ("time", "statistic", "trajectory")]
        lines = self._lines(found, rest)
        curves = Curves(
            np.asarray(found["time"].values, float),
            *lines,
            *self._names(found, rest),
            str(rest[-1]) if rest else "",
            label(found),
        )
        if not len(curves.values):
            raise CannotPlot(what, "it is not defined for this network or run", "choose another variable")
        return curves

    def _lines(self, found: xr.DataArray, rest: Sequence[Any]) -> tuple[str, Floats, Floats, Floats, Floats]:
        """Kind, middle, low, high (t, k) and paths (n, t, k)."""
        t, k = found.sizes["time"], int(np.prod([found.sizes[dim] for dim in rest]))
        none, no_paths = np.full((t, k), np.nan), np.empty((0, t, k))
        if "statistic" in found.dims:
            table = {
                str(key): found.sel(statistic=key).transpose("time", *rest).values.reshape(t, k)
                for key in found["statistic"].values
            }
            low, high, mean, median = (table.get(key, none) for key in ("q05", "q95", "mean", "q50"))
            return *_middle(mean, median, low, high), low, high, no_paths
        if "trajectory" not in found.dims:
            return "", found.transpose("time", *rest).values.reshape(t, k), none, none, no_paths
        found = found.isel(trajectory=slice(max(BANDS_FROM, MOST_NUMBERS // max(1, t * k))))
        paths = found.transpose("trajectory", "time", *rest).values.reshape(-1, t, k).astype(float)
        if "status" in found.coords or "status" in self.run:
            paths = np.where(self._alive(found)[..., None], paths, np.nan)
        paths = np.where(np.isfinite(paths), paths, np.nan)
        with quiet():
            mean = np.nanmean(paths, axis=0)
            if len(paths) < BANDS_FROM:
                return "", (mean if len(paths) == 1 else none), none, none, (paths if len(paths) > 1 else no_paths)
            low, median, high = quantiles(paths, (0.05, 0.5, 0.95))
        return *_middle(mean, median, low, high), low, high, paths[:PATHS]

    def _alive(self, found: xr.DataArray) -> NDArray[np.bool_]:
        """Whether each trajectory (n, t) has not diverged yet."""
        status = np.atleast_1d(self.run["status"].values)[: found.sizes["trajectory"], None]
        steps = np.atleast_1d(found["step"].values) if "step" in found.coords else np.zeros(found.sizes["time"])
        return np.asarray((status == 0) | (status > steps))

    def _names(self, found: xr.DataArray, rest: Sequence[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """The index of every curve that decides its colour, and its name."""
        axes = [
            np.atleast_1d(found[dim].values) if dim in found.coords else np.arange(found.sizes[dim]) for dim in rest
        ]
        grid = (
            np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=1) if rest else np.zeros((1, 1))
        )
        names = tuple(
            ", ".join(self._name(str(dim), int(value)) for dim, value in zip(rest, row, strict=True)) if rest else ""
            for row in grid
        )
        places = grid[:, -1] - (rest[-1] in ("interface", "layer") if rest else 0)
        return places.astype(np.int64), names

    def _name(self, dim: str, value: int) -> str:
        if dim in ("mode", "input_mode"):
            return f"s* = {self.targets[value]:.3g}"
        return f"layers {value}, {value + 1}" if dim == "interface" else f"{dim.replace('_', ' ')} {value}"


def quantiles(sample: Floats, levels: tuple[float, ...]) -> Floats:
    """Quantiles (levels, …) over the first axis, without NaN."""
    known = not np.isnan(sample).any()  # then there is a way that is a hundred times as fast
    return np.asarray(np.quantile(sample, levels, axis=0) if known else np.nanquantile(sample, levels, axis=0))


def _middle(mean: Floats, median: Floats, low: Floats, high: Floats) -> tuple[str, Floats]:
    """The mean, or the median where the mean is far outside the band, as where some trajectories run away."""
    band = np.concatenate([low, high])
    reach = np.abs(band[np.isfinite(band)]).max(initial=0.0)
    far = (np.abs(mean[np.isfinite(mean)]) > 5 * reach).any() and reach > 0
    if np.isfinite(median).any() and (far or not np.isfinite(mean).any()):
        return "median", median
    return ("mean" if np.isfinite(mean).any() else ""), mean


def view(run: xr.Dataset) -> View:
    """A run to be plotted. Raises TypeError or ValueError for what is not a run from simulate or load."""
    return View(run, *parts(run))


def drawable(run: xr.Dataset) -> View:
    """As ``view``; raises ValueError, with the remedy, where all or nearly all trajectories diverged."""
    seen = view(run)
    if seen.ruin:
        raise ValueError(f"run has nothing to plot: {seen.ruin[0].lower()}{seen.ruin[1:]}")
    return seen
