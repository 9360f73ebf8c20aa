"""The Dataset of a run: its variables, their dims, statistics over the ensemble, attributes."""

import re
import tomllib
import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from xarray.plot.utils import label_from_attrs

import saddlescope as sc
import stores
from saddlescope.engines.protocol import OneByOne
from saddlescope.observables import OBSERVABLES, STANDARD
from saddlescope.runfile import run_to_toml
from saddlescope.runs.run import Save, earlier, events, final_state, joined_saves, kept, parts
from saddlescope.runs.statistics import SAVES_BYTES, STATISTICS, saves_together, statistics
from saddlescope.runs.variables import CHECKPOINT, COORDINATES, EVENTS, sizes, variables
from saddlescope.simulation import loop
from support import ENGINES, PROBLEMS, engine_class

METHOD = sc.SGD(lr=0.05, batch_size=2)
PLAN = sc.Plan(steps=40, trajectories=9, saves=4, events=("learning_time", "noise_peak"))
COUNTING = replace(PLAN, accumulate=sc.Accumulate(-1.0, 3.0))


@pytest.fixture(scope="module", params=ENGINES)
def runs(request):
    """The same run with every ``keep``."""
    kinds = ("statistics", "trajectories", "weights")
    return {
        keep: sc.simulate(PROBLEMS["wide"], METHOD, replace(COUNTING, keep=keep), engine=request.param)
        for keep in kinds
    }


def test_statistics_are_those_of_the_trajectories(runs):
    for name in STANDARD:
        sample, table = runs["trajectories"][name], runs["statistics"][name]
        if name == "log_det":
            continue
        expected = {
            "mean": sample.mean("trajectory"),
            "var": sample.var("trajectory", ddof=1),
            "stderr": sample.std("trajectory", ddof=1) / 3,
            "n": xr.full_like(sample.isel(trajectory=0), 9.0),
            **{f"q{100 * q:02.0f}": sample.quantile(q, "trajectory") for q in (0.05, 0.5, 0.95)},
        }
        for statistic, values in expected.items():
            np.testing.assert_allclose(
                table.sel(statistic=statistic), values, rtol=1e-12, atol=1e-15, err_msg=f"{name} {statistic}"
            )


def test_events_do_not_depend_on_what_is_kept(runs):
    for name in (*EVENTS, "checkpoint"):
        for keep in ("trajectories", "weights"):
            assert runs[keep][name].identical(runs["statistics"][name])


def test_kept_weights_give_the_observables(runs):
    run = runs["weights"]
    end_to_end = xr.dot(run.W2, run.W1, dim="unit1")
    modes = PROBLEMS["wide"].data.modes
    strength = np.einsum("ntij,ia,ja->nta", end_to_end, modes.left, modes.right)
    np.testing.assert_allclose(strength, run["mode_strength"], atol=1e-12)


def test_every_variable_has_a_name_for_an_axis_and_a_definition(runs):
    """Formulas belong to the definition: a long_name is a few plain words."""
    listed = [*OBSERVABLES.values(), *EVENTS.values(), *COORDINATES.values(), CHECKPOINT]
    assert all(re.fullmatch(r"[a-z ]{3,30}", one.long_name) for one in listed)
    assert len({one.long_name for one in listed}) == len({one.definition for one in listed}) == len(listed)
    for run in runs.values():
        for name, found in run.variables.items():
            assert re.fullmatch(r"[a-z0-9 ]{3,30}", found.attrs["long_name"]), name
            assert found.attrs["definition"] and found.attrs.get("units", "y/x") not in ("", "1"), name


def test_every_variable_says_what_it_is(runs):
    for keep, run in runs.items():
        for name in (*variables(PROBLEMS["wide"], replace(PLAN, keep=keep)), *EVENTS):
            assert run[name].attrs["long_name"], name
        assert run.mode_strength.attrs["units"] == run.target.attrs["units"] == "y/x"


def test_axes_of_xarray_show_units_only_where_there_are_some(runs):
    run = runs["statistics"]
    labels = {name: label_from_attrs(run[name]) for name in ("time", "step", "mode", "alignment", "learning_time")}
    assert labels == {
        "time": "time",
        "step": "step",
        "mode": "mode",
        "alignment": "alignment",
        "learning_time": "learning time [step]",
    }
    assert label_from_attrs(run.mode_strength) == "mode strength [y/x]"


def test_dims_and_coordinates(runs):
    run = runs["statistics"]
    assert run.mode_strength.dims == ("statistic", "time", "mode")
    assert run.layer_noise.dims == ("statistic", "time", "layer", "mode")
    assert run.learning_time.dims == ("trajectory", "threshold", "mode")
    assert runs["trajectories"].mode_strength.dims == ("trajectory", "time", "mode")
    assert runs["weights"].W2.dims == ("trajectory", "time", "unit2", "unit1")
    np.testing.assert_array_equal(run.step, PLAN.save_steps)
    np.testing.assert_array_equal(run.time, METHOD.lr * PLAN.save_steps)
    np.testing.assert_array_equal(run.target, PROBLEMS["wide"].data.modes.strengths)


def test_attributes(runs):
    run = runs["statistics"]
    problem, method, plan = parts(run)
    assert (problem, method, plan) == (PROBLEMS["wide"], METHOD, COUNTING)
    assert tomllib.loads(run.attrs["toml"])["method"]["lr"] == METHOD.lr
    assert run.attrs["complete"] == 1
    assert run.attrs["temperature"] == METHOD.temperature
    for name in ("created_at", "inference_library", "inference_library_version", "engine", "teacher_basis"):
        assert run.attrs[name], name
    assert "½" in run.attrs["convention_loss"] and "Itô" in run.attrs["convention_noise"]


def test_time_of_langevin_advances_by_dt():
    run = sc.simulate(PROBLEMS["wide"], sc.Langevin(0.05, 2, dt=0.01), sc.Plan(steps=10, saves=2))
    np.testing.assert_allclose(run.time, [0, 0.05, 0.1])


def test_one_layer_has_no_interfaces():
    run = sc.simulate(PROBLEMS["regression"], METHOD, PLAN)
    assert "imbalance" not in run and "interface" not in run.coords
    assert run.layer_noise.sizes["layer"] == 1


def test_chosen_saves():
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=20, save_at=(3, 7)))
    assert run.step.values.tolist() == [3, 7]
    assert final_state(run).step == 20
    assert run.attrs["complete"]


def test_members_replay_a_larger_ensemble():
    plan = replace(PLAN, keep="trajectories")
    whole = sc.simulate(PROBLEMS["wide"], METHOD, plan)
    one = sc.simulate(PROBLEMS["wide"], METHOD, replace(plan, members=(7,), trajectories=1))
    xr.testing.assert_identical(
        one.drop_vars("checkpoint").drop_attrs(),
        whole.sel(trajectory=[7]).drop_vars("checkpoint").drop_attrs(),
    )


# --- statistics of a sample


def test_diverged_trajectories_are_left_out():
    sample = np.array([[1.0, 5.0], [np.nan, np.inf], [3.0, 9.0]])
    table = statistics({"a": sample}, np.array([True, False, True]))["a"]
    np.testing.assert_allclose(table[STATISTICS.index("mean")], [2, 7])
    np.testing.assert_array_equal(table[STATISTICS.index("n")], [2, 2])


def test_nobody_left():
    table = statistics({"a": np.ones((3, 2))}, np.zeros(3, bool))["a"]
    assert np.isnan(table[:-1]).all() and (table[-1] == 0).all()


def test_nan_stays_nan_in_its_own_column():
    sample = np.stack([np.arange(50.0), np.where(np.arange(50) == 7, np.nan, 1.0)], axis=1)
    table = statistics({"a": sample}, np.ones(50, bool))["a"]
    assert np.isfinite(table[:, 0]).all() and np.isnan(table[:-1, 1]).all()


def test_one_trajectory_has_no_spread():
    table = statistics({"a": np.array([2.0])}, np.ones(1, bool))["a"]
    found = dict(zip(STATISTICS, table, strict=True))
    assert found["mean"] == found["q05"] == found["q95"] == 2 and np.isnan(found["var"])


@pytest.mark.parametrize("n", [1, 2, 9, 128, 700, 2000])
def test_saves_summarised_together_have_the_bits_of_each_alone(n):
    problem, plan, rng = PROBLEMS["wide"], replace(PLAN, trajectories=n), np.random.default_rng(n)
    lengths, kinds = sizes(problem, plan), variables(problem, plan).items()
    alive = [np.ones(n, bool), rng.random(n) < 0.8, np.zeros(n, bool)]
    saves = [
        Save(
            {name: rng.lognormal(0, 3, (n, *(lengths[dim] for dim in kind.dims[2:]))) for name, kind in kinds},
            (),
            living,
        )
        for living in alive[: saves_together(n, 1)]
        for _ in range(saves_together(n, 1) // 3)
    ]
    engine = OneByOne()
    together, alone = kept(engine, saves, problem, plan), [kept(engine, [save], problem, plan) for save in saves]
    for name, _ in kinds:
        np.testing.assert_array_equal(together[name], joined_saves(alone, name))
    assert len(saves) > 2


def test_saves_that_wait_for_a_summary_take_little_memory(monkeypatch):
    waiting: list[int] = []

    def counted(engine, saves, *others):
        waiting.append(sum(part.nbytes for save in saves for part in (save.look[1], *save.weights)))
        return kept(engine, saves, *others)

    monkeypatch.setattr(loop, "kept", counted)
    problem = sc.Problem(sc.DeepLinear((100, 100, 100)), sc.GaussianData(np.eye(100)), sc.init.Balanced(scale=0.1))
    sc.simulate(problem, sc.GD(0.01), sc.Plan(40, 10, saves=40, keep="weights"))
    assert 8 * 10 * 20_000 < max(waiting) <= SAVES_BYTES < sum(waiting)


# --- events


def test_a_noise_peak_counts_when_the_noise_has_fallen_by_a_tenth():
    plan = sc.Plan(steps=1, trajectories=4, events=("noise_peak",))
    state = engine_class("reference")(PROBLEMS["thin"], METHOD, plan).init()
    at_learning = np.array([0.89, 0.91, np.nan, 0.0])
    peak = np.stack([np.ones(4), np.full(4, 17.0), np.full(4, 0.6), at_learning], axis=1)[:, :, None]
    found = events(PROBLEMS["thin"], plan, replace(state, peak=peak))
    np.testing.assert_array_equal(found["noise_peak_step"][:, 0], [17, np.nan, np.nan, 17])
    np.testing.assert_array_equal(found["noise_peak_strength"][:, 0], [0.6, np.nan, np.nan, 0.6])


def test_without_noise_there_is_no_peak(engine):
    plan = sc.Plan(steps=400, events=("learning_time", "noise_peak"))
    run = sc.simulate(PROBLEMS["thin"], sc.GD(0.05), plan, engine=engine.name)
    assert np.isfinite(run.learning_time).all()
    assert np.isnan(run.noise_peak_step).all()


def test_events_not_asked_for_are_absent():
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=30, events=()))
    assert "learning_time" not in run and "noise_peak_step" not in run


# --- on disk


@pytest.mark.parametrize("keep", ["statistics", "trajectories", "weights"])
def test_a_store_holds_what_memory_holds(tmp_path, keep):
    plan = replace(PLAN, keep=keep)
    inside = sc.simulate(PROBLEMS["deep"], METHOD, plan)
    outside = sc.simulate(PROBLEMS["deep"], METHOD, plan, out=tmp_path / "run.zarr")
    inside.attrs["created_at"] = outside.attrs["created_at"]
    xr.testing.assert_identical(inside, outside)


def test_a_run_written_by_hand_is_a_run(tmp_path, runs):
    runs["statistics"].to_zarr(tmp_path / "run.zarr", consolidated=False)
    with pytest.warns(UserWarning, match="was written without checksums"):
        loaded = sc.load(tmp_path / "run.zarr")
    xr.testing.assert_identical(loaded, runs["statistics"])
    xr.testing.assert_identical(loaded.isel(time=[3, 1], mode=-1), runs["statistics"].isel(time=[3, 1], mode=-1))
    with pytest.raises(FileExistsError, match="holds a finished run"):
        sc.simulate(PROBLEMS["wide"], METHOD, PLAN, out=tmp_path / "run.zarr")
    assert sc.simulate(PROBLEMS["wide"], METHOD, PLAN, out=tmp_path / "run.zarr", overwrite=True).attrs["complete"]


def test_a_store_is_plain_zarr(tmp_path):
    run = sc.simulate(PROBLEMS["wide"], METHOD, PLAN, out=tmp_path / "run.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(tmp_path / "run.zarr", chunks=None)
    for name in run.variables:
        if name != "checkpoint":  # on disk it holds the checksums too
            np.testing.assert_array_equal(plain[name], run[name], err_msg=name)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7, 200, 4), (7, 200, 4)),
        ((100, 50_000, 8), (100, 655, 8)),
        ((1_000_000, 100, 8), (65_536, 1, 8)),
    ],
)
def test_chunks_are_of_a_few_megabytes(shape, expected):
    from saddlescope.runs.saves import chunks

    assert chunks(shape) == expected


@pytest.mark.parametrize("name", ["statistics", "weights", "accumulate", "large data set", "diagonal, Langevin"])
def test_a_run_goes_through_netcdf(tmp_path, name):
    problem, method, _ = stores.RUNS[name]
    first = sc.simulate(problem, method, stores.plan(name))
    run = first if name != "weights" else sc.simulate(first, sc.SGD(0.05, 2), stores.plan(name))
    run.to_netcdf(tmp_path / "run.nc")
    back = xr.open_dataset(tmp_path / "run.nc")
    assert parts(back) == parts(run) and earlier(back.attrs) == earlier(run.attrs)
    assert sc.compare(back, run).rows == sc.compare(run, run).rows
    longer = [sc.simulate(one, plan=stores.plan(name, steps=90, saves=18)) for one in (back, run)]
    xr.testing.assert_identical(*(one.drop_attrs(deep=False) for one in longer))


def test_an_unfinished_store_without_checksums_is_finished_elsewhere(tmp_path):
    plan = sc.Plan(steps=40, save_at=(0, 20), trajectories=3, threads=1)
    half = sc.simulate(PROBLEMS["wide"], METHOD, replace(plan, steps=20))
    toml = run_to_toml(PROBLEMS["wide"], METHOD, plan)
    half.assign_attrs(toml=toml, complete=0).to_zarr(tmp_path / "half.zarr", consolidated=False)
    with pytest.raises(ValueError, match=r"without checksums and cannot be resumed; finish it in another store"):
        sc.simulate(PROBLEMS["wide"], METHOD, plan, out=tmp_path / "half.zarr")
    with pytest.warns(UserWarning, match="without checksums"):
        left = sc.load(tmp_path / "half.zarr")
    whole = sc.simulate(left, out=tmp_path / "whole.zarr")
    direct = sc.simulate(PROBLEMS["wide"], METHOD, plan)
    xr.testing.assert_identical(whole.load().drop_attrs(deep=False), direct.drop_attrs(deep=False))


def test_a_run_is_extended_in_its_own_store(tmp_path):
    path = tmp_path / "run.zarr"
    run = sc.simulate(PROBLEMS["wide"], METHOD, PLAN, out=path)
    longer = sc.simulate(run, plan=replace(PLAN, steps=80, saves=8), out=path, overwrite=True).load()
    direct = sc.simulate(PROBLEMS["wide"], METHOD, replace(PLAN, steps=80, saves=8))
    xr.testing.assert_identical(longer.drop_attrs(deep=False), direct.drop_attrs(deep=False))
