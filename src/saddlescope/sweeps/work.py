"""A batch of runs, in the process that executes it.

A ``Job`` is all that a worker needs, and reaches it once, pickled; a batch is then a list of numbers of runs. In a
worker a run has one thread, and everywhere BLAS has one, so that all give the same bits. An error of a run is part of
its result.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, Protocol, Self

import numpy as np

from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.run import version
from saddlescope.sweeps import hearing
from saddlescope.sweeps.axes import Grid
from saddlescope.sweeps.fields import Base
from saddlescope.sweeps.hearing import Heard
from saddlescope.sweeps.layout import DIVERGED, DONE, RAISED, Forms, Result
from saddlescope.sweeps.picks import Picks
from saddlescope.sweeps.reduced import Reduction
from saddlescope.sweeps.schema import Schema
from saddlescope.sweeps.shared import one_blas_thread

Task = Callable[..., Any]
"""``batch`` or ``first``, called with a job."""

LONGEST = 500
"""Most characters of the sentence of an error."""


class UnequalVersions(RuntimeError):
    """A worker has another version of the package."""


@dataclass(frozen=True, eq=False)
class Job:
    """The runs of a sweep, and what is kept of each."""

    base: Base
    grid: Grid
    keep: Picks | Reduction
    engine: str = "auto"
    threads: int | None = None
    """Threads of each run; those of its plan if None."""

    def elsewhere(self) -> Self:
        """The job as workers execute it: each run has one thread."""
        return replace(self, threads=1)


@dataclass(frozen=True, eq=False)
class Done:
    """What a worker returns: results, warnings by sentence, its host and instruction set."""

    results: tuple[Result, ...]
    heard: Mapping[str, Heard]
    place: tuple[str, str]


def batch(job: Job, indices: Sequence[int], forms: Forms) -> Done:
    """Execute runs and keep arrays of these forms; an error of a run is its result."""
    with one_blas_thread:
        return _batch(job, indices, forms)


def _batch(job: Job, indices: Sequence[int], forms: Forms) -> Done:
    results, heard = [], dict[str, Heard]()
    for index in indices:
        began = time.perf_counter()
        with hearing.hearing() as sentences:
            try:
                found, message = job.keep.of(*_run(job, index), job.engine, forms), ""
                values, status = found.values, DIVERGED if found.diverged else DONE
            except (Exception, SystemExit) as error:
                values = tuple(np.full(form.shape, np.nan) for form in forms.values())
                status, message = RAISED, sentence(error)
        results.append(Result(index, status, message, values, time.perf_counter() - began))
        heard = hearing.together(heard, hearing.of_run(index, sentences))
    return Done(tuple(results), heard, place())


def first(job: Job, indices: Sequence[int]) -> Schema | str:
    """What a function gives of a run, or the sentence of its error."""
    with one_blas_thread, hearing.hearing():
        try:
            assert isinstance(job.keep, Reduction)
            return job.keep.first(*_run(job, indices[0]), job.engine)
        except (Exception, SystemExit) as error:
            return sentence(error)


def _run(job: Job, index: int) -> tuple[Problem, Method, Plan]:
    problem, method, plan = job.grid.parts(job.base, index)
    return problem, method, plan if job.threads is None else replace(plan, threads=job.threads)


def sentence(error: BaseException) -> str:
    """An error on one line, with its kind.

    >>> sentence(ValueError("too hot"))
    'ValueError: too hot'
    """
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST].rstrip(": ")


def unequal(here: str, there: set[str]) -> str:
    """The sentence on workers of another version."""
    return (
        f"client has saddlescope {here}, but its workers have {', '.join(sorted(there))}, which can give other bits; "
        "install the same version on all of them"
    )


@cache
def place() -> tuple[str, str]:
    """Name of this machine and instruction set of its compiled engine."""
    try:
        from saddlescope import _kernel
    except ImportError:
        return platform.node(), "none"
    return platform.node(), _kernel.instruction_sets()[0]


# --- jobs on their way to a worker


class Sendable(Protocol):
    """A job that can be executed by workers."""

    def elsewhere(self) -> Sendable:
        """The job as workers execute it."""
        ...


def packed(job: Sendable) -> bytes:
    """A job as bytes; functions of a script by value, where cloudpickle is installed.

    Raises TypeError where a function cannot be sent.
    """
    by_value = importlib.util.find_spec("cloudpickle") is not None
    try:
        content: bytes = importlib.import_module("cloudpickle" if by_value else "pickle").dumps(job.elsewhere())
    except Exception as error:
        raise TypeError(
            f"the job cannot be sent to other processes ({sentence(error)}); leave client out, or define its "
            "functions at the top of a module"
        ) from None
    return content


@lru_cache(maxsize=4)
def _opened(content: bytes) -> Any:
    return pickle.loads(content)


def execute(made_by: str, content: bytes, task: Task, *arguments: Any) -> Any:
    """The task on a pickled job, which only the version that made it opens; UnequalVersions otherwise."""
    if made_by != version():
        raise UnequalVersions(unequal(made_by, {version()}))
    return task(_opened(content), *arguments)
