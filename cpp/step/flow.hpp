// Gradient flow by Dormand & Prince's 5(4) pair (1980), each trajectory with its own clock and step.
//
// A step is never cut short to meet a save: a save shows a side step from the last accepted point, so that results do
// not depend on when the flow is observed.
#pragma once

#include "measure/events.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

constexpr double kFlowTolerance = 1e-12;               // of ‖error‖_F / ‖W_l‖_F in one step, in every layer
constexpr double kFlowStuck = 1e-7, kFlowSlow = 1e-4;  // steps below these shares of lr and of the time get nowhere
constexpr double kFlowSafety = 0.9, kFlowShrink = 0.2, kFlowGrow = 5.0;

constexpr int kStages = 7;
constexpr double kStage[kStages][6] = {
    {},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84},
};
// Fifth order minus fourth.
constexpr double kError[kStages] = {71.0 / 57600,      0,          -71.0 / 16695, 71.0 / 1920,
                                    -17253.0 / 339200, 22.0 / 525, -1.0 / 40};

template <template <class> class Net = DeepLinear>
struct FlowBlock {
  using V = Vec<double>;
  using I = IntVec<double>;
  using Ens = Ensemble<double, uint64_t>;
  static constexpr int kLanes = Lane<double>::count;

  Arena arena;
  Net<V> net;
  Events<V> events;
  V *slope[kStages], *trial, *next, *next_slope;  // flat parameter vectors
  V* trial_layer[kMaxDepth];
  V time, step, error;
  const double decay, lr;

  FlowBlock(const Problem& problem, const Method& method, const Ens& ensemble, int64_t first, void* scratch)
      : arena{static_cast<char*>(scratch)},
        net(problem, arena, arena),
        events(problem, ensemble, first, arena),
        decay(method.decay),
        lr(method.lr) {
    for (V*& k : slope) k = arena.take<V>(net.parameters);
    for (V** buffer : {&trial, &next, &next_slope}) *buffer = arena.take<V>(net.parameters);
    if (!arena.base) return;
    V* at = trial;
    for (int l = 0; l < net.depth; at += net.size(l++)) trial_layer[l] = at;
  }

  void load(int64_t first) {
    const Ens& ensemble = events.ensemble;
    net.load(ensemble.weights, ensemble.count, first);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t i = first + lane < ensemble.count ? first + lane : ensemble.count - 1;
      time[lane] = ensemble.clock[2 * i];
      step[lane] = ensemble.clock[2 * i + 1];
    }
    derivative(net.weight, slope[0]);
  }

  // out = −∇𝓛 − γW, and the mode strengths on the way.
  void derivative(V* const* w, V* out) {
    net.forward(w);
    net.strengths(events.now);
    net.subtract_teacher();
    V* target[kMaxDepth];
    for (int l = 0; l < net.depth; out += net.size(l++)) target[l] = out;
    net.pull_back(w, net.colour(net.residual), target, -1.0, 0.0);
    for (int l = 0; decay != 0 && l < net.depth; ++l)
      for (int64_t i = 0; i < net.size(l); ++i) target[l][i] = fma(set1(-decay), w[l][i], target[l][i]);
  }

  // One step of length h from the current point into trial; error = max_l ‖error‖_F / (tolerance max ‖W_l‖_F).
  void attempt(V h) {
    for (int stage = 1; stage < kStages; ++stage) {
      int64_t at = 0;
      for (int l = 0; l < net.depth; ++l)
        for (int64_t i = 0; i < net.size(l); ++i, ++at) {
          V sum{};
          for (int j = 0; j < stage; ++j)
            if (kStage[stage][j] != 0) sum = fma(set1(kStage[stage][j]), slope[j][at], sum);
          trial[at] = fma(h, sum, net.weight[l][i]);
        }
      derivative(trial_layer, slope[stage]);
    }
    V worst{};
    int64_t at = 0;
    for (int l = 0; l < net.depth; ++l) {
      V wrong{};
      for (int64_t i = 0; i < net.size(l); ++i, ++at) {
        V sum{};
        for (int j = 0; j < kStages; ++j)
          if (kError[j] != 0) sum = fma(set1(kError[j]), slope[j][at], sum);
        wrong = fma(sum, sum, wrong);
      }
      const V before = squared_norm(net.weight[l], net.size(l));
      const V after = squared_norm(trial_layer[l], net.size(l));
      const V ratio = wrong / (select<double>(before < after, after, before) + 1e-300);
      worst = select<double>((ratio <= worst) | (worst != worst), worst, ratio);  // NaN wins
    }
    error = h * sqrt(worst) * (1 / kFlowTolerance);
  }

  // The next step of the lanes that tried `h` with this error: shorter after a failure or an overflow (NaN, infinity).
  void adapt(I tried, V h, V wrong) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!tried[lane]) continue;
      double factor = kFlowSafety * __builtin_pow(wrong[lane] > 1e-12 ? wrong[lane] : 1e-12, -0.2);
      if (factor > kFlowGrow) factor = kFlowGrow;
      if (!(factor > kFlowShrink) || !(wrong[lane] < __builtin_inf())) factor = kFlowShrink;
      step[lane] = h[lane] * factor;
    }
  }

  void advance(int64_t from, int64_t until) {
    const double end = double(until) * lr;
    if (from == 0) events.test(0, false, true);
    for (;;) {
      const I ready = (time + step <= end) & moving() & events.alive;
      if (!any<double>(ready)) break;
      attempt(select<double>(ready, step, V{}));
      const I accepted = (error <= 1.0) & ready;
      const V tried = step, wrong = error;
      if (any<double>(accepted)) accept(accepted);
      adapt(ready, tried, wrong);
    }
    for (int lane = 0; lane < kLanes; ++lane)
      if (events.alive[lane] && !moving()[lane]) events.diverged(int64_t(time[lane] / lr), lane);
    net.set_nan(events.lost);
    finish(until);
  }

  // Whether the steps make progress: false for a gradient that overflows, which shrinks the step again and again, and
  // for a flow that is too stiff.
  I moving() const {
    const V slow = kFlowSlow * time, stuck = set1(kFlowStuck * lr);
    return (time + step > time) & ((step > slow) | (step > stuck));
  }

  // Weights at exactly `end`, the last step cut to meet it: for observing only.
  void land(double end) {
    for (int l = 0; l < net.depth; ++l)  // lost trajectories stay where they are
      time = select<double>(squared_norm(net.weight[l], net.size(l)) < __builtin_inf(), time, set1(end));
    for (;;) {
      const I under_way = (time < end) & moving();
      if (!any<double>(under_way)) break;
      const V left = end - time, h = select<double>(under_way, select<double>(step < left, step, left), V{});
      attempt(h);
      const I accepted = (error <= 1.0) & under_way;
      commit(accepted, trial, slope[kStages - 1]);
      time = select<double>(accepted, select<double>(step < left, time + h, set1(end)), time);
      adapt(under_way, h, error);
    }
  }

  void accept(I accepted) {
    const I passing = passed_now() & accepted;
    for (int64_t i = 0; i < net.parameters; ++i) {
      next[i] = trial[i];
      next_slope[i] = slope[kStages - 1][i];
    }
    if (any<double>(passing)) locate(passing, time + step);
    commit(accepted, next, next_slope);
    time = select<double>(accepted, time + step, time);
  }

  void commit(I accepted, const V* weights, const V* first_slope) {
    int64_t at = 0;
    for (int l = 0; l < net.depth; ++l)
      for (int64_t i = 0; i < net.size(l); ++i, ++at) {
        net.weight[l][i] = select<double>(accepted, weights[at], net.weight[l][i]);
        slope[0][at] = select<double>(accepted, first_slope[at], slope[0][at]);
      }
  }

  // Events between the last accepted point and the end.
  void finish(int64_t until) {
    const V end = set1(double(until) * lr);
    attempt(end - time);
    const I passing = passed_now() & events.alive;
    if (any<double>(passing)) locate(passing, end);
  }

  I passed_now() const {
    I hit{};
    for (int a = 0; a < net.modes; ++a) hit |= ~(events.now[a] < events.pending[a]);
    return hit;
  }

  // First clock step in (time, stop] at which each pending threshold is passed, by bisection with side steps.
  void locate(I lanes, V stop) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!lanes[lane]) continue;
      for (int a = 0; a < net.modes; ++a)
        for (int q = 0; q < kThresholds; ++q) {
          if (!(events.learned(lane, q, a) == __builtin_inf())) continue;
          const double level = kThreshold[q] * net.problem.strengths[a];
          int64_t low = int64_t(__builtin_floor(time[lane] / lr)),
                  high = int64_t(__builtin_floor(stop[lane] / lr * (1 + 1e-15)));
          if (high <= low || !(strength_at(double(high) * lr, lane, a) >= level)) break;
          while (high - low > 1) {
            const int64_t middle = low + (high - low) / 2;
            (strength_at(double(middle) * lr, lane, a) >= level ? high : low) = middle;
          }
          events.learned(lane, q, a) = double(high);
          events.pending[a][lane] = events.next_threshold(lane, a);
        }
    }
  }

  double strength_at(double at, int lane, int mode) {
    attempt(set1(at) - time);
    return events.now[mode][lane];
  }

  void store(int64_t first) {
    const Ens& ensemble = events.ensemble;
    net.store(ensemble.weights, ensemble.count, first);
    for (int lane = 0; lane < kLanes && first + lane < ensemble.count; ++lane) {
      ensemble.clock[2 * (first + lane)] = time[lane];
      ensemble.clock[2 * (first + lane) + 1] = step[lane];
    }
  }

  static int64_t scratch_size(const Problem& problem) {
    Ens none{};
    return FlowBlock(problem, Method{}, none, 0, nullptr).arena.used;
  }

  static void run(const Problem& problem, const Method& method, const Ens& ensemble, int64_t from, int64_t until,
                  int64_t first, void* scratch) {
    FlowBlock block(problem, method, ensemble, first, scratch);
    block.events.load(false);
    block.load(first);
    block.advance(from, until);
    block.store(first);
  }

  static void peek(const Problem& problem, const Method& method, const Ens& ensemble, double at, double* out,
                   int64_t first, void* scratch) {
    FlowBlock block(problem, method, ensemble, first, scratch);
    block.load(first);
    block.land(at);
    block.net.store(out, ensemble.count, first);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
