"""The parts of the claim that SGD at depth 2 is metastable."""

from itertools import pairwise

import numpy as np
import pytest

from saddlescope.claims.law_of_balance import metastable


@pytest.mark.parametrize("case", metastable.CASES)
def test_the_hazard_does_not_depend_on_cells_or_draws(case):
    fine = metastable.hazard(*case, cells=400, draws=128)
    assert metastable.hazard(*case) == pytest.approx(fine, rel=0.005)


def test_the_hazard_is_that_of_the_balanced_recursion():
    rng, (lr, batch, size) = np.random.default_rng(0), (0.6, 4, 40_000)
    u, lost, at_risk = np.ones(size), 0, 0
    for step in range(200):
        q = rng.chisquare(batch, u.size) / batch
        noise = np.sqrt(q / batch) * rng.standard_normal(u.size)
        u = u * (1 - lr * (q * (u * u - 1) - noise))
        gone = np.abs(u) > 50
        if step >= 50:
            lost, at_risk = lost + gone.sum(), at_risk + u.size
        u = u[~gone]
    assert lost / at_risk == pytest.approx(metastable.hazard(lr, batch), rel=5 / np.sqrt(lost))


def test_the_slope_of_the_log_lifetime_tends_to_the_least_action():
    logs = [-np.log(metastable.hazard(0.6, B)) for B in (4, 8, 16, 32)]
    slopes = [(b - a) / B for (a, b), B in zip(pairwise(logs), (4, 8, 16), strict=True)]
    off = np.array(slopes) / metastable.least_action(0.6) - 1
    assert (np.diff(off) < 0).all()
    assert 0 < off[-1] < 0.03
    assert metastable.least_action(0.6, cells=1600) == pytest.approx(metastable.least_action(0.6), rel=0.002)


def test_the_hazard_of_a_constant_rate_is_found_and_rivals_are_rejected():
    rng, steps, size = np.random.default_rng(1), metastable.SETTLED + 600, 262_144
    status = {}
    for case in metastable.CASES:
        when = metastable.SETTLED + rng.geometric(metastable.hazard(*case), size)
        status[case] = np.where(when <= steps, when, 0)
    measured = metastable.Measured(status, steps, quick=False)
    assert measured.hazards(metastable.hazard).verdict == "confirmed"
    assert measured.constancy().verdict == measured.slope(metastable.least_action(0.6)).verdict == "confirmed"
    assert measured.slope(metastable.least_action(0.6, batches=1)).verdict == "refuted"
    assert measured.hazards(lambda lr, B: metastable.hazard(lr, B, normal=True)).verdict == "refuted"
    for factor in (0.95, 1.05):
        assert measured.hazards(lambda lr, B, by=factor: metastable.hazard(by * lr, B)).verdict == "refuted"
