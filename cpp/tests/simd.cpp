// Elementary functions of registers against the long double library, and masks lane by lane.
#include "simd/simd.hpp"

#include <cmath>

#include "check.hpp"
#include "elements.hpp"

namespace saddlescope::SADDLESCOPE_ISA {
namespace {

using test::Numbers;

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif
constexpr long double kHalfPi = 1.57079632679489661923132169163975144L;

// log u on all binades that uniform numbers reach, and both ends.
template <class T>
void logarithm(long double allowed) {
  Numbers numbers;
  long double worst = 0;
  const auto compare = [&](Vec<T> u) {
    const Vec<T> value = log(u);
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const long double exact = std::log((long double)u[lane]), wrong = std::fabs(value[lane] - exact);
      // Relative, but without a fused multiply-add t − t² cancels near 1.
      const long double size = std::fmax(std::fabs(exact), kFused ? 1e-30L : 0.1L);
      worst = std::fmax(worst, wrong / size);
    }
  };
  for (int i = 0; i < 100'000; ++i) {
    Vec<T> u;
    for (int lane = 0; lane < Lane<T>::count; ++lane)
      u[lane] = T(std::ldexp(1.5 + 0.5 * numbers(), -1 - int(numbers.word() % 44)));
    compare(u);
  }
  for (int i = 0; i < 2000; ++i) compare(set1(T(1) - T(i) * std::ldexp(T(1), -24)));  // where log vanishes
  for (T u : {T(1), T(0x1p-41), T(0x1p-32), T(0.70710678118654752)}) compare(set1(u));
  CHECK(worst < allowed);
  CHECK(log(set1(T(1)))[0] == 0);
}

template <class T>
void circle(long double allowed) {
  Numbers numbers;
  long double worst = 0, norm = 0;
  for (int i = 0; i < 100'000; ++i) {
    Group<Vec<T>, 1> g, c, s;
    for (int lane = 0; lane < Lane<T>::count; ++lane) g.v[0][lane] = i < 2 ? T(2 * i - 1) : T(numbers());
    cos_sin(g, c, s);
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const long double x = c.v[0][lane], y = s.v[0][lane], angle = kHalfPi * g.v[0][lane];
      worst = std::fmax(worst, std::fmax(std::fabs(x - std::cos(angle)), std::fabs(y - std::sin(angle))));
      norm = std::fmax(norm, std::fabs(x * x + y * y - 1));
    }
  }
  CHECK(worst < allowed);
  CHECK(norm < 2 * allowed);
}

template <class T>
void masks() {
  using Int = typename Lane<T>::Int;
  CHECK(!any<T>(IntVec<T>{}));
  for (int on = 0; on < Lane<T>::count; ++on) {
    IntVec<T> mask{};
    mask[on] = -1;
    CHECK(any<T>(mask));
    const Vec<T> chosen = select<T>(mask, set1(T(3)), set1(T(-7)));
    for (int lane = 0; lane < Lane<T>::count; ++lane) CHECK(chosen[lane] == (lane == on ? T(3) : T(-7)));
    mask[on] = Int(1) << (8 * sizeof(T) - 1);  // a single bit is enough
    CHECK(any<T>(mask));
  }
  const Vec<T> nan = set1(T(__builtin_nan("")));
  CHECK(!any<T>(nan == nan));
  CHECK(!any<T>(nan < set1(T(0))));
}

template <class T>
void arithmetic() {
  Numbers numbers;
  for (int i = 0; i < 1000; ++i) {
    Vec<T> a, b, c;
    for (int lane = 0; lane < Lane<T>::count; ++lane)
      a[lane] = T(numbers()), b[lane] = T(numbers()), c[lane] = T(numbers());
    const Vec<T> sum = fma(a, b, c), root = sqrt(a * a);
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      CHECK(sum[lane] == (kFused ? std::fma(a[lane], b[lane], c[lane]) : a[lane] * b[lane] + c[lane]));
      CHECK(root[lane] == std::sqrt(a[lane] * a[lane]));
    }
  }
  CHECK(splat<Vec<T>>(T(-0.25))[0] == T(-0.25));
}

}  // namespace

void test_simd() {
  static_assert(sizeof(Vec<float>) == kBytes && alignof(Vec<double>) == kBytes);
  logarithm<float>(4e-7L);
  logarithm<double>(3e-11L);
  circle<float>(3e-7L);
  circle<double>(2e-11L);
  masks<float>();
  masks<double>();
  arithmetic<float>();
  arithmetic<double>();
}

}  // namespace saddlescope::SADDLESCOPE_ISA
