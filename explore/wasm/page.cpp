// The kernels behind a C interface, for WebAssembly: one mode's SDE, and ensembles of a deep linear network.
//
// The kernels are compiled as they are, as their baseline set, so that a run on the page has the bits of the same run
// in Python with instruction_set="baseline". Calls are short: the caller decides between them whether to continue.
#define SADDLESCOPE_ISA baseline
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "kernels.hpp"
#include "measure/observe.hpp"
#include "mode/mode.hpp"
#include "step/flow.hpp"
#include "step/walk.hpp"

namespace {
using namespace saddlescope;
using namespace saddlescope::baseline;
using Lanes = InLanes<float>;
using FlowLanes = FlowBlock<DeepLinear>;

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ULL;
constexpr int kInit = 0, kNoise = 1;  // purposes of streams, as in streams.py

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// Generator states (n − first, 4) of the members first … n − 1; the twin of streams.seed_words.
template <class Word>
std::vector<Word> seed_words(uint64_t seed, int n, int purpose, int first = 0) {
  const uint64_t root = mix(seed + kGolden * uint64_t(purpose + 1));
  std::vector<Word> words(size_t(4) * (n - first));
  for (int i = first; i < n; ++i) {
    const uint64_t key = mix(mix(uint64_t(i) + kGolden) ^ root);
    for (int k = 0; k < 4; ++k)
      words[4 * (i - first) + k] = Word(mix(key + kGolden * uint64_t(k + 1)) >> (64 - 8 * sizeof(Word)));
  }
  return words;
}

// Standard normals of one member's stream, the twin of streams.Streams: initial weights are drawn there, by the
// logarithm and the cosine of the library, which differ from the kernel's own by more than the last bit.
struct Normals {
  uint64_t s[4];

  static uint64_t rotate(uint64_t word, int by) { return word << by | word >> (64 - by); }

  uint64_t bits() {
    const uint64_t result = rotate(s[0] + s[3], 23) + s[0], shifted = s[1] << 17;
    s[2] ^= s[0], s[3] ^= s[1], s[1] ^= s[2], s[0] ^= s[3], s[2] ^= shifted;
    s[3] = rotate(s[3], 45);
    return result;
  }

  void pair(double (&out)[2]) {
    const uint64_t word = bits();
    const double radius = std::sqrt(-2.0 * std::log((double(word >> 24) + 0.5) * 0x1p-40));
    const double angle = M_PI * ((double(word & 0x7FFFFF) + 0.5) * 0x1p-23 - 0.5);
    out[0] = radius * (word & (1 << 23) ? -std::cos(angle) : std::cos(angle));
    out[1] = radius * std::sin(angle);
  }
};

// Memory on a cache line, as the kernels want it.
struct Aligned {
  std::vector<char> bytes;
  explicit Aligned(int64_t size) : bytes(size_t(size) + 64) {}
  void* at() { return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(bytes.data()) + 63) & ~uintptr_t(63)); }
};

// Initial weights (n, parameters) in double: independent normals times the scale of their layer, or the scale on the
// diagonal of each layer.
std::vector<double> initial(const std::vector<Shape>& shapes, int64_t size, const double* scales, bool balanced,
                            uint64_t seed, int n) {
  std::vector<double> weights(size_t(size * n));
  if (!balanced) {
    // Layer after layer, in pairs: the last half of an odd layer's last pair is dropped.
    const auto words = seed_words<uint64_t>(seed, n, kInit);
    for (int i = 0; i < n; ++i) {
      Normals source;
      std::copy(&words[4 * i], &words[4 * i] + 4, source.s);
      double* at = &weights[i * size];
      for (size_t l = 0; l < shapes.size(); ++l) {
        const int64_t count = int64_t(shapes[l].rows) * shapes[l].columns;
        for (int64_t k = 0; k < count; k += 2) {
          double drawn[2];
          source.pair(drawn);
          for (int64_t j = k; j < k + 2 && j < count; ++j) *at++ = scales[l] * drawn[j - k];
        }
      }
    }
    return weights;
  }
  int rank = shapes.front().columns;
  for (const auto& shape : shapes) rank = std::min(rank, shape.rows);
  for (int i = 0; i < n; ++i) {
    int64_t from = i * size;
    for (const auto& [rows, columns] : shapes) {
      for (int k = 0; k < rank; ++k) weights[from + k * int64_t(columns) + k] = scales[0];
      from += int64_t(rows) * columns;
    }
  }
  return weights;
}

// An ensemble of a network that is being run.
struct Run {
  std::vector<Shape> shapes;
  std::vector<double> strengths;
  std::vector<int> block;
  Problem problem{};
  Samples samples{};
  Method method{};
  int n = 0;
  int64_t size = 0, step = 0;
  std::vector<double> wide, shown, learned, peak, clock, table;  // `wide` are the weights of gradient flow
  std::vector<float> weights, velocity;
  std::vector<uint32_t> words;
  std::vector<int64_t> status;
  std::vector<Aligned> scratch;  // of the method, of the observer

  bool flow() const { return method.source == Source::flow; }
  Span span(int64_t until) const { return {step, until, true, false, nullptr, nullptr, nullptr}; }
  Ensemble<float, uint32_t> ensemble() {
    return {n,
            weights.data(),
            words.data(),
            status.data(),
            learned.data(),
            peak.data(),
            clock.data(),
            nullptr,
            velocity.empty() ? nullptr : velocity.data()};
  }
  Ensemble<double, uint64_t> continuous() {
    return {n, wide.data(), nullptr, status.data(), learned.data(), peak.data(), clock.data()};
  }
};
}  // namespace

#define PAGE(name) __attribute__((export_name(#name)))

extern "C" {

PAGE(take) void* take(int bytes) { return malloc(size_t(bytes)); }
PAGE(give) void give(void* memory) { free(memory); }

// x = log a (depth 1: s) (n, saves) of the members from `first` to n that all start at x = start, at most
// ModeBlock::kMembers of them.
PAGE(mode_paths)
void mode_paths(int depth, double alpha, double center, double floor, double beta1, double beta2, double temperature,
                double decay, double tolerance, double start, int n, int first, int saves, const double* times,
                double seed, double* out) {
  const Mode mode{depth, alpha, center, floor, beta1, beta2, temperature, decay, tolerance, 0};
  const auto words = seed_words<uint64_t>(uint64_t(seed), n, kNoise, first);
  const std::vector<double> begin(size_t(n - first), start);
  const ModeEnsemble members{n - first, saves, begin.data(), times, nullptr, words.data(), out + int64_t(saves) * first,
                             nullptr};
  ModeBlock::run(mode, members, 0);
}

// source: 0 flow, 1 gd, 2 sgd, 3 gradient (Langevin), 4 aligned, 5 isotropic; see Source. samples: 0, or how many are
// used at every step, with white inputs, labels linear in them and fresh label noise. Their number is all a step needs.
PAGE(network_start)
Run* network_start(int depth, const int* widths, const double* strengths, double label_noise, int samples, int source,
                   double lr, double dt, double batch, double decay, double momentum, const double* scales,
                   int balanced, int n, double seed) {
  Run* run = new Run;
  for (int l = 0; l < depth; ++l) run->shapes.push_back({widths[l + 1], widths[l]});
  run->problem.depth = depth;
  run->problem.shapes = run->shapes.data();
  if (DeepLinear<Vec<double>>::take_shapes(run->problem)) {
    delete run;
    return nullptr;
  }
  const int modes = std::min(widths[0], widths[depth]);
  run->strengths.assign(strengths, strengths + modes);
  for (int i = 0; i < modes; ++i) run->block.push_back(i && strengths[i] == strengths[i - 1] ? run->block.back() : i);
  run->problem.modes = modes;
  run->problem.strengths = run->strengths.data();
  run->problem.block = run->block.data();
  run->problem.rank = widths[0];
  run->problem.label_noise = label_noise;
  run->method = Method{Source(source), lr, dt, batch, decay, 1};
  run->method.momentum = momentum;
  if (samples) {
    run->samples.count = samples;
    run->samples.columns = widths[0];
    run->problem.samples = &run->samples;
    run->method.sampling = Sampling::full;
  }
  run->n = n;
  for (const auto& [rows, columns] : run->shapes) run->size += int64_t(rows) * columns;
  run->wide = initial(run->shapes, run->size, scales, balanced != 0, uint64_t(seed), n);
  run->shown = run->wide;
  run->words = seed_words<uint32_t>(uint64_t(seed), n, kNoise);
  run->status.assign(size_t(n), 0);
  run->learned.assign(size_t(n) * kThresholds * modes, INFINITY);
  for (int i = 0; i < n; ++i)
    for (int q = 0; q < kThresholds; ++q)
      for (int a = 0; a < modes; ++a)
        if (!(strengths[a] > 0)) run->learned[(i * kThresholds + q) * modes + a] = NAN;
  run->peak.assign(size_t(n) * 4 * modes, NAN);
  run->clock.assign(size_t(n) * 2, 0);
  if (run->flow())
    for (int i = 0; i < n; ++i) run->clock[2 * i + 1] = lr;
  run->table.resize(size_t(n * ObserverBlock::width(run->problem)));
  if (!run->flow()) run->weights.assign(run->wide.begin(), run->wide.end());
  if (momentum > 0) run->velocity.assign(run->weights.size(), 0);
  run->scratch.emplace_back(run->flow() ? FlowLanes::scratch_size(run->problem)
                                        : Lanes::scratch(run->problem, run->method, run->span(1)));
  run->scratch.emplace_back(ObserverBlock::scratch_size(run->problem));
  return run;
}

PAGE(network_stop) void network_stop(Run* run) { delete run; }

PAGE(network_advance) void network_advance(Run* run, int until) {
  void* scratch = run->scratch[0].at();
  if (run->flow()) {
    const auto ensemble = run->continuous();
    for (int first = 0; first < run->n; first += Lane<double>::count)
      FlowLanes::run(run->problem, run->method, ensemble, run->step, until, first, scratch);
  } else {
    const auto ensemble = run->ensemble();
    const Span span = run->span(until);
    for (int first = 0; first < run->n; first += Lane<float>::count)
      Lanes::advance(run->problem, run->method, ensemble, span, first, scratch);
  }
  run->step = until;
}

PAGE(network_width) int network_width(Run* run) { return int(ObserverBlock::width(run->problem)); }

// The weights (n, parameters) that were observed last.
PAGE(network_weights) double* network_weights(Run* run) { return run->shown.data(); }

// The table (n, width) of observables in the order of the kernel.
PAGE(network_observe) double* network_observe(Run* run, double temperature) {
  if (run->flow()) {
    const auto ensemble = run->continuous();
    for (int first = 0; first < run->n; first += Lane<double>::count)
      FlowLanes::peek(run->problem, run->method, ensemble, run->method.lr * double(run->step), run->shown.data(), first,
                      run->scratch[0].at());
  } else {
    std::copy(run->weights.begin(), run->weights.end(), run->shown.begin());
  }
  for (int first = 0; first < run->n; first += Lane<double>::count)
    ObserverBlock::observe(run->problem, temperature, run->shown.data(), run->n, first, run->table.data(),
                           run->scratch[1].at());
  return run->table.data();
}
}
