"""In ReLU networks the noise along a mode of the data peaks in the order in which modes are learned.

The product coordinate of mode α is ``m_α = u_αᵀ Ê[f xᵀ] v_α``, with u_α and v_α of the linear teacher of the labels.
Its noise rate is the variance that minibatches add to it per unit of time. Peak time: where this is largest; learning
time: when m first exceeds 90 % of its value at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy import stats

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals, tools
from saddlescope.claims.any_network import _networks
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.data import Examples
from saddlescope.methods import SGD
from saddlescope.networks.model import Model
from saddlescope.observe import Modes, RandomDirections
from saddlescope.plan import Plan
from saddlescope.problem import Problem

INPUTS, WIDTH, OUTPUTS, SAMPLES, SAVES = 12, 40, 6, 200, 150

SCALE, LR, BATCH = 0.1, 0.01, 4

TARGETS = (3.0, 2.5, 2.0, 1.6, 1.3, 1.0)
"""Singular values of the teacher."""

LEARNED = 0.9
"""Share of its value at the end at which a direction counts as learned."""

FOLLOWS: Region = (0.8, 1.0)
"""Rank correlation of peak and learning times that counts as the same order."""

SHARES = np.linspace(0.05, 1.0, 20)
"""Shares of shuffled peak times that are tried."""

SEED = 0


@dataclass(frozen=True, eq=False)
class Times:
    """Peak times and learning times (trajectory, direction)."""

    peak: Floats
    learned: Floats

    @classmethod
    def of(cls, run: xr.Dataset, name: str) -> Times:
        """Of "mode" or "random", at the saves of a run."""
        alive, dim = tools.alive(run), "mode" if name == "mode" else "direction"
        strength, noise = (
            alive[f"{name}_{what}"].transpose("trajectory", dim, "time").values for what in ("strength", "noise")
        )
        time = alive.time.values
        reached = strength / strength[..., -1:] >= LEARNED
        return cls(time[noise.argmax(axis=-1)], time[reached.argmax(axis=-1)])

    @property
    def order(self) -> Floats:
        """Spearman's rank correlation over the directions of every trajectory; 0 where all times are equal."""
        pairs = zip(self.peak, self.learned, strict=True)
        found = [0.0 if np.ptp(p) == 0 or np.ptp(l) == 0 else stats.spearmanr(p, l).statistic for p, l in pairs]
        return np.asarray(found)

    @property
    def before(self) -> Floats:
        """Whether the peak is before the learning time (trajectory, direction)."""
        return np.asarray(self.peak < self.learned)

    def shuffled(self, share: float) -> Times:
        """With this share of the peak times drawn from all peak times of the trajectory, as chance would."""
        rng = np.random.default_rng(0)
        other = rng.permuted(self.peak, axis=1)
        return Times(np.where(rng.random(self.peak.shape) < share, other, self.peak), self.learned)


def experiment(quick: bool) -> Evidence:
    """Two ReLU layers from small weights, with modes and random directions of the same runs."""
    model = _networks.layers((INPUTS, WIDTH, OUTPUTS), "relu", SCALE)
    steps, count = (1500, 48) if quick else (2000, 256)
    run = follow(model, data(), SGD(LR, BATCH), steps, count)
    modes, random = Times.of(run, "mode"), Times.of(run, "random")
    headline, chance = in_order(modes, "modes"), in_order(random, "random directions")
    shuffled = (share for share in SHARES if in_order(modes.shuffled(share), "modes").verdict != "confirmed")
    return Evidence(
        numbers=[
            replace(headline, catches=f"{next(shuffled, 1):.0%} of the peak times of a network in random order"),
            Number("modes: share of networks where all peak before learned", intervals.proportion(modes.before.all(1))),
            Number("random directions: the same", intervals.proportion(random.before.all(1))),
        ],
        controls=[chance],
        runs=[Run.of("ReLU", run)],
        curves={"run": run, "modes": modes, "random": random},
        rivals=[
            Rival(theory, [replace(headline, region=region)])
            for theory, region in {
                "as along random directions": tools.around(chance.interval.value, 0.2),
                "no relation": (-0.2, 0.2),
                "the reverse order": (-1.0, -0.8),
            }.items()
        ],
    )


def in_order(times: Times, name: str) -> Number:
    """Mean over trajectories of the rank correlation, which is at most 1."""
    found = intervals.mean(times.order)
    bounded = Interval(found.value, max(found.low, -1.0), min(found.high, 1.0))
    return Number(f"{name}: rank correlation of peak and learning times", bounded, FOLLOWS)


def data(seed: int = 0) -> Examples:
    """Gaussian inputs, whitened, and labels of a linear teacher with singular values ``TARGETS``."""
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((SAMPLES, INPUTS)))[0] * np.sqrt(SAMPLES)
    left, right = (np.linalg.qr(rng.standard_normal((size, len(TARGETS))))[0] for size in (OUTPUTS, INPUTS))
    return Examples(x, x @ (left * TARGETS @ right.T).T)


def follow(
    model: Model, examples: Examples, method: SGD, steps: int, trajectories: int, seed: int = SEED
) -> xr.Dataset:
    """An ensemble with strength and noise along modes and random directions, at evenly spaced saves."""
    plan = Plan(
        steps=steps,
        trajectories=trajectories,
        seed=seed,
        saves=SAVES,
        dtype="float32",
        keep="trajectories",
        observe=(Modes(len(TARGETS)), RandomDirections(len(TARGETS))),
    )
    return tools.run(Problem(model, examples), method, plan)  # type: ignore[arg-type]


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Strength and noise along modes in one network; peak against learning times of modes and random directions."""
    run = evidence.curves["run"].isel(trajectory=0)
    for mode, colour in zip(range(len(TARGETS)), plots.COLOURS, strict=False):
        seen = run.isel(mode=mode)
        axes[0].plot(run.time, seen.mode_noise / seen.mode_noise.max(), color=colour)
        axes[0].plot(run.time, seen.mode_strength / seen.mode_strength.isel(time=-1), color=colour, lw=0.8, ls="--")
    axes[0].set(title="Noise (lines), strength (dashed)", xlabel="time", ylabel="over its largest, over its end")
    shown = {"Modes": evidence.curves["modes"], "Random directions": evidence.curves["random"]}
    for panel, (title, times) in zip(axes[1:], shown.items(), strict=True):
        for index, colour in zip(range(len(TARGETS)), plots.COLOURS, strict=False):
            panel.scatter(times.learned[:48, index], times.peak[:48, index], s=6, color=colour, alpha=0.6, lw=0)
        ends = [0.0, float(times.learned[:48].max())]
        panel.plot(ends, ends, color=plots.INK, lw=0.8)
        panel.set(title=title, xlabel="learning time", ylabel="peak time of the noise")


CLAIM = Claim(
    name="relu-noise-peaks",
    title="In ReLU networks, noise along modes peaks in the order of learning",
    statement=(
        "In a two-layer ReLU network that learns a linear teacher from small weights, minibatch noise along the modes "
        "of the teacher peaks in the order in which they are learned: rank correlation above 0.8 over the modes of a "
        "network. Along random directions it does not."
    ),
    source=(
        "Corlouer et al. 2026, arXiv 2604.06366, for linear networks; the test in ReLU networks, against random "
        "directions, is this project's"
    ),
    method=(
        "200 whitened inputs, widths 12, 40 and 6, no biases, entries of the weights N(0, 0.01/fan-in), a linear "
        "teacher with singular values 3 to 1, SGD with η = 0.01, B = 4, no label noise, until t = 20 (15 in the quick "
        "form). The noise rate of the product of output and input along every mode is computed from the gradients of "
        "all samples at 150 evenly spaced saves. Learned: 90 % of the strength at the end. Regions were set from "
        "smaller runs with another seed."
    ),
    control="Six random orthonormal directions of outputs and inputs in the same runs must not show the order.",
    caption=(
        "Left: one network. Middle and right: every dot is a mode, or a random direction, of one of 48 networks; below "
        "the line the noise peaks before the direction is learned."
    ),
    why=(
        "Noise tells of a feature before the loss shows that it is complete. The order holds for features of the data, "
        "not for any direction, also in networks that are not linear."
    ),
    equations=(
        r"m_\alpha = u_\alpha^\top \hat{E}[f x^\top] v_\alpha",
        r"D_\alpha = T\, \mathrm{Var}_i\left[\nabla m_\alpha \cdot g_i\right], \qquad T = \frac{\eta}{B}",
    ),
    proved=(
        "For linear networks with aligned, balanced weights the position of the peak follows from the noise of the "
        "mode. For ReLU networks nothing is proved."
    ),
    unknown=(
        "One family of networks, one data set with a linear teacher and squared loss are tested. Convolutional "
        "networks, classes and label noise are not tested here; noise that does not vanish at the end may have no peak."
    ),
    related=("noise-peak", "small-start"),
    experiment=experiment,
    draw=draw,
    extra="jax",
)
