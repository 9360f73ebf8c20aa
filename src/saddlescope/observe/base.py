"""The protocol of an observation of a Model, and what it sees of one member of an ensemble.

A ``Variable`` says what a variable of a run is; an ``Observation`` names its variables and computes them from a
``Sight``, for one member, as a function that JAX can trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CHUNK = 256
"""Samples that are seen together where a result has no sample axis, so that memory does not grow with their number."""


@dataclass(frozen=True)
class Variable:
    """A variable of a run: its dims, its units, its name on an axis, and what it is."""

    dims: tuple[str, ...]
    units: str
    long_name: str
    definition: str = ""
    note: str = ""
    """Why it is NaN in this run, where it is."""

    @property
    def attrs(self) -> dict[str, str]:
        """As attributes of a labelled array; without units where there are none, so that axes show none."""
        named = {"units": self.units, "long_name": self.long_name, "definition": self.definition}
        named |= {"why_nan": self.note}
        return {name: text for name, text in named.items() if text and (name, text) != ("units", "1")}


Coordinate = tuple[tuple[str, ...], Any, dict[str, str]]
"""Dims, values and attributes of a coordinate."""


class Observation:
    """Base of what a plan observes of a Model; the fields of a part are its arguments.

    An observation with sums (``start`` returns some) is carried along by every step.
    """

    def check(self, model: Any, data: Any) -> None:
        """Raise ValueError where the model or the data lack what is observed."""

    def variables(self, model: Any, data: Any) -> Mapping[str, Variable]:
        """What it adds to a run, by name; dims without those of time and ensemble."""
        raise NotImplementedError

    def sizes(self, model: Any, data: Any) -> Mapping[str, int]:
        """Length of every dim of its variables."""
        return {}

    def coordinates(self, model: Any, data: Any) -> Mapping[str, Coordinate]:
        """Coordinates along these dims; a dim without any is numbered from 0."""
        return {}

    def of(self, sight: Sight) -> Mapping[str, Any]:
        """Its variables for one member."""
        raise NotImplementedError

    def start(self, sight: Sight) -> tuple[Any, ...]:
        """Sums of one member before the first step; none for most observations."""
        return ()

    def step(self, sums: tuple[Any, ...], now: Now) -> tuple[Any, ...]:
        """The sums of one member after a step."""
        return sums


@dataclass(frozen=True, eq=False)
class Now:
    """What the sums of an observation see of one step of one member: weights before and after it, its own gradient.

    ``gradient`` is that of the batch, noise included, without weight decay; ``lr`` is the step's own η, dt of Langevin.
    """

    model: Any
    step: Any
    params: Any
    after: Any
    gradient: Any
    lr: Any


@dataclass(frozen=True, eq=False)
class Sight:
    """One member at one save: the model, its params, the samples on the device, and the noise of the method.

    ``temperature`` and ``lr`` are those of the save's step (traced), ``step`` is the description of the method's step;
    ``sums`` are those of the observation. Runs that differ in numbers share what is compiled: numbers of the run are
    those of ``step`` and ``table``, while a number of ``step.method`` and ``step.data`` is infinite.
    """

    model: Any
    params: Any
    table: Any
    step: Any
    temperature: Any
    lr: Any
    sums: tuple[Any, ...] = ()

    @property
    def share(self) -> float:
        """Fraction of the sampling variance that remains."""
        return float(self.step.share)

    @cached_property
    def outputs(self) -> Any:
        """Outputs for all training inputs (n, …)."""
        from saddlescope.observe import _blocks

        return _blocks.each(lambda x: self.model.apply(self.params, x), (self.table.x,), CHUNK)

    @cached_property
    def losses(self) -> Any:
        """Loss of every training sample (n,), in the mean over fresh labels up to a constant."""
        return self.model.loss_of(self.outputs, self.table.mean_y)

    @cached_property
    def gradient(self) -> Any:
        """Gradient of the mean loss, like the params."""
        from saddlescope import _jax
        from saddlescope.observe import _blocks

        jax, n = _jax.load(), self.table.samples

        def block(x: Any, y: Any) -> Any:
            return jax.grad(lambda params: self.model.losses(params, x, y).sum() / n)(self.params)

        return _blocks.total(block, (self.table.x, self.table.mean_y), CHUNK)
