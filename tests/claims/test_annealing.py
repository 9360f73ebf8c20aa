"""The parts of the claim on annealing through the critical temperature."""

import numpy as np
import pytest

from saddlescope.claims.intervals import Interval
from saddlescope.claims.law_of_balance import annealing


def test_the_universal_mean_does_not_depend_on_cells_steps_or_ends():
    found = annealing.universal()
    assert found == pytest.approx(1.1040, abs=2e-4)
    assert annealing.universal(cells=3000) == pytest.approx(found, abs=2e-4)
    assert annealing.universal(step=5e-4) == pytest.approx(found, abs=2e-4)
    assert annealing.universal(reach=20.0) == pytest.approx(found, abs=4e-4)


def test_the_universal_mean_is_that_of_reflected_paths():
    """Exact reflection within a step, by the minimum of a Brownian bridge."""
    rng, step = np.random.default_rng(0), 0.01
    x = rng.exponential(1 / 6, 40_000)
    for u in np.arange(-6 + step / 2, 0, step):
        moved = x + u * step + np.sqrt(2 * step) * rng.standard_normal(x.size)
        lowest = (x + moved - np.sqrt((moved - x) ** 2 - 4 * step * np.log(rng.random(x.size)))) / 2
        x = moved + np.maximum(-lowest, 0)
    assert x.mean() == pytest.approx(annealing.universal(), abs=5 * x.std() / np.sqrt(x.size) + 0.005)


@pytest.mark.parametrize("power", [0.25, 1 / 3, 0.5])
def test_the_power_of_time_does_not_see_a_constant(power):
    means = [Interval(m, m - 1e-9, m + 1e-9) for m in (-2.0 + 0.7 * steps**power for steps in annealing.RAMPS)]
    assert annealing.power_of_time(means).value == pytest.approx(power, abs=1e-9)


def test_the_prediction_grows_with_the_cube_root_and_rivals_are_rejected():
    assert annealing.lag(8000) / annealing.lag(1000) == pytest.approx(2.0)
    assert annealing.lag(1000, 8.0) / annealing.lag(1000) == pytest.approx(4.0)
    lags = [annealing.lag(steps) - 1.6 + np.linspace(-0.1, 0.1, 1001) for steps in annealing.RAMPS]
    measured = annealing.Measured(lags, quick=False)
    assert measured.exponent(1 / 3).verdict == measured.slope(1.0).verdict == "confirmed"
    assert {measured.exponent(1 / 2).verdict, measured.exponent(1 / 4).verdict} == {"refuted"}
    assert {measured.slope(factor).verdict for factor in (0.8, 1.25)} == {"refuted"}
