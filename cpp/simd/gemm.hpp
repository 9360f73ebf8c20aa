// Products of the matrices of one trajectory, blocked for registers and caches.
//
// Every element is one chain of fused multiply-adds, k in order from zero, scaled at the end, as in product.hpp:
// whichever of the two makes a product, and however it is blocked, the bits are the same.
#pragma once

#include <algorithm>
#include <utility>

#include "simd/product.hpp"

namespace saddlescope::SADDLESCOPE_ISA {

template <class T>
SADDLESCOPE_INLINE Vec<T> load_vector(const T* from) {
  Vec<T> value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <class T>
SADDLESCOPE_INLINE void store_vector(T* to, Vec<T> value) {
  __builtin_memcpy(to, &value, sizeof value);
}

// The first `count` lanes of a vector in memory: the others are read as zero and never written.
template <class T>
struct Part {
  using V = Vec<T>;
#if defined(__AVX512F__)
  const __mmask16 mask;
  explicit Part(int64_t count) : mask(__mmask16((1u << count) - 1)) {}
  SADDLESCOPE_INLINE V load(const T* from) const {
    if constexpr (sizeof(T) == 4)
      return _mm512_maskz_loadu_ps(mask, from);
    else
      return _mm512_maskz_loadu_pd(__mmask8(mask), from);
  }
  SADDLESCOPE_INLINE void store(T* to, V value) const {
    if constexpr (sizeof(T) == 4)
      _mm512_mask_storeu_ps(to, mask, value);
    else
      _mm512_mask_storeu_pd(to, __mmask8(mask), value);
  }
#elif defined(__AVX2__)
  IntVec<T> mask{};
  explicit Part(int64_t count) {
    for (int i = 0; i < Lane<T>::count; ++i) mask[i] = i < count ? -1 : 0;
  }
  SADDLESCOPE_INLINE V load(const T* from) const {
    if constexpr (sizeof(T) == 4)
      return _mm256_maskload_ps(from, (__m256i)mask);
    else
      return _mm256_maskload_pd(from, (__m256i)mask);
  }
  SADDLESCOPE_INLINE void store(T* to, V value) const {
    if constexpr (sizeof(T) == 4)
      _mm256_maskstore_ps(to, (__m256i)mask, value);
    else
      _mm256_maskstore_pd(to, (__m256i)mask, value);
  }
#else
  const int64_t count;
  explicit Part(int64_t lanes) : count(lanes) {}
  SADDLESCOPE_INLINE V load(const T* from) const {
    if (count == Lane<T>::count) return load_vector(from);
    V value{};
    for (int64_t i = 0; i < count; ++i) value[i] = from[i];
    return value;
  }
  SADDLESCOPE_INLINE void store(T* to, V value) const {
    for (int64_t i = 0; i < count; ++i) to[i] = value[i];
  }
#endif
};

// Lanes of a and b in turns: their lower halves, or their upper halves.
template <class T, bool Upper, int... Lanes>
SADDLESCOPE_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, Lanes...>) {
  constexpr int n = Lane<T>::count, start = Upper ? n / 2 : 0;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (start + Lanes / 2 + Lanes % 2 * n)...);
#else
  return __builtin_shuffle(a, b, IntVec<T>{(start + Lanes / 2 + Lanes % 2 * n)...});
#endif
}

// Transposes a square of lanes × lanes numbers in registers: log₂ lanes rounds of interleaving the two halves.
template <class T, int Half = Lane<T>::count / 2>
SADDLESCOPE_INLINE void transpose(Vec<T>* rows) {
  constexpr int n = Lane<T>::count;
  constexpr std::make_integer_sequence<int, n> lanes;
  Vec<T> mixed[n];
#pragma GCC unroll 16
  for (int i = 0; i < n / 2; ++i) {
    mixed[2 * i] = interleave<T, false>(rows[i], rows[i + n / 2], lanes);
    mixed[2 * i + 1] = interleave<T, true>(rows[i], rows[i + n / 2], lanes);
  }
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) rows[i] = mixed[i];
  if constexpr (Half > 1) transpose<T, Half / 2>(rows);
}

// to[k][0 … width) ← from(·, k), k < inner, rows of `to` a pitch apart: one of the two strides of `from` is 1.
template <class T>
void pack(const T* from, int64_t across, int64_t along, int64_t width, int64_t inner, T* to, int64_t pitch) {
  constexpr int n = Lane<T>::count;
  for (int64_t i = 0; i < width; i += n) {
    const int64_t rows = width - i < n ? width - i : n;
    const Part<T> filled(rows);
    if (across == 1) {
      for (int64_t k = 0; k < inner; ++k) filled.store(to + k * pitch + i, filled.load(from + k * along + i));
      continue;
    }
    for (int64_t k = 0; k < inner; k += n) {
      const int64_t columns = inner - k < n ? inner - k : n;
      const Part<T> read(columns);
      Vec<T> square[n];
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r) square[r] = r < rows ? read.load(from + (i + r) * across + k) : Vec<T>{};
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < n; ++r)
        if (r < columns) filled.store(to + (k + r) * pitch + i, square[r]);
    }
  }
}

// Register tiles of M rows × N vectors.
#if defined(__AVX512F__)
constexpr int kBlockRows = 14, kBlockVectors = 2;
#elif defined(__aarch64__)
constexpr int kBlockRows = 8, kBlockVectors = 3;
#elif defined(__AVX2__)
constexpr int kBlockRows = 6, kBlockVectors = 2;
#else
constexpr int kBlockRows = 6, kBlockVectors = 2;
#endif
template <class T>
constexpr int kBlockColumns = kBlockVectors * Lane<T>::count;

template <class T, int M, int N>
void block(const T* a, int64_t a_row, int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t inner,
           T alpha, bool accumulate, const Part<T>& last) {
  constexpr int lanes = Lane<T>::count;
  Vec<T> sum[M][N] = {};
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) __builtin_prefetch(c + i * c_row, 1), __builtin_prefetch(c + i * c_row + lanes, 1);
  // A pointer for every three rows: few enough for the registers of addresses.
  const T* rows[(M + 2) / 3];
#pragma GCC unroll 16
  for (int i = 0; i < M; i += 3) rows[i / 3] = a + i * a_row;
#pragma GCC unroll 2
  for (int64_t k = 0; k < inner; ++k, b += b_row) {
    Vec<T> right[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) right[j] = j + 1 < N ? load_vector(b + j * lanes) : last.load(b + j * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const Vec<T> left = set1<T>(rows[i / 3][i % 3 * a_row]);
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) sum[i][j] = fma(left, right[j], sum[i][j]);
    }
#pragma GCC unroll 16
    for (const T*& row : rows) row += a_column;
  }
  const Vec<T> factor = set1<T>(alpha);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i, c += c_row)
#pragma GCC unroll 4
    for (int j = 0; j < N; ++j) {
      const bool end = j + 1 == N;
      T* at = c + j * lanes;
      Vec<T> value = factor * sum[i][j];
      if (accumulate) value = fma(factor, sum[i][j], end ? last.load(at) : load_vector(at));
      end ? last.store(at, value) : store_vector(at, value);
    }
}

template <class T>
using BlockWork = void (*)(const T*, int64_t, int64_t, const T*, int64_t, T*, int64_t, int64_t, T, bool,
                           const Part<T>&);

template <class T, int N, int... M>
SADDLESCOPE_INLINE BlockWork<T> block_of_rows(int rows, std::integer_sequence<int, M...>) {
  static constexpr BlockWork<T> work[] = {&block<T, M + 1, N>...};
  return work[rows - 1];
}
template <class T, int... N>
SADDLESCOPE_INLINE BlockWork<T> block_of(int rows, int vectors, std::integer_sequence<int, N...>) {
  BlockWork<T> work = nullptr;
  ((vectors == N + 1 ? void(work = block_of_rows<T, N + 1>(rows, std::make_integer_sequence<int, kBlockRows>{}))
                     : void()),
   ...);
  return work;
}
// The tile of this many rows, up to kBlockRows, and vectors, up to kBlockVectors.
template <class T>
SADDLESCOPE_INLINE BlockWork<T> block_of(int rows, int vectors) {
  return block_of<T>(rows, vectors, std::make_integer_sequence<int, kBlockVectors>{});
}

// Bytes of B that stay in the second cache while the rows of A pass.
constexpr int64_t kPanelBytes = 1 << 20;

// Memory of this thread for packed pieces of A and B.
template <class T>
struct Packing {
  T* data = nullptr;
  int64_t size = 0;
  // Numbers that products of at most `longest` in each direction take.
  static int64_t most(int64_t longest) {
    return longest * (kBlockRows + (longest + kBlockColumns<T> - 1) / kBlockColumns<T> * kBlockColumns<T>);
  }
};
template <class T>
inline thread_local Packing<T> packing;

// A product for which there is no room to pack.
template <class T>
void multiply_plainly(View<T> a, View<T> b, View<T> c, int64_t rows, int64_t columns, int64_t inner, T alpha,
                      bool accumulate) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      T sum{};
      for (int64_t k = 0; k < inner; ++k) sum = fma(a(i, k), b(k, j), sum);
      c(i, j) = accumulate ? fma(alpha, sum, c(i, j)) : alpha * sum;
    }
}

// C = α A B (or C += α A B) for one trajectory, as in product.hpp. B is packed where its rows are not dense, both are
// where they are large.
template <class T>
  requires(Element<T>::count == 1)
void multiply(View<T> a, View<T> b, View<T> c, int64_t rows, int64_t columns, int64_t inner, T alpha = T(1),
              bool accumulate = false, Band band = Band::full) {
  constexpr int64_t panel = kBlockColumns<T>, lanes = Lane<T>::count;
  const int64_t bytes = inner * int64_t(sizeof(T)), row_tiles = (rows + kBlockRows - 1) / kBlockRows;
  const bool large = bytes * columns > kPanelBytes / 2, pack_b = large || b.column != 1,
             pack_a = large && a.column != 1;
  const int64_t across = std::max(panel, std::min(kPanelBytes / bytes, columns + panel - 1) / panel * panel);
  const Packing<T>& room = packing<T>;
  if (pack_b && room.size < inner * (kBlockRows + across))
    return multiply_plainly(a, b, c, rows, columns, inner, alpha, accumulate);
  T* const packed = room.data + kBlockRows * inner;
  for (int64_t from = 0; from < columns; from += across) {
    const int64_t until = std::min(from + across, columns);
    for (int64_t j = from; pack_b && j < until; j += panel)
      pack(&b(0, j), b.column, b.row, std::min(until - j, panel), inner, packed + (j - from) * inner, panel);
    for (int64_t p = 0; p < row_tiles; ++p) {
      const int64_t i = p * rows / row_tiles, m = (p + 1) * rows / row_tiles - i;
      if (pack_a) pack(&a(i, 0), a.row, a.column, m, inner, room.data, m);
      const View<T> left = pack_a ? View<T>{room.data, 1, m} : View<T>{&a(i, 0), a.row, a.column};
      for (int64_t j = from; j < until; j += panel) {
        const int64_t n = std::min(until - j, panel), vectors = (n + lanes - 1) / lanes;
        const int64_t start = band == Band::lower ? std::min(j, inner) : 0,
                      stop = band == Band::upper ? std::min(j + n, inner) : inner;
        const View<T> right = pack_b ? View<T>{packed + (j - from) * inner, panel, 1} : View<T>{&b(0, j), b.row, 1};
        block_of<T>(int(m), int(vectors))(&left(0, start), left.row, left.column, &right(start, 0), right.row, &c(i, j),
                                          c.row, stop - start, alpha, accumulate, Part<T>(n - (vectors - 1) * lanes));
      }
    }
  }
}

// Copies what stands below the diagonal of a square matrix above it, lanes of rows at a time.
template <class T>
  requires(Element<T>::count == 1)
void mirror(View<T> square, int64_t n) {
  constexpr int64_t lanes = Lane<T>::count;
  for (int64_t first = 0; first < n; first += lanes) {
    const int64_t rows = std::min(lanes, n - first);
    pack(&square(first, 0), square.row, square.column, rows, first, &square(0, first), square.row);
    for (int64_t i = first; i < first + rows; ++i)
      for (int64_t j = first; j < i; ++j) square(j, i) = square(i, j);
  }
}

}  // namespace saddlescope::SADDLESCOPE_ISA
