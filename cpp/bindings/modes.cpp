// Ensembles of one mode's SDE.
#include <nanobind/stl/string.h>

#include <cmath>

#include "bindings/arrays.hpp"

namespace saddlescope {
namespace {

// An ensemble of one mode's SDE: x = log a (depth 1: s) at the times (n, saves), and passage times (n, levels).
nb::tuple mode_ensemble(int depth, double alpha, double center, double floor, double beta1, double beta2,
                        double temperature, double decay, double tolerance, Array<const double, 1> start,
                        Array<const double, 1> times, Array<const double, 1> levels, Array<const uint64_t, 2> words,
                        int threads, const std::string& instruction_set) {
  const size_t n = start.shape(0), saves = times.shape(0), count = levels.shape(0);
  require(depth >= 1, "depth must be at least 1");
  require_aligned(start, times, levels, words);
  require(tolerance > 0, "tolerance must be positive");
  require(saves >= 1, "times must not be empty");
  for (size_t i = 0; i < saves; ++i)
    require(times(i) >= (i ? times(i - 1) : 0.0) && std::isfinite(times(i)),
            "times must be finite, not negative and must not decrease");
  require(count <= size_t(kModeLevels), "at most 16 levels can be followed");
  require(words.shape(0) == n && words.shape(1) == 4, "words must be (n, 4)");
  require(threads >= 1, "threads must be at least 1");
  double *states, *passages;
  auto seen = fresh<double>({n, saves}, states);
  auto passed = fresh<double>({n, count}, passages);
  const Mode mode{depth, alpha, center, floor, beta1, beta2, temperature, decay, tolerance, int(count)};
  const ModeEnsemble ensemble{int64_t(n),    int64_t(saves), start.data(), times.data(),
                              levels.data(), words.data(),   states,       passages};
  const ModeKernel& kernel = kernels(instruction_set).mode;
  {
    const Unlocked unlocked;
    for_blocks(int64_t(n), kernel.members, 0, threads,
               [&](int64_t first, void*) { kernel.run(mode, ensemble, first); });
  }
  return nb::make_tuple(seen, passed);
}

// The same by Euler–Maruyama with the step dt: a (depth 1: s) after given numbers of steps, (n, saves).
template <class T, class Word>
nb::object mode_euler(int depth, double alpha, double center, double floor, double beta1, double beta2,
                      double temperature, double decay, double dt, Array<const double, 1> start,
                      Array<const int64_t, 1> steps, Array<const Word, 2> words, int threads,
                      const std::string& instruction_set) {
  const size_t n = start.shape(0), saves = steps.shape(0);
  require(depth >= 1, "depth must be at least 1");
  require_aligned(start, steps, words);
  require(dt > 0, "dt must be positive");
  for (size_t i = 0; i < saves; ++i)
    require(steps(i) >= (i ? steps(i - 1) : 0), "steps must not be negative and must not decrease");
  require(words.shape(0) == n && words.shape(1) == 4, "words must be (n, 4)");
  require(threads >= 1, "threads must be at least 1");
  T* states;
  auto seen = fresh<T>({n, saves}, states);
  const Mode mode{depth, alpha, center, floor, beta1, beta2, temperature, decay, 0.0, 0};
  const Walks<T, Word> walks{int64_t(n), int64_t(saves), start.data(), steps.data(), words.data(), states};
  const auto& common = of_type<T>(kernels(instruction_set));
  {
    const Unlocked unlocked;
    for_blocks(int64_t(n), common.walkers, 0, threads,
               [&](int64_t first, void*) { common.euler(mode, dt, walks, first); });
  }
  return nb::cast(seen);
}

}  // namespace

void bind_modes(nb::module_& m) {
  m.def("mode_ensemble", &mode_ensemble, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "tolerance"_a, "start"_a, "times"_a, "levels"_a, "words"_a, "threads"_a = 1,
        "instruction_set"_a = "auto");
  m.def("mode_euler", &mode_euler<float, uint32_t>, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "dt"_a, "start"_a, "steps"_a, "words"_a.noconvert(), "threads"_a = 1,
        "instruction_set"_a = "auto");
  m.def("mode_euler", &mode_euler<double, uint64_t>, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "dt"_a, "start"_a, "steps"_a, "words"_a.noconvert(), "threads"_a = 1,
        "instruction_set"_a = "auto");
}

}  // namespace saddlescope
