#include "ensemble.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "routes.hpp"

namespace saddlescope {

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

namespace {

bool finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

const NetworkKernels& network_of(const Kernels& kernels, const std::string& name) {
  std::string names;
  for (const NetworkKernels& network : kernels.networks) {
    if (name == network.name) return network;
    names += std::string(names.empty() ? "" : " or ") + network.name;
  }
  throw std::invalid_argument("network must be " + names + ", got '" + name + "'");
}

void require_layers(const std::vector<Shape>& shapes) {
  require(shapes.size() >= 1 && shapes.size() <= size_t(kMaxDepth),
          "shapes must hold 1 to " + std::to_string(kMaxDepth) + " layers");
  for (const auto& [rows, columns] : shapes)
    require(rows >= 1 && columns >= 1, "every layer must have at least 1 row and 1 column");
}

int64_t parameters_of(const std::vector<Shape>& shapes) {
  int64_t count = 0;
  for (const auto& [rows, columns] : shapes)
    require(!__builtin_add_overflow(count, int64_t(rows) * columns, &count),
            "shapes make more weights than can be counted");
  return count;
}

void require_problem(const Description& given, const Problem& problem) {
  const size_t modes = size_t(problem.modes), dx = size_t(problem.dx);
  require(given.strengths.size() == modes && given.block.size() == modes,
          "strengths and block must have min(dx, dy) entries");
  require(given.rank >= 1 && given.rank <= problem.dx &&
              (given.root.empty() ? given.rank == problem.dx : given.root.size() == dx * size_t(given.rank)),
          "root must be dx × rank, or empty with rank = dx");
  for (size_t i = 0; i < modes; ++i)
    require(given.block[i] >= 0 && given.block[i] <= int(i), "block must name the first mode of each block");
  require(finite(given.strengths) && finite(given.root), "strengths and root must be finite");
  require(given.label_noise >= 0 && std::isfinite(given.label_noise), "label_noise must be finite and not negative");
}

void require_method(const Method& method) {
  require(method.lr > 0 && method.dt > 0 && method.batch > 0 && std::isfinite(method.lr) && std::isfinite(method.dt),
          "lr, dt and batch must be positive, lr and dt finite");
  require(method.decay >= 0 && std::isfinite(method.decay), "weight_decay must be finite and not negative");
  require(method.order == 1 || (method.order == 2 && method.source >= Source::gradient),
          "order must be 1, or 2 for gradient, aligned and isotropic");
  require(method.source != Source::sgd || (method.batch == std::floor(method.batch) && method.batch <= 0x1p53),
          "batch must be a whole number of at most 2^53 for sgd");
  require(0 <= method.momentum && method.momentum < 1, "momentum must be at least 0 and below 1");
  require(method.momentum == 0 || method.source == Source::gd || method.source == Source::sgd,
          "momentum is for gd and sgd");
}

void require_gradient_noise(const Problem& problem) {
  require(problem.alpha >= 0 && problem.floor >= 0 && std::isfinite(problem.alpha + problem.floor) &&
              std::isfinite(problem.offset),
          "alpha and floor must be finite and not negative, offset finite");
}

// Time and step of gradient flow's integrator, clock (n, 2).
void require_clock(const double* clock, int64_t n) {
  for (int64_t i = 0; i < 2 * n; ++i)
    require(clock[i] >= 0 && std::isfinite(clock[i]), "clock must be finite and not negative");
}

}  // namespace

Kernel::Kernel(Description description)
    : given_(std::move(description)),
      kernels_(kernels(given_.instruction_set)),
      network_(&network_of(kernels_, given_.network)),
      method_(given_.method) {
  require_layers(given_.shapes);
  problem_.depth = int(given_.shapes.size());
  problem_.shapes = given_.shapes.data();
  const char* wrong = network_->take_shapes(problem_);
  require(!wrong, wrong ? wrong : "");
  problem_.modes = std::min(problem_.dx, problem_.dy);
  require_problem(given_, problem_);
  require_method(method_);
  parameters_ = parameters_of(given_.shapes);
  problem_.strengths = given_.strengths.data();
  problem_.block = given_.block.data();
  problem_.rank = given_.rank;
  problem_.root = given_.root.empty() ? nullptr : given_.root.data();
  problem_.label_noise = given_.label_noise;
  require(network_->gradient_noise == given_.gradient_noise.has_value(),
          "gradient_noise is for a diagonal network, which needs it");
  if (given_.gradient_noise) {
    const auto [alpha, offset, floor] = *given_.gradient_noise;
    problem_.alpha = alpha, problem_.offset = offset, problem_.floor = floor;
    require_gradient_noise(problem_);
  }
  stepped_ = problem_;
}

void Kernel::use_samples(const double* rows, int64_t n, int64_t columns, const double* factor, int64_t k, int64_t q,
                         Sampling sampling, double share) {
  const int64_t dx = problem_.dx, dy = problem_.dy, r = problem_.rank;
  require(n >= 1, "rows must hold a sample");
  int64_t size = 0;
  require(!__builtin_mul_overflow(n, columns + dy, &size) && size <= std::numeric_limits<int32_t>::max(),
          "rows must hold at most 2147483647 numbers");
  const bool batches = method_.source == Source::sgd && sampling != Sampling::full;
  require(columns == (batches ? dx : r), "rows must be (n, columns + dy), columns dx or the rank");
  require(k == 0 || q == r * (r + 1) / 2 || q == r * (r + 1) / 2 + r * dy,
          "factor must have a column for each entry of a triangle, and one for each of K or none");
  require(!batches || sampling == Sampling::replacement || method_.batch <= double(n),
          "batch must not be larger than the data set");
  require(share >= 0 && share <= 1, "share must be 0 to 1");
  rows_.assign(rows, rows + size);
  factor_.assign(factor, factor + k * q);
  require(finite(rows_) && finite(factor_), "rows and factor must be finite");
  rows32_.assign(rows_.begin(), rows_.end());
  factor32_.assign(factor_.begin(), factor_.end());
  samples_ = {n, int(columns), {rows32_.data(), rows_.data()}, q, k, {factor32_.data(), factor_.data()}, share};
  method_.sampling = sampling;
  stepped_.samples = &samples_;
  if (batches) stepped_.root = nullptr, stepped_.rank = problem_.dx;
}

void Kernel::accumulate(double low, double high, int64_t start, int64_t every) {
  require(std::isfinite(low) && high > low && std::isfinite(high - low), "high must lie above low, both finite");
  require(start >= 0 && every >= 1, "start must be at least 0 and every at least 1");
  accumulation_ = {start, every, low, high, 0, 0, nullptr, nullptr};
}

template <class T, class Word>
void Kernel::check(const Ensemble<T, Word>& ensemble, const Span& span, int threads) const {
  require(0 <= span.from && span.from <= span.until, "until must not lie before the state's step");
  require(!span.peaks || sizeof(T) == 8 || span.until <= std::numeric_limits<int32_t>::max(),
          "noise peaks in float32 are followed for at most 2147483647 steps");
  require(sizeof(T) == 8 || method_.source != Source::flow, "gradient flow takes float64 only");
  require(threads >= 1, "threads must be at least 1");
  require(method_.momentum == 0 || ensemble.velocity || ensemble.count == 0, "momentum needs velocity (n, parameters)");
  if (method_.source == Source::flow) require_clock(ensemble.clock, ensemble.count);
  if (const Accumulation* wanted = span.accumulation) {
    require(wanted->every > 0, "the correlator must have no levels unless accumulate was called");
    require(method_.source != Source::flow && span.passages,
            "accumulate takes a discrete method that looks for passages");
    require(wanted->bins >= 1, "histogram must be (modes, bins + 2)");
    require(std::isfinite(wanted->bins / (wanted->high - wanted->low)), "high is too near low");
  }
  const bool ordered = method_.sampling == Sampling::without || method_.sampling == Sampling::shuffle;
  require(!ordered || ensemble.order || ensemble.count == 0, "order must be (n, samples)");
  bool valid = true;
  for (int64_t i = 0; ordered && i < ensemble.count * samples_.count; ++i)
    valid &= 0 <= ensemble.order[i] && ensemble.order[i] < samples_.count;
  require(valid, "order must hold indices of samples");
}

template <class T, class Word>
void Kernel::advance(Ensemble<T, Word> ensemble, Span span, const Counts& counts, int threads) const {
  Accumulation accumulation = accumulation_;
  accumulation.levels = counts.levels;
  accumulation.bins = counts.bins;
  accumulation.correlator = counts.correlator;
  accumulation.histogram = counts.histogram;
  if (counts.levels > 0) span.accumulation = &accumulation;
  if (method_.sampling == Sampling::replacement || method_.sampling == Sampling::full) ensemble.order = nullptr;
  check(ensemble, span, threads);
  run(ensemble, span, threads);
}
template void Kernel::advance(Ensemble<float, uint32_t>, Span, const Counts&, int) const;
template void Kernel::advance(Ensemble<double, uint64_t>, Span, const Counts&, int) const;

template <class T, class Word>
void Kernel::run(const Ensemble<T, Word>& ensemble, const Span& span, int threads) const {
  const int lanes = of_type<T>(kernels_).lanes;
  if constexpr (sizeof(T) == 8)
    if (method_.source == Source::flow) {
      const Flow& flow = network_->flow;
      return for_blocks(ensemble.count, lanes, flow.scratch(problem_), threads, [&](int64_t first, void* scratch) {
        flow.advance(problem_, method_, ensemble, span.from, span.until, first, scratch);
      });
    }
  const Discrete<T, Word>& discrete = of_type<T>(*network_);
  const bool alone =
      discrete.advance_one_by_one && (given_.route == Route::one_by_one ||
                                      (given_.route == Route::automatic &&
                                       one_by_one(stepped_, method_, span.passages, ensemble.count, lanes, threads)));
  if (!alone)
    return for_blocks(
        ensemble.count, lanes, discrete.scratch(stepped_, method_, span), threads,
        [&](int64_t first, void* scratch) { discrete.advance(stepped_, method_, ensemble, span, first, scratch); });
  const int group = group_size(ensemble.count, lanes, threads);
  for_blocks(ensemble.count, group, discrete.scratch_one_by_one(stepped_, method_, span, group), threads,
             [&](int64_t first, void* scratch) {
               discrete.advance_one_by_one(stepped_, method_, ensemble, span, first, group, scratch);
             });
}

void Kernel::observe(const double* weights, int64_t n, double temperature, double* out, int threads) const {
  const Observer& observer = network_->observer;
  require(observer.observables > 0, std::string("the kernel does not observe a ") + network_->name + " network");
  require(threads >= 1, "threads must be at least 1");
  for_blocks(n, kernels_.float64.lanes, observer.scratch(problem_), threads, [&](int64_t first, void* scratch) {
    observer.observe(problem_, temperature, weights, n, first, out, scratch);
  });
}

void Kernel::peek(double* weights, double* clock, int64_t n, double at, double* out, int threads) const {
  require(std::isfinite(at), "at must be finite");
  require(threads >= 1, "threads must be at least 1");
  require_clock(clock, n);
  Ensemble<double, uint64_t> ensemble{};
  ensemble.count = n;
  ensemble.weights = weights;
  ensemble.clock = clock;
  const Flow& flow = network_->flow;
  for_blocks(n, kernels_.float64.lanes, flow.scratch(problem_), threads,
             [&](int64_t first, void* scratch) { flow.peek(problem_, method_, ensemble, at, out, first, scratch); });
}

std::vector<std::pair<std::string, std::vector<int64_t>>> Kernel::columns() const {
  std::vector<std::pair<std::string, std::vector<int64_t>>> all;
  const int64_t depth = problem_.depth, modes = problem_.modes;
  for (int i = 0; i < network_->observer.observables; ++i) {
    const auto [name, axis] = network_->observer.observable(i);
    std::vector<int64_t> shape;
    if (axis == Axis::layers) shape.push_back(depth);
    if (axis == Axis::pairs) shape.push_back(depth - 1);
    if (axis == Axis::modes || axis == Axis::layers) shape.push_back(modes);
    all.emplace_back(name, shape);
  }
  return all;
}

}  // namespace saddlescope
