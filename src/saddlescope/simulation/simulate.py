"""The one verb: a problem and a method under a plan go in, one labelled run comes out."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import xarray as xr

from saddlescope._numbers import shown
from saddlescope._warnings import warn
from saddlescope.engines import make_engine
from saddlescope.engines.protocol import Engine
from saddlescope.methods import Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runs.place import check_replaceable, take
from saddlescope.runs.run import attributes, frame, joined, kept, record
from saddlescope.runs.sink import Memory, Sink
from saddlescope.runs.store import Store
from saddlescope.simulation import advice, estimate
from saddlescope.simulation.loop import TWICE_SECONDS, advance
from saddlescope.simulation.start import Start, begin


def simulate(
    problem: Problem | xr.Dataset,
    method: Method | None = None,
    plan: Plan | None = None,
    *,
    engine: str = "auto",
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> xr.Dataset:
    """Advance an ensemble by a method under a plan; the run is one labelled Dataset.

    ``problem`` may also be a run. The same method and a plan of more steps then extend it, bit-identical to one
    uninterrupted run; another method continues it from its last weights, with time and step starting at 0.
    ``engine`` is "native" (compiled), "reference" (plain NumPy), "jax" (on its devices, the only one for a Model), or
    "auto": native where it is built and has the network, jax for a Model, otherwise reference.
    Warns at the end when trajectories have diverged, which are then excluded from statistics, or stick at 0. The same
    warning on the same problem, method and plan is given once in a process, whatever the seed.
    ``out`` names a Zarr store, written during the run: if the process is killed at any time, the same call resumes it.
    It is committed after a second, then at intervals of a fifth of the time since the start, of at most 30 s, longer
    in between where a commit takes long (20 times as long as a commit): a killed run loses at most that.
    ``simulate(load(path), plan=longer, out=path)`` extends a run in its store, which must hold it at the same step.
    One process at a time writes it; other files are left alone, links are followed, an empty folder is used as it is.
    Ctrl-C ends a run in memory early, with a warning: what was computed is returned, ``attrs["complete"]`` is 0, and
    ``simulate(run)`` finishes it, bit-identical. Ctrl-C twice within two seconds raises KeyboardInterrupt, as does
    Ctrl-C while a store is written, after a commit.
    Raises TypeError or ValueError naming the argument at fault, FileExistsError when ``out`` holds a different or
    a finished run and ``overwrite`` is not set, or something that is not a run, BlockingIOError when another process
    writes it, DamagedStore (a ValueError) when it cannot be resumed, OSError when the disk is full.

    >>> from saddlescope import GD, DeepLinear, GaussianData, init
    >>> data = GaussianData([[2.0, 0.0], [0.0, 1.0]])
    >>> problem = Problem(DeepLinear((2, 3, 2)), data, init.Balanced(scale=0.5))
    >>> run = simulate(problem, GD(lr=0.05), Plan(steps=200, saves=4), engine="reference")
    >>> run.mode_strength.sel(statistic="mean").isel(time=-1).values
    array([2., 1.])
    """
    for name, value in (("overwrite", overwrite), ("progress", progress)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {shown(value)}")
    start = begin(problem, method, plan)
    estimate.check_memory(start.problem, start.method, start.plan, out is not None, engine)
    made = make_engine(engine, start.problem, start.method, start.plan)
    with closing(_sink(start, made, out, overwrite)) as sink:
        advance(made, start.problem, start.plan, sink, progress)
        if not sink.stored and sink.state.step < start.plan.steps:
            warn(_stopped(sink.state.step, start.plan.steps))
        advice.after(start.problem, start.method, start.plan, sink.state)
        return sink.dataset()


def _stopped(step: int, steps: int) -> str:
    return (
        f"stopped by Ctrl-C at step {step:,} of {steps:,}: the run holds what was computed, simulate(run) finishes it, "
        f"bit-identical; Ctrl-C twice within {TWICE_SECONDS:g} seconds ends the program"
    )


def _sink(start: Start, engine: Engine, out: Any, overwrite: bool) -> Sink:
    """Where the run is kept, with the saves that already exist; warns of what is likely to go wrong."""
    problem, method, plan = start.problem, start.method, start.plan
    attrs = attributes(problem, method, plan, engine)
    if start.continues:
        attrs["continues"] = joined(start.continues)
    with ExitStack() as held:
        path, new = (None, True) if out is None else take(out, overwrite, held)
        if path is not None and not new:
            store = Store(path)
            if not _extends(start, store):
                return _owning(_resumed(store, start, attrs), held)
            check_replaceable(path)
            _warn_of_other_engine(store.attrs, attrs)
        state = engine.init() if start.state is None else start.state
        advice.before(problem, method, plan, engine, state)
        records = start.records
        if not records and plan.save_steps[0] == state.step:
            records = [kept(engine, [record(engine, plan, state)], problem, plan)]
        empty = frame(problem, method, plan, attrs)
        if path is None:
            return Memory(empty, problem, plan, state, records)
        return _owning(Store.create(path, empty, problem, plan, state, records), held)


def _owning(store: Store, held: ExitStack) -> Store:
    """The store with its lock, which it keeps until it is closed."""
    store.held = held.pop_all()
    return store


def _extends(start: Start, store: Store) -> bool:
    """Whether the store holds exactly the run that is extended, at its last step, under a plan of fewer steps."""
    if start.state is None or start.extends is None or start.state.step != store.state.step:
        return False
    old, new = (
        store.same_run(start.problem, start.method, plan, start.continues) for plan in (start.extends, start.plan)
    )
    return old and not new


def _resumed(store: Store, start: Start, attrs: dict[str, Any]) -> Store:
    """The store of this run, at its last commit."""
    if not store.complete:
        store.check()
    if store.complete or not store.same_run(start.problem, start.method, start.plan, start.continues):
        what = "a finished run" if store.complete else "an unfinished run of other settings"
        how = (
            "simulate(load(out), plan=…, out=out) of more steps or saddlescope run STORE --steps N extends it"
            if store.complete
            else "simulate(load(out), out=out) or saddlescope run STORE finishes it"
        )
        raise FileExistsError(
            f"out {str(store.path)!r} holds {what}; pass overwrite=True (--overwrite) to replace it, or another path; "
            f"{how}"
        )
    _warn_of_other_engine(store.attrs, attrs)
    return store


def _warn_of_other_engine(old: dict[str, Any], new: dict[str, Any]) -> None:
    was, now = (f"{attrs['engine']} {attrs['instruction_set']}".strip() for attrs in (old, new))
    if was != now:
        warn(f"the run was started on {was} and is resumed on {now}: same distribution, not bit-identical")
