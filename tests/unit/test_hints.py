"""Misspelt names: each error names the closest of what is allowed."""

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import saddlescope as sc
from saddlescope._numbers import hint
from saddlescope.claims.reproduce import select
from saddlescope.cli import app
from saddlescope.runfile import run_from_toml

TOML = """
network = {type = "DeepLinear", widths = [3, 4, 2]}
data = {type = "GaussianData", spectrum = [2.0, 1.0], dim_in = 3, dim_out = 2, label_noise = 0.5}
init = {type = "Gaussian", scale = 0.01}
[method]
type = "SGD"
lr = 0.001
batch_size = 16
schedule = {type = "Warmup", steps = 5, then = {type = "Cosine", steps = 9}}
[plan]
steps = 10
saves = {type = "Logspaced", count = 3}
accumulate = {low = 0.0, high = 3.0}
"""

IN_TOML = [
    ("network =", "netwrok =", "network"),
    ("[plan]", "[plna]", "plan"),
    ("DeepLinear", "DeepLiner", "DeepLinear"),
    ("GaussianData", "GausianData", "GaussianData"),
    ('"Gaussian"', '"Gausian"', "Gaussian"),
    ('"SGD"', '"SDG"', "SGD"),
    ("Warmup", "Warmpu", "Warmup"),
    ("Cosine", "cosine", "Cosine"),
    ("Logspaced", "LogSpaced", "Logspaced"),
    ("widths", "width", "widths"),
    ("label_noise", "lable_noise", "label_noise"),
    ("dim_in", "dimin", "dim_in"),
    ("scale", "scael", "scale"),
    ("batch_size", "batchsize", "batch_size"),
    ("lr =", "learning_rate =", "lr"),
    ("then", "than", "then"),
    ("steps = 9", "step = 9", "steps"),
    ("steps = 10", "step = 10", "steps"),
    ("count", "cuont", "count"),
    ("low", "lwo", "low"),
]

PROBLEM = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[1.0]]), sc.init.Gaussian(scale=0.1))
CALLS = {
    "weights": lambda: sc.Plan(10, keep="weigths"),
    "trajectories": lambda: sc.Plan(10, keep="trajectory"),
    "noise_peak": lambda: sc.Plan(10, events=["learning_time", "noise_peek"]),
    "float32": lambda: sc.Plan(10, dtype="flaot32"),
    "isotropic": lambda: sc.Langevin(0.1, 1, noise="isotropc"),
    "shuffle": lambda: sc.SGD(0.1, 1, sampling="shufle"),
    "batch_size": lambda: sc.SGD(lr=0.1, batch=3),
    "trajectory count": lambda: sc.Plan(10, trajectorys=3),
    "mode_matrix": lambda: sc.simulate(PROBLEM, sc.GD(0.1), sc.Plan(10, observe=["mode_matrx"])),
    "reference": lambda: sc.simulate(PROBLEM, sc.GD(0.1), sc.Plan(10), engine="refrence"),
    "temperature": lambda: sc.theory.ModeSDE(depth=2, target=1.0, temprature=0.1),
    "power": lambda: sc.theory.Diffusion1D(lambda x: -x, np.ones_like, tails="powr"),
    "weight": lambda: sc.theory.ModeSDE(depth=2, target=1.0, temperature=0.1).drift(0.1, coordinate="weigth"),
    "noise-peak": lambda: select(["nois-peak"]),
    "saddle-to-saddle": lambda: select(["sadle-to-saddle"]),
    "saddle-to-saddle/noise-peak": lambda: select(["saddle-to-saddle/noisepeak"]),
}

COMMANDS = {
    "--threads": ["run", "--thread", "2", "run.toml"],
    "--engine": ["run", "--engin", "native", "run.toml"],
    "--overwrite": ["run", "--overwite", "run.toml"],
    "--quick": ["reproduce", "--quik"],
    "'reproduce'": ["reproduec"],
    "'claims'": ["claim"],
    "'noise-peak'": ["reproduce", "nois-peak"],
}


def test_the_run_is_right_as_it_stands():
    assert run_from_toml(TOML)[2].steps == 10


@pytest.mark.parametrize(("right", "wrong", "meant"), IN_TOML)
def test_toml(right, wrong, meant):
    assert right in TOML
    with pytest.raises((TypeError, ValueError), match=rf"\(did you mean '{meant}'\?\)") as caught:
        run_from_toml(TOML.replace(right, wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "meant"), [("lable_noise", "label_noise"), ("tset", "test"), ("target", "targets")])
def test_toml_of_a_data_set(key, meant):
    data = f'data = {{type = "Dataset", path = "data.csv", {key} = 1}}'
    with pytest.raises(TypeError, match=rf"\(did you mean '{meant}'\?\)"):
        run_from_toml(TOML.replace(TOML.splitlines()[2], data))


@pytest.mark.parametrize("meant", CALLS)
def test_calls(meant):
    name = {"trajectory count": "trajectories"}.get(meant, meant)
    with pytest.raises((TypeError, ValueError), match=rf"\(did you mean '{name}'\?\)") as caught:
        CALLS[meant]()
    assert "\n" not in str(caught.value)


def test_names_that_contain_the_word():
    meant = r"\(did you mean 'singular_values' or 'layer_singular_values'\?\)$"
    with pytest.raises(ValueError, match=meant):
        sc.simulate(PROBLEM, sc.GD(0.1), sc.Plan(10, observe=["singular"]))
    assert hint("mode", [f"{letter}_of_a_mode_and_more" for letter in "abcd"]) == "", "too many to name"
    assert hint("a", ["data", "label"]) == "", "too short to be looked for"


@pytest.mark.parametrize("value", ["zzzzzzz", "", "x" * 10**6, 3, None, ["keep"]])
def test_no_hint_where_nothing_is_close(value):
    with pytest.raises(
        (TypeError, ValueError), match="keep must be 'statistics', 'trajectories' or 'weights'"
    ) as caught:
        sc.Plan(10, keep=value)
    assert "did you mean" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("meant", COMMANDS)
def test_commands(meant):
    answer = CliRunner().invoke(app, COMMANDS[meant])
    assert answer.exit_code == 2 and meant in answer.output and "Traceback" not in answer.output


def test_names_of_the_package():
    """Python itself suggests names of modules whose errors say which name was asked for."""
    code = "import saddlescope as sc\nsc.simulat"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Did you mean: 'simulate'?" in done.stderr
