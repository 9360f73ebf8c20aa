"""95 % intervals of variances and traces of single-sample gradients, and of the noise scale.

Gradients of real networks have heavy tails: few samples carry most of a variance, so that estimate and standard error
are both low in a batch without them, and the estimate ± 1.96 standard errors misses the truth far too often. Instead,

    shape     the estimate s² is a gamma variable: ν s²/σ² ~ χ²_ν, ν = 2/V, with its relative variance V = (stderr/s²)²;
    tails     V, which is too small where tails are heavy and cannot exceed about 1 in one batch, is taken from all R
              records of a trailing window, V_R = Σ stderr²/Σ s⁴, and divided by 1 − (1 + 3/R) V_R;
    windows   of a mean over records, the squared standard error is itself an estimate with f degrees of freedom, seen
              from how it differs between records: V is multiplied by (t_f/1.96)².

With the exact V the first line alone covers 95 %; the form of the second was found by measuring coverages on gradients
of real networks, which ``benchmarks/monitor_coverage.py`` repeats. A variance may drift within the window: only
standard errors measure uncertainty, not how the values differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from saddlescope.monitor._torch import Tensor, torch

WINDOW = 20
"""Records of a trailing window."""

LEVEL = 0.95
"""Probability that an interval holds the truth."""

TAIL = 0.95
"""Largest ``(1 + 3/R) V_R``: V is multiplied by at most 20."""


class Interval(NamedTuple):
    """A value with the ends of its 95 % interval."""

    value: Tensor
    low: Tensor
    high: Tensor


def variance_interval(values: Tensor, stderrs: Tensor, window: int = WINDOW) -> Interval:
    """Interval of a variance or trace in the last record; the records before it tell how heavy the tails are.

    ``[ν s²/χ²_ν(0.975), ν s²/χ²_ν(0.025)]``, ``ν = 2/V``, V the larger of ``(stderr/s²)²`` in the last record and
    ``Σ stderr²/Σ s⁴`` over the window, divided by ``1 − (1 + 3/R)V``.

    Estimates and standard errors have the shape (records, …), in the order of steps; records that are not finite are
    left out. One record is enough; the interval is then too short where few samples carry the variance. A value that
    is not positive has the interval [0, ∞]. ValueError for shapes that differ, or without a record.

    >>> import torch
    >>> value, low, high = variance_interval(torch.tensor([1.0]), torch.tensor([0.1]))
    >>> round(low.item(), 2), round(high.item(), 2)
    (0.83, 1.23)
    """
    s2, e2, used = _trailing(values, stderrs, window)
    last, own = values[-1].to(torch.float64), stderrs[-1].to(torch.float64) ** 2
    V = torch.maximum(_ratio(own, last**2), _ratio(e2.sum(0), (s2**2).sum(0)))
    return _gamma_interval(last, _widened(V, V, used))


def window_interval(values: Tensor, stderrs: Tensor, window: int = WINDOW) -> Interval:
    """Mean of a variance or trace over the records of a trailing window, with the interval of the mean of the truths.

    As ``variance_interval``, with ``s²`` the mean of the estimates, ``V = Σ stderr²/(Σ s²)² · (t_f/1.96)²`` and f the
    degrees of freedom (Satterthwaite) of ``Σ stderr²``. The truth is the mean of the variances at these records,
    however they drift; it says nothing about the steps between.

    Shapes as in ``variance_interval``; the value is NaN without a finite record.

    >>> import torch
    >>> value, low, high = window_interval(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3]))
    >>> value.item(), low.item() < 2 < high.item()
    (2.0, True)
    """
    s2, e2, used = _trailing(values, stderrs, window)
    sure = (_t_quantile(_freedom(e2, used)) / _t_quantile(s2.new_tensor(torch.inf))) ** 2
    V, tails = _ratio(e2.sum(0), s2.sum(0) ** 2), _ratio(e2.sum(0), (s2**2).sum(0))
    return _gamma_interval(s2.sum(0) / used, _widened(V * sure, tails, used))


def noise_scale(traces: Tensor, gradient_norm2s: Tensor, window: int = WINDOW) -> Interval:
    """The gradient noise scale ``Σ Tr Cov[G] / Σ ‖E G‖²``, ratio of sums over a trailing window, with its interval.

    Traces and unbiased ‖E G‖² (records,), in the order of steps; records that are not finite are left out. The ratio
    of one record has no mean, as its denominator is often negative. The interval is Fieller's, with the covariance of
    both sums from differences of successive records, which a slow drift does not enter. The upper end is +inf where
    the denominator is not clearly positive, and the value is +inf where it is negative. With fewer than two records
    the value is NaN and the interval [0, ∞].

    >>> import torch
    >>> value, low, high = noise_scale(torch.tensor([8.0, 9.0, 7.0, 8.0]), torch.tensor([0.1, 0.3, -0.1, 0.1]))
    >>> round(value.item(), 1), high.item()
    (80.0, inf)
    """
    both = torch.stack([traces[-window:], gradient_norm2s[-window:]]).to(torch.float64).cpu().numpy()
    both = both[:, np.isfinite(both).all(0)]
    records = both.shape[1]
    if records < 2:
        return Interval(*traces.new_tensor([np.nan, 0.0, np.inf], dtype=torch.float64))
    steps = np.diff(both, axis=1)
    trace, norm2 = both.mean(1).clip(min=0)
    e2 = torch.from_numpy((norm2 * steps[0] - trace * steps[1]) ** 2)
    freedom = _freedom(e2, e2.new_tensor(records - 1))
    freedom = freedom.clamp(max=2 / 3 * (records - 1))  # of a variance of Gaussians from successive differences
    noise = float(_t_quantile(freedom)) ** 2 * (steps @ steps.T) / (2 * (records - 1) * records)
    a, half, c = norm2**2 - noise[1, 1], trace * norm2 - noise[0, 1], max(trace**2 - noise[0, 0], 0)
    root = np.sqrt(max(half**2 - a * c, 0))
    low = c / (half + root) if c > 0 and half + root > 0 else 0.0
    high = (half + root) / a if a > 0 and half > 0 else np.inf
    value = trace / norm2 if norm2 > 0 else np.inf
    return Interval(*traces.new_tensor([value, low, high], dtype=torch.float64))


def _trailing(values: Tensor, stderrs: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """Estimates and squared standard errors in the window, 0 where not finite, and how many are finite."""
    if values.shape != stderrs.shape or not values.dim() or not len(values):
        raise ValueError(
            f"values and stderrs must have the same shape (records, …) with at least one record, "
            f"got {tuple(values.shape)} and {tuple(stderrs.shape)}; stack the records"
        )
    s2, e2 = values[-window:].to(torch.float64), stderrs[-window:].to(torch.float64) ** 2
    finite = s2.isfinite() & e2.isfinite()
    return torch.where(finite, s2, 0.0), torch.where(finite, e2, 0.0), finite.sum(0).to(torch.float64)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part/whole``, with 0/0 = 0: a variance of exactly 0 is certain."""
    return torch.where(part == 0, 0.0, part / whole)


def _widened(V: Tensor, tails: Tensor, records: Tensor) -> Tensor:
    """``V/(1 − (1 + 3/R) V_R)``, with the relative variance ``V_R`` of one record as the measure of tails."""
    return V / (1 - ((1 + 3 / records) * tails).clamp(max=TAIL))


def _freedom(e2: Tensor, records: Tensor) -> Tensor:
    """``2 mean²/(variance/R)``, the degrees of freedom of a sum of R squared errors; ∞ where they do not differ."""
    total, squares = e2.sum(0), (e2**2).sum(0)
    spread = (squares - total**2 / records).clamp(min=0) * records / (records - 1)
    return torch.where((records > 1) & (spread > 0), 2 * total**2 / spread, torch.inf)


def _t_quantile(freedom: Tensor) -> Tensor:
    """The upper quantile of Student's distribution."""
    found = special.stdtrit(freedom.cpu().numpy(), 0.5 + LEVEL / 2)
    return torch.as_tensor(found, dtype=torch.float64, device=freedom.device)


def _gamma_interval(value: Tensor, V: Tensor) -> Interval:
    """``value ν/χ²_ν`` at both quantiles, ``ν = 2/V``."""
    half = 1 / V.clamp(min=1e-12).cpu().numpy()

    def end(probability: float) -> Tensor:
        with np.errstate(divide="ignore", over="ignore"):
            factor = half / special.gammaincinv(half, probability)
        return value * torch.as_tensor(factor, device=value.device)

    low, high = end(0.5 + LEVEL / 2), end(0.5 - LEVEL / 2)
    unknown = (value < 0) | ((value == 0) & (V > 0))
    return Interval(value, torch.where(unknown, 0.0, low), torch.where(unknown, torch.inf, high))
