// The SDE of one mode, one trajectory a lane, with a step that follows the local rate.
//
// Depth L ≥ 2 is integrated in x = log a, depth 1 in x = s, with f the pull and h the variance rate in x:
//   f = a^{L−2} (β₂ − β₁ s) − γ,  h = T a^{2L−4} g(s),  dx = (f − h/2) dt + √h dW       (L = 1: dx = f dt + √h dW)
// by the weak Taylor scheme of order 2 (Milstein 1978; Kloeden & Platen 1992, equation 14.2.1), step tol / rate. The
// step is chosen from where the trajectory is and cut only to meet the next save, so that it stays adapted. What the
// pull does alone is taken to order 5: weak noise leaves laws so narrow that an error of order 2 in their place would
// show (methods for small noise: Milstein & Tretyakov 2004, Stochastic Numerics for Mathematical Physics, chapter 3).
#pragma once

#include "kernels.hpp"
#include "simd/rng.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// exp by e^r · 2^k, |r| ≤ ½ log 2; arguments beyond ±700 count as ±700. Relative error 3e-16.
SADDLESCOPE_INLINE Vec<double> exp(Vec<double> x) {
  x = select<double>(x < 700.0, x, set1(700.0));
  x = select<double>(x > -700.0, x, set1(-700.0));
  const Vec<double> shifted = fma(x, set1(1.4426950408889634), set1(0x1.8p52));
  const Vec<double> k = shifted - 0x1.8p52;
  const Vec<double> r = fma(k, set1(-1.9082149292705877e-10), fma(k, set1(-0.69314718036912382), x));
  const Vec<double> e =
      polynomial<double>(Group<Vec<double>, 1>{{r}}, 1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720,
                         1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600)
          .v[0];
  return (Vec<double>)((WordVec<double>)e + ((WordVec<double>)shifted << 52));
}

struct ModeBlock {
  using V = Vec<double>;
  using I = IntVec<double>;
  static constexpr int kLanes = Lane<double>::count;
  static constexpr int kRegisters = 4;                       // independent steps side by side hide each other's latency
  static constexpr int kMembers = 16 * kRegisters * kLanes;  // trajectories a call takes: lanes hardly ever wait

  const Mode& mode;
  const ModeEnsemble& ensemble;
  V level_noise[kModeLevels];
  V ceiling;           // of x
  int64_t next, last;  // trajectories not yet begun
  bool gap = true;     // some lane is free
  struct Register {
    Stream<double> stream;
    V x, time, save;                        // save: the next time to record
    V side[kModeLevels];                    // ±1: the level lies ahead that way; 0: passed
    int64_t member[kLanes], saved[kLanes];  // trajectory in the lane (−1: none), saves written
  } registers[kRegisters];

  // Pull f with four derivatives in x, variance rate h with two, and the local rate.
  struct Local {
    V f, f1, f2, f3, f4, h, h1, h2, rate;
  };

  SADDLESCOPE_INLINE Local local(V x) const {
    const double T = mode.temperature, L = mode.depth;
    if (mode.depth == 1) {
      const V d = x - mode.center, slope = set1(2.0 * T * mode.alpha);
      const V h = T * fma(mode.alpha * d, d, set1(mode.floor));
      return {fma(set1(-mode.beta1), x, set1(mode.beta2)),
              set1(-mode.beta1),
              V{},
              V{},
              V{},
              h,
              slope * d,
              slope,
              set1(mode.beta1 + T * mode.alpha)};
    }
    const V a = exp(x);
    V e = set1(1.0);  // a^{L−2}
    for (int l = 2; l < mode.depth; ++l) e *= a;
    const V s = e * (a * a), d = s - mode.center, pull = mode.beta1 * s * e, q = T * e * e;
    const V free = fma(set1(mode.beta2), e, -pull), f = free - mode.decay, f1 = fma(set1(L - 2), free, -L * pull);
    const V f2 = fma(set1(L - 2), f1, -L * (2 * L - 2) * pull);
    const V f3 = fma(set1(L - 2), f2, -L * (2 * L - 2) * (2 * L - 2) * pull);
    const V f4 = fma(set1(L - 2), f3, -L * (2 * L - 2) * (2 * L - 2) * (2 * L - 2) * pull);
    // g = α d² + floor and its derivatives in x
    const V g = fma(mode.alpha * d, d, set1(mode.floor)), as = 2 * L * mode.alpha * s;
    const V g1 = as * d, g2 = L * as * (s + d), k = set1(2 * L - 4);
    const V h = q * g, qg1 = q * g1, h1 = fma(k, h, qg1), h2 = fma(k, h1 + qg1, q * g2);
    // In a step neither the pull nor √h, which goes like a^{L−2} below s* and like a^{2L−2} above, may change by much.
    const V size = (L - 1) * e * fma(set1(mode.beta1), s, set1(__builtin_fabs(mode.beta2)));
    const V below = (1 + (L - 2) * (L - 2)) * h, above = (2 * L - 2) * (2 * L - 2) * mode.alpha * (s * s) * q;
    return {f, f1, f2, f3, f4, h, h1, h2, size + below + above + mode.decay};
  }

  // Taylor's terms of x' = f in dt³, dt⁴ and dt⁵, divided by f.
  struct Curve {
    V third, fourth, fifth;
  };

  static SADDLESCOPE_INLINE Curve curve(const Local& c) {
    const V f1 = c.f1, ff2 = c.f * c.f2, f1f1 = f1 * f1, fff3 = c.f * c.f * c.f3;
    const V fifth =
        fma(f1f1, fma(set1(11.0), ff2, f1f1), fma(4.0 * ff2, ff2, fma(7.0 * f1, fff3, c.f * c.f * c.f * c.f4)));
    return {(f1f1 + ff2) * (1.0 / 6), fma(f1, fma(set1(4.0), ff2, f1f1), fff3) * (1.0 / 24), fifth * (1.0 / 120)};
  }

  SADDLESCOPE_INLINE void step(Register& r, V normal) {
    const Local c = local(r.x);
    const V left = r.save - r.time, half = set1(mode.depth == 1 ? 0.0 : 0.5);
    V dt = mode.tolerance / c.rate;
    const I reached = ~((dt < left) & (dt > 0.0));  // an overflow of the rate must not stop the clock
    dt = select<double>(reached, left, dt);
    const V spread = sqrt(c.h * dt), mu = fma(-half, c.h, c.f);
    const V mu1 = fma(-half, c.h1, c.f1), mu2 = fma(-half, c.h2, c.f2);
    const V bent = fma(c.h1, fma(set1(-0.125), c.h1, 0.5 * mu), 0.25 * c.h * c.h2) / (c.h + 1e-300) + mu1;
    const V second = fma(bent * spread, normal, dt * fma(mu, mu1, 0.5 * mu2 * c.h));
    const V milstein = fma(0.25 * c.h1 * dt, fma(normal, normal, set1(-1.0)), fma(mu, dt, spread * normal));
    const Curve bends = curve(c);
    const V higher = dt * dt * dt * c.f * fma(dt, fma(dt, bends.fifth, bends.fourth), bends.third);
    const V moved = fma(0.5 * dt, second, milstein) + higher;
    const V from = r.x, top = select<double>(r.x > ceiling, r.x, ceiling), there = r.x + moved;
    r.x = select<double>(there > top, top, there);
    r.time = select<double>(reached, r.save, r.time + dt);
    if (mode.levels > 0) {
      // A path seen only at steps overshoots by 0.5826 standard deviations of a step on average (Gobet & Menozzi 2010):
      // by so much each level is nearer, with the noise half way to it.
      const V root = sqrt(dt), nearer = 0.29129857896950536 * spread;
      for (int j = 0; j < mode.levels; ++j) {
        const V beyond = r.side[j] * (r.x - ensemble.levels[j]), shift = fma(level_noise[j], root, nearer);
        const I hit = (beyond + shift > 0.0) & (left > 0.0) & (r.side[j] != 0.0);
        if (any<double>(hit)) passed(r, j, hit, from, moved, dt);
      }
    }
    if (any<double>(reached)) record(r, reached);
  }

  // A level passed in a step: when the noiseless path from its begin, and in proportion what noise adds, was there; at
  // the end of the step if it is only about to be passed.
  void passed(Register& r, int j, I hit, V from, V moved, V dt) {
    const Local c = local(from);
    const Curve bends = curve(c);
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!hit[lane] || r.member[lane] < 0) continue;
      const double side = r.side[j][lane], level = ensemble.levels[j], h = dt[lane], f = c.f[lane], f1 = c.f1[lane];
      const double b3 = bends.third[lane], b4 = bends.fourth[lane], b5 = bends.fifth[lane];
      const auto flow = [&](double t) { return f * t * (1 + t * (0.5 * f1 + t * (b3 + t * (b4 + t * b5)))); };
      const double noise = moved[lane] - flow(h);
      double low = 0, high = 1;
      if (side * (from[lane] + moved[lane] - level) <= 0) {
        low = 1;
      } else {
        for (int k = 0; k < 52; ++k) {
          const double middle = 0.5 * (low + high);
          (side * (from[lane] + flow(middle * h) + middle * noise - level) < 0 ? low : high) = middle;
        }
      }
      ensemble.passages[r.member[lane] * mode.levels + j] = r.time[lane] - (1 - low) * h;
      r.side[j][lane] = 0.0;
    }
  }

  void record(Register& r, I reached) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!reached[lane] || r.member[lane] < 0) continue;
      ensemble.states[r.member[lane] * ensemble.saves + r.saved[lane]] = r.x[lane];
      if (++r.saved[lane] < ensemble.saves) {
        r.save[lane] = ensemble.times[r.saved[lane]];
      } else {
        r.member[lane] = -1;
        gap = true;
      }
    }
  }

  // The next trajectory into every free lane; false when all are done.
  bool refill() {
    bool busy = false;
    for (Register& r : registers)
      for (int lane = 0; lane < kLanes; ++lane) {
        if (r.member[lane] < 0 && next < last) begin(r, lane, next++);
        busy |= r.member[lane] >= 0;
      }
    gap = false;
    return busy;
  }

  void begin(Register& r, int lane, int64_t i) {
    r.member[lane] = i;
    r.saved[lane] = 0;
    r.x[lane] = ensemble.start[i];
    r.time[lane] = 0.0;
    r.save[lane] = ensemble.times[0];
    r.stream.s0[lane] = ensemble.words[4 * i];
    r.stream.s1[lane] = ensemble.words[4 * i + 1];
    r.stream.s2[lane] = ensemble.words[4 * i + 2];
    r.stream.s3[lane] = ensemble.words[4 * i + 3];
    for (int j = 0; j < mode.levels; ++j) {
      const double ahead = ensemble.levels[j] - ensemble.start[i];
      r.side[j][lane] = ahead > 0 ? 1.0 : ahead < 0 ? -1.0 : 0.0;
      ensemble.passages[i * mode.levels + j] = ahead == 0 ? 0.0 : __builtin_inf();
    }
  }

  static void run(const Mode& mode, const ModeEnsemble& ensemble, int64_t first) {
    const int64_t end = first + kMembers < ensemble.count ? first + kMembers : ensemble.count;
    ModeBlock block{mode, ensemble, {}, {}, first, end, true, {}};
    // At L ≥ 3 noise can drive a to overflow: a climb of a by e^m happens with probability e^{−m}, and the way back
    // takes no time. So x is held below the ceiling at which rates are 1e40 times those at s*.
    const double strong = mode.center > 1.0 ? mode.center : 1.0, L = mode.depth;
    block.ceiling =
        set1(mode.depth == 1 ? __builtin_inf() : __builtin_log(strong) / L + 40 * __builtin_log(10.0) / (4 * L - 4));
    for (int j = 0; j < mode.levels; ++j)
      block.level_noise[j] = 0.29129857896950536 * sqrt(block.local(set1(ensemble.levels[j])).h);
    for (Register& r : block.registers)
      for (int64_t& member : r.member) member = -1;
    while (!block.gap || block.refill()) {
      V normals[kRegisters][2];
      for (int k = 0; k < kRegisters; ++k) block.registers[k].stream.template pairs<1>(normals[k], set1(1.0));
      for (int turn = 0; turn < 2; ++turn)
        for (int k = 0; k < kRegisters; ++k) block.step(block.registers[k], normals[k][turn]);
    }
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
