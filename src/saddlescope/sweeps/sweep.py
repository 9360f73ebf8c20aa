"""``sweep``: many runs that differ in some fields, as one labelled dataset."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import xarray as xr

from saddlescope._numbers import python_number, shown
from saddlescope._warnings import warn
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs import swept
from saddlescope.runs.swept import RECORD
from saddlescope.sweeps.executors import Executor, connected
from saddlescope.sweeps.layout import Array, Layout
from saddlescope.sweeps.loop import FIRST, Flight, Lost, Tally, advance
from saddlescope.sweeps.memory import Memory
from saddlescope.sweeps.progress import progress as reported
from saddlescope.sweeps.schema import Schema
from saddlescope.sweeps.setup import Setup, setup_of
from saddlescope.sweeps.shared import one_blas_thread
from saddlescope.sweeps.store import Store, take
from saddlescope.sweeps.work import UnequalVersions, first, sentence


def sweep(
    base: tuple[Problem, Method, Plan],
    axes: Mapping[str, Any],
    *,
    derived: Mapping[str, str] | None = None,
    reduce: Any = None,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    engine: str = "auto",
    max_failures: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Execute a run at every point of a grid; the dataset has the axes first, then the dims of what is kept.

    ``axes`` maps fields such as ``method.lr`` to their values; a mapping under a name without a dot changes several
    fields together; a name without a dot and without a field is a parameter for ``derived``, which maps fields to
    arithmetic of coordinates such as ``max(1, round(lr / T))``.
    ``reduce`` is what is kept of a run: names of variables, a mapping of names to ``Pick``, or a function of the run's
    Dataset that returns numbers by name; by default every variable at its last save. Where runs differ in size, values
    are padded with NaN.
    ``status`` is 1 for a run that is done, 2 if a trajectory diverged, 3 if it raised the error in ``message``; 0 is
    pending. ``max_failures`` ends a sweep when more runs raise; without it, 20 runs do that all raise from the start.
    ``client`` executes the runs: None this process, a number that many, a ``distributed.Client``, the address of a
    scheduler, or anything with ``submit``. Results are bit-identical on all that have the same instruction set.
    ``out`` names a store, written during the sweep; the same call resumes it. Ctrl-C commits what is done.
    Raises TypeError or ValueError naming the argument at fault, FileExistsError when ``out`` holds something else,
    BlockingIOError when another process writes it, RuntimeError when too many runs raise or the workers are lost.

    >>> from saddlescope import GD, DeepLinear, GaussianData, Problem, init
    >>> problem = Problem(DeepLinear((1, 1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.5))
    >>> found = sweep((problem, GD(lr=0.1), Plan(steps=50)), {"method.lr": [0.1, 0.2]}, reduce="mode_strength")
    >>> found.mode_strength.sel(lr=0.2, statistic="mean").isel(save=-1).values.round(3)
    array([1.])
    """
    for name, value in (("overwrite", overwrite), ("progress", progress)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {shown(value)}")
    made = setup_of(base, axes, derived, reduce, engine)
    return execute(made, out, client, max_failures=max_failures, overwrite=overwrite, progress=progress)


def execute(
    setup: Setup,
    out: str | os.PathLike[str] | None = None,
    client: Any = None,
    *,
    max_failures: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Execute a sweep that is set up; see ``sweep``."""
    most = _most(max_failures)
    with one_blas_thread, connected(client, setup.job) as executor:
        layout = setup.layout(setup.schema or _stored_schema(setup, out, overwrite) or _first_schema(setup, executor))
        with closing(_store(out, layout, overwrite)) as store:
            pending, tally = store.pending(), Tally()
            before = layout.size - len(pending)
            flight = Flight(executor, pending, layout.forms)
            with reported(layout.size, before, progress, executor.link) as show:
                try:
                    signalled = advance(flight, store, tally, most, lambda done, raised: show(before + done, raised))
                except Lost as lost:
                    raise RuntimeError(_ended("the workers were lost", tally, layout.size, before, out, lost)) from lost
            if signalled is not None:
                if signalled == signal.SIGTERM:
                    signal.raise_signal(signalled)
                raise KeyboardInterrupt(_ended("stopped", tally, layout.size, before, out))
            if len(pending):
                store.tidy()
            _tell(tally)
            return store.dataset()


def _most(max_failures: Any) -> int | None:
    number = python_number(max_failures)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
        raise ValueError(f"max_failures must be a whole number of at least 0, got {shown(max_failures)}; leave it out")
    return number


def _stored_schema(setup: Setup, out: Any, overwrite: bool) -> Schema | None:
    """What a function gives, from the store that is resumed, so that no run is repeated to learn it.

    Raises what ``Store.open`` would, before a run is executed.
    """
    if out is None:
        return None
    with ExitStack() as held:
        place, new = take(out, overwrite, held)
        if new:
            return None
        stored, axes = swept.read(place), len(setup.grid.dims)
    arrays = {
        str(name): Array(tuple(map(str, one.dims[axes:])), one.shape[axes:], one.attrs)
        for name, one in stored.data_vars.items()
        if name not in RECORD
    }
    own = {str(name): one for name, one in stored.coords.items() if name not in setup.grid.coords}
    return arrays, {name: (tuple(map(str, one.dims)), one.values, one.attrs) for name, one in own.items()}


def _store(out: Any, layout: Layout, overwrite: bool) -> Any:
    return Memory(layout) if out is None else Store.open(out, layout, overwrite)


def _first_schema(setup: Setup, executor: Executor) -> Schema:
    """What a function gives, from its first run that does not raise; RuntimeError when FIRST do."""
    for index in range(min(FIRST, setup.grid.size)):
        try:
            found: Schema | str = executor.submit(first, [index]).result()
        except UnequalVersions:
            raise
        except Exception as error:
            raise RuntimeError(f"the workers were lost before the first run: {sentence(error)}") from error
        if not isinstance(found, str):
            return found
    raise RuntimeError(
        f"none of the first {index + 1:,} runs shows what reduce returns, since all raised; the last is {found}; "
        "correct it, or begin with other values"
    )


def _ended(how: str, tally: Tally, size: int, before: int, out: Any, reason: object = "") -> str:
    kept = "the same call resumes" if out is not None else "nothing is kept without out = a path"
    because = f" ({reason})" if reason else ""
    return f"{how} after {before + tally.done:,} of {size:,} runs{because}; {kept}"


def _tell(tally: Tally) -> None:
    """Warn of what happened in the runs, with counts."""
    for heard in tally.heard.values():
        warn(f"in {heard.runs:,} of {tally.done:,} runs, such as run {heard.index:,}: {heard.sentence}")
    for error in tally.errors.values():
        warn(f"{error.runs:,} of {tally.done:,} runs raised, such as run {error.index:,}: {error.sentence}")
    if tally.given_up:
        warn(
            f"{len(tally.given_up):,} runs are still pending, such as run {tally.given_up[0]:,}: their workers died "
            "several times, perhaps for lack of memory; the same call tries them again"
        )
    if len({instruction_set for _, instruction_set in tally.places}) > 1:
        named = ", ".join(f"{host} {instruction_set}" for host, instruction_set in sorted(tally.places)[:8])
        warn(f"workers have different instruction sets ({named}), which can differ in the last bits")
