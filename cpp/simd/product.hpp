// Products of small matrices of lanes, in register tiles.
#pragma once

#include <array>
#include <utility>

#include "simd/simd.hpp"

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

// What becomes of the sum: c = Σ, c = α Σ, or c += α Σ.
enum class Into { fresh, scaled, added };

// Σ_k a b into a tile of M × N elements; k in order, whatever the tile. Rows of c are dense.
template <class T, int M, int N, Into into>
void tile(const Vec<T>* a, int64_t a_row, int64_t a_column, const Vec<T>* b, int64_t b_row, int64_t b_column, Vec<T>* c,
          int64_t c_row, int64_t inner, T alpha) {
  Vec<T> sum[M][N] = {};
  for (int64_t k = 0; k < inner; ++k, a += a_column, b += b_row) {
    Vec<T> left[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) left[i] = a[i * a_row];
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) {
      const Vec<T> right = b[j * b_column];
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) sum[i][j] = fma(left[i], right, sum[i][j]);
    }
  }
  const Vec<T> factor = set1<T>(alpha);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i, c += c_row)
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j)
      c[j] = into == Into::added ? fma(factor, sum[i][j], c[j]) : into == Into::scaled ? factor * sum[i][j] : sum[i][j];
}

template <class T>
using Tile = void (*)(const Vec<T>*, int64_t, int64_t, const Vec<T>*, int64_t, int64_t, Vec<T>*, int64_t, int64_t, T);

// The tile of every size, rows first.
template <class T, Into into, int... Size>
constexpr std::array<Tile<T>, sizeof...(Size)> tiles_of(std::integer_sequence<int, Size...>) {
  return {&tile<T, Size / kTileColumns + 1, Size % kTileColumns + 1, into>...};
}
template <class T, Into into>
constexpr auto kTiles = tiles_of<T, into>(std::make_integer_sequence<int, kTileRows * kTileColumns>{});

// A column of C alone wants taller tiles: as many sums side by side as a multiplication takes time.
constexpr int kTileTall = 2 * kTileRows;
template <class T, Into into, int... Size>
constexpr std::array<Tile<T>, sizeof...(Size)> tall_tiles_of(std::integer_sequence<int, Size...>) {
  return {&tile<T, Size + 1, 1, into>...};
}
template <class T, Into into>
constexpr auto kTallTiles = tall_tiles_of<T, into>(std::make_integer_sequence<int, kTileTall>{});

// An extent in nearly equal pieces of at most `most`: their number, and the size and count of the longer ones.
struct Cut {
  int64_t pieces, longer, count;
  SADDLESCOPE_INLINE Cut(int64_t extent, int64_t most) : pieces((extent + most - 1) / most), longer(most) {
    if (pieces * most != extent) longer = (extent + pieces - 1) / pieces;  // a division is worth a branch
    count = extent - pieces * (longer - 1);
  }
  SADDLESCOPE_INLINE int64_t size(int64_t piece) const { return longer - (piece >= count); }
};

// Which part of B is not zero: all of it, k ≥ column (lower), or k ≤ column (upper).
enum class Band { full, lower, upper };

// C = α A B (or C += α A B): A is rows × inner, B inner × columns, the rows of C are dense.
template <class E>
  requires(Element<E>::count > 1)
void multiply(View<E> a, View<E> b, View<E> c, int64_t rows, int64_t columns, int64_t inner, Scalar<E> alpha = 1,
              bool accumulate = false, Band band = Band::full) {
  using T = Scalar<E>;
  if (columns == 1 && band == Band::full) {
    const Tile<T>* const work = accumulate   ? kTallTiles<T, Into::added>.data()
                                : alpha == 1 ? kTallTiles<T, Into::fresh>.data()
                                             : kTallTiles<T, Into::scaled>.data();
    const Cut down(rows, kTileTall);
    for (int64_t p = 0, i = 0; p < down.pieces; i += down.size(p++))
      work[down.size(p) - 1](&a(i, 0), a.row, a.column, b.data, b.row, b.column, &c(i, 0), c.row, inner, alpha);
    return;
  }
  const Tile<T>* const work = accumulate   ? kTiles<T, Into::added>.data()
                              : alpha == 1 ? kTiles<T, Into::fresh>.data()
                                           : kTiles<T, Into::scaled>.data();
  const Cut down(rows, kTileRows), across(columns, kTileColumns);
  for (int64_t p = 0, i = 0; p < down.pieces; i += down.size(p++)) {
    const Tile<T>* const row = work + (down.size(p) - 1) * kTileColumns - 1;
    for (int64_t q = 0, j = 0, n; q < across.pieces; j += n, ++q) {
      n = across.size(q);
      const int64_t start = band == Band::lower ? (j < inner ? j : inner) : 0,
                    stop = band == Band::upper && j + n < inner ? j + n : inner;
      row[n](&a(i, start), a.row, a.column, &b(start, j), b.row, b.column, &c(i, j), c.row, stop - start, alpha);
    }
  }
}

// N columns of: below = Wᵀ v and W ← keep W + α v inᵀ, W read once.
template <class T, int N, bool decayed>
void step_back(Vec<T>* w, int64_t columns, int64_t rows, const Vec<T>* v, const Vec<T>* in, Vec<T>* below, T alpha,
               T keep) {
  const Vec<T> factor = set1<T>(alpha), kept = set1<T>(keep);
  Vec<T> sum[N] = {}, seen[N];
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) seen[j] = in[j];
  for (int64_t i = 0; i < rows; ++i, w += columns) {
    const Vec<T> error = v[i];
#pragma GCC unroll 16
    for (int j = 0; j < N; ++j) {
      const Vec<T> old = w[j];
      sum[j] = fma(old, error, sum[j]);
      w[j] = fma(factor, error * seen[j], decayed ? old * kept : old);
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) below[j] = sum[j];
}

template <class T, bool decayed, int... Size>
constexpr std::array<void (*)(Vec<T>*, int64_t, int64_t, const Vec<T>*, const Vec<T>*, Vec<T>*, T, T), sizeof...(Size)>
steps_back_of(std::integer_sequence<int, Size...>) {
  return {&step_back<T, Size + 1, decayed>...};
}
template <class T, bool decayed>
constexpr auto kStepsBack = steps_back_of<T, decayed>(std::make_integer_sequence<int, kTileTall>{});

// One sample's way down through a layer: below = Wᵀ v, then W ← keep W + α v inᵀ; the bits of two products.
template <class E>
  requires(Element<E>::count > 1)
void step_back(View<E> w, int64_t rows, int64_t columns, const E* v, const E* in, E* below, Scalar<E> alpha,
               Scalar<E> keep) {
  using T = Scalar<E>;
  const auto* const work = keep == 1 ? kStepsBack<T, false>.data() : kStepsBack<T, true>.data();
  const Cut across(columns, kTileTall);
  for (int64_t q = 0, j = 0; q < across.pieces; j += across.size(q++))
    work[across.size(q) - 1](w.data + j, w.row, rows, v, in + j, below + j, alpha, keep);
}

// Copies what stands below the diagonal of a square matrix above it.
template <class E>
  requires(Element<E>::count > 1)
void mirror(View<E> square, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < i; ++j) square(j, i) = square(i, j);
}

}  // namespace saddlescope::SADDLESCOPE_ISA
