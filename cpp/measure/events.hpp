// What happens to a trajectory at some step: a mode is learned, its noise peaks, the trajectory diverges.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// First passages, noise peaks and divergence, looked for at every step.
template <class V>
struct Events {
  using T = Scalar<V>;
  using I = Mask<V>;
  using Ens = Ensemble<T, typename Lane<T>::Word>;
  const Problem& problem;
  const Ens& ensemble;
  const int64_t first;
  const int modes;
  V *now, *pending;           // per mode: strength at this step; next threshold
  V *noise, *peak, *at_peak;  // noise at this step; largest so far; strength there
  I *open, *peak_step;        // per mode: not yet learned; step of the peak
  I alive;
  I lost{};  // diverged at the last test: the owner of the weights makes them NaN

  Events(const Problem& p, const Ens& ens, int64_t start, Arena& arena)
      : problem(p), ensemble(ens), first(start), modes(p.modes) {
    for (V** buffer : {&now, &pending, &noise, &peak, &at_peak}) *buffer = arena.take<V>(modes);
    for (I** buffer : {&open, &peak_step}) *buffer = arena.take<I>(modes);
  }

  double& learned(int lane, int threshold, int mode) const {
    return ensemble.learned[((first + lane) * kThresholds + threshold) * modes + mode];
  }
  double& register_of(int lane, int row, int mode) const {
    return ensemble.peak[((first + lane) * 4 + row) * modes + mode];
  }
  bool present(int lane) const { return first + lane < ensemble.count; }

  void load(bool peaks) {
    for (int lane = 0; lane < Element<V>::count; ++lane) {
      at(alive, lane) = present(lane) && ensemble.status[first + lane] == 0 ? -1 : 0;
      for (int a = 0; a < modes; ++a) {
        const bool here = present(lane);
        at(pending[a], lane) = here ? next_threshold(lane, a) : T(0);
        at(open[a], lane) = here && learned(lane, kThresholds - 1, a) == __builtin_inf() ? -1 : 0;
        if (!peaks) continue;
        at(peak[a], lane) = here ? T(register_of(lane, 0, a)) : T(0);
        const bool known = here && register_of(lane, 1, a) >= 0;  // NaN: not followed so far
        at(peak_step[a], lane) = known ? (typename Lane<T>::Int)register_of(lane, 1, a) : 0;
        at(at_peak[a], lane) = here ? T(register_of(lane, 2, a)) : T(0);
      }
    }
  }
  void store(bool peaks) const {
    if (!peaks) return;
    for (int lane = 0; lane < Element<V>::count && present(lane); ++lane)
      for (int a = 0; a < modes; ++a) {
        register_of(lane, 0, a) = at(peak[a], lane);
        register_of(lane, 1, a) = double(at(peak_step[a], lane));
        register_of(lane, 2, a) = at(at_peak[a], lane);
      }
  }

  T next_threshold(int lane, int mode) const {
    for (int q = 0; q < kThresholds; ++q)
      if (learned(lane, q, mode) == __builtin_inf()) return T(kThreshold[q] * problem.strengths[mode]);
    return T(__builtin_inf());
  }

  // The test of a step, on the strengths in `now`. Passages, infinities and NaN are rare, and all show as "not between
  // −∞ and the threshold".
  void test(int64_t step, bool peaks, bool passages) {
    I hit{};
    for (int a = 0; a < modes; ++a)
      hit |= ~(less(now[a], passages ? pending[a] : splat<V>(T(__builtin_inf()))) &
               less(splat<V>(-T(__builtin_inf())), now[a]));
    hit &= alive;
    if (__builtin_expect(any<T>(hit), 0)) passed(step, hit, peaks, passages);
    for (int a = 0; peaks && a < modes; ++a) {
      const I higher = less(peak[a], noise[a]) & open[a] & alive;
      peak[a] = select<T>(higher, noise[a], peak[a]);
      at_peak[a] = select<T>(higher, now[a], at_peak[a]);
      peak_step[a] = higher ? I{} + (typename Lane<T>::Int)step : peak_step[a];
    }
  }

  __attribute__((noinline)) void passed(int64_t step, I hit, bool peaks, bool passages) {
    for (int lane = 0; lane < Element<V>::count; ++lane) {
      if (!at(hit, lane)) continue;
      if (!finite(lane)) {
        diverged(step, lane);
        continue;
      }
      for (int a = 0; passages && a < modes; ++a) {
        for (int q = 0; q < kThresholds; ++q)
          if (learned(lane, q, a) == __builtin_inf() && at(now[a], lane) >= T(kThreshold[q] * problem.strengths[a]))
            learned(lane, q, a) = double(step);
        at(pending[a], lane) = next_threshold(lane, a);
        if (at(open[a], lane) && learned(lane, kThresholds - 1, a) < __builtin_inf()) {
          at(open[a], lane) = 0;
          if (peaks) register_of(lane, 3, a) = at(noise[a], lane);
        }
      }
    }
  }

  // A trajectory that diverges passes nothing in the same step, whichever mode shows it first.
  bool finite(int lane) const {
    for (int a = 0; a < modes; ++a)
      if (!(__builtin_fabs(at(now[a], lane)) < __builtin_inf())) return false;
    return true;
  }

  void diverged(int64_t step, int lane) {
    ensemble.status[first + lane] = step > 0 ? step : 1;  // 0 would say that all is well
    at(alive, lane) = 0;
    at(lost, lane) = -1;
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
