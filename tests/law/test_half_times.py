"""Delay of learning by noise: the whole network against the first-order prediction."""

import numpy as np

import saddlescope as sc
from saddlescope.theory import growth_rate, half_times

TARGETS, NOISE, START, TEMPERATURE, DT = np.array([2.0, 1.5, 1.0, 0.5]), 0.5, 1e-4, 0.01, 0.005


def measured(noise, trajectories=4096):
    data = sc.GaussianData(np.diag(TARGETS), label_noise=NOISE)
    problem = sc.Problem(sc.DeepLinear((4, 4, 4)), data, sc.init.Balanced(scale=START**0.5))
    method = sc.Langevin(TEMPERATURE, 1, noise=noise, dt=DT)
    run = sc.simulate(problem, method, sc.Plan(steps=3600, trajectories=trajectories, saves=2, seed=1), progress=False)
    times = DT * run.learning_time.sel(threshold=0.5).transpose("trajectory", "mode").values
    return times.mean(axis=0), times.std(axis=0) / np.sqrt(trajectories)


def test_other_modes_delay_the_weaker_ones():
    """The delay by noise between modes: full minus aligned noise, against predictions with and without others."""
    (whole, error), (aligned, error_aligned) = measured("gradient"), measured("aligned")
    free, own, stronger = growth_rate(TARGETS, TEMPERATURE, NOISE)
    alone = np.log(TARGETS / START - 1) / (free - own)
    expected = half_times(TARGETS, START, TEMPERATURE, NOISE) - alone
    delay, error = whole - aligned, np.hypot(error, error_aligned)
    bound = 5.3 * error + 0.1 * expected  # false alarm 1e-6, and what is of higher order in T
    assert (np.abs(delay - expected) < bound).all()
    first_plateau = np.log(TARGETS / START - 1) / (free - own - stronger) - alone  # as if none were ever learned
    assert (np.abs(delay - first_plateau)[2:] > bound[2:]).all()
    np.testing.assert_allclose(aligned - alone, 0, atol=0.06)


def test_without_noise_they_are_those_of_the_flow():
    found = half_times(TARGETS, START, 0.0, NOISE)
    np.testing.assert_allclose(found, np.log(TARGETS / START - 1) / (2 * TARGETS), rtol=1e-12)
    assert half_times([1.0], 1e-3, temperature=2.0, label_noise=1.0)[0] == np.inf
