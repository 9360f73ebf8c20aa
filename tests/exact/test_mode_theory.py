"""Identities of one mode's SDE and of its stationary law."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import betainc

import saddlescope as sc
from saddlescope.theory import Atoms, ModeSDE, mode_sde
from saddlescope.theory.mode import phases
from support import gradient_covariance


def mode(depth, target=1.3, label_noise=0.6, temperature=0.2):
    return ModeSDE(depth=depth, target=target, label_noise=label_noise, temperature=temperature)


QUANTILES = [0.001, 0.1, 0.5, 0.9, 0.999]

# Uniform inputs on an interval off zero and a label with its own noise: no Gaussian moments.
MOMENTS = (0.4, 0.3, 0.9, 1.1, 0.8)


def test_moments_of_white_gaussian_data():
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    x, xi = nodes[:, None], 0.6 * nodes
    y = 1.3 * x + xi

    def mean(values):
        return float(weights @ np.broadcast_to(values, (8, 8)) @ weights)

    sde = mode(2)
    expected = [
        mean(x**4) - mean(x**2) ** 2,
        mean(x**3 * y) - mean(x**2) * mean(x * y),
        mean((x * y) ** 2) - mean(x * y) ** 2,
        mean(x**2),
        mean(x * y),
    ]
    np.testing.assert_allclose([sde.alpha1, sde.alpha2, sde.alpha3, sde.beta1, sde.beta2], expected, rtol=1e-12)
    s = np.array([0.0, 0.7, 2.0])
    np.testing.assert_allclose(sde.g(s), [mean(((v * x - y) * x) ** 2) - mean((v * x - y) * x) ** 2 for v in s])


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_both_coordinates_are_one_process(depth):
    sde, a = ModeSDE(depth=depth, moments=MOMENTS, temperature=0.2), np.array([0.2, 0.9, 1.4])
    s, slope, bend = a**depth, depth * a ** (depth - 1), depth * (depth - 1) * a ** (depth - 2.0)
    drift, noise = sde.drift(a, "weight"), sde.diffusion(a, "weight")
    np.testing.assert_allclose(sde.drift(s), slope * drift + bend * noise**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(sde.diffusion(s), slope * noise, rtol=1e-12)


@pytest.mark.parametrize("coordinate", ["product", "weight"])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_noise_peak_is_where_noise_is_largest(depth, coordinate):
    kappa = 1 - 1 / depth if coordinate == "product" else (1 - 1 / depth) / 2
    threshold = 1.3 / np.sqrt(4 * kappa * (2 * kappa + 1))
    below, above = mode(depth, label_noise=0.9 * threshold), mode(depth, label_noise=1.01 * threshold)
    s = np.linspace(1e-4, 1.3, 200_001)

    def noise(sde):
        return sde.diffusion(s if coordinate == "product" else s ** (1 / depth), coordinate)

    inside = np.flatnonzero((np.diff(noise(below))[:-1] > 0) & (np.diff(noise(below))[1:] <= 0))
    assert len(inside) == 1
    assert below.noise_peak(coordinate) == pytest.approx(s[inside[0] + 1], abs=2e-5)
    assert above.noise_peak(coordinate) is None
    assert (np.diff(noise(above)) > 0).all()


def test_noise_peaks_in_closed_form():
    assert mode(2, target=1.0, label_noise=0.0).noise_peak() == pytest.approx(0.5)
    assert mode(3, target=1.0, label_noise=0.0).noise_peak() == pytest.approx(4 / 7)
    assert mode(1).noise_peak() is None


# --- stationary law


@pytest.mark.parametrize("temperature", [0.01, 0.3, 3.0])
def test_linear_regression_is_student_t(temperature):
    law, nu = mode(1, temperature=temperature).stationary(), 1 + 1 / temperature
    expected = stats.t(nu, 1.3, 0.6 / np.sqrt(2 * nu))
    x = np.array([-2.0, 0.9, 1.3, 5.0])
    np.testing.assert_allclose(law.logpdf(x), expected.logpdf(x), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(law.cdf(x), expected.cdf(x), rtol=1e-9)


@pytest.mark.parametrize("sde", [mode(2), ModeSDE(depth=2, moments=MOMENTS, temperature=0.5)], ids=["white", "any"])
def test_density_at_depth_two_in_closed_form(sde):
    T, s = sde.temperature, np.array([1e-6, 0.01, 0.5, 1.0, 3.0, 100.0])
    pole = -sde.beta2 / sde.alpha3  # (β₁s − β₂)/(s g) = pole/s + (top s + rest)/g
    top, rest = -pole * sde.alpha1, sde.beta1 + 2 * sde.alpha2 * pole
    width = np.sqrt(sde.alpha1 * sde.alpha3 - sde.alpha2**2)
    arc = np.arctan((sde.alpha1 * s - sde.alpha2) / width)
    integral = pole * np.log(s) + top / (2 * sde.alpha1) * np.log(sde.g(s))
    integral += (rest + top * sde.alpha2 / sde.alpha1) / width * arc
    expected = -1.5 * np.log(s) - np.log(sde.g(s)) - integral / T
    found = sde.stationary().logpdf(s)
    np.testing.assert_allclose(found - found[2], expected - expected[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
@pytest.mark.parametrize("temperature", [1e-4, 0.1, 0.5])
def test_moment_identity(depth, temperature):
    for sde in (mode(depth, temperature=temperature), ModeSDE(depth=depth, moments=MOMENTS, temperature=temperature)):
        law = sde.stationary()
        noise = law.expect(lambda s, sde=sde: s ** (1 - 2 / depth) * sde.g(s))
        identity = 0.5 * (depth - 1) * temperature * noise
        np.testing.assert_allclose(sde.beta2 - sde.beta1 * law.mean(), identity, rtol=1e-7, atol=1e-12)
        wrong = 0.5 * depth * temperature * noise  # another L would be seen
        assert abs(sde.beta2 - sde.beta1 * law.mean() - wrong) > 0.1 * wrong


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_tails_are_power_laws(depth):
    law = mode(depth).stationary()
    slope = np.diff(law.logpdf([1e8, 1e9])) / np.log(10)
    np.testing.assert_allclose(slope, -5 + 3 / depth, rtol=1e-6)
    finite = [np.isfinite(law.moment(k)) for k in (1, 2, 3, 4)]
    assert finite == [k < 4 - 3 / depth for k in (1, 2, 3, 4)]


def test_near_the_critical_temperature():
    for gap in (0.1, 1e-3, 1e-6):
        sde = ModeSDE(depth=2, target=0.01, label_noise=1.0, temperature=0.02 / 1.0002 * (1 - gap))
        law, ratio = sde.stationary(), sde.temperature / sde.critical_temperature
        np.testing.assert_allclose(law.mean(), 0.01 * (1 - ratio), rtol=0.03)  # the gamma law of s* ≪ σ
        np.testing.assert_allclose(law.var(), 2e-4 * ratio * (1 - ratio), rtol=0.06)
        identity = sde.beta2 - law.mean() - 0.5 * sde.temperature * law.expect(sde.g)
        assert abs(identity) < 1e-11
        slope = np.diff(law.logpdf([1e-9, 1e-8])) / np.log(10)
        np.testing.assert_allclose(slope, sde.beta2 / (sde.temperature * sde.alpha3) - 1.5, rtol=1e-6)
    assert ModeSDE(depth=2, target=0.01, label_noise=1.0, temperature=0.03).stationary().mean() == 0


def test_signal_far_below_label_noise_is_gamma():
    sde = ModeSDE(depth=2, target=1e-4, label_noise=1.0, temperature=1e-4)
    gamma = stats.gamma(1e-4 / 1e-4 - 0.5, scale=1e-4)
    x = gamma.ppf([0.01, 0.3, 0.7, 0.99])
    np.testing.assert_allclose(sde.stationary().cdf(x), gamma.cdf(x), atol=1e-3)


def test_point_masses():
    assert mode(3, label_noise=0.0).stationary() == _atom(1.3)
    assert mode(2, label_noise=0.0, temperature=0.5).stationary() == _atom(1.3)  # T < 1/s*
    assert mode(1, label_noise=0.0).stationary() == _atom(1.3)
    assert mode(3, temperature=0.0).stationary() == _atom(1.3)
    assert mode(2, temperature=5.0).stationary() == _atom(0.0)
    assert mode(3, target=-1.0).stationary() == _atom(0.0)
    assert mode(4, target=0.0).stationary() == _atom(0.0)


class _atom:
    def __init__(self, value):
        self.value = value

    def __eq__(self, law):
        return isinstance(law, Atoms) and law.values.tolist() == [self.value] and law.probabilities.tolist() == [1.0]


@pytest.mark.parametrize(("temperature", "start"), [(2.0, 0.3), (1.2, 0.9), (10.0, 0.1)])
def test_mixture_without_label_noise_is_the_scale_function(temperature, start):
    sde = ModeSDE(depth=2, target=1.0, temperature=temperature)
    law = sde.stationary(start)
    theta = 1 / (2 * temperature)
    assert law.probabilities[0] == pytest.approx(1 - betainc(0.5 - theta, 1 + theta, start))
    upwards = sde.log_diffusion.exit_probability(np.log(start) / 2)
    np.testing.assert_allclose(law.probabilities, [1 - upwards, upwards], rtol=1e-9)
    assert sde.stationary(1.5).mean() == 1.0
    with pytest.raises(ValueError, match="start must be given"):
        sde.stationary()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_boltzmann_is_the_law_of_weak_noise(depth):
    cold, hot = mode(depth, temperature=1e-5), mode(depth, temperature=0.3)
    distance = []
    for sde in (cold, hot):
        exact, boltzmann = sde.stationary(), sde.boltzmann()
        x = boltzmann.ppf(np.linspace(0.02, 0.98, 25))
        distance.append(np.abs(exact.cdf(x) - boltzmann.cdf(x)).max())
    expected = 0.5 * depth * 1.3 ** (2 - 2 / depth) * 1e-5 * 0.6**2
    assert cold.boltzmann().var() == pytest.approx(expected)
    assert distance[0] < 0.1 * distance[1] > 1e-3


# --- passage times


def test_the_plateau_law_is_the_passage_below_the_target():
    sde = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.05)
    law = sde.plateau_passage(1e-9, 1e-4)
    mean, variance = sde.passage(1e-9, 1e-4)
    np.testing.assert_allclose([mean, variance], [law.mean(), law.var()], rtol=1e-3)
    speed = 2 * (1 - 0.05 / sde.critical_temperature)
    np.testing.assert_allclose(law.mean(), np.log(1e5) / speed, rtol=1e-12)
    np.testing.assert_allclose(law.var(), 4 * 0.05 * sde.alpha3 * np.log(1e5) / speed**3, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_passages_with_little_noise_are_those_of_the_flow(depth):
    start = 1e-2
    noisy, quiet = mode(depth, temperature=1e-4), mode(depth, temperature=0.0)
    mean, variance = noisy.passage([start, 0.3], 1.1)
    np.testing.assert_allclose(mean, quiet.passage([start, 0.3], 1.1)[0], rtol=2e-3)
    assert (variance < 1e-2 * mean).all() and (variance > 0).all()


def test_passages_that_need_not_happen_take_forever():
    assert mode(2, temperature=5.0).passage(0.1, 1.0)[0] == np.inf
    assert mode(3, target=-1.0).passage(0.1, 1.0)[0] == np.inf
    assert np.isfinite(mode(2, temperature=5.0).passage(0.1, 1e-3)[0])


# --- from a problem


def problem(sigma=None, widths=(3, 4, 4, 3)):
    data = sc.GaussianData.from_spectrum([2.0, 1.0, 0.5], 3, 3, label_noise=0.6, seed=2)
    if sigma is not None:
        right = data.modes.right
        sigma = right @ np.diag(sigma) @ right.T
        data = sc.GaussianData(data.teacher, (sigma + sigma.T) / 2, 0.6, data.modes.left, right)
    return sc.Problem(sc.DeepLinear(widths), data, sc.init.Balanced(scale=0.1))


@pytest.mark.parametrize("sigma", [None, (0.5, 2.0, 1.0)])
def test_moments_are_those_of_the_gradient_along_the_mode(sigma):
    chosen = problem(sigma)
    data, modes = chosen.data, chosen.data.modes
    strengths = np.array([0.3, 0.8, 0.1])
    error = modes.left @ np.diag(strengths - modes.strengths) @ modes.right.T
    covariance = gradient_covariance(data, error).reshape(3, 3, 3, 3)
    for k in range(3):
        sde = mode_sde(chosen, sc.Langevin(0.02, 4), k)
        u, v = modes.left[:, k], modes.right[:, k]
        np.testing.assert_allclose(np.einsum("i,j,ijkl,k,l", u, v, covariance, u, v), sde.g(strengths[k]), rtol=1e-10)
        pull = -u @ error @ data.sigma @ v
        np.testing.assert_allclose(sde.beta2 - sde.beta1 * strengths[k], pull, rtol=1e-10)
        assert (sde.depth, sde.temperature) == (3, 0.005)


def test_the_temperature_is_the_methods():
    assert mode_sde(problem(), sc.GD(0.1), 0).temperature == 0
    assert mode_sde(problem(), sc.GradientFlow(), 0).temperature == 0
    assert mode_sde(problem(), sc.SGD(0.1, 5), 0).temperature == pytest.approx(0.02)


def test_problems_without_a_mode_sde():
    coupled = np.eye(3) + 0.1 * (np.arange(3)[:, None] != np.arange(3))
    data = sc.GaussianData(np.diag([2.0, 1.0, 0.5]), coupled)
    chosen = sc.Problem(sc.DeepLinear((3, 4, 3)), data, sc.init.Balanced(scale=0.1))
    with pytest.raises(ValueError, match="correlated across the modes"):
        mode_sde(chosen, sc.GD(0.1), 0)
    with pytest.raises(ValueError, match="mode must be 0 to 2"):
        mode_sde(problem(), sc.GD(0.1), 3)
    with pytest.raises(ValueError, match="mode must be 0 to 1"):
        mode_sde(problem(widths=(3, 2, 4, 3)), sc.GD(0.1), 2)
    with pytest.raises(ValueError, match='only under noise="gradient"'):
        mode_sde(problem(), sc.Langevin(0.1, 4, noise="isotropic"), 0)
    with pytest.raises(ValueError, match="no variance along mode 1"):
        mode_sde(problem((1.0, 0.0, 1.0)), sc.GD(0.1), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ModeSDE(depth=2, temperature=0.1), "exactly one of target and moments"),
        (lambda: ModeSDE(depth=2, target=1.0, moments=MOMENTS, temperature=0.1), "exactly one of target and moments"),
        (lambda: ModeSDE(depth=2, moments=MOMENTS, label_noise=1.0, temperature=0.1), "label_noise is part of"),
        (lambda: ModeSDE(depth=2, moments=(1.0, 2.0, 1.0, 1.0, 1.0), temperature=0.1), "must be those of data"),
        (lambda: ModeSDE(depth=2, target=1.0, temperature=-0.1), "temperature must be"),
        (lambda: ModeSDE(depth=0, target=1.0, temperature=0.1), "depth must be"),
        (lambda: mode(2).drift(-1.0), "must not be negative"),
        (lambda: mode(2).drift(1.0, "log"), "coordinate must be"),
        (lambda: mode(2).noise_peak("log"), "coordinate must be"),
        (lambda: mode(2).passage(0.0, 1.0), "start and target must be positive"),
        (lambda: mode(3).plateau_passage(1e-3), "needs depth 2"),
        (lambda: mode(2, temperature=9.0).plateau_passage(1e-3), "needs depth 2"),
        (lambda: mode(2, target=-1.0).boltzmann(), "needs β₂ > 0"),
        (lambda: mode(2).simulate(0.0, [1.0], 10), "must be positive at depth 2"),
        (lambda: mode(2).simulate(0.1, [1.0, 0.5], 10), "increasing"),
        (lambda: mode(2).simulate(0.1, [1.0], 10, tol=0.0), "tol must be positive"),
        (lambda: mode(2).simulate_passages(0.1, np.full(17, 0.5), 1.0, 10), "at most 16 targets"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- weight decay


def decaying(depth, decay=0.3, **changes):
    facts = {"target": 1.3, "label_noise": 0.6, "temperature": 0.2} | changes
    return ModeSDE(depth=depth, weight_decay=decay, **facts)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_weight_decay_pulls_every_layer_down(depth):
    """``−γa`` in the weight, ``−Lγs`` in the product; the noise is the same."""
    with_decay, without, s = decaying(depth), decaying(depth, 0.0), np.array([0.2, 0.9, 1.4])
    for coordinate, share in (("weight", 1), ("product", depth)):
        np.testing.assert_allclose(
            with_decay.drift(s, coordinate), without.drift(s, coordinate) - share * 0.3 * s, rtol=1e-12
        )
        np.testing.assert_array_equal(with_decay.diffusion(s, coordinate), without.diffusion(s, coordinate))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_network_follows_the_mode_under_weight_decay(engine, depth):
    """A step of Langevin without noise moves aligned layers by the drift of the weight coordinate."""
    aligned = sc.Problem(
        sc.DeepLinear((3, *[4] * (depth - 1), 2)),
        sc.GaussianData.from_spectrum([2.0, 1.0], 3, 2, 0.5),
        sc.init.Balanced(scale=0.7),
    )
    method = sc.Langevin(0.1, 4, "aligned", weight_decay=0.3)
    run = engine(aligned, method, sc.Plan(steps=1))
    state = run.advance(run.init(), 1, np.zeros((1, 1, run.normals_per_step)))
    after = run.observe(state)["mode_strength"][0]
    moved = [0.7 + 0.1 * mode_sde(aligned, method, k).drift(0.7, "weight") for k in range(2)]
    np.testing.assert_allclose(after, np.array(moved) ** depth, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_in_shallow_networks_decay_is_another_beta(depth):
    """β₁ + γ at depth 1, β₂ − γ at depth 2: laws, flow, passages and T_c are those of such data."""
    a1, a2, a3, b1, b2 = MOMENTS
    shifted = (a1, a2, a3, b1 + 0.2, b2) if depth == 1 else (a1, a2, a3, b1, b2 - 0.2)
    decay = ModeSDE(depth=depth, moments=MOMENTS, temperature=0.2, weight_decay=0.2)
    other = ModeSDE(depth=depth, moments=shifted, temperature=0.2)
    plain = ModeSDE(depth=depth, moments=MOMENTS, temperature=0.2)
    s = np.array([0.1, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(decay.stationary().pdf(s), other.stationary().pdf(s), rtol=1e-9)
    assert np.abs(decay.stationary().pdf(s) / plain.stationary().pdf(s) - 1).max() > 0.05
    np.testing.assert_allclose(decay.boltzmann().var(), other.boltzmann().var(), rtol=1e-12)
    np.testing.assert_allclose(decay.flow(1.5, s), other.flow(1.5, s), rtol=1e-12)
    np.testing.assert_allclose(decay.passage(0.1, 0.4), other.passage(0.1, 0.4), rtol=1e-9)
    assert decay.critical_temperature == other.critical_temperature


def test_decay_lowers_the_critical_temperature():
    """``T_c = 2(β₂ − γ)/α₃``: with γ ≥ β₂ nothing is ever learned."""
    assert decaying(2).critical_temperature == pytest.approx(2 * (1.3 - 0.3) / (2 * 1.3**2 + 0.36))
    assert decaying(2, 1.4).critical_temperature == 0 and decaying(2, 1.4).stationary() == _atom(0.0)
    law = decaying(2).stationary()
    identity = 0.5 * 0.2 * law.expect(decaying(2).g)
    np.testing.assert_allclose(1.3 - 0.3 - law.mean(), identity, rtol=1e-7)
    assert abs(1.3 - law.mean() - identity) > 0.1, "without γ the identity fails"


def test_deep_networks_have_no_law_under_decay():
    """Two fixed points of the drift, or none: the upper one holds a mode for a while, it finally ends at 0."""
    deep = decaying(3, 0.1)
    assert 0 < deep.fixed_point < 1.3
    flat = decaying(3, 0.1, temperature=0.0)
    np.testing.assert_allclose(flat.drift(deep.fixed_point), 0, atol=1e-12)
    assert flat.drift(0.9 * deep.fixed_point) > 0 > flat.drift(1.1 * deep.fixed_point)
    assert decaying(3, 5.0).fixed_point == 0
    assert deep.stationary() == _atom(0.0)
    assert flat.stationary(0.1).mean() == pytest.approx(flat.fixed_point) and flat.stationary(1e-4).mean() == 0
    with pytest.raises(ValueError, match=r"start must be given: without noise, strengths below s = 0.0004"):
        flat.stationary()
    for call in (lambda: deep.boltzmann(), lambda: deep.flow(1.0, 0.5)):
        with pytest.raises(ValueError, match="0 attracts"):
            call()
    held, lost = (deep.simulate(start, [30.0], 200)[:, 0] for start in (1.2, 1e-6))
    assert np.median(held) > 0.5 and lost.max() < 1e-6


def test_a_mode_sde_has_one_rate_and_order_one():
    problem_ = problem()
    assert mode_sde(problem_, sc.SGD(0.1, 4, weight_decay=0.2), 0).weight_decay == 0.2
    with pytest.raises(ValueError, match="follows a schedule; leave schedule out"):
        mode_sde(problem_, sc.SGD(0.1, 4, schedule=sc.schedules.Cosine(10)), 0)
    with pytest.raises(ValueError, match="order = 1, got order = 2"):
        mode_sde(problem_, sc.Langevin(0.1, 4, order=2), 0)


# --- very deep, cold, hot, small and large


@pytest.mark.parametrize("heat", [1e-6, 0.2, 5.0])
def test_the_law_at_great_depth(heat):
    """At L → ∞ with LT held, the limit differs by O(1/L)."""
    limit = np.exp(phases.infinite_depth(ModeSDE(100, 1.0, 0.5, temperature=heat / 100)).stationary().ppf(QUANTILES))
    far, near = (
        np.abs(ModeSDE(L, 1.0, 0.5, temperature=heat / L).stationary().ppf(QUANTILES) / limit - 1).max()
        for L in (2_000, 20_000)
    )
    assert near == pytest.approx(far / 10, rel=0.02) and near < 1e-3


@pytest.mark.parametrize("depth", [1, 2, 3, 20, 20_000, 100_000])
@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("heat", [1e-10, 1e-3, 1.0])
def test_the_law_scales(depth, unit, heat):
    """``(s*, σ, T) → (cs*, cσ, c^{−2κ}T)`` makes s → cs."""
    T, power = heat / depth, 2 - 2 / depth
    law = ModeSDE(depth, 1.0, 0.7, temperature=T).stationary()
    scaled = ModeSDE(depth, unit, 0.7 * unit, temperature=T * unit**-power).stationary()
    np.testing.assert_allclose(scaled.ppf(QUANTILES), unit * law.ppf(QUANTILES), rtol=1e-8)
    assert scaled.expect(lambda s: 1.0) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(
    ("depth", "T", "target"), [(20, 1e-12, 1e-4), (4, 1e-9, 1e-8), (3, 10.0, 1e8), (300, 1.0, 1e4)]
)
def test_the_balance_of_moments_far_out(depth, T, target):
    """``s* − E s = ½(L−1)T E[s^{1−2/L}g]``, from noise so weak that U is 1e30 deep to dominant noise."""
    mode = ModeSDE(depth, target, 0.3 * target, temperature=T)
    law = mode.stationary()
    shift = (depth - 1) * T / 2 * law.expect(lambda s: s ** (1 - 2 / depth) * mode.g(s))
    assert (target - law.mean()) / target == pytest.approx(shift / target, rel=1e-6, abs=1e-12)


def test_a_mode_of_moments_knows_its_target():
    mode = ModeSDE(depth=2, moments=MOMENTS, temperature=0.1)
    assert mode.target == 0.8 / 1.1 and mode.passage(1e-3, 0.5 * mode.target)[0] > 0
    assert replace(mode, temperature=0.2) == ModeSDE(depth=2, moments=MOMENTS, temperature=0.2) != mode
    assert replace(mode, target=None, moments=(0.4, 0.3, 0.9, 1.0, 0.8)).target == 0.8
    assert repr(mode).startswith("ModeSDE(depth=2, temperature=0.1, moments=(") and "fixed point" in repr(mode)
    with pytest.raises(ValueError, match="exactly one of target and moments"):
        replace(mode, moments=(0.4, 0.3, 0.9, 1.0, 0.8))
    with pytest.raises(TypeError, match="target must be a number"):
        ModeSDE(depth=2, target="1", temperature=0.1)


def test_wrong_starts_of_a_passage_are_named_shortly():
    starts = np.linspace(-1.0, 1.0, 128)
    for start, target, words in (
        (starts, 0.5, r"positive at depth 2, got start -1 \(as 64 of 128 starts\)$"),
        (0.0, 0.5, "positive at depth 2, got start 0$"),
        (np.abs(starts), -2.0, "positive at depth 2, got target -2$"),
        ([1.0, np.inf], 0.5, r"finite, got start inf \(as 1 of 2 starts\)$"),
    ):
        with pytest.raises(ValueError, match=words):
            mode(2).passage(start, target)
