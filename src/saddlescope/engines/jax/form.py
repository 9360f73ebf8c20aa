"""A step in two parts: the form, which a program is compiled for, and the numbers, which it takes as they come.

Learning rate, temperature, weight decay, data … are numbers: a sweep over them compiles once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from saddlescope.data import is_finite
from saddlescope.engines.finite import Samples
from saddlescope.engines.step import Step
from saddlescope.observables import THRESHOLDS


@dataclass(frozen=True)
class Form:
    """What of a step determines the operations of its program.

    ``kernel`` the kind of network, ``blocks`` groups equal strengths, ``batch`` the samples that a step draws,
    ``labels`` whether labels have fresh noise, ``white`` whether R is the identity, ``finite`` whether there are given
    samples, ``factored`` whether their noise has a factor F.
    """

    kernel: str
    blocks: tuple[tuple[int, ...], ...]
    source: str
    sampling: str
    noise_from: str | None
    batch: int
    labels: bool
    white: bool
    finite: bool
    factored: bool
    order: int
    momentum: bool
    passages: bool
    peaks: bool

    @property
    def modes(self) -> int:
        """Number of modes m."""
        return sum(map(len, self.blocks))

    @classmethod
    def of(cls, step: Step) -> Form:
        """The form of a step."""
        data, drawn = step.data, step.source == "sgd" and step.sampling != "full"
        return cls(
            kernel=step.network.kernel,
            blocks=data.modes.blocks,
            source=step.source,
            sampling=step.sampling,
            noise_from=step.noise_from,
            batch=int(step.batch) if drawn else 0,
            labels=data.label_noise > 0,
            white=np.array_equal(step.root, np.eye(*step.root.shape)),
            finite=is_finite(data),
            factored=_factor(step) is not None,
            order=step.order,
            momentum=step.momentum > 0,
            passages=step.passages,
            peaks=step.peaks,
        )


class Numbers(NamedTuple):
    """The numbers of a step, in the type of the run.

    ``teacher`` diag(s*) (dy, dx), ``root`` R (dx, r), ``goals`` (2, m) strengths at which modes are learned; ``inputs``
    c (r, samples), ``residuals`` (dy, samples) and ``factor`` F (q, k) of a data set, empty without; ``scale`` is
    √(T/dt); ``deviation`` ``√(T dt / d)``; ``noise`` (α₁, center, floor) of g as a function of Δ.
    """

    lr: Any
    dt: Any
    decay: Any
    momentum: Any
    temperature: Any
    label_noise: Any
    share: Any
    scale: Any
    deviation: Any
    noise: Any
    teacher: Any
    root: Any
    goals: Any
    inputs: Any
    residuals: Any
    factor: Any

    @classmethod
    def of(cls, step: Step) -> Numbers:
        """The numbers of a step."""
        data = step.data
        factor, samples = _factor(step), Samples.of(data) if is_finite(data) else Samples(*np.zeros((2, 0, 0)))
        noise = (0.0, 0.0, 0.0)
        if step.network.scalar:
            found = data.gradient_noise(step.share).about(float(data.modes.strengths[0]))
            noise = found.alpha, found.center, found.floor
        values = cls(
            lr=step.lr,
            dt=step.dt,
            decay=step.decay,
            momentum=step.momentum,
            temperature=step.temperature,
            label_noise=data.label_noise,
            share=step.share if is_finite(data) else 1.0,
            scale=np.sqrt(step.temperature / step.dt),
            deviation=np.sqrt(step.temperature * step.dt / step.network.parameters),
            noise=noise,
            teacher=step.teacher,
            root=step.root,
            goals=np.outer(THRESHOLDS, data.modes.strengths),
            inputs=samples.inputs.T,
            residuals=samples.residuals.T,
            factor=np.empty((0, 0)) if factor is None else factor,
        )
        return cls(*(np.asarray(value, step.dtype) for value in values))

    def gradient_noise(self, error: Any) -> Any:
        """Variance g of one sample's gradient of one input and one label, from Δ; shape of ``error``."""
        alpha, center, floor = self.noise
        return alpha * (error - center) ** 2 + floor


def _factor(step: Step) -> Any:
    """F of the noise of a data set; None where there is none."""
    return step.data.noise_factor if step.noise_from == "samples" and is_finite(step.data) else None
