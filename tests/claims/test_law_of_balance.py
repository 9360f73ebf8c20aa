"""The parts of the claims on the law of balance, on small ensembles."""

import numpy as np
import pytest

from saddlescope.claims.law_of_balance import exact_balance


@pytest.mark.parametrize("name", [*exact_balance.SYMMETRIC, *exact_balance.BROKEN])
def test_digits_tell_pairs_with_the_symmetry_from_others(name):
    path = exact_balance.descend((exact_balance.SYMMETRIC | exact_balance.BROKEN)[name], steps=40, decay=0.1)
    assert path.digits > 11 if name in exact_balance.SYMMETRIC else path.digits < 2
    assert exact_balance.digits(np.zeros(3), np.ones(3)) == 16
