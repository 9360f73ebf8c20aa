"""Verdicts on samples of known distribution, and on slightly wrong distributions."""

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope.comparison import FALSE_ALARM, _fraction, _largest_difference, _with_run, cdf_difference
from saddlescope.runfile import run_to_toml
from saddlescope.runs.run import parts
from saddlescope.theory._checks import probabilities
from saddlescope.theory.sde.laws import Mixture

TARGET, SCALE, LR, STEPS = 2.0, 0.5, 0.1, 10
REST = (1 - LR) ** STEPS
LAW = stats.norm(TARGET * (1 - REST), SCALE * REST)
"""Of a single weight under gradient descent from a Gaussian start."""


def ensemble(keep="statistics", seed=0, count=2000, steps=STEPS, lr=LR):
    problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[TARGET]]), sc.init.Gaussian(scale=SCALE))
    return sc.simulate(problem, sc.GD(lr), sc.Plan(steps=steps, trajectories=count, seed=seed, keep=keep))


@pytest.fixture(scope="module")
def run():
    return ensemble()


def test_the_right_law_agrees(run):
    comparison = sc.compare(run, LAW)
    assert comparison.verdict == "agrees" and comparison.trajectories == 2000
    table = comparison.table
    assert list(table.columns) == ["simulated", "expected", "difference", "stderr", "bound", "verdict"]
    np.testing.assert_allclose(table.loc["mean", "expected"], LAW.mean())
    assert abs(table.loc["mean", "difference"]) < 5 * table.loc["mean", "stderr"]
    assert table.loc["mean", "verdict"] == "not judged"
    assert "agrees" in str(comparison)


@pytest.mark.parametrize(
    "wrong",
    [
        stats.norm(LAW.mean() + 0.2 * LAW.std(), LAW.std()),
        stats.norm(LAW.mean(), 1.3 * LAW.std()),
        stats.norm(LAW.mean(), LAW.std() / 1.3),
        stats.uniform(LAW.mean() - 2 * LAW.std(), 4 * LAW.std()),
    ],
    ids=["mean", "wider", "narrower", "shape"],
)
def test_a_wrong_law_differs(run, wrong):
    assert sc.compare(run, wrong).verdict == "differs"


def test_shares_see_what_the_distribution_function_does_not():
    """A law that leaves 2 % of the trajectories at 0, which is within the bound on all of its values."""

    late = ensemble(steps=40)
    law = stats.norm(TARGET * (1 - (1 - LR) ** 40), SCALE * (1 - LR) ** 40)
    assert sc.compare(late, law).verdict == "agrees"

    class Leaky:
        def cdf(self, x):
            return 0.02 * (np.asarray(x) >= 0) + 0.98 * law.cdf(x)

        def mean(self):
            return 0.98 * law.mean()

    table = sc.compare(late, Leaky()).table
    assert table.loc["largest CDF difference", "verdict"] == "agrees"
    assert table.loc["fraction up to 0.5 s*", "verdict"] == "differs"


def test_a_statistics_run_is_compared_by_the_trajectories_in_its_checkpoint(run):
    kept = ensemble(keep="trajectories")
    assert sc.compare(run, LAW).rows == sc.compare(kept, LAW).rows


def test_at_another_step():
    kept = ensemble(keep="trajectories", steps=20)
    assert sc.compare(kept, LAW, step=STEPS).verdict == "agrees"
    assert sc.compare(kept, LAW).verdict == "differs"


def test_from_disk(run, tmp_path):
    run.to_zarr(tmp_path / "run.zarr", consolidated=False)
    assert sc.compare(sc.load(tmp_path / "run.zarr"), LAW).rows == sc.compare(run, LAW).rows


def test_a_point_mass():
    """A law with a step is compared on both sides of it."""
    problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[TARGET]]), sc.init.Given([[[TARGET]]]))
    settled = sc.simulate(problem, sc.GD(LR), sc.Plan(steps=5, trajectories=100))

    class Step:
        def __init__(self, at):
            self.at = at

        def cdf(self, x):
            return (np.asarray(x) >= self.at).astype(float)

        def mean(self):
            return self.at

    assert sc.compare(settled, Step(TARGET)).verdict == "agrees"
    assert sc.compare(settled, Step(TARGET + 1e-6)).verdict == "differs"
    point = sc.theory.Atoms([TARGET], [1.0])
    assert sc.compare(settled, point).rows[0].difference == 0 and sc.compare(settled, point).verdict == "agrees"
    halves = sc.theory.Atoms([0.0, TARGET], [0.5, 0.5])
    assert sc.compare(settled, halves).rows[0].difference == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_points_and_a_density(share):
    """Part of the mass at two points, part spread around them; half as much at the points is another distribution."""
    rng = np.random.default_rng(7)
    points = sc.theory.Atoms([0.0, 1.0], [0.4, 0.6])
    spread = sc.theory.ModeSDE(1, 1.0, 0.5, temperature=0.3).stationary()

    def mixed(share):
        return Mixture((points, spread), (share, 1 - share))

    lot = rng.random(4000) < share
    samples = np.where(lot, points.rvs(4000, rng), spread.rvs(4000, rng))
    found = _largest_difference(samples, probabilities(mixed(share).cdf, "cdf"), FALSE_ALARM)
    assert found.verdict == "agrees" and found.difference > 0
    other = mixed(share / 2 if share else 0.3)
    assert _largest_difference(samples, probabilities(other.cdf, "cdf"), FALSE_ALARM).verdict == "differs"
    by_hand = max(
        abs((samples <= x).mean() - float(mixed(share).cdf(x)))
        for at in np.append(samples[:200], [0.0, 1.0])
        for x in (at, np.nextafter(at, -np.inf))
    )
    assert by_hand <= found.difference + 1e-12


class Odd:
    """A law whose distribution function returns this."""

    def __init__(self, value):
        self.value = value

    def cdf(self, x):
        return self.value

    def mean(self):
        return 0.0


def test_distribution_functions_of_users(run):
    assert sc.compare(run, Odd(0.0)).rows[0].difference == 1  # one number holds for every x
    for value, error, message in (
        (np.nan, ValueError, r"law\.cdf must return probabilities from 0 to 1, got \[nan"),
        (1.5, ValueError, r"law\.cdf must return probabilities from 0 to 1"),
        (1j, TypeError, r"law\.cdf must return real numbers"),
        ([0.1, 0.2], ValueError, r"law\.cdf must return an array of the shape of x"),
    ):
        with pytest.raises(error, match=message):
            sc.compare(run, Odd(value))
    with np.errstate(all="raise"):
        assert sc.compare(run, sc.theory.Atoms([0.0], [1.0])).verdict == "differs"


def test_the_stationary_law_of_a_mode():
    """And that of twice the temperature, which is another one."""
    data = sc.GaussianData([[1.0]], label_noise=0.5)
    problem = sc.Problem(sc.DeepLinear((1, 1, 1)), data, sc.init.Balanced(scale=1.0))
    method, hotter = (sc.Langevin(lr, batch_size=0.2, dt=0.01) for lr in (0.01, 0.02))
    settled = sc.simulate(problem, method, sc.Plan(steps=600, trajectories=2000))
    laws = [sc.theory.mode_sde(problem, each, mode=0).stationary() for each in (method, hotter)]
    assert [sc.compare(settled, law).verdict for law in laws] == ["agrees", "differs"]


def test_two_runs(run):
    assert sc.compare(run, ensemble(seed=1)).verdict == "agrees"
    assert sc.compare(run, ensemble(seed=1, lr=1.1 * LR)).verdict == "differs"


@pytest.mark.parametrize(("n", "m"), [(20, 20), (25, 400), (300, 300), (300, 700), (2000, 2000)])
def test_the_bound_oncdf_differences_holds(n, m):
    """Against the exact distribution of the two-sample statistic."""
    first = np.arange(float(n))
    bound = _with_run(first, np.arange(float(m)), FALSE_ALARM)[0].bound
    other = np.where(np.arange(m) <= bound * m, -1.0, np.arange(m) * n / m)
    assert cdf_difference(first, other) > bound
    assert stats.ks_2samp(first, other, method="exact").pvalue < FALSE_ALARM


def test_the_false_alarm_is_what_it_says():
    """At a level of 5 % in place of 1e-6, on samples of the distribution itself."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(2000):
        sample = LAW.rvs(200, random_state=rng)
        rows = [_largest_difference(sample, LAW.cdf, 0.05), _fraction(sample, LAW.cdf, "", float(LAW.ppf(0.2)), 0.05)]
        alarms += np.array([row.verdict == "differs" for row in rows])
    bound = stats.binom.isf(1e-6, 2000, 0.05)
    assert (alarms <= bound).all() and (alarms > 20).all()


def test_many_diverged_trajectories_leave_no_verdict():
    problem = sc.Problem(sc.DeepLinear((1, 1, 1)), sc.GaussianData([[1.0]]), sc.init.Gaussian(scale=2.0))
    with pytest.warns(UserWarning, match="lr = 1.1 is beyond the stability edge 1"):
        run = sc.simulate(problem, sc.GD(1.1), sc.Plan(steps=100, trajectories=300))
    assert (run.status != 0).mean() > 0.1
    assert sc.compare(run, stats.norm(1, 1)).verdict == "inconclusive"


def test_trajectories_that_are_lost_may_lie_anywhere():
    """However they lie, a verdict with them in place of lost ones is never the opposite one."""
    rng = np.random.default_rng(3)
    cdf = stats.norm.cdf
    found = set()
    for shift, lost in [(0.0, 20), (0.0, 300), (0.15, 20), (0.25, 100), (1.0, 20), (1.0, 300)]:
        samples = rng.normal(shift, 1, 2000 - lost)
        rows = [
            _largest_difference(samples, cdf, 1e-6, lost / 2000),
            _fraction(samples, cdf, "fraction", 0.5, 1e-6, lost / 2000),
        ]
        found |= {row.verdict for row in rows}
        for others in (np.full(lost, -9.0), np.full(lost, 9.0), rng.normal(size=lost), np.full(lost, 0.5)):
            whole = np.append(samples, others)
            wholes = _largest_difference(whole, cdf, 1e-6), _fraction(whole, cdf, "fraction", 0.5, 1e-6)
            for row, certain in zip(rows, wholes, strict=True):
                assert {row.verdict, certain.verdict} != {"agrees", "differs"}
                assert row.verdict != "differs" or certain.verdict == "differs"
    assert found == {"agrees", "inconclusive", "differs"}


def test_few_diverged_trajectories_leave_a_verdict(monkeypatch):
    """Three of 2000, which alone decide nothing."""
    from saddlescope import comparison

    run, true = ensemble(), comparison.strengths
    monkeypatch.setattr(comparison, "strengths", lambda *given: (true(*given)[0][:1997], 3 / 2000))
    assert sc.compare(run, LAW).verdict == "agrees"
    assert sc.compare(run, stats.norm(LAW.mean() + 0.3 * LAW.std(), LAW.std())).verdict == "differs"
    assert sc.compare(run, run).verdict == "agrees"


def near_zero(size):
    """A run whose strengths are all about ``size``, with s* = 2."""
    problem = sc.Problem(sc.DeepLinear((1, 1, 1)), sc.GaussianData([[TARGET]]), sc.init.Balanced(scale=size**0.5))
    return sc.simulate(problem, sc.GD(1e-6), sc.Plan(steps=1, trajectories=500))


def test_a_point_mass_is_approached():
    """Above T_c the law is a point mass at 0, a limit in time: no run refutes it from near, none confirms it."""
    hot = sc.theory.ModeSDE(depth=2, target=TARGET, label_noise=2.0, temperature=2.0)
    law = hot.stationary()
    assert law.point_masses() == [(0.0, 1.0)]
    found = sc.compare(near_zero(1e-9), law)
    assert found.verdict == "inconclusive" and found.rows[0].difference == 1
    assert "compare with the law at the run's time, mode.evolve" in repr(found)
    assert [row.verdict for row in found.rows[1:3]] == ["agrees", "agrees"]
    assert sc.compare(near_zero(1.5), law).verdict == "differs"
    assert sc.compare(near_zero(1e-9), stats.norm(0, 1e-3)).verdict == "differs"  # not a law with point masses


@pytest.mark.filterwarnings("ignore:T = lr", "ignore:diverged")
def test_above_the_critical_temperature_the_law_in_time_decides():
    data = sc.GaussianData([[1.0]], label_noise=6.0)
    problem = sc.Problem(sc.DeepLinear((1, 1, 1)), data, sc.init.Balanced(scale=0.1))
    hot, warm = (sc.Langevin(lr, batch_size=1.0, dt=0.002) for lr in (0.08, 0.04))
    run = sc.simulate(problem, hot, sc.Plan(steps=5000, trajectories=600, saves=1))
    laws = [sc.theory.mode_sde(problem, each, 0).evolve(0.01, [10.0], tol=1e-4)[0] for each in (hot, warm)]
    assert [sc.compare(run, law).verdict for law in laws] == ["agrees", "differs"]


def test_point_masses_explain_no_more_than_their_probability():
    tiny = near_zero(1e-9)
    spread = sc.theory.ModeSDE(depth=2, target=TARGET, label_noise=0.5, temperature=0.1).stationary()
    for share, verdict in ((0.05, "differs"), (0.999, "inconclusive")):
        law = Mixture((sc.theory.Atoms([0.0], [1.0]), spread), (share, 1 - share))
        assert sc.compare(tiny, law).verdict == verdict
    halves = Mixture((sc.theory.Atoms([0.0], [1.0]), sc.theory.Atoms([0.4], [1.0])), (0.4, 0.6))
    assert sc.compare(tiny, halves).rows[0].verdict == "inconclusive"  # both masses are near
    far = Mixture((sc.theory.Atoms([0.0], [1.0]), sc.theory.Atoms([1.7], [1.0])), (0.4, 0.6))
    assert sc.compare(tiny, far).rows[0].verdict == "differs"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"run": LAW}, TypeError, r"run must be a Dataset of simulate, .*law\.distance\(other\)"),
        ({"law": 3.0}, TypeError, "law must have cdf and mean"),
        ({"mode": 1}, ValueError, "mode must be from 0 to 0, got 1"),
        ({"mode": -1}, ValueError, "mode must be from 0 to 0"),
        ({"mode": 0.0}, TypeError, "mode must be a whole number"),
        ({"mode": True}, TypeError, "mode must be a whole number"),
        ({"step": 5}, ValueError, 'use keep="trajectories"'),
    ],
)
def test_bad_arguments(run, arguments, error, message):
    with pytest.raises(error, match=message):
        sc.compare(**{"run": run, "law": LAW, **arguments})


def test_a_step_that_was_not_saved():
    with pytest.raises(ValueError, match="step must be one of the saves"):
        sc.compare(ensemble(keep="trajectories"), LAW, step=3000)


def test_a_statistics_run_that_stopped_between_saves(run):
    problem, method, _ = parts(run)
    first = sc.simulate(problem, method, sc.Plan(steps=15, trajectories=2000, save_at=[0, 10]))
    with pytest.raises(ValueError, match="last save 10 is not its last step; give step=15"):
        sc.compare(first, LAW)
    first.attrs["toml"] = run_to_toml(problem, method, sc.Plan(steps=20, trajectories=2000, save_at=[0, 10, 20]))
    with pytest.raises(ValueError, match=r"stopped between saves \(last save 10, now at 15\); finish it"):
        sc.compare(first, LAW)


def test_runs_compared_at_different_times_are_noted(run):
    """At equal times, to within half a step, there is no note; under momentum time is lr · step / (1 − momentum)."""
    other = ensemble(steps=3 * STEPS)
    (note,) = sc.compare(run, other).notes
    first, second = f"{LR * STEPS:.4g} (step {STEPS:,})", f"{3 * LR * STEPS:.4g} (step {3 * STEPS:,})"
    assert note == f"the times differ: {first} and {second}"
    assert note in repr(sc.compare(run, other)) and note in sc.compare(run, other)._repr_html_()
    assert sc.compare(run, ensemble(steps=2 * STEPS, lr=LR / 2)).notes == sc.compare(run, LAW).notes == ()
    problem = sc.Problem(sc.DeepLinear((1, 1)), sc.GaussianData([[TARGET]]), sc.init.Gaussian(scale=SCALE))
    for steps, noted in ((STEPS, True), (STEPS // 2, False)):
        heavy = sc.simulate(problem, sc.GD(LR, momentum=0.5), sc.Plan(steps=steps, trajectories=50))
        notes = sc.compare(heavy, run).notes
        assert [note.startswith("the times differ, with momentum lr · step / (1 − momentum): ") for note in notes] == [
            True
        ] * noted
