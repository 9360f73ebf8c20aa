"""Does a tanh unit that starts with the wrong sign keep it, as a balanced pair of weights does?

In ``v = uw`` the sign is kept for ever if u = −w, since ``u + w ← (1 − ηḠ)(u + w)``. In ``u tanh(wx)`` the gradients of
u and w differ at order w³, so that nothing keeps u + w at 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.any_network.tanh_transition import TARGET, Trained, train
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import ALWAYS, NEVER

PRODUCTS = {"tanh": (0.5,), "small": (0.05,), "four": (0.1, 0.2, 0.3, 0.4), "linear": (0.5,)}
"""Sizes of the products u_j w_j < 0 at the start."""

NAMES = {"tanh": "one tanh unit", "small": "from v = −0.05", "four": "four tanh units", "linear": "linear unit"}

HEATS, TIME, SEED = (0.25, 0.5), 12.0, 32
"""Temperatures over T_c, the time of a run (rounding moves most balanced weights from t ≈ 18 on), and the seed."""


def experiment(quick: bool) -> Evidence:
    """Tanh and linear units from u = −w below T_c, in double precision."""
    runs = {heat: _run(heat, 384 if quick else 2048, -1.0) for heat in HEATS}
    right = _run(HEATS[0], 384 if quick else 2048, 1.0)
    cold, mild = (runs[heat] for heat in HEATS)
    return Evidence(
        numbers=[
            Number("one tanh unit, T = T_c/4: fraction that reaches the right sign", _right(cold, "tanh"), NEVER),
            Number("one tanh unit, T = T_c/2: fraction that reaches the right sign", _right(mild, "tanh"), NEVER),
            Number("tanh unit from v = −0.05, T = T_c/4: the same fraction", _right(cold, "small"), NEVER),
            Number("four tanh units, T = T_c/4: the same fraction", _right(cold, "four"), NEVER),
            Number("linear unit, T = T_c/4: the same fraction", _right(cold, "linear"), NEVER),
        ],
        controls=[Number("tanh unit started with the right sign: fraction with it", _right(right, "tanh"), NEVER)],
        rivals=[
            Rival(
                "a linear unit leaves the wrong sign",
                [Number("linear unit, T = T_c/4: the same fraction", _right(cold, "linear"), ALWAYS)],
            )
        ],
        runs=[Run.of(f"T = {heat:g} T_c", run.run) for heat, run in runs.items()]
        + [Run.of("the right sign", right.run)],
        curves={
            "strengths": {name: cold.strengths(name) for name in PRODUCTS},
            "right": {(name, heat): _right(run, name) for heat, run in runs.items() for name in PRODUCTS},
        },
    )


def _run(heat: float, count: int, sign: float) -> Trained:
    return train(PRODUCTS, heat, TIME, count, sign=sign, dtype="float64", seed=SEED)


def _right(run: Trained, name: str) -> Interval:
    return intervals.proportion(run.strengths(name) > 0)


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Histograms of v at the end, and fractions with the right sign."""
    laws, share = axes
    bins = list(np.linspace(-1.0, 3.0, 41))
    for (name, v), colour in zip(evidence.curves["strengths"].items(), plots.COLOURS, strict=False):
        laws.hist(np.clip(v, -1, 3), bins, weights=np.full(v.size, 1 / v.size), color=colour, alpha=0.5)
        laws.plot([], [], color=colour, label=NAMES[name])
        for place, heat in enumerate(HEATS):
            plots.interval(
                share, place + 0.1 * list(PRODUCTS).index(name), evidence.curves["right"][name, heat], color=colour
            )
    laws.axvline(TARGET, color=plots.GREY, lw=0.8, ls=":")
    laws.set(title="T = $T_c$/4, from the wrong sign", xlabel="v at the end", ylabel="fraction of trajectories")
    laws.legend()
    share.axhspan(*NEVER, color=plots.GREY, alpha=0.2, lw=0)
    share.set(title="Reached the right sign", ylabel="fraction", xlabel="T / $T_c$", ylim=(-0.03, 1.03))
    share.set_xticks([0.15, 1.15], [f"{heat:g}" for heat in HEATS])


CLAIM = Claim(
    name="tanh-sign",
    title="A tanh unit with the wrong sign keeps it, like a balanced pair of weights",
    statement=(
        "Below T_c, a network Σ_j u_j tanh(w_j x) that starts from u = −w, with the wrong sign of v = Σ_j u_j w_j, "
        "never reaches the right one under SGD: the broken ergodicity of linear networks of depth 2 carries over."
    ),
    source="Ziyin, Li & Ueda 2023, arXiv 2308.06671, broken ergodicity; its extension to tanh is tested here",
    method=(
        "One input, one output; tanh units from u = −w with v = −0.5, −0.05 and, for four units, −1, and a linear unit "
        "from −0.5. k = 1, σ = 20, SGD with B = 1 at T_c/4 and T_c/2, until t = 12, in double precision. A fraction of "
        "at most 0.05 counts as never. Regions were fixed before these runs."
    ),
    control=(
        "For a unit that starts with the right sign, the same number must be refuted. The linear unit of the same "
        "kind, in the same runs, must keep the wrong sign."
    ),
    caption=(
        "Left: distribution of v at t = 12 (dotted: k). Right: fraction with v > 0, intervals at 1 − 10⁻⁶; the region "
        "of the claim is grey."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "If units with the wrong sign could not leave it, half of a random network would stay dead. Whether they can "
        "depends on whether the activation keeps the two weights of a unit balanced."
    ),
    equations=(
        r"\partial_u\ell=r\tanh(wx),\qquad\partial_w\ell=r\,u\,x\,\mathrm{sech}^2(wx)",
        r"u+w\leftarrow(1-\eta\bar{G})(u+w)\quad\text{(linear)}",
    ),
    proved="For the linear unit the sign is kept exactly. For tanh, the gradients of u and w differ at order w³.",
    unknown="How the time to leave depends on the initial weights. Tested until t = 12, for σ = 20 k at B = 1.",
    related=("broken-ergodicity", "tanh-transition", "exact-balance"),
    panels=2,
    extra="jax",
)
