// Every product of small matrices against three plain loops. Entries are small integers, so that all sums are exact.
#include "simd/product.hpp"

#include "check.hpp"
#include "elements.hpp"
#include "networks/deep_linear.hpp"
#include "simd/gemm.hpp"

namespace saddlescope::SADDLESCOPE_ISA {
namespace {

using test::exact;
using test::Exact;
using test::Numbers;

constexpr int kMost = 13;

template <class T>
struct Matrix {
  int rows, columns;
  bool stored_transposed;
  Exact<Vec<T>> data;

  Matrix(int m, int n, bool transposed, Numbers& numbers)
      : rows(m), columns(n), stored_transposed(transposed), data(exact<Vec<T>>(int64_t(m) * n)) {
    for (int i = 0; i < m * n; ++i)
      for (int lane = 0; lane < Lane<T>::count; ++lane) data[i][lane] = T(int(numbers.word() % 9) - 4);
  }
  View<Vec<T>> view() const {
    return stored_transposed ? dense(data.get(), rows).transposed() : dense(data.get(), columns);
  }
};

// (A B)_ij of one lane.
template <class T>
T entry(const View<Vec<T>>& a, const View<Vec<T>>& b, int i, int j, int inner, int lane) {
  T sum = 0;
  for (int k = 0; k < inner; ++k) sum += a(i, k)[lane] * b(k, j)[lane];
  return sum;
}

template <class T>
void product(int rows, int columns, int inner, int variant, Band band, Numbers& numbers) {
  const bool accumulate = variant & 4;
  const T alpha = variant & 8 ? T(-2) : T(1);
  const Matrix<T> a(rows, inner, variant & 1, numbers), b(inner, columns, variant & 2, numbers);
  const Matrix<T> c(rows, columns, false, numbers), before(rows, columns, false, numbers);
  const auto left = a.view(), right = b.view(), out = c.view(), old = before.view();
  for (int i = 0; i < rows * columns; ++i) c.data[i] = accumulate ? before.data[i] : set1(T(__builtin_nan("")));
  for (int k = 0; k < inner; ++k)
    for (int j = 0; j < columns; ++j)
      if ((band == Band::lower && k < j) || (band == Band::upper && k > j)) right(k, j) = Vec<T>{};
  multiply(left, right, out, rows, columns, inner, alpha, accumulate, band);
  bool right_everywhere = true;
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j)
      for (int lane = 0; lane < Lane<T>::count; ++lane) {
        const T expected = alpha * entry<T>(left, right, i, j, inner, lane) + (accumulate ? old(i, j)[lane] : T(0));
        right_everywhere &= out(i, j)[lane] == expected;
      }
  CHECK(right_everywhere);
}

template <class T>
void products() {
  Numbers numbers;
  int variant = 0;
  for (int rows = 1; rows <= kMost; ++rows)
    for (int columns = 1; columns <= kMost; ++columns)
      for (int inner = 1; inner <= kMost; ++inner, ++variant) {
        const int variants = rows * columns * inner <= 216 ? 16 : 2;  // of the larger shapes some, in turn
        for (int v = 0; v < variants; ++v)
          for (Band band : {Band::full, Band::lower, Band::upper})
            product<T>(rows, columns, inner, (variant * 2 + v) % 16, band, numbers);
      }
}

// Products of one trajectory, packed and with no room to pack, in memory that ends with the last number.
template <class T>
void single_products() {
  Numbers numbers;
  const auto filled = [&](int64_t count) {
    auto data = exact<T>(count);
    for (int64_t i = 0; i < count; ++i) data[i] = T(int(numbers.word() % 9) - 4);
    return data;
  };
  const int64_t shapes[] = {1, 2, 3, 7, 13, 14, 15, 16, 17, 31, 33, 50};
  int variant = 0;
  for (int64_t rows : shapes)
    for (int64_t columns : shapes)
      for (int64_t inner : {1, 2, 5, 16, 19, 33}) {
        const auto a = filled(rows * inner), b = filled(inner * columns), c = filled(rows * columns);
        for (int turn = 0; turn < 4; ++turn, ++variant) {
          const auto room = exact<T>(turn < 3 ? Packing<T>::most(50) : 0);
          packing<T>.data = room.get();
          packing<T>.size = turn < 3 ? Packing<T>::most(50) : 0;
          const bool accumulate = variant % 3 == 0;
          const T alpha = variant % 5 == 0 ? T(-2) : T(1);
          const auto left = variant & 1 ? dense(a.get(), rows).transposed() : dense(a.get(), inner);
          const auto right = variant & 2 ? dense(b.get(), inner).transposed() : dense(b.get(), columns);
          const auto out = exact<T>(rows * columns);
          for (int64_t i = 0; i < rows * columns; ++i) out[i] = accumulate ? c[i] : T(__builtin_nan(""));
          multiply(left, right, dense(out.get(), columns), rows, columns, inner, alpha, accumulate);
          bool all = true;
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) {
              T sum = 0;
              for (int64_t k = 0; k < inner; ++k) sum += left(i, k) * right(k, j);
              all &= out[i * columns + j] == alpha * sum + (accumulate ? c[i * columns + j] : T(0));
            }
          CHECK(all);
        }
      }
  packing<T> = {};
}

// One reading of the weights does what two products do.
template <class T>
void steps_back() {
  Numbers numbers;
  for (int rows = 1; rows <= kMost; ++rows)
    for (int columns = 1; columns <= kMost; ++columns)
      for (T keep : {T(1), T(3)}) {
        const Matrix<T> w(rows, columns, false, numbers), v(rows, 1, false, numbers), in(1, columns, false, numbers);
        const Matrix<T> below(columns, 1, false, numbers), after(rows, columns, false, numbers);
        for (int i = 0; i < rows * columns; ++i) after.data[i] = w.data[i];
        step_back(after.view(), rows, columns, v.data.get(), in.data.get(), below.data.get(), T(-2), keep);
        bool all = true;
        for (int lane = 0; lane < Lane<T>::count; ++lane)
          for (int j = 0; j < columns; ++j) {
            all &= below.data[j][lane] == entry<T>(w.view().transposed(), v.view(), j, 0, rows, lane);
            for (int i = 0; i < rows; ++i)
              all &= after.view()(i, j)[lane] ==
                     keep * w.view()(i, j)[lane] - 2 * entry<T>(v.view(), in.view(), i, j, 1, lane);
          }
        CHECK(all);
      }
}

// Diagonals and column sums are products of which only some entries are wanted.
template <class T>
void parts_of_products() {
  Numbers numbers;
  for (int count = 1; count <= kMost; ++count)
    for (int inner = 1; inner <= 7; ++inner) {
      const Matrix<T> a(count, inner, false, numbers), b(inner, count, false, numbers), c(inner, count, false, numbers);
      const auto out = exact<Vec<T>>(count);
      diagonal_of_product(a.data.get(), inner, b.data.get(), count, count, out.get());
      bool all = true;
      for (int j = 0; j < count; ++j) all &= out[j][0] == entry<T>(a.view(), b.view(), j, j, inner, 0);
      column_products(b.data.get(), c.data.get(), inner, count, out.get());
      for (int j = 0; j < count; ++j) all &= out[j][0] == entry<T>(b.view().transposed(), c.view(), j, j, inner, 0);
      CHECK(all);
    }
}

}  // namespace

void test_product() {
  products<float>();
  products<double>();
  single_products<float>();
  single_products<double>();
  steps_back<float>();
  steps_back<double>();
  parts_of_products<float>();
  parts_of_products<double>();
}

// Pieces are aligned to a cache line, apart, and as many as were counted.
void test_arena() {
  Arena counted{nullptr};
  for (int count : {0, 1, 3, 64, 65}) CHECK(counted.take<char>(count) == nullptr);
  const auto memory = exact<char>(counted.used);
  Arena arena{memory.get()};
  char* last = nullptr;
  for (int count : {0, 1, 3, 64, 65}) {
    char* piece = arena.take<char>(count);
    CHECK(reinterpret_cast<uintptr_t>(piece) % 64 == 0);
    CHECK(!last || piece >= last);
    for (int i = 0; i < count; ++i) piece[i] = 1;
    last = piece + count;
  }
  CHECK(arena.used == counted.used);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
