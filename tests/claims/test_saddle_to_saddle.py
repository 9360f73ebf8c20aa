"""The parts of the saddle-to-saddle claims, on small ensembles."""

import numpy as np
import pytest
import xarray as xr

from saddlescope.claims.saddle_to_saddle import (
    _rivals,
    coloured_inputs,
    depths,
    finite_data,
    isotropic,
    label_noise,
    mode_sde,
    noise_peak,
    plateaus,
    small_start,
    stationary_law,
    whole_map,
)
from saddlescope.claims.tools import COARSE_LAW, aligned, network, run
from saddlescope.methods import SGD, Langevin
from saddlescope.plan import Plan
from saddlescope.theory import ModeSDE


def test_noise_is_read_off_neighbouring_steps():
    """The realised variance rate is that of the mode SDE at this temperature and no other."""
    plan = Plan(
        steps=600,
        trajectories=2000,
        save_at=(200, 201, 202, 400, 401, 402),
        keep="trajectories",
        events=("learning_time", "noise_peak"),
    )
    problem = network(2, 3, noise_peak.TARGETS, aligned(2, 0.02), 0.6)
    for mode in noise_peak._modes(run(problem, SGD(lr=2e-3, batch_size=16), plan), 2, 0.6):
        assert len(mode.noise) == len(mode.strength) == 2 * 2000
        ratio = mode.noise / mode.sde.diffusion(mode.strength) ** 2
        assert ratio.mean() == pytest.approx(1.0, abs=6 * ratio.std() / np.sqrt(len(ratio)))
        assert ratio.mean() != pytest.approx(0.5, abs=6 * ratio.std() / np.sqrt(len(ratio)))


def test_limit_of_straight_lines_is_their_value_at_zero():
    small = np.array([0.001, 0.002, 0.004])
    delays = 0.3 + 5.0 * small[:, None, None] * np.ones((3, 50, 2)) + 0.0 * np.arange(50)[:, None]
    delays += 1e-6 * np.random.default_rng(0).standard_normal(delays.shape)
    for interval in plateaus._limit(small, delays):
        assert interval.low < 0.3 < interval.high
        assert interval.value == pytest.approx(0.3, abs=1e-5)


def test_pivots_are_the_modes_of_an_aligned_map_and_do_not_see_what_leaks():
    modes = np.diag([1e-2, 1e-5, 1e-9])
    turned = np.eye(3) + np.tril(np.full((3, 3), 0.1), -1)
    for maps in (modes, turned @ modes @ turned.T):
        assert plateaus.log_pivots(maps[None])[0] == pytest.approx(np.log(np.diag(modes)), abs=1e-6)


def test_order_of_a_known_difference():
    steps, rng = np.array([0.04, 0.02, 0.01]), np.random.default_rng(0)
    differences = steps[:, None] ** 0.5 * np.exp(0.1 * rng.standard_normal((3, 640)))
    found = mode_sde._order(steps, differences)
    assert found.low < 0.5 < found.high


def test_network_and_mode_sde_share_their_noise():
    """On given normals the network is the Euler scheme of the weight coordinate, to rounding."""
    rng, targets = np.random.default_rng(0), np.array(mode_sde.TARGETS)
    problem = network(mode_sde.DEPTH, 3, mode_sde.TARGETS, aligned(mode_sde.DEPTH, 0.3), mode_sde.LABEL_NOISE)
    method = Langevin(lr=mode_sde.TEMPERATURE, batch_size=1.0, noise="aligned", dt=0.01)
    plan, along = Plan(steps=50, trajectories=5, saves=5), rng.standard_normal((5, 50, 2, 2))
    strengths, _ = mode_sde._advance(problem, method, plan, along, rng)
    a = np.full((5, 2), 0.3 ** (1 / 3))
    for h, z in along.transpose(1, 2, 0, 3):
        pull = a**3 - targets
        noise = np.sqrt(method.temperature / method.dt) * (np.sqrt(2) * pull * h - mode_sde.LABEL_NOISE * z)
        a = a - method.dt * a**2 * (pull + noise)
    assert strengths[:, -1] == pytest.approx(a**3, rel=1e-12)


def test_boltzmann_approaches_the_exact_law_as_the_root_of_the_temperature():
    distances = [stationary_law.distance_of_boltzmann(mode) for mode in stationary_law.WARM[:2]]
    expected = np.sqrt(stationary_law.WARM[0].temperature / stationary_law.WARM[1].temperature)
    assert distances[0] / distances[1] == pytest.approx(expected, rel=0.1)
    assert distances[1] < COARSE_LAW[1] < stationary_law.distance_of_boltzmann(stationary_law.WARM[-1])


def test_fixed_steps_lose_the_law():
    """The negative control of the claim on the stationary distribution fails as it should."""
    ends = stationary_law._euler(stationary_law.HOT[1], dt=2e-3, trajectories=64)
    assert np.mean(ends < 0.1) > 0.3


@pytest.mark.parametrize("depth", depths.DEPTHS)
def test_the_limit_of_peaks_lies_below_their_end_and_falls_with_depth(depth):
    kappa, found = 1 - 1 / depth, depths.limit(depth)
    end = 1 / np.sqrt(4 * kappa * (2 * kappa + 1))
    assert 0.8 * end < found < end
    assert depth == 2 or found < depths.limit(depth - 1)
    assert depths._mode(depth, 0.999 * end).noise_peak("product") is not None
    assert depths._mode(depth, 1.001 * end).noise_peak("product") is None


def test_samples_are_whitened_and_residuals_orthogonal():
    data = finite_data.samples(finite_data.FOUR, residuals=0.5, label_noise=0.1)
    assert data.sigma == pytest.approx(np.eye(4), abs=1e-12)
    assert data.modes.strengths == pytest.approx(finite_data.FOUR)
    assert data.residuals.T @ data.residuals / data.samples == pytest.approx(0.25 * np.eye(4), abs=1e-12)
    assert data.X.T @ data.residuals == pytest.approx(np.zeros((4, 4)), abs=1e-12)


def test_peaks_are_read_off_saves():
    """A mode whose noise peaks, one whose noise only grows, one that is never learned."""
    time = np.linspace(0, 1, 101)
    strength = np.stack([time, time, 0.5 * time], axis=-1)[None]
    noise = np.stack([time * (1 - time), time, time * (1 - time)], axis=-1)[None]
    dims = ("trajectory", "time", "mode")
    dataset = xr.Dataset(
        {"mode_strength": (dims, strength), "mode_noise": (dims, noise), "target": ("mode", np.ones(3))}
    )
    assert finite_data.peaked(dataset).tolist() == [[True, False, False]]


def test_coloured_inputs_reverse_the_order_and_turn_the_axes():
    along, turned = (
        coloured_inputs.coloured(coloured_inputs.FOUR, coloured_inputs.VARIANCES, turn) for turn in (0.0, 0.3)
    )
    assert along.diagonal_in_modes and not turned.diagonal_in_modes
    assert np.diag(along.sigma_in_modes) == pytest.approx(coloured_inputs.VARIANCES)
    assert np.linalg.eigvalsh(turned.sigma) == pytest.approx(coloured_inputs.VARIANCES)
    pull = [along.mode_moments(mode)[4] for mode in range(4)]
    assert pull == sorted(pull) and pull == pytest.approx([0.5, 0.75, 1.2, 2.0])


def test_full_noise_is_predicted_to_shrink_more_than_own_noise():
    for depth in label_noise.DEPTHS:
        none = np.empty((0, 0, 2))
        point = label_noise.Sweep(depth, 1.0, none, none)
        own, full = label_noise.own_shift(point), label_noise.full_shift(point)
        assert own == pytest.approx([0.01 * (depth - 1) * target ** (1 - 2 / depth) for target in label_noise.TARGETS])
        assert (full > 1.7 * own).all()


MODE = ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.1)


def test_rivals_are_rejected_where_the_law_is_confirmed():
    """Quantiles of the exact law are a sample of it without sampling error."""
    sample = MODE.stationary().ppf((np.arange(40_000) + 0.5) / 40_000)
    samples = [(sample, MODE, _rivals.at_rest)]
    number = _rivals.judged("distance", samples, quick=False)
    assert number.verdict == "confirmed" and number.catches.startswith("T × 0.9")
    changes = _rivals.temperatures(quick=False) | _rivals.ADDITIVE | _rivals.neighbours(quick=False)
    verdicts = {rival.theory: rival.verdict for rival in _rivals.rivals("distance", samples, False, changes)}
    assert len(verdicts) == 5 and "confirmed" not in verdicts.values()


def test_changed_modes_differ_in_one_thing():
    assert _rivals.warmer(1.1)(MODE).temperature == pytest.approx(0.11)
    colder = _rivals.neighbour(1)(MODE)
    assert (colder.depth, colder.temperature) == (4, pytest.approx(0.075))
    plain = _rivals.additive(MODE)
    assert plain.g([0.1, 1.5]) == pytest.approx([0.25, 0.25])
    assert plain.fixed_point == MODE.fixed_point and plain.temperature == MODE.temperature


def test_full_noise_moves_the_law_by_its_shift():
    sample = MODE.stationary().ppf((np.arange(20_000) + 0.5) / 20_000)
    pair = ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.1)
    ends = [(sample, MODE), (sample, pair)]
    moved, _ = stationary_law._shifted(ends)
    assert moved.value > 0.02  # the other mode takes something
    more = (
        label_noise.label_noise_shift([1.5, 1.0], 3, 0.1, 0.5)[0] - label_noise.label_noise_shift([1.5], 3, 0.1, 0.5)[0]
    )
    assert stationary_law._shifted([(sample - more, MODE), (sample, pair)])[0].value < 1e-4


def test_half_point_lies_between_what_is_surely_above_and_below():
    rng = np.random.default_rng(0)
    at = np.array([1.0, 1.02, 1.04, 1.06, 1.08, 1.1])
    found = small_start.half_point(at, [rng.random(4000) < share for share in (0.95, 0.8, 0.6, 0.4, 0.2, 0.05)])
    assert (found.low, found.high) == (1.04, 1.06) and found.value == pytest.approx(1.05, abs=0.01)
    nowhere = small_start.half_point([1.0, 2.0], [np.zeros(100, bool), np.zeros(100, bool)])
    assert (nowhere.low, nowhere.high) == (-np.inf, 1.0)


def test_limits_of_the_statement_on_small_starts():
    assert [small_start.limit(depth) for depth in (2, 3, 4)] == pytest.approx([0.425, 0.342, 0.312], abs=5e-4)
    assert small_start.threshold(3) == pytest.approx(0.4009, abs=1e-4)
    weight = ModeSDE(depth=2, target=1.0, label_noise=0.999 * small_start.in_weights(2) / 2, temperature=0.1)
    assert weight.noise_peak("weight") is not None


def test_ends_that_are_not_square_shrink_more():
    one = label_noise.Oblong(2, 6, 2, np.empty((0, 0, 2)))
    assert one.shift(6, 2) == pytest.approx([0.04, 0.04])  # (Tσ²/4)(dx + dy)
    assert one.shift(2, 2) == pytest.approx([0.02, 0.02])


def test_isotropic_noise_unbalances_layers_at_the_predicted_rate():
    """From balanced weights at rest: (2h + 2)Tc(‖W₁‖² + ‖W₂‖²) per time, and Itô's formula by brute force."""
    rng, h, n, step = np.random.default_rng(0), 3, 100_000, 1e-3
    first, second = rng.standard_normal((h, 2)), rng.standard_normal((2, h))

    def square(one, two):
        difference = two.swapaxes(-1, -2) @ two - one @ one.swapaxes(-1, -2)
        return (difference**2).sum(axis=(-1, -2)), difference

    kicks = [np.sqrt(step) * rng.standard_normal((n, *layer.shape)) for layer in (first, second)]
    before, q = square(first, second)
    linear = 2 * np.einsum("ij,nij->n", q, 2 * kicks[1].swapaxes(1, 2) @ second - 2 * kicks[0] @ first.T)
    gained = square(first + kicks[0], second + kicks[1])[0] - before - linear  # less its martingale part
    expected = (2 * h + 2) * ((first**2).sum() + (second**2).sum()) * step
    assert gained.mean() == pytest.approx(expected, abs=6 * gained.std() / np.sqrt(n) + 0.01 * expected)


def test_variances_under_isotropic_noise_follow_its_size():
    """Every mode has ``½cT`` at the c of the moment, which flat directions let grow: no stationary law."""
    method = Langevin(lr=isotropic.TEMPERATURE, batch_size=1.0, noise="isotropic", dt=0.02)
    training = isotropic.Training(run(isotropic.PROBLEM, method, Plan(5000, 1024, saves=10, seed=7, keep="weights")))
    strengths, level = training.run["mode_strength"].values, training.noise.mean(axis=0)
    ratio = strengths.var(axis=0).mean(axis=1) / (level / 2)
    assert ratio[4:] == pytest.approx(1, abs=0.1)
    time = training.run["time"].values
    growth = np.log(level[-1] / level[4]) / (time[-1] - time[4])
    assert growth == pytest.approx(isotropic.TEMPERATURE * 0.25 * 4 * (1 - 16 / 64), rel=0.15)
    early = strengths[:, -1].var(axis=0).mean() / (level[4] / 2)
    assert early > 1.2  # a law that kept the c of t = 44 would be wrong at t = 100


def test_power_of_the_learning_rate_in_a_ratio_of_variances():
    rng, rates = np.random.default_rng(0), np.array(finite_data.RATES)
    with_, left = ([scale * rng.standard_normal(20_000) for scale in scales] for scales in (rates**0.5, 9 * rates**1.5))
    found = finite_data._power(left, with_)
    assert found.low < 2 < found.high and found.high - found.low < 0.4
    same = finite_data._power(with_, [-values for values in with_])
    assert same.value == pytest.approx(0, abs=1e-12)


def test_gaussian_moments_keep_the_target_and_change_the_noise():
    data = finite_data.samples(finite_data.PAIR, finite_data.RESIDUALS)
    problem = finite_data._problem(data, 2, 2, aligned(2, 0.02))
    mode = finite_data.mode_sde(problem, Langevin(lr=0.02, batch_size=1.0, noise="aligned"), 1)
    white = finite_data.gaussian(mode)
    assert white.fixed_point == pytest.approx(1.0) and white.g(1.0) == pytest.approx(0.25)
    assert abs(float(mode.g(0.0) / white.g(0.0)) - 1) > 0.05


def test_realised_noise_rejects_other_laws_of_it():
    """Noise drawn from the mode SDE, σ = 0 and 0.4 s*."""
    rng, modes = np.random.default_rng(0), []
    for noise in (0.0, 0.4):
        sde = ModeSDE(depth=3, target=1.0, label_noise=noise, temperature=0.01)
        strength = rng.uniform(0.1, 0.9, 100_000)
        realised = sde.diffusion(strength) ** 2 * rng.standard_normal(strength.size) ** 2
        modes.append(noise_peak.Mode(sde, np.empty(0), strength, realised))
    off = {theory: noise_peak._realised(modes, 3, rate) for theory, rate in noise_peak.WRONG.items()}
    own = noise_peak._realised(modes, 3, noise_peak._rate)
    assert len(own) == 8 and all(found.low < 1 < found.high for found in own)
    assert all(any(found.low > 1.05 or found.high < 0.95 for found in bins) for bins in off.values())


@pytest.mark.parametrize("mode", [0, 1])
def test_coloured_modes_are_white_ones_in_three_places(mode):
    data = coloured_inputs.coloured(coloured_inputs.PAIR, coloured_inputs.UNEQUAL)
    problem = coloured_inputs._problem(data, 2, 2, aligned(2, 0.02))
    sde = coloured_inputs.mode_sde(problem, Langevin(lr=0.01, batch_size=1.0, noise="aligned"), mode)
    same = coloured_inputs._white(1.0, 1.0, 0.5)(sde)
    s = np.array([0.1, 0.7, 1.9])
    for one, other in ((sde.drift, same.drift), (sde.diffusion, same.diffusion)):
        assert other(s) == pytest.approx(one(s), rel=1e-12)
    for change in coloured_inputs.PARTIAL.values():
        assert change(sde).diffusion(s) != pytest.approx(sde.diffusion(s), rel=0.02)


def test_deeper_modes_are_half_learned_at_a_time_of_their_own():
    mode = ModeSDE(4, 1.0, depths.LABEL_NOISE, temperature=depths.TEMPERATURE)
    found = [depths._half_learned(change(mode)).median() for change in (_rivals.neighbour(0), _rivals.neighbour(1))]
    assert found == pytest.approx([0.5, 0.5], abs=0.15)
    assert depths.when_half(_rivals.neighbour(1)(mode)) != depths.when_half(mode)


def test_a_step_is_read_against_its_law():
    """Synthetic steps of known drift and diffusion, also with a third of the diffusion off the diagonal."""
    rng, lr, shape = np.random.default_rng(0), whole_map.TRAINED.lr, (4000, 4, 4)
    drift, rate = rng.standard_normal(shape), rng.uniform(0.5, 2.0, shape)
    off = np.where(np.eye(4, dtype=bool), 1.0, 1 / 3)
    for factor in (1.0, off):
        moved = drift * lr + np.sqrt(factor * rate * lr) * rng.standard_normal(shape)
        step = whole_map.Step(0.0, drift, moved, drift, rate)
        assert step.over(rate, True).low < 1 < step.over(rate, True).high
        assert (step.over(rate, False).high > 1) == (factor is not off)
        slope = whole_map._slope([step, step])
        assert slope.low < 1 < slope.high
    assert step.over(0 * rate).value == np.inf


def test_steps_of_a_run_have_the_law_of_its_weights():
    """At the end the map is the teacher, and the strongest mode diffuses as its scalar SDE predicts."""
    steps = whole_map._steps(whole_map._run(whole_map.TRAINED, 64))
    assert len(steps) == whole_map.SAVES and steps[-1].maps.shape == (64, 4, 4)
    rest = steps[-1].maps.mean(axis=0)
    assert rest == pytest.approx(np.diag(whole_map.TARGETS), abs=0.05)
    method = whole_map.TRAINED
    strongest = ModeSDE(whole_map.DEPTH, 2.0, whole_map.LABEL_NOISE, temperature=method.temperature)
    expected = (strongest.diffusion(steps[-1].maps[:, 0, 0]) ** 2).mean()
    assert steps[-1].rate[:, 0, 0].mean() == pytest.approx(expected, rel=0.1)


def test_a_trajectory_on_its_way_to_divergence_does_not_swamp_a_mean():
    strengths = np.full((1000, 6, 2), 0.5)
    strengths[0, -1, 0] = 1e50
    missing = label_noise._missing(strengths)
    assert missing[1:] == pytest.approx(np.tile([0.5, 0.1], (999, 1))) and missing[0, 0] == pytest.approx(0.5 - 3.5 / 6)
