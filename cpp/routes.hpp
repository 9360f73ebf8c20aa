// Which way a run of a deep linear network goes: the trajectories in lanes, or one by one through blocked products.
#pragma once

#include <algorithm>

#include "kernels.hpp"

namespace saddlescope {

// Trajectories of a group that are taken one by one: as many as give every thread the same work, at most the lanes.
inline int group_size(int64_t count, int lanes, int threads) {
  const int64_t rounds = (count + int64_t(lanes) * threads - 1) / (int64_t(lanes) * threads);
  return int(std::max<int64_t>(1, (count + rounds * threads - 1) / (rounds * threads)));
}

inline bool one_by_one(const Problem& problem, const Method& method, int64_t count, int lanes, int threads) {
  (void)count, (void)lanes, (void)threads, (void)method;
  return problem.widths[0] >= 64;
}

}  // namespace saddlescope
