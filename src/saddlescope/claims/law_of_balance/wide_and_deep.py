"""Depth at fixed temperature: narrow networks go to 0, wide ones to s*; proportional width keeps the distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance._chains import dots, memory
from saddlescope.claims.law_of_balance.deep_limit import chains_sde, limit
from saddlescope.claims.tools import around, power, same_law
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode.phases import heat, hot_law

NARROW, NARROW_HEAT = 16, 2.0
"""Depth and temperature of single chains, LT = 32."""

EVEN, EVEN_HEAT = 64, 0.1
"""Depth and width, and temperature, of networks as wide as deep."""

WIDE, WIDE_HEAT = 32, 0.1
"""Depth and temperature of networks whose width is the square of their depth."""

FAR, HELD = (64, 256, 1024), 0.5
"""Depths and temperature of the exact distributions."""

VARIANCE = "d = L², L = 32: E[(s − s*)²] over ½T̂ s*² g(s*)"


@dataclass(frozen=True, eq=False)
class Measured:
    """Strengths of narrow networks, of networks as wide as deep, and of wide ones."""

    narrow: Floats
    even: Floats
    wide: Floats
    quick: bool

    def to_zero(self, factor: float) -> Number:
        """Narrow networks against the distribution near 0 at ``factor`` times the temperature."""
        off = intervals.distance_to_law(self.narrow, hot_law(single(factor)).cdf)
        near = same_law(True) if self.quick else (0.0, 0.02)
        return Number("d = 1, LT = 32: Kolmogorov distance to the limit near 0, 1/s ~ Gamma", off, near, moved=True)

    def to_limit(self, factor: float) -> Number:
        """Networks as wide as deep against infinite depth at ``factor`` times the temperature."""
        off = _distance(self.even, _heat(EVEN, EVEN, factor * EVEN_HEAT))
        name = "d = L = 64: Kolmogorov distance to infinite depth at T̂ = LT d^(2/L−1)"
        return Number(name, off, same_law(self.quick))

    def to_minimum(self, variance: float, name: str = VARIANCE) -> Number:
        """Second moment of wide networks about s* over this variance."""
        found = intervals.mean((self.wide - 1) ** 2) / variance
        return Number(name, found, around(1.0, 0.09 if self.quick else 0.04))

    def wide_at(self, factor: float) -> Number:
        """The same over the predicted variance at ``factor`` times the temperature."""
        return self.to_minimum(_heat(WIDE, WIDE**2, factor * WIDE_HEAT) / 2)


def experiment(quick: bool) -> Evidence:
    """Ensembles of narrow, even and wide networks, and exact distributions at growing depth."""
    size, same = 16_384 if quick else 131_072, same_law(quick)
    measured = Measured(
        _settled(single(1.0), size // 2 if quick else size),
        _settled(chains_sde(EVEN, EVEN, EVEN_HEAT), 2 * size),
        _settled(chains_sde(WIDE, WIDE**2, WIDE_HEAT), 2 * size),
        quick,
    )
    half = measured.to_minimum(WIDE_HEAT / 2)
    return Evidence(
        numbers=[
            replace(measured.to_zero(1.0), catches=power(measured.to_zero, "T")),
            replace(measured.to_limit(1.0), catches=power(measured.to_limit, "T")),
            replace(measured.wide_at(1.0), catches=power(measured.wide_at, "T")),
            *_limits(),
        ],
        controls=[
            Number(
                "d = 1: Kolmogorov distance to infinite depth at T̂ = T", _distance(measured.narrow, NARROW_HEAT), same
            ),
            Number("d = L²: Kolmogorov distance to infinite depth at T̂ = T", _distance(measured.wide, WIDE_HEAT), same),
            Number("d = L²: E[(s − s*)²] over ½T, the variance at d = L", half.interval, half.region),
        ],
        rivals=_wrong(measured),
        runs=[],
        curves={"narrow": measured.narrow, "even": measured.even, "wide": measured.wide},
    )


def _limits() -> list[Number]:
    """Exact distributions at growing depth."""
    medians = [median(L, lambda L: 1, HELD) * L for L in FAR]
    spreads = [spread(L, lambda L: L**2, HELD) * L for L in FAR]
    return [
        Number(
            "theory, d = 1: L × median at L = 1024 over that at L = 256",
            intervals.exact(medians[2] / medians[1]),
            around(1.0, 0.03),
            moved=True,
        ),
        Number(
            "theory, d = L²: L × variance over T/2 at L = 1024",
            intervals.exact(spreads[2] / (HELD / 2)),
            around(1.0, 0.05),
        ),
        Number(
            "theory, d = L: median at L = 1024 over that of infinite depth",
            intervals.exact(median(1024, lambda L: L, HELD) / float(np.exp(limit(HELD).ppf(0.5)))),
            around(1.0, 0.02),
        ),
    ]


def _wrong(measured: Measured) -> list[Rival]:
    """The rival theories."""
    cold, hot = (0.6, 1.6) if measured.quick else (0.9, 1.1)
    no_factor = (
        [] if measured.quick else [Rival("d = L: T̂ = T without d^(2/L)", [measured.to_limit(EVEN ** (-2 / EVEN))])]
    )
    return [
        Rival(f"d = 1: T × {cold}", [measured.to_zero(cold)]),
        Rival(f"d = 1: T × {hot}", [measured.to_zero(hot)]),
        Rival(f"d = L: T × {cold}", [measured.to_limit(cold)]),
        Rival(f"d = L: T × {hot}", [measured.to_limit(hot)]),
        *no_factor,
        Rival("d = L²: T × 0.9", [measured.wide_at(0.9)]),
        Rival("d = L²: T × 1.1", [measured.wide_at(1.1)]),
        Rival("d = L²: T̂ = LT/d without d^(2/L)", [measured.wide_at(WIDE ** (-4 / WIDE))]),
    ]


def single(factor: float) -> ModeSDE:
    """One chain at ``factor`` times ``NARROW_HEAT``."""
    return chains_sde(NARROW, 1, factor * NARROW_HEAT)


def median(depth: int, width: Callable[[int], int], temperature: float) -> float:
    """Median of the stationary distribution of ``width(depth)`` chains."""
    return float(chains_sde(depth, width(depth), temperature).stationary().ppf(0.5))


def spread(depth: int, width: Callable[[int], int], temperature: float) -> float:
    """``E[(s − s*)²]`` in that distribution."""
    law = chains_sde(depth, width(depth), temperature).stationary()
    return float(law.var() + (law.mean() - 1) ** 2)


def _heat(depth: int, width: int, temperature: float) -> float:
    return heat(ModeSDE(depth=depth, target=1.0, label_noise=1.0, temperature=temperature), width)


def _settled(sde: ModeSDE, trajectories: int) -> Floats:
    """An ensemble after six relaxation times, from the median of its stationary distribution."""
    start = float(sde.stationary().ppf(0.5))
    return np.asarray(sde.simulate(start, [6 * memory(sde)], trajectories, seed=1)[:, 0], np.float64)


def _distance(sample: Floats, heat_: float) -> Interval:
    return intervals.distance_to_law(np.log(np.maximum(sample, 1e-99)), limit(heat_).cdf)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Density near 0, densities of infinite depth and of wide networks, medians against depth."""
    near, far, depth = axes
    s, edges = np.geomspace(2e-3, 0.5, 200), np.geomspace(2e-3, 0.5, 31)
    near.plot(s, hot_law(single(1.0)).pdf(s), color=plots.COLOURS[0], label="1/s ~ Gamma")
    dots(near, evidence.curves["narrow"], edges, color=plots.COLOURS[0])
    near.set(title="d = 1, LT = 32", xlabel="s", ylabel="density", xscale="log")
    near.legend()
    v, edges = np.linspace(0.3, 1.7, 300), np.linspace(0.3, 1.7, 36)
    T = _heat(EVEN, EVEN, EVEN_HEAT)
    far.plot(v, limit(T).pdf(np.log(v)) / v, color=plots.COLOURS[1], label="d = L = 64: infinite depth")
    far.plot(
        v, chains_sde(WIDE, WIDE**2, WIDE_HEAT).stationary().pdf(v), color=plots.COLOURS[2], label="d = L², L = 32"
    )
    for name, colour in (("even", plots.COLOURS[1]), ("wide", plots.COLOURS[2])):
        dots(far, evidence.curves[name], edges, color=colour)
    far.set(title="T = 0.1", xlabel="s", ylabel="density", ylim=(0, None))
    far.legend()
    depths = 2 ** np.arange(3, 10)
    widths: dict[str, Callable[[int], int]] = {
        "d = 1": lambda L: 1,
        "d = √L": lambda L: round(L**0.5),
        "d = L": lambda L: L,
    }
    widths["d = L²"] = lambda L: L**2
    for (name, width), colour in zip(widths.items(), plots.COLOURS, strict=False):
        depth.plot(depths, [median(int(L), width, HELD) for L in depths], color=colour, label=name)
    depth.set(title="T = ½: median of s", xlabel="depth L", ylabel="median s / s*", xscale="log", yscale="log")
    depth.legend()


CLAIM = Claim(
    name="wide-and-deep",
    title="At fixed temperature deep networks collapse unless their width grows with their depth",
    statement=(
        "d equal balanced chains of depth L have the distribution of T̂ = LT d^(2/L−1). At fixed T and L → ∞: if d = "
        "o(L), T̂ → ∞ and s goes to 0, as 1/(LT) for d = 1, where 1/s has in the limit a Gamma distribution with shape "
        "2; if d ∝ L, s keeps the distribution of infinite depth; if L = o(d), the noise disappears and s goes to s* "
        "with variance ½T̂s*²g(s*). No critical temperature is crossed on the way."
    ),
    source=(
        "Ziyin, Li & Ueda 2023, arXiv 2308.06671, widths d = o(D) and d = Ω(D); the distributions and the factor are "
        "this project's"
    ),
    method=(
        "s* = σ = 1. Ensembles of the mode SDE after six relaxation times: d = 1, L = 16, T = 2 against the "
        "distribution near 0 (1/s^((L−2)/L) is Gamma with shape (2L−3)/(L−2)); d = L = 64, T = 0.1 against the "
        "distribution of infinite depth; d = L², L = 32, T = 0.1, whose second moment about s* is compared with "
        "½T̂s*²g(s*). Exact distributions at T = ½ and depths to 1024 show the limits. That equal chains stay equal is "
        "claim width; SGD at finite d/L is claim deep-limit."
    ),
    control=(
        "Neither the narrow nor the wide networks may have the distribution of infinite depth at T̂ = T. Rivals, on "
        "the same samples: T × 0.9 and 1.1 (quick: 0.6 and 1.6 for distributions), no factor d^(2/L). The distribution "
        "near 0 is the limit LT → ∞: at LT = 32 it is off by 0.011, so its region is 0.02."
    ),
    caption=(
        "Density of a single deep chain near 0; densities of networks as wide as deep and of width L² (lines: theory; "
        "dots: ensembles); median strength at T = ½ against depth for four widths (theory)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "At fixed learning rate and batch size a diagonal network that only becomes deeper loses what it has learned: "
        "the strength of a single chain falls like 1/(LT), unless the width grows in proportion to the depth. If the "
        "width grows faster than the depth, fluctuations vanish instead; these are limits of equal chains in the "
        "Langevin model, and they are reached gradually, without a critical temperature."
    ),
    equations=(
        r"\hat{T}=L\,T\,d^{2/L-1}",
        r"p(s)\propto s^{-3}\,\exp\left(-\frac{2\beta_2}{LT\alpha_3s}\right)\quad(d=1,\;LT\to\infty)",
        r"\mathbb{E}\left[(s-s^{*})^2\right]\approx\frac{1}{2}\hat{T}(s^{*})^2g(s^{*})\quad(\hat{T}\to0)",
    ),
    proved=(
        "The limits follow from the stationary density of the Langevin model. Ziyin, Li & Ueda distinguish widths d = "
        "o(D) and d = Ω(D), D = L − 1; the distributions and the factor d^(2/L) are this project's."
    ),
    unknown=(
        "Only ensembles of the mode SDE are used, at three pairs of depth and width; SGD is not run here. At LT = 32 "
        "the limit near 0 is still off by 0.011. Unequal chains and dense layers are not covered."
    ),
    related=("deep-limit", "width", "stationary-density"),
)
