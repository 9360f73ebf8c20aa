"""Histogram and autocorrelation of the mode strengths, accumulated during a run without storing trajectories.

The autocorrelation is that of a multiple-tau correlator: level i sees means of 2^i samples and multiplies each with the
15 before it, so that lags over many decades cost a few multiplications a sample and a fixed memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlescope._arrays import Floats
from saddlescope.plan import LAGS, Accumulate

ROW = 2 * LAGS + 2
"""A level's row holds its last samples, their products with the newest, and two sums."""
_NEWEST, _PRODUCTS, _COUNT, _TOTAL = slice(0, LAGS), slice(LAGS, 2 * LAGS), 2 * LAGS, 2 * LAGS + 1

WINDOW = 5
"""The autocorrelation is summed up to this many times its own sum."""


def empty(wanted: Accumulate | None, trajectories: int, modes: int) -> tuple[Floats, NDArray[np.int64]]:
    """Correlator (n, m, levels, ROW) and histogram (m, bins + 2) before the first sample; empty when not wanted."""
    levels, bins = (wanted.levels, wanted.bins + 2) if wanted else (0, 0)
    return np.zeros((trajectories, modes, levels, ROW)), np.zeros((modes, bins), np.int64)


def bins(wanted: Accumulate, histogram: NDArray[np.int64], strengths: Floats) -> NDArray[np.int64]:
    """The histogram with one more sample (n, m) of every trajectory."""
    scale = wanted.bins / (wanted.high - wanted.low)
    place = np.floor(np.clip((strengths - wanted.low) * scale, -1, wanted.bins)).astype(np.int64) + 1
    histogram = histogram.copy()
    np.add.at(histogram, (np.arange(histogram.shape[0]), place), 1)
    return histogram


def correlate(correlator: Floats, sample: Floats, alive: NDArray[np.bool_]) -> Floats:
    """The correlator with one more sample (n, m) of every trajectory that is alive.

    Every second time a level hands the mean of two samples on to the next.
    """
    correlator, rows = correlator.copy(), np.flatnonzero(alive)
    for level in range(correlator.shape[2]):
        row, newest = correlator[rows, :, level], sample[rows]
        row[..., _NEWEST] = np.concatenate([newest[..., None], row[..., : LAGS - 1]], axis=-1)
        row[..., _PRODUCTS] += newest[..., None] * row[..., _NEWEST]
        row[..., _COUNT] += 1
        row[..., _TOTAL] += newest
        correlator[rows, :, level] = row
        rows = rows[row[:, 0, _COUNT] % 2 == 0]
        sample = 0.5 * (correlator[:, :, level, 0] + correlator[:, :, level, 1])
    return correlator


def autocorrelation(correlator: Floats) -> Floats:
    """``Cov[s(t), s(t + lag)] / Var[s]`` (m, lags) over all trajectories and their common mean; NaN where unseen.

    Source: Ramírez, Sukumaran, Vorselaars & Likhtman 2010, J. Chem. Phys. 133, 154103, the multiple-tau correlator.
    """
    pooled = correlator.sum(axis=0)
    pairs = np.maximum(correlator[..., _COUNT, None] - np.arange(LAGS), 0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = pooled[:, :1, _TOTAL] / pooled[:, :1, _COUNT]
        covariance = pooled[..., _PRODUCTS] / pairs - mean[..., None] ** 2
        first, upper = covariance[:, 0], covariance[:, 1:, LAGS // 2 :]
        return np.concatenate([first, upper.reshape(len(first), -1)], axis=1) / first[:, :1]


def correlation_samples(correlation: Floats, lags: NDArray[np.int64]) -> Floats:
    """Integrated autocorrelation time ``½ + Σ ρ`` in units of the first lag (m,), summed up to five times itself.

    Infinite when the autocorrelation has not decayed within the lags seen.
    Source: Sokal 1997, in Functional Integration, NATO ASI 361, section 3.

    >>> lags = np.arange(200)
    >>> correlation_samples(0.5 ** lags[None], lags)
    array([1.5])
    """
    spaced = np.diff(lags) / lags[1]
    times = np.cumsum(0.5 * (correlation[:, 1:] + correlation[:, :-1]) * spaced, axis=1)
    inside = lags[1:] / lags[1] >= WINDOW * times
    reached = inside.any(axis=1)
    found = np.take_along_axis(times, inside.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(reached, np.maximum(found, 0.5), np.where(np.isnan(correlation[:, 0]), np.nan, np.inf))


def summary(
    wanted: Accumulate, correlator: Floats, histogram: NDArray[np.int64], alive: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """What a run shows: histogram, its density, autocorrelation, its time in steps, samples, effective sample size.

    ``effective_samples = samples / (2 · autocorrelation time)``; the histogram and its density count a trajectory that
    diverges until it does, all others leave it out. The density's integral is ``1 − outside``, the fraction of all
    samples that the infinite bins hold.
    """
    counted = histogram.sum(axis=1)
    with np.errstate(invalid="ignore"):  # before the first sample
        density = histogram[:, 1:-1] / (counted[:, None] * ((wanted.high - wanted.low) / wanted.bins))
        outside = (histogram[:, 0] + histogram[:, -1]) / counted
    correlation = autocorrelation(correlator[alive])
    samples = correlator[alive][:, :, 0, _COUNT].sum(axis=0)
    between = correlation_samples(correlation, wanted.lags)
    return {
        "histogram": histogram,
        "density": density,
        "outside": outside,
        "autocorrelation": correlation,
        "correlation_time": between * wanted.every,
        "samples": samples,
        "effective_samples": samples / (2 * between),
    }
