"""Times of learning, densities, and why a variable is NaN."""

import inspect
import signal

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope import observables
from saddlescope.networks import deep_linear
from saddlescope.runs import saves
from saddlescope.runs.run import record
from saddlescope.schedules import Step, Warmup
from support import ENGINES, PROBLEMS, on_save

WIDE = PROBLEMS["wide"]
SLOW = sc.Problem(
    sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 0.0]]), sc.init.Balanced(scale=0.1, aligned=True)
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "method",
    [
        sc.SGD(0.05, 16),
        sc.GD(0.05, schedule=Warmup(steps=20, then=Step(every=30, factor=0.5))),
        sc.Langevin(0.05, 16, dt=0.02),
        sc.GradientFlow(0.05),
    ],
)
def test_times_of_learning(engine, method):
    run = sc.simulate(WIDE, method, sc.Plan(steps=60, trajectories=4, saves=60), engine=engine)
    steps, times = run.learning_time.values, run.learned_at.values
    reached = np.isfinite(steps)
    assert reached.any() and run.learned_at.dims == run.learning_time.dims
    np.testing.assert_array_equal(times[~reached], steps[~reached])
    saved = dict(zip(run.step.values.tolist(), run.time.values.tolist(), strict=True))
    np.testing.assert_allclose(times[reached], [saved[step] for step in steps[reached]], rtol=1e-12)


def test_what_is_never_learned_has_no_time():
    run = sc.simulate(SLOW, sc.GD(0.05), sc.Plan(steps=30))
    np.testing.assert_array_equal(run.learned_at.values[0, 1], [np.inf, np.nan])
    assert "learned_at" not in sc.simulate(SLOW, sc.GD(0.05), sc.Plan(steps=3, events=()))


def test_times_of_learning_in_stores_and_selections(tmp_path):
    plan = sc.Plan(steps=60, trajectories=4, saves=2, keep="trajectories")
    run = sc.simulate(WIDE, sc.SGD(0.05, 16), plan)
    stored = sc.simulate(WIDE, sc.SGD(0.05, 16), plan, out=tmp_path / "run.zarr")
    for other in (stored.learned_at, xr.open_zarr(tmp_path / "run.zarr", consolidated=True).learned_at):
        np.testing.assert_array_equal(other, run.learned_at)
    longer = sc.Plan(steps=120, trajectories=1, members=(1, 3), saves=2, keep="trajectories")
    few = sc.simulate(stored.isel(trajectory=[3, 1]), plan=longer)
    whole = sc.simulate(WIDE, sc.SGD(0.05, 16), sc.Plan(steps=120, trajectories=4, saves=2, keep="trajectories"))
    np.testing.assert_array_equal(few.learned_at, whole.learned_at.isel(trajectory=[1, 3]))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_density_is_the_histogram_per_strength(engine, tmp_path):
    wanted = sc.Accumulate(low=0.5, high=2.5, bins=8, levels=2)
    plan = sc.Plan(steps=200, trajectories=3, accumulate=wanted)
    run = sc.simulate(WIDE, sc.SGD(0.05, 16), plan, engine=engine, out=tmp_path / "run.zarr")
    counts = run.histogram.values
    np.testing.assert_array_equal(run.bin_center, 0.5 * (run.bin_low + run.bin_high)[1:-1])
    np.testing.assert_allclose(run.density * 0.25 * counts.sum(axis=1)[:, None], counts[:, 1:-1])
    assert float(run.outside.min()) > 0 and float(run.outside.max()) < 1
    np.testing.assert_allclose((run.density * 0.25).sum("bin_center") + run.outside, 1)
    np.testing.assert_allclose(run.outside, (counts[:, 0] + counts[:, -1]) / counts.sum(axis=1))
    assert run.density.sel(bin_center=1.1, method="nearest").dims == ("mode",)
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "run.zarr", consolidated=True).density, run.density)


def test_before_the_first_sample_there_is_no_density():
    wanted = sc.Accumulate(low=0.0, high=1.0, bins=3, start=100, levels=2)
    run = sc.simulate(WIDE, sc.SGD(0.05, 16), sc.Plan(steps=10, accumulate=wanted))
    assert np.isnan(run.density).all() and np.isnan(run.outside).all()


def test_a_store_of_a_version_with_fewer_variables_is_resumed(tmp_path, monkeypatch):
    plan = sc.Plan(steps=60, saves=6, accumulate=sc.Accumulate(low=0.0, high=1.0, bins=3, levels=2))
    run = WIDE, sc.SGD(0.05, 16), plan

    def stopping(*args):
        if args[2].step == 20:
            signal.raise_signal(signal.SIGINT)
        return record(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(saves, "with_times", lambda events, method: {k: v for k, v in events.items() if k != "density"})
        on_save(stopping, patch.setattr)
        sc.simulate(*run, out=tmp_path / "run.zarr")
    resumed = sc.simulate(*run, out=tmp_path / "run.zarr")
    assert not (tmp_path / "run.zarr" / "density").exists()
    whole = sc.simulate(*run)
    for name in ("learned_at", "density"):
        np.testing.assert_array_equal(resumed[name], whole[name])
    sc.simulate(*run, out=tmp_path / "run.zarr", overwrite=True)
    assert (tmp_path / "run.zarr" / "density").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_determinant_that_is_nan_says_why(engine, tmp_path):
    data = sc.GaussianData(np.eye(2, 3))
    problem = sc.Problem(sc.DeepLinear((3, 4, 6, 2)), data, sc.init.Gaussian(scale=0.3))
    run = sc.simulate(problem, sc.GD(0.05), sc.Plan(steps=2), engine=engine, out=tmp_path / "run.zarr")
    why = "NaN at interface 1: width 4 is below 3 + 6; it needs a width of 9 or more"
    for found in (run, sc.load(tmp_path / "run.zarr"), xr.open_zarr(tmp_path / "run.zarr", consolidated=True)):
        assert found.log_det.attrs["why_nan"] == why and "why_nan" not in found.imbalance.attrs
    log_det = run.log_det.sel(statistic="mean")
    assert np.isnan(log_det.sel(interface=1)).all() and np.isfinite(log_det.sel(interface=2)).all()


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (sc.DeepLinear((3, 5, 2)), ""),
        (sc.DeepLinear((3, 2)), ""),
        (sc.DeepLinear((3, 4, 2)), "NaN at interface 1: width 4 is below 3 + 2; it needs a width of 5 or more"),
        (sc.DeepLinear((2,) * 6), "and 1 more"),
        (sc.Diagonal(depth=3, width=4), "NaN at every interface: the determinant is that of dense layers"),
    ],
)
def test_why_a_determinant_is_nan(network, why):
    found = deep_linear.narrow_interfaces(network)
    assert found.endswith(why) and bool(found) == bool(why)


def test_a_plan_lists_the_observables_on_request():
    extras = [name for name, one in observables.OBSERVABLES.items() if one.extra]
    assert all(f'"{name}"' in inspect.getdoc(sc.Plan).replace("\n", " ") for name in extras)


@pytest.mark.parametrize("engine", ENGINES)
def test_singular_values_of_layers_from_a_store(engine, tmp_path):
    plan = sc.Plan(steps=20, trajectories=3, saves=2, keep="weights", observe=["layer_singular_values"])
    run = sc.simulate(WIDE, sc.SGD(0.05, 16), plan, engine=engine, out=tmp_path / "run.zarr")
    for layer in (1, 2):
        weights = run[f"W{layer}"].values
        found = run.layer_singular_values.sel(layer=layer).values[..., : min(weights.shape[2:])]
        np.testing.assert_allclose(found, np.linalg.svd(weights, compute_uv=False), atol=1e-12)
