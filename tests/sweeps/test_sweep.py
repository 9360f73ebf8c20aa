"""Sweeps in this process: every run is that of ``simulate``, whatever it ends in, and a sweep resumes."""

import itertools
import os
import re
import signal
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope.runs import swept
from saddlescope.sweeps import loop, work
from saddlescope.sweeps.picks import Pick
from saddlescope.sweeps.sweep import _tell, sweep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

DATA = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5)
PROBLEM = sc.Problem(sc.DeepLinear((2, 3, 2)), DATA, sc.init.Gaussian(scale=0.3))
BASE = (PROBLEM, sc.SGD(lr=0.05, batch_size=4), sc.Plan(steps=40, trajectories=3, saves=4))
AXES = {"method.lr": [0.02, 0.05], "plan.seed": [1, 2, 3]}
LAST = Pick("loss", sel={"statistic": "mean"}, isel={"time": -1})
QUIET = {"progress": False}


def same(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether two sweeps are bit-identical, but for their times and where and when they were made."""
    drop = {"seconds"}
    names = set(one.variables) - drop
    return names == set(other.variables) - drop and all(
        one[name].dims == other[name].dims and one[name].values.tobytes() == other[name].values.tobytes()
        if one[name].dtype != object
        else one[name].equals(other[name])
        for name in names
    )


def test_every_run_is_that_of_simulate():
    found = sweep(BASE, AXES, reduce={"loss": LAST, "mode_strength": "mode_strength", "step": "step"}, **QUIET)
    assert found.loss.dims == ("lr", "seed") and found.mode_strength.dims == ("lr", "seed", "statistic", "save", "mode")
    assert (found.status == 1).all() and (found.seconds > 0).all()
    for lr, seed in itertools.product(*AXES.values()):
        run = sc.simulate(PROBLEM, sc.SGD(lr, 4), replace(BASE[2], seed=seed), progress=False)
        here = found.sel(lr=lr, seed=seed)
        assert here.loss.values == run.loss.sel(statistic="mean").isel(time=-1).values
        np.testing.assert_array_equal(here.mode_strength, run.mode_strength)
        np.testing.assert_array_equal(here.step, run.step)


def test_by_default_every_variable_at_its_last_save():
    found = sweep(BASE, {"plan.seed": [1]}, **QUIET).isel(seed=0)
    run = sc.simulate(PROBLEM, BASE[1], replace(BASE[2], seed=1), progress=False)
    for name in set(run.data_vars) - {"checkpoint", "status"}:
        np.testing.assert_array_equal(found[name], run[name].isel(time=-1) if "time" in run[name].dims else run[name])
    np.testing.assert_array_equal(found.divergence_step, run.status)


def test_a_function_reduces_runs():
    def reduce(run):
        profile = run.mode_strength.sel(statistic="mean").isel(time=slice(-2, None))
        return {"worst": run.loss.max(), "profile": profile, "pair": [1, 2.5], "learned": bool(run.loss[0, -1] < 1)}

    found = sweep(BASE, AXES, reduce=reduce, **QUIET)
    assert found.profile.dims == ("lr", "seed", "save", "mode") and found.pair.dims == ("lr", "seed", "pair_0")
    run = sc.simulate(PROBLEM, BASE[1], replace(BASE[2], seed=2), progress=False)
    here = found.sel(lr=0.05, seed=2)
    assert here.worst == run.loss.max() and here.learned in (0, 1)
    np.testing.assert_array_equal(here.profile, run.mode_strength.sel(statistic="mean").isel(time=slice(-2, None)))
    np.testing.assert_array_equal(here.pair, [1, 2.5])


RETURNED = {
    "another shape": (
        lambda run: {"a": np.zeros(int(run.step[-1]))},
        "reduce returned a of shape .41,., but of the fi",
    ),
    "another name": (lambda run: {f"a{int(run.step[-1])}": 1}, "reduce returned a41, but of the first run a40"),
    "no mapping": (
        lambda run: 3 if run.step[-1] > 40 else {"a": 1},
        "reduce must return a mapping of names to numbers",
    ),
    "text": (lambda run: {"a": "x" if run.step[-1] > 40 else 1}, "reduce: a must be an array of numbers, text is not"),
    "other labels": (
        lambda run: {"a": run.mode_strength[0, :, [int(run.step[-1]) - 40]]},
        "reduce returned a with oth",
    ),
    "other dims": (
        lambda run: {"a": run.loss[0].rename(time=f"t{run.step[-1]:d}")[:2]},
        "dims t41, but of the first run t40;",
    ),
    "an exit": (lambda run: {"a": 1} if run.step[-1] == 40 else sys.exit(3), "SystemExit: 3"),
    "an error": (lambda run: {"a": 1 / (41 - int(run.step[-1]))}, "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_function_that_returns_something_else_raised(name):
    reduce, sentence = RETURNED[name]
    found = sweep(BASE, {"plan.steps": [40, 41, 42]}, reduce=reduce, **QUIET)
    assert found.status.values[0] == 1 and found.status.values[1] == 3
    assert found.message.values[0] == "" and re.search(sentence, found.message.values[1])


def test_names_and_dims_may_come_in_another_order():
    def reduce(run):
        found = {"a": 1, "b": run.mode_strength.isel(time=-1)}
        return found if run.step[-1] == 40 else {"b": found["b"].T, "a": 2}

    found = sweep(BASE, {"plan.steps": [40, 41]}, reduce=reduce, **QUIET)
    assert found.a.values.tolist() == [1, 2] and found.b.dims == ("steps", "statistic", "mode")
    run = sc.simulate(PROBLEM, BASE[1], replace(BASE[2], steps=41), progress=False)
    np.testing.assert_array_equal(found.b[1], run.mode_strength.isel(time=-1))


def test_a_function_that_always_raises_is_refused():
    with pytest.raises(RuntimeError, match=r"none of the first 3 runs shows what reduce returns, .* ZeroDivisionError"):
        sweep(BASE, {"plan.seed": [1, 2, 3]}, reduce=lambda run: {"a": 1 / 0}, **QUIET)


def test_a_first_run_that_raises_is_passed_over():
    found = sweep(BASE, {"plan.steps": [40, 41]}, reduce=lambda run: {"a": 1 / (int(run.step[-1]) - 40)}, **QUIET)
    np.testing.assert_array_equal(found.status, [3, 1])
    assert np.isnan(found.a.values[0]) and found.a.values[1] == 1


def test_runs_that_diverge_keep_their_values():
    base = (PROBLEM, sc.SGD(0.05, 1), sc.Plan(steps=200, trajectories=20, saves=4))
    found = sweep(base, {"method.lr": [0.05, 0.6, 50.0]}, reduce=["loss"], **QUIET)
    np.testing.assert_array_equal(found.status, [1, 2, 2])
    run = sc.simulate(PROBLEM, sc.SGD(0.6, 1), base[2], progress=False)
    assert (run.status != 0).any() and np.isfinite(found.loss[1, 0, -1]) == np.isfinite(run.loss[0, -1])
    np.testing.assert_array_equal(found.loss[1], run.loss)


def test_a_run_that_raises_is_a_result():
    """Runs that only a combination of axes makes impossible, so that no check along an axis sees it."""
    found = sweep(
        BASE, {"plan.saves": [4, 5], "a": [0, 1], "b": [0, 1]}, derived={"method.lr": "0.1 - 0.1*a*b"}, **QUIET
    )
    np.testing.assert_array_equal(found.status, [[[1, 1], [1, 3]], [[1, 1], [1, 3]]])
    sentence = "ValueError: SGD: lr must be greater than 0, got 0.0; use a learning rate such as 1e-3"
    assert found.message.values[0, 1, 1] == sentence and np.isnan(found.loss[0, 1, 1]).all()


def test_failures_end_a_sweep(monkeypatch):
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "TASK_SECONDS", 0.0)
    axes = {"b": [0, 1], "plan.seed": range(30), "a": [0, 1]}
    with pytest.raises(
        RuntimeError, match=r"stopped since 4 of the first 68 runs raised, 4 of them as run 61: .* raise max"
    ):
        sweep(BASE, axes, derived={"method.lr": "0.1 - 0.1*a*b"}, max_failures=3, **QUIET)
    found = sweep(BASE, axes, derived={"method.lr": "0.1 - 0.1*a*b"}, max_failures=30, **QUIET)
    assert (found.status == 3).sum() == 30


def test_twenty_runs_that_all_raise_end_a_sweep(monkeypatch):
    def broken(*arguments):
        raise ValueError("broken 17")

    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "TASK_SECONDS", 0.0)
    monkeypatch.setattr("saddlescope.sweeps.picks.measured", broken)
    with pytest.raises(
        RuntimeError, match="20 of the first 20 runs raised, 20 of them as run 0: ValueError: broken 17"
    ):
        sweep(BASE, {"plan.seed": range(100)}, **QUIET)
    with pytest.warns(UserWarning, match="15 of 15 runs raised, such as run 0: ValueError: broken 17"):
        sweep(BASE, {"plan.seed": range(15)}, **QUIET)
    found = sweep(BASE, {"plan.seed": range(50)}, max_failures=50, **QUIET)
    assert (found.status == 3).all()


def test_warnings_are_counted_by_their_sentence():
    base = (PROBLEM, sc.SGD(0.05, 1), sc.Plan(steps=200, trajectories=20, saves=4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sweep(base, {"method.lr": [0.05, 0.06, 50.0, 60.0], "plan.seed": [1, 2, 3]}, reduce="loss", **QUIET)
    told = [str(one.message) for one in caught]
    assert len(told) == len(set(told)) and all(one.filename == __file__ for one in caught)
    assert any(text.startswith("in 6 of 12 runs, such as run 6: diverged: 20 of 20 trajectories") for text in told)


# --- stores


def test_a_sweep_in_a_store_is_that_in_memory(tmp_path):
    here = sweep(BASE, AXES, **QUIET)
    there = sweep(BASE, AXES, out=tmp_path / "a.zarr", **QUIET)
    assert same(here, there)
    assert same(there, sweep(BASE, AXES, out=tmp_path / "a.zarr", **QUIET)), "a finished sweep"


@pytest.mark.parametrize("reduce", ["loss", lambda run: {"loss": run.loss.isel(time=-1)}], ids=["picks", "function"])
def test_only_pending_runs_are_executed(tmp_path, monkeypatch, reduce):
    options = {"out": tmp_path / "a.zarr", "reduce": reduce, **QUIET}
    with monkeypatch.context() as patch:
        patch.setattr(loop, "BLOCK_SECONDS", 0.0)
        patch.setattr(loop, "TASK_SECONDS", 0.0)
        stop_after(patch, 4)
        with pytest.raises(KeyboardInterrupt, match="stopped after 4 of 6 runs; the same call resumes"):
            sweep(BASE, AXES, **options)
    assert (swept.read(tmp_path / "a.zarr").status != 0).sum() == 4
    executed, run = [], work._run
    with monkeypatch.context() as patch:
        patch.setattr(work, "_run", lambda job, index: executed.append(index) or run(job, index))
        found = sweep(BASE, AXES, **options)
    assert executed == [4, 5] and (found.status == 1).all()
    assert same(found, sweep(BASE, AXES, reduce=reduce, **QUIET))


def stop_after(monkeypatch, runs, number=signal.SIGINT):
    add = loop.Tally.add

    def counting(tally, done):
        add(tally, done)
        if tally.done == runs:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(loop.Tally, "add", counting)


def test_ctrl_c_in_memory(monkeypatch):
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "TASK_SECONDS", 0.0)
    stop_after(monkeypatch, 2)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after 2 of 6 runs; nothing is kept without out = a path"):
        sweep(BASE, AXES, **QUIET)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_does_not_wait_for_a_run_in_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "TASK_SECONDS", 0.0)
    reached = []

    def reduce(run):
        if int(run.step[-1]) == 42:
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(run)
        return {"loss": run.loss[0, -1]}

    with pytest.raises(KeyboardInterrupt, match="stopped after 2 of 3 runs"):
        sweep(BASE, {"plan.steps": [40, 41, 42]}, reduce=reduce, out=tmp_path / "a.zarr", **QUIET)
    assert not reached


def test_another_sweep_is_refused(tmp_path):
    sweep(BASE, AXES, out=tmp_path / "a.zarr", reduce="loss", **QUIET)
    for other in ({**AXES, "plan.seed": [1, 2, 4]}, {"plan.seed": [1, 2, 3], "method.lr": [0.02, 0.05]}):
        with pytest.raises(FileExistsError, match="holds another sweep"):
            sweep(BASE, other, out=tmp_path / "a.zarr", reduce="loss", **QUIET)
    with pytest.raises(FileExistsError, match="holds another sweep"):
        sweep(BASE, AXES, out=tmp_path / "a.zarr", reduce=lambda run: {"loss": run.loss[0, -1]}, **QUIET)
    threads = (*BASE[:2], replace(BASE[2], threads=2))
    sweep(threads, AXES, out=tmp_path / "a.zarr", reduce="loss", **QUIET)
    found = sweep(BASE, {"plan.seed": [1]}, out=tmp_path / "a.zarr", overwrite=True, **QUIET)
    assert found.sizes["seed"] == 1


def test_hosts_and_instruction_sets_are_noted(tmp_path, monkeypatch):
    here = sweep(BASE, AXES, **QUIET)
    assert here.attrs["workers"] == " ".join(work.place()) and 'method.lr"' in here.attrs["toml"]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "BLOCK_SECONDS", 0.0)
        patch.setattr(loop, "TASK_SECONDS", 0.0)
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            sweep(BASE, AXES, out=tmp_path / "a.zarr", **QUIET)
        patch.setattr(work, "place", lambda: ("another", "avx2"))
        patch.setattr(loop.Tally, "add", lambda tally, done: None)
        found = sweep(BASE, AXES, out=tmp_path / "a.zarr", **QUIET)
    assert found.attrs["workers"].split(", ") == sorted(["another avx2", " ".join(work.place())])


def test_a_place_that_is_no_sweep_is_refused_before_the_first_run(tmp_path):
    def reduce(run):
        raise AssertionError("not reached")

    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not a sweep"):
        sweep(BASE, AXES, out=tmp_path, reduce=reduce, **QUIET)


def test_threads_do_not_change_a_sweep():
    one, two = ((*BASE[:2], replace(BASE[2], threads=threads, trajectories=300)) for threads in (1, 2))
    assert same(sweep(one, AXES, **QUIET), sweep(two, AXES, **QUIET))


def test_different_instruction_sets_are_told():
    tally = loop.Tally(places={("a", "avx2"), ("b", "avx512")})
    with pytest.warns(UserWarning, match=r"workers have different instruction sets \(a avx2, b avx512\)"):
        _tell(tally)


# --- arguments

WRONG = {
    "base": ((PROBLEM, BASE[1]), AXES, {}, r"base must be a tuple \(problem, method, plan\)"),
    "problem": ((3, *BASE[1:]), AXES, {}, "problem must be such as Problem"),
    "method": ((PROBLEM, 3, BASE[2]), AXES, {}, "method must be such as SGD"),
    "engine": (BASE, AXES, {"engine": "fast"}, "engine = 'fast' is unknown"),
    "overwrite": (BASE, AXES, {"overwrite": 1}, "overwrite must be True or False"),
    "failures": (BASE, AXES, {"max_failures": -1}, "max_failures must be a whole number of at least 0"),
    "failures of a kind": (BASE, AXES, {"max_failures": 0.5}, "max_failures must be a whole number of at least 0"),
    "axis like a variable": (BASE, {"loss": [1.0]}, {"derived": {"method.lr": "loss"}}, "axes: 'loss' is also a name"),
    "axis like a dim": (BASE, {"mode": [1.0]}, {"derived": {"method.lr": "mode"}}, "axes: 'mode' is also a name"),
    "axis like the status": (BASE, {"status": [1.0]}, {"derived": {"method.lr": "status"}}, "'status' is also a name"),
    "name of the status": (BASE, AXES, {"reduce": "status"}, "reduce must not name a variable 'status', which"),
    "status of a function": (
        BASE,
        AXES,
        {"reduce": lambda run: {"status": 1}},
        "reduce must not name a variable 'status'",
    ),
    "plan": (BASE, {"plan": [BASE[2]]}, {}, "axis 'plan' cannot be exchanged as a whole; use .* such as 'plan.steps'"),
    "problem as a part": (
        BASE,
        {"problem.data": [PROBLEM.data]},
        {},
        "axis 'problem.data' must be named without .*; use 'data'",
    ),
    "too long": (
        BASE,
        {"plan.seed": range(10**12)},
        {},
        "axis 'plan.seed' must hold at most 10,000,000 values, got 1,000",
    ),
    "client": (BASE, AXES, {"client": 0}, "client must be a number of processes of at least 1, got 0"),
    "client as a class": (BASE, AXES, {"client": ThreadPoolExecutor}, "client must be .*, got <class .*ThreadPool"),
    "client of a kind": (BASE, AXES, {"client": [1]}, "client must be a number of processes, a distributed.Client"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused_in_one_sentence(name):
    base, axes, options, sentence = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        sweep(base, axes, **{**QUIET, **options})
    assert "\n" not in str(caught.value)


def test_runs_too_large_for_memory_are_refused():
    with pytest.raises(ValueError, match="the run"):
        sweep(BASE, {"plan.trajectories": [3, 10**12]}, **QUIET)
