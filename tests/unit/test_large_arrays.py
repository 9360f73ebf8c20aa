"""Large arrays of a run are stored as arrays; its TOML refers to them and still repeats the run."""

import tomllib

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import saddlescope as sc
import stores
from saddlescope import cli
from saddlescope.runfile import LARGE, large_arrays, run_from_toml, run_to_toml
from saddlescope.runs import run as run_module
from saddlescope.runs.run import earlier, parsed, parts, whole_toml
from saddlescope.runs.variables import variables

METHOD, PLAN = sc.SGD(0.001, 2), sc.Plan(steps=3, saves=1, threads=1)


def digits(samples: int = 1797) -> sc.Problem:
    rng = np.random.default_rng(1)
    data = sc.Dataset(rng.integers(0, 17, (samples, 64)).astype(float), rng.standard_normal((samples, 2)))
    return sc.Problem(sc.DeepLinear((64, 3, 2)), data, sc.init.Gaussian(scale=0.01))


def numbers(run: xr.Dataset) -> xr.Dataset:
    return run.drop_attrs(deep=False)


def test_the_toml_of_a_run_is_short_and_read_once(tmp_path, monkeypatch):
    problem, loads, read = digits(), tomllib.loads, []
    monkeypatch.setattr(run_module, "_PARSED", {})
    monkeypatch.setattr(tomllib, "loads", lambda text: read.append(text) or loads(text))
    run = sc.simulate(problem, METHOD, PLAN, out=tmp_path / "run.zarr")
    inside = sc.simulate(problem, METHOD, PLAN)
    assert max(len(one.attrs["toml"]) for one in (run, inside)) < 1000
    assert set(large_arrays(problem)) == {"data_X", "data_Y"} <= set(run)
    for _ in range(3):
        assert parts(run) == parts(inside) == (problem, METHOD, PLAN)
        sc.load(tmp_path / "run.zarr")
    sc.compare(run, inside)
    sc.cite(run)
    sc.simulate(run, sc.GD(0.01), PLAN)
    assert read == [inside.attrs["toml"]]
    xr.testing.assert_identical(numbers(run.load()), numbers(inside))
    again = sc.simulate(run, plan=sc.Plan(steps=5, saves=1, threads=1))
    assert again.step.values.tolist() == [0, 3, 5]


@pytest.mark.parametrize("name", ["large data set", "large weights"])
def test_the_toml_of_a_store_repeats_it(tmp_path, monkeypatch, name):
    problem, method, _ = stores.RUNS[name]
    monkeypatch.chdir(tmp_path)
    run = sc.simulate(problem, method, stores.plan(name), out="run.zarr")
    shown = CliRunner().invoke(cli.app, ["info", "run.zarr", "--toml"]).stdout
    assert shown == run.attrs["toml"] and "[arrays]" in shown
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.toml").write_text(shown)
    assert CliRunner().invoke(cli.app, ["run", "elsewhere/run.toml", "-o", "again.zarr", "--quiet"]).exit_code == 0
    xr.testing.assert_identical(numbers(sc.load("again.zarr")), numbers(run))
    moved = run.attrs["toml"].replace(str(tmp_path), "..")
    assert run_from_toml(moved, tmp_path / "elsewhere") == parts(run)
    whole = run_from_toml(whole_toml(run))
    assert whole == parts(run) == (problem, method, stores.plan(name))


def test_a_toml_without_its_arrays(tmp_path, monkeypatch):
    problem = digits(400)
    run = sc.simulate(problem, METHOD, PLAN)
    with pytest.raises(
        ValueError, match=r"the array data_X is not in this TOML .*; add the table \[arrays\] with store"
    ):
        run_from_toml(run.attrs["toml"])
    sc.simulate(digits(401), METHOD, PLAN, out=tmp_path / "other.zarr")
    for wrong, message in {
        "other.zarr": "data_X in '.*other.zarr' is not the one that was used",
        "none.zarr": "data_X in '.*none.zarr' is missing",
    }.items():
        with pytest.raises(ValueError, match=message):
            run_from_toml(f'{run.attrs["toml"]}\n[arrays]\nstore = "{wrong}"\n', tmp_path)
    for _ in range(2):  # before and after the TOML has been read
        with pytest.raises(ValueError, match="data_X in 'the run' is not the one that was used"):
            parts(run.assign(data_X=run.data_X + 1))
        with pytest.raises(ValueError, match="data_X is not in this TOML"):
            parts(run.drop_vars("data_X"))
        assert parts(run)[0] == problem


def test_small_arrays_stay_in_the_toml():
    run = sc.simulate(*(stores.RUNS["data set"][:2]), PLAN)
    assert run_from_toml(run.attrs["toml"]) == parts(run) and "data_X" not in run
    assert stores.RUNS["data set"][0].data.X.size <= LARGE


def test_a_continued_run_with_large_arrays(tmp_path):
    problem, method, _ = stores.RUNS["large data set"]
    first = sc.simulate(problem, method, PLAN, out=tmp_path / "first.zarr")
    second = sc.simulate(first, sc.GD(0.01), PLAN, out=tmp_path / "second.zarr")
    assert [parsed(toml, second) for toml in earlier(second.attrs)] == [(problem, method, PLAN)]
    answer = CliRunner().invoke(cli.app, ["info", str(tmp_path / "second.zarr")])
    assert answer.exit_code == 0 and "continues 3 steps of SGD" in answer.stdout
    answer = CliRunner().invoke(cli.app, ["info", str(tmp_path / "second.zarr"), "--toml"])
    assert answer.stdout == second.attrs["toml"] and "continues 3 steps of SGD" in answer.stderr


def test_a_store_with_its_data_in_the_toml_is_read(tmp_path):
    """As earlier versions wrote them."""
    problem, method, _ = stores.RUNS["large data set"]
    run = sc.simulate(problem, method, PLAN)
    old = run.drop_vars("data_X").assign_attrs(toml=run_to_toml(problem, method, PLAN))
    old["checkpoint"] = ("byte", run.checkpoint.values.view(np.uint8))
    old.to_zarr(tmp_path / "run.zarr", consolidated=False)
    with pytest.warns(UserWarning, match="without checksums"):
        found = sc.load(tmp_path / "run.zarr")
    assert parts(found) == (problem, method, PLAN)
    for name in variables(problem, PLAN):
        np.testing.assert_array_equal(found[name], run[name])
