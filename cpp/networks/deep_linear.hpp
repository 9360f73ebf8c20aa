// The layers of a deep linear network, its end-to-end map, and the pull-back of the map's gradient through the layers.
//
// All in the teacher's basis: the end-to-end map P shows the mode strengths on its diagonal.
#pragma once

#include <algorithm>

#include "kernels.hpp"
#include "networks/arena.hpp"
#include "simd/product.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// out_a = Σ_k a_ak b_ka, k in order, several a side by side; a has `inner` columns, b has `columns`.
template <int Together = 5, class V>
void diagonal_of_product(const V* a, int inner, const V* b, int columns, int count, V* out, int from = 0) {
  int j = from;
  for (; j + Together <= count; j += Together) {
    V sum[Together] = {};
    for (int64_t k = 0; k < inner; ++k)
#pragma GCC unroll 8
      for (int i = 0; i < Together; ++i) sum[i] = fma(a[(j + i) * int64_t(inner) + k], b[k * columns + j + i], sum[i]);
    for (int i = 0; i < Together; ++i) out[j + i] = sum[i];
  }
  if constexpr (Together > 1) diagonal_of_product<Together - 1>(a, inner, b, columns, count, out, j);
}

// The layers of one element, a block of trajectories or a single one, and what is derived from them. Trajectories that
// are taken in turns have layers of their `own` and share all the rest.
template <class E>
struct DeepLinear {
  using V = E;
  using T = Scalar<V>;
  const Problem& problem;
  const int depth, dx, dy, rank, modes;
  int widths[kMaxDepth + 1];  // from input to output
  const bool white;
  V* weight[kMaxDepth] = {};  // W_l (n_l, n_{l−1}), l from 0
  V* prefix[kMaxDepth] = {};  // F_l = W_l … W_0; F_0 is W_0 itself
  // Two panels serve everything of a step that has dx columns, so that a block stays in the fastest cache:
  // P, Δ and Ḡ in the first, noise in the second, V of the pull-back in turn.
  V *panel[2], *map;
  V *residual, *root;  // E = Δ R (dy, r), Δ itself for white inputs; R (dx, r)
  int64_t parameters = 0;

  DeepLinear(const Problem& p, Arena& own, Arena& arena)
      : problem(p), depth(p.depth), dx(p.dx), dy(p.dy), rank(p.rank), modes(p.modes), white(p.root == nullptr) {
    int64_t widest = 0;
    widths[0] = dx;
    for (int l = 0; l < depth; ++l) widths[l + 1] = p.shapes[l].rows;
    for (int l = 0; l < depth; ++l) {
      weight[l] = own.take<V>(size(l));
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
      for (int64_t i = 0; i < int64_t(dx) * rank; ++i) root[i] = splat<V>(T(p.root[i]));
  }

  // Sets dx and dy from the shapes of the layers; returns what is wrong with these, or null.
  static const char* take_shapes(Problem& problem) {
    for (int l = 1; l < problem.depth; ++l)
      if (problem.shapes[l].columns != problem.shapes[l - 1].rows)
        return "a layer must have as many columns as the one before it has rows";
    problem.dx = problem.shapes[0].columns;
    problem.dy = problem.shapes[problem.depth - 1].rows;
    return nullptr;
  }

  int longest() const { return *std::max_element(widths, widths + depth + 1); }
  int64_t size(int l) const { return int64_t(widths[l + 1]) * widths[l]; }
  View<V> layer(int l) const { return dense(weight[l], widths[l]); }

  // Rows of `from` (n, parameters), one per trajectory, into lanes; lanes beyond the last trajectory repeat it.
  template <class From>
  void load(const From* from, int64_t n, int64_t first) {
    load(weight, from, n, first);
  }
  template <class From>
  void load(V* const* layers, const From* from, int64_t n, int64_t first) {
    for (int lane = 0; lane < Element<V>::count; ++lane) {
      const From* row = from + (first + lane < n ? first + lane : n - 1) * parameters;
      for (int l = 0; l < depth; row += size(l++))
        for (int64_t i = 0; i < size(l); ++i) at(layers[l][i], lane) = T(row[i]);
    }
  }
  void store(T* to, int64_t n, int64_t first) const { store(weight, to, n, first); }
  void store(V* const* layers, T* to, int64_t n, int64_t first) const {
    for (int lane = 0; lane < Element<V>::count && first + lane < n; ++lane) {
      T* row = to + (first + lane) * parameters;
      for (int l = 0; l < depth; row += size(l++))
        for (int64_t i = 0; i < size(l); ++i) row[i] = at(layers[l][i], lane);
    }
  }

  // Makes the weights of these lanes NaN.
  void set_nan(Mask<V> lanes) {
    for (int l = 0; l < depth; ++l)
      for (int64_t i = 0; i < size(l); ++i)
        weight[l][i] = select<T>(lanes, splat<V>(T(__builtin_nan(""))), weight[l][i]);
  }

  // P and the prefixes of W.
  void forward(V* const* w) {
    prefixes(w);
    if (depth == 1)
      for (int64_t i = 0; i < int64_t(dy) * dx; ++i) map[i] = w[0][i];
    else
      raise(w, depth - 1, map);
  }
  void prefixes(V* const* w) {
    prefix[0] = w[0];
    for (int l = 1; l + 1 < depth; ++l) raise(w, l, prefix[l]);
  }
  void raise(V* const* w, int l, V* out) {
    multiply(dense(w[l], widths[l]), dense(prefix[l - 1], dx), dense(out, dx), widths[l + 1], dx, widths[l]);
  }

  // The diagonal of P alone, from the prefixes; the same bits as those of forward.
  void diagonal(V* const* w, V* out) const {
    if (depth == 1) {
      for (int a = 0; a < modes; ++a) out[a] = w[0][int64_t(a) * dx + a];
      return;
    }
    diagonal_of_product(w[depth - 1], widths[depth - 1], prefix[depth - 2], dx, modes, out);
  }

  // P becomes Δ, and E = Δ R.
  void subtract_teacher() {
    for (int a = 0; a < modes; ++a) map[int64_t(a) * dx + a] -= T(problem.strengths[a]);
    if (!white) multiply(dense(map, dx), dense(root, rank), dense(residual, rank), dy, rank, dx);
  }

  // Ḡ = K Rᵀ, in the place of Δ; K itself for white inputs.
  V* colour(V* k) {
    if (white) return k;
    multiply(dense(k, rank), dense(root, rank).transposed(), dense(map, dx), dy, dx, rank);
    return map;
  }

  // target_l = keep · target_l + α ∂W_l (keep = 0: anew), from the top down; target may be w itself. v (dy × columns)
  // stands in one of the panels, layer 0 saw `first` (null: the identity) and layer l > 0 saw inputs[l − 1]. With the
  // identity and the prefixes v is Ḡ; with a batch of inputs it is its errors.
  void pull_back(V* const* w, V* v, int columns, const V* first, V* const* inputs, V* const* target, T alpha, T keep) {
    const bool accumulate = keep != 0;
    for (int l = depth - 1; l > 0; --l) {
      V* below = v == panel[0] ? panel[1] : panel[0];
      if constexpr (Element<V>::count > 1)
        if (columns == 1 && target == w && keep != 0) {
          step_back(layer(l), widths[l + 1], widths[l], v, inputs[l - 1], below, alpha, keep);
          v = below;
          continue;
        }
      multiply(dense(w[l], widths[l]).transposed(), dense(v, columns), dense(below, columns), widths[l], columns,
               widths[l + 1]);
      scale(target[l], size(l), keep);
      multiply(dense(v, columns), dense(inputs[l - 1], columns).transposed(), dense(target[l], widths[l]),
               widths[l + 1], widths[l], columns, alpha, accumulate);
      v = below;
    }
    scale(target[0], size(0), keep);
    if (first)
      return multiply(dense(v, columns), dense(const_cast<V*>(first), columns).transposed(),
                      dense(target[0], widths[0]), widths[1], widths[0], columns, alpha, accumulate);
    const V factor = splat<V>(alpha);
    for (int64_t i = 0; i < size(0); ++i) target[0][i] = accumulate ? fma(factor, v[i], target[0][i]) : factor * v[i];
  }
  void pull_back(V* const* w, V* map_gradient, V* const* target, T alpha, T keep) {
    pull_back(w, map_gradient, dx, nullptr, prefix, target, alpha, keep);
  }
  static void scale(V* layer, int64_t count, T keep) {
    if (keep == 0 || keep == 1) return;
    for (int64_t i = 0; i < count; ++i) layer[i] = layer[i] * splat<V>(keep);
  }

  // Whether every strength is its own: no blocks of equal ones.
  bool simple() const {
    for (int a = 0; a < modes; ++a)
      if (problem.block[a] != a) return false;
    return true;
  }
  void strengths(V* out) const {
    for (int a = 0; a < modes; ++a) out[a] = strength(a);
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

template <class V>
SADDLESCOPE_INLINE V squared_norm(const V* a, int64_t count) {
  V sum{};
  for (int64_t i = 0; i < count; ++i) sum = fma(a[i], a[i], sum);
  return sum;
}

// out_α = Σ_i a_iα b_iα: the inner products of the columns of two matrices with `columns` columns, some side by side.
template <int Together = 5, class V>
void column_products(const V* a, const V* b, int rows, int columns, V* out, int from = 0) {
  int j = from;
  for (; j + Together <= columns; j += Together) {
    V sum[Together] = {};
    for (int64_t i = j; i < int64_t(rows) * columns; i += columns)
#pragma GCC unroll 8
      for (int k = 0; k < Together; ++k) sum[k] = fma(a[i + k], b[i + k], sum[k]);
    for (int k = 0; k < Together; ++k) out[j + k] = sum[k];
  }
  if constexpr (Together > 1) column_products<Together - 1>(a, b, rows, columns, out, j);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
