"""Does the critical temperature of linear networks hold for tanh networks?

``f(x) = Σ_j u_j tanh(w_j x)``, labels ``kx + ξ``. Near 0 the network is linear, ``f ≈ vx``, ``v = Σ_j u_j w_j``:
0 attracts above ``T_c = 2β₂/α₃`` of depth 2; where the weights are of order 1 the two networks differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy import special

from saddlescope import _jax, plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals, tools
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import ALWAYS, NEVER, around, power
from saddlescope.data import Examples
from saddlescope.methods import SGD, Langevin, Method
from saddlescope.networks.model import Model
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE

TARGET, NOISE, SAMPLES, SEED = 1.0, 20.0, 64, 41
"""k, σ = 20 k, so that s*T_cB is small and no step diverges, the number of inputs, and the seed of the runs."""

GONE, NEAR = 1e-6, 1e-30
"""|v| that counts as 0, and the start from which growth near 0 is measured."""

PRODUCTS = {"tanh": (0.5,), "four": (0.1, 0.2, 0.3, 0.4), "linear": (0.5,), "near": (NEAR,)}
"""Products u_j w_j of the units of each network at the start; all but "linear" are tanh networks."""

COLD, HOT, BESIDE = 0.25, 2.0, (0.8, 1.2)
"""Temperatures over T_c: where the weights stay, where they collapse, and on either side of the threshold."""

MORE = (0.5, 0.75, 1.0, 1.5)
"""Temperatures of the full form."""

BRIEF, LONG = 20.0, 50.0
"""Time of a run below T_c or near 0, and of one at T_c or above."""

HALF: Region = (0.5, 2.0)
"""A median strength v within a factor of two of k."""

ALIKE: Region = (0.8, 1.25)
"""A median slope that counts as that of the linear theory."""


def networks(products: Mapping[str, Sequence[float]], sign: float = 1.0) -> Model:
    """Networks ``f_a(x) = Σ_j u_aj φ_a(w_aj x)`` side by side, one output each, with inputs (B,).

    They start at ``u_aj = ±w_aj``, ``|u_aj w_aj|`` from ``products``; φ is tanh, for a name with "linear" the identity.
    They share the inputs, not weights or label noise, so that each has the law of a network trained alone.

    >>> networks({"tanh": (0.5,), "linear": (0.1, 0.4)}).leaves
    (Leaf(name='u', shape=(2, 2)), Leaf(name='w', shape=(2, 2)))
    """
    width, np_ = max(map(len, products.values())), _jax.load().numpy
    roots = np.sqrt([[*units, *[0.0] * (width - len(units))] for units in products.values()])
    tanh = np.array([["linear" not in name] for name in products])

    def init(key: Any) -> Any:
        return {"u": sign * np_.asarray(roots), "w": np_.asarray(roots)}

    def apply(params: Any, x: Any) -> Any:
        hidden = params["w"] * x[:, None, None]
        return (params["u"] * np_.where(tanh, np_.tanh(hidden), hidden)).sum(axis=-1)

    return Model(apply, init, name=f"networks side by side: {', '.join(products)}")


def inputs() -> Floats:
    """Quantiles of the standard normal distribution (n,), scaled to mean square 1.

    >>> round(float(np.mean(inputs() ** 2)), 6)
    1.0
    """
    x = special.ndtri((np.arange(SAMPLES) + 0.5) / SAMPLES)
    return np.asarray(x / np.sqrt(np.mean(x**2)))


def linear_theory(heat: float) -> ModeSDE:
    """The mode of the linear network of depth 2 at ``heat`` times its critical temperature.

    >>> round(1 / linear_theory(1.0).temperature, 6)
    201.0
    """
    sde = ModeSDE(depth=2, target=TARGET, label_noise=NOISE, temperature=1.0)
    return replace(sde, temperature=heat * sde.critical_temperature)


@dataclass(frozen=True, eq=False)
class Trained:
    """The weights (trajectory, network, unit) of networks side by side at the end of a run, and the run."""

    run: xr.Dataset
    names: tuple[str, ...]

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """u and w (trajectory, unit) of one network at the end."""
        end, place = tools.alive(self.run).isel(time=-1), self.names.index(name)
        u, w = (np.asarray(end[leaf].transpose("trajectory", ...).values, np.float64)[:, place] for leaf in ("u", "w"))
        return u, w

    def strengths(self, name: str) -> Floats:
        """``v = Σ_j u_j w_j`` of every trajectory."""
        u, w = self.weights(name)
        return np.asarray((u * w).sum(axis=1))

    def slopes(self, name: str) -> Floats:
        """``⟨f x⟩/⟨x²⟩`` of every trajectory, the slope of the best line through f."""
        u, w = self.weights(name)
        hidden, x = w[..., None] * inputs(), inputs()
        return np.asarray((u * ((hidden if "linear" in name else np.tanh(hidden)) * x).mean(axis=-1)).sum(axis=1))

    def grown(self, name: str = "near") -> Floats:
        """``log (‖u‖² + ‖w‖²)`` of every trajectory less that of the start ``NEAR``; log v if u = w."""
        u, w = self.weights(name)
        return np.asarray(np.log(np.maximum((u**2 + w**2).sum(axis=1), 1e-300) / (2 * NEAR)))

    def gone(self, name: str) -> Interval:
        """Fraction of trajectories at 0."""
        return intervals.proportion(np.abs(self.strengths(name)) < GONE)


def train(products: Mapping[str, Sequence[float]], heat: float, time: float, count: int, **given: Any) -> Trained:
    """An ensemble at ``heat`` times T_c. ``given``: isotropic for Langevin noise, sign, dtype, seed."""
    lr, x, model = linear_theory(heat).temperature, inputs(), networks(products, given.get("sign", 1.0))
    data = Examples(x, TARGET * np.repeat(x[:, None], len(products), axis=1), label_noise=NOISE)
    method: Method = Langevin(lr, 1.0, noise="isotropic") if given.get("isotropic") else SGD(lr, 1)
    kept = {"dtype": given.get("dtype", "float32"), "seed": given.get("seed", SEED)}
    plan = Plan(round(time / lr), count, saves=1, keep="weights", **kept)
    return Trained(tools.run(Problem(model, data), method, plan), tuple(products))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Measured:
    """Growth of log v near 0 at the two temperatures ``BESIDE``, and slopes at T_c/4."""

    growth: tuple[Interval, Interval]
    slopes: Floats
    quick: bool

    def threshold(self, factor: float) -> Number:
        """Where growth near 0 stops, over ``factor`` T_c, by the line through both temperatures."""
        cold, hot = self.growth
        found = Interval(_zero(cold.value, hot.value), _zero(cold.low, hot.low), _zero(cold.high, hot.high)) / factor
        return Number("temperature at which growth near 0 stops, over T_c", found, around(1.0, _margin(self.quick)))

    def slope(self, factor: float) -> Number:
        """Median slope at T_c/4 over the median of the linear theory at ``factor`` times the temperature."""
        theory = float(linear_theory(COLD * factor).stationary().ppf(0.5))
        name = "T = T_c/4: median slope over that of the linear theory"
        return Number(name, intervals.median(self.slopes) / theory, ALIKE)


def _margin(quick: bool) -> float:
    return 0.2 if quick else 0.12


def _zero(cold: float, hot: float) -> float:
    low, high = BESIDE
    return low + (high - low) * cold / (cold - hot)


def experiment(quick: bool) -> Evidence:
    """Growth near 0 on either side of T_c, and ensembles below and above it, of tanh and linear networks."""
    count = 384 if quick else 2048
    runs = {heat: train({"near": (NEAR,)}, heat, BRIEF, count) for heat in BESIDE}
    settled = {
        heat: train(PRODUCTS, heat, BRIEF if heat < 1 else LONG, count)
        for heat in (COLD, *(() if quick else MORE), HOT)
    }
    isotropic = train({"near": (NEAR,)}, HOT, BRIEF, count // 4, isotropic=True, dtype="float64")
    cold, hot = (intervals.mean(runs[heat].grown() / BRIEF) for heat in BESIDE)
    measured = Measured((cold, hot), settled[COLD].slopes("tanh"), quick)
    return Evidence(
        numbers=_numbers(measured, settled),
        controls=[
            Number(
                "isotropic noise, T = 2 T_c: fraction that shrinks near 0",
                intervals.proportion(isotropic.grown() < 0),
                ALWAYS,
            )
        ],
        rivals=_wrong(measured, settled[HOT]),
        runs=[Run.of(f"T = {heat:g} T_c", run.run) for heat, run in (runs | settled).items()]
        + [Run.of("isotropic noise", isotropic.run)],
        curves={
            "strengths": {
                (name, heat): run.strengths(name)
                for heat, run in settled.items()
                for name in ("tanh", "four", "linear")
            },
            "growth": (cold, hot),
        },
    )


def _left(hot: Trained) -> Interval:
    """Median |w| of the tanh units that are not at 0."""
    stays = np.abs(hot.strengths("tanh")) >= GONE
    return intervals.median(np.abs(hot.weights("tanh")[1][stays, 0]))


def _numbers(measured: Measured, settled: Mapping[float, Trained]) -> list[Number]:
    """What is judged: the threshold, who stays and who collapses, medians, and the same of linear networks."""
    cold, hot = settled[COLD], settled[HOT]
    linear = replace(measured, slopes=cold.slopes("linear"))
    named = {"tanh": "one tanh unit", "four": "four tanh units", "linear": "linear"}
    ends = [
        Number(f"{named[name]}, T = {where}: fraction at 0", run.gone(name), region)
        for name in named
        for where, run, region in (("2 T_c", hot, ALWAYS), ("T_c/4", cold, NEVER))
    ]
    if 0.5 in settled:
        ends.append(Number("one tanh unit, T = T_c/2: fraction at 0", settled[0.5].gone("tanh"), NEVER))
    medians = [
        Number(f"{named[name]}, T = T_c/4: median of v over k", intervals.median(cold.strengths(name)) / TARGET, HALF)
        for name in ("tanh", "four")
    ]
    return [
        replace(measured.threshold(1.0), catches=power(measured.threshold, "T_c")),
        *ends,
        Number("T = 2 T_c: fraction that shrinks near 0", intervals.proportion(hot.grown() < 0), ALWAYS),
        *medians,
        Number("one tanh unit, T = 2 T_c: median |w| of those not at 0", _left(hot)),
        measured.slope(1.0),
        replace(
            linear.slope(1.0), name="linear, T = T_c/4: median slope over theory", catches=power(linear.slope, "T")
        ),
    ]


def _wrong(measured: Measured, hot: Trained) -> list[Rival]:
    """The rival theories."""
    return [
        Rival("T_c × ½", [measured.threshold(0.5)]),
        Rival("T_c × 2", [measured.threshold(2.0)]),
        Rival(
            "gradient flow: nothing collapses",
            [Number("one tanh unit, T = 2 T_c: fraction at 0", hot.gone("tanh"), NEVER)],
        ),
    ]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Histograms of v by temperature, medians against the linear theory, growth near 0."""
    laws, order, growth = axes
    found = evidence.curves["strengths"]
    bins = np.linspace(-0.1, 4.0, 42)
    tanh = {heat: v for (kind, heat), v in found.items() if kind == "tanh"}
    for heat, colour in zip((COLD, 1.0, HOT), plots.COLOURS, strict=False):
        if heat not in tanh:
            continue
        share = np.full(tanh[heat].size, 1 / tanh[heat].size)
        laws.hist(np.clip(tanh[heat], -0.1, 4.0), list(bins), weights=share, color=colour, alpha=0.5, label=f"{heat:g}")
    laws.axvline(TARGET, color=plots.GREY, lw=0.8, ls=":")
    laws.set(title="One tanh unit", xlabel="v = uw", ylabel="fraction of trajectories")
    laws.legend(title="T / $T_c$")
    heats = np.linspace(0.05, 0.98, 30)
    order.plot([*heats, 1, 2.1], [*(float(linear_theory(h).stationary().ppf(0.5)) for h in heats), 0, 0])
    for kind, colour in zip(("tanh", "four", "linear"), plots.COLOURS, strict=False):
        for heat, v in ((heat, v) for (name, heat), v in found.items() if name == kind):
            plots.interval(order, heat, intervals.median(v), color=colour)
        order.plot([], [], "o", color=colour, label={"four": "four tanh units"}.get(kind, kind))
    order.axvline(1, color=plots.GREY, lw=0.8, ls=":")
    order.set(title="Median strength", xlabel="T / $T_c$", ylabel="median v", xlim=(0, 2.1))
    order.legend(title="line: linear theory")
    span = np.linspace(0.7, 1.3, 2)
    growth.plot(span, 2 * TARGET * (1 - span), color=plots.COLOURS[0], label="2k(1 − T/$T_c$)")
    for heat, rate in zip(BESIDE, evidence.curves["growth"], strict=True):
        plots.interval(growth, heat, rate, color=plots.INK)
    growth.axhline(0, color=plots.GREY, lw=0.8, ls=":")
    growth.set(title="Growth near 0, one tanh unit", xlabel="T / $T_c$", ylabel="rate of log v")
    growth.legend()


CLAIM = Claim(
    name="tanh-transition",
    title="A tanh network follows the linear theory: all collapse at 2 T_c, and below T_c the slope is the same",
    statement=(
        "The weights of Σ_j u_j tanh(w_j x), trained by SGD on noisy labels kx + ξ, collapse to 0 at T = 2 T_c and "
        "do not at T_c/2 and T_c/4, with T_c = 2β₂/α₃ of the diagonal linear network of depth 2. The "
        "growth of v = Σ_j u_j w_j near 0 changes sign at T_c. At T_c/4 the median v is within a factor of two of k, "
        "and the median slope of the function within a quarter of what the linear theory predicts."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, diagonal linear networks; tanh networks are this project's",
    method=(
        "One input, one output; one tanh unit started at u = w, uw = 0.5, four at 0.1 to 0.4, and a linear unit, side "
        "by side, each with its own label noise. k = 1, σ = 20, 64 Gaussian quantiles as inputs, SGD with B = 1, η = T "
        "(s*T_cB = 0.005), until t = 20 below T_c and 50 from there. At 0 means |v| < 10⁻⁶. The threshold: mean growth "
        "of log (u² + w²) over t = 20 from v = 10⁻³⁰ at 0.8 and 1.2 T_c, and the zero of the line through both. "
        "Regions were fixed before these runs. Given up: σ = 10, at which 1 % diverged at 2 T_c, and log v "
        "for log (u² + w²), after a first run with another seed: rounding can change the sign of a v near 0."
    ),
    control=(
        "The linear network of the same kind must agree; that weights near 0 shrink at 2 T_c must be refuted under "
        "isotropic noise of the same trace. Rivals, on the same trajectories: T_c × ½, T_c × 2, and gradient flow, "
        "which never collapses."
    ),
    caption=(
        "Left: distribution of v at the end (dotted: k). Middle: medians of v against the linear theory. Right: growth "
        "rate of log v near 0 against 2k(1 − T/T_c). Intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "With very noisy labels and too large a learning rate a network can lose a signal that it has learned. The "
        "temperature above which zero weights attract is that of linear networks; whether a network that has learned "
        "gets there, and how much it keeps below, is not known for other activations and is measured here."
    ),
    equations=(
        r"f(x)=\sum_{j} u_j\tanh(w_j x),\qquad v=\sum_{j} u_j w_j",
        r"T_c=\frac{2\beta_2}{\alpha_3}=\frac{2k}{2k^2+\sigma^2}",
    ),
    proved=(
        "Near 0 the tanh network is the linear one, so that 0 attracts above T_c and repels below, to first order in "
        "η. Nothing is proved for trajectories that start far from 0."
    ),
    unknown=(
        "Why some tanh units do not collapse by t = 50, and whether they do later. Whether the "
        "threshold stays for activations that are not linear near 0, for several layers and "
        "for inputs of more than one dimension. Tested for σ = 20 k at B = 1."
    ),
    related=("phase-transition", "broken-ergodicity", "width"),
    extra="jax",
)
