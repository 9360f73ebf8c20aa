"""Picks of a run beside xarray's selection, and what is known of them before the first run."""

from dataclasses import replace

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.sweeps.axes import grid_of
from saddlescope.sweeps.fields import Base
from saddlescope.sweeps.layout import Form
from saddlescope.sweeps.picks import Pick, Picks, padded, picks_of
from saddlescope.sweeps.schema import Shape, everything, schema, shapes_of
from support import ENGINES, PROBLEMS, dataset

PLAN = sc.Plan(steps=30, trajectories=3, saves=6, events=("learning_time", "noise_peak"))
COUNTED = sc.Accumulate(low=0.0, high=3.0, bins=6, levels=2)
SAMPLES = sc.Problem(sc.DeepLinear((4, 5, 3)), dataset(30, 4, 3), sc.init.Gaussian(scale=0.4))
CHAINS = sc.Problem(sc.Diagonal(depth=3, width=4), sc.GaussianData([[1.0]], None, 0.3), sc.init.Gaussian(scale=0.5))
SGD = sc.SGD(0.05, 4)

RUNS = {
    "statistics": (PROBLEMS["wide"], SGD, PLAN),
    "trajectories": (PROBLEMS["wide"], SGD, replace(PLAN, keep="trajectories", observe=("mode_matrix", "drift_norm"))),
    "weights": (PROBLEMS["deep"], SGD, replace(PLAN, keep="weights", accumulate=COUNTED)),
    "no events": (PROBLEMS["wide"], SGD, replace(PLAN, events=(), save_at=(3, 17))),
    "one layer": (PROBLEMS["regression"], SGD, replace(PLAN, members=(4, 1), trajectories=1)),
    "samples": (SAMPLES, sc.SGD(0.05, 4, sampling="shuffle"), replace(PLAN, observe=("layer_singular_values",))),
    "chains": (CHAINS, sc.Langevin(0.05, 4), replace(PLAN, accumulate=COUNTED)),
}


def model_run():
    jax = pytest.importorskip("jax")

    def init(key):
        one, two = jax.random.split(key)
        return {"w1": jax.random.normal(one, (5, 4)), "w2": jax.random.normal(two, (3, 5))}

    model = sc.Model(lambda params, x: jax.nn.relu(x @ params["w1"].T) @ params["w2"].T, init)
    data = dataset(30, 4, 3)
    return sc.Problem(model, sc.Examples(data.X, data.Y)), SGD, replace(PLAN, keep="weights", events=())


def shapes_in(arrays):
    return {name: Form(array.dims, array.shape) for name, array in arrays.items()}


def agrees(run, engine):
    """The schema of everything with all dims, beside the run itself."""
    problem, _, plan = run
    found = sc.simulate(*run, engine=engine, progress=False)
    shape = Shape(problem, plan)
    own = {name for name in found.data_vars if name != "checkpoint" and not name.startswith(("data_", "init_"))}
    assert set(shape.variables) == own | {"step", "time"}
    names = {"at" if name == "status" else name: Pick(name) for name in shape.variables}
    arrays, coords = schema(names, [shape])
    kept = Picks(names).of(*run, engine, shapes_in(arrays))
    assert not kept.diverged
    for (name, array), value in zip(arrays.items(), kept.values, strict=True):
        there = found[names[name].variable]
        assert tuple("time" if dim == "save" else dim for dim in array.dims) == there.dims
        assert array.shape == there.shape == value.shape
        assert value.tobytes() == there.values.astype(float).tobytes(), name
        assert array.attrs.items() >= {("units", there.attrs["units"])} if "units" in there.attrs else True
    for name, (_, labels, _) in coords.items():
        np.testing.assert_array_equal(labels, found[name].values)
    return coords


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RUNS)
def test_known_before_the_first_run(name, engine):
    coords = agrees(RUNS[name], engine)
    assert ("statistic" in coords) == (RUNS[name][2].keep == "statistics")


def test_known_before_the_first_run_of_the_jax_engine():
    pytest.importorskip("jax")
    agrees(RUNS["statistics"], "jax")


def test_known_before_the_first_run_of_a_model():
    agrees(model_run(), "auto")


PICKS = {
    "a label": ("loss", {"statistic": "mean"}, {"time": -1}),
    "labels": ("mode_strength", {"statistic": ["q05", "q95"], "mode": 2}, {"time": [0, -1]}),
    "all": ("mode_strength", {}, {}),
    "a slice": ("loss", {}, {"time": slice(-3, None)}),
    "positions": ("mode_strength", {}, {"mode": [2, 0], "statistic": 1}),
    "a number": ("learning_time", {"threshold": 0.9}, {"trajectory": -1}),
    "an interface": ("imbalance", {"interface": np.int64(1)}, {}),
    "time": ("time", {}, {"time": -1}),
}


@pytest.mark.parametrize("name", PICKS)
def test_as_xarray_selects(name):
    variable, sel, isel = PICKS[name]
    run = RUNS["statistics"]
    picks = {"kept": Pick(variable, sel, isel)}
    arrays, _ = schema(picks, [Shape(run[0], run[2])])
    (value,) = Picks(picks).of(*run, "auto", shapes_in(arrays)).values
    expected = sc.simulate(*run, progress=False)[variable].sel(sel).isel(isel)
    assert arrays["kept"].shape == expected.shape == value.shape
    np.testing.assert_array_equal(value, expected.values)


def swept(axes, picks, base=RUNS["statistics"], derived=None):
    made = Base(*base)
    grid = grid_of(axes, derived)
    picks = picks_of(picks)
    arrays, coords = schema(picks, shapes_of(grid, made))
    kept = [Picks(picks).of(*grid.parts(made, i), "auto", shapes_in(arrays)).values for i in range(grid.size)]
    return arrays, coords, kept


def test_depths_are_padded_along_layers_and_interfaces():
    widths = [(3, 7, 4), (3, 5, 5, 4), (3, 4)]
    kept = {name: Pick(name, isel={"time": -1}) for name in ("imbalance", "loss")}
    kept = {"layer_noise": Pick("layer_noise", isel={"time": -1, "mode": 0})} | kept
    arrays, coords, found = swept({"network.widths": widths}, kept)
    assert [array.shape for array in arrays.values()] == [(7, 3), (7, 2), (7,)]
    np.testing.assert_array_equal(coords["layer"][1], [1, 2, 3])
    for width, (noise, imbalance, loss) in zip(widths, found, strict=True):
        problem = replace(RUNS["statistics"][0], network=sc.DeepLinear(width))
        run = sc.simulate(problem, SGD, PLAN, progress=False).isel(time=-1)
        layers = len(width) - 1
        np.testing.assert_array_equal(noise[:, :layers], run.layer_noise.isel(mode=0))
        assert np.isnan(noise[:, layers:]).all() and np.isfinite(loss[0])
        assert np.isnan(imbalance[:, layers - 1 :]).all()
        if layers > 1:
            np.testing.assert_array_equal(imbalance[:, : layers - 1], run.imbalance)


def test_saves_and_ensembles_are_padded():
    base = (RUNS["statistics"][0], SGD, replace(PLAN, keep="trajectories"))
    arrays, coords, found = swept({"plan.steps": [3, 30], "plan.trajectories": [2, 5]}, ["loss", "step"], base)
    assert arrays["loss"].shape == (5, 7) and "save" not in coords and "step" not in coords
    assert [int(np.isfinite(loss).sum()) for loss, _ in found] == [2 * 4, 5 * 4, 2 * 7, 5 * 7]
    np.testing.assert_array_equal(found[0][1], [0, 1, 2, 3, *[np.nan] * 3])
    np.testing.assert_array_equal(coords["trajectory"][1], np.arange(5))


def test_step_labels_saves_that_are_the_same_in_all_runs():
    assert swept({"plan.seed": [1, 2]}, "loss")[1]["step"][0] == ("save",)
    assert "step" not in swept({"plan.steps": [3, 30]}, "loss")[1]
    assert "target" in swept({"plan.seed": [1, 2]}, "mode_strength")[1]
    teachers = [np.diag([2.0, 1.0, 0.5]), np.diag([3.0, 1.0, 0.5])]
    base = (sc.Problem(sc.DeepLinear((3, 4, 3)), sc.GaussianData(np.eye(3)), sc.init.Gaussian(scale=0.1)), SGD, PLAN)
    coords = swept({"data.teacher": teachers}, "mode_strength", base)[1]
    assert "target" not in coords and "mode" in coords


def test_an_entry_that_some_runs_lack_is_nan():
    teachers = {"data": [sc.GaussianData(np.eye(2)), sc.GaussianData(np.eye(3))], "network.widths": [(2, 2), (3, 3)]}
    base = (sc.Problem(sc.DeepLinear((3, 3)), sc.GaussianData(np.eye(3)), sc.init.Gaussian(scale=0.1)), SGD, PLAN)
    last = {"statistic": "mean"}, {"time": -1}
    kept = {"third": Pick("mode_strength", {"mode": 2, **last[0]}, last[1])}
    _, _, found = swept({"size": teachers}, kept, base)
    assert np.isnan(found[0][0]) and np.isfinite(found[1][0])
    kept = {"some": Pick("mode_strength", {"mode": [0, 2], **last[0]}, last[1])}
    _, coords, found = swept({"size": teachers}, kept, base)
    np.testing.assert_array_equal(np.isnan(found[0][0]), [False, True])
    np.testing.assert_array_equal(coords["mode"][1], [0, 2])


def test_everything_at_the_last_save():
    shapes = [Shape(run[0], run[2]) for run in (RUNS["statistics"], RUNS["one layer"])]
    picks = everything(shapes)
    assert picks["loss"].isel == {"time": -1} and picks["learning_time"].isel == {}
    assert picks["divergence_step"].variable == "status" and "imbalance" in picks and "step" not in picks


def test_padding():
    np.testing.assert_array_equal(padded(np.ones((1, 2)), (2, 3)), [[1, 1, np.nan], [np.nan] * 3])


WRONG = {
    "kind": (3, "reduce must be a name, a list of names"),
    "none": ({}, "reduce must keep at least one variable"),
    "no name": ({"a b": "loss"}, "reduce must give names that are words, got 'a b'"),
    "no pick": ({"a": 3}, "reduce 'a': variable must be a name such as 'loss', got 3"),
    "key": (
        {"a": {"variable": "loss", "select": {}}},
        r"reduce 'a': there is no 'select'; allowed: variable, sel, isel",
    ),
    "sel": ({"a": {"variable": "loss", "sel": 3}}, "sel must map dims to entries"),
    "both": ({"a": {"sel": {"mode": 0}, "isel": {"mode": 0}}}, "sel and isel both select along 'mode'"),
    "time": ({"loss": {"sel": {"time": 0.1}}}, r"sel must not hold 'time', .* use isel=\{'time': -1\}"),
    "half": (
        {"loss": {"isel": {"time": 0.5}}},
        "isel of 'time' must be a whole number, a list of them or a slice, got 0",
    ),
    "variable": ("losss", r"reduce 'losss': a run has no variable 'losss'; .* \(did you mean 'loss'\?\)"),
    "dim": ({"loss": {"sel": {"mode": 0}}}, "reduce 'loss': loss has no dim 'mode'; allowed: statistic, time"),
    "label": ({"loss": {"sel": {"statistic": "median"}}}, "no run has statistic = 'median'; allowed: mean, var, q05"),
    "mode": ({"mode_strength": {"sel": {"mode": 3}}}, "no run has mode = 3; allowed: 0, 1, 2"),
    "position": ({"loss": {"isel": {"time": -8}}}, "no run has time = -8; allowed: from -7 to 6"),
    "no entry": ({"loss": {"sel": {"statistic": []}}}, "sel of 'statistic' must hold at least one entry, got none"),
    "slice by label": ({"loss": {"sel": {"statistic": slice(2)}}}, "sel of 'statistic' must be a label or a list of"),
    "slice of text": ({"loss": {"isel": {"time": slice("a")}}}, "isel of 'time' must be a whole number, .* or a slice"),
    "slice without step": ({"loss": {"isel": {"time": slice(0, 2, 0)}}}, "isel of 'time' must not be a slice with the"),
    "empty slice": (
        {"loss": {"isel": {"time": slice(5, 2)}}},
        r"slice\(5, 2, None\) selects no entry of 'time' in any",
    ),
    "twice": (["loss", Pick("loss", isel={"time": -1})], r"reduce names 'loss' twice; .* such as \{'first': Pick\("),
    "a table in a list": ([{"variable": "loss"}], r"reduce must give names that are words, got \{'variable': 'loss'\}"),
    "same dim": (
        {"loss": {}, "mode_strength": {"isel": {"time": [-1]}}},
        "'loss' and 'mode_strength' keep different en",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_picks_are_refused_in_one_sentence(name):
    reduce, sentence = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        schema(picks_of(reduce), [Shape(RUNS["statistics"][0], PLAN)])
    assert "\n" not in str(caught.value)


def test_a_variable_whose_dims_differ_is_refused():
    with pytest.raises(
        ValueError, match="loss has the dims statistic, time in one run and trajectory, time in another"
    ):
        swept({"plan.keep": ["statistics", "trajectories"]}, "loss")
