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

template <class T>
SADDLESCOPE_INLINE Vec<T> select(IntVec<T> mask, Vec<T> yes, Vec<T> no) {
  return mask ? yes : no;
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

// Horner's rule, highest coefficient last in the list.
template <class T>
SADDLESCOPE_INLINE Vec<T> polynomial(Vec<T>, T last) {
  return set1<T>(last);
}
template <class T, class... Rest>
SADDLESCOPE_INLINE Vec<T> polynomial(Vec<T> x, T first, Rest... rest) {
  return fma(polynomial<T>(x, rest...), x, set1<T>(first));
}

// Natural logarithm of a positive normal number; minimax fits, relative error 4e-8 (float), 3e-18 (double) before
// rounding.
SADDLESCOPE_INLINE Vec<float> log(Vec<float> u) {
  using I = IntVec<float>;
  const I exponent = ((I)u - 0x3f3504f3) >> 23;
  const Vec<float> f = (Vec<float>)((I)u - (exponent << 23)) - 1.0f, e = __builtin_convertvector(exponent, Vec<float>);
  const Vec<float> p = polynomial<float>(f, 0.33333858256582566f, -0.25001746785307684f, 0.19965388955004040f,
                                         -0.16565643724889481f, 0.14877080675719164f, -0.14350126080517508f,
                                         0.08917377196965345f);
  const Vec<float> square = f * f;
  const Vec<float> small = fma(square * f, p, fma(square, set1(-0.5f), e * 1.4286068e-6f)) + f;
  return fma(e, set1(0.693145752f), small);
}
SADDLESCOPE_INLINE Vec<double> log(Vec<double> u) {
  using W = WordVec<double>;
  const W biased = ((W)u - 0x3fe6a09e667f3bcdULL + (1023ULL << 52)) >> 52;
  const Vec<double> m = (Vec<double>)((W)u - (biased << 52) + (1023ULL << 52));
  const Vec<double> e = (Vec<double>)(biased | 0x4330000000000000ULL) - (4503599627370496.0 + 1023.0);
  const Vec<double> f = m - 1.0, s = f / (m + 1.0), z = s * s;
  const Vec<double> q = polynomial<double>(z, 0.66666666666667344, 0.39999999999414631, 0.28571428742396416,
                                           0.22222198572396511, 0.18183564362815427, 0.15314049695633579,
                                           0.14795957622355573);
  const Vec<double> small = fma(s * z, q, e * 1.9082149292705877e-10) + (s + s);
  return fma(e, set1(0.69314718036912382), small);
}

// cos(π f/2) and sin(π f/2) for |f| ≤ ½.
SADDLESCOPE_INLINE void cos_sin(Vec<float> f, Vec<float>& c, Vec<float>& s) {
  const Vec<float> z = f * f;
  c = fma(z,
          polynomial<float>(z, -1.2337005493759960f, 0.25366941048500505f, -0.020861529706330111f,
                            0.00090674353592242703f),
          set1(1.0f));
  s = f * polynomial<float>(z, 1.5707963219667863f, -0.64596347864022465f, 0.079680228051318520f,
                            -0.0046021769543046250f);
}
SADDLESCOPE_INLINE void cos_sin(Vec<double> f, Vec<double>& c, Vec<double>& s) {
  const Vec<double> z = f * f;
  c = fma(z,
          polynomial<double>(z, -1.2337005501361698269, 0.25366950790104782335, -0.02086348076334077909,
                             0.0009192602745469567285, -0.000025202039028894005798, 4.710678436254241697e-7,
                             -6.3294004447830654017e-9),
          set1(1.0));
  s = f * polynomial<double>(z, 1.5707963267948966143, -0.64596409750624431734, 0.07969262624604307835,
                             -0.0046817541323422596375, 0.00016044115075209310853, -3.5986433881895195354e-6,
                             5.6339384757664695745e-8);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
