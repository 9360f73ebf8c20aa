// Deep linear networks, one trajectory a lane: a source of the map's gradient Ḡ, then one pull-back through the layers.
//
// All in the teacher's basis: the end-to-end map P shows the mode strengths on its diagonal. Per step
//   forward   F_l = W_l F_{l−1},  P = W_L F_{L−1},  Δ = P − diag(s*)
//   source    Ḡ = K Rᵀ with E = Δ R and K = E + noise (Langevin) or (E C − σ Z) Cᵀ / B (SGD, Bartlett)
//   pull-back V ← W_lᵀ V down the layers, W_l ← W_l − dt · V F_{l−1}ᵀ
#pragma once

#include <initializer_list>
#include <optional>

#include "kernels.hpp"
#include "product.hpp"
#include "rng.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

constexpr int kMaxDepth = 256;

// Hands out aligned pieces of the scratch memory; with no memory it only counts.
struct Arena {
  char* base;
  int64_t used = 0;
  template <class U>
  U* take(int64_t count) {
    char* at = base ? base + used : nullptr;
    used += (count * int64_t(sizeof(U)) + 63) / 64 * 64;
    return reinterpret_cast<U*>(at);
  }
};

// The layers of one block of trajectories and what is derived from them.
template <class T>
struct Network {
  using V = Vec<T>;
  const Problem& problem;
  const int *widths, depth, dx, dy, rank, modes;
  const bool white;
  V* weight[kMaxDepth] = {};  // W_l (n_l, n_{l−1}), l from 0
  V* prefix[kMaxDepth] = {};  // F_l = W_l … W_0; F_0 is W_0 itself
  // Two panels serve everything of a step that has dx columns, so that a block stays in the fastest cache:
  // P, Δ and Ḡ in the first, noise in the second, V of the pull-back in turn.
  V *panel[2], *map;
  V *residual, *root;  // E = Δ R (dy, r), Δ itself for white inputs; R (dx, r)
  int64_t parameters = 0;

  Network(const Problem& p, Arena& arena)
      : problem(p),
        widths(p.widths),
        depth(p.depth),
        dx(p.widths[0]),
        dy(p.widths[p.depth]),
        rank(p.rank),
        modes(p.modes),
        white(p.root == nullptr) {
    int64_t widest = 0;
    for (int l = 0; l < depth; ++l) {
      weight[l] = arena.take<V>(size(l));
      parameters += size(l);
      if (widths[l] > widest) widest = widths[l];
    }
    prefix[0] = weight[0];
    for (int l = 1; l + 1 < depth; ++l) prefix[l] = arena.take<V>(int64_t(widths[l + 1]) * dx);
    if (dy > widest) widest = dy;
    const int64_t triangle = int64_t(rank) * (rank + 1) / 2;
    for (V*& buffer : panel) buffer = arena.take<V>(widest * dx > triangle ? widest * dx : triangle);
    map = panel[0];
    residual = white ? map : arena.take<V>(int64_t(dy) * rank);
    root = white ? nullptr : arena.take<V>(int64_t(dx) * rank);
    if (root && arena.base)
      for (int64_t i = 0; i < int64_t(dx) * rank; ++i) root[i] = set1<T>(T(p.root[i]));
  }

  int64_t size(int l) const { return int64_t(widths[l + 1]) * widths[l]; }
  View<T> layer(int l) const { return dense<T>(weight[l], widths[l]); }

  // Rows of `from`, one per trajectory, into lanes; lanes beyond the last trajectory repeat it.
  template <class From>
  void load(const From* from, int64_t n, int64_t first) {
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const From* row = from + (first + lane < n ? first + lane : n - 1) * parameters;
      for (int l = 0; l < depth; row += size(l++))
        for (int64_t i = 0; i < size(l); ++i) weight[l][i][lane] = T(row[i]);
    }
  }
  void store(T* to, int64_t n, int64_t first) const {
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) {
      T* row = to + (first + lane) * parameters;
      for (int l = 0; l < depth; row += size(l++))
        for (int64_t i = 0; i < size(l); ++i) row[i] = weight[l][i][lane];
    }
  }

  // P and the prefixes of W.
  void forward(V* const* w) {
    prefix[0] = w[0];
    for (int l = 1; l < depth; ++l)
      multiply<T>(dense<T>(w[l], widths[l]), dense<T>(prefix[l - 1], dx), dense<T>(l + 1 < depth ? prefix[l] : map, dx),
                  widths[l + 1], dx, widths[l]);
    if (depth == 1)
      for (int64_t i = 0; i < int64_t(dy) * dx; ++i) map[i] = w[0][i];
  }

  // P becomes Δ, and E = Δ R.
  void subtract_teacher() {
    for (int a = 0; a < modes; ++a) map[int64_t(a) * dx + a] -= T(problem.strengths[a]);
    if (!white) multiply<T>(dense<T>(map, dx), dense<T>(root, rank), dense<T>(residual, rank), dy, rank, dx);
  }

  // Ḡ = K Rᵀ, in the place of Δ; K itself for white inputs.
  V* colour(V* k) {
    if (white) return k;
    multiply<T>(dense<T>(k, rank), dense<T>(root, rank).transposed(), dense<T>(map, dx), dy, dx, rank);
    return map;
  }

  // target_l = α ∂W_l (or += α ∂W_l), from the top down; target may be w itself. Ḡ stands in one of the panels.
  void pull_back(V* const* w, V* map_gradient, V* const* target, T alpha, bool accumulate) {
    V* v = map_gradient;
    for (int l = depth - 1; l > 0; --l) {
      V* below = v == panel[0] ? panel[1] : panel[0];
      multiply<T>(dense<T>(w[l], widths[l]).transposed(), dense<T>(v, dx), dense<T>(below, dx), widths[l], dx,
                  widths[l + 1]);
      multiply<T>(dense<T>(v, dx), dense<T>(prefix[l - 1], dx).transposed(), dense<T>(target[l], widths[l]),
                  widths[l + 1], widths[l], dx, alpha, accumulate);
      v = below;
    }
    const V factor = set1<T>(alpha);
    for (int64_t i = 0; i < size(0); ++i) target[0][i] = accumulate ? fma(factor, v[i], target[0][i]) : factor * v[i];
  }

  // u_αᵀ P v_α, or ‖U_bᵀ P V_b‖_F / √m in a block of m equal strengths; P must stand in map.
  V strength(int a) const {
    const int start = problem.block[a];
    int stop = a + 1;
    while (stop < modes && problem.block[stop] == start) ++stop;
    if (stop - start == 1) return map[int64_t(a) * dx + a];
    V sum{};
    for (int i = start; i < stop; ++i)
      for (int j = start; j < stop; ++j) sum = fma(map[int64_t(i) * dx + j], map[int64_t(i) * dx + j], sum);
    return sqrt(sum * T(1.0 / (stop - start)));
  }
};

template <class T>
SADDLESCOPE_INLINE Vec<T> squared_norm(const Vec<T>* a, int64_t count) {
  Vec<T> sum{};
  for (int64_t i = 0; i < count; ++i) sum = fma(a[i], a[i], sum);
  return sum;
}

// out_α = Σ_i a_iα b_iα: the inner products of the columns of two matrices with `columns` columns, some side by side.
template <class T, int Together = 5>
void column_products(const Vec<T>* a, const Vec<T>* b, int rows, int columns, Vec<T>* out, int from = 0) {
  int j = from;
  for (; j + Together <= columns; j += Together) {
    Vec<T> sum[Together] = {};
    for (int64_t i = j; i < int64_t(rows) * columns; i += columns)
#pragma GCC unroll 8
      for (int k = 0; k < Together; ++k) sum[k] = fma(a[i + k], b[i + k], sum[k]);
    for (int k = 0; k < Together; ++k) out[j + k] = sum[k];
  }
  if constexpr (Together > 1) column_products<T, Together - 1>(a, b, rows, columns, out, j);
}

// Closed-form gradient noise per mode, per unit T, from Cov[G] with N = E Eᵀ + σ² I:
//   end to end Σ_{l,k} (p_lᵀ N p_k)(q_lᵀ Σ q_k) + (p_lᵀ ΔΣ q_k)(p_kᵀ ΔΣ q_l),
//   p_l = W_{>l} W_{>l}ᵀ u_α, q_l = W_{<l}ᵀ W_{<l} v_α.
template <class T>
struct ModeNoise {
  using V = Vec<T>;
  Network<T>& net;
  V* suffix[kMaxDepth] = {};                                 // W_{>l} (dy, n_l), below the top layer
  V *left[kMaxDepth], *right[kMaxDepth], *error[kMaxDepth];  // p_l (dy, m); Rᵀ q_l and Eᵀ p_l (r, m)
  V *gram, *outer, *inner, *cross, *mirror, *total;

  ModeNoise(Network<T>& network, Arena& arena) : net(network) {
    for (int l = 0; l < net.depth; ++l) {
      if (l + 2 < net.depth) suffix[l] = arena.take<V>(int64_t(net.dy) * net.widths[l + 1]);
      left[l] = arena.take<V>(int64_t(net.dy) * net.modes);
      right[l] = arena.take<V>(int64_t(net.rank) * net.modes);
      error[l] = arena.take<V>(int64_t(net.rank) * net.modes);
    }
    if (net.depth > 1) suffix[net.depth - 2] = net.weight[net.depth - 1];
    gram = arena.take<V>(int64_t(net.dx) * net.modes);
    for (V** buffer : {&outer, &inner, &cross, &mirror, &total}) *buffer = arena.take<V>(net.modes);
    if (arena.base) ends();
  }

  // p_L = u_α and Rᵀ q_1 = Rᵀ v_α do not change.
  void ends() {
    for (int i = 0; i < net.dy; ++i)
      for (int a = 0; a < net.modes; ++a) left[net.depth - 1][i * net.modes + a] = set1<T>(T(i == a));
    for (int k = 0; k < net.rank; ++k)
      for (int a = 0; a < net.modes; ++a)
        right[0][k * net.modes + a] = net.white ? set1<T>(T(k == a)) : net.root[a * net.rank + k];
  }

  // The columns above; wants prefixes and E up to date.
  void prepare() {
    const int dx = net.dx, dy = net.dy, m = net.modes, r = net.rank, top = net.depth - 1;
    for (int l = top; l >= 0; --l) {
      const int n = net.widths[l + 1];
      if (l == top) {
        for (int64_t k = 0; k < r; ++k)
          for (int64_t a = 0; a < m; ++a) error[l][k * m + a] = net.residual[a * r + k];
      } else {
        if (l + 1 < top)
          multiply<T>(dense<T>(suffix[l + 1], net.widths[l + 2]), net.layer(l + 1), dense<T>(suffix[l], n), dy, n,
                      net.widths[l + 2]);
        multiply<T>(dense<T>(suffix[l], n), dense<T>(suffix[l], n).transposed(), dense<T>(left[l], m), dy, m, n);
        multiply<T>(dense<T>(net.residual, r).transposed(), dense<T>(left[l], m), dense<T>(error[l], m), r, m, dy);
      }
      if (l == 0) break;
      V* columns = net.white ? right[l] : gram;
      multiply<T>(dense<T>(net.prefix[l - 1], dx).transposed(), dense<T>(net.prefix[l - 1], dx), dense<T>(columns, m),
                  dx, m, net.widths[l]);
      if (!net.white)
        multiply<T>(dense<T>(net.root, r).transposed(), dense<T>(gram, m), dense<T>(right[l], m), r, m, dx);
    }
  }
  // total_α = weight · (p_lᵀ N p_k · q_lᵀ Σ q_k + p_lᵀ ΔΣ q_k · p_kᵀ ΔΣ q_l), or added to it.
  void term(int l, int k, T weight, bool add) const {
    const T variance = T(net.problem.label_noise * net.problem.label_noise);
    const int m = net.modes;
    column_products<T>(error[l], error[k], net.rank, m, outer);
    column_products<T>(left[l], left[k], net.dy, m, inner);
    for (int a = 0; a < m; ++a) outer[a] = fma(set1<T>(variance), inner[a], outer[a]);
    column_products<T>(right[l], right[k], net.rank, m, inner);
    column_products<T>(error[l], right[k], net.rank, m, cross);
    if (l != k) column_products<T>(error[k], right[l], net.rank, m, mirror);
    for (int a = 0; a < m; ++a) {
      const V both = fma(outer[a], inner[a], cross[a] * (l == k ? cross[a] : mirror[a])) * weight;
      total[a] = add ? total[a] + both : both;
    }
  }

  void end_to_end() const {
    for (int l = 0; l < net.depth; ++l)
      for (int k = 0; k <= l; ++k) term(l, k, l == k ? T(1) : T(2), l > 0);
  }
};

// The source of Ḡ of one method, and its step.
template <class T>
struct Stepper {
  using V = Vec<T>;
  Network<T>& net;
  const Method& method;
  Stream<T> stream;
  const int columns;         // of Z: r, or min(B, r) for SGD
  V *noise, *mixed;          // the second panel; H or C
  const T* given = nullptr;  // given normals of this block, and how to walk them
  int64_t stride = 0, last = 0;

  Stepper(Network<T>& network, const Method& m, Arena& arena)
      : net(network),
        method(m),
        columns(m.source == Source::sgd && m.batch < net.rank ? int(m.batch) : net.rank),
        noise(net.panel[1]),
        mixed(arena.take<V>(int64_t(net.rank) * net.rank)) {
    if (method.source == Source::isotropic) take_isotropic(arena);
  }

  // `count` standard normals times `scale` for every lane, from the streams or from those given.
  void draw(V* out, int64_t count, T scale) {
    if (!given) return stream.fill(out, count, scale);
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const T* from = given + (lane < last ? lane : last) * stride;
      for (int64_t i = 0; i < count; ++i) out[i][lane] = from[i] * scale;
    }
    given += count;
  }

  // Ḡ at the current E.
  V* source() {
    switch (method.source) {
      case Source::gradient:
        return net.colour(noisy(T(1)));
      case Source::sgd:
        return net.colour(bartlett());
      case Source::aligned:
        return on_modes();
      default:
        return net.colour(net.residual);
    }
  }

  // mean · E + sqrt(lr / (B dt)) (E H − σ Z).
  V* noisy(T mean) {
    const int64_t r = net.rank, dy = net.dy;
    const T scale = T(__builtin_sqrt(method.lr / (method.batch * method.dt))), sigma = T(net.problem.label_noise);
    draw(noise, r * (r + 1) / 2, scale);
    const V* h = noise;
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t j = 0; j < i; ++j) mixed[i * r + j] = mixed[j * r + i] = *h++;
      mixed[i * r + i] = fma(*h++, set1<T>(T(1.4142135623730951)), set1<T>(mean));
    }
    if (sigma > 0) draw(noise, dy * r, -sigma * scale);
    multiply<T>(dense<T>(net.residual, r), dense<T>(mixed, r), dense<T>(noise, r), dy, r, r, T(1), sigma > 0);
    return noise;
  }

  // The exact batch gradient of any B: x xᵀ summed over the batch is R C Cᵀ Rᵀ, C lower trapezoidal (Bartlett 1933).
  V* bartlett() {
    const int64_t r = net.rank, dy = net.dy, c = columns, batch = int64_t(method.batch);
    draw(noise, below_diagonal(), T(1));
    const V* below = noise;
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j < c; ++j) mixed[i * c + j] = j < i ? *below++ : V{};
    for (int64_t i = 0; i < c; ++i) mixed[i * c + i] = stream.chi(batch - i);
    const T sigma = T(net.problem.label_noise);
    if (sigma > 0) draw(noise, dy * c, -sigma);
    multiply<T>(dense<T>(net.residual, r), dense<T>(mixed, c), dense<T>(noise, c), dy, c, r, T(1), sigma > 0,
                Band::lower);
    multiply<T>(dense<T>(noise, c), dense<T>(mixed, c).transposed(), dense<T>(net.residual, r), dy, r, c,
                T(1.0 / method.batch), false, Band::upper);
    return net.residual;
  }
  int64_t below_diagonal() const {
    int64_t count = 0;
    for (int64_t i = 0; i < net.rank; ++i) count += i < columns ? i : columns;
    return count;
  }

  // Aligned noise: what of the gradient noise falls on the modes, added to the mean Ḡ.
  V* on_modes() {
    const V* full = noisy(T(0));
    V* mean = net.colour(net.residual);
    const int64_t r = net.rank;
    for (int64_t a = 0; a < net.modes; ++a) {
      V sum = net.white ? full[a * r + a] : V{};
      if (!net.white)
        for (int64_t j = 0; j < r; ++j) sum = fma(full[a * r + j], net.root[a * r + j], sum);
      mean[a * net.dx + a] += sum;
    }
    return mean;
  }

  // W ← W − dt ∂W.
  void step() {
    V* g = source();
    const V deviation = method.source == Source::isotropic ? isotropic_deviation(g) : V{};
    net.pull_back(net.weight, g, net.weight, T(-method.dt), true);
    if (method.source != Source::isotropic) return;
    for (int l = 0; l < net.depth; ++l) {
      draw(draws, net.size(l), T(1));
      for (int64_t i = 0; i < net.size(l); ++i) net.weight[l][i] = fma(deviation, draws[i], net.weight[l][i]);
    }
  }

  // sqrt(T dt Tr C / d), Tr C = Σ_l Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖².
  V isotropic_deviation(V* g) {
    const int dx = net.dx, dy = net.dy;
    const T variance = T(net.problem.label_noise * net.problem.label_noise);
    V trace{};
    V* v = g;                 // W_{>l}ᵀ ΔΣ
    V* e = net.residual;      // W_{>l}ᵀ E
    V norm = set1<T>(T(dy));  // ‖W_{>l}‖²
    V* suffix = nullptr;      // W_{>l}
    for (int l = net.depth - 1; l >= 0; --l) {
      const int rows = net.widths[l + 1], inner = net.widths[l];
      trace += fma(norm, set1<T>(variance), squared_norm<T>(e, int64_t(rows) * net.rank)) * input_power(l);
      if (l == 0) {
        trace += squared_norm<T>(v, int64_t(rows) * dx);
        break;
      }
      multiply<T>(dense<T>(v, dx), dense<T>(net.prefix[l - 1], dx).transposed(), dense<T>(draws, inner), rows, inner,
                  dx);
      trace += squared_norm<T>(draws, int64_t(rows) * inner);
      V *next_v = below_v[l & 1], *next_e = below_e[l & 1], *next_suffix = below_suffix[l & 1];
      multiply<T>(net.layer(l).transposed(), dense<T>(v, dx), dense<T>(next_v, dx), inner, dx, rows);
      multiply<T>(net.layer(l).transposed(), dense<T>(e, net.rank), dense<T>(next_e, net.rank), inner, net.rank, rows);
      if (suffix)
        multiply<T>(dense<T>(suffix, rows), net.layer(l), dense<T>(next_suffix, inner), dy, inner, rows);
      else
        for (int64_t i = 0; i < int64_t(dy) * inner; ++i) next_suffix[i] = net.weight[l][i];
      v = next_v, e = next_e, suffix = next_suffix;
      norm = squared_norm<T>(suffix, int64_t(dy) * inner);
    }
    const T factor = T(method.lr / method.batch * method.dt / double(net.parameters));
    return sqrt(trace * factor);
  }

  // Tr(W_{<l} Σ W_{<l}ᵀ).
  V input_power(int l) {
    const int rows = net.widths[l];
    if (l == 0) {
      if (net.white) return set1<T>(T(net.dx));
      return squared_norm<T>(net.root, int64_t(net.dx) * net.rank);
    }
    if (net.white) return squared_norm<T>(net.prefix[l - 1], int64_t(rows) * net.dx);
    multiply<T>(dense<T>(net.prefix[l - 1], net.dx), dense<T>(net.root, net.rank), dense<T>(power, net.rank), rows,
                net.rank, net.dx);
    return squared_norm<T>(power, int64_t(rows) * net.rank);
  }

  V *draws, *below_v[2], *below_e[2], *below_suffix[2], *power;
  void take_isotropic(Arena& arena) {
    int64_t widest = 0, largest = 0;
    for (int l = 0; l <= net.depth; ++l) widest = widest > net.widths[l] ? widest : net.widths[l];
    for (int l = 0; l < net.depth; ++l) largest = largest > net.size(l) ? largest : net.size(l);
    draws = arena.take<V>(largest);
    for (V*& buffer : below_v) buffer = arena.take<V>(widest * net.dx);
    for (V*& buffer : below_e) buffer = arena.take<V>(widest * net.rank);
    for (V*& buffer : below_suffix) buffer = arena.take<V>(widest * net.dy);
    power = arena.take<V>(widest * net.rank);
  }
};

// First passages, noise peaks and divergence, looked for at every step.
template <class T>
struct Events {
  using V = Vec<T>;
  using I = IntVec<T>;
  using Ens = Ensemble<T, typename Lane<T>::Word>;
  Network<T>& net;
  const Ens& ensemble;
  const int64_t first;
  V *now, *pending;           // per mode: strength at this step; next threshold
  V *noise, *peak, *at_peak;  // noise at this step; largest so far; strength there
  I *open, *peak_step;        // per mode: not yet learned; step of the peak
  I alive;

  Events(Network<T>& network, const Ens& ens, int64_t start, Arena& arena) : net(network), ensemble(ens), first(start) {
    for (V** buffer : {&now, &pending, &noise, &peak, &at_peak}) *buffer = arena.take<V>(net.modes);
    for (I** buffer : {&open, &peak_step}) *buffer = arena.take<I>(net.modes);
  }

  double& learned(int lane, int threshold, int mode) const {
    return ensemble.learned[((first + lane) * kThresholds + threshold) * net.modes + mode];
  }
  double& register_of(int lane, int row, int mode) const {
    return ensemble.peak[((first + lane) * 4 + row) * net.modes + mode];
  }
  bool present(int lane) const { return first + lane < ensemble.count; }

  void load(bool peaks) {
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      alive[lane] = present(lane) && ensemble.status[first + lane] == 0 ? -1 : 0;
      for (int a = 0; a < net.modes; ++a) {
        const bool here = present(lane);
        pending[a][lane] = here ? next_threshold(lane, a) : T(0);
        open[a][lane] = here && learned(lane, kThresholds - 1, a) == __builtin_inf() ? -1 : 0;
        if (!peaks) continue;
        peak[a][lane] = here ? T(register_of(lane, 0, a)) : T(0);
        const bool known = here && register_of(lane, 1, a) >= 0;  // NaN: not followed so far
        peak_step[a][lane] = known ? (typename Lane<T>::Int)register_of(lane, 1, a) : 0;
        at_peak[a][lane] = here ? T(register_of(lane, 2, a)) : T(0);
      }
    }
  }
  void store(bool peaks) const {
    if (!peaks) return;
    for (int lane = 0; lane < Lane<T>::count && present(lane); ++lane)
      for (int a = 0; a < net.modes; ++a) {
        register_of(lane, 0, a) = peak[a][lane];
        register_of(lane, 1, a) = double(peak_step[a][lane]);
        register_of(lane, 2, a) = at_peak[a][lane];
      }
  }

  T next_threshold(int lane, int mode) const {
    for (int q = 0; q < kThresholds; ++q)
      if (learned(lane, q, mode) == __builtin_inf()) return T(kThreshold[q] * net.problem.strengths[mode]);
    return T(__builtin_inf());
  }

  // Takes the strengths from P, before it becomes Δ.
  void read() {
    for (int a = 0; a < net.modes; ++a) now[a] = net.strength(a);
  }

  // The test of a step. Passages, infinities and NaN are rare, and all show as "not between −∞ and the threshold".
  void test(int64_t step, bool peaks) {
    I hit{};
    for (int a = 0; a < net.modes; ++a) hit |= ~((now[a] < pending[a]) & (now[a] > -T(__builtin_inf())));
    hit &= alive;
    if (__builtin_expect(any<T>(hit), 0)) passed(step, hit, peaks);
    for (int a = 0; peaks && a < net.modes; ++a) {
      const I higher = (noise[a] > peak[a]) & open[a] & alive;
      peak[a] = select<T>(higher, noise[a], peak[a]);
      at_peak[a] = select<T>(higher, now[a], at_peak[a]);
      peak_step[a] = higher ? IntVec<T>{} + (typename Lane<T>::Int)step : peak_step[a];
    }
  }

  __attribute__((noinline)) void passed(int64_t step, I hit, bool peaks) {
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      if (!hit[lane]) continue;
      if (!finite(lane)) {
        diverged(step, lane);
        continue;
      }
      for (int a = 0; a < net.modes; ++a) {
        for (int q = 0; q < kThresholds; ++q)
          if (learned(lane, q, a) == __builtin_inf() && now[a][lane] >= T(kThreshold[q] * net.problem.strengths[a]))
            learned(lane, q, a) = double(step);
        pending[a][lane] = next_threshold(lane, a);
        if (open[a][lane] && learned(lane, kThresholds - 1, a) < __builtin_inf()) {
          open[a][lane] = 0;
          if (peaks) register_of(lane, 3, a) = noise[a][lane];
        }
      }
    }
  }

  // A trajectory that diverges passes nothing in the same step, whichever mode shows it first.
  bool finite(int lane) const {
    for (int a = 0; a < net.modes; ++a)
      if (!(__builtin_fabs(now[a][lane]) < __builtin_inf())) return false;
    return true;
  }

  void diverged(int64_t step, int lane) {
    ensemble.status[first + lane] = step > 0 ? step : 1;  // 0 would say that all is well
    alive[lane] = 0;
    for (int l = 0; l < net.depth; ++l)
      for (int64_t i = 0; i < net.size(l); ++i) net.weight[l][i][lane] = T(__builtin_nan(""));
  }
};

// Everything a block of trajectories needs for the discrete methods.
template <class T>
struct Block {
  Arena arena;
  Network<T> net;
  Stepper<T> stepper;

  Block(const Problem& problem, const Method& method, void* scratch)
      : arena{static_cast<char*>(scratch)}, net(problem, arena), stepper(net, method, arena) {}
};

template <class T>
struct DeepLinear {
  using V = Vec<T>;
  using Word = typename Lane<T>::Word;
  using Ens = Ensemble<T, Word>;

  static int64_t scratch(const Problem& problem, const Method& method, bool peaks) {
    Block<T> block(problem, method, nullptr);
    Ens none{};
    Events<T> events(block.net, none, 0, block.arena);
    if (peaks) ModeNoise<T>(block.net, block.arena);
    return block.arena.used;
  }

  static void advance(const Problem& problem, const Method& method, const Ens& ensemble, const Span& span,
                      int64_t first, void* scratch) {
    Block<T> block(problem, method, scratch);
    Network<T>& net = block.net;
    Stepper<T>& stepper = block.stepper;
    Events<T> events(net, ensemble, first, block.arena);
    net.load(ensemble.weights, ensemble.count, first);
    load_words(stepper.stream, ensemble.words, ensemble.count, first);
    events.load(span.peaks);
    const int64_t steps = span.until - span.from, per_step = normals_per_step(problem, method);
    if (span.normals) {
      stepper.stride = steps * per_step;
      stepper.last = ensemble.count - 1 - first;
    }
    const T temperature = T(method.batch > 0 ? method.lr / method.batch : 0.0);
    std::optional<ModeNoise<T>> noise;
    if (span.peaks) noise.emplace(net, block.arena);
    for (int64_t step = span.from;; ++step) {
      net.forward(net.weight);
      events.read();
      net.subtract_teacher();
      if (noise) {
        noise->prepare();
        noise->end_to_end();
        for (int a = 0; a < net.modes; ++a) events.noise[a] = temperature * noise->total[a];
      }
      events.test(step, span.peaks);
      if (step == span.until) break;
      if (span.normals)
        stepper.given = static_cast<const T*>(span.normals) + first * stepper.stride + (step - span.from) * per_step;
      stepper.step();
    }
    net.store(ensemble.weights, ensemble.count, first);
    store_words(stepper.stream, ensemble.words, ensemble.count, first);
    events.store(span.peaks);
  }

  static void load_words(Stream<T>& stream, const Word* words, int64_t n, int64_t first) {
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const Word* from = words + 4 * (first + lane < n ? first + lane : n - 1);
      stream.s0[lane] = from[0], stream.s1[lane] = from[1], stream.s2[lane] = from[2], stream.s3[lane] = from[3];
    }
  }
  static void store_words(const Stream<T>& stream, Word* words, int64_t n, int64_t first) {
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) {
      Word* to = words + 4 * (first + lane);
      to[0] = stream.s0[lane], to[1] = stream.s1[lane], to[2] = stream.s2[lane], to[3] = stream.s3[lane];
    }
  }

  static void normals(Word* words, int64_t n, int64_t first, int64_t count, T* out) {
    Stream<T> stream;
    load_words(stream, words, n, first);
    for (int64_t i = 0; i < count; i += 2) {
      V pair[2];
      stream.template pairs<1>(pair, set1<T>(T(1)));
      for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane)
        for (int64_t k = i; k < i + 2 && k < count; ++k) out[(first + lane) * count + k] = pair[k - i][lane];
    }
    store_words(stream, words, n, first);
  }

  static void chi(Word* words, int64_t n, int64_t first, int64_t degrees, T* out) {
    Stream<T> stream;
    load_words(stream, words, n, first);
    const V drawn = stream.chi(degrees);
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) out[first + lane] = drawn[lane];
    store_words(stream, words, n, first);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
