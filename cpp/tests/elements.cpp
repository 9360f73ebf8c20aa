// Runs the tests of one instruction set, if this processor has it.
#include "elements.hpp"

#include <algorithm>
#include <cstdio>

#include "check.hpp"
#include "dispatch.hpp"

#define SADDLESCOPE_TEXT2(a) #a
#define SADDLESCOPE_TEXT(a) SADDLESCOPE_TEXT2(a)

int main() {
  using namespace saddlescope;
  constexpr int kSkipped = 77;
  const auto sets = instruction_sets();
  test::context = SADDLESCOPE_TEXT(SADDLESCOPE_ISA);
  if (std::find(sets.begin(), sets.end(), test::context) == sets.end()) return kSkipped;
  SADDLESCOPE_ISA::test_simd();
  SADDLESCOPE_ISA::test_rng();
  SADDLESCOPE_ISA::test_product();
  SADDLESCOPE_ISA::test_arena();
  return test::result();
}
