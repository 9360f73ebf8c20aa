"""Processes that write stores, forked from one that has everything imported, identified by their answers."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import xarray as xr

import saddlescope as sc
import stores
from saddlescope.runs.run import record
from saddlescope.simulation import loop
from support import on_save

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["saddlescope.cli", "scipy.stats", "typer.testing"])

WAIT = 120.0
"""Seconds after which a process that waits for another takes it for lost."""


def write(name: str, path: Path, overwrite: bool = False, before: Path | None = None, how: str = "new") -> xr.Dataset:
    """A run of ``stores.RUNS``: anew, or as what follows the run in ``before``."""
    problem, method, _ = stores.RUNS[name]
    options: dict[str, Any] = {"out": path, "overwrite": overwrite, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "extended":
            return sc.simulate(sc.load(before), plan=stores.plan(name, steps=90, saves=18), **options)
        if how == "continued":
            return sc.simulate(sc.load(before), sc.GD(0.02), stores.plan(name), **options)
        return sc.simulate(problem, method, stores.plan(name), **options)


# --- races


def _hold_last_save(others_answered, patch=setattr) -> None:
    """A run ends only when all others have answered, however slow the machine is."""

    def recording(engine, plan, state):
        if state.step == plan.steps:
            others_answered.wait(WAIT)
        return record(engine, plan, state)

    on_save(recording, patch)


def _race(name, path, overwrite, start, others_answered, answers) -> None:
    _hold_last_save(others_answered)
    answers.put(_answer(name, path, overwrite, start))


def _answer(name: str, path: Path, overwrite: bool, start) -> str:
    start.wait(WAIT)
    try:
        write(name, path, overwrite)
    except BlockingIOError as error:
        sentence = f"out {str(path.resolve())!r} is being written by another process; wait for it or give another path"
        return "refused" if str(error) == sentence else repr(error)
    except Exception as error:
        return repr(error)
    return "won"


def race(name: str, paths: list[Path], overwrite: bool) -> Counter[str]:
    """Answers of processes that start at the same time, one on each path."""
    start, others_answered, answers = CONTEXT.Barrier(len(paths)), CONTEXT.Event(), CONTEXT.Queue()
    racers = [
        CONTEXT.Process(target=_race, args=(name, path, overwrite, start, others_answered, answers)) for path in paths
    ]
    for racer in racers:
        racer.start()
    found = [answers.get(timeout=WAIT) for _ in paths[1:]]
    others_answered.set()
    found.append(answers.get(timeout=WAIT))
    for racer in racers:
        racer.join()
    return Counter(found)


def race_of_threads(name: str, paths: list[Path], overwrite: bool, monkeypatch) -> Counter[str]:
    """The same in threads of this process."""
    start, others_answered, answers = threading.Barrier(len(paths)), threading.Event(), []

    def run(path: Path) -> None:
        answers.append(_answer(name, path, overwrite, start))
        if len(answers) == len(paths) - 1:
            others_answered.set()

    with monkeypatch.context() as patch:
        _hold_last_save(others_answered, patch.setattr)
        threads = [threading.Thread(target=run, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return Counter(answers)


# --- kills


def _often(name, path, overwrite, before, how, started) -> None:
    loop.COMMIT_SECONDS, loop.BLOCK_SECONDS = -1.0, 0.0
    stores._zarr.CHUNK_BYTES = stores.SMALL_CHUNKS
    started.set()
    write(name, path, overwrite, before, how)


def killed(seconds: float, name: str, path: Path, overwrite: bool, before: Path | None, how: str) -> None:
    """Write a run, commit at every step, and kill it after ``seconds`` if it is still running."""
    started = CONTEXT.Event()
    child = CONTEXT.Process(target=_often, args=(name, path, overwrite, before, how, started))
    child.start()
    started.wait(WAIT)
    child.join(seconds)
    child.kill()
    child.join()
    if child.exitcode not in (0, -9):
        raise AssertionError(f"the child ended with {child.exitcode}")
