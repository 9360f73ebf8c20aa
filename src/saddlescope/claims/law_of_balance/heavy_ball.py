"""Momentum keeps an exact identity for the balance of layers, and acts for small η like SGD at η/(1 − μ)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from scipy.integrate import cumulative_trapezoid

from saddlescope import plots
from saddlescope._arrays import Floats
from saddlescope.claims import _networks as networks
from saddlescope.claims import intervals
from saddlescope.claims.claim import Claim, Evidence, Number, Rival, Run
from saddlescope.claims.intervals import Interval, exact
from saddlescope.claims.law_of_balance._chains import chain, dots, end
from saddlescope.claims.law_of_balance.balance_decay import LABEL_NOISE, RATE, TARGET, UNBALANCED, noise
from saddlescope.claims.law_of_balance.exact_balance import BATCH, ROUNDING, batch, digits, start
from saddlescope.claims.tools import alive, around, largest, network, power, run, same_law
from saddlescope.data import Dataset, GaussianData
from saddlescope.init import Gaussian, Given
from saddlescope.methods import GD, SGD
from saddlescope.networks import DeepLinear, Diagonal
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.schedules import Warmup
from saddlescope.theory import ModeSDE, heavy_ball

MU, LR, DECAY = 0.9, 0.01, 0.1
SETTINGS = (
    SGD(0.01, 1),
    SGD(0.005, 1, momentum=0.5),
    SGD(0.005, 2, momentum=0.5),
    SGD(0.001, 1, momentum=0.9),
    SGD(0.001, 1, momentum=0.9, weight_decay=0.02),
)
"""All at η/(1 − μ) = 0.01, where theory of first order in η puts the rate with momentum 0.5 to 1 % below SGD."""

LARGE = SGD(0.01, 64, momentum=0.9)
"""At η/(1 − μ) = 0.1, where it is 9 % below; B is large because that theory is for small T too."""

WITHOUT = SGD(0.005, 1)
"""The second setting without its momentum."""

REST = 3.0
"""Time on the clock η/(1 − μ) to the stationary distribution: the distance to it falls as e^{−4t}."""

LAGGING = around(1.0, 0.03)

Theory = Callable[[float], tuple[float, float]]
"""From μ: the temperature over η/B, and the clock over η · step."""


def accelerated(momentum: float) -> tuple[float, float]:
    """The claim: T/(1 − μ) on the clock η/(1 − μ).

    >>> accelerated(0.5)
    (2.0, 2.0)
    """
    return 1 / (1 - momentum), 1 / (1 - momentum)


def hotter(factor: float) -> Theory:
    """The claim at ``factor`` times its temperature."""
    return lambda momentum: (factor * accelerated(momentum)[0], accelerated(momentum)[1])


RIVALS: dict[str, Theory] = {
    "T on the clock η, no acceleration": lambda mu: (1.0, 1.0),
    "T on the clock η/(1 − μ)": lambda mu: (1.0, 1 / (1 - mu)),
    "T/(1 − μ) on the clock η": lambda mu: (1 / (1 - mu), 1.0),
    "T/(1 − μ²) on the clock η/(1 − μ)": lambda mu: (1 / (1 - mu**2), 1 / (1 - mu)),
    "T/(1 − μ)² on the clock η/(1 − μ)": lambda mu: (1 / (1 - mu) ** 2, 1 / (1 - mu)),
    "T/(1 − μ)² on the clock η": lambda mu: (1 / (1 - mu) ** 2, 1.0),
    "T/(1 − μ) × 0.95": hotter(0.95),
    "T/(1 − μ) × 1.05": hotter(1.05),
}
"""Wrong theories of what momentum does."""

SLOW = "T/(1 − μ²) on the clock η/(1 − μ)"
"""The rival that the figure shows."""

MISTAKES: dict[str, dict[str, Any]] = {
    "no momentum": {"momentum": 0.0},
    "μ − 0.01": {"momentum": MU - 0.01},
    "μ + 0.01": {"momentum": MU + 0.01},
    "no weight decay": {"weight_decay": 0.0},
    "no schedule": {"schedule": None},
}
"""Wrong identities: that of another method."""


@dataclass(frozen=True, eq=False)
class Path:
    """Layers at every step, each (time, trajectory, …, n_l, n_{l−1}), and the method that moved them."""

    layers: Sequence[Floats]
    method: SGD | GD

    @property
    def digits(self) -> float:
        """Decimal digits to which the changes of Q and C satisfy the identity, worst pair of layers."""
        velocity = [np.diff(layer, axis=0, prepend=layer[:1]) for layer in self.layers]
        pairs = zip(self.layers[:-1], self.layers[1:], velocity[:-1], velocity[1:], strict=True)
        return min(self._pair(heavy_ball.balance(*pair)) for pair in pairs)

    def _pair(self, at: heavy_ball.Balance) -> float:
        """The digits of one pair, from its Q, C and D at every time."""
        method = self.method
        q, c = np.empty_like(at.weights[1:]), np.empty_like(at.mixed[1:])
        for step, lr in enumerate(method.lr_at(np.arange(len(q)))):
            before = heavy_ball.Balance(*(each[step] for each in at))
            q[step], c[step] = heavy_ball.step(
                before, at.velocity[step + 1], method.momentum, float(lr), method.weight_decay
            )
        both = ((at.weights, q), (at.mixed, c))
        return min(digits(found[1:] - stepped, stepped - found[:-1]) for found, stepped in both)


@dataclass(frozen=True, eq=False)
class Decay:
    """Paths of a pair u, w: time η · step (t,), ``q = u² − w²`` and ``v = uw`` (trajectory, t)."""

    method: SGD
    time: Floats
    q: Floats
    v: Floats
    record: Run

    def exponent(self, theory: Theory = accelerated, lagging: bool = False) -> Floats:
        """``∫ (T g(v) + η(v − s*)² + 2γ) dt`` of SGD with the theory's T and clock, ensemble mean (t,).

        ``lagging`` divides the first two terms by ``1 + μ/(1 + μ) · (u² + w²) η/(1 − μ)``, the effect of momentum at
        first order in η: the velocity remembers gradients of which v has already moved away.
        """
        method, (heat, clock) = self.method, theory(self.method.momentum)
        spread = heat * method.temperature * noise(self.v) + clock * method.lr * (self.v - TARGET) ** 2
        if lagging:
            curvature = np.sqrt(self.q**2 + 4 * self.v**2)  # u² + w²
            spread = spread / (1 + method.momentum / (1 + method.momentum) * curvature * method.lr * method.pace)
        rate = (spread + 2 * method.weight_decay).mean(axis=0)
        return np.asarray(cumulative_trapezoid(rate, clock * self.time, initial=0))

    def rate(self, theory: Theory = accelerated, lagging: bool = False) -> Interval:
        """Increase of ``−log`` of the mean of q, over the exponent."""
        left = intervals.mean(self.q[:, -1] / self.q[0, 0])
        gained = Interval(*(-np.log(max(value, 1e-300)) for value in (left.value, left.high, left.low)))
        return gained / float(self.exponent(theory, lagging)[-1])


Ends = Sequence[tuple[SGD, Floats]]
"""Methods with stationary products v of u = w."""


def experiment(quick: bool) -> Evidence:
    """The identity on networks of the engine and on two-layer networks in NumPy; decay and stationary distribution."""
    paths, runs = _paths(300 if quick else 1000)
    broken = {"tanh layers": descend(networks.tanh, 300), "Nesterov's momentum": descend(networks.linear, 300, True)}
    size, crowd = (1024, 32_768) if quick else (8192, 262_144)
    *decays, without, large = [_decay(method, size) for method in (*SETTINGS, WITHOUT, LARGE)]
    ends, end_runs = zip(*[_end(method, crowd) for method in (SETTINGS[0], SETTINGS[1], SETTINGS[3])], strict=True)
    return Evidence(
        numbers=[
            replace(_worst_digits(paths), catches=power(lambda factor: _worst_digits(paths, factor), "μ")),
            *(Number(f"the same, {name}", exact(path.digits), ROUNDING) for name, path in paths.items()),
            replace(_worst_rate(decays), catches=power(lambda factor: _worst_rate(decays, hotter(factor)), "T")),
            *(Number(f"the same, {_words(each.method)}", each.rate(), RATE) for each in decays),
            replace(
                _worst_law(ends, quick), catches=power(lambda factor: _worst_law(ends, quick, hotter(factor)), "T")
            ),
            Number(
                "rate of decay over that of SGD with the lag of momentum, η/(1 − μ) = 0.1",
                large.rate(lagging=True),
                LAGGING,
                moved=True,
            ),
        ],
        controls=[
            *(Number(f"digits of the identity, {name}", exact(path.digits), ROUNDING) for name, path in broken.items()),
            Number(
                "rate of decay without momentum over that of SGD at η/(1 − μ), μ = 0.5",
                replace(without, method=SETTINGS[1]).rate(),
                RATE,
            ),
            Number(
                "rate of decay over that of SGD at η/(1 − μ) = 0.1, too large for the corollary", large.rate(), RATE
            ),
        ],
        rivals=[*_mistaken(paths), *_wrong(decays, ends, quick)],
        runs=[*runs, *(each.record for each in (*decays, without, large)), *end_runs],
        curves={"paths": paths, "broken": broken, "decays": decays, "ends": ends},
    )


def _worst_digits(paths: dict[str, Path], factor: float = 1.0) -> Number:
    """The fewest digits of all paths, as if μ were this many times as large."""
    judged = (replace(p, method=replace(p.method, momentum=factor * p.method.momentum)) for p in paths.values())
    found = min(path.digits for path in judged)
    return Number("digits to which every step satisfies the identity, worst case", exact(found), ROUNDING)


def _worst_rate(decays: Sequence[Decay], theory: Theory = accelerated) -> Number:
    """The rate of decay farthest from its prediction."""
    found = largest((each.rate(theory) for each in decays), 1.0)
    return Number("rate of decay of u² − w² over that of SGD at η/(1 − μ), worst case", found, RATE)


def _worst_law(ends: Ends, quick: bool, theory: Theory = accelerated) -> Number:
    """The largest distance to the stationary distribution at the theory's temperature."""
    found = largest(intervals.distance_to_law(v, law(method, theory).cdf) for method, v in ends)
    return Number(
        "Kolmogorov distance of uw to the stationary distribution at T/(1 − μ), worst case", found, same_law(quick)
    )


def _mistaken(paths: dict[str, Path]) -> list[Rival]:
    """Wrong identities, each on the path that comes nearest to it."""
    rivals = []
    for theory, change in MISTAKES.items():
        judged = [replace(path, method=replace(path.method, **change)) for path in paths.values()]
        changed = [new for new, path in zip(judged, paths.values(), strict=True) if new.method != path.method]
        most = exact(max(path.digits for path in changed))
        name = "digits to which every step satisfies it, best case"
        rivals.append(Rival(f"identity: {theory}", [Number(name, most, ROUNDING)]))
    return rivals


def _wrong(decays: Sequence[Decay], ends: Ends, quick: bool) -> list[Rival]:
    """Wrong theories of the rate of decay and of the stationary distribution."""
    return [
        Rival(name, [_worst_rate(decays, theory), _worst_law(ends, quick, theory)]) for name, theory in RIVALS.items()
    ]


def law(method: SGD, theory: Theory = accelerated) -> Any:
    """Stationary distribution of the product at the theory's temperature.

    >>> round(float(law(SGD(0.005, 1, momentum=0.5)).cdf(1.0)), 3), round(float(law(SGD(0.01, 1)).cdf(1.0)), 3)
    (0.567, 0.567)
    """
    temperature = theory(method.momentum)[0] * method.temperature
    return ModeSDE(depth=2, target=TARGET, label_noise=LABEL_NOISE, temperature=temperature).stationary()


def _cases() -> dict[str, tuple[Problem, SGD | GD]]:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((50, 4))
    samples = Problem(DeepLinear((4, 6, 3)), Dataset(x, x[:, :3] + 0.5 * rng.standard_normal((50, 3))), Gaussian(0.5))
    white = network(3, 6, (1.0, 0.5, 0.25), Gaussian(0.5), 0.5)
    covariance = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.5]])
    data = GaussianData(np.array([[1.0, 0.5, 0.0], [0.0, 0.5, -1.0]]), covariance, 0.5)
    coloured = Problem(DeepLinear((3, 5, 2)), data, Gaussian(0.5))
    chains = Problem(Diagonal(3, 4), GaussianData(np.array([[1.0]]), label_noise=0.5), Gaussian(0.7))
    return {
        "white inputs": (white, SGD(LR, BATCH, momentum=MU)),
        "white inputs, GD": (white, GD(LR, momentum=MU, weight_decay=DECAY)),
        "coloured inputs": (coloured, SGD(LR, BATCH, momentum=MU, weight_decay=DECAY)),
        "diagonal network": (chains, SGD(LR, BATCH, momentum=MU, weight_decay=DECAY)),
        "diagonal network, warm-up": (
            chains,
            SGD(LR, BATCH, momentum=MU, weight_decay=DECAY, schedule=Warmup(100)),
        ),
        "50 samples": (samples, SGD(LR, BATCH, momentum=MU)),
        "50 samples, shuffled": (samples, SGD(LR, BATCH, "shuffle", momentum=MU, weight_decay=DECAY)),
        "50 samples, full batches": (samples, SGD(LR, sampling="full", momentum=MU, weight_decay=DECAY)),
    }


def _paths(steps: int) -> tuple[dict[str, Path], list[Run]]:
    """Networks of the engine with the weights of every step, and other symmetric ones in NumPy."""
    paths, runs = {}, []
    for name, (problem, method) in _cases().items():
        dataset = run(problem, method, Plan(steps, trajectories=4, saves=steps, keep="weights"))
        paths[name] = Path(_layers(dataset, isinstance(problem.network, Diagonal)), method)
        runs.append(Run.of(f"identity: {name}", dataset))
    others = {"ReLU, in NumPy": networks.relu, "attention, in NumPy": networks.attention()}
    return paths | {name: descend(pair, steps) for name, pair in others.items()}, runs


def _layers(dataset: xr.Dataset, diagonal: bool) -> list[Floats]:
    """Layers (time, trajectory, n_l, n_{l−1}), of a diagonal network (time, trajectory, chain, 1, 1)."""
    names = [f"W{layer}" for layer in dataset["layer"].values]
    layers = [np.asarray(dataset[name].transpose("time", "trajectory", ...)) for name in names]
    return [layer[..., None] for layer in layers] if diagonal else layers


def descend(pair: networks.Pair, steps: int, nesterov: bool = False) -> Path:
    """The heavy ball with weight decay on fresh batches; Nesterov's takes the gradient at ``θ + μp``.

    u and w are flat: layers (time, 1, 1, n) and (time, 1, m, 1), with ``Q = ‖u‖² − ‖w‖²``.
    """
    rng, ahead = np.random.default_rng(0), MU if nesterov else 0.0
    u, w = start(pair, rng)
    p_u, p_w = np.zeros_like(u), np.zeros_like(w)
    found = [(w.ravel(), u.ravel())]
    for _ in range(steps):
        at_u, at_w = u + ahead * p_u, w + ahead * p_w
        g_u, g_w = (g.mean(axis=0) for g in pair(at_u, at_w, *batch(pair, BATCH, rng)))
        p_u, p_w = MU * p_u - LR * (g_u + DECAY * at_u), MU * p_w - LR * (g_w + DECAY * at_w)
        u, w = u + p_u, w + p_w
        found.append((w.ravel(), u.ravel()))
    lower, upper = (np.array(layer) for layer in zip(*found, strict=True))
    return Path([lower[:, None, None, :], upper[:, None, :, None]], SGD(LR, BATCH, momentum=MU, weight_decay=DECAY))


def _decay(method: SGD, trajectories: int) -> Decay:
    """A pair from u = 1.5, w = 1/1.5, until q is predicted to have fallen by e³ or slightly more."""
    u, w = UNBALANCED
    data = GaussianData(np.array([[TARGET]]), label_noise=LABEL_NOISE)
    problem = Problem(DeepLinear((1, 1, 1)), data, Given((np.array([[w]]), np.array([[u]]))))
    horizon = 3 / (method.pace * method.temperature * LABEL_NOISE**2 + 2 * method.weight_decay)
    steps = round(horizon / (method.lr * method.pace) / 50) * 50
    dataset = run(problem, method, Plan(steps, trajectories=trajectories, saves=50, keep="weights"))
    record, lively = Run.of(f"decay: {_words(method)}", dataset), alive(dataset)
    w_path, u_path = (lively[name].transpose("trajectory", "time", ...).values[:, :, 0, 0] for name in ("W1", "W2"))
    return Decay(method, dataset["time"].values, u_path**2 - w_path**2, u_path * w_path, record)


def _end(method: SGD, trajectories: int) -> tuple[tuple[SGD, Floats], Run]:
    """Products v of an ensemble with u = w, started at s*, at a time when they are stationary."""
    v, dataset = end(chain(2, TARGET, LABEL_NOISE), method, REST / method.pace, trajectories)
    return (method, v), Run.of(f"stationary: {_words(method)}", dataset)


def _words(method: SGD) -> str:
    decay = f", γ = {method.weight_decay:g}" if method.weight_decay else ""
    return f"μ = {method.momentum:g}, η = {method.lr:g}, B = {method.batch_size}{decay}"


def draw(axes: Sequence[Axes], evidence: Evidence) -> None:
    """Digits of the identity, decay on the clock η/(1 − μ), and the stationary density."""
    paths, broken, decays, ends = (evidence.curves[name] for name in ("paths", "broken", "decays", "ends"))
    share, decay, density = axes
    for place, (name, path) in enumerate((paths | broken).items()):
        share.plot(path.digits, place, "o", color=plots.COLOURS[3] if name in broken else plots.COLOURS[0])
    share.axvspan(ROUNDING[0], 17, color=plots.COLOURS[2], alpha=0.12, lw=0)
    share.set(title="How exact it is", xlabel="correct digits of a step", xlim=(-3, 17))
    share.set_yticks(range(len(paths | broken)), list(paths | broken))
    share.invert_yaxis()
    shown = [each for each in decays if each.method.batch_size == 1 and not each.method.weight_decay]
    marks = ("o", "s", "^")
    for place, (each, colour) in enumerate(zip(shown, plots.COLOURS, strict=False)):
        time, mean = each.method.pace * each.time, each.q.mean(axis=0) / each.q[0, 0]
        decay.plot(time, np.exp(-each.exponent()), color=colour, lw=1.2)
        decay.plot(
            time[place::6], mean[place::6], marks[place], color=colour, ms=4, label=f"μ = {each.method.momentum:g}"
        )
    slow = shown[-1]
    decay.plot(
        slow.method.pace * slow.time,
        np.exp(-slow.exponent(RIVALS[SLOW])),
        color=plots.GREY,
        lw=1,
        ls=":",
        label="T/(1 − μ²), μ = 0.9",
    )
    decay.set(title="u² − w², from 1.8", xlabel="η step / (1 − μ)", ylabel="ensemble mean over start", yscale="log")
    decay.legend(loc="lower left")
    v = np.linspace(0.4, 1.6, 400)
    for place, ((_, sample), colour) in enumerate(zip(ends, plots.COLOURS, strict=False)):
        dots(density, sample, np.linspace(0.4, 1.6, 25) + place / 60, fmt=marks[place], color=colour)
    density.plot(v, law(ends[-1][0]).pdf(v), color=plots.INK, lw=1.2, label="T/(1 − μ)")
    density.plot(v, law(ends[-1][0], RIVALS[SLOW]).pdf(v), color=plots.GREY, lw=1, ls=":", label="T/(1 − μ²), μ = 0.9")
    density.set(title="Stationary distribution of uw", xlabel="uw", ylabel="density", xlim=(0.4, 1.6), ylim=(0, None))
    density.legend(loc="upper right", fontsize=7)


CLAIM = Claim(
    name="heavy-ball",
    title="SGD with momentum keeps an exact balance identity and acts like SGD at learning rate η/(1 − μ)",
    statement=(
        "Under p ← μp − ηg, W ← W + p, neighbouring layers obey at every step, on every batch, C′ = μC − ηγQ + D′ and "
        "Q′ = Q + A + Aᵀ + D′ with A = μC − ηγQ, Q = W₂ᵀW₂ − W₁W₁ᵀ, C = W₂ᵀp₂ − p₁W₁ᵀ, D = p₂ᵀp₂ − p₁p₁ᵀ. As a "
        "corollary, for small η, SGD with momentum acts like SGD without it at the same batch size and learning rate "
        "η/(1 − μ), that is at temperature T/(1 − μ)."
    ),
    source=(
        "This project, from the rescaling symmetry of Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671, and the heavy ball "
        "of Polyak 1964, USSR Comput. Math. Math. Phys. 4(5)"
    ),
    method=(
        "Identity: deep linear networks on white and coloured Gaussian inputs and on 50 samples, and a diagonal "
        "network, on the engine with the weights of every step, p being their differences; ReLU layers and an "
        "attention head in NumPy; μ = 0.9, η = 0.01, B = 4, with and without weight decay 0.1, one with a warm-up. "
        "Digits: −log₁₀ of the root mean square error of Q′ and C′ over the predicted changes. Corollary: a network 1 "
        "→ 1 → 1 from u = 1.5, w = 1/1.5 (product at s* = 1, σ = 2), at η/(1 − μ) = 0.01 with μ = 0, 0.5 and 0.9, "
        "until q = u² − w² is predicted to have fallen by e³: −log of the mean of q, over the integral of T g(v) + η(v "
        "− s*)² + 2γ with T and η those of SGD at η/(1 − μ), g(v) = 2(v − s*)² + σ². At first order in η, momentum "
        "divides the first two terms by 1 + μ/(1 + μ) (u² + w²) η/(1 − μ): 0.5 to 1 % of the rate here. It is 9 % at "
        "η/(1 − μ) = 0.1, where this factor is tested, at B = 64: a first look at B = 16 showed a further 2 % of order "
        "T. "
        "Stationary distribution: ensembles of u = w from s* until η step/(1 − μ) = 3, against the exact one at "
        "T/(1 − μ)."
    ),
    control=(
        "The identity must fail for tanh layers, which lack the symmetry, and under Nesterov's momentum, which takes "
        "the gradient at another point. SGD without momentum must not decay at the rate of η/(1 − μ), and at η/(1 − μ) "
        "= 0.1 momentum must differ from SGD. Rivals: the identity without momentum, with μ ± 0.01, without weight "
        "decay, without the schedule; other powers of 1 − μ for temperature and clock, and T/(1 − μ) × 0.95 and 1.05."
    ),
    caption=(
        "Correct digits of the identity, with the rounding region shaded (last two: controls); mean of u² − w² (dots) "
        "and the prediction (lines) on the clock of SGD at η/(1 − μ); density of uw (dots: μ as in the middle panel) "
        "and the exact stationary density at T/(1 − μ). Dotted: T/(1 − μ²), a rival."
    ),
    experiment=experiment,
    draw=draw,
    why=(
        "Most training by SGD uses momentum, while theories of gradient noise often leave it out; the conversion is "
        "that learning rate η with momentum μ acts like plain SGD with learning rate η/(1 − μ), hence at temperature "
        "T/(1 − μ). Raising μ from 0.9 to 0.99 at the same η and batch size therefore raises learning rate and noise "
        "tenfold, as long as steps remain small: for the pair of weights tested here the rate of balancing is at most "
        "1 % below this prediction at η/(1 − μ) = 0.01 and 9 % below it at 0.1."
    ),
    equations=(
        r"p'=\mu p-\eta g,\quad W'=W+p'",
        r"Q=W_2^{\top}W_2-W_1W_1^{\top},\quad C=W_2^{\top}p_2-p_1W_1^{\top},\quad D=p_2^{\top}p_2-p_1p_1^{\top}",
        r"C'=A+D',\quad Q'=Q+A+A^{\top}+D',\quad A=\mu C-\eta\gamma Q",
        r"\eta\to\frac{\eta}{1-\mu},\quad T\to\frac{T}{1-\mu}",
    ),
    proved=(
        "The identity is derived by this project: in C the gradients of neighbouring layers cancel by the rescaling "
        "symmetry. It holds for linear layers as a matrix, for ReLU layers and attention as a difference of norms, for "
        "any loss, batch, learning rate and weight decay. The corollary is derived to leading order in η at fixed μ, "
        "with its first correction for one pair of weights."
    ),
    unknown=(
        "Adam and Nesterov's momentum are not covered by the identity. How small η must be was measured for one pair "
        "of scalar weights; a further deviation of order T, 2 % at B = 16, was seen and is not derived."
    ),
    related=("exact-balance", "balance-decay", "stationary-density"),
)
