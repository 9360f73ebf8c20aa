"""NaN in the input of theory gives an error or NaN, never a number."""

import numpy as np
import pytest

from saddlescope import GaussianData, theory
from saddlescope.theory import Atoms, Diffusion1D, ModeSDE
from saddlescope.theory.mode import phases
from saddlescope.theory.network import determinant

OU = Diffusion1D(lambda x: -x, lambda x: 1.0)
MODE = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.1)
DEEP = ModeSDE(depth=3, target=1.0, label_noise=0.5, temperature=0.1)
LINE = ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.1)
POINT = ModeSDE(depth=2, target=1.0, temperature=2.0)
DATA = GaussianData([[1.0, 0.0], [0.0, 0.5]], label_noise=1.0)
FLAT = GaussianData([[1.0, 0.0], [0.0, 0.0]], label_noise=1.0)
PAIR = [np.random.default_rng(0).standard_normal(shape) for shape in ((1, 5, 2), (1, 2, 5))]

NAMES = ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf")


def laws():
    yield from (OU.stationary(), MODE.stationary(), LINE.stationary(), MODE.boltzmann(), MODE.plateau_passage(1e-3))
    yield from (Atoms([0.0, 1.0], [0.5, 0.5]), OU.evolve(0.3, [1.0], lower=0.0)[0], DEEP.evolve(0.1, [1.0])[0])
    yield from (Diffusion1D(lambda x: 1 - x, lambda x: np.sqrt(2 * x), lower=0.0).stationary(), phases.gamma_law(MODE))


def layers(function, *options):
    """A function of data, temperature and weights, called with a scaled first layer."""
    return lambda w, T, *rest: function(DATA, T, [PAIR[0] * w, PAIR[1]], *options, *rest)


def symmetry(u, w):
    return theory.rescaling_symmetry(lambda u, w: (w[None], u[None]), [u], [w]).verdict


def balance(u, w, a, temperature, weight_decay):
    at = theory.Balance.of_product([u, 1.0], [w], [[[a, 1.0]], [[0.5, 2.0]]], temperature, weight_decay)
    return at.drift, at.ratio, at.rate, at.drift_bounds, at.ratio_bounds


CALLS = {
    "Diffusion1D": (lambda *a: Diffusion1D(OU.drift, OU.diffusion, *a), -1.0, 1.0, 0.0, 1.0),
    "scale density": (OU.log_scale_density, 0.3),
    "speed density": (OU.log_speed_density, 0.3),
    "exit": (OU.exit_probability, 0.1, -1.0, 1.0),
    "passage of OU": (OU.passage, 0.1, 1.0),
    "passage_cdf of OU": (lambda t, *a: OU.passage_cdf([t], *a), 1.0, 0.1, 1.0),
    "evolve OU": (lambda s, t, *a: OU.evolve(s, [t], *a)[0].cdf(0.5), 0.1, 1.0, -2.0, 2.0),
    "ModeSDE": (lambda s, e, T, g: ModeSDE(2, s, e, temperature=T, weight_decay=g), 1.0, 0.5, 0.1, 0.0),
    "moments": (lambda *a: ModeSDE(2, moments=a, temperature=0.1), 2.0, 2.0, 3.0, 1.0, 1.0),
    **{f"g at {m.depth}": (m.g, 0.3) for m in (MODE, LINE)},
    **{f"drift at {m.depth}": (m.drift, 0.3) for m in (LINE, MODE, DEEP)},
    **{f"diffusion at {m.depth}": (m.diffusion, 0.3) for m in (LINE, MODE, DEEP)},
    "drift of a weight": (lambda a: DEEP.drift(a, "weight"), 0.3),
    "diffusion of a weight": (lambda a: DEEP.diffusion(a, "weight"), 0.3),
    **{f"flow at {m.depth}": (m.flow, 1.0, 0.1) for m in (LINE, MODE, DEEP)},
    **{f"plateau at {m.depth}": (m.plateau, 0.1) for m in (MODE, DEEP)},
    **{f"passage at {m.depth}": (m.passage, 0.1, 0.5) for m in (LINE, MODE, DEEP)},
    "passage without noise": (ModeSDE(2, 1.0, temperature=0.0).passage, 0.1, 0.5),
    "plateau_passage": (MODE.plateau_passage, 0.1, 0.5),
    "stationary": (POINT.stationary, 0.3),
    "simulate_passages": (lambda s, x, t: MODE.simulate_passages(s, [x], t, 2), 0.1, 0.5, 5.0),
    "second order": (lambda B: phases.second_order_temperature(MODE, B), 1.0),
    "heat": (lambda d: phases.heat(MODE, d), 4.0),
    "singular_value_sde": (lambda w, T: theory.singular_value_sde(DATA, T, [PAIR[0] * w, PAIR[1]]).drift, 1.0, 0.1),
    "a direction": (lambda x: theory.layer_variance(DATA, 0.1, PAIR, 0, left=np.full((1, 5), x)), 0.3),
    "depth": (lambda L: theory.mode_flow(1.0, 0.1, 1.0, L), 2),
    "simulate": (lambda s, t: MODE.simulate(s, [t], 2), 0.1, 1.0),
    "evolve": (lambda s, t: MODE.evolve(s, [t])[0].cdf(0.5), 0.1, 1.0),
    "passage_cdf": (lambda t, *a: MODE.passage_cdf([t], *a), 1.0, 0.1, 0.5),
    **{f"mode_flow at {L}": (lambda *a, L=L: theory.mode_flow(*a[:3], L, a[3]), 1.0, 0.1, 1.0, 1.0) for L in (1, 2, 3)},
    **{f"flow_time at {L}": (lambda *a, L=L: theory.flow_time(*a[:3], L, a[3]), 0.5, 0.1, 1.0, 1.0) for L in (1, 2, 3)},
    **{f"plateau_time at {L}": (lambda *a, L=L: theory.plateau_time(*a[:2], L, a[2]), 0.1, 1.0, 1.0) for L in (2, 3)},
    "collapse_rate": (phases.collapse_rate, 0.1, 1, 1.0, 10.0, 0.0),
    "collapse_window": (phases.collapse_window, 1, 1.0, 10.0, 0.0),
    "discrete T_c": (phases.discrete_critical_temperature, 1, 1.0, 10.0),
    "log_normal_size": (phases.log_normal_size, 1.0, 1.0),
    "strength_drift": (lambda s, e, *a: theory.strength_drift([s, 0.5], [e, 1.0], 2, *a), 1.0, 2.0, 0.1, 0.5),
    "singular values": (lambda s, e, *a: theory.singular_value_drift([s, 0.5], [e, 1.0], 2, *a), 1.0, 2.0, 0.1, 0.5),
    "label_noise_shift": (lambda s, *a: theory.label_noise_shift([s, 0.5], 3, *a), 1.0, 0.1, 0.5),
    "growth_rate": (lambda s, *a: theory.growth_rate([s, 1.0], *a), 2.0, 0.1, 0.5, 0.01),
    "half_times": (lambda s, *a: theory.half_times([s, 1.0], *a), 2.0, 1e-4, 0.01, 0.5, 0.01),
    "balance_step": (lambda u, w, g, h, *a: theory.balance_step([u], [w], [g], [h], *a), 2.0, 1.0, 0.3, 0.6, 0.1, 0.0),
    "Balance": (balance, 1.0, 1.0, 1.0, 0.1, 0.0),
    "rescaling_symmetry": (symmetry, 1.0, 2.0),
    "balance_drift": (layers(theory.balance_drift), 1.0, 0.1, 0.0, 1.0),
    "layer_noise": (layers(theory.layer_noise), 1.0, 0.1, 1.0),
    "map_drift": (layers(theory.map_drift), 1.0, 0.1, 0.0, 1.0),
    "map_covariance": (layers(theory.map_covariance), 1.0, 0.1, 1.0),
    "log_det": (lambda w: determinant.log_det([PAIR[0] * w, PAIR[1]]), 1.0),
    "log_det_step": (lambda j, *a: determinant.log_det_step(np.full((1, 1, 1), j), *a), 0.5, 0.1, 0.0),
    "log_det_rate": (layers(determinant.log_det_rate, 0), 1.0, 0.1, 0.0, 1.0),
    "settled_rate": (layers(determinant.settled_rate), 1.0, 0.1, 0.0),
    "fall_times": (lambda w, T, s: determinant.fall_times(FLAT, T, [PAIR[0] * w, PAIR[1]], s), 1.0, 0.1, 0.01),
    "label_noise_drift": (layers(determinant.label_noise_drift), 1.0, 0.1),
    "rank": (lambda x: determinant.rank(np.diag([1.0, x])[None]), 0.5),
    "effective_rank": (lambda x: determinant.effective_rank(np.diag([1.0, x])[None]), 0.5),
}


def numbers(result):
    """All arrays of a result."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in numbers(part)]
    return [np.asarray(result)]


@pytest.mark.parametrize("name", CALLS)
def test_arguments(name):
    call, *arguments = CALLS[name]
    call(*arguments)
    for at in range(len(arguments)):
        given = [np.nan if i == at else value for i, value in enumerate(arguments)]
        try:
            found = numbers(call(*given))
        except (ValueError, TypeError):
            continue
        assert all(array.dtype.kind == "f" and np.isnan(array).any() for array in found), (at, found)


@pytest.mark.parametrize("law", [*laws()], ids=lambda law: type(law).__name__)
def test_laws(law):
    for name in NAMES:
        found = getattr(law, name)([np.nan, 0.5])
        assert np.isnan(found).tolist() == [True, False], (name, found)
        assert np.isnan(getattr(law, name)(np.nan))
    assert np.isnan(law.ppf([-0.1, 1.1, np.inf])).all() and np.isnan(law.isf([-0.1, 1.1, -np.inf])).all()
    with pytest.raises(ValueError, match="confidence must be from 0 to 1, got"):
        law.interval(np.nan)


def test_one_of_many():
    """A NaN in an array affects only its own entry."""
    for mode in (LINE, MODE, DEEP):
        mean, var = mode.passage([0.1, 0.9, 0.2], 0.5)
        assert np.isfinite([mean, var]).all()
    assert np.isnan(OU.exit_probability([0.1, np.nan], -1.0, 1.0)).tolist() == [False, True]
    assert np.isnan(OU.passage([0.1, np.nan, 2.0], 1.0)).tolist() == [[False, True, False]] * 2


def test_infinite_starts_and_targets():
    for call in (
        lambda: MODE.passage(np.inf, 0.5),
        lambda: MODE.passage(0.1, np.inf),
        lambda: OU.passage(-np.inf, 0.5),
        lambda: MODE.flow(1.0, np.inf),
        lambda: MODE.plateau(np.inf),
        lambda: theory.growth_rate([np.inf, 1.0], 0.1, 0.1),
    ):
        with pytest.raises(ValueError, match=r"must (be|lie)"):
            call()
    assert MODE.flow(np.inf, 0.1) == 1
