"""Every engine agrees with the reference on the same streams, to rounding."""

import numpy as np
import pytest

from saddlescope import SGD, Plan, _kernel, init, observables
from saddlescope.engines import correlator, finite
from saddlescope.engines.native import Native
from saddlescope.engines.reference import Reference
from support import DISCRETE, ENGINES, METHODS, PROBLEMS, engine_class, pairs, problem

STEPS, N = 30, 21
OTHERS = [name for name in ENGINES if name != "reference"]


@pytest.fixture(params=OTHERS)
def other(request):
    return engine_class(request.param)


def runs(other, problem, method, plan):
    """The reference's run and the other's, each with its end."""
    for engine in (Reference, other):
        run = engine(problem, method, plan)
        yield run, run.advance(run.init(), plan.steps)


@pytest.mark.parametrize(("name", "method"), pairs())
def test_paths_events_and_observables(other, name, method):
    plan = Plan(steps=STEPS, trajectories=N, seed=4, events=("learning_time", "noise_peak"))
    (reference, a), (run, b) = runs(other, PROBLEMS[name], METHODS[method], plan)
    np.testing.assert_array_equal(a.words, b.words)
    np.testing.assert_array_equal(a.status, b.status)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(a.learned, b.learned)
    np.testing.assert_allclose(b.peak, a.peak, rtol=1e-8, atol=1e-15)
    observed, expected = run.observe(b), reference.observe(a)
    assert observed.keys() == expected.keys()
    for key, value in expected.items():
        assert observed[key].shape == value.shape, key
        np.testing.assert_allclose(observed[key], value, rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("method", DISCRETE)
@pytest.mark.parametrize("name", ["wide", "coloured", "regression"])
def test_paths_in_float32(other, name, method):
    if (name, method) not in pairs():
        return
    plan = Plan(steps=STEPS, trajectories=N, seed=4, dtype="float32")
    (reference, a), (run, b) = runs(other, PROBLEMS[name], METHODS[method], plan)
    np.testing.assert_array_equal(a.words, b.words)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 32, 10**6])
def test_batches_of_every_size(other, batch):
    (reference, a), (run, b) = runs(other, PROBLEMS["rank 2"], SGD(0.02, batch), Plan(steps=9, trajectories=N))
    np.testing.assert_array_equal(a.words, b.words)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17])
def test_any_number_of_trajectories(other, count):
    (reference, a), (run, b) = runs(other, PROBLEMS["thin"], METHODS["sgd 2"], Plan(steps=9, trajectories=count))
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 5, 13, 32, 128])
def test_any_width(other, width):
    layers = 0.3 / width**0.5 * np.random.default_rng(1).standard_normal((2, width, width))
    square = problem((width, width, width), spectrum=[2.0], init=init.Given(list(layers)))
    ends = []
    for engine in (Reference, other):
        run = engine(square, METHODS["gradient"], Plan(steps=2, trajectories=3))
        normals = np.random.default_rng(0).standard_normal((3, 2, run.normals_per_step))
        ends.append(run.weights(run.advance(run.init(), 2, normals)))
    for x, y in zip(*ends, strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("noise", ["gradient", "gradient, dt", "aligned", "isotropic"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_given_normals(other, noise, dtype):
    plan = Plan(steps=8, trajectories=N, dtype=dtype)
    reference, run = (engine(PROBLEMS["deep"], METHODS[noise], plan) for engine in (Reference, other))
    assert run.normals_per_step == reference.normals_per_step == run._kernel.normals_per_step
    normals = np.random.default_rng(3).standard_normal((N, 8, run.normals_per_step))
    ends = [e.weights(e.advance(e.init(), 8, normals)) for e in (reference, run)]
    for x, y in zip(*ends, strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_nothing(other, method):
    ends = []
    for threads in (1, 2, 3):
        plan = Plan(steps=9, trajectories=67, threads=threads, events=("learning_time", "noise_peak"))
        run = other(PROBLEMS["deep"], METHODS[method], plan)
        ends.append(run.advance(run.init(), 9).to_bytes())
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "method"), pairs(["deep", "coloured"]))
def test_instruction_sets_with_fused_multiply_add_agree_to_the_bit(name, method, dtype):
    if method not in DISCRETE and dtype == "float32":
        return
    plan = Plan(steps=9, trajectories=N, dtype=dtype)
    ends = []
    for instruction_set in _kernel.instruction_sets():
        if instruction_set != "baseline":
            run = engine_class("native")(PROBLEMS[name], METHODS[method], plan, instruction_set=instruction_set)
            ends.append(run.advance(run.init(), 9))
    for end in ends[1:]:
        for a, b in zip(ends[0].weights, end.weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_kernel_and_its_twin_share_their_constants():
    """Thresholds of learning times, sizes of tables, and what each observable has a number for."""
    engine = Native(PROBLEMS["wide"], SGD(lr=0.01, batch_size=2), Plan(steps=1))
    modes, layers = len(engine.problem.data.modes.strengths), engine.problem.network.depth
    lengths = {"mode": modes, "rank": modes, "layer": layers, "interface": layers - 1}
    assert _kernel.thresholds == observables.THRESHOLDS
    assert (_kernel.panel, _kernel.correlator_row) == (finite.PANEL, correlator.ROW)
    for name, shape in engine._kernel.columns:
        assert shape == [lengths[dim] for dim in observables.OBSERVABLES[name].dims], name
