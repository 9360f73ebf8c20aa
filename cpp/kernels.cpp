// The kernels of one instruction set; compiled once per set with SADDLESCOPE_ISA naming it.
#include "kernels.hpp"

#include "measure/observe.hpp"
#include "mode/euler.hpp"
#include "mode/mode.hpp"
#include "networks/diagonal.hpp"
#include "simd/limits.hpp"
#include "simd/streams.hpp"
#include "step/deep_linear.hpp"
#include "step/flow.hpp"
#include "step/wide.hpp"

#define SADDLESCOPE_JOIN2(a, b) a##b
#define SADDLESCOPE_JOIN(a, b) SADDLESCOPE_JOIN2(a, b)
#define SADDLESCOPE_TEXT2(a) #a
#define SADDLESCOPE_TEXT(a) SADDLESCOPE_TEXT2(a)

namespace saddlescope {

namespace {
template <class T>
constexpr auto kernel_set() {
  using namespace SADDLESCOPE_ISA;
  using Chains = InLanes<T, Diagonal, DiagonalStepper, DiagonalNoise>;
  return KernelSet<T, typename Lane<T>::Word>{Lane<T>::count,
                                              &InLanes<T>::scratch,
                                              &InLanes<T>::advance,
                                              &OneByOne<T>::scratch,
                                              &OneByOne<T>::advance,
                                              &Chains::scratch,
                                              &Chains::advance,
                                              &Streams<T>::normals,
                                              &Streams<T>::chi,
                                              &Streams<T>::below,
                                              EulerBlock<T, 0>::kMembers,
                                              &euler<T>,
                                              &Limits<T>::multiply_adds,
                                              &Limits<T>::normals};
}
template <class Block>
constexpr Flow flow() {
  return {&Block::scratch_size, &Block::run, &Block::peek};
}
using SADDLESCOPE_ISA::Diagonal;
using SADDLESCOPE_ISA::FlowBlock;
using SADDLESCOPE_ISA::ModeBlock;
using SADDLESCOPE_ISA::Network;
using SADDLESCOPE_ISA::ObserverBlock;
}  // namespace

const Kernels SADDLESCOPE_JOIN(kernels_, SADDLESCOPE_ISA) = {
    SADDLESCOPE_TEXT(SADDLESCOPE_ISA),
    kernel_set<float>(),
    kernel_set<double>(),
    flow<FlowBlock<Network>>(),
    flow<FlowBlock<Diagonal>>(),
    {ObserverBlock::kLanes, ObserverBlock::kCount, &ObserverBlock::observable, &ObserverBlock::scratch_size,
     &ObserverBlock::width, &ObserverBlock::observe},
    {ModeBlock::kMembers, &ModeBlock::run},
};

}  // namespace saddlescope
