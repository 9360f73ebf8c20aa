"""Trajectories in lanes and one by one through blocked products are bit-identical for every network and method."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import Plan, _kernel
from saddlescope.engines.native import Native
from saddlescope.engines.reference import Reference
from support import DISCRETE, METHODS, PROBLEMS, covariance, dataset, pairs, problem, runs

STEPS = 6
SHAPES = {
    "square": problem((34, 34, 34, 34), scale=0.15),
    "coloured": problem((21, 40, 33, 17), sigma=covariance(21), scale=0.15),
    "bottleneck": problem((50, 3, 64, 19), scale=0.2),
    "rank 5": problem((37, 29, 18), sigma=covariance(37, rank=5), scale=0.15),
    "long": problem((2, 130, 3), scale=0.2),
    "noiseless": problem((16, 16, 16), noise=0.0, scale=0.2),
}


def end(problem, method, route, plan, instruction_set="auto", normals=None):
    engine = Native(problem, method, plan, instruction_set, route)
    return engine.advance(engine.init(), plan.steps, normals)


def assert_same(a, b):
    for name in ("words", "status", "learned", "peak"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for l, (one, other) in enumerate(zip(a.weights, b.weights, strict=True), 1):
        np.testing.assert_array_equal(one, other, err_msg=f"W{l}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "method"), [(s, m) for s in SHAPES for m in DISCRETE if runs(SHAPES[s], METHODS[m])])
def test_both_routes_give_the_same_bits(shape, method, dtype):
    plan = Plan(STEPS, trajectories=5, seed=3, dtype=dtype, events=("learning_time", "noise_peak"))
    for instruction_set in _kernel.instruction_sets():
        lanes, wide = (end(SHAPES[shape], METHODS[method], r, plan, instruction_set) for r in ("lanes", "one by one"))
        assert_same(lanes, wide)
        assert (wide.status == 0).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "method"), pairs(["deep", "repeated", "regression", "thin"], DISCRETE))
def test_small_networks_too_without_peaks_or_events(name, method, dtype):
    for events in (("learning_time",), ()):
        plan = Plan(17, trajectories=3, seed=4, dtype=dtype, events=events)
        assert_same(*(end(PROBLEMS[name], METHODS[method], r, plan) for r in ("lanes", "one by one")))


SAMPLED = {
    "replacement 1": sc.SGD(0.01, 1),
    "replacement 37": sc.SGD(0.01, 37),
    "without 4": sc.SGD(0.01, 4, "without"),
    "shuffle 17": sc.SGD(0.01, 17, "shuffle"),
    "full": sc.SGD(0.01, sampling="full"),
    "gd": sc.GD(0.01),
    "gradient": sc.Langevin(0.01, 2.5),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", SAMPLED)
def test_data_sets_too(method, dtype):
    plan = Plan(STEPS, trajectories=5, seed=3, dtype=dtype)
    for widths, samples in (((3, 7, 4), 23), ((20, 33, 7), 19)):
        data = dataset(samples, widths[0], widths[-1])
        sampled = sc.Problem(sc.DeepLinear(widths), data, sc.init.Gaussian(scale=0.2))
        lanes, wide = (end(sampled, SAMPLED[method], route, plan) for route in ("lanes", "one by one"))
        assert_same(lanes, wide)
        np.testing.assert_array_equal(lanes.order, wide.order)


def test_given_normals_and_divergence_too():
    normals = np.random.default_rng(0).standard_normal((5, STEPS, 34 * 35 // 2 + 34 * 34))
    plan = Plan(STEPS, trajectories=5, seed=3)
    assert_same(
        *(end(SHAPES["square"], METHODS["gradient"], r, plan, "auto", normals) for r in ("lanes", "one by one"))
    )
    plan = Plan(40, trajectories=5, seed=3)
    lanes, wide = (end(SHAPES["square"], sc.SGD(0.4, 1), route, plan) for route in ("lanes", "one by one"))
    assert (wide.status > 0).all()
    assert_same(lanes, wide)


def test_groups_threads_and_cuts_change_nothing():
    plan = Plan(STEPS, trajectories=19, seed=3)
    whole = end(SHAPES["coloured"], METHODS["gradient"], "lanes", plan)
    for threads in (1, 2, 5):
        assert_same(
            whole,
            end(
                SHAPES["coloured"],
                METHODS["gradient"],
                "one by one",
                Plan(STEPS, trajectories=19, seed=3, threads=threads),
            ),
        )
    engine = Native(SHAPES["coloured"], METHODS["gradient"], plan, "auto", "one by one")
    assert_same(whole, engine.advance(engine.advance(engine.init(), 2), STEPS))


def test_many_modes_have_their_singular_values_from_lapack():
    wide = problem((100, 30, 100), scale=0.1)
    plan = Plan(2, trajectories=2, seed=3)
    seen = Native(wide, METHODS["gradient"], plan)
    plain = Reference(wide, METHODS["gradient"], plan)
    state = seen.init()
    for name, values in plain.observe(state).items():
        np.testing.assert_allclose(seen.observe(state)[name], values, rtol=1e-8, atol=1e-12, err_msg=name)
