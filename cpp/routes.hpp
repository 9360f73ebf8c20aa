// Which way a run of a deep linear network goes: its trajectories in lanes, or one by one through blocked products.
// Both give the same bits; this is about time alone. benchmarks/routes.py measures it.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.hpp"

namespace saddlescope {

// Trajectories of a group that are taken one by one: as many as give every thread the same work, at most the lanes.
inline int group_size(int64_t count, int lanes, int threads) {
  if (count == 0) return 1;
  const int64_t all = int64_t(lanes) * threads, rounds = (count + all - 1) / all;
  return int((count + rounds * threads - 1) / (rounds * threads));
}

// The width of the square network on which lanes would do as well, compared with blocked products, as on this one.
inline double effective_width(const Problem& problem, const Method& method, bool passages) {
  double area = 0;
  for (int l = 0; l < problem.depth; ++l) area += double(problem.shapes[l].rows) * problem.shapes[l].columns;
  const double width = std::sqrt(area / problem.depth);
  if (method.source == Source::isotropic) return 0.4 * width;  // norms, each one long chain of additions
  if (method.source != Source::sgd) return problem.samples ? 0 : width;
  if (problem.samples && method.batch * problem.dy > 1 << 18) return 0;  // would fill the tapes
  if (method.batch >= problem.rank) return width;
  return std::max(std::min(width, 8 * method.batch), passages ? width / 4 : 0);  // thin products; P for passages
}

// A trajectory on its own takes about 2.5 lanes / width times its share of a block in lanes, but lanes may be empty and
// blocks too few for the threads.
inline bool one_by_one(const Problem& problem, const Method& method, bool passages, int64_t count, int lanes,
                       int threads) {
  const int64_t blocks = (count + lanes - 1) / lanes, each = (count + threads - 1) / threads,
                slots = lanes * ((blocks + threads - 1) / threads);
  return 2.5 * lanes * double(each) < effective_width(problem, method, passages) * double(slots);
}

}  // namespace saddlescope
