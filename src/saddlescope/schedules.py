"""Learning-rate schedules: ``η_k = η f(k)``, with a factor 0 ≤ f ≤ 1 at step k.

``at(step)`` is f; ``elapsed(step)`` is its sum over all earlier steps, in closed form, so that the time of a run is
lr · elapsed (dt · elapsed for Langevin, whose temperature is also multiplied by f). No schedule means f = 1.

Factors are computed with Python's ``math``, one at a time: NumPy's functions differ in the last bit between
processors, which would change a run that is resumed elsewhere.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BeforeValidator, Field

from saddlescope._arrays import Floats
from saddlescope._numbers import as_numbers, shown
from saddlescope._parts import Count, Real, frozen

Steps = Annotated[Count, Field(ge=1, lt=2**53)]
_STEPS = "a number of steps such as 10000"
_NO_TABLE = BeforeValidator(lambda value: repr(value) if isinstance(value, dict) else value)
"""A table does not say which schedule it describes, so it is refused like text."""


def counted(step: ArrayLike) -> Floats:
    """Validated steps."""
    steps = as_numbers(step, "step")
    if not ((steps >= 0) & (steps < np.inf)).all():
        raise ValueError(f"step must be finite and not negative, got {shown(step)}; steps count from 0")
    return steps


@frozen
class Step:
    """The learning rate is multiplied by q after every N = ``every`` steps: ``f(k) = q^⌊k/N⌋``, 0 < q ≤ 1.

    Raises ValueError for a factor or a number of steps out of range.

    >>> Step(every=2, factor=0.5).at([0, 1, 2, 3, 4])
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    >>> Step(every=2, factor=0.5).elapsed(5)
    array(3.25)
    """

    every: Steps = Field(description=_STEPS)
    factor: Annotated[Real, Field(gt=0, le=1)] = Field(description="a factor such as 0.1")

    def at(self, step: ArrayLike) -> Floats:
        """f at these steps (whole numbers from 0 on); shape of ``step``."""
        levels, where = np.unique(counted(step) // self.every, return_inverse=True)
        return np.array([self.factor**level for level in levels.tolist()], float)[where].reshape(np.shape(step))

    @property
    def stops(self) -> float:
        """First step with f = 0; inf, since there is none."""
        return math.inf

    def elapsed(self, step: ArrayLike) -> Floats:
        """``Σ_{k < step} f(k) = N (1 − q^m)/(1 − q) + r q^m``, step = m N + r; shape of ``step``."""
        m, r = np.divmod(counted(step), self.every)
        if self.factor == 1:
            return counted(step)
        log = math.log(self.factor)
        return np.asarray(self.every * np.expm1(m * log) / math.expm1(log) + r * np.exp(m * log))


@frozen
class Cosine:
    """The learning rate falls over N = ``steps`` steps to a fraction c = ``floor`` of itself, and stays there.

    ``f(k) = c + (1 − c)(1 + cos(πk/N))/2`` up to N, then c; with c = 0 time then stops. 0 ≤ c ≤ 1.
    Source: Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts.
    Raises ValueError for a floor or a number of steps out of range.

    >>> Cosine(steps=4).at([0, 2, 4, 9])
    array([1. , 0.5, 0. , 0. ])
    >>> Cosine(steps=4, floor=0.5).elapsed([4, 6])
    array([3.25, 4.25])
    """

    steps: Steps = Field(description=_STEPS)
    floor: Annotated[Real, Field(ge=0, le=1)] = Field(default=0.0, description="a fraction such as 0.1")

    def at(self, step: ArrayLike) -> Floats:
        """f at these steps (whole numbers from 0 on); shape of ``step``."""
        half_sines = [math.sin(math.pi / 2 * left) for left in self._left(step).ravel().tolist()]
        return self.floor + (1 - self.floor) * np.square(half_sines).reshape(np.shape(step))

    @property
    def stops(self) -> float:
        """First step with f = 0: N if c = 0, otherwise inf."""
        return math.inf if self.floor else self.steps

    def elapsed(self, step: ArrayLike) -> Floats:
        """``Σ_{k < step} f(k)``, by ``Σ_{k < n} cos kx = sin(nx/2) cos((n−1)x/2)/sin(x/2)``; shape of ``step``."""
        k = counted(step)
        n, half = np.minimum(k, self.steps), math.pi / (2 * self.steps)
        cosines = np.sin(n * half) * np.cos((n - 1) * half) / math.sin(half)
        return np.asarray(self.floor * k + (1 - self.floor) * (n + cosines) / 2)

    def _left(self, step: ArrayLike) -> Floats:
        """Remaining fraction of the decay: 1 at the start, 0 from N on."""
        return 1 - np.minimum(counted(step), self.steps) / self.steps


@frozen
class Warmup:
    """The learning rate rises over N = ``steps`` steps, ``f(k) = (k + 1)/N``, then follows ``then``.

    ``then`` is a ``Step`` or a ``Cosine`` that starts at step N; without it f = 1 from N on.
    Raises ValueError for a number of steps out of range, TypeError for any other ``then``.

    >>> Warmup(steps=4).at([0, 1, 3, 8])
    array([0.25, 0.5 , 1.  , 1.  ])
    >>> Warmup(steps=4, then=Step(every=1, factor=0.5)).elapsed([2, 4, 6])
    array([0.75, 2.5 , 4.  ])
    """

    steps: Steps = Field(description=_STEPS)
    then: Annotated[Step | Cosine | None, _NO_TABLE] = Field(
        default=None, description="a schedule such as Cosine(steps=10000)"
    )

    def at(self, step: ArrayLike) -> Floats:
        """f at these steps (whole numbers from 0 on); shape of ``step``."""
        k = counted(step)
        after = np.maximum(k - self.steps, 0)
        later = np.ones(k.shape) if self.then is None else self.then.at(after)
        return np.where(k < self.steps, (k + 1) / self.steps, later)

    @property
    def stops(self) -> float:
        """First step of the part at the end with f = 0; inf if there is none."""
        return math.inf if self.then is None else self.steps + self.then.stops

    def elapsed(self, step: ArrayLike) -> Floats:
        """``Σ_{k < step} f(k) = n(n + 1)/(2N)``, n = min(step, N), plus the sum of ``then``; shape of ``step``."""
        k = counted(step)
        n, after = np.minimum(k, self.steps), np.maximum(k - self.steps, 0.0)
        return np.asarray(n * (n + 1) / (2 * self.steps) + (after if self.then is None else self.then.elapsed(after)))


Schedule = Annotated[Step | Cosine | Warmup, _NO_TABLE]
SCHEDULES = (Step, Cosine, Warmup)
