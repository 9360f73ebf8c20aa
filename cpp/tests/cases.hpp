// Problems and ensembles in arrays of exactly their size, for the kernel of ensemble.hpp.
#pragma once

#include <cmath>
#include <limits>
#include <memory>

#include "check.hpp"
#include "ensemble.hpp"

namespace saddlescope::test {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A deep linear network on Gaussian data; `rank` of Σ below dx or any root at all makes the inputs coloured.
struct Case {
  std::string name;
  std::vector<int> widths;
  int rank = 0;  // 0: white inputs
  double label_noise = 0.5;
  bool equal_strengths = false;

  int chains = 0;       // of a diagonal network
  int64_t samples = 0;  // of a data set, white
  int64_t factors = 0;  // of its fourth moments

  std::vector<double> strengths, root, rows, factor;
  std::vector<int> block;

  Case(std::string n, std::vector<int> w, int r = 0, double noise = 0.5, bool equal = false)
      : name(std::move(n)), widths(std::move(w)), rank(r), label_noise(noise), equal_strengths(equal) {
    const int dx = widths.front(), modes = std::min(dx, widths.back());
    Numbers numbers;
    for (int a = 0; a < modes; ++a) {
      strengths.push_back(equal ? 1.0 : 2.0 * std::pow(0.6, a));
      block.push_back(equal ? 0 : a);
    }
    for (int i = 0; i < dx * rank; ++i) root.push_back((i / rank == i % rank) + 0.4 * numbers());
  }

  static Case diagonal(std::string name, int depth, int chains) {
    Case c(std::move(name), std::vector<int>(size_t(depth + 1), 1));
    c.chains = chains;
    return c;
  }
  static Case data_set(std::string name, std::vector<int> widths, int64_t samples, int64_t factors, double noise) {
    Case c(std::move(name), std::move(widths), 0, noise);
    c.samples = samples;
    c.factors = factors;
    Numbers numbers;
    for (int64_t i = 0; i < samples * (c.dx() + c.dy()); ++i) c.rows.push_back(2 * numbers());
    for (int64_t i = 0; i < c.moments() * factors; ++i) c.factor.push_back(numbers());
    return c;
  }

  int depth() const { return int(widths.size()) - 1; }
  int dx() const { return widths.front(); }
  int dy() const { return widths.back(); }
  int modes() const { return int(strengths.size()); }
  int64_t size(int l) const { return int64_t(widths[size_t(l)]) * widths[size_t(l) + 1]; }
  int64_t parameters() const {
    if (chains) return int64_t(depth()) * chains;
    int64_t count = 0;
    for (int l = 0; l < depth(); ++l) count += size(l);
    return count;
  }
  int64_t moments() const { return dx() * (dx() + 1) / 2 + dx() * dy(); }

  std::unique_ptr<Kernel> kernel(const std::string& set, const Method& method, Route route = Route::lanes) const {
    Description d;
    d.network = chains ? "diagonal" : "deep_linear";
    for (int l = 0; l < depth(); ++l)
      d.shapes.push_back(chains ? Shape{chains, 1} : Shape{widths[size_t(l) + 1], widths[size_t(l)]});
    d.strengths = strengths;
    d.block = block;
    d.rank = rank ? rank : dx();
    d.root = root;
    d.label_noise = label_noise;
    d.method = method;
    if (chains) d.gradient_noise = {2.0, 0.0, 0.3};
    d.instruction_set = set;
    d.route = route;
    auto made = std::make_unique<Kernel>(std::move(d));
    if (samples) made->use_samples(rows.data(), samples, dx(), factor.data(), factors, moments(), method.sampling);
    return made;
  }
};

inline Method method_of(Source source, double batch = 4, double lr = 0.01, double dt = 0.01, double decay = 0,
                        int order = 1) {
  Method method{};
  method.source = source;
  method.lr = lr;
  method.dt = dt;
  method.batch = batch;
  method.decay = decay;
  method.order = order;
  return method;
}

inline Method with_momentum(Method method, double momentum) {
  method.momentum = momentum;
  return method;
}

template <class T>
using WordOf = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

// Trajectories [first, first + n) of one large ensemble, each with its own weights and stream.
template <class T>
struct Arrays {
  using Word = WordOf<T>;
  int64_t n;
  std::vector<T> weights, velocity;
  std::vector<Word> words;
  std::vector<int64_t> status;
  std::vector<double> learned, peak, clock;
  std::vector<int32_t> order;

  Arrays(const Case& c, int64_t first, int64_t count, double scale = 0.5)
      : n(count),
        weights(size_t(count * c.parameters())),
        velocity(size_t(count * c.parameters()), T(0)),
        words(size_t(4 * count)),
        status(size_t(count)),
        learned(size_t(count * kThresholds * c.modes()), kInfinity),
        peak(size_t(count * 4 * c.modes()), std::nan("")),
        clock(size_t(2 * count)),
        order(size_t(count * c.samples)) {
    for (int64_t i = 0; i < count * c.samples; ++i) order[size_t(i)] = int32_t(i % c.samples);
    const size_t p = size_t(c.parameters());
    for (size_t i = 0; i < size_t(count); ++i) {
      const uint64_t key = uint64_t(first) + i + 1;
      Numbers numbers{key, key};
      for (int skip = 0; skip < 8; ++skip) numbers.word();
      for (size_t k = 0; k < p; ++k) weights[i * p + k] = T(scale * numbers());
      for (size_t k = 0; k < 4; ++k) words[4 * i + k] = Word(uint64_t(numbers.word()) << 32 | numbers.word());
      for (size_t a = 0; a < size_t(c.modes()); ++a) peak[(i * 4) * size_t(c.modes()) + a] = 0;
      clock[2 * i + 1] = 1e-3;
    }
  }
  Ensemble<T, Word> view() {
    Ensemble<T, Word> e{};
    e.count = n;
    e.weights = weights.data();
    e.words = words.data();
    e.status = status.data();
    e.learned = learned.data();
    e.peak = peak.data();
    e.clock = clock.data();
    e.order = order.data();
    e.velocity = velocity.data();
    return e;
  }
};

inline Span span_of(int64_t from, int64_t until, bool peaks = false, const void* normals = nullptr) {
  Span span{};
  span.from = from;
  span.until = until;
  span.passages = true;
  span.peaks = peaks;
  span.normals = normals;
  return span;
}

template <class T>
void advance(const Kernels& kernels, const Case& c, const Method& method, Arrays<T>& arrays, const Span& span,
             int threads = 1, Route route = Route::lanes, const Counts& counts = {}) {
  c.kernel(kernels.name, method, route)->advance(arrays.view(), span, counts, threads);
}

// Rows [from, from + count) of an array with one row per trajectory.
template <class E>
std::vector<E> rows(const std::vector<E>& all, int64_t n, int64_t from, int64_t count) {
  const auto width = int64_t(all.size()) / n;
  return {all.begin() + from * width, all.begin() + (from + count) * width};
}

template <class T>
bool same_rows(const Arrays<T>& whole, const Arrays<T>& part, int64_t from) {
  const auto same = [&](const auto& a, const auto& b) { return same_bits(rows(a, whole.n, from, part.n), b); };
  return same(whole.weights, part.weights) && same(whole.velocity, part.velocity) && same(whole.words, part.words) &&
         same(whole.status, part.status) && same(whole.learned, part.learned) && same(whole.peak, part.peak) &&
         same(whole.clock, part.clock) && (whole.order.empty() || same(whole.order, part.order));
}
template <class T>
bool same(const Arrays<T>& a, const Arrays<T>& b) {
  return a.n == b.n && same_rows(a, b, 0);
}

template <class Work>
void for_sets(Work work) {
  for (const std::string& name : instruction_sets()) work(kernels(name));
}

}  // namespace saddlescope::test
