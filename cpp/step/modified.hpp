// The drift that the stochastic modified equation of Li, Tai & E (2019) adds: (η/2) ∇²𝓛 ∇𝓛, decay included.
//
// The Hessian is never formed: one pull-back gives g = ∇𝓛, and one sweep of forward differentiation along g, up through
// the layers and back down, gives ∇²𝓛 g. Dots are derivatives along g:
//   g_l = V_l F_{l−1}ᵀ + γ W_l          V_{l−1} = W_lᵀ V_l                    from V_L = ΔΣ
//   Ḟ_l = g_l F_{l−1} + W_l Ḟ_{l−1}     Ṗ = Ḟ_L
//   h_l = V̇_l F_{l−1}ᵀ + V_l Ḟ_{l−1}ᵀ + γ g_l    V̇_{l−1} = W_lᵀ V̇_l + g_lᵀ V_l     from V̇_L = ṖΣ
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class V>
struct Modified {
  using T = Scalar<V>;
  DeepLinear<V>& net;
  V *slope[kMaxDepth], *curve[kMaxDepth];  // g_l, h_l
  V *down[kMaxDepth], *rise[kMaxDepth];    // V_l, Ḟ_l (n_l × dx)
  V *turn[2], *seen;                       // V̇ of one layer and of the next; Ṗ R

  Modified(DeepLinear<V>& network, Arena& arena) : net(network) {
    int64_t widest = net.dy;
    for (int l = 0; l < net.depth; ++l) {
      if (net.widths[l] > widest) widest = net.widths[l];
      for (V** layer : {&slope[l], &curve[l]}) *layer = arena.take<V>(net.size(l));
      for (V** panel : {&down[l], &rise[l]}) *panel = arena.take<V>(int64_t(net.widths[l + 1]) * net.dx);
    }
    for (V*& panel : turn) panel = arena.take<V>(widest * net.dx);
    seen = net.white ? nullptr : arena.take<V>(int64_t(net.dy) * net.rank);
  }

  // h at the current weights. Wants the prefixes and E, and leaves them alone.
  void prepare(T decay) {
    const int top = net.depth - 1, dx = net.dx;
    through_covariance(net.residual, down[top]);
    for (int l = top; l >= 0; --l) {
      start(slope[l], net.weight[l], l, decay);
      add_outer(down[l], l > 0 ? net.prefix[l - 1] : nullptr, l, slope[l]);
      if (l > 0) transposed(net.weight[l], down[l], l, down[l - 1], false);
    }
    for (int64_t i = 0; i < net.size(0); ++i) rise[0][i] = slope[0][i];
    for (int l = 1; l <= top; ++l) {
      const int rows = net.widths[l + 1], inner = net.widths[l];
      multiply(dense(slope[l], inner), dense(net.prefix[l - 1], dx), dense(rise[l], dx), rows, dx, inner);
      multiply(dense(net.weight[l], inner), dense(rise[l - 1], dx), dense(rise[l], dx), rows, dx, inner, T(1), true);
    }
    V* v = turn[0];
    if (!net.white)
      multiply(dense(rise[top], dx), dense(net.root, net.rank), dense(seen, net.rank), net.dy, net.rank, dx);
    through_covariance(net.white ? rise[top] : seen, v);
    for (int l = top; l >= 0; --l) {
      start(curve[l], slope[l], l, decay);
      add_outer(v, l > 0 ? net.prefix[l - 1] : nullptr, l, curve[l]);
      if (l == 0) break;
      add_outer(down[l], rise[l - 1], l, curve[l]);
      V* below = v == turn[0] ? turn[1] : turn[0];
      transposed(net.weight[l], v, l, below, false);
      transposed(slope[l], down[l], l, below, true);
      v = below;
    }
  }

  // target += α h.
  void add_to(V* const* target, T alpha) const {
    for (int l = 0; l < net.depth; ++l)
      for (int64_t i = 0; i < net.size(l); ++i) target[l][i] = fma(splat<V>(alpha), curve[l][i], target[l][i]);
  }

 private:
  void start(V* out, const V* layer, int l, T decay) const {
    for (int64_t i = 0; i < net.size(l); ++i) out[i] = splat<V>(decay) * layer[i];
  }

  // out = k Rᵀ.
  void through_covariance(V* k, V* out) const {
    if (!net.white)
      return multiply(dense(k, net.rank), dense(net.root, net.rank).transposed(), dense(out, net.dx), net.dy, net.dx,
                      net.rank);
    for (int64_t i = 0; i < int64_t(net.dy) * net.dx; ++i) out[i] = k[i];
  }

  // out += v inputsᵀ, a gradient of layer l; no inputs: the identity.
  void add_outer(V* v, V* inputs, int l, V* out) const {
    if (inputs)
      return multiply(dense(v, net.dx), dense(inputs, net.dx).transposed(), dense(out, net.widths[l]),
                      net.widths[l + 1], net.widths[l], net.dx, T(1), true);
    for (int64_t i = 0; i < net.size(l); ++i) out[i] += v[i];
  }

  // out = layerᵀ v, or added to it.
  void transposed(V* layer, V* v, int l, V* out, bool add) const {
    multiply(dense(layer, net.widths[l]).transposed(), dense(v, net.dx), dense(out, net.dx), net.widths[l], net.dx,
             net.widths[l + 1], T(1), add);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
