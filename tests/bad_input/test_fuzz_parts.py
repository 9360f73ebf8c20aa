"""Parts of a run made from arbitrary values are made or refused in one sentence, and copies are exact."""

import copy
import datetime
import decimal
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import saddlescope as sc
from saddlescope.runfile import run_from_toml

ODD = [
    None,
    True,
    -0.0,
    1e-320,
    1e160,
    1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**53,
    2**70,
    -(2**70),
    10**400,
    10**5000,
    1j,
    "",
    "0.1",
    "a\nb",
    b"1",
    decimal.Decimal("0.1"),
    datetime.date(2020, 1, 1),
    np.datetime64("2020-01-01"),
    np.timedelta64(3, "s"),
    np.ma.masked,
    np.True_,
    np.float32(0.5),
    np.array(2),
    np.array([1.0, 2.0]),
    np.array([[1.0, np.nan]]),
    np.zeros((2, 0)),
    np.eye(3, dtype=object),
    np.ma.array([[1.0, 2.0]], mask=[[True, False]]),
    object,
    object(),
    {"type": "Cosine"},
    {},
    {1.0},
    (),
    [],
    [[]],
    [[1.0], [2.0, 3.0]],
    range(3),
    sc.SGD(0.1, 1),
    sc.init.Gaussian(scale=0.1),
    lambda x: x,
]
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.one_of(st.sampled_from(ODD), st.floats(), st.integers()), max_size=3),
    st.lists(st.lists(st.floats(), min_size=1, max_size=2), min_size=1, max_size=3),
)

RIGHT = {
    sc.DeepLinear: {"widths": (2, 3, 2)},
    sc.Diagonal: {"depth": 2, "width": 3},
    sc.GaussianData: {
        "teacher": np.eye(2),
        "covariance": np.eye(2),
        "label_noise": 0.5,
        "left": np.eye(2),
        "right": np.eye(2),
    },
    sc.Dataset: {"X": np.eye(2), "Y": np.ones((2, 1)), "label_noise": 0.1},
    sc.Moments: {"alpha1": 2.0, "alpha2": 2.0, "alpha3": 3.0, "beta1": 1.0, "beta2": 1.0},
    sc.init.Gaussian: {"scale": 0.1, "gamma": None},
    sc.init.Balanced: {"scale": 0.1, "aligned": True},
    sc.init.Given: {"weights": [np.eye(2)]},
    sc.GradientFlow: {"lr": 0.1, "weight_decay": 0.0},
    sc.GD: {"lr": 0.1, "weight_decay": 0.0, "schedule": None},
    sc.SGD: {"lr": 0.1, "batch_size": 2, "sampling": "shuffle", "weight_decay": 0.0, "schedule": None},
    sc.Langevin: {"lr": 0.1, "batch_size": 2.0, "noise": "gradient", "dt": None, "order": 1, "schedule": None},
    sc.schedules.Step: {"every": 3, "factor": 0.5},
    sc.schedules.Cosine: {"steps": 3, "floor": 0.5},
    sc.schedules.Warmup: {"steps": 3, "then": None},
    sc.Accumulate: {"low": 0.0, "high": 1.0, "bins": 3, "start": 0, "every": 1, "levels": 2},
    sc.Plan: {"steps": 3, "trajectories": 2, "saves": 2, "seed": 0, "threads": 1, "save_at": None, "members": None},
    sc.theory.ModeSDE: {"depth": 2, "target": 1.0, "label_noise": 0.1, "temperature": 0.1, "moments": None},
    sc.GaussianData.from_spectrum: {"spectrum": [1.0], "dim_in": 2, "dim_out": 2, "label_noise": 0.0, "seed": 0},
}
NAMES = [getattr(make, "__qualname__", str(make)) for make in RIGHT]


def refused(error):
    assert type(error) in (TypeError, ValueError), error
    message = str(error)
    assert message and "\n" not in message and len(message) < 500, message
    assert not any(word in message for word in ("pydantic", "float()", "unhashable", "broadcast", "core.")), message


@pytest.mark.parametrize("make", RIGHT, ids=NAMES)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_is_taken_or_refused(make, data):
    arguments = dict(RIGHT[make])
    for name in data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2, unique=True)):
        arguments[name] = data.draw(VALUES)
    try:
        part = make(**arguments)
    except Exception as error:
        refused(error)
        return
    assert part == part and isinstance(repr(part), str)
    for twin in (copy.copy(part), copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert twin == part and hash(twin) == hash(part)


@pytest.mark.parametrize("make", RIGHT, ids=NAMES)
@pytest.mark.parametrize("value", ODD, ids=lambda value: f"{type(value).__name__} {str(type(value))[:9]}")
def test_odd_values_in_every_place(make, value):
    for name in RIGHT[make]:
        try:
            make(**RIGHT[make] | {name: value})
        except Exception as error:
            refused(error)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: sc.DeepLinear(8, 16, 6), "takes 1 argument (widths), got 3; give a tuple: DeepLinear((8, 16, 6))"),
        (lambda: sc.Dataset([[1.0], [2.0]], [1.0, 2.0]), "got shape (2,); write Y[:, None] for one column"),
        (
            lambda: sc.SGD(0.1, 1, nesterov=True),
            "'nesterov': Adam and AdamW have adaptive steps, Nesterov momentum is not supported",
        ),
        (lambda: sc.GaussianData([[1.0]], label_noise=1e200), "must be less than or equal to 1e+150, got 1e+200"),
        (lambda: run_from_toml("network = " + "[" * 5000 + "]" * 5000), "nested too deeply"),
        (lambda: sc.init.Gaussian(scale=1e160), "scale must be less than or equal to 1e+150"),
        (lambda: run_from_toml(None), "text must be TOML, got None"),
        (lambda: sc.Dataset.load("a" * 5000 + ".npz"), "could not be read (File name too long)"),
    ],
)  # fmt: skip
def test_sentences(act, words):
    with pytest.raises((TypeError, ValueError, OSError)) as caught:
        act()
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    "change",
    [
        {"data": sc.GaussianData(np.eye(2), label_noise=1e150)},
        {"data": sc.GaussianData(1e150 * np.eye(2), 1e150 * np.eye(2))},
        {"init": sc.init.Gaussian(scale=1e150)},
        {"init": sc.init.Balanced(scale=1e150)},
        {"init": sc.init.Gaussian(gamma=-60)},
        {"data": sc.Dataset(1e150 * np.eye(2), 1e150 * np.eye(2))},
        {"data": sc.Dataset(1e-150 * np.eye(2), 1e150 * np.eye(2))},
    ],
    ids=range(7),
)
def test_sizes_at_the_ends_of_what_is_allowed(change, engine):
    """Such runs diverge, and say so."""
    parts = {"data": sc.GaussianData(np.eye(2)), "init": sc.init.Gaussian(scale=0.1)} | change
    problem = sc.Problem(sc.DeepLinear((2, 3, 2)), parts["data"], parts["init"])
    with pytest.warns(UserWarning, match="diverge"):
        sc.simulate(problem, sc.SGD(1e6, 2), sc.Plan(steps=60, trajectories=2), engine=engine)


def test_copies_keep_arrays_locked():
    for part in (
        sc.Dataset(np.eye(2), np.ones((2, 1))),
        sc.GaussianData(np.eye(2), np.eye(2)),
        sc.init.Given([np.eye(2)]),
        sc.Problem(sc.DeepLinear((2, 2)), sc.GaussianData(np.eye(2)), sc.init.Given([np.eye(2)])),
    ):
        for twin in (copy.copy(part), copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
            assert twin == part and hash(twin) == hash(part)
            for inner in vars(twin).values():
                for value in vars(inner).values() if hasattr(inner, "__dict__") else [inner]:
                    for array in value if isinstance(value, tuple) else [value]:
                        assert not isinstance(array, np.ndarray) or not array.flags.writeable


def test_what_is_equal_has_one_hash():
    pairs = [
        (sc.GaussianData([[1, 0]]), sc.GaussianData([[1, -0.0]])),
        (sc.GD(lr=1, weight_decay=0), sc.GD(lr=1.0, weight_decay=-0.0)),
        (sc.init.Given([[[0.0]]]), sc.init.Given([[[-0.0]]])),
        (sc.Moments(2, 0, 3, 1, 0), sc.Moments(2, -0.0, 3, 1, -0.0)),
    ]
    for one, other in pairs:
        assert one == other and hash(one) == hash(other)
    assert sc.GaussianData([[1, 0]]) != sc.GaussianData([[1, 1e-300]])
