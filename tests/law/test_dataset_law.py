"""A step on a finite data set has the distribution of its sampling scheme, against sums over the data set."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from saddlescope import GD, SGD, Dataset, DeepLinear, GaussianData, Langevin, Plan, Problem, init
from support import FALSE_ALARM, alike, dataset, has_covariance, has_mean

COUNT, LR, BATCH = 20_000, 0.1, 3
WEIGHTS = np.random.default_rng(4).standard_normal((2, 3))
DATA = dataset(7, 3, 2, label_noise=0.7)

SAMPLINGS = {
    "replacement": SGD(LR, BATCH),
    "many": SGD(LR, 40),
    "without": SGD(LR, BATCH, "without"),
    "shuffle": SGD(LR, BATCH, "shuffle"),
    "full": SGD(LR, sampling="full"),
    "gd": GD(LR),
    "langevin": Langevin(LR, BATCH),
}


def map_gradients(engine, data, method, steps=1, count=COUNT):
    """Ḡ (count, dy, dx) of the last of these steps, with one layer that the earlier steps do not move."""
    problem = Problem(DeepLinear((data.dim_in, data.dim_out)), data, init.Given([WEIGHTS]))
    run = engine(problem, method, Plan(steps=steps, trajectories=count))
    state = run.advance(run.init(), steps - 1)
    return (run.weights(state)[0] - run.weights(run.advance(state, steps))[0]) / method.time_step


def moments(data):
    """Mean of a sample's gradient, its covariance over the samples, and that of label noise."""
    gradients = np.array([np.outer(WEIGHTS @ x - y, x).ravel() for x, y in zip(data.X, data.Y, strict=True)])
    labels = data.label_noise**2 * np.kron(np.eye(data.dim_out), data.X.T @ data.X / data.samples)
    return gradients.mean(axis=0), np.cov(gradients.T, bias=True), labels


def expected(name):
    mean, spread, labels = moments(DATA)
    n = DATA.samples
    return mean, {
        "replacement": (spread + labels) / BATCH,
        "many": (spread + labels) / 40,
        "without": ((n - BATCH) / (n - 1) * spread + labels) / BATCH,
        "shuffle": ((n - BATCH) / (n - 1) * spread + labels) / BATCH,
        "full": labels / n,
        "gd": labels / n,
        "langevin": (spread + labels) / BATCH,
    }[name]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_mean_and_covariance(engine, name):
    drawn = map_gradients(engine, DATA, SAMPLINGS[name])
    mean, covariance = expected(name)
    assert has_mean(drawn, mean)
    assert has_covariance(drawn, mean, covariance)
    assert not has_covariance(drawn, mean, 1.25 * covariance), "a wrong temperature must be rejected"


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_noise_that_a_run_shows_is_that_of_its_steps(engine, name):
    """``mode_noise`` over η is the variance of Ḡ along a mode, exactly, with the finite population in it."""
    run = engine(Problem(DeepLinear((3, 2)), DATA, init.Given([WEIGHTS])), SAMPLINGS[name], Plan(steps=1))
    modes, covariance = DATA.modes, expected(name)[1].reshape(2, 3, 2, 3)
    variance = np.einsum("ia,ja,ijkl,ka,la->a", modes.left, modes.right, covariance, modes.left, modes.right)
    np.testing.assert_allclose(run.observe(run.init())["mode_noise"], LR * variance[None], rtol=1e-9)


def test_the_finite_population_is_seen(engine):
    """Negative control: with and without replacement differ."""
    drawn = map_gradients(engine, DATA, SAMPLINGS["without"])
    assert not has_covariance(drawn, *expected("replacement"))


def test_gaussian_data_of_the_same_second_moments_are_rejected(engine):
    """Negative control: neither a Gaussian batch nor its Langevin model has the fourth moments of these samples."""
    gaussian = GaussianData(DATA.teacher, DATA.sigma, np.sqrt(2 * DATA.least_loss / DATA.dim_out))
    mean, covariance = expected("langevin")
    for method in (Langevin(LR, BATCH), SGD(LR, BATCH)):
        drawn = map_gradients(engine, gaussian, method)
        assert has_mean(drawn, mean)
        assert not has_covariance(drawn, mean, covariance)


def test_the_langevin_model_is_not_the_law_of_a_batch(engine):
    drawn, model = (map_gradients(engine, DATA, SAMPLINGS[name])[:, 0, 0] for name in ("replacement", "langevin"))
    assert not alike(drawn, model)


# --- every batch has the right probability

FEW = Dataset(dataset(5, 3, 2).X, dataset(5, 3, 2).Y)


def batches(engine, sampling, step=1):
    """How often each pair of samples was the batch of this step."""
    drawn = map_gradients(engine, FEW, SGD(1e-7, 2, sampling), step, count=4_000)
    pairs = list(itertools.combinations_with_replacement(range(5), 2))
    single = np.array([np.outer(WEIGHTS @ x - y, x) for x, y in zip(FEW.X, FEW.Y, strict=True)])
    possible = np.array([(single[i] + single[j]) / 2 for i, j in pairs])
    distance = np.abs(drawn[:, None] - possible).max(axis=(2, 3))
    assert distance.min(axis=1).max() < 1e-5
    found = Counter(distance.argmin(axis=1).tolist())
    return {pair: found[index] for index, pair in enumerate(pairs)}


def fits(counts, weights):
    """Chi-square at FALSE_ALARM."""
    total, weights = sum(counts.values()), np.array([weights[pair] for pair in counts])
    seen, wanted = np.array(list(counts.values())), total * weights / weights.sum()
    if seen[wanted == 0].any():
        return False
    return stats.chisquare(seen[wanted > 0], wanted[wanted > 0]).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("sampling", "step"),
    [("replacement", 1), ("without", 1), ("without", 3), ("shuffle", 1), ("shuffle", 2), ("shuffle", 4)],
)
def test_pairs_of_samples(engine, sampling, step):
    counts = batches(engine, sampling, step)
    ordered = {pair: 1 if pair[0] == pair[1] else 2 for pair in counts}
    distinct = {pair: float(pair[0] != pair[1]) for pair in counts}
    right, wrong = (ordered, distinct) if sampling == "replacement" else (distinct, ordered)
    assert fits(counts, right)
    assert not fits(counts, wrong), "the other way to draw must be rejected"


def test_permutations_are_uniform(engine):
    """All 24 orders of four samples."""
    problem = Problem(DeepLinear((3, 2)), Dataset(FEW.X[:4], FEW.Y[:4]), init.Given([WEIGHTS]))
    run = engine(problem, SGD(LR, 4, "shuffle"), Plan(steps=2, trajectories=6_000))
    for until in (1, 2):
        orders = Counter(map(tuple, run.advance(run.init(), until).order.tolist()))
        assert len(orders) == 24
        assert stats.chisquare(list(orders.values())).pvalue > FALSE_ALARM
