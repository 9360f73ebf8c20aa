// Where the random numbers of a step come from: the streams of a block of trajectories, or given normals.
#pragma once

#include "simd/streams.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// Given normals (n, steps, per step) of the trajectories from `first` on, n of them: those of one step in lanes.
template <class T>
struct Given {
  const T* at = nullptr;
  int64_t stride = 0, last = 0;

  Given() = default;
  Given(const Span& span, int64_t per_step, int64_t n, int64_t first, int64_t step)
      : stride((span.until - span.from) * per_step), last(n - 1 - first) {
    if (span.normals) at = static_cast<const T*>(span.normals) + first * stride + (step - span.from) * per_step;
  }
  template <class V>
  void fill(V* out, int64_t count, T scale) {
    for (int lane = 0; lane < Element<V>::count; ++lane) {
      const T* from = at + (lane < last ? lane : last) * stride;
      for (int64_t i = 0; i < count; ++i) saddlescope::SADDLESCOPE_ISA::at(out[i], lane) = from[i] * scale;
    }
    at += count;
  }
};

// Noise of a block of trajectories, one a lane.
template <class T>
struct LaneNoise {
  using V = Vec<T>;
  Stream<T> stream;
  Given<T> given;

  void start_step(const Given<T>& normals) { given = normals; }

  // `count` standard normals times `scale` for every lane.
  void fill(V* out, int64_t count, T scale) {
    given.at ? given.fill(out, count, scale) : stream.fill(out, count, scale);
  }
  V chi(int64_t degrees) { return stream.chi(degrees); }
  void below(uint32_t bound, int32_t* out) { stream.below(bound, out); }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
