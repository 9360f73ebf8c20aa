"""Runs killed repeatedly at random times: nothing lost, nothing duplicated, bit-identical, no file left over."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import processes
import saddlescope as sc
import stores
from saddlescope.engines.reference import Reference
from saddlescope.runs.variables import EVENTS, OBSERVABLES
from saddlescope.simulation import loop

HOW = ("new", "overwritten", "extended", "continued")


@dataclass(frozen=True)
class Case:
    """What is killed: a run, how it begins, what lies there and what comes before, and what must come of it."""

    name: str
    how: str
    path: Path
    before: Path | None
    truth: xr.Dataset
    old: xr.Dataset | None

    def written(self, path: Path | None, overwrite: bool = False) -> xr.Dataset:
        """Write it without being killed."""
        return processes.write(self.name, path, overwrite, self.before, self.how)


def case(name: str, how: str, folder: Path, monkeypatch) -> Case:
    """Make it."""
    folder.mkdir()
    path, before, old = folder / "run.zarr", None, None
    with monkeypatch.context() as patch:
        patch.setattr(stores._zarr, "CHUNK_BYTES", stores.SMALL_CHUNKS)
        if how in ("extended", "continued"):
            before = folder.with_name(folder.name + " before")
            processes.write(name, before)
        if how == "overwritten":
            problem, method, _ = stores.RUNS[name]
            old = sc.simulate(problem, method, stores.plan(name, steps=30, saves=3), out=path).load()
    truth = Case(name, how, path, before, None, None).written(None)
    return Case(name, how, path, before, truth, old)


def bits(run: xr.Dataset) -> dict[str, bytes]:
    return {name: run[name].values.tobytes() for name in OBSERVABLES if name in run}


def one_kill(case: Case, seconds: float, reached: int) -> tuple[str, int]:
    """Kill it once; what is left of it, and how many saves (-1: the old run)."""
    overwrite = case.how == "overwritten" and reached < 0
    processes.killed(seconds, case.name, case.path, overwrite, case.before, case.how)
    try:
        run = sc.load(case.path).load()
    except FileNotFoundError:
        assert reached <= 0 and case.old is None, "a run was lost"
        return "nothing", 0
    if case.old is not None and run.attrs["toml"] == case.old.attrs["toml"]:
        assert reached < 0, "the old run came back"
        xr.testing.assert_identical(run, case.old)
        return "the old run", -1
    saves = run.sizes["time"]
    assert saves >= reached, "saves were lost"
    assert run.step.values.tolist() == case.truth.step.values[:saves].tolist(), "saves are missing or twice"
    expected = case.truth.isel(time=slice(saves))
    assert bits(run) == bits(expected)
    return "all" if run.attrs["complete"] else "a part", saves


def finish(case: Case) -> None:
    """The run is finished, holds the same bits, and is alone in its folder."""
    left = sc.load(case.path) if case.path.exists() else None
    old = left is not None and case.old is not None and left.attrs["toml"] == case.old.attrs["toml"]
    if left is None or old or not left.attrs["complete"]:
        case.written(case.path, overwrite=old)
    else:  # killed between its last commit and its end: the next call cleans up, although it is refused
        with pytest.raises(FileExistsError, match="holds a finished run"):
            case.written(case.path)
    run = sc.load(case.path).load()
    assert run.attrs["complete"] and bits(run) == bits(case.truth)
    for name in EVENTS:
        assert (name in run) == (name in case.truth)
        if name in run:
            np.testing.assert_array_equal(run[name], case.truth[name])
    assert [entry.name for entry in case.path.parent.iterdir()] == ["run.zarr"]
    assert all(".saddlescope" not in file.name for file in stores.files(case.path))


def kills(cases, total: int, longest: float, seed: int) -> Counter[str]:
    """Kill these in turn, each until it has ended, ``total`` times."""
    rng, found = np.random.default_rng(seed), Counter[str]()
    for current in cases:
        reached = -1 if current.old is not None else 0
        for _ in range(8):
            left, reached = one_kill(current, float(rng.uniform(0, longest)), reached)
            found[f"left {left}"] += 1
            if left == "all" or found.total() >= total:
                break
        finish(current)
        if found.total() >= total:
            break
    return found


@pytest.mark.parametrize(("name", "how"), [("large data set", "new"), ("float32", "overwritten"), ("flow", "extended")])
def test_killed_again_and_again(tmp_path, monkeypatch, name, how):
    assert 1 <= kills([case(name, how, tmp_path / "here", monkeypatch)], 3, 0.4, 1).total() <= 3


def test_a_killed_run_loses_at_most_a_fifth_of_its_time(monkeypatch):
    """Every step takes 0.2 s of a clock: gaps between commits stay within what ``simulate`` states."""
    now, commits = [0.0], [0.0]
    problem, method, _ = stores.RUNS["float32"]
    plan = sc.Plan(steps=2000, saves=2000)
    engine = Reference(problem, method, plan)

    class Slow:
        step, look, observe_looks = engine.step, staticmethod(engine.look), staticmethod(engine.observe_looks)

        def advance(self, state, until):
            now[0] += 0.2
            return engine.advance(state, until)

    class Kept:
        state, stored = engine.init(), False

        def commit(self, state, records):
            commits.append(now[0])
            now[0] += 0.01

    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    loop.advance(Slow(), problem, plan, Kept(), progress=False)
    times = np.array(commits)
    assert (np.diff(times) <= np.clip(0.2 * times[1:], 1.0, 30.0) + 0.41).all()
    assert times[1] < 1.5 and np.diff(times)[-2] > 29 and len(times) < 45


@pytest.mark.soak
def test_500_kills(tmp_path, monkeypatch, capsys):
    every = itertools.cycle(itertools.product(stores.RUNS, HOW))
    cases = (case(name, how, tmp_path / str(number), monkeypatch) for number, (name, how) in enumerate(every))
    found = kills(cases, 500, 0.8, 2)
    with capsys.disabled():
        print(f"\n{dict(found)}")
