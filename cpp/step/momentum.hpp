// Heavy-ball momentum (Polyak 1964): p ← μ p − dt (∂W + γ W), W ← W + p, p = 0 at the start.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// The velocity p of every layer. The pull-back writes μ p − dt ∂W into it, `move` does the rest.
template <class Net>
struct Momentum {
  using V = typename Net::V;
  using T = Scalar<V>;
  Net& net;
  const T keep;            // μ
  V* velocity[kMaxDepth];  // p_l, as large as W_l

  Momentum(Net& network, double momentum, Arena& own) : net(network), keep(T(momentum)) {
    for (int l = 0; l < net.depth; ++l) velocity[l] = own.take<V>(net.size(l));
  }

  // p ← p − shrink · W, W ← W + p.
  void move(T shrink) {
    const V factor = splat<V>(-shrink);
    for (int l = 0; l < net.depth; ++l)
      for (int64_t i = 0; i < net.size(l); ++i) {
        if (shrink != 0) velocity[l][i] = fma(factor, net.weight[l][i], velocity[l][i]);
        net.weight[l][i] = net.weight[l][i] + velocity[l][i];
      }
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
