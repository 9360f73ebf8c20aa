"""Noise rates of observables of a Model, beside Jacobians by hand, labels one by one, and linear networks."""

from types import SimpleNamespace

import numpy as np
import pytest

import jax
import saddlescope as sc
from saddlescope import _jax, observables
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import decode
from saddlescope.observe import LayerNoise, Modes, NoiseRate, RandomDirections
from saddlescope.observe.base import Sight

T, N, DX, H, DY = 0.03, 300, 4, 6, 3  # samples in two blocks
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(N, DX)), RNG.normal(size=(N, DY))
Q = RNG.dirichlet(np.ones(DY), N)
CLASSES = RNG.integers(0, DY, N)
TIGHT = {"rtol": 1e-12, "atol": 1e-15}


@pytest.fixture(autouse=True)
def double():
    with _jax.precision("float64"):
        yield


def init(key):
    one, two = jax.random.split(key)
    return {"w1": jax.random.normal(one, (H, DX)), "w2": 0.5 * jax.random.normal(two, (DY, H))}


def relu(params, x):
    return jax.nn.relu(x @ params["w1"].T) @ params["w2"].T


def linear(params, x):
    return x @ params["w1"].T @ params["w2"].T


def observed(model, data, *parts, share=1.0, members=2):
    """Every part for members under jit and vmap, and the members' parameters."""
    table, step = Table.of(data, "float64"), SimpleNamespace(share=share, data=data)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(3), members))

    def of(params):
        sight = Sight(model, params, table, step, T, 0.1)
        return {name: value for part in parts for name, value in part.of(sight).items()}

    for part in parts:
        part.check(model, data)
    return jax.tree.map(np.asarray, (jax.jit(jax.vmap(of))(params), params))


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


@pytest.mark.parametrize("case", CASES)
def test_beside_jacobians_by_hand(case):
    data, share = CASES[case], 0.7
    left, right = RNG.normal(size=(DY, 2)), RNG.normal(size=(DX, 2))
    model = sc.Model(relu, init, "squared" if case in ("squared", "label noise") else "cross_entropy")
    parts = [
        Modes(left=left, right=right),
        NoiseRate("vector", lambda p: (p["w1"] ** 2).sum(axis=1)),
        NoiseRate("scalar", lambda p, x, y: (relu(p, x) ** 2).mean()),
        LayerNoise("w1", count=3),
        LayerNoise("w2", count=9, trace=False),
    ]
    found, params = observed(model, data, *parts, share=share)
    for member in range(2):
        seen, (w1, w2) = {k: v[member] for k, v in found.items()}, (params[name][member] for name in ("w1", "w2"))
        truth = ByHand(data, model.loss, share, w1, w2)
        strengths, noise = truth.of_products(left, right)
        np.testing.assert_allclose(seen["mode_strength"], strengths, **TIGHT)
        np.testing.assert_allclose(seen["mode_noise"], noise, **TIGHT)
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


def test_a_linear_model_agrees_with_a_deep_linear_network():
    noise, steps = ("replacement", "without", "full"), 10
    data = sc.Dataset(X, Y, label_noise=0.3).whiten()
    model, network = sc.Model(linear, init), sc.DeepLinear((DX, H, DY))
    for sampling in noise:
        method = sc.SGD(0.1, None if sampling == "full" else 32, sampling=sampling)
        share = decode(sc.Problem(network, data, sc.init.Gaussian(scale=0.1)), method, sc.Plan(steps=steps)).share
        found, params = observed(model, data, Modes(), LayerNoise("w1"), share=share)
        layers = [params["w1"], params["w2"]]
        problem = sc.Problem(network, data, sc.init.Gaussian(scale=0.1))
        names = ("mode_strength", "mode_noise", "diffusion_norm")
        wanted = observables.observe(problem, T, layers, share, names)
        for name in names[:2]:
            np.testing.assert_allclose(found[name], wanted[name], **TIGHT)
        np.testing.assert_allclose(found["noise_trace"], wanted["diffusion_norm"] ** 2, **TIGHT)
    np.testing.assert_allclose(Modes().coordinates(model, data)["target"][1], data.modes.strengths, **TIGHT)
