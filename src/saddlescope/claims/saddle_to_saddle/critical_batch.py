"""Every mode has a critical batch size, below which SGD learns it late; weak modes need the largest batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Region, Rival, Run
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import aligned, around, largest, learning_times, network, power, run
from saddlescope.init import Gaussian
from saddlescope.methods import GD, SGD
from saddlescope.plan import Plan
from saddlescope.theory import critical_batch_size, growth_rate, half_times

TARGETS, START, LR, SLOW_DOWN = (2.0, 1.5, 1.0, 0.5), 1e-10, 0.05, 0.02
NOISES = (1.0, 0.0)
"""Label noise σ."""

Theory = Callable[[float], Floats]
"""Critical batch sizes of all modes (m,) at a label noise."""


@dataclass(frozen=True)
class Sample:
    """Learning times of one mode under SGD at one batch size, and its time under GD at the same learning rate."""

    mode: int
    label_noise: float
    batch: int
    times: Floats
    undisturbed: float

    @property
    def critical(self) -> Interval:
        """Measured critical batch size: the growth that SGD loses, ``1 − t_GD/t``, is proportional to 1/B."""
        mean = intervals.mean(self.times)
        value, low, high = (
            self.batch * (1 - self.undisturbed / time) * (1 + SLOW_DOWN) / SLOW_DOWN
            for time in (mean.value, mean.low, mean.high)
        )
        return Interval(value, low, high, mean.miss)


def experiment(quick: bool) -> Evidence:
    """Learning times of every mode at its critical batch size, with label noise and without."""
    size = 16_384 if quick else 262_144
    samples, runs = _measured(size)
    start, start_runs = _from_gaussian_weights(size)

    def judged(theory: Theory) -> list[Number]:
        return [_number(samples, theory, noise, quick) for noise in NOISES]

    def at(factor: float) -> Number:
        return judged(scaled(factor))[0]

    strongest, *_, weakest = (sample.critical for sample in samples if sample.label_noise == NOISES[0])
    expected = predicted(NOISES[0])
    with_noise, without = judged(predicted)
    ratio = intervals.ratio(weakest, strongest)
    bare = next(sample.critical for sample in reversed(samples) if sample.label_noise == 0)
    return Evidence(
        numbers=[
            replace(with_noise, catches=power(at, "T")),
            without,
            Number("weakest / strongest mode, σ = 1", ratio / (expected[-1] / expected[0]), _region(quick), moved=True),
            Number("weakest mode from Gaussian weights, σ = 1", start, around(1, 0.2 if quick else 0.1), moved=True),
        ],
        controls=[
            Number("weakest / strongest mode, σ = 1, as if one batch size served all", ratio, around(1, 0.2)),
            Number("weakest mode, without label noise / with it", bare / expected[-1], around(1, 0.2)),
        ],
        runs=[*runs, *start_runs],
        curves={"samples": samples},
        rivals=[Rival(name, judged(theory)) for name, theory in _wrong(quick).items()],
    )


def predicted(label_noise: float) -> Floats:
    """Critical batch sizes at this label noise (m,).

    >>> predicted(1.0).round(1)
    array([ 5. ,  8.7, 11.7, 16.8])
    """
    return critical_batch_size(TARGETS, LR, label_noise, SLOW_DOWN, START)


def scaled(factor: float) -> Theory:
    """The theory at another temperature, to which critical batch sizes are proportional."""
    return lambda noise: factor * predicted(noise)


def _wrong(quick: bool) -> dict[str, Theory]:
    """The nearest wrong theories."""
    factors = (0.7, 1.4) if quick else (0.9, 1.1)
    return {
        **{f"T × {factor}": scaled(factor) for factor in factors},
        "stronger modes stay on their plateaus": on_first_plateau,
        "a mode's own noise only": alone,
        "without label noise": lambda noise: predicted(0.0),
        **({} if quick else {"first order in η": first_order}),
    }


def on_first_plateau(label_noise: float) -> Floats:
    """Critical batch sizes from the growth rate on the first plateau (m,).

    >>> on_first_plateau(1.0).round(1)
    array([ 6. , 11.1, 16.5, 27.8])
    """
    free, own, others = growth_rate(TARGETS, LR, label_noise, LR)
    return np.asarray((1 + SLOW_DOWN) / SLOW_DOWN * (own + others) / free)


def alone(label_noise: float) -> Floats:
    """Critical batch sizes of modes without the noise of stronger ones (m,)."""
    return np.array([critical_batch_size([s], LR, label_noise, SLOW_DOWN, START)[0] for s in TARGETS])


def first_order(label_noise: float) -> Floats:
    """Critical batch sizes to first order in η (m,), from learning times at a large batch."""
    batch = 1e6
    noisy, free = (half_times(TARGETS, START, T, label_noise, LR) for T in (LR / batch, 0.0))
    return np.asarray((1 + SLOW_DOWN) / SLOW_DOWN * batch * (1 - free / noisy))


def _region(quick: bool) -> Region:
    return around(1, 0.2 if quick else 0.08)


def _number(samples: Sequence[Sample], theory: Theory, label_noise: float, quick: bool) -> Number:
    """Measured over predicted critical batch size, worst mode."""
    found = [each.critical / theory(label_noise)[each.mode] for each in samples if each.label_noise == label_noise]
    name = f"critical batch size, measured / predicted, σ = {label_noise:g}"
    return Number(name, largest(found, 1.0), _region(quick), moved=True)


def _measured(size: int) -> tuple[list[Sample], list[Run]]:
    """Every mode at its critical batch size, from aligned weights."""
    samples, runs = [], []
    for noise in NOISES:
        for mode, batch in enumerate(np.rint(predicted(noise)).astype(int).tolist()):
            undisturbed = descent_time(TARGETS[mode])
            plan = Plan(steps=round(1.6 * undisturbed / LR) + 100, trajectories=size, saves=1, seed=mode)
            dataset = run(network(2, 4, TARGETS, aligned(2, START), noise), SGD(lr=LR, batch_size=batch), plan)
            samples.append(Sample(mode, noise, batch, learning_times(dataset)[:, mode], undisturbed))
            runs.append(Run.of(f"SGD, B = {batch}, σ = {noise:g}, until s* = {TARGETS[mode]:g} is learned", dataset))
    return samples, runs


def _from_gaussian_weights(size: int) -> tuple[Interval, list[Run]]:
    """Delay of the weakest mode at its critical batch size over ε, from the same weights as GD in each trajectory."""
    batch, times, runs = round(float(predicted(NOISES[0])[-1])), [], []
    for name, method in (("GD", GD(lr=LR)), (f"SGD, B = {batch}", SGD(lr=LR, batch_size=batch))):
        plan = Plan(steps=round(3 * descent_time(TARGETS[-1]) / LR), trajectories=max(size // 4, 16_384), saves=1)
        dataset = run(network(2, 8, TARGETS, Gaussian(scale=START**0.5), NOISES[0]), method, plan)
        times.append(learning_times(dataset)[:, -1])
        runs.append(Run.of(f"{name}, σ = {NOISES[0]:g}, Gaussian weights", dataset))
    delay = intervals.mean((times[1] - times[0]) / times[0].mean())
    return delay * (batch / (float(predicted(NOISES[0])[-1]) * SLOW_DOWN)), runs


def descent_time(target: float) -> float:
    """Time at which GD brings a mode from START to half of its target, as a mean learning time counts it.

    Learning times are whole steps, half a step late on average when they are spread out; GD's is interpolated.

    >>> descent_time(2.0)
    6.2...
    """
    strength, step = START, 0
    while True:
        after = strength * (1 + LR * (target - strength)) ** 2
        if after >= target / 2:
            part = np.log(target / 2 / strength) / np.log(after / strength)
            return float(LR * (step + part + 0.5))
        strength, step = after, step + 1


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Critical batch size against the target, and the delay of every mode against the batch size."""
    samples: list[Sample] = evidence.curves["samples"]
    sizes, delays = axes
    for noise, colour in zip(NOISES, plots.COLOURS, strict=False):
        sizes.plot(TARGETS, predicted(noise), "_", color=plots.INK, ms=16, label=None)
        for mode, sample in enumerate(each for each in samples if each.label_noise == noise):
            plots.interval(
                sizes, TARGETS[mode], sample.critical, color=colour, label=None if mode else f"SGD, σ = {noise:g}"
            )
    sizes.plot(TARGETS, on_first_plateau(NOISES[0]), ":", color=plots.INK, lw=1.0, label="first plateau only, σ = 1")
    sizes.set(title=f"Batch size that delays by {SLOW_DOWN:.0%}", xlabel="target s*", ylabel="B", ylim=(0, None))
    sizes.legend(title="marks: theory", loc="upper right", alignment="left")
    batches = np.geomspace(3, 60, 100)
    for colour, target, critical in zip(plots.COLOURS, TARGETS, predicted(NOISES[0]), strict=False):
        lost = SLOW_DOWN / (1 + SLOW_DOWN) * critical / batches
        delays.loglog(batches, 100 * lost / (1 - lost), color=colour, label=f"s* = {target:g}")
    learned_late = [each for each in samples if each.label_noise == NOISES[0]]
    for colour, sample in zip(plots.COLOURS, learned_late, strict=False):
        delay = 100 * (intervals.mean(sample.times) / sample.undisturbed - 1.0)
        plots.interval(delays, sample.batch, delay, color=colour)
    delays.axhline(100 * SLOW_DOWN, color=plots.INK, lw=0.9, ls="--")
    delays.set(title="Delay relative to GD, σ = 1", xlabel="batch size B", ylabel="delay of learning, %")
    for axis, ticks in ((delays.xaxis, (3, 5, 10, 20, 50)), (delays.yaxis, (0.2, 0.5, 1, 2, 5, 10))):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_ticks([], minor=True)
    delays.legend(loc="upper right")


CLAIM = Claim(
    name="critical-batch",
    title="Under label noise weak modes need the largest batches",
    statement=(
        "Below a critical batch size B_α SGD learns mode α later than GD at the same learning rate η by more than a "
        "fraction ε. At L = 2 with white inputs and small starts, as η → 0, B_α = (1 + ε) η [2s*_α² + σ² + Σ (σ² + "
        "(3/2)s*_α² + ½s*_αs*_β)]/(2εs*_α), summed over stronger modes β. Under label noise it grows like 1/s*_α "
        "towards weak modes: at σ = 1 and η = 0.05 the weakest of four modes needs 3.4 times the batch of the "
        "strongest. It is less than the growth rate on the first plateau suggests, because a stronger mode costs less "
        "once it is learned."
    ),
    source="this project's, on the equations of Corlouer et al. 2026, arXiv 2604.06366",
    method=(
        "Network 4 → 4 → 4, modes 2, 1.5, 1, 0.5 from aligned weights at s₀ = 10⁻¹⁰, η = 0.05, ε = 0.02. Each mode is "
        "run at its predicted critical batch size, rounded; the critical batch size is measured as B (1 − t_GD/t)(1 + "
        "ε)/ε from the mean time t to ½s*, as the growth that SGD loses is proportional to 1/B. t_GD is exact, "
        "interpolated between steps. The prediction is theory.critical_batch_size, with all orders in η while stronger "
        "modes are on their plateaus (5 to 17 % less than to first order). From Gaussian weights of standard deviation "
        "10⁻⁵ (width 8) SGD and GD start from the same weights in each trajectory."
    ),
    control=(
        "One batch size must not serve the weakest and the strongest mode alike, and the weakest mode must not need "
        "the same batch size without label noise."
    ),
    caption=(
        "Batch size at which learning is 2 % late, SGD against theory (marks) and against the growth rate of the first "
        "plateau alone (dotted); delay of every mode at its critical batch size, with the predicted delay at others."
    ),
    why=(
        "With noisy labels a batch that is large enough for the strong features is too small for the weak ones: the "
        "batch size they need grows like one over their strength. For each feature the formula gives the batch size "
        "above which a larger batch saves less than a fraction ε of the training time."
    ),
    equations=(
        r"B_\alpha = \frac{(1 + \varepsilon)\, \eta}{2 \varepsilon s_\alpha^*} \Big[2 s_\alpha^{*2} + \sigma^2 + "
        r"\sum_{s_\beta^* > s_\alpha^*} \left(\sigma^2 + \tfrac32 s_\alpha^{*2} + \tfrac12 s_\alpha^* "
        r"s_\beta^*\right)\Big]",
    ),
    proved=(
        "The formula is derived in this project from the growth of a mode on each plateau before it is learned, to "
        "first order in η, for two layers, white inputs and small starts. It has no proved bound, and the source does "
        "not state it."
    ),
    unknown=(
        "Without label noise a weak mode can need a smaller batch than a stronger one. Tested at η = 0.05 and ε = 0.02 "
        "with four modes, where higher orders in η change it by 5 to 17 %. Deeper networks, coloured inputs and "
        "momentum are not tested, nor is its relation to critical batch sizes measured in nonlinear networks."
    ),
    related=("plateaus", "finite-data", "coloured-inputs"),
    experiment=experiment,
    draw=draw,
    panels=2,
)
