"""The parts of the claims on the law of balance, on small ensembles."""

import numpy as np
import pytest

from saddlescope.claims.law_of_balance import balance_decay, exact_balance


@pytest.mark.parametrize("name", [*exact_balance.SYMMETRIC, *exact_balance.BROKEN])
def test_digits_tell_pairs_with_the_symmetry_from_others(name):
    path = exact_balance.descend((exact_balance.SYMMETRIC | exact_balance.BROKEN)[name], steps=40, decay=0.1)
    assert path.digits > 11 if name in exact_balance.SYMMETRIC else path.digits < 2
    assert exact_balance.digits(np.zeros(3), np.ones(3)) == 16


def test_rate_of_decay_is_told_from_that_of_another_temperature():
    ensemble = balance_decay._ensemble(balance_decay.SETTINGS[0], balance_decay.UNBALANCED, 10.0, 256)
    gained, exponent = ensemble.decay()
    assert gained.low < exponent < gained.high
    assert not gained.low < 0.8 * exponent < gained.high


def test_growth_under_isotropic_noise_is_read_off_an_ensemble():
    spread = balance_decay._growth(balance_decay._ensemble(balance_decay.ISOTROPIC, balance_decay.BALANCED, 1.0, 4096))
    assert spread.low < 1 < spread.high and not spread.low < 1.5 < spread.high
    still = balance_decay._ensemble(balance_decay.SETTINGS[0], balance_decay.BALANCED, 1.0, 4)
    assert np.abs(still.q).max() < 1e-13
