"""Diagonal networks and moments as parts of a problem: initial weights, what is measured, runs and their files."""

import warnings

import numpy as np
import pytest

import saddlescope as sc
from saddlescope.networks import diagonal

GIVEN = sc.Moments(0.4, -0.3, 0.9, 1.1, -0.8)
RNG = np.random.default_rng(0)


def chains(depth, width, data=GIVEN, init=None):
    return sc.Problem(sc.Diagonal(depth, width), data, init or sc.init.Gaussian(scale=0.5))


def test_shapes():
    network = sc.Diagonal(depth=3, width=4)
    assert (network.parameters, network.widths, network.dim_in, network.dim_out) == (12, (1, 4, 4, 1), 1, 1)
    assert network.speed == pytest.approx(4 ** (2 / 3 - 1))
    assert sc.Diagonal(2).shapes == ((1, 1), (1, 1))


def test_balanced_weights_point_the_way_of_the_teacher():
    for data, sign in ((GIVEN, -1), (sc.GaussianData([[2.0]]), 1)):
        layers = sc.init.draw(sc.init.Balanced(scale=0.5), sc.Diagonal(3, 4), data, 0, [0, 1])
        np.testing.assert_array_equal(diagonal.end_to_end(layers).ravel(), [sign * 4 * 0.5**3] * 2)


def test_moments_are_data_of_their_teacher():
    assert float(GIVEN.teacher[0, 0]) == pytest.approx(-8 / 11)
    assert GIVEN.mode_moments(0) == (0.4, 0.3, 0.9, 1.1, 0.8)  # seen from where the teacher is positive
    layers = [np.full((1, 1, 1), 0.5)]
    observed = sc.observables.observe(chains(1, 1), 0.1, layers)
    assert observed["excess_loss"][0] == pytest.approx(0.5 * 1.1 * (0.5 + 8 / 11) ** 2)
    assert observed["loss"] == observed["excess_loss"]
    assert observed["mode_noise"][0, 0] == pytest.approx(0.1 * (0.4 * 0.25 + 2 * 0.3 * 0.5 + 0.9))


@pytest.mark.parametrize("data", [sc.GaussianData([[1e6]], label_noise=1e-3), sc.Moments(2.0, 2e6, 2e12, 1.0, 1e6)])
def test_noise_that_vanishes_at_the_teacher_is_never_negative(data):
    strengths = 1e6 * (1 + 1e-9 * np.arange(-50, 50))
    assert (data.gradient_noise()(strengths) >= 0).all()
    assert data.gradient_noise()(np.array(1e6)) == pytest.approx(data.label_noise**2, abs=0)


def test_samples_have_the_noise_of_their_gradients():
    x, y = RNG.standard_normal((2, 40))
    data = sc.Dataset(x[:, None], y[:, None], label_noise=0.5)
    gradients = lambda v: (v * x - y) * x  # noqa: E731
    sign = float(data.modes.left[0, 0] * data.modes.right[0, 0])
    for share in (0.0, 0.3, 1.0):
        noise = data.gradient_noise(share)
        for v in (-1.0, 0.2, 3.0):
            expected = share * gradients(sign * v).var() + 0.25 * (x**2).mean()
            assert noise(np.array(v)) == pytest.approx(expected, rel=1e-12)


def test_noise_of_the_map_is_that_of_its_slopes():
    """``Var[dv] = g(v) (Σ |∂v/∂u|²)²`` and of a layer ``g(v) |∂v/∂u_l|²``, with slopes by differences."""
    problem, layers = chains(3, 4), [RNG.standard_normal((1, 4, 1)) for _ in range(3)]
    slopes = np.zeros((3, 4))
    for l, j in np.ndindex(3, 4):
        up, down = ([w.copy() for w in layers] for _ in range(2))
        up[l][0, j], down[l][0, j] = up[l][0, j] + 1e-5, down[l][0, j] - 1e-5
        slopes[l, j] = (diagonal.end_to_end(up) - diagonal.end_to_end(down)).item() / 2e-5
    observed = sc.observables.observe(problem, 0.1, layers)
    noise = 0.1 * GIVEN.gradient_noise()(observed["mode_strength"][0, 0])
    np.testing.assert_allclose(observed["mode_noise"][0, 0], noise * (slopes**2).sum() ** 2, rtol=1e-7)
    np.testing.assert_allclose(observed["layer_noise"][0, :, 0], noise * (slopes**2).sum(axis=1), rtol=1e-7)
    assert np.isnan(observed["log_det"]).all()


def test_runs_are_kept_as_files_and_go_on(tmp_path):
    problem, method = chains(2, 3), sc.Langevin(0.01, 10)
    plan = sc.Plan(steps=40, trajectories=4, saves=4, keep="weights")
    run = sc.simulate(problem, method, plan, out=tmp_path / "run.zarr", progress=False)
    assert run.W1.dims == ("trajectory", "time", "chain", "input")
    assert sc.Problem.from_toml(problem.to_toml()) == problem
    loaded = sc.load(tmp_path / "run.zarr")
    half = sc.simulate(problem, method, sc.Plan(steps=20, trajectories=4, saves=2, keep="weights"), progress=False)
    on = sc.simulate(half, plan=sc.Plan(steps=40, trajectories=4, saves=4, keep="weights"), progress=False)
    for found in (loaded, on):
        np.testing.assert_array_equal(found.W2, run.W2)
        np.testing.assert_array_equal(found.mode_strength, run.mode_strength)
    np.testing.assert_allclose(
        (run.W1 * run.W2).sum("chain").isel(input=0), -run.mode_strength.isel(mode=0), rtol=1e-12
    )
    assert "ziyin2023" in sc.cite(run)


def test_one_mode_takes_what_equal_chains_do_to_time_and_temperature_into_its_moments():
    method = sc.Langevin(0.01, 10, weight_decay=0.1)
    mode = sc.theory.mode_sde(chains(4, 9), method, 0)
    assert mode.moments == pytest.approx((0.4 / 9, 0.3 / 9, 0.9 / 9, 1.1 / 3, 0.8 / 3))
    assert (mode.temperature, mode.weight_decay) == (method.temperature, 0.1)
    two = sc.theory.mode_sde(chains(2, 9), sc.Langevin(0.01, 10), 0)
    assert two.moments == (0.4, 0.3, 0.9, 1.1, 0.8)
    white = chains(1, 1, sc.GaussianData([[-2.0]], label_noise=0.3))
    assert sc.theory.mode_sde(white, method, 0).target == 2.0


def test_advice_knows_equal_chains():
    slow, wide = chains(4, 1, sc.GaussianData([[1.0]])), chains(4, 16, sc.GaussianData([[1.0]]))
    assert sc.theory.stability_edge(wide, sc.GD(1)) == pytest.approx(4 * sc.theory.stability_edge(slow, sc.GD(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sc.simulate(wide, sc.GD(0.01), sc.Plan(steps=5, saves=1), progress=False)
