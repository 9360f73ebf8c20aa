"""The rule that judges claims, and the intervals it uses."""

import numpy as np
import pytest
from scipy import stats

from saddlescope.claims import intervals
from saddlescope.claims.claim import Evidence, Number, Rival, Run, judge
from saddlescope.claims.intervals import Interval
from saddlescope.claims.tools import around, largest, power, smallest

INSIDE = Number("inside", Interval(0.5, 0.4, 0.6), (0.3, 0.7))
OUTSIDE = Number("outside", Interval(0.5, 0.4, 0.6), (0.7, 1.0))
ACROSS = Number("across", Interval(0.5, 0.4, 0.6), (0.5, 1.0))
UNKNOWN = Number("unknown", Interval(np.nan, np.nan, np.nan), (0.0, 1.0))
SHOWN = Number("shown", Interval(0.5, 0.4, 0.6))
REJECTED = Rival("a wrong theory", [OUTSIDE])
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
    assert judge(Evidence(numbers, controls, runs, rivals=[REJECTED]))[0] == verdict


def test_a_claim_without_rivals_says_nothing():
    found, reason = judge(Evidence([INSIDE], [OUTSIDE], [GOOD_RUN]))
    assert found == "inconclusive" and "rival theory" in reason


@pytest.mark.parametrize(
    ("rival", "verdict"),
    [
        ([OUTSIDE], "refuted"),
        ([INSIDE, OUTSIDE, SHOWN], "refuted"),
        ([INSIDE, ACROSS], "inconclusive"),
        ([UNKNOWN], "inconclusive"),
        ([SHOWN], "inconclusive"),
        ([], "inconclusive"),
        ([INSIDE, SHOWN], "confirmed"),
    ],
)
def test_a_claim_that_would_confirm_a_wrong_theory_is_inconclusive(rival, verdict):
    wrong = Rival("T × 1.1", rival)
    assert wrong.verdict == verdict
    found, reason = judge(Evidence([INSIDE], [OUTSIDE], [], rivals=[Rival("no noise", [OUTSIDE]), wrong]))
    assert found == ("inconclusive" if verdict == "confirmed" else "confirmed")
    assert ('"T × 1.1"' in reason) == (verdict == "confirmed")


def test_power_is_the_nearest_error_that_is_not_confirmed():
    """The region is 0.9 … 1.1 of the truth, the interval ± 0.03: an error of 7 % is inside, one of 8 % is not."""
    assert (
        power(lambda factor: Number("rate", Interval(1.0, 0.97, 1.03), around(factor, 0.1)), "γ")
        == "γ × 0.92, γ × 1.08"
    )
    assert power(lambda factor: INSIDE, "γ") == "γ × nan, γ × nan"


def test_refutes_from_is_where_the_same_interval_would_lie_outside():
    number = Number("rate", Interval(1.0, 0.97, 1.05), (0.9, 1.1))
    for true in number.refutes_from:
        for away, verdict in ((1e-9, "refuted"), (-1e-9, "inconclusive")):
            seen = true + away * np.sign(true - 1)
            moved = Number("rate", Interval(seen, seen - 0.03, seen + 0.05), (0.9, 1.1))
            assert moved.verdict == verdict
    assert Number("distance", Interval(0.004, 0.0, 0.008), (0.0, 0.015)).refutes_from == pytest.approx((-np.inf, 0.019))
    assert SHOWN.refutes_from is None


def test_intervals_and_regions_have_their_ends_in_order():
    with pytest.raises(ValueError, match="low ≤ value ≤ high"):
        Interval(5.0, 1.0, -15.0)
    with pytest.raises(ValueError, match="low ≤ value ≤ high"):
        Interval(5.0, 1.0, 4.0)
    with pytest.raises(ValueError, match="region of 'rate'"):
        Number("rate", Interval(1.0, 0.5, 1.5), (1.1, 0.9))
    assert Interval(1.0, 0.5, 2.0) * -2 == Interval(-2.0, -4.0, -1.0)


def test_ratio_is_bounded_only_by_a_denominator_away_from_zero():
    with pytest.raises(ValueError, match="positive denominator"):
        intervals.ratio(Interval(1.0, 0.5, 1.5), Interval(0.2, -0.1, 0.5))
    found = intervals.ratio(Interval(-1.0, -2.0, 1.0), Interval(2.0, 1.0, 4.0))
    assert (found.low, found.value, found.high, found.miss) == (-2.0, -0.5, 1.0, 2e-6)


@pytest.mark.parametrize("n", [intervals.FEWEST, 96])
def test_means_of_skewed_laws_keep_the_promise(n):
    """Student's interval misses the mean of n exponential variables 100 to 250 times as often as 1e-6."""
    rng, repeats = np.random.default_rng(0), 400_000
    sample = rng.standard_exponential((repeats, n))
    student = np.abs(sample.mean(axis=1) - 1) / (sample.std(axis=1, ddof=1) / np.sqrt(n)) > stats.t.isf(5e-7, n - 1)
    assert student.sum() > 20
    # All candidates for a miss are tested: the interval is never narrower than Student's.
    missed = [not found.low <= 1 <= found.high for found in map(intervals.mean, sample[student])]
    assert sum(missed) <= 6  # 0.4 expected at 1e-6; more than 6 with probability 2e-7


def test_a_mean_of_few_values_is_refused():
    with pytest.raises(ValueError, match="at least 48 values, got 24"):
        intervals.mean(np.arange(24.0))


def test_distance_to_a_law_with_atoms():
    law = lambda x: 0.3 * (x >= 0) + 0.7 * stats.norm.cdf(x, 2.0, 0.1)  # noqa: E731
    sample = np.append(np.zeros(300), stats.norm.ppf((np.arange(700) + 0.5) / 700, 2.0, 0.1))
    assert intervals.distance_to_law(sample, law).value == pytest.approx(0.5 / 1000, rel=1e-6)
    assert intervals.distance_to_law(sample + 0.01, law).value > 0.29


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
    """A NaN or a wide interval takes precedence over a more distant value."""
    near, wide, lost = Interval(0.1, 0.0, 0.2), Interval(0.05, -0.5, 0.6), Interval(np.nan, np.nan, np.nan)
    assert largest([near, wide]) is wide and smallest([near, wide], 0.4) is wide
    for order in ([near, lost], [lost, near]):
        assert largest(order) is lost and smallest(order) is lost
