"""Moments, traces and intervals of the monitor against exact arithmetic, and coverage of the intervals."""

from __future__ import annotations

from fractions import Fraction

import pytest
from scipy import stats

from support import FALSE_ALARM

torch = pytest.importorskip("torch")

from saddlescope.monitor.intervals import (  # noqa: E402
    Interval,
    noise_scale,
    variance_interval,
    window_interval,
)
from saddlescope.monitor.moments import Moments, trace  # noqa: E402

PARTS = (1, 50, 7, 142, 1, 99)


def heavy(n: int, k: int, offset: float) -> torch.Tensor:
    """Log-normal columns of unit standard deviation whose mean is ``offset``."""
    p = torch.randn(n, k, generator=torch.Generator().manual_seed(n + k), dtype=torch.float64).exp()
    return (p - p.mean(0)) / p.std(0) + offset


def exact(p: torch.Tensor) -> dict[str, float]:
    """The estimates from one column, in rational arithmetic; roots last."""
    x = [Fraction(v) for v in p.tolist()]
    n, mean = len(x), sum(x) / len(x)
    m2, m4 = (sum((v - mean) ** j for v in x) for j in (2, 4))
    s2 = m2 / (n - 1)
    k4 = n * ((n + 1) * m4 - 3 * (n - 1) * m2**2 / n) / ((n - 1) * (n - 2) * (n - 3))
    return {
        "mean": float(mean),
        "variance": float(s2),
        "mean_stderr": float(s2 / n) ** 0.5,
        "fourth_cumulant": float(k4),
        "variance_stderr": float((2 * n * s2**2 + (n - 1) * k4) / (n * (n + 1))) ** 0.5,
    }


@pytest.mark.parametrize("offset", [0.0, -100.0, 1e4])
def test_merged_parts_equal_the_samples_together(offset):
    p = heavy(sum(PARTS), 3, offset)
    found = Moments.from_vectors(torch.stack([Moments.from_samples(x).to_vector() for x in p.split(PARTS)]))
    one_by_one = Moments.from_samples(p[:1])
    for row in p[1:]:
        one_by_one = one_by_one + Moments.from_samples(row[None])
    tolerance = 1e-12 * max(1.0, abs(offset) / 100)
    for moments in (Moments.from_samples(p), found, one_by_one):
        for column in range(3):
            for name, value in exact(p[:, column]).items():
                got = getattr(moments, name)[column].item()
                assert got == pytest.approx(value, rel=tolerance, abs=1e-12), name
    plain = (p.square().sum(0) - sum(PARTS) * p.mean(0) ** 2) / (sum(PARTS) - 1)
    if offset == 1e4:  # sums of plain powers must fail the same test
        assert not torch.allclose(plain, found.variance, rtol=tolerance)


def test_averaged_variances_are_not_the_variance():
    p = torch.cat([heavy(32, 1, 0.0), heavy(32, 1, 3.0)])
    parts = [Moments.from_samples(x) for x in p.split(32)]
    merged = parts[0] + parts[1]
    assert torch.allclose(merged.variance, p.var(0), rtol=1e-13)
    assert not torch.allclose((parts[0].variance + parts[1].variance) / 2, p.var(0), rtol=0.1)


def test_the_variance_of_the_variance_is_unbiased():
    p = torch.randn(200_000, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    estimates = Moments.from_samples(p.T)
    squares = estimates.variance_stderr**2
    uncertainty = squares.std() / len(squares) ** 0.5
    assert abs(squares.mean() - estimates.variance.var()) < 5 * (uncertainty + estimates.variance.var() * 0.02)


def test_few_samples():
    one, three = Moments.from_samples(torch.ones(1, 2)), Moments.from_samples(torch.eye(3))
    assert one.mean.tolist() == [1.0, 1.0]
    assert one.variance.isnan().all() and one.mean_stderr.isnan().all()
    assert three.variance.tolist() == pytest.approx([1 / 3] * 3)
    assert three.variance_stderr.isnan().all()
    assert Moments.from_samples(torch.ones(9, 1)).variance_stderr.item() == 0
    with pytest.raises(ValueError, match="at least one sample"):
        Moments.from_samples(torch.ones(0, 2))
    with pytest.raises(ValueError, match="stack the results"):
        Moments.from_vectors(torch.ones(2, 7))


def test_the_trace_is_that_of_the_covariance():
    G = heavy(40, 6, 0.3)
    found = trace(Moments.from_samples(G.square().sum(1)), G.mean(0).square().sum(), 40)
    inner = G @ G.T
    pairs = (inner.sum() - inner.trace()) / (40 * 39)
    assert found.value.item() == pytest.approx(torch.cov(G.T).trace().item(), rel=1e-13)
    assert found.gradient_norm2.item() == pytest.approx(pairs.item(), rel=1e-12)


def test_the_trace_of_heads_from_some_samples_is_unbiased():
    generator = torch.Generator().manual_seed(3)
    values = []
    for _ in range(2000):
        G = torch.randn(12, 2, 3, generator=generator, dtype=torch.float64).square()  # covariance 2, mean 1
        squares = Moments.from_samples(G[:4].square().sum(2))
        found = trace(squares, G.mean(0).square().sum(1), 12)
        values.append(torch.stack([found.value, found.gradient_norm2]))
    values = torch.stack(values)
    error = values.std(0) / len(values) ** 0.5
    truth = torch.tensor([[6.0], [3.0]])
    assert ((values.mean(0) - truth).abs() < 5 * error).all()
    assert not ((values.mean(0) * 12 / 11 - truth).abs() < 5 * error).all()
    assert trace(Moments.from_samples(torch.ones(1)), torch.ones(()), 1).value.isnan()


# ------------------------------------------------------------------ coverage, on gradients of a network

DRAWS = 1000
RECORDS = 20


def covers(held: torch.Tensor) -> bool:
    """Whether the share of independent draws whose interval held the truth can be one from 90 to 98 %."""
    n, k = held.numel(), int(held.sum())
    return stats.binom.cdf(k, n, 0.90) > FALSE_ALARM and stats.binom.sf(k - 1, n, 0.98) > FALSE_ALARM


def holds(interval, truth: torch.Tensor) -> torch.Tensor:
    return (interval.low <= truth) & (truth <= interval.high)


def raw(value: torch.Tensor, stderr: torch.Tensor) -> Interval:
    return Interval(value, value - 1.96 * stderr, value + 1.96 * stderr)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products are slower on several threads of a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def gradients() -> list[torch.Tensor]:
    """Per-sample gradients (600, 160) of the last layer of a network on digits, at 20 records of its training."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.tensor(digits.data[:600] / 16 - 0.3), torch.tensor(digits.target[:600])
    W = torch.randn(16, 64, generator=generator, dtype=torch.float64) / 8
    A = torch.randn(10, 16, generator=generator, dtype=torch.float64) / 4
    found = []
    for step in range(400 + 10 * RECORDS):
        record = step >= 400 and step % 10 == 0
        i = torch.arange(600) if record else torch.randint(600, (32,), generator=generator)
        hidden = torch.relu(x[i] @ W.T)
        error = torch.softmax(hidden @ A.T, 1) - torch.nn.functional.one_hot(y[i], 10)
        if record:
            found.append((error[:, :, None] * hidden[:, None, :]).flatten(1))
        else:
            back = (error @ A) * (hidden > 0)
            A = A - 0.2 * error.T @ hidden / len(i)
            W = W - 0.2 * back.T @ x[i] / len(i)
    return found


def draws(seed: int, batch: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(600, (DRAWS, batch), generator=generator) for _ in range(RECORDS)]


@pytest.mark.parametrize("batch", [32, 256])
def test_coverage_of_variances(gradients, batch):
    direction = torch.linalg.svd(gradients[-1], full_matrices=False).Vh[3]
    p = [G @ direction for G in gradients]
    found = [Moments.from_samples(one[i].T) for one, i in zip(p, draws(1, batch), strict=True)]
    values, stderrs = (torch.stack([getattr(m, name) for m in found]) for name in ("variance", "variance_stderr"))
    truth = torch.stack([one.var(correction=0) for one in p])
    assert covers(holds(variance_interval(values, stderrs), truth[-1]))
    assert covers(holds(window_interval(values, stderrs), truth.mean()))
    if batch == 32:
        assert not covers(holds(raw(values[-1], stderrs[-1]), truth[-1]))
        assert not covers(holds(window_interval(values, stderrs / 2), truth.mean()))
        assert not covers(holds(window_interval(values, stderrs * 2), truth.mean()))


def test_coverage_of_traces_and_the_noise_scale(gradients):
    values, stderrs, norms = [], [], []
    for G, i in zip(gradients, draws(2, 256), strict=True):
        counts = torch.zeros(DRAWS, 600, dtype=torch.float64).scatter_add_(
            1, i, torch.ones_like(i, dtype=torch.float64)
        )
        squares = Moments.from_samples(G.square().sum(1)[i[:, :16]].T)
        found = trace(squares, (counts @ G / 256).square().sum(1), 256)
        values.append(found.value)
        stderrs.append(found.stderr)
        norms.append(found.gradient_norm2)
    value, norm = torch.stack(values), torch.stack(norms)
    true_norms = torch.stack([G.mean(0).square().sum() for G in gradients])
    truth = torch.stack([G.square().sum(1).mean() for G in gradients]) - true_norms
    assert covers(holds(variance_interval(value, torch.stack(stderrs)), truth[-1]))
    assert covers(holds(window_interval(value, torch.stack(stderrs)), truth.mean()))
    ratio = truth.sum() / true_norms.sum()
    assert covers(torch.stack([holds(noise_scale(value[:, j], norm[:, j]), ratio) for j in range(DRAWS)]))
    each = value / norm
    assert not covers(holds(raw(each.mean(0), each.std(0) / RECORDS**0.5), ratio))


def test_the_window_is_no_statement_on_a_constant_variance():
    drifting = torch.tensor([1.0, 2.0, 4.0, 8.0])
    value, low, high = window_interval(drifting, 0.01 * drifting)
    assert value == 3.75
    assert high - low < 0.2  # the standard error of the values, 1.5, does not enter


def test_intervals_at_the_edges():
    nan, inf = torch.nan, torch.inf
    zero = variance_interval(torch.zeros(3, 2), torch.zeros(3, 2))
    assert zero.low.tolist() == zero.high.tolist() == [0, 0]
    exact_value = window_interval(torch.ones(3), torch.zeros(3))
    assert exact_value.low.item() == pytest.approx(1, rel=1e-5)
    assert exact_value.high.item() == pytest.approx(1, rel=1e-5)
    for value in (-1.0, 0.0):
        found = variance_interval(torch.tensor([value]), torch.ones(1))
        assert (found.low, found.high) == (0, inf)
    gap = variance_interval(torch.tensor([9.0, nan, 1.0]), torch.tensor([1.0, nan, 0.1]))
    without = variance_interval(torch.tensor([9.0, 1.0]), torch.tensor([1.0, 0.1]))
    assert gap == without
    assert variance_interval(torch.tensor([1.0, nan]), torch.tensor([0.1, nan])).high.isnan()
    old = variance_interval(torch.tensor([5.0, *[1.0] * 20]), torch.tensor([5.0, *[0.1] * 20]))
    assert old == variance_interval(torch.ones(20), torch.full((20,), 0.1))
    assert window_interval(torch.tensor([nan]), torch.tensor([nan])).value.isnan()
    for empty in (torch.ones(0), torch.ones(2), torch.ones(())):
        with pytest.raises(ValueError, match="stack the records"):
            window_interval(empty, torch.ones(0))
    one = variance_interval(torch.tensor([1.0]), torch.tensor([0.3]))
    assert one == window_interval(torch.tensor([1.0]), torch.tensor([0.3]))


def test_a_noise_scale_that_is_not_known():
    value, low, high = noise_scale(torch.tensor([5.0, 6.0, 5.0, 6.0]), torch.tensor([-1.0, 0.5, -1.0, 0.5]))
    assert value == torch.inf and high == torch.inf and 0 < low < torch.inf
    lone = noise_scale(torch.tensor([5.0]), torch.tensor([1.0]))
    assert lone.value.isnan() and lone.low == 0 and lone.high == torch.inf
    equal = noise_scale(torch.full((5,), 6.0), torch.full((5,), 2.0))
    assert [end.item() for end in equal] == pytest.approx([3, 3, 3])
    gap = noise_scale(torch.tensor([5.0, torch.nan, 7.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert gap == noise_scale(torch.tensor([5.0, 7.0]), torch.tensor([1.0, 2.0]))
