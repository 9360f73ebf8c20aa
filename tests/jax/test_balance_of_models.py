"""Balance of Models: the identity of a step to rounding, rates against NumPy by hand, and the law against ensembles."""

from functools import cache

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax, labels, observe
from saddlescope.engines.jax.ensemble import Ensemble
from saddlescope.networks import rescaling

UNOPTIMISED = True
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=(12, 2))
DATA = sc.Examples(X, Y)
NOISY = sc.Examples(X, Y, label_noise=0.7)
PAIR = sc.Pair(lower=(("w1", 0), ("b1", 0)), upper=("w2", 1))
SHAPES = {"w1": (5, 3), "b1": (5,), "w2": (2, 5)}


def init(key):
    """Weights of every member that compile in no time, unlike random ones."""
    word = jax.random.key_data(key)[-1] % 1000
    return {
        name: jnp.sin((1.3 + 0.01 * word) * jnp.arange(1.0, 1 + np.prod(shape))).reshape(shape)
        for name, shape in SHAPES.items()
    }


def net(phi):
    return lambda params, x: phi(x @ params["w1"].T + params["b1"]) @ params["w2"].T


RELU, TANH = sc.Model(net(jax.nn.relu), init), sc.Model(net(jnp.tanh), init)
CLASSES = sc.Model(net(jax.nn.relu), init, "cross_entropy")


def engine_of(model, data, method, observation, steps=40, trajectories=3, dtype="float64"):
    plan = sc.Plan(steps=steps, trajectories=trajectories, observe=[observation], dtype=dtype)
    return Ensemble(sc.Problem(model, data), method, plan)


def after(engine, steps):
    state = engine.advance(engine.init(), steps)
    return engine.observe(state), engine.weights(state)


# --- the identity of a step

SGD = sc.SGD(lr=0.1, batch_size=3, weight_decay=0.05, schedule=sc.schedules.Cosine(steps=60))


@pytest.mark.parametrize("method", [SGD, sc.Langevin(lr=0.1, batch_size=0.5, dt=0.03, weight_decay=0.05)])
def test_the_sum_over_all_steps_is_the_imbalance(method):
    engine = engine_of(RELU, NOISY, method, observe.Balance(PAIR, units=True))
    start, found = engine.observe(engine.init()), after(engine, 40)[0]
    assert found["imbalance"].shape == (3, 1, 5)
    assert np.allclose(start["imbalance"], start["imbalance_identity"], rtol=1e-14)
    assert np.abs(found["imbalance"] - start["imbalance"]).max() > 0.1
    assert np.abs(found["imbalance"] - found["imbalance_identity"]).max() < 1e-14


def test_a_run_in_single_precision_loses_only_what_the_weights_lose(tmp_path):
    plan = sc.Plan(steps=40, trajectories=2, saves=2, observe=[observe.Balance(PAIR)], dtype="float32")
    run = sc.simulate(sc.Problem(RELU, DATA), SGD, plan, out=tmp_path / "run.zarr")
    assert list(run["pair"].values) == ["b1+w1~w2"] and run["imbalance"].attrs["units"] == "weight²"
    assert sc.read(tmp_path / "run.zarr")[2] == plan
    mean = run.sel(statistic="mean")
    assert np.abs(mean["imbalance"] - mean["imbalance_identity"]).max() < 3e-6
    assert np.abs(mean["imbalance"] - mean["imbalance"][0]).max() > 0.1


@pytest.mark.parametrize(
    "method",
    [
        sc.SGD(lr=0.1, batch_size=3, momentum=0.5),
        sc.Langevin(lr=0.1, batch_size=0.5, noise="isotropic"),
        sc.Adam(lr=0.1, batch_size=3),
    ],
)
def test_methods_without_the_identity_say_nan(method):
    engine = engine_of(RELU, DATA, method, observe.Balance(PAIR))
    found = engine.observe(engine.init())
    assert np.isnan(found["imbalance_identity"]).all() and np.isfinite(found["imbalance"]).all()


def test_without_symmetry_the_sum_is_not_the_imbalance(monkeypatch):
    monkeypatch.setattr(rescaling, "check", lambda *arguments: None)
    engine = engine_of(TANH, DATA, SGD, observe.Balance(PAIR))
    found = after(engine, 40)[0]
    assert np.abs(found["imbalance"] - found["imbalance_identity"]).min() > 1e-3


# --- the parts of the rate, by hand


@cache
def gradient_of(model):
    return jax.jit(lambda p, x, y: jax.grad(lambda p: model.losses(p, x[None], y[None])[0])(p))


def gradients(model, params, x, y):
    """Gradient of every sample, one after the other (samples, …)."""
    with _jax.precision("float64"):
        rows = [gradient_of(model)(params, a, b) for a, b in zip(x, y, strict=True)]
        return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in SHAPES}


def sides(squares):
    """Per unit: ‖w2_:j‖² − ‖w1_j‖² − b1_j² of squared entries (…, leaf)."""
    return squares["w2"].sum(axis=-2) - squares["w1"].sum(axis=-1) - squares["b1"]


def variance(g):
    """Covariances along each weight of gradients (samples, leaf): the diagonal of C."""
    return {name: one.var(axis=0) for name, one in g.items()}


def params_of(weights, member):
    return dict(zip(sorted(SHAPES), (np.asarray(leaf[member]) for leaf in weights), strict=True))


@pytest.mark.parametrize(
    ("method", "share"),
    [
        (sc.SGD(lr=0.1, batch_size=3), 1.0),
        (sc.SGD(lr=0.1, batch_size=3, sampling="without"), 9 / 11),
        (sc.GD(lr=0.1), 0.0),
        (sc.Langevin(lr=0.1, batch_size=0.5, dt=0.02), 1.0),
    ],
)
def test_rates_by_hand_with_label_noise(method, share):
    """Labels y ± δ√dy e_k have mean y and covariance δ²I: their gradients hold all of the noise of labels."""
    engine = engine_of(RELU, NOISY, method, observe.Balance(PAIR, units=True), trajectories=2)
    state = engine.init()
    found, weights = engine.observe(state), engine.weights(state)
    temperature = engine.step.temperature
    for member in range(2):
        params = params_of(weights, member)
        sampled = gradients(RELU, params, X, Y)
        mean = {name: one.mean(axis=0) for name, one in sampled.items()}
        shifts = 0.7 * np.sqrt(2) * np.concatenate([np.eye(2), -np.eye(2)])
        fresh = [
            variance(gradients(RELU, params, np.repeat(x[None], 4, 0), y + shifts)) for x, y in zip(X, Y, strict=True)
        ]
        of_labels = {name: np.mean([one[name] for one in fresh], axis=0) for name in SHAPES}
        noise = temperature * (share * sides(variance(sampled)) + sides(of_labels))
        assert np.allclose(found["balance_noise"][member, 0], noise, rtol=1e-11, atol=1e-13)
        drift = engine.step.dt * sides({name: one**2 for name, one in mean.items()})
        assert np.allclose(found["balance_gradient"][member, 0], drift, rtol=1e-11, atol=1e-14)


def test_rates_by_hand_with_random_classes():
    """A class drawn from q: the covariance of the gradient over samples and classes together."""
    q = RNG.dirichlet(np.ones(2), 12)
    data = sc.Examples(X, q, labels=labels.Fresh())
    engine = engine_of(CLASSES, data, sc.SGD(lr=0.1, batch_size=3), observe.Balance(PAIR, units=True), trajectories=2)
    state = engine.init()
    found, weights = engine.observe(state), engine.weights(state)
    g = [gradients(CLASSES, params_of(weights, 0), X, np.full(12, k)) for k in range(2)]
    chance = {k: q[:, k] / 12 for k in range(2)}
    moments = {
        name: [sum(np.tensordot(chance[k], g[k][name] ** power, 1) for k in range(2)) for power in (1, 2)]
        for name in SHAPES
    }
    whole = sides({name: square - mean**2 for name, (mean, square) in moments.items()})
    assert np.allclose(found["balance_noise"][0, 0], engine.step.temperature * whole, rtol=1e-11, atol=1e-13)


def test_the_rate_is_the_mean_change_of_a_step():
    """One step of 1,000 members from the same weights: mean change over η against noise and gradient, five sigma."""
    start = init(jax.random.key(0))
    start["w2"] = 2 * start["w2"]
    model = sc.Model(RELU.apply, lambda key: start)
    engine = engine_of(model, NOISY, sc.SGD(lr=0.1, batch_size=3), observe.Balance(PAIR), 1, 1000)
    state = engine.init()
    before, now = engine.observe(state), engine.observe(engine.advance(state, 1))
    change = (now["imbalance"] - before["imbalance"])[:, 0] / 0.1
    predicted = (before["balance_noise"] + before["balance_gradient"])[0, 0]
    error = change.std() / np.sqrt(len(change))
    assert abs(change.mean() - predicted) < 5 * error < 0.2 * abs(predicted)
    assert abs(change.mean() - before["balance_gradient"][0, 0]) > 10 * error  # noise is what moves it


# --- as part of a run


def test_pairs_of_a_linear_model_are_the_interfaces_of_deep_linear():
    model = sc.Model(
        lambda p, x: x @ p["w1"].T @ p["w2"].T @ p["w3"].T,
        lambda key: {f"w{l}": jnp.sin(l * jnp.arange(1.0, 17)).reshape(4, 4) for l in (1, 2, 3)},
    )
    data = sc.Examples(RNG.normal(size=(20, 4)), RNG.normal(size=(20, 4)))
    balance = observe.Balance(model.find_pairs(data))
    engine = engine_of(model, data, sc.SGD(lr=0.01, batch_size=2), balance)
    state = engine.init()
    found, weights = engine.observe(state), engine.weights(state)
    assert np.allclose(found["imbalance"], sc.DeepLinear((4, 4, 4, 4)).imbalance_trace(weights), rtol=1e-12)


def test_units_are_filled_up_and_sum_to_the_pair():
    wide = (("w1", 5, 3), ("w2", 4, 5), ("w3", 2, 4))
    model = sc.Model(
        lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["w1"].T) @ p["w2"].T) @ p["w3"].T,
        lambda key: {n: jnp.cos(jnp.arange(1.0, 1 + a * b)).reshape(a, b) for n, a, b in wide},
    )
    pairs = model.find_pairs(DATA)
    assert [pair.name for pair in pairs] == ["w1~w2", "w2~w3"]
    method = sc.SGD(lr=0.01, batch_size=2)
    units, whole = (engine_of(model, DATA, method, observe.Balance(pairs, units=each)) for each in (True, False))
    each, total = units.observe(units.init()), whole.observe(whole.init())
    assert {name: values.shape for name, values in each.items() if name != "loss"} == dict.fromkeys(
        ("imbalance", "imbalance_identity", "balance_noise", "balance_gradient"), (3, 2, 5)
    )
    assert np.isnan(each["imbalance"][:, 1, 4]).all() and np.isfinite(each["imbalance"][:, :, :4]).all()
    for name in ("imbalance", "balance_noise", "balance_gradient"):
        assert np.allclose(np.nansum(each[name], axis=2), total[name], rtol=1e-12)


def test_what_cannot_be_balanced():
    with pytest.raises(ValueError, match="pairs must hold a pair or more, got none"):
        observe.Balance(())
    with pytest.raises(ValueError, match=r"the pair b1\+w1~w2 must keep the loss"):
        sc.simulate(sc.Problem(TANH, DATA), sc.GD(lr=0.1), sc.Plan(steps=1, observe=[observe.Balance(PAIR)]))
    with pytest.raises(ValueError, match="pairs must be different, got w1~w2 twice"):
        observe.Balance([sc.Pair(("w1", 0), ("w2", 1)), sc.Pair(("w1", 0), ("w2", 1))])


# --- theory


@pytest.mark.parametrize("data", [DATA, NOISY])
def test_theory_at_the_params_of_a_member_is_what_is_observed(data):
    method = sc.SGD(lr=0.1, batch_size=3, sampling="without")
    engine = engine_of(RELU, data, method, observe.Balance(PAIR, units=True), trajectories=2)
    state = engine.init()
    found, params = engine.observe(state), params_of(engine.weights(state), 1)
    laws = [
        sc.theory.Balance.of_model(RELU, data, params, PAIR, method.temperature, unit=unit, share=9 / 11)
        for unit in (0, 3)
    ]
    for unit, law in zip((0, 3), laws, strict=True):
        assert np.isclose(law.difference, found["imbalance"][1, 0, unit], rtol=1e-13)
        assert np.isclose(law.drift, found["balance_noise"][1, 0, unit], rtol=1e-10)
    whole = sc.theory.Balance.of_model(RELU, data, params, PAIR, method.temperature, share=9 / 11)
    assert np.isclose(whole.drift, found["balance_noise"][1, 0].sum(), rtol=1e-10)


def test_theory_refuses_what_is_no_pair():
    params = init(jax.random.key(0))
    with pytest.raises(ValueError, match="u and w must have the rescaling symmetry"):
        sc.theory.Balance.of_model(TANH, DATA, params, PAIR, 0.1, unit=0)
    with pytest.raises(ValueError, match=r"unit must be from 0 to 4 for the pair b1\+w1~w2, got 5"):
        sc.theory.Balance.of_model(RELU, DATA, params, PAIR, 0.1, unit=5)
    with pytest.raises(ValueError, match=r"params must hold w1 with shape \(5, 3\), got \(3, 3\)"):
        sc.theory.Balance.of_model(RELU, DATA, params | {"w1": np.ones((3, 3))}, PAIR, 0.1)


def test_forecast_of_an_imbalance_that_decays():
    """Of Q' = −2γQ + cos t, in closed form: the error shrinks as the square of the interval."""
    off, bound = [], []
    for intervals in (40, 80):
        time, gamma = np.linspace(0, 4, intervals + 1), 0.3
        found, error = sc.theory.imbalance_forecast(time, 2.0, np.cos(time), weight_decay=gamma)
        a = 2 * gamma
        forced = (a * np.cos(time) + np.sin(time) - a * np.exp(-a * time)) / (1 + a**2)
        off.append(np.abs(found - 2 * np.exp(-a * time) - forced).max())
        bound.append(error[-1])
    assert off[0] / off[1] == pytest.approx(4, rel=0.05) and bound[0] / bound[1] == pytest.approx(4, rel=0.1)
    assert off[0] < bound[0] < 10 * off[0]
