// What the compiled kernels are given and what they offer: plain arrays, no Python, no instruction set.
#pragma once

#include <cstdint>

namespace saddlescope {

// The same numbers in both types a run can have.
struct Table {
  const float* float32;
  const double* float64;
  template <class T>
  const T* as() const {
    if constexpr (sizeof(T) == 4)
      return float32;
    else
      return float64;
  }
};

constexpr int kMaxDepth = 256;

// Rows and columns of a layer.
struct Shape {
  int rows, columns;
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
  double share;     // fraction of the sampling variance that remains: (n − B)/(n − 1) without replacement
};

// The problem in the teacher's basis: the teacher is diag(strengths), Σ = R Rᵀ.
struct Problem {
  int depth;                                // L
  const Shape* shapes;                      // (L) of the layers, first to last
  int dx, dy;                               // inputs and outputs of the network
  int modes;                                // m = min(dx, dy)
  const double* strengths;                  // s* (m)
  const int* block;                         // (m) first mode of the block of equal strengths this mode is in
  int rank;                                 // r
  const double* root;                       // R (dx, r); null for white inputs
  double label_noise;                       // σ
  const Samples* samples = nullptr;         // null for Gaussian data
  double alpha = 0, offset = 0, floor = 0;  // of a diagonal network: gradient noise g = alpha (Δ + offset)² + floor
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
  double momentum = 0;  // μ of gd and sgd: p ← μ p − dt (∂W + decay · W), W ← W + p
};

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
  T* velocity = nullptr;     // (n, parameters) p, or null without momentum
};

// Samples are drawn and used this many at a time: first their indices, then their label noise. Even, so that normals
// drawn panel by panel are those drawn at once. finite.PANEL.
constexpr int kPanel = 16;

// plan.LAGS and correlator.ROW.
constexpr int kCorrelatorLags = 16, kCorrelatorRow = 2 * kCorrelatorLags + 2;

// Histogram and autocorrelation of the mode strengths; see engines/correlator.py for every array.
struct Accumulation {
  int64_t start, every;
  double low, high;
  int bins, levels;
  double* correlator;  // (n, modes, levels, kCorrelatorRow)
  int64_t* histogram;  // (modes, bins + 2), of the whole ensemble
};

struct Span {
  int64_t from, until;
  bool passages;                     // look for learning times at every step
  bool peaks;                        // follow the noise peaks at every step
  const Accumulation* accumulation;  // what to accumulate, or null
  const void* normals;               // (n, until − from, per step) given normals of the run's type, or null
  const double* factors;             // (until − from + 1) the schedule at these steps, or null for 1

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

// What does not depend on the network, in one type of number: streams, walks of one mode's SDE, rates of the processor.
template <class T, class Word>
struct Common {
  int lanes;
  // Draws of the streams (n, 4) of the trajectories [first, first + lanes): normals (n, count), chi (n), below (n).
  void (*normals)(Word* words, int64_t n, int64_t first, int64_t count, T* out);
  void (*chi)(Word* words, int64_t n, int64_t first, int64_t degrees, T* out);
  void (*below)(Word* words, int64_t n, int64_t first, int32_t bound, int32_t* out);
  int walkers;  // trajectories a call of euler handles
  void (*euler)(const Mode&, double dt, const Walks<T, Word>&, int64_t first);
  int64_t (*multiply_adds)(int64_t rounds, T* sum);
  int64_t (*fresh_normals)(int64_t rounds, T* sum);
};

// The discrete methods on a network, in one type of number. A call handles the trajectories [first, first + lanes) in
// the given scratch memory, or one by one the trajectories [first, first + group), at most as many as there are lanes.
template <class T, class Word>
struct Discrete {
  int64_t (*scratch)(const Problem&, const Method&, const Span&);  // bytes for advance
  void (*advance)(const Problem&, const Method&, const Ensemble<T, Word>&, const Span&, int64_t first, void* scratch);
  int64_t (*scratch_one_by_one)(const Problem&, const Method&, const Span&, int group);  // null: always in lanes
  void (*advance_one_by_one)(const Problem&, const Method&, const Ensemble<T, Word>&, const Span&, int64_t first,
                             int group, void* scratch);
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

// Everything there is for one network. To add a network: a header in networks/, an entry in kernels.cpp, and
// kNetworks.
struct NetworkKernels {
  const char* name;
  bool gradient_noise;                   // whether it takes (alpha, offset, floor)
  const char* (*take_shapes)(Problem&);  // sets dx and dy; returns what is wrong with the shapes, or null
  int64_t (*normals_per_step)(const Problem&, const Method&);  // that one step of Langevin noise takes
  Discrete<float, uint32_t> float32;
  Discrete<double, uint64_t> float64;
  Flow flow;
  Observer observer;  // of no observables: Python observes
};

constexpr int kNetworks = 2;

struct Kernels {
  const char* name;
  Common<float, uint32_t> float32;
  Common<double, uint64_t> float64;
  NetworkKernels networks[kNetworks];
  ModeKernel mode;
};

// The half of a table that is for numbers of type T.
template <class T>
const auto& of_type(const auto& table) {
  if constexpr (sizeof(T) == 4)
    return table.float32;
  else
    return table.float64;
}

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

}  // namespace saddlescope
