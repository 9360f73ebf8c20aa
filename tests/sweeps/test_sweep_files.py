"""Sweeps as TOML: read as the arguments of ``sweep`` would be, and written so that they are read again."""

from dataclasses import replace

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.schedules import Cosine
from saddlescope.sweeps.file import from_toml
from saddlescope.sweeps.picks import Pick
from saddlescope.sweeps.setup import setup_of
from saddlescope.sweeps.sweep import execute, sweep

RUN = """
network = {type = "DeepLinear", widths = [2, 4, 2]}
data = {type = "GaussianData", teacher = [[2.0, 0.0], [0.0, 1.0]]}
init = {type = "Gaussian", scale = 0.1}
method = {type = "SGD", lr = 0.05, batch_size = 16}
plan = {steps = 20, saves = 2}
"""
BASE = (
    sc.Problem(sc.DeepLinear((2, 4, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]), sc.init.Gaussian(scale=0.1)),
    sc.SGD(0.05, 16),
    sc.Plan(steps=20, saves=2),
)

PAIRS = {
    "lists": ("[axes]\n'method.lr' = [0.1, 0.2]\n'plan.seed' = [1, 2]", {"method.lr": [0.1, 0.2], "plan.seed": [1, 2]}),
    "without quotes": ("[axes]\nmethod.lr = [0.1]\nmethod.batch_size = [1, 2]\nplan.seed = [3]", {
        "method.lr": [0.1], "method.batch_size": [1, 2], "plan.seed": [3],
    }),
    "linear and log": ("[axes]\nmethod.lr = {log = [1e-4, 1e-2, 5]}\ninit.scale = {linear = [0.1, 0.3, 3]}", {
        "method.lr": np.geomspace(1e-4, 1e-2, 5), "init.scale": np.linspace(0.1, 0.3, 3),
    }),
    "zipped": ("[axes.pair]\ndata.label_noise = [0, 1]\n'plan.seed' = [1, 2]", {
        "pair": {"data.label_noise": [0, 1], "plan.seed": [1, 2]},
    }),
    "widths": ("[axes]\nnetwork.widths = [[2, 2], [2, 3, 2]]", {"network.widths": [(2, 2), (2, 3, 2)]}),
    "methods": ("[axes]\nmethod = [{type = 'GD', lr = 0.1}, {type = 'SGD', lr = 0.1, batch_size = 2}]", {
        "method": [sc.GD(0.1), sc.SGD(0.1, 2)],
    }),
    "labels": ("[axes.method]\nslow = {type = 'GD', lr = 0.1}\nfast = {type = 'GD', lr = 0.2}", {
        "method": {"slow": sc.GD(0.1), "fast": sc.GD(0.2)},
    }),
    "schedules": ("[axes]\nmethod.schedule = ['None', {type = 'Cosine', steps = 9}]", {
        "method.schedule": [None, Cosine(steps=9)],
    }),
}  # fmt: skip


def runs(setup):
    return [setup.grid.parts(setup.base, index) for index in range(setup.grid.size)]


@pytest.mark.parametrize("name", PAIRS)
def test_read_as_the_arguments_of_sweep(name):
    text, axes = PAIRS[name]
    read, given = from_toml(RUN + text), setup_of(BASE, axes)
    assert read.toml == given.toml and read.grid.dims == given.grid.dims
    assert runs(read) == runs(given)
    again = from_toml(given.toml)
    assert again.toml == given.toml and runs(again) == runs(given)
    for label, (dims, values, _) in given.grid.coords.items():
        assert read.grid.coords[label][0] == dims
        np.testing.assert_array_equal(read.grid.coords[label][1], values)


def test_derived_and_reduce():
    text = RUN + (
        "[axes]\nT = [0.01, 0.1]\nmethod.lr = [0.1, 0.2]\n[derived]\nmethod.batch_size = 'max(1, round(lr / T))'\n"
        "[reduce]\nloss = {sel = {statistic = 'mean'}, isel = {time = -1}}\nend = {variable = 'mode_strength'}"
    )
    picks = {"loss": Pick("loss", {"statistic": "mean"}, {"time": -1}), "end": "mode_strength"}
    axes = {"T": [0.01, 0.1], "method.lr": [0.1, 0.2]}
    formula = {"method.batch_size": "max(1, round(lr / T))"}
    read = from_toml(text)
    assert from_toml(read.toml).toml == read.toml == setup_of(BASE, axes, formula, picks).toml
    found, expected = execute(read, progress=False), sweep(BASE, axes, derived=formula, reduce=picks, progress=False)
    assert found.drop_vars("seconds").identical(expected.drop_vars("seconds").assign_attrs(found.attrs))
    assert found.loss.dims == ("T", "lr")


def test_short_forms_of_data_are_written_on_their_table(tmp_path):
    text = RUN.replace("teacher = [[2.0, 0.0], [0.0, 1.0]]", "spectrum = [2.0, 1.0], dim_in = 2, dim_out = 2, seed = 5")
    read = from_toml(text + "[axes]\ndata.spectrum = [[2.0, 1.0], [3.0, 0.5]]\ndata.label_noise = [0.0, 0.5]")
    for index, (spectrum, noise) in enumerate([(s, n) for s in ([2, 1], [3, 0.5]) for n in (0.0, 0.5)]):
        assert read.grid.parts(read.base, index)[0].data == sc.GaussianData.from_spectrum(spectrum, 2, 2, noise, seed=5)
    assert from_toml(read.toml).toml == read.toml
    assert list(read.grid.coords["spectrum"][1]) == ["(2.0, 1.0)", "(3.0, 0.5)"]
    plain = from_toml(text + "[axes]\ndata.label_noise = [0.0, 0.5]")
    assert plain.grid.parts(plain.base, 1)[0].data == replace(plain.base.problem.data, label_noise=0.5)

    np.savez(tmp_path / "one.npz", X=np.eye(2), Y=np.eye(2))
    np.savez(tmp_path / "two.npz", X=np.eye(2), Y=2 * np.eye(2))
    text = RUN.replace(
        'type = "GaussianData", teacher = [[2.0, 0.0], [0.0, 1.0]]', 'type = "Dataset", path = "one.npz"'
    )
    read = from_toml(text + "[axes]\ndata.path = ['one.npz', 'two.npz']", tmp_path)
    assert read.grid.parts(read.base, 1)[0].data == sc.Dataset(np.eye(2), 2 * np.eye(2))


def test_an_engine():
    assert from_toml("engine = 'reference'\n" + RUN + "[axes]\nplan.seed = [1]").engine == "reference"
    assert "engine" in setup_of(BASE, {"plan.seed": [1]}, engine="reference").toml


def test_threads_are_not_part_of_a_sweep():
    threads = (*BASE[:2], replace(BASE[2], threads=3))
    assert setup_of(threads, {"plan.seed": [1]}).toml == setup_of(BASE, {"plan.seed": [1]}).toml


def test_a_function_is_named_but_not_read():
    text = setup_of(BASE, {"plan.seed": [1]}, reduce=lambda run: {"a": 1}).toml
    with pytest.raises(ValueError, match=r"\[reduce\] names the function .*, which no TOML holds; use sweep in Python"):
        from_toml(text)


WRONG = {
    "no axes": ("", r"the table \[axes\] is missing"),
    "table": ("[axes]\nplan.seed = [1]\n[axis]", r"there is no table \[axis\] here"),
    "field": ("[axes]\nplan.seeds = [1]", r"Plan has no argument 'seeds'; .* \(did you mean 'seed'\?\)"),
    "number": ("[axes]\nplan.seed = 3", r"axis 'plan.seed' must be a list of values, got 3; write \[3\]"),
    "linear": ("[axes]\nmethod.lr = {linear = [1, 2]}", r"\[axes\] method.lr: linear must be \[first, last, number\]"),
    "text": ("[axes]\nmethod.lr = {linear = [1, 'a', 3]}", r"\[axes\] method.lr: linear must be a number"),
    "count": ("[axes]\nmethod.lr = {linear = [1, 2, 2.5]}", r"method.lr: the number of values must be a whole number"),
    "one": ("[axes]\nmethod.lr = {linear = [1, 2, 1]}", "linear must have at least 2 values, got"),
    "log": ("[axes]\nmethod.lr = {log = [0, 1, 5]}", "log must have at least 2 values between positive ends"),
    "both": ("[axes]\nmethod.lr = {log = [1, 2, 5], linear = [1, 2, 3]}", "or have one of linear and log"),
    "huge": ("[axes]\nmethod.lr = {linear = [1, 2, 100000000000]}", "'method.lr' must hold at most 10,000,000 values"),
    "part": ("[axes]\nmethod = [{type = 'SGDD', lr = 1}]", r"\[axes.method\] has type = 'SGDD'; .*did you mean 'SGD'"),
    "axes": ("axes = 3", r"\[axes\] must be a table, got 3"),
    "formula": (
        "[axes]\nT = [1]\n[derived]\nmethod.lr = 'T +'",
        "derived 'method.lr': the formula 'T [+]' cannot be re",
    ),
    "reduce": ("[axes]\nplan.seed = [1]\n[reduce]\nloss = {sell = {}}", "reduce 'loss': there is no 'sell'; allowed"),
    "engine": ("[axes]\nplan.seed = [1]\n[engine]", "engine must be text"),
    "lengths": ("[axes.p]\nplan.seed = [1]\nmethod.lr = [0.1, 0.2]", "axis 'p' must have lists of equal length"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables_are_refused_in_one_sentence(name):
    text, sentence = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        from_toml(RUN + text if name != "axes" else text + RUN)
    assert "\n" not in str(caught.value)
