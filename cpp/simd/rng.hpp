// Random streams that belong to trajectories: one generator state per lane, normals made in registers.
//
// xoshiro256++ on 64-bit lanes for double, xoshiro128++ on 32-bit lanes for float (Blackman & Vigna 2021). Normals by
// Box–Muller in pairs; chi by Marsaglia & Tsang's rejection, where only the rejected lanes draw again, so that a
// stream never depends on its neighbours. streams.py is the NumPy twin.
#pragma once

#include "simd/simd.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T>
struct Rotations;
template <>
struct Rotations<float> {
  static constexpr int left = 7, shift = 9, right = 11, bits = 32, halvings = 31;
};
template <>
struct Rotations<double> {
  static constexpr int left = 23, shift = 17, right = 45, bits = 64, halvings = 0;
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
    const W w0 = s0 ^ s3 ^ s1, w1 = s1 ^ s2 ^ s0, w2 = s2 ^ s0 ^ t;
    s3 = rotate(s3 ^ s1, R::right);
    s0 = w0, s1 = w1, s2 = w2;
    return result;
  }

  // K points of the plane with standard normal coordinates, point k from of(k): squared radius −2 log u and direction
  // (Box & Muller 1958).
  template <int K, class Of>
  static SADDLESCOPE_INLINE void polar(Of of, Group<V, K>& squared, Group<V, K>& c, Group<V, K>& s) {
    const W top = W{} + (typename Lane<T>::Word(1) << (R::bits - 1));
    Group<W, K> half;
    Group<V, K> radial, angle;
    for (int k = 0; k < K; ++k) of(k).point(radial.v[k], half.v[k], angle.v[k]);
    squared = log(radial, T(-2), R::halvings);
    cos_sin(angle, c, s);
    c = each<K>([&](int k) { return (V)((W)c.v[k] ^ (half.v[k] & top)); });
  }

  // 2K standard normals times `scale`.
  template <int K>
  SADDLESCOPE_INLINE void pairs(V* out, V scale) {
    Group<V, K> squared, c, s;
    polar([this](int) -> Stream& { return *this; }, squared, c, s);
    for (int k = 0; k < K; ++k) {
      const V radius = sqrt(squared.v[k]) * scale;
      out[2 * k] = radius * c.v[k];
      out[2 * k + 1] = radius * s.v[k];
    }
  }

  // In (0, 1].
  static SADDLESCOPE_INLINE V uniform(W word) { return magnitude(word) * T(1.0 / (1LL << R::halvings)); }

  // count normals times scale, one vector each; an odd count drops the last half pair.
  SADDLESCOPE_INLINE void fill(V* out, int64_t count, T scale) {
    const V factor = set1<T>(scale);
    constexpr int together = 2;  // measured
    int64_t i = 0;
    for (; i + 2 * together <= count; i += 2 * together) pairs<together>(out + i, factor);
    for (; i + 2 <= count; i += 2) pairs<1>(out + i, factor);
    if (i == count) return;
    V last[2];
    pairs<1>(last, factor);
    out[i] = last[0];
  }

  // A whole number uniform on 0 … bound − 1 for every lane, by rejection from 32 bits (Lemire 2019).
  void below(uint32_t bound, int32_t* out) {
    uint32_t rest[Lane<T>::count];
    bool doubtful = scale_words(next(), bound, out, rest);
    if (__builtin_expect(doubtful, 0)) draw_again(bound, out, rest);
  }

  // Square root of a chi-square with k degrees of freedom.
  V chi(int64_t k) {
    V drawn[2];
    if (k == 1) {
      pairs<1>(drawn, set1<T>(T(1)));
      return select<T>(drawn[0] < T(0), -drawn[0], drawn[0]);
    }
    const T d = T(k) / 2 - T(1) / 3;
    const V slope = set1<T>(T(1) / (3 * scalar_sqrt(d)));
    V cube = V{};
    IntVec<T> active = cube == cube;
    do {
      const Stream before = *this;
      pairs<1>(drawn, set1<T>(T(1)));
      const V u = uniform(next()), t = drawn[0] * slope, squared = t * t;
      // Accept when log u < 3d(log(1+t) − t + t²/2 − t³/3), which is at least −3d t⁴/2 for t ≥ −½: as log u < u − 1,
      // this spares nearly all logarithms.
      IntVec<T> accept = (u < T(1) - T(1.5) * d * (squared * squared)) & (t > T(-0.5));
      if (any<T>(active & ~accept)) accept |= (log(u) < T(3) * d * excess(t)) & (t > T(-1));
      const V root = t + T(1);
      cube = select<T>(active & accept, root * root * root, cube);
      keep(before, active);
      active &= ~accept;
    } while (any<T>(active));
    return sqrt(T(2) * d * cube);
  }

 private:
  // In (0, 2^halvings]; of floats the word's top bit plays no part.
  static SADDLESCOPE_INLINE V magnitude(W word);
  // What a point of the plane is made of: a magnitude, the half of the circle as a top bit, the angle in [−1, 1] there.
  SADDLESCOPE_INLINE void point(V& radial, W& half, V& angle);

  // High and low 32 bits of bound · word; whether any low half is below the bound, where it may have to be rejected.
  static SADDLESCOPE_INLINE bool scale_words(W word, uint32_t bound, int32_t* high, uint32_t* low) {
    uint32_t bits[Lane<T>::count];
    for (int lane = 0; lane < Lane<T>::count; ++lane) bits[lane] = uint32_t(word[lane] >> (R::bits - 32));
    bool doubtful = false;
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const uint64_t product = uint64_t(bits[lane]) * bound;
      high[lane] = int32_t(product >> 32);
      low[lane] = uint32_t(product);
      doubtful |= low[lane] < bound;
    }
    return doubtful;
  }

  // Lanes whose low half is below 2³² mod bound draw again, from their own streams alone.
  __attribute__((noinline)) void draw_again(uint32_t bound, int32_t* out, uint32_t* rest) {
    const uint32_t least = -bound % bound;
    for (;;) {
      IntVec<T> rejected{};
      for (int lane = 0; lane < Lane<T>::count; ++lane) rejected[lane] = rest[lane] < least ? -1 : 0;
      if (!any<T>(rejected)) return;
      const Stream before = *this;
      int32_t fresh[Lane<T>::count];
      uint32_t left[Lane<T>::count];
      scale_words(next(), bound, fresh, left);
      keep(before, rejected);
      for (int lane = 0; lane < Lane<T>::count; ++lane)
        if (rejected[lane]) out[lane] = fresh[lane], rest[lane] = left[lane];
    }
  }

  static SADDLESCOPE_INLINE T scalar_sqrt(T x) { return sizeof(T) == 4 ? __builtin_sqrtf(x) : __builtin_sqrt(x); }

  // log(1+t) − t + t²/2 − t³/3, by its series where the difference would cancel.
  static SADDLESCOPE_INLINE V excess(V t) {
    const V square = t * t, fourth = square * square;
    const Group<V, 1> argument{{t}};
    const V series =
        fourth * polynomial<T>(argument, T(-1. / 4), T(1. / 5), T(-1. / 6), T(1. / 7), T(-1. / 8), T(1. / 9),
                               T(-1. / 10), T(1. / 11), T(-1. / 12), T(1. / 13), T(-1. / 14), T(1. / 15), T(-1. / 16))
                     .v[0];
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
SADDLESCOPE_INLINE Vec<float> Stream<float>::magnitude(W word) {
  return (V)((W) __builtin_convertvector((IntVec<float>)(word | 1), V) & 0x7fffffff);
}
template <>
SADDLESCOPE_INLINE Vec<double> Stream<double>::magnitude(W word) {
  return (V)((word >> 12 & 0xffffffffff000ULL) | 0x3ff0000000000000ULL) - (1.0 - 0x1p-41);
}

// Floats take two words a point: half of the circle and radius from the first, the angle from the second.
template <>
SADDLESCOPE_INLINE void Stream<float>::point(V& radial, W& half, V& angle) {
  half = next();
  radial = magnitude(half);
  angle = __builtin_convertvector((IntVec<float>)next(), V) * 0x1p-31f;
}
// Doubles take one: 40 bits for the radius, one for the half, 23 for the angle.
template <>
SADDLESCOPE_INLINE void Stream<double>::point(V& radial, W& half, V& angle) {
  const W word = next();
  radial = magnitude(word);
  half = word << 40;
  angle = (V)((word << 29 & 0xfffffe0000000ULL) | 0x4000000000000000ULL) - (3.0 - 0x1p-23);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
