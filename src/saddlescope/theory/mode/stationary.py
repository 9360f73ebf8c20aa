"""Laws of one mode in closed form: after infinite time, near the fixed point, of the time on the plateau."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc

from saddlescope._numbers import as_number
from saddlescope.data.base import LARGEST
from saddlescope.theory.mode.coefficients import ModeCoefficients
from saddlescope.theory.mode.log_strength import LogStrength
from saddlescope.theory.sde.density import Density, inverse_gaussian
from saddlescope.theory.sde.laws import Atoms, Known, Law, Mixture


def stationary(log: LogStrength, start: float | None) -> Law:
    """The law of s after infinite time, as ``ModeSDE.stationary``."""
    mode = log.mode
    L, T, end = mode.depth, mode.temperature, mode.fixed_point
    if mode.deep_decay and T == 0 and mode.beta2 > 0:
        return _flow_end(mode, start)
    if T > 0 and mode.crossing is not None and mode.crossing[1] > 0:
        return _above(log, start)
    if mode.deep_decay or (L >= 2 and end <= 0):
        return _point(0.0)
    if T == 0 or mode.noiseless_at == end:
        return _two_points(mode, start) if mode.critical_temperature < T else _point(end)
    if mode.critical_temperature <= T:
        return _point(0.0)
    width = float(np.sqrt(mode.small_noise)) if mode.crossing is None and end else np.inf
    return _point(end) if width < 1e-13 * abs(end) else _density(log)


def boltzmann(mode: ModeCoefficients) -> Law:
    """The Boltzmann law near β₂/β₁, as ``ModeSDE.boltzmann``."""
    from scipy import stats  # heavy: imported where it is used

    mode.refuse_deep_decay("the Boltzmann law")
    end = mode.fixed_point
    if mode.depth >= 2 and end <= 0:
        raise ValueError(f"the Boltzmann law needs β₂ > 0, got β₂ = {mode.pull[1]:g}; without it the mode decays to 0")
    variance = mode.small_noise
    return Known(stats.norm(end, float(np.sqrt(variance)))) if variance > 0 else _point(end)


def plateau_passage(mode: ModeCoefficients, start: float, target: float | None) -> Law:
    """The law of the time on the plateau, as ``ModeSDE.plateau_passage``."""
    start, end = as_number(start, "start"), mode.fixed_point if target is None else as_number(target, "target")
    speed, noise = 2 * mode.pull[1] - mode.temperature * mode.alpha3, 4 * mode.temperature * mode.alpha3
    if mode.depth != 2 or speed <= 0 or noise == 0 or not 0 < start < end:
        raise ValueError(
            f"the plateau law needs depth 2, 0 < T < T_c = {mode.critical_temperature:g} and 0 < start < target, "
            f"got depth {mode.depth}, T = {mode.temperature:g}, start {start:g} and target {end:g}"
        )
    if start < 1 / LARGEST or end > LARGEST:
        raise ValueError(f"start and target must be from 1e-150 to 1e150, got {start:g} and {end:g}")
    length = float(np.log(end / start))
    return inverse_gaussian(length / speed, length**2 / noise)


def _density(log: LogStrength) -> Density:
    """The law of s that the SDE of log s has."""
    law = log.sde.stationary()
    return law if log.mode.depth == 1 else law.transformed(*log.strength)


def _flow_end(mode: ModeCoefficients, start: float | None) -> Atoms:
    """Where gradient flow ends with weight decay at depth ≥ 3."""
    low, high = mode.held_by_decay
    if high and start is None:
        raise ValueError(f"start must be given: without noise, strengths below s = {low:.4g} decay to 0")
    return _point(high if high and _positive(mode, start) > low else 0.0)


def _above(log: LogStrength, start: float | None) -> Law:
    """The law where paths cross k upwards, never to come back, and some may have ended at 0 before."""
    mode = log.mode
    if mode.depth == 1 or not mode.zero_attracts:
        return _density(log)
    k = log.unit
    if start is None:
        raise ValueError(
            f"start must be given: paths that start below s = {k:g}, where noise vanishes, may end at 0 or cross it"
        )
    start = _positive(mode, start)
    if start >= k:
        return _density(log)
    reached = float(log.between(-np.inf, 0.0).exit_probability(np.log(start / k) / mode.depth))
    return Mixture((_point(0.0), _density(log)), (1 - reached, reached))


def _two_points(mode: ModeCoefficients, start: float | None) -> Atoms:
    """The law at 0 and s*, where noise vanishes, above T_c at depth 2."""
    if start is None:
        raise ValueError("start must be given: without noise at s*, the law above T_c depends on where s started")
    start = _positive(mode, start)
    theta = mode.pull[0] / (mode.temperature * mode.alpha1 * mode.fixed_point)
    stays = 1.0 if theta >= 0.5 else float(betainc(0.5 - theta, 1 + theta, min(start / mode.fixed_point, 1.0)))
    return Atoms(np.array([0.0, mode.fixed_point]), np.array([1 - stays, stays]))


def _positive(mode: ModeCoefficients, start: float | None) -> float:
    """A start, checked."""
    if not as_number(start, "start") > 0:
        raise ValueError(f"start must be positive at depth {mode.depth}, got {start:g}")
    return float(start)  # type: ignore[arg-type]


def _point(value: float) -> Atoms:
    return Atoms(np.array([value]), np.array([1.0]))
