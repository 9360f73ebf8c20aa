#include "dispatch.hpp"

#include <atomic>
#include <memory>
#include <new>
#include <stdexcept>
#include <thread>

namespace saddlescope {

namespace {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    sets.push_back(&kernels_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&kernels_avx2);
#endif
  sets.push_back(&kernels_baseline);
  return sets;
}

constexpr std::align_val_t kCacheLine{64};

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, kCacheLine); }
};
using Scratch = std::unique_ptr<void, Free>;

Scratch scratch_memory(int64_t bytes) { return Scratch(::operator new(size_t(bytes) + 64, kCacheLine)); }

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* set : available()) names.push_back(set->name);
  return names;
}

const Kernels& kernels(const std::string& name) {
  const auto sets = available();
  if (name == "auto") return *sets.front();
  std::string names;
  for (const Kernels* set : sets) {
    if (name == set->name) return *set;
    names += std::string(names.empty() ? "" : ", ") + set->name;
  }
  throw std::invalid_argument("instruction_set must be auto or one this processor runs (" + names + "), got '" + name +
                              "'");
}

void for_blocks(int64_t count, int lanes, int64_t scratch_bytes, int threads,
                const std::function<void(int64_t, void*)>& work) {
  const int64_t blocks = (count + lanes - 1) / lanes;
  const int workers = int(threads < blocks ? threads : blocks);
  std::vector<Scratch> scratch;
  for (int i = 0; i < workers; ++i) scratch.push_back(scratch_memory(scratch_bytes));
  std::atomic<int64_t> next{0};
  const auto run = [&](int worker) {
    for (int64_t block; (block = next++) < blocks;) work(block * lanes, scratch[size_t(worker)].get());
  };
  std::vector<std::thread> pool;
  try {
    for (int i = 1; i < workers; ++i) pool.emplace_back(run, i);
  } catch (...) {  // no more threads to be had: those there are do all the work
  }
  if (workers > 0) run(0);
  for (std::thread& thread : pool) thread.join();
}

}  // namespace saddlescope
