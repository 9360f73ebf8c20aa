"""First passages and laws in time of one mode: which SDE answers, where noise vanishes and where it does not."""

from __future__ import annotations

from typing import NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_numbers
from saddlescope.theory.mode.coefficients import ModeCoefficients
from saddlescope.theory.mode.flow import flow_time
from saddlescope.theory.mode.log_strength import LogStrength, Strength
from saddlescope.theory.sde.diffusion1d import Diffusion1D
from saddlescope.theory.sde.in_time import LawInTime
from saddlescope.theory.sde.start import Mapped, Start, check_law


def passage(log: LogStrength, start: ArrayLike, target: float) -> tuple[Floats, Floats]:
    """Mean and variance of first-passage times, as ``ModeSDE.passage``."""
    mode = log.mode
    first, last = as_numbers(start, "start"), as_number(target, "target")
    if np.isinf(first).any() or np.isinf(last):
        _refuse("finite", ~np.isfinite(first), first, last)
    if mode.depth >= 2 and not ((first > 0).all() and last > 0):
        _refuse(f"positive at depth {mode.depth}", ~(first > 0), first, last)
    if mode.temperature == 0 or mode.alpha1 == mode.alpha3 == 0:
        mode.refuse_deep_decay("the passage of gradient flow")
        return flow_time(last, first, mode.fixed_point, mode.depth, mode.pull[0]), np.zeros(first.shape)
    _check_side(mode, first, last)
    if mode.noiseless_at != mode.fixed_point:
        return log.sde.passage(log.strength.back(first), float(log.strength.back(np.array(last))))
    return _on_one_side(log, first, last)


def _refuse(must: str, wrong: NDArray[np.bool_], first: Floats, last: float) -> NoReturn:
    """Raise ValueError naming the first start that is wrong, or the target where none is."""
    bad = first[wrong]
    many = f" (as {bad.size:,} of {first.size:,} starts)" if first.size > 1 else ""
    got = f"start {bad[0]:g}{many}" if bad.size else f"target {last:g}"
    raise ValueError(f"start and target must be {must}, got {got}")


def _on_one_side(log: LogStrength, first: Floats, last: float) -> tuple[Floats, Floats]:
    """The same where noise vanishes at s*, which no path crosses."""
    end = log.mode.fixed_point
    beyond = (first < end) != (last < end)
    mean, var = (np.where(beyond | (first == end) | (last == end), np.inf, first) for _ in range(2))
    mean[first == last], var[first == last] = 0.0, 0.0
    rest = np.isfinite(mean) & (first != last)
    if rest.any():
        sde, strength = log.side(bool(last > end))
        mean[rest], var[rest] = sde.passage(strength.back(first[rest]), float(strength.back(np.array(last))))
    return mean, var


def evolve(log: LogStrength, start: float | Start, times: ArrayLike, tol: float) -> list[LawInTime]:
    """Laws in time, as ``ModeSDE.evolve``."""
    sde, strength = _answering(log, start)
    if hasattr(start, "ppf"):
        first: float | Start = Mapped(cast(Start, start), strength.back, strength.of)
    else:
        first = float(strength.back(np.asarray(start)))
    return [law.transformed(*strength) for law in sde.evolve(first, times, tol=tol)]


def passage_cdf(log: LogStrength, times: ArrayLike, start: float, target: float, tol: float) -> Floats:
    """The distribution of a first-passage time, as ``ModeSDE.passage_cdf``."""
    sde, strength = _answering(log, start)
    first, last = (float(strength.back(np.array(_possible(log.mode, s)))) for s in (start, target))
    if not np.isnan(last) and not sde.lower < last < sde.upper:  # beyond s*, where noise vanishes
        return np.zeros(np.shape(times))
    return sde.passage_cdf(times, first, last, tol)


def noisy(log: LogStrength) -> Diffusion1D:
    """The SDE, refused without noise."""
    if log.mode.temperature == 0:
        raise ValueError("temperature must be positive for a law that spreads, got 0; use flow")
    return log.sde


def _answering(log: LogStrength, start: float | Start) -> tuple[Diffusion1D, Strength]:
    """The SDE for this start and s in its coordinate: that of one side where noise vanishes at s*."""
    mode = log.mode
    if hasattr(start, "ppf"):
        check_law(start, 0.0 if mode.depth >= 2 else -np.inf)
        ends = cast(Start, start).ppf(np.array([1e-9, 1 - 1e-9]))
    else:
        ends = np.array([_possible(mode, start)])
    if mode.temperature == 0 or mode.noiseless_at != mode.fixed_point:
        return noisy(log), log.strength
    end = mode.fixed_point
    if not ((ends < end).all() or (ends > end).all()):
        raise ValueError(f"start must lie on one side of s* = {end:g}, where noise vanishes and which no path crosses")
    return log.side(bool(ends[0] > end))


def _possible(mode: ModeCoefficients, s: float) -> float:
    """A strength that paths can have; raises ValueError for another."""
    s = as_number(s, "start and target")
    if mode.depth >= 2 and not s > 0:
        raise ValueError(f"strengths must be positive at depth {mode.depth}, got {s}")
    _check_side(mode, s)
    return s


def _check_side(mode: ModeCoefficients, *strengths: ArrayLike) -> None:
    """Refuse strengths on the side of ``crossing`` that paths leave."""
    if mode.crossing is not None:
        k, side = mode.crossing
        if any((side * np.asarray(s) <= side * k).any() for s in strengths):
            raise ValueError(
                f"strengths must be {'above' if side > 0 else 'below'} s = {k:g}, where noise vanishes and paths "
                f"cross one way, got {', '.join(map(str, strengths))}"
            )
