"""Advice of simulate: once in a process for a problem, method and plan, unless a filter of the user says otherwise."""

import subprocess
import sys
import warnings
from dataclasses import replace

import pytest

import saddlescope as sc
from saddlescope.simulation import advice

PLAN = sc.Plan(steps=3, saves=1)
FAST = sc.GD(1.1)  # beyond the stability edge 1


def problem(target=1.0, scale=1e-3):
    return sc.Problem(sc.DeepLinear((1, 1, 1)), sc.GaussianData([[target]]), sc.init.Gaussian(scale=scale))


@pytest.fixture(autouse=True)
def fresh():
    advice.forget()
    yield
    advice.forget()


def shown(*calls, action=None):
    """Warnings that reach a user who set this filter, or none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for call in calls:
            with warnings.catch_warnings():  # as libraries do, which resets what Python remembers
                pass
            if action:
                warnings.simplefilter(action)
            sc.simulate(*call, progress=False)
    return [str(item.message) for item in caught]


def test_a_loop_over_seeds_warns_once():
    calls = [(problem(), FAST, replace(PLAN, seed=seed)) for seed in range(20)]
    said = shown(*calls)
    assert [message.split(" = ")[0] for message in said] == ["lr", "mode 0 (s*"]
    assert "beyond the stability edge 1" in said[0] and "cannot be learned in 3 steps" in said[1]
    assert shown(*calls) == []
    advice.forget()
    assert shown(*calls) == said


@pytest.mark.parametrize(
    "other",
    [
        (problem(target=1.1), FAST, PLAN),
        (problem(scale=2e-3), FAST, PLAN),
        (problem(), sc.GD(1.2), PLAN),
        (problem(), FAST, replace(PLAN, steps=4)),
    ],
    ids=["data", "init", "method", "plan"],
)
def test_another_run_is_warned_of(other):
    assert len(shown((problem(), FAST, PLAN), other, other)) == 4


def test_filters_of_the_user_decide():
    call = (problem(), FAST, PLAN)
    assert len(shown(call, call, call)) == 2
    assert len(shown(call, call, action="always")) == 4
    assert shown(call, action="ignore") == []
    for _ in range(2):
        with pytest.raises(UserWarning, match="beyond the stability edge"):
            shown(call, action="error")
    for _ in range(2):
        with pytest.warns(UserWarning, match="beyond the stability edge"):
            sc.simulate(*call, progress=False)


@pytest.mark.parametrize("action", ["ignore", "always", "error"])
def test_what_a_filter_has_decided_is_not_remembered(action):
    """Silenced once, the advice is still given when the filter is gone."""
    call = (problem(), FAST, PLAN)
    try:
        shown(call, action=action)
    except UserWarning:
        assert action == "error"
    assert len(shown(call)) == 2


def test_a_filter_on_other_warnings_changes_nothing():
    call = (problem(), FAST, PLAN)
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings.filterwarnings("always", message="something else")
        warnings.filterwarnings("always", category=DeprecationWarning)
        warnings.filterwarnings("always", module="elsewhere")
        for _ in range(3):
            sc.simulate(*call, progress=False)
    assert len(caught) == 2 and all(item.filename == __file__ for item in caught)


def test_every_mode_is_named_in_the_first_run():
    """Sentences of one run that differ in their numbers alone are all given."""
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for _ in range(2):
            advice.give(["mode 0 sticks", "mode 1 sticks"], problem(), FAST, PLAN)
    said = [str(item.message) for item in caught]
    assert said == ["mode 0 sticks", "mode 1 sticks"]


def test_a_new_process_warns_again():
    code = (
        "import saddlescope as sc\n"
        "problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[1.0]]), sc.init.Gaussian(scale=0.1))\n"
        "for seed in range(5): sc.simulate(problem, sc.GD(2.5), sc.Plan(steps=2, seed=seed), progress=False)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stderr.count("beyond the stability edge") == 1
