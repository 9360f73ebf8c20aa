"""Ziyin, Li & Ueda 2023–2025, arXiv 2308.06671: noise balance and the stationary distribution of SGD.

One file per claim. u, w are a pair with ``ℓ(λu, w/λ) = ℓ(u, w)``, T = η/B; the loss includes ½, depth is L = D + 1.
"""

from saddlescope.claims.law_of_balance import (
    annealing,
    balance_decay,
    collapsing,
    deep_limit,
    density,
    divergence,
    ergodicity,
    exact_balance,
    heavy_ball,
    interpolation,
    inversion,
    metastable,
    most_likely,
    noise_balance,
    norm_bounds,
    regimes,
    second_order,
    tails,
    transition,
    wide_and_deep,
    width,
)

CLAIMS = (
    exact_balance.CLAIM,
    heavy_ball.CLAIM,
    balance_decay.CLAIM,
    noise_balance.CLAIM,
    norm_bounds.CLAIM,
    density.CLAIM,
    transition.CLAIM,
    annealing.CLAIM,
    ergodicity.CLAIM,
    inversion.CLAIM,
    tails.CLAIM,
    regimes.CLAIM,
    width.CLAIM,
    deep_limit.CLAIM,
    interpolation.CLAIM,
    divergence.CLAIM,
    metastable.CLAIM,
    most_likely.CLAIM,
    collapsing.CLAIM,
    second_order.CLAIM,
    wide_and_deep.CLAIM,
)
