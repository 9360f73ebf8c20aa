// Finite data sets: samples drawn by index, and Langevin noise with the fourth moments of the samples themselves.
// engines/finite.py is the NumPy twin.
#pragma once

#include "networks/deep_linear.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// Of every lane the number at its own index.
template <class V>
SADDLESCOPE_INLINE V gather(const Scalar<V>* base, const int32_t* index) {
  V out;
  for (int lane = 0; lane < Element<V>::count; ++lane) at(out, lane) = base[index[lane]];
  return out;
}
#if defined(__AVX512F__)
template <>
SADDLESCOPE_INLINE Vec<float> gather(const float* base, const int32_t* index) {
  return _mm512_i32gather_ps(_mm512_load_si512(index), base, 4);
}
template <>
SADDLESCOPE_INLINE Vec<double> gather(const double* base, const int32_t* index) {
  return _mm512_i32gather_pd(_mm256_load_si256((const __m256i*)index), base, 8);
}
#elif defined(__AVX2__)
template <>
SADDLESCOPE_INLINE Vec<float> gather(const float* base, const int32_t* index) {
  return _mm256_i32gather_ps(base, _mm256_load_si256((const __m256i*)index), 4);
}
template <>
SADDLESCOPE_INLINE Vec<double> gather(const double* base, const int32_t* index) {
  return _mm256_i32gather_pd(base, _mm_load_si128((const __m128i*)index), 8);
}
#endif

template <class Net, class Noise>
struct Dataset {
  using V = typename Net::V;
  using T = Scalar<V>;
  static constexpr int kLanes = Element<V>::count;

  const Net& net;
  const Method& method;
  Noise& noise;
  const Samples& samples;
  const int64_t n, row;      // samples; numbers of one: input, then residual
  const int columns;         // of an input: dx, or r where it stands as c, x = R c
  const T* const rows;       // (n, row)
  const T* const factor;     // Fᵀ (k, q), or null
  int32_t* order = nullptr;  // (lanes, n) of this block
  int present = 0;           // lanes that hold a trajectory
  int64_t place = 0;         // where in the order the next sample of the batch stands
  int32_t picked[kPanel][kLanes];
  V *inputs, *errors;            // of a panel: X (dx × kPanel), then −r − δξ and Δx − r − δξ (dy × kPanel)
  V *total, *normals, *moments;  // Ḡ or K; drawn normals; F ζ

  Dataset(const Net& network, const Method& m, Noise& source, Arena& arena)
      : net(network),
        method(m),
        noise(source),
        samples(*network.problem.samples),
        n(samples.count),
        row(samples.columns + network.dy),
        columns(samples.columns),
        rows(samples.rows.as<T>()),
        factor(samples.factors ? samples.factor.as<T>() : nullptr) {
    const int64_t labels = int64_t(net.dy) * (columns > kPanel ? columns : kPanel);
    inputs = arena.take<V>(int64_t(columns) * kPanel);
    errors = arena.take<V>(int64_t(net.dy) * kPanel);
    total = arena.take<V>(int64_t(net.dy) * columns);
    normals = arena.take<V>(labels > samples.factors ? labels : samples.factors);
    moments = arena.take<V>(samples.moments);
  }

  T label_noise() const { return T(net.problem.label_noise); }

  void take_order(int32_t* orders, int64_t trajectories, int64_t first) {
    order = orders + first * n;
    present = trajectories - first < kLanes ? int(trajectories - first) : kLanes;
  }

  // Before the draws of a step: where its batch begins, and at the start of an epoch a fresh permutation.
  void begin(int64_t step) {
    place = 0;
    if (method.sampling != Sampling::shuffle) return;
    const int64_t batch = int64_t(method.batch), epoch = n / batch;
    place = step % epoch * batch;
    if (place == 0)
      for (int64_t k = 0; k + 1 < n; ++k) swap(k);
  }

  // Puts one of the samples from place k on there, in every lane's order (Fisher & Yates).
  void swap(int64_t k) {
    int32_t other[kLanes];
    noise.below(uint32_t(n - k), other);
    for (int lane = 0; lane < present; ++lane) {
      int32_t* own = order + lane * n;
      const int32_t taken = own[k + other[lane]];
      own[k + other[lane]] = own[k];
      own[k] = taken;
    }
  }

  // The next `count` samples of every lane.
  void pick(int count) {
    for (int j = 0; j < count; ++j, ++place) {
      if (method.sampling == Sampling::replacement) {
        noise.below(uint32_t(n), picked[j]);
        continue;
      }
      if (method.sampling == Sampling::without) swap(place);
      for (int lane = 0; lane < kLanes; ++lane) picked[j][lane] = lane < present ? order[lane * n + place] : 0;
    }
  }

  // Draws `count` samples into the columns of x (dx rows) and of e (dy rows): e = −r − δξ.
  void draw(V* x, V* e, int64_t stride, int count) {
    const int dy = net.dy;
    pick(count);
    for (int j = 0; j < count; ++j) {
      alignas(64) int32_t from[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) from[lane] = picked[j][lane] * int32_t(row);
      for (int i = 0; i < columns; ++i) x[i * stride + j] = gather<V>(rows + i, from);
      for (int i = 0; i < dy; ++i) e[i * stride + j] = -gather<V>(rows + columns + i, from);
    }
    if (label_noise() <= 0) return;
    noise.fill(normals, int64_t(count) * dy, -label_noise());
    for (int j = 0; j < count; ++j)
      for (int i = 0; i < dy; ++i) e[i * stride + j] += normals[j * dy + i];
  }

  // A batch that goes through the layers itself: its inputs (dx × batch), and −r − δξ (dy × batch).
  void draw_batch(V* x, V* e, int batch) {
    for (int j = 0; j < batch; j += kPanel) draw(x + j, e + j, batch, batch - j < kPanel ? batch - j : kPanel);
  }

  // Ḡ = (Δ X − R_b − δΞ) Xᵀ / B of a batch of any size, Δ in the network's map.
  V* batch() {
    const int64_t size = int64_t(method.batch);
    for (int64_t j = 0; j < size; j += kPanel) {
      const int count = size - j < kPanel ? int(size - j) : kPanel;
      draw(inputs, errors, kPanel, count);
      multiply(dense(net.map, columns), dense(inputs, kPanel), dense(errors, kPanel), net.dy, count, columns, T(1),
               true);
      multiply(dense(errors, kPanel), dense(inputs, kPanel).transposed(), dense(total, columns), net.dy, columns, count,
               T(1.0 / method.batch), j > 0);
    }
    return total;
  }

  // All samples: K = E − (δ/√n) Z.
  V* whole() {
    const int64_t size = int64_t(net.dy) * net.rank;
    noise.fill(total, size, T(-net.problem.label_noise / __builtin_sqrt(double(n))));
    for (int64_t i = 0; i < size; ++i) total[i] += net.residual[i];
    return total;
  }

  // Langevin: mean · E + scale (E H − Y − δZ), with `mixed` (r × r) and `out` (dy × r) for what it needs.
  void noisy(T mean, T scale, V* mixed, V* out) {
    const int64_t r = net.rank, size = net.dy * r;
    if (factor)
      by_factor(mean, scale, mixed, out);
    else
      by_sample(mean, scale, out);
    if (label_noise() <= 0) return;
    noise.fill(normals, size, -label_noise() * scale);
    for (int64_t i = 0; i < size; ++i) out[i] += normals[i];
  }

  // (H, Y) = F ζ, F the same for all lanes.
  void by_factor(T mean, T scale, V* mixed, V* out) {
    const int64_t r = net.rank, size = net.dy * r;
    noise.fill(normals, samples.factors, scale);
    apply_factor();
    const V* h = moments;
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j <= i; ++j) mixed[i * r + j] = mixed[j * r + i] = *h++;
    for (int64_t i = 0; i < r; ++i) mixed[i * r + i] += splat<V>(mean);
    const bool spread = h < moments + samples.moments;  // residuals that do not vanish
    for (int64_t i = 0; spread && i < size; ++i) out[i] = -h[i];
    multiply(dense(net.residual, r), dense(mixed, r), dense(out, r), net.dy, r, r, T(1), spread);
  }

  // moments = F ζ, several side by side, each in order.
  template <int Together = 8>
  void apply_factor(int64_t from = 0) {
    const int64_t q = samples.moments, k = samples.factors;
    for (; from + Together <= q; from += Together) {
      V sum[Together] = {};
      const T* f = factor + from;
      for (int64_t j = 0; j < k; ++j, f += q)
#pragma GCC unroll 8
        for (int i = 0; i < Together; ++i) sum[i] = fma(splat<V>(f[i]), normals[j], sum[i]);
#pragma GCC unroll 8
      for (int i = 0; i < Together; ++i) moments[from + i] = sum[i];
    }
    if constexpr (Together > 1) apply_factor<Together - 1>(from);
  }

  // Σ_i ζ_i (E c_i − r_i) c_iᵀ/√n − E Σ_i ζ_i/√n.
  void by_sample(T mean, T scale, V* out) {
    const int64_t r = net.rank, dy = net.dy;
    const T each = T(scale / __builtin_sqrt(double(n)));
    V weight{};
    for (int64_t i = 0; i < dy * r; ++i) out[i] = V{};
    for (int64_t first = 0; first < n; first += kPanel) {
      const int count = n - first < kPanel ? int(n - first) : kPanel;
      noise.fill(normals, count, each);
      for (int j = 0; j < count; ++j) {
        const T* c = rows + (first + j) * row;
        weight += normals[j];
        for (int64_t a = 0; a < dy; ++a) {
          V e = splat<V>(-c[r + a]);
          for (int64_t i = 0; i < r; ++i) e = fma(net.residual[a * r + i], splat<V>(c[i]), e);
          e = e * normals[j];
          for (int64_t i = 0; i < r; ++i) out[a * r + i] = fma(e, splat<V>(c[i]), out[a * r + i]);
        }
      }
    }
    const V rest = splat<V>(mean) - weight;
    for (int64_t i = 0; i < dy * r; ++i) out[i] = fma(net.residual[i], rest, out[i]);
  }
};

}  // namespace saddlescope::SADDLESCOPE_ISA
