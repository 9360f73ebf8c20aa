"""A run as a function: its values are those of simulate, its derivatives those of finite differences."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope._jax import precision
from support import dataset

jax = pytest.importorskip("jax")

UNOPTIMISED = True
NETWORK = sc.DeepLinear((2, 3, 2))
GAUSSIAN = sc.GaussianData([[1.5, 0.2], [0.0, 0.7]], label_noise=0.5)
START = sc.init.Gaussian(scale=0.4)
PLAN = sc.Plan(steps=17, trajectories=3, save_at=(0, 4, 17), keep="weights", seed=5)
CASES = {
    "langevin": (sc.Problem(NETWORK, GAUSSIAN, START), sc.Langevin(0.05, 4, weight_decay=0.1)),
    "chains": (
        sc.Problem(sc.Diagonal(3, width=2), sc.GaussianData([[-1.5]], [[2.0]], label_noise=0.5), START),
        sc.Langevin(0.05, 4, dt=0.02, order=2),
    ),
    "data set": (
        sc.Problem(NETWORK, dataset(12, 2, 2), START),
        sc.SGD(0.05, 3, "shuffle", momentum=0.4, weight_decay=0.1),
    ),
    "gd": (sc.Problem(NETWORK, GAUSSIAN, START), sc.GD(0.05, schedule=sc.schedules.Warmup(8))),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A run, and its arguments."""
    problem, method = CASES[request.param]
    run = sc.differentiable(problem, method, PLAN)
    arguments = {"weights": run.weights, "lr": method.lr, "weight_decay": method.weight_decay}
    if isinstance(method, sc.Langevin):
        arguments["temperature"] = method.temperature
    if method.source != "gd":
        arguments["label_noise"] = problem.data.label_noise
    return run, arguments


def test_its_values_are_those_of_simulate(case):
    run, arguments = case
    wanted = sc.simulate(run.problem, run.step.method, PLAN, engine="reference", progress=False)
    with precision("float64"):
        found = run(**arguments)
    for name in ("loss", "excess_loss", "mode_strength"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12, atol=1e-13)
    for layer, weights in enumerate(found["weights"], start=1):
        np.testing.assert_allclose(weights, wanted[f"W{layer}"], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(run.time, wanted.time)


def test_its_derivatives_are_those_of_finite_differences(case):
    run, arguments = case
    weight = np.random.default_rng(0).standard_normal((3, 3, len(run.problem.data.modes.strengths)))

    @jax.jit
    def value(arguments):
        found = run(**arguments)
        return (weight * found["mode_strength"]).sum() + found["loss"].sum()

    def difference(name, step=1e-6):
        if name != "weights":
            up, down = ({**arguments, name: arguments[name] + sign * step} for sign in (1, -1))
        else:
            shifts = [step * np.cos(np.arange(w.size)).reshape(w.shape) for w in run.weights]
            pairs = list(zip(run.weights, shifts, strict=True))
            up, down = ({**arguments, name: tuple(w + sign * s for w, s in pairs)} for sign in (1, -1))
        return float(value(up) - value(down)) / (2 * step)

    with precision("float64"):
        slopes = jax.grad(value)(arguments)
        for name in arguments.keys() - {"weights"}:
            assert float(slopes[name]) == pytest.approx(difference(name), rel=1e-6, abs=1e-8)
        along = sum(float((g.ravel() * np.cos(np.arange(g.size))).sum()) for g in slopes["weights"])
        assert along == pytest.approx(difference("weights"), rel=1e-6)


@pytest.fixture(scope="module")
def langevin():
    return sc.differentiable(
        CASES["chains"][0], sc.Langevin(0.05, 4), sc.Plan(steps=17, trajectories=3, saves=2, dtype="float32")
    )


def test_forward_mode_and_batches_agree_with_reverse_mode(langevin):
    def loss(temperature):
        return langevin(temperature=temperature)["excess_loss"][:, -1].mean()

    temperatures = np.array([0.005, 0.0125, 0.03], np.float32)
    values, slopes = jax.jit(jax.vmap(lambda T: jax.jvp(loss, (T,), (np.float32(1),))))(temperatures)
    assert float(values[1]) == pytest.approx(float(loss(temperatures[1])), rel=1e-5)
    assert float(slopes[1]) == pytest.approx(float(jax.grad(loss)(temperatures[1])), rel=1e-3)
    assert len(set(np.asarray(slopes).tolist())) == 3


def test_temperature_follows_the_learning_rate_unless_it_is_given(langevin):
    batch = langevin.step.method.batch_size
    follows, given = langevin(lr=0.03), langevin(lr=0.03, temperature=0.03 / batch)
    fixed = langevin(lr=0.03, temperature=langevin.step.temperature)
    np.testing.assert_allclose(follows["loss"], given["loss"], rtol=1e-6)
    assert not np.allclose(follows["loss"], fixed["loss"], rtol=1e-3)


@pytest.mark.parametrize("saves", [[100], [0], [0, 1], [7, 8, 64], range(0, 1001, 10), np.geomspace(1, 1e4, 40)])
def test_blocks_take_every_step_once(saves):
    from saddlescope.engines.jax.derivatives import WASTE, blocks

    saves = np.unique(np.asarray(list(saves), int))
    cut = blocks(saves)
    taken = [first + k for first, length in zip(cut.first, cut.length, strict=True) for k in range(length)]
    assert taken == list(range(saves[-1]))
    assert (cut.length <= cut.size).all()
    assert len(cut.first) * cut.size <= max(WASTE * saves[-1], 1)
    assert ((cut.first + cut.length)[cut.saved] == saves[saves > 0]).all()


def test_reverse_mode_holds_the_states_of_root_many_steps():
    problem = sc.Problem(sc.Diagonal(depth=2), sc.GaussianData([[1.0]]), START)

    def held(steps):
        run = sc.differentiable(problem, sc.GD(1e-3), sc.Plan(steps, trajectories=1024, saves=1, dtype="float32"))
        slope = jax.jit(jax.grad(lambda weights: run(weights)["loss"].sum()))
        return slope.lower(run.weights).compile().memory_analysis().temp_size_in_bytes

    assert held(6400) < 5 * held(400)  # all states: 16 times as much


def test_what_cannot_be_differentiated_is_refused(langevin):
    problem = langevin.problem
    with pytest.raises(TypeError, match="method must take steps, got GradientFlow"):
        sc.differentiable(problem, sc.GradientFlow(0.1), PLAN)
    with pytest.raises(TypeError, match="plan must be such as"):
        sc.differentiable(problem, sc.GD(0.1), 100)
    with pytest.raises(ValueError, match='dtype = "float64" of the plan needs 64-bit'):
        sc.differentiable(problem, sc.GD(0.1), PLAN)()
    short = sc.Plan(steps=2, dtype="float32")
    with pytest.raises(ValueError, match="temperature is an argument of Langevin, got one for GD"):
        sc.differentiable(problem, sc.GD(0.1), short)(temperature=0.1)
    clean = sc.Problem(NETWORK, sc.GaussianData(GAUSSIAN.teacher), START)
    with pytest.raises(ValueError, match="label_noise can replace one above 0"):
        sc.differentiable(clean, sc.GD(0.1), short)(label_noise=0.1)
