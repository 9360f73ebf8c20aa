"""Distributions follow the interface of scipy.stats, and both tails keep their precision."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Atoms, Diffusion1D, Mixture, ModeSDE
from saddlescope.theory.mode import phases
from saddlescope.theory.sde.laws import Known

SQRT2 = 2**0.5
KNOWN = {
    "normal": (Diffusion1D(lambda x: -x, lambda x: SQRT2, tails="exponential"), stats.norm()),
    "Student-t": (Diffusion1D(lambda x: -x, lambda x: np.sqrt(0.5 * (1 + x * x))), stats.t(5, scale=5**-0.5)),
    "gamma": (Diffusion1D(lambda x: 5 - x, lambda x: np.sqrt(2 * x), lower=0.0), stats.gamma(5)),
    "inverse gamma": (Diffusion1D(lambda x: 1 - x, lambda x: 0.5**0.5 * x, lower=0.0), stats.invgamma(5, scale=4)),
    "mirrored gamma": (Diffusion1D(lambda x: -5 - x, lambda x: np.sqrt(-2 * x), upper=0.0), None),
}
MODE = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)


def laws():
    return {
        "density": MODE.stationary(),
        "narrow": ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=1e-8).stationary(),
        "half line": KNOWN["gamma"][0].stationary(),
        "normal": MODE.boltzmann(),
        "gamma": phases.gamma_law(MODE),
        "inverse Gaussian": MODE.plateau_passage(1e-3),
        "atoms": Atoms([0.0, 1.0, 2.0], [0.25, 0.5, 0.25]),
        "in time": MODE.evolve(0.1, [1.0])[0],
        "in time, cold": ModeSDE(2, 1.0, 0.5, temperature=1e-6).evolve(1e-3, [3.5])[0],
        "absorbed": Diffusion1D(lambda x: 0.0, lambda x: 1.0).evolve(0.3, [1.0], lower=0.0, upper=1.0)[0],
    }


@pytest.mark.parametrize("name", KNOWN)
def test_both_tails(name):
    sde, known = KNOWN[name]
    law, q = sde.stationary(), 10.0 ** -np.array([200, 50, 17, 5, 1])
    if known is None:  # the mirror image of another
        other = KNOWN["gamma"][0].stationary()
        np.testing.assert_allclose(law.sf(-other.ppf(q)), q, rtol=1e-11)
        np.testing.assert_allclose(law.cdf(-other.isf(q)), q, rtol=1e-11)
        return
    for side in (known.isf, known.ppf):
        x = side(q)
        np.testing.assert_allclose(law.sf(x), known.sf(x), rtol=1e-11)
        np.testing.assert_allclose(law.cdf(x), known.cdf(x), rtol=1e-11)
        np.testing.assert_allclose(law.logsf(x), known.logsf(x), rtol=1e-11, atol=1e-15)
    # By the tails of SciPy at our quantiles, whose error is that of x times x f(x)/tail: older SciPys have none of t.
    for x, tail in ((law.isf(q), known.sf), (law.ppf(q), known.cdf)):
        np.testing.assert_array_less(np.abs(tail(x) - q), 1e-11 * (np.abs(x) * known.pdf(x) + q))
    np.testing.assert_allclose(law.ppf([0.3, 0.5, 0.999]), known.ppf([0.3, 0.5, 0.999]), rtol=1e-11, atol=1e-15)
    assert law.median() == pytest.approx(known.median(), abs=1e-12)
    np.testing.assert_allclose(law.interval(0.9), known.interval(0.9), rtol=1e-11)
    assert law.support() == known.support()
    assert law.std() == pytest.approx(known.std(), rel=1e-9)


@pytest.mark.parametrize("name", laws())
def test_every_law_has_every_name(name):
    law = laws()[name]
    exact = not isinstance(law, Atoms)
    x = np.array([law.ppf(0.01), law.median(), law.isf(0.01), 1e9, -1e9])
    np.testing.assert_allclose(law.cdf(x) + law.sf(x), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(law.logcdf(x)), law.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(np.exp(law.logsf(x)), law.sf(x), rtol=1e-12)
    np.testing.assert_allclose(np.exp(law.logpdf(x)), law.pdf(x), rtol=1e-10)
    low, high = law.support()
    assert low <= x[0] <= law.median() <= x[2] <= high
    assert law.ppf(0.0) == law.isf(1.0) == low and law.ppf(1.0) == law.isf(0.0) == high
    assert law.interval(1.0) == (low, high)
    if exact:
        np.testing.assert_allclose(law.ppf([0.3, 0.8]), law.isf([0.7, 0.2]), rtol=1e-9)
    assert law.std() == pytest.approx(law.var() ** 0.5)
    assert law.expect(lambda x: x) == pytest.approx(law.mean(), rel=1e-7)
    drawn = law.rvs(20_000, random_state=1)
    assert drawn.shape == (20_000,) and abs(drawn.mean() - law.mean()) < 6 * law.std() / 20_000**0.5
    assert law.cdf(x).shape == x.shape and law.sf(0.5).shape == ()
    assert [getattr(law, each)([]).shape for each in ("pdf", "cdf", "sf", "ppf", "isf")] == [(0,)] * 5
    assert f"{law.median() + 0.0:.4g} (50 %)" in repr(law) and f"mean                {law.mean():.4g}\n" in repr(law)


def test_atoms_as_in_scipy():
    law = Atoms([0.0, 1.0, 2.0], [0.25, 0.5, 0.25])
    same = stats.rv_discrete(values=([0, 1, 2], [0.25, 0.5, 0.25]))
    q, x = np.array([0.1, 0.25, 0.3, 0.5, 0.75, 0.8]), np.array([-1.0, 0, 0.5, 1, 2, 3])
    for name, at in (("ppf", q), ("isf", q), ("cdf", x), ("sf", x)):
        np.testing.assert_allclose(getattr(law, name)(at), getattr(same, name)(at), rtol=1e-14)


@pytest.mark.parametrize(
    ("values", "probabilities", "message"),
    [
        ([1.0, 0.0], [0.5, 0.5], "values must be increasing"),
        ([0.0, np.nan], [0.5, 0.5], "values must be finite"),
        ([0.0, 1.0], [0.5, 0.6], "probabilities must be one for each value"),
        ([0.0, 1.0], [1.5, -0.5], "probabilities must be one for each value"),
        ([0.0, 1.0], [1.0], "probabilities must be one for each value"),
        ([], [], "values must be increasing"),
    ],
)
def test_what_are_no_atoms(values, probabilities, message):
    with pytest.raises(ValueError, match=message):
        Atoms(values, probabilities)


def test_expectations_over_quantiles():
    for shape in (0.01, 0.7, 5.0):
        law = Known(stats.gamma(shape))
        for order in (1, 2, 6):
            assert law.moment(order) == pytest.approx(law.law.moment(order), rel=1e-8)
    assert Known(stats.norm()).expect(lambda x: x) == pytest.approx(0, abs=1e-12)
    normal = Known(stats.norm(3.0, 1e-4))
    assert normal.expect(lambda x: x > 3.0001) == pytest.approx(stats.norm.sf(1), rel=1e-8)
    assert normal.expect(lambda x: np.exp(0.1e8 * (x - 3) ** 2)) == pytest.approx(0.8**-0.5, rel=1e-8)
    with pytest.raises(ValueError, match="grows too fast"):
        normal.expect(lambda x: np.exp(0.49e8 * (x - 3) ** 2))


def test_user_error_handling_and_laws_of_scipy():
    for law in laws().values():
        with np.errstate(all="raise"):
            assert law.pdf(1e8) >= 0 and law.cdf(-1e8) == 0 and law.sf(1e8) < 1e-6 and np.isfinite(law.mean())


# --- the distance between laws


@pytest.mark.parametrize("shift", [0.0, 1e-3, 1.0, 20.0])
def test_distance_of_shifted_normal_laws(shift):
    """``2Φ(d/2) − 1``."""
    one, other = Known(stats.norm(3, 2)), stats.norm(3 + 2 * shift, 2)
    assert one.distance(other) == pytest.approx(2 * stats.norm.cdf(shift / 2) - 1, abs=1e-5)
    assert Known(other).distance(one) == pytest.approx(one.distance(other), abs=1e-5)


def test_distance_of_normal_laws_of_two_widths():
    """Largest where the densities are equal: ``x² = 2 log(r) / (1 − 1/r²)``."""
    x = np.sqrt(2 * np.log(3) / (1 - 1 / 9))
    expected = stats.norm.cdf(x) - stats.norm.cdf(x / 3)
    assert Known(stats.norm()).distance(stats.norm(0, 3)) == pytest.approx(expected, abs=1e-5)


def test_distance_with_atoms():
    atoms = Atoms([0.0, 1.0], [0.25, 0.75])
    expected = stats.norm.cdf(1) - 0.25
    assert atoms.distance(stats.norm()) == pytest.approx(expected, abs=1e-12)
    assert Known(stats.norm()).distance(atoms) == pytest.approx(expected, abs=1e-5)
    assert atoms.distance(atoms) == 0
    assert atoms.distance(Atoms([0.0, np.nextafter(1.0, 2.0)], [0.25, 0.75])) == pytest.approx(0.75)
    assert Atoms([0.0], [1.0]).distance(Atoms([1e-300], [1.0])) == 1
    mixed = Mixture((Atoms([0.0], [1.0]), Known(stats.norm())), (0.25, 0.75))
    assert mixed.distance(stats.norm()) == pytest.approx(0.125, abs=1e-5)
    assert Known(stats.norm()).distance(mixed) == pytest.approx(0.125, abs=1e-5)


def test_distance_finds_a_jump_that_no_quantile_meets():
    """Of 0.0003 at a place between quantiles."""
    other = Mixture((Atoms([0.1234567], [1.0]), Known(stats.uniform())), (3e-4, 1 - 3e-4))
    expected = 3e-4 * max(0.1234567, 1 - 0.1234567)
    assert Known(stats.uniform()).distance(other) == pytest.approx(expected, abs=1e-5)


def test_distance_of_bad_laws():
    law = Known(stats.norm())
    with pytest.raises(TypeError, match="other must have cdf"):
        law.distance(3.0)

    class Bad:
        def __init__(self, cdf):
            self.cdf = cdf

    for cdf, message in (
        (lambda x: 2 + 0 * x, r"other\.cdf must return probabilities from 0 to 1"),
        (stats.norm.sf, "cdf must not fall"),
        (lambda x: np.nan * x, r"other\.cdf must return probabilities"),
    ):
        with pytest.raises(ValueError, match=message):
            law.distance(Bad(cdf))
