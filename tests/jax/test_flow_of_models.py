"""Gradient flow of a Model: against closed forms, other integrators and the compiled engine; free of its saves."""

from dataclasses import replace

import diffrax
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax
from saddlescope.engines.jax.ensemble import Ensemble
from saddlescope.engines.native import Native
from support import waves

RNG = np.random.default_rng(2)
X = RNG.standard_normal((6, 3))
DATA = sc.Examples(X, RNG.standard_normal((6, 2)))
UNOPTIMISED = True
LR = 0.1


def layers(activation):
    def apply(params, x):
        return activation(x @ params["w1"].T) @ params["w2"].T

    return apply


def init(key):
    return jax.tree.map(lambda leaf: 0.5 * leaf, waves(key, {"w1": (4, 3), "w2": (2, 4)}))


TANH = sc.Model(layers(jnp.tanh), init)
FLOW = sc.GradientFlow(LR)


def engine(model, method=FLOW, data=DATA, **plan):
    return Ensemble(sc.Problem(model, data), method, sc.Plan(**{"steps": 40, "trajectories": 3} | plan))


def at(model, method, step, **plan):
    """Leaves of all members at a step."""
    made = engine(model, method, **plan)
    return made.weights(made.advance(made.init(), step))


@pytest.fixture(scope="module")
def tanh():
    return engine(TANH)


def apart(first, second) -> float:
    return max(float(np.abs(np.asarray(a) - b).max()) for a, b in zip(first, second, strict=True))


def test_one_layer_with_decay_follows_the_matrix_exponential():
    model = sc.Model(lambda p, x: x @ p["w"].T, lambda key: waves(key, {"w": (2, 3)}))
    made = engine(model, sc.GradientFlow(LR, weight_decay=0.3))
    state = made.init()
    start, at_end = made.weights(state)[0], made.weights(made.advance(state, 25))[0]
    values, vectors = np.linalg.eigh(X.T @ X / 6 + 0.3 * np.eye(3))
    fixed = (DATA.Y.T @ X / 6) @ vectors / values @ vectors.T
    fade = vectors * np.exp(-values * LR * 25) @ vectors.T
    assert np.abs(at_end - (fixed + (start - fixed) @ fade)).max() < 1e-10
    without = vectors * np.exp(-(values - 0.3) * LR * 25) @ vectors.T
    assert np.abs(at_end - (fixed + (start - fixed) @ without)).max() > 1e-2


def test_it_agrees_with_an_integrator_of_order_8(tanh):
    state = tanh.init()
    with _jax.precision("float64"):
        start = {"w1": jnp.asarray(state.weights[0][1]), "w2": jnp.asarray(state.weights[1][1])}
        x, y = jnp.asarray(DATA.X), jnp.asarray(DATA.Y)

        def slope(t, params, args):
            return jax.tree.map(jnp.negative, jax.grad(lambda p: TANH.losses(p, x, y).mean())(params))

        control = diffrax.PIDController(rtol=1e-12, atol=1e-13)
        wanted = diffrax.diffeqsolve(
            diffrax.ODETerm(slope), diffrax.Dopri8(), 0.0, 30 * LR, 0.01, start, stepsize_controller=control
        ).ys
        wanted = [np.asarray(wanted[name][-1]) for name in ("w1", "w2")]
    found = [leaf[1] for leaf in tanh.weights(tanh.advance(state, 30))]
    assert apart(found, wanted) < 1e-9


def test_it_is_the_limit_of_gradient_descent(tanh):
    """GD with steps h and h/2 has errors O(h): their extrapolation has O(h²)."""
    whole = tanh.weights(tanh.advance(tanh.init(), 10))

    def descent(parts):
        return at(TANH, sc.GD(LR / parts), 10 * parts, dtype="float64", steps=10 * parts)

    coarse, fine = descent(64), descent(128)
    assert apart([2 * b - a for a, b in zip(coarse, fine, strict=True)], whole) < 0.02 * apart(fine, whole) < 1e-3


def test_it_agrees_with_the_compiled_engine():
    data = sc.Dataset(DATA.X, DATA.Y)
    model = sc.Model(layers(lambda x: x), init)
    ours = engine(model, data=data)
    state = ours.init()
    given = sc.init.Given(tuple(leaf[0] for leaf in ours.weights(state)))
    plan = sc.Plan(steps=200, dtype="float64")
    native = Native(sc.Problem(sc.DeepLinear((3, 4, 2)), data, given), FLOW, plan)
    theirs = native.weights(native.advance(native.init(), 200))
    found = ours.weights(ours.advance(state, 200))
    assert apart([leaf[:1] for leaf in found], theirs) < 1e-8


def test_saves_stops_and_resumes_leave_no_trace(tanh):
    direct = tanh.advance(tanh.init(), 33)
    state = tanh.init()
    for until in (1, 2, 9, 10, 33):
        state = tanh.advance(type(state).from_bytes(state.to_bytes()), until)
        tanh.weights(state)
        tanh.observe(state)
    for first, second in zip((*direct.weights, direct.clock), (*state.weights, state.clock), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (direct.clock[:, 0] <= 33 * LR).all() and (direct.clock.sum(axis=1) > 33 * LR).all()


def test_members_do_not_depend_on_the_others(tanh):
    alone = engine(TANH, trajectories=1, members=(2, 0))
    rows = [leaf[[2, 0]] for leaf in tanh.weights(tanh.advance(tanh.init(), 20))]
    assert apart(alone.weights(alone.advance(alone.init(), 20)), rows) < 1e-13


def test_divergence_is_marked():
    """``dw/dt = w³`` from 1 grows without bound at t = 1/2."""
    model = sc.Model(lambda p, x: x * p["w"], lambda key: {"w": jnp.ones(1)}, lambda f, y: -0.25 * f[:, 0] ** 4)
    made = engine(model, data=sc.Examples(np.ones((1, 1)), np.zeros((1, 1))))
    state = made.advance(made.init(), 3)
    assert (state.status == 0).all() and np.allclose(made.weights(state)[0], (1 - 0.6) ** -0.5, rtol=1e-9)
    lost = made.advance(state, 8)
    assert (lost.status == 5).all() or (lost.status == 4).all()
    assert np.isnan(made.weights(lost)[0]).all() and np.isnan(made.observe(lost)["loss"]).all()
    np.testing.assert_array_equal(made.advance(lost, 9).status, lost.status)


def test_leaves_without_gradient_do_not_stop_it():
    """A shift of all logits changes nothing: its gradient is rounding alone, relative errors of it are of order 1."""

    def apply(params, x):
        return x @ params["w"].T + params["shift"]

    model = sc.Model(apply, lambda key: waves(key, {"w": (3, 3)}) | {"shift": jnp.zeros(())}, "cross_entropy")
    made = engine(model, data=sc.Examples(X, [0, 1, 2, 0, 1, 2]))
    state = made.advance(made.init(), 40)
    assert (state.status == 0).all() and np.abs(made.weights(state)[0]).max() < 1e-12


def test_kinks_do_not_stop_it():
    model = sc.Model(layers(jax.nn.relu), init)
    made = engine(model)
    state = made.init()
    losses = [made.observe(state := made.advance(state, until))["loss"] for until in (10, 20, 40)]
    assert (state.status == 0).all() and (np.diff(losses, axis=0) < 0).all()


def test_a_run_of_gradient_flow(tmp_path):
    problem = sc.Problem(TANH, DATA)
    plan = sc.Plan(steps=20, trajectories=2, saves=4)
    run = sc.simulate(problem, FLOW, plan, out=tmp_path / "run.zarr")
    longer = sc.simulate(problem, FLOW, replace(plan, steps=40, saves=8))
    np.testing.assert_array_equal(run.loss.values, longer.loss.values[..., : run.sizes["time"]])
