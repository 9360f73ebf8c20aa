"""Minibatch noise drives u² − w² to 0 at the predicted rate; gradient flow conserves it, isotropic noise spreads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval, exact
from saddlescope.claims.law_of_balance.exact_balance import ROUNDING, digits
from saddlescope.claims.tools import alive, around, largest, power, run
from saddlescope.data import GaussianData
from saddlescope.init import Given
from saddlescope.methods import SGD, GradientFlow, Langevin, Method
from saddlescope.networks import DeepLinear
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.theory import ModeSDE

TARGET, LABEL_NOISE = 1.0, 2.0
UNBALANCED, BALANCED, UNLEARNED = (1.5, 1 / 1.5), (1.0, 1.0), (1.5, 0.1)
SETTINGS = (SGD(lr=0.01, batch_size=1), SGD(lr=0.02, batch_size=4), SGD(lr=0.1, batch_size=32))
DECAYED = SGD(lr=0.01, batch_size=1, weight_decay=0.02)
HOT = Langevin(lr=0.04, batch_size=1.0, dt=2e-3)
ISOTROPIC = Langevin(lr=0.01, batch_size=1.0, noise="isotropic", dt=5e-3)
SPREADING = 4.0
RATE, LATE = around(1.0, 0.03), around(1.0, 0.03)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Paths of u and w: time (t,), ``q = u² − w²`` and ``v = uw`` (trajectory, t)."""

    method: Method
    time: Floats
    q: Floats
    v: Floats
    record: Run

    def exponent(self, heat: float = 1.0, stepping: float = 1.0, decaying: float = 1.0) -> Floats:
        """``∫ (T g(v) + η(v − s*)² + 2γ) dt``, ensemble mean (t,), each term times one of the factors.

        The second term is present for discrete steps only.
        """
        T, decay = getattr(self.method, "temperature", 0.0), self.method.weight_decay
        steps = self.method.lr if isinstance(self.method, SGD) else 0.0
        rate = heat * T * noise(self.v) + stepping * steps * (self.v - TARGET) ** 2 + 2 * decaying * decay
        return _integral(rate.mean(axis=0), self.time)

    def decay(self, heat: float = 1.0, stepping: float = 1.0, decaying: float = 1.0) -> Interval:
        """Increase of ``−log`` of the mean of q, over the exponent."""
        left = intervals.mean(self.q[:, -1] / self.q[0, 0])
        gained = Interval(*(-np.log(max(end, 1e-300)) for end in (left.value, left.high, left.low)))
        return gained / self.exponent(heat, stepping, decaying)[-1]

    def late_rate(self) -> Interval:
        """Mean rate at which ``log q`` falls over the last two thirds of the run."""
        first = len(self.time) // 3
        span = self.time[-1] - self.time[first]
        return intervals.mean(np.log(self.q[:, first] / self.q[:, -1]) / span)


def experiment(quick: bool) -> Evidence:
    """One pair of scalar weights under SGD, Langevin noise, gradient flow and isotropic noise."""
    size, crowd = (1024, 32_768) if quick else (8192, 65_536)
    sgd = [_ensemble(method, UNBALANCED, 3 * _folding(method), size) for method in (*SETTINGS, DECAYED)]
    hot = _ensemble(HOT, UNBALANCED, 5 * _folding(HOT), size)
    flow = _ensemble(GradientFlow(lr=0.01), UNLEARNED, sgd[0].time[-1], 1)
    isotropic, spreading = (_ensemble(ISOTROPIC, start, SPREADING, crowd) for start in (UNBALANCED, BALANCED))
    late = hot.late_rate()
    return Evidence(
        numbers=[
            replace(_worst(sgd), catches=power(lambda factor: _worst(sgd, heat=factor), "T")),
            *(Number(f"the same, {_words(each.method)}", each.decay(), RATE) for each in sgd),
            Number(
                "late rate over 2(s* − E[s]) of the stationary distribution, Langevin, T = 0.04",
                late / _stationary_rate(1.0),
                LATE,
                power(lambda factor: Number("", late / _stationary_rate(factor), LATE), "T"),
                moved=True,
            ),
            Number(
                "digits to which gradient flow conserves u² − w²",
                exact(digits(flow.q[0] - flow.q[0, 0], flow.q[0])),
                ROUNDING,
            ),
            Number(
                "isotropic noise from u² = w²: E[(u² − w²)²] over its prediction", _growth(spreading), around(1.0, 0.1)
            ),
        ],
        controls=[
            Number("rate of decay over the predicted one, isotropic noise", isotropic.decay(), RATE),
            Number(
                "late rate over T σ², the noise of a loss at its minimum, T = 0.04",
                late / (HOT.temperature * LABEL_NOISE**2),
                LATE,
            ),
        ],
        rivals=_wrong(sgd, late, spreading),
        runs=[each.record for each in (*sgd, hot, flow, isotropic, spreading)],
        curves={"sgd": sgd, "hot": hot, "flow": flow, "spreading": spreading},
    )


def _worst(sgd: Sequence[Ensemble], **factors: float) -> Number:
    """The rate of decay farthest from its prediction, with the terms of the prediction times these factors."""
    found = largest((each.decay(**factors) for each in sgd), 1.0)
    return Number("rate of decay over the predicted one, SGD, worst case", found, RATE)


def _wrong(sgd: Sequence[Ensemble], late: Interval, spreading: Ensemble) -> list[Rival]:
    """The rival theories."""
    return [
        Rival("T × 0.95", [_worst(sgd, heat=0.95)]),
        Rival("T × 1.05", [_worst(sgd, heat=1.05)]),
        Rival("no term of discrete steps", [_worst(sgd, stepping=0.0)]),
        Rival("twice the term of discrete steps", [_worst(sgd, stepping=2.0)]),
        Rival("weight decay adds γ, not 2γ", [_worst(sgd, decaying=0.5)]),
        Rival("the stationary rate at T × 0.95", [Number("late rate over that", late / _stationary_rate(0.95), LATE)]),
        Rival(
            "isotropic noise conserves u² = w²",
            [Number("E[(u² − w²)²] over its prediction", _growth(spreading), around(0.0, 0.1))],
        ),
    ]


def _stationary_rate(heat: float) -> float:
    """``2(s* − E[s])`` at this many times the temperature of ``HOT``."""
    T = heat * HOT.temperature
    law = ModeSDE(depth=2, target=TARGET, label_noise=LABEL_NOISE, temperature=T).stationary()
    return 2 * (TARGET - float(law.mean()))


def noise(v: Floats) -> Floats:
    """``g(v) = Var[∂ℓ/∂(uw)] = 2(v − s*)² + σ²`` of one sample."""
    return np.asarray(2 * (v - TARGET) ** 2 + LABEL_NOISE**2)


def _folding(method: SGD | Langevin) -> float:
    """Time in which q is predicted to fall by a factor of e or slightly more."""
    return 1 / (method.temperature * LABEL_NOISE**2 + 2 * method.weight_decay)


def _ensemble(method: Method, start: tuple[float, float], horizon: float, trajectories: int) -> Ensemble:
    """An ensemble from these u and w until about this time."""
    u, w = start
    data = GaussianData(np.array([[TARGET]]), label_noise=LABEL_NOISE)
    problem = Problem(DeepLinear((1, 1, 1)), data, Given((np.array([[w]]), np.array([[u]]))))
    steps = round(horizon / float(method.time(1)) / 50) * 50
    dataset = run(problem, method, Plan(steps=steps, trajectories=trajectories, saves=50, keep="weights"))
    record, lively = Run.of(f"{_words(method)}, from u = {u:.3g}, w = {w:.3g}", dataset), alive(dataset)
    w_path, u_path = (lively[name].transpose("trajectory", "time", ...).values[:, :, 0, 0] for name in ("W1", "W2"))
    return Ensemble(method, dataset["time"].values, u_path**2 - w_path**2, u_path * w_path, record)


def _growth(spreading: Ensemble) -> Interval:
    """``E[q²]`` over ``∫ 2T E[g(v)(q² + 4v²)] dt``, from their difference along each path."""
    q, v = spreading.q, spreading.v
    T = ISOTROPIC.temperature
    predicted = _integral(2 * T * noise(v) * (q**2 + 4 * v**2), spreading.time)[:, -1]
    return intervals.mean(1 + (q[:, -1] ** 2 - predicted) / predicted.mean())


def _integral(values: Floats, time: Floats) -> Floats:
    """Time integral from the first save to each (trapezoidal rule)."""
    pieces = 0.5 * (values[..., 1:] + values[..., :-1]) * np.diff(time)
    return np.concatenate([np.zeros_like(values[..., :1]), np.cumsum(pieces, axis=-1)], axis=-1)


def _words(method: Method) -> str:
    if isinstance(method, SGD):
        decay = f", γ = {method.weight_decay:g}" if method.weight_decay else ""
        return f"SGD, η = {method.lr:g}, B = {method.batch_size}{decay}"
    if isinstance(method, Langevin):
        return f"Langevin, {method.noise} noise, T = {method.temperature:g}"
    return "gradient flow"


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Decay against the prediction, rate against T, growth under isotropic noise."""
    sgd, hot, flow, spreading = (evidence.curves[name] for name in ("sgd", "hot", "flow", "spreading"))
    decay, rate, growth = axes
    for each, colour in zip(sgd, plots.COLOURS, strict=False):
        decay.plot(each.time, np.exp(-each.exponent()), color=colour, lw=1.2)
        decay.plot(
            each.time[::4], (each.q.mean(axis=0) / each.q[0, 0])[::4], "o", color=colour, label=_words(each.method)
        )
    decay.plot(flow.time[::4], (flow.q[0] / flow.q[0, 0])[::4], "s", color=plots.GREY, ms=3.5, label="gradient flow")
    decay.set(
        title="u² − w², from 1.8", xlabel="time", ylabel="ensemble mean over start", yscale="log", ylim=(0.03, 30)
    )
    decay.legend(loc="upper right", fontsize=7)
    temperatures = np.linspace(1e-4, 0.05, 40)
    modes = [ModeSDE(depth=2, target=TARGET, label_noise=LABEL_NOISE, temperature=float(T)) for T in temperatures]
    laws = [2 * (TARGET - float(mode.stationary().mean())) for mode in modes]
    rate.plot(temperatures, laws, color=plots.INK, lw=1.2, label="2(s* − E[s])")
    rate.plot(temperatures, temperatures * LABEL_NOISE**2, color=plots.GREY, lw=1, ls=":", label="T σ²")
    for each, colour in zip((*sgd[:3], hot), (*plots.COLOURS[:3], plots.COLOURS[4]), strict=True):
        plots.interval(rate, each.method.temperature, each.late_rate(), color=colour)
    rate.set(title="Rate of decay", xlabel="T", ylabel="per unit time", xlim=(0, 0.05), ylim=(0, None))
    rate.legend(loc="upper left")
    t, T = spreading.time, ISOTROPIC.temperature
    growth.plot(t, 4 * TARGET**2 * np.expm1(2 * T * LABEL_NOISE**2 * t), color=plots.COLOURS[3], lw=1.2)
    growth.plot(t[::4], (spreading.q**2).mean(axis=0)[::4], "o", color=plots.COLOURS[3], label="isotropic noise")
    growth.axhline(0, color=plots.COLOURS[0], lw=1.6, label="minibatch noise: 0")
    growth.set(title="(u² − w²)², from 0", xlabel="time", ylabel="ensemble mean")
    growth.legend(loc="upper left")


CLAIM = Claim(
    name="balance-decay",
    title="Minibatch noise balances: u² − w² decays exponentially",
    statement=(
        "For ℓ(uw), u² − w² decays under SGD as exp(−∫ T Var[∂ℓ/∂(uw)] dt); weight decay adds 2γ to the rate. Gradient "
        "flow conserves it, and isotropic noise makes (u² − w²)² grow. Two refinements: a discrete step adds "
        "η⟨∂ℓ/∂(uw)⟩² to the rate, and once the product is stationary the mean rate is 2(s* − E[s])."
    ),
    source=(
        "Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, law of balance; the term of discrete steps and the stationary "
        "rate 2(s* − E[s]) are this project's"
    ),
    method=(
        "A network 1 → 1 → 1 from u = 1.5, w = 1/1.5 (product at s* = 1, σ = 2), on the engine: SGD at three learning "
        "rates and batch sizes and with weight decay until q = u² − w² is predicted to have fallen by e³, Langevin "
        "noise at T = 0.04 until e⁵; gradient flow from w = 0.1, where the product is far from s*. Measured: −log of "
        "the mean of q (late rates: the mean of −log q over the last two thirds). Predicted: the integral of T g(v) + "
        "η(v − s*)² + 2γ along the ensemble, g(v) = 2(v − s*)² + σ². Isotropic noise: T = 0.01 until t = 4, where "
        "E[q²] must equal ∫ 2T E[g(v)(q² + 4v²)] dt. All runs have 50 saves."
    ),
    control=(
        "Isotropic noise of the same strength conserves the mean of u² − w², so the rate of decay must be refuted "
        "there. The late rate must differ from T σ², the noise at the minimum without the fluctuations of uw. Rivals, "
        "on the same trajectories: T × 0.95 and 1.05, the term of discrete steps omitted or doubled (it is a tenth of "
        "the rate at η = 0.1), half the weight decay."
    ),
    caption=(
        "Mean of u² − w² (dots) and the prediction (lines); late rate of decay, in the stationary state, against "
        "temperature (dots: the SGD runs and Langevin, intervals at 1 − 10⁻⁶) and the closed form from the stationary "
        "distribution; mean square of u² − w² from a balanced start under isotropic noise, line 4s*²(e^(2Tσ²t) − 1)."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Under gradient flow an imbalance between two layers lasts for ever, while minibatch noise removes it at the "
        "rate T Var[∂ℓ/∂(uw)], so learning rate over batch size decides how long an unbalanced initialisation is felt. "
        "Weight decay γ adds 2γ to this rate, and with noisy labels the decay continues after the loss has converged; "
        "here both are measured for a product of two scalar weights, under discrete SGD and Langevin noise."
    ),
    equations=(
        (
            r"\mathbb{E}[u^2-w^2]\approx(u_0^2-w_0^2)\,\exp\left(-\int\mathbb{E}\left[T "
            r"g(v)+\eta(v-s^{*})^2+2\gamma\right]dt\right)"
        ),
        r"v=uw,\quad g(v)=2(v-s^{*})^2+\sigma^2",
        r"-\frac{d}{dt}\,\mathbb{E}\,\log\left| u^2-w^2\right|=2\left(s^{*}-\mathbb{E}[s]\right)",
        (
            r"\frac{d}{dt}\,\mathbb{E}[q^2]=2T\,\mathbb{E}\left[g(v)\left(q^2+4v^2\right)\right],\quad "
            r"q=u^2-w^2\quad(\text{isotropic noise})"
        ),
    ),
    proved=(
        "Ziyin, Li & Ueda prove the law of balance in the Langevin model, for any loss with the rescaling symmetry. "
        "The term of discrete steps follows from the exact identity of a step, the late rate from the moment identity "
        "of the stationary distribution at L = 2 without weight decay (both this project's). The predicted mean of u² "
        "− w² neglects how the rate varies between trajectories."
    ),
    unknown=(
        "Only scalar weights at s* = 1, σ = 2 are tested. For whole layers the law is a matrix equation whose rates "
        "differ between directions; they are not measured here."
    ),
    related=("exact-balance", "noise-balance", "heavy-ball", "isotropic-noise"),
)
