// The kernel of every network, on every instruction set of this processor.
#include <algorithm>

#include "cases.hpp"

namespace saddlescope::test {
namespace {

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"one layer", {4, 3}},
      {"thin", {1, 1, 1}},
      {"thin, noiseless", {1, 1, 1, 1}, 0, 0.0},
      {"wide", {3, 7, 4}},
      {"tall", {2, 3, 9}},
      {"bottleneck", {6, 1, 5, 2}},
      {"deep", {2, 3, 1, 4, 2, 3, 5, 2, 3, 2}},
      {"equal strengths", {3, 5, 3}, 0, 0.5, true},
      {"coloured", {5, 6, 4}, 5},
      {"rank 2", {5, 6, 7, 4}, 2},
      {"rank 1, noiseless", {4, 3}, 1, 0.0},
      {"large", {11, 13, 12}},
  };
  return all;
}

// Where the map of layers is not the whole story: chains of numbers, and samples.
const std::vector<Case>& other_cases() {
  static const std::vector<Case> all = {
      Case::diagonal("diagonal", 3, 5),
      Case::diagonal("diagonal, one layer", 1, 1),
      Case::data_set("data set", {3, 4, 2}, 7, 0, 0.5),
      Case::data_set("data set, factor", {3, 5}, 70, 4, 0.5),
      Case::data_set("data set, noiseless", {2, 1, 3}, 64, 0, 0.0),
  };
  return all;
}

struct Named {
  const char* name;
  Method method;
};
const std::vector<Named>& methods() {
  static const std::vector<Named> all = {
      {"gd", method_of(Source::gd)},
      {"sgd 1", method_of(Source::sgd, 1)},
      {"sgd 3", method_of(Source::sgd, 3)},
      {"sgd 64", method_of(Source::sgd, 64)},
      {"sgd 2^40", method_of(Source::sgd, 0x1p40)},
      {"gradient", method_of(Source::gradient, 2.5, 0.01, 0.003)},
      {"aligned", method_of(Source::aligned)},
      {"isotropic", method_of(Source::isotropic)},
      {"gd, decay", method_of(Source::gd, 4, 0.01, 0.01, 0.5)},
      {"sgd 2, decay", method_of(Source::sgd, 2, 0.01, 0.01, 0.5)},
      {"gd, momentum", with_momentum(method_of(Source::gd), 0.9)},
      {"sgd 2, decay, momentum", with_momentum(method_of(Source::sgd, 2, 0.01, 0.01, 0.5), 0.9)},
      {"sgd 64, momentum", with_momentum(method_of(Source::sgd, 64), 0.5)},
      {"gradient, order 2", method_of(Source::gradient, 4, 0.01, 0.01, 0.5, 2)},
      {"isotropic, order 2", method_of(Source::isotropic, 4, 0.01, 0.01, 0, 2)},
  };
  return all;
}

std::vector<Named> methods_of(const Case& c) {
  if (!c.samples) return methods();
  std::vector<Named> all = {{"gd", method_of(Source::gd)},
                            {"gradient", method_of(Source::gradient)},
                            {"isotropic", method_of(Source::isotropic)}};
  for (Sampling sampling : {Sampling::replacement, Sampling::without, Sampling::shuffle, Sampling::full})
    for (double batch : {1.0, 5.0}) {
      for (double momentum : {0.0, 0.9}) {
        all.push_back({"sampled", with_momentum(method_of(Source::sgd, batch), momentum)});
        all.back().method.sampling = sampling;
      }
    }
  return all;
}

template <class T>
const char* type_name() {
  return sizeof(T) == 4 ? "float32" : "float64";
}
bool finite(const auto& values) {
  return std::all_of(values.begin(), values.end(), [](auto x) { return std::isfinite(x); });
}

// --- plain twins, one trajectory at a time

using Plain = std::vector<double>;
Plain product(const Plain& a, const Plain& b, int rows, int columns, int inner) {
  Plain c(size_t(rows * columns));
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      for (int k = 0; k < inner; ++k)
        c[size_t(i * columns + j)] += a[size_t(i * inner + k)] * b[size_t(k * columns + j)];
  return c;
}
Plain transposed(const Plain& a, int rows, int columns) {
  Plain c(a.size());
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) c[size_t(j * rows + i)] = a[size_t(i * columns + j)];
  return c;
}

struct Twin {
  const Case& c;
  std::vector<Plain> layers;

  template <class T>
  Twin(const Case& problem, const T* weights) : c(problem) {
    for (int l = 0; l < c.depth(); weights += c.size(l++)) layers.emplace_back(weights, weights + c.size(l));
  }

  // W_{stop−1} … W_start, the identity if there is none.
  Plain chain(int start, int stop) const {
    const int columns = c.widths[size_t(start)];
    Plain p(size_t(columns * columns));
    for (int i = 0; i < columns; ++i) p[size_t(i * columns + i)] = 1;
    for (int l = start; l < stop; ++l)
      p = product(layers[size_t(l)], p, c.widths[size_t(l) + 1], columns, c.widths[size_t(l)]);
    return p;
  }
  // Δ R
  Plain error() const {
    Plain p = chain(0, c.depth());
    for (int a = 0; a < c.modes(); ++a) p[size_t(a * c.dx() + a)] -= c.strengths[size_t(a)];
    return c.rank ? product(p, c.root, c.dy(), c.rank, c.dx()) : p;
  }
  double excess_loss() const {
    double sum = 0;
    for (double e : error()) sum += e * e / 2;
    return sum;
  }
  // W_l ← (1 − lr γ) W_l − lr W_{>l}ᵀ Δ Σ W_{<l}ᵀ
  Plain after_descent(double lr, double decay) const {
    Plain g = error(), out;
    if (c.rank) g = product(g, transposed(c.root, c.dx(), c.rank), c.dy(), c.dx(), c.rank);
    for (int l = 0; l < c.depth(); ++l) {
      const int rows = c.widths[size_t(l) + 1], columns = c.widths[size_t(l)];
      const Plain up = product(transposed(chain(l + 1, c.depth()), c.dy(), rows), g, rows, c.dx(), c.dy());
      const Plain slope = product(up, transposed(chain(0, l), columns, c.dx()), rows, columns, c.dx());
      for (size_t i = 0; i < slope.size(); ++i) out.push_back((1 - lr * decay) * layers[size_t(l)][i] - lr * slope[i]);
    }
    return out;
  }
};

template <class A, class B>
double distance(const A& a, const B& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::fmax(most, std::fabs(double(a[i]) - double(b[i])));
  return most;
}

// --- tests

// Runs with every method: the whole, its halves, the run cut in two and two threads are the same bits.
template <class T>
void invariance(const Kernels& kernels, const Case& c, const Named& m, bool peaks) {
  const int64_t lanes = of_type<T>(kernels).lanes, steps = 4;
  for (int64_t n : {int64_t(1), lanes - 1, 2 * lanes + 3}) {
    if (n < 1) continue;
    Arrays<T> whole(c, 0, n), cut(c, 0, n), threads(c, 0, n), still(c, 0, n);
    const Arrays<T> start = whole;
    advance(kernels, c, m.method, whole, span_of(0, steps, peaks));
    CHECK(finite(whole.weights));
    CHECK(std::count(whole.status.begin(), whole.status.end(), 0) == n);
    CHECK(!same_bits(whole.weights, start.weights));
    advance(kernels, c, m.method, cut, span_of(0, 1, peaks));
    advance(kernels, c, m.method, cut, span_of(1, steps, peaks));
    CHECK(same(whole, cut));
    advance(kernels, c, m.method, threads, span_of(0, steps, peaks), 2);
    CHECK(same(whole, threads));
    if (!c.chains) {
      Arrays<T> single(c, 0, n);
      advance(kernels, c, m.method, single, span_of(0, 1, peaks), 2, Route::one_by_one);
      advance(kernels, c, m.method, single, span_of(1, steps, peaks), 1, Route::one_by_one);
      CHECK(same(whole, single));
    }
    for (int64_t first : {int64_t(0), n / 2}) {
      Arrays<T> half(c, first, first ? n - first : n / 2);
      advance(kernels, c, m.method, half, span_of(0, steps, peaks));
      if (half.n) CHECK(same_rows(whole, half, first));
    }
    advance(kernels, c, m.method, still, span_of(3, 3));
    CHECK(same_bits(still.weights, start.weights) && same_bits(still.words, start.words));
  }
}

// Without noise every method takes the step of gradient descent, and that is the plain one.
template <class T>
void descent(const Kernels& kernels, const Case& c) {
  const double tolerance = sizeof(T) == 4 ? 2e-6 : 4e-15;
  const int64_t n = of_type<T>(kernels).lanes + 1;
  for (Source source : {Source::gd, Source::gradient, Source::aligned, Source::isotropic}) {
    Arrays<T> arrays(c, 0, n);
    const Arrays<T> start = arrays;
    const Method method = method_of(source, 4, 0.05, 0.05, 0.3);
    const auto zeros = exact<T>(n * c.kernel(kernels.name, method)->normals_per_step());
    const double factors[] = {2.0, 1.0};
    Span span = span_of(0, 1, false, source == Source::gd ? nullptr : zeros.get());
    span.factors = factors;
    advance(kernels, c, method, arrays, span);
    for (int64_t i = 0; i < n; ++i) {
      const auto row = rows(arrays.weights, n, i, 1);
      CHECK(distance(row, Twin(c, start.weights.data() + i * c.parameters()).after_descent(0.1, 0.3)) < tolerance);
    }
  }
}

// Two steps of the heavy ball under a schedule: W₂ = W₁ + μ (W₁ − W₀) − dt₁ ∂W₁, with weight decay inside ∂W.
template <class T>
void heavy_ball(const Kernels& kernels, const Case& c) {
  const double tolerance = sizeof(T) == 4 ? 4e-6 : 1e-14, momentum = 0.75;
  const int64_t n = of_type<T>(kernels).lanes + 1, p = c.parameters();
  Arrays<T> once(c, 0, n);
  const Arrays<T> start = once;
  const Method method = with_momentum(method_of(Source::gd, 4, 0.05, 0.05, 0.3), momentum);
  const double factors[] = {1.0, 2.0, 1.0};
  Span span = span_of(0, 1);
  span.factors = factors;
  advance(kernels, c, method, once, span);
  Arrays<T> twice = once;
  span = span_of(1, 2);
  span.factors = factors + 1;
  advance(kernels, c, method, twice, span);
  for (int64_t i = 0; i < n; ++i) {
    const auto first = Twin(c, start.weights.data() + i * p).after_descent(0.05, 0.3);
    auto second = Twin(c, once.weights.data() + i * p).after_descent(0.1, 0.3);
    for (size_t k = 0; k < second.size(); ++k)
      second[k] += momentum * (double(once.weights[size_t(i * p) + k]) - double(start.weights[size_t(i * p) + k]));
    CHECK(distance(rows(once.weights, n, i, 1), first) < tolerance);
    CHECK(distance(rows(twice.weights, n, i, 1), second) < tolerance);
  }
}

// Histogram and correlator count every trajectory at every due step, however the run is cut and on any threads.
template <class T>
void counts(const Kernels& kernels, const Case& c, const Method& method) {
  const int64_t n = of_type<T>(kernels).lanes + 3, steps = 9;
  const int bins = 5, levels = 3;
  struct Counted {
    std::vector<double> correlator;
    std::vector<int64_t> histogram;
  };
  const auto counted = [&](std::initializer_list<int64_t> ends, int threads) {
    Counted out{std::vector<double>(size_t(n * c.modes() * levels * kCorrelatorRow)),
                std::vector<int64_t>(size_t(c.modes() * (bins + 2)))};
    const auto kernel = c.kernel(kernels.name, method);
    kernel->accumulate(-0.1, 0.1, 2, 3);
    Arrays<T> arrays(c, 0, n);
    int64_t from = 0;
    for (int64_t until : ends) {
      kernel->advance(arrays.view(), span_of(from, until), {levels, bins, out.correlator.data(), out.histogram.data()},
                      threads);
      from = until;
    }
    return out;
  };
  const Counted whole = counted({steps}, 1), cut = counted({2, 5, steps}, 2);
  CHECK(same_bits(whole.correlator, cut.correlator) && same_bits(whole.histogram, cut.histogram));
  int64_t seen = 0;
  for (int64_t count : whole.histogram) seen += count;
  CHECK(seen == n * c.modes() * 3);  // steps 2, 5 and 8
}

// A trajectory that diverges has a status and NaN weights; its neighbours do not notice.
template <class T>
void divergence(const Kernels& kernels, const Case& c, const Method& method) {
  const int64_t n = of_type<T>(kernels).lanes + 2, lost = 1;
  Arrays<T> arrays(c, 0, n), healthy(c, 0, n);
  const auto p = size_t(c.parameters());
  std::fill_n(arrays.weights.begin() + ptrdiff_t(lost * int64_t(p)), p, std::numeric_limits<T>::max());
  advance(kernels, c, method, arrays, span_of(0, 6));
  advance(kernels, c, method, healthy, span_of(0, 6));
  CHECK(arrays.status[lost] > 0);
  for (T w : rows(arrays.weights, n, lost, 1)) CHECK(std::isnan(w));
  for (int64_t i = 0; i < n; ++i)
    if (i != lost) CHECK(same_bits(rows(arrays.weights, n, i, 1), rows(healthy.weights, n, i, 1)));
}

void flow(const Kernels& kernels, const Case& c) {
  const int64_t n = kernels.float64.lanes + 3, steps = 40;
  const Method method = method_of(Source::flow, kInfinity, 0.05, 0.05);
  Arrays<double> whole(c, 0, n), cut(c, 0, n), half(c, n / 2, n - n / 2), still(c, 0, n);
  const Arrays<double> start = whole;
  advance(kernels, c, method, whole, span_of(0, steps), 2);
  for (int64_t step = 0; step < steps; step += 10) advance(kernels, c, method, cut, span_of(step, step + 10));
  advance(kernels, c, method, half, span_of(0, steps));
  advance(kernels, c, method, still, span_of(0, 0));
  CHECK(same(whole, cut));
  CHECK(same_rows(whole, half, n / 2));
  CHECK(same_bits(still.weights, start.weights));
  for (int64_t i = 0; i < n; ++i) {
    const double before = Twin(c, start.weights.data() + i * c.parameters()).excess_loss();
    CHECK(Twin(c, whole.weights.data() + i * c.parameters()).excess_loss() < before);
  }
  const auto kernel = c.kernel(kernels.name, method);
  std::vector<double> at(size_t(n * c.parameters()));
  const auto peek = [&](Arrays<double>& from, double time) {
    kernel->peek(from.weights.data(), from.clock.data(), n, time, at.data(), 1);
    return at;
  };
  CHECK(same_bits(peek(still, 0.0), start.weights));
  CHECK(distance(peek(whole, double(steps) * method.lr), peek(cut, double(steps) * method.lr)) == 0);
  CHECK(same(whole, cut));  // looking leaves no trace
  const auto late = peek(whole, 2.5), early = peek(still, 2.5);
  CHECK(distance(late, early) < 1e-9);
}

void observer(const Kernels& kernels, const Case& c) {
  const auto kernel = c.kernel(kernels.name, method_of(Source::gd));
  const int64_t n = 2 * kernels.float64.lanes + 1, columns = kernel->width();
  const auto seen = [&](const Arrays<double>& arrays, int threads) {
    std::vector<double> out(size_t(arrays.n * columns));
    kernel->observe(arrays.weights.data(), arrays.n, 0.1, out.data(), threads);
    return out;
  };
  int64_t named = 0;
  for (const auto& [name, shape] : kernel->columns()) {
    int64_t size = 1;
    for (int64_t extent : shape) size *= extent;
    named += size;
  }
  CHECK(named == columns);
  const Arrays<double> whole(c, 0, n), half(c, n / 2, n - n / 2), zero(c, 0, n, 0.0);
  const auto table = seen(whole, 1);
  CHECK(same_bits(table, seen(whole, 2)));
  CHECK(same_bits(rows(table, n, n / 2, half.n), seen(half, 1)));
  for (int64_t i = 0; i < n; ++i) {
    const double excess = Twin(c, whole.weights.data() + i * c.parameters()).excess_loss();
    const double floor = c.dy() * c.label_noise * c.label_noise / 2;
    CHECK(std::fabs(table[size_t(i * columns)] - excess - floor) < 1e-14 * (1 + excess + floor));
    CHECK(std::fabs(table[size_t(i * columns) + 1] - excess) < 1e-14 * (1 + excess));
  }
  const auto at_zero = seen(zero, 1);
  for (int a = 0; a < c.modes(); ++a) CHECK(at_zero[size_t(2 + a)] == 0);
}

// Streams by themselves: arrays of the exact size, and no matter which trajectories stand together.
template <class T>
void streams(const Kernels& kernels) {
  const auto& set = of_type<T>(kernels);
  const Case c("streams", {1, 1});
  const int64_t n = set.lanes + 3;
  for (int64_t count : {0, 1, 2, 7}) {
    Arrays<T> whole(c, 0, n), single(c, n - 1, 1);
    std::vector<T> all(size_t(n * count), T(0)), one(size_t(count), T(0)), chi(size_t(n), T(0)), chi_one(1);
    for (int64_t first = 0; first < n; first += set.lanes) {
      set.normals(whole.words.data(), n, first, count, all.data());
      set.chi(whole.words.data(), n, first, 3, chi.data());
    }
    set.normals(single.words.data(), 1, 0, count, one.data());
    set.chi(single.words.data(), 1, 0, 3, chi_one.data());
    CHECK(same_bits(rows(all, n, n - 1, 1), one));
    CHECK(same_bits(rows(chi, n, n - 1, 1), chi_one));
    CHECK(same_bits(rows(whole.words, n, n - 1, 1), single.words));
  }
}

template <class T>
void everything(const Kernels& kernels) {
  const auto label = [&](const std::string& what) {
    context = std::string(kernels.name) + ", " + type_name<T>() + ", " + what;
  };
  label("streams");
  streams<T>(kernels);
  for (const Case& c : cases()) {
    label(c.name + ", descent");
    descent<T>(kernels, c);
    label(c.name + ", heavy ball");
    heavy_ball<T>(kernels, c);
    for (const Named& m : methods())
      for (bool peaks : {false, true}) {
        label(c.name + ", " + m.name + (peaks ? ", peaks" : ""));
        invariance<T>(kernels, c, m, peaks);
      }
  }
  for (const Case& c : other_cases())
    for (const Named& m : methods_of(c)) {
      for (bool peaks : {false, true}) {
        label(c.name + ", " + m.name + (peaks ? ", peaks" : ""));
        invariance<T>(kernels, c, m, peaks);
      }
      if (c.depth() > 1) divergence<T>(kernels, c, m.method);  // one layer comes back from anywhere
    }
  for (const Named& m : methods()) {
    label(std::string("counts, ") + m.name);
    counts<T>(kernels, cases()[3], m.method);
    counts<T>(kernels, cases()[9], m.method);
    label(std::string("divergence, ") + m.name);
    divergence<T>(kernels, cases()[3], m.method);
    divergence<T>(kernels, cases()[9], m.method);
  }
}

// Sets with a fused multiply-add agree to the last bit.
template <class T>
void agreement() {
  context = std::string("agreement, ") + type_name<T>();
  for (const Case& c : cases())
    for (const Named& m : methods()) {
      std::vector<Arrays<T>> results;
      for_sets([&](const Kernels& kernels) {
        if (std::string(kernels.name) == "baseline") return;
        results.emplace_back(c, 0, 5);
        advance(kernels, c, m.method, results.back(), span_of(0, 5));
      });
      for (const auto& result : results) CHECK(same(results.front(), result));
    }
}

}  // namespace
}  // namespace saddlescope::test

int main() {
  using namespace saddlescope::test;
  for_sets([](const saddlescope::Kernels& kernels) {
    everything<float>(kernels);
    everything<double>(kernels);
    for (const Case& c : cases()) {
      context = std::string(kernels.name) + ", flow, " + c.name;
      flow(kernels, c);
      context = std::string(kernels.name) + ", observer, " + c.name;
      observer(kernels, c);
    }
    context = std::string(kernels.name) + ", flow, divergence";
    divergence<double>(kernels, cases()[3], method_of(saddlescope::Source::flow, kInfinity));
  });
  agreement<float>();
  agreement<double>();
  return result();
}
