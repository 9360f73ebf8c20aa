"""SGD balances noise; norms follow only where data and shapes are even; linear layers end at dy/dx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims._networks import RELU, backward, forward
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import alive, around, largest, power, run
from saddlescope.data import GaussianData
from saddlescope.init import Balanced
from saddlescope.methods import SGD
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem

Singles = NDArray[np.float32]

SIZE, WIDTH, SIGNAL = 20, 200, 0.5
LR, BATCH, SAVES, SAMPLES = 0.02, 8, 24, 256
EARLY = 15.0
AS_ONE, LINEAR_REGION = around(1.0, 0.1), around(1.0, 0.05)
SHAPES = ((16, 2), (12, 3), (6, 6), (4, 12))
LINEAR = SGD(lr=0.01, batch_size=4)


@dataclass(frozen=True, eq=False)
class Task:
    """Inputs with this spectrum (20,), labels half the inputs plus noise of this size in every output (20,)."""

    spectrum: Singles
    label_noise: Singles
    start: tuple[float, float]

    def draw(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[Singles, Singles]:
        """Inputs and labels, each (*shape, 20)."""
        x, noise = (rng.standard_normal((*shape, SIZE), np.float32) for _ in range(2))
        x *= np.sqrt(self.spectrum)
        return x, np.float32(SIGNAL) * x + self.label_noise * noise


EVEN = Task(np.ones(SIZE, np.float32), np.full(SIZE, 2, np.float32), start=(0.1, 0.25))
_inverse = 1 / np.arange(1, SIZE + 1, dtype=np.float32)
_last = np.where(np.arange(SIZE) < SIZE - 4, 0, 20**0.5).astype(np.float32)
UNEVEN = Task(SIZE * _inverse / _inverse.sum(), _last, start=(0.2, 0.2))
"""Same totals: a spectrum ∝ 1/k, and noise in the last 4 outputs only.

Start: standard deviation of the weights out of and into the units.
"""


@dataclass(frozen=True, eq=False)
class Training:
    """Norms and noise of the weights out of (u) and into (w) every unit: (time, trajectory, unit)."""

    time: Floats
    norm_u: Singles
    norm_w: Singles
    noise_u: Singles
    noise_w: Singles

    @property
    def norm_ratio(self) -> Singles:
        """``‖u‖²/‖w‖²`` of whole layers (time, trajectory)."""
        return np.asarray(self.norm_u.sum(axis=-1) / self.norm_w.sum(axis=-1))

    @property
    def noise_ratio(self) -> Singles:
        """``Tr C_u / Tr C_w = wᵀC₂w / uᵀC₁u`` of whole layers (time, trajectory)."""
        return np.asarray(self.noise_u.sum(axis=-1) / self.noise_w.sum(axis=-1))

    @property
    def by_unit(self) -> tuple[Floats, Floats]:
        """Norm ratio of every unit and the ratio at which its noise would balance (trajectory, unit), at late times."""
        u, w, c, d = (late(a) for a in (self.norm_u, self.norm_w, self.noise_u, self.noise_w))
        return u / w, u / w * c / d


def experiment(quick: bool) -> Evidence:
    """ReLU networks in NumPy on even and uneven data, and linear networks of several shapes on the engine."""
    size, longer = (48, 1) if quick else (96, 3)
    even, uneven = (train(task, longer * steps, size) for task, steps in ((EVEN, 3000), (UNEVEN, 6000)))
    linear = {shape: _linear(shape, 128 if quick else 2048) for shape in SHAPES}
    ratios = {shape: intervals.mean(late(path)) for shape, (path, _) in linear.items()}
    worst = _worst(ratios, 1.0)
    noise = intervals.mean(late(uneven.noise_ratio))
    agreement = [np.corrcoef(np.log(pair))[0, 1] for pair in zip(*uneven.by_unit, strict=True)]
    uneven_norms, early = (
        intervals.mean(late(uneven.norm_ratio)),
        uneven.noise_ratio[np.abs(uneven.time - EARLY).argmin()],
    )
    return Evidence(
        numbers=[
            _as_one("noise out over noise in, uneven data", noise),
            _as_one("noise out over noise in, even data", intervals.mean(late(even.noise_ratio))),
            _as_one("‖u‖²/‖w‖², even data", intervals.mean(late(even.norm_ratio))),
            Number(
                "correlation over units of log ‖u‖²/‖w‖² and its prediction",
                intervals.mean(agreement),
                (0.9, 1.0),
                moved=True,
            ),
            Number(
                "linear: ‖W₂‖²/‖W₁‖² over dy/dx, worst shape",
                worst,
                LINEAR_REGION,
                power(lambda factor: Number("", worst / factor, LINEAR_REGION), "dy/dx"),
            ),
            *(Number(f"linear {dx} → 8 → {dy}: ‖W₂‖²/‖W₁‖²", ratio) for (dx, dy), ratio in ratios.items()),
        ],
        controls=[
            Number("if norms balanced: ‖u‖²/‖w‖², uneven data", uneven_norms, AS_ONE),
            Number("the same: ‖W₂‖²/‖W₁‖², linear 12 → 8 → 3", ratios[12, 3], AS_ONE),
            Number(f"noise out over noise in, uneven data, at t = {EARLY:g}", intervals.mean(early), AS_ONE),
        ],
        rivals=[
            Rival("norms of linear layers balance", [_exponent(ratios, 0.0)]),
            Rival("linear layers end at √(dy/dx)", [_exponent(ratios, 0.5)]),
            Rival("linear layers end at (dy/dx)^(1.1)", [_exponent(ratios, 1.1)]),
            Rival(
                "noise per squared norm balances, Tr C_u/‖u‖² = Tr C_w/‖w‖²",
                [
                    Number(
                        "their ratio, uneven data", intervals.mean(late(uneven.noise_ratio / uneven.norm_ratio)), AS_ONE
                    )
                ],
            ),
        ],
        runs=[record for _, record in linear.values()],
        curves={"even": even, "uneven": uneven, "linear": ratios},
    )


def _as_one(name: str, ratio: Interval) -> Number:
    """A ratio predicted to be 1, with the errors that it catches."""
    catches = power(lambda factor: Number(name, ratio / factor, AS_ONE), "ratio")
    return Number(name, ratio, AS_ONE, catches, moved=True)


def _worst(ratios: dict[tuple[int, int], Interval], exponent: float) -> Interval:
    """``‖W₂‖²/‖W₁‖²`` over ``(dy/dx)^exponent``, farthest from 1 of all shapes."""
    return largest([ratio / (dy / dx) ** exponent for (dx, dy), ratio in ratios.items()], 1.0)


def _exponent(ratios: dict[tuple[int, int], Interval], exponent: float) -> Number:
    return Number("‖W₂‖²/‖W₁‖² over that, worst shape", _worst(ratios, exponent), LINEAR_REGION)


def late(values: NDArray[Any]) -> Floats:
    """Mean over the last quarter of the saves."""
    return np.asarray(values[-len(values) // 4 :].mean(axis=0), np.float64)


def train(task: Task, steps: int, trajectories: int) -> Training:
    """Networks 20 → 200 → 20 with ReLU, trained side by side by SGD on fresh batches."""
    rng = np.random.default_rng(0)
    u, w = initial(task, WIDTH, trajectories, rng)
    saved, every = [spread(u, w, task, rng)], steps // SAVES
    for step in range(1, steps + 1):
        move(u, w, task, rng)
        if step % every == 0:
            saved.append(spread(u, w, task, rng))
    return Training(np.linspace(0, LR * steps, len(saved)), *(np.array(values) for values in zip(*saved, strict=True)))


def initial(task: Task, width: int, networks: int, rng: np.random.Generator) -> tuple[Singles, Singles]:
    """Initial weights out of (network, 20, unit) and into (network, unit, 20) the units."""
    shapes = (networks, SIZE, width), (networks, width, SIZE)
    u, w = (
        np.float32(scale) * rng.standard_normal(shape, np.float32)
        for scale, shape in zip(task.start, shapes, strict=True)
    )
    return u, w


def move(u: Singles, w: Singles, task: Task, rng: np.random.Generator) -> None:
    """One step of SGD on a fresh batch of every network, in place."""
    x, hidden, error, back = passes(u, w, *task.draw((len(u), BATCH), rng))
    u -= np.float32(LR / BATCH) * error.swapaxes(1, 2) @ hidden
    w -= np.float32(LR / BATCH) * back.swapaxes(1, 2) @ x


def passes(u: Singles, w: Singles, x: Singles, y: Singles) -> tuple[Singles, Singles, Singles, Singles]:
    """Inputs, hidden units, errors of the output and errors at the units: (…, sample, size)."""
    before, hidden, output = forward(RELU, u, w, x)
    error = output - y
    return x, hidden, error, backward(RELU, u, error, before)


def spread(u: Singles, w: Singles, task: Task, rng: np.random.Generator) -> tuple[Singles, ...]:
    """``‖u‖²``, ``‖w‖²``, ``Tr Cov[g_u]``, ``Tr Cov[g_w]`` of every unit, on fresh samples (trajectory, unit).

    The samples come in panels of 32, so that no linear algebra library splits the products over threads.
    """
    x, hidden, error, back = passes(u[:, None], w[:, None], *task.draw((len(u), SAMPLES // 32, 32), rng))
    noises = []
    for unit, other in ((hidden, error), (back, x)):
        square = (unit**2 * (other**2).sum(axis=-1, keepdims=True)).mean(axis=(1, 2))
        mean = (unit.swapaxes(-1, -2) @ other).mean(axis=1) / np.float32(32)
        noises.append(square - (mean**2).sum(axis=-1))
    return (u**2).sum(axis=1), (w**2).sum(axis=2), *noises


def _linear(shape: tuple[int, int], trajectories: int) -> tuple[Floats, Run]:
    """``‖W₂‖²/‖W₁‖²`` (time, trajectory) of linear networks dx → 8 → dy from equal norms, and the run."""
    dx, dy = shape
    data = GaussianData.from_spectrum([1.0, 0.5], dx, dy, label_noise=2.0)
    problem = Problem(DeepLinear((dx, 8, dy)), data, Balanced(scale=1.0))
    folding = 1 / (LINEAR.temperature * data.label_noise**2 * 2 * dx * dy / (dx + dy))
    steps = round(8 * folding / LINEAR.lr / 40) * 40
    dataset = run(problem, LINEAR, Plan(steps=steps, trajectories=trajectories, saves=40, keep="weights"))
    first, second = ((alive(dataset)[name] ** 2).sum(axis=(2, 3)).transpose("time", ...) for name in ("W1", "W2"))
    record = Run.of(f"SGD, linear {dx} → 8 → {dy}", dataset)
    return second.values / first.values, record


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Both ratios over time, every unit against its prediction, linear networks of all shapes."""
    even, uneven, ratios = (evidence.curves[name] for name in ("even", "uneven", "linear"))
    course, unit, shape = axes
    for training, colour, label in ((even, plots.COLOURS[0], "even"), (uneven, plots.COLOURS[1], "uneven")):
        for values, style, what in ((training.noise_ratio, "-", "noise"), (training.norm_ratio, "--", "norms")):
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95), axis=1)
            course.fill_between(training.time, low, high, color=colour, alpha=0.15, lw=0)
            course.plot(training.time, middle, style, color=colour, label=f"{what}, {label} data")
    course.axhline(1, color=plots.GREY, lw=0.8, ls=":")
    course.set(title="ReLU, 20 → 200 → 20", xlabel="time", ylabel="out of the units over into them", yscale="log")
    course.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    course.minorticks_off()
    course.legend()
    found, predicted = (values[:8].ravel() for values in uneven.by_unit)
    ends = np.array([0.05, 50.0])
    unit.plot(ends, ends, color=plots.INK, lw=1)
    unit.axhline(1, color=plots.GREY, lw=0.8, ls=":")
    unit.plot(predicted, found, ".", color=plots.COLOURS[1], ms=2.5, alpha=0.5, mew=0)
    unit.set(title="Every unit, uneven data", xscale="log", yscale="log", xlim=ends, ylim=ends)
    unit.set(xlabel="predicted ŵᵀC₂ŵ / ûᵀC₁û", ylabel="‖u‖²/‖w‖²")
    sizes = np.array([0.08, 5.0])
    shape.plot(sizes, sizes, color=plots.INK, lw=1, label="dy/dx")
    shape.axhline(1, color=plots.GREY, lw=0.8, ls=":", label="start, equal norms")
    for (dx, dy), ratio in ratios.items():
        plots.interval(shape, dy / dx, ratio, color=plots.COLOURS[2])
        shape.annotate(f"{dx} → 8 → {dy}", (dy / dx, ratio.value), (7, -10), textcoords="offset points", fontsize=7.5)
    shape.set(title="Linear networks", xscale="log", yscale="log", xlim=(0.08, 9), ylim=(0.08, 6))
    shape.set(xlabel="dy/dx", ylabel="‖W₂‖²/‖W₁‖²")
    shape.legend(loc="upper left")


CLAIM = Claim(
    name="noise-balance",
    title="SGD equalises the gradient noise of two layers, not their norms",
    statement=(
        "Under SGD the two layers of a network come to have equal gradient noise, uᵀC₁u = wᵀC₂w, not equal norms: "
        "‖u‖²/‖w‖² converges to ŵᵀC₂ŵ / ûᵀC₁û. In a ReLU network 20 → 200 → 20 that is near 1 if inputs and label "
        "noise are the same in all directions, and far from 1 if not, even from a start with equal norms. Linear "
        "layers with white inputs and equal label noise end at ‖W₂‖²/‖W₁‖² = dy/dx."
    ),
    source=(
        "Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, noise balance and its two-layer ReLU network; the final ratio "
        "dy/dx of linear layers and the case of uneven data are this project's"
    ),
    method=(
        "ReLU networks 20 → 200 → 20 trained by SGD on fresh batches of 8, learning rate 0.02, labels half the inputs "
        "plus noise; u, w are the weights out of and into a unit. Even data: white inputs, noise 2 in each output, "
        "‖u‖² much below ‖w‖² at the start. Uneven data with the same totals: variances of the inputs ∝ 1/k, noise in "
        "4 of the 20 outputs, equal norms at the start. Noise: Tr Cov of per-sample gradients on 256 fresh samples, "
        "mean over the last quarter of training. Linear networks dx → 8 → dy of four shapes on the engine, with two "
        "modes 1 and 0.5, noise 2, from balanced weights (equal norms), for 8 predicted relaxation times. The regions "
        "of the ReLU networks and the early time of the control were set after a first run."
    ),
    control=(
        "That the ratio is within 10 % of 1 must be rejected for the norms, on uneven data and in the linear network "
        "12 → 8 → 3, and for the noise at an early time, before it has balanced. Rivals: norms that balance, other "
        "powers of dy/dx, and balanced noise per squared norm."
    ),
    caption=(
        "Ratio of noise and of norms, out of the units over into them, median and 5–95 % of the networks; norm ratio "
        "of every unit of eight networks against its prediction from C₁ and C₂ at the end; norm ratio of linear "
        "networks against dy/dx, intervals at 1 − 10⁻⁶."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "It is often assumed that SGD makes two layers equally large, but it equalises their gradient noise: which "
        "layer ends up larger depends on the numbers of inputs and outputs, the spectrum of the inputs and where the "
        "label noise is. This matters when norms of layers are compared or weight decay is set layer by layer; it is "
        "shown for two-layer ReLU and linear networks under discrete SGD on noisy labels."
    ),
    equations=(
        (
            r"u^{\top}C_1u=w^{\top}C_2w,\quad\frac{\lVert u\rVert^2}{\lVert w\rVert^2}\to\frac{\hat w^{\top}C_2\hat "
            r"w}{\hat u^{\top}C_1\hat u}"
        ),
        (
            r"C_1=\langle A^{\top}A\rangle-\langle A\rangle^{\top}\langle A\rangle,\quad C_2=\langle "
            r"AA^{\top}\rangle-\langle A\rangle\langle A\rangle^{\top},\quad A=\frac{\partial\ell}{\partial(wu^{\top})}"
        ),
        r"\frac{\lVert W_2\rVert^2}{\lVert W_1\rVert^2}\to\frac{d_y}{d_x}",
    ),
    proved=(
        "In the Langevin model Ziyin, Li & Ueda prove d/dt(‖u‖² − ‖w‖²) = −T(uᵀC₁u − wᵀC₂w), so the noise is balanced "
        "wherever the difference of norms has stopped changing. The ratio dy/dx is derived by this project for two "
        "linear layers that have learned the teacher, with white inputs and equal label noise in all outputs."
    ),
    unknown=(
        "That training reaches balance is not proved for ReLU networks, where C₁ and C₂ change with the weights; it is "
        "measured to within 10 %, on two data sets. Deeper networks, other losses and labels without noise are not "
        "tested."
    ),
    related=("norm-bounds", "balance-decay", "exact-balance", "label-noise"),
)
