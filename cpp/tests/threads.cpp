// Every block once, whatever the number of threads; scratch memory aligned and to oneself.
#include <atomic>
#include <stdexcept>

#include "cases.hpp"

namespace saddlescope::test {
namespace {

void every_block_once(int64_t count, int lanes, int threads) {
  const int64_t blocks = (count + lanes - 1) / lanes, bytes = 100;
  std::vector<std::atomic<int>> calls(static_cast<size_t>(blocks));
  std::atomic<int> wrong{0};
  for_blocks(count, lanes, bytes, threads, [&](int64_t first, void* scratch) {
    wrong += first % lanes != 0 || first < 0 || first >= count || reinterpret_cast<uintptr_t>(scratch) % 64 != 0;
    auto* mine = static_cast<unsigned char*>(scratch);
    for (int64_t i = 0; i < bytes; ++i) mine[i] = static_cast<unsigned char>(first);
    for (int64_t i = 0; i < bytes; ++i) wrong += mine[i] != static_cast<unsigned char>(first);
    ++calls[size_t(first / lanes)];
  });
  CHECK(wrong == 0);
  for (const auto& called : calls) CHECK(called == 1);
}

// A whole run on many threads is the run on one.
void same_run(const Kernels& kernels) {
  const Case c("threads", {3, 5, 4}, 2);
  for (const Method& method : {method_of(Source::sgd, 8), method_of(Source::gradient)}) {
    Arrays<float> one(c, 0, 200), many(c, 0, 200);
    advance(kernels, c, method, one, span_of(0, 3));
    advance(kernels, c, method, many, span_of(0, 3), 7);
    CHECK(same(one, many));
  }
}

}  // namespace
}  // namespace saddlescope::test

int main() {
  using namespace saddlescope;
  test::context = "for_blocks";
  for (int64_t count : {0, 1, 7, 8, 9, 1000})
    for (int lanes : {1, 8})
      for (int threads : {1, 2, 3, 64}) test::every_block_once(count, lanes, threads);
  for_blocks(3, 1, 0, 2, [](int64_t, void*) {});
  test::for_sets(test::same_run);
  bool refused = false;
  try {
    kernels("no such set");
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
  return test::result();
}
