// A diagonal network v = Σ_j Π_l u_lj of one input and one output: its layers, the sources of its gradient Ḡ, the step.
//
// In the teacher's basis s* ≥ 0, Δ = v − s*, o_l = Π_{k≠l} u_k, and every layer moves along Ḡ o_l. One sample's
// gradient has variance g = alpha (Δ + offset)² + floor, so that Langevin noise of any data takes one normal a step.
#pragma once

#include <optional>

#include "networks/deep_linear.hpp"
#include "step/dataset.hpp"
#include "step/momentum.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// The layers of one block of trajectories and what is derived from them: the interface of DeepLinear in one dimension.
template <class Element>
struct Diagonal {
  using V = Element;
  using T = Scalar<V>;
  const Problem& problem;
  const int depth, width, dx = 1, dy = 1, rank = 1, modes = 1;
  const int64_t parameters;
  V* weight[kMaxDepth] = {};    // u_l (width), l from 0
  V* prefix[kMaxDepth] = {};    // u_l … u_0
  V *carried, *map, *residual;  // of the pull-back, one a chain; v, then Δ; E = Δ R
  V root;                       // R, β₁ = R²

  Diagonal(const Problem& p, Arena& own, Arena& arena)
      : problem(p), depth(p.depth), width(p.shapes[0].rows), parameters(int64_t(p.depth) * width) {
    for (int l = 0; l < depth; ++l) weight[l] = own.take<V>(width);
    prefix[0] = weight[0];
    for (int l = 1; l + 1 < depth; ++l) prefix[l] = arena.take<V>(width);
    carried = arena.take<V>(width);
    for (V** one : {&map, &residual}) *one = arena.take<V>(1);
    root = splat<V>(T(p.root ? p.root[0] : 1.0));
  }

  // Sets dx and dy; returns what is wrong with the shapes of the layers, or null.
  static const char* take_shapes(Problem& problem) {
    for (int l = 0; l < problem.depth; ++l)
      if (problem.shapes[l].rows != problem.shapes[0].rows || problem.shapes[l].columns != 1)
        return "the layers of a diagonal network must all be (width, 1)";
    problem.dx = problem.dy = 1;
    return nullptr;
  }

  int64_t size(int) const { return width; }

  // Rows of `from` (n, parameters), one per trajectory, into lanes; lanes beyond the last trajectory repeat it.
  template <class From>
  void load(const From* from, int64_t n, int64_t first) {
    load(weight, from, n, first);
  }
  template <class From>
  void load(V* const* layers, const From* from, int64_t n, int64_t first) {
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const From* row = from + (first + lane < n ? first + lane : n - 1) * parameters;
      for (int l = 0; l < depth; ++l)
        for (int j = 0; j < width; ++j) layers[l][j][lane] = T(*row++);
    }
  }
  template <class To>
  void store(To* to, int64_t n, int64_t first) const {
    store(weight, to, n, first);
  }
  template <class To>
  void store(V* const* layers, To* to, int64_t n, int64_t first) const {
    for (int lane = 0; lane < Lane<T>::count && first + lane < n; ++lane) {
      To* row = to + (first + lane) * parameters;
      for (int l = 0; l < depth; ++l)
        for (int j = 0; j < width; ++j) *row++ = layers[l][j][lane];
    }
  }
  void set_nan(IntVec<T> lanes) {
    for (int l = 0; l < depth; ++l)
      for (int j = 0; j < width; ++j) weight[l][j] = select<T>(lanes, splat<V>(T(__builtin_nan(""))), weight[l][j]);
  }

  // v and the prefixes of u.
  void forward(V* const* u) {
    prefix[0] = u[0];
    for (int l = 1; l + 1 < depth; ++l)
      for (int j = 0; j < width; ++j) prefix[l][j] = u[l][j] * prefix[l - 1][j];
    V sum{};
    for (int j = 0; j < width; ++j) sum = depth == 1 ? sum + u[0][j] : fma(u[depth - 1][j], prefix[depth - 2][j], sum);
    *map = sum;
  }
  void strengths(V* out) const { *out = *map; }
  void subtract_teacher() {
    *map -= T(problem.strengths[0]);
    *residual = *map * root;
  }
  V* colour(V* k) {
    *map = *k * root;
    return map;
  }

  // target_l = keep · target_l + α ∂u_l (keep = 0: anew), from the top down; target may be u itself.
  void pull_back(V* const* u, V* map_gradient, V* const* target, T alpha, T keep) {
    const V factor = splat<V>(alpha), kept = splat<V>(keep);
    for (int j = 0; j < width; ++j) carried[j] = *map_gradient;
    for (int l = depth - 1; l >= 0; --l)
      for (int j = 0; j < width; ++j) {
        const V below = u[l][j] * carried[j], slope = l > 0 ? carried[j] * prefix[l - 1][j] : carried[j];
        target[l][j] = keep == 0 ? factor * slope : fma(factor, slope, keep == 1 ? target[l][j] : target[l][j] * kept);
        carried[j] = below;
      }
  }

  // g at the current Δ.
  V gradient_noise() const {
    const V distance = *map + T(problem.offset);
    return fma(distance * distance, splat<V>(T(problem.alpha)), splat<V>(T(problem.floor)));
  }
  // Σ_l ‖o_l‖² at the current weights; wants the prefixes.
  V others() {
    V sum{};
    for (int j = 0; j < width; ++j) carried[j] = splat<V>(T(1));
    for (int l = depth - 1; l >= 0; --l)
      for (int j = 0; j < width; ++j) {
        const V other = l > 0 ? carried[j] * prefix[l - 1][j] : carried[j];
        sum = fma(other, other, sum);
        carried[j] = carried[j] * weight[l][j];
      }
    return sum;
  }
};

// The drift of the stochastic modified equation: the twin of Modified in one dimension, chain by chain.
template <class V>
struct DiagonalModified {
  using T = Scalar<V>;
  Diagonal<V>& net;
  V *slope[kMaxDepth], *curve[kMaxDepth], *rise[kMaxDepth];  // ∂u_l, its derivative along itself, that of the prefixes

  DiagonalModified(Diagonal<V>& network, Arena& arena) : net(network) {
    for (int l = 0; l < net.depth; ++l)
      for (V** layer : {&slope[l], &curve[l], &rise[l]}) *layer = arena.take<V>(net.width);
  }

  // Wants the prefixes and Δ, and leaves them alone.
  void prepare(T decay) {
    const int top = net.depth - 1;
    V pull = *net.residual * net.root, turn{};
    net.pull_back(net.weight, &pull, slope, T(1), T(0));
    for (int l = 0; l <= top; ++l)
      for (int j = 0; j < net.width; ++j) {
        slope[l][j] = fma(splat<V>(decay), net.weight[l][j], slope[l][j]);
        rise[l][j] = l > 0 ? fma(slope[l][j], net.prefix[l - 1][j], net.weight[l][j] * rise[l - 1][j]) : slope[l][j];
      }
    for (int j = 0; j < net.width; ++j) turn += rise[top][j];
    turn = turn * net.root * net.root;
    for (int j = 0; j < net.width; ++j) {
      V down = pull, bend = turn;
      for (int l = top; l >= 0; --l) {
        const V here = l > 0 ? fma(bend, net.prefix[l - 1][j], down * rise[l - 1][j]) : bend;
        curve[l][j] = fma(splat<V>(decay), slope[l][j], here);
        bend = fma(net.weight[l][j], bend, slope[l][j] * down);
        down = net.weight[l][j] * down;
      }
    }
  }
  // target += α h.
  void add_to(V* const* target, T alpha) const {
    for (int l = 0; l < net.depth; ++l)
      for (int j = 0; j < net.width; ++j) target[l][j] = fma(splat<V>(alpha), curve[l][j], target[l][j]);
  }
};

// The source of Ḡ of one method, and its step.
template <class V, class Noise>
struct DiagonalStepper {
  using T = Scalar<V>;
  Diagonal<V>& net;
  const Method& method;
  Noise noise;
  std::optional<DiagonalModified<V>> modified;
  std::optional<Dataset<Diagonal<V>, Noise>> data;
  std::optional<Momentum<Diagonal<V>>> momentum;
  V* normals;  // of one layer

  DiagonalStepper(Diagonal<V>& network, const Method& m, Arena& own, Arena& arena)
      : net(network), method(m), normals(arena.take<V>(network.width)) {
    if (method.momentum > 0) momentum.emplace(net, method.momentum, own);
    if (method.order == 2) modified.emplace(net, arena);
    if (net.problem.samples) data.emplace(net, method, noise, arena);
  }

  // Standard normals that one step of Langevin noise takes.
  static int64_t normals_per_step(const Problem& problem, const Method& method) {
    return method.source == Source::isotropic ? int64_t(problem.depth) * problem.shapes[0].rows : 1;
  }

  // u ← (1 − dt·decay) u − dt ∂u; the schedule's factor multiplies dt and lr. Wants the prefixes, Δ and E.
  void step(double factor) {
    const double dt = method.dt * factor, lr = method.lr * factor;
    const bool isotropic = method.source == Source::isotropic;
    if (modified) modified->prepare(T(method.decay));
    V deviation{};
    if (isotropic)
      deviation = sqrt(net.gradient_noise() * net.others() * T(lr / method.batch * dt / double(net.parameters)));
    V g = source();
    if (momentum) {
      net.pull_back(net.weight, &g, momentum->velocity, T(-dt), momentum->keep);
      return momentum->move(T(dt * method.decay));
    }
    net.pull_back(net.weight, &g, net.weight, T(-dt), T(1.0 - dt * method.decay));
    if (modified) modified->add_to(net.weight, T(-0.5 * lr * dt));
    for (int l = 0; isotropic && l < net.depth; ++l) {
      noise.fill(normals, net.width, T(1));
      for (int j = 0; j < net.width; ++j) net.weight[l][j] = fma(deviation, normals[j], net.weight[l][j]);
    }
  }

  // Ḡ at the current Δ.
  V source() {
    switch (method.source) {
      case Source::gradient:
      case Source::aligned:
        return langevin();
      case Source::sgd:
        if (!data) return bartlett() * net.root;
        return method.sampling == Sampling::full ? *net.colour(data->whole()) : *data->batch();
      default:
        return *net.residual * net.root;
    }
  }

  // β₁Δ + sqrt(lr g / (B dt)) Z.
  V langevin() {
    V z;
    noise.fill(&z, 1, T(__builtin_sqrt(method.lr / (method.batch * method.dt))));
    return fma(sqrt(net.gradient_noise()), z, *net.residual * net.root);
  }

  // (E C − σ Z) C / B, C² a chi-square of B degrees of freedom.
  V bartlett() {
    const V c = noise.chi(int64_t(method.batch));
    V errors{};
    const T sigma = T(net.problem.label_noise);
    if (sigma > 0) noise.fill(&errors, 1, -sigma);
    return (*net.residual * c + errors) * c * T(1.0 / method.batch);
  }
};

// The noise of v per unit T, g (Σ_l ‖o_l‖²)²: the twin of ModeNoise.
template <class V>
struct DiagonalNoise {
  Diagonal<V>& net;
  V* total;

  DiagonalNoise(Diagonal<V>& network, Arena& arena) : net(network), total(arena.take<V>(1)) {}
  void prepare() {
    const V square = net.others();
    *total = net.gradient_noise() * square * square;
  }
  void end_to_end() const {}
};

}  // namespace saddlescope::SADDLESCOPE_ISA
