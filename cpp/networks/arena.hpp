// Scratch memory of a block of trajectories, handed out piece by piece.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#include <cstdint>

namespace saddlescope::SADDLESCOPE_ISA {

// Hands out aligned pieces of the scratch memory; with no memory it only counts. Under AddressSanitizer the gaps
// between two pieces are poisoned.
struct Arena {
  char* base;
  int64_t used = 0;
  template <class U>
  U* take(int64_t count) {
    char* at = base ? base + used : nullptr;
    const int64_t bytes = count * int64_t(sizeof(U)), room = (bytes + 63) / 64 * 64 + kFence;
    used += room;
#if defined(__SANITIZE_ADDRESS__)
    if (at) __asan_unpoison_memory_region(at, size_t(bytes)), __asan_poison_memory_region(at + bytes, room - bytes);
#endif
    return reinterpret_cast<U*>(at);
  }
#if defined(__SANITIZE_ADDRESS__)
  static constexpr int64_t kFence = 64;
#else
  static constexpr int64_t kFence = 0;
#endif
};

}  // namespace saddlescope::SADDLESCOPE_ISA
