"""What claims on rank share: ensembles whose rank is followed, what is left of it, and the theory of a penalty.

Theory: label noise of standard deviation δ under SGD with T = η/B acts, to first order in T and once the labels are
learned, as gradient flow of ``𝓛 + (Tδ²/4) Σ_k ⟨‖∂f_k/∂θ‖²⟩``, f_k the outputs.
Source: Blanc, Gupta, Valiant & Valiant 2020, arXiv 1904.09080; Li, Wang & Arora 2021, arXiv 2110.06914.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import _jax, plots
from saddlescope.claims import intervals, tools
from saddlescope.claims.any_network import _networks
from saddlescope.claims.claim import Region, Run
from saddlescope.claims.intervals import Interval
from saddlescope.data import Examples
from saddlescope.methods import Method
from saddlescope.networks.model import Model
from saddlescope.observe import EffectiveRank
from saddlescope.observe.base import Observation
from saddlescope.plan import Plan
from saddlescope.problem import Problem

RANK = "effective_rank_w1"

Runs = Mapping[str, xr.Dataset]
"""Runs by what they show."""


def follow(
    model: Model,
    data: Examples,
    method: Method,
    steps: int,
    trajectories: int,
    seen: tuple[Observation, ...] = (EffectiveRank("w1"),),
) -> xr.Dataset:
    """Every trajectory of an ensemble in float32; those of the same model start from the same weights."""
    plan = Plan(steps=steps, trajectories=trajectories, saves=20, dtype="float32", keep="trajectories", observe=seen)
    return tools.run(Problem(model, data), method, plan)  # type: ignore[arg-type]


def left(run: xr.Dataset, name: str = RANK) -> Interval:
    """Mean over trajectories of a rank at the end over that at the start."""
    return intervals.mean(tools.alive(run)[name].isel(time=-1) / tools.alive(run)[name].isel(time=0))


def learned(run: xr.Dataset, floor: float) -> Interval:
    """Mean excess loss at the end over that at the start; ``floor`` is the loss of the teacher."""
    loss = tools.alive(run).loss - floor
    return intervals.mean(loss.isel(time=-1) / loss.isel(time=0))


def as_far(ratio: float, margin: float = 0.2) -> Region:
    """Ratios whose logarithms are within 20 % of that of this ratio.

    >>> low, high = as_far(np.exp(-1.0))
    >>> [round(float(-np.log(end)), 6) for end in (low, high)]
    [1.2, 0.8]
    """
    return ratio ** (1 + margin), ratio ** (1 - margin)


def runs(found: Runs) -> list[Run]:
    """The runs behind a claim."""
    return [Run.of(name, run) for name, run in found.items()]


def penalised(widths: Sequence[int], activation: str, strength: float) -> Model:
    """Layers whose loss has the penalty ``strength Σ_k ‖∂f_k/∂θ‖²`` of each sample, as one output more.

    ``∂f_k/∂W_l = b_kl h_{l−1}ᵀ`` with the inputs h_{l−1} of layer l and b_kl, what is propagated back to its outputs.
    """
    jax, base = _jax.load(), _networks.layers(widths, activation)
    np_, depth, phi = jax.numpy, len(widths) - 1, _networks.activation(activation)
    slope = jax.vmap(jax.vmap(jax.grad(phi)))

    def apply(params: Any, x: Any) -> Any:
        inputs, before = [x], []
        for l in range(1, depth):
            before.append(inputs[-1] @ params[f"w{l}"].T)
            inputs.append(phi(before[-1]))
        outputs = inputs[-1] @ params[f"w{depth}"].T
        back = np_.broadcast_to(np_.eye(widths[-1]), (len(x), widths[-1], widths[-1]))
        squares = widths[-1] * (inputs[-1] ** 2).sum(axis=1)
        for l in range(depth - 1, 0, -1):
            back = (back @ params[f"w{l + 1}"]) * slope(before[l - 1])[:, None, :]
            squares = squares + (back**2).sum(axis=(1, 2)) * (inputs[l - 1] ** 2).sum(axis=1)
        return np_.concatenate([outputs, squares[:, None]], axis=1)

    def loss(outputs: Any, y: Any) -> Any:
        return 0.5 * ((outputs[:, :-1] - y) ** 2).sum(axis=1) + strength * outputs[:, -1]

    return Model(apply, base.init, loss, name=f"{activation} layers with a penalty")


def draw_paths(panel: Axes, found: Runs, name: str = RANK, title: str = "", ylabel: str = "") -> None:
    """Mean rank over time of every run, with twice its standard error."""
    for (label, run), colour in zip(found.items(), plots.COLOURS, strict=False):
        values = tools.alive(run)[name].transpose("time", "trajectory").values
        centre, half = values.mean(axis=1), 2 * values.std(axis=1) / math.sqrt(values.shape[1])
        panel.plot(run.time, centre, color=colour, label=label)
        panel.fill_between(run.time, centre - half, centre + half, color=colour, alpha=0.2, lw=0)
    panel.set(title=title, xlabel="time", ylabel=ylabel, ylim=(0, None))
    panel.legend(loc="lower left")


def draw_left(panel: Axes, found: Mapping[str, Interval], region: Region, title: str) -> None:
    """What is left of a rank in every run, and the region of the claim."""
    panel.axhspan(*region, color=plots.GREY, alpha=0.15, lw=0)
    for place, (number, colour) in enumerate(zip(found.values(), plots.COLOURS, strict=False)):
        plots.interval(panel, place, number, color=colour)
    panel.set(title=title, ylabel="end over start", ylim=(0, 1.1), xlim=(-0.5, len(found) - 0.5))
    panel.set_xticks(np.arange(len(found)), [textwrap.fill(label, 9, break_long_words=False) for label in found])
