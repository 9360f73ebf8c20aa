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
  return fma(e, set1(0.69314718f), fma(square * f, p, fma(square, set1(-0.5f), f)));
}
SADDLESCOPE_INLINE Vec<double> log(Vec<double> u) {
  using W = WordVec<double>;
  constexpr uint64_t half_root = 0x3fe6a09e667f3bcdULL;  // √½, the least m
  const W shifted = (W)u + ((1023ULL << 52) - half_root);
  const Vec<double> m = (Vec<double>)((shifted & 0xfffffffffffffULL) + half_root);
  const Vec<double> e = (Vec<double>)(shifted >> 52 | 0x4330000000000000ULL) - (4503599627370496.0 + 1023.0);
  // s = f / (m + 1) by a cubic start, one step of Newton for the reciprocal and one for the quotient.
  const Vec<double> f = m - 1.0, divisor = m + 1.0;
  const Vec<double> start =
      polynomial<double>(divisor, 1.9703314670066964, -1.4485230074761358, 0.47093528454186124, -0.057133703087125780);
  const Vec<double> reciprocal = fma(start, fma(-divisor, start, set1(1.0)), start);
  const Vec<double> quotient = f * reciprocal, s = fma(fma(-divisor, quotient, f), reciprocal, quotient);
  const Vec<double> z = s * s;
  const Vec<double> q = polynomial<double>(z, 0.66666666666667344, 0.39999999999414631, 0.28571428742396416,
                                           0.22222198572396511, 0.18183564362815427, 0.15314049695633579,
                                           0.14795957622355573);
  return fma(e, set1(0.69314718055994531), fma(s * z, q, s + s));
}

// cos(π g/2) and sin(π g/2) for |g| ≤ 1.
SADDLESCOPE_INLINE void cos_sin(Vec<float> g, Vec<float>& c, Vec<float>& s) {
  const Vec<float> z = g * g;
  c = fma(z,
          polynomial<float>(z, -1.2337003622363514f, 0.25366346678260905f, -0.020833104257760071f,
                            0.00087018760587646603f),
          set1(1.0f));
  s = g * polynomial<float>(z, 1.5707963200919171f, -0.64596376128890611f, 0.079689926853685538f,
                            -0.0046741574752841884f, 0.00015167852140283465f);
}
SADDLESCOPE_INLINE void cos_sin(Vec<double> g, Vec<double>& c, Vec<double>& s) {
  const Vec<double> z = g * g;
  c = fma(z,
          polynomial<double>(z, -1.2337005501361698117, 0.25366950790104600345, -0.0208634807633107109,
                             0.00091926027450109584564, -0.000025202041042264847778, 4.7108463396365582302e-7,
                             -6.3832328881434107419e-9, 6.3574628296917735376e-11),
          set1(1.0));
  s = g * polynomial<double>(z, 1.57079632679489644, -0.64596409750622329133, 0.079692626245684379088,
                             -0.0046817541314531559612, 0.00016044116958051484484, -3.5988107318447285543e-6,
                             5.6883199207317083043e-8, -6.4495242846111031852e-10);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
