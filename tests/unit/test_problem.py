"""Problems and runs survive TOML without loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope import GD, SGD, DeepLinear, GaussianData, GradientFlow, Langevin, Plan, Problem, init, logspaced
from saddlescope.runfile import run_from_toml, run_to_toml

positive, scales = st.floats(1e-300, 1e300), st.floats(1e-300, 1e150)
finite = st.floats(-1e9, 1e9)
widths = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


def matrix(rows, columns):
    return st.lists(st.lists(finite, min_size=columns, max_size=columns), min_size=rows, max_size=rows)


@st.composite
def problems(draw):
    network = DeepLinear(draw(widths))
    dims = network.dim_in, network.dim_out
    covariance = None
    if draw(st.booleans()):
        root = np.array(draw(matrix(dims[0], dims[0]))) / 1e11 + np.eye(dims[0])
        covariance = root @ root.T
        covariance = (covariance + covariance.T) / 2
    noise = draw(st.floats(0, 1e6))
    if draw(st.booleans()):
        data = GaussianData(draw(matrix(*dims[::-1])), covariance, noise)
    else:
        spectrum = draw(st.lists(st.floats(0.1, 100), min_size=1, max_size=min(dims)))
        data = GaussianData.from_spectrum(spectrum, *dims, noise, covariance, draw(st.integers(0, 100)))
    starts = [
        st.builds(init.Gaussian, scale=scales),
        st.builds(init.Balanced, scale=scales, aligned=st.booleans()),
        st.tuples(*[matrix(*shape) for shape in network.shapes]).map(init.Given),
    ]
    if network.hidden:
        starts.append(st.builds(init.Gaussian, gamma=st.floats(-5, 5)))
    return Problem(network, data, draw(st.one_of(starts)))


methods = st.one_of(
    st.builds(GradientFlow, lr=positive),
    st.builds(GD, lr=positive),
    st.builds(SGD, lr=positive, batch_size=st.integers(1, 2**62)),
    st.builds(
        Langevin,
        lr=positive,
        batch_size=positive,
        noise=st.sampled_from(["gradient", "isotropic", "aligned"]),
        dt=st.none() | positive,
    ),
)
plans = st.builds(
    Plan,
    steps=st.integers(50, 2**53 - 1),
    trajectories=st.integers(1, 10**9),
    saves=st.integers(1, 10**6) | st.builds(logspaced, st.integers(1, 10**6)),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.sampled_from(["float64", "float32"]),
    threads=st.none() | st.integers(1, 64),
    keep=st.sampled_from(["statistics", "trajectories", "weights"]),
    save_at=st.none() | st.lists(st.integers(0, 50), min_size=1, max_size=4),
    events=st.sampled_from([(), ("learning_time",), ("learning_time", "noise_peak")]),
)


@given(problems())
@settings(max_examples=80, deadline=None)
def test_a_problem_goes_through_toml_without_loss(problem):
    copy = Problem.from_toml(problem.to_toml())
    assert copy == problem
    assert hash(copy) == hash(problem)
    assert copy.to_toml() == problem.to_toml()
    np.testing.assert_array_equal(copy.data.teacher, problem.data.teacher)
    np.testing.assert_array_equal(copy.data.root, problem.data.root)


@given(problems(), methods, plans)
@settings(max_examples=80, deadline=None)
def test_a_run_goes_through_toml_without_loss(problem, method, plan):
    assert run_from_toml(run_to_toml(problem, method, plan)) == (problem, method, plan)


def test_members_go_through_toml():
    problem = Problem(DeepLinear((1, 1)), GaussianData([[1.0]]), init.Balanced(scale=0.1))
    plan = Plan(steps=1, members=[2**62, 3])
    assert run_from_toml(run_to_toml(problem, GD(0.1), plan))[2] == plan


def test_different_problems_differ():
    one, other = (Problem(DeepLinear((1, 1)), GaussianData([[s]]), init.Balanced(scale=0.1)) for s in (1.0, 1.5))
    assert one != other
    assert one != "a problem"


def test_ends_must_meet():
    with pytest.raises(ValueError, match="first width 2 and the last 1"):
        Problem(DeepLinear((3, 1)), GaussianData([[1.0, 2.0]]), init.Balanced(scale=0.1))


RUN = """
network = {type = "DeepLinear", widths = [3, 4, 2]}
data = {type = "GaussianData", spectrum = [2.0, 1.0], dim_in = 3, dim_out = 2}
init = {type = "Gaussian", scale = 0.01}
method = {type = "SGD", lr = 0.001, batch_size = 16}
plan = {steps = 1000}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale", "scael", "did you mean 'scale'"),
        ("spectrum = [2.0, 1.0]", "spectrum = [2.0, 1.0], sead = 1", "did you mean 'seed'"),
        ("steps", "step", "did you mean 'steps'"),
        ('"SGD"', '"SDG"', "did you mean 'SGD'"),
        ("plan =", "plans =", "did you mean 'plan'"),
        ("lr = 0.001", "lr = -1", "lr"),
        ("dim_in = 3, ", "", "dim_in"),
        ("method = {", "method = 3 #", r"\[method\] must be a table"),
        ("plan = {steps = 1000}", "", r"\[plan\] is missing"),
        ("widths = [3", "widths = [5", "the last 2"),
        ("plan = {", "plan = ", "not valid TOML"),
    ],
)
def test_a_slip_in_a_file_is_named(old, new, message):
    assert run_from_toml(RUN)
    with pytest.raises((TypeError, ValueError), match=message):
        run_from_toml(RUN.replace(old, new))
