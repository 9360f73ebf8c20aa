// Products of small matrices of lanes, in register tiles.
#pragma once

#include "simd.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

// A matrix of elements (a vector of lanes each) with strides counted in elements; a transpose is a swap of strides.
template <class E>
struct View {
  E* data;
  int64_t row, column;
  SADDLESCOPE_INLINE View transposed() const { return {data, column, row}; }
  SADDLESCOPE_INLINE E& operator()(int64_t i, int64_t j) const { return data[i * row + j * column]; }
};

template <class E>
SADDLESCOPE_INLINE View<E> dense(E* data, int64_t columns) {
  return {data, columns, 1};
}

// Tiles as large as the registers hold: accumulators, one column of A, one element of B.
#if defined(__AVX512F__)
constexpr int kTileRows = 5, kTileColumns = 5;
#elif defined(__aarch64__)
constexpr int kTileRows = 5, kTileColumns = 5;
#else
constexpr int kTileRows = 3, kTileColumns = 4;
#endif

// c = α Σ_k a b, or c += α Σ_k a b, on a tile of M × N elements; k in order, whatever the tile. Rows of c are dense.
template <class T, int M, int N, bool Accumulate>
void tile(const Vec<T>* a, int64_t a_row, int64_t a_column, const Vec<T>* b, int64_t b_row, int64_t b_column, Vec<T>* c,
          int64_t c_row, int64_t inner, T alpha) {
  Vec<T> sum[M][N] = {};
  for (int64_t k = 0; k < inner; ++k, a += a_column, b += b_row) {
    Vec<T> left[M];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) left[i] = a[i * a_row];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      const Vec<T> right = b[j * b_column];
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) sum[i][j] = fma(left[i], right, sum[i][j]);
    }
  }
  const Vec<T> factor = set1<T>(alpha);
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i, c += c_row)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) c[j] = Accumulate ? fma(factor, sum[i][j], c[j]) : factor * sum[i][j];
}

template <class T>
using Tile = void (*)(const Vec<T>*, int64_t, int64_t, const Vec<T>*, int64_t, int64_t, Vec<T>*, int64_t, int64_t, T);

template <class T, int M, bool Accumulate>
SADDLESCOPE_INLINE Tile<T> tile_of(int columns) {
  static constexpr Tile<T> row[] = {nullptr,
                                    &tile<T, M, 1, Accumulate>,
                                    &tile<T, M, 2, Accumulate>,
                                    &tile<T, M, 3, Accumulate>,
                                    &tile<T, M, 4, Accumulate>,
                                    &tile<T, M, kTileColumns, Accumulate>};
  return row[columns];
}
template <class T, bool Accumulate>
SADDLESCOPE_INLINE Tile<T> tile_of(int rows, int columns) {
  switch (rows) {
    case 1:
      return tile_of<T, 1, Accumulate>(columns);
    case 2:
      return tile_of<T, 2, Accumulate>(columns);
    case 3:
      return tile_of<T, 3, Accumulate>(columns);
    case 4:
      return tile_of<T, 4 <= kTileRows ? 4 : 1, Accumulate>(columns);
    default:
      return tile_of<T, kTileRows, Accumulate>(columns);
  }
}

// Which part of B is not zero: all of it, k ≥ column (lower), or k ≤ column (upper).
enum class Band { full, lower, upper };

// C = α A B (or C += α A B): A is rows × inner, B inner × columns, the rows of C are dense.
template <class E>
  requires(Element<E>::count > 1)
void multiply(View<E> a, View<E> b, View<E> c, int64_t rows, int64_t columns, int64_t inner, Scalar<E> alpha = 1,
              bool accumulate = false, Band band = Band::full) {
  using T = Scalar<E>;
  const int64_t row_tiles = (rows + kTileRows - 1) / kTileRows,
                column_tiles = (columns + kTileColumns - 1) / kTileColumns;
  for (int64_t p = 0; p < row_tiles; ++p) {
    const int64_t i = p * rows / row_tiles, m = (p + 1) * rows / row_tiles - i;
    for (int64_t q = 0; q < column_tiles; ++q) {
      const int64_t j = q * columns / column_tiles, n = (q + 1) * columns / column_tiles - j;
      const int64_t start = band == Band::lower ? (j < inner ? j : inner) : 0,
                    stop = band == Band::upper && j + n < inner ? j + n : inner;
      const Tile<T> work = accumulate ? tile_of<T, true>(int(m), int(n)) : tile_of<T, false>(int(m), int(n));
      work(&a(i, start), a.row, a.column, &b(start, j), b.row, b.column, &c(i, j), c.row, stop - start, alpha);
    }
  }
}

// Copies what stands below the diagonal of a square matrix above it.
template <class E>
  requires(Element<E>::count > 1)
void mirror(View<E> square, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) square(j, i) = square(i, j);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
