// One network under one method on an ensemble of trajectories: plain numbers and arrays, no Python, no instruction set.
//
// The kernel owns what describes the problem, checks numbers, and chooses how a run goes: which network's functions, in
// lanes or one by one, on how many threads. The shapes of arrays are the caller's business.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "dispatch.hpp"
#include "kernels.hpp"

namespace saddlescope {

// Throws std::invalid_argument unless the condition holds.
void require(bool holds, const std::string& message);

enum class Route : int { automatic, lanes, one_by_one };

// What a kernel is made of, in the teacher's basis; see Problem and Method.
struct Description {
  std::string network;            // name of one of the networks in kernels.cpp
  std::vector<Shape> shapes;      // (L) of the layers, first to last
  std::vector<double> strengths;  // s* (m)
  std::vector<int> block;         // (m) first mode of the block of equal strengths
  int rank = 0;                   // r
  std::vector<double> root;       // R (dx, r); empty for white inputs, r = dx
  double label_noise = 0;         // σ
  Method method{};
  std::optional<std::array<double, 3>> gradient_noise;  // (alpha, offset, floor), for networks that take them
  std::string instruction_set = "auto";
  Route route = Route::automatic;
};

// Where the histogram and the autocorrelation of the mode strengths are counted; no levels: nowhere.
struct Counts {
  int levels = 0, bins = 0;
  double* correlator = nullptr;  // (n, m, levels, kCorrelatorRow)
  int64_t* histogram = nullptr;  // (m, bins + 2)
};

class Kernel {
 public:
  // Throws std::invalid_argument for numbers that describe no problem or no method.
  explicit Kernel(Description description);
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // Takes a data set: `rows` (n, columns + dy) of inputs and residuals, and the factor Fᵀ (k, q) of their fourth
  // moments (k = 0: none). Batches are drawn from inputs x (columns = dx), all else takes c with x = R c (columns = r).
  // `share` of the sampling variance remains in the noise of the modes.
  void use_samples(const double* rows, int64_t n, int64_t columns, const double* factor, int64_t k, int64_t q,
                   Sampling sampling, double share = 1.0);

  // Counts mode strengths at every `every`-th step from step `start`, in bins from low to high.
  void accumulate(double low, double high, int64_t start, int64_t every);

  // Takes the ensemble from span.from to span.until, in place.
  template <class T, class Word>
  void advance(Ensemble<T, Word> ensemble, Span span, const Counts& counts, int threads) const;

  // Observables of `weights` (n, parameters) into `out` (n, width()).
  void observe(const double* weights, int64_t n, double temperature, double* out, int threads) const;

  // Gradient flow: the weights at time `at` into `out` (n, parameters), from the integrator's own points in `weights`
  // (n, parameters) and `clock` (n, 2), which stay as they are.
  void peek(double* weights, double* clock, int64_t n, double at, double* out, int threads) const;

  int64_t parameters() const { return parameters_; }
  int modes() const { return problem_.modes; }
  int outputs() const { return problem_.dy; }
  int64_t samples() const { return samples_.count; }
  int64_t normals_per_step() const { return network_->normals_per_step(stepped_, method_); }
  const char* network() const { return network_->name; }
  const char* instruction_set() const { return kernels_.name; }

  // Name and shape of every observable, in the order of the columns of `observe`; none where Python observes.
  std::vector<std::pair<std::string, std::vector<int64_t>>> columns() const;
  int64_t width() const { return network_->observer.observables ? network_->observer.width(problem_) : 0; }

 private:
  template <class T, class Word>
  void run(const Ensemble<T, Word>& ensemble, const Span& span, int threads) const;
  template <class T, class Word>
  void check(const Ensemble<T, Word>& ensemble, const Span& span, int threads) const;

  const Description given_;  // owns what the problems point to
  const Kernels& kernels_;
  const NetworkKernels* network_;
  Method method_;
  Problem problem_{};  // as it is observed
  Problem stepped_{};  // as the method sees it: with samples, whose batches bring their own covariance
  Samples samples_{};
  std::vector<double> rows_, factor_;
  std::vector<float> rows32_, factor32_;
  Accumulation accumulation_{};
  int64_t parameters_ = 0;
};

}  // namespace saddlescope
