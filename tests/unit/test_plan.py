"""Saves and members."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saddlescope import Plan, logspaced


@given(st.integers(1, 10**7), st.integers(1, 300))
def test_saves_go_from_the_first_step_to_the_last(steps, saves):
    for plan in (Plan(steps=steps, saves=saves), Plan(steps=steps, saves=logspaced(saves))):
        kept = plan.save_steps
        assert kept[0] == 0
        assert kept[-1] == steps
        assert (np.diff(kept) > 0).all()
        assert len(kept) <= saves + 1


def test_equal_intervals():
    np.testing.assert_array_equal(Plan(steps=1000, saves=4).save_steps, [0, 250, 500, 750, 1000])
    np.testing.assert_array_equal(Plan(steps=3).save_steps, [0, 1, 2, 3])


def test_saves_at_given_steps():
    np.testing.assert_array_equal(Plan(steps=10, save_at=[7, 0, 7, 3]).save_steps, [0, 3, 7])


def test_members():
    np.testing.assert_array_equal(Plan(steps=1, trajectories=3).member_indices, [0, 1, 2])
    np.testing.assert_array_equal(Plan(steps=1, members=[17, 4]).member_indices, [17, 4])


def test_whole_floats_are_counts():
    plan = Plan(steps=1e4, trajectories=2e3, saves=1e1, save_at=np.linspace(0, 100, 3))
    assert plan == Plan(steps=10_000, trajectories=2000, saves=10, save_at=[0, 50, 100])
    assert isinstance(plan.steps, int) and plan.count == 2000


@pytest.mark.parametrize(
    ("arguments", "kind", "name"),
    [
        ({"steps": 0}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"steps": True}, TypeError, "steps"),
        ({"steps": float("inf")}, TypeError, "steps"),
        ({"steps": 9, "trajectories": 0}, ValueError, "trajectories"),
        ({"steps": 9, "saves": 0}, ValueError, "saves"),
        ({"steps": 9, "save_at": [10]}, ValueError, "save_at"),
        ({"steps": 9, "save_at": []}, ValueError, "save_at must not be empty"),
        ({"steps": 9, "members": [1, 1]}, ValueError, "members"),
        ({"steps": 9, "members": [1, 2], "trajectories": 3}, ValueError, "members"),
        ({"steps": 9, "dtype": "float16"}, ValueError, "dtype"),
        ({"steps": 9, "seed": -1}, ValueError, "seed"),
        ({"steps": 9, "keep": "all"}, ValueError, "keep"),
        ({"steps": 9, "events": ["escape"]}, ValueError, "events"),
        ({"steps": 9, "trajectory": 3}, TypeError, "did you mean 'trajectories'"),
    ],
)
def test_wrong_arguments_are_named(arguments, kind, name):
    with pytest.raises(kind, match=name):
        Plan(**arguments)
