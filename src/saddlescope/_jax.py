"""JAX where it is installed: one sentence where it is not, the devices of a run, and its precision.

JAX has one device per processor only if it is told so before it starts: the first use here does that. If JAX has
started already, a run on processors has one device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from typing import Any

from saddlescope import _threads


@cache
def load() -> Any:
    """The module jax; ImportError with the extra to install where it is missing."""
    try:
        import jax
    except ImportError:
        raise ImportError(
            "a Model, and engine = \"jax\", need JAX, which is not installed; run pip install 'saddlescope[jax]'"
        ) from None
    with contextlib.suppress(RuntimeError):  # JAX has started already
        if jax.config.jax_num_cpu_devices < 1:
            jax.config.update("jax_num_cpu_devices", _threads.available())
    return jax


def devices(most: int | None = None) -> list[Any]:
    """The devices over which members are spread, at most ``most``.

    >>> len(devices(1))
    1
    """
    return list(load().devices()[:most])


def one_by_one(decompose: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decomposition of a matrix that ``jax.vmap`` applies to one matrix after another.

    On processors JAX hands a batch of decompositions to its threads and waits for them; where every thread is a device
    that waits so, none is left to work, and the program hangs.

    >>> jax = load()
    >>> jax.vmap(one_by_one(lambda m: jax.numpy.linalg.svd(m, compute_uv=False)))(jax.numpy.ones((2, 1, 4)))
    Array([[2.],
           [2.]], dtype=float32)
    """
    wrapped: Callable[[Any], Any] = load().custom_batching.sequential_vmap(decompose)
    return wrapped


def shape_of(function: Any, *arguments: Any) -> Any:
    """The shapes that a function of a user returns, found without computing them.

    It is traced with 64-bit numbers: JAX keeps an array that the function closes over as it was traced first, so that
    a first tracing in 32 bits would round it for all runs.

    >>> shape_of(lambda x: x[0], load().ShapeDtypeStruct((2, 3), "float64")).shape
    (3,)
    """
    with precision("float64"):
        return load().eval_shape(function, *arguments)


def precision(dtype: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which JAX computes in this type: 64-bit numbers for "float64" only, never globally.

    >>> with precision("float64"):
    ...     load().numpy.zeros(1).dtype
    dtype('float64')
    """
    return load().enable_x64(dtype == "float64")
