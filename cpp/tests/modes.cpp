// Ensembles of one mode's SDE through the public table: exact arrays, blocks, levels, times that repeat.
#include "cases.hpp"

namespace saddlescope::test {
namespace {

struct Run {
  std::vector<double> states, passages;
};

Mode mode_of(int depth, int levels) {
  Mode mode{};
  mode.depth = depth;
  mode.alpha = 2;
  mode.center = 1;
  mode.floor = 0.1;
  mode.beta1 = 1;
  mode.beta2 = 1;
  mode.temperature = 0.05;
  mode.decay = depth > 2 ? 0.2 : 0;
  mode.tolerance = 0.02;
  mode.levels = levels;
  return mode;
}

Run run(const Kernels& kernels, const Mode& mode, const std::vector<double>& times, int64_t first, int64_t n,
        int threads = 1) {
  const Case c("mode", {1, 1});
  const Arrays<double> streams(c, first, n);
  std::vector<double> start, levels;
  for (int64_t i = 0; i < n; ++i) start.push_back(-0.5 + 0.1 * double((first + i) % 7));
  for (int j = 0; j < mode.levels; ++j) levels.push_back(-0.6 + 0.1 * j);
  Run out{std::vector<double>(size_t(n) * times.size()), std::vector<double>(size_t(n) * levels.size())};
  ModeEnsemble ensemble{};
  ensemble.count = n;
  ensemble.saves = int64_t(times.size());
  ensemble.start = start.data();
  ensemble.times = times.data();
  ensemble.levels = levels.data();
  ensemble.words = streams.words.data();
  ensemble.states = out.states.data();
  ensemble.passages = out.passages.data();
  for_blocks(n, kernels.mode.members, 0, threads,
             [&](int64_t block, void*) { kernels.mode.run(mode, ensemble, block); });
  return out;
}

void test(const Kernels& kernels, const Mode& mode) {
  const std::vector<double> times = {0.0, 0.0, 0.1, 0.1, 0.7};
  const int64_t n = kernels.mode.members + 5, part = 9;
  const Run whole = run(kernels, mode, times, 0, n), again = run(kernels, mode, times, 0, n, 3);
  CHECK(same_bits(whole.states, again.states) && same_bits(whole.passages, again.passages));
  const Run last = run(kernels, mode, times, n - part, part);
  CHECK(same_bits(rows(whole.states, n, n - part, part), last.states));
  if (mode.levels) CHECK(same_bits(rows(whole.passages, n, n - part, part), last.passages));
  for (double x : whole.states) CHECK(std::isfinite(x));
  for (int64_t i = 0; i < n; ++i) {
    const double* x = whole.states.data() + i * int64_t(times.size());
    CHECK(x[0] == -0.5 + 0.1 * double(i % 7) && x[1] == x[0] && x[3] == x[2]);
    CHECK(x[4] != x[2]);
  }
  for (double t : whole.passages) CHECK((t >= 0 && t <= 0.7) || t == kInfinity);
}

// Fixed steps: the same walks whatever stands beside them and however often they are seen.
template <class T>
void fixed_steps(const Kernels& kernels, const Mode& mode) {
  const auto& set = of_type<T>(kernels);
  const auto walked = [&](const std::vector<int64_t>& steps, int64_t first, int64_t n, int threads) {
    const Arrays<T> streams(Case("mode", {1, 1}), first, n);
    const std::vector<double> start(size_t(n), 0.5);
    std::vector<T> states(size_t(n) * steps.size(), T(0));
    const Walks<T, WordOf<T>> walks{
        n, int64_t(steps.size()), start.data(), steps.data(), streams.words.data(), states.data()};
    for_blocks(n, set.walkers, 0, threads, [&](int64_t block, void*) { set.euler(mode, 0.01, walks, block); });
    return states;
  };
  const int64_t n = set.walkers + 5, part = 3;
  const auto whole = walked({0, 3, 3, 8}, 0, n, 1), last = walked({8}, 0, n, 2);
  CHECK(same_bits(rows(whole, n, n - part, part), walked({0, 3, 3, 8}, n - part, part, 1)));
  for (int64_t i = 0; i < n; ++i) {
    const T* x = whole.data() + 4 * i;
    CHECK(x[0] == T(0.5) && x[1] == x[2] && x[3] == last[size_t(i)] && std::isfinite(x[3]));
    CHECK(x[3] != x[2]);
  }
  CHECK(walked({}, 0, n, 1).empty());
}

}  // namespace
}  // namespace saddlescope::test

int main() {
  using namespace saddlescope::test;
  for_sets([](const saddlescope::Kernels& kernels) {
    for (int depth : {1, 2, 3, 6}) {
      context = std::string(kernels.name) + ", mode, depth " + std::to_string(depth);
      for (int levels : {0, 1, saddlescope::kModeLevels}) test(kernels, mode_of(depth, levels));
      fixed_steps<float>(kernels, mode_of(depth, 0));
      fixed_steps<double>(kernels, mode_of(depth, 0));
    }
  });
  return result();
}
