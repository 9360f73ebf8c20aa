"""The noise of an active unit has full rank, and once balanced it bounds the ratio of the unit's norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival
from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance.noise_balance import EVEN, SIZE, UNEVEN, Singles, Task, initial, move, passes
from saddlescope.theory import Balance

WIDTH, SAMPLES = 24, 1500
STEPS = {"even": 3000, "uneven": 4000}
FLAT = Task(np.where(np.arange(SIZE) < SIZE // 2, 2, 0).astype(np.float32), EVEN.label_noise, start=(0.2, 0.2))
"""Inputs confined to half of the directions."""


@dataclass(frozen=True, eq=False)
class Units:
    """One unit of every network: norm ratio ‖u‖²/‖w‖² (network,), its bounds, extreme eigenvalues and ranks of C₁, C₂.

    Shapes: bounds and ranks (2, network), spectra (matrix, end, network).
    """

    ratio: np.ndarray
    bounds: np.ndarray
    spectra: np.ndarray
    ranks: np.ndarray

    def within(self, bounds: np.ndarray) -> Interval:
        """Fraction of units within these bounds."""
        return intervals.proportion((bounds[0] <= self.ratio) & (self.ratio <= bounds[1]))

    def full(self) -> Interval:
        """Fraction of units with full rank of C₁ and C₂."""
        return intervals.proportion((self.ranks == SIZE).all(axis=0))


def experiment(quick: bool) -> Evidence:
    """Units of ReLU networks on even and uneven data, before and after training, and on inputs of half the rank."""
    size, always = (160, (0.9, 1.0)) if quick else (480, (0.95, 1.0))
    start = units(EVEN, 0, size)
    even, uneven = units(EVEN, STEPS["even"], size), units(UNEVEN, STEPS["uneven"], size)
    flat = units(FLAT, 200, size)
    same_ends = even.spectra[1] / even.spectra[0]
    return Evidence(
        numbers=[
            replace(
                Number(
                    "even data: fraction of units with ‖u‖²/‖w‖² within its bounds", even.within(even.bounds), always
                ),
                catches=_narrowest(even, always),
            ),
            replace(
                Number("uneven data: the same", uneven.within(uneven.bounds), always),
                catches=_narrowest(uneven, always),
            ),
            Number("fraction of units whose C₁ and C₂ have full rank, even data", even.full(), always),
            Number("the same, uneven data", uneven.full(), always),
            Number(
                "even data: median of the upper bound over the lower", intervals.median(even.bounds[1] / even.bounds[0])
            ),
            Number("even data: median ratio of norms at the start", intervals.median(start.ratio)),
        ],
        controls=[
            Number("even data, before training: fraction within the bounds", start.within(start.bounds), always),
            Number("inputs in half of the directions: fraction with full ranks", flat.full(), always),
        ],
        rivals=[
            Rival(
                "bounds λ_min(C₂)/λ_min(C₁) and λ_max(C₂)/λ_max(C₁), even data",
                [Number("fraction within them", even.within(np.sort(same_ends, axis=0)), always)],
            ),
            Rival(
                "norms balance to 1 %, even data",
                [Number("fraction within 1 %", even.within(np.array([0.99, 1.01])[:, None]), always)],
            ),
            Rival(
                "norms balance to 10 %, uneven data",
                [Number("fraction within 10 %", uneven.within(np.array([0.9, 1.1])[:, None]), always)],
            ),
        ],
        runs=[],
        curves={"start": start, "even": even, "uneven": uneven},
    )


def _narrowest(found: Units, region: Region) -> str:
    """The exponent of the bounds, nearest to 1, that would not be confirmed."""
    middle = np.sqrt(found.bounds.prod(axis=0))
    for power in np.arange(0.95, 0.0, -0.05):
        narrow = middle * (found.bounds / middle) ** power
        if Number("", found.within(narrow), region).verdict != "confirmed":
            return f"bounds to the power {power:.2g} about their geometric mean"
    return ""


def units(task: Task, steps: int, networks: int) -> Units:
    """The first unit of ReLU networks 20 → 24 → 20 after this number of steps of SGD."""
    u, w = train(task, steps, networks)
    found = [look(out[:, 0], into[0], out, into, task, seed) for seed, (out, into) in enumerate(zip(u, w, strict=True))]
    ratio, bounds, spectra, ranks = (np.array(values) for values in zip(*found, strict=True))
    return Units(ratio, bounds.T, spectra.transpose(1, 2, 0), ranks.T)


def train(task: Task, steps: int, networks: int) -> tuple[Singles, Singles]:
    """Weights out of (network, 20, unit) and into (network, unit, 20) the units, trained on fresh batches."""
    rng = np.random.default_rng(0)
    u, w = initial(task, WIDTH, networks, rng)
    for _ in range(steps):
        move(u, w, task, rng)
    return u, w


def look(
    u: Singles, w: Singles, out: Singles, into: Singles, task: Task, seed: int
) -> tuple[float, tuple[float, float], np.ndarray, tuple[int, int]]:
    """Norm ratio, its bounds, extreme eigenvalues of C₁ and C₂ and their ranks, for a unit with weights u, w.

    ``A = 1(w·x > 0) x (∂ℓ/∂y)ᵀ`` on fresh samples.
    """
    x, hidden, error, _ = passes(out, into, *task.draw((SAMPLES,), np.random.default_rng(seed)))
    active = (hidden[:, 0] > 0)[:, None, None]
    noise = Balance.of_product(u, w, np.asarray(active * x[:, :, None] * error[:, None, :], np.float64), 1.0)
    ends = [np.linalg.eigvalsh(C)[[0, -1]] for C in (noise.C1, noise.C2)]
    return float((u**2).sum() / (w**2).sum()), noise.ratio_bounds, np.array(ends), noise.ranks


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Ratios and their bounds: even data before and after training, and uneven data."""
    panels = {"start": "Even data, at the start", "even": "Even data, trained", "uneven": "Uneven data, trained"}
    for panel, (name, title) in zip(axes, panels.items(), strict=True):
        found: Units = evidence.curves[name]
        order = np.argsort(found.ratio)[::4]
        places = np.arange(len(order))
        panel.fill_between(places, *found.bounds[:, order], color=plots.COLOURS[2], alpha=0.2, lw=0, label="bounds")
        panel.plot(places, found.ratio[order], ".", color=plots.COLOURS[0], label="‖u‖²/‖w‖²")
        panel.axhline(1, color=plots.GREY, lw=0.8, ls=":")
        panel.set(title=title, xlabel="networks, sorted", ylabel="ratio of norms", yscale="log")
        panel.legend(loc="upper left")


CLAIM = Claim(
    name="norm-bounds",
    title="Active units have noise of full rank, which bounds the ratio of their norms",
    statement=(
        "For a unit with weights w in and u out, C₁ and C₂ (the covariances of A = ∂ℓ/∂(wuᵀ)) have full rank while the "
        "unit is active and inputs and errors span their spaces. Where the noise balances, λ_min(C₂)/λ_max(C₁) ≤ "
        "‖u‖²/‖w‖² ≤ λ_max(C₂)/λ_min(C₁). SGD brings units within these bounds from a start outside. The upper bound "
        "is about 3.5 times the lower on even data, and larger by orders of magnitude on uneven data."
    ),
    source="Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, ranks of C₁, C₂ and bounds of the ratio of norms",
    method=(
        "ReLU networks 20 → 24 → 20 trained by SGD on fresh batches of 8, learning rate 0.02, on the even and the "
        "uneven data of the claim noise-balance, for 3,000 and 4,000 steps; one unit of each network, with C₁ and C₂ "
        "from 1,500 fresh samples. Ranks count eigenvalues above rounding. Fractions of at least 0.95 (quick: 0.9) "
        "count as always."
    ),
    control=(
        "Before training, from ‖u‖² much below ‖w‖², the ratio must be outside the bounds; with inputs in 10 of the 20 "
        "directions C₂ must not have full rank. Rivals, on the same units: bounds from eigenvalues of the same end, "
        "norms that balance to 1 % on even data or to 10 % on uneven data."
    ),
    caption="Ratio of norms of one unit in every fourth network (dots) and its bounds (shaded), sorted by the ratio.",
    experiment=experiment,
    draw=draw,
    why=(
        "Once gradient noise is balanced, its spectrum limits how different the weights into and out of a hidden unit "
        "can be: to a range of a factor of 3.5 if inputs and label noise are alike in all directions, and hardly at "
        "all if they are not. Only active units are covered, because a dead ReLU unit has no gradient noise, so SGD "
        "without weight decay leaves its norms as they are."
    ),
    equations=(
        (
            r"\frac{\lambda_{\min}(C_2)}{\lambda_{\max}(C_1)}\le\frac{\lVert u\rVert^2}{\lVert "
            r"w\rVert^2}\le\frac{\lambda_{\max}(C_2)}{\lambda_{\min}(C_1)}"
        ),
        r"\operatorname{rank}\,C_1=\dim\,u,\quad\operatorname{rank}\,C_2=\dim\,w",
    ),
    proved=(
        "Both are results of Ziyin, Li & Ueda: full rank for an active unit whose inputs and errors span their spaces, "
        "and bounds that follow from uᵀC₁u = wᵀC₂w and the extreme eigenvalues of C₁ and C₂."
    ),
    unknown=(
        "That training brings the noise of a unit into balance is measured, not proved. On uneven data the bounds are "
        "so wide that they test little. The networks have two layers and width 24, and one unit of each is judged."
    ),
    related=("noise-balance", "exact-balance"),
)
