"""``measured`` gives the numbers of ``simulate``, bit for bit, and its warnings."""

from dataclasses import replace

import numpy as np
import pytest

import saddlescope as sc
from measuring import both, differing
from saddlescope.schedules import Cosine
from saddlescope.simulation import measured as module
from saddlescope.simulation.measured import measured
from support import ENGINES, METHODS, PROBLEMS, dataset, problem

GAUSSIAN = PROBLEMS["coloured"]
SAMPLES = sc.Problem(sc.DeepLinear((4, 5, 3)), dataset(30, 4, 3).split(test=5), sc.init.Gaussian(scale=0.4))
CHAINS = sc.Problem(sc.Diagonal(depth=3, width=4), sc.GaussianData([[1.0]], None, 0.3), sc.init.Gaussian(scale=0.5))
PLAN = sc.Plan(steps=40, trajectories=5, saves=20, seed=3, events=("learning_time", "noise_peak"))
COUNTED = sc.Accumulate(low=0.0, high=3.0, bins=6, levels=2)
EXTRA = ("mode_matrix", "drift_norm", "noise_to_drift", "layer_singular_values")

RUNS = {
    "statistics": (GAUSSIAN, sc.SGD(0.05, 4), PLAN),
    "trajectories": (GAUSSIAN, sc.SGD(0.05, 4, schedule=Cosine(30)), replace(PLAN, keep="trajectories", observe=EXTRA)),
    "weights": (GAUSSIAN, sc.Langevin(0.05, 4), replace(PLAN, keep="weights", accumulate=COUNTED)),
    "more saves than one pass": (GAUSSIAN, sc.SGD(0.05, 4), replace(PLAN, steps=300, saves=300)),
    "saves by hand": (GAUSSIAN, sc.GD(0.05), replace(PLAN, save_at=(3, 4, 30), events=())),
    "one save": (PROBLEMS["regression"], sc.SGD(0.05, 4), replace(PLAN, saves=1)),
    "members": (GAUSSIAN, sc.SGD(0.05, 4), replace(PLAN, trajectories=1, members=(7, 2))),
    "float32": (GAUSSIAN, sc.SGD(0.05, 4, momentum=0.5), replace(PLAN, dtype="float32")),
    "flow": (GAUSSIAN, sc.GradientFlow(0.05), replace(PLAN, events=("learning_time",))),
    "data set": (
        SAMPLES,
        sc.SGD(0.05, 4, sampling="shuffle"),
        replace(PLAN, accumulate=COUNTED, observe=("test_loss",)),
    ),
    "data set, weights": (SAMPLES, sc.Langevin(0.05, 4), replace(PLAN, keep="weights")),
    "data set, schedule": (SAMPLES, sc.SGD(0.05, 4, schedule=Cosine(30)), replace(PLAN, observe=EXTRA)),
    "chains": (CHAINS, sc.SGD(0.05, 4), PLAN),
    "chains, scheduled": (CHAINS, sc.Langevin(0.05, 4, schedule=Cosine(30)), replace(PLAN, keep="trajectories")),
    "too short": (problem((2, 3, 2), scale=1e-3), sc.SGD(0.05, 4), PLAN),
    "some diverge": (PROBLEMS["wide"], sc.SGD(0.15, 1), replace(PLAN, trajectories=40, seed=1)),
    "all diverge": (SAMPLES, sc.GD(9.0), replace(PLAN, steps=400)),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", RUNS)
def test_the_numbers_of_simulate(name, engine):
    run, found, *_ = both(*RUNS[name], engine=engine)
    assert differing(run, found) == []
    np.testing.assert_array_equal(found.status, run.status)
    if "diverge" in name:
        assert run.status.any() and (name == "all diverge") == bool(run.status.all())


def test_a_difference_of_one_bit_is_seen():
    run, found, *_ = both(*RUNS["statistics"])
    found.values["loss"] = np.nextafter(found.values["loss"], np.inf)
    assert differing(run, found) == ["loss"]


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (RUNS["some diverge"], 1),
        ((GAUSSIAN, sc.SGD(1.5, 2, schedule=Cosine(10)), replace(PLAN, dtype="float32")), 3),
        (RUNS["too short"], 1),
    ],
)
def test_the_warnings_of_simulate(run, count):
    *_, first, second = both(*run)
    assert first == second and len(first) >= count


def test_the_errors_of_simulate():
    for wrong in (
        (GAUSSIAN, sc.SGD(0.1, 4, sampling="shuffle"), PLAN),
        (GAUSSIAN, PLAN, PLAN),
        (3, METHODS["gd"], PLAN),
    ):
        with pytest.raises((TypeError, ValueError)) as one:
            sc.simulate(*wrong)
        with pytest.raises(type(one.value)) as other:
            measured(*wrong)
        assert str(one.value) == str(other.value)
    with pytest.raises(ValueError, match="is unknown"):
        measured(GAUSSIAN, METHODS["gd"], PLAN, engine="natvie")


def test_ctrl_c_ends_it(monkeypatch):
    def interrupted(*run):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(*RUNS["statistics"])
