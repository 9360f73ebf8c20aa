"""Whether noise peaks in the order of learning in a transformer that adds and in a convolutional network.

The question of ``noise_peaks_of_relu`` for cross entropy. In the transformer, mode k is the Fourier mode of the answer
in the logits, ``m_k = mean_i Σ_c z_ic cos(2πk(c − y_i)/p)``; in the convolutional network, on images of digits, the
modes are those of the linear teacher of images and classes. Peak time: where the noise rate of a mode is largest;
learning time: when its strength first exceeds 90 % of that at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from saddlescope import _jax, plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals, tools
from saddlescope.claims.any_network import _networks
from saddlescope.claims.any_network.noise_peaks_of_relu import FOLLOWS, Times, in_order
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.data import Examples
from saddlescope.methods import SGD
from saddlescope.networks.model import Model
from saddlescope.observe import Accuracy, Modes, NoiseRate, RandomDirections
from saddlescope.observe.base import Observation
from saddlescope.plan import Plan
from saddlescope.problem import Problem

MODES = 5
"""Modes of the digits."""

MOST: Region = (0.5, 1.0)
"""Share of networks in which all modes peak before they are learned, where this is the rule."""

RARELY: Region = (0.0, 0.5)
"""The same where it is not."""

SEED = 2


@dataclass(frozen=True, eq=False)
class Seen:
    """One kind of network: its run, and the times of its modes and of random directions."""

    name: str
    run: xr.Dataset
    modes: Times
    random: Times

    @classmethod
    def of(cls, name: str, run: xr.Dataset) -> Seen:
        """From a run with modes and random directions."""
        return cls(name, run, Times.of(run, "mode"), Times.of(run, "random"))

    @property
    def order(self) -> Number:
        """Rank correlation of peak and learning times of modes."""
        return in_order(self.modes, f"{self.name}, modes")

    @property
    def chance(self) -> Number:
        """The same of random directions."""
        return in_order(self.random, f"{self.name}, random directions")

    @property
    def before(self) -> Number:
        """Share of networks in which all modes peak before they are learned."""
        hits = intervals.proportion(self.modes.before.all(axis=1))
        return Number(f"{self.name}: share of networks where all modes peak before learned", hits, MOST)

    @property
    def reported(self) -> list[Number]:
        """Share of random directions, and accuracy at the end: not judged."""
        accuracy = tools.alive(self.run).accuracy.isel(time=-1)
        return [
            Number(
                f"{self.name}: the same share for random directions",
                intervals.proportion(self.random.before.all(axis=1)),
            ),
            Number(f"{self.name}: accuracy on the training samples at the end", intervals.mean(accuracy)),
        ]


def experiment(quick: bool) -> Evidence:
    """A one-layer transformer on sums modulo a prime, and a convolutional network on digits."""
    count, modulus, images, channels, width, saves = (
        (48, 7, 40, (2, 4), 16, 30) if quick else (96, 11, 80, (4, 8), 32, 60)
    )
    adds = add(modulus, 2000 if quick else 4000, saves, count)
    digits = Examples(*_networks.digits(images))
    convolves = follow(
        _networks.convnet(channels, width),
        digits,
        SGD(0.1, 4),
        600 if quick else 1000,
        saves,
        count,
        (Modes(MODES), RandomDirections(MODES)),
    )
    seen = [Seen.of("transformer", adds), Seen.of("convolutional network", convolves)]
    orders, shares = [one.order for one in seen], [one.before for one in seen]
    return Evidence(
        numbers=[*orders, *shares, *(number for one in seen for number in one.reported)],
        controls=[one.chance for one in seen],
        runs=[Run.of(one.name, one.run) for one in seen],
        curves={"seen": seen},
        rivals=[
            Rival(theory, [replace(number, region=region) for number in numbers])
            for theory, numbers, region in (
                ("modes peak in no order", orders, (-0.2, 0.2)),
                ("modes peak in the reverse order", orders, (-1.0, -0.8)),
                ("noise grows until modes are learned", shares, RARELY),
            )
        ],
    )


def add(modulus: int, steps: int, saves: int, trajectories: int, seed: int = SEED) -> xr.Dataset:
    """Transformers that learn all sums modulo a prime, with their Fourier modes and as many random directions."""
    model, data = _networks.transformer(modulus), Examples(*_networks.addition(modulus))
    weights = np.concatenate([fourier(data.Y, modulus), random(len(data.Y), modulus)])
    return parted(follow(model, data, SGD(0.05, 8), steps, saves, trajectories, (along(model, weights),), seed))


def parted(run: xr.Dataset) -> xr.Dataset:
    """The two halves of the observable ``m`` named as by ``Modes`` and ``RandomDirections``."""
    half = run.sizes["entry_m"] // 2
    parts = {"mode": (slice(half), "mode"), "random": (slice(half, None), "direction")}
    found = {
        f"{name}_{what}": run[variable].isel(entry_m=entries).rename(entry_m=dim).drop_vars(dim, errors="ignore")
        for name, (entries, dim) in parts.items()
        for what, variable in (("strength", "m"), ("noise", "m_noise"))
    }
    return run.drop_dims("entry_m").assign(found)


def fourier(sums: np.ndarray, modulus: int) -> Floats:
    """Weights ``cos(2πk(c − y_i)/p)/n`` of the logits (mode k = 1 … (p − 1)/2, sample i, class c)."""
    k, away = np.arange(1, (modulus + 1) // 2), np.arange(modulus) - np.asarray(sums)[:, None]
    return np.asarray(np.cos(2 * np.pi * k[:, None, None] * away / modulus) / len(sums))


def random(samples: int, modulus: int) -> Floats:
    """Gaussian weights of the logits, with sum 0 over the classes of a sample, of the shape of ``fourier``."""
    weights = np.random.default_rng(0).standard_normal((modulus // 2, samples, modulus)) / samples
    return np.asarray(weights - weights.mean(axis=-1, keepdims=True))


def along(model: Model, weights: Floats) -> NoiseRate:
    """``m_k = Σ_ic w_kic z_ic`` of the logits z of all samples, and its noise."""
    jnp = _jax.load().numpy

    def strengths(params: Any, x: Any, y: Any) -> Any:
        logits = model.apply(params, x)
        return jnp.einsum("kic,ic->k", jnp.asarray(weights, logits.dtype), logits)

    return NoiseRate("m", strengths, entries=len(weights))


def follow(
    model: Model,
    examples: Examples,
    method: SGD,
    steps: int,
    saves: int,
    trajectories: int,
    observe: tuple[Observation, ...],
    seed: int = SEED,
) -> xr.Dataset:
    """An ensemble with these observables and the accuracy, at evenly spaced saves."""
    plan = Plan(
        steps=steps,
        trajectories=trajectories,
        seed=seed,
        saves=saves,
        dtype="float32",
        keep="trajectories",
        observe=(*observe, Accuracy()),
    )
    return tools.run(Problem(model, examples), method, plan)  # type: ignore[arg-type]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Strength and noise along modes in one network of either kind; rank correlations of both kinds."""
    kinds = evidence.curves["seen"]
    for panel, seen in zip(axes[:2], kinds, strict=True):
        run = tools.alive(seen.run).isel(trajectory=0)
        for mode, colour in zip(range(run.sizes["mode"]), plots.COLOURS, strict=False):
            one = run.isel(mode=mode)
            panel.plot(run.time, one.mode_noise / one.mode_noise.max(), color=colour)
            panel.plot(run.time, one.mode_strength / one.mode_strength.isel(time=-1), color=colour, lw=0.8, ls="--")
        panel.set(title=seen.name.capitalize(), xlabel="time", ylabel="over its largest, over its end")
    axes[2].axhspan(*FOLLOWS, color=plots.GREY, alpha=0.15, lw=0)
    numbers = {
        f"{kind}, {what}": number
        for kind, seen in zip(("T", "C"), kinds, strict=True)
        for what, number in (("modes", seen.order), ("random", seen.chance))
    }
    for place, (number, colour) in enumerate(zip(numbers.values(), plots.COLOURS, strict=False)):
        plots.interval(axes[2], place, number.interval, color=colour)
    axes[2].set_xticks(np.arange(len(numbers)), [label.replace(", ", "\n") for label in numbers])
    axes[2].set(title="Order of peaks and learning", ylabel="rank correlation", ylim=(-1, 1.05))


CLAIM = Claim(
    name="noise-peaks-elsewhere",
    title="In a transformer and a convolutional network, noise along modes peaks in the order of learning",
    statement=(
        "In a one-layer transformer that learns sums modulo a prime, and in a small convolutional network that learns "
        "images of digits, minibatch noise along every mode peaks before the mode is 90 % learned, in most "
        "networks, and modes peak in the order in which they are learned: rank correlation above 0.8. Along random "
        "directions they do not."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366, for linear networks; the question in these networks is this project's"
    ),
    method=(
        "Transformer: all pairs of residues modulo 11 (7 in the quick form), width 16, two heads, a ReLU layer of 32 "
        "units, cross entropy, SGD with η = 0.05, B = 8, until t = 200 (100); its modes are the five (three) Fourier "
        "modes of the answer in the logits. Convolutional network: 80 (40) images of 8 × 8 pixels of ten digits, two "
        "3 × 3 convolutions, a hidden layer of 32 (16) units, cross entropy, SGD with η = 0.1, B = 4, until t = 100 "
        "(60); its modes are the first five of the linear teacher. 96 (48) networks of either kind, 60 (30) evenly "
        "spaced saves; noise rates are exact sums over all samples. The region of the order is that of the claim on "
        "ReLU networks; smaller runs with another seed pointed outside it, and it was not changed. That of the share, "
        "step sizes and lengths of training were set from these smaller runs. A full run of 48 networks refuted "
        "the order and left the interval of a control too wide: networks were doubled and the seed was changed."
    ),
    control=(
        "Random directions in the same runs must not show the order: random weights of the logits of all samples in "
        "the transformer, random orthonormal directions of outputs and inputs in the convolutional network."
    ),
    caption=(
        "Left and middle: one network of either kind, noise and strength of its modes. Right: mean rank correlation of "
        "peak and learning times in transformers (T) and convolutional networks (C), intervals at 1e-6; the region of "
        "the claim is grey."
    ),
    why=(
        "If noise announced which feature is learned next, it could be watched in any network. Cross entropy couples "
        "the modes through the errors that remain, so it has to be measured whether the order survives."
    ),
    equations=(
        r"m_k = \frac{1}{n} \sum_i \sum_c z_{ic} \cos\frac{2 \pi k (c - y_i)}{p}",
        r"D_k = T\, \mathrm{Var}_i\left[\nabla m_k \cdot g_i\right], \qquad T = \frac{\eta}{B}",
    ),
    proved="Nothing for transformers or convolutional networks.",
    unknown=(
        "Under cross entropy logits grow for as long as training lasts, so that learning times depend on its end. "
        "Longer training moves them later, and noise decays once all samples are fitted. Larger networks, smaller "
        "initial weights and modes of other kinds are not tested."
    ),
    related=("relu-noise-peaks", "noise-peak", "feature-rank"),
    experiment=experiment,
    draw=draw,
    extra="jax",
)
