// Streams of random numbers by themselves, and what a core can do at most.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <chrono>
#include <cmath>

#include "bindings/arrays.hpp"

namespace saddlescope {
namespace {

// What `work` draws of every stream into its row of an array (n, columns), or (n) if there are none.
template <class T, class Out, class Word, class Work>
nb::object drawn(Array<Word, 2> words, std::optional<size_t> columns, const std::string& instruction_set, Work work) {
  require(words.shape(1) == 4, "words must be (n, 4)");
  require_aligned(words);
  const size_t n = words.shape(0);
  Out* out;
  auto rows = columns ? fresh<Out>({n, *columns}, out) : fresh<Out>({n}, out);
  const auto& common = of_type<T>(kernels(instruction_set));
  for (size_t first = 0; first < n; first += size_t(common.lanes)) work(common, int64_t(n), int64_t(first), out);
  return nb::cast(rows);
}

template <class T, class Word>
nb::object normals(Array<Word, 2> words, size_t count, const std::string& instruction_set) {
  return drawn<T, T>(words, count, instruction_set, [&](const auto& common, int64_t n, int64_t first, T* out) {
    common.normals(words.data(), n, first, int64_t(count), out);
  });
}

template <class T, class Word>
nb::object chi(Array<Word, 2> words, int64_t degrees, const std::string& instruction_set) {
  require(degrees >= 1, "degrees must be at least 1");
  return drawn<T, T>(words, {}, instruction_set, [&](const auto& common, int64_t n, int64_t first, T* out) {
    common.chi(words.data(), n, first, degrees, out);
  });
}

template <class T, class Word>
nb::object below(Array<Word, 2> words, int32_t bound, const std::string& instruction_set) {
  require(bound >= 1, "bound must be at least 1");
  return drawn<T, int32_t>(words, {}, instruction_set, [&](const auto& common, int64_t n, int64_t first, int32_t* out) {
    common.below(words.data(), n, first, bound, out);
  });
}

// Billions a second of what this thread does in rounds of nothing else.
template <class T>
double rate(int64_t (*work)(int64_t, T*), double milliseconds) {
  using clock = std::chrono::steady_clock;
  require(milliseconds >= 0 && std::isfinite(milliseconds), "milliseconds must be finite and not negative");
  const Unlocked unlocked;
  const auto begin = clock::now();
  int64_t done = 0;
  double nanoseconds;
  T sum;
  do {
    done += work(10'000, &sum);
    nanoseconds = std::chrono::duration<double, std::nano>(clock::now() - begin).count();
  } while (nanoseconds < 1e6 * milliseconds);
  return double(done) / nanoseconds;
}

template <class T>
double multiply_add_rate(double milliseconds, const std::string& instruction_set) {
  return rate<T>(of_type<T>(kernels(instruction_set)).multiply_adds, milliseconds);
}

template <class T>
double normal_rate(double milliseconds, const std::string& instruction_set) {
  return rate<T>(of_type<T>(kernels(instruction_set)).fresh_normals, milliseconds);
}

}  // namespace

void bind_streams(nb::module_& m) {
  m.def("normals", &normals<float, uint32_t>, "words"_a.noconvert(), "count"_a, "instruction_set"_a = "auto");
  m.def("normals", &normals<double, uint64_t>, "words"_a.noconvert(), "count"_a, "instruction_set"_a = "auto");
  m.def("chi", &chi<float, uint32_t>, "words"_a.noconvert(), "degrees"_a, "instruction_set"_a = "auto");
  m.def("chi", &chi<double, uint64_t>, "words"_a.noconvert(), "degrees"_a, "instruction_set"_a = "auto");
  m.def("below", &below<float, uint32_t>, "words"_a.noconvert(), "bound"_a, "instruction_set"_a = "auto");
  m.def("below", &below<double, uint64_t>, "words"_a.noconvert(), "bound"_a, "instruction_set"_a = "auto");
  m.def("multiply_add_rate_float32", &multiply_add_rate<float>, "milliseconds"_a, "instruction_set"_a = "auto");
  m.def("multiply_add_rate_float64", &multiply_add_rate<double>, "milliseconds"_a, "instruction_set"_a = "auto");
  m.def("normal_rate_float32", &normal_rate<float>, "milliseconds"_a, "instruction_set"_a = "auto");
  m.def("normal_rate_float64", &normal_rate<double>, "milliseconds"_a, "instruction_set"_a = "auto");
}

}  // namespace saddlescope
