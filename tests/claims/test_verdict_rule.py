"""The rule by which claims are judged, and the intervals it stands on."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.claims import intervals
from saddlescope.claims.claim import Evidence, Number, Run, judge
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import largest, smallest

INSIDE = Number("inside", Interval(0.5, 0.4, 0.6), (0.3, 0.7))
OUTSIDE = Number("outside", Interval(0.5, 0.4, 0.6), (0.7, 1.0))
ACROSS = Number("across", Interval(0.5, 0.4, 0.6), (0.5, 1.0))
UNKNOWN = Number("unknown", Interval(np.nan, np.nan, np.nan), (0.0, 1.0))
SHOWN = Number("shown", Interval(0.5, 0.4, 0.6))
GOOD_RUN, BAD_RUN = Run("good", "", 1e-3), Run("bad", "", 2e-3)


@pytest.mark.parametrize(
    ("numbers", "controls", "runs", "verdict"),
    [
        ([INSIDE, SHOWN], [OUTSIDE], [GOOD_RUN], "confirmed"),
        ([INSIDE, OUTSIDE], [OUTSIDE], [], "refuted"),
        ([ACROSS, OUTSIDE], [OUTSIDE], [], "refuted"),
        ([INSIDE, ACROSS], [OUTSIDE], [], "inconclusive"),
        ([INSIDE, UNKNOWN], [OUTSIDE], [], "inconclusive"),
        ([INSIDE], [INSIDE], [], "inconclusive"),
        ([OUTSIDE], [ACROSS], [], "inconclusive"),
        ([INSIDE], [UNKNOWN], [], "inconclusive"),
        ([INSIDE], [OUTSIDE], [GOOD_RUN, BAD_RUN], "inconclusive"),
        ([INSIDE], [], [], "inconclusive"),
        ([SHOWN], [OUTSIDE], [], "inconclusive"),
        ([INSIDE], [OUTSIDE], [Run("nan", "", np.nan)], "inconclusive"),
    ],
)
def test_verdict(numbers, controls, runs, verdict):
    assert judge(Evidence(numbers, controls, runs))[0] == verdict


def test_reason_names_what_decided():
    assert '"outside"' in judge(Evidence([INSIDE, OUTSIDE], [OUTSIDE], []))[1]
    assert '"bad"' in judge(Evidence([INSIDE], [OUTSIDE], [BAD_RUN]))[1]


LAW = stats.gamma(2.0)


@pytest.mark.parametrize(
    ("interval", "truth"),
    [
        (lambda x: intervals.proportion(x < 1.0), LAW.cdf(1.0)),
        (intervals.mean, LAW.mean()),
        (intervals.median, LAW.median()),
        (lambda x: intervals.distance_to_law(x, LAW.cdf), 0.0),
        (lambda x: intervals.distance_to_law(x, stats.gamma(3.0).cdf), None),
        (lambda x: intervals.distance_between(x[:150], x[150:]), 0.0),
    ],
    ids=["proportion", "mean", "median", "law", "other law", "two samples"],
)
def test_intervals_cover(interval, truth, monkeypatch):
    """At a false-alarm level of 5 %, at most 5 % of 400 intervals miss (8 % would happen by chance once in
    10⁶)."""
    monkeypatch.setattr(intervals, "FALSE_ALARM", 0.05)
    if truth is None:
        s = np.linspace(0, 20, 20_001)
        truth = np.abs(LAW.cdf(s) - stats.gamma(3.0).cdf(s)).max()
    rng, missed, repeats = np.random.default_rng(0), 0, 400
    for _ in range(repeats):
        found = interval(LAW.rvs(300, random_state=rng))
        missed += not found.low <= truth <= found.high
    assert missed <= stats.binom.isf(1e-6, repeats, 0.05)


def test_intervals_at_the_level_of_claims():
    assert intervals.proportion(np.ones(1000, bool)).low == pytest.approx(5e-7 ** (1 / 1000))
    assert intervals.mean(np.random.default_rng(0).standard_normal(10_000)).high == pytest.approx(0.049, abs=0.03)
    distance = intervals.distance_to_law(np.linspace(0, 1, 10_000), lambda x: x)
    assert distance.high - distance.value == pytest.approx(np.sqrt(np.log(2e6) / 20_000))


def test_small_samples_say_nothing():
    assert intervals.median(np.arange(10.0)).high == np.inf
    assert intervals.proportion(np.ones(3, bool)).low < 0.01


def test_the_worst_of_several_is_the_one_that_reaches_farthest():
    """A NaN or a wide interval is never passed over for a value that lies farther out."""
    near, wide, lost = Interval(0.1, 0.0, 0.2), Interval(0.05, -0.5, 0.6), Interval(np.nan, np.nan, np.nan)
    assert largest([near, wide]) is wide and smallest([near, wide], 0.4) is wide
    for order in ([near, lost], [lost, near]):
        assert largest(order) is lost and smallest(order) is lost
