// The step of a discrete method: a source of the map's gradient Ḡ, then the pull-back with weight decay. In the
// teacher's basis
//   Ḡ = K Rᵀ with E = Δ R and K = E (GD), E + noise (Langevin) or (E C − σ Z) Cᵀ / B (SGD, Bartlett).
// A batch smaller than the rank is drawn itself: its inputs R C go up through the layers, its errors come back down.
#pragma once

#include <optional>

#include "step/dataset.hpp"
#include "step/isotropic.hpp"
#include "step/modified.hpp"
#include "step/momentum.hpp"
#include "step/noise.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// The source of Ḡ of one method, and its step.
template <class V, class Noise>
struct Stepper {
  using T = Scalar<V>;
  DeepLinear<V>& net;
  const Method& method;
  Noise noise;
  const int batch;                             // samples a step draws one by one; 0: none
  V *drawn, *mixed;                            // the second panel; H or C
  V *inputs = nullptr, *seen[kMaxDepth] = {};  // of a batch: R C (dx × B), W_{l} … W_0 R C
  std::optional<Isotropic<V>> isotropic;
  std::optional<Modified<V>> modified;
  std::optional<Dataset<DeepLinear<V>, Noise>> data;
  std::optional<Momentum<DeepLinear<V>>> momentum;

  Stepper(DeepLinear<V>& network, const Method& m, Arena& own, Arena& arena)
      : net(network),
        method(m),
        batch(m.source == Source::sgd && m.batch < net.rank ? int(m.batch) : 0),
        drawn(net.panel[1]),
        mixed(arena.take<V>(int64_t(net.rank) * net.rank)) {
    if (method.source == Source::isotropic) isotropic.emplace(net, arena);
    if (method.order == 2) modified.emplace(net, arena);
    if (method.momentum > 0) momentum.emplace(net, method.momentum, own);
    if (net.problem.samples) data.emplace(net, method, noise, arena);
    if (!batch) return;
    inputs = net.white ? mixed : arena.take<V>(int64_t(net.dx) * batch);
    for (int l = 0; l + 1 < net.depth; ++l) seen[l] = arena.take<V>(int64_t(net.widths[l + 1]) * batch);
  }

  // Standard normals that one step of Langevin noise takes.
  static int64_t normals_per_step(const Problem& problem, const Method& method) {
    const int64_t r = problem.rank;
    const int64_t labels = problem.label_noise > 0 ? problem.dy * r : 0;
    if (method.source == Source::isotropic) {
      int64_t count = 0;
      for (int l = 0; l < problem.depth; ++l) count += int64_t(problem.shapes[l].rows) * problem.shapes[l].columns;
      return count;
    }
    if (const Samples* samples = problem.samples)
      return labels + (samples->factors ? samples->factors : samples->count);
    return labels + r * (r + 1) / 2;
  }

  // The most numbers a step takes from its noise: Bartlett's chis stand where Langevin noise has its diagonal.
  int64_t draws() const {
    if (data && method.source == Source::sgd)
      return method.sampling == Sampling::full ? int64_t(net.dy) * net.rank
                                               : data->n + (net.dy + 1) * int64_t(method.batch);
    if (batch) return int64_t(net.rank + net.dy) * batch;
    return method.source == Source::gd ? 0 : normals_per_step(net.problem, method);
  }

  // W ← (1 − dt·decay) W − dt ∂W; the schedule's factor multiplies dt and lr. Wants the prefixes and E, except of a
  // batch that is drawn one by one.
  void step(double factor) {
    if (batch) return take_batch(draw_batch(), factor);
    if (modified) modified->prepare(T(method.decay));
    V* g = source();
    const double dt = method.dt * factor, lr = method.lr * factor;
    if (momentum) {
      net.pull_back(net.weight, g, momentum->velocity, T(-dt), momentum->keep);
      return momentum->move(T(dt * method.decay));
    }
    const V deviation = isotropic ? isotropic->deviation(g, lr / method.batch * dt) : V{};
    net.pull_back(net.weight, g, net.weight, T(-dt), keep(factor));
    if (modified) modified->add_to(net.weight, T(-0.5 * lr * dt));
    if (!isotropic) return;
    V* normals = isotropic->layer;
    for (int l = 0; l < net.depth; ++l) {
      noise.fill(normals, net.size(l), T(1));
      for (int64_t i = 0; i < net.size(l); ++i) net.weight[l][i] = fma(deviation, normals[i], net.weight[l][i]);
    }
  }

  // Ḡ at the current E.
  V* source() {
    switch (method.source) {
      case Source::gradient:
        return net.colour(noisy(T(1)));
      case Source::sgd:
        if (!data) return net.colour(bartlett());
        return method.sampling == Sampling::full ? net.colour(data->whole()) : data->batch();
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
    if (data) {
      data->noisy(mean, scale, mixed, drawn);
      return drawn;
    }
    noise.fill(drawn, r * (r + 1) / 2, scale);
    const V* h = drawn;
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t j = 0; j < i; ++j) mixed[i * r + j] = *h++;
      mixed[i * r + i] = fma(*h++, splat<V>(T(1.4142135623730951)), splat<V>(mean));
    }
    mirror(dense(mixed, r), r);
    if (sigma > 0) noise.fill(drawn, dy * r, -sigma * scale);
    multiply(dense(net.residual, r), dense(mixed, r), dense(drawn, r), dy, r, r, T(1), sigma > 0);
    return drawn;
  }

  // The exact batch gradient of any B ≥ r: x xᵀ summed over the batch is R C Cᵀ Rᵀ, C lower triangular (Bartlett 1933).
  V* bartlett() {
    const int64_t r = net.rank, dy = net.dy, size = int64_t(method.batch);
    noise.fill(drawn, r * (r - 1) / 2, T(1));
    const V* below = drawn;
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j < r; ++j) mixed[i * r + j] = j < i ? *below++ : V{};
    for (int64_t i = 0; i < r; ++i) mixed[i * r + i] = noise.chi(size - i);
    const T sigma = T(net.problem.label_noise);
    if (sigma > 0) noise.fill(drawn, dy * r, -sigma);
    multiply(dense(net.residual, r), dense(mixed, r), dense(drawn, r), dy, r, r, T(1), sigma > 0, Band::lower);
    multiply(dense(drawn, r), dense(mixed, r).transposed(), dense(net.residual, r), dy, r, r, T(1.0 / method.batch),
             false, Band::upper);
    return net.residual;
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

  // Draws a batch of B < r samples and takes it up: the errors Δ R C − σ Z (dy × B).
  V* draw_batch() {
    const int64_t r = net.rank;
    if (data) {
      data->draw_batch(inputs, net.panel[0], batch);
      return errors(true);
    }
    noise.fill(mixed, r * batch, T(1));
    if (!net.white) multiply(dense(net.root, r), dense(mixed, batch), dense(inputs, batch), net.dx, batch, r);
    const T sigma = T(net.problem.label_noise);
    if (sigma > 0) noise.fill(net.panel[0], int64_t(net.dy) * batch, -sigma);
    return errors(sigma > 0);
  }

  // Δ times the inputs, in the first panel; added to what stands there if there is label noise.
  V* errors(bool noisy_labels) {
    V* out = net.panel[0];
    V* below = inputs;
    for (int l = 0; l < net.depth; below = seen[l++])
      multiply(net.layer(l), dense(below, batch), dense(l + 1 < net.depth ? seen[l] : out, batch), net.widths[l + 1],
               batch, net.widths[l], T(1), l + 1 == net.depth && noisy_labels);
    for (int64_t a = 0; a < net.modes; ++a) {
      const V strength = splat<V>(T(-net.problem.strengths[a]));
      for (int64_t j = a * batch; j < (a + 1) * batch; ++j) out[j] = fma(strength, inputs[j], out[j]);
    }
    return out;
  }

  void take_batch(V* error, double factor) {
    const T alpha = T(-method.dt * factor / method.batch);
    if (momentum) {
      net.pull_back(net.weight, error, batch, inputs, seen, momentum->velocity, alpha, momentum->keep);
      return momentum->move(T(method.dt * factor * method.decay));
    }
    net.pull_back(net.weight, error, batch, inputs, seen, net.weight, alpha, keep(factor));
  }

  T keep(double factor) const { return T(1.0 - method.dt * factor * method.decay); }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
