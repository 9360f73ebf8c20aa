"""Tails: the exponent −5 + 3/L, whatever the temperature and the data, and another at depth 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims.claim import Claim, Evidence, Number
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import dots, hill, memory
from saddlescope.claims.tools import Floats, around, largest
from saddlescope.theory import ModeSDE
from saddlescope.theory.phases import tail_exponent

DEPTHS, TEMPERATURES = (2, 3, 4, 6), (0.3, 1.0, 3.0)
DATA = {"independent": (10.0, 0.0, 0.3, 1.0, 1.0), "correlated": (10.0, 1.0, 0.5, 1.0, 1.0)}
"""Moments α₁, α₂, α₃, β₁, β₂ of x² and xy; their laws have tails from s = 1 on at these temperatures."""

OTHER, BEYOND, LOOKS = "correlated", 1.0, np.arange(4.0, 14.0, 0.1)
SHALLOW, FAR = (0.1, 0.3), 4.0
"""At depth 1: temperatures, and the distance from β₂/β₁ from which on the tail is counted."""

COLD = TEMPERATURES[0]


def mode(depth: int, temperature: float, data: str = "independent") -> ModeSDE:
    """One chain on these data."""
    return ModeSDE(depth=depth, moments=DATA[data], temperature=temperature)


def experiment(quick: bool) -> Evidence:
    """Exponents of ensembles over depths, temperatures and data."""
    size = 16_384 if quick else 131_072
    found, shown = {}, {}
    for L in DEPTHS:
        for T in TEMPERATURES:
            looks = _looks(mode(L, T), 2 * size if COLD == T else size if L == 2 else size // 4)
            found[L, T], shown[L, T] = exponent(looks, BEYOND), looks[:, ::10].ravel()
    others = {L: exponent(_looks(mode(L, COLD, OTHER), size), BEYOND) for L in DEPTHS}
    shallow = [exponent(np.abs(_looks(mode(1, T), size) - 1.0), FAR) for T in SHALLOW]
    off = {L: found[L, COLD] - predicted(L) for L in DEPTHS}
    return Evidence(
        numbers=[
            Number("exponent minus (−5 + 3/L), farthest of L = 2, 3, 4, 6", largest(off.values()), around(0.0, 0.2)),
            *(Number(f"exponent at L = {L}", found[L, COLD], around(predicted(L), 0.2)) for L in DEPTHS),
            Number(
                "L = 2: change of the exponent from T = 0.3 to T = 3",
                difference(found[2, 3.0], found[2, COLD]),
                around(0.0, 0.4),
            ),
            Number(
                "other data: exponent minus (−5 + 3/L), farthest of L",
                largest(others[L] - predicted(L) for L in DEPTHS),
                around(0.0, 0.4),
            ),
        ],
        controls=[
            Number("exponent at L = 2 is that of L = 3", found[2, COLD], around(predicted(3), 0.2)),
            Number(
                "L = 1: change of the exponent from T = 0.1 to T = 0.3", difference(*shallow[::-1]), around(0.0, 0.4)
            ),
        ],
        runs=[],
        curves={"shown": shown, "found": found, "others": others},
    )


def predicted(depth: int) -> float:
    """−5 + 3/L."""
    return tail_exponent(mode(depth, 1.0))


def difference(first: Interval, second: Interval) -> Interval:
    """First minus second."""
    return Interval(first.value - second.value, first.low - second.high, first.high - second.low)


def exponent(looks: Floats, beyond: float) -> Interval:
    """Power of s with which a density falls from ``beyond`` on, ``−1 − #/Σ log(s/beyond)`` (trajectory, look).

    >>> pareto = np.linspace(1e-5, 1, 100_000)[:, None] ** (-1 / 2.5)
    >>> round(exponent(pareto, 1.0).value, 2)
    -3.5
    """
    rate = hill(looks / beyond)
    return Interval(-1 - rate.value, -1 - rate.high, -1 - rate.low)


def _looks(sde: ModeSDE, trajectories: int) -> Floats:
    """Strengths (trajectory, look) once the start is forgotten."""
    return np.asarray(sde.simulate(sde.fixed_point, LOOKS * memory(sde), trajectories, seed=1))


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Tails at several temperatures, tails at several depths, exponents."""
    heat, depth, exponents = axes
    shown: dict[tuple[int, float], Floats] = evidence.curves["shown"]
    s, edges = np.geomspace(0.05, 40, 200), np.geomspace(0.05, 40, 31)
    for T, colour in zip(TEMPERATURES, plots.COLOURS, strict=False):
        heat.plot(s, mode(2, T).stationary().pdf(s), color=colour, label=f"T = {T:g}")
        dots(heat, shown[2, T], edges, color=colour)
    heat.set(title="Depth 2: one exponent for all T", xlabel="s", ylabel="density")
    for L, colour in zip(DEPTHS, plots.COLOURS, strict=False):
        depth.plot(s, mode(L, COLD).stationary().pdf(s), color=colour, label=f"L = {L}")
        dots(depth, shown[L, COLD], edges, color=colour)
    depth.set(title="T = 0.3: steeper with depth", xlabel="s", ylabel="density")
    for panel in (heat, depth):
        panel.set(xscale="log", yscale="log", ylim=(1e-6, 10), xlim=(0.05, 40))
        panel.legend(title="lines: theory", loc="lower left", alignment="left")
    deep = np.linspace(2, 6.2, 100)
    exponents.plot(deep, -5 + 3 / deep, color=plots.INK, label="−5 + 3/L")
    for place, (T, colour) in enumerate(zip(TEMPERATURES, plots.COLOURS, strict=False)):
        for L in DEPTHS:
            at, label = L + 0.12 * (place - 1), f"T = {T:g}" if DEPTHS[0] == L else None
            plots.interval(exponents, at, evidence.curves["found"][L, T], color=colour, label=label)
    for L, number in evidence.curves["others"].items():
        label = "other data" if DEPTHS[0] == L else None
        plots.interval(exponents, L + 0.24, number, color=plots.GREY, fmt="s", ms=4, label=label)
    exponents.set(title="Exponents", xlabel="depth L", ylabel="power of s in the tail", ylim=(-6.2, -3.0))
    exponents.set_xticks(DEPTHS)
    exponents.legend(loc="lower left", ncols=2)


CLAIM = Claim(
    name="tail-exponents",
    title="The stationary law has a power-law tail whose exponent depends on the depth alone",
    statement=(
        "For L ≥ 2 and α₁ = Var[x²] > 0 the stationary density falls like s^(−5+3/L) whatever the temperature and the "
        "other moments of the data, so that E[sᵏ] is finite for k < 4 − 3/L only. At L = 1 the exponent −2 − 2β₁/(Tα₁) "
        "depends on both."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, tails of the stationary distribution",
    method=(
        "Ensembles of the mode SDE with locally controlled steps at L = 2, 3, 4, 6 and T = 0.3, 1, 3 on data of "
        "moments α₁ = 10, α₂ = 0, α₃ = 0.3, β₁ = β₂ = 1, whose tails begin at s ≈ 1; each trajectory is looked at a "
        "hundred times in ten relaxation times. Hill's estimator on s > 1, with the error of a ratio of means over "
        "trajectories. Other data: α₂ = 1, α₃ = 0.5."
    ),
    control="The exponent of L = 3 must be refuted at L = 2; at L = 1 the exponent must change with T.",
    caption=(
        "Densities at depth 2 and three temperatures, and at T = 0.3 and four depths (lines: theory; dots: ensembles "
        "with standard errors); exponents measured, with intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
)
