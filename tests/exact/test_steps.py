"""One step of every method against its formula in the original basis, and exactly known paths."""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope import GD, SGD, GradientFlow, Langevin, Plan, init
from saddlescope.data.base import out_of_modes
from saddlescope.init import draw
from saddlescope.observables import excess_loss
from saddlescope.schedules import Cosine, Warmup
from support import LR, METHODS, PROBLEMS, covariance, pairs, problem

N = 4


def start_of(engine, problem, method, steps=1):
    run = engine(problem, method, Plan(steps=steps, trajectories=N, seed=2))
    return run, run.init()


def gradients(problem, weights, map_gradient):
    """``W_{>l}ᵀ Ḡ W_{<l}ᵀ``, layer by layer and trajectory by trajectory."""
    out = []
    for l in range(len(weights)):
        rows = []
        for k in range(len(weights[0])):
            above, below = np.eye(problem.data.dim_out), np.eye(problem.data.dim_in)
            for layer in reversed(weights[l + 1 :]):
                above = above @ layer[k]
            for layer in weights[:l]:
                below = layer[k] @ below
            rows.append(above.T @ map_gradient[k] @ below.T)
        out.append(np.array(rows))
    return out


def errors(problem, weights):
    """Δ in the original basis."""
    return np.array(
        [np.linalg.multi_dot([*layers[::-1], np.eye(problem.data.dim_in)]) for layers in zip(*weights, strict=True)]
    ) - (problem.data.teacher)


@pytest.mark.parametrize("name", PROBLEMS)
def test_gradient_descent_goes_down_the_loss(engine, name):
    """Against the derivative of the loss by a complex step, entry by entry."""
    run, state = start_of(engine, PROBLEMS[name], GD(LR))
    before, after = run.weights(state), run.weights(run.advance(state, 1))
    for l, layer in enumerate(before):
        for i, j in np.ndindex(layer.shape[1:]):
            shifted = [w.astype(complex) for w in before]
            shifted[l][:, i, j] += 1e-30j
            slope = excess_loss(PROBLEMS[name].data, shifted).imag / 1e-30
            np.testing.assert_allclose(after[l][:, i, j], layer[:, i, j] - LR * slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "method"), pairs(methods=["gradient", "gradient, dt", "aligned", "isotropic", "isotropic, dt"])
)
def test_langevin_step_with_given_normals(engine, name, method):
    problem, method = PROBLEMS[name], METHODS[method]
    run, state = start_of(engine, problem, method)
    normals = np.random.default_rng(0).standard_normal((N, 1, run.normals_per_step))
    before, after = run.weights(state), run.weights(run.advance(state, 1, normals))
    for k in range(N):
        alone = [layer[k : k + 1] for layer in before]
        expected = langevin_step(problem, method, alone, normals[k, 0])
        for got, want in zip(after, expected, strict=True):
            np.testing.assert_allclose(got[k], want[0], rtol=1e-12, atol=1e-13)


def langevin_step(problem, method, weights, normals):
    data, dt = problem.data, method.time_step
    left, right = data.bases
    root, error = right @ data.root, errors(problem, weights)[0]
    mean = error @ data.sigma
    slopes = gradients(problem, weights, [mean])
    if method.noise == "isotropic":
        deviation = np.sqrt(method.temperature * dt * noise_trace(problem, weights, error) / problem.network.parameters)
        ends = np.cumsum([layer[0].size for layer in weights])
        xi = [part.reshape(layer.shape) for part, layer in zip(np.split(normals, ends), weights, strict=False)]
        moves = zip(weights, slopes, out_of_modes(data, tuple(xi)), strict=True)
        return [w - dt * g + deviation * x for w, g, x in moves]
    rank = root.shape[1]
    h, used = np.zeros((rank, rank)), 0
    for i in range(rank):
        for j in range(i + 1):
            h[i, j] = h[j, i] = normals[used] * (np.sqrt(2) if i == j else 1)
            used += 1
    z = normals[used:].reshape(data.dim_out, rank) if data.label_noise else np.zeros((data.dim_out, rank))
    noise = np.sqrt(method.lr / method.batch_size / dt) * (error @ root @ h - data.label_noise * left @ z) @ root.T
    if method.noise == "aligned":
        u, v = data.modes.left, data.modes.right
        noise = u @ np.diag(np.diag(u.T @ noise @ v)) @ v.T
    return [w - dt * g for w, g in zip(weights, gradients(problem, weights, [mean + noise]), strict=True)]


def noise_trace(problem, weights, error):
    """``Tr C`` from the diagonal of the covariance of every layer's gradient, entry by entry."""
    data, total = problem.data, 0.0
    spread = error @ data.sigma @ error.T + data.label_noise**2 * np.eye(data.dim_out)
    for l, layer in enumerate(weights):
        above, below = np.eye(data.dim_out), np.eye(data.dim_in)
        for upper in reversed(weights[l + 1 :]):
            above = above @ upper[0]
        for lower in weights[:l]:
            below = lower[0] @ below
        for i, j in np.ndindex(layer.shape[1:]):
            p, q = above[:, i], below[j]
            total += (p @ spread @ p) * (q @ data.sigma @ q) + (p @ error @ data.sigma @ q) ** 2
    return total


def test_langevin_with_dt_equal_to_lr_is_the_default(engine):
    problem = PROBLEMS["deep"]
    default, given = Langevin(LR, 4), Langevin(LR, 4, dt=LR)
    ends = [
        run.weights(run.advance(state, 5)) for run, state in (start_of(engine, problem, m, 5) for m in (default, given))
    ]
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sgd_with_a_huge_batch_is_gradient_descent(engine):
    ends = [
        run.weights(run.advance(state, 20))
        for run, state in (start_of(engine, PROBLEMS["deep"], m, 20) for m in (GD(LR), SGD(LR, 10**14)))
    ]
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("sigma", [None, covariance(4), covariance(4, rank=2)], ids=["white", "coloured", "rank 2"])
def test_linear_regression_is_a_linear_recursion(engine, sigma):
    """L = 1: ``Δ_k = Δ_0 (I − ηΣ)^k``, and gradient flow ``Δ(t) = Δ_0 exp(−Σt)``."""
    regression = problem((4, 3), sigma=sigma)
    values, vectors = np.linalg.eigh(regression.data.sigma)
    initial = draw(regression.init, regression.network, regression.data, 2, range(N))[0] - regression.data.teacher
    for method, factors in ((GD(LR), (1 - LR * values) ** 40), (GradientFlow(LR), np.exp(-40 * LR * values))):
        run, state = start_of(engine, regression, method, 40)
        error = run.weights(run.advance(state, 40))[0] - regression.data.teacher
        np.testing.assert_allclose(error, initial @ (vectors * factors) @ vectors.T, atol=1e-11)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_aligned_noise_on_aligned_weights_moves_every_mode_by_its_own_noise(engine, depth):
    """``a ← a − dt a^{L−1} ((s − s*) + √(T/dt) ((s − s*)√2 h_αα − σ z_αα))`` on shared noise, path by path."""
    widths = (4, *[5] * (depth - 1), 3)
    aligned = problem(widths, init=init.Balanced(scale=0.8))
    method, steps = Langevin(LR, 2, noise="aligned", dt=0.02), 50
    run, state = start_of(engine, aligned, method, steps)
    normals = np.random.default_rng(1).standard_normal((N, steps, run.normals_per_step))
    modes = np.arange(3)
    h = normals[:, :, modes * (modes + 3) // 2]
    z = normals[:, :, 10:].reshape(N, steps, 3, 4)[:, :, modes, modes]
    a = np.full((N, 3), 0.8)
    for k in range(steps):
        error = a**depth - aligned.data.modes.strengths
        noise = error * np.sqrt(2) * h[:, k] - aligned.data.label_noise * z[:, k]
        a = a - 0.02 * a ** (depth - 1) * (error + np.sqrt(method.temperature / 0.02) * noise)
    end = run.advance(state, steps, normals)
    np.testing.assert_allclose(run.observe(end)["mode_strength"], a**depth, rtol=1e-10)
    np.testing.assert_allclose(run.observe(end)["alignment"], 1, rtol=1e-10)


@pytest.mark.parametrize("noise", ["gradient", "aligned", "isotropic"])
def test_float32_follows_float64_on_the_same_noise(engine, noise):
    problem, method = PROBLEMS["wide"], Langevin(LR, 16, noise=noise)
    ends, normals = [], None
    for dtype in ("float64", "float32"):
        run = engine(problem, method, Plan(steps=60, trajectories=N, dtype=dtype))
        if normals is None:
            normals = np.random.default_rng(6).standard_normal((N, 60, run.normals_per_step))
        ends.append(run.weights(run.advance(run.init(), 60, normals.astype(dtype))))
    for double, single in zip(*ends, strict=True):
        np.testing.assert_allclose(single, double, atol=2e-5)
        assert (single != double).any()


# --- weight decay, schedules, the modified equation


@pytest.mark.parametrize("method", ["gd", "sgd 2", "sgd 64", "gradient, dt", "aligned", "isotropic"])
def test_weight_decay_takes_its_share_of_every_layer(engine, method):
    """A step with decay γ is the step without on the same noise, less dt γ W."""
    plain, ends = METHODS[method], []
    for decay in (0.0, 0.7):
        run, state = start_of(engine, PROBLEMS["deep"], replace(plain, weight_decay=decay))
        ends.append(run.weights(run.advance(state, 1)))
    for layer, without, with_decay in zip(run.weights(state), *ends, strict=True):
        np.testing.assert_allclose(with_decay, without - 0.7 * plain.time_step * layer, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "method", ["gd", "sgd 2", "sgd 64", "gradient, dt", "aligned", "isotropic", "gradient, order 2"]
)
def test_a_step_under_a_schedule_is_that_of_its_learning_rate(engine, method):
    """The factor scales lr, dt and T of a step; the same state and noise at the scaled rate give the same weights."""
    plain, schedule = METHODS[method], Warmup(3, Cosine(5, floor=0.2))
    run, state = start_of(engine, PROBLEMS["deep"], replace(plain, weight_decay=0.3, schedule=schedule), 9)
    for step in range(9):
        factor = float(schedule.at(step))
        after = run.advance(state, step + 1)
        changes = {"lr": plain.lr * factor, "weight_decay": 0.3}
        if getattr(plain, "dt", None):
            changes["dt"] = plain.dt * factor
        constant = engine(PROBLEMS["deep"], replace(plain, **changes), run.plan)
        for a, b in zip(run.weights(after), constant.weights(constant.advance(state, step + 1)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
        state = after


@pytest.mark.parametrize("noise", ["gradient", "aligned", "isotropic"])
@pytest.mark.parametrize("name", ["wide", "deep", "coloured", "rank 2", "regression", "thin"])
def test_order_two_goes_down_the_modified_loss(engine, name, noise):
    """Without noise: ``−dt ∇(𝓛_γ + (η/4)‖∇𝓛_γ‖²)`` with the last gradient by a complex step, entry by entry."""
    problem, decay = PROBLEMS[name], 0.4
    if noise == "aligned" and not problem.data.diagonal_in_modes:
        return
    method = Langevin(lr=0.3, batch_size=4, noise=noise, dt=0.01, order=2, weight_decay=decay)
    run, state = start_of(engine, problem, method)
    before = run.weights(state)
    after = run.weights(run.advance(state, 1, np.zeros((N, 1, run.normals_per_step))))
    for l, layer in enumerate(before):
        for i, j in np.ndindex(layer.shape[1:]):
            shifted = [w.astype(complex) for w in before]
            shifted[l][:, i, j] += 1e-30j
            slope = modified_loss(problem, shifted, method.lr, decay).imag / 1e-30
            np.testing.assert_allclose(after[l][:, i, j], layer[:, i, j] - 0.01 * slope, rtol=1e-12, atol=1e-14)


def modified_loss(problem, weights, lr, decay):
    """``𝓛_γ + (η/4)‖∇𝓛_γ‖²`` (n,), of complex weights too."""
    slopes = gradients(problem, weights, errors(problem, weights) @ problem.data.sigma)
    square = sum(((g + decay * w) ** 2).sum(axis=(1, 2)) for g, w in zip(slopes, weights, strict=True))
    size = sum((w**2).sum(axis=(1, 2)) for w in weights)
    return excess_loss(problem.data, weights) + decay / 2 * size + lr / 4 * square


def test_order_one_does_not_go_down_the_modified_loss(engine):
    """Negative control: the drifts differ by much more than rounding."""
    ends = []
    for order in (1, 2):
        run, state = start_of(engine, PROBLEMS["wide"], Langevin(lr=0.3, batch_size=4, dt=0.01, order=order))
        ends.append(run.weights(run.advance(state, 1, np.zeros((N, 1, run.normals_per_step))))[0])
    assert np.abs(ends[0] - ends[1]).max() > 1e-4
