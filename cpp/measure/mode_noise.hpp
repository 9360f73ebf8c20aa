// The noise of the gradient on every mode, in closed form.
#pragma once

#include <initializer_list>

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// Closed-form gradient noise per mode, per unit T, from Cov[G] with N = E Eᵀ + σ² I:
//   end to end Σ_{l,k} (p_lᵀ N p_k)(q_lᵀ Σ q_k) + (p_lᵀ ΔΣ q_k)(p_kᵀ ΔΣ q_l),
//   p_l = W_{>l} W_{>l}ᵀ u_α, q_l = W_{<l}ᵀ W_{<l} v_α.
// Of a data set, e_i = Δx_i − r_i, the same from its samples:
//   share · Var_i[Σ_l (p_lᵀ e_i)(q_lᵀ x_i)] + δ² mean_i ‖Σ_l p_l (q_lᵀ x_i)‖².
template <class V>
struct ModeNoise {
  using T = Scalar<V>;
  DeepLinear<V>& net;
  V* suffix[kMaxDepth] = {};                                 // W_{>l} (dy, n_l), below the top layer
  V *left[kMaxDepth], *right[kMaxDepth], *error[kMaxDepth];  // p_l (dy, m); Rᵀ q_l and Eᵀ p_l (r, m)
  V *gram, *outer, *inner, *cross, *mirror, *total;
  V *each = nullptr, *spread = nullptr;  // of a data set: Σ_l (p_lᵀ e_i)(q_lᵀ x_i) (n); Σ_l p_l (q_lᵀ x_i) (dy)

  ModeNoise(DeepLinear<V>& network, Arena& arena) : net(network) {
    for (int l = 0; l < net.depth; ++l) {
      if (l + 2 < net.depth) suffix[l] = arena.take<V>(int64_t(net.dy) * net.widths[l + 1]);
      left[l] = arena.take<V>(int64_t(net.dy) * net.modes);
      right[l] = arena.take<V>(int64_t(net.rank) * net.modes);
      error[l] = arena.take<V>(int64_t(net.rank) * net.modes);
    }
    if (net.depth > 1) suffix[net.depth - 2] = net.weight[net.depth - 1];
    gram = arena.take<V>(int64_t(net.dx) * net.modes);
    for (V** buffer : {&outer, &inner, &cross, &mirror, &total}) *buffer = arena.take<V>(net.modes);
    if (const Samples* samples = net.problem.samples) {
      each = arena.take<V>(samples->count);
      spread = arena.take<V>(net.dy);
    }
    if (arena.base) ends();
  }

  // p_L = u_α and Rᵀ q_1 = Rᵀ v_α do not change.
  void ends() {
    for (int i = 0; i < net.dy; ++i)
      for (int a = 0; a < net.modes; ++a) left[net.depth - 1][i * net.modes + a] = splat<V>(T(i == a));
    for (int k = 0; k < net.rank; ++k)
      for (int a = 0; a < net.modes; ++a)
        right[0][k * net.modes + a] = net.white ? splat<V>(T(k == a)) : net.root[a * net.rank + k];
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
          multiply(dense(suffix[l + 1], net.widths[l + 2]), net.layer(l + 1), dense(suffix[l], n), dy, n,
                   net.widths[l + 2]);
        multiply(dense(suffix[l], n), dense(suffix[l], n).transposed(), dense(left[l], m), dy, m, n);
        multiply(dense(net.residual, r).transposed(), dense(left[l], m), dense(error[l], m), r, m, dy);
      }
      if (l == 0) break;
      V* columns = net.white ? right[l] : gram;
      multiply(dense(net.prefix[l - 1], dx).transposed(), dense(net.prefix[l - 1], dx), dense(columns, m), dx, m,
               net.widths[l]);
      if (!net.white) multiply(dense(net.root, r).transposed(), dense(gram, m), dense(right[l], m), r, m, dx);
    }
  }
  // total_α = weight · (p_lᵀ N p_k · q_lᵀ Σ q_k + p_lᵀ ΔΣ q_k · p_kᵀ ΔΣ q_l), or added to it.
  void term(int l, int k, T weight, bool add) const {
    const T variance = T(net.problem.label_noise * net.problem.label_noise);
    const int m = net.modes;
    column_products(error[l], error[k], net.rank, m, outer);
    column_products(left[l], left[k], net.dy, m, inner);
    for (int a = 0; a < m; ++a) outer[a] = fma(splat<V>(variance), inner[a], outer[a]);
    column_products(right[l], right[k], net.rank, m, inner);
    column_products(error[l], right[k], net.rank, m, cross);
    if (l != k) column_products(error[k], right[l], net.rank, m, mirror);
    for (int a = 0; a < m; ++a) {
      const V both = fma(outer[a], inner[a], cross[a] * (l == k ? cross[a] : mirror[a])) * weight;
      total[a] = add ? total[a] + both : both;
    }
  }

  // Two passes over the samples, as the difference of moments would cancel.
  void by_samples(const Samples& samples) const {
    const T* const rows = samples.rows.as<T>();
    const int64_t n = samples.count, r = net.rank, dy = net.dy, m = net.modes;
    const T variance = T(net.problem.label_noise * net.problem.label_noise), weight = T(1.0 / double(n));
    for (int64_t a = 0; a < m; ++a) {
      V mean{}, labels{}, square{};
      for (int64_t i = 0; i < n; ++i) {
        const T *x = rows + i * (r + dy), *residual = x + r;
        each[i] = V{};
        for (int64_t j = 0; j < dy; ++j) spread[j] = V{};
        for (int l = 0; l < net.depth; ++l) {
          V p{}, q{};
          for (int64_t k = 0; k < r; ++k) {
            p = fma(error[l][k * m + a], splat<V>(x[k]), p);
            q = fma(right[l][k * m + a], splat<V>(x[k]), q);
          }
          for (int64_t j = 0; j < dy; ++j) p = fma(left[l][j * m + a], splat<V>(-residual[j]), p);
          each[i] = fma(p, q, each[i]);
          if (variance > 0)
            for (int64_t j = 0; j < dy; ++j) spread[j] = fma(left[l][j * m + a], q, spread[j]);
        }
        mean += each[i];
        labels += squared_norm(spread, dy);
      }
      mean = mean * splat<V>(weight);
      for (int64_t i = 0; i < n; ++i) square = fma(each[i] - mean, each[i] - mean, square);
      total[a] = (square * splat<V>(T(samples.share)) + labels * splat<V>(variance)) * splat<V>(weight);
    }
  }

  void end_to_end() const {
    if (const Samples* samples = net.problem.samples) return by_samples(*samples);
    for (int l = 0; l < net.depth; ++l)
      for (int k = 0; k <= l; ++k) term(l, k, l == k ? T(1) : T(2), l > 0);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
