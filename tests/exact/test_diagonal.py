"""Diagonal networks: every engine agrees with the reference, and every step with theory, to rounding."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import Plan, _kernel
from saddlescope.engines.reference import Reference
from support import ENGINES, LR, METHODS, engine_class

OTHERS = [name for name in ENGINES if name != "reference"]
STEPS, N = 30, 21
DATA = {
    "white": sc.GaussianData([[1.5]], label_noise=0.5),
    "noiseless": sc.GaussianData([[1.5]]),
    "negative": sc.GaussianData([[-1.2]], covariance=[[0.7]], label_noise=0.3),
    "moments": sc.Moments(0.4, -0.3, 0.9, 1.1, -0.8),
    "data set": sc.Dataset([[1.0], [-0.5], [0.4], [2.0]], [[1.0], [0.1], [0.9], [1.6]], label_noise=0.3),
    "label noise alone": sc.Moments(0.0, 0.0, 0.9, 1.1, 0.8),
}
CASES = [((1, 3), "white"), ((2, 1), "label noise alone"), ((2, 4), "noiseless"), ((5, 2), "negative")]
CASES += [((3, 2), "moments"), ((2, 3), "data set")]
DISCRETE = [name for name, method in METHODS.items() if not isinstance(method, sc.GradientFlow)]


def problem(shape, data, scale=0.6, init=None):
    return sc.Problem(sc.Diagonal(*shape), DATA[data], init or sc.init.Gaussian(scale=scale))


def pairs():
    """Every case with every method that can run on it."""
    given = [name for name, data in DATA.items() if isinstance(data, sc.Moments)]
    return [(*case, m) for case in CASES for m in METHODS if case[1] not in given or not isinstance(METHODS[m], sc.SGD)]


def ends(engine, *run, normals=None):
    made = engine(*run)
    return made, made.advance(made.init(), run[2].steps, normals)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize(("shape", "data", "method"), pairs())
def test_paths_events_and_observables(other, shape, data, method):
    peaks = () if data == "data set" else ("noise_peak",)
    plan = Plan(steps=STEPS, trajectories=N, seed=4, events=("learning_time", *peaks))
    run = problem(shape, data), METHODS[method], plan
    (reference, a), (made, b) = ends(Reference, *run), ends(engine_class(other), *run)
    np.testing.assert_array_equal(a.words, b.words)
    np.testing.assert_array_equal(a.status, b.status)
    np.testing.assert_array_equal(a.learned, b.learned)
    np.testing.assert_allclose(b.peak, a.peak, rtol=1e-9, atol=1e-15)
    for x, y in zip(reference.weights(a), made.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-10)
    observed, expected = made.observe(b), reference.observe(a)
    assert observed.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(observed[key], value, rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("method", DISCRETE)
def test_paths_in_float32(other, method):
    run = problem((3, 2), "negative"), METHODS[method], Plan(steps=STEPS, trajectories=N, dtype="float32")
    (reference, a), (made, b) = ends(Reference, *run), ends(engine_class(other), *run)
    np.testing.assert_array_equal(a.words, b.words)
    for x, y in zip(reference.weights(a), made.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("noise", ["gradient", "gradient, dt", "aligned", "isotropic"])
def test_given_normals(other, noise):
    run = problem((3, 2), "moments"), METHODS[noise], Plan(steps=8, trajectories=N)
    count = Reference(*run).normals_per_step
    assert engine_class(other)(*run).normals_per_step == count == (6 if noise == "isotropic" else 1)
    normals = np.random.default_rng(3).standard_normal((N, 8, count))
    (reference, a), (made, b) = (ends(engine, *run, normals=normals) for engine in (Reference, engine_class(other)))
    for x, y in zip(reference.weights(a), made.weights(b), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(not OTHERS, reason="not built")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", DISCRETE)
def test_threads_cuts_and_instruction_sets_change_nothing(method, dtype):
    found = []
    for instruction_set in [name for name in _kernel.instruction_sets() if name != "baseline"]:
        for threads in (1, 3):
            run = (
                problem((4, 2), "white"),
                METHODS[method],
                Plan(steps=9, trajectories=67, dtype=dtype, threads=threads),
            )
            engine = engine_class("native")(*run, instruction_set=instruction_set)
            found.append(engine.advance(engine.advance(engine.init(), 4 * threads // 3), 9).to_bytes())
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("method", ["gd", "sgd 1", "sgd 2", "sgd 64"])
@pytest.mark.parametrize("covariance", [None, [[0.7]]])
def test_one_chain_is_the_deep_linear_network_of_width_one(engine, method, covariance, dtype):
    """The same numbers from the same streams; bit-identical on the compiled engine."""
    data, plan = sc.GaussianData([[1.5]], covariance, label_noise=0.5), Plan(steps=20, trajectories=N, dtype=dtype)
    for depth in (1, 2, 4):
        runs = [
            ends(engine, sc.Problem(network, data, sc.init.Gaussian(scale=0.6)), METHODS[method], plan)[1]
            for network in (sc.Diagonal(depth, 1), sc.DeepLinear((1,) * (depth + 1)))
        ]
        for x, y in zip(runs[0].weights, runs[1].weights, strict=True):
            tolerance = 0 if engine.name == "native" else 10 * np.finfo(dtype).eps
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sampling", ["replacement", "without", "shuffle", "full"])
def test_batches_of_a_data_set(other, sampling, dtype):
    """The two engines alike; and one chain like the deep linear network of width one."""
    method = sc.SGD(LR, None if sampling == "full" else 3, sampling)
    plan = Plan(steps=STEPS, trajectories=N, dtype=dtype)
    tolerance = 1e-9 if dtype == "float64" else 1e-4
    for network in (sc.Diagonal(3, 2), sc.Diagonal(3, 1)):
        run = sc.Problem(network, DATA["data set"], sc.init.Gaussian(scale=0.6)), method, plan
        (reference, a), (made, b) = ends(Reference, *run), ends(engine_class(other), *run)
        np.testing.assert_array_equal(a.words, b.words)
        np.testing.assert_array_equal(a.order, b.order)
        for x, y in zip(reference.weights(a), made.weights(b), strict=True):
            np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance)
    deep = sc.Problem(sc.DeepLinear((1, 1, 1, 1)), DATA["data set"], sc.init.Gaussian(scale=0.6))
    for x, y in zip(ends(engine_class(other), deep, method, plan)[1].weights, b.weights, strict=True):
        np.testing.assert_allclose(y, x, rtol=tolerance, atol=tolerance)


# --- identities of a step


def transitions(engine, run, method, steps=12):
    """Weights before and after every step, and ηḠ from a single chain."""
    made = engine(run, method, Plan(steps=steps, trajectories=5, seed=5))
    state = made.init()
    for step in range(steps):
        before = made.weights(state)
        state = made.advance(state, step + 1)
        yield before, made.weights(state)


GRADIENT = ["gd", "sgd 1", "sgd 64", "gradient", "gradient, dt", "aligned"]


@pytest.mark.parametrize("width", [1, 2, 7])
@pytest.mark.parametrize("method", GRADIENT)
def test_two_layers_turn_into_sums_and_differences(engine, method, width):
    """``u + w ← (1 − ηḠ)(u + w)``, ``u − w ← (1 + ηḠ)(u − w)``: one factor for all chains, from any start."""
    for (u, w), (u1, w1) in transitions(engine, problem((2, width), "negative"), METHODS[method]):
        step = 1 - (u1 + w1) / (u + w)
        np.testing.assert_allclose(u1 - w1, (1 + step[:, :1]) * (u - w), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(u1 + w1, (1 - step[:, :1]) * (u + w), rtol=1e-12, atol=1e-14)
        assert np.abs(step).min() > 1e-7


def test_isotropic_noise_breaks_that(engine):
    for (u, w), (u1, w1) in transitions(engine, problem((2, 3), "white"), METHODS["isotropic"]):
        step = 1 - (u1 + w1) / (u + w)
        assert np.abs(u1 - w1 - (1 + step[:, :1]) * (u - w)).max() > 1e-4


@pytest.mark.parametrize("method", [m for m in GRADIENT if m != "gd"])
def test_ratios_of_balanced_chains(engine, method):
    """Same signs: no ratio ever changes. Opposite signs: ``log|v_i v_j|`` changes by ``2 log|1 − η²Ḡ²|``."""
    size = np.array([[0.3], [0.7], [0.5]])
    start = sc.init.Given([size, size * [[1], [1], [-1]]])
    for (u, w), (u1, w1) in transitions(engine, problem((2, 3), "white", init=start), METHODS[method]):
        before, after, step = u * w, u1 * w1, (u1[:, :1] - u[:, :1]) / w[:, :1]
        np.testing.assert_allclose(after[:, 0] / after[:, 1], before[:, 0] / before[:, 1], rtol=1e-13)
        change = np.log(np.abs(after[:, 0] * after[:, 2])) - np.log(np.abs(before[:, 0] * before[:, 2]))
        np.testing.assert_allclose(change, 2 * np.log(np.abs(1 - step[:, 0] ** 2)), atol=1e-13)


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("shape", [(2, 3), (4, 2)])
def test_balance_of_every_chain_changes_by_the_squared_gradients(engine, method, shape):
    for before, after in transitions(engine, problem(shape, "white"), METHODS[method]):
        change = [b - a for a, b in zip(before, after, strict=True)]
        for l in range(shape[0] - 1):
            old, new = (x[l + 1] ** 2 - x[l] ** 2 for x in (before, after))
            np.testing.assert_allclose(new - old, change[l + 1] ** 2 - change[l] ** 2, atol=1e-14)


def test_gradient_flow_keeps_every_difference_of_squares(engine):
    run = problem((4, 3), "moments"), sc.GradientFlow(0.1), Plan(steps=100, trajectories=5)
    made, end = ends(engine, *run)
    before, after = made.weights(made.init()), made.weights(end)
    for l in range(3):
        np.testing.assert_allclose(
            after[l + 1] ** 2 - after[l] ** 2, before[l + 1] ** 2 - before[l] ** 2, rtol=1e-10, atol=1e-10
        )


def test_gradient_flow_of_equal_chains_is_one_mode_in_its_own_time(engine):
    """``v = d u^L`` follows the flow of one chain in the time ``d^{2/L−1} t``."""
    for depth in (1, 2, 4):
        run = sc.Problem(sc.Diagonal(depth, 5), DATA["moments"], sc.init.Balanced(scale=0.2)), sc.GradientFlow(0.1)
        made, end = ends(engine, *run, Plan(steps=30))
        mode = sc.theory.mode_sde(*run, 0)
        np.testing.assert_allclose(made.observe(end)["mode_strength"][0, 0], mode.flow(3.0, 5 * 0.2**depth), rtol=1e-9)


# --- the noise of the gradient


def test_langevin_noise_is_that_of_deep_linear_networks():
    """Variance of ``Ḡ``: g(v) for every kind of data; for Gaussian data that of the closed form of the full network."""
    rng = np.random.default_rng(0)
    x, y = 0.3 + rng.standard_normal(50), rng.standard_normal(50)
    dataset = sc.Dataset(x[:, None], (y - 0.8 * x)[:, None], label_noise=0.4)
    for data in (*list(DATA.values())[:3], dataset):
        layers = [rng.standard_normal((6, 1, 1)) for _ in range(3)]
        one, full = (
            sc.observables.observe(sc.Problem(network, data, sc.init.Gaussian(scale=1.0)), 0.3, layers, share=1.0)
            for network in (sc.Diagonal(3, 1), sc.DeepLinear((1, 1, 1, 1)))
        )
        for key in one:
            np.testing.assert_allclose(one[key], full[key], rtol=1e-9, atol=1e-12, err_msg=key)
