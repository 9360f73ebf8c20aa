"""Runs that are interrupted, killed, resumed, extended and continued."""

import errno
import math
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope import _zarr
from saddlescope.claims import tools
from saddlescope.runs import store
from saddlescope.runs.place import take
from saddlescope.runs.run import earlier, final_state, parts, record
from saddlescope.runs.variables import variables
from saddlescope.simulation import loop
from support import ENGINES, PROBLEMS, on_save

PROBLEM = PROBLEMS["wide"]
METHOD = sc.SGD(lr=0.05, batch_size=2)
PLAN = sc.Plan(steps=60, trajectories=5, saves=6, events=("learning_time", "noise_peak"))


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Identical except for the time of creation."""
    for run in (one, other):
        assert run.attrs["complete"]
    attrs = {**one.attrs, "created_at": other.attrs["created_at"]}
    xr.testing.assert_identical(one.assign_attrs(attrs), other)


@pytest.fixture
def often(monkeypatch):
    """Blocks of a few steps and a commit after each."""
    monkeypatch.setattr(loop, "COMMIT_SECONDS", -1.0)
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)


def at_save(monkeypatch, number: int, act) -> None:
    """Call ``act`` when this save is recorded."""
    seen = []

    def recording(*args):
        seen.append(None)
        if len(seen) == number:
            act()
        return record(*args)

    on_save(recording, monkeypatch.setattr)


# --- stopped from outside

KILLED = """
import sys
import saddlescope as sc
from saddlescope.runfile import run_from_toml
from saddlescope.simulation import loop
loop.COMMIT_SECONDS, loop.BLOCK_SECONDS = -1.0, 0.0
sc.simulate(*run_from_toml(open(sys.argv[1]).read()), engine=sys.argv[3], out=sys.argv[2])
"""


@pytest.mark.parametrize("name", ENGINES)
def test_killed_at_any_time_it_resumes_to_the_same_bits(tmp_path, name):
    plan = sc.Plan(steps=100_000, save_at=tuple(range(0, 100_000, 7)), trajectories=3, keep="trajectories")
    file, out = tmp_path / "run.toml", tmp_path / "run.zarr"
    file.write_text(sc.runfile.run_to_toml(PROBLEM, METHOD, plan))
    for goal in (3, 40):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(file), str(out), name])
        while not out.exists() or final_state(sc.load(out)).step < goal:
            assert child.poll() is None, "the child ended before it could be killed"
            time.sleep(0.01)
        child.kill()
        child.wait()
    left = sc.load(out)
    reached = final_state(left).step
    assert not left.attrs["complete"] and left.sizes["time"] == 1 + reached // 7
    shorter = replace(plan, steps=reached, save_at=tuple(left.step.values.tolist()))
    direct = sc.simulate(PROBLEM, METHOD, shorter, engine=name)
    for variable in variables(PROBLEM, plan):
        np.testing.assert_array_equal(left[variable], direct[variable], err_msg=variable)
    assert final_state(left).to_bytes() == final_state(direct).to_bytes()


def test_ctrl_c_leaves_a_store_that_resumes(tmp_path, monkeypatch):
    at_save(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="stopped at step 30; run the same again"):
        sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    left = sc.load(tmp_path / "run.zarr")
    assert not left.attrs["complete"] and left.step.values.tolist() == [0, 10, 20, 30]
    resumed = sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    same(resumed, sc.simulate(PROBLEM, METHOD, PLAN))


def test_sigterm_commits_and_is_passed_on(tmp_path, monkeypatch):
    received = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        at_save(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
        run = sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert received == [signal.SIGTERM]
    assert run.step.values.tolist() == [0, 10, 20] and not run.attrs["complete"]


@pytest.fixture
def usual_handler(monkeypatch):
    """Ctrl-C as in a program of its own: jobs in the background ignore it; no Ctrl-C came before."""
    monkeypatch.setattr(loop._Stop, "_ended", -math.inf)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("usual_handler")
@pytest.mark.parametrize("keep", ["statistics", "weights"])
@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_in_memory_returns_what_was_computed(monkeypatch, engine, keep):
    plan = replace(PLAN, keep=keep, accumulate=sc.Accumulate(0.0, 3.0, bins=5, levels=2))
    with (
        monkeypatch.context() as patch,
        pytest.warns(UserWarning, match=r"stopped by Ctrl-C at step 30 of 60") as caught,
    ):
        at_save(patch, 4, lambda: signal.raise_signal(signal.SIGINT))
        left = sc.simulate(PROBLEM, METHOD, plan, engine=engine)
    assert left.attrs["complete"] == 0 and left.step.values.tolist() == [0, 10, 20, 30]
    assert "\n" not in str(caught[0].message) and caught[0].filename == __file__
    whole = sc.simulate(PROBLEM, METHOD, plan, engine=engine)
    same(sc.simulate(left, engine=engine), whole)
    longer = sc.simulate(left, plan=replace(plan, steps=90, saves=9), engine=engine)
    same(longer, sc.simulate(PROBLEM, METHOD, replace(plan, steps=90, saves=9), engine=engine))


@pytest.mark.usefixtures("usual_handler")
def test_ctrl_c_twice_ends_a_loop_over_runs(monkeypatch):
    """Also in a later run; but after two seconds it again ends that run alone."""
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="Ctrl-C twice within 2 seconds ends"):
        at_save(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        sc.simulate(PROBLEM, METHOD, PLAN)
    monkeypatch.setattr(loop, "TWICE_SECONDS", math.inf)  # within them, however slow the machine is
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_save(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        sc.simulate(PROBLEM, METHOD, PLAN)
    monkeypatch.setattr(loop, "TWICE_SECONDS", 0.0)
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="stopped"):
        at_save(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        assert not sc.simulate(PROBLEM, METHOD, PLAN).attrs["complete"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_handler")
def test_a_program_that_handles_ctrl_c_itself_is_left_alone(monkeypatch):
    received = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    at_save(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGINT))
    assert sc.simulate(PROBLEM, METHOD, PLAN).attrs["complete"] and received == [signal.SIGINT]


@pytest.mark.usefixtures("usual_handler")
def test_a_claim_is_not_judged_by_half_a_run(monkeypatch):
    at_save(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tools.run(PROBLEM, METHOD, PLAN)


IN_MEMORY = """
import signal, sys
import numpy as np
import saddlescope as sc
from saddlescope.simulation import loop
signal.signal(signal.SIGINT, signal.default_int_handler)
problem, method, plan = sc.read(sys.argv[1])
record = loop.record

def recording(*args):
    print("saving", flush=True)
    loop.record = record
    return record(*args)

loop.record = recording
run = sc.simulate(problem, method, plan)
step = sc.runs.run.final_state(run).step
print(run.attrs["complete"], run.sizes["time"], step, flush=True)
other = sc.Plan(steps=step + 5000, saves=1, trajectories=plan.count)
one, whole = sc.simulate(run, plan=other), sc.simulate(problem, method, other)
print(one.attrs["complete"], np.array_equal(one.checkpoint, whole.checkpoint))
"""


def test_a_real_ctrl_c_in_memory(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(sc.runfile.run_to_toml(PROBLEM, METHOD, sc.Plan(steps=10**9, saves=10**5, trajectories=2)))
    child = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", IN_MEMORY, str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "saving\n"
    child.send_signal(signal.SIGINT)
    out, errors = child.communicate(timeout=100)
    (complete, saves, step), end = (line.split() for line in out.splitlines())
    assert child.returncode == 0 and complete == "0" and int(saves) == 1 + int(step) // 10**4 and end == ["1", "True"]
    assert errors.count("stopped by Ctrl-C at step") == 1 and "Traceback" not in errors


def test_handlers_are_given_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_ctrl_c_is_heard_between_saves(tmp_path, monkeypatch):
    """One save at the end only: the blocks in between listen."""
    advance, blocks = loop.Pace.advance, []

    def block(*args):
        blocks.append(None)
        if len(blocks) == 3:
            signal.raise_signal(signal.SIGINT)
        return advance(*args)

    monkeypatch.setattr(loop.Pace, "advance", block)
    with pytest.raises(KeyboardInterrupt, match="stopped at step"):
        sc.simulate(PROBLEM, METHOD, sc.Plan(steps=10**9, saves=1), out=tmp_path / "run.zarr")
    assert 0 < final_state(sc.load(tmp_path / "run.zarr")).step < 10**9 and len(blocks) == 3


# --- commits


@pytest.mark.parametrize("at", ["loss", "learning_time", "checkpoint"])
def test_killed_inside_a_commit_the_last_one_stands(tmp_path, monkeypatch, often, at):
    write, seen = _zarr.write_chunk, []

    def dying(folder, name, *rest):
        seen.append(name)
        if seen.count(at) == 6:
            raise SystemError("killed")
        return write(folder, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(_zarr, "write_chunk", dying)
        with pytest.raises(SystemError):
            sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    left = sc.load(tmp_path / "run.zarr")
    direct = sc.simulate(PROBLEM, METHOD, PLAN)
    for name in variables(PROBLEM, PLAN):
        np.testing.assert_array_equal(left[name], direct[name][:, : left.sizes["time"]], err_msg=name)
    same(sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr"), direct)


def test_full_disk_is_one_sentence_and_resumes(tmp_path, monkeypatch, often):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_save(monkeypatch, 4, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard)))
    try:
        with pytest.raises(
            OSError, match=r"^out .*run.zarr' could not.* disk is full: free .* from step \d+$"
        ) as caught:
            sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not sc.load(tmp_path / "run.zarr").attrs["complete"]
    resumed = sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    same(resumed, sc.simulate(PROBLEM, METHOD, PLAN))


def test_disk_full_from_the_start_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="disk is full"):
        sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    assert not list(tmp_path.iterdir())


def test_how_often_it_commits_changes_nothing(tmp_path, often):
    frequent = sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    same(frequent, sc.simulate(PROBLEM, METHOD, PLAN))


def test_other_errors_of_the_disk_are_not_disguised(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(store, "write", broken)
    with pytest.raises(OSError, match="input/output error"):
        sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")


# --- what may be resumed


@pytest.fixture
def left(tmp_path, monkeypatch):
    """A store stopped halfway."""
    with monkeypatch.context() as patch:
        at_save(patch, 4, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "run.zarr")
    return tmp_path / "run.zarr"


def test_threads_are_not_part_of_a_run(left):
    same(
        sc.simulate(PROBLEM, METHOD, replace(PLAN, threads=1), out=left).assign_attrs(toml=""),
        sc.simulate(PROBLEM, METHOD, PLAN).assign_attrs(toml=""),
    )


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": 70}, {"keep": "trajectories"}])
def test_another_run_is_refused(left, change):
    with pytest.raises(FileExistsError, match="unfinished run of other settings; pass overwrite=True"):
        sc.simulate(PROBLEM, METHOD, replace(PLAN, **change), out=left)
    assert sc.simulate(PROBLEM, METHOD, replace(PLAN, **change), out=left, overwrite=True).attrs["complete"]


def test_a_finished_run_is_never_overwritten_unasked(left):
    sc.simulate(PROBLEM, METHOD, PLAN, out=left)
    with pytest.raises(FileExistsError, match=r"finished run; pass overwrite=True \(--overwrite\)"):
        sc.simulate(PROBLEM, METHOD, PLAN, out=left)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is not a run; give another path"):
        sc.simulate(PROBLEM, METHOD, PLAN, out=tmp_path / "thesis", overwrite=overwrite)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_has_one_writer(left, overwrite):
    with ExitStack() as held:
        take(left, False, held)
        with pytest.raises(BlockingIOError, match="being written by another process"):
            sc.simulate(PROBLEM, METHOD, PLAN, out=left, overwrite=overwrite)
    assert sc.simulate(PROBLEM, METHOD, PLAN, out=left, overwrite=overwrite).attrs["complete"]


def test_another_engine_is_a_warning(left):
    with pytest.warns(
        UserWarning, match="started on .* and is resumed on reference: same distribution, not bit-identical"
    ):
        sc.simulate(PROBLEM, METHOD, PLAN, out=left, engine="reference")


def test_an_unfinished_run_is_finished_in_memory(left):
    same(sc.simulate(sc.load(left)), sc.simulate(PROBLEM, METHOD, PLAN))


# --- extended and continued


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("method", [METHOD, sc.Langevin(0.05, 2), sc.GD(0.05), sc.GradientFlow(0.05)], ids=repr)
def test_an_extended_run_is_the_longer_run(name, method):
    run = sc.simulate(PROBLEM, method, PLAN, engine=name)
    longer = sc.simulate(run, plan=replace(PLAN, steps=120, saves=12), engine=name)
    same(longer, sc.simulate(PROBLEM, method, replace(PLAN, steps=120, saves=12), engine=name))


def test_an_extension_keeps_the_saves_there_are(tmp_path):
    run = sc.simulate(PROBLEM, METHOD, PLAN)
    longer = sc.simulate(run, METHOD, replace(PLAN, steps=100, saves=4), out=tmp_path / "longer.zarr")
    assert longer.step.values.tolist() == [*range(0, 61, 10), 75, 100]
    same(longer, sc.simulate(*parts(longer)))
    again = sc.simulate(sc.load(tmp_path / "longer.zarr"), plan=replace(PLAN, steps=130))
    assert again.step.values.tolist() == [*longer.step.values, 108, 130]
    same(again, sc.simulate(*parts(again)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_method_starts_its_own_clock(dtype):
    plan = replace(PLAN, dtype=dtype, keep="weights")
    first = sc.simulate(PROBLEM, METHOD, plan)
    second = sc.simulate(first, sc.GD(0.05), replace(plan, steps=20, saves=2))
    assert second.step.values.tolist() == [0, 10, 20]
    tolerance = 1e-14 if dtype == "float64" else 1e-6
    for layer in ("W1", "W2"):
        np.testing.assert_allclose(second[layer][:, 0], first[layer][:, -1], atol=tolerance)
    assert earlier(second.attrs) == (first.attrs["toml"],)
    words = [final_state(run).words for run in (first, second)]
    np.testing.assert_array_equal(*words)


def test_gradient_flow_hands_over_the_weights_it_shows():
    """Its state is later than the last save."""
    plan = replace(PLAN, keep="weights")
    first = sc.simulate(PROBLEM, sc.GradientFlow(0.05), plan)
    second = sc.simulate(first, METHOD, plan)
    np.testing.assert_allclose(second.W1[:, 0], first.W1[:, -1], atol=1e-14)


def test_noise_goes_on_where_it_was():
    """A run cut by a change of method and back does not repeat its random numbers."""
    first = sc.simulate(PROBLEM, METHOD, PLAN)
    second = sc.simulate(first, sc.Langevin(0.05, 2), PLAN)
    fresh = sc.simulate(PROBLEM, sc.Langevin(0.05, 2), PLAN)
    assert not np.array_equal(final_state(second).words, final_state(fresh).words)


def test_a_continued_run_is_written_and_resumed(tmp_path, monkeypatch):
    first = sc.simulate(PROBLEM, METHOD, PLAN)
    with monkeypatch.context() as patch:
        at_save(patch, 4, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            sc.simulate(first, sc.GD(0.02), PLAN, out=tmp_path / "run.zarr")
    with pytest.raises(FileExistsError, match="other settings"):
        sc.simulate(PROBLEM, sc.GD(0.02), PLAN, out=tmp_path / "run.zarr")
    resumed = sc.simulate(first, sc.GD(0.02), PLAN, out=tmp_path / "run.zarr")
    same(resumed, sc.simulate(first, sc.GD(0.02), PLAN))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        (None, {}, "plan.steps must be more than the 60 steps of the run"),
        (None, {"steps": 30}, "plan.steps must be more than the 60 steps of the run to extend it, got 30"),
        (None, {"steps": 90, "keep": "trajectories"}, "plan.keep must be that of the run"),
        (None, {"steps": 90, "seed": 3}, "plan.seed must be that of the run to extend or continue it, 0, got 3"),
        (sc.GD(0.1), {"dtype": "float32"}, "plan.dtype must be that of the run"),
        (sc.GD(0.1), {"trajectories": 6}, "plan.trajectories must be that of the run"),
    ],
)
def test_what_cannot_go_on_is_refused(method, change, message):
    run = sc.simulate(PROBLEM, METHOD, PLAN)
    with pytest.raises(ValueError, match=message):
        sc.simulate(run, method, replace(PLAN, **change))


def test_a_dataset_that_is_no_run_is_refused():
    with pytest.raises(ValueError, match="run must be a Dataset from simulate or load"):
        sc.simulate(xr.Dataset(), plan=PLAN)


LONGER = replace(PLAN, steps=120, saves=12)


def extended(path):
    return sc.simulate(sc.load(path), plan=LONGER, out=path)


def test_a_store_is_extended_in_place(tmp_path):
    """To the bits of one run, and again."""
    path = tmp_path / "run.zarr"
    sc.simulate(PROBLEM, METHOD, PLAN, out=path)
    loaded = sc.load(path)
    longer = sc.simulate(loaded, plan=LONGER, out=path)
    same(longer, sc.simulate(PROBLEM, METHOD, LONGER))
    with pytest.raises(ValueError, match="load it again"):
        loaded.load()
    again = sc.simulate(longer, plan=replace(LONGER, steps=180, saves=18), out=path)
    np.testing.assert_array_equal(again.checkpoint, sc.simulate(PROBLEM, METHOD, replace(LONGER, steps=180)).checkpoint)
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


def test_an_extension_in_place_is_resumed(tmp_path, monkeypatch):
    path = tmp_path / "run.zarr"
    sc.simulate(PROBLEM, METHOD, PLAN, out=path)
    with monkeypatch.context() as patch:
        at_save(patch, 3, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            extended(path)
    assert 60 < final_state(sc.load(path)).step < 120 and not sc.load(path).attrs["complete"]
    same(extended(path), sc.simulate(PROBLEM, METHOD, LONGER))


def test_only_the_run_that_a_store_holds_extends_it(tmp_path):
    path = tmp_path / "run.zarr"
    run = sc.simulate(PROBLEM, METHOD, replace(PLAN, keep="trajectories"), out=path)
    longer = replace(LONGER, keep="trajectories")
    for other in (
        sc.simulate(PROBLEM, METHOD, replace(PLAN, keep="trajectories", saves=2)),
        run.isel(time=slice(3, None)),
    ):
        with pytest.raises(FileExistsError, match=r"simulate\(load\(out\), plan=…, out=out\) of more steps"):
            sc.simulate(other, plan=longer, out=path)
    part = replace(longer, members=(0, 1), trajectories=1)
    with pytest.raises(FileExistsError, match="finished run"):
        sc.simulate(run.isel(trajectory=[0, 1]), plan=part, out=path)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds a run and also 'notes.txt'"):
        sc.simulate(run, plan=longer, out=path)
    same(sc.load(path), run)
