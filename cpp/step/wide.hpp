// Trajectories one after another, each by blocked products: for wide networks and small ensembles.
//
// A group of at most as many trajectories as there are lanes still draws its noise in lanes: when the first of the
// group asks for numbers all get theirs, on tapes that the others read in their turn. The bits are those of lanes.
#pragma once

#include <cstring>
#include <deque>

#include "simd/gemm.hpp"
#include "step/walk.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// The tapes of a group: what each of its trajectories draws in one step.
template <class T>
struct Tapes {
  Stream<T> stream;
  const int members;
  const int64_t length;
  T* const rows;
  int64_t end = 0;

  Tapes(int group, int64_t numbers, Arena& arena)
      : members(group), length(numbers), rows(arena.take<T>(group * numbers)) {}

  T* row(int member) const { return rows + member * length; }

  void fill(int64_t count, T scale) {
    constexpr int n = Lane<T>::count, together = 96;  // whole groups of pairs, whole squares
    Vec<T> drawn[together];
    for (int64_t i = 0; i < count; i += together) {
      const int64_t now = std::min<int64_t>(together, count - i);
      stream.fill(drawn, now, scale);
      for (int64_t k = 0; k < now; k += n) {
        transpose<T>(drawn + k);
        const Part<T> part(std::min<int64_t>(n, now - k));
        for (int member = 0; member < members; ++member) part.store(row(member) + end + i + k, drawn[k + member]);
      }
    }
    end += count;
  }
  void chi(int64_t degrees) {
    Vec<T> drawn = stream.chi(degrees);
    for (int member = 0; member < members; ++member) row(member)[end] = at(drawn, member);
    ++end;
  }
  void below(uint32_t bound) {
    int32_t drawn[Lane<T>::count];
    stream.below(bound, drawn);
    for (int member = 0; member < members; ++member) std::memcpy(row(member) + end, drawn + member, sizeof(int32_t));
    ++end;
  }
};

// Noise of one member of a group.
template <class T>
struct TapeNoise {
  Tapes<T>* tapes = nullptr;
  int member = 0;
  int64_t read = 0;
  Given<T> given;

  void start_step(const Given<T>& normals) {
    given = normals;
    read = 0;
    if (member == 0) tapes->end = 0;
  }
  void fill(T* out, int64_t count, T scale) {
    if (given.at) return given.fill(out, count, scale);
    if (member == 0) tapes->fill(count, scale);
    std::memcpy(out, tapes->row(member) + read, size_t(count) * sizeof(T));
    read += count;
  }
  T chi(int64_t degrees) {
    if (member == 0) tapes->chi(degrees);
    return tapes->row(member)[read++];
  }
  void below(uint32_t bound, int32_t* out) {
    if (member == 0) tapes->below(bound);
    std::memcpy(out, tapes->row(member) + read++, sizeof(int32_t));
  }
};

template <class T>
struct OneByOne {
  using Walk = SADDLESCOPE_ISA::Walk<T, TapeNoise<T>>;

  // Scratch memory: what all trajectories share, then what belongs to each.
  struct Sizes {
    int64_t shared, own;
  };
  static Sizes sizes(const Problem& problem, const Method& method, const Span& span, int members) {
    Arena shared{nullptr}, own{nullptr};
    Walk walk(problem, method, EnsembleOf<T>{}, span, 0, own, shared);
    Tapes<T>(members, walk.stepper.draws(), shared);
    shared.take<T>(Packing<T>::most(walk.net.longest()));
    return {shared.used, own.used};
  }
  static int64_t scratch(const Problem& problem, const Method& method, const Span& span, int members) {
    const Sizes size = sizes(problem, method, span, members);
    return size.shared + members * size.own;
  }

  static void advance(const Problem& problem, const Method& method, const EnsembleOf<T>& ensemble, const Span& span,
                      int64_t first, int group, void* scratch) {
    const int members = int(std::min<int64_t>(group, ensemble.count - first));
    const Sizes size = sizes(problem, method, span, members);
    std::deque<Walk> walks;
    Arena shared{nullptr}, own{static_cast<char*>(scratch) + size.shared};
    for (int member = 0; member < members; ++member) {
      shared = {static_cast<char*>(scratch)};
      walks.emplace_back(problem, method, ensemble, span, first + member, own, shared);
      walks.back().load(span);
    }
    Tapes<T> tapes(members, walks[0].stepper.draws(), shared);
    packing<T>.size = Packing<T>::most(walks[0].net.longest());
    packing<T>.data = shared.take<T>(packing<T>.size);
    load_words(tapes.stream, ensemble.words, first + members, first);
    for (Walk& walk : walks)
      walk.stepper.noise.tapes = &tapes, walk.stepper.noise.member = int(walk.events.first - first);
    for (int64_t step = span.from; step < span.until; ++step)
      for (Walk& walk : walks) walk.advance(span, step);
    for (Walk& walk : walks) {
      walk.look(span.until, span.factor(span.until));
      walk.store(span);
    }
    store_words(tapes.stream, ensemble.words, first + members, first);
    packing<T> = {};
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
