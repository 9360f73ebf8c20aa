// The kernel of one network under one method.
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/arrays.hpp"

namespace saddlescope {
namespace {

// Which of some names, as a number.
template <size_t N>
int index_of(const std::string& name, const char* what, const char* const (&names)[N]) {
  std::string all;
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return int(i);
    all += std::string(i == 0 ? "" : i + 1 < N ? ", " : " or ") + names[i];
  }
  throw std::invalid_argument(std::string(what) + " must be " + all + ", got '" + name + "'");
}

Source source_of(const std::string& name) {
  return Source(index_of(name, "source", {"flow", "gd", "sgd", "gradient", "aligned", "isotropic"}));
}
Sampling sampling_of(const std::string& name) {
  return Sampling(index_of(name, "sampling", {"replacement", "without", "shuffle", "full"}));
}
Route route_of(const std::string& name) { return Route(index_of(name, "route", {"auto", "lanes", "one by one"})); }

void make(Kernel* self, const std::string& network, const std::vector<std::pair<int, int>>& shapes,
          std::vector<double> strengths, std::vector<int> block, int rank, std::vector<double> root, double label_noise,
          const std::string& source, double lr, double dt, double batch, double weight_decay, int order,
          std::optional<std::array<double, 3>> gradient_noise, double momentum, const std::string& instruction_set,
          const std::string& route) {
  Description description;
  description.network = network;
  for (const auto& [rows, columns] : shapes) description.shapes.push_back({rows, columns});
  description.strengths = std::move(strengths);
  description.block = std::move(block);
  description.rank = rank;
  description.root = std::move(root);
  description.label_noise = label_noise;
  description.method = {source_of(source), lr, dt, batch, weight_decay, order};
  description.method.momentum = momentum;
  description.gradient_noise = gradient_noise;
  description.instruction_set = instruction_set;
  description.route = route_of(route);
  new (self) Kernel(std::move(description));
}

void use_samples(Kernel& kernel, Array<const double, 2> rows,  // (n, columns + dy)
                 Array<const double, 2> factor,                // (k, q), or (0, any)
                 const std::string& sampling, double share) {
  require_aligned(rows, factor);
  kernel.use_samples(rows.data(), int64_t(rows.shape(0)), int64_t(rows.shape(1)) - kernel.outputs(), factor.data(),
                     int64_t(factor.shape(0)), int64_t(factor.shape(1)), sampling_of(sampling), share);
}

template <class T, class Word>
void advance(const Kernel& kernel, Array<T, 2> weights,  // (n, parameters)
             Array<Word, 2> words,                       // (n, 4)
             Array<int64_t, 1> status,                   // (n)
             Array<double, 3> learned,                   // (n, thresholds, modes)
             Array<double, 3> peak,                      // (n, 4, modes)
             Array<double, 2> clock,                     // (n, 2)
             Array<double, 4> correlator,                // (n, modes, levels, kCorrelatorRow)
             Array<int64_t, 2> histogram,                // (modes, bins + 2)
             int64_t from, int64_t until, bool passages, bool peaks, int threads,
             std::optional<Array<const T, 3>> normals,       // (n, until − from, normals per step)
             std::optional<Array<const double, 1>> factors,  // (until − from + 1)
             std::optional<Array<int32_t, 2>> order,         // (n, samples)
             std::optional<Array<T, 2>> velocity) {          // (n, parameters)
  const size_t n = weights.shape(0), m = size_t(kernel.modes());
  require(int64_t(weights.shape(1)) == kernel.parameters(), "weights must be (n, parameters)");
  require(words.shape(0) == n && words.shape(1) == 4, "words must be (n, 4)");
  require(status.shape(0) == n, "status must be (n,)");
  require(learned.shape(0) == n && learned.shape(1) == size_t(kThresholds) && learned.shape(2) == m,
          "learned must be (n, thresholds, modes)");
  require(peak.shape(0) == n && peak.shape(1) == 4 && peak.shape(2) == m, "peak must be (n, 4, modes)");
  require(clock.shape(0) == n && clock.shape(1) == 2, "clock must be (n, 2)");
  require(correlator.shape(0) == n && correlator.shape(1) == m && correlator.shape(3) == size_t(kCorrelatorRow),
          "correlator must be (n, modes, levels, " + std::to_string(kCorrelatorRow) + ")");
  require(histogram.shape(0) == m && (correlator.shape(2) == 0 || histogram.shape(1) >= 3),
          "histogram must be (modes, bins + 2)");
  require(0 <= from && from <= until, "until must not lie before the state's step");
  require(!factors || factors->shape(0) == size_t(until - from) + 1, "factors must be (until - start + 1,)");
  require(!normals || (normals->shape(0) == n && normals->shape(1) == size_t(until - from) &&
                       int64_t(normals->shape(2)) == kernel.normals_per_step()),
          "normals must be (n, steps, normals per step)");
  require(!order || kernel.samples() == 0 || (order->shape(0) == n && order->shape(1) == size_t(kernel.samples())),
          "order must be (n, samples)");
  require(!velocity || (velocity->shape(0) == n && int64_t(velocity->shape(1)) == kernel.parameters()),
          "velocity must be (n, parameters)");
  require_aligned(weights, words, status, learned, peak, clock, correlator, histogram);
  if (normals) require_aligned(*normals);
  if (factors) require_aligned(*factors);
  if (order) require_aligned(*order);
  if (velocity) require_aligned(*velocity);
  const Ensemble<T, Word> ensemble{int64_t(n),
                                   weights.data(),
                                   words.data(),
                                   status.data(),
                                   learned.data(),
                                   peak.data(),
                                   clock.data(),
                                   order ? order->data() : nullptr,
                                   velocity ? velocity->data() : nullptr};
  const Span span{
      from, until, passages, peaks, nullptr, normals ? normals->data() : nullptr, factors ? factors->data() : nullptr};
  const Counts counts{int(correlator.shape(2)), int(histogram.shape(1)) - 2, correlator.data(), histogram.data()};
  const Unlocked unlocked;
  kernel.advance(ensemble, span, counts, threads);
}

nb::object observe(const Kernel& kernel, Array<const double, 2> weights,  // (n, parameters)
                   double temperature, int threads) {
  require(int64_t(weights.shape(1)) == kernel.parameters(), "weights must be (n, parameters)");
  require_aligned(weights);
  double* out;
  auto table = fresh<double>({weights.shape(0), size_t(kernel.width())}, out);
  {
    const Unlocked unlocked;
    kernel.observe(weights.data(), int64_t(weights.shape(0)), temperature, out, threads);
  }
  return nb::cast(table);
}

nb::object peek(const Kernel& kernel, Array<double, 2> weights,  // (n, parameters)
                Array<double, 2> clock,                          // (n, 2)
                double at, int threads) {
  const size_t n = weights.shape(0);
  require(int64_t(weights.shape(1)) == kernel.parameters(), "weights must be (n, parameters)");
  require(clock.shape(0) == n && clock.shape(1) == 2, "clock must be (n, 2)");
  require_aligned(weights, clock);
  double* out;
  auto table = fresh<double>({n, size_t(kernel.parameters())}, out);
  {
    const Unlocked unlocked;
    kernel.peek(weights.data(), clock.data(), int64_t(n), at, out, threads);
  }
  return nb::cast(table);
}

template <class T, class Word>
void bind_advance(nb::class_<Kernel>& kernel) {
  kernel.def("advance", &advance<T, Word>, "weights"_a.noconvert(), "words"_a.noconvert(), "status"_a.noconvert(),
             "learned"_a.noconvert(), "peak"_a.noconvert(), "clock"_a.noconvert(), "correlator"_a.noconvert(),
             "histogram"_a.noconvert(), "start"_a, "until"_a, "passages"_a, "peaks"_a, "threads"_a,
             "normals"_a.none() = nb::none(), "factors"_a.none() = nb::none(),
             "order"_a.noconvert().none() = nb::none(), "velocity"_a.noconvert().none() = nb::none());
}

}  // namespace

void bind_networks(nb::module_& m) {
  nb::class_<Kernel> kernel(m, "Kernel");
  kernel.def("__init__", &make, "network"_a, "shapes"_a, "strengths"_a, "block"_a, "rank"_a, "root"_a, "label_noise"_a,
             "source"_a, "lr"_a, "dt"_a, "batch"_a, "weight_decay"_a, "order"_a, "gradient_noise"_a = nb::none(),
             "momentum"_a = 0.0, "instruction_set"_a = "auto", "route"_a = "auto");
  bind_advance<float, uint32_t>(kernel);
  bind_advance<double, uint64_t>(kernel);
  kernel.def("accumulate", &Kernel::accumulate, "low"_a, "high"_a, "start"_a, "every"_a)
      .def("use_samples", &use_samples, "rows"_a, "factor"_a, "sampling"_a, "share"_a = 1.0)
      .def("observe", &observe, "weights"_a, "temperature"_a, "threads"_a = 1)
      .def("peek", &peek, "weights"_a, "clock"_a, "at"_a, "threads"_a = 1)
      .def_prop_ro("columns", &Kernel::columns)
      .def_prop_ro("normals_per_step", &Kernel::normals_per_step)
      .def_prop_ro("instruction_set", &Kernel::instruction_set);
}

}  // namespace saddlescope
