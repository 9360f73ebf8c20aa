"""The description of a step that every engine reads: problem, method and plan, decoded once.

In the teacher's basis, where the teacher is ``diag(s*)`` and ``Σ = R Rᵀ``, a step of a discrete method is

    Δ = P − diag(s*),   E = Δ R,   Ḡ = K Rᵀ,   p_l ← μ p_l − dt (∂W_l(Ḡ) + γW_l),   W_l ← W_l + p_l

A method is a *source* of K: E itself ("gd"), a batch ("sgd"), or E plus normals ("gradient", "aligned"); "isotropic"
noise enters at the layers, and "flow" is the limit dt → 0. Engines read this description and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from saddlescope import init
from saddlescope._arrays import Array, Floats
from saddlescope.data import Data, is_finite
from saddlescope.methods import Rule
from saddlescope.networks.base import NetworkType
from saddlescope.networks.model import is_model
from saddlescope.observables import observed
from saddlescope.plan import Accumulate, Plan
from saddlescope.problem import Problem
from saddlescope.schedules import Schedule

ORDERED = ("without", "shuffle")
"""Samplings under which every trajectory stores an order of the samples."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a method on a problem, and what a plan observes of it.

    ``method`` gives new methods their special parameters; everything that methods share is decoded here.
    ``source`` names where the gradient of the map comes from, ``sampling`` how samples of a data set are drawn ("full":
    all of them), ``batch`` is B, ``temperature`` that of the noise of Ḡ (η/n for full batches). ``schedule`` multiplies
    ``lr``, ``dt`` and ``temperature`` of a step by its factor. ``diffusive`` noise is made of standard normals, which
    can be given. ``passages`` and ``peaks``: whether learning times and noise peaks are looked for at every step.
    """

    network: NetworkType
    data: Data
    method: Rule
    source: str
    sampling: str
    batch: float
    lr: float
    dt: float
    schedule: Schedule | None
    decay: float
    momentum: float
    order: int
    temperature: float
    diffusive: bool
    dtype: str
    passages: bool
    peaks: bool
    accumulate: Accumulate | None
    observed: tuple[str, ...]

    def factor(self, step: int) -> float:
        """Factor by which the schedule multiplies lr, dt and T at a step."""
        return 1.0 if self.schedule is None else float(self.schedule.at(step))

    def factors(self, first: int, last: int) -> Floats | None:
        """The factors from step ``first`` to ``last``, both included; None for a constant learning rate."""
        return None if self.schedule is None else self.schedule.at(np.arange(first, last + 1))

    def temperature_at(self, step: int) -> float:
        """Temperature of the noise of Ḡ at a step."""
        return self.temperature * self.factor(step)

    @cached_property
    def teacher(self) -> Array:
        """``diag(s*)`` (dy, dx) in the type of the run."""
        return self.data.teacher_in_modes.astype(self.dtype)

    @cached_property
    def root(self) -> Array:
        """R (dx, r) in the type of the run."""
        return self.data.root.astype(self.dtype)

    @property
    def continuous(self) -> bool:
        """Whether it is gradient flow, which the engine integrates with adaptive steps."""
        return self.source == "flow"

    @property
    def ordered(self) -> bool:
        """Whether every trajectory stores an order of the samples."""
        return self.source == "sgd" and self.sampling in ORDERED

    @property
    def noise_from(self) -> str | None:
        """Origin of the diffusive noise: None, "weights" (isotropic), "scalar", "samples" or "covariance".

        "scalar" is one normal times the standard deviation of one sample's gradient, "samples" has the fourth moments
        of a data set, "covariance" those of Gaussian inputs.
        """
        if not self.diffusive:
            return None
        if self.source == "isotropic":
            return "weights"
        if self.network.scalar:
            return "scalar"
        return "samples" if is_finite(self.data) else "covariance"

    @cached_property
    def normals_per_step(self) -> int:
        """Standard normals of a step when they are given instead of drawn; 0 without diffusive noise."""
        rank = self.data.root.shape[1]
        labels = self.data.dim_out * rank if self.data.label_noise > 0 else 0
        match self.noise_from:
            case None:
                return 0
            case "weights":
                return self.network.parameters
            case "scalar":
                return 1
        if is_finite(self.data):
            factor = self.data.noise_factor
            return labels + (self.data.samples if factor is None else factor.shape[1])
        return labels + rank * (rank + 1) // 2

    @property
    def share(self) -> float:
        """Fraction of the sampling variance that remains: of n samples without replacement ``(n − B)/(n − 1)``.

        0 for full batches, whose only noise is label noise.
        """
        if self.sampling == "full":
            return 0.0
        n = self.data.samples
        return (n - self.batch) / max(n - 1, 1) if self.ordered else 1.0


def decode(problem: Problem, method: Rule, plan: Plan) -> Step:
    """The description of a step.

    Raises ValueError when this method cannot run on this problem under this plan.

    >>> from saddlescope import DeepLinear, GaussianData, SGD, init
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), init.Gaussian(scale=0.1))
    >>> step = decode(problem, SGD(lr=0.1, batch_size=4), Plan(steps=10))
    >>> step.source, step.batch, step.normals_per_step
    ('sgd', 4, 0)
    """
    check(problem, method, plan)
    data, source, sampling = problem.data, method.source, method.sampling
    batch, temperature = method.batch, method.temperature
    if data.samples and method.full_batch:
        source, sampling = "sgd" if data.fresh_labels else "gd", "full"
        batch, temperature = data.samples, method.lr / data.samples
    return Step(
        network=problem.network,
        data=data,
        method=method,
        source=source,
        sampling=sampling,
        batch=batch,
        lr=method.lr,
        dt=method.time_step,
        schedule=method.schedule,
        decay=method.weight_decay,
        momentum=method.momentum,
        order=method.order,
        temperature=temperature,
        diffusive=method.diffusive,
        dtype=plan.dtype,
        passages=bool(plan.events or plan.accumulate),
        peaks="noise_peak" in plan.events,
        accumulate=plan.accumulate,
        observed=observed(problem, plan.observe),
    )


def check(problem: Problem, method: Rule, plan: Plan) -> None:
    """Raise ValueError when this method cannot run on this problem under this plan."""
    data = problem.data
    if method.models_alone and not is_model(problem.network):
        raise ValueError(
            f"{method!r} is for a Model, got a {type(problem.network).__name__} network; use SGD, or Langevin without "
            "samples, or give the network as a Model"
        )
    if not is_model(problem.network):
        init.check_members(problem.init, plan.trajectories, plan.members)
    if not np.isfinite(method.time_step * float(plan.steps)):
        raise ValueError(
            f"time must be finite, got {method.time_step:.3g} a step for {plan.steps} steps; lower lr or dt"
        )
    if method.source == "flow" and plan.dtype != "float64":
        raise ValueError(f'dtype must be "float64" for GradientFlow, got "{plan.dtype}"; leave dtype out')
    if method.source == "flow" and plan.accumulate is not None:
        raise ValueError("accumulate is for methods with noise, got GradientFlow; leave accumulate out")
    if is_model(problem.network):
        _check_model(method, plan)
    elif method.source == "aligned" and not data.diagonal_in_modes:
        raise ValueError(
            'noise = "aligned" needs a covariance that is diagonal in the right singular vectors of the teacher; '
            'use noise = "gradient" or change covariance'
        )
    if method.source == "sgd" and data.moments_alone:
        raise ValueError("SGD needs data with samples, got Moments, which do not fix the law of a batch; use Langevin")
    if data.samples:
        if method.sampling in ORDERED and method.batch > data.samples:
            raise ValueError(
                f'batch_size must be at most the {data.samples} samples with sampling = "{method.sampling}", '
                f'got {method.batch}; lower it or use sampling = "replacement"'
            )
    elif method.source == "sgd" and method.sampling != "replacement":
        raise ValueError(
            f'sampling = "{method.sampling}" needs a data set, but samples of Gaussian data are always fresh; '
            "leave sampling out"
        )


def _check_model(method: Rule, plan: Plan) -> None:
    """Raise ValueError for what a Model has no meaning for."""
    if method.source == "aligned":
        raise ValueError(
            'noise = "aligned" needs the modes of a linear network, which a Model does not have; use noise = "gradient"'
        )
    if plan.accumulate is not None:
        raise ValueError(
            "accumulate counts the mode strengths of a linear network, which a Model does not have; leave it out and "
            'use keep = "trajectories"'
        )
    if "noise_peak" in plan.events:
        raise ValueError(
            'events = ["noise_peak"] is for linear networks; for a Model save observe.Modes() often and find the peak '
            "there"
        )
    if plan.steps >= 2**31:
        raise ValueError(f"steps must be below 2**31 for a Model, got {plan.steps:,}; continue the run instead")
