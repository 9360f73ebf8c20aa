"""What theory predicts for the modes of a run: the mode SDE and gradient flow, and where they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from saddlescope._arrays import Floats
from saddlescope.init import Balanced
from saddlescope.methods import GradientFlow
from saddlescope.plan import Plan, logspaced
from saddlescope.plots.style import quiet
from saddlescope.plots.views import View, quantiles
from saddlescope.runs.run import earlier
from saddlescope.simulation.simulate import simulate
from saddlescope.theory import ModeSDE, mode_sde

MOST_MODES = 4
"""Modes that theory is drawn for; more would hide each other and take long."""

PATHS = 4096
"""Paths of the mode SDE that its mean and quantiles are estimated from."""

WORK = 3_000_000
"""Paths × relaxation times that one mode may take, about half a second."""

EARLY = 0.05
"""Fraction of s* that the median has reached when theory starts from a run whose initial weights are not exact."""

FLOW_WORK, FLOW_PATHS, FLOW_TIMES, FLOW_SAVES = 4000, 16, 1000, 120
"""Most weights, trajectories, relaxation times and saves for gradient flow of a whole network."""

TIMES = 160
"""Times of a predicted curve."""


@dataclass(frozen=True)
class Start:
    """Where theory starts: a time, the strengths there (one, or a sample of them), and words for the footer."""

    time: float
    strengths: Floats
    words: str


@dataclass(frozen=True)
class Prediction:
    """Curves of one mode; None where theory has none.

    Mean, 5, 50 and 95 % of the strength (4, t) and of the noise (4, t) under the SDE, and gradient flow (t,).
    """

    mode: int
    start: Start
    time: Floats
    sde: Floats | None
    noise: Floats | None
    flow: Floats | None


def predictions(view: View, modes: Sequence[int]) -> tuple[list[Prediction], list[str]]:
    """Predictions of the first modes, and sentences for the footer: where theory starts, what is left out and why."""
    found: list[Prediction] = []
    refused: dict[str, list[int]] = {}
    for mode in modes[:MOST_MODES]:
        try:
            found.append(prediction(view, mode))
        except ValueError as error:
            refused.setdefault(str(error).split(";")[0], []).append(mode)
    notes = []
    if modes and not found:
        found = network_flow(view, modes[:MOST_MODES])
    for words in dict.fromkeys(one.start.words for one in found):
        notes.append(f"Theory {words}.")
    if found and any(one.flow is None for one in found):
        notes.append("Gradient flow has no closed form here.")
    if len(modes) > MOST_MODES and found:
        notes.append(f"Theory for the first {MOST_MODES} modes only.")
    for reason, which in refused.items():
        whose = "" if len(which) == len(modes[:MOST_MODES]) else f" for mode {', '.join(map(str, which))}"
        notes.append(f"No mode SDE{whose}: {reason}.")
    return found, notes


def network_flow(view: View, modes: Sequence[int]) -> list[Prediction]:
    """Gradient flow of the whole network from the run's initial weights, where that takes no time; mean strengths."""
    network, method, plan = view.problem.network, view.method, view.plan
    rate = (
        network.depth
        * float(view.targets.max()) ** (2 - 2 / network.depth)
        * float(np.abs(view.problem.data.sigma).max())
    )
    end = float(view.time[-1]) * method.pace
    few = FLOW_WORK // network.parameters
    if earlier(view.run.attrs) or not 0 < rate * end < FLOW_TIMES or few < 1:
        return []
    steps, saves = (100 * FLOW_SAVES, logspaced(FLOW_SAVES)) if view.log_time else (FLOW_SAVES, FLOW_SAVES)
    flow = GradientFlow(lr=end / steps, weight_decay=method.weight_decay)
    members = tuple(plan.member_indices[: min(few, FLOW_PATHS)].tolist())
    with quiet():
        run = simulate(
            view.problem, flow, Plan(steps=steps, saves=saves, seed=plan.seed, members=members), progress=False
        )
    words = f"is gradient flow of the network from the initial weights of {len(members)} trajectories"
    strength, times = run["mode_strength"].sel(statistic="mean"), run["time"].values / method.pace
    return [
        Prediction(m, Start(0.0, np.zeros(0), words), times, None, None, strength.sel(mode=m).values) for m in modes
    ]


def prediction(view: View, mode: int) -> Prediction:
    """The prediction of one mode. Raises ValueError where it has none."""
    sde = mode_sde(view.problem, view.method, mode)
    start = prediction_start(view, mode, sde.depth)
    end = view.time[-1]
    if not end > start.time:
        raise ValueError("no save follows its start")
    if view.log_time:
        times = np.geomspace(max(start.time, view.time[view.time > 0][0]), end, TIMES)
    else:
        times = np.linspace(start.time, end, TIMES)
    elapsed = np.maximum(times - start.time, 0.0)
    try:
        flow = sde.flow(elapsed, float(np.median(start.strengths)))
    except ValueError:
        flow = None
    strength, noise = _statistics(sde, start, elapsed) if sde.temperature > 0 else (None, None)
    return Prediction(mode, start, times, strength, noise, flow)


def _statistics(sde: ModeSDE, start: Start, elapsed: Floats) -> tuple[Floats, Floats]:
    """Mean, 5, 50 and 95 % of strength and noise: by paths, and by the stationary law for times that are long after."""
    rate = sde.pull[0] * max(sde.depth * abs(sde.fixed_point) ** (2 - 2 / sde.depth), 1e-6)
    paths = int(np.clip(WORK / (rate * elapsed[-1] + 1e-300), 256, PATHS))
    near = elapsed * rate * paths <= 1.001 * max(WORK, rate * elapsed[1] * paths)
    first = np.quantile(start.strengths, (np.arange(paths) + 0.5) / paths)
    rng = np.random.default_rng(0)
    curves, noise = np.full((2, 4, len(elapsed)), np.nan)
    with quiet():
        sample = np.asarray(sde.simulate(rng.permutation(first), elapsed[near], paths, seed=0), np.float64)
        for found, values in ((curves, sample), (noise, sde.diffusion(sample) ** 2)):
            found[0, near] = np.nanmean(values, axis=0)
            found[1:, near] = quantiles(values, (0.05, 0.5, 0.95))
        if not near.all():
            try:
                law = sde.stationary()
                if 10 * sde.relaxation_time < elapsed[near][-1]:
                    curves[:, ~near] = np.array([law.mean(), *law.ppf([0.05, 0.5, 0.95])])[:, None]
                    noise[:, ~near] = noise[:, near][:, -1:]  # the last sample is one of the stationary law
            except ValueError:
                pass  # the curves end where the paths do
    return curves, noise


def prediction_start(view: View, mode: int, depth: int) -> Start:
    """Where theory starts. Raises ``CannotPlot`` where no save of the run will do."""
    saved = _Saved(view, mode, depth)
    first, low, median = float(saved.time[0]), saved.low, saved.median
    at_zero = first == 0 and not earlier(view.run.attrs)
    if at_zero and isinstance(view.problem.init, Balanced) and view.problem.init.aligned:
        return Start(first, median[:1], "starts at the balanced initial strengths")
    if depth == 1:
        return Start(first, saved.sample(0), "starts from the strengths at the first save")
    if at_zero and 0 < median[0] <= low[0] * (1 + 1e-9) and _aligned(view, mode):
        return Start(first, median[:1], "starts at the initial strengths")
    fit = np.flatnonzero((low > 0) & (median >= EARLY * view.targets[mode]))
    if not len(fit):
        raise ValueError(f"strengths stay below {EARLY:g} s*, or some are negative")
    words = f"starts from the run's own strengths, once their median passes {EARLY:g} s*, as if aligned and balanced"
    return Start(float(saved.time[fit[0]]), saved.sample(int(fit[0])), words)


class _Saved:
    """The strengths of one mode at every save: their 5 % quantile, their median, and a sample of them."""

    def __init__(self, view: View, mode: int, depth: int) -> None:
        found = view.needed("mode_strength")
        for dim in ("time", "mode"):
            found = found if dim in found.dims else found.expand_dims(dim)
        found = found.sel(mode=mode).sortby("time")
        self.time, self.positive = found["time"].values, depth > 1
        if "statistic" in found.dims:
            held = [str(name) for name in found["statistic"].values]
            names = ["q05", "q50", "q95"] if {"q05", "q50", "q95"} <= set(held) else [held[0]] * 3
            self._rows = np.array([found.sel(statistic=name).values for name in names])
            self._levels = ndtri([0.05, 0.5, 0.95])
        else:
            paths = found.expand_dims("trajectory") if "trajectory" not in found.dims else found
            self._rows = np.sort(paths.transpose("trajectory", "time").values, axis=0)
            self._levels = None
        if not self._rows.size:
            raise ValueError("no trajectory is selected")
        with quiet():
            low, median = quantiles(self._rows, (0.05, 0.5))
        self.low, self.median = (low, median) if self._levels is None else self._rows[:2]

    def sample(self, place: int) -> Floats:
        """A sample of the strengths at a save: those kept, or quantiles between those kept (in log s if positive)."""
        held = self._rows[:, place]
        if self._levels is None:
            held = held[np.isfinite(held)]
            return held[held > 0] if self.positive else held
        z = np.clip(ndtri((np.arange(256) + 0.5) / 256), *self._levels[[0, -1]])
        inner = np.log(held) if self.positive else held
        slopes = np.diff(inner) / np.diff(self._levels)
        values = inner[1] + z * np.where(z < 0, slopes[0], slopes[1])
        return np.exp(values) if self.positive else values


def _aligned(view: View, mode: int) -> bool:
    """Whether the mode is aligned at the first save, as far as the run tells."""
    if "alignment" not in view.run:
        return False
    found = view.run["alignment"]
    found = found.sel(mode=mode) if "mode" in found.dims else found
    found = found.sel(statistic="mean") if "statistic" in found.dims else found
    return bool((found.isel(time=0) if "time" in found.dims else found).min() > 0.99)
