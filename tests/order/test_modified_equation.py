"""Weak order of the Langevin models against SGD itself, in the limit dt → 0: 1 without, 2 with the modified drift.

Linear regression, whose first two moments close, so that both sides are exact; deep networks without noise, where only
the discretisation of Langevin has to be removed; a scalar network with noise, by Monte Carlo.
"""

from dataclasses import replace

import numpy as np
import pytest

from saddlescope import GD, SGD, DeepLinear, GaussianData, Langevin, Plan, Problem, init
from support import PROBLEMS, engine_class

TARGET, NOISE, BATCH, START = 2.0, 0.5, 2, 0.5


def slope(errors, rates, spread=0.0):
    """Of log error against log learning rate, and its Monte-Carlo error."""
    x = np.log(rates) - np.log(rates).mean()
    relative = np.broadcast_to(spread, np.shape(errors)) / errors
    return (x * np.log(errors)).sum() / (x**2).sum(), np.sqrt(((x * relative) ** 2).sum()) / (x**2).sum()


# --- linear regression: (1, E w, E w²) moves by a matrix


def of_sgd(lr, decay):
    """The matrix of a step ``w ← (1 − ηγ − ηm)w + η(m s* + ζ)``, m the mean of B values x², ζ that of B values ξx."""
    square = 1 + 2 / BATCH  # E[m²]
    shrink = 1 - lr * decay
    return np.array(
        [
            [1, 0, 0],
            [lr * TARGET, shrink - lr, 0],
            [
                lr**2 * (TARGET**2 * square + NOISE**2 / BATCH),
                2 * lr * TARGET * (shrink - lr * square),
                shrink**2 - 2 * shrink * lr + lr**2 * square,
            ],
        ]
    )


def of_langevin(engine, method):
    """The matrix of a step of an engine: its normals are the nodes of a quadrature exact for these moments."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    normals = np.array([(a, b) for a in nodes for b in nodes])[:, None]
    measure = np.outer(weights, weights).ravel() / weights.sum() ** 2
    one = Problem(DeepLinear((1, 1)), GaussianData([[TARGET]], label_noise=NOISE), init.Given([[[0.0]]]))
    run = engine(one, method, Plan(steps=1, trajectories=len(measure)))
    moved = []
    for start in (-1.0, 0.0, 1.0):
        state = replace(run.init(), weights=(np.full((len(measure), 1, 1), start),))
        end = run.weights(run.advance(state, 1, normals))[0][:, 0, 0]
        moved.append([1.0, measure @ end, measure @ end**2])
    below, at, above = np.array(moved)
    return np.stack([at, (above - below) / 2, (above + below) / 2 - at], axis=1)


def end_of(matrix, steps):
    return np.linalg.matrix_power(matrix, steps) @ [1.0, START, START**2]


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_weak_orders_for_linear_regression(engine, decay):
    rates, time, dt = np.array([0.1, 0.05, 0.025, 0.0125]), 1.0, 1e-7
    for order in (1, 2):
        gaps = []
        for lr in rates:
            method = Langevin(lr=lr, batch_size=BATCH, dt=dt, order=order, weight_decay=decay)
            model = end_of(of_langevin(engine, method), round(time / dt))
            gaps.append(np.abs(model - end_of(of_sgd(lr, decay), round(time / lr)))[1:])
        for power, errors in enumerate(np.transpose(gaps), start=1):
            value, _ = slope(errors, rates)
            print(f"order {order}, decay {decay}, moment {power}: weak order {value:.3f}, errors {errors}")
            assert value == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_at_dt_equal_lr_euler_has_two_moments_of_sgd(engine, decay):
    """Negative control: the modified drift, meant for dt ≪ lr, breaks them."""
    lr = 0.05
    plain, modified = (
        of_langevin(engine, Langevin(lr=lr, batch_size=BATCH, order=order, weight_decay=decay)) for order in (1, 2)
    )
    np.testing.assert_allclose(plain, of_sgd(lr, decay), rtol=1e-12, atol=1e-15)
    assert np.abs(modified - of_sgd(lr, decay)).max() > lr**2 / 4


# --- a deep network without noise


@pytest.mark.parametrize("name", ["wide", "coloured"])
def test_orders_of_a_deep_network_without_noise(name):
    """B → ∞: gradient descent against the drift alone; Euler's error is taken out by extrapolation in dt."""
    engine, problem, time = engine_class("native"), PROBLEMS[name], 1.0
    rates = np.array([0.04, 0.02, 0.01])
    for order in (1, 2):
        gaps = []
        for lr in rates:
            steps = round(time / lr)
            exact = final(engine, problem, GD(lr), steps)
            coarse, fine = (
                final(engine, problem, Langevin(lr, 1e30, dt=lr / cut, order=order), steps * cut) for cut in (128, 256)
            )
            gaps.append(float(np.linalg.norm(2 * fine - coarse - exact)))
        value, _ = slope(gaps, rates)
        print(f"{name}: order {order} measured as {value:.3f}, errors {gaps}")
        assert value == pytest.approx(order, abs=0.15)


def final(engine, problem, method, steps):
    run = engine(problem, method, Plan(steps=steps, events=()))
    return np.concatenate([layer.ravel() for layer in run.weights(run.advance(run.init(), steps))])


# --- a scalar network with noise


def test_weak_orders_of_a_scalar_network():
    """The mean and the square of s of two layers, with noise; Euler's error is again taken out by extrapolation."""
    count, batch, time, rates = 100_000, 20, 1.6, np.array([0.4, 0.2, 0.1])
    scalar = Problem(DeepLinear((1, 1, 1)), GaussianData([[1.0]], label_noise=0.3), init.Balanced(scale=0.6))
    for order in (1, 2):
        gaps, spreads = [], []
        for lr in rates:
            steps = round(time / lr)
            samples = [(-1, strengths(scalar, SGD(lr, batch), steps, count, seed=1))]
            for weight, cut in ((2, 16), (-1, 8)):
                model = Langevin(lr, batch, dt=lr / cut, order=order)
                samples.append((weight, strengths(scalar, model, steps * cut, count, seed=cut)))
            powers = [(weight, np.stack([s, s**2])) for weight, s in samples]
            gaps.append(np.abs(sum(weight * values.mean(axis=1) for weight, values in powers)))
            spreads.append(np.sqrt(sum(weight**2 * values.var(axis=1) for weight, values in powers) / count))
        for power, (errors, spread) in enumerate(zip(np.transpose(gaps), np.transpose(spreads), strict=True), start=1):
            value, uncertain = slope(errors, rates, spread)
            print(
                f"order {order}, moment {power}: weak order {value:.2f} ± {uncertain:.2f}, errors {errors} ± {spread}"
            )
            assert value == pytest.approx(order, abs=0.25 + 3 * uncertain)
            assert uncertain < 0.25


def strengths(problem, method, steps, count, seed):
    run = engine_class("native")(problem, method, Plan(steps=steps, trajectories=count, seed=seed, events=()))
    first, second = run.weights(run.advance(run.init(), steps))
    return (first * second)[:, 0, 0]
