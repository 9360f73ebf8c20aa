"""Order of the integrator of gradient flow, and of gradient descent as an integrator, on known curves."""

import numpy as np
import pytest

from saddlescope import GD, GradientFlow, Plan
from saddlescope.engines.dormand_prince import step
from support import PROBLEMS


def logistic(weights):
    """The two layers of one mode, ``da/dt = a(1 − a²)``."""
    a, b = weights
    return (-b * (a * b - 1), -a * (a * b - 1))


def exact(a, time):
    s = 1 / (1 + (1 / a**2 - 1) * np.exp(-2 * time))
    return np.sqrt(s)


def slope(sizes, errors):
    return np.polyfit(np.log(sizes), np.log(errors), 1)[0]


SIZES = 2.0 ** -np.arange(2, 6)


def test_one_step_errs_at_order_six_and_its_estimate_at_order_five():
    start = np.full((1, 1, 1), 0.2)
    steps = [step(logistic, (start, start), np.array([h])) for h in SIZES]
    true = [abs(new[0].item() - exact(0.2, h)) for (new, _), h in zip(steps, SIZES, strict=True)]
    estimated = [abs(difference[0].item()) for _, difference in steps]
    assert slope(SIZES, true) == pytest.approx(6, abs=0.3)
    assert slope(SIZES, estimated) == pytest.approx(5, abs=0.3)


def test_fixed_steps_converge_at_order_five():
    errors = []
    for h in SIZES:
        weights = (np.full((1, 1, 1), 0.1),) * 2
        for _ in range(round(2 / h)):
            weights, _ = step(logistic, weights, np.array([h]))
        errors.append(abs(weights[0].item() - exact(0.1, 2.0)))
    assert slope(SIZES, errors) == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("problem", ["deep", "coloured", "bottleneck"])
def test_gradient_descent_approaches_gradient_flow_at_order_one(engine, problem):
    rates = 0.02 * 2.0 ** -np.arange(4)
    flow = engine(PROBLEMS[problem], GradientFlow(0.02), Plan(steps=100, trajectories=3))
    target = flow.weights(flow.advance(flow.init(), 100))
    errors = []
    for lr in rates:
        run = engine(PROBLEMS[problem], GD(lr), Plan(steps=1, trajectories=3))
        end = run.weights(run.advance(run.init(), round(2 / lr)))
        errors.append(sum(np.abs(a - b).sum() for a, b in zip(end, target, strict=True)))
    assert slope(rates, errors) == pytest.approx(1, abs=0.1)
