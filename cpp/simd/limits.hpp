// What a core can do at most when nothing else is to be done: fused multiply-adds, and normals.
#pragma once

#include "simd/rng.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// Each does `rounds` rounds and says how many numbers that makes; `sum` is there so that they must be computed.
template <class T>
struct Limits {
  using V = Vec<T>;

  static int64_t multiply_adds(int64_t rounds, T* sum) {
    constexpr int half = 6;  // 12 independent chains hide each other's latency, and fit 16 registers
    auto x = each<half>([](int k) { return set1<T>(T(k)); });
    auto y = each<half>([](int k) { return set1<T>(T(half + k)); });
    const auto by = each<half>([](int) { return set1<T>(T(0.5)); });
    for (int64_t i = 0; i < rounds; ++i) x = fma(x, by, by.v[0]), y = fma(y, by, by.v[0]);
    *sum = T(0);
    for (int k = 0; k < half; ++k) *sum += x.v[k][0] + y.v[k][0];
    return rounds * 2 * half * Lane<T>::count;
  }

  static int64_t normals(int64_t rounds, T* sum) {
    constexpr int count = 96;
    Stream<T> stream;
    for (int lane = 0; lane < Lane<T>::count; ++lane)
      stream.s0[lane] = stream.s1[lane] = stream.s2[lane] = stream.s3[lane] = typename Lane<T>::Word(lane + 1);
    V drawn[count], total{};
    for (int64_t i = 0; i < rounds; ++i) {
      stream.fill(drawn, count, T(1));
      total += drawn[i % count];
    }
    *sum = total[0];
    return rounds * count * Lane<T>::count;
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
