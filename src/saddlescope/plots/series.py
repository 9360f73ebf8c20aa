"""Panels over time: mode strengths, mode noise, loss, balance, rank, determinant, and any other variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from saddlescope._arrays import Floats
from saddlescope.plots.panel import Panel, draw
from saddlescope.plots.predicted import Prediction, predictions
from saddlescope.plots.style import drawn
from saddlescope.plots.views import CannotPlot, Curves, View, drawable

# --- the public panels


def modes(run: xr.Dataset, axes: Axes | None = None, theory: bool = True) -> Figure:
    """Mode strengths ``u_αᵀPv_α`` over time, with the mode SDE and gradient flow where theory has them.

    Lines are ensemble means, bands hold 90 % of the trajectories; fewer than 8 kept trajectories are drawn one by one.
    Dashed and dotted: mean and 5–95 % of 4,096 paths of ``theory.mode_sde``; wide grey: gradient flow. Theory starts
    at the initial strengths of balanced weights, and otherwise from the run's own strengths at the first save at which
    their median is at least 0.05 s*. Modes with s* = 0 are left out.
    Draws into ``axes``, or a new figure, and returns the figure. Raises TypeError or ValueError for what is not a run,
    ValueError where the run holds no mode strengths or nearly all trajectories diverged; select the saves before that
    by ``run.isel(time=…)``.

    >>> from saddlescope import SGD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Balanced(scale=0.1))
    >>> run = simulate(problem, SGD(lr=0.05, batch_size=4), Plan(steps=100, trajectories=9), engine="reference")
    >>> [text.get_text() for text in modes(run).axes[0].texts]
    ['s* = 2', 's* = 1']
    """
    return over(run, lambda seen: strengths_of(seen, _theory(seen, theory)), axes)


def noise(run: xr.Dataset, axes: Axes | None = None, theory: bool = True) -> Figure:
    """Variance rate of the gradient noise along every mode, with its peak marked, and that of the mode SDE.

    Dashed: mean of ``T L² s^{4κ} g(s)`` over paths s of ``theory.mode_sde``, from where theory starts (see ``modes``).
    A peak is that of ``Plan(events=["noise_peak"])`` (median over trajectories) where the run has it, otherwise the
    largest mean noise before the mean strength reaches 0.9 s*, if it falls by 10 % until then.
    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where there is no noise.
    """
    return over(run, lambda seen: noise_of(seen, _theory(seen, theory)), axes)


def loss(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Loss above that of the teacher; where the run has a test loss, that beside the whole training loss.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where the run holds no loss.
    """
    return over(run, loss_of, axes)


def balance(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Imbalance ``‖W_{l+1}ᵀW_{l+1} − W_lW_lᵀ‖_F`` of neighbouring layers, which gradient flow conserves.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a single layer, and where the
    imbalance is 0 up to rounding.
    """
    return over(run, balance_of, axes)


def rank(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """Effective rank of the end-to-end map, and the number of learned modes.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a map of rank one at most.
    """
    return over(run, rank_of, axes)


def determinant(run: xr.Dataset, axes: Axes | None = None) -> Figure:
    """``log det ΘᵀΘ`` of neighbouring layers, ``Θ = [W_l, W_{l+1}ᵀ]``, which noise lowers.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError where no hidden layer is as wide as
    its two neighbours together.
    """
    return over(run, determinant_of, axes)


def variable(run: xr.Dataset, name: str, axes: Axes | None = None) -> Figure:
    """Any variable of a run over time, such as ``"alignment"`` or ``"layer_noise"``.

    Draws into ``axes``, or a new figure, and returns the figure. Raises ValueError for a variable that the run does not
    hold, with the option of the plan that keeps it.

    >>> from saddlescope import SGD, DeepLinear, GaussianData, Plan, Problem, init, simulate
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Balanced(scale=0.1))
    >>> run = simulate(problem, SGD(lr=0.05, batch_size=4), Plan(steps=100, trajectories=9), engine="reference")
    >>> variable(run, "alignment").axes[0].get_ylabel()
    'alignment'
    """
    return over(run, lambda seen: plain(seen, name), axes)


def over(run: xr.Dataset, panel: Callable[[View], Panel], axes: Axes | None) -> Figure:
    """A panel of a run alone."""
    seen = drawable(run)
    content = panel(seen)
    return drawn(lambda place: draw(place, content, seen, across=3), axes)


def _theory(seen: View, wanted: bool) -> list[Prediction]:
    """Predictions of the modes that are shown; none without mode strengths, from which they start."""
    held = wanted and len(seen.time) and "mode_strength" in seen.run
    return predictions(seen, shown_modes(seen))[0] if held else []


# --- their content


def shown_modes(seen: View) -> list[int]:
    """Modes of the run with s* > 0."""
    held = np.atleast_1d(seen.run["mode"].values) if "mode" in seen.run.coords else np.array([], int)
    return [int(mode) for mode in held if seen.learnable[mode]]


def strengths_of(seen: View, theory: Sequence[Prediction]) -> Panel:
    """Mode strengths."""
    curves = _of_modes(seen, "mode_strength")
    targets = seen.targets[curves.places]
    values, most = curves.values, float(np.abs(targets).max(initial=0.0))
    ends = np.nanmax(np.abs(curves.middle[-1])) if np.isfinite(curves.middle[-1]).any() else most
    apart = targets.max() >= 30 * targets.min() or ends < 0.01 * most
    log = bool(values.min() > 0 and apart)
    limits = None
    if most > 0 and not log and (values.max() > 4 * most or values.min() < -most):
        limits = (max(-0.25 * most, values.min()), min(2 * most, values.max()))
    return Panel(curves, log, limits=limits, theory=theory, targets=tuple(targets))


def noise_of(seen: View, theory: Sequence[Prediction]) -> Panel:
    """Noise along the modes, with peaks."""
    curves = _of_modes(seen, "mode_noise")
    if not curves.values.max() > 0:
        raise CannotPlot("mode noise", f"0 at all saves of {type(seen.method).__name__}", "use SGD or Langevin")
    noisy = [replace(one, sde=one.noise, flow=None) for one in theory if one.noise is not None]
    return Panel(curves, True, decades=5, peaks=_peaks(seen, curves), theory=noisy, edges=False)


def loss_of(seen: View) -> Panel:
    """Excess loss; or the loss beside that of held-out samples, which contains the same label noise."""
    if "test_loss" in seen.run and "loss" in seen.run:
        return Panel(seen.curves("loss"), True, decades=10, second=seen.curves("test_loss"), single="training loss")
    return Panel(seen.curves("excess_loss" if "excess_loss" in seen.run else "loss"), True, decades=10)


def balance_of(seen: View) -> Panel:
    """Imbalance of layers."""
    if seen.problem.network.depth == 1:
        raise CannotPlot("imbalance", "a single layer", "use depth ≥ 2", missed=False)
    curves = seen.curves("imbalance")
    if curves.values.max() < 1e-12 * _weight(seen):
        raise CannotPlot("imbalance", "0 up to rounding", "use other initial weights or noise")
    return Panel(curves, True)


def rank_of(seen: View) -> Panel:
    """Effective rank and learned modes."""
    if len(seen.targets) < 2:
        raise CannotPlot("effective rank", "at most one mode", "use more inputs and outputs", missed=False)
    curves = seen.curves("effective_rank")
    second = seen.curves("learned_modes") if "learned_modes" in seen.run else None
    if second is not None:
        none = np.full_like(second.low, np.nan)
        second = replace(second, low=none, high=none, paths=second.paths[:0] if second.kind else second.paths)
        curves = replace(curves, label="rank")
    tallest = max(curves.values.max(), second.values.max() if second is not None else 0)
    return Panel(curves, False, limits=(0, 1.08 * tallest), second=second, single="effective rank")


def determinant_of(seen: View) -> Panel:
    """log det of neighbouring layers."""
    if seen.problem.network.depth == 1:
        raise CannotPlot("log det", "a single layer", "use depth ≥ 2", missed=False)
    try:
        curves = seen.curves("log_det")
    except CannotPlot as error:
        if "not defined" in error.reason:
            reason = "no layer as wide as its neighbours together"
            raise CannotPlot("log det", reason, "widen it", missed=False) from None
        raise
    if "imbalance" in seen.run and np.nanmax(_first(seen.curves("imbalance"))) < 1e-12 * _weight(seen):
        raise CannotPlot("log det", "balanced layers are singular", "use other initial weights")
    return Panel(curves, False)


def plain(seen: View, name: str) -> Panel:
    """Any variable."""
    curves = _of_modes(seen, name)
    positive = curves.values.min() > 0
    return Panel(curves, bool(positive and curves.values.max() > 100 * curves.values.min()))


def _of_modes(seen: View, name: str) -> Curves:
    """Curves without the modes whose s* is 0."""
    curves = seen.curves(name)
    if curves.axis != "mode" or not len(seen.learnable):
        return curves
    curves = curves.only(seen.learnable[curves.places])
    if not len(curves):
        raise CannotPlot(name.replace("_", " "), "only modes with s* = 0 are selected", "select others")
    return curves


def _weight(seen: View) -> float:
    """Size of a squared weight of the learned network."""
    return max(float(seen.targets.max(initial=0.0)) ** (2 / seen.problem.network.depth), 1e-30)


def _first(curves: Curves) -> Floats:
    """Values at the first save."""
    return (
        curves.middle[0] if len(curves.middle) and np.isfinite(curves.middle[0]).any() else curves.paths[:, 0].ravel()
    )


def _peaks(seen: View, curves: Curves) -> list[tuple[int, float, float]]:
    """The curve, time and noise of each peak."""
    steps = seen.run.get("noise_peak_step")
    return [
        (index, *peak)
        for index, mode in enumerate(curves.places)
        if (
            peak := _event_peak(seen, steps, curves, index)
            if steps is not None
            else _mean_peak(seen, curves, index, int(mode))
        )
    ]


def _event_peak(seen: View, steps: xr.DataArray, curves: Curves, index: int) -> tuple[float, float] | None:
    """Median peak of the trajectories, at the height of the curve."""
    of_mode = steps.sel(mode=curves.places[index]) if "mode" in steps.dims else steps
    found = np.atleast_1d(of_mode.values)
    found = found[np.isfinite(found)]
    if not 2 * len(found) > steps.sizes.get("trajectory", 1):
        return None
    time = float(seen.method.time(np.median(found)))
    return (
        (time, float(np.interp(time, curves.time, curves.middle[:, index])))
        if curves.time[0] <= time <= curves.time[-1]
        else None
    )


def _mean_peak(seen: View, curves: Curves, index: int, mode: int) -> tuple[float, float] | None:
    """Peak of the mean noise before the mean strength reaches 0.9 s*; none where some trajectories run away."""
    if curves.kind == "median":
        return None
    try:
        strength = seen.curves("mode_strength")
    except ValueError:
        return None
    learned = strength.middle[:, list(strength.places).index(mode)] >= 0.9 * seen.targets[mode]
    if not learned.any() or learned[0]:
        return None
    end = int(learned.argmax())
    before = curves.middle[: end + 1, index]
    if not np.isfinite(before).any():
        return None
    place = int(np.nanargmax(before))
    if not 0 < place < end or before[-1] > 0.9 * before[place]:
        return None
    return float(curves.time[place]), float(before[place])
