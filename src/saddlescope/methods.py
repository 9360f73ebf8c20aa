"""The rules by which weights move, and the facts about them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from saddlescope._model import Count, Real, frozen

LearningRate = Annotated[Real, Field(gt=0)]
_LR = "use a learning rate such as 1e-3"
_BATCH = "use a batch size such as 16"


class _Rule:
    """What holds of a rule unless it says otherwise."""

    lr: float

    @property
    def temperature(self) -> float:
        """T, 0 without noise."""
        return 0.0

    @property
    def time_step(self) -> float:
        """Time of one step."""
        return self.lr


@frozen
class GradientFlow(_Rule):
    """``dθ/dt = −∇𝓛``; ``lr`` is only the clock: time = lr · step.

    Integrated by an adaptive method of order 5, float64 only. Keeps: balance and determinant.

    >>> GradientFlow(lr=1e-2).temperature
    0.0
    """

    lr: LearningRate = Field(default=1e-3, description=_LR)

    keeps: ClassVar[tuple[str, ...]] = ("balance conserved", "determinant conserved")


@frozen
class GD(_Rule):
    """``θ ← θ − η ∇𝓛(θ)`` on the population loss. Keeps: the exact balance and determinant identities of a step.

    >>> GD(lr=1e-2).time_step
    0.01
    """

    lr: LearningRate = Field(description=_LR)

    keeps: ClassVar[tuple[str, ...]] = ("balance identity", "determinant identity")


@frozen
class SGD(_Rule):
    """``θ ← θ − η · mean over a batch of B samples of ∇ℓ``, temperature ``T = lr / batch_size``.

    On Gaussian data batches are fresh, exact in law at a cost independent of B. On a data set ``sampling`` says how
    they are drawn: ``"replacement"``, ``"without"`` replacement, ``"shuffle"`` (an epoch is ⌊n/B⌋ whole batches of a
    fresh permutation, what is left over is dropped), or ``"full"``, all samples at every step and no batch_size, where
    fresh label noise alone is random and T is 0.
    Raises ValueError for a missing batch_size, or one beside ``sampling="full"``.
    Keeps: the exact balance and determinant identities of a step.

    >>> SGD(lr=1e-2, batch_size=4).temperature
    0.0025
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Count | None, Field(ge=1)] = Field(default=None, description=_BATCH)
    sampling: Literal["replacement", "without", "shuffle", "full"] = Field(
        default="replacement", description='use "replacement", "without", "shuffle" or "full"'
    )

    keeps: ClassVar[tuple[str, ...]] = ("balance identity", "determinant identity")

    def __post_init__(self) -> None:
        if self.sampling == "full" and self.batch_size is not None:
            raise ValueError(f'batch_size must be left out with sampling = "full", got {self.batch_size}')
        if self.sampling != "full" and self.batch_size is None:
            raise TypeError(f"SGD needs the argument 'batch_size'; {_BATCH}")

    @property
    def temperature(self) -> float:
        """T = η/B; 0 for full batches."""
        return 0.0 if self.batch_size is None else self.lr / self.batch_size


@frozen
class Langevin(_Rule):
    """Itô: ``dθ = −∇𝓛 dt + √T C(θ)^{1/2} dW`` with ``T = lr / batch_size``, integrated with step ``dt`` (lr if None).

    ``noise="gradient"``: C is the covariance of the per-sample gradient (never formed). ``"aligned"``: its part off
    the teacher's modes is switched off, so that the mode reduction is exact. ``"isotropic"``: ``(Tr C / d) I``,
    a control that breaks the exact identities. dt = lr matches the first two moments of a step of SGD.
    Source: Corlouer et al. 2026, arXiv 2604.06366, section 3.

    >>> Langevin(lr=1e-2, batch_size=0.5, noise="gradient").temperature
    0.02
    """

    lr: LearningRate = Field(description=_LR)
    batch_size: Annotated[Real, Field(gt=0)] = Field(description=_BATCH)
    noise: Literal["gradient", "isotropic", "aligned"] = Field(
        default="gradient", description='use "gradient", "isotropic" or "aligned"'
    )
    dt: Annotated[Real | None, Field(gt=0)] = Field(default=None, description="leave it out for dt = lr")

    @property
    def keeps(self) -> tuple[str, ...]:
        """The exact identities of a step that hold."""
        return () if self.noise == "isotropic" else ("balance identity", "determinant identity")

    @property
    def temperature(self) -> float:
        """T = η/B."""
        return self.lr / self.batch_size

    @property
    def time_step(self) -> float:
        """Time of one step."""
        return self.lr if self.dt is None else self.dt


Method = GradientFlow | GD | SGD | Langevin
METHODS = (GradientFlow, GD, SGD, Langevin)
