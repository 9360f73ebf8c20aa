"""The heavy ball on a deep linear network: what momentum does to the balance of neighbouring layers, exactly.

With ``p ← μp − ηg``, ``W ← W + p`` and ``g = ∂ℓ + γW``, let

    Q = W_{l+1}ᵀW_{l+1} − W_lW_lᵀ,   C = W_{l+1}ᵀp_{l+1} − p_lW_lᵀ,   D = p_{l+1}ᵀp_{l+1} − p_lp_lᵀ.

Any loss of the product W_{l+1}W_l, on any batch, has ``W_{l+1}ᵀ∂_{l+1} = ∂_lW_lᵀ``, so that the gradient drops out:

    C' = μC − ηγQ + D',    Q' = Q + A + Aᵀ + D',   A = μC − ηγQ.

D' is of second order in the new p. Without momentum it is the whole of ΔQ; with it, C collects D at the rate μ/(1 − μ),
so that balance moves as if T were T/(1 − μ) on the clock η/(1 − μ).
Source: derived here; the rescaling symmetry is that of Ziyin, Li & Ueda 2023, arXiv 2308.06671.
"""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import ArrayLike

from saddlescope import _show
from saddlescope._arrays import Floats, transposed
from saddlescope._numbers import as_numbers


class Balance(NamedTuple):
    """Q, C and D of two neighbouring layers, each (…, n_l, n_l)."""

    weights: Floats
    mixed: Floats
    velocity: Floats

    def __repr__(self) -> str:
        return _show.call("Balance", [(name, _show.value(array)) for name, array in self._asdict().items()])


def balance(lower: ArrayLike, upper: ArrayLike, lower_velocity: ArrayLike, upper_velocity: ArrayLike) -> Balance:
    """Q, C and D of ``W_l`` (…, n_l, n_{l−1}), ``W_{l+1}`` (…, n_{l+1}, n_l) and their velocities of the same shapes.

    >>> balance([[1.0]], [[2.0]], [[0.5]], [[0.25]])
    Balance(weights=[[3.]], mixed=[[0.]], velocity=[[-0.1875]])
    """
    w, v = as_numbers(lower, "lower"), as_numbers(upper, "upper")
    p, q = as_numbers(lower_velocity, "lower_velocity"), as_numbers(upper_velocity, "upper_velocity")
    for name, layer, velocity in (("lower_velocity", w, p), ("upper_velocity", v, q)):
        if velocity.shape != layer.shape:
            raise ValueError(f"{name} must have the shape of its layer, {layer.shape}, got {velocity.shape}")
    return Balance(
        transposed(v) @ v - w @ transposed(w),
        transposed(v) @ q - p @ transposed(w),
        transposed(q) @ q - p @ transposed(p),
    )


def step(
    before: Balance, velocity: ArrayLike, momentum: float, lr: float = 0.0, weight_decay: float = 0.0
) -> tuple[Floats, Floats]:
    """Q' and C' after a step, from Q and C before it and D' (…, n_l, n_l) after it; exact for any batch.

    >>> before = balance([[1.0]], [[1.0]], [[0.0]], [[0.5]])
    >>> step(before, [[0.25]], momentum=0.5)
    (array([[0.75]]), array([[0.5]]))
    """
    spread = as_numbers(velocity, "velocity")
    carried = momentum * before.mixed - lr * weight_decay * before.weights
    return before.weights + carried + transposed(carried) + spread, carried + spread
