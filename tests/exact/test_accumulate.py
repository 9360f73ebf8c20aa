"""Histogram and autocorrelation of a run against a slow reference, a run saved at every step, and theory."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.engines import correlator as accumulate
from saddlescope.engines.native import Native
from saddlescope.engines.reference import Reference
from saddlescope.runfile import run_from_toml, run_to_toml
from support import PROBLEMS

WANTED = sc.Accumulate(low=-0.5, high=2.5, bins=37, start=7, every=3, levels=5)
PLAN = {"steps": 400, "trajectories": 5, "seed": 4}


METHODS = {"sgd 1": sc.SGD(0.01, 1), "sgd 64": sc.SGD(0.02, 64), "gradient": sc.Langevin(0.02, 4)}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def strengths(problem, method, **plan):
    """Every strength (n, steps + 1, m) of a run saved at every step."""
    return sc.simulate(
        problem, method, sc.Plan(**PLAN, **plan, saves=PLAN["steps"], keep="trajectories"), progress=False
    ).mode_strength.values


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_count_alike(method, dtype):
    plan = sc.Plan(**PLAN, dtype=dtype, accumulate=WANTED)
    one, other = (engine(PROBLEMS["wide"], method, plan) for engine in (Native, Reference))
    one, other = one.advance(one.init(), 60), other.advance(other.init(), 60)
    np.testing.assert_allclose(one.correlator, other.correlator, rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-4)
    assert np.abs(one.histogram - other.histogram).sum() <= (0 if dtype == "float64" else 4)


def test_counts_are_those_of_a_run_looked_at_in_every_step(method):
    problem = PROBLEMS["coloured"]
    run = sc.simulate(problem, method, sc.Plan(**PLAN, accumulate=WANTED), progress=False)
    seen = strengths(problem, method)[:, WANTED.start : -1 : WANTED.every]
    for mode in range(seen.shape[2]):
        counted = np.histogram(seen[..., mode], WANTED.edges)[0]
        np.testing.assert_array_equal(run.histogram.values[mode], counted)
    assert (run.samples == seen[..., 0].size).all()
    seen = seen - problem.data.modes.strengths
    square = seen.mean(axis=(0, 1)) ** 2
    variance = (seen**2).mean(axis=(0, 1)) - square
    for lag in range(1, 16):
        expected = ((seen[:, lag:] * seen[:, :-lag]).mean(axis=(0, 1)) - square) / variance
        np.testing.assert_allclose(run.autocorrelation.sel(lag=lag * WANTED.every), expected, rtol=1e-8)


def test_counting_depends_on_nothing_but_the_plan(method, tmp_path):
    problem, plan = PROBLEMS["deep"], sc.Plan(**PLAN, accumulate=WANTED, dtype="float32")
    engine = Native(problem, method, plan)
    whole, cut = engine.advance(engine.init(), 400), engine.init()
    for until in (0, 1, 7, 8, 100, 100, 399, 400):
        cut = engine.advance(cut, until)
    np.testing.assert_array_equal(whole.correlator, cut.correlator)
    np.testing.assert_array_equal(whole.histogram, cut.histogram)
    first = sc.simulate(problem, method, sc.Plan(**PLAN | {"steps": 150}, accumulate=WANTED), progress=False)
    longer = sc.simulate(first, plan=sc.Plan(**PLAN, accumulate=WANTED), progress=False)
    stored = sc.simulate(
        problem, method, sc.Plan(**PLAN, accumulate=WANTED, threads=1), out=tmp_path / "run.zarr", progress=False
    )
    for name in ("histogram", "autocorrelation", "effective_samples"):
        np.testing.assert_array_equal(longer[name], stored[name])
        np.testing.assert_array_equal(sc.load(tmp_path / "run.zarr")[name], stored[name])


def test_autocorrelation_of_an_autoregressive_process():
    """``ρ(k) = φ^k``, integrated time ``½ (1 + φ) / (1 − φ)``, over four levels of the correlator."""
    rng, members, steps, phi = np.random.default_rng(1), 64, 40_000, 0.97
    correlator, _ = accumulate.empty(sc.Accumulate(low=0, high=1, levels=8), members, 1)
    state = rng.standard_normal((members, 1))
    for _ in range(steps):
        state = phi * state + np.sqrt(1 - phi**2) * rng.standard_normal((members, 1))
        correlator = accumulate.correlate(correlator, state + 3.0, np.ones(members, bool))
    wanted = sc.Accumulate(low=0, high=1, levels=8)
    found = accumulate.autocorrelation(correlator)
    np.testing.assert_allclose(found[0, :40], phi ** wanted.lags[:40], atol=0.02)
    time = accumulate.correlation_samples(found, wanted.lags)[0]
    assert time == pytest.approx(0.5 * (1 + phi) / (1 - phi), rel=0.03)


def test_a_gradient_flow_has_nothing_to_accumulate():
    with pytest.raises(ValueError, match="accumulate is for methods with noise, got GradientFlow"):
        sc.simulate(PROBLEMS["thin"], sc.GradientFlow(), sc.Plan(steps=3, accumulate=WANTED))


def test_a_plan_that_accumulates_goes_through_toml():
    problem, method, plan = PROBLEMS["thin"], sc.GD(0.1), sc.Plan(steps=3, accumulate=WANTED)
    assert run_from_toml(run_to_toml(problem, method, plan))[2] == plan
