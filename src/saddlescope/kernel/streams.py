"""Random streams, one per trajectory: the NumPy twin of the kernel's generator.

Each trajectory owns four words of state: xoshiro256++ (64 bit) for float64 runs, xoshiro128++ (32 bit) for
float32 (Blackman & Vigna 2021, ACM TOMS 47(4)), seeded through the splitmix64 finaliser from (seed, member, purpose).
What a trajectory sees therefore never depends on the other trajectories, on threads or on blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saddlescope._arrays import Floats

INIT, NOISE = 0, 1

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROTATIONS = {np.dtype(np.uint64): (23, 17, 45), np.dtype(np.uint32): (7, 9, 11)}


Rotation = tuple[np.unsignedinteger, np.unsignedinteger]
"""Bits by which a word is shifted to the left and to the right."""


def seed_words(seed: int, members: ArrayLike, purpose: int, dtype: str = "float64") -> NDArray[np.unsignedinteger]:
    """Generator state (n, 4) of each member: 64-bit words for float64 streams, 32-bit for float32.

    >>> seed_words(0, [3], INIT)[0, 0] == seed_words(0, [1, 3], INIT)[1, 0]
    np.True_
    """
    with np.errstate(over="ignore"):
        root = _mix(np.atleast_1d(np.uint64(seed)) + _GOLDEN * np.uint64(purpose + 1))
        key = _mix(_mix(np.asarray(members, np.uint64) + _GOLDEN) ^ root)
        words = np.stack([_mix(key + _GOLDEN * np.uint64(k + 1)) for k in range(4)], axis=-1)
    if np.dtype(dtype) == np.float64:
        return words
    return (words >> np.uint64(32)).astype(np.uint32)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _signed(word: NDArray[np.unsignedinteger]) -> Floats:
    """A word of 32 bits as a signed number, rounded to float32."""
    return word.view(np.int32).astype(np.float32).astype(np.float64)


class Streams:
    """One stream per trajectory, advanced together; ``words`` (n, 4) is the whole state.

    >>> Streams(seed_words(0, range(5), NOISE)).normals(3).shape
    (5, 3)
    """

    def __init__(self, words: NDArray[np.unsignedinteger]) -> None:
        self.words: NDArray[np.unsignedinteger] = words.copy()
        left, shift, right = _ROTATIONS[words.dtype]
        word, size = words.dtype.type, 8 * words.dtype.itemsize
        self._left, self._right = (word(left), word(size - left)), (word(right), word(size - right))
        self._shift: np.unsignedinteger = word(shift)
        self.dtype = np.dtype(np.float64 if words.dtype == np.uint64 else np.float32)

    def bits(self, active: NDArray[np.bool_] | None = None) -> NDArray[np.unsignedinteger]:
        """Next word of every stream (of the active ones; the others stay where they are)."""
        s0, s1, s2, s3 = self.words.T.copy()
        result = self._rotate(s0 + s3, self._left) + s0
        t = s1 << self._shift
        s2 ^= s0
        s3 ^= s1
        moved = np.empty_like(self.words)
        moved[:, 0], moved[:, 1] = s0 ^ s3, s1 ^ s2
        moved[:, 2], moved[:, 3] = s2 ^ t, self._rotate(s3, self._right)
        if active is not None:
            moved[~active] = self.words[~active]
        self.words = moved
        return result

    @staticmethod
    def _rotate(word: NDArray[np.unsignedinteger], by: Rotation) -> NDArray[np.unsignedinteger]:
        left, right = by
        return np.bitwise_or(word << left, word >> right)

    def _uniform(self, word: NDArray[np.unsignedinteger]) -> Floats:
        """In (0, 1]: the top 40 bits (centred) for float64; the size of an odd signed word, rounded, for float32."""
        if self.dtype == np.float64:
            return ((word >> np.uint64(24)).astype(np.float64) + 0.5) * 2.0**-40
        return np.abs(_signed(word | np.uint32(1))) * 2.0**-31

    def _angle(
        self, high: NDArray[np.unsignedinteger], low: NDArray[np.unsignedinteger]
    ) -> tuple[NDArray[np.bool_], Floats]:
        """Uniform on the circle: the half with cos < 0, and the angle from −π/2 to π/2 that is mirrored there.

        The lowest 24 bits for float64; the first word's sign, and the second as a signed number, for float32.
        """
        if self.dtype == np.float64:
            inside = (low & np.uint64(0x7FFFFF)).astype(np.float64) + 0.5
            return (low & np.uint64(1 << 23)) != 0, np.pi * (inside * 2.0**-23 - 0.5)
        return high >= np.uint32(1 << 31), np.pi / 2 * _signed(low) * 2.0**-31

    def pair(self, active: NDArray[np.bool_] | None = None) -> tuple[Floats, Floats]:
        """Two independent normals of every stream, from 64 bits: one word or two."""
        high = self.bits(active)
        return self._pairs(high, high if self.dtype == np.float64 else self.bits(active))

    def _pairs(self, high: NDArray[np.unsignedinteger], low: NDArray[np.unsignedinteger]) -> tuple[Floats, Floats]:
        """Pairs of independent normals (Box & Muller 1958)."""
        radius, (mirrored, angle) = np.sqrt(-2.0 * np.log(self._uniform(high))), self._angle(high, low)
        return radius * np.where(mirrored, -np.cos(angle), np.cos(angle)), radius * np.sin(angle)

    def normals(self, count: int) -> NDArray[np.floating]:
        """(n, count) standard normals; when count is odd, the last half of the last pair is dropped."""
        out = np.empty((len(self.words), count + 1), self.dtype)
        pairs = (count + 1) // 2
        if not pairs:
            return out[:, :count]
        if self.dtype == np.float64:
            high = low = np.stack([self.bits() for _ in range(pairs)], axis=1)
        else:
            words = np.stack([self.bits() for _ in range(2 * pairs)], axis=1)
            high, low = words[:, ::2], words[:, 1::2]
        out[:, : 2 * pairs : 2], out[:, 1 : 2 * pairs : 2] = self._pairs(high, low)
        return out[:, :count]

    def chi(self, degrees: int) -> NDArray[np.floating]:
        """sqrt of a chi-square of 1, 2, … degrees of freedom, by rejection (Marsaglia & Tsang 2000)."""
        if degrees == 1:
            return np.abs(self.pair()[0]).astype(self.dtype)
        d = degrees / 2 - 1 / 3
        cube = np.zeros(len(self.words))
        active = np.ones(len(self.words), bool)
        while active.any():
            x = self.pair(active)[0]
            u = self._uniform(self.bits(active))
            t = np.maximum(x / (3 * np.sqrt(d)), -1.0)
            with np.errstate(divide="ignore"):
                accepted = np.log(u) < 3 * d * (np.log1p(t) - t + t**2 / 2 - t**3 / 3)
            cube = np.where(active & accepted, (1 + t) ** 3, cube)
            active &= ~accepted
        return np.sqrt(2 * d * cube).astype(self.dtype)

    def below(self, bound: int) -> NDArray[np.int64]:
        """(n,) whole numbers uniform on 0 … bound − 1, by rejection from 32 bits (Lemire 2019, ACM TOMACS 29(1)).

        >>> Streams(seed_words(0, range(5), NOISE)).below(1)
        array([0, 0, 0, 0, 0])
        """
        product = np.zeros(len(self.words), np.uint64)
        active = np.ones(len(self.words), bool)
        while active.any():
            word = self.bits(active)
            bits = word >> np.uint64(32) if word.dtype == np.uint64 else word.astype(np.uint64)
            product = np.where(active, bits * np.uint64(bound), product)
            active &= (product & np.uint64(0xFFFFFFFF)) < np.uint64(2**32 % bound)
        return (product >> np.uint64(32)).astype(np.int64)
