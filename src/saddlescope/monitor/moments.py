"""What the samples of a batch say about a mean, a variance and a trace, with standard errors; exact under merging.

Samples are kept as their count, mean and sums of central powers. Parts of a batch (micro-batches, ranks) merge to the
moments of all samples (Pébay 2008, equations 2.1, 1.6 and 1.7): sums of plain powers would lose all digits of a
variance that is small beside the mean, and averaged variances would leave out how the means of the parts differ.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass

from saddlescope.monitor._torch import Tensor, double, torch

FIELDS = 5
"""Numbers per column in the vector of a ``Moments``."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Count n, mean and sums of central powers ``m_j = Σ_i (p_i − mean)^j`` of k columns of samples, float64 (k,).

    >>> import torch
    >>> p = torch.tensor([[1.0], [2.0], [4.0], [7.0]])
    >>> both = Moments.from_samples(p[:1]) + Moments.from_samples(p[1:])
    >>> both.mean.item(), both.variance.item()
    (3.5, 7.0)
    """

    n: float
    mean: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor

    @classmethod
    def from_samples(cls, p: Tensor) -> Moments:
        """The moments of samples (N, k), or (N,) for one column; ValueError without samples."""
        if not p.shape or not len(p):
            raise ValueError(f"p must have at least one sample, got the shape {tuple(p.shape)}; give (N, k) samples")
        p = double(p).reshape(len(p), -1)
        mean = p.mean(0)
        away = p - mean
        mean = mean + away.mean(0)  # the rounding of the first mean
        away = p - mean
        square = away.square()
        return cls(float(len(p)), mean, square.sum(0), (square * away).sum(0), square.square().sum(0))

    def __add__(self, other: Moments) -> Moments:
        """The moments of the samples of both."""
        a, b = self.n, other.n
        n, d = a + b, other.mean - self.mean
        share, other_share = a / n, b / n
        return Moments(
            n,
            self.mean + other_share * d,
            self.m2 + other.m2 + a * other_share * d**2,
            self.m3
            + other.m3
            + a * other_share * (share - other_share) * d**3
            + 3 * d * (share * other.m2 - other_share * self.m2),
            self.m4
            + other.m4
            + a * other_share * (share**2 - share * other_share + other_share**2) * d**4
            + 6 * d**2 * (share**2 * other.m2 + other_share**2 * self.m2)
            + 4 * d * (share * other.m3 - other_share * self.m3),
        )

    def __getitem__(self, columns: slice) -> Moments:
        """The moments of some of the columns."""
        return Moments(self.n, *(field[columns] for field in self.fields))

    @property
    def fields(self) -> tuple[Tensor, ...]:
        """Mean and sums of powers, as four tensors (k,)."""
        return self.mean, self.m2, self.m3, self.m4

    def __len__(self) -> int:
        return len(self.mean)

    def to_vector(self) -> Tensor:
        """All numbers in one vector (5k,), to be gathered from all ranks at once."""
        return torch.cat([torch.full_like(self.mean, self.n), *self.fields])

    @classmethod
    def from_vectors(cls, vectors: Tensor) -> Moments:
        """The merged moments of vectors (parts, 5k), one per rank or micro-batch; ValueError for another shape.

        >>> import torch
        >>> one, two = Moments.from_samples(torch.arange(3.0)), Moments.from_samples(torch.arange(3.0, 9.0))
        >>> Moments.from_vectors(torch.stack([one.to_vector(), two.to_vector()])).mean.item()
        4.0
        """
        if vectors.dim() != 2 or not len(vectors) or vectors.shape[1] % FIELDS:
            raise ValueError(
                f"vectors must have the shape (parts, {FIELDS}·k), got {tuple(vectors.shape)}; "
                "stack the results of to_vector()"
            )
        parts = vectors.to(torch.float64).unflatten(1, (FIELDS, -1))
        counts = parts[:, 0].amax(1).tolist()
        return functools.reduce(operator.add, (cls(n, *part[1:]) for n, part in zip(counts, parts, strict=True)))

    @property
    def variance(self) -> Tensor:
        """The unbiased variance ``m₂/(N−1)``; NaN for one sample."""
        return self.m2 / (self.n - 1 if self.n > 1 else torch.nan)

    @property
    def mean_stderr(self) -> Tensor:
        """``√(variance/N)``."""
        return (self.variance / self.n).sqrt()

    @property
    def fourth_cumulant(self) -> Tensor:
        """The unbiased ``k₄ = N((N+1)m₄ − 3(N−1)m₂²/N)/((N−1)(N−2)(N−3))``; NaN for fewer than 4 samples."""
        n = self.n
        scale = n * (n + 1) / ((n - 1) * (n - 2) * (n - 3)) if n > 3 else torch.nan
        return (self.m4 - self.m2.square() * (3 * (n - 1) / (n * (n + 1)))) * scale

    @property
    def variance_stderr(self) -> Tensor:
        """``√(Var[s²])`` from its unbiased estimate ``(2N s⁴ + (N−1)k₄)/(N(N+1))``; NaN for fewer than 4 samples.

        Two values that are equally frequent can make the estimate negative; it is then 0.
        """
        n = self.n
        spread = self.variance.square() * (2 / (n + 1)) + self.fourth_cumulant * ((n - 1) / (n * (n + 1)))
        return spread.clamp(min=0).sqrt()


@dataclass(frozen=True, eq=False)
class Table:
    """The moments of several groups of columns side by side: estimates are computed of all at once, then split."""

    moments: Moments
    sizes: Mapping[tuple[str, str], int]
    """Number of columns by what they are of, such as the name of a parameter, and what they are."""

    @classmethod
    def joined(cls, parts: Mapping[tuple[str, str], Moments]) -> Table:
        """A table of moments over the same number of samples."""
        fields = (torch.cat(field) for field in zip(*(one.fields for one in parts.values()), strict=True))
        return cls(Moments(next(iter(parts.values())).n, *fields), {key: len(one) for key, one in parts.items()})

    def split(self, estimate: Tensor) -> dict[tuple[str, str], Tensor]:
        """An estimate (k,) of all columns by group."""
        return dict(zip(self.sizes, estimate.split(list(self.sizes.values())), strict=True))

    def apart(self) -> dict[tuple[str, str], Moments]:
        """The moments of every group."""
        stops = itertools.accumulate(self.sizes.values())
        return {
            key: self.moments[stop - size : stop] for (key, size), stop in zip(self.sizes.items(), stops, strict=True)
        }


@dataclass(frozen=True, eq=False)
class Trace:
    """Estimates of ``Tr Cov[G]`` and ``‖E G‖²`` with their standard errors, float64."""

    value: Tensor
    stderr: Tensor
    gradient_norm2: Tensor
    gradient_norm2_stderr: Tensor

    @property
    def fields(self) -> tuple[Tensor, ...]:
        """The four tensors."""
        return self.value, self.stderr, self.gradient_norm2, self.gradient_norm2_stderr


def trace(squares: Moments, gradient_norm2: Tensor, batch_size: int) -> Trace:
    """Trace of the covariance and squared norm of the mean of per-sample gradients, both unbiased.

    ``trace = (mean_b ‖G_i‖² − ‖ḡ‖²)·N/(N−1)`` and ``‖E G‖² ≈ ‖ḡ‖² − trace/N``, which can be negative.

    ``squares`` are the moments of ‖G_i‖² over b ≤ N samples, one column per head; ``gradient_norm2`` is ‖ḡ‖² of the
    mean over all N = ``batch_size`` samples. The standard error of the trace is that of ``mean_b ‖G_i‖²``, and that of
    ‖E G‖² its largest value ``√(4‖E G‖² trace/N + 2 trace²/N²)``, which noise in one direction only has. For a sum over
    parameters, sum ‖G_i‖² per sample first: the parameters' gradients are correlated. NaN for a batch of one.

    >>> import torch
    >>> G = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    >>> found = trace(Moments.from_samples(G.square().sum(1)), G.mean(0).square().sum(), 3)
    >>> abs(found.value.item() - G.var(0).sum().item()) < 1e-14
    True
    """
    n = float(batch_size)
    g2 = double(gradient_norm2)
    scale = n / (n - 1) if n > 1 else torch.nan
    value, stderr = (squares.mean - g2) * scale, squares.mean_stderr * scale
    true = g2 - value / n
    noise = value.clamp(min=0) / n
    return Trace(value, stderr, true, (4 * true.clamp(min=0) * noise + 2 * noise**2).sqrt())
