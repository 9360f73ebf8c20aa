"""Every wrong value gives one sentence with the argument and the fix, on every engine and on the command line."""

import numpy as np
import pytest
import tomli_w
from typer.testing import CliRunner
from wrong import RIGHT, WRONG, tables

import saddlescope as sc
from saddlescope import cli
from saddlescope.methods import METHODS
from saddlescope.schedules import SCHEDULES
from support import ENGINES

NETWORKS, DATA = (sc.DeepLinear, sc.Diagonal), (sc.GaussianData, sc.Dataset, sc.Moments)
PARTS = (*NETWORKS, *DATA, sc.init.Gaussian, sc.init.Balanced, sc.init.Given)
CLASSES = {part.__name__: part for part in (*PARTS, *METHODS, *SCHEDULES)}


def make(table):
    table = {key: make(value) if isinstance(value, dict) and "type" in value else value for key, value in table.items()}
    return CLASSES[table.pop("type")](**table)


def in_python(run, engine):
    network, data, init, method = (make(run[name]) for name in ("network", "data", "init", "method"))
    return sc.simulate(sc.Problem(network, data, init), method, sc.Plan(**run["plan"]), engine=engine)


def command(tmp_path, text, *words):
    file = tmp_path / "run.toml"
    file.write_text(text)
    done = CliRunner().invoke(cli.app, ["run", str(file), "-o", str(tmp_path / "run.zarr"), *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def check_sentence(message, words):
    assert "\n" not in message.strip(), message
    assert not any(leak in message for leak in ("pydantic", "a valid ", "an instance", "dictionary", "validation")), (
        message
    )
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("engine", ENGINES)
def test_the_right_run_runs(engine, tmp_path):
    assert in_python(RIGHT, engine).attrs["complete"]
    assert command(tmp_path, tomli_w.dumps(RIGHT), "--engine", engine).exit_code == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WRONG)
def test_in_python(name, engine):
    with pytest.raises(WRONG[name].error) as caught:
        in_python(tables(WRONG[name]), engine)
    assert type(caught.value) is WRONG[name].error
    check_sentence(str(caught.value), WRONG[name].words)


@pytest.mark.parametrize("name", WRONG)
def test_on_the_command_line(name, tmp_path):
    done = command(tmp_path, tomli_w.dumps(tables(WRONG[name])))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    check_sentence(done.stderr, WRONG[name].words)
    assert not (tmp_path / "run.zarr").exists()


# --- what only a file can get wrong


def data(**table):
    """The valid run with this [data]."""
    return tomli_w.dumps(RIGHT | {"data": table})


def method(**arguments):
    """The valid run with these arguments in its [method]."""
    return tomli_w.dumps(RIGHT | {"method": RIGHT["method"] | arguments})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("widths = [", ("not valid TOML",)),
        ("", ("[network] is missing",)),
        (tomli_w.dumps({k: v for k, v in RIGHT.items() if k != "plan"}), ("[plan] is missing", "add it")),
        (tomli_w.dumps(RIGHT | {"metod": {}}), ("[metod]", "did you mean 'method'")),
        (tomli_w.dumps(RIGHT | {"method": {"type": "Lion", "lr": 0.1}}), ("[method]", "'Lion'", "allowed")),
        (
            tomli_w.dumps(RIGHT | {"method": {"lr": 0.1}}),
            ("[method] needs a type; allowed: GradientFlow, GD, SGD, Adam, AdamW, Langevin",),
        ),
        (method(schedule={"type": "Linear"}), ("[method.schedule]", "'Linear'", "allowed: Step, Cosine, Warmup")),
        (method(schedule={"steps": 10}), ("[method.schedule] needs a type",)),
        (
            method(schedule={"type": "Warmup", "steps": 3, "then": {"type": "Cosin"}}),
            ("[method.schedule.then]", "Cosine"),
        ),
        (tomli_w.dumps(RIGHT | {"plan": 3}), ("[plan]", "table")),
        (tomli_w.dumps(RIGHT | {"data": 3}), ("[data]", "table")),
        (data(spectrum=[1.0], dim_in=3), ("[data]", "dim_out")),
        (data(spectrum=[1.0] * 4, dim_in=3, dim_out=2), ("[data]", "spectrum")),
        (data(spectrum=[-1.0], dim_in=3, dim_out=2), ("[data]", "spectrum")),
        (data(spectrum=[1.0], dim_in=0, dim_out=2), ("[data]", "dim_in")),
        (data(spectrum=1.0, dim_in=3, dim_out=2), ("[data]", "spectrum")),
        (data(spectrum=[1.0], dim_in=3, dim_out=2, colour=1), ("[data]", "colour", "allowed")),
        (data(type="Dataset", path="missing.npz"), ("[data]", "missing.npz", "is not a file")),
        (data(type="Dataset", path="run.toml"), ("[data]", ".npz or .csv")),
        (data(type="Dataset", path=3), ("[data]", "path must be a string")),
        (data(type="Dataset", path="a.npz", sigma=1.0), ("[data]", "sigma", "did you mean 'label_noise'")),
        (tomli_w.dumps(RIGHT | {"plan": {"steps": 3, "saves": {"count": 0}}}), ("[plan.saves]", "count")),
    ],
)
def test_wrong_files(text, words, tmp_path):
    done = command(tmp_path, text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    check_sentence(done.stderr, words)


def test_not_a_text(tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe\x00")
    done = CliRunner().invoke(cli.app, ["run", str(tmp_path / "run.toml"), "-o", str(tmp_path / "run.zarr")])
    assert done.exit_code == 2 and "is not text" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "missing.toml", "-o", "run.zarr"], "path 'missing.toml' does not exist"),
        (["run", "run.toml"], "-o is missing"),
        (["run", "run.toml", "-o", "run.zarr", "--threads", "0"], "threads"),
        (["run", "run.toml", "-o", "run.zarr", "--engine", "warp"], "engine = 'warp' is unknown"),
        (["run", "run.toml", "-o", "run.toml/run.zarr"], "which is a file"),
        (["run", "run.toml", "-o", "run.toml"], "exists and is not a run; give another path"),
        (["run", "run.toml", "-o", "run.toml", "--overwrite"], "exists and is not a run; give another path"),
        (["run", "run.toml", "-o", "/proc/nowhere/run.zarr"], "could not be used"),
        (["info", "missing.zarr"], "path 'missing.zarr' does not exist"),
        (["info", "run.toml"], "is not a run; give the store"),
        (["plot", "missing.zarr", "-o", "figure.png"], "does not exist"),
        (["reproduce", "saddle-to-sadle"], "did you mean 'saddle-to-saddle"),
        (["reproduce", "-o", "run.toml"], "out must be a folder"),
    ],
)
def test_wrong_words(words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(tomli_w.dumps(RIGHT))
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 2, (done.stdout, done.exception)
    assert expected in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "run.toml").read_text() == tomli_w.dumps(RIGHT)


@pytest.mark.parametrize("words", [["run"], ["run", "a.toml", "--threads", "two"], ["runn"], ["run", "--fast"]])
def test_usage(words):
    assert CliRunner().invoke(cli.app, words).exit_code == 2


# --- what only Python can get wrong


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"problem": "problem"}, TypeError, ("problem must be",)),
        ({"problem": None}, TypeError, ("problem must be",)),
        ({"method": "SGD"}, TypeError, ("method must be", "such as SGD")),
        ({"method": None}, TypeError, ("method must be",)),
        ({"method": sc.SGD}, TypeError, ("method must be",)),
        ({"plan": 100}, TypeError, ("plan must be", "such as Plan")),
        ({"plan": None}, TypeError, ("plan must be",)),
        ({"engine": "warp"}, ValueError, ("engine = 'warp'", "native, reference")),
        ({"engine": None}, ValueError, ("engine = None", "allowed")),
        ({"out": 3}, TypeError, ("out must be a path",)),
        ({"speed": "fast"}, TypeError, ("speed",)),
    ],
)
def test_arguments_of_simulate(engine, change, error, words):
    problem = sc.Problem(make(RIGHT["network"]), make(RIGHT["data"]), make(RIGHT["init"]))
    right = {"problem": problem, "method": make(RIGHT["method"]), "plan": sc.Plan(steps=3), "engine": engine}
    with pytest.raises(error) as caught:
        sc.simulate(**{**right, **change})
    check_sentence(str(caught.value), words)


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda: sc.Problem(1, 2, 3), TypeError, ("network must be a DeepLinear", "such as DeepLinear")),
        (lambda: sc.GaussianData([[1j]]), TypeError, ("teacher", "complex numbers are not allowed")),
        (lambda: sc.GaussianData(1j * np.eye(2)), TypeError, ("teacher", "complex numbers are not allowed")),
        (lambda: sc.GaussianData(None), TypeError, ("teacher must be a matrix",)),
        (lambda: sc.convert.loss(-1.0), ValueError, ("theirs", "not negative")),
        (lambda: sc.convert.time(float("nan")), ValueError, ("theirs", "finite")),
        (lambda: sc.convert.temperature("hot"), TypeError, ("theirs must be a number",)),
        (lambda: sc.convert.weight_decay(0.1, penalty=-1.0), ValueError, ("penalty", "not negative")),
        (lambda: sc.convert.depth(1.5), TypeError, ("theirs", "whole number")),
        (lambda: sc.convert.depth(-1), ValueError, ("theirs", "not negative")),
        (lambda: sc.GD(0.1, 2), TypeError, ("GD takes 1 argument",)),
        (lambda: sc.GD(0.1, schedule={"steps": 10}), TypeError, ("schedule must be a Step or Cosine or Warmup",)),
        (lambda: sc.GD(0.1, lr=0.2), TypeError, ("'lr' twice", "give it once")),
        (lambda: sc.GD(None), TypeError, ("lr", "such as 1e-3")),
        (lambda: sc.Plan(10, saves=sc.logspaced(0)), ValueError, ("count", "such as 100")),
        (lambda: sc.Plan(10, saves=None), TypeError, ("saves", "such as 100")),
        (lambda: sc.GaussianData.from_spectrum([1.0], 2.5, 2), TypeError, ("dim_in", "whole number")),
        (lambda: sc.GaussianData.from_spectrum([1.0], 2, 2, seed=-1), ValueError, ("seed", "at least 0")),
        (lambda: sc.GaussianData.from_spectrum([float("nan")], 2, 2), ValueError, ("spectrum", "finite")),
        (lambda: sc.load(3), TypeError, ("path must be a path",)),
        (lambda: sc.cite(sc), (TypeError, ValueError), ("run must be a Dataset",)),
        (lambda: sc.compare(sc, sc), (TypeError, ValueError), ("run must be a Dataset",)),
    ],
)
def test_other_wrong_arguments(act, error, words):
    with pytest.raises(error) as caught:
        act()
    check_sentence(str(caught.value), words)


def test_nothing_can_be_changed_behind_its_back():
    data = make(RIGHT["data"])
    with pytest.raises(ValueError, match="read-only"):
        data.teacher[0, 0] = 7.0
    with pytest.raises((AttributeError, TypeError)):
        data.label_noise = -1.0
