"""The checkpoint of a store: the state of the ensemble, and the digests and checksums of all other files."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from saddlescope.engines.state import State

CHECKPOINT = Path("checkpoint", "c", "0")
"""Its file in a store."""

MAGIC = b"saddlescope run\n"
UNCHECKED = (b"PK\x03\x04", b"\x28\xb5\x2f\xfd")
"""First bytes of a checkpoint in stores without checksums: an npz archive, or one compressed by Zstandard."""

DIGEST = 16
"""Bytes of a digest."""

Sums = dict[str, NDArray[np.uint32]]
"""By variable, the CRC-32C of the committed saves in each chunk (members, times)."""


class DamagedStore(ValueError):
    """A store does not hold what was written to it."""

    @classmethod
    def of(cls, path: Path, what: str) -> Self:
        """The error as a sentence."""
        fix = "restore it from a copy, or write the run anew (overwrite=True, --overwrite)"
        return cls(f"the store {str(path)!r} is damaged: {what}; {fix}")


def digest(data: bytes) -> bytes:
    """BLAKE2b of 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def pack(state: State, digests: Mapping[str, bytes], sums: Sums) -> bytes:
    """A checkpoint: MAGIC, digest of the rest, length of a table, table (JSON), digests, sums, state."""
    table = json.dumps({"files": list(digests), "sums": {name: values.shape for name, values in sums.items()}}).encode()
    numbers = (np.ascontiguousarray(values, "<u4").tobytes() for values in sums.values())
    body = b"".join([struct.pack("<Q", len(table)), table, *digests.values(), *numbers, state.to_bytes()])
    return MAGIC + digest(body) + body


def unpack(packed: bytes) -> tuple[State, dict[str, bytes], Sums]:
    """State, digests and sums of a checkpoint; ValueError when it is damaged."""
    start = len(MAGIC) + DIGEST
    if not packed.startswith(MAGIC) or digest(packed[start:]) != packed[len(MAGIC) : start]:
        raise ValueError("has a wrong digest")
    body = io.BytesIO(packed[start:])
    table = json.loads(body.read(*struct.unpack("<Q", body.read(8))))
    digests = {name: body.read(DIGEST) for name in table["files"]}
    sums = {}
    for name, shape in table["sums"].items():
        sums[name] = np.frombuffer(body.read(4 * math.prod(shape)), "<u4").reshape(shape)
    return State.from_bytes(body.read()), digests, sums


def checksum(values: NDArray[Any], start: int = 0) -> int:
    """CRC-32C of saves (ensemble, time, …) in order of time, so that later saves can be added."""
    return google_crc32c.extend(start, np.moveaxis(values, 1, 0).astype("<f8", copy=False).tobytes())
