"""A run modified by xarray is compared and extended as it then is, or refused in one sentence."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import saddlescope as sc
from saddlescope.runs.run import earlier, final_state
from saddlescope.runs.selection import selected

PROBLEM = sc.Problem(
    sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=0.5), sc.init.Gaussian(scale=0.3)
)
METHOD = sc.SGD(lr=1e-2, batch_size=4)
PLAN = sc.Plan(steps=40, trajectories=5, saves=4, keep="trajectories")
STATISTICS = replace(PLAN, keep="statistics")


def run_of(plan=PLAN, **change):
    return sc.simulate(PROBLEM, METHOD, replace(plan, **change), engine="reference")


@pytest.fixture(scope="module")
def run():
    return run_of()


@pytest.fixture(scope="module")
def statistics():
    return run_of(STATISTICS)


class Law:
    """Keeps what it is asked for."""

    def __init__(self):
        self.seen = []

    def cdf(self, x):
        self.seen.append(np.array(x, ndmin=1))
        return np.clip(np.asarray(x, float), 0, 1)

    def mean(self):
        return 0.5


def compared(run, **arguments):
    law = Law()
    count = sc.compare(run, law, **arguments).trajectories
    return count, law.seen[0]


ORDERS = {
    "as it is": lambda run: run,
    "transposed": lambda run: run.transpose(*reversed([str(dim) for dim in run.dims])),
    "reversed": lambda run: run.isel(trajectory=slice(None, None, -1), time=slice(None, None, -1)),
    "modes reversed": lambda run: run.isel(mode=slice(None, None, -1)),
    "sorted": lambda run: run.sortby("step", ascending=False),
    "copied": lambda run: run.copy(deep=True),
}


@pytest.mark.parametrize("name", ORDERS)
def test_dims_count_by_name(name, run, statistics):
    for given in (run, statistics):
        changed = ORDERS[name](given)
        for mode in (0, 1):
            count, samples = compared(changed, mode=mode)
            assert count == 5
            np.testing.assert_array_equal(samples, compared(given, mode=mode)[1])
        longer = replace(STATISTICS if given is statistics else PLAN, steps=80, saves=8)
        xr.testing.assert_equal(
            sc.simulate(changed, None, longer, engine="reference"), sc.simulate(given, None, longer, engine="reference")
        )


@pytest.mark.parametrize("members", [[0, 1], [3], [4, 2, 0]])
def test_selected_trajectories_are_compared_alone(members, run, statistics):
    for given in (run, statistics):
        for some in (given.isel(trajectory=members), given.sel(trajectory=members)):
            count, samples = compared(some, mode=1)
            assert count == len(members)
            expected = run.mode_strength.isel(time=-1, mode=1).values[members]
            np.testing.assert_allclose(samples, np.sort(expected), rtol=1e-12)
    (found,) = {compared(run.isel(trajectory=3))[1].item(), compared(run.isel(trajectory=[3]))[1].item()}
    assert found == run.mode_strength.values[3, -1, 0]


def test_selected_saves_are_compared(run):
    middle = run.isel(time=slice(0, 3))
    np.testing.assert_array_equal(compared(middle)[1], np.sort(run.mode_strength.values[:, 2, 0]))
    np.testing.assert_array_equal(compared(run.isel(time=1))[1], np.sort(run.mode_strength.values[:, 1, 0]))
    np.testing.assert_array_equal(compared(middle, step=10)[1], np.sort(run.mode_strength.values[:, 1, 0]))
    with pytest.raises(ValueError, match="step must be one of the saves of the run, got 30"):
        sc.compare(middle, Law(), step=30)


@pytest.mark.parametrize("members", [[0], [1, 3], [4, 0]])
def test_extending_some_trajectories_goes_on_with_those(members, run):
    some = run.isel(trajectory=members)
    longer = sc.simulate(some, plan=replace(PLAN, steps=80, saves=8, trajectories=1, members=tuple(sorted(members))))
    assert longer.trajectory.values.tolist() == sorted(members)
    whole = sc.simulate(run, plan=replace(PLAN, steps=80, saves=8))
    for name in ("mode_strength", "loss", "status", "learning_time"):
        np.testing.assert_allclose(longer[name], whole[name].sel(trajectory=sorted(members)), rtol=1e-12)
    assert selected(longer).complete
    other = sc.simulate(some, sc.GD(lr=1e-2), replace(PLAN, trajectories=1, members=tuple(sorted(members))))
    np.testing.assert_allclose(other.loss[:, 0], run.loss[sorted(members), -1], rtol=1e-12)
    (toml,) = earlier(other.attrs)
    assert f"members = {sorted(members)}" in toml.replace("\n", "")


def test_extending_some_saves_keeps_those(run):
    longer = sc.simulate(run.isel(time=[0, 2, 4]), plan=replace(PLAN, steps=80, saves=8))
    assert longer.step.values.tolist() == [0, 20, 40, 50, 60, 70, 80]


@pytest.mark.parametrize("keep", ["statistics", "trajectories", "weights"])
def test_a_run_of_every_kind_is_taken(keep):
    run = run_of(keep=keep)
    given = selected(run)
    assert given.complete and given.plan.keep == keep and given.saves()["loss"].shape[1] == 5


def test_statistics_of_all_are_not_those_of_some(statistics):
    some = statistics.isel(trajectory=[0, 1])
    with pytest.raises(ValueError, match="statistics of the run are those of all 5 trajectories, got a selection of 2"):
        sc.simulate(some, plan=replace(STATISTICS, steps=80, members=(0, 1), trajectories=1))
    changed = sc.simulate(some, sc.GD(lr=1e-2), replace(STATISTICS, trajectories=2))
    assert changed.sizes["trajectory"] == 2


def test_histograms_of_all_are_not_those_of_some():
    run = run_of(accumulate=sc.Accumulate(low=0.0, high=3.0, bins=4, levels=2))
    with pytest.raises(ValueError, match="histogram of the run is that of all 5 trajectories"):
        sc.compare(run.isel(trajectory=[0]), Law())


def with_checkpoint(run, values):
    return run.assign(checkpoint=("byte", values))


def other_seed():
    return run_of(seed=1)


REFUSED = {
    "two runs end to end": lambda run: xr.concat([run, other_seed()], "trajectory", data_vars="all"),
    "two runs, least": lambda run: xr.concat(
        [run, other_seed()], "trajectory", data_vars="minimal", coords="minimal", compat="override"
    ),
    "two runs as a new dim": lambda run: xr.concat([run, other_seed()], "run", data_vars="all"),
    "trajectories twice": lambda run: run.isel(trajectory=[0, 0, 1]),
    "saves twice": lambda run: run.isel(time=[0, 4, 4]),
    "trajectories that are not there": lambda run: run.reindex(trajectory=[0, 1, 7]),
    "means over saves": lambda run: run.coarsen(time=5).mean(keep_attrs=True),
    "saves between saves": lambda run: run.interp(time=[0.1, 0.2]),
    "saves that are not there": lambda run: run.reindex(time=[0.0, 0.05, 0.4]),
    "no trajectories": lambda run: run.isel(trajectory=[]),
    "no saves": lambda run: run.isel(time=[]),
    "mean": lambda run: run.mean("trajectory", keep_attrs=True),
    "twice as much": lambda run: run.map(lambda a: 2 * a, keep_attrs=True).assign_attrs(run.attrs),
    "where": lambda run: run.where(run.trajectory < 2),
    "attributes lost": lambda run: run.drop_attrs() if hasattr(run, "drop_attrs") else run + 0,
    "dim renamed": lambda run: run.rename(trajectory="member"),
    "dim of time renamed": lambda run: run.rename(time="when"),
    "labels dropped": lambda run: run.drop_vars("trajectory"),
    "steps dropped": lambda run: run.drop_vars("step"),
    "labels moved": lambda run: run.assign_coords(trajectory=[1, 2, 3, 4, 0]),
    "labels anew": lambda run: run.assign_coords(trajectory=run.trajectory + 10),
    "steps anew": lambda run: run.assign_coords(step=run.step * 2),
    "time anew": lambda run: run.assign_coords(time=run.time * 2),
    "checkpoint dropped": lambda run: run.drop_vars("checkpoint"),
    "checkpoint cut": lambda run: with_checkpoint(run, run.checkpoint.values[:-50]),
    "checkpoint empty": lambda run: with_checkpoint(run, run.checkpoint.values[:0]),
    "checkpoint changed": lambda run: with_checkpoint(run, run.checkpoint.values * 2),
    "checkpoint of another run": lambda run: with_checkpoint(run, other_seed().checkpoint.values),
    "checkpoint of more": lambda run: with_checkpoint(run, run_of(trajectories=6).checkpoint.values),
    "status changed": lambda run: run.assign(status=run.status + 1),
    "values changed": lambda run: run.assign(mode_strength=run.mode_strength * 1.01),
    "complex values": lambda run: run.assign(mode_strength=run.mode_strength + 0j),
    "another network": lambda run: run.assign_attrs(toml=run.attrs["toml"].replace("[2, 3, 2]", "[2, 4, 2]")),
    "text for toml": lambda run: run.assign_attrs(toml=3),
    "an array": lambda run: run.mode_strength,
    "nothing": lambda run: None,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_longer_the_run_is_refused(name, run):
    changed = REFUSED[name](run)
    for use in (
        lambda: sc.compare(changed, Law()),
        lambda: sc.compare(run, changed),
        lambda: sc.simulate(changed, plan=replace(PLAN, steps=80)),
        lambda: sc.simulate(changed, sc.GD(lr=1e-2), PLAN),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            use()
        assert "\n" not in str(caught.value) and "must" in str(caught.value), caught.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: run.drop_vars("loss"), "whole variable loss of the run, got none"),
        (lambda run: run.rename(loss="Loss"), "whole variable loss of the run, got none"),
        (lambda run: run.isel(mode=[0]), "got one of shape"),
        (lambda run: run.isel(rank=[0]), "whole variable singular_values of the run, got one of shape"),
        (lambda run: run.assign(loss=run.loss.mean("trajectory")), "loss of the run must have the dims"),
    ],
)
def test_an_extension_needs_all_variables(change, words, run):
    changed = change(run)
    assert compared(changed)[0] == 5
    with pytest.raises(ValueError, match=words):
        sc.simulate(changed, plan=replace(PLAN, steps=80))


def test_other_trajectories_are_told_by_their_number(run):
    with pytest.raises(ValueError, match=r"plan.trajectories must be that of the run to .*, 5, got 7; give"):
        sc.simulate(run, plan=replace(PLAN, steps=80, trajectories=7))
    with pytest.raises(ValueError, match=r"plan.members must be that of the run .*, None, got \(1, 2\); give"):
        sc.simulate(run, plan=replace(PLAN, steps=80, trajectories=1, members=(1, 2)))


def test_the_state_of_some():
    state = final_state(run_of(events=("learning_time", "noise_peak")))
    some = state.take(np.array([1, 3]))
    assert some.trajectories == 2 and some.step == state.step
    np.testing.assert_array_equal(some.words, state.words[[1, 3]])
    np.testing.assert_array_equal(some.peak, state.peak[[1, 3]])


# --- the last weights


@pytest.mark.parametrize(
    "method", [METHOD, sc.GradientFlow(0.03), sc.GD(0.05, momentum=0.5)], ids=["sgd", "flow", "gd"]
)
@pytest.mark.parametrize("keep", ["statistics", "weights"])
def test_last_weights(method, keep):
    """Those that keep="weights" saves at the last step, whatever is kept; their P has the saved strengths."""
    plan = replace(PLAN, keep=keep)
    found = sc.simulate(PROBLEM, method, plan).saddlescope.weights()
    saved = sc.simulate(PROBLEM, method, replace(plan, keep="weights"))
    assert list(found) == ["W1", "W2"] and int(found.step) == 40 and float(found.time) == pytest.approx(method.time(40))
    for name in found:
        assert found[name].dims == saved[name].isel(time=-1).dims and found[name].attrs == saved[name].attrs
        np.testing.assert_allclose(found[name], saved[name].isel(time=-1), rtol=1e-12)
    maps = found.W2.values @ found.W1.values
    strengths = np.einsum("nii->ni", PROBLEM.data.modes.left.T @ maps @ PROBLEM.data.modes.right)
    np.testing.assert_allclose(strengths, saved.mode_strength.isel(time=-1), rtol=1e-12)


def test_last_weights_of_selected_trajectories(statistics):
    everything = statistics.saddlescope.weights()
    xr.testing.assert_identical(
        statistics.isel(trajectory=[3, 1]).saddlescope.weights(), everything.isel(trajectory=[1, 3])
    )
    one = statistics.sel(trajectory=2).isel(time=1).saddlescope.weights()
    xr.testing.assert_identical(one, everything.isel(trajectory=[2]))
    with pytest.raises(ValueError, match="without the attribute 'toml'"):
        everything.saddlescope.weights()
    with pytest.raises(ValueError, match="trajectory of the run must be distinct"):
        statistics.isel(trajectory=[1, 1]).saddlescope.weights()


def test_last_weights_have_the_names_of_the_columns():
    data = sc.Dataset(np.eye(3), np.eye(3)[:, :1], inputs=("a", "b", "c"), targets=("y",))
    problem = sc.Problem(sc.DeepLinear((3, 2, 1)), data, sc.init.Gaussian(scale=0.3))
    weights = sc.simulate(problem, sc.GD(0.1), sc.Plan(3)).saddlescope.weights()
    assert weights.W1.dims[-1] in weights.coords and weights[weights.W1.dims[-1]].values.tolist() == ["a", "b", "c"]
