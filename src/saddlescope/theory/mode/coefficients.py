"""One mode of a deep linear network under SGD noise: the coefficients of its scalar Itô SDE.

Aligned, balanced weights keep one number a per layer for each mode, s = a^L end to end. With the moments of the data
along the mode, β₁ = E[x²], β₂ = E[xy], α₁ = Var[x²], α₂ = Cov[x²,xy], α₃ = Var[xy], with
g(s) = α₁s² − 2α₂s + α₃ and κ = 1 − 1/L,

    da = a^{L−1}(β₂ − β₁s) dt + a^{L−1} √(T g) dW                                         (weight)
    ds = [L s^{2κ}(β₂ − β₁s) + ½L(L−1) T s^{3−4/L} g] dt + L s^{2κ} √(T g) dW             (product)

Weight decay γ puts β₂ − γs^{2/L−1} for β₂: a pull −γa in each layer, β₁ + γ at depth 1, β₂ − γ at depth 2.
Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; Ziyin, Li & Ueda 2023, arXiv 2308.06671, for any moments.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, WrapValidator
from scipy.optimize import brentq

from saddlescope._arrays import Floats
from saddlescope._numbers import as_choice, as_numbers
from saddlescope._parts import Count, Real, frozen
from saddlescope.data.base import noise_vertex
from saddlescope.kernel.mode_paths import Mode
from saddlescope.theory._checks import steady

Where = Literal["product", "weight"]

Target = Annotated[Real, WrapValidator(lambda value, number: None if value is None else number(value))]
"""A strength, which may be left out (None) where moments are given."""


@frozen
@steady
class ModeCoefficients:
    """Depth, moments of the data, temperature and weight decay of one mode; ``ModeSDE`` answers questions on them."""

    depth: Annotated[Count, Field(ge=1, lt=2**53)] = Field(description="the number of layers, such as 2")
    target: Target = Field(  # type: ignore[assignment]  # never None once it is constructed
        default=None, description="the strength s* of the teacher's mode, such as 1.5"
    )
    label_noise: Annotated[Real, Field(ge=0)] = Field(default=0.0, description="use 0 for noiseless labels")
    temperature: Annotated[Real, Field(ge=0)] = Field(kw_only=True, description="T = lr / batch_size, such as 0.01")
    moments: tuple[Real, Real, Real, Real, Real] | None = Field(
        default=None, description="five numbers α₁, α₂, α₃, β₁, β₂"
    )
    weight_decay: Annotated[Real, Field(ge=0)] = Field(
        default=0.0, kw_only=True, description="use 0 for no weight decay"
    )

    def __post_init__(self) -> None:
        if self.moments is None and self.target is not None:
            return
        if self.moments is None or self.target not in (None, _end(self.moments)):
            raise ValueError(
                f"ModeSDE needs exactly one of target and moments, got target={self.target} and "
                f"moments={self.moments}; moments alone determine s* = β₂/β₁"
            )
        if self.label_noise:
            raise ValueError(f"label_noise is part of α₃ when moments are given, got {self.label_noise}; leave it out")
        a1, a2, a3, b1, _ = self.moments
        if a1 < 0 or a3 < 0 or a2 * a2 > a1 * a3 * (1 + 1e-12) or b1 <= 0:
            raise ValueError(
                "moments must be those of data: α₁ = Var[x²] ≥ 0, α₃ = Var[xy] ≥ 0, α₂² ≤ α₁α₃ and β₁ = E[x²] > 0, "
                f"got {self.moments}"
            )
        object.__setattr__(self, "target", _end(self.moments))

    @cached_property
    def _moments(self) -> tuple[float, float, float, float, float]:
        if self.moments is not None:
            return self.moments
        s = self.target
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
        """β₁ and β₂ with weight decay γ included: β₁ + γ at depth 1, β₂ − γ at depth 2; at depth ≥ 3 γ is separate."""
        gamma = self.weight_decay
        return self.beta1 + gamma * (self.depth == 1), self.beta2 - gamma * (self.depth == 2)

    @cached_property
    def fixed_point(self) -> float:
        """Strength where the deterministic part of the drift vanishes: β₂/β₁ (s* for white data), less with decay.

        With weight decay at depth ≥ 3 the larger of two such strengths, or 0 if there are none.
        """
        b1, b2 = self.pull
        return self.held_by_decay[1] if self.deep_decay and b2 > 0 else b2 / b1

    @property
    def held_by_decay(self) -> tuple[float, float]:
        """At depth ≥ 3 with weight decay and β₂ > 0, the strengths where decay and pull balance; 0 if none are."""
        (b1, b2), L = self.pull, self.depth
        fastest = (L - 2) / (2 * L - 2) * b2 / b1  # s of the largest d log a / dt

        def speed(s: float) -> float:
            return float(s ** (1 - 2 / L) * (b2 - b1 * s) - self.weight_decay)

        if speed(fastest) <= 0:
            return 0.0, 0.0
        low, high = (brentq(speed, fastest, other, xtol=1e-300) for other in (0.0, b2 / b1))
        return float(low), float(high)

    @property
    def deep_decay(self) -> bool:
        """Whether weight decay cannot be absorbed into β₁ or β₂."""
        return self.depth >= 3 and self.weight_decay > 0

    def refuse_deep_decay(self, what: str) -> None:
        """Raise ValueError where ``what`` has no closed form because of weight decay at depth ≥ 3."""
        if self.deep_decay:
            raise ValueError(
                f"{what} is not known at depth {self.depth} with weight_decay = {self.weight_decay:g}, where 0 "
                "attracts; use simulate, or weight_decay = 0"
            )

    def g(self, s: ArrayLike) -> Floats:
        """Variance of the per-sample gradient with respect to s: ``g(s) = α₁s² − 2α₂s + α₃``; shape of ``s``.

        Source: Ziyin et al. 2023, arXiv 2308.06671.

        >>> from saddlescope.theory import ModeSDE
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

        >>> from saddlescope.theory import ModeSDE
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

        >>> from saddlescope.theory import ModeSDE
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

        >>> from saddlescope.theory import ModeSDE
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
        """Temperature above which the stationary law is a point mass at 0: at depth 2 ``T_c = 2(β₂ − γ)/α₃``, else ∞.

        A statement on the Langevin model: it holds for discrete SGD only if ``s* T_c B ≪ 1`` (otherwise see
        ``phases.discrete_critical_temperature``), and not above a strength that paths cross upwards (``crossing``).
        Source: Ziyin et al. 2023, arXiv 2308.06671 (their T'_c = β₂/α₃ counts the loss without ½).

        >>> from saddlescope.theory import ModeSDE
        >>> ModeSDE(depth=2, target=1.0, label_noise=2.0, temperature=0.1).critical_temperature
        0.3333333
        """
        if self.depth != 2 or self.alpha3 == 0:
            return np.inf
        return max(2 * self.pull[1] / self.alpha3, 0.0)

    @cached_property
    def crossing(self) -> tuple[float, int] | None:
        """Strength k at which the noise vanishes and the drift does not, and its direction there: up (1) or down (−1).

        Paths cross k in this direction only. None if there is no such k; k > 0 at depth ≥ 2.
        Source: Ziyin et al. 2023, arXiv 2308.06671, call it interpolation.

        >>> from saddlescope.theory import ModeSDE
        >>> ModeSDE(depth=2, target=1.0, temperature=0.2, weight_decay=0.1).crossing
        (1.0, -1)
        """
        k, L = self.noiseless_at, self.depth
        if k is None or (L >= 2 and k <= 0):
            return None
        (b1, b2), decay = self.pull, self.weight_decay if L >= 3 else 0.0
        push = b2 - b1 * k - decay * k ** (2 / L - 1) if decay else (0.0 if k == self.fixed_point else b2 - b1 * k)
        return (k, int(np.sign(push))) if push else None

    @property
    def frozen(self) -> bool:
        """Whether there is no noise where the drift vanishes, so that mass ends in points; true at T = 0."""
        k = self.noiseless_at
        return self.temperature == 0 or (self.crossing is None and k is not None and (self.depth == 1 or k > 0))

    @property
    def noiseless_at(self) -> float | None:
        """Strength at which g vanishes, None if there is none; exactly β₂/β₁ when it vanishes there."""
        center, floor = self.vertex
        if floor > 0:
            return None
        return center if self.alpha1 > 0 else self.fixed_point

    @property
    def zero_attracts(self) -> bool:
        """Whether 0 attracts at depth ≥ 2."""
        if self.depth == 2:
            return self.critical_temperature < self.temperature
        return self.beta2 <= 0 or self.weight_decay > 0

    @property
    def small_noise(self) -> float:
        """Variance near β₂/β₁ to first order in T."""
        L, end = self.depth, self.fixed_point
        return L * abs(end) ** (2 - 2 / L) * self.temperature * float(self.g(end)) / (2 * self.pull[0])

    @property
    def kernel_mode(self) -> Mode:
        """The numbers that the compiled kernel takes."""
        decay = self.weight_decay if self.depth >= 3 else 0.0
        return Mode(self.depth, self.alpha1, *self.vertex, *self.pull, self.temperature, decay)


def _end(moments: tuple[float, ...]) -> float:
    """s* = β₂/β₁, which moments imply."""
    return moments[4] / moments[3] if moments[3] > 0 else np.nan


def _check(coordinate: str) -> None:
    as_choice(coordinate, "coordinate", "product", "weight")
