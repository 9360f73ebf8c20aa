// Histogram and autocorrelation of the mode strengths inside a run: the fast twin of engines/correlator.py.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class V>
struct Accumulator {
  const Accumulation& wanted;
  const Problem& problem;
  const int64_t first;
  int64_t* seen;  // histogram of this block, added to the ensemble's at the end: whole numbers, in any order

  Accumulator(const Accumulation& t, const Problem& p, int64_t start, Arena& arena)
      : wanted(t), problem(p), first(start), seen(arena.take<int64_t>(int64_t(p.modes) * (t.bins + 2))) {
    if (arena.base)
      for (int64_t i = 0; i < int64_t(p.modes) * (t.bins + 2); ++i) seen[i] = 0;
  }

  bool due(int64_t step) const { return step >= wanted.start && (step - wanted.start) % wanted.every == 0; }

  void take(V* now, Mask<V> alive) {
    for (int lane = 0; lane < Element<V>::count; ++lane)
      for (int a = 0; at(alive, lane) && a < problem.modes; ++a) {
        bin(a, at(now[a], lane));
        correlate(a, lane, double(at(now[a], lane)) - problem.strengths[a]);
      }
  }

  void bin(int mode, double strength) {
    double place = (strength - wanted.low) * (wanted.bins / (wanted.high - wanted.low));
    place = place >= -1 ? (place > wanted.bins ? wanted.bins : place) : -1;
    ++seen[int64_t(mode) * (wanted.bins + 2) + int64_t(__builtin_floor(place)) + 1];
  }

  // Every level: the newest sample first, its products with the last ones, how many, their sum. Every second time a
  // level hands the mean of two on to the next.
  void correlate(int mode, int lane, double sample) {
    double* row = wanted.correlator + ((first + lane) * problem.modes + mode) * wanted.levels * kCorrelatorRow;
    for (int level = 0; level < wanted.levels; ++level, row += kCorrelatorRow) {
      double *newest = row, *products = row + kCorrelatorLags;
      for (int j = kCorrelatorLags - 1; j > 0; --j) newest[j] = newest[j - 1];
      newest[0] = sample;
      for (int j = 0; j < kCorrelatorLags; ++j) products[j] += sample * newest[j];
      row[2 * kCorrelatorLags] += 1;
      row[2 * kCorrelatorLags + 1] += sample;
      if (int64_t(row[2 * kCorrelatorLags]) % 2) return;
      sample = 0.5 * (newest[0] + newest[1]);
    }
  }

  void store() const {
    for (int64_t i = 0; i < int64_t(problem.modes) * (wanted.bins + 2); ++i)
      __atomic_fetch_add(wanted.histogram + i, seen[i], __ATOMIC_RELAXED);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
