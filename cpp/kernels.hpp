// What the compiled kernels are given and what they offer: plain arrays, no Python, no instruction set.
#pragma once

#include <cstdint>

namespace saddlescope {

// Numbers in both types a run can have.
struct Table {
  const float* single;
  const double* dual;
  template <class T>
  const T* as() const {
    if constexpr (sizeof(T) == 4)
      return single;
    else
      return dual;
  }
};

// The samples of a data set, in the teacher's basis. A method on batches sees inputs x (columns = dx), the others c
// with x = R c (columns = r).
struct Samples {
  int64_t count;    // n
  int columns;      // of an input
  Table rows;       // (n, columns + dy) input, then residual
  int64_t moments;  // q: those of (ccᵀ, r cᵀ) that vary
  int64_t factors;  // k; 0: Langevin noise is made sample by sample
  Table factor;     // Fᵀ (k, q), F Fᵀ the covariance of the moments over the samples
};

// The problem in the teacher's basis: the teacher is diag(strengths), Σ = R Rᵀ.
struct Problem {
  int depth;
  const int* widths;                        // depth + 1
  int modes;                                // min(dx, dy)
  const double* strengths;                  // s* (modes)
  const int* block;                         // (modes) first mode of the block of equal strengths this mode is in
  int rank;                                 // r
  const double* root;                       // R (dx, r); null for white inputs
  double label_noise;                       // σ
  const Samples* samples = nullptr;         // null for Gaussian data
  int chains = 0;                           // of a diagonal network; 0: dense layers
  double alpha = 0, offset = 0, floor = 0;  // its gradient noise g = alpha (Δ + offset)² + floor
};

enum class Source : int { flow, gd, sgd, gradient, aligned, isotropic };

// How a batch of a data set is drawn.
enum class Sampling : int { replacement, without, shuffle, full };

// A method is a source of the map's gradient and a step: W ← (1 − dt·decay) W − dt ∂W, noise of variance T·dt,
// T = lr/batch. A schedule multiplies lr and dt of a step by its factor.
struct Method {
  Source source;
  double lr, dt, batch, decay;
  int order;  // 2: with the drift of the stochastic modified equation
  Sampling sampling = Sampling::replacement;
};

// Standard normals one Langevin step takes. Static: every instruction set must keep its own copy.
static inline int64_t normals_per_step(const Problem& problem, const Method& method) {
  const int64_t r = problem.rank, dy = problem.widths[problem.depth];
  const int64_t labels = problem.label_noise > 0 ? dy * r : 0;
  const bool isotropic = method.source == Source::isotropic;
  if (problem.chains) return isotropic ? int64_t(problem.depth) * problem.chains : 1;
  if (const Samples* samples = problem.samples) return labels + (samples->factors ? samples->factors : samples->count);
  if (!isotropic) return labels + r * (r + 1) / 2;
  int64_t count = 0;
  for (int l = 0; l < problem.depth; ++l) count += int64_t(problem.widths[l]) * problem.widths[l + 1];
  return count;
}

// An ensemble of n trajectories, row-major, changed in place. See engines/protocol.py for every array.
template <class T, class Word>
struct Ensemble {
  int64_t count;
  T* weights;                // (n, parameters)
  Word* words;               // (n, 4)
  int64_t* status;           // (n)
  double* learned;           // (n, 2, modes)
  double* peak;              // (n, 4, modes)
  double* clock;             // (n, 2)
  int32_t* order = nullptr;  // (n, samples), or null
};

constexpr int kTallyLags = 16, kTallyRow = 2 * kTallyLags + 2;

// Histogram and autocorrelation of the mode strengths; see engines/correlator.py for every array.
struct Tally {
  int64_t start, every;
  double low, high;
  int bins, levels;
  double* correlator;  // (n, modes, levels, kTallyRow)
  int64_t* histogram;  // (modes, bins + 2), of the whole ensemble
};

struct Span {
  int64_t from, until;
  bool passages;          // look for learning times at every step
  bool peaks;             // follow the noise peaks at every step
  const Tally* tally;     // what to accumulate, or null
  const void* normals;    // (n, until − from, per step) given normals of the run's type, or null
  const double* factors;  // (until − from + 1) the schedule at these steps, or null for 1

  double factor(int64_t step) const { return factors ? factors[step - from] : 1.0; }
};

constexpr int kThresholds = 2;
constexpr double kThreshold[kThresholds] = {0.5, 0.9};

// The SDE of one mode at depth L: moments of the data with g(s) = alpha (s − center)² + floor.
struct Mode {
  int depth;
  double alpha, center, floor, beta1, beta2, temperature;
  double decay;      // γ where it is neither a β₁ (depth 1) nor a β₂ (depth 2)
  double tolerance;  // of a step, in units of the local rate
  int levels;
};

// Trajectories of a (depth 1: s) with a fixed step, seen after given numbers of steps.
template <class T, class Word>
struct Walks {
  int64_t count, saves;
  const double* start;   // (n)
  const int64_t* steps;  // (saves) not decreasing
  const Word* words;     // (n, 4)
  T* states;             // (n, saves)
};

// One compiled set of kernels. A call handles the trajectories [first, first + lanes) in the given scratch memory, or
// one by one the trajectories [first, first + group), a group of at most as many as there are lanes.
template <class T, class Word>
struct KernelSet {
  int lanes;
  int64_t (*scratch)(const Problem&, const Method&, const Span&);  // bytes for advance
  void (*advance)(const Problem&, const Method&, const Ensemble<T, Word>&, const Span&, int64_t first, void* scratch);
  int64_t (*scratch_one_by_one)(const Problem&, const Method&, const Span&, int group);
  void (*advance_one_by_one)(const Problem&, const Method&, const Ensemble<T, Word>&, const Span&, int64_t first,
                             int group, void* scratch);
  int64_t (*scratch_diagonal)(const Problem&, const Method&, const Span&);
  void (*advance_diagonal)(const Problem&, const Method&, const Ensemble<T, Word>&, const Span&, int64_t first,
                           void* scratch);
  void (*normals)(Word* words, int64_t n, int64_t first, int64_t count, T* out);
  void (*chi)(Word* words, int64_t n, int64_t first, int64_t degrees, T* out);
  void (*below)(Word* words, int64_t n, int64_t first, int32_t bound, int32_t* out);
  int walkers;  // trajectories a call of euler handles
  void (*euler)(const Mode&, double dt, const Walks<T, Word>&, int64_t first);
  int64_t (*multiply_adds)(int64_t rounds, T* sum);
  int64_t (*fresh_normals)(int64_t rounds, T* sum);
};

// Singular values and effective rank of more modes than this are left NaN.
constexpr int kJacobiModes = 96;

// What an observable has one number for: nothing (a single number), every mode, every pair of neighbouring layers, or
// every mode in every layer.
enum class Axis : int { single, modes, pairs, layers };
struct Observable {
  const char* name;
  Axis axis;
};

// Observables are always computed in double, from weights (n, parameters) into rows of `width` numbers, one observable
// after another in the order of the table.
struct Observer {
  int lanes;
  int observables;
  Observable (*observable)(int index);
  int64_t (*scratch)(const Problem&);
  int64_t (*width)(const Problem&);
  void (*observe)(const Problem&, double temperature, const double* weights, int64_t n, int64_t first, double* out,
                  void* scratch);
};

// Gradient flow, double only. `peek` leaves the ensemble alone and writes its weights at time `at` (n, parameters).
struct Flow {
  int64_t (*scratch)(const Problem&);
  void (*advance)(const Problem&, const Method&, const Ensemble<double, uint64_t>&, int64_t from, int64_t until,
                  int64_t first, void* scratch);
  void (*peek)(const Problem&, const Method&, const Ensemble<double, uint64_t>&, double at, double* out, int64_t first,
               void* scratch);
};

constexpr int kModeLevels = 16;

// Trajectories of x = log a (depth 1: s) seen at `times`, and when each first passed each level (inf: never).
struct ModeEnsemble {
  int64_t count, saves;
  const double* start;    // (n)
  const double* times;    // (saves) increasing
  const double* levels;   // (levels)
  const uint64_t* words;  // (n, 4)
  double* states;         // (n, saves)
  double* passages;       // (n, levels)
};

// A call of run handles the trajectories [first, first + members).
struct ModeKernel {
  int members;
  void (*run)(const Mode&, const ModeEnsemble&, int64_t first);
};

struct Kernels {
  const char* name;
  KernelSet<float, uint32_t> single;
  KernelSet<double, uint64_t> dual;
  Flow flow, diagonal_flow;
  Observer observer;
  ModeKernel mode;
};

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

}  // namespace saddlescope
