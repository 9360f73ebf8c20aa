"""The command line: its output, files and exit codes."""

import importlib
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope import _memory, cli
from saddlescope.engines import reference, state
from saddlescope.runfile import run_to_toml
from saddlescope.runs.run import final_state, parts, record
from saddlescope.simulation import advice
from support import PROBLEMS, on_save

METHOD = sc.SGD(lr=0.05, batch_size=16)
PLAN = sc.Plan(steps=120, trajectories=8, saves=6)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call the command in an empty folder that holds run.toml; returns code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], METHOD, PLAN))

    def call(*words: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli.app, words)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return call


def test_run(call, tmp_path):
    code, out, errors = call("run", "run.toml", "-o", "run.zarr")
    assert (code, errors) == (0, "")
    assert re.match("run.zarr: store at most .*B, of that the checkpoint .*B\n", out)
    assert "run.zarr: complete, 120 of 120 steps, 7 saves, 8 trajectories (0 diverged), engine" in out
    run, direct = sc.load(tmp_path / "run.zarr"), sc.simulate(PROBLEMS["wide"], METHOD, PLAN)
    for name in run:
        np.testing.assert_array_equal(run[name], direct[name], err_msg=name)


def test_quiet_is_quiet(call):
    assert call("run", "run.toml", "-o", "run.zarr", "--quiet") == (0, "", "")


def test_a_finished_store_needs_overwrite(call):
    assert call("run", "run.toml", "-o", "run.zarr")[0] == 0
    code, _, errors = call("run", "run.toml", "-o", "run.zarr")
    assert code == 2 and "--overwrite" in errors and errors.count("\n") == 1
    assert errors.endswith(" or saddlescope run STORE --steps N extends it\n")
    assert call("run", "run.toml", "-o", "run.zarr", "--overwrite")[0] == 0


def test_threads_and_engine(call, tmp_path):
    assert call("run", "run.toml", "-o", "run.zarr", "--threads", "1", "--engine", "reference")[0] == 0
    run = sc.load(tmp_path / "run.zarr")
    assert parts(run)[2].threads == 1 and run.attrs["engine"] == "reference"


def test_a_place_that_is_taken_is_refused_before_any_output(call, tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    code, out, errors = call("run", "run.toml", "-o", "thesis")
    assert (code, out) == (2, "") and errors == "error: out 'thesis' exists and is not a run; give another path\n"


def test_dry_run_writes_nothing(call, tmp_path):
    code, out, _ = call("run", "run.toml", "-o", "run.zarr", "--dry-run")
    assert code == 0 and re.match(r"time .*, memory about .*B, store at most .*B, of that the checkpoint .*B\n", out)
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_dry_run_makes_no_large_ensemble(call, tmp_path, monkeypatch):
    made, start = [], state.start

    def starting(problem, step, plan, *weights):
        made.append(plan.count)
        return start(problem, step, plan, *weights)

    for module in (state, reference):
        monkeypatch.setattr(module, "start", starting)
    monkeypatch.setattr(_memory, "available", lambda: 2_100_000_000)
    plan = sc.Plan(steps=2, trajectories=10**11, saves=2)
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], METHOD, plan))
    code, out, errors = call("run", "run.toml", "--dry-run", "--engine", "reference")
    assert max(made) <= 256 and out.startswith("time about")
    assert code == 2 and re.match(
        r"error: the run needs .*B of memory, available 2.1 GB; lower trajectories \(now", errors
    )


def test_info(call):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    code, out, errors = call("info", "run.zarr")
    assert (
        (code, errors) == (0, "")
        and "complete, 120 of 120 steps" in out
        and "median steps to 0.9 s* (fraction learned)" in out
    )
    toml = run_to_toml(PROBLEMS["wide"], METHOD, PLAN)
    assert call("info", "run.zarr", "--toml") == (0, toml, "")
    assert out.count("\n") <= 44 and 'teacher = "array 4 × 3"' in out and "prints the complete TOML" in out
    plain = [line for line in toml.splitlines() if re.fullmatch(r"\[\w+\]|\w+ = [^\[]+", line)]
    assert len(plain) > 15 and all(line in out for line in plain), "all but long lists"


def test_diverged_trajectories_have_not_learned(call, tmp_path):
    """They pass 0.9 s* on their way to infinity."""
    plan = sc.Plan(steps=120, trajectories=8, saves=6)
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], replace(METHOD, lr=5.0), plan))
    _, out, _ = call("run", "run.toml", "-o", "run.zarr")
    assert "(8 diverged)" in out and "nan" not in out and "– (0%)" in out
    assert "means leave out diverged trajectories, which count as not learned" in out
    assert np.isfinite(sc.load(tmp_path / "run.zarr")["learning_time"].values).any()


@pytest.mark.parametrize("keep", ["statistics", "trajectories"])
def test_info_of_a_run_that_was_stopped(call, tmp_path, monkeypatch, keep):
    (tmp_path / "run.toml").write_text(
        run_to_toml(PROBLEMS["repeated"], METHOD, sc.Plan(steps=60, trajectories=3, saves=6, keep=keep))
    )
    seen = []

    def recording(*args):
        seen.append(None)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return record(*args)

    on_save(recording, monkeypatch.setattr)
    code, _, errors = call("run", "run.toml", "-o", "run.zarr")
    assert (code, errors) == (130, "stopped at step 20; run the same again to resume\n")
    assert "not complete, 20 of 60 steps, 3 saves" in call("info", "run.zarr")[1]
    assert call("run", "run.toml", "-o", "run.zarr")[0] == 0


def test_a_finished_run_is_extended(call, tmp_path):
    """In place, by its file or by its store, to the bits of one run; saves that were made stay."""
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    code, out, errors = call("run", "run.toml", "-o", "run.zarr", "--steps", "240")
    assert (code, errors) == (0, "") and "120 of 240 steps are done: their saves stay, 3 will follow" in out
    assert "complete, 240 of 240 steps, 10 saves" in out and "240 of 240 steps, 10 saves" in call("info", "run.zarr")[1]
    assert call("run", "run.zarr", "--steps", "300", "--quiet") == (0, "", "")
    run = sc.load(tmp_path / "run.zarr")
    assert run.step.values.tolist() == [0, 20, 40, 60, 80, 100, 120, 160, 200, 240, 250, 300]
    whole = sc.simulate(PROBLEMS["wide"], METHOD, replace(PLAN, steps=300))
    np.testing.assert_array_equal(run.checkpoint, whole.checkpoint)
    np.testing.assert_array_equal(run.learning_time, whole.learning_time)
    np.testing.assert_array_equal(run.loss.sel(time=whole.time[[0, 2, 4, 5, 6]]), whole.loss[:, [0, 2, 4, 5, 6]])
    assert call("run", "run.zarr", "--steps", "400", "-o", "other.zarr", "--quiet")[0] == 0
    assert final_state(sc.load(tmp_path / "run.zarr")).step == 300
    assert final_state(sc.load(tmp_path / "other.zarr")).step == 400
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "other.zarr",
        "run.toml",
        "run.zarr",
    ]


def test_an_extension_with_the_saves_of_one_run_is_that_run(call, tmp_path):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    longer = replace(PLAN, steps=240, saves=12)
    (tmp_path / "longer.toml").write_text(run_to_toml(PROBLEMS["wide"], METHOD, replace(longer, steps=20)))
    assert call("run", "longer.toml", "-o", "run.zarr", "--steps", "240", "--quiet") == (0, "", "")
    run, whole = sc.load(tmp_path / "run.zarr"), sc.simulate(PROBLEMS["wide"], METHOD, longer)
    xr.testing.assert_identical(run.load().assign_attrs(created_at=""), whole.assign_attrs(created_at=""))


@pytest.mark.parametrize("again", [["run.toml", "-o", "run.zarr", "--steps", "240"], ["run.zarr"]])
@pytest.mark.parametrize("first", [0, 3])
def test_an_interrupted_extension_resumes(call, tmp_path, first, again):
    """Of a finished run, or of one that was itself interrupted."""

    def interrupted(number, *words):
        seen = []

        def recording(*args):
            seen.append(None)
            if len(seen) == number:
                signal.raise_signal(signal.SIGINT)
            return record(*args)

        with pytest.MonkeyPatch.context() as patch:
            on_save(recording, patch.setattr)
            return call("run", *words)[0]

    assert interrupted(first, "run.toml", "-o", "run.zarr") == (130 if first else 0)
    assert interrupted(2, "run.toml", "-o", "run.zarr", "--steps", "240") == 130
    code, out, _ = call("run", *again)
    assert code == 0 and "complete, 240 of 240 steps, 10 saves" in out
    whole = sc.simulate(PROBLEMS["wide"], METHOD, replace(PLAN, steps=240))
    np.testing.assert_array_equal(sc.load(tmp_path / "run.zarr").checkpoint, whole.checkpoint)


def test_a_dry_run_of_an_extension(call, tmp_path):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    code, out, _ = call("run", "run.zarr", "--steps", "240", "--dry-run")
    assert code == 0 and re.match("120 of 240 steps are done: .*\ntime .*, memory about .*, store at most", out)
    assert final_state(sc.load(tmp_path / "run.zarr")).step == 120
    assert call("run", "run.toml", "--steps", "10", "-o", "new.zarr")[0] == 0
    assert final_state(sc.load(tmp_path / "new.zarr")).step == 10


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run.zarr"], "is complete with 120 steps; give --steps with more"),
        (["run.zarr", "--steps", "120"], "is complete with 120 steps"),
        (["run.zarr", "--steps", "60"], "--steps must be at least the 120 steps of 'run.zarr', got 60"),
        (
            ["run.toml", "-o", "run.zarr", "--steps", "60"],
            "--steps must be at least the 120 steps of 'run.zarr', got 60",
        ),
        (["run.zarr", "--steps", "240", "--overwrite"], "--overwrite would replace 'run.zarr'"),
        (["other.toml", "-o", "run.zarr", "--steps", "240"], "'run.zarr' holds a run of another problem or method"),
        (["seed.toml", "-o", "run.zarr", "--steps", "240"], "plan.seed must be that of the run"),
        (["run.toml", "-o", "new.zarr", "--steps", "0"], "steps must be greater"),
        ([".", "--steps", "240"], "is not a run"),
    ],
)
def test_extensions_that_are_refused(call, tmp_path, words, expected):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    (tmp_path / "other.toml").write_text(run_to_toml(PROBLEMS["wide"], sc.GD(0.05), PLAN))
    (tmp_path / "seed.toml").write_text(run_to_toml(PROBLEMS["wide"], METHOD, replace(PLAN, seed=1)))
    code, _, errors = call("run", *words)
    assert code == 2 and expected in errors and errors.count("\n") == 1
    assert final_state(sc.load(tmp_path / "run.zarr")).step == 120


def test_warnings_are_one_line(call, tmp_path):
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], sc.GD(5.0), sc.Plan(steps=3)))
    code, _, errors = call("run", "run.toml", "-o", "run.zarr")
    assert code == 0 and errors.startswith("warning: lr = 5 is beyond the stability edge")
    assert all(line.startswith("warning: ") for line in errors.splitlines())


def test_a_dry_run_warns_as_the_run_does(call, tmp_path):
    advice.forget()
    decayed = sc.SGD(5.0, 4, schedule=sc.schedules.Cosine(40))
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], decayed, sc.Plan(steps=60, dtype="float32")))
    code, out, dry = call("run", "run.toml", "--dry-run")
    assert code == 0 and out.startswith("time ") and "lr is 0 from step 40 of 60" in dry and "stability edge" in dry
    advice.forget()
    wet = call("run", "run.toml", "-o", "run.zarr", "--quiet")[2]
    assert wet.startswith(dry)
    (tmp_path / "run.toml").write_text(run_to_toml(PROBLEMS["wide"], sc.GD(0.05, schedule=decayed.schedule), PLAN))
    call("run", "run.toml", "-o", "short.zarr", "--steps", "40", "--quiet")
    errors = call("run", "short.zarr", "--steps", "80", "--dry-run")[2]
    assert "lr is 0 from step 40 of 80 on: nothing changes after it; continue the run by a method" in errors


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot(call, tmp_path, suffix):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    assert call("plot", "run.zarr", "-o", f"figure.{suffix}")[0] == 0
    assert (tmp_path / f"figure.{suffix}").stat().st_size > 1000


def test_plot_without_theory(call, tmp_path):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    assert (
        call("plot", "run.zarr", "-o", "with.svg")[0]
        == call("plot", "run.zarr", "-o", "out.svg", "--no-theory")[0]
        == 0
    )
    assert "Theory" in (tmp_path / "with.svg").read_text() and "Theory" not in (tmp_path / "out.svg").read_text()


def test_plot_into_no_folder(call, tmp_path):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    code, _, errors = call("plot", "run.zarr", "-o", "nowhere/figure.png")
    assert code == 2 and "'nowhere' does not exist" in errors and errors.count("\n") == 1


def test_claims_are_listed_and_reproduced(call, monkeypatch):
    claims = importlib.import_module("saddlescope.claims.reproduce")
    code, out, _ = call("claims")
    assert code == 0 and "saddle-to-saddle/" in out
    asked = []

    def reproduce(names, quick, out, client=None):
        asked.append((*names, quick, str(out), client))
        return 1

    monkeypatch.setattr(claims, "reproduce", reproduce)
    assert call("reproduce", "saddle-to-saddle", "--quick", "-o", "there")[0] == 1
    assert call("reproduce", "saddle-to-saddle", "--workers", "2")[0] == 1
    assert asked == [("saddle-to-saddle", True, "there", None), ("saddle-to-saddle", False, "report", 2)]


def test_an_unknown_claim(call):
    code, _, errors = call("reproduce", "saddle-to-sadle")
    assert code == 2 and "did you mean 'saddle-to-saddle" in errors and errors.count("\n") == 1


def test_version(call):
    code, out, _ = call("--version")
    assert code == 0 and re.fullmatch(r"saddlescope \d+\.\d+\.\d+\S*\n", out)


def test_help_without_words(call):
    assert "reproduce" in call()[1] + call("--help")[1]


def test_a_reader_that_leaves(call, tmp_path):
    call("run", "run.toml", "-o", "run.zarr", "--quiet")
    program = f"{sys.executable} -c 'from saddlescope.cli import main; main()'"
    done = subprocess.run(f"{program} info run.zarr | true", shell=True, capture_output=True, cwd=tmp_path)
    assert done.stderr == b""


def test_as_a_process(tmp_path):
    """No traceback reaches the terminal."""
    program = [sys.executable, "-m", "saddlescope"]
    words = [*program, "run", "no.toml", "-o", "x.zarr"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: path 'no.toml' does not exist; give a run file (TOML) or a store\n"
