"""Ensembles of one mode against its distribution over time and of its learning times, with negative controls."""

import numpy as np
import pytest
from scipy import stats

import saddlescope as sc
from saddlescope.theory import Diffusion1D, ModeSDE, mode_sde
from support import FALSE_ALARM, follows

CASES = {
    "depth 1": (ModeSDE(depth=1, target=1.0, label_noise=0.5, temperature=0.5), -0.5, 0.7),
    "depth 2": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.2), 0.05, 1.5),
    "depth 2, decay": (ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.2, weight_decay=0.3), 0.05, 1.5),
    "depth 3": (ModeSDE(depth=3, target=1.5, label_noise=0.5, temperature=0.1), 0.2, 1.0),
}


def other(mode, temperature):
    return ModeSDE(
        depth=mode.depth,
        target=mode.target,
        label_noise=mode.label_noise,
        temperature=temperature,
        weight_decay=mode.weight_decay,
    )


@pytest.mark.parametrize("name", CASES)
def test_laws_in_time(name):
    mode, start, time = CASES[name]
    sample = mode.simulate(start, [time], 40_000, seed=3, tol=0.05)[:, 0]
    assert follows(sample, mode.evolve(start, [time], tol=1e-4)[0])
    assert not follows(sample, other(mode, 1.15 * mode.temperature).evolve(start, [time], tol=1e-4)[0])


def test_the_sde_is_not_that_of_stratonovich():
    mode, start, time = CASES["depth 2"]
    log = mode.log_diffusion

    def drift(w):  # read as Stratonovich, the same SDE drifts by b b'/2 more
        return log.drift(w) + (log.diffusion(w + 1e-6) ** 2 - log.diffusion(w - 1e-6) ** 2) / 8e-6

    sample = np.log(mode.simulate(start, [time], 40_000, seed=3, tol=0.05)[:, 0]) / 2
    wrong = Diffusion1D(drift, log.diffusion, tails="exponential")
    first = float(np.log(start)) / 2
    assert follows(sample, log.evolve(first, [time], tol=1e-4)[0])
    assert not follows(sample, wrong.evolve(first, [time], tol=1e-4)[0])


def test_laws_of_learning_times():
    mode = ModeSDE(depth=2, target=1.0, label_noise=0.5, temperature=0.2)
    sample = mode.simulate_passages(0.05, [0.5], 60.0, 20_000, seed=5, tol=0.01)[:, 0]
    times = np.array([1.0, 1.5, 2.5, 5.0])
    hits = (sample[:, None] <= times).sum(axis=0)

    def plausible(probabilities, slack):
        pairs = zip(hits, probabilities, strict=True)
        return all(
            min(stats.binom.cdf(k, len(sample), p + slack), stats.binom.sf(k - 1, len(sample), p - slack))
            > FALSE_ALARM / 8
            for k, p in pairs
        )

    assert plausible(mode.passage_cdf(times, 0.05, 0.5, tol=1e-4), slack=2e-3)  # a step sees a passage late
    assert not plausible(other(mode, 0.24).passage_cdf(times, 0.05, 0.5, tol=1e-4), slack=2e-3)


def test_sgd_of_the_readme_has_the_law_in_time():
    """T = lr/B = 6e-5: the law is narrow, and follows the mode through its plateau and up."""
    data = sc.GaussianData.from_spectrum([4.0, 2.0], dim_in=8, dim_out=6, label_noise=0.5, seed=0)
    problem = sc.Problem(sc.DeepLinear((8, 16, 16, 6)), data, sc.init.Balanced(scale=0.1))
    sgd = sc.SGD(lr=1e-3, batch_size=16)
    run = sc.simulate(problem, sgd, sc.Plan(steps=5_600, save_at=[5_000, 5_600], trajectories=200, keep="trajectories"))
    mode = mode_sde(problem, sgd, mode=1)
    rising, learned = mode.evolve(1e-3, [5.0, 5.6])
    assert learned.mean() == pytest.approx(1.998, abs=1e-3)
    assert rising.error < 1e-6
    assert sc.compare(run, rising, mode=1, step=5_000).verdict == "agrees"
    assert sc.compare(run, learned, mode=1).verdict == "agrees"
    assert sc.compare(run, mode.evolve(1.1e-3, [5.0])[0], mode=1, step=5_000).verdict == "differs"
    assert sc.compare(run, rising, mode=1).verdict == "differs"
