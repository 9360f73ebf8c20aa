// Euler–Maruyama with a fixed step for the SDE of one mode, one trajectory a lane, in the weight coordinate a:
//   a ← (1 − γ dt) a + a^{L−1} [(β₂ − β₁ s) dt + √(T g(s) dt) z],  s = a^L,  g(s) = α (s − center)² + floor.
// No event is tested between saves: a trajectory may cross 0, and one that overflows continues as infinity or NaN.
#pragma once

#include "kernels.hpp"
#include "simd/streams.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T, int Depth>  // 0: any depth, and with decay
struct EulerBlock {
  using V = Vec<T>;
  using Walks = saddlescope::Walks<T, typename Lane<T>::Word>;
  static constexpr int kTogether =
      sizeof(T) == 4 ? 4 : 3;  // measured; registers side by side hide each other's latency
  static constexpr int kMembers = kTogether * Lane<T>::count;
  using Registers = Group<V, kTogether>;

  const int depth;
  const V center, rest, slope, floor, curvature, keep;  // pull · dt = rest + slope · d, T g dt = floor + curvature · d²
  Stream<T> stream[kTogether];
  Registers a, squared, second;  // √squared · second: the normals that an odd number of steps leaves
  bool left_over = false;

  EulerBlock(const Mode& mode, double dt)
      : depth(mode.depth),
        center(set1(T(mode.center))),
        rest(set1(T((mode.beta2 - mode.beta1 * mode.center) * dt))),
        slope(set1(T(-mode.beta1 * dt))),
        floor(set1(T(mode.temperature * mode.floor * dt))),
        curvature(set1(T(mode.temperature * mode.alpha * dt))),
        keep(set1(T(1 - mode.decay * dt))) {}

  // One step with the normals √squared · direction.
  SADDLESCOPE_INLINE void step(const Registers& direction) {
    a = each<kTogether>([&](int k) {
      const V from = a.v[k];
      V e = set1(T(1));  // a^{L−1}
      for (int l = 1; l < (Depth ? Depth : depth); ++l) e *= from;
      const V d = fma(e, from, -center), variance = fma(curvature * d, d, floor);
      const V move = fma(sqrt(variance * squared.v[k]), direction.v[k], fma(slope, d, rest));
      return fma(e, move, Depth ? from : keep * from);
    });
  }

  SADDLESCOPE_INLINE Registers draw() {
    Registers first;
    Stream<T>::polar([this](int k) -> Stream<T>& { return stream[k]; }, squared, first, second);
    return first;
  }

  void advance(int64_t steps) {
    if (steps > 0 && left_over) {
      step(second);
      left_over = false;
      --steps;
    }
    EulerBlock here = *this;  // its numbers stay in registers
    for (; steps > 1; steps -= 2) {
      here.step(here.draw());
      here.step(here.second);
    }
    a = here.a;
    for (int k = 0; k < kTogether; ++k) stream[k] = here.stream[k];
    if (steps > 0) {
      step(draw());
      left_over = true;
    }
  }

  static void run(const Mode& mode, double dt, const Walks& walks, int64_t first) {
    EulerBlock block(mode, dt);
    for (int k = 0; k < kTogether; ++k) {
      const int64_t begin = first + k * Lane<T>::count;
      load_words<T>(block.stream[k], walks.words, walks.count, begin);
      for (int lane = 0; lane < Lane<T>::count; ++lane)
        block.a.v[k][lane] = begin + lane < walks.count ? T(walks.start[begin + lane]) : T(0);
    }
    int64_t step = 0;
    for (int64_t save = 0; save < walks.saves; step = walks.steps[save++]) {
      block.advance(walks.steps[save] - step);
      for (int i = 0; i < kMembers && first + i < walks.count; ++i)
        walks.states[(first + i) * walks.saves + save] = block.a.v[i / Lane<T>::count][i % Lane<T>::count];
    }
  }
};

// Depths that occur most have their powers unrolled.
template <class T>
void euler(const Mode& mode, double dt, const Walks<T, typename Lane<T>::Word>& walks, int64_t first) {
  switch (mode.decay == 0 ? mode.depth : 0) {
    case 1:
      return EulerBlock<T, 1>::run(mode, dt, walks, first);
    case 2:
      return EulerBlock<T, 2>::run(mode, dt, walks, first);
    case 3:
      return EulerBlock<T, 3>::run(mode, dt, walks, first);
    case 4:
      return EulerBlock<T, 4>::run(mode, dt, walks, first);
    default:
      return EulerBlock<T, 0>::run(mode, dt, walks, first);
  }
}

}  // namespace saddlescope::SADDLESCOPE_ISA
