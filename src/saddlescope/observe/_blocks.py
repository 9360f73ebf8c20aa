"""Functions of many samples, computed in blocks so that memory does not grow with the number of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

Arrays = tuple[jax.Array, ...]


def each(function: Callable[..., Any], arrays: Arrays, size: int) -> Any:
    """``function`` of every block of ``size`` samples; the results are joined along the samples."""
    first, rest = _split(arrays, size)
    if rest is None:
        return function(*first)
    others = lax.map(lambda block: function(*block), rest)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b.reshape(-1, *b.shape[2:])]), function(*first), others)


def total(function: Callable[..., Any], arrays: Arrays, size: int) -> Any:
    """The sum of ``function`` over the blocks of ``size`` samples."""
    first, rest = _split(arrays, size)
    if rest is None:
        return function(*first)

    def add(before: Any, block: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, before, function(*block)), None

    return lax.scan(add, function(*first), rest)[0]


def _split(arrays: Arrays, size: int) -> tuple[list[jax.Array], list[jax.Array] | None]:
    """The first block, of at most ``size`` samples, and all others (count, size, …); None where there are no others."""
    count = (len(arrays[0]) - 1) // size
    first = len(arrays[0]) - count * size
    rest = [a[first:].reshape(count, size, *a.shape[1:]) for a in arrays]
    return [a[:first] for a in arrays], rest if count else None
