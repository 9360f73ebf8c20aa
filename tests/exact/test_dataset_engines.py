"""Finite data sets: the compiled engine agrees with the reference, and results do not depend on how a run is cut."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope import GD, SGD, Dataset, DeepLinear, GradientFlow, Langevin, Plan, Problem, _kernel, init, simulate
from saddlescope.engines.native import Native
from saddlescope.engines.reference import Reference
from saddlescope.schedules import Cosine, Step, Warmup
from support import ENGINES, dataset, engine_class, whitened

pytestmark = pytest.mark.skipif("native" not in ENGINES, reason="the compiled engine is not built")

N, STEPS, LR = 21, 13, 0.01


def problem(widths, samples, scale=0.4, **data):
    return Problem(DeepLinear(widths), dataset(samples, widths[0], widths[-1], **data), init.Gaussian(scale=scale))


PROBLEMS = {
    "wide": problem((3, 7, 4), 23),
    "deep": problem((4, 8, 8, 5, 3), 19, scale=0.25),
    "regression": problem((4, 3), 12),
    "thin": problem((1, 1, 1), 12),
    "fewer samples than inputs": problem((7, 5, 2), 4),
    "many inputs": problem((9, 5, 1), 15),
    "one sample": problem((3, 4, 2), 1),
    "rank 2": problem((4, 8, 3), 17, rank=2),
    "linear labels": problem((3, 6, 2), 18, spread=0.0),
    "no label noise": problem((3, 6, 2), 18, label_noise=0.0),
    "many samples": problem((5, 6, 2), 400),
    "white": Problem(DeepLinear((3, 6, 2)), whitened(20, 3, 2), init.Gaussian(scale=0.4)),
}
METHODS = {
    "replacement 1": SGD(LR, 1),
    "replacement 3": SGD(LR, 3),
    "replacement 37": SGD(LR, 37),
    "without 1": SGD(LR, 1, "without"),
    "without 4": SGD(LR, 4, "without"),
    "without 17": SGD(LR, 17, "without"),
    "shuffle 1": SGD(LR, 1, "shuffle"),
    "shuffle 4": SGD(LR, 4, "shuffle"),
    "shuffle 17": SGD(LR, 17, "shuffle"),
    "full": SGD(LR, sampling="full"),
    "gd": GD(LR),
    "replacement 3, decay, steps": SGD(LR, 3, weight_decay=0.3, schedule=Step(2, 0.5)),
    "shuffle 4, decay, cosine": SGD(LR, 4, "shuffle", weight_decay=0.3, schedule=Cosine(9)),
    "full, decay, warm-up": SGD(LR, sampling="full", weight_decay=0.3, schedule=Warmup(4)),
    "gradient, order 2, decay": Langevin(LR, 2.5, order=2, weight_decay=0.3, schedule=Warmup(4, Cosine(9))),
    "gradient": Langevin(LR, 2.5),
    "gradient, dt": Langevin(LR, 2.5, dt=LR / 3),
    "aligned": Langevin(LR, 2.5, noise="aligned"),
    "isotropic": Langevin(LR, 2.5, noise="isotropic"),
    "isotropic, dt, decay": Langevin(LR, 2.5, noise="isotropic", dt=LR / 3, weight_decay=0.3, schedule=Warmup(4)),
    "replacement 2, momentum": SGD(LR / 4, 2, momentum=0.8),
    "shuffle 4, momentum, decay": SGD(LR, 4, "shuffle", momentum=0.6, weight_decay=0.3),
    "full, momentum": SGD(LR, sampling="full", momentum=0.9, schedule=Warmup(4)),
    "gd, momentum": GD(LR, momentum=0.7),
    "flow": GradientFlow(LR),
}


def runs(problem, method):
    data = problem.data
    fits = not isinstance(method, SGD) or method.sampling == "replacement" or (method.batch_size or 0) <= data.samples
    return fits and (getattr(method, "noise", "") != "aligned" or data.diagonal_in_modes)


PAIRS = [(p, m) for p in PROBLEMS for m in METHODS if runs(PROBLEMS[p], METHODS[m])]


def ends(problem, method, plan, normals=None):
    """Each engine with its end."""
    for name in ("reference", "native"):
        run = engine_class(name)(problem, method, plan)
        yield run, run.advance(run.init(), plan.steps, normals)


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_paths_and_observables(name, method):
    plan = Plan(steps=STEPS, trajectories=N, seed=4)
    (reference, a), (run, b) = ends(PROBLEMS[name], METHODS[method], plan)
    np.testing.assert_array_equal(a.words, b.words)
    np.testing.assert_array_equal(a.order, b.order)
    np.testing.assert_array_equal(a.learned, b.learned)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-10)
    observed, expected = run.observe(b), reference.observe(a)
    for key, value in expected.items():
        np.testing.assert_allclose(observed[key], value, rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize(("name", "method"), [pair for pair in PAIRS if pair[1] != "flow"])
def test_paths_in_float32(name, method):
    (reference, a), (run, b) = ends(PROBLEMS[name], METHODS[method], Plan(steps=5, trajectories=N, dtype="float32"))
    np.testing.assert_array_equal(a.words, b.words)
    np.testing.assert_array_equal(a.order, b.order)
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-3, atol=3e-5)


DISCRETE = [pair for pair in PAIRS if pair[1] != "flow"]


@pytest.mark.parametrize(("name", "method"), DISCRETE)
def test_noise_peaks(name, method):
    """The largest noise of every mode before it is learned, on both engines; in float64 the same step."""
    plan = Plan(steps=STEPS, trajectories=N, seed=4, events=("learning_time", "noise_peak"))
    (_, a), (_, b) = ends(PROBLEMS[name], METHODS[method], plan)
    np.testing.assert_array_equal(a.learned, b.learned)
    np.testing.assert_allclose(b.peak[:, 0], a.peak[:, 0], rtol=1e-7, atol=1e-12)
    same = a.peak[:, 1] == b.peak[:, 1]
    assert same.mean() > 0.99, "a tie is broken by rounding"
    np.testing.assert_allclose(b.peak[:, 2][same], a.peak[:, 2][same], rtol=1e-7, atol=1e-9)
    (_, c), (_, d) = ends(PROBLEMS[name], METHODS[method], replace(plan, dtype="float32"))
    np.testing.assert_allclose(d.peak[:, 0], c.peak[:, 0], rtol=2e-3, atol=1e-4 * np.abs(c.peak[:, 0]).max() + 1e-12)


@pytest.mark.parametrize("method", ["replacement 3", "without 4", "full", "gradient", "isotropic"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_noise_peak_is_the_largest_mode_noise_that_a_run_shows(engine, method):
    """Share of the sampling variance and temperature included."""
    given, plan = PROBLEMS["wide"], Plan(steps=STEPS, trajectories=4, seed=4, events=("noise_peak",))
    run = engine_class(engine)(given, METHODS[method], plan)
    state, shown = run.init(), []
    for step in range(STEPS):
        shown.append(run.observe(state)["mode_noise"])
        state = run.advance(state, step + 1)
    shown.append(run.observe(state)["mode_noise"])
    waiting = np.isinf(state.learned[:, -1])
    assert waiting.mean() > 0.5
    np.testing.assert_allclose(state.peak[:, 0][waiting], np.max(shown, axis=0)[waiting], rtol=1e-9)


@pytest.mark.parametrize("widths", [(3, 4, 2), (3, 2), (3, 5, 4, 2)])
@pytest.mark.parametrize("engine", ENGINES)
def test_samples_with_the_same_gradient_have_no_isotropic_noise(engine, widths):
    """The difference of two equal moments, which rounding must not leave negative: the path is that of GD."""
    x = np.random.default_rng(5).standard_normal((1, 3))
    signs = np.array([[1.0], [-1.0], [1.0]])
    for rows in (x, signs * x):
        data = Dataset(rows, rows @ [[1.0, 0.3], [-0.5, 2.0], [0.2, 0.7]])
        given = Problem(DeepLinear(widths), data, init.Gaussian(scale=0.4))
        noise, plan = ("diffusion_norm", "noise_to_drift"), Plan(steps=30, trajectories=N)
        for dtype, atol in (("float64", 1e-6), ("float32", 1e-2)):
            run, still = (
                simulate(given, method, replace(plan, dtype=dtype, observe=noise, keep="weights"), engine=engine)
                for method in (Langevin(LR, 2.5, noise="isotropic"), GD(LR))
            )
            assert not run.status.any()
            assert (run.diffusion_norm < 1e-6).all()
            np.testing.assert_allclose(run.W1, still.W1, atol=atol)


@pytest.mark.parametrize("method", ["replacement 3", "shuffle 4", "full", "isotropic", "replacement 2, momentum"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_routes_and_instruction_sets_give_the_same_bits(method, dtype):
    plan = Plan(steps=9, trajectories=N, dtype=dtype, events=("learning_time", "noise_peak"))
    fused = [name for name in _kernel.instruction_sets() if name != "baseline"] or ["baseline"]
    for name in ("wide", "rank 2", "many inputs"):
        runs = [Native(PROBLEMS[name], METHODS[method], plan, s, r) for s in fused for r in ("lanes", "one by one")]
        first, *others = (run.advance(run.init(), 9).to_bytes() for run in runs)
        assert all(other == first for other in others)


def test_both_ways_to_langevin_noise_are_taken():
    taken = {name: PROBLEMS[name].data.noise_factor is not None for name in PROBLEMS}
    assert taken["many samples"] and taken["linear labels"]
    assert not taken["many inputs"]


@pytest.mark.parametrize("name", ["many samples", "many inputs", "rank 2"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_given_normals(name, dtype):
    engine = Reference(PROBLEMS[name], METHODS["gradient"], Plan(steps=3, trajectories=N, dtype=dtype))
    normals = np.random.default_rng(3).standard_normal((N, 3, engine.normals_per_step))
    (reference, a), (run, b) = ends(engine.problem, METHODS["gradient"], engine.plan, normals)
    assert run.normals_per_step == engine.normals_per_step == run._kernel.normals_per_step
    for x, y in zip(reference.weights(a), run.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("events", [(), ("learning_time",)])
def test_threads_members_cuts_and_resumes_change_nothing(method, events):
    problem = PROBLEMS["white"]
    plan = Plan(steps=STEPS, trajectories=67, seed=6, threads=1, events=events)
    native = engine_class("native")
    whole = native(problem, METHODS[method], plan)
    end = whole.advance(whole.init(), STEPS)
    cut = native(problem, METHODS[method], Plan(steps=STEPS, trajectories=67, seed=6, threads=3, events=events))
    state = cut.init()
    for until in (1, 2, 7, STEPS):
        state = type(state).from_bytes(cut.advance(state, until).to_bytes())
    assert state.to_bytes() == end.to_bytes()
    few = native(problem, METHODS[method], Plan(steps=STEPS, members=[40, 3], seed=6, events=events))
    some = few.advance(few.init(), STEPS)
    for layer, own in zip(end.weights, some.weights, strict=True):
        np.testing.assert_array_equal(layer[[40, 3]], own)
    np.testing.assert_array_equal(end.order[[40, 3]], some.order)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("flow", "gd")])
def test_instruction_sets_with_fused_multiply_add_agree_to_the_bit(method, dtype):
    plan, last = Plan(steps=9, trajectories=N, dtype=dtype), None
    for instruction_set in _kernel.instruction_sets():
        if instruction_set == "baseline":
            continue
        run = engine_class("native")(PROBLEMS["white"], METHODS[method], plan, instruction_set=instruction_set)
        end = run.advance(run.init(), 9).to_bytes()
        assert last in (None, end)
        last = end


def test_a_state_is_not_changed_by_going_on():
    for run, end in ends(PROBLEMS["wide"], METHODS["shuffle 4"], Plan(steps=3, trajectories=2)):
        before = end.to_bytes()
        run.advance(end, 9)
        assert end.to_bytes() == before
