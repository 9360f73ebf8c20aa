"""The command: estimate, run, resume, summary, wrong input; temperature as an axis."""

import numpy as np
import pytest
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope.cli import app
from saddlescope.sweeps.file import from_toml

FILE = """
network = {type = "Diagonal", depth = 2}
data = {type = "GaussianData", spectrum = [1.0], dim_in = 1, dim_out = 1}
init = {type = "Balanced", scale = 1.0}
method = {type = "Langevin", lr = 0.02, temperature = 0.5}
plan = {steps = 50, trajectories = 4, saves = 1}

[axes]
method.temperature = {log = [0.01, 0.1, 3]}
plan.seed = [0, 1]

[derived]
method.lr = "temperature / 2"

[reduce]
loss = {sel = {statistic = "mean"}, isel = {time = -1}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "phase.toml"
    path.write_text(FILE)
    return path


def command(*arguments):
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def test_a_sweep_runs_is_resumed_and_shown(file, tmp_path):
    store = tmp_path / "phase.icechunk"
    done = command(file, "-o", store, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert "axes temperature (3) × seed (2); kept loss" in done.output and "6 runs: 6 done" in done.output
    found = sc.load(store)
    problem, _, _ = _base()
    for temperature in found.temperature.values:
        for seed in (0, 1):
            lr = temperature / 2
            run = sc.simulate(
                problem,
                sc.Langevin(lr=lr, temperature=temperature),
                sc.Plan(steps=50, trajectories=4, saves=1, seed=seed),
                progress=False,
            )
            wanted = run.loss.sel(statistic="mean").values[-1]
            assert found.loss.sel(temperature=temperature, seed=seed).item() == wanted
    again = command(file, "-o", store, "--workers", 1)
    assert again.exit_code == 0 and "6 runs: 6 done" in again.output
    shown = CliRunner().invoke(app, ["info", str(store)])
    assert "6 runs: 6 done" in shown.output and "[axes]" in shown.output
    toml = CliRunner().invoke(app, ["info", str(store), "--toml"]).output
    assert from_toml(toml).toml == toml


def _base():
    problem = sc.Problem(sc.Diagonal(depth=2), sc.GaussianData([[1.0]]), sc.init.Balanced(scale=1.0))
    return problem, sc.Langevin(lr=0.02, temperature=0.5), sc.Plan(steps=50, trajectories=4, saves=1)


def test_an_estimate_writes_nothing(file, tmp_path):
    found = command(file, "--dry-run", "--workers", 2)
    assert found.exit_code == 0
    assert found.output.startswith("6 runs, time less than a second on 2 workers, memory about ")
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (("plan.seed", "plan.sede"), (), "axis 'plan.sede': Plan has no argument 'sede'; allowed: "),
        (("[axes]", "[axis]"), (), "axis"),
        (("temperature / 2", "temperature / T"), (), "T"),
        (("log = [0.01, 0.1, 3]", "log = [0, 0.1, 3]"), (), "between positive ends"),
        (("", ""), ("--workers", "0"), "--workers must be a number of processes of at least 1, got 0"),
        (("", ""), ("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), "exclude each other"),
        (("", ""), (), "-o is missing"),
    ],
)
def test_wrong_input_is_one_sentence(file, change, options, sentence):
    file.write_text(FILE.replace(*change))
    done = command(file, *options)
    assert done.exit_code == 2
    assert done.output.startswith("error: ") and done.output.count("\n") == 1
    assert sentence in done.output


def test_a_scheduler_that_does_not_answer(file, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("saddlescope.sweeps.executors.CONNECT_SECONDS", 0.5)
    done = command(file, "-o", tmp_path / "phase.icechunk", "--scheduler", "tcp://127.0.0.1:1")
    assert done.exit_code == 2 and "client = 'tcp://127.0.0.1:1' does not answer" in done.output


def test_a_missing_file():
    assert "error: path 'none.toml' does not exist; give a sweep file (TOML)" in command("none.toml").output


def test_temperature_stands_for_the_batch_size():
    base = _base()
    found = sc.sweep(
        base, {"method.temperature": [0.01, 0.02]}, derived={"method.lr": "3 * temperature"}, progress=False
    )
    np.testing.assert_allclose(found.lr, [0.03, 0.06])
    with pytest.raises(ValueError, match=r"batch_size and temperature .* must not both be given"):
        sc.sweep(base, {"method.temperature": [0.01], "method.batch_size": [2.0]}, progress=False)
