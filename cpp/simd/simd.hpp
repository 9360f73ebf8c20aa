// Lanes are trajectories: a Vec<T> holds one number of as many trajectories as fit in a register.
//
// Everything is element-wise, with every fused multiply-add written out, so that a trajectory's result is the same
// bits whichever lane, register width or fused instruction set computed it. The baseline set has no fused
// multiply-add and agrees in law.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define SADDLESCOPE_INLINE inline __attribute__((always_inline))

namespace saddlescope::SADDLESCOPE_ISA {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <class T>
struct Lane;

template <>
struct Lane<float> {
  typedef float V __attribute__((vector_size(kBytes)));
  typedef int32_t I __attribute__((vector_size(kBytes)));
  typedef uint32_t U __attribute__((vector_size(kBytes)));
  using Word = uint32_t;
  using Int = int32_t;
  static constexpr int count = kBytes / 4;
};

template <>
struct Lane<double> {
  typedef double V __attribute__((vector_size(kBytes)));
  typedef int64_t I __attribute__((vector_size(kBytes)));
  typedef uint64_t U __attribute__((vector_size(kBytes)));
  using Word = uint64_t;
  using Int = int64_t;
  static constexpr int count = kBytes / 8;
};

template <class T>
using Vec = typename Lane<T>::V;
template <class T>
using IntVec = typename Lane<T>::I;
template <class T>
using WordVec = typename Lane<T>::U;

// An element is one number of each of several trajectories, a vector, or one number of one trajectory: its number
// type, how many trajectories it stands for, and what a comparison of two elements is (−1 where it holds).
template <class E>
struct Element {
  using Number = E;
  using Mask = typename Lane<E>::Int;
  static constexpr int count = 1;
};
template <>
struct Element<Vec<float>> {
  using Number = float;
  using Mask = IntVec<float>;
  static constexpr int count = Lane<float>::count;
};
template <>
struct Element<Vec<double>> {
  using Number = double;
  using Mask = IntVec<double>;
  static constexpr int count = Lane<double>::count;
};
template <class E>
using Scalar = typename Element<E>::Number;
template <class E>
using Mask = typename Element<E>::Mask;

template <class E>
SADDLESCOPE_INLINE E splat(Scalar<E> value) {
  return value - E{};
}
template <class E>
SADDLESCOPE_INLINE Mask<E> less(E a, E b) {
  if constexpr (Element<E>::count == 1)
    return -Mask<E>(a < b);
  else
    return a < b;
}
// The number of one trajectory in an element or a mask.
template <class T>
SADDLESCOPE_INLINE T& at(T& number, int) {
  return number;
}
SADDLESCOPE_INLINE float& at(Vec<float>& v, int lane) { return reinterpret_cast<float*>(&v)[lane]; }
SADDLESCOPE_INLINE double& at(Vec<double>& v, int lane) { return reinterpret_cast<double*>(&v)[lane]; }
SADDLESCOPE_INLINE int32_t& at(IntVec<float>& v, int lane) { return reinterpret_cast<int32_t*>(&v)[lane]; }
SADDLESCOPE_INLINE int64_t& at(IntVec<double>& v, int lane) { return reinterpret_cast<int64_t*>(&v)[lane]; }

template <class T>
SADDLESCOPE_INLINE Vec<T> set1(T value) {
  return value - Vec<T>{};
}

#if defined(__AVX512F__)
SADDLESCOPE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm512_fmadd_ps(a, b, c); }
SADDLESCOPE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm512_fmadd_pd(a, b, c); }
SADDLESCOPE_INLINE Vec<float> sqrt(Vec<float> a) { return _mm512_sqrt_ps(a); }
SADDLESCOPE_INLINE Vec<double> sqrt(Vec<double> a) { return _mm512_sqrt_pd(a); }
#elif defined(__AVX2__)
SADDLESCOPE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return _mm256_fmadd_ps(a, b, c); }
SADDLESCOPE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return _mm256_fmadd_pd(a, b, c); }
SADDLESCOPE_INLINE Vec<float> sqrt(Vec<float> a) { return _mm256_sqrt_ps(a); }
SADDLESCOPE_INLINE Vec<double> sqrt(Vec<double> a) { return _mm256_sqrt_pd(a); }
#elif defined(__aarch64__)
SADDLESCOPE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SADDLESCOPE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
SADDLESCOPE_INLINE Vec<float> sqrt(Vec<float> a) { return (Vec<float>)vsqrtq_f32((float32x4_t)a); }
SADDLESCOPE_INLINE Vec<double> sqrt(Vec<double> a) { return (Vec<double>)vsqrtq_f64((float64x2_t)a); }
#else
SADDLESCOPE_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return a * b + c; }
SADDLESCOPE_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return a * b + c; }
#if defined(__SSE2__)
SADDLESCOPE_INLINE Vec<float> sqrt(Vec<float> a) { return _mm_sqrt_ps(a); }
SADDLESCOPE_INLINE Vec<double> sqrt(Vec<double> a) { return _mm_sqrt_pd(a); }
#else
template <class V>
SADDLESCOPE_INLINE V sqrt(V a) {
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
#endif
#endif

SADDLESCOPE_INLINE float sqrt(float a) { return __builtin_sqrtf(a); }
SADDLESCOPE_INLINE double sqrt(double a) { return __builtin_sqrt(a); }
#if defined(__FMA__) || defined(__aarch64__)
SADDLESCOPE_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SADDLESCOPE_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
SADDLESCOPE_INLINE float fma(float a, float b, float c) { return a * b + c; }
SADDLESCOPE_INLINE double fma(double a, double b, double c) { return a * b + c; }
#endif

template <class T>
SADDLESCOPE_INLINE Vec<T> select(IntVec<T> mask, Vec<T> yes, Vec<T> no) {
  return mask ? yes : no;
}
template <class T>
SADDLESCOPE_INLINE T select(typename Lane<T>::Int mask, T yes, T no) {
  return mask ? yes : no;
}

template <class T>
SADDLESCOPE_INLINE bool any(typename Lane<T>::Int mask) {
  return mask != 0;
}

template <class T>
SADDLESCOPE_INLINE bool any(IntVec<T> mask) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#else
  typename Lane<T>::Int result = 0;
  for (int i = 0; i < Lane<T>::count; ++i) result |= mask[i];
  return result != 0;
#endif
}

// K registers side by side. A long chain of dependent operations leaves the processor idle; K interleaved ones do not.
template <class V, int K>
struct Group {
  V v[K];
};

template <int K, class F>
SADDLESCOPE_INLINE auto each(F f) -> Group<decltype(f(0)), K> {
  Group<decltype(f(0)), K> result;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) result.v[k] = f(k);
  return result;
}

template <class V, int K>
SADDLESCOPE_INLINE Group<V, K> operator+(const Group<V, K>& a, const Group<V, K>& b) {
  return each<K>([&](int k) { return a.v[k] + b.v[k]; });
}
template <class V, int K>
SADDLESCOPE_INLINE Group<V, K> operator*(const Group<V, K>& a, const Group<V, K>& b) {
  return each<K>([&](int k) { return a.v[k] * b.v[k]; });
}
template <class V, int K>
SADDLESCOPE_INLINE Group<V, K> fma(const Group<V, K>& a, const Group<V, K>& b, const Group<V, K>& c) {
  return each<K>([&](int k) { return fma(a.v[k], b.v[k], c.v[k]); });
}
template <class V, int K>
SADDLESCOPE_INLINE Group<V, K> fma(const Group<V, K>& a, const Group<V, K>& b, V c) {
  return each<K>([&](int k) { return fma(a.v[k], b.v[k], c); });
}

// Horner's rule, constant coefficient first.
template <class T, int K>
SADDLESCOPE_INLINE Group<Vec<T>, K> polynomial(const Group<Vec<T>, K>&, T last) {
  return each<K>([&](int) { return set1<T>(last); });
}
template <class T, int K, class... Rest>
SADDLESCOPE_INLINE Group<Vec<T>, K> polynomial(const Group<Vec<T>, K>& x, T first, Rest... rest) {
  return fma(polynomial<T, K>(x, rest...), x, set1<T>(first));
}

// times · log(x / 2^halvings) of positive normal numbers, best below 1: relative error 2e-7 there (float; 1e-6 beyond
// 1.1), 1e-11 (double), before rounding. With x = 2^e (1 + t), log₂ x = e + t + t (1 − t) ψ(t).
template <int K>
SADDLESCOPE_INLINE Group<Vec<float>, K> log(const Group<Vec<float>, K>& x, float times = 1, int halvings = 0) {
  using V = Vec<float>;
  using I = IntVec<float>;
  const int32_t one = (127 + halvings) << 23;
  const auto line = each<K>([&](int k) { return __builtin_convertvector((I)x.v[k] - one, V); });  // 2²³ (e + t)
  const auto t = each<K>([&](int k) { return (V)(((I)x.v[k] & 0x7fffff) | 0x3f800000) - 1.0f; });
  const auto bump = each<K>([&](int k) { return fma(-t.v[k], t.v[k], t.v[k]); });
  const auto psi =
      polynomial<float>(t, times * 0.3068431962133387f, times * -0.19288577086452682f, times * 0.1377235736893836f,
                        times * -0.09835310460231037f, times * 0.05949324574571109f, times * -0.024430952188857612f,
                        times * 0.004757094331594936f);
  return each<K>([&](int k) { return fma(line.v[k], set1(times * 0x1.62e43p-24f), bump.v[k] * psi.v[k]); });
}
// e and t of x = 2^e (1 + t), x positive and normal.
SADDLESCOPE_INLINE void take_apart(Vec<double> x, Vec<double>& e, Vec<double>& t) {
#if defined(__AVX512F__)
  e = _mm512_getexp_pd(x);
  t = _mm512_getmant_pd(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src) - 1.0;
#else
  const auto bits = (WordVec<double>)x;
  e = (Vec<double>)(bits >> 52 | 0x4330000000000000ULL) - (4503599627370496.0 + 1023.0);
  t = (Vec<double>)((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL) - 1.0;
#endif
}
template <int K>
SADDLESCOPE_INLINE Group<Vec<double>, K> log(const Group<Vec<double>, K>& x, double times = 1, int halvings = 0) {
  Group<Vec<double>, K> e, t;
  for (int k = 0; k < K; ++k) take_apart(x.v[k], e.v[k], t.v[k]);
  const auto bump = each<K>([&](int k) { return fma(-t.v[k], t.v[k], t.v[k]); });
  const auto psi = polynomial<double>(
      t, times * 0.3068528194298275, times * -0.19314717709376572, times * 0.14018595601273198,
      times * -0.10980940791935768, times * 0.09013340720174438, times * -0.076101130161763, times * 0.0645840320741369,
      times * -0.052754831639797266, times * 0.03864863296559434, times * -0.02318458044539979,
      times * 0.010230930678945375, times * -0.0028684610509503174, times * 0.0003769905133411291);
  const double ln2 = times * 0.69314718055994531;
  return each<K>([&](int k) {
    const auto line = halvings ? e.v[k] - double(halvings) + t.v[k] : e.v[k] + t.v[k];
    return fma(line, set1(ln2), bump.v[k] * psi.v[k]);
  });
}
template <class V>
SADDLESCOPE_INLINE V log(V u) {
  return log(Group<V, 1>{{u}}).v[0];
}

// cos(π g/2) and sin(π g/2) for |g| ≤ 1; minimax fits, error 2e-7 (float), 1e-11 (double): far below what any
// sample can show.
template <int K>
SADDLESCOPE_INLINE void cos_sin(const Group<Vec<float>, K>& g, Group<Vec<float>, K>& c, Group<Vec<float>, K>& s) {
  const auto z = g * g;
  c = fma(
      z,
      polynomial<float>(z, -1.2337003622363514f, 0.25366346678260905f, -0.020833104257760071f, 0.00087018760587646603f),
      set1(1.0f));
  s = g * polynomial<float>(z, 1.5707963200919171f, -0.64596376128890611f, 0.079689926853685538f,
                            -0.0046741574752841884f, 0.00015167852140283465f);
}
template <int K>
SADDLESCOPE_INLINE void cos_sin(const Group<Vec<double>, K>& g, Group<Vec<double>, K>& c, Group<Vec<double>, K>& s) {
  const auto z = g * g;
  c = fma(z,
          polynomial<double>(z, -1.2337005501331462, 0.2536695076833091, -0.020863478221176894, 0.0009192494115308196,
                             -2.5181030066803395e-05, 4.5229254259643014e-07),
          set1(1.0));
  s = g * polynomial<double>(z, 1.5707963266218763, -0.6459640926526943, 0.0796925873350163, -0.004681620350759609,
                             0.00016021724630132, -3.4182130369625793e-06);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
