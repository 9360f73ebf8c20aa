// Chooses the instruction set and spreads blocks of trajectories over threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels.hpp"

namespace saddlescope {

// Names of the instruction sets this processor runs, best first.
std::vector<std::string> instruction_sets();

// The kernels of a named set, or the best one for "auto"; throws std::invalid_argument for an unknown name.
const Kernels& kernels(const std::string& name);

// work(first, scratch) for first = 0, lanes, 2·lanes, … < count, each thread with its own scratch memory.
void for_blocks(int64_t count, int lanes, int64_t scratch_bytes, int threads,
                const std::function<void(int64_t, void*)>& work);

}  // namespace saddlescope
