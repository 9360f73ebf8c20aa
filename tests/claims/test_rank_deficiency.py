"""The parts of the rank-deficiency claims, on small ensembles."""

import numpy as np
import pytest

from saddlescope.claims.rank_deficiency import determinant_line
from saddlescope.claims.rank_deficiency._setting import follow, problem
from saddlescope.methods import GD


def test_setting_of_the_source():
    data = problem(2.0).data
    assert (data.samples, data.dim_in, data.dim_out, data.label_noise) == (1000, 5, 2, 2.0)
    assert data.modes.strengths == pytest.approx([2.0, 1.0], abs=0.01)
    assert np.abs(data.residuals).max() < 0.02  # rounding to two decimals


def test_fall_of_the_determinant_over_a_short_path():
    """The closed-form rate added up along the path is the fall; the line alone is not."""
    path = follow("short", problem(2.0), GD(0.05), range(400), trajectories=16)
    fall, line = path.fall[-1, :, 0], determinant_line._line(path)
    assert path.integral(path.label_noise_rate())[-1] == pytest.approx(fall, rel=0.03)
    assert np.all(path.integral(line)[-1] > 0.5 * fall)


def test_fall_foretold_from_the_initial_weights():
    path = follow("longer", problem(2.0), GD(0.02), range(400, 40_000, 3000), trajectories=8)
    told = determinant_line._foretold(path)[-1]
    assert path.fall[-1, :, 0].mean() == pytest.approx(told.mean(), rel=0.05)
