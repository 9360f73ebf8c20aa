// Every observable of a block of trajectories, in double: the fast twin of observables.py.
#pragma once

#include <iterator>

#include "measure/mode_noise.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

struct ObserverBlock {
  using V = Vec<double>;
  using I = IntVec<double>;
  static constexpr int kLanes = Lane<double>::count;

  Arena arena;
  DeepLinear<V> net;
  ModeNoise<V> noise;
  V *vectors, *square, *strength, *alignment, *singular;
  double temperature = 0;  // T, of the noise
  double* row[kLanes];     // where the next number of each trajectory goes; null beyond the last

  ObserverBlock(const Problem& problem, void* scratch)
      : arena{static_cast<char*>(scratch)}, net(problem, arena, arena), noise(net, arena) {
    int64_t most = int64_t(net.dx) * net.dy, widest = 1;
    for (int l = 0; l + 1 < net.depth; ++l) {
      const int64_t h = net.widths[l + 1], k = net.widths[l] + net.widths[l + 2];
      if (h >= k && h * k > most) most = h * k;
      if (h > widest) widest = h;
    }
    vectors = arena.take<V>(most);
    square = arena.take<V>(widest * widest);
    for (V** buffer : {&strength, &alignment, &singular}) *buffer = arena.take<V>(net.modes);
  }

  // One observable: its name, what it has a number for, and the function that puts its numbers into the rows.
  struct Column {
    Observable observable;
    void (*put)(ObserverBlock&);
  };
  static const Column kColumns[];
  static const int kCount;

  static Observable observable(int index) { return kColumns[index].observable; }
  static int64_t width(const Problem& p) {
    int64_t numbers = 0;
    for (int i = 0; i < kCount; ++i) {
      const Axis axis = observable(i).axis;
      numbers += axis == Axis::single  ? 1
                 : axis == Axis::pairs ? p.depth - 1
                                       : p.modes * (axis == Axis::layers ? p.depth : 1);
    }
    return numbers;
  }

  void put(V value) {
    for (double*& at : row)
      if (at) *at++ = value[&at - row];
  }
  void put(const V* values, int count) {
    for (int i = 0; i < count; ++i) put(values[i]);
  }
  void of_pairs(V (ObserverBlock::*value)(int) const) {
    for (int l = 0; l + 1 < net.depth; ++l) put((this->*value)(l));
  }

  void run(double* out, int64_t n, int64_t first) {
    for (int lane = 0; lane < kLanes; ++lane)
      row[lane] = first + lane < n ? out + (first + lane) * width(net.problem) : nullptr;
    net.forward(net.weight);
    for (int a = 0; a < net.modes; ++a) {
      strength[a] = net.strength(a);
      alignment[a] = aligned(a);
    }
    singular_values();
    net.subtract_teacher();
    noise.prepare();
    for (int i = 0; i < kCount; ++i) kColumns[i].put(*this);
  }

  // E‖Δx‖²/2 = ‖Δ R‖²_F / 2.
  V excess_loss() const { return squared_norm(net.residual, int64_t(net.dy) * net.rank) * 0.5; }
  V loss() const {
    const Problem& p = net.problem;
    return excess_loss() + 0.5 * net.dy * p.label_noise * p.label_noise;
  }

  // u_αᵀ P v_α / sqrt(‖P v_α‖ ‖Pᵀ u_α‖), NaN where P vanishes on the mode.
  V aligned(int a) const {
    V column{}, line{};
    for (int i = 0; i < net.dy; ++i) column = fma(net.map[i * net.dx + a], net.map[i * net.dx + a], column);
    for (int j = 0; j < net.dx; ++j) line = fma(net.map[a * net.dx + j], net.map[a * net.dx + j], line);
    return net.map[a * net.dx + a] / sqrt(sqrt(column) * sqrt(line));
  }

  // One-sided Jacobi on the shorter side of P (Hestenes 1958), then sorted, strongest first. Of many modes none: there
  // LAPACK is faster, and native.py asks it.
  void singular_values() {
    if (net.modes > kJacobiModes) return std::fill(singular, singular + net.modes, set1(__builtin_nan("")));
    const bool wide = net.dx > net.dy;
    const int count = net.modes, length = wide ? net.dx : net.dy;
    for (int a = 0; a < count; ++a)
      for (int i = 0; i < length; ++i)
        vectors[a * length + i] = wide ? net.map[a * net.dx + i] : net.map[i * net.dx + a];
    for (int sweep = 0; sweep < 60; ++sweep) {
      I turned{};
      for (int a = 0; a + 1 < count; ++a)
        for (int b = a + 1; b < count; ++b) turned |= rotate(vectors + a * length, vectors + b * length, length);
      if (!any<double>(turned)) break;
    }
    for (int a = 0; a < count; ++a) singular[a] = sqrt(squared_norm(vectors + a * length, length));
    for (int a = 1; a < count; ++a)
      for (int b = a; b > 0; --b) {
        const I swap = singular[b] > singular[b - 1];
        const V larger = select<double>(swap, singular[b], singular[b - 1]);
        singular[b] = select<double>(swap, singular[b - 1], singular[b]);
        singular[b - 1] = larger;
      }
  }

  static I rotate(V* x, V* y, int length) {
    V xx{}, yy{}, xy{};
    for (int i = 0; i < length; ++i) {
      xx = fma(x[i], x[i], xx);
      yy = fma(y[i], y[i], yy);
      xy = fma(x[i], y[i], xy);
    }
    const V size = xy < 0.0 ? -xy : xy;
    const I turn = size > 1e-15 * sqrt(xx) * sqrt(yy);
    if (!any<double>(turn)) return turn;
    const V zeta = (yy - xx) / select<double>(turn, xy + xy, set1(1.0)), steep = zeta < 0.0 ? -zeta : zeta;
    const V inverse = 1.0 / (steep + sqrt(fma(zeta, zeta, set1(1.0))));
    const V t = select<double>(turn, zeta < 0.0 ? -inverse : inverse, V{});
    const V c = 1.0 / sqrt(fma(t, t, set1(1.0))), s = c * t;
    for (int i = 0; i < length; ++i) {
      const V old = x[i];
      x[i] = fma(c, old, -s * y[i]);
      y[i] = fma(s, old, c * y[i]);
    }
    return turn;
  }

  // exp of the entropy of σ_i / Σσ; 0 for P = 0.
  V effective_rank() const {
    V total{}, result{};
    for (int a = 0; a < net.modes; ++a) total += singular[a];
    for (int lane = 0; lane < kLanes; ++lane) {
      double entropy = 0;
      for (int a = 0; a < net.modes; ++a) {
        const double share = singular[a][lane] / total[lane];
        if (share > 0) entropy -= share * __builtin_log(share);
      }
      result[lane] = total[lane] > 0 ? __builtin_exp(entropy) : total[lane];
    }
    return result;
  }

  V learned_modes() const {
    V count{};
    for (int a = 0; a < net.modes; ++a) {
      const double target = net.problem.strengths[a];
      count += strength[a] * 0.0;  // NaN stays NaN
      if (target > 0) count += select<double>(strength[a] >= kThreshold[kThresholds - 1] * target, set1(1.0), V{});
    }
    return count;
  }

  // ‖W_{l+1}ᵀ W_{l+1} − W_l W_lᵀ‖_F.
  V imbalance(int l) const {
    const int n = net.widths[l + 1];
    multiply(net.layer(l + 1).transposed(), net.layer(l + 1), dense(square, n), n, n, net.widths[l + 2]);
    multiply(net.layer(l), net.layer(l).transposed(), dense(square, n), n, n, net.widths[l], -1.0, true);
    return sqrt(squared_norm(square, int64_t(n) * n));
  }
  // ‖W_{l+1}‖²_F − ‖W_l‖²_F.
  V imbalance_trace(int l) const {
    return squared_norm(net.weight[l + 1], net.size(l + 1)) - squared_norm(net.weight[l], net.size(l));
  }

  // log det ΘᵀΘ, Θ = [W_l, W_{l+1}ᵀ], by modified Gram–Schmidt; NaN where Θ has more columns than rows.
  V log_det(int l) const {
    const int h = net.widths[l + 1], below = net.widths[l], above = net.widths[l + 2], count = below + above;
    if (h < count) return set1(__builtin_nan(""));
    for (int i = 0; i < h; ++i) {
      for (int j = 0; j < below; ++j) vectors[j * h + i] = net.weight[l][i * below + j];
      for (int j = 0; j < above; ++j) vectors[(below + j) * h + i] = net.weight[l + 1][j * h + i];
    }
    V result{};
    for (int a = 0; a < count; ++a) {
      V* x = vectors + a * h;
      const V norm = squared_norm(x, h);
      for (int lane = 0; lane < kLanes; ++lane) result[lane] += __builtin_log(norm[lane]);
      for (int b = a + 1; b < count; ++b) {
        V* y = vectors + b * h;
        V overlap{};
        for (int i = 0; i < h; ++i) overlap = fma(x[i], y[i], overlap);
        overlap = select<double>(norm > 0.0, overlap / norm, V{});
        for (int i = 0; i < h; ++i) y[i] = fma(-overlap, x[i], y[i]);
      }
    }
    return result;
  }

  // Variance rate of every mode strength, end to end.
  void mode_noise() {
    noise.end_to_end();
    for (int a = 0; a < net.modes; ++a) put(temperature * noise.total[a]);
  }
  // The same of layer l alone, along p = W_{>l}ᵀu_α/‖·‖, q = W_{<l}v_α/‖·‖ (NaN where these vanish).
  void layer_noise(int l) {
    noise.term(l, l, 1.0, false);
    for (int a = 0; a < net.modes; ++a) {
      const V p = noise.left[l][a * net.modes + a];
      V q = set1(1.0);
      if (l > 0) {
        q = V{};
        for (int i = 0; i < net.widths[l]; ++i)
          q = fma(net.prefix[l - 1][i * net.dx + a], net.prefix[l - 1][i * net.dx + a], q);
      }
      put(temperature * noise.total[a] / (p * q));
    }
  }

  static int64_t scratch_size(const Problem& problem) { return ObserverBlock(problem, nullptr).arena.used; }

  static void observe(const Problem& problem, double temperature, const double* weights, int64_t n, int64_t first,
                      double* out, void* scratch) {
    ObserverBlock block(problem, scratch);
    block.net.load(weights, n, first);
    block.temperature = temperature;
    block.run(out, n, first);
  }
};

// The observables in the order of the columns. To add one: a line here, and its twin in observables.py.
inline const ObserverBlock::Column ObserverBlock::kColumns[] = {
    {{"loss", Axis::single}, [](ObserverBlock& b) { b.put(b.loss()); }},
    {{"excess_loss", Axis::single}, [](ObserverBlock& b) { b.put(b.excess_loss()); }},
    {{"mode_strength", Axis::modes}, [](ObserverBlock& b) { b.put(b.strength, b.net.modes); }},
    {{"singular_values", Axis::modes}, [](ObserverBlock& b) { b.put(b.singular, b.net.modes); }},
    {{"alignment", Axis::modes}, [](ObserverBlock& b) { b.put(b.alignment, b.net.modes); }},
    {{"imbalance", Axis::pairs}, [](ObserverBlock& b) { b.of_pairs(&ObserverBlock::imbalance); }},
    {{"imbalance_trace", Axis::pairs}, [](ObserverBlock& b) { b.of_pairs(&ObserverBlock::imbalance_trace); }},
    {{"log_det", Axis::pairs}, [](ObserverBlock& b) { b.of_pairs(&ObserverBlock::log_det); }},
    {{"mode_noise", Axis::modes}, [](ObserverBlock& b) { b.mode_noise(); }},
    {{"layer_noise", Axis::layers},
     [](ObserverBlock& b) {
       for (int l = 0; l < b.net.depth; ++l) b.layer_noise(l);
     }},
    {{"effective_rank", Axis::single}, [](ObserverBlock& b) { b.put(b.effective_rank()); }},
    {{"learned_modes", Axis::single}, [](ObserverBlock& b) { b.put(b.learned_modes()); }},
};
inline const int ObserverBlock::kCount = int(std::size(kColumns));

}  // namespace saddlescope::SADDLESCOPE_ISA
