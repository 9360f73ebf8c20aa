"""Conversion to our conventions: loss ``½‖Px − y‖²``, temperature ``T = η/B``, penalty ``(γ/2)‖θ‖²``, depth L.

If a paper's per-sample loss is ``c‖Px − y‖²``, its gradients are 2c times ours. With its quantities primed,
``ℓ = ℓ'/(2c)``, ``η = 2c η'``, ``t = 2c t'``, ``T = 2c T'``; c = 1 without our ½, 1/d in a mean of d outputs.
Source: Ziyin, Li & Ueda, arXiv 2308.06671, have c = 1 and depth D = L − 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from saddlescope._numbers import as_number, as_whole, shown


def loss(theirs: float, factor: float = 1.0) -> float:
    """Our loss ``ℓ = ℓ'/(2c)`` from theirs, ``ℓ' = c‖Px − y‖²``; ``factor`` is c.

    As all functions here, raises TypeError for anything but a number, ValueError for a negative, infinite or NaN
    value and for a factor of 0.

    >>> loss(3.0)
    1.5
    """
    return _checked("theirs", theirs) / _gain(factor)


def learning_rate(theirs: float, factor: float = 1.0) -> float:
    """Our learning rate ``η = 2c η'``: the same step on the loss ``c‖Px − y‖²``.

    >>> learning_rate(1e-3)
    0.002
    """
    return _gain(factor) * _checked("theirs", theirs)


def time(theirs: float, factor: float = 1.0) -> float:
    """Our time ``t = 2c t'``.

    >>> time(10.0)
    20.0
    """
    return _gain(factor) * _checked("theirs", theirs)


def temperature(theirs: float, factor: float = 1.0) -> float:
    """Our temperature ``T = 2c T'``; a critical ``T'_c = β₂/α₃`` becomes ``T_c = 2β₂/α₃`` at c = 1.

    >>> temperature(0.25)
    0.5
    """
    return _gain(factor) * _checked("theirs", theirs)


def weight_decay(theirs: float, factor: float = 1.0, penalty: float = 1.0) -> float:
    """Our ``γ = pγ'/c`` in ``(γ/2)‖θ‖²`` from theirs in ``pγ'‖θ‖²`` with loss ``c‖Px − y‖²``; ``penalty`` is p.

    >>> weight_decay(1e-4)
    0.0001
    """
    return 2 * _checked("penalty", penalty) * _checked("theirs", theirs) / _gain(factor)


def depth(theirs: int) -> int:
    """Our number of layers ``L = D + 1`` from a depth D that counts hidden layers.

    >>> depth(1)
    2
    """
    return int(_checked("theirs", theirs, as_whole)) + 1


def _gain(factor: float) -> float:
    """2c, the ratio of the paper's gradients to ours."""
    gain = _checked("factor", factor)
    if gain == 0:
        raise ValueError("factor must be the positive c of a loss c‖Px − y‖², got 0; use 1.0 or 0.5")
    return 2.0 * gain


def _checked(name: str, given: Any, as_kind: Callable[[Any, str], float] = as_number) -> float:
    value = as_kind(given, name)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {shown(value)}; check its sign and its source")
    return value
