"""What a step of a Model sees: covariances exact against gradients of single samples, laws of batches and labels."""

from functools import cache, partial
from unittest.mock import patch

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from scipy import stats

import saddlescope as sc
from saddlescope import _jax, labels
from saddlescope.engines.jax import draws
from saddlescope.engines.jax.table import Table
from saddlescope.engines.step import decode
from support import FALSE_ALARM, has_covariance, has_mean, waves

N, DX, H, K = 7, 2, 3, 3
UNOPTIMISED = True
LR = 0.3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, DX))
PROBABILITIES = RNG.dirichlet(np.ones(K), N)
CLASSES = RNG.integers(0, K, N)


@pytest.fixture(autouse=True)
def _double():
    with _jax.precision("float64"):
        yield


def init(key):
    return waves(key, {"v": (H, DX), "w": (K, H)})


def apply(params, x):
    return jnp.tanh(x @ params["v"].T) @ params["w"].T


DATA = {
    "plain": sc.Examples(X, RNG.standard_normal((N, K))),
    "label noise": sc.Examples(X, RNG.standard_normal((N, K)), label_noise=0.7),
    "classes": sc.Examples(X, CLASSES),
    "fresh": sc.Examples(X, PROBABILITIES, labels=labels.Fresh()),
    "flips": sc.Examples(X, CLASSES, labels=labels.Flips(0.3)),
    "smooth": sc.Examples(X, CLASSES, labels=labels.Smoothing(0.3)),
}
LOSS = {name: "squared" if name in ("plain", "label noise") else "cross_entropy" for name in DATA}


@jax.jit
def differentiated(params, x):
    """Outputs and their derivatives by the params."""
    return apply(params, x), jax.jacrev(apply)(params, x)


class Case:
    """A model on some data under a method, at one point, and the gradients of single samples by hand."""

    def __init__(self, data: str, method):
        self.data, self.model = DATA[data], sc.Model(apply, init, LOSS[data])
        self.step = decode(sc.Problem(self.model, self.data), method, sc.Plan(steps=1, dtype="float64"))
        self.table = Table.of(self.data, "float64")
        self.params, self.key = self.model.init(jax.random.key(3)), jax.random.key(5)
        outputs, jacobian = differentiated(self.params, self.table.x)
        self.jacobian = np.concatenate([np.asarray(a).reshape(N, K, -1) for a in jax.tree.leaves(jacobian)], axis=2)
        softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        mean = np.eye(K)[CLASSES] if data == "classes" else self.data.targets_mean
        self.slopes = (outputs if LOSS[data] == "squared" else softmax) - mean
        self.single = np.einsum("nk,nkd->nd", self.slopes, self.jacobian)
        self.mean = self.single.mean(axis=0)

    @property
    def of_labels(self) -> np.ndarray:
        """Covariance of one sample's gradient from its label alone, in the mean over samples."""
        if self.data.label_noise:
            covariance = np.broadcast_to(self.data.label_noise**2 * np.eye(K), (N, K, K))
        elif self.data.labels is None or not self.data.labels.random:
            covariance = np.zeros((N, K, K))
        else:
            q = self.data.targets_mean
            covariance = np.stack([np.diag(p) - np.outer(p, p) for p in q])
        return np.einsum("nkd,nkl,nle->de", self.jacobian, covariance, self.jacobian) / N

    @property
    def covariance(self) -> np.ndarray:
        """That of one sample's gradient."""
        return np.cov(self.single.T, bias=True) + self.of_labels

    def gradient(self, number=0, factor=1.0, key=None):
        key = self.key if key is None else key
        found = draws.gradient(self.model, self.table, self.step, self.params, key, number, factor)
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])

    def once(self):
        """The estimate of step 0, compiled as a whole."""
        return jax.jit(self.gradient)()

    def many(self, count: int) -> np.ndarray:
        return np.asarray(jax.jit(jax.vmap(self.gradient))(jnp.arange(count)))

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """The estimate as a function of its normals, in which it is affine: value at 0, and slopes (d, normals)."""

        def estimate(xi, z):
            given = {xi.shape: xi, z.shape: z}
            with patch.object(jax.random, "normal", lambda key, shape, dtype: given[shape]):
                return self.gradient()

        zeros = jnp.zeros(N), jnp.zeros((N, K))
        value, slopes = jax.jit(lambda *at: (estimate(*at), jax.jacfwd(estimate, (0, 1))(*at)))(*zeros)
        return np.asarray(value), np.concatenate([np.reshape(one, (len(self.mean), -1)) for one in slopes], axis=1)


def close(first, second, tolerance=2e-15) -> bool:
    return bool(np.abs(np.asarray(first) - second).max() <= tolerance * np.abs(second).max())


@pytest.mark.parametrize("name", DATA)
def test_gradient_descent_is_the_mean_gradient(name):
    case = Case(name, sc.GD(LR))
    assert case.step.source == ("sgd" if case.of_labels.any() else "gd")
    value = case.once() if case.step.source == "gd" else case.affine()[0]
    if name not in ("fresh", "flips"):
        assert close(value, case.mean)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("dt", [None, 0.1])
def test_langevin_noise_has_the_covariance_of_single_samples(name, dt):
    case = Case(name, sc.Langevin(LR, 2.5, dt=dt))
    drift, slopes = case.affine()
    assert close(drift, case.mean)
    temperature = LR / 2.5
    assert close(slopes @ slopes.T, temperature / (dt or LR) * case.covariance)
    if name in ("label noise", "fresh", "flips"):
        without = temperature / (dt or LR) * (case.covariance - case.of_labels)
        assert not close(slopes @ slopes.T, without, 0.01), "the noise of the labels is seen"


def test_noise_of_full_batches_is_that_of_labels_alone():
    case = Case("label noise", sc.SGD(LR, sampling="full"))
    drift, slopes = case.affine()
    assert close(drift, case.mean) and close(slopes @ slopes.T, case.of_labels / N)


@pytest.mark.parametrize("name", ["flips"])
def test_the_isotropic_control_has_the_same_trace(name):
    case = Case(name, sc.Langevin(LR, 2.5, "isotropic", dt=0.1))
    aligned = Case(name, sc.Langevin(LR, 2.5, dt=0.1))
    sample, other = case.many(20_000), aligned.many(20_000)
    assert np.allclose(np.linalg.norm(sample - case.mean, axis=1), np.linalg.norm(other - case.mean, axis=1))
    d, size = len(case.mean), LR / 2.5 / 0.1
    assert has_mean(sample, case.mean)
    assert has_covariance(sample, case.mean, size * np.trace(case.covariance) / d * np.eye(d))
    assert has_covariance(other, case.mean, size * case.covariance)
    assert not has_covariance(sample, case.mean, size * case.covariance)


@pytest.mark.parametrize("noise", ["gradient"])
def test_the_drift_of_order_2(noise):
    method = sc.Langevin(LR, 1e30, noise, dt=0.1, order=2, weight_decay=0.4)
    case = Case("plain", method)
    leaves, tree = jax.tree.flatten(case.params)
    flat, sizes = jnp.concatenate([leaf.ravel() for leaf in leaves]), np.cumsum([leaf.size for leaf in leaves])[:-1]

    def loss(flat):
        parts = [p.reshape(leaf.shape) for p, leaf in zip(jnp.split(flat, sizes), leaves, strict=True)]
        return case.model.losses(jax.tree.unflatten(tree, parts), case.table.x, case.table.y).mean()

    hessian, theta = np.asarray(jax.jit(jax.hessian(loss))(flat)), np.asarray(flat)
    found = jax.jit(case.gradient)
    for factor in (1.0, 0.25):
        whole = case.mean + 0.4 * theta
        wanted = whole + 0.5 * LR * factor * (hessian @ whole + 0.4 * whole) - 0.4 * theta
        assert close(found(0, factor), wanted, 1e-13)
    assert not close(case.mean, wanted, 1e-3)


@pytest.mark.parametrize(("name", "samples", "dt"), [("label noise", 3, None), ("plain", 6, None), ("fresh", 2, 0.15)])
def test_langevin_from_few_samples_has_the_same_mean_and_covariance(name, samples, dt):
    case = Case(name, sc.Langevin(LR, 3, dt=dt, samples=samples))
    sample = case.many(20_000)
    assert has_mean(sample, case.mean)
    assert has_covariance(sample, case.mean, LR / 3 / (dt or LR) * case.covariance)
    assert not has_covariance(sample, case.mean, 1.2 * LR / 3 / (dt or LR) * case.covariance)


# --- batches


@cache
def batches(sampling: str, size: int, rounds: int):
    """Batches (count, B) as a function of samples, key and numbers of steps; compiled once for any samples."""
    data = sc.Examples(np.zeros((size, 1)), np.zeros((size, 1)))
    model = sc.Model(lambda p, x: p["w"] * x, lambda key: {"w": jnp.ones(1)})
    step = decode(sc.Problem(model, data), sc.SGD(0.1, size, sampling), sc.Plan(steps=1))
    return jax.jit(jax.vmap(partial(draws.batch, step), (None, None, 0)))


def indices(sampling: str, size: int, samples: int, count: int, key: int = 0) -> np.ndarray:
    """Batches of ``count`` steps (count, B)."""
    found = batches(sampling, size, draws.ROUNDS)(samples, jax.random.key(key), jnp.arange(count))
    return np.asarray(found)


def uniform(rows: np.ndarray, outcomes: int) -> bool:
    """Whether all outcomes are equally likely, at FALSE_ALARM."""
    codes = rows @ (1 + int(rows.max())) ** np.arange(rows.shape[1])
    counts = np.unique(codes, return_counts=True)[1]
    counts = np.concatenate([counts, np.zeros(outcomes - len(counts))])
    return bool(stats.chisquare(counts).pvalue > FALSE_ALARM)


def test_batches_with_replacement_are_uniform():
    rows = indices("replacement", 2, 5, 50_000)
    assert uniform(rows, 25)
    assert not uniform(indices("without", 2, 5, 100_000), 25)


@pytest.mark.parametrize(("size", "samples", "outcomes"), [(2, 4, 12), (5, 5, 120), (1, 7, 7), (2, 2, 2)])
def test_batches_without_replacement_are_uniform(size, samples, outcomes):
    rows = indices("without", size, samples, 100_000)
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all() and rows.min() == 0 and rows.max() == samples - 1
    assert uniform(rows, outcomes)


def test_too_few_rounds_are_seen():
    with patch.object(draws, "ROUNDS", 3):
        assert not uniform(indices("without", 2, 4, 100_000), 12)


def test_pairs_of_many_samples_are_uniform():
    rows = indices("without", 32, 1000, 20_000).astype(int)
    assert (np.diff(np.sort(rows, axis=1), axis=1) > 0).all()
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=1000)).pvalue > FALSE_ALARM
    for lag in (1, 2, 5, 31):
        gaps = (rows[:, lag] - rows[:, 0]) % 1000
        assert stats.chisquare(np.bincount(gaps, minlength=1000)[1:]).pvalue > FALSE_ALARM
        assert abs(np.corrcoef(rows[:, 0], rows[:, lag])[0, 1]) < 5 / np.sqrt(len(rows))


@pytest.mark.parametrize(("size", "samples"), [(2, 7), (5, 5), (4, 1000)])
def test_epochs_are_permutations(size, samples):
    per_epoch = samples // size
    rows = indices("shuffle", size, samples, 3 * per_epoch).reshape(3, -1)
    for row in rows:
        assert len(set(row.tolist())) == per_epoch * size and row.max() < samples
    assert samples < 6 or len({tuple(row) for row in rows}) == 3
    other = indices("shuffle", size, samples, 3 * per_epoch, key=1).reshape(3, -1)
    assert (rows != other).any()


def test_epochs_are_uniform_and_independent():
    rows = indices("shuffle", 2, 4, 100_000).reshape(-1, 4)
    assert uniform(rows, 24)
    assert uniform(np.concatenate([rows[:-1:2, :2], rows[1::2, :2]], axis=1), 144), "successive epochs"
    dropped = indices("shuffle", 2, 5, 100_000).reshape(-1, 4)
    assert uniform(dropped, 120), "the remainder is any sample"


@pytest.mark.parametrize("name", ["plain", "smooth"])
def test_the_batches_of_an_epoch_add_up_to_the_mean_gradient(name):
    data = DATA[name]
    whole = Case(name, sc.SGD(LR, N, "without"))
    assert close(whole.once(), whole.mean)
    one = Case(name, sc.SGD(LR, 1, "shuffle"))
    assert close(one.many(N).mean(axis=0), one.mean)
    batch = Case(name, sc.SGD(LR, 3))

    def drawn(number):
        return draws.batch(batch.step, data.samples, batch.key, number), batch.gradient(number)

    for index, gradient in zip(*jax.jit(jax.vmap(drawn))(jnp.array([0, 5])), strict=True):
        assert close(gradient, batch.single[np.asarray(index)].mean(axis=0))


@pytest.mark.parametrize("name", ["label noise", "flips"])
def test_batches_with_random_labels_are_unbiased(name):
    case = Case(name, sc.SGD(LR, 2))
    sample = case.many(20_000)
    assert has_mean(sample, case.mean) and has_covariance(sample, case.mean, case.covariance / 2)
    assert not has_covariance(sample, case.mean, (case.covariance - case.of_labels) / 2)


# --- labels


def test_classes_follow_their_probabilities():
    q = jnp.array([[0.0, 0.2, 0.5, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    drawn = np.asarray(jax.vmap(lambda key: draws.classes(key, q))(jax.random.split(jax.random.key(0), 100_000)))
    assert (drawn.sum(axis=2) == 1).all() and set(np.unique(drawn)) == {0.0, 1.0}
    counts = drawn.sum(axis=0)
    assert (counts[np.asarray(q) == 0] == 0).all() and counts[1, 4] == counts[2, 0] == 100_000
    assert stats.chisquare(counts[0, 1:4], 100_000 * np.array([0.2, 0.5, 0.3])).pvalue > FALSE_ALARM


@pytest.mark.parametrize("edge", [0.0, 1 - 2.0**-24])
def test_a_class_of_probability_zero_is_never_drawn(edge):
    q = jnp.array([[0.0, 0.1, 0.9, 0.0]], jnp.float32)
    with patch.object(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, edge, dtype)):
        assert np.asarray(draws.classes(jax.random.key(0), q))[0, [0, 3]].sum() == 0
