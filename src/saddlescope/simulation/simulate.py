"""The one verb: a problem and a method under a plan go in, one labelled run comes out."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from saddlescope._numbers import shown
from saddlescope.engines import make_engine, protocol
from saddlescope.engines.protocol import Engine, State
from saddlescope.engines.reference import Reference
from saddlescope.methods import METHODS, Method
from saddlescope.plan import Plan
from saddlescope.problem import Problem
from saddlescope.runfile import run_to_toml
from saddlescope.runs import results
from saddlescope.runs.results import Record
from saddlescope.runs.selection import selected
from saddlescope.runs.store import COMMIT_BYTES, Memory, Sink, Store, same_run, take
from saddlescope.simulation import advice, estimate

BLOCK_SECONDS = 0.2
"""Time between two looks at Ctrl-C and the progress bar."""

COMMIT_SECONDS = 30.0
"""A store commits after so much time, or when COMMIT_BYTES wait to be written."""


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

    With a run in place of the problem: the same method and a plan of more steps extend it, as if it had never
    stopped; another method starts its own clock at the last weights.
    ``engine`` is "native" (compiled), "reference" (plain NumPy), or "auto" (native where it is built).
    Warns at the end when trajectories have diverged, which statistics then leave out, or stick at 0.
    ``out`` names a Zarr store, written during the run: killed at any time, the same call resumes it. One process at a
    time writes it; nothing else there or beside it is changed, links are written through, an empty folder is filled.
    Raises TypeError or ValueError naming the argument at fault, FileExistsError when ``out`` holds another or
    a finished run and ``overwrite`` is not set, or something else, BlockingIOError when another process writes it,
    DamagedStore (a ValueError) when it cannot be resumed, OSError when the disk is full.

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
    begin = _continue if isinstance(problem, xr.Dataset) else _begin
    start = begin(problem, method, plan)
    estimate.check_memory(start.problem, start.method, start.plan, out is not None, engine)
    made = make_engine(engine, start.problem, start.method, start.plan)
    with closing(_sink(start, made, out, overwrite)) as sink:
        _advance(made, start, sink, progress)
        with np.errstate(all="ignore"):
            said = list(advice.on_end(start.problem, start.method, start.plan, sink.state))
        for sentence in said:
            warnings.warn(sentence, stacklevel=2)
        return sink.dataset()


def _begin(problem: Any, method: Any, plan: Any) -> Start:
    for name, value, kinds, example in (
        ("problem", problem, Problem, "Problem(network, data, init), or a finished run"),
        ("method", method, METHODS, "SGD(lr=1e-3, batch_size=16)"),
        ("plan", plan, Plan, "Plan(steps=10_000)"),
    ):
        if not isinstance(value, kinds):
            raise TypeError(f"{name} must be such as {example}, got {shown(value)}")
    return Start(problem, method, plan)


def _continue(run: Any, method: Any, plan: Any) -> Start:
    given = selected(run)
    problem, old_method, old_plan, state = given.problem, given.method, given.plan, given.state
    start = _begin(problem, old_method if method is None else method, old_plan if plan is None else plan)
    earlier = results.earlier(run.attrs)
    extends = start.method == old_method
    _check_ensemble(old_plan, start.plan, extends)
    if extends:
        plan = _extended(given.run["step"].values, start.plan, state)
        return replace(start, plan=plan, state=state, records=given.records(), continues=earlier)
    if state.step < old_plan.steps:
        raise ValueError(
            f"the run stopped at step {state.step:,} of {old_plan.steps:,}; "
            "finish it before it goes on with another method"
        )
    weights = Reference(problem, old_method, old_plan).weights(state)
    fresh = protocol.start(problem, start.method, start.plan, weights)
    toml = run_to_toml(problem, old_method, old_plan, beside=True)
    return replace(start, state=replace(fresh, words=state.words), continues=(*earlier, toml))


def _check_ensemble(old: Plan, new: Plan, extends: bool) -> None:
    names = ("seed", "dtype", "keep", "events", "accumulate") if extends else ("seed", "dtype")
    pairs: dict[str, tuple[Any, Any]] = {name: (getattr(old, name), getattr(new, name)) for name in names}
    if not np.array_equal(old.member_indices, new.member_indices):
        name = "trajectories" if old.members is new.members is None else "members"
        pairs[name] = (old.count, new.count) if name == "trajectories" else (old.members, new.members)
    for name, (was, got) in pairs.items():
        if was != got:
            raise ValueError(
                f"plan.{name} must be that of the run to extend or continue it, {was!r:.60}, got {got!r:.60}; "
                f"give the run's own {name}"
            )


def _extended(steps: NDArray[np.int64], plan: Plan, state: State) -> Plan:
    """The plan whose saves are those of the run, then the new ones."""
    if plan.steps <= state.step:
        raise ValueError(
            f"plan.steps must be more than the {state.step} steps of the run to extend it, got {plan.steps}; "
            "give a plan of more steps, or another method"
        )
    saves = np.concatenate([steps, plan.save_steps[plan.save_steps > state.step]])
    return plan if np.array_equal(saves, plan.save_steps) else replace(plan, save_at=tuple(saves.tolist()))


def _sink(start: Start, engine: Engine, out: Any, overwrite: bool) -> Sink:
    """Where the run goes, with all the saves that exist already."""
    problem, method, plan = start.problem, start.method, start.plan
    attrs = results.attributes(problem, method, plan, engine)
    if start.continues:
        attrs["continues"] = results.joined(start.continues)
    with ExitStack() as held:
        path, new = (None, True) if out is None else take(out, overwrite, held)
        if path is not None and not new:
            return _owning(_resumed(path, attrs), held)
        state = engine.init() if start.state is None else start.state
        with np.errstate(all="ignore"):
            said = list(advice.on_run(problem, method, plan, engine, state))
        for sentence in said:
            warnings.warn(sentence, stacklevel=3)
        records = start.records
        if not records and plan.save_steps[0] == state.step:
            records = [results.record(engine, problem, plan, state)]
        frame = results.frame(problem, method, plan, attrs)
        if path is None:
            return Memory(frame, problem, plan, state, records)
        return _owning(Store.create(path, frame, problem, plan, state, records), held)


def _owning(store: Store, held: ExitStack) -> Store:
    """The store with its lock, which ends with it and no longer with its making."""
    store.held = held.pop_all()
    return store


def _resumed(path: Path, attrs: dict[str, Any]) -> Store:
    """The store of this run, at its last commit."""
    store = Store(path)
    if not store.complete:
        store.check()
    if store.complete or not same_run(store.attrs, attrs):
        what = "a finished run" if store.complete else "an unfinished run of other settings"
        raise FileExistsError(
            f"out {str(path)!r} holds {what}; pass overwrite=True (--overwrite) to replace it, or another path"
        )
    _warn_of_other_engine(store.attrs, attrs)
    return store


def _warn_of_other_engine(old: dict[str, Any], new: dict[str, Any]) -> None:
    was, now = (f"{attrs['engine']} {attrs['instruction_set']}".strip() for attrs in (old, new))
    if was != now:
        warnings.warn(
            f"the run was started with {was} and is resumed with {now}: same law, not the same bits",
            stacklevel=5,
        )


def _advance(engine: Engine, start: Start, sink: Sink, progress: bool) -> None:
    """Blocks of steps with the saves between them; a commit from time to time, and when asked to stop."""
    problem, plan, state = start.problem, start.plan, sink.state
    saves = set(plan.save_steps.tolist())
    goals = sorted(saves | {plan.steps})
    pace, records, committed = _Pace(), list[Record](), time.monotonic()
    with _Bar(plan, state, progress) as bar, _Stop(sink) as stop:
        while state.step < plan.steps:
            state = pace.advance(engine, state, goals[bisect_right(goals, state.step)])
            if state.step in saves:
                records.append(results.record(engine, problem, plan, state))
            bar.show(state)
            waited = time.monotonic() - committed > COMMIT_SECONDS
            if waited or stop.wanted or state.step == plan.steps or _bytes(records) > COMMIT_BYTES:
                sink.commit(state, records)
                records, committed = [], time.monotonic()
            if stop.wanted:
                break


def _bytes(records: Sequence[Record]) -> int:
    return len(records) * sum(value.nbytes for value in records[0].values()) if records else 0


class _Pace:
    """Advances in blocks of about BLOCK_SECONDS."""

    def __init__(self) -> None:
        self._steps = 1

    def advance(self, engine: Engine, state: State, until: int) -> State:
        began = time.perf_counter()
        after = engine.advance(state, min(until, state.step + self._steps))
        seconds_per_step = max(time.perf_counter() - began, 1e-9) / (after.step - state.step)
        self._steps = max(1, min(int(BLOCK_SECONDS / seconds_per_step), 4 * self._steps))
        return after


class _Bar:
    """A progress bar on a terminal, silence elsewhere."""

    def __init__(self, plan: Plan, state: State, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("step {task.completed:,} of {task.total:,}"),
            BarColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
        self._task = self._bar.add_task("", total=plan.steps, completed=state.step)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def show(self, state: State) -> None:
        self._bar.update(self._task, completed=state.step)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


class _Stop:
    """While a store is written, Ctrl-C and SIGTERM wait for the end of the block, so that it is committed.

    A second signal does not wait. In memory nothing is there to commit, and signals do what they always do.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.wanted: int | None = None
        in_main = threading.current_thread() is threading.main_thread()
        self._signals = (signal.SIGINT, signal.SIGTERM) if isinstance(sink, Store) and in_main else ()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._note) for number in self._signals}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted is not None:
            self._restore()
            signal.raise_signal(number)
        self.wanted = number

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._restore()
        if kind is None and self.wanted == signal.SIGINT:
            raise KeyboardInterrupt(f"stopped at step {self._sink.state.step}; run the same again to go on from there")
        if kind is None and self.wanted is not None:
            signal.raise_signal(self.wanted)
