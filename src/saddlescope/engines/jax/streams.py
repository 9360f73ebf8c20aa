"""Random streams in JAX, one per lane: the twin of ``kernel/streams.py``.

xoshiro256++ (64 bit) for float64, xoshiro128++ (32 bit) for float32. ``words`` are four arrays (n,), the state of n
streams; every function returns the moved state first. The words are those of the NumPy twin bit by bit, normals and
chi agree to rounding.
Source: Blackman & Vigna 2021, ACM TOMS 47(4); Box & Muller 1958; Marsaglia & Tsang 2000; Lemire 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

Words = tuple[Any, Any, Any, Any]

_UNROLL = 4
"""Words, or pairs of them, in the body of the loop that draws them; measured."""


def dtype_of(words: Words) -> Any:
    """Type of the numbers that the streams give."""
    return jnp.float64 if _size(words[0]) == 64 else jnp.float32


def bits(words: Words) -> tuple[Words, Any]:
    """Next word of every stream."""
    left, shift, right = (23, 17, 45) if _size(words[0]) == 64 else (7, 9, 11)
    s0, s1, s2, s3 = words
    result = _rotate(s0 + s3, left) + s0
    t = s1 << s1.dtype.type(shift)
    s2, s3 = s2 ^ s0, s3 ^ s1
    s1, s0 = s1 ^ s2, s0 ^ s3
    return (s0, s1, s2 ^ t, _rotate(s3, right)), result


def point(words: Words) -> tuple[Words, tuple[Any, Any]]:
    """64 bits of every stream, from which a pair of normals is made: one word, taken twice, or two."""
    words, high = bits(words)
    words, low = (words, high) if _size(high) == 64 else bits(words)
    return words, (high, low)


def pair_of(high: Any, low: Any) -> tuple[Any, Any]:
    """Two independent normals (Box–Muller)."""
    radius, (mirrored, cosine, sine) = jnp.sqrt(-2 * jnp.log(_uniform(high))), _direction(high, low)
    return radius * jnp.where(mirrored, -cosine, cosine), radius * sine


def pair(words: Words) -> tuple[Words, Any, Any]:
    """Two independent normals of every stream."""
    words, bits = point(words)
    return words, *pair_of(*bits)


def normals(words: Words, count: int) -> tuple[Words, Any]:
    """(count, n) standard normals; when count is odd, the last half of the last pair is dropped."""
    pairs = (count + 1) // 2
    if pairs == 0:
        return words, jnp.empty((0, len(words[0])), dtype_of(words))
    words, drawn = lax.scan(lambda words, _: point(words), words, length=pairs, unroll=min(_UNROLL, pairs))
    drawn = lax.optimization_barrier(drawn)  # or XLA draws again wherever the normals are used
    drawn = lax.optimization_barrier(jnp.stack(pair_of(*drawn), axis=1))
    return words, drawn.reshape(2 * pairs, -1)[:count]


def chi(words: Words, degrees: Any) -> tuple[Words, Any]:
    """Square root of a chi-square (n,) with 2, 3, … degrees of freedom, which may be traced; by rejection.

    >>> from saddlescope.kernel import streams
    >>> words = streams.seed_words(0, range(4), streams.NOISE, "float32")
    >>> chi(tuple(jnp.asarray(words.T)), 3)[1].shape
    (4,)
    """
    dtype = dtype_of(words)
    d = jnp.asarray(degrees, dtype) / 2 - dtype(1 / 3)
    slope = 1 / (3 * jnp.sqrt(d))

    def attempt(carry: Any) -> Any:
        words, cube, active = carry
        moved, x, _ = pair(words)
        moved, word = bits(moved)
        t = jnp.maximum(x * slope, -1)
        accepted = jnp.log(_uniform(word)) < 3 * d * _excess(t)
        return _keep(active, moved, words), jnp.where(active & accepted, (1 + t) ** 3, cube), active & ~accepted

    start = words, jnp.zeros(words[0].shape, dtype), jnp.ones(words[0].shape, bool)
    words, cube, _ = lax.while_loop(lambda carry: carry[2].any(), attempt, start)
    return words, jnp.sqrt(2 * d * cube)


def half_normal(words: Words) -> tuple[Words, Any]:
    """Size of a normal (n,), which is chi with one degree of freedom."""
    words, x, _ = pair(words)
    return words, jnp.abs(x)


def below(words: Words, bound: Any) -> tuple[Words, Any]:
    """(n,) whole numbers uniform on 0 … bound − 1 as int32; the bound may be traced; by rejection from 32 bits."""
    bound = jnp.asarray(bound, jnp.uint32)
    least = (jnp.uint32(0) - bound) % bound

    def attempt(carry: Any) -> Any:
        words, number, active = carry
        moved, word = bits(words)
        high, low = _product(word if _size(word) == 32 else (word >> word.dtype.type(32)).astype(jnp.uint32), bound)
        return _keep(active, moved, words), jnp.where(active, high, number), active & (low < least)

    start = words, jnp.zeros(words[0].shape, jnp.uint32), jnp.ones(words[0].shape, bool)
    words, number, _ = lax.while_loop(lambda carry: carry[2].any(), attempt, start)
    return words, number.astype(jnp.int32)


class Draws:
    """Draws of one step while it is traced: from streams, or normals (count, n) that are given in their place.

    ``words`` is the state of the streams after the draws so far.
    """

    def __init__(self, words: Words, given: Any = None) -> None:
        self.words = words
        self._given, self._used = given, 0

    def normals(self, count: int) -> Any:
        """The next standard normals (count, n)."""
        if self._given is None:
            return self.take(normals, count)
        self._used += count
        return self._given[self._used - count : self._used]

    def take(self, draw: Callable[..., tuple[Words, Any]], *arguments: Any) -> Any:
        """What a function of this module draws."""
        self.words, drawn = draw(self.words, *arguments)
        return drawn

    def each(self, draw: Callable[..., tuple[Words, Any]], arguments: Any) -> Any:
        """What it draws for each of these arguments, one after the other (count, n)."""
        self.words, drawn = lax.scan(draw, self.words, jnp.asarray(arguments))
        return drawn


def _size(word: Any) -> int:
    return 8 * int(word.dtype.itemsize)


def _rotate(word: Any, by: int) -> Any:
    return (word << word.dtype.type(by)) | (word >> word.dtype.type(_size(word) - by))


def _keep(active: Any, moved: Words, words: Words) -> Words:
    """The moved state of the active streams, the old one of the others."""
    s0, s1, s2, s3 = (jnp.where(active, new, old) for new, old in zip(moved, words, strict=True))
    return s0, s1, s2, s3


def _signed(word: Any) -> Any:
    """A word of 32 bits as a signed number, rounded to float32."""
    return lax.bitcast_convert_type(word, jnp.int32).astype(jnp.float32)


def _uniform(word: Any) -> Any:
    """In (0, 1]: the top 40 bits (centred) for float64; the size of an odd signed word, rounded, for float32."""
    if _size(word) == 64:
        return ((word >> word.dtype.type(24)).astype(jnp.float64) + 0.5) * 2.0**-40
    return jnp.abs(_signed(word | jnp.uint32(1))) * jnp.float32(2.0**-31)


def _direction(high: Any, low: Any) -> tuple[Any, Any, Any]:
    """Uniform on the circle: whether it is in the half with cos < 0, and cos and sin of the angle mirrored there."""
    if _size(low) == 64:
        inside = (low & low.dtype.type(0x7FFFFF)).astype(jnp.float64) + 0.5
        return (low & low.dtype.type(1 << 23)) != 0, *_cos_sin(math.pi * (inside * 2.0**-23 - 0.5), 11)
    return high >= jnp.uint32(1 << 31), *_cos_sin(_signed(low) * jnp.float32(math.pi * 2.0**-32), 7)


def _cos_sin(angle: Any, terms: int) -> tuple[Any, Any]:
    """cos and sin on [−π/2, π/2] by their Taylor series, which there lose nothing."""
    square = angle * angle
    cosine = [(-1) ** k / math.factorial(2 * k) for k in range(terms)]
    sine = [(-1) ** k / math.factorial(2 * k + 1) for k in range(terms)]
    return _polynomial(square, cosine), angle * _polynomial(square, sine)


def _polynomial(x: Any, coefficients: list[float]) -> Any:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + x.dtype.type(coefficient)
    return total


def _excess(t: Any) -> Any:
    """``log(1 + t) − t + t²/2 − t³/3``, by its series where the difference would cancel."""
    series = t**4 * _polynomial(t, [(-1) ** (k + 1) / k for k in range(4, 17)])
    direct = jnp.log1p(t) - t + t**2 / 2 - t**3 / 3
    return jnp.where(jnp.abs(t) < 0.15, series, direct)


def _product(word: Any, bound: Any) -> tuple[Any, Any]:
    """High and low 32 bits of a product of 32-bit words, by halves."""
    half, mask = jnp.uint32(16), jnp.uint32(0xFFFF)
    a, b, c, d = word >> half, word & mask, bound >> half, bound & mask
    middle = (b * d >> half) + (a * d & mask) + (b * c & mask)
    return a * c + (a * d >> half) + (b * c >> half) + (middle >> half), word * bound
