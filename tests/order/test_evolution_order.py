"""Order of convergence of the finite volumes in time: cells, steps, eigenvalues; and what they conserve at any size."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.theory import Diffusion1D
from saddlescope.theory.sde.cells import chain, staged

OU = Diffusion1D(lambda x: -x, lambda x: np.full_like(x, 2**0.5))
CIR = Diffusion1D(lambda x: 2.5 - x, lambda x: np.sqrt(2 * x), lower=0.0)
EXACT = {"OU": (OU, 1.0, stats.norm(np.exp(-0.7), np.sqrt(-np.expm1(-1.4))))}
c = -np.expm1(-0.7) / 2
EXACT["CIR"] = (CIR, 1.0, stats.ncx2(5, np.exp(-0.7) / c, scale=c))


def start(name):
    diffusion, x, law = EXACT[name]
    y = float(diffusion.coordinate.to_y(np.array(x)))
    stage = staged(diffusion.scale_speed, (y, y), [(8 / 0.7, 32.0)], (None, None), aim=True)
    return stage, y, lambda edges: law.cdf(diffusion.coordinate.to_x(edges))


def orders(errors, ratio):
    return np.log(np.array(errors[:-1]) / np.array(errors[1:])) / np.log(ratio)


@pytest.mark.parametrize("name", EXACT)
def test_cells_are_of_order_two(name):
    stage, y, exact = start(name)
    errors = []
    for cells in (99, 297, 891):
        cut = chain(stage, cells)
        coarse, fine = (cut.march(np.where(cut.edges > y, 1.0, 0.0), np.array([0.7]), k)[0] for k in (256, 512))
        errors.append(np.abs(2 * fine - coarse - exact(cut.edges)).max())
    np.testing.assert_allclose(orders(errors, 3), 2, atol=0.1)


@pytest.mark.parametrize("name", EXACT)
def test_steps_are_of_order_one(name):
    stage, y, exact = start(name)
    cut = chain(stage, 2673)
    begin = np.where(cut.edges > y, 1.0, 0.0)
    errors = [np.abs(cut.march(begin, np.array([0.7]), k)[0] - exact(cut.edges)).max() for k in (4, 8, 16)]
    np.testing.assert_allclose(orders(errors, 2), 1, atol=0.1)


@pytest.mark.parametrize("diffusion", [OU, CIR], ids=["OU", "CIR"])
def test_eigenvalues_are_of_order_two(diffusion):
    y = float(diffusion.scale_speed.peaks[0])
    stage = staged(diffusion.scale_speed, (y, y), [(0.0, 32.0)], (None, None), aim=False)
    errors = [np.abs(chain(stage, cells).rates(4)[1:] - [1, 2, 3]) for cells in (99, 297, 891)]
    np.testing.assert_allclose(orders(errors, 3), 2, atol=0.1)


@pytest.mark.parametrize("cells", [9, 99])
@pytest.mark.parametrize("finer", [1, 100])
def test_few_cells_and_long_steps_keep_mass_positive_and_the_stationary_law_exact(cells, finer):
    stage, y, _ = start("CIR")
    cut = chain(stage, cells)
    times = np.array([1e-6, 1.0, 1e6])
    cumulated = cut.march(np.where(cut.edges > y, 1.0, 0.0), times, finer)
    np.testing.assert_array_equal(cumulated[:, [0, -1]], [[0, 1]] * 3)
    assert (np.diff(cumulated) > -1e-10).all()
    exact = np.append(0.0, np.cumsum(np.exp(cut.log_m)))
    np.testing.assert_allclose(cumulated[-1], exact / exact[-1], atol=1e-9)
