"""Finite data sets: their teacher, their noise, their files."""

import warnings

import numpy as np
import pytest
import tomli_w

import saddlescope as sc
from saddlescope import Dataset, DeepLinear, GaussianData, Plan, Problem, init, observables, simulate
from saddlescope.networks import deep_linear
from saddlescope.runfile import run_from_toml, run_to_toml
from support import dataset, whitened

SHAPES = {"long": (40, 4, 3), "square": (4, 4, 2), "short": (3, 5, 2), "one sample": (1, 3, 2), "scalar": (7, 1, 1)}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_teacher_is_the_least_squares_map(shape):
    n, dx, dy = SHAPES[shape]
    data = dataset(n, dx, dy)
    s_yx = data.Y.T @ data.X / n
    np.testing.assert_allclose(data.teacher, s_yx @ np.linalg.pinv(data.sigma, rcond=1e-12), atol=1e-10)
    np.testing.assert_allclose(data.residuals.T @ data.X, 0, atol=1e-10)
    np.testing.assert_allclose(data.sigma, sum(np.outer(x, x) for x in data.X) / n, atol=1e-12)
    assert data.root.shape == (dx, min(n, dx))
    inputs, residuals = data.in_modes
    left, right = data.bases
    np.testing.assert_allclose(inputs @ right.T, data.X, atol=1e-12)
    np.testing.assert_allclose(residuals @ left.T, data.residuals, atol=1e-12)


def test_labels_that_are_linear_leave_no_residuals():
    data = dataset(30, 4, 2, spread=0.0)
    assert not data.residuals.any()
    assert data.least_loss == 0.5 * 2 * data.label_noise**2
    assert dataset(3, 5, 2).residuals.any() == False  # noqa: E712  (as many samples as equations)


def test_a_mode_that_labels_do_not_have_has_strength_zero():
    data = dataset(30, 4, 2)
    flat = Dataset(data.X, np.outer(data.X @ [1.0, 2.0, 0.0, 1.0], [1.0, -1.0]))
    assert flat.modes.strengths[1] == 0


def test_loss_is_the_mean_over_samples():
    data = dataset(30, 4, 2, label_noise=0.7)
    weights = [np.random.default_rng(1).standard_normal((3, 2, 4))]
    expected = [0.5 * np.mean(np.sum((data.X @ p.T - data.Y) ** 2, axis=1)) + 0.5 * 2 * 0.49 for p in weights[0]]
    np.testing.assert_allclose(observables.loss(data, weights), expected, rtol=1e-12)
    excess = observables.excess_loss(data, weights)
    np.testing.assert_allclose(observables.loss(data, weights) - excess, data.least_loss, rtol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_noise_is_the_covariance_over_the_samples(share, monkeypatch):
    monkeypatch.setattr(sc.data.dataset, "CHUNK", 7)
    data, rng = dataset(30, 4, 2, label_noise=0.7), np.random.default_rng(2)
    layers = [rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 2, 5))]
    noise = deep_linear.mode_noise(data, 0.1, layers, share)
    each = deep_linear.layer_noise(data, 0.1, layers, share)
    for k in range(2):
        first, second = layers[0][k], layers[1][k]
        gradients = [np.outer((second @ first) @ x - y, x) for x, y in zip(data.X, data.Y, strict=True)]
        for a, (u, v) in enumerate(zip(data.modes.left.T, data.modes.right.T, strict=True)):
            pairs = [(second @ second.T @ u, v), (u, first.T @ first @ v)]
            drawn = np.array([[p @ g @ q for p, q in pairs] for g in gradients])
            label = sum(0.49 * (p @ r) * (q @ data.sigma @ s) for p, q in pairs for r, s in pairs)
            np.testing.assert_allclose(noise[k, a], 0.1 * (share * drawn.sum(axis=1).var() + label), rtol=1e-10)
            for l, (p, q) in enumerate(pairs):
                length = [u @ second @ second.T @ u, v @ first.T @ first @ v][l]
                own = share * drawn[:, l].var() + 0.49 * (p @ p) * (q @ data.sigma @ q)
                np.testing.assert_allclose(each[k, l, a], 0.1 * own / length, rtol=1e-10)


def test_moments_of_a_mode_are_those_of_the_samples():
    data = dataset(30, 4, 2, label_noise=0.7)
    a1, a2, a3, b1, b2 = data.mode_moments(1)
    x, y = data.X @ data.modes.right[:, 1], data.Y @ data.modes.left[:, 1]
    matrix = np.cov(x * x, x * y, bias=True)
    np.testing.assert_allclose([a1, a2, a3], [matrix[0, 0], matrix[0, 1], matrix[1, 1] + 0.49 * b1], rtol=1e-12)
    np.testing.assert_allclose([b1, b2], [np.mean(x * x), np.mean(x * y)], rtol=1e-12)


def test_moments_of_gaussian_data_are_a_limit():
    teacher = GaussianData([[2.0, 0.0], [0.0, 1.0]], np.diag([1.0, 2.0]), 0.5)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10**6, 2)) * [1, 2**0.5]
    samples = Dataset(x, x @ teacher.teacher.T, label_noise=0.5)
    np.testing.assert_allclose(samples.mode_moments(1), teacher.mode_moments(1), rtol=0.02)


def test_the_mode_equation_of_a_data_set():
    problem = Problem(DeepLinear((3, 4, 2)), whitened(20, 3, 2), init.Balanced(scale=0.1))
    sde = sc.theory.mode_sde(problem, sc.SGD(0.01, 2), 0)
    assert sde.fixed_point == pytest.approx(problem.data.modes.strengths[0])
    s = 0.7
    aligned = [s * np.outer(problem.data.modes.left[:, 0], problem.data.modes.right[:, 0])[None]]
    assert deep_linear.mode_noise(problem.data, 1.0, aligned)[0, 0] == pytest.approx(float(sde.g(s)))
    for method in (sc.SGD(0.01, 2, "shuffle"), sc.SGD(0.01, sampling="full"), sc.GD(0.01)):
        with pytest.raises(ValueError, match="independent samples"):
            sc.theory.mode_sde(problem, method, 0)
    assert sc.theory.mode_sde(problem, sc.GradientFlow(), 0).temperature == 0


# --- files


def same(one, other):
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.Y, other.Y)
    assert one == other


def test_a_data_set_goes_through_toml_without_loss():
    data = dataset(9, 3, 2, label_noise=1 / 3)
    problem = Problem(DeepLinear((3, 2)), data, init.Gaussian(scale=0.1))
    same(Problem.from_toml(problem.to_toml()).data, data)
    methods = [sc.SGD(0.1, 3, "shuffle"), sc.SGD(0.1, sampling="full")]
    for method in methods:
        assert run_from_toml(run_to_toml(problem, method, Plan(steps=3))) == (problem, method, Plan(steps=3))


def test_files_hold_the_same_data(tmp_path):
    data = dataset(9, 3, 2, label_noise=0.5)
    np.savez(tmp_path / "data.npz", X=data.X, Y=data.Y)
    rows = [
        "x1, x2 ,Y_one,X3,y2",
        *(
            f"{x[0]!r},{x[1]!r},{y[0]!r},{x[2]!r},{y[1]!r}"
            for x, y in zip(data.X.tolist(), data.Y.tolist(), strict=True)
        ),
    ]
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n\n")
    for name in ("data.npz", "data.csv"):
        same(Dataset.load(tmp_path / name, label_noise=0.5), data)
        tables = {
            "network": {"type": "DeepLinear", "widths": [3, 2]},
            "data": {"type": "Dataset", "path": name, "label_noise": 0.5},
            "init": {"type": "Gaussian", "scale": 0.1},
        }
        same(Problem.from_toml(tomli_w.dumps(tables), tmp_path).data, data)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x1,y1\n1,2\n3\n", "row 2"),
        ("a.csv", "x1,y1\n1,two\n", "number in column 'y1', got 'two'; encode the column"),
        ("a.csv", "x1,y1\n", "no samples"),
        ("a.csv", "", "name inputs x1"),
        ("a.csv", "1,2\n3,4\n", "name inputs x1"),
        ("a.csv", "x1,x2\n3,4\n", "labels y1"),
        ("a.csv", "x1,y1\n1,nan\n", "no value in column 'y1'"),
        ("a.npz", "x1,y1\n1,2\n", "is not an .npz of numeric arrays"),
        ("a.txt", "x1,y1\n1,2\n", ".npz or .csv"),
    ],
)
def test_files_that_hold_something_else(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        Dataset.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_arrays_that_are_not_there(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.eye(2))
    with pytest.raises(ValueError, match="no array 'Y'"):
        Dataset.load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", X=np.array([{}]), Y=np.eye(2))
    with pytest.raises(ValueError, match="of numeric arrays"):
        Dataset.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        Dataset.load(tmp_path / "b.npz")


# --- runs


def test_aligned_initial_weights_are_in_the_modes_of_the_data():
    data = dataset(30, 3, 2)
    problem = Problem(DeepLinear((3, 4, 2)), data, init.Balanced(scale=0.5))
    run = simulate(problem, sc.GD(0.01), Plan(steps=1, saves=1), engine="reference")
    np.testing.assert_allclose(run.mode_strength.sel(statistic="mean").isel(time=0), 0.25, atol=1e-12)
    np.testing.assert_allclose(run.alignment.sel(statistic="mean").isel(time=0), 1, atol=1e-12)


def test_a_file_can_be_split_in_its_table(tmp_path):
    data = dataset(20, 3, 2)
    np.savez(tmp_path / "data.npz", X=data.X, Y=data.Y)
    table = 'network = {type = "DeepLinear", widths = [3, 2]}\ninit = {type = "Gaussian", scale = 0.1}\n'
    text = table + 'data = {type = "Dataset", path = "data.npz", label_noise = 0.3, test = 5, seed = 4}'
    assert Problem.from_toml(text, tmp_path).data == data.split(5, seed=4)
    for wrong, match in (("test = 20", "less than the 20 samples"), ("seed = 4", "add test"), ("split = 4", "'split'")):
        with pytest.raises((TypeError, ValueError), match=match):
            Problem.from_toml(table + f'data = {{type = "Dataset", path = "data.npz", {wrong}}}', tmp_path)


def test_full_batches_and_gradient_descent_are_one():
    problem = Problem(DeepLinear((3, 4, 2)), dataset(30, 3, 2), init.Gaussian(scale=0.3))
    plan = Plan(steps=5, trajectories=3, keep="weights")
    one, other = (simulate(problem, m, plan) for m in (sc.GD(0.02), sc.SGD(0.02, sampling="full")))
    for name in one.data_vars:
        if name != "checkpoint":
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(("shape", "words"), [((50, 3, 2), "12 × 12"), ((9, 8, 1), "sample by sample, 9 a step")])
def test_a_run_says_how_its_noise_is_made(shape, words):
    problem = Problem(DeepLinear(shape[1:]), dataset(*shape), init.Gaussian(scale=0.1))
    assert words in simulate(problem, sc.Langevin(1e-3, 2), Plan(steps=1)).attrs["langevin_noise"]
    assert "langevin_noise" not in simulate(problem, sc.SGD(1e-3, 2), Plan(steps=1)).attrs


def test_advice_and_citation():
    problem = Problem(DeepLinear((3, 4, 2)), whitened(20, 3, 2), init.Balanced(scale=0.5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = simulate(problem, sc.SGD(3.0, 1), Plan(steps=1))
    said = " ".join(str(warning.message) for warning in caught)
    assert "stability edge" in said and "above T_c" in said
    assert "varre2024" in sc.cite(run) and "bartlett1933" not in sc.cite(run)


def test_a_run_goes_on_in_the_middle_of_an_epoch(tmp_path):
    """Extended, stored and loaded, or continued with another method."""
    problem = Problem(DeepLinear((3, 4, 2)), dataset(20, 3, 2), init.Gaussian(scale=0.3))
    plans = [Plan(steps=steps, trajectories=3, saves=1, keep="weights", save_at=[steps]) for steps in (7, 19)]
    method = sc.SGD(0.01, 3, "shuffle")
    whole = simulate(problem, method, plans[1])
    simulate(problem, method, plans[0], out=tmp_path / "run.zarr")
    extended = simulate(sc.load(tmp_path / "run.zarr"), plan=plans[1])
    for name in ("W1", "W2", "checkpoint"):
        last = whole[name] if name == "checkpoint" else whole[name].isel(time=-1)
        own = extended[name] if name == "checkpoint" else extended[name].isel(time=-1)
        np.testing.assert_array_equal(last.values, own.values)
    other = simulate(whole, sc.Langevin(0.01, 3), plans[0])
    assert np.isfinite(other.W1).all()
