"""Moments, traces and intervals of the monitor against exact arithmetic, and coverage of the intervals."""

from __future__ import annotations

from fractions import Fraction

import pytest

torch = pytest.importorskip("torch")

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
    for _ in range(4000):
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
