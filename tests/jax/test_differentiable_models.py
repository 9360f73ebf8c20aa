"""A run of a Model as a function: values of simulate, slopes of finite differences; its terms for diffrax."""

import numpy as np
import pytest

import saddlescope as sc
from saddlescope._jax import precision

UNOPTIMISED = True

jax = pytest.importorskip("jax")
jnp = jax.numpy

N, DX, H = 6, 2, 3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, DX))
NOISY = sc.Examples(X, RNG.standard_normal((N, 1)), label_noise=0.5)
CLASSES = sc.Examples(X, np.arange(N) % 2, labels=sc.labels.Flips(0.2))


def init(outputs):
    def draw(key):
        shift = jax.random.uniform(key)
        one, two = jnp.cos(7.0 * jnp.arange(H * DX) + shift), jnp.sin(5.0 * jnp.arange(outputs * H) + shift)
        return {"w1": one.reshape(H, DX), "w2": two.reshape(outputs, H)}

    return draw


def apply(params, x):
    return jnp.tanh(x @ params["w1"].T) @ params["w2"].T


REGRESSION = sc.Problem(sc.Model(apply, init(1)), NOISY)
CLASSIFICATION = sc.Problem(sc.Model(apply, init(2), "cross_entropy"), CLASSES)
SEEN = [sc.observe.NoiseRate("norm", lambda params: (params["w1"] ** 2).sum())]
PLAN = sc.Plan(steps=7, trajectories=2, save_at=(0, 3, 7), keep="weights", seed=5, observe=SEEN)
METHODS = {
    "sgd": (REGRESSION, sc.SGD(0.05, 3, "shuffle", momentum=0.5, weight_decay=0.1, schedule=sc.schedules.Warmup(5))),
    "langevin": (REGRESSION, sc.Langevin(0.1, 4, dt=0.05, weight_decay=0.1)),
    "few samples": (CLASSIFICATION, sc.Langevin(0.1, 4, samples=5)),
    "adam": (REGRESSION, sc.Adam(0.1, 3, weight_decay=0.1)),
}
CLASSES_OF_LANGEVIN = (CLASSIFICATION, sc.Langevin(0.1, 4))


@pytest.fixture(scope="module", params=METHODS)
def case(request):
    """A run, its arguments, what it finds, and a compiled function: a number, what was found, and its slopes."""
    problem, method = METHODS[request.param]
    run = sc.differentiable(problem, method, PLAN)
    arguments = {"weights": run.weights, "lr": method.lr, "weight_decay": method.weight_decay}
    if isinstance(method, sc.Langevin):
        arguments["temperature"] = method.temperature
    if problem is REGRESSION:
        arguments["label_noise"] = NOISY.label_noise

    def value(arguments):
        found = run(**arguments)
        ends = sum((jnp.cos(jnp.arange(w[0].size)) * w.reshape(len(w), -1)).sum() for w in found["weights"])
        return ends + found["loss"].sum() + found["norm_noise"].sum(), found

    return run, arguments, jax.jit(jax.value_and_grad(value, has_aux=True))


def test_its_values_are_those_of_simulate(case):
    run, arguments, value = case
    wanted = sc.simulate(run.problem, run.step.method, PLAN, progress=False)
    with precision("float64"):
        (_, found), _ = value(arguments)
    for name in ("loss", "norm", "norm_noise"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-11, atol=1e-13)
    for leaf, weights in zip(run.problem.network.leaves, found["weights"], strict=True):
        np.testing.assert_allclose(weights, wanted[leaf.name], rtol=1e-11, atol=1e-13)


def test_its_derivatives_are_those_of_finite_differences(case):
    run, arguments, value = case
    shifts = tuple(np.cos(np.arange(w.size)).reshape(w.shape) for w in run.weights)

    def moved(name, step):
        if name != "weights":
            return {**arguments, name: arguments[name] + step}
        return {**arguments, name: tuple(w + step * s for w, s in zip(run.weights, shifts, strict=True))}

    with precision("float64"):
        slopes = value(arguments)[1]
        slopes["weights"] = sum((g * s).sum() for g, s in zip(slopes["weights"], shifts, strict=True))
        for name in arguments:
            up, down = (value(moved(name, sign * 1e-5))[0][0] for sign in (1, -1))
            assert float(slopes[name]) == pytest.approx(float(up - down) / 2e-5, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("case", [METHODS["langevin"], CLASSES_OF_LANGEVIN], ids=["label noise", "classes"])
def test_terms_have_the_drift_and_the_covariance_of_gradients_of_single_samples(case):
    problem, method = case
    sde, model, data = sc.to_diffrax(problem, method), problem.network, problem.data
    with precision("float64"):
        params = sde.y0(member=3)
        mean = data.targets_mean if data.labels else data.Y
        flat = jax.flatten_util.ravel_pytree

        @jax.jit
        def looked(params):
            theta, back = flat(params)
            operator = sde.diffusion(0.0, params, {"temperature": 0.02})
            columns = jax.linear_transpose(operator.mv, sde.noise_shape)
            rows = jax.vmap(lambda one: jnp.concatenate([n.ravel() for n in columns(back(one))[0]]))(
                jnp.eye(len(theta))
            )
            grads = jax.jacrev(lambda v: model.losses(back(v), jnp.asarray(data.X), jnp.asarray(mean)))(theta)
            outputs = jax.jacrev(lambda v: model.apply(back(v), jnp.asarray(data.X)))(theta)
            return flat(sde.drift(0.0, params))[0], rows @ rows.T, grads, outputs, theta

        drift, covariance, grads, outputs, theta = map(np.asarray, looked(params))
    np.testing.assert_allclose(drift, -grads.mean(0) - method.weight_decay * theta, rtol=1e-10)
    q = data.targets_mean
    label = [np.diag(p) - np.outer(p, p) for p in q] if data.labels else [data.label_noise**2 * np.eye(1)] * N
    fresh = np.mean([j.T @ k @ j for j, k in zip(outputs, label, strict=True)], axis=0)
    np.testing.assert_allclose(covariance, 0.02 * (np.cov(grads.T, bias=True) + fresh), rtol=1e-9, atol=1e-14)


def test_what_a_model_has_no_terms_for_is_refused():
    for method in (sc.Langevin(0.1, 4, "isotropic"), METHODS["few samples"][1]):
        with pytest.raises(ValueError, match='noise = "gradient" and no samples'):
            sc.to_diffrax(CLASSIFICATION, method)


def test_in_single_precision_values_and_derivatives_are_those_of_double_precision():
    problem, method = METHODS["langevin"]

    def value(run, lr):
        return run(lr=lr)["loss"][:, -1].mean()

    found = {}
    for dtype in ("float32", "float64"):
        with precision(dtype):
            run = sc.differentiable(problem, method, sc.Plan(steps=7, trajectories=2, saves=1, seed=5, dtype=dtype))
            # members of the two precisions start and move with different random numbers, but for those given here
            number, slope = jax.jit(jax.value_and_grad(lambda lr, run=run: value(run, lr)))(0.1)
            assert number.dtype == slope.dtype == dtype
            wanted = sc.simulate(problem, method, run.plan, progress=False).loss.sel(statistic="mean").isel(time=-1)
            up, down = (value(run, 0.1 + shift) for shift in (1e-2, -1e-2))
            found[dtype] = float(number - wanted) / float(wanted), float(slope), float(up - down) / 2e-2
    assert abs(found["float32"][0]) < 1e-5 and abs(found["float64"][0]) < 1e-12
    for _, slope, difference in found.values():
        assert slope == pytest.approx(difference, rel=2e-2)


def test_reverse_mode_holds_about_the_square_root_of_the_steps():
    problem, method = METHODS["sgd"]

    def held(steps):
        run = sc.differentiable(problem, method, sc.Plan(steps=steps, trajectories=2, saves=1, dtype="float32"))
        slope = jax.jit(jax.grad(lambda lr: run(lr=lr)["loss"][:, -1].sum()))
        return slope.lower(0.05).compile().memory_analysis().temp_size_in_bytes

    few, more, many = map(held, (100, 1600, 25_600))
    assert 2 < (many - more) / (more - few) < 8  # 4 for the square root, 16 if every state were held


def test_solutions_of_diffrax_have_the_law_of_simulate_and_at_twice_the_temperature_have_not():
    diffrax = pytest.importorskip("diffrax")
    start = init(1)(jax.random.key(0))  # the same for all members, so that all variance is that of the noise
    problem = sc.Problem(sc.Model(apply, lambda key: start), NOISY)
    method, members = sc.Langevin(0.05, 2, weight_decay=0.1), 1000
    plan = sc.Plan(steps=60, trajectories=members, save_at=(60,), seed=1, keep="trajectories", observe=SEEN)
    second = sc.simulate(problem, method, plan, progress=False).norm.values[:, -1]
    sde, end = sc.to_diffrax(problem, method), method.lr * plan.steps

    @jax.jit
    def norms(temperature):
        def solved(key, member):
            path = diffrax.VirtualBrownianTree(0.0, end, tol=method.lr / 2, shape=sde.noise_shape, key=key)
            step = diffrax.Euler(), 0.0, end, method.lr
            ends = diffrax.diffeqsolve(sde.terms(path), *step, member, {"temperature": temperature}).ys
            return (ends["w1"] ** 2).sum()

        return jax.vmap(solved)(jax.random.split(jax.random.key(3), members), sde.y0(range(members), seed=1))

    def apart(first):
        """Differences of mean and of variance, in standard errors."""
        middle = np.concatenate([first, second]).mean()
        pairs = (first, second), ((first - middle) ** 2, (second - middle) ** 2)
        return [(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / members) for a, b in pairs]

    with precision("float64"):
        same, hotter = (apart(np.asarray(norms(factor * method.temperature))) for factor in (1.0, 2.0))
    assert np.abs(same).max() < 4  # false alarms: 1.3e-4
    assert np.abs(hotter).max() > 4
