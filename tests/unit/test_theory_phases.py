"""Properties derived from the stationary distribution of a mode, against that distribution; discrete collapse."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import saddlescope as sc
from saddlescope.theory import ModeSDE
from saddlescope.theory.mode import phases
from saddlescope.theory.mode.log_strength import LogStrength
from support import has_mean

MOMENTS = (0.4, 0.3, 0.9, 1.1, 0.8)


def white(depth, temperature, label_noise=0.5, target=1.0, **other):
    return ModeSDE(depth=depth, target=target, label_noise=label_noise, temperature=temperature, **other)


def turns(mode):
    """Extrema of the density of s on a fine grid, by the speed density: also where that cannot be normalised."""
    w = np.linspace(-14, 1.2, 200_001) / mode.depth
    log_p = mode.log_diffusion.log_speed_density(w) - mode.depth * w
    rise = np.sign(np.diff(log_p))
    s = LogStrength(mode).unit * np.exp(mode.depth * w[1:-1])
    return s[(rise[:-1] > 0) & (rise[1:] < 0)], s[(rise[:-1] < 0) & (rise[1:] > 0)]


MODES = [
    white(2, 0.1),
    white(2, 0.3, label_noise=1.0),
    white(2, 0.3, weight_decay=0.2),
    white(3, 0.3),
    white(3, 5.0),
    white(5, 0.4, label_noise=1.5),
    ModeSDE(depth=2, moments=MOMENTS, temperature=0.4),
    ModeSDE(depth=4, moments=MOMENTS, temperature=0.4),
    ModeSDE(depth=2, moments=(0.0, 0.0, 0.9, 1.1, 0.8), temperature=0.2),
]


@pytest.mark.parametrize("mode", MODES)
def test_extrema_are_those_of_the_density(mode):
    found, (maxima, minima) = phases.extrema(mode), turns(mode)
    np.testing.assert_allclose(found.maxima, maxima, rtol=1e-3)
    np.testing.assert_allclose(found.minima, minima, rtol=1e-3)


def test_extrema_at_depth_one_and_two_in_closed_form():
    assert phases.extrema(white(1, 0.3)).maxima == pytest.approx([1.0])
    skew = ModeSDE(depth=1, moments=MOMENTS, temperature=0.3)
    law, top = skew.stationary(), phases.extrema(skew).maxima
    assert top == pytest.approx([(0.3 * 0.3 + 0.8) / (0.3 * 0.4 + 1.1)])
    assert (law.pdf(top) > law.pdf(top + np.array([-1e-3, 1e-3]))).all()
    for T in (0.05, 0.2, 0.35):
        expected = (10 * T - 1 + np.sqrt((1 + 4 * T) ** 2 - 42 * T * T)) / (14 * T)  # s* = σ = 1
        assert phases.extrema(white(2, T, 1.0)).maxima == pytest.approx([expected], rel=1e-12)


def test_every_regime_is_what_its_density_shows():
    seen = set()
    for label_noise in (0.3, 0.55, 0.7, 1.0, 3.0):
        for temperature in (0.05, 0.3, 0.36, 0.5, 0.7, 0.95, 2.0):
            mode = white(2, temperature, label_noise)
            name, (maxima, _) = phases.regime(mode), turns(mode)
            finite = mode.boundaries.lower.integrable
            start = float(np.diff(mode.log_diffusion.log_speed_density(np.array([-40.0, -39.0])))[0]) / 2 - 1
            assert start == pytest.approx(phases.exponent_at_zero(mode), abs=1e-9)
            assert (len(maxima) == 1) == (name in ("learned", "bimodal", "collapsing"))
            assert finite == (name in ("learned", "bimodal", "at zero"))
            assert (start > 0) == (name == "learned")
            assert phases.extrema(mode).at_zero == (name != "learned")
            limits = phases.regime_temperatures(mode)
            assert (temperature < limits["zero"]) == (name == "learned")
            assert (temperature < limits["critical"]) == finite
            assert (temperature < limits["bump"]) == (len(maxima) == 1)
            seen.add(name)
    assert seen == set(phases.REGIMES)


def test_temperatures_in_closed_form():
    found = phases.regime_temperatures(white(2, 0.1, 1.0))
    assert found == pytest.approx({"zero": 2 / 9, "critical": 2 / 3, "bump": 1 / (42**0.5 - 4)})
    decayed = white(2, 0.1, 1.0, weight_decay=0.25)
    assert phases.regime_temperatures(decayed)["critical"] == pytest.approx(0.5) == decayed.critical_temperature
    assert phases.regime_temperatures(white(2, 0.1, 0.3))["bump"] == np.inf


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_tails(depth):
    mode = white(depth, 0.6)
    slope = float(np.diff(mode.stationary().logpdf([1e8, 1e9]))[0]) / np.log(10)
    assert slope == pytest.approx(phases.tail_exponent(mode), rel=1e-6)
    k = phases.moments_below(mode)
    law = mode.stationary()
    assert np.isfinite(law.expect(lambda s: np.abs(s) ** (k - 0.05)))
    assert law.expect(lambda s: np.abs(s) ** (k + 0.05)) == np.inf
    assert phases.tail_exponent(ModeSDE(depth=depth, moments=(0, 0, 0.9, 1.1, 0.8), temperature=0.1)) == -np.inf


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_the_crossover_at_large_temperature(depth):
    ratios = [
        phases.extrema(mode).maxima[0] / phases.crossover_maximum(mode)
        for mode in (white(depth, T, 1.0) for T in (10.0, 100.0, 1000.0))
    ]
    distance = np.abs(np.array(ratios) - 1)
    assert (np.diff(distance) < 0).all() and distance[-1] < 1e-2
    assert phases.exponent_at_zero(white(depth, 1.0)) == np.inf


def test_fluctuations_are_inverted():
    target = 1e-3
    shares = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    for share in shares:
        mode = white(2, share * 2 * target, 1.0, target)
        law, gamma = mode.stationary(), phases.gamma_law(mode)
        np.testing.assert_allclose([law.mean(), law.var()], [gamma.mean(), gamma.var()], rtol=0.02)
        assert gamma.mean() == pytest.approx(target * (1 - share), rel=1e-4)
        assert gamma.var() == pytest.approx(2 * target**2 * share * (1 - share), rel=1e-4)
    assert np.argmax(shares * (1 - shares)) == 2


def test_infinite_depth_is_the_limit():
    distance = []
    for depth in (50, 100, 200):
        mode = white(depth, 0.4 / depth)
        limit = phases.infinite_depth(mode).stationary()
        x = mode.stationary().ppf([0.1, 0.5, 0.9])
        distance.append(np.abs(limit.cdf(np.log(x)) - [0.1, 0.5, 0.9]).max())
    np.testing.assert_allclose(np.array(distance[:-1]) / distance[1:], 2, atol=0.1)  # of order 1/L
    assert distance[-1] < 5e-3
    wrong = phases.infinite_depth(white(50, 0.4 / 50 * 1.3)).stationary()
    assert np.abs(wrong.cdf(np.log(x)) - [0.1, 0.5, 0.9]).max() > 2e-2


def test_width_over_depth_is_all_that_matters_in_deep_networks():
    """d equal subnetworks of depth L are the mode at T d^{2/L−1}, so that T̂ → LT/d."""
    T, x = 2e-3, np.array([0.8, 0.95, 1.05])
    narrow, wide = white(100, T), white(400, T * 4 ** (2 / 400 - 1))
    np.testing.assert_allclose(wide.stationary().cdf(x), narrow.stationary().cdf(x), atol=6e-3)
    assert np.abs(white(400, T).stationary().cdf(x) - narrow.stationary().cdf(x)).max() > 0.03


def test_why_there_is_no_law():
    assert phases.no_law(white(2, 0.1)) is None
    assert "γ = 0.01" in phases.no_law(white(3, 0.1, weight_decay=0.01))
    assert "is not below T_c" in phases.no_law(white(2, 2.0))
    assert "nothing holds the mode" in phases.no_law(white(2, 0.1, target=-1.0))
    assert "nothing holds the mode" in phases.no_law(white(2, 0.1, weight_decay=1.0))
    assert "points" in phases.no_law(white(3, 0.1, label_noise=0.0))
    for mode in (white(3, 0.1, weight_decay=0.01), white(2, 2.0), white(4, 0.1, target=-1.0)):
        assert mode.boundaries.lower.keeps
        assert mode.stationary().mean() == 0
    assert not white(3, 0.1).boundaries.lower.keeps


def test_with_decay_collapse_at_depth_three_takes_exponentially_long():
    """The barrier before 0 is ∝ 1/T, so the logarithm of the time is linear in 1/T."""
    times = [white(3, T, 0.5, weight_decay=0.05).passage(1.0, 0.01)[0] for T in (0.1, 0.05, 0.025)]
    steps = np.diff(np.log(times))
    assert steps[0] > 1 and steps[1] / steps[0] == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("depth", [3, 50, 20_000])
def test_extrema_of_deep_modes(depth):
    for heat in (1e-6, 1.0, 50.0):
        mode = white(depth, heat / depth)
        law, found = mode.stationary(), phases.extrema(mode)
        assert len(found.maxima) == len(found.minima) + 1
        for at, side in (*((s, 1) for s in found.maxima), *((s, -1) for s in found.minima)):
            below, here, above = law.logpdf(at * (1 + 1e-3 * heat**0.5 * np.array([-1, 0, 1])))
            assert side * below < side * here > side * above


def test_roots_of_powers():
    """Roots of a polynomial with known roots, and of non-integer powers."""
    known = np.array([1e-9, 0.3, 0.31, 7.0])
    factors = np.polynomial.polynomial.polyfromroots([*known, -2.0])
    places, rises = phases.roots_of_powers(np.arange(6.0), factors)
    np.testing.assert_allclose(places, known, rtol=1e-10)
    assert rises.tolist() == [False, True, False, True] or rises.tolist() == [True, False, True, False]
    places, rises = phases.roots_of_powers(np.array([-0.5, 1e-3, 700.0]), np.array([-1.0, 1.5, -1e-200]))
    values = -(places**-0.5) + 1.5 * places**1e-3 - 1e-200 * places**700.0
    assert len(places) == 2 and np.abs(values).max() < 1e-9 and rises.tolist() == [True, False]
    assert len(phases.roots_of_powers(np.array([1.0, 2.0]), np.array([1.0, 1.0]))[0]) == 0


# --- limits and first orders


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
@pytest.mark.parametrize("moments", [None, MOMENTS])
def test_the_shift_of_the_most_likely_strength(depth, moments):
    """The error of the first order is of the second."""
    errors = []
    for T in (1e-3, 1e-4):
        mode = white(depth, T) if moments is None else ModeSDE(depth, moments=moments, temperature=T)
        maxima = phases.extrema(mode).maxima
        shift = maxima[np.abs(maxima - mode.fixed_point).argmin()] - mode.fixed_point
        errors.append(abs(shift - phases.most_likely_shift(mode)))
    assert errors[1] < 0.011 * errors[0] + 1e-15


def test_the_most_likely_strength_moves_three_times_as_far_as_the_mean():
    for depth in (2, 3, 6):
        mode = white(depth, 1e-4)
        shift = mode.stationary().mean() - 1
        assert phases.most_likely_shift(mode) / shift == pytest.approx(3, rel=1e-2)


def test_the_shift_is_too_large_by_the_curvature_of_the_noise():
    """The next order divides it by 1 + 2TLs*^{2κ}: a criterion at every depth, also where T_c is infinite."""
    for depth, T in ((2, 0.01), (3, 0.01), (6, 0.003)):
        for label_noise in (0.2, 0.5):
            exact = phases.extrema(white(depth, T, label_noise)).maxima[-1] - 1
            assert phases.most_likely_shift(white(depth, T, label_noise)) / exact - 1 == pytest.approx(
                2 * T * depth, rel=0.2
            )
    mode = white(3, 0.1)
    assert mode.critical_temperature == np.inf
    assert phases.most_likely_shift(mode) / (phases.extrema(mode).maxima[-1] - 1) > 1.5  # not good, though T ≪ T_c


@pytest.mark.parametrize("depth", [3, 4, 10])
def test_two_maxima_at_depth_three_and_more(depth):
    kappa = 1 - 1 / depth
    limit = 2 * 2.0**2 / (3 * kappa * (3 * kappa + 2))
    for factor, count in ((0.98, 2), (1.02, 1)):
        for T in (1e2, 1e4):
            mode = white(depth, T, np.sqrt(factor * limit), target=2.0)
            assert len(phases.extrema(mode).maxima) == count
    s = np.linspace(0.01, 1.99, 100_000)
    fold = depth / 2 * s ** (2 * kappa - 1) / (2 - s)
    fold *= 3 * kappa * (2 * (s - 2) ** 2 + 1.02 * limit) + 4 * s * (s - 2)
    turned = np.flatnonzero(np.diff(np.sign(np.diff(fold)))) + 1
    assert len(turned) == 2
    low, high = 1 / fold[turned]
    counts = [
        len(phases.extrema(white(depth, T, np.sqrt(1.02 * limit), target=2.0)).maxima)
        for T in (0.99 * low, 1.01 * low, 0.99 * high, 1.01 * high)
    ]
    assert counts == [1, 2, 2, 1]
    mode = ModeSDE(3, target=1.5, label_noise=np.sqrt(0.3), temperature=0.3)
    assert phases.extrema(mode).maxima == pytest.approx([0.0506, 1.4181], abs=1e-4)
    assert len(turns(mode)[0]) == 2


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_where_the_expected_loss_diverges(decay):
    mode = ModeSDE(1, moments=MOMENTS, temperature=0.1, weight_decay=decay)
    critical = phases.divergence_temperature(mode)
    near = [
        ModeSDE(1, moments=MOMENTS, temperature=c * critical, weight_decay=decay).stationary().moment(2)
        for c in (0.99, 1.01)
    ]
    assert near[0] < near[1] == np.inf
    for depth in (2, 3, 7):
        assert phases.divergence_temperature(white(depth, 0.1)) == np.inf
        hot = white(depth, 0.9 * white(2, 0.1).critical_temperature if depth == 2 else 100.0).stationary()
        assert hot.moment(2) < np.inf


@pytest.mark.parametrize("depth", [3, 4, 10, 1000])
def test_the_law_of_large_temperature(depth):
    q = np.linspace(0.01, 0.99, 50)
    far = []
    for T in (1e2, 1e4):
        mode = white(depth, T / depth, label_noise=1.0)
        law, hot = mode.stationary(), phases.hot_law(mode)
        far.append(np.abs(law.cdf(hot.ppf(q)) - q).max())
        places = hot.ppf(np.linspace(1e-4, 0.9, 10_001))
        assert places[hot.pdf(places).argmax()] == pytest.approx(phases.crossover_maximum(mode), rel=0.02)
    assert far[1] < 1e-3 and far[1] < far[0] / 50
    gamma = stats.gamma((2 * depth - 3) / (depth - 2), scale=(depth - 2) * mode.temperature * mode.alpha3 / 2)
    np.testing.assert_allclose(gamma.sf(hot.ppf(q) ** (2 / depth - 1)), q, rtol=1e-9)


def test_depth_and_width():
    """At fixed T: sublinear width goes to 0, superlinear to s*, linear to the distribution of infinite depth."""
    T, q = 0.2, np.array([0.1, 0.5, 0.9])
    limit = np.exp(phases.infinite_depth(white(100, T / 100)).stationary().ppf(q))
    medians = []
    for depth in (100, 10_000):
        spread = {width: white(depth, phases.heat(white(depth, T), width) / depth) for width in (1, depth, depth**2)}
        medians.append([mode.stationary().median() for mode in spread.values()])
        at_width = spread[depth].stationary().ppf(q)
        wide = spread[depth**2]
        predicted = phases.heat(white(depth, T), depth**2) / 2 * 0.25
        assert wide.stationary().var() == pytest.approx(predicted, rel=0.02)
    np.testing.assert_allclose(at_width, limit, rtol=2e-3)
    assert medians[1][0] / medians[0][0] == pytest.approx(0.01, rel=0.1)
    assert abs(medians[1][2] - 1) < abs(medians[0][2] - 1) / 50


def test_the_heat_is_that_of_equal_subnetworks():
    data = sc.GaussianData([[1.0]], label_noise=0.5)
    problem = sc.Problem(sc.Diagonal(depth=4, width=9), data, sc.init.Balanced(scale=0.1))
    mode = sc.theory.mode_sde(problem, sc.SGD(lr=0.1, batch_size=1), 0)
    hotter = phases.heat(white(4, 0.1), 9) / 4
    np.testing.assert_allclose(mode.stationary().ppf([0.1, 0.9]), white(4, hotter).stationary().ppf([0.1, 0.9]))


# --- discrete SGD


@pytest.mark.parametrize(("mean", "deviation"), [(1.0, 0.1), (1.0, 0.5), (0.0, 2.0), (-1.0, 0.3), (1.0, 1 / 14.99)])
def test_the_logarithm_of_a_normal(mean, deviation):
    def term(x):
        return np.log(abs(x)) * stats.norm.pdf(x, mean, deviation)

    ends = sorted({mean - 12 * deviation, 0.0, mean, mean + 12 * deviation})
    slow = sum(quad(term, a, b, epsabs=1e-13, limit=400)[0] for a, b in pairwise(ends))
    assert phases.log_normal_size(mean, deviation) == pytest.approx(slow, abs=1e-9)
    near = [phases.log_normal_size(1.0, 1 / ratio) for ratio in (14.9999, 15.0001)]
    assert near[0] == pytest.approx(near[1], abs=1e-7)


@pytest.mark.parametrize(
    ("lr", "batch", "target", "noise", "decay"),
    [(0.3, 1, 1.0, 3.0, 0.0), (0.3, 4, 1.0, 1.0, 0.2), (0.5, 3, -1.5, 0.7, 0.0), (0.7, 2, -1.0, 0.0, 0.0)],
)
def test_the_growth_near_zero_is_that_of_batches(lr, batch, target, noise, decay):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200_000, batch))
    mean = ((target * x + noise * rng.standard_normal(x.shape)) * x).mean(axis=1)
    sample = np.log(np.abs(1 - lr * decay + lr * mean))
    assert has_mean(sample, phases.collapse_rate(lr, batch, target, noise, decay))
    assert not has_mean(sample, phases.collapse_rate(1.5 * lr, batch, target, noise, decay))


def test_balanced_sgd_collapses_inside_the_window_only():
    low, high = phases.collapse_window(1, target=1.0, label_noise=10.0)
    rng = np.random.default_rng(2)
    for lr, collapses in ((0.8 * low, False), (2 * low, True), (1.2 * high, False)):
        w = np.full(400, 1e-60)
        for _ in range(3000):
            x = rng.standard_normal(400)
            y = x + 10 * rng.standard_normal(400)
            w = np.clip(w * np.abs(1 - lr * (w * w * x - y) * x), 1e-250, 1e-30)  # far below where it saturates
        assert (np.median(w) < 1e-61) == collapses


def test_the_critical_temperature_is_a_langevin_statement():
    langevin = white(2, 1.0, 10.0).critical_temperature
    assert phases.collapse_window(1, 1.0, 10.0)[0] / langevin == pytest.approx(0.93, abs=0.01)
    assert phases.collapse_window(1, 1.0, 0.5**0.5) is None  # though T_c = 0.8
    assert phases.collapse_window(1, 1.0, 4.49) is None  # it opens at σ = 4.496 s*, by less than the grid resolves
    low, high = phases.collapse_window(1, 1.0, 4.497)
    assert phases.collapse_rate(np.sqrt(low * high), 1, 1.0, 4.497) < 0 and 1 < high / low < 1.05
    assert phases.collapse_window(1, 1.0, 0.5, weight_decay=2.0)[0] == 0  # decay alone


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_orders_of_the_discrete_critical_temperature(batch):
    """``1 − (3B + 4)s*²/σ²`` in all; the second moment of a step gives −B of it."""
    left = []
    for noise in (30.0, 120.0):
        mode = white(2, 1.0, noise)
        exact = phases.discrete_critical_temperature(batch, 1.0, noise)
        left.append((exact / mode.critical_temperature - 1) * noise**2 / (3 * batch + 4) + 1)
    assert abs(left[-1]) < 0.02 and abs(left[-1]) < abs(left[0]) / 8
    second = phases.second_order_temperature(mode, batch) / mode.critical_temperature
    assert (1 - second) * noise**2 == pytest.approx(batch, rel=0.01)


@pytest.mark.parametrize(("batch", "noise", "share"), [(1, 10.0, 0.93507), (4, 10.0, 0.90758), (16, 10.0, np.inf)])
def test_the_discrete_critical_temperature_by_chance(batch, noise, share):
    """Averages of log|1 + ηX| over draws of mean(xy) are positive below, negative above, or positive everywhere."""
    found = phases.discrete_critical_temperature(batch, 1.0, noise)
    langevin = white(2, 1.0, noise).critical_temperature
    assert found / langevin == pytest.approx(share, rel=1e-4)
    square = np.random.default_rng(5).chisquare(batch, 1_000_000) / batch
    x = square + noise * np.sqrt(square / batch) * np.random.default_rng(6).standard_normal(len(square))
    temperatures = np.array([0.9, 1.1]) * found if np.isfinite(found) else np.geomspace(0.1, 10, 8) * langevin
    for temperature in temperatures:
        lr = temperature * batch
        sample = np.log(np.abs(1 + lr * x)) - lr * (x - 1) + (lr * (x - 1)) ** 2 / 2  # with less variance
        sample -= (lr**2 * (2 + noise**2) / batch) / 2
        grows = sample.mean() > 0
        assert abs(sample.mean()) > 6 * sample.std() / 1000 and grows == (temperature < found)
        assert has_mean(sample, phases.collapse_rate(lr, batch, 1.0, noise))


def test_the_discrete_critical_temperature_scales():
    """s* → cs*, σ → cσ makes T → T/c; without signal everything collapses, without noise nothing."""
    one = phases.discrete_critical_temperature(3, 1.0, 10.0)
    assert phases.discrete_critical_temperature(3, 1e6, 1e7) * 1e6 == pytest.approx(one, rel=1e-12)
    assert phases.discrete_critical_temperature(1, 1e-8, 1.0) == pytest.approx(2e-8, rel=1e-9)
    assert phases.discrete_critical_temperature(1, 0.0, 1.0) == phases.discrete_critical_temperature(1, -1.0, 1.0) == 0
    assert phases.discrete_critical_temperature(1, 1.0, 0.0) == np.inf
    assert phases.discrete_critical_temperature(1, 1.0, 10.0, weight_decay=1.0) == 0
    assert phases.second_order_temperature(white(2, 1.0, 0.0, weight_decay=2.0)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phases.regime(white(3, 0.1)), "only depth 2 has a critical temperature, got depth 3"),
        (lambda: phases.extrema(white(2, 0.0)), "needs noise where the drift vanishes, got none, at T = 0"),
        (lambda: phases.extrema(white(3, 0.1, weight_decay=0.1)), "outweighs the pull near 0 at depth 3"),
        (lambda: phases.exponent_at_zero(white(1, 0.1)), "the strength 0 is not special"),
        (lambda: phases.crossover_maximum(white(2, 0.1)), "depth ≥ 3 with β₂ > 0 and noise at 0, got depth 2"),
        (lambda: phases.gamma_law(white(2, 2.0)), "needs 0 < T < T_c"),
        (lambda: phases.most_likely_shift(white(2, 0.1, target=-1.0)), "mass ends in points"),
        (lambda: phases.most_likely_shift(white(2, 0.1, label_noise=0.0)), "mass ends in points"),
        (lambda: phases.most_likely_shift(white(3, 0.1, weight_decay=0.1)), "outweighs the pull near 0 at depth 3"),
        (lambda: phases.regime(ModeSDE(2, moments=(2.0, 1.0, 0.5, 1.0, 1.0), temperature=9.0)), "returns from above"),
        (lambda: phases.hot_law(white(2, 0.1)), "depth ≥ 3 with β₂ > 0"),
        (lambda: phases.heat(white(2, 0.1), 0), "width must be at least 1, got 0"),
        (lambda: phases.second_order_temperature(white(3, 0.1)), "only depth 2 has a critical temperature"),
        (lambda: phases.infinite_depth(white(9, 0.1, weight_decay=0.1)), "no weight decay"),
        (lambda: phases.collapse_rate(0.0, 1, 1.0, 1.0), r"lr must be positive and at most 1e\+150, got 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
