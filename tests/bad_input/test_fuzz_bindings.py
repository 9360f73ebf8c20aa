"""Fuzzing the compiled module: any arguments work or give an error, and no stray memory is written.

Every call starts from valid arguments, some of them corrupted. Arrays lie between margins that reveal stray writes.
A refused call leaves all its arguments unchanged; an accepted one gives the result of the plain arguments,
for any memory order.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saddlescope import _kernel
from saddlescope.kernel.streams import NOISE, seed_words

REFUSALS = (TypeError, ValueError, OverflowError, MemoryError)
MARGIN = 64

# --- arrays in every arrangement


def framed(array, offset=0, order="C"):
    """A copy of the array between two margins, ``offset`` bytes off its alignment."""
    frame = np.full(array.nbytes + 2 * MARGIN, 0xA5, np.uint8)
    inside = frame[MARGIN + offset : MARGIN + offset + array.nbytes].view(array.dtype)
    inside = inside.reshape(array.shape, order=order)
    inside[...] = array
    return inside


def margins(array):
    """The bytes around a framed array, None for another kind."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        return None
    return array


def strided(array):
    spread = np.full((*array.shape[:-1], 2 * array.shape[-1]), 7, array.dtype)
    spread[..., ::2] = array
    return spread[..., ::2]


def read_only(array):
    locked = framed(array)
    locked.flags.writeable = False
    return locked


ARRANGEMENTS = {
    "plain": framed,
    "Fortran order": lambda a: framed(a, order="F"),
    "every second": strided,
    "backwards": lambda a: framed(a[::-1])[::-1],
    "misaligned": lambda a: framed(a, offset=1),
    "read-only": read_only,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}
"""The same numbers, elsewhere in memory."""

DTYPES = ["f2", "f4", "f8", "g", "c16", "i1", "i4", "i8", "u4", "u8", "?", "O", "S3", "M8[s]"]


def longer(array, axis):
    return np.concatenate([array, array], axis=axis)


def changed(array, draw):
    """Other numbers, another shape, another kind, or no array at all."""
    axis = draw(st.integers(0, array.ndim - 1))
    return draw(
        st.sampled_from(
            [
                lambda: longer(array, axis),
                lambda: np.take(array, range(array.shape[axis] - 1), axis=axis),
                lambda: np.take(array, [], axis=axis),
                lambda: array[None],
                lambda: array.ravel() if array.ndim > 1 else array[:, None],
                lambda: np.swapaxes(array, 0, -1),
                lambda: np.broadcast_to(array[:1], (len(array[:1]) * (len(array) + 1), *array.shape[1:])),
                lambda: np.lib.stride_tricks.as_strided(array[:1], strides=(2**40, *array.strides[1:])),
                lambda: np.zeros((0,) * array.ndim, array.dtype),
                lambda: array.astype(draw(st.sampled_from(DTYPES))),
                lambda: array.tolist(),
                lambda: None,
                lambda: "array",
                lambda: 1.0,
                lambda: memoryview(array),
            ]
        )
    )()


def odd(array):
    """Right shape and kind, odd numbers."""
    return framed(np.full(array.shape, np.nan if array.dtype.kind == "f" else -1).astype(array.dtype, casting="unsafe"))


NUMBERS = [-1, 0, 1.5, float("nan"), float("inf"), -float("inf"), 2**31, 2**63, 2**64, 10**30, -(10**30)]
STRANGERS = [None, "x", b"x", [], {}, object(), 1j, True]
LISTS = [[-1], [2**31], [2**31 - 1] * 3, [1.5, 2], [None], ["a"], [0], [float("nan")], list(range(1, 300)), "ab", 3]
PAIRS = [[(3, 0)], [(2**31, 1)], [(1, 1)] * 257, [(2**31 - 1, 2**31 - 1)] * 3, [(1, 2, 3)], [3, 4], [(1.5, 2)]]


def spoilt(value, draw):
    """Something else for one argument."""
    if isinstance(value, np.ndarray):
        kind = draw(st.sampled_from(["arrangement", "changed", "odd"]))
        if kind == "arrangement":
            return draw(st.sampled_from(list(ARRANGEMENTS.values())))(value)
        return odd(value) if kind == "odd" else changed(value, draw)
    if isinstance(value, list | tuple):
        return draw(st.sampled_from([*LISTS, *PAIRS, *STRANGERS, value[:-1], [*value, *value], value[::-1]]))
    if isinstance(value, str):
        return draw(st.sampled_from(["", "diagonal", "full", "x", "é\0", "auto" * 1000, *STRANGERS, 1]))
    return draw(st.sampled_from([*NUMBERS, *STRANGERS]))


def call(function, right, draw, keep=(), most=2):
    """Call with some arguments corrupted (never those of ``keep``); returns the result, or None for a refusal."""
    arguments = {name: framed(value) if isinstance(value, np.ndarray) else value for name, value in right.items()}
    for name in draw(st.lists(st.sampled_from(sorted(set(right) - set(keep))), max_size=most, unique=True)):
        arguments[name] = spoilt(right[name], draw)
    frames = {id(f): f for f in map(margins, arguments.values()) if f is not None}
    before = [(f, f.copy()) for f in frames.values()]
    try:
        result = function(**arguments)
    except REFUSALS as error:
        assert str(error).strip() or isinstance(error, MemoryError), "a refusal says why"
        for frame, was in before:
            np.testing.assert_array_equal(frame, was, "a refused call changes nothing")
        return None
    for frame, was in before:
        for margin in (slice(MARGIN), slice(-MARGIN + 1, None)):
            np.testing.assert_array_equal(frame[margin], was[margin], "nothing is written outside the arrays")
    return result


# --- what is called


def words(n, dtype):
    return seed_words(1, range(n), NOISE, dtype)


WIDTHS = [[3, 4, 2], [1, 1], [2, 1, 3], [4, 2, 3, 4]]
SHAPES = [(4, 3), (2, 4)]
SOURCES = ["flow", "gd", "sgd", "gradient", "aligned", "isotropic"]


def network(widths, source="gd", coloured=False, order=1, route="auto"):
    modes = min(widths[0], widths[-1])
    return {
        "network": "deep_linear",
        "shapes": [(rows, columns) for columns, rows in pairwise(widths)],
        "strengths": [2.0 * 0.6**a for a in range(modes)],
        "block": list(range(modes)),
        "rank": widths[0],
        "root": np.linspace(0.5, 1.5, widths[0] ** 2).tolist() if coloured else [],
        "label_noise": 0.5,
        "source": source,
        "lr": 0.01,
        "dt": 0.01,
        "batch": 2.0,
        "weight_decay": 0.1,
        "order": order,
        "gradient_noise": None,
        "momentum": 0.0,
        "instruction_set": "auto",
        "route": route,
    }


def diagonal(depth, chains, source="gd"):
    made = network([1] * (depth + 1), source)
    return made | {"network": "diagonal", "shapes": [(chains, 1)] * depth, "gradient_noise": (2.0, 0.1, 0.2)}


def ensemble(shapes, n, dtype, steps=3):
    modes, parameters = min(shapes[0][1], shapes[-1][0]), sum(a * b for a, b in shapes)
    rng = np.random.default_rng(0)
    return {
        "weights": (0.4 * rng.standard_normal((n, parameters))).astype(dtype),
        "words": words(n, dtype),
        "status": np.zeros(n, np.int64),
        "learned": np.full((n, 2, modes), np.inf),
        "peak": np.zeros((n, 4, modes)),
        "clock": np.tile([0.0, 1e-3], (n, 1)),
        "correlator": np.zeros((n, modes, 0, 34)),
        "histogram": np.zeros((modes, 0), np.int64),
        "start": 0,
        "until": steps,
        "passages": True,
        "peaks": False,
        "threads": 2,
    }


ROUTES = ["auto", "lanes", "one by one"]
networks = st.builds(
    network, st.sampled_from(WIDTHS), st.sampled_from(SOURCES), st.booleans(), route=st.sampled_from(ROUTES)
)
dtypes = st.sampled_from(["float64", "float32"])


@given(st.data(), networks)
@settings(max_examples=400)
def test_making_a_kernel(data, right):
    """A kernel that is made from odd numbers also runs on them."""
    kernel = call(_kernel.Kernel, right, data.draw)
    if kernel is None:
        return
    assert kernel.normals_per_step >= 0
    call(kernel.advance, ensemble(right["shapes"], 3, "float64"), data.draw, most=0)
    call(kernel.observe, {"weights": np.ones((3, 1)), "temperature": 0.1, "threads": 1}, data.draw, most=0)


@given(st.data(), networks, dtypes, st.integers(0, 19))
@settings(max_examples=600)
def test_advancing(data, made, dtype, n):
    right = ensemble(made["shapes"], n, dtype)
    if data.draw(st.booleans()):
        right["factors"] = np.ones(4)
    kernel = _kernel.Kernel(**made)
    if data.draw(st.booleans()):
        right["normals"] = np.zeros((n, 3, kernel.normals_per_step), dtype)
    call(kernel.advance, right, data.draw, keep=("until",))  # a far step is far to go


@pytest.mark.parametrize("until", [value for value in [*NUMBERS, *STRANGERS] if value not in (0, True)])
def test_advancing_to_odd_steps(until):
    right = ensemble(SHAPES, 0 if until == 2**31 else 3, "float64")
    weights = right["weights"].copy()
    try:
        _kernel.Kernel(**network([3, 4, 2])).advance(**right | {"until": until})
    except REFUSALS:
        np.testing.assert_array_equal(right["weights"], weights)
    else:
        assert until == 2**31


@given(st.data(), dtypes, st.sampled_from(["gd", "sgd"]), st.sampled_from(ROUTES), st.integers(0, 19))
@settings(max_examples=300)
def test_momentum(data, dtype, source, route, n):
    right = ensemble(SHAPES, n, dtype)
    right["velocity"] = np.zeros_like(right["weights"])
    kernel = _kernel.Kernel(**network([3, 4, 2], source, route=route) | {"momentum": 0.9})
    call(kernel.advance, right, data.draw, keep=set(right) - {"velocity", "weights"})


@pytest.mark.parametrize("momentum", [-0.1, 1.0, *NUMBERS, *STRANGERS])
def test_odd_momentum(momentum):
    for source in SOURCES:
        try:
            _kernel.Kernel(**network([3, 4, 2], source) | {"momentum": momentum})
        except REFUSALS:
            continue
        assert momentum == 0, "below 1, and other sources have none"


RANGES = [(-1.0, 2.0), (0.0, 5e-324), (0.0, 1e-310), (-1e308, 1e308), (1e308, 1.1e308), (-5e-324, 5e-324)]


@given(st.data(), dtypes, st.integers(1, 19), st.sampled_from(["replacement", "without", "shuffle", "full"]))
@settings(max_examples=400)
def test_data_sets(data, dtype, n, sampling):
    made = network([3, 4, 2], data.draw(st.sampled_from(["gd", "sgd", "gradient"])))
    kernel = _kernel.Kernel(**made)
    samples = {"rows": np.ones((7, 5)), "factor": np.ones((data.draw(st.integers(0, 2)), 12)), "sampling": sampling}
    call(kernel.use_samples, samples, data.draw)
    right = ensemble(made["shapes"], n, dtype) | {"order": np.tile(np.arange(7, dtype=np.int32), (n, 1))}
    call(kernel.advance, right, data.draw, keep=set(right) - {"order", "weights", "peaks"}, most=1)


@given(st.data(), dtypes, st.sampled_from(SOURCES), st.integers(0, 19))
@settings(max_examples=300)
def test_diagonal_networks(data, dtype, source, n):
    made = diagonal(2, 3, source)
    kernel = call(_kernel.Kernel, made, data.draw)
    if kernel is None:
        return
    right = ensemble(made["shapes"], n, dtype) | {"weights": np.full((n, 6), 0.5, dtype)}
    call(kernel.advance, right, data.draw, keep=set(right) - {"weights", "peaks", "clock"}, most=1)
    shown = {"weights": np.ones((n, 6)), "clock": right["clock"], "at": 0.01, "threads": 1}
    call(kernel.peek, shown, data.draw, keep=("at",), most=1)  # a far time is far to go


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("name", ["low", "high", "start", "every"])
def test_accumulating(name, low, high):
    """Every count falls into the histogram, those outside its range into the bins at its ends."""
    kernel, right = _kernel.Kernel(**network([3, 4, 2])), ensemble(SHAPES, 5, "float64")
    right |= {"correlator": np.zeros((5, 2, 2, 34)), "histogram": np.zeros((2, 12), np.int64)}
    right["weights"][1:3] = 0.0  # strengths at the edge of a bin
    for value in [None, *NUMBERS, *STRANGERS]:
        wanted = {"low": low, "high": high, "start": 0, "every": 1} | ({} if value is None else {name: value})
        filled = {key: framed(a) if isinstance(a, np.ndarray) else a for key, a in right.items()}
        try:
            kernel.accumulate(**wanted)
            kernel.advance(**filled)
        except REFUSALS:
            continue
        frame, due = margins(filled["histogram"]), len(range(wanted["start"], 3, wanted["every"]))
        assert (frame[:MARGIN] == 0xA5).all() and (frame[-MARGIN:] == 0xA5).all()
        assert filled["histogram"].sum() == 10 * due


@given(st.data(), networks, st.integers(0, 9))
@settings(max_examples=300)
def test_looking(data, made, n):
    kernel = _kernel.Kernel(**made)
    right = ensemble(made["shapes"], n, "float64")
    table = call(kernel.observe, {"weights": right["weights"], "temperature": 0.1, "threads": 2}, data.draw)
    assert table is None or (table.dtype == np.float64 and table.ndim == 2)
    shown = {"weights": right["weights"], "clock": right["clock"], "at": 0.01, "threads": 2}
    at = call(kernel.peek, shown, data.draw, keep=("at",))  # a far time is far to go
    assert at is None or at.shape[1] == right["weights"].shape[1]


@given(st.data(), dtypes, st.integers(0, 19), st.sampled_from(["normals", "chi", "below"]))
@settings(max_examples=300)
def test_streams(data, dtype, n, name):
    what = {"normals": "count", "chi": "degrees", "below": "bound"}[name]
    right = {"words": words(n, dtype), what: 3, "instruction_set": "auto"}
    drawn = call(getattr(_kernel, name), right, data.draw, keep=() if n else ("count",))
    assert drawn is None or (np.isfinite(drawn).all() and drawn.dtype.kind in "fi")


MODE = {"alpha": 2.0, "center": 1.0, "floor": 0.1, "beta1": 1.0, "beta2": 1.0, "temperature": 0.05, "decay": 0.1}


@given(st.data(), st.integers(1, 4), st.integers(0, 19))
@settings(max_examples=400)
def test_mode_ensembles(data, depth, n):
    right = MODE | {"depth": depth, "tolerance": 0.05, "threads": 2, "instruction_set": "auto"}
    right |= {"start": np.full(n, -0.5), "times": np.array([0.0, 0.1, 0.1]), "levels": np.array([-0.6, 0.2])}
    # An enormous finite rate makes a step too short to finish: callers have to refuse it.
    seen = call(_kernel.mode_ensemble, right | {"words": words(n, "float64")}, data.draw, keep=(*MODE, "depth"))
    if seen is not None:
        states, passages = seen
        assert len(states) == len(passages) and not np.isinf(states).any() and not (passages < 0).any()


@given(st.data(), dtypes, st.integers(1, 5), st.integers(0, 19))
@settings(max_examples=300)
def test_mode_walks(data, dtype, depth, n):
    right = MODE | {"depth": depth, "dt": 0.01, "threads": 2, "instruction_set": "auto"}
    right |= {"start": np.full(n, 0.5), "steps": np.array([0, 3, 3, 8]), "words": words(n, dtype)}
    seen = call(_kernel.mode_euler, right, data.draw, keep=("depth",))
    assert seen is None or (len(seen) == n and seen.dtype == dtype)


RATES = ["multiply_add_rate_float32", "multiply_add_rate_float64", "normal_rate_float32", "normal_rate_float64"]


@pytest.mark.parametrize("name", RATES)
def test_rates_end(name):
    for value in [float("nan"), float("inf"), -1.0, "x", None]:
        try:
            assert getattr(_kernel, name)(value) >= 0
        except REFUSALS:
            continue


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -float("inf"), -1.0, 10**400, *STRANGERS])
def test_looking_at_odd_times(at):
    kernel, right = _kernel.Kernel(**network([1, 1], "flow")), ensemble([(1, 1)], 2, "float64")
    try:
        np.testing.assert_allclose(kernel.peek(right["weights"], right["clock"], at, 1), right["weights"], atol=2.0)
    except REFUSALS:
        assert at != -1.0, "before the clock there is nothing to do"


# --- the order in memory does not matter


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_accepted_arrangement_gives_the_plain_result(arrangement, dtype):
    made = network([3, 4, 2], "gradient", coloured=True)
    kernel, right = _kernel.Kernel(**made), ensemble(SHAPES, 5, dtype)
    right["normals"] = np.random.default_rng(3).standard_normal((5, 3, kernel.normals_per_step)).astype(dtype)
    right["factors"] = np.array([1.0, 0.5, 0.25, 1.0])
    plain = {name: framed(a) if isinstance(a, np.ndarray) else a for name, a in right.items()}
    kernel.advance(**plain)
    for name, value in right.items():
        if not isinstance(value, np.ndarray) or not value.size:
            continue
        arguments = {key: framed(a) if isinstance(a, np.ndarray) else a for key, a in right.items()}
        arguments[name] = ARRANGEMENTS[arrangement](value)
        try:
            kernel.advance(**arguments)
        except REFUSALS:
            np.testing.assert_array_equal(arguments["weights"], right["weights"])
            continue
        for key, expected in plain.items():
            np.testing.assert_array_equal(arguments[key], expected, f"{key} after {arrangement} {name}")


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_an_accepted_arrangement_shows_the_plain_result(arrangement):
    kernel, right = _kernel.Kernel(**network([3, 4, 2])), ensemble(SHAPES, 5, "float64")
    weights, clock, arranged = right["weights"], right["clock"] + 1e-3, ARRANGEMENTS[arrangement]
    for look in (lambda w, c: kernel.observe(w, 0.1, 1), lambda w, c: kernel.peek(w, c, 0.1, 1)):
        for arguments in ((arranged(weights), clock), (weights, arranged(clock))):
            try:
                shown = look(*arguments)
            except REFUSALS:
                continue
            np.testing.assert_array_equal(shown, look(weights, clock))
