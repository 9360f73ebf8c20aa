"""Strong and weak order of the Langevin step on shared Brownian paths, with the Monte-Carlo error of each slope."""

import itertools

import numpy as np
import pytest

from saddlescope import DeepLinear, GaussianData, Langevin, Plan, Problem, init
from support import problem

T, TIME = 0.2, 1.0
LEVELS = np.array([8, 16, 32, 64, 128, 256])
STRONG_T = 0.5
"""Where the error of order ½ outweighs that of order 1."""


def coarsen(normals, factor):
    """The same Brownian path in steps ``factor`` times as long."""
    n, steps, count = normals.shape
    return normals.reshape(n, steps // factor, factor, count).sum(axis=2) / np.sqrt(factor)


def slope(errors, spread=None):
    """Slope of log error against log step, and its uncertainty from the Monte-Carlo error of each level."""
    x = -np.log(2.0) * np.arange(len(errors))
    x = x - x.mean()
    value = (x * np.log(errors)).sum() / (x**2).sum()
    relative = np.zeros(len(errors)) if spread is None else np.asarray(spread) / errors
    return value, np.sqrt(((x * relative) ** 2).sum()) / (x**2).sum()


@pytest.fixture(scope="module")
def paths():
    return np.random.default_rng(5).standard_normal((20_000, LEVELS[-1], 1))


def geometric(engine, paths, steps, temperature):
    """End of ``dΔ = −Δ dt − √(2T) Δ dW``: one weight, no label noise."""
    one = Problem(DeepLinear((1, 1)), GaussianData([[2.0]]), init.Given([[[1.0]]]))
    method = Langevin(lr=0.1, batch_size=0.1 / temperature, dt=TIME / steps)
    run = engine(one, method, Plan(steps=steps, trajectories=len(paths)))
    end = run.advance(run.init(), steps, coarsen(paths, LEVELS[-1] // steps))
    return run.weights(end)[0][:, 0, 0] - 2.0


def solution(paths, temperature, drift):
    brownian = np.sqrt(TIME / LEVELS[-1]) * paths.sum(axis=(1, 2))
    return -np.exp(drift * TIME - np.sqrt(2 * temperature) * brownian)


def test_strong_order_one_half(engine, paths):
    exact = solution(paths, STRONG_T, -1 - STRONG_T)
    gaps = [np.abs(geometric(engine, paths, steps, STRONG_T) - exact) for steps in LEVELS[-3:]]
    value, error = slope([g.mean() for g in gaps], [g.std() / len(paths) ** 0.5 for g in gaps])
    print(f"strong order {value:.3f} ± {error:.3f}")
    assert value == pytest.approx(0.5, abs=0.1 + 5 * error)


@pytest.mark.parametrize(("power", "factor"), [(1, lambda dt: 1 - dt), (2, lambda dt: (1 - dt) ** 2 + 2 * T * dt)])
def test_weak_order_one(engine, paths, power, factor):
    """Moments of Δ, where a step multiplies the mean by a known factor; the exact path is the control variate."""
    coarse = LEVELS[:4]
    exact = solution(paths, T, -1 - T)
    gaps = [geometric(engine, paths, steps, T) ** power - exact**power for steps in coarse]
    bias, error = np.array([g.mean() for g in gaps]), np.array([g.std() / len(paths) ** 0.5 for g in gaps])
    limit = np.exp(-TIME if power == 1 else (2 * T - 2) * TIME)
    known = (-1) ** power * (factor(TIME / coarse) ** coarse - limit)
    np.testing.assert_array_less(np.abs(bias - known), 5 * error)
    value, uncertain = slope(np.abs(bias), error)
    print(
        f"weak order of moment {power}: {value:.3f} ± {uncertain:.3f}, of its exact bias {slope(np.abs(known))[0]:.3f}"
    )
    assert value == pytest.approx(1, abs=0.2 + 3 * uncertain)
    assert uncertain < 0.15


def test_the_stratonovich_solution_is_not_approached(engine, paths):
    """Negative control: without the Itô term the gap stays."""
    wrong = solution(paths, STRONG_T, -1.0)
    gaps = [np.abs(geometric(engine, paths, steps, STRONG_T) - wrong).mean() for steps in LEVELS[-3:]]
    assert slope(gaps)[0] < 0.25
    assert gaps[-1] > 0.05


@pytest.mark.parametrize("noise", ["gradient", "aligned", "isotropic"])
def test_strong_order_of_a_whole_network(engine, noise):
    """Successive refinements of one path converge as √dt, or faster where the noise hardly changes."""
    net = problem((3, 4, 2), scale=0.5, noise=0.5)
    ends, count, finest = [], 400, 256
    normals = None
    for steps in (256, 128, 64, 32, 16):
        method = Langevin(lr=0.02, batch_size=1.0, noise=noise, dt=TIME / steps)
        run = engine(net, method, Plan(steps=steps, trajectories=count))
        if normals is None:
            normals = np.random.default_rng(0).standard_normal((count, finest, run.normals_per_step))
        end = run.advance(run.init(), steps, coarsen(normals, finest // steps))
        ends.insert(0, np.concatenate([layer.reshape(count, -1) for layer in run.weights(end)], axis=1))
    gaps = [np.linalg.norm(a - b, axis=1) for a, b in itertools.pairwise(ends)]
    value, error = slope([g.mean() for g in gaps], [g.std() / count**0.5 for g in gaps])
    print(f"strong order with {noise} noise {value:.3f} ± {error:.3f}")
    assert 0.4 - 3 * error < value < 1.1 + 3 * error
