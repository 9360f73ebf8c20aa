"""Distributions where noise and drift vanish at different strengths: paths cross k in one direction only."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Atoms, ModeSDE
from saddlescope.theory.mode import phases
from saddlescope.theory.sde.laws import Mixture

UP = (2.0, 1.0, 0.5, 1.0, 1.0)  # k = ½ below β₂/β₁ = 1
DOWN = (2.0, 2.0, 2.0, 1.0, 0.7)  # k = 1 above it
MODES = {
    "depth 2, decay": ModeSDE(2, 1.0, temperature=0.2, weight_decay=0.1),
    "depth 3, down": ModeSDE(3, moments=DOWN, temperature=0.2),
    "depth 2, up": ModeSDE(2, moments=UP, temperature=0.5),
    "depth 4, up": ModeSDE(4, moments=UP, temperature=0.3),
    "depth 3, up, decay": ModeSDE(3, moments=UP, temperature=0.2, weight_decay=0.1),
    "depth 1, up": ModeSDE(1, moments=UP, temperature=0.3),
    "depth 1, down": ModeSDE(1, moments=DOWN, temperature=0.3),
}


def test_the_law_under_weight_decay():
    law = MODES["depth 2, decay"].stationary()
    np.testing.assert_allclose(law.ppf([0.1, 0.5, 0.9]), [0.8158, 0.9171, 0.9566], atol=5e-5)
    assert law.support() == (0.0, 1.0)


@pytest.mark.parametrize("name", MODES)
def test_paths_live_on_one_side(name):
    mode = MODES[name]
    k, side = mode.crossing
    law = mode.stationary(2.0)
    end = max(law.support()[0], -1e9) if side > 0 else law.support()[1]
    assert end == pytest.approx(k) and law.expect(lambda s: 1.0) == pytest.approx(1, abs=1e-10)
    assert mode.boundaries == mode.log_diffusion.boundaries  # by exponents, by integrals
    assert mode.boundaries[0 if side > 0 else 1].kind == "entrance" and phases.no_law(mode) is None
    if mode.depth >= 2:
        L, T = mode.depth, mode.temperature
        decay = mode.weight_decay * law.expect(lambda s: s ** (2 / L - 1))
        shift = (L - 1) * T / 2 * law.expect(lambda s: s ** (1 - 2 / L) * mode.g(s))
        assert mode.beta2 - mode.beta1 * law.mean() - decay == pytest.approx(shift, rel=1e-9)


@pytest.mark.parametrize("name", MODES)
def test_detailed_balance(name):
    """No probability flows: ``a p = ½ (b² p)'``."""
    mode = MODES[name]
    law = mode.stationary(2.0)
    s, h = law.ppf([0.1, 0.4, 0.9]), 1e-5
    flux = [mode.diffusion(x) ** 2 * law.pdf(x) for x in (s - h, s + h)]
    np.testing.assert_allclose(mode.drift(s) * law.pdf(s), (flux[1] - flux[0]) / (4 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in MODES if name != "depth 3, up, decay"])
def test_paths_from_both_sides_end_in_the_law(name):
    mode, bound = MODES[name], np.sqrt(np.log(2e6) / 2 / 20_000)
    law, hotter = (
        mode.stationary(2.0),
        ModeSDE(
            mode.depth,
            moments=(mode.alpha1, mode.alpha2, mode.alpha3, mode.beta1, mode.beta2),
            temperature=1.5 * mode.temperature,
            weight_decay=mode.weight_decay,
        ).stationary(2.0),
    )
    for start in (0.2, 2.0):
        ends = mode.simulate(start, [40.0], 20_000, seed=3, threads=1)[:, 0]
        assert stats.ks_1samp(ends, law.cdf).statistic < bound < stats.ks_1samp(ends, hotter.cdf).statistic


def test_depth_one_is_inverse_gamma():
    for moments, side in ((UP, 1), (DOWN, -1)):
        mode = ModeSDE(1, moments=moments, temperature=0.3)
        k = mode.alpha2 / mode.alpha1
        known = stats.invgamma(1 + 2 / 0.6, scale=2 * abs(mode.beta2 - k) / 0.6)
        q = np.array([0.001, 0.5, 0.99])
        np.testing.assert_allclose(
            mode.stationary().ppf(q), k + side * (known.ppf if side > 0 else known.isf)(q), rtol=1e-9
        )


def test_some_end_at_zero_before_they_cross():
    """Above T_c a start below k ends at 0 or stays above k forever."""
    mode = ModeSDE(2, moments=UP, temperature=5.0)
    with pytest.raises(ValueError, match=r"start must be given: paths that start below s = 0.5"):
        mode.stationary()
    assert mode.stationary(0.5).cdf(0.5) == mode.stationary(2.0).cdf(0.5) == 0
    lost = [float(mode.stationary(start).cdf(1e-6)) for start in (0.4, 0.1, 1e-3)]
    assert 0 < lost[0] < lost[1] < lost[2] < 1
    ends = mode.simulate(0.1, [60.0], 20_000, seed=3, threads=1)[:, 0]
    assert abs((ends < 1e-4).mean() - lost[1]) < 5 * np.sqrt(lost[1] / 20_000)
    law = mode.stationary(0.1)
    assert isinstance(law, Mixture) and law.ppf(lost[1] / 2) == 0 and law.ppf(lost[1] + 1e-6) > 0.5
    q = np.array([0.2, 0.5, 0.9])
    np.testing.assert_allclose(law.cdf(law.ppf(q)), q, rtol=1e-12)
    np.testing.assert_allclose(law.isf(1 - q), law.ppf(q), rtol=1e-12)
    assert law.mean() == pytest.approx((1 - lost[1]) * mode.stationary(2.0).mean(), rel=1e-9)
    assert law.expect(lambda s: s > 1e-6) == pytest.approx(1 - lost[1], rel=1e-9)


def test_all_ends_at_zero():
    """Drift downwards, where 0 attracts."""
    for mode in (
        ModeSDE(2, 1.0, temperature=2.0, weight_decay=0.1),
        ModeSDE(3, 1.0, temperature=0.2, weight_decay=0.1),
    ):
        law = mode.stationary()
        assert mode.crossing == (1.0, -1) and isinstance(law, Atoms) and law.mean() == 0


def test_the_most_likely_strength():
    for name in ("depth 2, decay", "depth 3, down", "depth 4, up", "depth 1, up"):
        mode = MODES[name]
        law = mode.stationary()
        s = law.ppf(np.linspace(0.001, 0.999, 20_001))
        (most,) = phases.extrema(mode).maxima
        assert s[law.pdf(s).argmax()] == pytest.approx(most, abs=2e-3)


def test_tails():
    """There is no tail below k; above k it is the usual one."""
    assert phases.moments_below(MODES["depth 3, down"]) == np.inf > MODES["depth 3, down"].stationary().moment(9)
    up = MODES["depth 4, up"]
    assert phases.moments_below(up) == 3.25 and up.stationary().moment(3) < up.stationary().moment(4) == np.inf


def test_what_is_not_answered_from_the_side_that_is_left():
    mode = MODES["depth 2, decay"]
    assert np.isfinite(mode.passage(0.1, 0.8)).all()
    for call in (lambda: mode.passage(2.0, 0.8), lambda: mode.evolve(2.0, [1.0])):
        with pytest.raises(ValueError, match="strengths must be below s = 1, where noise vanishes"):
            call()
