#include "check.hpp"

#include <atomic>
#include <cstdio>

namespace saddlescope::test {

std::string context;

namespace {
std::atomic<int> failures{0};
}

void check(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  if (++failures <= 20) std::fprintf(stderr, "%s:%d: %s: failed: %s\n", file, line, context.c_str(), what);
}

int result() {
  std::printf("%d failures\n", failures.load());
  return failures ? 1 : 0;
}

}  // namespace saddlescope::test
