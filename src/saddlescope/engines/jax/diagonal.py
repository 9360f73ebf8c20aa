"""Diagonal networks in JAX, trajectories last: the twin of what ``networks/diagonal.py`` does at every step.

Layers u_l are (width, 1, n); g is the variance of one sample's gradient, ``α₁(Δ − center)² + floor``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from saddlescope.engines.jax.form import Form, Numbers


def end_to_end(weights: Any) -> Any:
    """``v = Σ_j Π_l u_lj`` (1, 1, n)."""
    return reduce(operator.mul, weights).sum(axis=0, keepdims=True)


def look(weights: Any) -> tuple[Any, Callable[[Any], Any]]:
    """v, and the function from Ḡ to ``Ḡ o_l`` of every layer."""
    value, pull_back = jax.vjp(end_to_end, weights)
    return value, lambda gradient: pull_back(gradient)[0]


def gradient_trace(form: Form, numbers: Numbers, weights: Any, error: Any) -> Any:
    """Trace of the covariance of one sample's gradient of all weights, ``g Σ_l ‖o_l‖²`` (n,)."""
    return numbers.gradient_noise(error / numbers.root[..., None])[0, 0] * _speed(weights)


def mode_noise(form: Form, numbers: Numbers, weights: Any, error: Any) -> Any:
    """Variance of ``G Σ_l ‖o_l‖²`` of one sample's G (1, n): mode noise at temperature 1."""
    return numbers.gradient_noise(error / numbers.root[..., None])[0] * _speed(weights) ** 2


def _speed(weights: Any) -> Any:
    """``Σ_l ‖o_l‖²`` (n,), o_l the gradient of v by u_l."""
    value, pull_back = look(weights)
    return sum((other**2).sum(axis=(0, 1)) for other in pull_back(jnp.ones_like(value)))
