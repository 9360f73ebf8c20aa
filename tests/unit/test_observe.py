"""Observables that a plan asks for: only then computed, on every engine, in memory and in stores."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines.reference import Reference
from saddlescope.observables import OBSERVABLES, STANDARD, Observable
from support import PROBLEMS

TRACE = Observable((), "y/x", "trace", "Tr P", of=lambda seen: np.trace(seen.maps[0], axis1=1, axis2=2), extra=True)
METHOD = sc.SGD(lr=0.05, batch_size=4)


@pytest.fixture
def _trace(monkeypatch):
    monkeypatch.setitem(OBSERVABLES, "trace", TRACE)


@pytest.mark.usefixtures("_trace")
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_new_observable_is_one_entry_in_the_table(engine, tmp_path):
    """It is saved with its statistics, stored, read, and extended."""
    plan = sc.Plan(steps=20, trajectories=5, saves=4, observe=("trace",))
    run = sc.simulate(PROBLEMS["wide"], METHOD, plan, engine=engine, out=tmp_path / "run.zarr")
    assert run.trace.dims == ("statistic", "time") and run.trace.attrs["definition"] == "Tr P"
    longer = sc.simulate(run, plan=sc.Plan(steps=40, trajectories=5, saves=4, observe=("trace",)), engine=engine)
    assert longer.trace.sizes["time"] == 7
    kept = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(20, 5, 4, keep="weights", observe=("trace",)), engine=engine)
    for time in range(5):
        maps = kept.W2.values[:, time] @ kept.W1.values[:, time]
        np.testing.assert_allclose(kept.trace[:, time], np.trace(maps, axis1=1, axis2=2), atol=1e-12)


@pytest.mark.usefixtures("_trace")
def test_what_is_not_asked_for_is_not_computed(monkeypatch):
    def refuse(seen):
        raise AssertionError

    monkeypatch.setitem(OBSERVABLES, "trace", Observable((), "1", "trace", of=refuse, extra=True))
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2))
    assert "trace" not in run and set(STANDARD) <= set(run)
    with pytest.raises(AssertionError):
        sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("trace",)))


def test_a_standard_name_is_there_once():
    engine = Reference(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("loss",)))
    assert engine.step.observed == STANDARD


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"observe = 'los' is unknown; allowed: "):
        sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2, observe=("los",)))


def test_the_extension_of_a_run_observes_the_same():
    run = sc.simulate(PROBLEMS["wide"], METHOD, sc.Plan(steps=2))
    with pytest.raises(ValueError, match=r"plan\.observe must be that of the run"):
        sc.simulate(run, plan=sc.Plan(steps=4, observe=("loss",)))
