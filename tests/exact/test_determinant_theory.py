"""The determinant of neighbouring layers and its eigenvalues: exact steps, Itô's formula, effect of label noise."""

import itertools

import numpy as np
import pytest
from scipy import linalg

import saddlescope as sc
from saddlescope import observables
from saddlescope.engines import make_engine
from saddlescope.networks import deep_linear
from saddlescope.theory.network import determinant
from saddlescope.theory.network.determinant import label_noise_drift
from support import batch_gradients, covariance, dataset, has_mean

TEMPERATURE = 0.1
SHAPES = [((3, 7, 2), 0), ((3, 6, 2, 5, 2), 0), ((3, 6, 2, 5, 2), 2), ((3, 2, 6, 2), 1)]


def draw(widths, seed=0, count=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((count, b, a)) / 2 for a, b in itertools.pairwise(widths)]


def problem_data(kind, dim_in, dim_out):
    teacher = np.random.default_rng(5).standard_normal((dim_out, dim_in))
    if kind == "white":
        return sc.GaussianData(teacher, label_noise=0.7)
    return sc.GaussianData(teacher, covariance(dim_in), 0.7) if kind == "coloured" else dataset(9, dim_in, dim_out)


def gradient_directions(data, error, share):
    """Gradients Ḡ (k, dy, dx) whose outer products sum to the covariance of one sample's."""
    if isinstance(data, sc.Dataset):
        each = np.einsum("ni,nj->nij", data.X @ error.T - data.residuals, data.X)
        sampled = np.sqrt(share / data.samples) * (each - each.mean(axis=0))
        values, vectors = np.linalg.eigh(data.sigma)
        labels = data.label_noise * np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
        return np.concatenate(
            [sampled, *(np.eye(data.dim_out)[i][:, None] * labels[:, None] for i in range(data.dim_out))]
        )
    samples = batch_gradients(data, error, 1, 200_000, seed=1)
    return (samples - samples.mean(axis=0)) / np.sqrt(len(samples))


def log_eigenvalues(weights, interface):
    return 2 * np.log(np.linalg.svd(determinant.neighbours(weights, interface), compute_uv=False))


def moved(weights, gradients, size):
    """Every layer after a step of this size along each gradient of the map."""
    above, below = deep_linear.surroundings(weights)
    turned = (a.transpose(0, 2, 1) @ gradients @ b.transpose(0, 2, 1) for a, b in zip(above, below, strict=True))
    return [layer - size * change for layer, change in zip(weights, turned, strict=True)]


@pytest.mark.parametrize("lr", [0.0, 0.3])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("widths", "interface"), SHAPES)
def test_eigenvalues_by_second_differences(widths, interface, share, lr):
    """Itô's formula and the second order of a step, by differences along every direction of the noise."""
    data, weights = problem_data("finite", widths[0], widths[-1]), draw(widths)
    error = (deep_linear.end_to_end(weights) - data.teacher)[0]
    noise, mean = gradient_directions(data, error, share), (error @ data.sigma)[None]

    def eigenvalues(gradients, size):
        return np.exp(log_eigenvalues(moved(weights, gradients, size), interface))

    def second(gradients, size=1e-4):
        there, back = eigenvalues(gradients, size), eigenvalues(gradients, -size)
        return (there + back - 2 * eigenvalues(0 * gradients[:1], size)).sum(axis=0) / (2 * size**2)

    def first(gradients, size=1e-5):
        return (eigenvalues(gradients, size) - eigenvalues(gradients, -size)) / (2 * size)

    law = determinant.eigenvalue_sde(data, TEMPERATURE, weights, interface, lr, share)
    slopes = first(noise)
    np.testing.assert_allclose(law.pull[0], first(mean)[0], rtol=1e-6, atol=1e-8)
    expected = TEMPERATURE * second(noise) + lr * second(mean)
    np.testing.assert_allclose(law.repulsion[0], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(law.covariance[0], TEMPERATURE * slopes.T @ slopes, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["white", "coloured", "finite"])
@pytest.mark.parametrize(("widths", "interface"), SHAPES)
def test_eigenvalues_and_determinant_agree(kind, widths, interface):
    """``Σ (drift_i/λ_i − variance_i/(2λ_i²))`` is the rate of log det N, in which the pull cancels."""
    data, weights = problem_data(kind, widths[0], widths[-1]), draw(widths, count=3)
    law = determinant.eigenvalue_sde(data, TEMPERATURE, weights, interface)
    variance = np.diagonal(law.covariance, axis1=1, axis2=2)
    terms = law.repulsion / law.eigenvalues - variance / (2 * law.eigenvalues**2)
    rate = determinant.log_det_rate(data, TEMPERATURE, weights, interface)
    np.testing.assert_allclose(terms.sum(axis=1), rate, rtol=1e-9)
    np.testing.assert_allclose((law.pull / law.eigenvalues).sum(axis=1), 0, atol=1e-12)
    noise = np.einsum("nij,ni,nj->n", law.covariance, 1 / law.eigenvalues, 1 / law.eigenvalues)
    np.testing.assert_allclose(noise, 0, atol=1e-12)  # the determinant has no noise of first order


@pytest.mark.parametrize("kind", ["white", "coloured"])
@pytest.mark.parametrize("method", [sc.SGD(2e-3, 1), sc.SGD(4e-3, 4)], ids=str)
def test_rate_is_the_mean_step_of_sgd(kind, method):
    """Drawn batches lower log det N at the predicted rate, not at that without the mean gradient."""
    data, weights = problem_data(kind, 3, 2), draw((3, 7, 2))
    error = (deep_linear.end_to_end(weights) - data.teacher)[0]
    gradients = batch_gradients(data, error, method.batch_size, 200_000, seed=2)
    seen = determinant.neighbour_gradient(weights, gradients)
    steps = determinant.log_det_step(seen, method.lr)
    sample = -2 * method.lr**2 * (seen**2).sum(axis=(1, 2))
    np.testing.assert_allclose(steps.mean(), sample.mean(), rtol=0.02)  # the rest is of order η⁴
    rate = determinant.log_det_rate(data, method.temperature, weights, lr=method.lr)
    assert has_mean(sample, method.lr * rate)
    assert not has_mean(sample, method.lr * determinant.log_det_rate(data, method.temperature, weights))


@pytest.mark.parametrize("decay", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["coloured", "finite"])
def test_step_of_the_engine(kind, decay):
    """One step of SGD, from the weights before and after and the gradient between them."""
    widths, lr = (3, 6, 2, 5, 2), 0.05
    start = sc.init.Gaussian(scale=0.5)
    problem = sc.Problem(sc.DeepLinear(widths), problem_data(kind, 3, 2), start)
    engine = make_engine("auto", problem, sc.SGD(lr, 2, weight_decay=decay), sc.Plan(steps=1, trajectories=5))
    state = engine.init()
    before, after = engine.weights(state), engine.weights(engine.advance(state, 1))
    for interface in (0, 2):
        lower, upper = before[interface : interface + 2]
        change = (1 - lr * decay) * lower - after[interface]
        gradient = np.linalg.pinv(upper.transpose(0, 2, 1)) @ change / lr
        fall = determinant.log_det(after, interface) - determinant.log_det(before, interface)
        np.testing.assert_allclose(fall, determinant.log_det_step(gradient, lr, decay), atol=1e-11)
        assert decay == 0 or np.abs(fall - determinant.log_det_step(gradient, lr)).min() > 1e-2
        np.testing.assert_allclose(determinant.log_det(before, interface), deep_linear.log_det(before)[:, interface])


def test_straight_line_of_the_source():
    """Label noise δ at full batch: ``−2ηδ²dy Tr(S_xx)/n − 2η‖ΔS_xx‖²``."""
    data, weights, lr = dataset(12, 3, 2, label_noise=2.0), draw((3, 7, 2)), 0.01
    error = deep_linear.end_to_end(weights) - data.teacher
    line, bend = 2 * lr * 4.0 * 2 * np.trace(data.sigma) / 12, 2 * lr * np.sum((error @ data.sigma) ** 2)
    rate = determinant.log_det_rate(data, lr / 12, weights, lr=lr, share=0.0)
    np.testing.assert_allclose(rate, -line - bend, rtol=1e-12)


def test_what_the_straight_line_leaves_out():
    """Fourth moments of label noise, ``−(η³δ⁴dy/n²)(Tr(S_xx)² + (dy + 1)Tr S_xx²)`` per time, with no other dy + 1."""
    n, lr, noise = 12, 0.1, 2.0
    sigma = dataset(n, 3, 2).sigma
    normals = np.random.default_rng(3).standard_normal((200_000, 2, 3))
    gradient = noise / np.sqrt(n) * normals @ np.linalg.cholesky(sigma).T
    left_out = determinant.log_det_step(gradient, lr) + 2 * lr**2 * np.sum(gradient**2, axis=(1, 2))
    error = left_out.std() / np.sqrt(len(left_out))
    for factor, right in ((3, True), (2, False), (4, False)):
        fourth = 2 * (np.trace(sigma) ** 2 + factor * np.trace(sigma @ sigma)) * lr**4 * noise**4 / n**2
        assert (abs(left_out.mean() / -fourth - 1) < 0.02 + 5 * error / fourth) == right


def fitted(data, widths, seed=0):
    """Two Gaussian layers, the last turned so that the map is the teacher."""
    first, second = draw(widths, seed)
    return [first, second + (data.teacher - second @ first) @ np.linalg.pinv(first)]


def test_label_noise_leaves_the_map_and_lowers_the_determinant():
    data = sc.GaussianData(np.random.default_rng(5).standard_normal((2, 3)), covariance(3), 0.7)
    weights = fitted(data, (3, 7, 2))
    first, second = label_noise_drift(data, TEMPERATURE, weights)
    np.testing.assert_allclose(weights[1] @ first + second @ weights[0], 0, atol=1e-12)
    size = 1e-5
    there, back = ([w + sign * size * d for w, d in zip(weights, (first, second), strict=True)] for sign in (1, -1))
    slope = (determinant.log_det(there) - determinant.log_det(back)) / (2 * size)
    np.testing.assert_allclose(slope, determinant.log_det_rate(data, TEMPERATURE, weights), rtol=1e-6)


UNEVEN = sc.GaussianData(np.diag([1.0, 0.7])[:, [0, 1, 1, 1]] * [1, 1, 0, 0], label_noise=1.0)
"""A teacher that uses two of four inputs."""


def test_error_that_label_noise_keeps_up():
    """``⟨‖ΔΣ‖²⟩`` of ``dΔ = −(ΔΣX + YΔΣ)dt − (J X + Y J)``, from its Lyapunov equation."""
    data = sc.GaussianData(np.random.default_rng(5).standard_normal((2, 3)), covariance(3), 0.7)
    first, second = weights = fitted(data, (3, 7, 2))
    eye, root = np.eye(2), np.linalg.cholesky(data.sigma)
    pull = np.kron(eye, (first[0].T @ first[0])) + np.kron(second[0] @ second[0].T, np.eye(3))
    noise = np.sqrt(TEMPERATURE) * data.label_noise * pull @ np.kron(eye, root)
    stationary = linalg.solve_continuous_lyapunov(pull @ np.kron(eye, data.sigma), noise @ noise.T)
    square = np.trace(np.kron(eye, data.sigma) @ stationary @ np.kron(eye, data.sigma))
    rates = [determinant.settled_rate(data, TEMPERATURE, weights, lr) for lr in (0.3, 0.0)]
    np.testing.assert_allclose(rates[0] - rates[1], -2 * 0.3 * square, rtol=1e-12)
    np.testing.assert_allclose(rates[1], determinant.log_det_rate(data, TEMPERATURE, weights), rtol=1e-12)


def drifted(weights, temperature, time, steps=40):
    """The weights after this time of the averaged drift, by the midpoint rule."""
    h = time / steps
    for _ in range(steps):
        half = [w + h / 2 * d for w, d in zip(weights, label_noise_drift(UNEVEN, temperature, weights), strict=True)]
        weights = [w + h * d for w, d in zip(weights, label_noise_drift(UNEVEN, temperature, half), strict=True)]
    return weights


def grams(weights):
    """Means of ``W_1ᵀW_1`` and ``W_2W_2ᵀ``."""
    first, second = weights
    return (first.transpose(0, 2, 1) @ first).mean(axis=0), (second @ second.transpose(0, 2, 1)).mean(axis=0)


def test_label_noise_drift_is_the_mean_of_runs():
    """Once the map fluctuates about the teacher, runs at small T follow the averaged drift, and not that of 0.9 T."""
    start, lr, steps = fitted(UNEVEN, (4, 7, 2)), 0.01, (500, 10_500)
    problem = sc.Problem(sc.DeepLinear((4, 7, 2)), UNEVEN, sc.init.Given([w[0] for w in start]))
    method = sc.Langevin(lr, 10.0)
    engine = make_engine("auto", problem, method, sc.Plan(steps=steps[1], trajectories=512))
    state = engine.advance(engine.init(), steps[0])
    early, late = engine.weights(state), engine.weights(engine.advance(state, steps[1]))
    time = lr * (steps[1] - steps[0])
    expected, wrong = (grams(drifted(early, share * method.temperature, time)) for share in (1.0, 0.9))
    for before, seen, right, other in zip(grams(early), grams(late), expected, wrong, strict=True):
        path = np.abs(right - before).max()
        assert np.abs(seen - right).max() < 0.03 * path
        assert np.abs(seen - other).max() > 0.08 * path


def test_time_at_which_singular_values_have_fallen():
    """At the predicted time, the second of two unused singular values is at the threshold."""
    start, lr, threshold = fitted(UNEVEN, (4, 7, 2)), 0.01, 0.5
    method = sc.Langevin(lr, 5.0)
    expected = determinant.fall_times(UNEVEN, method.temperature, start, threshold)[0]
    problem = sc.Problem(sc.DeepLinear((4, 7, 2)), UNEVEN, sc.init.Given([w[0] for w in start]))
    steps = np.rint(expected / lr).astype(int)
    engine = make_engine("auto", problem, method, sc.Plan(steps=int(steps[1]), trajectories=128))
    state = engine.init()
    for place, step in enumerate(steps):
        state = engine.advance(state, int(step))
        first = engine.weights(state)[0]
        unused = np.linalg.svd(first[:, :, 2:], compute_uv=False)[:, ::-1]
        np.testing.assert_allclose(np.exp(np.log(unused[:, place]).mean()), threshold, rtol=0.02)
        assert (np.linalg.svd(first, compute_uv=False)[:, 3 - place] <= unused[:, place]).all()
    silent = sc.GaussianData(UNEVEN.teacher)
    assert np.isinf(determinant.fall_times(silent, method.temperature, start, threshold)).all()
    assert (determinant.fall_times(UNEVEN, method.temperature, start, 10.0) == 0).all()


def test_rank_counts_directions():
    matrices = np.diag([1.0, 0.5, 1e-3])[None] * np.ones((2, 1, 1))
    assert determinant.rank(matrices).tolist() == [2, 2]
    assert determinant.rank(matrices, threshold=1e-4).tolist() == [3, 3]
    np.testing.assert_allclose(determinant.effective_rank(matrices), observables.effective_rank([matrices]))
    assert determinant.effective_rank(np.zeros((1, 2, 2))) == 0


def test_refusals():
    data, weights = problem_data("white", 3, 2), draw((3, 7, 2))
    with pytest.raises(ValueError, match="interface must be from 0 to 0, got 1"):
        determinant.neighbours(weights, 1)
    with pytest.raises(ValueError, match=r"interface 0 must be at least 3 \+ 2 wide, got 4"):
        determinant.log_det(draw((3, 4, 2)))
    with pytest.raises(ValueError, match="weights must be those of two layers here, got 3"):
        determinant.fall_times(data, 0.1, draw((3, 6, 6, 2)), 0.1)
    equal = [np.eye(5)[None, :, :3], np.eye(5)[None, 3:]]
    with pytest.raises(ValueError, match="eigenvalues of N must differ"):
        determinant.eigenvalue_sde(data, 0.1, equal)
