"""A trajectory is bit-identical however its run is cut, observed, stored, or batched with others."""

import numpy as np
import pytest

from saddlescope import Plan
from saddlescope.engines.state import State
from support import DISCRETE, METHODS, PROBLEMS, pairs

STEPS, N = 23, 19
PLAN = Plan(steps=STEPS, trajectories=N, seed=11, events=("learning_time", "noise_peak"))
SOME = pairs(["deep", "coloured", "bottleneck", "regression", "repeated"])


def parts(state):
    """Everything in a state, by name."""
    return {f"W{l}": w for l, w in enumerate(state.weights, 1)} | {
        name: getattr(state, name) for name in ("step", "words", "status", "learned", "peak", "clock")
    }


def assert_same(a: State, b: State, rows=slice(None)):
    for name, value in parts(a).items():
        other = parts(b)[name]
        np.testing.assert_array_equal(value[rows] if name != "step" else value, other, err_msg=name)


def whole(engine, problem, method, plan=PLAN):
    run = engine(PROBLEMS[problem], METHODS[method], plan)
    return run, run.advance(run.init(), STEPS)


@pytest.mark.parametrize(("problem", "method"), SOME)
def test_blocks_looks_and_storing_change_nothing(engine, problem, method):
    run, end = whole(engine, problem, method)
    state = run.init()
    for step in (0, 1, 2, 9, 9, 10, 22, STEPS):
        state = State.from_bytes(run.advance(state, step).to_bytes())
        run.observe(state)
    assert_same(end, state)


@pytest.mark.parametrize(("problem", "method"), SOME)
def test_members_can_be_replayed_alone(engine, problem, method):
    _, end = whole(engine, problem, method)
    members = [17, 3]
    _, replay = whole(engine, problem, method, Plan(steps=STEPS, members=members, seed=11, events=PLAN.events))
    assert_same(end, replay, members)


@pytest.mark.parametrize("method", DISCRETE)
def test_the_same_in_float32(engine, method):
    plan = Plan(steps=STEPS, trajectories=N, seed=11, dtype="float32")
    run, end = whole(engine, "deep", method, plan)
    assert end.weights[0].dtype == np.float32
    assert_same(end, run.advance(run.advance(run.init(), 7), STEPS))
    replay = whole(engine, "deep", method, Plan(steps=STEPS, members=[18], seed=11, dtype="float32"))[1]
    assert_same(end, replay, [18])


def test_a_state_is_not_changed_by_going_on_from_it(engine):
    run = engine(PROBLEMS["wide"], METHODS["sgd 3"], PLAN)
    state = run.init()
    before = {name: np.copy(value) for name, value in parts(state).items()}
    assert_same(run.advance(state, 5), run.advance(state, 5))
    for name, value in parts(state).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.parametrize("method", ["sgd 3", "gradient", "isotropic"])
def test_given_normals_can_be_cut_too(engine, method):
    if method == "sgd 3":
        run = engine(PROBLEMS["deep"], METHODS[method], PLAN)
        with pytest.raises(ValueError, match="Langevin"):
            run.advance(run.init(), 1, np.zeros((N, 1, 1)))
        return
    run = engine(PROBLEMS["deep"], METHODS[method], PLAN)
    normals = np.random.default_rng(0).standard_normal((N, STEPS, run.normals_per_step))
    whole = run.advance(run.init(), STEPS, normals)
    part = run.advance(run.init(), 9, normals[:, :9])
    assert_same(whole, run.advance(part, STEPS, normals[:, 9:]))


@pytest.mark.parametrize("method", ["sgd 1", "gradient"])
def test_members_and_seeds_differ(engine, method):
    ends = [whole(engine, "deep", method, Plan(steps=STEPS, trajectories=N, seed=s))[1].weights[0] for s in (11, 12)]
    rows = np.concatenate(ends).reshape(2 * N, -1)
    assert len(np.unique(rows, axis=0)) == 2 * N


def test_initial_weights_are_shared_by_methods_and_precisions(engine):
    starts = [
        engine(PROBLEMS["deep"], METHODS[method], Plan(steps=1, trajectories=3, dtype=dtype)).init().weights
        for method, dtype in (("gd", "float64"), ("sgd 1", "float64"), ("gradient", "float32"))
    ]
    for a, b, c in zip(*starts, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a.astype(np.float32), c)
