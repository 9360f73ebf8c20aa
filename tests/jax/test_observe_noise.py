"""Noise rates of observables of a Model, beside Jacobians by hand, labels one by one, and linear networks."""

import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import saddlescope as sc
from saddlescope import _jax, observables
from saddlescope.engines.jax import draws
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import decode
from saddlescope.observe import LayerNoise, Modes, NoiseRate, RandomDirections, _blocks
from saddlescope.observe.base import Sight
from support import waves

T, N, DX, H, DY = 0.03, 300, 4, 6, 3  # samples in two blocks
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(N, DX)), RNG.normal(size=(N, DY))
Q = RNG.dirichlet(np.ones(DY), N)
CLASSES = RNG.integers(0, DY, N)
UNOPTIMISED = True
TIGHT = {"rtol": 1e-12, "atol": 1e-15}


@pytest.fixture(autouse=True)
def double():
    with _jax.precision("float64"):
        yield


def init(key):
    return waves(key, {"w1": (H, DX), "w2": (DY, H)})


def relu(params, x):
    return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T


def linear(params, x):
    return x @ params["w1"].T @ params["w2"].T


def observed(model, data, *parts, share=1.0, members=2):
    """Every part for members under jit and vmap, and the members' parameters."""
    table, step = Table.of(data, "float64"), SimpleNamespace(share=share, data=data)
    params = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(3), members))

    def of(params):
        sight = Sight(model, params, table, step, T, 0.1)
        return {name: value for part in parts for name, value in part.of(sight).items()}

    for part in parts:
        part.check(model, data)
    quick = jax.jit(jax.vmap(of)).lower(params).compile({"xla_backend_optimization_level": 0})
    return jax.tree.map(np.asarray, (quick(params), params))


# --- ReLU, by hand


class ByHand:
    """Noise rates of a ReLU network from the Jacobian of its outputs by all weights (n, dy, P), W_1 first.

    Every label that a sample may have is enumerated: ``gradients`` (n, labels, P) with ``chances`` (n, labels).
    """

    def __init__(self, data, loss, share, w1, w2):
        self.share, before = share, X @ w1.T
        hidden = np.maximum(before, 0)
        first = np.einsum("kh,nh,nj->nkhj", w2, before > 0, X).reshape(N, DY, -1)
        second = np.einsum("kl,nh->nklh", np.eye(DY), hidden).reshape(N, DY, -1)
        self.f, self.jacobian = hidden @ w2.T, np.concatenate([first, second], axis=2)
        if loss == "squared":  # ±δ√dy e_k have the mean and the covariance of N(0, δ²I)
            kicks = np.concatenate([np.eye(DY), -np.eye(DY)]) * data.label_noise * DY**0.5
            slopes, self.chances = (self.f - Y)[:, None] - kicks, np.full((N, 2 * DY), 0.5 / DY)
        else:
            p = np.exp(self.f)
            slopes = (p / p.sum(axis=1, keepdims=True))[:, None] - np.eye(DY)
            self.chances = np.eye(DY)[CLASSES] if data.labels is None else data.targets_mean
        self.gradients = np.einsum("ncp,nkc->nkp", self.jacobian, slopes)
        if loss != "squared" and not getattr(data.labels, "random", False):
            self.gradients = (self.chances[:, :, None] * self.gradients).sum(axis=1, keepdims=True)
            self.chances = np.ones((N, 1))

    def rates(self, directions):
        """``T (share Var_i E[d·g | i] + E_i Var[d·g | i])`` for directions d (k, P)."""
        slopes = np.einsum("nlp,kp->knl", self.gradients, directions)
        mean = (self.chances * slopes).sum(axis=2)
        within = (self.chances * (slopes - mean[:, :, None]) ** 2).sum(axis=2)
        return T * (self.share * mean.var(axis=1) + within.mean(axis=1))

    def of_leaf(self, leaf, matrices):
        """Rates along matrices (k, rows, columns) of a leaf."""
        flat = matrices.reshape(len(matrices), -1)
        sides = [np.zeros((len(flat), size)) for size in (H * DX, DY * H)]
        sides[leaf] = flat
        return self.rates(np.concatenate(sides, axis=1))

    def of_products(self, u, v):
        """Strengths and rates of ``mean (u·f)(v·x)``."""
        strengths = np.einsum("nk,ka,nj,ja->a", self.f, u, X, v) / N
        return strengths, self.rates(np.einsum("na,nkp,ka->ap", X @ v, self.jacobian, u) / N)


CASES = {
    "squared": sc.Examples(X, Y),
    "label noise": sc.Examples(X, Y, label_noise=0.4),
    "fresh": sc.Examples(X, Q, labels=sc.labels.Fresh()),
    "flips": sc.Examples(X, CLASSES, labels=sc.labels.Flips(0.2)),
    "smoothing": sc.Examples(X, CLASSES, labels=sc.labels.Smoothing(0.2)),
}


def model_of(case):
    return sc.Model(relu, init, "squared" if case in ("squared", "label noise") else "cross_entropy")


@pytest.mark.parametrize("case", CASES)
def test_modes_beside_jacobians_by_hand(case):
    model, data, share = model_of(case), CASES[case], 0.7
    left, right = RNG.normal(size=(DY, 2)), RNG.normal(size=(DX, 2))
    found, params = observed(model, data, Modes(left=left, right=right), share=share)
    for member in range(2):
        truth = ByHand(data, model.loss, share, params["w1"][member], params["w2"][member])
        strengths, noise = truth.of_products(left, right)
        np.testing.assert_allclose(found["mode_strength"][member], strengths, **TIGHT)
        np.testing.assert_allclose(found["mode_noise"][member], noise, **TIGHT)


@pytest.mark.parametrize("case", ["label noise", "fresh"])
def test_leaves_and_observables_beside_jacobians_by_hand(case):
    model, data, share = model_of(case), CASES[case], 0.7
    parts = [
        NoiseRate("vector", lambda p: (p["w1"] ** 2).sum(axis=1), entries=H),
        NoiseRate("scalar", lambda p, x, y: (relu(p, x) ** 2).mean()),
        LayerNoise("w1", count=3),
        LayerNoise("w2", count=9, trace=False),
    ]
    found, params = observed(model, data, *parts, share=share)
    seen, (w1, w2) = {k: v[1] for k, v in found.items()}, (params[name][1] for name in ("w1", "w2"))
    truth = ByHand(data, model.loss, share, w1, w2)
    rows = 2 * w1 * np.eye(H)[:, :, None]
    np.testing.assert_allclose(seen["vector_noise"], truth.of_leaf(0, rows), **TIGHT)
    np.testing.assert_allclose(seen["vector"], (w1**2).sum(axis=1), **TIGHT)
    slope = 2 * np.einsum("nk,nkp->p", truth.f, truth.jacobian) / truth.f.size
    np.testing.assert_allclose(seen["scalar_noise"], truth.rates(slope[None])[0], **TIGHT)
    for name, w, leaf in (("w1", w1, 0), ("w2", w2, 1)):
        p, _, q = np.linalg.svd(w, full_matrices=False)
        pairs = np.einsum("ia,aj->aij", p, q)[:3]
        np.testing.assert_allclose(seen[f"layer_noise_{name}"], truth.of_leaf(leaf, pairs), **TIGHT)
    every = truth.rates(np.eye(truth.jacobian.shape[2]))
    np.testing.assert_allclose(seen["noise_trace"], every.sum(), **TIGHT)
    np.testing.assert_allclose(seen["noise_trace_w1"], every[: H * DX].sum(), **TIGHT)


def test_many_directions_without_the_trace():
    left, right = RNG.normal(size=(H, 12)), RNG.normal(size=(DX, 12))
    data, part = CASES["squared"], LayerNoise("w1", left=left, right=right, trace=False)
    found, params = observed(sc.Model(relu, init), data, part)
    truth = ByHand(data, "squared", 1.0, params["w1"][0], params["w2"][0])
    wanted = truth.of_leaf(0, np.einsum("ia,ja->aij", left, right))
    assert len(found) == 1
    np.testing.assert_allclose(found["layer_noise_w1"][0], wanted, **TIGHT)


def test_random_directions_are_modes_along_them():
    data, part = CASES["label noise"], RandomDirections(count=2, seed=5)
    left, right = part.directions(DY, DX)
    found, params = observed(sc.Model(relu, init), data, part)
    strengths, noise = ByHand(data, "squared", 1.0, params["w1"][1], params["w2"][1]).of_products(left, right)
    np.testing.assert_allclose(found["random_strength"][1], strengths, **TIGHT)
    np.testing.assert_allclose(found["random_noise"][1], noise, **TIGHT)
    np.testing.assert_allclose(left.T @ left, np.eye(2), atol=1e-14)
    assert not np.allclose(left, RandomDirections(count=2, seed=6).directions(DY, DX)[0])


# --- a linear network, beside the closed forms of DeepLinear


@pytest.mark.parametrize("sampling", ["replacement", "without", "full"])
def test_a_linear_model_agrees_with_a_deep_linear_network(sampling):
    data = sc.Dataset(X, Y, label_noise=0.3).whiten()
    problem = sc.Problem(sc.DeepLinear((DX, H, DY)), data, sc.init.Gaussian(scale=0.1))
    method = sc.SGD(0.1, None if sampling == "full" else 32, sampling=sampling)
    share = decode(problem, method, sc.Plan(steps=10)).share
    parts = [Modes(), LayerNoise("w1")] if sampling == "without" else [Modes()]
    found, params = observed(sc.Model(linear, init), data, *parts, share=share)
    names = ("mode_strength", "mode_noise", "diffusion_norm")
    wanted = observables.observe(problem, T, [params["w1"], params["w2"]], share, names)
    for name in names[:2]:
        np.testing.assert_allclose(found[name], wanted[name], **TIGHT)
    if sampling == "without":
        np.testing.assert_allclose(found["noise_trace"], wanted["diffusion_norm"] ** 2, **TIGHT)
    target = Modes().coordinates(sc.Model(linear, init), data)["target"][1]
    np.testing.assert_allclose(target, data.modes.strengths, **TIGHT)


# --- leaves and inputs of other kinds, beside the Jacobian of each sample


def attention(params, x):
    seen = params["table"][x]
    weights = jax.nn.softmax(seen @ params["key"], axis=1)
    return jnp.tanh((weights[..., None] * seen).sum(axis=1)) @ params["w"].T


def tokens(key):
    return waves(key, {"key": (3,), "table": (7, 3), "w": (4, 3)})


def convolution(params, x):
    image = jax.lax.conv_general_dilated(
        x[..., None], params["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.tanh(image).mean(axis=(1, 2)) @ params["w"].T + params["b"]


def kernels(key):
    return waves(key, {"kernel": (3, 3, 1, 5), "w": (2, 5), "b": (2,)})


OTHERS = {
    "embedding": (
        sc.Model(attention, tokens, "cross_entropy"),
        sc.Examples(RNG.integers(0, 7, (40, 5)), RNG.integers(0, 3, 40)),  # one class has no sample
        ("table", "key"),
    ),
    "convolution": (
        sc.Model(convolution, kernels),
        sc.Examples(RNG.normal(size=(40, 4, 4)), RNG.normal(size=(40, 2)), label_noise=0.5),
        ("kernel", "b"),
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_embeddings_convolutions_and_whole_numbers(kind):
    model, data, leaves = OTHERS[kind]
    found, params = observed(model, data, Modes(count=2), LayerNoise(leaves, count=2, axis=-1), share=0.6)
    one = jax.tree.map(lambda leaf: leaf[1], params)

    def flat(function):
        return lambda *arguments: jnp.concatenate([leaf.ravel() for leaf in model.flatten(function(*arguments))])

    x, y = jnp.asarray(data.X), jnp.asarray(data.Y)
    single = jax.grad(lambda p, x, y: model.losses(p, x[None], y[None])[0])
    gradients = np.asarray(jax.jit(jax.vmap(flat(single), (None, 0, 0)))(one, x, y))
    jacobian = jax.jit(jax.vmap(jax.jacrev(lambda p, x: model.apply(p, x[None])[0]), (None, 0)))(one, x)
    jacobian = np.concatenate([np.asarray(leaf).reshape(40, len(leaf[0]), -1) for leaf in model.flatten(jacobian)], 2)

    def rates(directions):
        labels = data.label_noise**2 * ((jacobian @ directions.T) ** 2).sum(axis=1).mean(axis=0)
        return T * (0.6 * (gradients @ directions.T).var(axis=0) + labels)

    own = np.eye(3)[data.Y] if kind == "embedding" else data.Y
    linear_modes = sc.Dataset(data.X.reshape(40, -1).astype(float), own).modes
    left, right = linear_modes.left[:, :2], linear_modes.right[:, :2]
    left = np.concatenate([left, np.zeros((jacobian.shape[1] - len(left), 2))])
    slopes = np.einsum("na,nkp,ka->ap", data.X.reshape(40, -1) @ right, jacobian, left) / 40
    np.testing.assert_allclose(found["mode_noise"][1], rates(slopes), **TIGHT)
    every, start = rates(np.eye(jacobian.shape[2])), 0
    np.testing.assert_allclose(found["noise_trace"][1], every.sum(), **TIGHT)
    for leaf in model.leaves:
        inside, start = slice(start, start + leaf.size), start + leaf.size
        if leaf.name not in leaves:
            continue
        np.testing.assert_allclose(found[f"noise_trace_{leaf.name}"][1], every[inside].sum(), **TIGHT)
        matrix = np.asarray(one[leaf.name]).reshape(-1, leaf.shape[-1])
        p, _, q = np.linalg.svd(matrix.T if leaf.shape[1:] else matrix.reshape(-1, 1), full_matrices=False)
        pairs = [np.outer(p[:, a], q[a]) for a in range(min(2, len(q)))]
        directions = np.zeros((len(pairs), len(every)))
        directions[:, inside] = [(pair.T if leaf.shape[1:] else pair).ravel() for pair in pairs]
        np.testing.assert_allclose(found[f"layer_noise_{leaf.name}"][1], rates(directions), **TIGHT)


# --- the variance over batches


@pytest.mark.parametrize("sampling", ["replacement", "without"])
@pytest.mark.parametrize("case", ["label noise", "flips"])
def test_noise_is_the_variance_over_batches(sampling, case):
    """By the engine's own batches; half the label noise, or the other way of sampling, is rejected."""
    batch, lr, draws_made, few = 20, 0.1, 20_000, 30
    data = (
        sc.Examples(X[:few], Y[:few], 1.5)
        if case == "label noise"
        else sc.Examples(X[:few], CLASSES[:few], labels=sc.labels.Flips(0.4))
    )
    model = sc.Model(relu, init, "squared" if case == "label noise" else "cross_entropy")
    step = decode(sc.Problem(model, data), sc.SGD(lr, batch, sampling=sampling), sc.Plan(steps=1))
    part, table = NoiseRate("m", lambda p: (p["w1"] ** 2).sum() + (p["w2"] ** 3).sum()), Table.of(data, "float64")
    params = model.init(jax.random.key(1))
    slope = jax.jit(jax.grad(part.function))(params)

    def drawn(key):
        gradient = draws.gradient(model, table, step, params, key, 0, 1.0)
        return sum(jnp.vdot(a, b) for a, b in zip(model.flatten(slope), model.flatten(gradient), strict=True))

    changes = np.asarray(jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(2), draws_made)))
    centred = (changes - changes.mean()) ** 2
    variance, error = lr * centred.mean(), lr * centred.std() / draws_made**0.5

    def predicted(share=step.share, table=table):
        sight = Sight(model, params, table, SimpleNamespace(share=share, data=data), step.temperature, lr)
        return part.of(sight)["m_noise"]

    other = 1.0 if sampling == "without" else (few - batch) / (few - 1)
    fixed = replace(table, label_noise=None, labels=None)
    found = jax.jit(lambda: (predicted(), predicted(share=other), predicted(table=fixed)))()
    limit = 4.9 * error  # 1e-6, two-sided
    assert abs(found[0] - variance) < limit
    assert abs(found[1] - variance) > limit
    assert abs(found[2] - variance) > limit


# --- blocks, arguments, runs


@pytest.mark.parametrize("n", [1, 4, 5, 8, 11])
def test_blocks_of_samples(n):
    x, w = jnp.arange(float(n)), jnp.arange(float(n)) ** 2
    np.testing.assert_array_equal(_blocks.each(lambda x, w: (x + w, x), (x, w), 4)[0], x + w)
    assert _blocks.total(lambda x, w: (x * w).sum(), (x, w), 4) == (x * w).sum()


def test_memory_does_not_grow_with_the_samples():
    """All that is held at once is less than one hidden layer of all samples."""
    n, wide = 10_000, 500
    data = sc.Examples(RNG.normal(size=(n, 2)), RNG.normal(size=(n, 2)), label_noise=0.1)

    def init(key):
        return {"w1": jnp.ones((wide, 2)), "w2": jnp.ones((2, wide))}

    model, table = sc.Model(relu, init), Table.of(data, "float64")

    def of(params):
        sight = Sight(model, params, table, SimpleNamespace(share=1.0, data=data), T, 0.1)
        return [part.of(sight) for part in (Modes(), NoiseRate("m", lambda p: p["w1"].sum()), LayerNoise("w1"))]

    compiled = jax.jit(of).lower(model.init(jax.random.key(0))).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * n * wide


def test_arguments_that_do_not_fit():
    model, data = sc.Model(relu, init), sc.Examples(X, Y)
    for part, sentence in (
        (Modes(left=np.eye(2), right=np.eye(4)[:, :2]), "left must have a row for each of the 3 outputs, got 2"),
        (RandomDirections(count=4), "count must be at most the smaller of 3 outputs and 4 inputs, got 4"),
        (NoiseRate("m", lambda p: p["w1"][0]), "entries = 4"),
        (NoiseRate("m", lambda p: p["w1"].sum(), entries=2), "return floats of shape (2,)"),
        (LayerNoise("w3"), "leaf must be one of 'w1', 'w2', got 'w3'"),
        (LayerNoise("w1", axis=2), "axis must be one of the 2 axes of w1"),
        (LayerNoise("w1", left=np.eye(4), right=np.eye(4)), "left must have a row for each of the 6 rows"),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            part.check(model, data)
    for make, sentence in (
        (lambda: Modes(left=np.eye(2)), "left and right must be given together"),
        (lambda: Modes(left=np.eye(2), right=np.eye(3)), "one column for each direction"),
        (lambda: Modes(2, np.eye(2), np.eye(2)), "count must be left out with left and right"),
        (lambda: LayerNoise(["w1", "w1"]), "distinct names"),
        (lambda: NoiseRate("a b", relu), 'letters, digits and "_"'),
    ):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            make()
    with pytest.raises(TypeError, match="function must be a function"):
        NoiseRate("m", 3)


def test_a_run_has_modes_directions_and_targets(tmp_path):
    data, model = sc.Examples(X, Y, label_noise=0.2), sc.Model(relu, init)
    parts = [
        Modes(count=2),
        NoiseRate("rows", lambda p: (p["w1"] ** 2).sum(axis=1), entries=H),
        LayerNoise("w1", trace=False),
    ]
    plan = sc.Plan(steps=4, trajectories=3, saves=2, keep="trajectories", observe=parts)
    run = sc.simulate(sc.Problem(model, data), sc.GD(lr=0.01), plan, out=tmp_path / "run")
    assert run.mode_noise.dims == ("trajectory", "time", "mode")
    assert run.layer_noise_w1.sizes["direction_w1"] == 4
    assert run.rows_noise.sizes["entry_rows"] == H
    modes = sc.Dataset(X, Y).modes
    target = np.diag(modes.left.T @ Y.T @ X @ modes.right)[:2] / N
    np.testing.assert_allclose(run.target, target, rtol=1e-12)
    assert (run.mode_noise > 0).all()  # fresh labels
    again = sc.load(tmp_path / "run")
    assert again.load().equals(run.load())
    shown = "import sys, saddlescope as sc; r = sc.load(sys.argv[1]); print(r.target.values.sum(), *r.mode_noise.dims)"
    told = subprocess.run([sys.executable, "-c", shown, tmp_path / "run"], capture_output=True, text=True, check=True)
    assert told.stdout.split()[1:] == ["trajectory", "time", "mode"]
    assert float(told.stdout.split()[0]) == pytest.approx(target.sum())
