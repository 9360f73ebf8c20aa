// Isotropic noise of the same trace as the gradient noise: the control.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class V>
struct Isotropic {
  using T = Scalar<V>;
  DeepLinear<V>& net;
  const Samples* const samples;                                  // null for Gaussian data
  V *layer, *below_v[2], *below_e[2], *below_suffix[2], *power;  // layer: room for the largest layer

  Isotropic(DeepLinear<V>& network, Arena& arena) : net(network), samples(network.problem.samples) {
    int64_t widest = 0, largest = 0;
    for (int l = 0; l <= net.depth; ++l) widest = widest > net.widths[l] ? widest : net.widths[l];
    for (int l = 0; l < net.depth; ++l) largest = largest > net.size(l) ? largest : net.size(l);
    layer = arena.take<V>(largest);
    for (V*& buffer : below_v) buffer = arena.take<V>(widest * net.dx);
    for (V*& buffer : below_e) buffer = arena.take<V>(widest * net.rank);
    for (V*& buffer : below_suffix) buffer = arena.take<V>(widest * net.dy);
    power = arena.take<V>(widest * net.rank);
  }

  // sqrt(variance_rate · Tr C / d), Tr C = Σ_l Tr(W_{>l}ᵀ N W_{>l}) Tr(W_{<l} Σ W_{<l}ᵀ) + ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖².
  // Of a data set Σ_l mean_i ‖W_{>l}ᵀ(Δx_i − r_i)‖² ‖W_{<l}x_i‖² − ‖W_{>l}ᵀ ΔΣ W_{<l}ᵀ‖² + δ² ‖W_{>l}‖² ‖W_{<l}R‖².
  V deviation(V* g, double variance_rate) {
    const int dx = net.dx, dy = net.dy;
    const T variance = T(net.problem.label_noise * net.problem.label_noise);
    V trace{};
    V* v = g;                  // W_{>l}ᵀ ΔΣ
    V* e = net.residual;       // W_{>l}ᵀ E
    V norm = splat<V>(T(dy));  // ‖W_{>l}‖²
    V* suffix = nullptr;       // W_{>l}
    for (int l = net.depth - 1; l >= 0; --l) {
      const int rows = net.widths[l + 1], inner = net.widths[l];
      const V inputs = input_power(l);
      if (samples)
        trace += fma(norm * splat<V>(variance), inputs, by_samples(l, e, rows, suffix));
      else
        trace += fma(norm, splat<V>(variance), squared_norm(e, int64_t(rows) * net.rank)) * inputs;
      const T sign = samples ? T(-1) : T(1);
      if (l == 0) {
        trace += sign * squared_norm(v, int64_t(rows) * dx);
        break;
      }
      multiply(dense(v, dx), dense(net.prefix[l - 1], dx).transposed(), dense(layer, inner), rows, inner, dx);
      trace += sign * squared_norm(layer, int64_t(rows) * inner);
      V *next_v = below_v[l & 1], *next_e = below_e[l & 1], *next_suffix = below_suffix[l & 1];
      multiply(net.layer(l).transposed(), dense(v, dx), dense(next_v, dx), inner, dx, rows);
      multiply(net.layer(l).transposed(), dense(e, net.rank), dense(next_e, net.rank), inner, net.rank, rows);
      if (suffix)
        multiply(dense(suffix, rows), net.layer(l), dense(next_suffix, inner), dy, inner, rows);
      else
        for (int64_t i = 0; i < int64_t(dy) * inner; ++i) next_suffix[i] = net.weight[l][i];
      v = next_v, e = next_e, suffix = next_suffix;
      norm = squared_norm(suffix, int64_t(dy) * inner);
    }
    if (samples) trace = select<T>(trace < T(0), V{}, trace);  // where all samples have the same gradient: rounding
    const T factor = T(variance_rate / double(net.parameters));
    return sqrt(trace * factor);
  }

  // mean_i ‖W_{>l}ᵀ(E c_i − r_i)‖² ‖W_{<l}R c_i‖² over the samples; e = W_{>l}ᵀE (rows × r), suffix W_{>l}
  // (dy × rows), null for the identity. Wants what input_power leaves.
  V by_samples(int l, const V* e, int rows, const V* suffix) const {
    const int64_t n = samples->count, r = net.rank, dy = net.dy;
    const T* const all = samples->rows.template as<T>();
    const V* const seen = l == 0 ? net.root : net.white ? net.prefix[l - 1] : power;  // W_{<l}R (n_l × r)
    V sum{};
    for (int64_t i = 0; i < n; ++i) {
      const T *c = all + i * (r + dy), *residual = c + r;
      V pulled{}, into{};
      for (int64_t a = 0; a < rows; ++a) {
        V one{};
        for (int64_t k = 0; k < r; ++k) one = fma(e[a * r + k], splat<V>(c[k]), one);
        if (suffix)
          for (int64_t j = 0; j < dy; ++j) one = fma(suffix[j * rows + a], splat<V>(-residual[j]), one);
        else
          one = one - splat<V>(residual[a]);
        pulled = fma(one, one, pulled);
      }
      if (!seen)
        for (int64_t k = 0; k < r; ++k) into += splat<V>(c[k] * c[k]);
      for (int64_t b = 0; seen && b < net.widths[l]; ++b) {
        V one{};
        for (int64_t k = 0; k < r; ++k) one = fma(seen[b * r + k], splat<V>(c[k]), one);
        into = fma(one, one, into);
      }
      sum = fma(pulled, into, sum);
    }
    return sum * splat<V>(T(1.0 / double(n)));
  }

  // Tr(W_{<l} Σ W_{<l}ᵀ).
  V input_power(int l) {
    const int rows = net.widths[l];
    if (l == 0) {
      if (net.white) return splat<V>(T(net.dx));
      return squared_norm(net.root, int64_t(net.dx) * net.rank);
    }
    if (net.white) return squared_norm(net.prefix[l - 1], int64_t(rows) * net.dx);
    multiply(dense(net.prefix[l - 1], net.dx), dense(net.root, net.rank), dense(power, net.rank), rows, net.rank,
             net.dx);
    return squared_norm(power, int64_t(rows) * net.rank);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
