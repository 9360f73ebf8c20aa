"""The parts of the rank-deficiency claims, on small ensembles."""

import numpy as np
import pytest

from saddlescope.claims.rank_deficiency import (
    deeper,
    determinant_line,
    eigenvalue_paths,
    eigenvalues,
    singular_values,
    step_size,
)
from saddlescope.claims.rank_deficiency._setting import SOURCE, drifted, follow, problem, small_steps
from saddlescope.claims.rank_deficiency._training import settle, train
from saddlescope.methods import GD, GradientFlow


def test_setting_of_the_source():
    data = problem(2.0).data
    assert (data.samples, data.dim_in, data.dim_out, data.label_noise) == (1000, 5, 2, 2.0)
    assert data.modes.strengths == pytest.approx([2.0, 1.0], abs=0.01)
    assert np.abs(data.residuals).max() < 0.02  # rounding to two decimals


def test_fall_of_the_determinant_over_a_short_path():
    """The closed-form rate added up along the path is the fall; the line alone is not."""
    path = follow("short", problem(2.0), GD(0.05), range(400), trajectories=128)
    fall, line = path.fall[-1, :, 0].mean(), determinant_line._line(path)
    assert path.integral(path.label_noise_rate())[-1].mean() == pytest.approx(fall, rel=0.01)
    assert path.integral(line)[-1].mean() > 0.6 * fall


def test_fall_is_predicted_from_the_initial_weights():
    path = follow("longer", problem(2.0), GD(0.02), range(400, 40_000, 3000), trajectories=8)
    predicted = determinant_line._predicted(path)[-1]
    assert path.fall[-1, :, 0].mean() == pytest.approx(predicted.mean(), rel=0.05)


def test_small_steps_hold_the_line_and_approach_it():
    """At fixed ηδ² the line does not depend on the step, and the deviation from it is proportional to dt."""
    paths = [determinant_line._small(dt, 0.2, 16) for dt in (0.004, 0.002)]
    lines = [path.integral(determinant_line._line(path))[-1, 0] for path in paths]
    assert lines == pytest.approx([-0.2, -0.2], rel=0.01)
    beyond = [(path.label_noise_rate() - determinant_line._line(path))[path.time > 10.0].mean() for path in paths]
    assert beyond[0] / beyond[1] == pytest.approx(2.0, rel=0.1)


def test_falls_without_part_of_the_gradient_term_are_rejected():
    path = determinant_line._small(0.02, 2.0, 64)
    verdicts = [determinant_line._share_of(path, share).verdict for share in (1.0, 0.0, 0.5)]
    assert verdicts == ["confirmed", "refuted", "refuted"]


def test_limits_are_on_a_straight_line():
    paths = [determinant_line._small(dt, 0.01, 48) for dt in (0.02, 0.005)]
    noise = np.random.default_rng(0).standard_normal(48)
    found = determinant_line._to_no_step(paths, [1 + 3 * dt + 0.01 * noise for dt in (0.02, 0.005)])
    assert found.value == pytest.approx(1 + 0.01 * noise.mean())


def test_paths_of_eigenvalues_keep_the_map_and_the_sum_of_the_line():
    """The averaged drift conserves the map, and its eigenvalues add up to the line."""
    noisy, method = small_steps(0.01, SOURCE, 0.5)
    predicted = eigenvalue_paths.predict(noisy, method.lr, 4)
    line = 2 * 0.5 * 2 * np.trace(noisy.data.sigma) / 1000 * np.diff(eigenvalue_paths.TIMES)
    assert -np.diff(predicted.logs.sum(axis=2), axis=0) == pytest.approx(np.tile(line[:, None], 4), rel=1e-3)
    start = [layer[-1] for layer in follow("flow", noisy, GradientFlow(0.05), (160,), 4).weights]
    *_, end = drifted(noisy, method.lr, start, 400.0, 40)
    assert end[1] @ end[0] == pytest.approx(start[1] @ start[0], abs=1e-4)


def test_short_paths_of_eigenvalues_are_predicted(monkeypatch):
    monkeypatch.setattr(eigenvalue_paths, "TIMES", (8.0, 200.0, 400.0))
    coarse, fine = (eigenvalue_paths._run(dt, 48) for dt in eigenvalue_paths.STEPS)
    predicted = eigenvalue_paths.predict(fine.problem, fine.method.lr, 48)
    limit = 2 * eigenvalue_paths._seen(fine) - eigenvalue_paths._seen(coarse)
    change = predicted.logs[-1] - predicted.logs[0]
    measured = (limit[-1] - limit[0]).mean(axis=0)
    assert measured == pytest.approx(change.mean(axis=0), abs=0.06)
    assert np.abs(measured - eigenvalue_paths._equal(fine, predicted)[-1].mean(axis=0)).max() > 0.3


def test_unused_singular_values_fall_at_the_rate_of_theory():
    noisy, quiet = (singular_values._run(0.1, noise, 6000.0, 8) for noise in (2.0, 0.0))
    assert singular_values._rate(noisy).mean() == pytest.approx(1.0, abs=0.15)
    assert np.abs(singular_values._rate(quiet)).max() < 0.05


def test_times_are_those_of_the_first_save_below_the_threshold():
    path = singular_values._run(0.1, 2.0, 6000.0, 2)
    times, values = singular_values._times(path), singular_values._singular(path)
    for member, place in np.ndindex(2, 3):
        save = np.searchsorted(path.time, times[member, place])
        assert values[save, member, 4 - place] < singular_values.THRESHOLD
        assert save <= 1 or values[save - 1, member, 4 - place] >= singular_values.THRESHOLD


@pytest.mark.parametrize("minibatch", [False, True])
def test_steps_of_eigenvalues_beyond_their_linear_part(minibatch):
    steps = [eigenvalues._steps("few", eigenvalues._close(0.1), minibatch, 30_000, fitted=True)]
    assert np.abs(steps[0].change - steps[0].linear).max() < 0.05 * np.abs(steps[0].change).max()
    assert eigenvalues._spread(steps).mean() == pytest.approx(1.0, abs=0.1)
    for part, like in (("repulsion", True), ("without", False), ("half", False), ("without_lambda", False)):
        ratio = eigenvalues._repelled(steps, part)
        error = 5 * ratio.std() / np.sqrt(len(ratio))
        assert bool(abs(ratio.mean() - 1) < error) == like


@pytest.mark.parametrize("loss", ["square", "logistic"])
def test_exact_identity_of_linear_layers_under_any_loss_and_not_of_relu(loss):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3)), rng.integers(2, size=(50, 2)).astype(float)
    start = 0.5 * rng.standard_normal((4, 7, 3)), 0.5 * rng.standard_normal((4, 2, 7))
    linear, relu = (train((x, y), start, 0.1, 2, 20.0, loss, kind) for kind in (False, True))
    assert step_size._fall(linear) == pytest.approx(linear.predicted, abs=1e-10)
    assert np.abs(step_size._fall(relu) - relu.predicted)[-1].min() > 0.01


def test_step_of_numpy_networks_is_the_gradient():
    """One step on one sample against differences of the loss."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1, 3)), np.array([[0.0, 1.0]])
    start = rng.standard_normal((1, 4, 3)), rng.standard_normal((1, 2, 4))

    def loss(first):
        f = start[1][0] @ np.maximum(first @ x[0], 0)
        return np.sum(np.log1p(np.exp(f)) - y[0] * f)

    after = train((x, y), start, 1e-3, 1, 1e-3, "logistic", relu=True, saves=1)
    for place in np.ndindex(4, 3):
        change = np.zeros((4, 3))
        change[place] = 1e-6
        slope = (loss(start[0][0] + change) - loss(start[0][0] - change)) / 2e-6
        assert (after.first[0, 0] - after.first[1, 0])[place] / 1e-3 == pytest.approx(slope, abs=1e-6)


def test_every_pair_of_a_deeper_network_falls_at_its_own_rate():
    path = deeper._run((5, 10, 4, 8, 2), 5000, 16)
    for pair in (0, 2):
        fall = deeper._fall(path, pair)
        assert path.integral(path.label_noise_rate(pair))[-1].mean() == pytest.approx(fall.mean(), rel=0.03)
        assert abs(deeper._noise(path, pair).mean()) < 0.8 * abs(fall.mean())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("loss", ["square", "logistic"])
def test_settling_goes_down_loss_and_regulariser(loss, relu):
    """One step against differences of ``𝓛 + (T/4)Σ⟨e²‖∂f/∂θ‖²⟩``, the errors held at the start."""
    rng, T, h = np.random.default_rng(0), 0.7, 0.25
    x, y = rng.standard_normal((20, 3)), rng.integers(2, size=(20, 2)).astype(float)
    start = rng.standard_normal((1, 4, 3)), rng.standard_normal((1, 2, 4))

    def forward(first, second):
        hidden = x @ first.T
        hidden = np.maximum(hidden, 0) if relu else hidden
        return hidden, hidden @ second.T

    output = forward(start[0][0], start[1][0])[1]
    held = ((1 / (1 + np.exp(-output)) if loss == "logistic" else output) - y) ** 2

    def whole(first, second):
        hidden, f = forward(first, second)
        active = (x @ first.T > 0) if relu else np.ones_like(hidden)
        slopes = (active @ (second**2).T) * (x**2).sum(axis=1)[:, None] + (hidden**2).sum(axis=1)[:, None]
        costs = np.log1p(np.exp(f)) - y * f if loss == "logistic" else (f - y) ** 2 / 2
        return (costs + T / 4 * held * slopes).sum() / len(x)

    after = settle((x, y), start, T, h, h, loss, relu)
    for which, place in [(0, (0, 1)), (0, (3, 2)), (1, (0, 0)), (1, (1, 3))]:
        up, down = ([layer[0].copy() for layer in start] for _ in range(2))
        up[which][place] += 1e-6
        down[which][place] -= 1e-6
        slope = (whole(*up) - whole(*down)) / 2e-6
        assert (start[which] - after[which])[0][place] / h == pytest.approx(slope, rel=1e-3, abs=1e-4)


def test_settling_of_linear_layers_is_the_averaged_drift():
    """Two derivations of the effect of noise on regression; residuals of ± 1, so that all squares are equal."""
    noisy = problem(1.0)
    flow = follow("flow", noisy, GradientFlow(0.05), (200,), 4)
    start = [layer[-1] for layer in flow.weights]
    *_, drift = drifted(noisy, 1000 * 0.005, start, 100.0, 20)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=noisy.data.Y.shape)
    settled = settle((noisy.data.X, noisy.data.Y + signs), (start[0], start[1]), 0.005, 100.0, 0.1)
    before, there, here = (np.linalg.svd(w, compute_uv=False) for w in (start[0], drift[0], settled[0]))
    falls = (np.log(after / before)[:, 2:].mean() for after in (here, there))
    assert next(falls) == pytest.approx(next(falls), rel=0.05)
