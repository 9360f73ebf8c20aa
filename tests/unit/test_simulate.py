"""``simulate``: engines, blocks, warnings, conversions, citations, estimates."""

import importlib.metadata
import sys
import tomllib
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import rich.console
import tomli_w
import xarray as xr

import saddlescope as sc
from saddlescope.simulation import loop
from saddlescope.simulation.estimate import in_time, seconds, size
from support import ENGINES, METHODS, PROBLEMS, engine_class, pairs

PLAN = sc.Plan(steps=30, trajectories=4, saves=3)


def numbers(run: xr.Dataset) -> xr.Dataset:
    return run.drop_attrs()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("problem", "method"), pairs(["wide", "coloured"], ["sgd 3", "gradient, dt", "flow"]))
def test_blocks_do_not_matter(name, problem, method, monkeypatch):
    whole = sc.simulate(PROBLEMS[problem], METHODS[method], PLAN, engine=name)
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 0.0)
    pieces = sc.simulate(PROBLEMS[problem], METHODS[method], PLAN, engine=name)
    xr.testing.assert_identical(numbers(whole), numbers(pieces))


@pytest.mark.parametrize("name", ENGINES)
def test_a_run_makes_everything_once(name, monkeypatch):
    """One engine, one Dataset and one TOML; no TOML is read, no console built, no version looked up again."""
    sc.simulate(PROBLEMS["wide"], METHODS["sgd 2"], PLAN, engine=name)
    calls = Counter()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)  # loaded by another test, it may mean a notebook

    def count(owner, name):
        function, called = getattr(owner, name), f"{owner.__name__}.{name}"
        monkeypatch.setattr(owner, name, lambda *args, **kw: calls.update([called]) or function(*args, **kw))

    for owner in (*map(engine_class, ENGINES), xr.Dataset, rich.console.Console):
        count(owner, "__init__")
    for owner, function in ((tomli_w, "dumps"), (tomllib, "loads"), (importlib.metadata, "version")):
        count(owner, function)
    sc.simulate(PROBLEMS["wide"], METHODS["sgd 2"], PLAN, engine=name)
    assert calls == {f"{name.capitalize()}.__init__": 1, "Dataset.__init__": 1, "tomli_w.dumps": 1}


def test_auto_is_native_where_it_is_built():
    run = sc.simulate(PROBLEMS["wide"], METHODS["gd"], PLAN)
    assert run.attrs["engine"] == ("native" if "native" in ENGINES else "reference")


def test_silent_where_nobody_looks(capfd):
    sc.simulate(PROBLEMS["wide"], METHODS["gd"], PLAN)
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    sc.simulate(PROBLEMS["wide"], METHODS["gd"], PLAN)
    assert "30" in capfd.readouterr().err
    sc.simulate(PROBLEMS["wide"], METHODS["gd"], PLAN, progress=False)
    assert capfd.readouterr().err == ""


def test_a_run_does_not_change_what_it_is_made_of():
    problem = PROBLEMS["wide"]
    before = problem.to_toml()
    sc.simulate(problem, METHODS["sgd 2"], PLAN)
    assert problem.to_toml() == before


# --- warnings


def warned(problem, method, plan=PLAN) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sc.simulate(problem, method, plan)
    assert all(item.filename == __file__ for item in caught), "a warning points at the caller"
    said = [str(item.message) for item in caught]
    return [message for message in said if not message.startswith("diverged: ")]  # tests/unit/test_divergence.py


def one_mode(depth, target=1.0, noise=0.0, scale=0.9):
    data = sc.GaussianData([[target]], label_noise=noise)
    return sc.Problem(sc.DeepLinear((1,) * (depth + 1)), data, sc.init.Balanced(scale=scale))


LONG = sc.Plan(steps=100, trajectories=2)


def test_a_sound_run_warns_of_nothing():
    assert warned(one_mode(2), sc.SGD(0.05, 16), LONG) == []


def test_beyond_the_stability_edge():
    assert "lr = 1.1 is beyond the stability edge 1" in warned(one_mode(2), sc.GD(1.1), LONG)[0]
    assert warned(one_mode(2), sc.GD(0.9), LONG) == []
    (message,) = warned(one_mode(2), sc.Langevin(0.1, 16, dt=1.1), LONG)
    assert message.startswith("dt = 1.1 is beyond") and message.endswith("lower dt")
    assert warned(one_mode(2), sc.GradientFlow(1.1), LONG) == []


def test_beyond_the_stability_edge_of_small_batches():
    """2/(a (1 + 2/B)) = 1/3 for one mode with a = 2, B = 1; 1 without noise."""
    (message,) = warned(one_mode(2), sc.SGD(0.35, 1), LONG)
    assert message.startswith("lr = 0.35 is beyond the stability edge 0.333 of batches of 1, above which")
    assert warned(one_mode(2), sc.SGD(0.3, 1), LONG) == []
    assert "lr = 1.1 is beyond the stability edge 1, so" in warned(one_mode(2), sc.SGD(1.1, 1), LONG)[0]


def test_close_to_the_edge_both_numbers_differ():
    assert "lr = 1.00001 is beyond the stability edge 1," in warned(one_mode(2), sc.GD(1.00001), LONG)[0]


def test_above_the_critical_temperature():
    """T_c = 2 s*/(2 s*² + σ²) = 1/9 at s* = 1, σ = 4."""
    hot = one_mode(2, noise=4.0)
    long = replace(LONG, steps=3000)
    (message,) = warned(hot, sc.Langevin(0.05, 0.25, dt=0.001), long)
    assert "T = lr / batch_size = 0.2 is above T_c = 0.111 of mode 0" in message
    first, second = warned(hot, sc.SGD(0.2, 1), LONG)
    assert "above T_c" in first and "it is 0.111" in second and "use Langevin" in second
    assert warned(hot, sc.SGD(0.1, 1), LONG) == []
    assert warned(hot, sc.Langevin(0.05, 0.25, dt=0.001, noise="isotropic"), long) == []
    assert not any("T_c" in message for message in warned(one_mode(3, noise=4.0), sc.SGD(0.2, 1), LONG))


def test_far_below_the_boundary_the_statement_holds_for_sgd():
    """s* T_c B = 2/102 for s* = 1, σ = 10, B = 1."""
    assert len([m for m in warned(one_mode(2, noise=10.0), sc.SGD(0.03, 1), LONG) if "T_c" in m]) == 1


def test_a_mode_out_of_reach():
    small = one_mode(2, scale=1e-3)
    (message,) = warned(small, sc.GD(0.05), LONG)
    assert message.startswith("mode 0 (s* = 1) cannot be learned in 100 steps: gradient flow needs 138 at least")
    assert warned(small, sc.GD(0.05), replace(LONG, steps=300)) == []


def test_one_warning_for_all_modes():
    data = sc.GaussianData(np.diag([4.0, 3.0, 2.0, 1.0, 0.5]), label_noise=20.0)
    problem = sc.Problem(sc.DeepLinear((5, 5, 5)), data, sc.init.Balanced(scale=1e-2))
    (late,) = warned(problem, sc.GD(1e-4), LONG)
    assert late.startswith("modes 0 (s* = 4), 1 (s* = 3), 2 (s* = 2), 3 (s* = 1), … cannot be learned in 100 steps:")
    (held,) = warned(problem, sc.GD(0.1, weight_decay=5.0), LONG)
    assert "… cannot be learned: weight_decay = 5 holds them at 0; lower" in held
    (hot,) = (message for message in warned(problem, sc.Langevin(0.1, 1), LONG) if "T_c" in message)
    assert "is above T_c = 0.0025 to 0.0185 of modes 0 (s* = 4)" in hot and "whose noise drives them to 0" in hot


def test_warnings_know_weight_decay():
    assert "stability edge 0.8" in warned(one_mode(2, scale=0.95), sc.GD(0.9, weight_decay=0.5), LONG)[0]
    (message,) = warned(one_mode(2, scale=0.6), sc.GD(0.05, weight_decay=0.6), LONG)
    assert message.endswith("cannot be learned: weight_decay = 0.6 holds it at 0.4; lower weight_decay")
    (message,) = warned(one_mode(3, scale=0.6), sc.GD(0.05, weight_decay=0.6), LONG)
    assert message.endswith("holds it at 0; lower weight_decay")
    (message,) = warned(one_mode(2, noise=4.0), sc.SGD(0.1, 1, weight_decay=0.2), LONG)
    assert "above T_c = 0.0889" in message


def test_warnings_know_schedules():
    """Stability by the largest learning rate, T_c by the last temperature, learning by the time there is."""
    cosine = sc.schedules.Cosine(100)
    assert "beyond the stability edge 1" in warned(one_mode(2), sc.GD(1.1, schedule=cosine), LONG)[0]
    assert warned(one_mode(2, noise=4.0), sc.Langevin(0.05, 0.25, dt=0.001, schedule=cosine), LONG) == []
    small, long = one_mode(2, scale=1e-3), replace(LONG, steps=200)
    assert warned(small, sc.GD(0.05), long) == []
    (message,) = warned(small, sc.GD(0.05, schedule=sc.schedules.Cosine(200)), long)
    assert "cannot be learned in 200 steps, which the schedule makes worth 100 at full lr: gradient flow" in message
    assert message.endswith("needs 138 at least; raise steps or lr")


def test_steps_at_which_the_schedule_has_reached_0():
    schedules, problem = sc.schedules, one_mode(2)
    decayed = sc.GD(0.05, schedule=schedules.Warmup(20, then=schedules.Cosine(60)))
    (message,) = warned(problem, decayed, LONG)
    assert message.startswith("lr is 0 from step 80 of 100 on: nothing changes after it; use steps = 80, a schedule of")
    assert warned(problem, decayed, replace(LONG, steps=80)) == []
    for schedule in (schedules.Cosine(80, floor=0.1), schedules.Step(10, factor=0.1), schedules.Warmup(20)):
        assert warned(problem, sc.GD(0.05, schedule=schedule), LONG) == []
    run = sc.simulate(problem, decayed, replace(LONG, steps=80))
    with pytest.warns(UserWarning, match=r"of 100 on: nothing changes after it; continue the run by a method with"):
        longer = sc.simulate(run, plan=LONG)
    late = longer.mode_strength.sel(statistic="mean", mode=0).values[longer.step.values >= 80]
    assert len(late) > 2 and np.ptp(late) == 0


def test_order_two_has_a_smaller_stability_edge():
    assert warned(one_mode(2), sc.Langevin(0.7, 1e3), LONG) == []
    assert "lr = 0.7 is beyond the stability edge 0.588" in warned(one_mode(2), sc.Langevin(0.7, 1e3, order=2), LONG)[0]


def test_modes_beyond_the_narrowest_width():
    (message,) = warned(PROBLEMS["bottleneck"], sc.GD(0.02), sc.Plan(steps=3000))
    assert message == "modes from 2 on cannot be learned by widths as narrow as 2; widen the network"


def test_coupled_modes_are_not_judged_one_by_one():
    assert warned(PROBLEMS["coloured"], sc.SGD(0.01, 1), sc.Plan(steps=1)) == []


def test_float32_that_would_stand_still():
    near, single = one_mode(2, scale=0.8), sc.Plan(steps=10, dtype="float32")
    (message,) = warned(near, sc.GD(1e-7), single)
    assert "median relative update" in message and 'dtype = "float64"' in message
    assert warned(near, sc.GD(1e-7), replace(single, dtype="float64")) == []
    assert warned(near, sc.GD(1e-3), single) == []


# --- around a run


def test_conversions():
    """The noise-balance paper: t = 2t', T = 2T', D = L − 1, γ'‖θ‖² is (γ/2)‖θ‖²."""
    convert = sc.convert
    assert (convert.time(1.0), convert.temperature(1.0), convert.depth(1)) == (2, 2, 2)
    assert convert.weight_decay(1.0) == 1
    assert convert.temperature(0.1, factor=0.5) == 0.1
    assert convert.weight_decay(0.1, factor=0.5, penalty=0.5) == 0.1
    with pytest.raises(ValueError, match="factor must be the positive c"):
        convert.loss(1.0, factor=0.0)


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_a_converted_step_is_the_papers_step(factor):
    """One step on the loss c‖Px − y‖² + pγ'‖θ‖², by hand."""
    lr, decay, penalty, w, target = 0.01, 0.3, 2.0, 0.7, 2.0
    theirs = w - lr * (factor * 2 * (w - target) + penalty * decay * 2 * w)
    ours = w - sc.convert.learning_rate(lr, factor) * (
        (w - target) + sc.convert.weight_decay(decay, factor, penalty) * w
    )
    np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        (sc.GD(0.1), {"saddlescope", "saxe2013"}),
        (sc.GD(0.1, schedule=sc.schedules.Cosine(100)), {"saxe2013", "loshchilov2017"}),
        (sc.GradientFlow(0.1), {"dormand1980"}),
        (sc.SGD(0.1, 2), {"bartlett1933", "marsaglia2000", "blackman2021", "corlouer2026"}),
        (sc.Langevin(0.1, 2), {"li2019", "corlouer2026", "box1958"}),
    ],
    ids=["gd", "cosine", "flow", "sgd", "langevin"],
)
def test_citations(method, keys):
    text = sc.cite(sc.simulate(one_mode(2), method, LONG))
    assert all(f"{{{key},\n" in text for key in keys)
    assert text.count("{") == text.count("}") and "VERSION" not in text
    assert all("year" in entry for entry in text.split("\n\n")), "every entry has its year"


def test_sizes_count_what_is_written():
    plan = replace(PLAN, keep="weights", trajectories=50, saves=30)
    found = size(PROBLEMS["wide"], METHODS["sgd 2"], plan)
    run = sc.simulate(PROBLEMS["wide"], METHODS["sgd 2"], plan)
    assert found.saves == sum(run[name].nbytes for name in run if "time" in run[name].dims)
    assert 0 <= run.checkpoint.nbytes - found.checkpoint < 4096
    assert seconds(PROBLEMS["wide"], METHODS["sgd 2"], plan) > 0
    assert in_time(3600) == "about 60 min"
