"""Axes of a sweep: the run at every point, coordinates, and sentences for what is no axis."""

import itertools

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.schedules import Cosine, Warmup
from saddlescope.sweeps.axes import grid_of
from saddlescope.sweeps.fields import Base

PROBLEM = sc.Problem(sc.DeepLinear((2, 3, 2)), sc.GaussianData([[2.0, 0.0], [0.0, 1.0]]), sc.init.Gaussian(scale=0.1))
BASE = Base(PROBLEM, sc.SGD(lr=0.1, batch_size=4), sc.Plan(steps=10))
SCHEDULED = Base(PROBLEM, sc.SGD(0.1, 4, schedule=Warmup(steps=3, then=Cosine(steps=7))), sc.Plan(steps=10))


def test_every_run_is_the_one_at_its_point():
    """Against nested loops over parts made anew, in C order."""
    lrs, noises, seeds = [0.1, 0.2, 0.3], [0.0, 0.5], [7, 8]
    grid = grid_of({"method.lr": lrs, "sigma": {"data.label_noise": noises, "plan.seed": seeds}, "init.scale": [1, 2]})
    assert grid.dims == ("lr", "sigma", "scale") and grid.shape == (3, 2, 2)
    points = itertools.product(lrs, zip(noises, seeds, strict=True), [1, 2])
    for index, (lr, (noise, seed), scale) in enumerate(points):
        data = sc.GaussianData([[2.0, 0.0], [0.0, 1.0]], label_noise=noise)
        problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Gaussian(scale=scale))
        assert grid.parts(BASE, index) == (problem, sc.SGD(lr=lr, batch_size=4), sc.Plan(steps=10, seed=seed))
    grid.check(BASE)


def test_derived_fields_follow_from_coordinates():
    grid = grid_of(
        {"method.lr": [0.1, 0.2], "plan.seed": [1, 2, 3], "T": [0.01, 0.5]},
        {"method.batch_size": "max(1, round(lr / T))"},
    )
    grid.check(BASE)
    for index, (lr, seed, T) in enumerate(itertools.product([0.1, 0.2], [1, 2, 3], [0.01, 0.5])):
        _, method, plan = grid.parts(BASE, index)
        assert (method.lr, method.batch_size, plan.seed) == (lr, max(1, round(lr / T)), seed)
    dims, values, attrs = grid.coords["batch_size"]
    assert dims == ("lr", "T") and attrs["field"] == "method.batch_size"
    np.testing.assert_array_equal(values, [[10, 1], [20, 1]])


def test_fields_that_must_agree_change_together():
    teachers = np.stack([np.eye(3), 2 * np.eye(3)])
    grid = grid_of({"size": {"network.widths": [(3, 4, 3), (3, 5, 3)], "data.teacher": teachers}})
    grid.check(BASE)
    problem, *_ = grid.parts(BASE, 1)
    assert problem.network.widths == (3, 5, 3) and problem.data.teacher[0, 0] == 2
    assert not problem.data.teacher.flags.writeable
    assert list(grid.coords["widths"][1]) == ["(3, 4, 3)", "(3, 5, 3)"]
    with pytest.raises(ValueError, match=r"axes: the run at widths = \(3, 4, 3\) is not allowed"):
        grid_of({"network.widths": [(3, 4, 3)]}).check(BASE)


def test_widths_by_a_formula():
    grid = grid_of({"width": [4, 8]}, {"network.widths": "(2, width, width, 2)"})
    grid.check(BASE)
    assert grid.parts(BASE, 1)[0].network.widths == (2, 8, 8, 2)
    assert list(grid.coords["widths"][1]) == ["(2, 4, 4, 2)", "(2, 8, 8, 2)"]


def test_widths_of_different_depth():
    grid = grid_of({"network.widths": [(2, 2), [2, 3, 2], np.array([2, 3, 3, 2])]})
    grid.check(BASE)
    assert list(grid.coords["widths"][1]) == ["(2, 2)", "(2, 3, 2)", "(2, 3, 3, 2)"]


def test_whole_parts_and_fields_inside_them():
    methods = [sc.SGD(0.1, 4), sc.Langevin(0.1, 4)]
    grid = grid_of({"method": methods, "method.lr": [0.3, 0.4]})
    grid.check(BASE)
    assert grid.parts(BASE, 3)[1] == sc.Langevin(0.4, 4)
    assert list(grid.coords["method"][1]) == ["SGD", "Langevin"]
    same = grid_of({"method": [sc.GD(0.1), sc.GD(0.2)]})
    assert list(same.coords["method"][1]) == ["GD(lr=0.1)", "GD(lr=0.2)"]
    named = grid_of({"method": {"slow": sc.GD(0.1), "fast": sc.GD(0.2)}})
    assert list(named.coords["method"][1]) == ["slow", "fast"] and named.parts(BASE, 1)[1] == sc.GD(0.2)


def test_fields_of_parts_inside_parts():
    grid = grid_of({"method.schedule.then.steps": [5, 6], "method.schedule.then.floor": [0.1, 0.2]})
    grid.check(SCHEDULED)
    assert grid.parts(SCHEDULED, 2)[1].schedule == Warmup(steps=3, then=Cosine(steps=6, floor=0.1))
    optional = grid_of({"method.schedule": [None, Cosine(steps=9)]})
    optional.check(SCHEDULED)
    assert optional.parts(SCHEDULED, 0)[1].schedule is None


def test_parts_without_a_change_are_those_of_the_base():
    problem, method, plan = grid_of({"method.lr": [0.1, 0.2]}).parts(BASE, 1)
    assert problem is BASE.problem and plan is BASE.plan and method is not BASE.method


def test_runs_that_differ_in_what_matters():
    grid = grid_of({"w": [1, 2], "plan.seed": [1, 2, 3], "plan.steps": [5, 6]}, {"network.widths": "(2, w, 2)"})
    np.testing.assert_array_equal(grid.varied(lambda path: path == "plan.steps"), [0, 1])
    np.testing.assert_array_equal(grid.varied(lambda path: path.startswith("network")), [0, 6])
    np.testing.assert_array_equal(grid.varied(lambda path: False), [0])
    np.testing.assert_array_equal(grid.varied(lambda path: True), np.arange(12))


WRONG = {
    "no mapping": ([0.1], {}, "axes must map fields to values"),
    "none": ({}, {}, "axes must name at least one field"),
    "no name": ({3: [0.1]}, {}, "axes must name fields such as 'method.lr'"),
    "spaces": ({"method. lr": [0.1]}, {}, "axes must name fields"),
    "number": ({"method.lr": 0.1}, {}, r"axis 'method.lr' must be a list of values, got 0.1; write \[0.1\]"),
    "text": ({"plan.dtype": "float32"}, {}, r"write \['float32'\]"),
    "set": ({"method.lr": {0.1, 0.2}}, {}, "axis 'method.lr' must be a list of values"),
    "generator": ({"method.lr": (x for x in [0.1])}, {}, "axis 'method.lr' must be a list of values"),
    "empty": ({"method.lr": []}, {}, "axis 'method.lr' must hold at least one value"),
    "empty zip": ({"pair": {}}, {}, "axis 'pair' must hold at least one field"),
    "twice": ({"method.lr": [0.1, 0.1]}, {}, "axis 'method.lr' holds 0.1 twice; leave one out, or repeat"),
    "lengths": (
        {"pair": {"data.label_noise": [0, 1], "plan.seed": [1]}},
        {},
        "axis 'pair' must have lists of equal length, got data.label_noise 2, plan.seed 1",
    ),
    "field": ({"method.lrate": [0.1]}, {}, "axis 'method.lrate': SGD has no argument 'lrate'; allowed: lr, batch_size"),
    "near": ({"plan.seeds": [1]}, {}, r"Plan has no argument 'seeds'; .* \(did you mean 'seed'\?\)"),
    "root": ({"methods.lr": [0.1]}, {}, r"a run has no part 'methods'; .* \(did you mean 'method'\?\)"),
    "no dot": ({"lr": [0.1]}, {}, r"axis 'lr' is no field of the run, .* \(did you mean 'method.lr'\?\)"),
    "inside none": ({"method.schedule.steps": [3]}, {}, "method.schedule is None in the base run"),
    "inside number": ({"method.lr.x": [3]}, {}, "method.lr is 0.1, which has no fields; use the axis 'method.lr'"),
    "short form": ({"data.spectrum": [[2, 1]]}, {}, "spectrum is a short form of TOML files; use the axis 'data'"),
    "threads": ({"plan.threads": [1, 2]}, {}, "axis 'plan.threads' changes no result"),
    "value": ({"method.lr": [0.1, -0.1]}, {}, "the run at lr = -0.1 is not allowed: SGD: lr must be greater than 0"),
    "kind": ({"plan.seed": [0.5]}, {}, "the run at seed = 0.5 is not allowed: Plan: seed must be an integer"),
    "part": ({"method": [PROBLEM]}, {}, "the run at method = Problem is not allowed: method must be such as"),
    "mapping": ({"method.lr": {"a": [1]}}, {}, "axis 'method.lr' must be a list of values, got a mapping"),
    "same name": (
        {"method.schedule.steps": [1, 2], "plan.steps": [3, 4]},
        {},
        "two have the name 'steps'",
    ),
    "same coordinate": (
        {"a": {"method.schedule.steps": [1, 2]}, "plan.steps": [3, 4]},
        {},
        "would both be the coordinate 'steps'; replace one by a parameter",
    ),
    "zip named as a field": (
        {"lr": {"plan.seed": [1]}, "b": {"method.lr": [1]}},
        {},
        "the zipped axis 'lr' has the na",
    ),
    "parameter": ({"T": ["hot"]}, {"method.lr": "T"}, "axis 'T' is a parameter, whose values must be finite numbers"),
    "unused": ({"T": [1.0]}, {}, "axis 'T' is no field of the run, and no formula in derived uses it"),
    "derived field": ({"T": [1.0]}, {"method.batch": "T"}, r"no argument 'batch'; .* \(did you mean 'batch_size'\?\)"),
    "derived name": ({"T": [1.0]}, {"method.lr": "t0"}, "derived 'method.lr': there is no coordinate 't0'; allowed: T"),
    "derived text": ({"network.widths": [(2, 2)]}, {"method.lr": "widths"}, "the values of 'widths' are no numbers"),
    "derived twice": ({"method.lr": [1.0]}, {"method.lr": "1"}, "'method.lr' is given twice"),
    "derived no field": ({"T": [1.0]}, {"batch": "T"}, "derived must name fields such as 'method.batch_size', got 'ba"),
    "derived no mapping": ({"T": [1.0]}, "lr", "derived must map fields to formulas"),
    "derived value": (
        {"T": [1.0, 4.0]},
        {"method.lr": "1 - T"},
        "the run at T = 1.0 is not allowed: SGD: lr must be gr",
    ),
    "derived division": ({"T": [1.0, 0.0]}, {"method.lr": "1 / T"}, "'1 / T' has no value at T = 0.0"),
    "too many": ({"plan.seed": range(4000), "plan.steps": range(1, 4000)}, {}, "axes give 15,996,000 runs, allowed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_axis_is_refused_in_one_sentence(name):
    axes, derived, sentence = WRONG[name]
    base = SCHEDULED if name.startswith("same") else BASE
    with pytest.raises((TypeError, ValueError), match=sentence) as caught:
        grid_of(axes, derived).check(base)
    assert "\n" not in str(caught.value)
