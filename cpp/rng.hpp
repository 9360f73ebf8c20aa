// Random streams that belong to trajectories: one generator state per lane, normals made in registers.
//
// xoshiro256++ on 64-bit lanes for double, xoshiro128++ on 32-bit lanes for float (Blackman & Vigna 2021). Normals by
// Box–Muller in pairs; chi by Marsaglia & Tsang's rejection, where only the rejected lanes draw again, so that a
// stream never depends on its neighbours. streams.py is the NumPy twin.
#pragma once

#include "simd.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T>
struct Rotations;
template <>
struct Rotations<float> {
  static constexpr int left = 7, shift = 9, right = 11, bits = 32;
};
template <>
struct Rotations<double> {
  static constexpr int left = 23, shift = 17, right = 45, bits = 64;
};

template <class T>
struct Stream {
  using V = Vec<T>;
  using W = WordVec<T>;
  using R = Rotations<T>;
  W s0, s1, s2, s3;

  static SADDLESCOPE_INLINE W rotate(W word, int by) { return (word << by) | (word >> (R::bits - by)); }

  SADDLESCOPE_INLINE W next() {
    const W result = rotate(s0 + s3, R::left) + s0, t = s1 << R::shift;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s2 ^= t;
    s3 = rotate(s3, R::right);
    return result;
  }

  // Two standard normals from two words: the radius; then the half of the circle (top bit) and the angle in it.
  SADDLESCOPE_INLINE void pair(V& first, V& second, V scale = set1<T>(T(1))) {
    const V radius = sqrt(log(uniform(next())) * T(-2)) * scale;
    const W word = next();
    V c, s;
    cos_sin(centred(word << 1), c, s);
    const W top = W{} + (typename Lane<T>::Word(1) << (R::bits - 1));
    first = radius * (V)((W)c ^ (word & top));
    second = radius * s;
  }

  // In (0, 1].
  static SADDLESCOPE_INLINE V uniform(W word);
  // The word's top bits in [−1, 1).
  static SADDLESCOPE_INLINE V centred(W word);

  // count normals times scale, one vector each; an odd count drops the last half pair.
  SADDLESCOPE_INLINE void fill(V* out, int64_t count, T scale) {
    const V factor = set1<T>(scale);
    V last;
    for (int64_t i = 0; i + 1 < count; i += 2) pair(out[i], out[i + 1], factor);
    if (count % 2) pair(out[count - 1], last, factor);
  }

  // Square root of a chi-square with k degrees of freedom.
  V chi(int64_t k) {
    V x, unused;
    if (k == 1) {
      pair(x, unused);
      return select<T>(x < T(0), -x, x);
    }
    const T d = T(k) / 2 - T(1) / 3;
    const V slope = set1<T>(T(1) / (3 * scalar_sqrt(d)));
    V cube = V{};
    IntVec<T> active = cube == cube;
    do {
      const Stream before = *this;
      pair(x, unused);
      const V u = uniform(next()), t = x * slope, squared = x * x;
      // Accept when log u < 3d(log(1+t) − t + t²/2 − t³/3); the squeeze spares the logarithms.
      IntVec<T> accept = (u < T(1) - T(0.0331) * squared * squared) & (t > T(-1));
      if (any<T>(active & ~accept)) accept |= (log(u) < T(3) * d * excess(t)) & (t > T(-1));
      const V root = t + T(1);
      cube = select<T>(active & accept, root * root * root, cube);
      keep(before, active);
      active &= ~accept;
    } while (any<T>(active));
    return sqrt(T(2) * d * cube);
  }

 private:
  static SADDLESCOPE_INLINE T scalar_sqrt(T x) { return sizeof(T) == 4 ? __builtin_sqrtf(x) : __builtin_sqrt(x); }

  // log(1+t) − t + t²/2 − t³/3, by its series where the difference would cancel.
  static SADDLESCOPE_INLINE V excess(V t) {
    const V square = t * t, fourth = square * square;
    const V series = fourth * polynomial<T>(t, T(-1. / 4), T(1. / 5), T(-1. / 6), T(1. / 7), T(-1. / 8), T(1. / 9),
                                            T(-1. / 10), T(1. / 11), T(-1. / 12), T(1. / 13), T(-1. / 14), T(1. / 15),
                                            T(-1. / 16));
    const V safe = select<T>(t > T(-1), t, V{}) + T(1);
    const V direct = log(safe) - t + square * T(0.5) - square * t * T(1. / 3);
    return select<T>(square < T(0.0225), series, direct);
  }

  // Lanes that were not active go back to where they stood.
  SADDLESCOPE_INLINE void keep(const Stream& before, IntVec<T> active) {
    s0 = active ? s0 : before.s0;
    s1 = active ? s1 : before.s1;
    s2 = active ? s2 : before.s2;
    s3 = active ? s3 : before.s3;
  }
};

template <>
SADDLESCOPE_INLINE Vec<float> Stream<float>::uniform(W word) {
  return fma(__builtin_convertvector((IntVec<float>)(word >> 1), Vec<float>), set1(0x1p-31f), set1(0x1p-32f));
}
template <>
SADDLESCOPE_INLINE Vec<double> Stream<double>::uniform(W word) {
  return (Vec<double>)((word >> 12) | 0x3ff0000000000000ULL) - (1.0 - 0x1p-53);
}
template <>
SADDLESCOPE_INLINE Vec<float> Stream<float>::centred(W word) {
  return (Vec<float>)((word >> 9) | 0x40000000U) - 3.0f;
}
template <>
SADDLESCOPE_INLINE Vec<double> Stream<double>::centred(W word) {
  return (Vec<double>)((word >> 12) | 0x4000000000000000ULL) - 3.0;
}

}  // namespace saddlescope::SADDLESCOPE_ISA
