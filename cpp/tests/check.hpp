// Checks that go on after a failure, and memory of exactly the size asked for, so that a sanitizer sees any overrun.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

namespace saddlescope::test {

extern std::string context;  // what is being tested, for the message of a failure
void check(bool holds, const char* what, const char* file, int line);
int result();  // exit code, after the last check
#define CHECK(condition) ::saddlescope::test::check((condition), #condition, __FILE__, __LINE__)

// Zeroed memory of `count` elements on a 64-byte boundary that ends with the last element.
struct Release {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{64}); }
};
template <class E>
using Exact = std::unique_ptr<E[], Release>;
template <class E>
Exact<E> exact(int64_t count) {
  static_assert(std::is_trivial_v<E>);
  const size_t bytes = size_t(count) * sizeof(E);
  void* memory = ::operator new(bytes, std::align_val_t{64});
  if (bytes) std::memset(memory, 0, bytes);
  return Exact<E>(static_cast<E*>(memory));
}

// Whether two arrays are the same to the last bit.
template <class E>
bool same_bits(const std::vector<E>& a, const std::vector<E>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(E)) == 0);
}

// Plain numbers in [−1, 1), a different one at every call (the middle-square Weyl sequence of Widynski 2017).
struct Numbers {
  uint64_t x = 0, weyl = 0;
  uint32_t word() {
    x = x * x + (weyl += 0xb5ad4eceda1ce2a9ULL);
    return uint32_t(x = (x >> 32) | (x << 32));
  }
  double operator()() { return double(word()) * 0x1p-31 - 1.0; }
};

}  // namespace saddlescope::test
