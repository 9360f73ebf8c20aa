"""Methods: gradient flow, gradient descent, SGD, Adam, Langevin dynamics, and what engines need to know of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from pydantic_core import ArgsKwargs

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_numbers, shown
from saddlescope._parts import NO_BOOLEAN, Count, Real, frozen
from saddlescope.schedules import Schedule, counted

LearningRate = Annotated[Real, Field(gt=0)]
_LR = "use a learning rate such as 1e-3"
_BATCH = "use a batch size such as 16"
WeightDecay = Annotated[Real, Field(ge=0)]
_DECAY = "use 0 for no weight decay"
_SCHEDULE = "leave it out for a constant learning rate, or use one such as schedules.Cosine(steps=10000)"
_MOMENTUM = "use 0 for none, or a number below 1 such as 0.9"
Momentum = Annotated[Real, Field(ge=0, lt=1)]
Sampling = Literal["replacement", "without", "shuffle", "full"]
Betas = tuple[Annotated[Real, Field(ge=0, lt=1)], Annotated[Real, Field(ge=0, lt=1)]]
_BETAS = "use two numbers from 0 to below 1 such as (0.9, 0.999)"
_EPS = "use a small number such as 1e-8"
_SAMPLES = "leave it out for all samples, or use a number such as 256"
_SAMPLING = 'use "replacement", "without", "shuffle" or "full"'
_STEPWISE = ("balance identity", "determinant identity")
_HEAVY_BALL = ("heavy-ball identity",)


class Rule:
    """Base of every method: the defaults of what engines and theory ask."""

    lr: float
    weight_decay: float = 0.0
    schedule: Schedule | None = None
    sampling: str = "replacement"
    """How samples of a data set are drawn."""
    order: int = 1
    """Order of the drift in the learning rate."""
    momentum: float = 0.0
    """μ of the heavy ball."""

    @property
    def states(self) -> int:
        """Numbers that the method keeps for every weight, beside it."""
        return int(self.momentum > 0)

    @property
    def source(self) -> str:
        """Name of the source of the map's gradient, under which engines look it up."""
        raise NotImplementedError

    @property
    def models_alone(self) -> bool:
        """Whether only a Model can be trained by it."""
        return False

    @property
    def diffusive(self) -> bool:
        """Whether its noise is that of a diffusion, made of standard normals."""
        return False

    @property
    def step_argument(self) -> str:
        """The argument that sets the time of a step."""
        return "lr"

    @property
    def pace(self) -> float:
        """Effective speed-up by momentum, ``1/(1 − μ)``: for small lr as lr · pace and T · pace without momentum.

        >>> SGD(lr=0.1, batch_size=4, momentum=0.75).pace
        4.0
        """
        return 1 / (1 - self.momentum)

    @property
    def batch(self) -> float:
        """Batch size B, infinite without sampling noise."""
        return math.inf

    @property
    def temperature(self) -> float:
        """T, 0 without noise; the largest under a schedule."""
        return 0.0

    @property
    def time_step(self) -> float:
        """Time of one step; the longest under a schedule."""
        return self.lr

    @property
    def full_batch(self) -> bool:
        """Whether every step on a data set uses all samples, so that only label noise is random."""
        return False

    def factor(self, step: ArrayLike) -> Floats:
        """Factor by which the schedule multiplies lr, T and time_step at these steps; shape of ``step``.

        >>> GD(lr=0.1).factor([0, 5])
        array([1., 1.])
        """
        return np.ones(counted(step).shape) if self.schedule is None else self.schedule.at(step)

    def lr_at(self, step: ArrayLike) -> Floats:
        """Learning rate of these steps; shape of ``step``.

        >>> from saddlescope.schedules import Step
        >>> GD(lr=0.1, schedule=Step(every=100, factor=0.5)).lr_at([0, 100])
        array([0.1 , 0.05])
        """
        return np.asarray(self.lr * self.factor(step))

    def temperature_at(self, step: ArrayLike) -> Floats:
        """Temperature T of these steps; shape of ``step``.

        >>> from saddlescope.schedules import Warmup
        >>> SGD(lr=0.1, batch_size=2, schedule=Warmup(steps=4)).temperature_at(0)
        array(0.0125)
        """
        return np.asarray(self.temperature * self.factor(step))

    def time(self, step: ArrayLike) -> Floats:
        """Time at which these steps begin, the sum of all earlier ones; never (inf) and unknown (NaN) stay as they are.

        >>> GD(lr=0.5).time([0, 3, np.inf])
        array([0. , 1.5, inf])
        """
        steps = as_numbers(step, "step").copy()
        if self.schedule is not None:
            known = np.isfinite(steps)
            steps[known] = self.schedule.elapsed(steps[known])
        return np.asarray(self.time_step * steps)


@frozen
class GradientFlow(Rule):
    """``dθ/dt = −∇𝓛 − γθ``; ``lr`` is only the clock: time = lr · step, so that there is nothing to schedule.

    Integrated by an adaptive method of order 5, float64 only. Keeps: balance and determinant without ``weight_decay``
    γ; with it balance Q decays as ``e^{−2γt}``, and ``log det ΘᵀΘ`` falls by ``2γ(n_{l−1} + n_{l+1})t``.

    >>> GradientFlow(lr=1e-2).temperature
    0.0
    """

    lr: LearningRate = Field(default=1e-3, description=_LR)
    weight_decay: WeightDecay = Field(default=0.0, kw_only=True, description=_DECAY)

    source: ClassVar[str] = "flow"

    @property
    def keeps(self) -> tuple[str, ...]:
        """What is conserved, or falls at a known rate."""
        fate = "decays" if self.weight_decay else "conserved"
        return f"balance {fate}", f"determinant {fate}"


@frozen
class GD(Rule):
    """``p ← μp − ηg``, ``θ ← θ + p`` with ``g = ∇𝓛(θ) + γθ`` on the population loss, p = 0 at the start.

    μ is the ``momentum`` of the heavy ball, γ the ``weight_decay``, η the ``schedule``'s of the step. On a data set:
    all samples at every step, as SGD with ``sampling="full"``.
    Keeps: the exact balance and determinant identities of a step, with γ and the step's own η in them; with momentum
    the heavy-ball identity of ``theory.heavy_ball``.
    Source: Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), for momentum.

    >>> GD(lr=1e-2).time_step
    0.01
    """

    lr: LearningRate = Field(description=_LR)
    weight_decay: WeightDecay = Field(default=0.0, kw_only=True, description=_DECAY)
    schedule: Schedule | None = Field(default=None, kw_only=True, description=_SCHEDULE)
    momentum: Momentum = Field(default=0.0, kw_only=True, description=_MOMENTUM)

    source: ClassVar[str] = "gd"

    @property
    def keeps(self) -> tuple[str, ...]:
        """The exact identities of a step that hold."""
        return _HEAVY_BALL if self.momentum else _STEPWISE

    @property
    def full_batch(self) -> bool:
        """Always."""
        return True


class Batches(Rule):
    """Base of the methods that train on batches of samples; ``sampling="full"`` takes all samples at every step."""

    batch_size: int | None

    @property
    def source(self) -> str:
        """A batch."""
        return "sgd"

    def __post_init__(self) -> None:
        if self.sampling == "full" and self.batch_size is not None:
            raise ValueError(f'batch_size must be left out with sampling = "full", got {self.batch_size}')
        if self.sampling != "full" and self.batch_size is None:
            raise TypeError(f"{type(self).__name__} needs the argument 'batch_size'; {_BATCH}")

    @property
    def full_batch(self) -> bool:
        """With ``sampling="full"``."""
        return self.sampling == "full"

    @property
    def temperature(self) -> float:
        """T = η/B; 0 for full batches; the largest under a schedule."""
        return self.lr / self.batch

    @property
    def batch(self) -> float:
        """B; infinite for full batches."""
        return math.inf if self.batch_size is None else self.batch_size


@frozen
class SGD(Batches):
    """``p ← μp − ηg``, ``θ ← θ + p``, g the mean over a batch of B samples of ``∇ℓ + γθ``; ``T = lr / batch_size``.

    On Gaussian data batches are fresh, exact in distribution, and cost the same for every B. On a data set
    ``sampling`` sets how they are drawn: ``"replacement"``, ``"without"`` replacement, ``"shuffle"`` (an epoch is ⌊n/B⌋
    whole batches of a fresh permutation, the remainder is dropped), or ``"full"``: all samples at every step, no
    batch_size; only fresh label noise is random, and T is 0. γ is the ``weight_decay``, η the ``schedule``'s of the
    step, μ the ``momentum`` of the heavy ball, p = 0 at the start: for small η it acts like SGD without momentum at
    η/(1 − μ) and B.
    Raises ValueError for a missing batch_size, or one given together with ``sampling="full"``.
    Keeps: the exact balance and determinant identities of a step, with γ and the step's own η in them; with momentum
    the heavy-ball identity of ``theory.heavy_ball``.
    Source: Polyak 1964, USSR Comput. Math. Math. Phys. 4(5), for momentum.

    >>> SGD(lr=1e-2, batch_size=4).temperature
    0.0025
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Count | None, Field(ge=1, lt=2**53)] = Field(default=None, description=_BATCH)
    sampling: Sampling = Field(default="replacement", description=_SAMPLING)
    weight_decay: WeightDecay = Field(default=0.0, kw_only=True, description=_DECAY)
    schedule: Schedule | None = Field(default=None, kw_only=True, description=_SCHEDULE)
    momentum: Momentum = Field(default=0.0, kw_only=True, description=_MOMENTUM)

    @property
    def keeps(self) -> tuple[str, ...]:
        """The exact identities of a step that hold."""
        return _HEAVY_BALL if self.momentum else _STEPWISE


@frozen
class Adam(Batches):
    """Adam, for a ``Model``: ``m ← β₁m + (1 − β₁)g``, ``v ← β₂v + (1 − β₂)g²``, ``θ ← θ − η m̂/(√v̂ + ε)``.

    ``m̂ = m/(1 − β₁^k)``, ``v̂ = v/(1 − β₂^k)`` at step k = 1, 2, …; g is the mean over a batch of ``∇ℓ + γθ``, with
    the ``weight_decay`` γ in the gradient (``AdamW`` keeps it out). ``betas`` are β₁ and β₂, ``eps`` ε. Batches,
    ``sampling`` and ``schedule`` are those of ``SGD``. T = lr / batch_size is that of the noise of g alone, no
    temperature of the weights follows from it. Keeps no identity.
    Raises ValueError for betas outside 0 ≤ β < 1, eps that is not positive, or as SGD does.
    Source: Kingma & Ba 2015, ICLR, arXiv 1412.6980.

    >>> Adam(lr=1e-3, batch_size=32).betas
    (0.9, 0.999)
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Count | None, Field(ge=1, lt=2**53)] = Field(default=None, description=_BATCH)
    sampling: Sampling = Field(default="replacement", description=_SAMPLING)
    betas: Betas = Field(default=(0.9, 0.999), kw_only=True, description=_BETAS)
    eps: Annotated[Real, Field(gt=0)] = Field(default=1e-8, kw_only=True, description=_EPS)
    weight_decay: WeightDecay = Field(default=0.0, kw_only=True, description=_DECAY)
    schedule: Schedule | None = Field(default=None, kw_only=True, description=_SCHEDULE)

    keeps: ClassVar[tuple[str, ...]] = ()
    models_alone: ClassVar[bool] = True


@frozen
class AdamW(Batches):
    """Adam with weight decay apart from the gradient, for a ``Model``: ``θ ← θ − η (m̂/(√v̂ + ε) + γθ)``.

    g of m and v is the mean over a batch of ∇ℓ alone; all else is as in ``Adam``.
    Raises as Adam does.
    Source: Loshchilov & Hutter 2019, ICLR, arXiv 1711.05101.

    >>> AdamW(lr=1e-3, batch_size=32, weight_decay=0.1).weight_decay
    0.1
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Count | None, Field(ge=1, lt=2**53)] = Field(default=None, description=_BATCH)
    sampling: Sampling = Field(default="replacement", description=_SAMPLING)
    betas: Betas = Field(default=(0.9, 0.999), kw_only=True, description=_BETAS)
    eps: Annotated[Real, Field(gt=0)] = Field(default=1e-8, kw_only=True, description=_EPS)
    weight_decay: WeightDecay = Field(kw_only=True, description="use a number such as 1e-2, or Adam for none")
    schedule: Schedule | None = Field(default=None, kw_only=True, description=_SCHEDULE)

    keeps: ClassVar[tuple[str, ...]] = ()
    models_alone: ClassVar[bool] = True


@frozen
class Langevin(Rule):
    """Itô: ``dθ = −∇𝓛 dt + √T C(θ)^{1/2} dW`` with ``T = lr / batch_size``, integrated with step ``dt`` (lr if None).

    Give ``batch_size``, any B > 0, or ``temperature``, any T > 0, which sets ``batch_size = lr / temperature`` up to
    rounding; the method keeps, compares and writes lr and batch_size.
    ``noise="gradient"``: C is the covariance of the per-sample gradient (never formed). ``"aligned"``: its part off
    the teacher's modes is removed, so that the mode reduction is exact. ``"isotropic"``: ``(Tr C / d) I``,
    a control that breaks the exact identities. dt = lr matches the first two moments of a step of SGD.

    ``order=2`` is the stochastic modified equation: drift ``−∇(𝓛 + (η/4)‖∇𝓛‖²) = −(I + (η/2)∇²𝓛)∇𝓛`` follows SGD to one
    higher order of η in distribution, as dt → 0. ``samples`` M, for a ``Model`` on many samples: drift and noise of a
    step come from M fresh samples instead of all n. Mean and covariance are exact, ``−∇𝓛 dt`` and ``T C dt``, but the
    noise is no longer Gaussian, as the choice of the M samples is part of it; M is at least ``B dt / lr``.

    ``weight_decay`` γ adds ``(γ/2)‖θ‖²`` to 𝓛, in the drift of order 2 too. A ``schedule`` multiplies η = lr, dt and T
    of a step by its factor.
    Keeps: the exact balance and determinant identities of a step for order 1 and noise that is not isotropic, with γ
    and the step's own dt in them; order 2 keeps none, as ‖∇𝓛‖² depends on each layer, not only on their product.
    Raises TypeError or ValueError unless exactly one of ``batch_size`` and ``temperature`` is given, or for samples
    that are too few, or together with order 2 or isotropic noise.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3; order 2: Li, Tai & E 2019, JMLR 20(40).

    >>> Langevin(lr=1e-2, batch_size=0.5, noise="gradient").temperature
    0.02
    >>> Langevin(lr=1e-3, temperature=0.1)
    Langevin(lr=0.001, batch_size=0.01)
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Real, Field(gt=0)] = Field(description=f"{_BATCH}, or temperature = 0.1")
    noise: Literal["gradient", "isotropic", "aligned"] = Field(
        default="gradient", description='use "gradient", "isotropic" or "aligned"'
    )
    dt: Annotated[Real | None, Field(gt=0)] = Field(default=None, description="leave it out for dt = lr")
    order: Annotated[Literal[1, 2], NO_BOOLEAN] = Field(default=1, description="use 1 or 2")
    weight_decay: WeightDecay = Field(default=0.0, kw_only=True, description=_DECAY)
    schedule: Schedule | None = Field(default=None, kw_only=True, description=_SCHEDULE)
    samples: Annotated[Count | None, Field(ge=2, lt=2**31)] = Field(default=None, kw_only=True, description=_SAMPLES)

    diffusive: ClassVar[bool] = True
    alternatives: ClassVar[Mapping[str, str]] = {"temperature": "batch_size"}
    """Arguments without a field, with the field that they set."""

    def __init__(
        self,
        lr: float,
        batch_size: float | None = None,
        noise: Literal["gradient", "isotropic", "aligned"] = "gradient",
        dt: float | None = None,
        order: Literal[1, 2] = 1,
        *,
        temperature: float | None = None,
        weight_decay: float = 0.0,
        schedule: Schedule | None = None,
        samples: int | None = None,
    ) -> None:
        """Signature alone: ``frozen`` makes the initialiser, and temperature is an argument without a field."""

    def __post_init__(self) -> None:
        if self.samples is None:
            return
        if self.noise != "gradient" or self.order == 2:
            raise ValueError(
                f'samples is for noise = "gradient" and order = 1, got "{self.noise}" and {self.order}; leave it out'
            )
        if self.samples < (least := self.batch_size * self.time_step / self.lr):
            raise ValueError(
                f"samples must be at least batch_size · dt / lr = {least:.4g}, got {self.samples}; fewer samples have "
                "more noise than that; raise samples or lower dt"
            )

    @model_validator(mode="before")
    @classmethod
    def _of_temperature(cls, given: Any) -> Any:
        """The arguments with batch_size in place of temperature."""
        if not isinstance(given, ArgsKwargs):  # a part of another part
            return given
        arguments: dict[str, Any] = dict(given.kwargs or {})
        if "momentum" in arguments:
            raise TypeError(
                "Langevin has no argument 'momentum'; for small lr the heavy ball follows Langevin without momentum, "
                f"with lr and temperature 1 / (1 − momentum){_times(arguments['momentum'])} times as large"
            )
        temperature, batch_size = arguments.pop("temperature", None), arguments.pop("batch_size", None)
        if temperature is not None and batch_size is not None:
            raise ValueError(
                f"batch_size and temperature = lr / batch_size must not both be given, got {shown(batch_size)} and "
                f"{shown(temperature)}; give one of them"
            )
        if temperature is not None:
            batch_size = _batch_size(arguments.get("lr"), temperature)
        return ArgsKwargs((), arguments if batch_size is None else arguments | {"batch_size": batch_size})

    @property
    def source(self) -> str:
        """Its noise."""
        return self.noise

    @property
    def models_alone(self) -> bool:
        """With ``samples``."""
        return self.samples is not None

    @property
    def step_argument(self) -> str:
        """dt where it is given."""
        return "lr" if self.dt is None else "dt"

    @property
    def batch(self) -> float:
        """B."""
        return self.batch_size

    @property
    def keeps(self) -> tuple[str, ...]:
        """The exact identities of a step that hold."""
        return () if self.noise == "isotropic" or self.order == 2 else _STEPWISE

    @property
    def temperature(self) -> float:
        """T = η/B; the largest under a schedule."""
        return self.lr / self.batch_size

    @property
    def time_step(self) -> float:
        """Time of one step; the longest under a schedule."""
        return self.lr if self.dt is None else self.dt


def _times(momentum: Any) -> str:
    """The value of ``1 / (1 − momentum)``, where it has one."""
    known = isinstance(momentum, (int, float)) and 0 <= momentum < 1
    return f" = {1 / (1 - momentum):.4g}" if known else ""


def _batch_size(lr: Any, temperature: Any) -> float:
    """B with ``T = lr / B``; 1 for a learning rate that will be refused."""
    given = as_number(temperature, "temperature")
    if not 0 < given < math.inf:
        raise ValueError(
            f"temperature must be finite and above 0, got {given:g}; use GradientFlow(lr) or GD(lr) for dynamics "
            "without noise"
        )
    try:
        rate = as_number(lr, "lr")
    except (TypeError, ValueError):
        return 1.0
    if 0 < rate < math.inf and not 0 < rate / given < math.inf:
        raise ValueError(f"temperature must be such that lr / temperature is a number, got {rate:g} / {given:g}")
    return rate / given


Method = GradientFlow | GD | SGD | Adam | AdamW | Langevin
METHODS = (GradientFlow, GD, SGD, Adam, AdamW, Langevin)
