"""The one verb: a problem and a method under a plan go in, one labelled run comes out."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from saddlescope import advice, results
from saddlescope._model import allowed
from saddlescope.engines import protocol
from saddlescope.engines.protocol import Engine, State
from saddlescope.methods import METHODS, GradientFlow, Langevin, Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.results import Record
from saddlescope.store import Memory, Sink, Store, as_path, is_run, same_run

ENGINES = ("auto", "native", "reference")

BLOCK_SECONDS = 0.2
"""Time between two looks at Ctrl-C and the progress bar."""

COMMIT_SECONDS, COMMIT_BYTES = 30.0, 128 << 20
"""A store commits after so much time, or when so much waits to be written."""


@dataclass(frozen=True)
class Start:
    """A run before it is advanced; ``state`` and ``records`` are those of the run it goes on from."""

    problem: Problem
    method: Method
    plan: Plan
    state: State | None = None
    records: Sequence[Record] = ()
    continues: tuple[str, ...] = ()


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

    With a finished run in place of the problem: the same method and a plan of more steps extend it, as if it had never
    stopped; another method starts its own clock at the run's last weights.
    ``engine`` is "native" (compiled), "reference" (plain NumPy), or "auto" (native where it is built).
    ``out`` names a Zarr store, written while the run goes on: killed at any time, the same call resumes it.
    Raises TypeError or ValueError naming the argument at fault, FileExistsError when ``out`` holds another or a finished
    run and ``overwrite`` is not set, OSError when the disk is full.

    >>> from saddlescope import GD, Balanced, DeepLinear, GaussianData
    >>> problem = Problem(DeepLinear((2, 3, 2)), GaussianData([[2.0, 0.0], [0.0, 1.0]]), Balanced(scale=0.5))
    >>> run = simulate(problem, GD(lr=0.05), Plan(steps=200, saves=4), engine="reference")
    >>> run.mode_strength.sel(statistic="mean").isel(time=-1).values
    array([2., 1.])
    """
    if isinstance(problem, xr.Dataset):
        start = _continue(problem, method, plan)
    else:
        start = _begin(problem, method, plan)
    made = make_engine(engine, start.problem, start.method, start.plan)
    with closing(_sink(start, made, out, overwrite)) as sink:
        _advance(made, start, sink, progress)
        return sink.dataset()


def _begin(problem: Any, method: Any, plan: Any) -> Start:
    for name, value, kinds, example in (
        ("problem", problem, Problem, "Problem(network, data, init), or a finished run"),
        ("method", method, METHODS, "SGD(lr=1e-3, batch_size=16)"),
        ("plan", plan, Plan, "Plan(steps=10_000)"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{name} must be such as {example}, got {value!r:.80}")
    return Start(problem, method, plan)


def _continue(run: xr.Dataset, method: Method | None, plan: Plan | None) -> Start:
    problem, old_method, old_plan = results.parts(run)
    start = _begin(problem, old_method if method is None else method, old_plan if plan is None else plan)
    state, earlier = results.final_state(run), tuple(run.attrs.get("continues", ()))
    _check_ensemble(old_plan, start.plan, extends=start.method == old_method)
    if start.method == old_method:
        return replace(
            start, plan=_extended(run, start.plan, state), state=state, records=results.unstack(run), continues=earlier
        )
    fresh = protocol.start(problem, start.method, start.plan)
    return replace(start, state=protocol.restart(state, fresh), continues=(*earlier, run.attrs["toml"]))


def _check_ensemble(old: Plan, new: Plan, extends: bool) -> None:
    names = ("seed", "dtype", "keep", "events") if extends else ("seed", "dtype")
    pairs = {name: (getattr(old, name), getattr(new, name)) for name in names}
    pairs["trajectories"] = (old.member_indices.tolist(), new.member_indices.tolist())
    for name, (was, got) in pairs.items():
        if was != got:
            raise ValueError(
                f"plan.{name} must be that of the run to go on with it, got {got!r:.60} instead of {was!r:.60}; "
                f"give the same {name}"
            )


def _extended(run: xr.Dataset, plan: Plan, state: State) -> Plan:
    """The plan whose saves are those of the run, then the new ones."""
    if plan.steps <= state.step:
        raise ValueError(
            f"plan.steps must be more than the {state.step} steps of the run to extend it, got {plan.steps}; "
            "give a plan with more steps, or another method"
        )
    saves = np.concatenate([run["step"].values, plan.save_steps[plan.save_steps > state.step]])
    return plan if np.array_equal(saves, plan.save_steps) else replace(plan, save_at=tuple(saves.tolist()))


def make_engine(name: str, problem: Problem, method: Method, plan: Plan) -> Engine:
    """The engine of one run; refuses what no engine can do."""
    if name not in ENGINES:
        raise ValueError(f"engine must be one of those {allowed(str(name), ENGINES)}, got {name!r}")
    if isinstance(method, GradientFlow) and plan.dtype != "float64":
        raise ValueError(f'dtype must be "float64" for GradientFlow, got {plan.dtype!r}; leave dtype out')
    if isinstance(method, Langevin) and method.noise == "aligned" and not problem.data.diagonal_in_modes:
        raise ValueError(
            'noise "aligned" needs a covariance that is diagonal in the teacher\'s right singular vectors; '
            'use noise="gradient", or leave covariance out'
        )
    if name != "reference":
        try:
            from saddlescope.engines.native import Native

            return Native(problem, method, plan)
        except ImportError:
            if name == "native":
                raise ValueError('engine "native" is not built here; install a compiler, or use "reference"') from None
    from saddlescope.engines.reference import Reference

    return Reference(problem, method, plan)


def _sink(start: Start, engine: Engine, out: Any, overwrite: bool) -> Sink:
    """Where the run goes, with all saves that exist already."""
    problem, method, plan = start.problem, start.method, start.plan
    attrs = results.attributes(problem, method, plan, engine)
    if start.continues:
        attrs["continues"] = list(start.continues)
    path = None if out is None else as_path(out, "out")
    if path is not None and path.exists() and not overwrite:
        return _resumed(path, attrs)
    for sentence in advice.before(problem, method, plan):
        warnings.warn(sentence, stacklevel=3)
    frame = results.frame(problem, method, plan, attrs)
    state, records = start.state, start.records
    if state is None:
        state = engine.init()
    if not records and plan.save_steps[0] == state.step:
        records = [results.record(engine, problem, plan, state)]
    if path is None:
        return Memory(frame, problem, plan, state, records)
    _check_place(path)
    return Store.create(path, frame, problem, plan, state, records)


def _resumed(path: Path, attrs: dict[str, Any]) -> Store:
    _check_place(path)
    sink = Store(path)
    sink
