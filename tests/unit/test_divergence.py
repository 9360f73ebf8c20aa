"""Divergence is reported and marked; an infinite loss is one, and so is a step that overshoots to 0."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope.engines import make_engine
from saddlescope.observables import STANDARD
from saddlescope.runs.run import parts
from saddlescope.runs.selection import selected
from support import ENGINES


def one_mode(depth=2, target=1.0, noise=0.5, init=None):
    data = sc.GaussianData([[target]], label_noise=noise)
    return sc.Problem(sc.DeepLinear((1,) * (depth + 1)), data, init or sc.init.Gaussian(scale=0.5))


def said(*arguments, **options):
    """The run, and its warnings on what happened."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = sc.simulate(*arguments, **options)
    ends = [item for item in caught if str(item.message).startswith(("diverged", "mode"))]
    assert all(item.filename == __file__ for item in ends)
    return run, [str(item.message) for item in ends]


@pytest.mark.filterwarnings("ignore:.*cannot be learned")
def test_a_data_set_on_unequal_scales_is_told_to_standardise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) * [1.0, 3000.0]
    data = sc.Dataset(x, x[:, :1] + rng.normal(size=(60, 1)))
    for given, hint in ((data, True), (data.standardise(), False)):
        problem = sc.Problem(sc.DeepLinear((2, 3, 1)), given, sc.init.Gaussian(scale=1.0))
        with pytest.warns(UserWarning) as caught:
            sc.simulate(problem, sc.SGD(lr=5.0, batch_size=4), sc.Plan(steps=100, trajectories=4))
        before, after = (
            next(str(one.message) for one in caught if word in str(one.message)) for word in ("beyond", "diverged:")
        )
        assert "of all others" not in after and "no trajectory is left for statistics" in after
        for message in (before, after):
            assert (
                "or use Dataset.standardise(): the columns have root mean squares from 0.94 to 2,900" in message
            ) == hint


class Law:
    def cdf(self, x):
        return np.clip(np.asarray(x, float), 0, 1)

    def mean(self):
        return 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("keep", ["statistics", "trajectories"])
def test_one_warning_with_numbers_and_remedy(engine, keep):
    plan = sc.Plan(steps=100, trajectories=300, saves=4, keep=keep)
    run, (message,) = said(one_mode(noise=0.0), sc.GD(1.1), plan, engine=engine)
    status = run["status"].values
    lost, first = int((status != 0).sum()), int(status[status != 0].min())
    assert 0 < lost < 300
    start = f"diverged: {lost} of 300 trajectories, the first at step {first};"
    assert message.startswith(start) and message.endswith("lower lr = 1.1 below the stability edge 1")
    assert run.attrs["diverged"] == f"{lost} of 300 trajectories, the first at step {first}"
    for name in STANDARD:
        assert run[name].attrs["diverged"] == run.attrs["diverged"]
    comparison = sc.compare(run, Law())
    assert f"{lost / 300:.2%} diverged" in repr(comparison) == str(comparison)
    assert "diverged trajectories may lie anywhere" in repr(comparison)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_whose_rotation_overflows_are_shown_without_a_warning_of_numpy(engine):
    """As of the last save before a trajectory diverges; RuntimeWarning is an error in these tests."""
    data = sc.GaussianData.from_spectrum([2.0, 1.0], 3, 2, seed=1)
    problem = sc.Problem(sc.DeepLinear((3, 2)), data, sc.init.Balanced(scale=1.0))
    made = make_engine(engine, problem, sc.GD(0.1), sc.Plan(1, observe=("diffusion_norm",)))
    state = made.init()
    state = replace(state, weights=(np.full_like(state.weights[0], 1.7e308),))
    assert not np.isfinite(made.weights(state)[0]).all()
    assert not np.isfinite(made.observe(state)["diffusion_norm"]).any()


def test_the_remedy_is_that_of_the_method():
    plan = sc.Plan(steps=1000, trajectories=50, saves=4)
    _, (message,) = said(one_mode(noise=4.0), sc.Langevin(0.2, 0.25, dt=0.1), plan)
    assert "lower dt = 0.1 (stable without noise below 1), or raise batch_size" in message
    run, ends = said(one_mode(noise=0.1), sc.SGD(0.05, 16), plan)
    assert ends == [] and "diverged" not in run.attrs and "diverged" not in run["loss"].attrs


def test_a_store_is_marked_too(tmp_path):
    plan = sc.Plan(steps=100, trajectories=300, saves=4)
    run, ends = said(one_mode(noise=0.0), sc.GD(1.1), plan, out=tmp_path / "run.zarr")
    loaded = sc.load(tmp_path / "run.zarr")
    assert len(ends) == 1 and loaded.attrs["diverged"] == run.attrs["diverged"] == loaded["loss"].attrs["diverged"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("keep", ["statistics", "trajectories"])
def test_an_infinite_loss_is_divergence(engine, keep, tmp_path):
    """P is 1e300 after two steps: finite, but its square overflows."""
    problem = one_mode(depth=1, init=sc.init.Given([[[0.5]]]))
    plan = sc.Plan(steps=2, trajectories=3, save_at=(0, 1, 2), keep=keep)
    run, (message,) = said(problem, sc.GD(1e150), plan, engine=engine, out=tmp_path / "run.zarr")
    assert message.startswith("diverged: 3 of 3 trajectories, the first at step 2")
    assert run["status"].values.tolist() == sc.load(tmp_path / "run.zarr")["status"].values.tolist() == [2, 2, 2]
    if keep == "statistics":
        assert run["loss"].sel(statistic="n").values.tolist() == [3, 3, 0]
    with pytest.raises(ValueError, match="all have diverged"):
        sc.compare(run, Law())
    longer, _ = said(run, plan=sc.Plan(steps=6, trajectories=3, save_at=(0, 1, 2, 6), keep=keep), engine=engine)
    whole, _ = said(problem, sc.GD(1e150), parts(longer)[2], engine=engine)
    xr.testing.assert_equal(longer, whole)


def trap(temperature, dt=2e-3, steps=5000, init=None):
    problem = one_mode(depth=3, target=1.5, noise=0.3**0.5, init=init or sc.init.Balanced(scale=1.0))
    return said(problem, sc.Langevin(dt, dt / temperature), sc.Plan(steps=steps, trajectories=64, saves=2))


def test_what_sticks_at_zero_is_counted():
    run, messages = trap(0.3)
    assert [message[:8] for message in messages] == ["diverged", "mode 0 ("]
    (count,) = (int(word) for word in messages[1].split("sticks at 0 in ")[1].split()[:1])
    assert "of 64 trajectories that had learned it" in messages[1] and "lower lr = 0.002" in messages[1]
    strengths = selected(run).strengths[run["status"].values == 0, 0]
    assert count == (strengths < 1e-2).sum() > 3


@pytest.mark.parametrize(
    ("temperature", "init"), [(0.03, None), (0.01, sc.init.Balanced(scale=0.3)), (0.03, sc.init.Gaussian(scale=0.1))]
)
def test_what_is_small_for_a_reason_is_not(temperature, init):
    """Learned modes that stay, and modes that have not been learned yet."""
    assert trap(temperature, init=init)[1] == []
