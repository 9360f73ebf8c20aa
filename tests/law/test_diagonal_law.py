"""Diagonal networks against the distributions of one mode and of deep linear networks, with negative controls."""

import numpy as np
import pytest
from scipy import special, stats

import saddlescope as sc
from saddlescope.engines import make_engine
from support import FALSE_ALARM, alike, follows

DATA = sc.GaussianData([[1.0]], label_noise=0.5)
GIVEN = sc.Moments(0.4, 0.3, 0.9, 1.1, 0.8)


def langevin(temperature, dt, **options):
    """Langevin at this temperature and step."""
    return sc.Langevin(dt, dt / temperature, **options)


def strengths(network, data, start, method, steps, trajectories, seed=1):
    """v of every trajectory at the end."""
    plan = sc.Plan(steps=steps, trajectories=trajectories, seed=seed)
    engine = make_engine("auto", sc.Problem(network, data, start), method, plan)
    end = engine.advance(engine.init(), steps)
    assert not end.status.any()
    return engine.observe(end)["mode_strength"][:, 0]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_one_normal_a_step_gives_the_law_of_deep_linear_networks(depth):
    start = sc.init.Balanced(scale=0.6)
    run = DATA, start, langevin(0.04, 0.02), 60, 20_000
    deep = strengths(sc.DeepLinear((1,) * (depth + 1)), *run, seed=2)
    assert alike(strengths(sc.Diagonal(depth), *run), deep)
    assert not alike(strengths(sc.Diagonal(depth), DATA, start, langevin(0.06, 0.02), 60, 20_000), deep)


CHAINS = {
    "one chain": (sc.Diagonal(2, 1), DATA, sc.init.Balanced(scale=1.0)),
    "unequal chains": (sc.Diagonal(2, 3), DATA, sc.init.Given([[[0.9], [-0.3], [0.1]]] * 2)),
    "given moments": (sc.Diagonal(2, 2), GIVEN, sc.init.Balanced(scale=0.6)),
    "deeper": (sc.Diagonal(3, 4), DATA, sc.init.Balanced(scale=0.63)),
    "one layer": (sc.Diagonal(1, 3), DATA, sc.init.Balanced(scale=0.3)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_stationary_law_of_balanced_chains(name):
    network, data, start = CHAINS[name]
    method, wrong = langevin(0.03, 0.005), langevin(0.036, 0.005)
    sample = strengths(network, data, start, method, 1600, 20_000)
    problem = sc.Problem(network, data, start)
    assert follows(sample, sc.theory.mode_sde(problem, method, 0).stationary())
    assert not follows(sample, sc.theory.mode_sde(problem, wrong, 0).stationary())


@pytest.mark.parametrize("name", ["deeper", "one layer"])
def test_equal_chains_have_a_time_and_a_temperature_of_their_own(name):
    """Negative control: the distribution of a single chain differs, since ``d^{2/L−1}`` is not 1."""
    network, data, start = CHAINS[name]
    sample = strengths(network, data, start, langevin(0.03, 0.005), 1600, 20_000)
    one = sc.Problem(sc.Diagonal(network.depth, 1), data, start)
    assert not follows(sample, sc.theory.mode_sde(one, langevin(0.03, 0.005), 0).stationary())


# --- collapse of discrete SGD


def growth(target, label_noise, lr, batch):
    """``E log|1 + η mean(xy)|`` of a batch: for a mean square c² of its inputs, mean(xy) is N(s*c², σ²c²/B).

    ``E log|a + bZ| = log b + ½ E[log 2 + ψ(½ + K)]``, K Poisson of mean ``a²/(2b²)``; about ``log a − b²/(2a²)`` for
    b ≪ a.
    """
    square = stats.chi2(batch).ppf((np.arange(8000) + 0.5) / 8000) / batch
    a, b = 1 + lr * target * square, lr * label_noise * np.sqrt(square / batch)
    rate = np.minimum((a / b) ** 2 / 2, 200.0)
    counts = np.arange(400)
    mean = np.sum(stats.poisson.pmf(counts, rate[:, None]) * special.digamma(0.5 + counts), axis=1)
    near = np.log(b) + 0.5 * (np.log(2) + mean)
    return float(np.where(rate < 200, near, np.log(a) - b**2 / (2 * a**2) - 0.75 * (b / a) ** 4).mean())


@pytest.mark.parametrize(
    ("label_noise", "share", "batch", "collapses"),
    [
        (10.0, 0.8, 1, False),
        (10.0, 0.965, 1, True),
        (10.0, 1.2, 1, True),
        (10.0, 0.8, 4, False),
        (0.5**0.5, 2.0, 1, False),
    ],
)
def test_discrete_sgd_collapses_where_the_mean_growth_of_a_weight_is_negative(label_noise, share, batch, collapses):
    """In units of T_c = 2β₂/α₃: for s* = 1 and σ² = 100 the threshold is 0.93 T_c, for σ² = ½ there is none."""
    data = sc.GaussianData([[1.0]], label_noise=label_noise)
    lr = share * batch * 2 / (2 + label_noise**2)
    method, steps = sc.SGD(lr, batch), 200 if label_noise > 1 else 50
    expected = growth(1.0, label_noise, lr, batch)
    assert (expected < 0) == collapses
    end = strengths(sc.Diagonal(2), data, sc.init.Balanced(scale=1e-60), method, steps, 20_000)
    grown = np.log(end / 1e-120) / (2 * steps)
    bound = stats.norm.isf(FALSE_ALARM / 2) * grown.std() / np.sqrt(len(grown))
    assert abs(grown.mean() - expected) < bound
    assert (grown.mean() < -bound) if collapses else (grown.mean() > bound)
    langevin_growth = lr - lr**2 * (2 + label_noise**2) / (2 * batch)
    assert (langevin_growth < 0) == (share > 1)


# --- broken ergodicity


@pytest.mark.parametrize("method", [sc.SGD(0.02, 4), langevin(0.05, 0.02)])
def test_balanced_chains_of_the_wrong_sign_are_never_learned(method):
    wrong = sc.init.Given([[[0.3]], [[-0.3]]])
    lost = strengths(sc.Diagonal(2), DATA, wrong, method, 1000, 500)
    assert (lost < 0).all() and (lost > -1e-6).all()
    crossed = strengths(sc.Diagonal(2), DATA, sc.init.Given([[[0.3]], [[-0.2]]]), method, 1000, 500)
    assert (crossed > 0.5).mean() > 0.99
    one = strengths(sc.Diagonal(1), DATA, sc.init.Given([[[-0.09]]]), method, 1000, 500)
    assert (one > 0.5).mean() > 0.99
