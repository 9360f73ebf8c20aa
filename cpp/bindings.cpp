// The Python face of the kernels: checks shapes, releases the GIL, nothing else.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "dispatch.hpp"
#include "routes.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace saddlescope {
namespace {

template <class T, size_t D>
using Array = nb::ndarray<T, nb::ndim<D>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

// Lets other Python threads run. Where the interpreter ends meanwhile, CPython before 3.14 unwinds a thread that wants
// to return to it, which frames of C++ do not allow: the thread waits for the end of the process instead.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

// Arrays in use: NumPy also hands out views of odd addresses.
template <class... Arrays>
void require_aligned(const Arrays&... arrays) {
  const auto aligned = [](const auto& a) {
    return a.size() == 0 || reinterpret_cast<uintptr_t>(a.data()) % a.itemsize() == 0;
  };
  require((aligned(arrays) && ...), "arrays must be aligned to their numbers; copy them");
}

bool finite(const std::vector<double>& values) {
  for (double value : values)
    if (!std::isfinite(value)) return false;
  return true;
}

template <class T>
nb::ndarray<nb::numpy, T> fresh(std::initializer_list<size_t> shape, T*& data) {
  size_t size = 1;
  for (size_t extent : shape)
    if (__builtin_mul_overflow(size, extent, &size)) throw std::bad_alloc();
  data = new T[size]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::ndarray<nb::numpy, T>(data, shape, owner);
}

template <class T>
const auto& family_of(const Kernels& set) {
  if constexpr (sizeof(T) == 4)
    return set.single;
  else
    return set.dual;
}

Source source_of(const std::string& name) {
  const char* names[] = {"flow", "gd", "sgd", "gradient", "aligned", "isotropic"};
  for (int i = 0; i < 6; ++i)
    if (name == names[i]) return Source(i);
  throw std::invalid_argument("source must be flow, gd, sgd, gradient, aligned or isotropic, got '" + name + "'");
}

// Time and step of gradient flow's integrator.
void require_clock(const double* clock, size_t n) {
  for (size_t i = 0; i < 2 * n; ++i)
    require(clock[i] >= 0 && std::isfinite(clock[i]), "clock must be finite and not negative");
}

Sampling sampling_of(const std::string& name) {
  const char* names[] = {"replacement", "without", "shuffle", "full"};
  for (int i = 0; i < 4; ++i)
    if (name == names[i]) return Sampling(i);
  throw std::invalid_argument("sampling must be replacement, without, shuffle or full, got '" + name + "'");
}

using Shapes = std::vector<std::pair<int, int>>;           // rows and columns of every layer, first to last
using GradientNoise = std::tuple<double, double, double>;  // alpha, offset, floor

// Widths from input to output: those of a deep linear network are in its shapes, a diagonal one has one input and one
// output.
std::vector<int> widths_of(const std::string& network, const Shapes& shapes) {
  require(network == "deep_linear" || network == "diagonal",
          "network must be deep_linear or diagonal, got '" + network + "'");
  require(shapes.size() >= 1 && shapes.size() <= 256, "shapes must hold 1 to 256 layers");
  for (const auto& [rows, columns] : shapes)
    require(rows >= 1 && columns >= 1, "every layer must have at least 1 row and 1 column");
  if (network == "diagonal") {
    for (const auto& shape : shapes)
      require(shape == std::pair(shapes[0].first, 1), "the layers of a diagonal network must all be (width, 1)");
    return std::vector<int>(shapes.size() + 1, 1);
  }
  std::vector<int> widths = {shapes[0].second};
  for (const auto& [rows, columns] : shapes) {
    require(columns == widths.back(), "a layer must have as many columns as the one before it has rows");
    widths.push_back(rows);
  }
  return widths;
}

// One network under one method.
class Kernel {
 public:
  Kernel(const std::string& network, const Shapes& shapes, std::vector<double> strengths, std::vector<int> block,
         int rank, std::vector<double> root, double label_noise, const std::string& source, double lr, double dt,
         double batch, double weight_decay, int order, std::optional<GradientNoise> gradient_noise,
         const std::string& instruction_set, const std::string& route)
      : widths_(widths_of(network, shapes)),
        strengths_(std::move(strengths)),
        block_(std::move(block)),
        root_(std::move(root)),
        kernels_(kernels(instruction_set)),
        method_{source_of(source), lr, dt, batch, weight_decay, order},
        route_(route) {
    require(route == "auto" || route == "lanes" || route == "one by one",
            "route must be auto, lanes or one by one, got '" + route + "'");
    const int dx = widths_.front(), dy = widths_.back(), modes = dx < dy ? dx : dy;
    require(strengths_.size() == size_t(modes) && block_.size() == size_t(modes),
            "strengths and block must have min(dx, dy) entries");
    require(rank >= 1 && rank <= dx && (root_.empty() ? rank == dx : root_.size() == size_t(dx) * size_t(rank)),
            "root must be dx × rank, or empty with rank = dx");
    for (size_t i = 0; i < block_.size(); ++i)
      require(block_[i] >= 0 && block_[i] <= int(i), "block must name the first mode of each block");
    require(finite(strengths_) && finite(root_), "strengths and root must be finite");
    require(label_noise >= 0 && std::isfinite(label_noise), "label_noise must be finite and not negative");
    require(lr > 0 && dt > 0 && batch > 0 && std::isfinite(lr) && std::isfinite(dt),
            "lr, dt and batch must be positive, lr and dt finite");
    require(weight_decay >= 0 && std::isfinite(weight_decay), "weight_decay must be finite and not negative");
    require(order == 1 || (order == 2 && method_.source >= Source::gradient),
            "order must be 1, or 2 for gradient, aligned and isotropic");
    require(method_.source != Source::sgd || (batch == std::floor(batch) && batch <= 0x1p53),
            "batch must be a whole number of at most 2^53 for sgd");
    for (const auto& [rows, columns] : shapes)
      require(!__builtin_add_overflow(parameters_, int64_t(rows) * columns, &parameters_),
              "shapes make more weights than can be counted");
    problem_ = {int(widths_.size()) - 1,
                widths_.data(),
                modes,
                strengths_.data(),
                block_.data(),
                rank,
                root_.empty() ? nullptr : root_.data(),
                label_noise};
    const bool diagonal = network == "diagonal";
    require(diagonal == gradient_noise.has_value(), "gradient_noise is for a diagonal network, which needs it");
    if (diagonal) {
      std::tie(problem_.alpha, problem_.offset, problem_.floor) = *gradient_noise;
      require(problem_.alpha >= 0 && problem_.floor >= 0 && std::isfinite(problem_.alpha + problem_.floor) &&
                  std::isfinite(problem_.offset),
              "alpha and floor must be finite and not negative, offset finite");
      problem_.chains = shapes[0].first;
    }
    moving_ = problem_;
  }
  Kernel(const Kernel&) = delete;

  // Takes a data set: rows (n, columns + dy) of inputs and residuals, and the factor Fᵀ (k, q) of their fourth moments
  // (or none).
  void use_samples(Array<const double, 2> rows, Array<const double, 2> factor, const std::string& how) {
    const int dy = widths_.back(), dx = widths_.front();
    const int64_t n = int64_t(rows.shape(0)), columns = int64_t(rows.shape(1)) - dy;
    require(n >= 1, "rows must hold a sample");
    require(rows.size() <= size_t(std::numeric_limits<int32_t>::max()), "rows must hold at most 2147483647 numbers");
    const Sampling sampling = sampling_of(how);
    const bool batches = method_.source == Source::sgd && sampling != Sampling::full;
    require(columns == (batches ? dx : problem_.rank), "rows must be (n, columns + dy), columns dx or the rank");
    const int64_t r = problem_.rank, moments = int64_t(factor.shape(1));
    require(factor.shape(0) == 0 || moments == r * (r + 1) / 2 || moments == r * (r + 1) / 2 + r * dy,
            "factor must have a column for each entry of a triangle, and one for each of K or none");
    require(!batches || sampling == Sampling::replacement || method_.batch <= double(n),
            "batch must not be larger than the data set");
    require(method_.source != Source::isotropic, "isotropic noise needs Gaussian data");
    require_aligned(rows, factor);
    rows_.assign(rows.data(), rows.data() + rows.size());
    factor_.assign(factor.data(), factor.data() + factor.size());
    require(finite(rows_) && finite(factor_), "rows and factor must be finite");
    single_rows_.assign(rows_.begin(), rows_.end());
    single_factor_.assign(factor_.begin(), factor_.end());
    samples_ = {n,
                int(columns),
                {single_rows_.data(), rows_.data()},
                moments,
                int64_t(factor.shape(0)),
                {single_factor_.data(), factor_.data()}};
    method_.sampling = sampling;
    moving_.samples = &samples_;
    if (batches) moving_.root = nullptr, moving_.rank = dx;
  }

  template <class T, class Word>
  void advance(Array<T, 2> weights, Array<Word, 2> words, Array<int64_t, 1> status, Array<double, 3> learned,
               Array<double, 3> peak, Array<double, 2> clock, Array<double, 4> correlator, Array<int64_t, 2> histogram,
               int64_t from, int64_t until, bool passages, bool peaks, int threads,
               std::optional<Array<const T, 3>> normals, std::optional<Array<const double, 1>> factors,
               std::optional<Array<int32_t, 2>> order) const {
    const size_t n = weights.shape(0), m = strengths_.size();
    require(int64_t(weights.shape(1)) == parameters_, "weights must be (n, parameters)");
    require(words.shape(0) == n && words.shape(1) == 4, "words must be (n, 4)");
    require(status.shape(0) == n, "status must be (n,)");
    require(learned.shape(0) == n && learned.shape(1) == size_t(kThresholds) && learned.shape(2) == m,
            "learned must be (n, thresholds, modes)");
    require(peak.shape(0) == n && peak.shape(1) == 4 && peak.shape(2) == m, "peak must be (n, 4, modes)");
    require(clock.shape(0) == n && clock.shape(1) == 2, "clock must be (n, 2)");
    require(0 <= from && from <= until, "until must not lie before the state's step");
    require(!peaks || sizeof(T) == 8 || until <= std::numeric_limits<int32_t>::max(),
            "noise peaks in float32 are followed for at most 2147483647 steps");
    require(sizeof(T) == 8 || method_.source != Source::flow, "gradient flow takes float64 only");
    require(threads >= 1, "threads must be at least 1");
    require(correlator.shape(0) == n && correlator.shape(1) == m && correlator.shape(3) == size_t(kTallyRow) &&
                (correlator.shape(2) == 0 || tally_.every > 0),
            "correlator must be (n, modes, levels, 34), with no levels unless accumulate was called");
    require(histogram.shape(0) == m && (correlator.shape(2) == 0 || histogram.shape(1) >= 3),
            "histogram must be (modes, bins + 2)");
    Tally tally = tally_;
    tally.levels = int(correlator.shape(2));
    tally.bins = int(histogram.shape(1)) - 2;
    tally.correlator = correlator.data();
    tally.histogram = histogram.data();
    require(tally.levels == 0 || (method_.source != Source::flow && passages),
            "accumulate takes a discrete method that looks for passages");
    require(tally.levels == 0 || std::isfinite(tally.bins / (tally.high - tally.low)), "high is too near low");
    require(!factors || factors->shape(0) == size_t(until - from) + 1, "factors must be (until - start + 1,)");
    const Span span{from,
                    until,
                    passages,
                    peaks,
                    tally.levels > 0 ? &tally : nullptr,
                    normals ? normals->data() : nullptr,
                    factors ? factors->data() : nullptr};
    if (normals)
      require(normals->shape(0) == n && normals->shape(1) == size_t(until - from) &&
                  int64_t(normals->shape(2)) == normals_per_step(),
              "normals must be (n, steps, normals per step)");
    require_aligned(weights, words, status, learned, peak, clock, correlator, histogram);
    if (normals) require_aligned(*normals);
    if (factors) require_aligned(*factors);
    if (method_.source == Source::flow) require_clock(clock.data(), n);
    if (order) require_aligned(*order);
    const bool ordered = method_.sampling == Sampling::without || method_.sampling == Sampling::shuffle;
    require(!ordered || (order && order->shape(0) == n && order->shape(1) == size_t(samples_.count)),
            "order must be (n, samples)");
    bool valid = true;
    for (size_t i = 0; ordered && i < order->size(); ++i)
      valid &= 0 <= order->data()[i] && order->data()[i] < samples_.count;
    require(valid, "order must hold indices of samples");
    require(!moving_.samples || !peaks, "noise peaks need Gaussian data");
    const Ensemble<T, Word> ensemble{int64_t(n),     weights.data(), words.data(), status.data(),
                                     learned.data(), peak.data(),    clock.data(), ordered ? order->data() : nullptr};
    const Unlocked unlocked;
    run(ensemble, span, threads);
  }

  // What stands in the columns of `observe`, in order: name and shape of each observable; none of a diagonal network.
  std::vector<std::pair<std::string, std::vector<int64_t>>> columns() const {
    std::vector<std::pair<std::string, std::vector<int64_t>>> all;
    const int64_t depth = problem_.depth, modes = problem_.modes;
    if (!problem_.chains)
      for (int i = 0; i < kernels_.observer.observables; ++i) {
        const Observable one = kernels_.observer.observable(i);
        std::vector<int64_t> shape;
        if (one.axis == Axis::layers) shape.push_back(depth);
        if (one.axis == Axis::pairs) shape.push_back(depth - 1);
        if (one.axis == Axis::modes || one.axis == Axis::layers) shape.push_back(modes);
        all.emplace_back(one.name, shape);
      }
    return all;
  }

  nb::object observe(Array<const double, 2> weights, double temperature, int threads) const {
    require(!problem_.chains, "the kernel does not observe a diagonal network");
    require(int64_t(weights.shape(1)) == parameters_, "weights must be (n, parameters)");
    require(threads >= 1, "threads must be at least 1");
    require_aligned(weights);
    const int64_t n = int64_t(weights.shape(0));
    double* out;
    auto table = fresh<double>({size_t(n), size_t(kernels_.observer.width(problem_))}, out);
    {
      const Unlocked unlocked;
      for_blocks(n, kernels_.observer.lanes, kernels_.observer.scratch(problem_), threads,
                 [&](int64_t first, void* scratch) {
                   kernels_.observer.observe(problem_, temperature, weights.data(), n, first, out, scratch);
                 });
    }
    return nb::cast(table);
  }

  // Gradient flow: the weights at time `at`, from the integrator's own points in weights and clock.
  nb::object peek(Array<double, 2> weights, Array<double, 2> clock, double at, int threads) const {
    const size_t n = weights.shape(0);
    require(int64_t(weights.shape(1)) == parameters_, "weights must be (n, parameters)");
    require(clock.shape(0) == n && clock.shape(1) == 2, "clock must be (n, 2)");
    require(std::isfinite(at), "at must be finite");
    require(threads >= 1, "threads must be at least 1");
    require_aligned(weights, clock);
    require_clock(clock.data(), n);
    double* out;
    auto table = fresh<double>({n, size_t(parameters_)}, out);
    Ensemble<double, uint64_t> ensemble{};
    ensemble.count = int64_t(n);
    ensemble.weights = weights.data();
    ensemble.clock = clock.data();
    {
      const Unlocked unlocked;
      for_blocks(int64_t(n), kernels_.dual.lanes, flow().scratch(problem_), threads, [&](int64_t first, void* scratch) {
        flow().peek(problem_, method_, ensemble, at, out, first, scratch);
      });
    }
    return nb::cast(table);
  }

  // Count mode strengths from step `start` on at every `every`-th step, in bins from low to high.
  void accumulate(double low, double high, int64_t start, int64_t every) {
    require(std::isfinite(low) && high > low && std::isfinite(high - low), "high must lie above low, both finite");
    require(start >= 0 && every >= 1, "start must be at least 0 and every at least 1");
    tally_ = {start, every, low, high, 0, 0, nullptr, nullptr};
  }

  // Standard normals one Langevin step takes.
  int64_t normals_per_step() const { return saddlescope::normals_per_step(moving_, method_); }

  std::string instruction_set() const { return kernels_.name; }

 private:
  const Flow& flow() const { return problem_.chains ? kernels_.diagonal_flow : kernels_.flow; }

  template <class T, class Word>
  void run(const Ensemble<T, Word>& ensemble, const Span& span, int threads) const {
    if constexpr (sizeof(T) == 8) {
      if (method_.source == Source::flow) {
        for_blocks(ensemble.count, kernels_.dual.lanes, flow().scratch(problem_), threads,
                   [&](int64_t first, void* scratch) {
                     flow().advance(problem_, method_, ensemble, span.from, span.until, first, scratch);
                   });
        return;
      }
    }
    const KernelSet<T, Word>& set = family_of<T>(kernels_);
    if (moving_.chains) {
      for_blocks(ensemble.count, set.lanes, set.scratch_diagonal(moving_, method_, span), threads,
                 [&](int64_t first, void* scratch) {
                   set.advance_diagonal(moving_, method_, ensemble, span, first, scratch);
                 });
      return;
    }
    if (route_ == "one by one" ||
        (route_ == "auto" && one_by_one(moving_, method_, span.passages, ensemble.count, set.lanes, threads))) {
      const int group = group_size(ensemble.count, set.lanes, threads);
      for_blocks(ensemble.count, group, set.scratch_one_by_one(moving_, method_, span, group), threads,
                 [&](int64_t first, void* scratch) {
                   set.advance_one_by_one(moving_, method_, ensemble, span, first, group, scratch);
                 });
      return;
    }
    for_blocks(ensemble.count, set.lanes, set.scratch(moving_, method_, span), threads,
               [&](int64_t first, void* scratch) { set.advance(moving_, method_, ensemble, span, first, scratch); });
  }

  std::vector<int> widths_;
  std::vector<double> strengths_;
  std::vector<int> block_;
  std::vector<double> root_;
  const Kernels& kernels_;
  Method method_;
  std::string route_;
  Problem problem_{}, moving_{};  // as observed; as the method sees it
  Samples samples_{};
  std::vector<double> rows_, factor_;
  std::vector<float> single_rows_, single_factor_;
  Tally tally_{};
  int64_t parameters_ = 0;
};

// What `work` draws of every stream into its row of an array (n, columns), or (n) if there are none.
template <class T, class Out, class Word, class Work>
nb::object drawn(Array<Word, 2> words, std::optional<size_t> columns, const std::string& instruction_set, Work work) {
  require(words.shape(1) == 4, "words must be (n, 4)");
  require_aligned(words);
  const size_t n = words.shape(0);
  Out* out;
  auto rows = columns ? fresh<Out>({n, *columns}, out) : fresh<Out>({n}, out);
  const auto& family = family_of<T>(kernels(instruction_set));
  for (size_t first = 0; first < n; first += size_t(family.lanes)) work(family, int64_t(n), int64_t(first), out);
  return nb::cast(rows);
}

template <class T, class Word>
nb::object normals(Array<Word, 2> words, size_t count, const std::string& instruction_set) {
  return drawn<T, T>(words, count, instruction_set, [&](const auto& family, int64_t n, int64_t first, T* out) {
    family.normals(words.data(), n, first, int64_t(count), out);
  });
}

template <class T, class Word>
nb::object chi(Array<Word, 2> words, int64_t degrees, const std::string& instruction_set) {
  require(degrees >= 1, "degrees must be at least 1");
  return drawn<T, T>(words, {}, instruction_set, [&](const auto& family, int64_t n, int64_t first, T* out) {
    family.chi(words.data(), n, first, degrees, out);
  });
}

template <class T, class Word>
nb::object below(Array<Word, 2> words, int32_t bound, const std::string& instruction_set) {
  require(bound >= 1, "bound must be at least 1");
  return drawn<T, int32_t>(words, {}, instruction_set, [&](const auto& family, int64_t n, int64_t first, int32_t* out) {
    family.below(words.data(), n, first, bound, out);
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
  return rate<T>(family_of<T>(kernels(instruction_set)).multiply_adds, milliseconds);
}

template <class T>
double normal_rate(double milliseconds, const std::string& instruction_set) {
  return rate<T>(family_of<T>(kernels(instruction_set)).fresh_normals, milliseconds);
}

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
  const auto& family = family_of<T>(kernels(instruction_set));
  {
    const Unlocked unlocked;
    for_blocks(int64_t(n), family.walkers, 0, threads,
               [&](int64_t first, void*) { family.euler(mode, dt, walks, first); });
  }
  return nb::cast(seen);
}

}  // namespace
}  // namespace saddlescope

NB_MODULE(_kernel, m) {
  nb::set_leak_warnings(false);  // a daemon thread holds its kernel to the end of the process
  using namespace saddlescope;
  m.doc() = "Compiled kernels; saddlescope.engines.native is their interface.";
  m.attr("jacobi_modes") = kJacobiModes;
  m.attr("thresholds") = nb::make_tuple(kThreshold[0], kThreshold[1]);
  m.def("instruction_sets", &instruction_sets);
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
  m.def("mode_ensemble", &mode_ensemble, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "tolerance"_a, "start"_a, "times"_a, "levels"_a, "words"_a, "threads"_a = 1,
        "instruction_set"_a = "auto");
  m.def("mode_euler", &mode_euler<float, uint32_t>, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "dt"_a, "start"_a, "steps"_a, "words"_a.noconvert(), "threads"_a = 1,
        "instruction_set"_a = "auto");
  m.def("mode_euler", &mode_euler<double, uint64_t>, "depth"_a, "alpha"_a, "center"_a, "floor"_a, "beta1"_a, "beta2"_a,
        "temperature"_a, "decay"_a, "dt"_a, "start"_a, "steps"_a, "words"_a.noconvert(), "threads"_a = 1,
        "instruction_set"_a = "auto");
  nb::class_<Kernel>(m, "Kernel")
      .def(nb::init<const std::string&, const Shapes&, std::vector<double>, std::vector<int>, int, std::vector<double>,
                    double, const std::string&, double, double, double, double, int, std::optional<GradientNoise>,
                    const std::string&, const std::string&>(),
           "network"_a, "shapes"_a, "strengths"_a, "block"_a, "rank"_a, "root"_a, "label_noise"_a, "source"_a, "lr"_a,
           "dt"_a, "batch"_a, "weight_decay"_a, "order"_a, "gradient_noise"_a = nb::none(),
           "instruction_set"_a = "auto", "route"_a = "auto")
      .def("advance", &Kernel::advance<float, uint32_t>, "weights"_a.noconvert(), "words"_a.noconvert(),
           "status"_a.noconvert(), "learned"_a.noconvert(), "peak"_a.noconvert(), "clock"_a.noconvert(),
           "correlator"_a.noconvert(), "histogram"_a.noconvert(), "start"_a, "until"_a, "passages"_a, "peaks"_a,
           "threads"_a, "normals"_a.none() = nb::none(), "factors"_a.none() = nb::none(),
           "order"_a.noconvert().none() = nb::none())
      .def("advance", &Kernel::advance<double, uint64_t>, "weights"_a.noconvert(), "words"_a.noconvert(),
           "status"_a.noconvert(), "learned"_a.noconvert(), "peak"_a.noconvert(), "clock"_a.noconvert(),
           "correlator"_a.noconvert(), "histogram"_a.noconvert(), "start"_a, "until"_a, "passages"_a, "peaks"_a,
           "threads"_a, "normals"_a.none() = nb::none(), "factors"_a.none() = nb::none(),
           "order"_a.noconvert().none() = nb::none())
      .def("accumulate", &Kernel::accumulate, "low"_a, "high"_a, "start"_a, "every"_a)
      .def("use_samples", &Kernel::use_samples, "rows"_a, "factor"_a, "sampling"_a)
      .def("observe", &Kernel::observe, "weights"_a, "temperature"_a, "threads"_a = 1)
      .def("peek", &Kernel::peek, "weights"_a, "clock"_a, "at"_a, "threads"_a = 1)
      .def_prop_ro("columns", &Kernel::columns)
      .def_prop_ro("normals_per_step", &Kernel::normals_per_step)
      .def_prop_ro("instruction_set", &Kernel::instruction_set);
}
