"""Where the members of an ensemble are computed: in chunks that fit a processor's cache, on all devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CHUNK, WIDE_CHUNK = 16, 1024
"""Most members that are vectorised together where ``cache.py`` does not say: on a processor under gradient flow, and on
other devices, where the number is a guess, since none was there to measure."""

MEMBERS = PartitionSpec("members")


class Layout:
    """Members over devices and chunks: each array (n, …) becomes (devices · chunks, members of a chunk, …).

    A chunk never holds a single member, for which XLA may round differently than for several.
    """

    def __init__(self, members: int, devices: list[Any], chunk: int | None = None) -> None:
        """Layout of this number of members, in chunks of at most this size."""
        used = max(1, min(len(devices), members // 2))
        chunk = chunk or (CHUNK if devices[0].platform == "cpu" else WIDE_CHUNK)
        self.members, each = members, -(-members // used)
        self.chunk = evenly(each, chunk)
        self.chunks = -(-each // self.chunk)
        self.mesh = Mesh(np.array(devices[:used]), ("members",))

    @property
    def key(self) -> tuple[Any, ...]:
        """What a compiled program depends on."""
        return self.chunks, self.chunk, self.mesh

    def spread(self, arrays: Any) -> Any:
        """Arrays (n, …) on the devices, in chunks; the last chunks are filled up by the first member."""
        rows = np.zeros(self.mesh.size * self.chunks * self.chunk, np.int64)
        rows[: self.members] = np.arange(self.members)
        sharding = NamedSharding(self.mesh, MEMBERS)

        def put(array: Any) -> Any:
            return jax.device_put(array[rows].reshape(len(rows) // self.chunk, self.chunk, *array.shape[1:]), sharding)

        return jax.tree.map(put, arrays)

    def shared(self, arrays: Any) -> Any:
        """Arrays that all members share, on all devices."""
        return jax.device_put(arrays, NamedSharding(self.mesh, PartitionSpec()))

    def each(self, chunked: Callable[..., Any]) -> Callable[..., Any]:
        """A function of a chunk of members, and of what all share, for all chunks of all devices."""

        def everywhere(arrays: Any, *shared: Any) -> Any:
            def local(arrays: Any, *shared: Any) -> Any:
                return lax.map(lambda chunk: chunked(chunk, *shared), arrays)

            specs = (MEMBERS, *(PartitionSpec() for _ in shared))
            spread = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=MEMBERS, check_vma=False)
            return spread(arrays, *shared)

        return everywhere

    def gathered(self, arrays: Any) -> Any:
        """Arrays (n, …) of the members, in NumPy."""
        rows = self.mesh.size * self.chunks * self.chunk

        def whole(array: Any) -> Any:
            return np.asarray(array).reshape(rows, *array.shape[2:])[: self.members].copy()

        return jax.tree.map(whole, arrays)


def evenly(members: int, most: int) -> int:
    """The size of chunks, from half of the largest size to it, that leaves the fewest places empty; at least 2.

    >>> evenly(128, 11), evenly(10, 16), evenly(3, 16), evenly(1, 16)
    (8, 10, 3, 2)
    """
    largest = max(2, min(most, members))
    return min(range(largest, max(1, largest // 2), -1), key=lambda size: -(-members // size) * size)
