// Generator states of an ensemble, into lanes and back, and the generators by themselves.
#pragma once

#include "simd/rng.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T>
void load_words(Stream<T>& stream, const typename Lane<T>::Word* words, int64_t n, int64_t first) {
  for (int lane = 0; lane < Lane<T>::count; ++lane) {
    const auto* from = words + 4 * (first + lane < n ? first + lane : n - 1);
    stream.s0[lane] = from[0], stream.s1[lane] = from[1], stream.s2[lane] = from[2], stream.s3[lane] = from[3];
  }
}
template <class T>
void store_words(const Stream<T>& stream, typename Lane<T>::Word* words, int64_t n, int64_t first) {
  for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) {
    auto* to = words + 4 * (first + lane);
    to[0] = stream.s0[lane], to[1] = stream.s1[lane], to[2] = stream.s2[lane], to[3] = stream.s3[lane];
  }
}

template <class T>
struct Streams {
  using V = Vec<T>;
  using Word = typename Lane<T>::Word;

  static void normals(Word* words, int64_t n, int64_t first, int64_t count, T* out) {
    Stream<T> stream;
    load_words(stream, words, n, first);
    for (int64_t i = 0; i < count; i += 2) {
      V pair[2];
      stream.template pairs<1>(pair, splat<V>(T(1)));
      for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane)
        for (int64_t k = i; k < i + 2 && k < count; ++k) out[(first + lane) * count + k] = pair[k - i][lane];
    }
    store_words(stream, words, n, first);
  }

  static void chi(Word* words, int64_t n, int64_t first, int64_t degrees, T* out) {
    Stream<T> stream;
    load_words(stream, words, n, first);
    const V drawn = stream.chi(degrees);
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) out[first + lane] = drawn[lane];
    store_words(stream, words, n, first);
  }

  static void below(Word* words, int64_t n, int64_t first, int32_t bound, int32_t* out) {
    Stream<T> stream;
    load_words(stream, words, n, first);
    int32_t drawn[Lane<T>::count];
    stream.below(uint32_t(bound), drawn);
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) out[first + lane] = drawn[lane];
    store_words(stream, words, n, first);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
