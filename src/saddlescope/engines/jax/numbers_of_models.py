"""A step of a Model in two parts: the form, which a program is compiled for, and the numbers, its arguments.

Learning rate, temperature, weight decay, momentum … are numbers, and so is the label noise, which the table holds. A
number that is 0 belongs to the form instead, so that its operations are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from saddlescope import schedules
from saddlescope.engines.step import Step

Part = TypeVar("Part")

NAMES = ("lr", "weight_decay", "momentum", "betas", "eps")
"""Arguments of methods that are numbers; of Langevin, dt and batch_size too."""

UNKNOWN = math.inf
"""In place of a number in a form, where using it shows."""

SOME = schedules.Step(every=1, factor=1.0)
"""In place of any schedule in a form."""


class Numbers(NamedTuple):
    """The numbers of a step, in the type of the run; None for a decay or momentum of 0.

    ``averages`` are (β, 1 − β, log β) of each average of Adam, which would lose digits in single precision.
    """

    lr: Any
    dt: Any
    temperature: Any
    decay: Any
    momentum: Any
    averages: Any
    eps: Any

    @classmethod
    def of(cls, step: Step) -> Numbers:
        """The numbers of a step.

        >>> from saddlescope import SGD, Examples, Model, Plan, Problem
        >>> from saddlescope.engines.step import decode
        >>> model = Model(lambda p, x: p["w"] * x, lambda key: {"w": jax.numpy.ones(1)})
        >>> step = decode(Problem(model, Examples([[1.0]], [[2.0]])), SGD(0.5, 2, momentum=0.9), Plan(steps=1))
        >>> Numbers.of(step).momentum, Numbers.of(step).decay
        (array(0.9), None)
        """
        values = cls(
            lr=step.lr,
            dt=step.dt,
            temperature=step.temperature,
            decay=step.decay or None,
            momentum=step.momentum or None,
            averages=[(b, 1 - b, math.log(b) if b else -math.inf) for b in getattr(step.method, "betas", ())],
            eps=getattr(step.method, "eps", None),
        )
        found: Numbers = jax.tree.map(lambda value: np.asarray(value, step.dtype), values)
        return found

    def within(self, form: Step) -> Step:
        """The step of this form and these numbers."""
        decay, momentum = (0.0 if value is None else value for value in (self.decay, self.momentum))
        own = {"lr": self.lr, "dt": self.dt, "temperature": self.temperature}
        return replace(form, **own, decay=decay, momentum=momentum)


def form_of(step: Step) -> Step:
    """A step without its numbers, the method and the data included."""
    method = _without(step.method, NAMES)
    if step.diffusive:
        vars(method).update(batch_size=UNKNOWN, dt=UNKNOWN)
    if step.schedule is not None:
        vars(method).update(schedule=SOME)
    return replace(
        step,
        data=_without(step.data, ("label_noise",)),
        method=method,
        batch=UNKNOWN if step.diffusive else step.batch,
        lr=UNKNOWN,
        dt=UNKNOWN,
        schedule=method.schedule,
        decay=method.weight_decay,
        momentum=method.momentum,
        temperature=UNKNOWN,
    )


def key_of(form: Step) -> tuple[Any, ...]:
    """What programs depend on in a form; two forms of equal keys are the same."""
    data: Any = form.data
    return form.network, form.dtype, form.method, type(data), *(getattr(data, field.name) for field in fields(data))


def _without(part: Part, names: Sequence[str]) -> Part:
    """A copy of a part, sharing its arrays and what was computed from them, without these numbers, but for zeros."""
    copied = object.__new__(type(part))
    vars(copied).update(vars(part))
    for name in names:
        if getattr(part, name, 0):
            vars(copied)[name] = UNKNOWN
    return copied
