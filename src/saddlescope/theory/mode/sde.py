"""One mode of a deep linear network under SGD noise: a scalar Itô SDE.

Aligned, balanced weights keep one number a per layer for each mode, s = a^L end to end. With the moments of the data
along the mode, β₁ = E[x²], β₂ = E[xy], α₁ = Var[x²], α₂ = Cov[x²,xy], α₃ = Var[xy], with
g(s) = α₁s² − 2α₂s + α₃ and κ = 1 − 1/L,

    da = a^{L−1}(β₂ − β₁s) dt + a^{L−1} √(T g) dW                                         (weight)
    ds = [L s^{2κ}(β₂ − β₁s) + ½L(L−1) T s^{3−4/L} g] dt + L s^{2κ} √(T g) dW             (product)

Weight decay γ puts β₂ − γs^{2/L−1} for β₂: a pull −γa in each layer, β₁ + γ at depth 1, β₂ − γ at depth 2.
Everything else follows from ``diffusion1d``, in log a for L ≥ 2, where positivity cannot be lost.
Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; Ziyin, Li & Ueda 2023, arXiv 2308.06671, for any moments.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.optimize import brentq
from scipy.special import betainc

from saddlescope._numbers import as_choice, as_number, as_numbers, shown
from saddlescope._parts import Count, Real, frozen
from saddlescope.data import Dataset, GaussianData
from saddlescope.data.base import LARGEST, noise_vertex
from saddlescope.kernel.mode_paths import integrate, walk
from saddlescope.methods import METHODS, SGD, Langevin, Method
from saddlescope.problem import Problem
from saddlescope.theory._checks import steady
from saddlescope.theory.mode.flow import flow_time, mode_flow, plateau_time
from saddlescope.theory.sde._piecewise import Function
from saddlescope.theory.sde.boundaries import Boundaries, classified
from saddlescope.theory.sde.density import Density, inverse_gaussian
from saddlescope.theory.sde.diffusion1d import Diffusion1D
from saddlescope.theory.sde.in_time import LawInTime
from saddlescope.theory.sde.laws import Atoms, Known, Law, Mixture
from saddlescope.theory.sde.start import Mapped, Start, check_law

Floats = NDArray[np.float64]
Where = Literal["product", "weight"]


@frozen
@steady
class ModeSDE:
    """The SDE of one mode at depth L, from Gaussian white data (``target`` s*, ``label_noise`` σ) or from ``moments``.

    White Gaussian inputs have β₁ = 1, β₂ = s*, α₁ = 2, α₂ = 2s*, α₃ = 2s*² + σ², so g = 2(s − s*)² + σ². ``moments`` is
    (α₁, α₂, α₃, β₁, β₂). ``temperature`` T = lr / batch_size, ``weight_decay`` γ of a loss + (γ/2)‖θ‖². Strengths are
    positive for L ≥ 2, any number for L = 1.
    Raises ValueError when neither or both of target and moments are given, or moments that no data have.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> mode = ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.3)
    >>> mode.g(1.0)
    array(0.75)
    >>> mode.stationary().mean()
    1.1991...
    """

    depth: Annotated[Count, Field(ge=1, lt=2**53)] = Field(description="the number of layers, such as 2")
    target: Real | None = Field(default=None, description="the strength s* of the teacher's mode, such as 1.5")
    label_noise: Annotated[Real, Field(ge=0)] = Field(default=0.0, description="use 0 for noiseless labels")
    temperature: Annotated[Real, Field(ge=0)] = Field(kw_only=True, description="T = lr / batch_size, such as 0.01")
    moments: tuple[Real, Real, Real, Real, Real] | None = Field(
        default=None, description="five numbers α₁, α₂, α₃, β₁, β₂"
    )
    weight_decay: Annotated[Real, Field(ge=0)] = Field(
        default=0.0, kw_only=True, description="use 0 for no weight decay"
    )

    def __post_init__(self) -> None:
        if (self.target is None) == (self.moments is None):
            raise ValueError(
                f"ModeSDE needs exactly one of target and moments, got target={self.target} and moments={self.moments}"
            )
        if self.moments is None:
            return
        if self.label_noise:
            raise ValueError(f"label_noise is part of α₃ when moments are given, got {self.label_noise}; leave it out")
        a1, a2, a3, b1, _ = self.moments
        if a1 < 0 or a3 < 0 or a2 * a2 > a1 * a3 * (1 + 1e-12) or b1 <= 0:
            raise ValueError(
                "moments must be those of data: α₁ = Var[x²] ≥ 0, α₃ = Var[xy] ≥ 0, α₂² ≤ α₁α₃ and β₁ = E[x²] > 0, "
                f"got {self.moments}"
            )

    @cached_property
    def _moments(self) -> tuple[float, float, float, float, float]:
        if self.moments is not None:
            return self.moments
        s = float(self.target)  # type: ignore[arg-type]
        return 2.0, 2 * s, 2 * s * s + self.label_noise**2, 1.0, s

    @property
    def alpha1(self) -> float:
        """α₁ = Var[x²]."""
        return self._moments[0]

    @property
    def alpha2(self) -> float:
        """α₂ = Cov[x², xy]."""
        return self._moments[1]

    @property
    def alpha3(self) -> float:
        """α₃ = Var[xy]."""
        return self._moments[2]

    @property
    def beta1(self) -> float:
        """β₁ = E[x²]."""
        return self._moments[3]

    @property
    def beta2(self) -> float:
        """β₂ = E[xy]."""
        return self._moments[4]

    @cached_property
    def vertex(self) -> tuple[float, float]:
        """Where g is least, and its value there: ``g(s) = α₁(s − center)² + floor``, free of cancellation."""
        if self.moments is None:
            return self.beta2, self.label_noise**2
        return noise_vertex(self.moments)

    @property
    def pull(self) -> tuple[float, float]:
        """β₁ and β₂ with weight decay γ in them, β₁ + γ at depth 1 and β₂ − γ at depth 2; deeper it stands apart."""
        gamma = self.weight_decay
        return self.beta1 + gamma * (self.depth == 1), self.beta2 - gamma * (self.depth == 2)

    @cached_property
    def fixed_point(self) -> float:
        """Strength where the deterministic part of the drift vanishes: β₂/β₁ (s* for white data), less with decay.

        With weight decay at depth ≥ 3 the larger of two, or 0 where decay leaves no other.
        """
        b1, b2 = self.pull
        return self._held_by_decay[1] if self._deep_decay and b2 > 0 else b2 / b1

    @property
    def _held_by_decay(self) -> tuple[float, float]:
        """At depth ≥ 3 with weight decay and β₂ > 0, the strengths where decay and pull are equal; 0 where none are."""
        (b1, b2), L = self.pull, self.depth
        fastest = (L - 2) / (2 * L - 2) * b2 / b1  # s of the largest d log a / dt

        def speed(s: float) -> float:
            return float(s ** (1 - 2 / L) * (b2 - b1 * s) - self.weight_decay)

        if speed(fastest) <= 0:
            return 0.0, 0.0
        low, high = (brentq(speed, fastest, other, xtol=1e-300) for other in (0.0, b2 / b1))
        return float(low), float(high)

    @property
    def _deep_decay(self) -> bool:
        """Whether weight decay is more than another β₁ or β₂."""
        return self.depth >= 3 and self.weight_decay > 0

    def _refuse_deep_decay(self, what: str) -> None:
        if self._deep_decay:
            raise ValueError(
                f"{what} is not known at depth {self.depth} with weight_decay = {self.weight_decay:g}, where 0 "
                "attracts; use simulate, or weight_decay = 0"
            )

    def g(self, s: ArrayLike) -> Floats:
        """Variance of the per-sample gradient with respect to s: ``g(s) = α₁s² − 2α₂s + α₃``; shape of ``s``.

        Source: Ziyin et al. 2023, arXiv 2308.06671.

        >>> ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1).g([0.0, 1.0])
        array([2.25, 0.25])
        """
        center, floor = self.vertex
        with np.errstate(over="ignore"):
            offset = as_numbers(s, "s") - center
            return np.asarray(self.alpha1 * offset**2 + floor if self.alpha1 else 0.0 * offset + floor)

    def drift(self, x: ArrayLike, coordinate: Where = "product") -> Floats:
        """Itô drift at strength ``x`` (product) or weight ``x``; shape of ``x``, strength or weight per time.

        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
        >>> mode.drift(0.25), mode.drift(0.5, coordinate="weight")
        (array(0.409375), array(0.375))
        """
        with np.errstate(over="ignore", invalid="ignore"):
            a, s = self._both(x, coordinate)
            L, pull = self.depth, self.beta2 - self.beta1 * s
            weight = a ** (L - 1) * pull - self.weight_decay * a
            if coordinate == "weight" or L == 1:
                return np.asarray(weight)
            shift = L * (L - 1) / 2 * self.temperature * a ** (3 * L - 4) * self.g(s)
            return np.asarray(L * a ** (L - 1) * weight + shift)

    def diffusion(self, x: ArrayLike, coordinate: Where = "product") -> Floats:
        """Noise coefficient b of ``b dW`` at strength ``x`` (product) or weight ``x``; shape of ``x``.

        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
        >>> mode.diffusion([0.0, 0.5, 1.0]) ** 2            # T · variance rate
        array([0.   , 0.075, 0.1  ])
        """
        with np.errstate(over="ignore", invalid="ignore"):
            a, s = self._both(x, coordinate)
            L = self.depth
            size = a ** (L - 1) if coordinate == "weight" else L * a ** (2 * L - 2)
            return np.asarray(size * np.sqrt(self.temperature * self.g(s)))

    def _both(self, x: ArrayLike, coordinate: Where) -> tuple[Floats, Floats]:
        """Weight a and product s."""
        _check(coordinate)
        x = as_numbers(x, "x")
        if self.depth >= 2 and (x < 0).any():
            raise ValueError(f"strengths and weights must not be negative at depth {self.depth}, got {x.min():g}")
        return (x, x**self.depth) if coordinate == "weight" else (x ** (1 / self.depth), x)

    def noise_peak(self, coordinate: Where = "product") -> float | None:
        """Strength s at which the noise is largest before the mode is learned; None when there is no such peak.

        The variance rate is ``∝ s^{4κ} g`` (product) or ``∝ a^{2L−2} g ∝ s^{2κ} g`` (weight). For white Gaussian data
        the peak of ``s^{4κ}g`` exists iff ``σ² < s*²/(4κ(2κ+1))``, at ``s* − [s* + √(s*² − 4κ(2κ+1)σ²)]/(2(2κ+1))``.
        Source: Corlouer et al. 2026, arXiv 2604.06366; the weight coordinate is ours.

        >>> ModeSDE(depth=2, target=1.0, temperature=0.1).noise_peak()
        0.5
        >>> ModeSDE(depth=2, target=1.0, label_noise=0.6, temperature=0.1).noise_peak() is None
        True
        """
        _check(coordinate)
        power = (4 if coordinate == "product" else 2) * (1 - 1 / self.depth)
        root = ((power + 1) * self.alpha2) ** 2 - power * (power + 2) * self.alpha1 * self.alpha3
        if self.depth == 1 or self.alpha1 == 0 or self.alpha2 <= 0 or root <= 0:
            return None
        return float(((power + 1) * self.alpha2 - np.sqrt(root)) / ((power + 2) * self.alpha1))

    @property
    def critical_temperature(self) -> float:
        """Temperature above which all mass runs to s = 0: ``T_c = 2(β₂ − γ)/α₃`` at depth 2; infinite at other depths.

        A statement on the Langevin model: it holds for discrete SGD only if ``s* T_c B ≪ 1`` (there
        ``phases.discrete_critical_temperature``), and not above a strength that paths cross upwards (``crossing``).
        Source: Ziyin et al. 2023, arXiv 2308.06671 (their T'_c = β₂/α₃ counts the loss without ½).

        >>> ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.1).critical_temperature
        0.3333333
        """
        if self.depth != 2 or self.alpha3 == 0:
            return np.inf
        return max(2 * self.pull[1] / self.alpha3, 0.0)

    def flow(self, times: ArrayLike, start: ArrayLike) -> Floats:
        """Strength at ``times`` without noise, from ``start``; they broadcast.

        Raises ValueError with weight decay at depth ≥ 3, where it is no closed form.
        Source: Saxe et al. 2013, arXiv 1312.6120.

        >>> ModeSDE(depth=2, target=1.0, temperature=0.0).flow([0.0, 3.0], start=0.01)
        array([0.01      , 0.80295715])
        """
        self._refuse_deep_decay("the curve of gradient flow")
        return mode_flow(times, start, self.fixed_point, self.depth, self.pull[0])

    def plateau(self, start: ArrayLike) -> Floats:
        """Length of the noiseless plateau, to leading order in a small ``start``; shape of ``start``.

        Zero where the start is at or beyond s*. Raises ValueError with weight decay at depth ≥ 3.
        Source: Saxe et al. 2013, arXiv 1312.6120.

        >>> ModeSDE(depth=3, target=2.0, temperature=0.0).plateau(1e-6)
        array(50.)
        """
        self._refuse_deep_decay("the plateau of gradient flow")
        return plateau_time(start, self.fixed_point, self.depth, self.pull[0])

    def stationary(self, start: float | None = None) -> Law:
        """The law of s after infinite time.

        ``p(s) ∝ s^{−3κ} g(s)^{−1} exp(−(2/(TL)) ∫ (β₁s − β₂)/(s^{2κ}g) ds)``; a point mass at s* = β₂/β₁ where noise
        vanishes there (σ = 0, or T = 0) or spreads it by less than 1e-13 of s*, at 0 where nothing holds the mode
        (β₂ ≤ 0, or L = 2 and T ≥ T_c). Where noise vanishes at s*, L = 2 and T > T_c, it is a mixture of both and
        depends on ``start``: 0 with probability ``1 − I_{s₀/s*}(½−θ, 1+θ)``, θ = β₁/(Tα₁s*). Weight decay at
        depth ≤ 2 is in β₁ and β₂ (``pull``); deeper any γ > 0 leaves no law on s > 0: all collapses in the end, if
        exponentially slowly, so it is a point mass at 0 for T > 0. At T = 0 it then is where gradient flow ends
        from ``start``. Raises ValueError when start is needed.

        Interpolation: where the noise vanishes at another strength k > 0 (any k at L = 1), such as s* under weight
        decay, paths cross k one way, as the drift does there: k is an entrance of that side and an exit of the other.
        Pushed down, they live on (0, k) by the law above; pushed up, on (k, ∞) at every T and γ, which 0 cannot take
        back. Only then, from a ``start`` below k with 0 attracting, some end at 0 first: a ``Mixture``.
        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; Ziyin et al. 2023, arXiv 2308.06671.

        >>> law = ModeSDE(depth=3, target=1.5, label_noise=0.3**0.5, temperature=0.3).stationary()
        >>> law.mean(), law.var()
        (1.1614921, 0.3668612)
        >>> ModeSDE(depth=2, target=1.0, temperature=2.0).stationary(start=0.3).probabilities
        array([0.21450048, 0.78549952])
        """
        L, T, end = self.depth, self.temperature, self.fixed_point
        if self._deep_decay and T == 0 and self.beta2 > 0:
            low, high = self._held_by_decay
            if high and start is None:
                raise ValueError(f"start must be given: without noise, what is below s = {low:.4g} decays to 0")
            return _point(high if high and self._positive(start) > low else 0.0)
        if T > 0 and self.crossing is not None and self.crossing[1] > 0:
            return self._above(start)
        if self._deep_decay or (L >= 2 and end <= 0):
            return _point(0.0)
        if T == 0 or self._noiseless_at == end:
            return self._mixture(start) if self.critical_temperature < T else _point(end)
        if self.critical_temperature <= T:
            return _point(0.0)
        width = float(np.sqrt(self._small_noise)) if self.crossing is None and end else np.inf
        return _point(end) if width < 1e-13 * abs(end) else self._spread

    @property
    def _spread(self) -> Density:
        """The law of s that ``log_diffusion`` has."""
        law = self.log_diffusion.stationary()
        return law if self.depth == 1 else law.transformed(*self._from_log)

    @cached_property
    def crossing(self) -> tuple[float, int] | None:
        """Strength k at which the noise vanishes and the drift does not, and where that pushes: up (1) or down (−1).

        Paths cross k this way only. None where there is none; k > 0 at depth ≥ 2.
        Source: Ziyin et al. 2023, arXiv 2308.06671, call it interpolation.

        >>> ModeSDE(depth=2, target=1.0, temperature=0.2, weight_decay=0.1).crossing
        (1.0, -1)
        """
        k, L = self._noiseless_at, self.depth
        if k is None or (L >= 2 and k <= 0):
            return None
        (b1, b2), decay = self.pull, self.weight_decay if L >= 3 else 0.0
        push = b2 - b1 * k - decay * k ** (2 / L - 1) if decay else (0.0 if k == self.fixed_point else b2 - b1 * k)
        return (k, int(np.sign(push))) if push else None

    @property
    def frozen(self) -> bool:
        """Whether there is no noise where the drift vanishes, so that mass ends in points; T = 0 included."""
        k = self._noiseless_at
        return self.temperature == 0 or (self.crossing is None and k is not None and (self.depth == 1 or k > 0))

    def _above(self, start: float | None) -> Law:
        """The law where paths cross k upwards, never to come back, and some may have ended at 0 before."""
        if self.depth == 1 or not self._sinks:
            return self._spread
        k = self.crossing[0]  # type: ignore[index]
        if start is None:
            raise ValueError(
                f"start must be given: what is below s = {k:g}, where noise vanishes, may end at 0 or pass it for ever"
            )
        start = self._positive(start)
        if start >= k:
            return self._spread
        reached = float(self._log_diffusion(-np.inf, 0.0).exit_probability(np.log(start / k) / self.depth))
        return Mixture((_point(0.0), self._spread), (1 - reached, reached))

    def _positive(self, start: float | None) -> float:
        if not as_number(start, "start") > 0:
            raise ValueError(f"start must be positive at depth {self.depth}, got {start:g}")
        return float(start)  # type: ignore[arg-type]

    @property
    def _sinks(self) -> bool:
        """Whether 0 attracts at depth ≥ 2."""
        if self.depth == 2:
            return self.critical_temperature < self.temperature
        return self.beta2 <= 0 or self.weight_decay > 0

    @property
    def _noiseless_at(self) -> float | None:
        """Where g vanishes, if anywhere; exactly β₂/β₁ when it does so there."""
        center, floor = self.vertex
        if floor > 0:
            return None
        return center if self.alpha1 > 0 else self.fixed_point

    def _mixture(self, start: float | None) -> Atoms:
        if start is None:
            raise ValueError("start must be given: without noise at s*, the law above T_c depends on where s started")
        start = self._positive(start)
        theta = self.pull[0] / (self.temperature * self.alpha1 * self.fixed_point)
        stays = 1.0 if theta >= 0.5 else float(betainc(0.5 - theta, 1 + theta, min(start / self.fixed_point, 1.0)))
        return Atoms(np.array([0.0, self.fixed_point]), np.array([1 - stays, stays]))

    def boltzmann(self) -> Law:
        """The Boltzmann law near β₂/β₁: normal with variance ``½L s*^{2κ} T g(s*)/β₁``.

        For white Gaussian data ``∝ exp(−(s−s*)²/(L s*^{2κ} T σ²))`` on the whole line, s < 0 too; good when
        ``T L s*^{2κ} ≪ 1`` and ``½ T L s*^{2κ−2} σ² ≪ 1``. Raises ValueError when β₂ ≤ 0 at depth ≥ 2, or with weight
        decay at depth ≥ 3.
        Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.01).boltzmann().std()
        0.0500000
        """
        from scipy import stats  # heavy: imported where it is used

        self._refuse_deep_decay("the Boltzmann law")
        end = self.fixed_point
        if self.depth >= 2 and end <= 0:
            raise ValueError(
                f"the Boltzmann law needs β₂ > 0, got β₂ = {self.pull[1]:g}; without it the mode decays to 0"
            )
        variance = self._small_noise
        return Known(stats.norm(end, float(np.sqrt(variance)))) if variance > 0 else _point(end)

    @property
    def _small_noise(self) -> float:
        """Variance near β₂/β₁ to first order in T."""
        L, end = self.depth, self.fixed_point
        return L * abs(end) ** (2 - 2 / L) * self.temperature * float(self.g(end)) / (2 * self.pull[0])

    def passage(self, start: ArrayLike, target: float) -> tuple[Floats, Floats]:
        """Mean and variance of the time at which s first reaches ``target``; each of the shape of ``start``.

        ``target = θ s*`` gives learning times. Infinite where it may never happen, or takes infinitely long on average.
        Source: Karlin & Taylor 1981, section 15.3.

        >>> mean, variance = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).passage(1e-3, 0.5)
        >>> float(mean), float(variance) ** 0.5
        (3.6..., 0.6...)
        """
        first, last = as_numbers(start, "start"), as_number(target, "target")
        if np.isinf(first).any() or np.isinf(last):
            raise ValueError(f"start and target must be finite, got {start!r:.80} and {target!r}")
        if self.depth >= 2 and not ((first > 0).all() and last > 0):
            raise ValueError(f"start and target must be positive at depth {self.depth}, got {start!r} and {target!r}")
        if self.temperature == 0 or self.alpha1 == self.alpha3 == 0:
            self._refuse_deep_decay("the passage of gradient flow")
            return flow_time(last, first, self.fixed_point, self.depth, self.pull[0]), np.zeros(first.shape)
        self._check_side(first, last)
        if self._noiseless_at != self.fixed_point:
            _, into, _ = self._from_log if self.depth > 1 else _SAME
            return self.log_diffusion.passage(into(first), float(into(np.array(last))))
        end = self.fixed_point
        beyond = (first < end) != (last < end)  # no path goes through s*
        mean, var = (np.where(beyond | (first == end) | (last == end), np.inf, first) for _ in range(2))
        mean[first == last], var[first == last] = 0.0, 0.0
        rest = np.isfinite(mean) & (first != last)
        if rest.any():
            sde, (_, into, _) = self._side(bool(last > end))
            mean[rest], var[rest] = sde.passage(into(first[rest]), float(into(np.array(last))))
        return mean, var

    def plateau_passage(self, start: float, target: float | None = None) -> Law:
        """The law of the time in which the plateau is passed, from ``start`` to ``target`` (None: s*), at depth 2.

        About inverse Gaussian, with mean ``ℓ/μ``, variance ``4Tα₃ℓ/μ³``, ``μ = 2(β₂−γ) − Tα₃ = 2(β₂−γ)(1 − T/T_c)``,
        ``ℓ = log(target/start)``: far below s*, log s is a Brownian motion with drift.
        Raises ValueError at other depths and for T ≥ T_c. Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

        >>> law = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).plateau_passage(1e-3)
        >>> law.mean(), law.var()
        (3.6597378, 0.4622624)
        """
        start, end = as_number(start, "start"), self.fixed_point if target is None else as_number(target, "target")
        speed, noise = 2 * self.pull[1] - self.temperature * self.alpha3, 4 * self.temperature * self.alpha3
        if self.depth != 2 or speed <= 0 or noise == 0 or not 0 < start < end:
            raise ValueError(
                f"the plateau law needs depth 2, 0 < T < T_c = {self.critical_temperature:g} and 0 < start < target, "
                f"got depth {self.depth}, T = {self.temperature:g}, start {start:g} and target {end:g}"
            )
        if start < 1 / LARGEST or end > LARGEST:
            raise ValueError(f"start and target must be from 1e-150 to 1e150, got {start:g} and {end:g}")
        length = float(np.log(end / start))
        return inverse_gaussian(length / speed, length**2 / noise)

    def simulate(
        self,
        start: ArrayLike,
        times: ArrayLike,
        trajectories: int,
        seed: int = 0,
        tol: float | None = None,
        threads: int | None = None,
        dt: float | None = None,
        dtype: str = "float64",
    ) -> NDArray[np.floating]:
        """Strengths of an ensemble at ``times``, shape (trajectories, times), all from ``start`` (or one start each).

        Integrated by the compiled kernel in log a (in s at depth 1) by a weak scheme of order 2, and of order 5 in the
        pull alone, with steps ``tol`` (default 0.05) in units of the local rate. Its bias in the distribution function
        is at most 0.002·(tol/0.1)², whatever T (measured from T = 1e-6 to 1e-2, L = 1 to 6, starts from 1e-19): below
        1e-3 at the default. The same for any number of threads, and for each member whatever the others are; steps end
        on ``times``, so other times give other paths of the same law.

        With ``dt`` instead of ``tol`` it is Euler–Maruyama with that fixed step in the weight coordinate a, s = a^L,
        of weak order 1, in float64 or, about three times as fast, float32, which loses steps below 1e-7 of a. A path
        may cross 0 (at odd depths s < 0 then). Good while ``T dt s^{2−4/L} g(s) ≪ 1`` wherever s goes; a step too long
        for the tail throws a path to where it stays, near 0, or out of all bounds: NaN.

        Raises ValueError for times that are negative, not increasing or no whole steps of dt, for both tol and dt, and
        for float32 without dt.
        Source: Kloeden & Platen 1992, Numerical Solution of Stochastic Differential Equations, 10.2.4 and 14.2.1.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
        >>> mode.simulate(0.1, [0.0, 5.0], trajectories=2000).mean(axis=0)
        array([0.1..., 0.9...])
        >>> mode.simulate(0.1, [0.0, 5.0], trajectories=2000, dt=0.01, dtype="float32").mean(axis=0)
        array([0.1..., 0.9...], dtype=float32)
        """
        as_choice(dtype, "dtype", "float32", "float64")
        if dt is None:
            if dtype != "float64":
                raise ValueError(
                    f'dtype must be "float64" with steps that follow the rate, got {shown(dtype)}; give dt too'
                )
            return integrate(self, start, times, (), trajectories, seed, 0.05 if tol is None else tol, threads)[0]
        if tol is not None:
            raise ValueError(f"dt and tol exclude each other, got dt={dt} and tol={tol}; leave one out")
        return walk(self, start, times, dt, trajectories, seed, threads, dtype)

    def simulate_passages(
        self,
        start: ArrayLike,
        targets: ArrayLike,
        horizon: float,
        trajectories: int,
        seed: int = 0,
        tol: float = 0.05,
        threads: int | None = None,
    ) -> Floats:
        """First-passage times of an ensemble to ``targets``, (trajectories, targets); infinite beyond ``horizon``.

        As ``simulate``; a path seen only at its steps passes a level late, by 0.5826 standard deviations of a step on
        average, and each level is moved nearer by as much: at the default the bias of mean times is at most 0.02 of
        their standard deviation. Raises ValueError for more than 16 targets, or a horizon that is not finite.
        Source: Gobet & Menozzi 2010, Stochastic Processes and their Applications 120(2).

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
        >>> times = mode.simulate_passages(1e-3, [0.5], horizon=50.0, trajectories=4000)
        >>> abs(times.mean() - mode.passage(1e-3, 0.5)[0]) < 0.1
        np.True_
        """
        if not 0 <= as_number(horizon, "horizon") < np.inf:
            raise ValueError(f"horizon must be a finite time, got {horizon}; use a few mean times of passage")
        return integrate(self, start, [horizon], targets, trajectories, seed, tol, threads)[1]

    def evolve(self, start: float | Start, times: ArrayLike, tol: float = 1e-5) -> list[LawInTime]:
        """The laws of s at ``times`` (positive, increasing) from a strength or a law of them, to ``tol`` in the cdf.

        ``∂p/∂t = −∂(a p)/∂s + ½ ∂²(b² p)/∂s²`` by ``Diffusion1D.evolve``, at any T > 0. Not resolved, and refused, are
        arrivals that are spread out in time far beyond the rise itself: L ≥ 3 from tiny starts, at about their mean
        time and later (s₀ = 1e-6 at T ≥ 0.1, s₀ = 1e-19 at any T). Raises ValueError there, for T = 0, a
        start that is not positive at L ≥ 2, or s* itself where noise vanishes there, or where ``tol`` is not reached.

        >>> (law,) = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05).evolve(1e-3, [4.0])
        >>> law.mean(), law.std()
        (0.6..., 0.3...)
        """
        sde, (out, into, log_slope) = self._beside(start)
        first = Mapped(cast(Start, start), into, out) if hasattr(start, "ppf") else float(into(np.asarray(start)))
        return [law.transformed(out, into, log_slope) for law in sde.evolve(first, times, tol=tol)]

    def passage_cdf(self, times: ArrayLike, start: float, target: float, tol: float = 1e-5) -> Floats:
        """Probability that s has gone from ``start`` to ``target`` by ``times`` (increasing); shape of ``times``.

        The law of a learning time, whose mean and variance are ``passage``'s. Raises ValueError as ``evolve``.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
        >>> mode.passage_cdf([3.0, 4.0], start=1e-3, target=0.5, tol=1e-4).round(3)
        array([0.187, 0.743])
        """
        sde, (_, into, _) = self._beside(start)
        first, last = (float(into(np.array(self._strength(s)))) for s in (start, target))
        if not np.isnan(last) and not sde.lower < last < sde.upper:  # beyond s*, where noise vanishes
            return np.zeros(np.shape(times))
        return sde.passage_cdf(times, first, last, tol)

    def _strength(self, s: float) -> float:
        """A strength that there can be."""
        s = as_number(s, "start and target")
        if self.depth >= 2 and not s > 0:
            raise ValueError(f"strengths must be positive at depth {self.depth}, got {s}")
        self._check_side(s)
        return s

    def _beside(self, start: float | Start) -> tuple[Diffusion1D, tuple[Function, Function, Function]]:
        """An SDE for what starts so, and s as a function of its coordinate, as ``_from_log``.

        Where noise vanishes at s* it is that of one side: of s − s* at L = 1.
        """
        if hasattr(start, "ppf"):
            check_law(start, 0.0 if self.depth >= 2 else -np.inf)
            ends = cast(Start, start).ppf(np.array([1e-9, 1 - 1e-9]))
        else:
            ends = np.array([self._strength(start)])
        if self.temperature == 0 or self._noiseless_at != self.fixed_point:
            return self._noisy, self._from_log if self.depth > 1 else _SAME
        end = self.fixed_point
        if not ((ends < end).all() or (ends > end).all()):
            raise ValueError(
                f"start must lie on one side of s* = {end:g}, where noise vanishes and no path goes through"
            )
        return self._side(bool(ends[0] > end))

    def _side(self, above: bool) -> tuple[Diffusion1D, tuple[Function, Function, Function]]:
        """The SDE above or below s* where noise vanishes there, and s as a function of its coordinate."""
        end, low, high = self.fixed_point, *((0.0, np.inf) if above else (-np.inf, 0.0))
        if self.depth >= 2:
            return self._log_diffusion(low, high) if above else self._noisy, self._from_log
        pull, noise = self.pull[0], float(np.sqrt(self.temperature * self.alpha1))
        sde = Diffusion1D(lambda u: -pull * u, lambda u: noise * np.abs(u), low, high)
        return sde, (lambda u: u + end, lambda s: s - end, np.zeros_like)

    @property
    def relaxation_time(self) -> float:
        """Time in which the slowest deviation from the stationary law decays by a factor e.

        At L = 2 and s near 0, log s diffuses freely, so that no rate exceeds ``(2(β₂−γ) − Tα₃)²/(8Tα₃)``: relaxation
        slows down without bound as T → T_c. Raises ValueError, and says why, when there is no law on s.

        >>> ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1).relaxation_time
        1.0000...
        """
        return self._noisy.relaxation_time

    @property
    def _noisy(self) -> Diffusion1D:
        if self.temperature == 0:
            raise ValueError("temperature must be positive for a law that spreads, got 0; use flow")
        return self.log_diffusion

    def _check_side(self, *strengths: ArrayLike) -> None:
        """Refuse strengths on the side of ``crossing`` that paths leave."""
        if self.crossing is not None:
            k, side = self.crossing
            if any((side * np.asarray(s) <= side * k).any() for s in strengths):
                raise ValueError(
                    f"strengths must be {'above' if side > 0 else 'below'} s = {k:g}, where noise vanishes and paths "
                    f"cross one way, got {', '.join(map(str, strengths))}"
                )

    @property
    def _from_log(self) -> tuple[Function, Function, Function]:
        """s as a function of w = log(s/unit)/L, its inverse, the logarithm of its derivative."""
        L, unit = self.depth, self._unit
        return (
            lambda w: np.asarray(unit * np.exp(L * w)),
            lambda s: np.asarray(np.log(s / unit) / L),
            lambda w: np.log(L * unit) + L * w,
        )

    @property
    def _unit(self) -> float:
        """Strength in whose units logarithms are taken: where paths cross one way, or β₂/β₁ if that is positive."""
        if self.crossing is not None:
            return self.crossing[0]
        b1, b2 = self.pull
        return b2 / b1 if b2 > 0 else 1.0

    @cached_property
    def log_diffusion(self) -> Diffusion1D:
        """The SDE of w = log(s/unit)/L for L ≥ 2, of s for L = 1: on the side below s* where noise vanishes there, on
        the side that paths do not leave where it vanishes elsewhere."""
        low, high = -np.inf, np.inf
        if self.crossing is not None:
            place, side = self.crossing if self.depth == 1 else (0.0, self.crossing[1])
            low, high = (place, np.inf) if side > 0 else (-np.inf, place)
        elif self._noiseless_at == self.fixed_point and self.depth >= 2:
            high = 0.0
        return self._log_diffusion(low, high)

    def _log_diffusion(self, low: float, high: float) -> Diffusion1D:
        L, T, unit, (center, floor) = self.depth, self.temperature, self._unit, self.vertex
        if L == 1:
            end = self.fixed_point
            width = abs(end - center) if self.crossing else float(np.sqrt(self.g(end) / self.pull[0])) or 1.0
            return Diffusion1D(self.drift, self.diffusion, low, high, center=end, scale=width)

        a1, (b1, b2), decay = self.alpha1, self.pull, self.weight_decay if L >= 3 else 0.0
        rest = b2 - b1 * unit
        near = abs(unit - center) < unit / 2
        base = unit ** (1 - 2 / L)

        def grow(w: Floats) -> Floats:  # a^{L−2}
            return np.asarray(base * np.exp((L - 2) * w))

        def offset(w: Floats) -> Floats:  # s − center, which cancels neither near s* nor near 0
            return np.asarray(unit * np.expm1(L * w) + (unit - center) if near else unit * np.exp(L * w) - center)

        def noise2(w: Floats) -> Floats:  # T g
            return np.asarray(T * (a1 * offset(w) ** 2 + floor) if a1 else np.full_like(w, T * floor))

        def drift(w: Floats) -> Floats:
            up = grow(w)
            return np.asarray(up * (rest - b1 * unit * np.expm1(L * w) - up * noise2(w) / 2) - decay)

        def diffusion(w: Floats) -> Floats:
            if floor == 0:  # where g itself underflows
                return np.asarray(grow(w) * np.sqrt(T * a1) * np.abs(offset(w)))
            return np.asarray(grow(w) * np.sqrt(noise2(w)))

        return Diffusion1D(drift, diffusion, low, high, scale=1 / L, tails="exponential")

    @cached_property
    def boundaries(self) -> Boundaries:
        """What happens at the ends of s, by exponents: 0 and ∞ for L ≥ 2, ∓∞ for L = 1.

        0 is natural, never reached in finite time; it attracts iff T > T_c (L = 2), iff β₂ ≤ 0 or γ > 0 (L ≥ 3). From
        ∞ it comes down in finite time at L ≥ 2, an entrance; at L = 1 that is natural. Where the noise vanishes at s*,
        that is the upper end: natural and attracting. Where it vanishes elsewhere, the ends are those of the side that
        paths do not leave, an entrance there. Raises ValueError for T = 0.
        Source: Feller's tests (Karlin & Taylor 1981, section 15.6) on Corlouer et al. 2026, arXiv 2604.06366.

        >>> mode = ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.4)      # above T_c = 1/3
        >>> mode.boundaries.lower.attracting, mode.boundaries.upper.kind
        (True, 'entrance')
        """
        L, T, zero = self.depth, self.temperature, self._noiseless_at
        if T == 0:
            raise ValueError("boundaries need noise, got T = 0")
        natural = classified(scale=False, speed=True, time_to=False, time_from=False)
        sink = classified(scale=True, speed=False, time_to=False, time_from=False)
        critical = classified(scale=False, speed=False, time_to=False, time_from=False)
        entrance = classified(scale=False, speed=True, time_to=False, time_from=True)
        top = natural if L == 1 else entrance
        if L == 1:
            bottom = natural
        elif L == 2:
            bottom = critical if self.critical_temperature == T else sink if self.critical_temperature < T else natural
        else:
            bottom = sink if self._sinks else natural
        if self.crossing is not None:
            return Boundaries(entrance, top) if self.crossing[1] > 0 else Boundaries(bottom, entrance)
        return Boundaries(bottom, top if zero is None or (L >= 2 and zero <= 0) else sink)


@steady
def mode_sde(problem: Problem, method: Method, mode: int) -> ModeSDE:
    """The SDE of one mode of a problem under a method, exact for aligned balanced weights and aligned noise.

    The input covariance must be white or diagonal in the teacher's right singular vectors; with variance λ there
    β₁ = λ, β₂ = λs*, α₁ = 2λ², α₂ = 2λ²s*, α₃ = 2λ²s*² + λσ². A data set has the moments of its own samples, and
    they must be drawn with replacement. T and γ are the method's (no noise: T = 0).
    A ``Diagonal`` network of width d is one mode, s = v: exact where all chains are equal and balanced, and at two
    layers where each chain is balanced and all have the same sign. Then time and T run c = d^{2/L−1} times as fast,
    which is what β's multiplied by c and α's by c² say.
    Raises ValueError for other covariances, a mode that the data or the widths do not have, isotropic noise, a schedule
    or order 2, and TypeError for arguments of another kind.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> import saddlescope as sc
    >>> data = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5)
    >>> problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Balanced(scale=0.1))
    >>> sde = mode_sde(problem, sc.SGD(lr=0.01, batch_size=2), mode=1)
    >>> sde.depth, sde.target, sde.temperature
    (2, 1.0, 0.005)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be such as Problem(network, data, init), got {shown(problem)}")
    if not isinstance(method, METHODS):
        raise TypeError(f"method must be such as SGD(lr=1e-3, batch_size=16), got {shown(method)}")
    data, strengths = problem.data, problem.data.modes.strengths
    reachable = min(len(strengths), *problem.network.widths)
    if not 0 <= mode < reachable:
        raise ValueError(f"mode must be 0 to {reachable - 1} for this teacher and these widths, got {mode}")
    if isinstance(method, Langevin) and method.noise == "isotropic":
        raise ValueError('a mode has an SDE of its own only under noise="gradient" or "aligned", got "isotropic"')
    if method.schedule is not None:
        raise ValueError(
            f"the SDE of a mode has one temperature, but that of {type(method).__name__} follows a schedule; "
            "leave schedule out"
        )
    if isinstance(method, Langevin) and method.order == 2:
        raise ValueError("the SDE of a mode is that of order = 1, got order = 2; leave order out")
    if not data.diagonal_in_modes:
        raise ValueError(
            "the input covariance couples the modes, so that none has an SDE of its own; make it white, or diagonal in "
            "the teacher's right singular vectors"
        )
    if isinstance(data, Dataset) and not _is_fresh(method, data):
        raise ValueError(
            "the noise of the method is not that of independent samples, so that a mode has no SDE of its own; "
            'use sampling = "replacement", or label_noise = 0 for full batches'
        )
    if data.sigma_in_modes[mode, mode] <= 1e-12 * np.abs(data.sigma_in_modes).max():
        raise ValueError(f"inputs have no variance along mode {mode}, so that it never moves; choose another mode")
    depth, T, decay = problem.network.depth, method.temperature, method.weight_decay
    speed = getattr(problem.network, "speed", 1.0)
    if speed == 1 and isinstance(data, GaussianData) and data.sigma_in_modes[mode, mode] == 1:
        return ModeSDE(depth, float(strengths[mode]), data.label_noise, temperature=T, weight_decay=decay)
    a1, a2, a3, b1, b2 = data.mode_moments(mode)
    moments = (speed**2 * a1, speed**2 * a2, speed**2 * a3, speed * b1, speed * b2)
    return ModeSDE(depth, moments=moments, temperature=T, weight_decay=decay)


def _is_fresh(method: Method, data: Dataset) -> bool:
    """Whether the noise of a method is that of independent samples, or none."""
    if method.full_batch:
        return data.label_noise == 0
    return not isinstance(method, SGD) or method.sampling == "replacement"


_SAME: tuple[Function, Function, Function] = (lambda s: s, lambda s: s, np.zeros_like)


def _check(coordinate: str) -> None:
    as_choice(coordinate, "coordinate", "product", "weight")


def _point(value: float) -> Atoms:
    return Atoms(np.array([value]), np.array([1.0]))
