"""Least squares for inputs and labels of any scale: against rational arithmetic, and the same in both engines."""

import warnings
from fractions import Fraction

import numpy as np
import pytest

import saddlescope as sc
from saddlescope import Dataset, observables
from saddlescope.data.dataset import fit
from support import ENGINES, dataset, engine_class


def exactly(x, y):
    """The least-squares map and its residuals in rational arithmetic, by the normal equations."""
    X, Y = ([[Fraction(v) for v in row] for row in table.tolist()] for table in (x, y))
    d, dy = len(X[0]), len(Y[0])
    rows = [
        [sum(a[i] * a[j] for a in X) for j in range(d)]
        + [sum(a[i] * b[k] for a, b in zip(X, Y, strict=True)) for k in range(dy)]
        for i in range(d)
    ]
    for i in range(d):
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for j in range(d):
            if j != i:
                rows[j] = [v - rows[j][i] * p for v, p in zip(rows[j], rows[i], strict=True)]
    teacher = [[rows[i][d + k] for i in range(d)] for k in range(dy)]
    residuals = [
        [b[k] - sum(m * v for m, v in zip(teacher[k], a, strict=True)) for k in range(dy)]
        for a, b in zip(X, Y, strict=True)
    ]
    least = sum(r * r for row in residuals for r in row) / (2 * len(X))
    return np.array(teacher, float), np.array(residuals, float), float(least)


SIZES = {
    "as found": ([1e4, 1e-3], [1.0]),
    "far": ([1e150, 1e-150], [1.0]),
    "small": ([1e-150, 1e-150], [1e-150]),
    "large": ([1e150, 1e150], [1e150]),
    "labels": ([1.0, 1.0, 1.0], [1e10, 1e-10]),
    "labels far": ([1e-100, 1e50], [1e100, 1e-100]),
    "three": ([1e-8, 1.0, 1e8], [1e3, 1e-3]),
}


def scaled(columns, labels, n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(columns)))
    y = x @ rng.standard_normal((len(columns), len(labels))) + 0.3 * rng.standard_normal((n, len(labels)))
    return x * columns, y * labels


@pytest.mark.parametrize("name", SIZES)
def test_against_rational_arithmetic(name):
    x, y = scaled(*SIZES[name])
    teacher, residuals, least = exactly(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = Dataset(x, y)
        np.testing.assert_allclose(data.teacher, teacher, rtol=1e-12)
    np.testing.assert_allclose(data.residuals, residuals, rtol=1e-10)
    assert data.least_loss == pytest.approx(least, rel=1e-12)
    np.testing.assert_allclose(data.whitened.T @ data.whitened / len(x), np.eye(x.shape[1]), atol=1e-10)


def test_the_example_of_two_sizes():
    x = np.array([[1e4, 1e-3], [1e4, -1e-3], [-1e4, 2e-3], [2e4, 1e-3]])
    y = x @ [[1e-4], [1e3]] + np.array([[0.01], [-0.01], [0.01], [0.01]])
    data = Dataset(x, y)
    np.testing.assert_allclose(data.teacher, [[1e-4, 1e3]], rtol=0.05)
    assert data.least_loss < 1e-4


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_columns_that_are_nearly_the_same(gap):
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 20))
    x = np.stack([first, first + gap * second], axis=1)
    y = (first + second)[:, None] + 0.1 * rng.standard_normal((20, 1))
    teacher, residuals, least = exactly(x, y)
    data = Dataset(x, y)
    np.testing.assert_allclose(data.teacher, teacher, rtol=1e-14 / gap)
    np.testing.assert_allclose(data.residuals, residuals, atol=1e-14 / gap)
    assert data.least_loss == pytest.approx(least, rel=1e-14 / gap)


def test_a_rank_that_is_cut_is_announced():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((20, 3))
    repeated = np.concatenate([x, 1e5 * x[:, :1]], axis=1)
    y = x @ [[1.0], [2.0], [-1.0]]
    with pytest.warns(UserWarning, match="the inputs X have rank 3 of 4 up to rounding") as caught:
        teacher = Dataset(repeated, y).teacher
        assert len(Dataset(repeated, y).modes.strengths) == 1  # deeper in the package
        assert Dataset(repeated, y).bases[1].shape == (4, 4)
    assert [item.filename for item in caught] == 3 * [__file__]
    np.testing.assert_allclose(teacher, y.T @ np.linalg.pinv(repeated).T, rtol=1e-6, atol=1e-10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # zero inputs, and more inputs than samples, give no warning
        assert not Dataset(np.pad(x, ((0, 0), (0, 1))), y).teacher[0, 3]
        short = Dataset(rng.standard_normal((3, 7)), rng.standard_normal((3, 2)))
        np.testing.assert_allclose(short.teacher, short.Y.T @ np.linalg.pinv(short.X).T, rtol=1e-10)


@pytest.mark.parametrize("units", [[1.0, 1.0, 1.0, 1.0], [1e4, 1e-3, 1.0, 1e2]])
def test_the_smallest_of_all_maps(units):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((12, 2)) @ rng.integers(-2, 3, (2, 4)) * units
    found = fit(x, rng.standard_normal((12, 2)))
    seen = np.linalg.qr((x / units).T @ np.ones((12, 1)), mode="r")  # a direction of the rows
    assert found.rank == 2 and np.isfinite(seen).all()
    np.testing.assert_allclose(found.teacher @ found.root, found.fitted, rtol=1e-9)
    unseen = np.linalg.svd(x / units)[2][2:] / units
    cosines = found.teacher @ unseen.T / np.linalg.norm(found.teacher, axis=1)[:, None] / np.linalg.norm(unseen, axis=1)
    np.testing.assert_allclose(cosines, 0, atol=1e-6)


@pytest.mark.parametrize("name", ["as found", "small", "labels", "three"])
@pytest.mark.parametrize("method", [sc.GD, lambda lr: sc.SGD(lr, 4), lambda lr: sc.SGD(lr, 4, "shuffle")])
def test_loss_of_a_run_is_that_of_the_samples(name, method):
    x, y = scaled(*SIZES[name])
    data = Dataset(x, y)
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal((2, *shape)) for shape in ((3, x.shape[1]), (y.shape[1], 3))]
    layers = [(weights[0] / np.abs(x).max(axis=0))[0], (np.abs(y).max(axis=0)[:, None] * weights[1])[0]]
    problem = sc.Problem(sc.DeepLinear((x.shape[1], 3, y.shape[1])), data, sc.init.Given(layers))
    lr = 1e-4 / max(np.abs(x).max() ** 2 * np.abs(layers[1]).max() ** 2, np.abs(y).max() ** 2 / np.abs(x).max() ** 2, 1)
    plan = sc.Plan(steps=20, saves=2, keep="weights")
    for engine in ENGINES:
        run = sc.simulate(problem, method(lr), plan, engine=engine)
        for save in range(3):
            layers = run.W1.values[0, save], run.W2.values[0, save]
            expected = 0.5 * np.mean(((x @ (layers[1] @ layers[0]).T - y) ** 2).sum(axis=1))
            assert run.loss.values[0, save] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("make", [sc.GD, lambda lr: sc.SGD(lr, 4), lambda lr: sc.Langevin(lr, 4), sc.GradientFlow])
def test_engines_agree_on_badly_scaled_inputs(make):
    x, y = scaled([1e2, 1e-3, 1.0], [1.0, 1e-2])
    problem = sc.Problem(sc.DeepLinear((3, 4, 2)), Dataset(x, y, 0.01), sc.init.Gaussian(scale=1e-3))
    runs = [sc.simulate(problem, make(5e-8), sc.Plan(steps=50, trajectories=3), engine=engine) for engine in ENGINES]
    for run in runs[1:]:
        for name in ("loss", "mode_strength", "mode_noise"):
            np.testing.assert_allclose(run[name], runs[0][name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("unit", [1e-150, 1e-8, 1.0, 1e8, 1e150])
def test_a_change_of_units_changes_nothing_else(unit):
    data = dataset(20, 3, 2, label_noise=0.0)
    changed = Dataset(unit * data.X, data.Y)
    np.testing.assert_allclose(unit * changed.teacher, data.teacher, rtol=1e-12)
    assert changed.least_loss == pytest.approx(data.least_loss, rel=1e-12)
    maps = np.random.default_rng(5).standard_normal((2, 2, 3))
    np.testing.assert_allclose(observables.loss(changed, [maps / unit]), observables.loss(data, [maps]), rtol=1e-12)
    np.testing.assert_allclose(changed.root @ changed.root.T, changed.sigma_in_modes, rtol=1e-9, atol=1e-12 * unit**2)


def test_both_engines_see_small_inputs_of_gaussian_data():
    sigma = np.diag([1e8, 1e-6])
    tilted = np.array([[1e8, 5.0], [5.0, 1e-6]])
    for covariance in (sigma, tilted):
        data = sc.GaussianData([[1e-4, 1e3], [0.0, 1.0]], covariance)
        assert data.root.shape == (2, 2)
        problem = sc.Problem(sc.DeepLinear((2, 2)), data, sc.init.Gaussian(scale=1e-5))
        losses = [engine_class(name)(problem, sc.GD(1e-9), sc.Plan(steps=1)) for name in ENGINES]
        found = [engine.observe(engine.init())["loss"].item() for engine in losses]
        np.testing.assert_allclose(found, found[0], rtol=1e-9)


@pytest.mark.parametrize(("x", "y", "name"), [(1e160, 1.0, "X"), (1e-160, 1.0, "X"), (1.0, 1e155, "Y")])
def test_sizes_beyond_squares_are_refused(x, y, name):
    with pytest.raises(ValueError, match=f"^{name} must have columns between 1e-152 and 1e.152 in size"):
        Dataset([[x]], [[y]])
