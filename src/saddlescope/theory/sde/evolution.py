"""How the law of a scalar SDE evolves in time, and its spectrum: the finite volumes of ``cells``, extrapolated.

Steps are halved (extrapolated in 1/n) and cells cut in three (extrapolated in 1/N²) until two results agree at every
edge; an extrapolated cumulated mass is made monotone, which does not increase its error. Cells do not move, so this is
for noise that spreads the law over many of them; ``quantiles`` is for the rest, and ``in_time`` chooses.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import CubicSpline

from saddlescope._arrays import Floats
from saddlescope.theory._checks import Unresolved
from saddlescope.theory.sde.cells import COARSE, Stage, chain, fewest_steps, staged
from saddlescope.theory.sde.scale_speed import ScaleSpeed
from saddlescope.theory.sde.start import Start
from saddlescope.theory.sde.transient import FEW, Transient

_LEVELS = 5
MOST_RATES = 50
"""The most rates that can be asked for: the coarsest cells resolve no more."""
_LEVELS_IN_TIME, _MOST_STEPS, _FEW_CELLS = 9, 4096, 297
_MOST_HELD = 0.1
"""The largest share of the law in one of ``_FEW_CELLS``: extrapolation from larger cells says nothing."""
_FLOOR = 1e-9
"""Added to every estimate of an error."""
_REACH_OF_SPECTRUM = 100.0
"""Nats of improbability to the last cell."""


def evolve(
    sde: ScaleSpeed, stage: Stage, start: float | Start, times: Floats, tol: float, patient: bool = True
) -> list[Transient]:
    """The laws at increasing ``times`` from a point or a law; raises Unresolved where its error exceeds ``tol``.

    If not ``patient``, as soon as the error is more than nine times ``tol``, which cells a third as wide would not
    cure.
    """
    y = float(sde.coordinate.to_y(np.array(start))) if isinstance(start, float) else np.nan

    def marches(cells: int) -> Callable[[int], Floats]:
        cut = chain(stage, cells)
        if isinstance(start, float):
            begin = np.where(cut.edges > y, 1.0, 0.0)
        else:
            begin = np.concatenate([[0.0], start.cdf(sde.coordinate.to_x(cut.edges[1:-1])), [1.0]])
        return lambda finer: cut.march(begin, times, finer)

    few = marches(_FEW_CELLS)(1)
    inner = slice(FEW, -FEW)
    held = float(np.diff(few)[:, inner].max())
    if not held <= _MOST_HELD:
        raise Unresolved(f"one of {_FEW_CELLS} fixed cells would hold {held:.2g} of the law")
    steps = fewest_steps(np.append(0.0, times)).sum()
    levels = max(4, min(_LEVELS_IN_TIME, int(np.log2(_MOST_STEPS / steps))))
    cumulated, errors = _in_cells(
        lambda cells: _in_time(marches(cells), levels, tol / 10), _singular_ends(stage), tol, patient
    )
    points = stage.y(np.linspace(0, 1, 2 * cumulated.shape[1] - 1))
    return [
        Transient(stage, points, _monotone(c), float(e), sde.coordinate) for c, e in zip(cumulated, errors, strict=True)
    ]


def spectrum(sde: ScaleSpeed, count: int, levels: tuple[float | None, float | None], tol: float) -> Floats:
    """The ``count`` smallest rates of the generator, to a relative ``tol``."""
    peak = sde.peaks
    low, high = (other if level is None else level for level, other in zip(levels, (-np.inf, np.inf), strict=True))
    first, last = (float(np.clip(y, low, high)) for y in (peak[0], peak[-1]))
    stage = staged(sde, (first, last), [(0.0, _REACH_OF_SPECTRUM)], levels, False)
    before = rough = None
    for cells in (COARSE * 3**k for k in range(_LEVELS)):
        cut = chain(stage, cells)
        rates = cut.rates(count)
        better = rates if rough is None else rates + (rates - rough) / 8
        rounding = 1e-14 * float(cut.up.max())
        if before is not None and np.allclose(better, before, rtol=tol, atol=rounding):
            lasting = int(not any(stage.absorbs))  # then the first rate is 0
            if (better[lasting:] < rounding / tol).any():
                raise ValueError(
                    f"a rate is below {rounding / tol:.1g}, which rounding hides relative to the fastest; use passage: "
                    "the rate is one over the mean time of the rare passage"
                )
            return np.append(np.zeros(lasting), better[lasting:])
        rough, before = rates, None if rough is None else better
    raise ValueError(f"{cells} cells do not give the spectrum to tol = {tol:g}; ask for fewer rates or a larger tol")


def _singular_ends(stage: Stage) -> tuple[bool, bool]:
    """Where mass may pile up in the last cells, whose cumulated mass is then known at their edges only."""
    low, high = (
        far and not lost and end.integrable
        for far, lost, end in zip(stage.far, stage.absorbs, stage.sde.boundaries, strict=True)
    )
    return low, high


def _in_cells(
    at: Callable[[int], tuple[Floats, Floats]], singular: tuple[bool, bool], tol: float, patient: bool
) -> tuple[Floats, Floats]:
    """Extrapolate in 1/N² until two results agree at the edges of the finer; also their differences (times)."""
    rough, _ = better, _ = at(COARSE)
    before_that = np.inf
    for cells in (COARSE * 3**k for k in range(1, _LEVELS)):
        before, (fine, late) = better, at(cells)
        edges = np.arange(cells + 1) / 3
        inner = (edges >= FEW * singular[0]) & (edges <= edges[-1] - FEW * singular[1])
        if not np.isfinite(fine).all():
            raise Unresolved(f"rates between {cells} fixed cells are beyond all numbers")
        gain = (fine[:, ::3] - rough) / 8
        better = fine + np.array([np.interp(edges, edges[::3], row) for row in gain])
        looked_at = inner | (edges % 1 == 0)
        differ = np.abs(better - CubicSpline(edges[::3], before, axis=1)(edges))[:, looked_at].max(axis=1)
        # Where differences fall by nine and more, the finer is off by about a ninth of the last; a quarter is stated.
        converging = patient and cells == COARSE * 3 ** (_LEVELS - 1) and differ.max() < before_that / 9
        errors = (differ / 4 if converging else differ) + late + _FLOOR
        if cells > 3 * COARSE:
            if errors.max() <= tol:
                return better, errors
            if errors.max() > 9 * tol and not patient:
                break
        rough, before_that = fine, float(differ.max())
    raise Unresolved(f"{cells // 3} and {cells} fixed cells differ by {differ.max():.1e} in the cdf", errors.max())


def _in_time(run: Callable[[int], Floats], levels: int, tol: float) -> tuple[Floats, Floats]:
    """Romberg's extrapolation in 1/n, of order 4, until two results agree, and their differences (times)."""
    table: list[Floats] = []
    for level in range(levels):
        row = [run(1 << level)]
        for order, older in enumerate(table[:3], start=1):
            row.append(row[-1] + (row[-1] - older) / (2**order - 1))
        if len(row) == 4:
            differ = np.abs(row[-1] - table[-1]).max(axis=1)
            if differ.max() <= tol:
                break
        table = row
    return row[-1], np.asarray(differ)


def _monotone(cumulated: Floats) -> Floats:
    return np.asarray(np.clip(np.maximum.accumulate(cumulated), 0.0, 1.0))
