"""Learning times, noise peaks and divergence against a run saved at every step."""

import numpy as np
import pytest

from saddlescope import GD, SGD, GradientFlow, Langevin, Plan, init
from saddlescope.engines.native import Native
from saddlescope.networks.deep_linear import mode_noise
from saddlescope.observables import THRESHOLDS, mode_strength
from support import METHODS, PROBLEMS, problem

EVENTS = ("learning_time", "noise_peak")
LEARNING = {
    "sgd": (SGD(0.02, 8), 200),
    "gradient": (Langevin(0.02, 8), 200),
    "aligned": (Langevin(0.02, 8, noise="aligned", dt=0.01), 400),
    "isotropic": (Langevin(0.02, 8, noise="isotropic"), 200),
    "gd": (GD(0.02), 200),
    "flow": (GradientFlow(0.02), 200),
}


@pytest.fixture
def learner():
    """Learns modes 2, 1, 1 (a block) and has one that is absent."""
    return problem((4, 5, 4), spectrum=[3.0, 1.5, 1.5, 0.0], init=init.Balanced(scale=0.5), noise=0.3)


def watched(run, steps):
    """Strengths and noises (steps + 1, n, m) at every step."""
    state, strengths, noises = run.init(), [], []
    for step in range(steps + 1):
        state = run.advance(state, step)
        weights = run.weights(state)
        strengths.append(mode_strength(run.problem.data, weights))
        noises.append(mode_noise(run.problem.data, run.step.temperature, weights))
    return np.array(strengths), np.array(noises), state


@pytest.mark.parametrize("name", LEARNING)
def test_learning_times_are_first_passages(engine, learner, name):
    method, steps = LEARNING[name]
    run = engine(learner, method, Plan(steps=steps, trajectories=6, seed=8))
    strengths, _, _ = watched(run, steps)
    target = learner.data.modes.strengths
    learned = run.advance(run.init(), steps).learned
    for q, theta in enumerate(THRESHOLDS):
        beyond = strengths >= theta * target
        expected = np.where(beyond.any(axis=0), beyond.argmax(axis=0), np.inf)
        np.testing.assert_array_equal(learned[:, q, :3], expected[:, :3])
    assert np.isfinite(learned[:, :, 0]).all()
    assert np.isnan(learned[:, :, 3]).all(), "a mode that is not there is never learned"
    np.testing.assert_array_equal(learned[:, :, 1], learned[:, :, 2])


@pytest.mark.parametrize("name", ["sgd", "gradient", "isotropic"])
def test_noise_peaks_lie_before_learning(engine, learner, name):
    method, steps = LEARNING[name]
    run = engine(learner, method, Plan(steps=steps, trajectories=6, seed=8, events=EVENTS))
    strengths, noises, end = watched(run, steps)
    whole = run.advance(run.init(), steps)
    np.testing.assert_array_equal(whole.peak, end.peak)
    for k, a in np.ndindex(6, 3):
        learned = whole.learned[k, 1, a]
        until = int(min(learned, steps + 1))
        top = noises[:until, k, a].argmax()
        at_learning = noises[until, k, a] if np.isfinite(learned) else np.nan
        expected = [noises[top, k, a], top, strengths[top, k, a], at_learning]
        np.testing.assert_allclose(whole.peak[k, :, a], expected, rtol=1e-10)


def test_without_noise_there_is_no_peak(engine, learner):
    run = engine(learner, GD(0.02), Plan(steps=50, events=EVENTS))
    assert (run.advance(run.init(), 50).peak[:, :3] == 0).all()


def test_peaks_are_not_followed_unless_asked(engine, learner):
    run = engine(learner, SGD(0.02, 8), Plan(steps=5))
    assert np.isnan(run.advance(run.init(), 5).peak).all()


@pytest.mark.parametrize("method", [SGD(0.01, 8), GD(0.01), GradientFlow(0.01)], ids=["sgd", "gd", "flow"])
def test_a_mode_can_be_learned_at_the_start(engine, method):
    """At step 0, even if the strength is below the threshold again at the next step."""
    run = engine(problem((3, 3, 3), init=init.Balanced(scale=3.0)), method, Plan(steps=1))
    assert (run.advance(run.init(), 1).learned == 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["sgd 1", "gradient"])
def test_divergence_is_recorded_and_harms_nobody_else(engine, method, dtype):
    explosive = problem((4, 8, 8, 3), scale=0.5)
    run = engine(explosive, METHODS[method], Plan(steps=60, trajectories=40, seed=1, dtype=dtype))
    state, before = run.init(), None
    for step in range(61):
        state, before = run.advance(state, step), state
        with np.errstate(over="ignore", invalid="ignore"):
            strengths = mode_strength(explosive.data, run.weights(state))
        gone = ~np.isfinite(strengths).all(axis=1)
        np.testing.assert_array_equal(state.status > 0, gone)
        assert (state.status[gone & (before.status == 0)] == step).all()
    assert 0 < gone.sum() < 40, "the example must lose some and keep some"
    assert all(np.isnan(layer[gone]).all() and np.isfinite(layer[~gone]).all() for layer in run.weights(state))
    observed = run.observe(state)
    assert all(np.isnan(value[gone]).all() for value in observed.values())
    safe = int(np.flatnonzero(~gone)[-1])
    alone = engine(explosive, METHODS[method], Plan(steps=60, members=[safe], seed=1, dtype=dtype))
    for a, b in zip(state.weights, alone.advance(alone.init(), 60).weights, strict=True):
        np.testing.assert_array_equal(a[safe], b[0])


def test_gradient_flow_never_diverges(engine):
    """A clock too coarse for explicit steps does not limit the integrator."""
    run = engine(problem((3, 6, 6, 3), scale=1.2), GradientFlow(lr=5.0), Plan(steps=3, trajectories=3))
    end = run.advance(run.init(), 3)
    assert (end.status == 0).all()
    assert (run.observe(end)["excess_loss"] < 1e-15).all()


def test_a_flow_that_would_take_forever_is_given_up(engine):
    """From weights of 1e30 a step is 1e-120; balanced weights fall fast enough to converge anyway."""
    plan = Plan(steps=3, trajectories=2)
    stiff, balanced = (
        engine(problem((2, 2, 2), init=start), GradientFlow(lr=0.02), plan)
        for start in (init.Gaussian(scale=1e30), init.Balanced(scale=1e8))
    )
    end = stiff.advance(stiff.init(), 3)
    assert (end.status == 1).all()
    assert all(np.isnan(layer).all() for layer in stiff.weights(end))
    assert (balanced.advance(balanced.init(), 3).status == 0).all()


@pytest.mark.parametrize("method", ["gd", "sgd 3", "flow"])
def test_a_start_beyond_all_numbers_is_lost_at_once(engine, method):
    """It is marked as diverged: status 0 would mean success."""
    run = engine(problem((2, 2, 2, 2), init=init.Balanced(scale=1e150)), METHODS[method], Plan(steps=3))
    end = run.advance(run.advance(run.init(), 1), 3)
    assert end.status == [1]
    assert np.isnan(run.observe(end)["loss"]).all()


@pytest.mark.parametrize("method", ["sgd 1", "sgd 64", "gradient"])
def test_looking_for_events_does_not_change_the_weights(method):
    seen, unseen = (
        Native(PROBLEMS["coloured"], METHODS[method], Plan(steps=30, trajectories=5, events=events))
        for events in (("learning_time",), ())
    )
    for one, other in zip(
        seen.advance(seen.init(), 30).weights, unseen.advance(unseen.init(), 30).weights, strict=True
    ):
        np.testing.assert_array_equal(one, other)
