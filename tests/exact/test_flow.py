"""Gradient flow conserves balance and determinant over whole runs, and follows known curves."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from saddlescope import GradientFlow, Plan, init
from saddlescope.networks.deep_linear import balance, log_det
from saddlescope.theory import mode_sde
from support import PROBLEMS, covariance, largest, problem

RUNS = {
    "two layers": (problem((4, 8, 3), scale=1e-2), 4000),
    "three layers": (problem((4, 6, 6, 3), scale=0.1), 6000),
    "four layers, coloured": (problem((3, 5, 5, 5, 3), scale=0.35, sigma=covariance(3)), 3000),
    "rank 2": (problem((4, 8, 3), scale=0.05, sigma=covariance(4, rank=2)), 6000),
    "bottleneck": (problem((4, 2, 4), scale=0.05), 6000),
}


@pytest.mark.parametrize("name", RUNS)
def test_balance_and_determinant_over_a_whole_run(engine, name):
    flow, steps = RUNS[name]
    run = engine(flow, GradientFlow(lr=0.02), Plan(steps=steps, trajectories=3))
    state = run.init()
    start = run.weights(state)
    for step in np.linspace(0, steps, 12).astype(int):
        state = run.advance(state, int(step))
        weights = run.weights(state)
        for q, q0 in zip(balance(weights), balance(start), strict=True):
            drift = np.linalg.norm(q - q0, axis=(1, 2)) / largest(weights)
            assert drift.max() < 1e-12, "1e-9 is promised"
        np.testing.assert_allclose(log_det(weights), log_det(start), rtol=1e-9)
    assert np.abs(run.observe(state)["excess_loss"] - _lowest(flow)).max() < 1e-12, "the run must end in the minimum"


def _lowest(flow):
    """Excess loss of the best map the network can express (white inputs, or full rank)."""
    strengths = flow.data.modes.strengths
    return 0.5 * (strengths[min(flow.network.widths) :] ** 2).sum()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_known_curves_of_aligned_modes(engine, depth):
    """``ds/dt = L s^{2−2/L}(s* − s)``: time as a function of s, in closed form or by quadrature."""
    aligned = problem((4, *[5] * (depth - 1), 3), init=init.Balanced(scale=0.2))
    run = engine(aligned, GradientFlow(lr=0.05), Plan(steps=80, trajectories=1))
    target = aligned.data.modes.strengths
    state = run.init()
    for step in (1, 10, 80):
        state = run.advance(state, step)
        reached = run.observe(state)["mode_strength"][0]
        time = [_time(0.2**depth, s, s1, depth) for s, s1 in zip(reached, target, strict=True)]
        near_end = target - reached < 1e-3 * target
        np.testing.assert_allclose(np.where(near_end, step * 0.05, time), step * 0.05, rtol=1e-8)


def _time(start, end, target, depth):
    """Time from ``start`` to ``end``: ``dt = s^{2/L−1}/(L s*) du``, ``u = log(s/(s* − s))``, by Gauss–Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    first, last = (np.log(s / (target - s)) for s in (start, end))
    half = 0.5 * (last - first)
    s = target / (1 + np.exp(-(first + half * (nodes + 1))))
    return half * (weights * s ** (2 / depth - 1)).sum() / (depth * target)


def test_learning_times_on_a_fine_clock(engine):
    """L = 2: ``s = s*/(1 + (s*/s₀ − 1)e^{−2s*t})`` crosses θs* at a known time; the step is the first one after."""
    aligned = problem((3, 4, 3), init=init.Balanced(scale=0.1))
    run = engine(aligned, GradientFlow(lr=1e-4), Plan(steps=100_000))
    learned = run.advance(run.init(), 100_000).learned[0]
    s = aligned.data.modes.strengths
    for q, theta in enumerate((0.5, 0.9)):
        time = np.log((s / 0.01 - 1) * theta / (1 - theta)) / (2 * s)
        np.testing.assert_array_equal(learned[q], np.ceil(time / 1e-4))


@pytest.mark.parametrize("lr", [1e-3, 0.03, 0.7])
def test_the_clock_does_not_matter(engine, lr):
    """Weights at one time are the same for any clock; learning times are the same up to a tick."""
    ends, times = [], []
    for clock in (lr, 7 * lr):
        run = engine(PROBLEMS["wide"], GradientFlow(clock), Plan(steps=1, trajectories=2, seed=3))
        state = run.advance(run.init(), round(21 * lr / clock))
        ends.append(run.weights(state))
        times.append(state.learned * clock)
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    both = np.isfinite(times[0]) & np.isfinite(times[1])
    late = times[1][both] - times[0][both]
    assert ((late > -1e-9) & (late < 7 * lr + 1e-9)).all()


# --- weight decay

DECAY, TIME, STEPS = 0.3, 6.0, 12
DECAYING = GradientFlow(lr=TIME / STEPS, weight_decay=DECAY)


@pytest.mark.parametrize("name", ["two layers", "four layers, coloured", "bottleneck"])
def test_under_weight_decay_balance_and_determinant_fall_at_known_rates(engine, name):
    """``Q(t) = e^{−2γt} Q(0)``, ``log det ΘᵀΘ (t) = log det ΘᵀΘ (0) − 2γ (n_{l−1} + n_{l+1}) t``."""
    flow, _ = RUNS[name]
    run = engine(flow, DECAYING, Plan(steps=STEPS, trajectories=3))
    state = run.init()
    start, widths = run.weights(state), np.array(flow.network.widths)
    for step in (1, 5, STEPS):
        state = run.advance(state, step)
        weights, time = run.weights(state), DECAYING.time(step)
        for q, q0 in zip(balance(weights), balance(start), strict=True):
            assert np.abs(q - np.exp(-2 * DECAY * time) * q0).max() < 1e-11 * largest(start).max()
        expected = log_det(start) - 2 * DECAY * (widths[:-2] + widths[2:]) * time
        np.testing.assert_allclose(log_det(weights), expected, rtol=1e-9)


def test_linear_regression_under_weight_decay_is_exponential(engine):
    """``W(t) = W∞ + (W₀ − W∞) e^{−(Σ + γ)t}``, ``W∞ = MΣ(Σ + γ)⁻¹``."""
    ridge = problem((4, 3), sigma=covariance(4))
    run = engine(ridge, DECAYING, Plan(steps=STEPS, trajectories=3))
    pull = ridge.data.sigma + DECAY * np.eye(4)
    rest = ridge.data.teacher @ ridge.data.sigma @ np.linalg.inv(pull)
    (start,) = run.weights(run.init())
    (end,) = run.weights(run.advance(run.init(), STEPS))
    np.testing.assert_allclose(end, rest + (start - rest) @ expm(-TIME * pull), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("start", [(0.3, 0.2), (1.5, -0.4), (-0.2, 0.9)])
def test_two_scalar_layers_under_weight_decay(engine, start):
    """Against an implicit integrator of another family."""
    scalar = problem((1, 1, 1), spectrum=[1.3], init=init.Given([[[start[0]]], [[start[1]]]]))
    run = engine(scalar, DECAYING, Plan(steps=STEPS))
    sign = scalar.data.teacher[0, 0]

    def slope(_, weights):
        u, w = weights
        return [-w * (u * w - sign) - DECAY * u, -u * (u * w - sign) - DECAY * w]

    expected = solve_ivp(slope, (0, TIME), start, method="Radau", rtol=1e-12, atol=1e-13).y[:, -1]
    end = [layer[0, 0, 0] for layer in run.weights(run.advance(run.init(), STEPS))]
    np.testing.assert_allclose(end, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_curve_of_a_mode_under_weight_decay(engine, depth):
    """The closed form of theory: β₁ + γ for β₁ at depth 1, β₂ − γ for β₂ at depth 2."""
    aligned = problem((3, *[5] * (depth - 1), 3), spectrum=[2.0, 1.0, 0.5], init=init.Balanced(scale=0.3))
    run = engine(aligned, DECAYING, Plan(steps=STEPS))
    end = run.observe(run.advance(run.init(), STEPS))["mode_strength"][0]
    expected = [mode_sde(aligned, DECAYING, mode).flow(TIME, 0.3**depth) for mode in range(3)]
    np.testing.assert_allclose(end, expected, rtol=1e-9)
