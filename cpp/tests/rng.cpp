// The generators against known words and a plain twin; normals and chi by moments; no lane knows its neighbours.
#include "simd/rng.hpp"

#include <cmath>

#include "check.hpp"
#include "elements.hpp"

namespace saddlescope::SADDLESCOPE_ISA {
namespace {

using test::exact;
using test::Numbers;
using test::same_bits;

// The first words of xoshiro256++ and xoshiro128++ from the state 1, 2, 3, 4 (Blackman & Vigna 2021).
constexpr uint64_t kWords64[] = {41943041ULL,
                                 58720359ULL,
                                 3588806011781223ULL,
                                 3591011842654386ULL,
                                 9228616714210784205ULL,
                                 9973669472204895162ULL,
                                 14011001112246962877ULL,
                                 12406186145184390807ULL};
constexpr uint32_t kWords32[] = {641, 1573767, 3222811527, 3517856514, 836907274, 4247214768, 3867114732, 1355841295};

template <class T>
void seed(Stream<T>& stream, int lane, uint64_t key) {
  Numbers numbers{key, key};
  WordVec<T>* words[] = {&stream.s0, &stream.s1, &stream.s2, &stream.s3};
  for (int skip = 0; skip < 8; ++skip) numbers.word();
  for (WordVec<T>* word : words)
    (*word)[lane] = typename Lane<T>::Word(uint64_t(numbers.word()) << 32 | numbers.word());
}
template <class T>
Stream<T> seeded(uint64_t key) {
  Stream<T> stream;
  for (int lane = 0; lane < Lane<T>::count; ++lane) seed(stream, lane, key + uint64_t(lane));
  return stream;
}

// Compiled once per type, not wherever it is called.
template <class T>
__attribute__((noinline)) void fill(Stream<T>& stream, Vec<T>* out, int64_t count, T scale) {
  stream.fill(out, count, scale);
}
template <class T>
__attribute__((noinline)) Vec<T> chi(Stream<T>& stream, int64_t degrees) {
  return stream.chi(degrees);
}

template <class T, class Word, size_t N>
void known_words(const Word (&words)[N]) {
  Stream<T> stream{WordVec<T>{} + Word(1), WordVec<T>{} + Word(2), WordVec<T>{} + Word(3), WordVec<T>{} + Word(4)};
  for (Word expected : words) {
    const WordVec<T> got = stream.next();
    for (int lane = 0; lane < Lane<T>::count; ++lane) CHECK(got[lane] == expected);
  }
}

// The mean of `count` numbers may be `mean` if they have this variance: 5 standard errors, one false alarm in 2
// million.
void has_mean(double sum, double mean, double variance, double count) {
  CHECK(std::fabs(sum / count - mean) < 5 * std::sqrt(variance / count));
}

template <class T>
void normal_moments() {
  Stream<T> stream = seeded<T>(1);
  constexpr int64_t kFill = 1000, kFills = 200;
  const auto drawn = exact<Vec<T>>(kFill);
  double sum[5] = {}, product = 0, pairs = 0;
  for (int64_t i = 0; i < kFills; ++i) {
    fill(stream, drawn.get(), kFill, T(1));
    for (int64_t k = 0; k < kFill; ++k)
      for (int lane = 0; lane < Lane<T>::count; ++lane) {
        const double x = drawn[k][lane];
        for (int power = 1; power <= 4; ++power) sum[power] += std::pow(x, power);
        if (k % 2 == 0) product += x * x * drawn[k + 1][lane] * drawn[k + 1][lane], ++pairs;
      }
  }
  const double count = double(kFill * kFills * Lane<T>::count);
  has_mean(sum[1], 0, 1, count);
  has_mean(sum[2], 1, 2, count);
  has_mean(sum[3], 0, 15, count);
  has_mean(sum[4], 3, 96, count);
  has_mean(product, 1, 8, pairs);  // the two of a pair share a radius and must not show it
}

template <class T>
void chi_moments(int64_t degrees) {
  Stream<T> stream = seeded<T>(2);
  double first = 0, second = 0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const Vec<T> x = chi(stream, degrees);
    for (int lane = 0; lane < Lane<T>::count; ++lane) {
      const double square = double(x[lane]) * x[lane];
      first += square;
      second += (square - double(degrees)) * (square - double(degrees));
    }
  }
  const double count = double(kDraws) * Lane<T>::count, k = double(degrees);
  has_mean(first, k, 2 * k, count);
  has_mean(second, 2 * k, 8 * k * k + 48 * k, count);
}

// What a stream hands out: words, normals of every count, chi with its rejections.
template <class T>
std::vector<T> output(Stream<T> stream, int lane) {
  std::vector<T> out;
  for (int count : {0, 1, 2, 3, 5, 6, 7, 13}) {
    const auto drawn = exact<Vec<T>>(count);
    fill(stream, drawn.get(), count, T(0.5));
    for (int i = 0; i < count; ++i) out.push_back(drawn[i][lane]);
  }
  for (int64_t degrees : {1, 2, 3, 7, 100}) out.push_back(chi(stream, degrees)[lane]);
  for (int i = 0; i < 50; ++i) out.push_back(chi(stream, int64_t(2))[lane]);
  return out;
}

// One stream in every lane among strangers, and alone.
template <class T>
void lanes_are_alone() {
  Stream<T> alone = seeded<T>(1000);
  for (int lane = 0; lane < Lane<T>::count; ++lane) seed(alone, lane, 77);
  const std::vector<T> expected = output(alone, 0);
  for (int lane = 0; lane < Lane<T>::count; ++lane) {
    Stream<T> among = seeded<T>(2000 + uint64_t(lane));
    seed(among, lane, 77);
    CHECK(same_bits(output(among, lane), expected));
    CHECK(Lane<T>::count == 1 || !same_bits(output(among, (lane + 1) % Lane<T>::count), expected));
  }
}

// A fill of an odd count drops the half pair: the next fill begins with a new pair.
template <class T>
void odd_counts() {
  Stream<T> odd = seeded<T>(5), even = odd;
  const auto three = exact<Vec<T>>(3), four = exact<Vec<T>>(4);
  fill(odd, three.get(), 3, T(1));
  fill(even, four.get(), 4, T(1));
  for (int i = 0; i < 3; ++i) CHECK(!any<T>(three[i] != four[i]));
  CHECK(!any<T>((IntVec<T>)(odd.next() != even.next())));
}

// The ends of the range: no logarithm of 0.
template <class T>
void ends() {
  const WordVec<T> none{}, all = ~none;
  // Of floats the top bit plays no part.
  const Vec<T> low = Stream<T>::uniform(none), high = Stream<T>::uniform(sizeof(T) == 4 ? all >> 1 : all);
  CHECK(low[0] > 0 && high[0] <= 1 && high[0] > T(0.9999));
  CHECK(std::isfinite(log(low)[0]) && log(high)[0] <= 0);
}

template <class T>
void of_type() {
  normal_moments<T>();
  for (int64_t degrees : {1, 2, 3, 10, 1000}) chi_moments<T>(degrees);
  lanes_are_alone<T>();
  odd_counts<T>();
  ends<T>();
}

}  // namespace

void test_rng() {
  known_words<double>(kWords64);
  known_words<float>(kWords32);
  of_type<float>();
  of_type<double>();
}

}  // namespace saddlescope::SADDLESCOPE_ISA
