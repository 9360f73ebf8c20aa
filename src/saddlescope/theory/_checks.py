"""Numbers that theory refuses before it computes nonsense from them."""

from __future__ import annotations

import numpy as np

from saddlescope._numbers import as_number

_FIXES = {
    "temperature": "T = lr / batch_size",
    "lr": "0 leaves out what discrete steps add",
    "weight_decay": "0 is none",
    "label_noise": "it is the deviation of the labels' noise",
}


def not_negative(**numbers: float) -> None:
    """Raise ValueError, by its name, for a number that is negative, infinite or NaN; TypeError for what is none.

    >>> not_negative(temperature=-0.1)
    Traceback (most recent call last):
    ValueError: temperature must be finite and not negative, got -0.1; T = lr / batch_size
    """
    for name, given in numbers.items():
        value = as_number(given, name)
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(
                f"{name} must be finite and not negative, got {value:g}; {_FIXES.get(name, 'check its sign')}"
            )


def noise(temperature: float, lr: float = 0.0, share: float = 1.0) -> None:
    """Raise ValueError for a negative temperature or learning rate, or a share of the noise outside [0, 1]."""
    not_negative(temperature=temperature, lr=lr)
    if not 0 <= as_number(share, "share") <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share:g}; 1 is sampling with replacement, 0 full batches")
