// What is tested once per instruction set: everything that works on registers.
#pragma once

namespace saddlescope::SADDLESCOPE_ISA {

void test_simd();
void test_rng();
void test_product();
void test_arena();

}  // namespace saddlescope::SADDLESCOPE_ISA
