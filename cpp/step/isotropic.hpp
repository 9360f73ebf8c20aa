// Isotropic noise of the same trace as the gradient noise: the control.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class V>
struct Isotropic {
  using T = Scalar<V>;
  DeepLinear<V>& net;
  V *layer, *below_v[2], *below_e[2], *below_suffix[2], *power;  // layer: room for the largest layer

  Isotropic(DeepLinear<V>& network, Arena& arena) : net(network) {
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
      trace += fma(norm, splat<V>(variance), squared_norm(e, int64_t(rows) * net.rank)) * input_power(l);
      if (l == 0) {
        trace += squared_norm(v, int64_t(rows) * dx);
        break;
      }
      multiply(dense(v, dx), dense(net.prefix[l - 1], dx).transposed(), dense(layer, inner), rows, inner, dx);
      trace += squared_norm(layer, int64_t(rows) * inner);
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
    const T factor = T(variance_rate / double(net.parameters));
    return sqrt(trace * factor);
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
