"""Factors and elapsed sums of the schedules, the resulting time, and runs cut under them."""

import numpy as np
import pytest

from saddlescope import GD, SGD, GradientFlow, Langevin, Plan, simulate
from saddlescope.engines import native
from saddlescope.runfile import run_from_toml, run_to_toml
from saddlescope.schedules import Cosine, Step, Warmup
from support import LR, PROBLEMS, engine_class

SCHEDULES = {
    "step": Step(7, 0.3),
    "step by a hair": Step(1, 1 - 1e-9),
    "constant step": Step(5, 1.0),
    "cosine": Cosine(40),
    "cosine to a floor": Cosine(33, floor=0.2),
    "cosine of one step": Cosine(1),
    "warm-up": Warmup(9),
    "warm-up, then step": Warmup(6, Step(11, 0.5)),
    "warm-up, then cosine": Warmup(8, Cosine(30, 0.1)),
}
STEPS = np.arange(120)


@pytest.mark.parametrize("name", SCHEDULES)
def test_elapsed_is_the_sum_of_all_earlier_factors(name):
    schedule = SCHEDULES[name]
    factors = schedule.at(STEPS)
    assert (factors >= 0).all() and (factors <= 1).all()
    sums = np.concatenate([[0.0], np.cumsum(factors)[:-1]])
    np.testing.assert_allclose(schedule.elapsed(STEPS), sums, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal([schedule.at(step) for step in STEPS], factors)
    assert schedule.at(STEPS.reshape(2, 60)).shape == schedule.elapsed(STEPS.reshape(2, 60)).shape == (2, 60)


def test_ends():
    assert (Step(10, 0.5).at(9), Step(10, 0.5).at(10), Step(10, 0.5).at(10**6)) == (1.0, 0.5, 0.0)
    assert (Cosine(10).at(0), Cosine(10).at(10), Cosine(10).at(10**12)) == (1, 0, 0)
    assert (Cosine(10, 0.25).at(0), Cosine(10, 0.25).at(10)) == (1, 0.25)
    assert (Warmup(10).at(0), Warmup(10).at(9), Warmup(10).at(10)) == (0.1, 1, 1)
    assert Warmup(10, Cosine(4)).at(10) == 1 and Warmup(10, Cosine(4)).at(14) == 0
    np.testing.assert_allclose(Cosine(8).elapsed(8), 4.5)  # the first step is whole, the others pair up to one
    np.testing.assert_allclose(Warmup(8).elapsed(8), 4.5)
    np.testing.assert_allclose(Step(10, 0.5).elapsed(10**6), 20.0)


@pytest.mark.parametrize("schedule", [Step(10**6, 0.999), Cosine(10**8, 0.1), Warmup(10**7, Cosine(10**8))])
def test_long_runs_keep_their_time(schedule):
    """Differences of elapsed are factors, late in a run of 10⁸ steps as at its start."""
    for step in (0, 10**4, 3 * 10**7, 10**8 - 1):
        ends = schedule.elapsed([step, step + 1000])
        np.testing.assert_allclose(ends[1] - ends[0], schedule.at(np.arange(step, step + 1000)).sum(), atol=1e-6)


def test_a_method_multiplies_everything_by_the_factor():
    schedule = Step(10, 0.5)
    method = Langevin(0.1, 4, dt=0.02, schedule=schedule)
    assert (method.lr_at(10), method.temperature_at(10)) == (0.05, 0.0125)
    np.testing.assert_allclose(method.time([0, 10, 12]), [0, 0.2, 0.22])
    np.testing.assert_array_equal(method.time([np.inf, np.nan]), [np.inf, np.nan])
    np.testing.assert_array_equal(GD(0.1).time(STEPS), 0.1 * STEPS)
    assert (SGD(0.1, 4).lr_at(7), SGD(0.1, sampling="full").temperature_at(7)) == (0.1, 0.0)
    with pytest.raises(TypeError, match="GradientFlow has no argument 'schedule'"):
        GradientFlow(schedule=schedule)


@pytest.mark.parametrize("name", SCHEDULES)
def test_toml(name):
    for method in (GD(0.1, schedule=SCHEDULES[name], weight_decay=0.2), SGD(0.1, 2, schedule=SCHEDULES[name])):
        assert run_from_toml(run_to_toml(PROBLEMS["thin"], method, Plan(steps=3)))[1] == method


def test_time_of_a_run():
    method, plan = SGD(LR, 2, schedule=Warmup(10, Cosine(20, 0.1)), weight_decay=0.1), Plan(steps=40, saves=8)
    run = simulate(PROBLEMS["wide"], method, plan)
    np.testing.assert_array_equal(run.time, method.time(plan.save_steps))
    longer = simulate(run, plan=Plan(steps=60, saves=12))
    whole = simulate(PROBLEMS["wide"], method, Plan(steps=60, saves=12))
    np.testing.assert_array_equal(longer.time, method.time(longer.step))
    np.testing.assert_array_equal(longer.loss, whole.loss)
    other = simulate(run, GD(LR, schedule=Cosine(5)), Plan(steps=5, saves=5))
    np.testing.assert_array_equal(other.time, LR * Cosine(5).elapsed(np.arange(6)))


def test_noise_follows_the_schedule(engine):
    """Mode noise at a save and at its peak are those of the step's own temperature."""
    plan = Plan(steps=12, trajectories=4, events=("learning_time", "noise_peak"))
    plain, scheduled = (engine(PROBLEMS["deep"], SGD(LR, 2, schedule=s), plan) for s in (None, Step(4, 0.5)))
    state = scheduled.advance(scheduled.init(), 12)
    np.testing.assert_allclose(
        scheduled.observe(state)["mode_noise"], plain.observe(state)["mode_noise"] / 8, rtol=1e-13
    )
    seen = [scheduled.observe(scheduled.advance(scheduled.init(), step))["mode_noise"] for step in range(13)]
    np.testing.assert_allclose(state.peak[:, 0], np.max(seen, axis=0), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_pieces_for_the_kernel_change_nothing(monkeypatch, name, dtype):
    method = Langevin(LR, 2, order=2, weight_decay=0.1, schedule=SCHEDULES[name])
    plan = Plan(steps=50, trajectories=9, dtype=dtype, events=("learning_time", "noise_peak"))
    ends = []
    for piece in (native.SCHEDULED_STEPS, 7, 1):
        monkeypatch.setattr(native, "SCHEDULED_STEPS", piece)
        run = engine_class("native")(PROBLEMS["deep"], method, plan)
        ends.append(run.advance(run.advance(run.init(), 20), 50).to_bytes())
    assert ends[0] == ends[1] == ends[2]


def test_where_the_factor_reaches_0():
    """``stops`` is the first step with f = 0."""
    cosine = Cosine(7)
    for schedule in (cosine, Warmup(3, then=cosine)):
        at = schedule.at(np.arange(20))
        assert schedule.stops == np.flatnonzero(at == 0)[0]
    for schedule in (Step(2, 0.1), Cosine(7, floor=0.1), Warmup(3)):
        assert schedule.stops == np.inf and schedule.at(np.arange(100)).all()
