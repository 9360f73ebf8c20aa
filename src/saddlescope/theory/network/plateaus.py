"""Plateaus of two-layer networks with white inputs under noise: growth, learning times, discrete SGD.

Modes start far below their targets and are learned one after another, strongest first. ``targets`` are the strengths
s* of the teacher's modes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saddlescope._arrays import Floats
from saddlescope._numbers import as_number, as_numbers, shown
from saddlescope.theory import _checks
from saddlescope.theory._checks import steady


@steady
def growth_rate(
    targets: ArrayLike, temperature: float, label_noise: float, lr: float = 0.0
) -> tuple[Floats, Floats, Floats]:
    """Growth ``d log s_α / dt`` on the first plateau to first order in T, L = 2, white inputs, in three parts (m,).

    The growth without noise ``2s*_α − η s*_α²`` (the second term for discrete steps of size ``lr``); the reduction by
    the mode's noise, ``T(2s*_α² + σ²)``; and by that of stronger modes, ``T Σ_{s*_β > s*_α} (½(s*_α + s*_β)² + σ²)``.
    The rate is the first minus the other two. It is that of the pivots ``det P_{1…α} / det P_{1…α−1}`` in the teacher's
    basis, from which the contributions of stronger modes to the diagonal are removed.
    Source: first-order perturbation about zero weights of Corlouer et al. 2026, arXiv 2604.06366.

    >>> free, own, others = growth_rate([2.0, 1.0], temperature=0.1, label_noise=0.0)
    >>> free - own - others
    array([3.2 , 1.35])
    """
    _checks.not_negative(temperature=temperature, label_noise=label_noise, lr=lr)
    s = as_numbers(targets, "targets")
    _comparable(s)
    pairs = 0.5 * (s[:, None] + s) ** 2 + label_noise**2
    stronger = np.where(s > s[:, None], pairs, 0.0).sum(axis=1)
    return 2 * s - lr * s**2, temperature * (2 * s**2 + label_noise**2), temperature * stronger


@steady
def critical_batch_size(
    targets: ArrayLike, lr: float, label_noise: float, slow_down: float, start: float | None = None
) -> Floats:
    """Batch sizes at which SGD learns modes later than GD at the same η by the fraction ε = ``slow_down`` (m,).

    For L = 2 and white inputs ``B_α = (1 + ε) η K_α / (ε λ_α)``; GD grows at ``λ_α = (2/η) log(1 + ηs*_α)``, and

        K_α = (2s*_α² + σ²)/(1 + ηs*_α)²
              + Σ_{s*_β > s*_α} [τ (½(s*_α + s*_β)² + σ²)/((1 + ηs*_α)(1 + ηs*_β)) + (1 − τ)(½s*_α² + σ²)],

    τ the share of the plateau of α in which β is not learned: ``λ_α log(s*_β/start − 1)/(λ_β log(s*_α/start − 1))``,
    ``λ_α/λ_β`` for ``start`` None, which is the limit of small starts. There, as η → 0, K_α is
    ``2s*_α² + σ² + Σ (σ² + (3/2)s*_α² + ½s*_αs*_β)``: label noise makes weak modes need the largest batches, like
    1/s*_α. To first order in 1/B; to all orders in η while stronger modes are on their plateaus, to leading order once
    they are learned; without terms that are smaller by ``log(s*/start)``.
    Raises ValueError for targets, lr or a slow-down that are not positive, and a start that is not below every ½s*.
    Source: first-order perturbation about zero and about learned weights of Corlouer et al. 2026, arXiv 2604.06366.

    >>> critical_batch_size([2.0, 1.0, 0.5], lr=0.05, label_noise=1.0, slow_down=0.02).round(1)
    array([ 5. ,  7.7, 12.3])
    """
    s, slow_down, lr = as_numbers(targets, "targets"), as_number(slow_down, "slow_down"), as_number(lr, "lr")
    _comparable(s)
    _checks.not_negative(label_noise=label_noise)
    for name, least in (("targets", s.min(initial=np.inf)), ("lr", lr), ("slow_down", slow_down)):
        if not 0 < least < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {least:g}")
    if start is not None and not 0 < start < 0.5 * s.min():
        raise ValueError(f"start must be positive and below half of every target, got {start:g} and {s.tolist()}")
    factor = 1 + lr * s
    growth = 2 * np.log(factor) / lr
    times = 1 / growth if start is None else np.log(s / start - 1) / growth
    waiting = times / times[:, None]
    pair = (0.5 * (s[:, None] + s) ** 2 + label_noise**2) / (factor[:, None] * factor)
    learned = (0.5 * s**2 + label_noise**2)[:, None]
    stronger = np.where(s > s[:, None], waiting * pair + (1 - waiting) * learned, 0.0).sum(axis=1)
    cost = (2 * s**2 + label_noise**2) / factor**2 + stronger
    return np.asarray((1 + slow_down) * lr * cost / (slow_down * growth))


@steady
def half_times(targets: ArrayLike, start: float, temperature: float, label_noise: float, lr: float = 0.0) -> Floats:
    """Times at which modes that all start at strength ``start`` reach ½s*, to first order in T; L = 2, white (m,).

    ``log s_α`` grows at the rate of ``growth_rate`` while stronger modes are on their plateaus. Once a stronger mode is
    learned, it reduces the growth by ``T(½s*_α² + σ²)`` instead of ``T(½(s*_α + s*_β)² + σ²)``. Infinite where the
    noise exceeds the growth. Corrections are of order T without the large factor ``log(s*/start)``: with targets (2,
    1.5, 1, 0.5) and label noise 0.5 the delay of the second mode is 1.5 times too small at T = 0.05, start = 1e-3, and
    exact at T = 0.0125, start = 1e-7. NaN for s* = 0, which is not learned.

    ``label_noise`` alone is counted, not the residuals of a ``Dataset``. Where these are independent of whitened
    inputs, ``label_noise = √(δ² + r²)`` counts both, r² the mean square of the residuals of one label.
    Raises ValueError for a start that is not positive or not below every ½s* > 0, or a negative s*.
    Source: first-order perturbation about zero and about learned weights of Corlouer et al. 2026, arXiv 2604.06366.

    >>> half_times([2.0, 1.0], start=1e-4, temperature=0.01, label_noise=0.5)
    array([2.52799937, 4.72657885])
    """
    s, start = as_numbers(targets, "targets"), as_number(start, "start")
    _comparable(s)
    lowest = s[s != 0].min(initial=np.inf)
    if not 0 < start < 0.5 * lowest:
        raise ValueError(
            f"start must be positive and below half of every target but 0, got {start:g} and {lowest:g}; lower it, or "
            "leave out negative targets"
        )
    free, own, _ = growth_rate(s, temperature, label_noise, lr)
    waiting = temperature * (0.5 * (s[:, None] + s) ** 2 + label_noise**2)
    learned = temperature * (0.5 * s**2 + label_noise**2)
    times = np.where(s == 0, np.nan, np.inf)
    for mode in np.argsort(-s)[: np.count_nonzero(s)]:
        left, now = np.log(s[mode] / start - 1), 0.0
        stronger = sorted(np.flatnonzero(s > s[mode]), key=lambda other: times[other])
        for stage in range(len(stronger) + 1):
            rate = free[mode] - own[mode] - stage * learned[mode] - waiting[mode, stronger[stage:]].sum()
            end = times[stronger[stage]] if stage < len(stronger) else np.inf
            if rate * (end - now) >= left:
                times[mode] = now + left / rate
                break
            left, now = left - rate * (end - now), end
    return times


def pivot_growth(targets: ArrayLike, lr: float, label_noise: float, samples: int = 2**22, seed: int = 0) -> Floats:
    """Growth per time of the pivots of P near zero weights under SGD of batch size 1, targets descending (m,).

    There balanced aligned layers are multiplied by ``I + ½η(S + Sᵀ)``, ``S = yxᵀ``, in every step, so that pivot k
    grows by ``(2/η) E log(det_k/det_{k−1})``, det_k the leading minors of ``I + ½η(S + Sᵀ)``:
    ``(1 + ½η y·x)² − ¼η²|y|²|x|²`` over the first k entries. To first order in η it is ``growth_rate``; the
    contributions of weaker modes to stronger ones are left out. A mean over ``samples`` pairs (x, y) minus its linear
    part, accurate to 0.3 % of the slow-down at η = 0.005.
    Source: the step of SGD on Corlouer et al. 2026, arXiv 2604.06366, without terms cubic in the weights.

    >>> pivot_growth([2.0, 1.0], lr=0.005, label_noise=0.5, samples=2**18).round(3)
    array([3.94 , 1.97])
    """
    _checks.not_negative(lr=lr, label_noise=label_noise)
    s, rng, block = as_numbers(targets, "targets")[:, None], np.random.default_rng(seed), 2**18
    mean, blocks = np.zeros(s.size), -(-samples // block)
    for _ in range(blocks):
        x = rng.standard_normal((s.size, block))
        y = s * x + label_noise * rng.standard_normal(x.shape)
        xy, xx, yy = (np.cumsum(product, axis=0) for product in (x * y, x * x, y * y))
        minors = (1 + lr / 2 * xy) ** 2 - lr**2 / 4 * xx * yy
        mean += np.diff((np.log(np.abs(minors)) - lr * xy).mean(axis=1), prepend=0) / blocks
    return np.asarray(2 * s[:, 0] + 2 * mean / lr)


def _comparable(targets: Floats) -> None:
    if targets.ndim != 1 or not np.isfinite(targets).all():
        raise ValueError(f"targets must be one finite number for each mode, got {shown(targets.tolist())}")
