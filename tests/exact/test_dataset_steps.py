"""Finite data sets: conserved quantities of a step, the samples it uses, and the covariance of its Gaussian noise."""

import numpy as np
import pytest
from test_identities import balance_error, determinant_change, transitions

from saddlescope import GD, SGD, Dataset, DeepLinear, GaussianData, Langevin, Plan, Problem, init, schedules
from saddlescope.engines import make_engine
from saddlescope.networks.deep_linear import log_det
from support import dataset, largest, whitened

LR = 0.02
METHODS = {
    "replacement 3": SGD(LR, 3),
    "without 2, decay": SGD(LR, 2, "without", weight_decay=0.1),
    "shuffle 5": SGD(LR, 5, "shuffle"),
    "shuffle 1, steps": SGD(LR, 1, "shuffle", schedule=schedules.Step(every=5, factor=0.5)),
    "full": SGD(LR, sampling="full"),
    "gd": GD(LR),
    "gradient": Langevin(LR, 2),
    "aligned": Langevin(LR, 2, noise="aligned", weight_decay=0.1),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("widths", [(3, 7, 2), (3, 6, 8, 2)])
def test_identities_of_a_step(engine, method, widths):
    problem = Problem(DeepLinear(widths), whitened(11, 3, 2), init.Gaussian(scale=0.4))
    for before, after, keep in transitions(engine, problem, METHODS[method]):
        assert balance_error(before, after, keep)[0] < 1e-14
        change, expected = log_det(after) - log_det(before), determinant_change(before, after, keep)
        np.testing.assert_allclose(change, expected, atol=1e-11, rtol=1e-9)
        products = [np.sum(a * (b - keep * a), axis=(1, 2)) for a, b in zip(before, after, strict=True)]
        np.testing.assert_allclose(products, [products[0]] * len(products), atol=1e-14 * largest(before).max())


# --- label-noise SGD in the setting of Varre, Sagitova & Flammarion 2024


def rank_setting(label_noise):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1000, 5))
    y = x @ rng.standard_normal((5, 2)) + 0.1 * rng.standard_normal((1000, 2))
    data = Dataset(x, y, label_noise)
    return Problem(DeepLinear((5, 10, 2)), data, init.Gaussian(scale=0.5))


def test_determinant_under_label_noise(engine):
    for before, after, keep in transitions(engine, rank_setting(2.0), SGD(0.05, sampling="full")):
        change, expected = log_det(after) - log_det(before), determinant_change(before, after, keep)
        np.testing.assert_allclose(change, expected, atol=1e-11, rtol=1e-9)


def test_the_determinant_falls_by_label_noise_and_by_the_path():
    """``log det N_Θ(t) = log det N_Θ(0) − 2ηδ² dy Tr(S_xx) t/n − 2η∫‖ΔS_xx‖² dt``, to first order in η."""
    problem, lr, steps = rank_setting(2.0), 0.01, 4000
    data = problem.data
    engine = make_engine("auto", problem, SGD(lr, sampling="full"), Plan(steps=steps, trajectories=32))
    state = engine.init()
    start, path = log_det(engine.weights(state)), 0.0
    for step in range(steps):
        first, second = engine.weights(state)
        path = path + lr * np.sum(((second @ first - data.teacher) @ data.sigma) ** 2, axis=(1, 2))
        state = engine.advance(state, step + 1)
    fall = (log_det(engine.weights(state)) - start)[:, 0]
    time = lr * steps
    line = -2 * lr * 2.0**2 * 2 * np.trace(data.sigma) * time / data.samples
    # The remainder is a martingale of variance O(η) with drift O(η²).
    error = fall - line + 2 * lr * path
    assert np.abs(error.mean()) < 0.02 * abs(line), (error.mean(), line, path.mean())
    assert np.abs((fall - line).mean()) > 3 * np.abs(error.mean()), "the path's share is as large in η as the line"


# --- samples used by a step

TINY = 1e-8
"""A learning rate at which weights stay where they are."""


def taken(engine, data, method, steps, trajectories=5, dtype="float64"):
    """``B Ḡ`` (steps, trajectories, dy, dx) at weights 0, which a tiny lr does not move."""
    shape = (data.dim_out, data.dim_in)
    problem = Problem(DeepLinear(shape[::-1]), data, init.Given([np.zeros(shape)]))
    run = engine(problem, method, Plan(steps=steps, trajectories=trajectories, seed=3, dtype=dtype))
    state, sums = run.init(), []
    for step in range(steps):
        after = run.advance(state, step + 1)
        sums.append((run.weights(state)[0] - run.weights(after)[0]) / method.lr * (method.batch_size or data.samples))
        state = after
    return np.array(sums)


def counted(engine, samples, method, steps):
    """How often each sample was used (steps, trajectories, samples): each has a unique label."""
    data = Dataset(dataset(samples, 3, 1).X, np.eye(samples))
    counts = np.linalg.norm(taken(engine, data, method, steps), axis=3) / np.linalg.norm(data.X, axis=1)
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-5)
    return np.rint(counts)


@pytest.mark.parametrize(("samples", "batch"), [(12, 1), (12, 5), (12, 4), (40, 17), (6, 6), (1, 1)])
def test_every_sample_once_in_an_epoch(engine, samples, batch):
    """An epoch is ⌊n/B⌋ whole batches, different every time and for every trajectory."""
    epoch = samples // batch
    counts = counted(engine, samples, SGD(TINY, batch, "shuffle"), 3 * epoch)
    per_epoch = counts.reshape(3, epoch, -1, samples).sum(axis=1)
    assert set(np.unique(per_epoch)) <= {0, 1}
    assert (per_epoch.sum(axis=-1) == epoch * batch).all()
    if samples > 10:
        assert len(np.unique(counts.reshape(-1, samples), axis=0)) > 10


@pytest.mark.parametrize(("samples", "batch"), [(12, 5), (40, 17), (6, 6), (1, 1)])
def test_no_sample_twice_in_a_batch_without_replacement(engine, samples, batch):
    counts = counted(engine, samples, SGD(TINY, batch, "without"), 6)
    assert set(np.unique(counts)) <= {0, 1}
    assert (counts.sum(axis=-1) == batch).all()


def test_all_samples_without_replacement_are_the_full_batch(engine):
    data = dataset(9, 3, 2, label_noise=0.0)
    sums = [taken(engine, data, method, 2) for method in (SGD(TINY, 9, "without"), SGD(TINY, sampling="full"))]
    np.testing.assert_allclose(*sums, rtol=1e-6)


# --- Langevin: the noise is linear in its normals, so that its covariance is exact


def exact_covariance(engine, data, weights, method):
    """Covariance of Ḡ (dy dx, dy dx), each normal at a time."""
    problem = Problem(DeepLinear((data.dim_in, data.dim_out)), data, init.Given([weights]))
    count = engine(problem, method, Plan(steps=1)).normals_per_step
    run = engine(problem, method, Plan(steps=1, trajectories=count + 1))
    normals = np.concatenate([np.eye(count), np.zeros((1, count))])[:, None]
    state = run.init()
    moved = (run.weights(state)[0] - run.weights(run.advance(state, 1, normals))[0]) / method.time_step
    np.testing.assert_allclose(moved[-1], (weights - data.teacher) @ data.sigma, atol=1e-10)
    columns = (moved[:-1] - moved[-1]).reshape(count, -1)
    return columns.T @ columns


def sample_covariance(data, weights):
    """Covariance over the samples of ``(Wx_i − y_i − δξ)x_iᵀ``, sample by sample."""
    gradients = np.array([np.outer(weights @ x - y, x).ravel() for x, y in zip(data.X, data.Y, strict=True)])
    return np.cov(gradients.T, bias=True) + data.label_noise**2 * np.kron(np.eye(data.dim_out), data.sigma)


DATA = {
    "by factor": dataset(50, 3, 2),
    "by sample": dataset(9, 8, 1),
    "linear labels": dataset(20, 4, 2, spread=0.0),
    "rank 2": dataset(20, 4, 2, rank=2),
    "no label noise": dataset(30, 3, 2, label_noise=0.0),
}


@pytest.mark.parametrize("name", DATA)
def test_langevin_has_the_covariance_of_the_samples(engine, name, monkeypatch):
    data = DATA[name]
    weights = np.random.default_rng(4).standard_normal((data.dim_out, data.dim_in))
    expected = sample_covariance(data, weights)
    for dt in (None, LR / 3):
        method = Langevin(LR, 2.5, dt=dt)
        rate = method.temperature / method.time_step
        covariance = exact_covariance(engine, data, weights, method)
        np.testing.assert_allclose(covariance, rate * expected, atol=1e-10 * rate * np.abs(expected).max())
        monkeypatch.setitem(vars(data), "noise_factor", None)
        other = exact_covariance(engine, data, weights, method)
        np.testing.assert_allclose(other, covariance, atol=1e-10 * rate * np.abs(expected).max())
        monkeypatch.undo()


@pytest.mark.parametrize("name", DATA)
def test_isotropic_noise_has_the_trace_of_the_samples(engine, name):
    """The same in every direction, with the mean of the variances of the true noise."""
    data = DATA[name]
    weights = np.random.default_rng(4).standard_normal((data.dim_out, data.dim_in))
    trace = np.trace(sample_covariance(data, weights))
    method = Langevin(LR, 2.5, "isotropic", dt=LR / 3)
    covariance = exact_covariance(engine, data, weights, method)
    expected = method.temperature / method.time_step * trace / weights.size * np.eye(weights.size)
    np.testing.assert_allclose(covariance, expected, atol=1e-10 * expected.max())


def test_gaussian_noise_of_the_same_second_moments_is_another(engine):
    """Negative control: non-Gaussian inputs have different fourth moments."""
    data = DATA["by factor"]
    teacher = GaussianData(data.teacher, data.sigma, data.label_noise)
    weights = np.random.default_rng(4).standard_normal((2, 3))
    expected = sample_covariance(data, weights)
    gaussian = exact_covariance(engine, teacher, weights, Langevin(LR, 1.0))
    assert np.abs(gaussian - expected).max() > 0.2 * np.abs(expected).max()


def test_aligned_noise_is_what_falls_on_the_modes(engine):
    data = whitened(30, 3, 2)
    weights = np.random.default_rng(4).standard_normal((2, 3))
    covariance = exact_covariance(engine, data, weights, Langevin(LR, 1.0, noise="aligned"))
    modes = np.array([np.outer(u, v).ravel() for u, v in zip(data.modes.left.T, data.modes.right.T, strict=True)])
    on_modes = modes @ sample_covariance(data, weights) @ modes.T
    np.testing.assert_allclose(covariance, modes.T @ on_modes @ modes, atol=1e-10)
