"""Langevin and gradient flow by the solvers of diffrax, an independent integrator: its steps, its laws, and Itô."""

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope._jax import precision
from saddlescope.engines.reference import Reference
from support import FALSE_ALARM, METHODS, PROBLEMS, dataset, follows

jax = pytest.importorskip("jax")
diffrax = pytest.importorskip("diffrax")
jnp = jax.numpy

UNOPTIMISED = True
START = sc.init.Gaussian(scale=0.5)
OTHERS = {
    "data set": sc.Problem(sc.DeepLinear((3, 5, 2)), dataset(30, 3, 2), START),
    "few samples": sc.Problem(sc.DeepLinear((5, 5, 3)), dataset(8, 5, 3), START),
    "chains": sc.Problem(sc.Diagonal(3, width=4), sc.GaussianData([[-1.5]], [[2.0]], label_noise=0.5), START),
    "chains, data set": sc.Problem(sc.Diagonal(2, width=2), dataset(20, 1, 1), START),
    "chains, moments": sc.Problem(sc.Diagonal(2, width=2), sc.Moments(2, 2, 3, 1, 1), START),
}
LANGEVIN = [n for n, m in METHODS.items() if isinstance(m, sc.Langevin) and m.schedule is None]
PAIRS = [("deep", name) for name in LANGEVIN]
PAIRS += [(name, "gradient") for name in [*OTHERS, "coloured", "rank 2", "repeated"]]
PAIRS += [("data set", "isotropic"), ("chains", "isotropic, dt"), ("chains", "gradient, order 2")]


def named(name):
    return OTHERS.get(name) or PROBLEMS[name]


# --- one step


@pytest.mark.parametrize(("problem", "method"), PAIRS)
def test_a_step_of_euler_is_a_step_of_the_reference_engine(problem, method):
    problem, method = named(problem), METHODS[method]
    engine = Reference(problem, method, sc.Plan(steps=1, members=(3,)))
    normals = np.random.default_rng(0).standard_normal((1, 1, engine.normals_per_step))
    expected = engine.weights(engine.advance(engine.init(), 1, normals))
    sde, dt = sc.to_diffrax(problem, method), method.time_step

    @jax.jit
    def moved(y, increments):
        noise = sde.diffusion(0.0, y).mv(increments)
        return [w + dt * d + n for w, d, n in zip(y, sde.drift(0.0, y), noise, strict=True)]

    with precision("float64"):
        got = moved(sde.y0(member=3), dt**0.5 * normals[0, 0])
    for layer, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(layer, wanted[0], rtol=1e-13, atol=1e-14)


class Walk(diffrax.AbstractPath):
    """A Brownian motion with these increments, one for each of the steps of a solver."""

    increments: jax.Array
    t0 = 0.0
    t1 = 1.0

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        return self.increments[jnp.round(t0 * len(self.increments)).astype(int)]


def test_diffeqsolve_takes_the_steps_of_the_reference_engine():
    problem, method = PROBLEMS["wide"], sc.Langevin(0.05, 4)
    engine = Reference(problem, method, sc.Plan(steps=20))
    normals = np.random.default_rng(1).standard_normal((1, 20, engine.normals_per_step))
    expected = engine.weights(engine.advance(engine.init(), 20, normals))
    sde = sc.to_diffrax(problem, method)
    with precision("float64"):
        terms = sde.terms(Walk(jnp.asarray(normals[0]) * 0.05**0.5))
        ys = diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, 1.0, 0.05, sde.y0()).ys
        strengths = sde.mode_strength(ys)
    for got, wanted in zip(ys, expected, strict=True):
        np.testing.assert_allclose(got[0], wanted[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(strengths, sc.observables.mode_strength(problem.data, expected), rtol=1e-10)


def test_gradient_flow():
    problem, flow = PROBLEMS["repeated"], sc.GradientFlow(0.1, weight_decay=0.2)
    run = sc.simulate(problem, flow, sc.Plan(steps=10, saves=1, keep="trajectories"), engine="reference")
    sde = sc.to_diffrax(problem, flow)
    with precision("float64"):
        control = diffrax.PIDController(rtol=1e-10, atol=1e-12)
        ys = diffrax.diffeqsolve(sde.terms(), diffrax.Tsit5(), 0.0, 1.0, 0.01, sde.y0(), stepsize_controller=control).ys
        strengths = sde.mode_strength(ys)
    np.testing.assert_allclose(strengths[-1], run.mode_strength[0, -1], rtol=1e-7)


# --- laws


def solution(sde, solver, members, end, dt):
    """``temperature -> mode strengths (members, m) at the end``, each member on its Brownian motion; single precision.

    Compiled once.
    """

    def strength(key, y0, temperature):
        path = diffrax.UnsafeBrownianPath(shape=sde.noise_shape, key=key)
        args, forward = {"temperature": temperature}, diffrax.ForwardMode()
        ys = diffrax.diffeqsolve(sde.terms(path), solver, 0.0, end, dt, y0, args, adjoint=forward).ys
        return sde.mode_strength(ys)[-1]

    keys, y0 = jax.random.split(jax.random.key(5), members), sde.y0(range(members))
    ensemble = jax.jit(jax.vmap(strength, (0, 0, None)))
    return lambda temperature: np.asarray(ensemble(keys, y0, temperature), float)


def agree(first, second):
    """Whether mean and variance of every column of two samples are alike, at FALSE_ALARM over all of them."""
    bound = stats.norm.isf(FALSE_ALARM / 4 / first.shape[1])

    def close(a, b):
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        return (np.abs(a.mean(axis=0) - b.mean(axis=0)) <= bound * error).all()

    squares = [(sample - sample.mean(axis=0)) ** 2 for sample in (first, second)]
    return bool(close(first, second) and close(*squares))


def test_mean_and_variance_of_mode_strengths_are_those_of_the_native_engine():
    data = sc.GaussianData([[1.5, 0.0], [0.0, 0.7]], label_noise=0.5)
    problem = sc.Problem(sc.DeepLinear((2, 3, 2)), data, sc.init.Gaussian(scale=0.4))
    method = sc.Langevin(lr=0.02, temperature=0.06)
    plan = sc.Plan(steps=75, trajectories=20_000, saves=1, keep="trajectories", seed=9)
    native = sc.simulate(problem, method, plan).mode_strength[:, -1].values
    sde = sc.to_diffrax(problem, method)
    strengths = solution(sde, diffrax.Euler(), 4000, 1.5, 0.02)
    assert agree(strengths(0.06), native)
    assert not agree(strengths(0.08), native), "a wrong temperature must be rejected"


MODE = sc.Problem(sc.Diagonal(depth=2), sc.GaussianData([[1.0]], label_noise=1.0), sc.init.Balanced(scale=0.6))


@pytest.mark.parametrize("solver", ["Euler", "ItoMilstein", "Heun"])
def test_solvers_of_ito_have_the_law_of_the_mode_and_one_of_stratonovich_has_not(solver):
    method = sc.Langevin(lr=0.02, temperature=0.05)
    law = sc.theory.mode_sde(MODE, method, 0).evolve(0.36, [2.0])[0]
    strengths = solution(sc.to_diffrax(MODE, method), getattr(diffrax, solver)(), 8000, 2.0, 0.02)
    assert follows(strengths(0.05), law) == (solver != "Heun")
    assert not follows(strengths(0.07), law), "a wrong temperature must be rejected"


# --- numbers that may be replaced


def test_args_replace_the_numbers_of_the_method():
    problem = PROBLEMS["wide"]
    one = sc.to_diffrax(problem, sc.Langevin(0.05, temperature=0.01))
    data = sc.GaussianData(problem.data.teacher, None, 0.9, problem.data.left, problem.data.right)
    other = sc.to_diffrax(
        sc.Problem(problem.network, data, problem.init), sc.Langevin(0.05, temperature=0.03, weight_decay=0.2)
    )
    args = {"temperature": 0.03, "label_noise": 0.9, "weight_decay": 0.2}
    assert other.args == pytest.approx(args)
    with precision("float64"):
        y, normals = one.y0(), jnp.linspace(-1.0, 1.0, one.noise_shape.shape[0])
        for a, b in zip(one.drift(0.0, y, args), other.drift(0.0, y), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        noise = one.diffusion(0.0, y, args).mv(normals), other.diffusion(0.0, y).mv(normals)
        for a, b in zip(*noise, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_solution_has_a_derivative_by_the_temperature():
    sde = sc.to_diffrax(MODE, sc.Langevin(lr=0.05, temperature=0.05))
    with precision("float64"):
        path = Walk(0.2 * jnp.cos(jnp.arange(20.0))[:, None])

        @jax.jit
        def strength(temperature):
            args, adjoint = {"temperature": temperature}, diffrax.ForwardMode()
            ys = diffrax.diffeqsolve(
                sde.terms(path), diffrax.Euler(), 0.0, 1.0, 0.05, sde.y0(), args, adjoint=adjoint
            ).ys
            return sde.mode_strength(ys)[-1, 0]

        slope, h = float(jax.jvp(strength, (0.05,), (1.0,))[1]), 1e-5
        assert slope == pytest.approx(float(strength(0.05 + h) - strength(0.05 - h)) / (2 * h), rel=1e-6)


# --- what is refused


def test_what_is_not_a_differential_equation_is_refused():
    with pytest.raises(TypeError, match=r"method must be Langevin or GradientFlow, .*, got SGD"):
        sc.to_diffrax(MODE, sc.SGD(lr=0.1, batch_size=2))
    with pytest.raises(TypeError, match="problem must be such as"):
        sc.to_diffrax(None, sc.GradientFlow(0.1))
    with pytest.raises(ValueError, match="schedule must be left out"):
        sc.to_diffrax(MODE, sc.Langevin(0.1, 2, schedule=sc.schedules.Warmup(3)))
    sde, flow = sc.to_diffrax(MODE, sc.Langevin(0.1, 2)), sc.to_diffrax(MODE, sc.GradientFlow(0.1))
    with pytest.raises(TypeError, match="Langevin needs a Brownian motion"):
        sde.terms()
    with pytest.raises(TypeError, match="GradientFlow has no noise; leave out"):
        flow.terms(object())
    with pytest.raises(ValueError, match="gradient flow has no noise"):
        _ = flow.noise_shape
    with pytest.raises(TypeError, match=r"args have no entry 't'; allowed: .*did you mean 'temperature'"):
        sde.drift(0.0, sde.y0(), {"t": 0.1})
