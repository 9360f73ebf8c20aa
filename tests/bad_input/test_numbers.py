"""Numbers from users are plain or refused in one sentence; they are never reinterpreted."""

import array
import collections
import decimal
import enum
import fractions
import inspect

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from numpy.typing import ArrayLike

import saddlescope as sc
from saddlescope._numbers import as_matrix, as_number, as_numbers, as_vector, as_whole
from saddlescope.theory._checks import steady
from saddlescope.theory.balance import Balance
from saddlescope.theory.mode import phases
from saddlescope.theory.network import determinant

TABLE = np.array([[2.0, 0.0], [0.0, 1.0]])


class Colour(enum.IntEnum):
    red = 2


class Unit(np.ndarray):
    unit = "m"


def nested(depth):
    return [nested(depth - 1)] if depth else 1.0


def looped():
    rows = [1.0]
    rows.append(rows)
    return rows


PLAIN = {
    "integers": TABLE.astype(int),
    "small integers": TABLE.astype(np.uint8),
    "half precision": TABLE.astype(np.float16),
    "long doubles": TABLE.astype(np.longdouble),
    "tuples": ((2, 0), (0, 1)),
    "numbers of numpy": [[np.float32(2), np.int8(0)], [0, np.float64(1)]],
    "rows": [np.array([2.0, 0.0]), (0, 1)],
    "arrays of no dimension": [[np.array(2.0), 0.0], [0.0, np.array(1)]],
    "ranges": [array.array("d", [2.0, 0.0]), range(2)],
    "members": [[Colour.red, 0], [0, 1]],
    "nothing masked": np.ma.array(TABLE, mask=np.zeros((2, 2), bool)),
    "frame": pd.DataFrame(TABLE),
    "mixed frame": pd.DataFrame({"a": [2, 0], "b": [0.0, 1.0]}),
    "nullable frame": pd.DataFrame(TABLE).astype("Float64"),
    "series": [pd.Series([2.0, 0.0]), pd.Series([0, 1])],
    "labelled": xr.DataArray(TABLE, dims=("x", "y"), attrs={"units": "m"}),
}

NOT_PLAIN = {
    "masked": (np.ma.array(TABLE, mask=[[0, 1], [0, 0]]), "masked entries"),
    "masked row": ([np.ma.array([2.0, 0.0], mask=[1, 0]), [0.0, 1.0]], "masked entries"),
    "the masked constant": ([[np.ma.masked, 0.0], [0.0, 1.0]], "masked entries"),
    "booleans": (TABLE > 0, "booleans"),
    "a boolean": ([[2.0, False], [0.0, 1.0]], "booleans"),
    "a boolean of numpy": ([[2.0, np.False_], [0.0, 1.0]], "booleans"),
    "text": (TABLE.astype(str), "text"),
    "a text": ([["2", 0.0], [0.0, 1.0]], "text"),
    "texts": ("2 0; 0 1", "text"),
    "bytes": (TABLE.astype("S"), "bytes"),
    "raw bytes": ([bytearray(b"ab"), bytearray(b"ab")], "bytes"),
    "memory": (memoryview(TABLE), "bytes"),
    "dates": (TABLE.astype("datetime64[s]"), "dates"),
    "a date": ([[np.datetime64("2020-01-01"), 0.0], [0.0, 1.0]], "dates"),
    "time spans": (TABLE.astype("timedelta64[s]"), "time spans"),
    "a time span": ([[np.timedelta64(1, "s"), 0], [0, 1]], "time spans"),
    "complex": (TABLE + 0j, "complex numbers"),
    "a complex number": ([[2.0, 0j], [0.0, 1.0]], "complex numbers"),
    "objects": (TABLE.astype(object), "objects"),
    "none": ([[2.0, None], [0.0, 1.0]], "got None"),
    "nothing": (None, "got None"),
    "a decimal": ([[decimal.Decimal(2), 0], [0, 1]], "Decimal"),
    "a fraction": ([[fractions.Fraction(2), 0], [0, 1]], "Fraction"),
    "a dictionary": ({0: [2.0, 0.0]}, "got {0"),
    "a set": ([{2.0, 0.0}, {0.0, 1.0}], "got {"),
    "a generator": ((row for row in TABLE), "generator"),
    "a deque of booleans": ([collections.deque([True]), collections.deque([False])], "booleans"),
    "records": (np.zeros(2, [("a", float), ("b", float)]), "records"),
    "units": (TABLE.view(Unit), "Unit"),
    "sparse": (scipy.sparse.csr_array(TABLE), "toarray()"),
    "ragged": ([[2.0, 0.0], [0.0]], "equal length"),
    "ragged rows": ([np.ones(2), np.ones(3)], "equal length"),
    "nested": (nested(100), "nested"),
    "looped": (looped(), "nested"),
    "frame with booleans": (pd.DataFrame({"a": [True, False], "b": [0.0, 1.0]}), "booleans"),
    "frame of categories": (pd.DataFrame({"a": pd.Categorical([2, 0]), "b": [0.0, 1.0]}), "objects"),
    "frame with dates": (pd.DataFrame({"a": pd.to_datetime(["2020", "2021"]), "b": [0, 1]}), "dates"),
    "frame with gaps": (pd.DataFrame({"a": pd.array([1, None]), "b": [0, 1]}), "missing"),
    "labelled dates": (xr.DataArray(TABLE.astype("datetime64[ns]")), "dates"),
    "labelled variables": (xr.Dataset({"a": 1.0}), "Dataset"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_numbers_are_taken_as_they_are(name):
    matrix = as_matrix(PLAIN[name], "teacher")
    assert type(matrix) is np.ndarray and matrix.dtype == np.float64 and not matrix.flags.writeable
    np.testing.assert_array_equal(matrix, TABLE)


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_all_else_is_refused(name):
    value, words = NOT_PLAIN[name]
    with pytest.raises(TypeError) as caught:
        sc.GaussianData(teacher=value)
    message = str(caught.value)
    assert (
        message.startswith(("teacher must be a matrix of numbers", "GaussianData: teacher must be a matrix, got None"))
        and words in message
        and "\n" not in message
    )
    with pytest.raises(TypeError, match=r"^weights\[0\] must be a matrix of numbers"):
        sc.init.Given([value])


@pytest.mark.parametrize("value", [10**400, [[10**400]], [np.array([1.0]), [10**5000]]])
def test_integers_beyond_all_numbers(value):
    with pytest.raises(ValueError, match=r"^teacher must be at most 1e308 in size"):
        as_matrix(value, "teacher")
    if np.finfo(np.longdouble).maxexp > 1024:
        with pytest.raises(ValueError, match="at most 1e308"):
            as_numbers(np.array(["1e400"], np.longdouble), "x")


def test_a_copy_is_kept():
    given = TABLE.copy()
    data = sc.GaussianData(given)
    given[:] = 7.0
    np.testing.assert_array_equal(data.teacher, TABLE)


def test_shapes():
    for value in ([], [[]], 1.0, [1.0], [[[1.0]]]):
        with pytest.raises(ValueError, match="teacher must be a matrix with two non-empty dimensions, got shape"):
            as_matrix(value, "teacher")
    with pytest.raises(ValueError, match=r"spectrum must be a list of numbers, got shape \(\); use \[value\]"):
        as_vector(1.0, "spectrum")
    with pytest.raises(TypeError, match=r"lr must be a number, got the shape \(1,\)"):
        as_number([0.1], "lr")


ONE = [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), np.longdouble(0.5), xr.DataArray(0.5), np.ma.array(0.5)]
NOT_ONE = [
    True,
    np.True_,
    np.array(True),
    "0.5",
    b"0.5",
    None,
    0.5j,
    np.complex128(0.5),
    np.datetime64("2020-01-01"),
    np.datetime64(1, "ns"),
    np.timedelta64(1, "ns"),
    np.ma.masked,
    np.array("0.5"),
    np.array(0.5, object),
    decimal.Decimal("0.5"),
    [0.5],
    np.array([0.5]),
    {},
]


@pytest.mark.parametrize("value", ONE, ids=lambda value: type(value).__name__)
def test_one_number(value):
    assert sc.GD(lr=value).lr == 0.5 and type(sc.GD(lr=value).lr) is float
    assert as_number(value, "x") == sc.convert.loss(value, 0.5) == 0.5


@pytest.mark.parametrize("value", NOT_ONE, ids=lambda value: f"{type(value).__name__} {value!r:.20}")
def test_what_is_no_number(value):
    for refuse in (
        lambda: sc.GD(lr=value),
        lambda: sc.Plan(steps=value),
        lambda: sc.DeepLinear((value, 2)),
        lambda: sc.GaussianData([[1.0]], label_noise=value),
        lambda: sc.GaussianData.from_spectrum([1.0], value, 2),
        lambda: sc.convert.loss(value),
        lambda: sc.convert.depth(value),
        lambda: as_whole(value, "mode"),
        lambda: phases.collapse_window(1, 1.0, value),
    ):
        with pytest.raises(TypeError) as caught:
            refuse()
        assert "must be" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3), xr.DataArray(3)])
def test_one_whole_number(value):
    assert sc.Plan(steps=value).steps == as_whole(value, "mode") == 3


WEIGHTS = [np.ones((1, 2, 2)), np.ones((1, 2, 2))]


@pytest.mark.parametrize(
    "use",
    [
        lambda bad: sc.GD(lr=0.1).time(bad),
        lambda bad: sc.SGD(lr=0.1, batch_size=2, schedule=sc.schedules.Step(every=3, factor=0.5)).lr_at(bad),
        lambda bad: sc.schedules.Warmup(steps=3).at(bad),
        lambda bad: sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1).g(bad),
        lambda bad: sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1).flow(bad, 0.1),
        lambda bad: sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1).passage(bad, 0.5),
        lambda bad: sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1).stationary().cdf(bad),
        lambda bad: sc.theory.mode_flow(bad, 0.1, 1.0, 2),
        lambda bad: sc.theory.plateau_time(bad, 1.0, 2),
        lambda bad: sc.theory.growth_rate(bad, 0.1, 0.1),
        lambda bad: sc.theory.strength_drift(bad, bad, 2, 0.1, 0.1),
        lambda bad: sc.theory.map_drift(sc.GaussianData(TABLE), 0.1, [bad, WEIGHTS[1]]),
        lambda bad: sc.theory.balance_drift(sc.GaussianData(TABLE), 0.1, [bad, WEIGHTS[1]]),
        lambda bad: determinant.log_det_step(bad, 0.1),
        lambda bad: determinant.rank(bad),
        lambda bad: Balance.of(bad, [1.0], [[1.0]], [[1.0]], 0.1),
        lambda bad: sc.theory.balance_step(bad, [1.0], [1.0], [1.0], 0.1),
    ],
)
def test_theory_takes_plain_numbers(use):
    for bad in (
        np.array([True]),
        np.array(["1"]),
        np.array([1j]),
        np.array([1], "datetime64[s]"),
        [1.0, None],
        np.ma.array([1.0, 2.0], mask=[True, False]),
    ):
        with pytest.raises(TypeError, match="must be an array of numbers"):
            use(bad)


MODE = sc.theory.ModeSDE(2, 1.0, 1.0, temperature=0.1)


@pytest.mark.parametrize(
    "use",
    [
        lambda bad: MODE.evolve(bad, [1.0]),
        lambda bad: MODE.passage_cdf([1.0], bad, 0.5),
        lambda bad: MODE.plateau_passage(bad),
        lambda bad: MODE.passage(0.1, bad),
        lambda bad: sc.theory.Diffusion1D(lambda x: -x, np.ones_like).evolve(bad, [1.0]),
        lambda bad: sc.theory.mode_flow(1.0, 0.1, 1.0, 2, rate=bad),
        lambda bad: sc.theory.half_times([2.0, 1.0], bad, 0.1, 0.1),
        lambda bad: sc.theory.map_drift(sc.GaussianData(TABLE), bad, WEIGHTS),
        lambda bad: sc.theory.layer_variance(sc.GaussianData(TABLE), 0.1, WEIGHTS, bad),
        lambda bad: determinant.log_det([np.ones((1, 4, 2)), np.ones((1, 2, 4))], bad),
        lambda bad: phases.collapse_rate(bad, 1, 1.0, 1.0),
        lambda bad: phases.collapse_window(bad, 1.0, 1.0),
    ],
)
def test_theory_takes_one_plain_number(use):
    for bad in (True, "1", None, 1j, np.datetime64("2020"), np.ma.masked, np.array([1.0, 2.0]), object()):
        with pytest.raises(TypeError, match="must be a") as caught:
            use(bad)
        assert "\n" not in str(caught.value)


PUBLIC = [
    value
    for module in (sc.theory, phases, determinant)
    for name, value in sorted(vars(module).items())
    if callable(value) and hasattr(value, "__wrapped__") and not name.startswith("_")
]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_theory_refuses_what_is_no_argument(function):
    """Every function names its first invalid argument in one sentence."""
    names = inspect.signature(function).parameters
    with pytest.raises(TypeError, match="must be") as caught:
        function(*[object()] * len(names))
    assert any(str(caught.value).startswith(name) for name in names) and "\n" not in str(caught.value)


def test_calls_from_inside_are_not_checked_again():
    seen = []

    @steady
    def inner(x: "ArrayLike"):
        seen.append(type(x))

    @steady
    def outer(x: "ArrayLike"):
        inner([1.0])
        inner(x)

    outer([1.0])
    assert seen == [list, np.ndarray]


@pytest.mark.parametrize(
    "use",
    [
        lambda: MODE.drift(1.0, coordinate=np.ma.array([1.0, 2.0], mask=[True, False])),
        lambda: sc.theory.Diffusion1D(np.ones((3, 3)), np.ones_like),
        lambda: sc.theory.Diffusion1D(np.zeros_like, np.ones_like, tails=np.ones((3, 3))),
        lambda: MODE.drift(1.0, coordinate=10**400),
        lambda: MODE.simulate(0.1, [1.0], 1, dt=0.1, dtype=np.ones((3, 3))),
    ],
)
def test_words_are_words_and_refused_on_one_line(use):
    with pytest.raises((TypeError, ValueError), match="must be") as caught:
        use()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
